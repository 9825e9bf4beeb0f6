"""What is fresh is answered to its scope alone, and what others do changes no answer."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mnemoduck import Memory
from mnemoduck.errors import InvalidEventError, UsageError
from mnemoduck.events import new_event
from mnemoduck.project import PROJECT_VARIABLE, find_project
from mnemoduck.scope import Scope

MOMENT = datetime(2099, 1, 1, tzinfo=UTC)
"""Later than all that happens: answers about it depend on what there is, and not on when they are given."""

ALIKE = [
    *("ana", "Ana", " ana", "ana ", "an", "ana-", "-", "u", "uana", "ana'--", "null", "%", "_", "*"),
    *("\u00e1na", "a\u0301na", "an\u200ba", "$user_id", "{{ this }}", '"ana"', "ana' or '1'='1"),
    *("x" * 256, "x" * 255, "🦆"),
]
READS: dict[str, Callable[..., Any]] = {
    "recall": lambda memory, **scope: memory.recall("duck cake", limit=100, **scope),
    "context": lambda memory, **scope: memory.context("duck cake", **scope),
    "working_memory": lambda memory, **scope: memory.working_memory(**scope),
    "long_term": lambda memory, **scope: memory.long_term(**scope),
    "episodes": lambda memory, **scope: memory.episodes(**scope),
}
OWNED: dict[str, Callable[..., Any]] = {
    "facts": lambda memory, **scope: memory.facts(**scope),
    "suggest": lambda memory, **scope: memory.suggest("bake", **scope),
}


@pytest.fixture(scope="module")
def of_all() -> Iterator[Memory]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Memory(Path(folder) / "home", record_recalls=False) as memory,
    ):
        for user in [*ALIKE, None]:
            for agent, session in ((None, None), ("ana", None), ("-", "ana"), (None, "s")):
                memory.remember(
                    f"duck cake of {json.dumps([user, agent, session])}",
                    user_id=user, agent_id=agent, session_id=session,
                )  # fmt: skip
        yield memory


parts = st.sampled_from([*ALIKE, "s", None]) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=60)
@given(
    user=parts, agent=st.sampled_from([None, "ana", "-", "Ana"]), session=st.sampled_from([None, "ana", "s"])
)
def test_what_is_fresh_is_of_the_scope_that_is_asked_to_the_letter(
    of_all: Memory, user: str | None, agent: str | None, session: str | None
) -> None:
    found = of_all.recall("duck cake", user_id=user, agent_id=agent, session_id=session, limit=1000)
    stored = {
        (one, *rest)
        for one in [*ALIKE, None]
        for rest in ((None, None), ("ana", None), ("-", "ana"), (None, "s"))
    }
    expected = {
        scope
        for scope in stored
        if all(asked in (None, part) for asked, part in zip((user, agent, session), scope, strict=True))
    }
    assert {(one.user_id, one.agent_id, one.session_id) for one in found} == expected
    assert {one.content for one in found} == {
        f"duck cake of {json.dumps(scope)}" for scope in map(list, expected)
    }


@pytest.mark.parametrize(
    "user", ["ana\0", "\0ana", "ana\0x", "\0", "ana\n", "x" * 257, "x" * 100_000, "ANA", "nobody"]
)
def test_an_id_that_nobody_has_is_answered_with_nothing(of_all: Memory, user: str) -> None:
    assert of_all.recall("duck cake", user_id=user) == []
    assert of_all.recall('"duck cake"', user_id=user) == []
    assert of_all.working_memory(user_id=user) == []
    assert of_all.context("duck cake", user_id=user) == ""


def test_a_memory_is_given_by_its_id_to_whom_it_belongs(memory: Memory) -> None:
    memory_id = memory.remember("duck", user_id="ana", agent_id="coach")
    for scope in ({}, {"user_id": "ana"}, {"agent_id": "coach"}, {"user_id": "ana", "agent_id": "coach"}):
        found = memory.get(memory_id, **scope)
        assert found is not None
        assert found.content == "duck"
    for scope in ({"user_id": "Ana"}, {"user_id": "ana", "session_id": "s"}, {"agent_id": "ana"}):
        assert memory.get(memory_id, **scope) is None
    with pytest.raises(UsageError, match="user_id"):
        memory.get(memory_id, user_id="")


@pytest.mark.parametrize("part", ["user_id", "agent_id", "session_id"])
@pytest.mark.parametrize("value", ["", 0, 1, False, b"ana", ["ana"], {"ana"}, "ana\ud800", UUID(int=1)])
def test_an_id_that_is_none_never_widens_a_question(of_all: Memory, part: str, value: Any) -> None:
    for ask in [*READS.values(), *(OWNED.values() if part != "session_id" else ())]:
        with pytest.raises(UsageError, match=part):
            ask(of_all, **{part: value})
    if isinstance(value, bytes):
        return  # where it is written, it is the text that it spells
    with pytest.raises(InvalidEventError, match=part):
        of_all.forget(**{part: value})
    with pytest.raises(InvalidEventError, match=part):
        of_all.remember("duck", **{part: value})


# --- numbers that find rows do not tell whose they are -----------------------------------------------------


@pytest.fixture
def colliding_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in whose index all users have the same number."""
    source = find_project()
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(source / "dbt_project.yml", folder)
    shutil.copytree(source / "macros", folder / "macros")
    terms = folder / "macros" / "search" / "terms.sql"
    text = terms.read_text("utf-8")
    key = """short_key("coalesce('u' || " ~ user_id ~ ", '-')")"""
    assert key in text
    terms.write_text(text.replace(key, """short_key("left(coalesce(" ~ user_id ~ ", ''), 0)")"""), "utf-8")
    monkeypatch.setenv(PROJECT_VARIABLE, str(folder))
    return folder


