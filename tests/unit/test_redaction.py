"""What is redacted of what enters, by every way in; what is not; and what is counted."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoduck import Memory
from mnemoduck.cli import cli
from mnemoduck.events import MAX_CONTENT_BYTES, MAX_LINE_BYTES, new_event, parse_event
from mnemoduck.home import Home, open_home
from mnemoduck.importers import ingest
from mnemoduck.inbox import FreshEvents
from mnemoduck.metrics.collecting import HomeCollector
from mnemoduck.redaction import COUNTS_KEY, FAMILIES, Redactor, find_secrets, read_redactions
from mnemoduck.settings_file import write_settings

EMAIL = "ada.lovelace@example.com"
CARD = "4111 1111 1111 1111"
IBAN = "DE89 3704 0044 0532 0130 00"
TOKEN = "ghp_" + "a1B2" * 9
SECRETS = (EMAIL, CARD, IBAN, TOKEN)
SENTENCE = f"{EMAIL} paid with {CARD} from {IBAN}, see {TOKEN}"
REDACTED = "[redacted: email] paid with [redacted: card] from [redacted: iban], see [redacted: github-token]"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def redacting(home: Home) -> Home:
    write_settings(home, {"ingest.redaction": "redact"})
    return home


def events_of(home: Home) -> list[Any]:
    return FreshEvents(home).read(0)[0]


def bytes_under(home: Home) -> bytes:
    return b"".join(path.read_bytes() for path in home.path.rglob("*") if path.is_file())


def take_nothing_as_known(ids: object) -> set[Any]:
    return set()


@pytest.mark.parametrize(
    ("text", "kind", "secret"),
    [
        (f"mail {EMAIL}.", "email", EMAIL),
        ("<ünï@exämple.de>", "email", "ünï@exämple.de"),
        (f"card {CARD} 123", "card", CARD),
        (f"on 25 August 2023 {CARD}", "card", CARD),
        ("378282246310005,", "card", "378282246310005"),
        ("3782-822463-10005", "card", "3782-822463-10005"),
        (CARD.replace(" ", "\u00a0"), "card", CARD.replace(" ", "\u00a0")),
        (f"to {IBAN.lower()} in this very week", "iban", IBAN.lower()),
        (f"to {IBAN.replace(' ', chr(0x202F))}.", "iban", IBAN.replace(" ", "\u202f")),
        (f"IBAN {IBAN} AND MORE", "iban", IBAN),
        ("GB82WEST12345698765432", "iban", "GB82WEST12345698765432"),
        ("key AKIAIOSFODNN7EXAMPLE", "aws-key", "AKIAIOSFODNN7EXAMPLE"),
        (f"({TOKEN})", "github-token", TOKEN),
        ("glpat-abcdefghij0123456789", "gitlab-token", "glpat-abcdefghij0123456789"),
        ("postgres://joe:hunter2@db.example.com/x", "password-in-url", "hunter2"),
        ("Authorization: Bearer abcdefghij0123456789", "bearer-token", "abcdefghij0123456789"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.abc-_d ok", "jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.abc-_d"),
        ("sk-ant-api03-abcdefghij0123456789", "anthropic-key", "sk-ant-api03-abcdefghij0123456789"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----!",
            "private-key",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEA0\nthen prose goes on",
            "private-key",
            "-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEA0",
        ),
    ],
)
def test_a_secret_is_found_where_it_stands_and_nothing_beside_it(text: str, kind: str, secret: str) -> None:
    found = [(text[one.start : one.end], one.kind) for one in find_secrets(text)]
    assert found == [(secret, kind)]


@pytest.mark.parametrize(
    "text",
    [
        "call 1-800-555-1234 about order 1234567890123456",
        "4111 1111 1111 1112 has a wrong check digit",
        "pi is 3.4111111111111111, at 1773600000123456 microseconds",
        "DE89 3704 0044 0532 0130 01 has one as well",
        "@maya wrote to you @ noon, see https://example.com/@maya",
        "the bearer of internationalization-of-everything",
        "sk-learn-is-a-very-long-name-for-a-library",
        "an e-mail address has the form name@host",
        "[redacted: email] and [redacted: card]",
        "8f14e45f-ceea-467f-a0e6-5d4c8b2a9f10 is an id",
    ],
)
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    assert find_secrets(text) == []


@pytest.mark.parametrize(
    "sign",
    [
        *(
            "a",
            "1",
            "1 ",
            "1111 ",
            "eyJ",
            "eyJa.",
            "sk-",
            "sk-a1",
            "a@",
            "a@a.",
            "://a:",
            "bearer a",
            "aws key ",
        ),
        *("-----BEGIN PRIVATE KEY-----a", "DE89 ", "glagent-", "xapp-1-A", "\\n"),
    ],
)
def test_the_time_grows_no_faster_than_the_text(sign: str) -> None:
    """Hostile text must not hold up who remembers it: expressions that backtrack take minutes here."""

    def seconds(length: int) -> float:
        text = (sign * length)[:length]
        began = time.thread_time()
        find_secrets(text)
        return time.thread_time() - began

    seconds(1000)  # imports
    short = min(seconds(16_384) for _ in range(3))
    assert min(seconds(131_072) for _ in range(2)) < 8 * max(short, 0.005) * 5  # squared, it is 64 times


def test_nothing_is_changed_or_counted_where_it_is_not_asked_for(home: Home) -> None:
    with Memory(home.path) as memory:
        memory.remember(SENTENCE)
    assert [event.payload["content"] for event in events_of(home)] == [SENTENCE]
    assert read_redactions(home) == {}


def test_where_it_is_off_nothing_of_it_is_imported(home: Home) -> None:
    code = (
        "import sys\nfrom mnemoduck import Memory\n"
        f"with Memory({str(home.path)!r}) as memory:\n    memory.remember({SENTENCE!r})\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('detect_secrets', 'stdnum')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_way_in_leaves_a_secret_on_the_disk(redacting: Home, tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    records.write_text(
        json.dumps({"content": SENTENCE, "occurred_at": "2026-01-01"})
        + "\n"
        + json.dumps({"content": "", "note": SENTENCE})  # refused: its line goes to quarantine
        + "\n"
        + json.dumps({"content": "x", "importance": EMAIL})  # refused with a reason that repeats it
        + "\n"
    )
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "note.md").write_text(f"---\nowner: {EMAIL}\n---\n# Card {CARD}\n\n{SENTENCE}\n")
    episodes = tmp_path / "episodes.jsonl.gz"
    step = {"step": 0, "type": "tool", "tool": "pay", "args": {"card": CARD}, "observation": SENTENCE}
    episode = {"episode_id": "e1", "task": SENTENCE, "started_at": "2026-01-01T00:00:00Z", "steps": [step]}
    episodes.write_bytes(gzip.compress(json.dumps(episode).encode() + b"\n"))
    raw = tmp_path / "events.jsonl"
    raw.write_bytes(new_event("memory", {"content": SENTENCE, "a_new_field": [SENTENCE]}).to_line())
    with Memory(redacting.path) as memory:
        memory_id = memory.remember(
            SENTENCE,
            tags=[EMAIL],
            metadata={EMAIL: SENTENCE, "deep": [{"card": 4111111111111111}]},
            facts=[{"subject": EMAIL, "predicate": "pays with", "object": CARD}],
        )
        memory.remember_batch([{"content": SENTENCE}, {"content": "b", "metadata": {"iban": IBAN}}])
        memory.remember_many([new_event("memory", {"content": f"{SENTENCE}!"})])
        memory.reinforce([memory_id], query=SENTENCE)
        memory.forget([memory_id], reason=SENTENCE)
        memory.feedback("success", memory_id=memory_id, note=SENTENCE)
        episode_id = memory.start_episode(SENTENCE, context={"customer": EMAIL})
        memory.log_step(episode_id, "pay", {"card": CARD}, {"from": IBAN}, error=f"refused: {TOKEN}")
        memory.log_message(episode_id, "user", SENTENCE)
        memory.complete_episode(episode_id, "failure")
    summary = ingest(redacting, [records, notes, episodes, raw], known_event_ids=take_nothing_as_known)
    done = CliRunner().invoke(cli, ["remember", SENTENCE, "--home", str(redacting.path), "--tag", EMAIL])
    assert done.exit_code == 0, done.output
    stored = bytes_under(redacting)
    for secret in (*SECRETS, "4111111111111111"):
        assert secret.encode() not in stored
    assert summary.quarantined == 2
    assert summary.redaction == "redact"
    assert summary.redactions["iban"] >= 3
    assert stored.count(REDACTED.encode()) >= 10


def test_an_event_that_was_changed_tells_how_often_by_kind(redacting: Home) -> None:
    with Memory(redacting.path) as memory:
        memory.remember(SENTENCE, metadata={"also": EMAIL})
        memory.remember("nothing here")
    first, second = events_of(redacting)
    assert first.payload["content"] == REDACTED
    assert first.payload[COUNTS_KEY] == {"card": 1, "email": 2, "github-token": 1, "iban": 1}
    assert COUNTS_KEY not in second.payload
    assert read_redactions(redacting) == {"redact": {"card": 1, "email": 2, "github-token": 1, "iban": 1}}


def test_reporting_counts_and_changes_nothing(home: Home) -> None:
    write_settings(home, {"ingest.redaction": "report"})
    with Memory(home.path) as memory:
        memory.remember(SENTENCE)
    (event,) = events_of(home)
    assert event.payload == {"content": SENTENCE, "memory_type": "episodic"}
    assert read_redactions(home) == {"report": {"card": 1, "email": 1, "github-token": 1, "iban": 1}}


def test_only_the_kinds_that_are_asked_for_are_replaced(home: Home) -> None:
    write_settings(home, {"ingest.redaction": "redact", "ingest.redaction_kinds": "token, card"})
    with Memory(home.path) as memory:
        memory.remember(f"{EMAIL} {CARD}")
    assert events_of(home)[0].payload["content"] == f"{EMAIL} [redacted: card]"


def test_kinds_that_there_are_not_are_refused_with_those_that_there_are(home: Home) -> None:
    done = CliRunner().invoke(
        cli, ["settings", "set", "ingest.redaction_kinds", "phone", "--home", str(home.path)]
    )
    assert "token, email, card and iban" in str(done.exception)


def test_ids_keep_their_names_so_that_nobody_becomes_another(redacting: Home) -> None:
    with Memory(redacting.path) as memory:
        memory.remember("hello", user_id=EMAIL, agent_id=CARD, session_id=IBAN)
        memory.start_episode("a task", episode_id=EMAIL, domain=EMAIL, task_id=CARD, user_id=EMAIL)
        assert memory.recall("hello", user_id=EMAIL)
    one, two = events_of(redacting)[0], parse_event(_lines(redacting)[1])
    assert (one.user_id, one.agent_id, one.session_id) == (EMAIL, CARD, IBAN)
    assert two.payload["episode_id"] == EMAIL
    assert read_redactions(redacting) == {}


def test_facts_of_two_that_became_one_do_not_supersede_each_other(redacting: Home) -> None:
    with Memory(redacting.path) as memory:
        facts = [
            {"subject": name, "predicate": "lives in", "object": town}
            for name, town in ((EMAIL, "London"), ("bob@example.com", "Paris"), ("Eve", "Rome"))
        ]
        memory.remember("where they live", facts=facts)
    stored = events_of(redacting)[0].payload["facts"]
    assert [fact["subject"] for fact in stored] == ["[redacted: email]", "[redacted: email]", "Eve"]
    assert [fact.get("is_functional") for fact in stored] == [False, False, None]


def test_names_in_metadata_that_become_equal_keep_their_values(redacting: Home) -> None:
    with Memory(redacting.path) as memory:
        memory.remember("x", metadata={EMAIL: 1, "bob@example.com": 2, "[redacted: email]": 3})
    stored = events_of(redacting)[0].payload["metadata"]
    assert sorted(stored.values()) == [1, 2, 3]
    assert stored["[redacted: email]"] == 3


@pytest.mark.parametrize("mode", ["redact", "report"])
def test_the_same_file_ingested_again_adds_nothing_whatever_the_setting_was_before(
    home: Home, tmp_path: Path, mode: str
) -> None:
    from mnemoduck.event_ids import KnownEventIds

    file = tmp_path / "records.jsonl"
    file.write_text("".join(json.dumps({"content": f"{text} {EMAIL}"}) + "\n" for text in "ab"))
    first = ingest(home, [file], known_event_ids=KnownEventIds(home))
    write_settings(home, {"ingest.redaction": mode})
    again = ingest(home, [file], known_event_ids=KnownEventIds(home))
    assert (first.accepted, again.accepted, again.duplicated) == (2, 0, 2)
    assert again.redactions == {}


def test_records_that_differ_only_in_a_secret_are_both_kept(redacting: Home, tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    lines = [
        {"content": f"write to {name}@example.com", "occurred_at": "2026-01-01"} for name in ("ada", "bob")
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = ingest(redacting, [file], known_event_ids=take_nothing_as_known)
    assert (summary.accepted, summary.duplicated) == (2, 0)


def test_a_text_that_marks_would_make_too_long_is_covered_instead(redacting: Home) -> None:
    content = "a@b.co " * (MAX_CONTENT_BYTES // 7)
    with Memory(redacting.path) as memory:
        memory.remember(content)
        memory.remember("tag", tags=[("a@b.co " * 36).strip()])
        memory.remember_batch([{"content": content}])
    events = events_of(redacting)
    assert len(events) == 3  # none was acknowledged and then refused by the loader
    assert events[0].payload["content"] == "****** " * (MAX_CONTENT_BYTES // 7)
    assert events[1].payload["tags"] == [("****** " * 36).strip()]


def test_what_two_writers_count_is_added_up_and_shown(redacting: Home) -> None:
    with Memory(redacting.path) as one, Memory(redacting.path) as two:
        for memory in (one, two):
            memory.remember(EMAIL)
            memory.remember(f"{EMAIL} {CARD}")
    assert read_redactions(redacting) == {"redact": {"card": 2, "email": 4}}
    done = CliRunner().invoke(cli, ["status", "--home", str(redacting.path)])
    assert "4 email, 2 card" in done.output
    samples = {
        sample.labels["kind"]: sample.value
        for family in HomeCollector(redacting).collect()
        for sample in family.samples
        if sample.name == "mnemoduck_redactions_total"
    }
    assert samples == {"card": 2, "email": 4}
    assert redacting.redactions.stat().st_mode & 0o777 == 0o600


def test_a_child_process_counts_its_own_findings_once(redacting: Home) -> None:
    memory = Memory(redacting.path)
    memory.remember(EMAIL)
    child = os.fork()
    if child == 0:
        memory.remember(CARD)
        memory.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    memory.close()
    assert read_redactions(redacting) == {"redact": {"card": 1, "email": 1}}


def test_without_the_library_nothing_is_written_unredacted(
    redacting: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "detect_secrets.plugins.aws", None)
    from mnemoduck.redaction import _finders

    _finders.cache_clear()
    done = CliRunner().invoke(cli, ["remember", EMAIL, "--home", str(redacting.path)])
    _finders.cache_clear()
    assert "is not installed" in str(done.exception)
    assert EMAIL.encode() not in bytes_under(redacting)


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(max_size=20)
    | st.sampled_from(SECRETS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(pieces=st.lists(st.sampled_from(SECRETS) | TEXT, min_size=1, max_size=6), metadata=JSON)
def test_redacting_twice_is_redacting_once_and_leaves_an_event(pieces: list[str], metadata: Any) -> None:
    content = "x " + " ".join(pieces)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    event = new_event("memory", {"content": content, "metadata": {"m": metadata}}, occurred_at=moment)
    line = event.to_line()
    redactor = Redactor(Home(Path("/nowhere")), "redact", FAMILIES)
    once, found = redactor.line(line)
    twice, again = redactor.line(once)
    assert not again
    assert twice == once
    assert len(once) <= MAX_LINE_BYTES
    event, before = parse_event(once), parse_event(line)
    assert (event.event_id, event.occurred_at) == (before.event_id, before.occurred_at)
    if not found:
        assert once == line


def _lines(home: Home) -> list[bytes]:
    return [line for path in sorted(home.inbox.glob("*.*")) for line in path.read_bytes().splitlines()]
