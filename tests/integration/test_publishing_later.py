"""One build that is made of several commands, of which only the last publishes: MNEMODUCK_PUBLISH=later."""

from __future__ import annotations

from tests.integration.workbench import Workbench


def test_a_load_by_itself_is_not_published_and_the_command_after_it_publishes_all(sample: Workbench) -> None:
    before = sample.snapshot()
    sample.mnemoduck_here("remember", "The ferry to Porto Santo leaves at nine", "--user", "maya")

    load = ["build", "--select", "raw_batches", "--exclude-resource-type", "unit_test"]
    done = sample.dbt(*load, MNEMODUCK_PUBLISH="later")

    # Each model is one that was built and tested, but only one has seen what was loaded: a snapshot of this
    # would say that it holds the new memory, and readers would no longer find it in the inbox.
    assert done.code == 0, done.out
    assert "mnemoduck not published: " in done.out
    assert sample.snapshot() == before
    assert list((sample.home / "inbox" / "loaded").rglob("*.jsonl"))

    done = sample.mnemoduck("run", MNEMODUCK_PUBLISH="later")  # which it publishes after all, as runs do
    assert done.code == 0, done.out + done.err
    assert sample.snapshot() != before
    memories = sample.query("select content from staging.stg_memories where content like '%Porto Santo%'")
    assert memories == [("The ferry to Porto Santo leaves at nine",)]
    assert not list((sample.home / "inbox" / "loaded").rglob("*.jsonl"))


def test_another_word_than_now_or_later_stops_the_command(sample: Workbench) -> None:
    before = sample.snapshot()
    done = sample.dbt(
        "test", "--select", "raw_batches", "--exclude-resource-type", "unit_test", MNEMODUCK_PUBLISH="soon"
    )
    assert done.code != 0
    assert "MNEMODUCK_PUBLISH is 'soon'; it takes now or later." in done.out
    assert sample.snapshot() == before