def test_users_whose_numbers_are_the_same_see_their_own(colliding_project: Path, tmp_path: Path) -> None:
    with Memory(tmp_path / "home", record_recalls=False) as memory:
        for user in ("ana", "bob"):
            for number in range(5):
                memory.remember(f"the duck of {user} number {number} is {user}'s", user_id=user, role=user)
                memory.remember(f"a cake, a pond and {number} other things", user_id=user)
                memory.remember(f"more of them, {number} in all", user_id=user)
        assert memory._readers.asker.project == colliding_project
        snapshot, fresh = memory._readers.asker.view()
        (numbers,) = (
            snapshot.cursor().execute(f"select count(distinct user_key) from {fresh.documents}").fetchall()
        )
        assert numbers == (1,), "else the below tries nothing"
        for user, other in (("ana", "bob"), ("bob", "ana")):
            for query in ("duck number", f"{other} duck", '"duck of"', f'"{other} number"', "is ana bob"):
                for found in (
                    memory.recall(query, user_id=user),
                    memory.recall(query, user_id=user, as_of=MOMENT),
                    memory.recall(query, user_id=user, tags=[], min_importance=0.1),
                ):
                    assert {one.user_id for one in found} <= {user}
            assert len(memory.recall("duck", user_id=user)) == 5
        assert len(memory.recall("duck")) == 10


# --- nothing that others do changes an answer --------------------------------------------------------------


class OthersChangeNothing(RuleBasedStateMachine):
    """One user remembers; others remember, forget, reinforce and say what they like, also of these ids."""

    others = st.sampled_from([one for one in ALIKE if one != "ana"])
    words = st.sampled_from(["duck", "cake", "the harbour of Lisbon", "duck duck duck", "Where is the cake?"])

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.memory = Memory(Path(self.folder) / "home", record_recalls=False)
        self.ids = [
            self.memory.remember(text, user_id="ana", agent_id="coach", session_id="s", role="user")
            for text in ("The duck swims in the harbour.", "Where is the cake?", "The cake is in Lisbon.")
        ]
        self.known = self.answers()

    def teardown(self) -> None:
        self.memory.close()
        shutil.rmtree(self.folder)

    def answers(self) -> list[Any]:
        memory = self.memory
        scopes: list[dict[str, Any]] = [{"user_id": "ana"}, {"user_id": "ana", "session_id": "s"}]
        return [
            *(
                [asdict(one) for one in memory.recall(query, as_of=MOMENT, **scope)]
                for scope in scopes
                for query in ("duck", "cake harbour", '"the cake"')
            ),
            *(memory.working_memory(as_of=datetime.now(UTC).replace(2098), **scope) for scope in scopes),
            [[one.memory_id for one in memory.recall("duck cake", **scope)] for scope in scopes],
        ]

    @rule(
        user=others,
        words=words,
        role=st.sampled_from(["user", "ana", "duck"]),
        session=st.sampled_from([None, "s"]),
    )
    def remember(self, user: str, words: str, role: str, session: str | None) -> None:
        self.memory.remember(words, user_id=user, agent_id="coach", session_id=session, role=role)

    @rule(user=others)
    def forget_by_ids(self, user: str) -> None:
        self.memory.forget(self.ids, user_id=user)

    @rule(user=others, session=st.sampled_from([None, "s"]))
    def forget_everything(self, user: str, session: str | None) -> None:
        self.memory.forget(user_id=user, agent_id="coach", session_id=session, before=MOMENT)

    @rule(user=others)
    def forget_at_another_place(self, user: str) -> None:
        named = {"memory_ids": [str(one) for one in self.ids], "is_whole_scope": True}
        self.memory.remember_many([new_event("forget", named, user_id=user, session_id="s")])

    @rule(user=others, words=words)
    def ask(self, user: str, words: str) -> None:
        found = self.memory.recall(words, user_id=user)
        assert {one.user_id for one in found} <= {user}
        self.memory.reinforce(self.ids, user_id=user)

    @invariant()
    def the_user_is_answered_as_before(self) -> None:
        assert self.answers() == self.known


TestOthersChangeNothing = OthersChangeNothing.TestCase
TestOthersChangeNothing.settings = settings(max_examples=5, stateful_step_count=6, deadline=None)


def test_a_scope_is_told_by_all_of_its_parts() -> None:
    """Answers are kept by it: two scopes are one key only where all parts are the same."""
    made = [
        Scope(*some) for some in (("a", "b", None), ("a", None, "b"), (None, "a", "b"), ("ab",), (None, "ab"))
    ]
    assert len(set(made)) == len(made)
    assert Scope("\u00e1") != Scope("a\u0301")
