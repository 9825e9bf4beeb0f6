"""What comes to mind with a concept, in the published snapshot: by SQL, Python and the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from mnemoduck import Memory
from mnemoduck.errors import UsageError
from tests.integration.workbench import Workbench

NOW = datetime(2026, 3, 15, 18, 30, tzinfo=UTC)


def test_sql_python_and_the_command_line_agree(read_only_sample: Workbench) -> None:
    rows = read_only_sample.query(
        "select concept, hop from spread_activation_at(['Lisbon'], timestamp '2026-03-15 18:30:00', "
        "for_user := 'maya', most := 5)"
    )
    assert len(rows) == 5
    with Memory(read_only_sample.home) as memory:
        found = memory.associations(["lisbon"], user_id="maya", limit=5, as_of=NOW)
    assert [(item.concept, item.hop) for item in found] == rows
    assert all(0 < item.activation < 1 and item.user_id == "maya" for item in found)
    done = read_only_sample.mnemoduck(
        "associations", "LISBON", "--user", "maya", "--limit", "5", "--as-of", NOW.isoformat(), "--json"
    )
    assert [item["concept"] for item in json.loads(done.out)] == [row[0] for row in rows]


def test_a_path_leads_from_a_concept_to_what_it_brings_to_mind(read_only_sample: Workbench) -> None:
    with Memory(read_only_sample.home) as memory:
        far = next(i for i in memory.associations(["lisbon"], user_id="maya", limit=1000) if i.hop == 2)
        (path,) = memory.association_paths("lisbon", far.concept, user_id="maya")
    assert (path.hops, path.path[-1], len(path.weights)) == (2, far.concept, 2)
    done = read_only_sample.mnemoduck("associations", "lisbon", "--user", "maya", "--path-to", far.concept)
    assert " -> ".join(path.path) in done.out


def test_what_is_not_known_brings_nothing_to_mind(read_only_sample: Workbench) -> None:
    done = read_only_sample.mnemoduck("associations", "zzyzx")
    assert (done.code, done.out.strip()) == (0, "Nothing is associated with zzyzx.")
    assert read_only_sample.mnemoduck("associations", "a", "b", "--path-to", "c").code == 2
    with Memory(read_only_sample.home) as memory:
        assert memory.association_paths("zzyzx", "lisbon") == []
        with pytest.raises(UsageError, match="from 1 to 3"):
            memory.associations(["lisbon"], depth=4)
        with pytest.raises(UsageError, match="at least one word"):
            memory.associations([])
