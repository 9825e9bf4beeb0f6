"""Nobody is answered with what is of another scope, whatever is asked, of what is built and what is fresh."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoduck import Memory
from mnemoduck.errors import UsageError
from mnemoduck.scope import Scope
from tests.integration.scopes import (
    END,
    SAME_TEXTS,
    START,
    events,
    included,
    mark,
    memories,
    scopes,
    seen,
    twins,
)
from tests.integration.workbench import Workbench, made_once

USER, OWNER, ALL = ("user_id",), ("user_id", "agent_id"), ("user_id", "agent_id", "session_id")
Ask = Callable[[Memory, Scope, str], Any]


def build_home(folder: Path, chosen: list[Scope]) -> None:
    bench = Workbench(folder / "home", forks=False)
    with Memory(bench.home) as memory:
        memory.remember_many(events(chosen))
    bench.build()


@pytest.fixture(scope="session")
def home_of_all() -> Path:
    """A built home with all scopes; do not change it."""
    return made_once("scopes", lambda folder: build_home(folder, list(scopes()))) / "home"


@pytest.fixture(scope="module")
def built(home_of_all: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    """A copy with fresh memories beside the built ones: of each scope one more."""
    home = tmp_path_factory.mktemp("isolation") / "home"
    shutil.copytree(home_of_all, home)
    with Memory(home, record_recalls=False) as memory:
        for scope in scopes():
            memory.remember(f"The fresh {mark(scope)} duck likes hazelnut cake.", **whole(scope))
        yield memory


def whole(scope: Scope) -> dict[str, Any]:
    return dict(scope.as_dict())


def by_user(scope: Scope) -> dict[str, Any]:
    return {"user_id": scope.user_id}


def by_owner(scope: Scope) -> dict[str, Any]:
    return {"user_id": scope.user_id, "agent_id": scope.agent_id}


def in_sql(query: str, *parts: str) -> Ask:
    """Ask SQL, with the parts of the scope as parameters."""

    def ask(memory: Memory, scope: Scope, word: str) -> Any:
        values = {"word": word, **{part: getattr(scope, part) for part in parts}}
        used = {name: value for name, value in values.items() if f"${name}" in query}
        return memory.cursor_for(query, used).fetchall()

    return ask


QUESTIONS: dict[str, tuple[tuple[str, ...], Ask]] = {
    "recall": (ALL, lambda m, s, w: m.recall(f"{w} duck cake", limit=200, **whole(s))),
    "recall in full": (ALL, lambda m, s, w: m.recall(w, explain=True, diversity=0.5, **whole(s))),
    "recall then": (ALL, lambda m, s, w: m.recall(f"{w} harbour", limit=50, as_of=END, **whole(s))),
    "recall of tags": (ALL, lambda m, s, w: m.recall("cake duck", tags=[w], **whole(s))),
    "recall of a phrase": (ALL, lambda m, s, w: m.recall('"hazelnut cake"', limit=99, **whole(s))),
    "recall of fates": (ALL, lambda m, s, w: m.recall(w, fates="retained", min_importance=0, **whole(s))),
    "context": (ALL, lambda m, s, w: m.context(f"{w} harbour", budget=5000, **whole(s))),
    "working memory": (ALL, lambda m, s, w: m.working_memory(**whole(s))),
    "working memory then": (ALL, lambda m, s, w: m.working_memory(as_of=START, **whole(s))),
    # What is consolidated is a user's and agent's, across sessions: see docs/security.md.
    "long term": (OWNER, lambda m, s, w: m.long_term(limit=500, **whole(s))),
    "long term then": (OWNER, lambda m, s, w: m.long_term(limit=500, as_of=END, **whole(s))),
    "facts": (OWNER, lambda m, s, w: m.facts(**by_owner(s))),
    "facts known then": (OWNER, lambda m, s, w: m.facts(known_at=END, history=True, **by_owner(s))),
    "associations": (OWNER, lambda m, s, w: m.associations([w, "duck", "cake"], limit=500, **by_owner(s))),
    "associations then": (OWNER, lambda m, s, w: m.associations([w, "duck"], as_of=END, **by_owner(s))),
    "paths": (OWNER, lambda m, s, w: m.association_paths("duck", w, **by_owner(s))),
    "paths then": (OWNER, lambda m, s, w: m.association_paths("cake", w, as_of=END, **by_owner(s))),
    "episodes": (ALL, lambda m, s, w: m.episodes(limit=500, **whole(s))),
    "an episode": (USER, lambda m, s, w: m.get_episode("e1", **by_user(s))),
    "a reflection": (USER, lambda m, s, w: m.reflect("e1", **by_user(s))),
    "patterns": (USER, lambda m, s, w: m.patterns(limit=500, **by_user(s))),
    "sql recall": (
        ALL,
        in_sql(
            "from recall($word || ' duck cake', for_user := $user_id, for_agent := $agent_id, "
            "for_session := $session_id, most := 200)",
            *ALL,
        ),
    ),
    "sql working memory": (
        ALL,
        in_sql(
            "from working_memory_of(timestamp '2026-03-01 08:01:00', for_user := $user_id, "
            "for_agent := $agent_id, for_session := $session_id)",
            *ALL,
        ),
    ),
    "sql associations": (
        OWNER,
        in_sql(
            "from spread_activation([$word, 'duck'], for_user := $user_id, for_agent := $agent_id)",
            *OWNER,
        ),
    ),
    "sql associations then": (
        OWNER,
        in_sql(
            "from spread_activation_at([$word, 'duck'], timestamp '2026-03-02', for_user := $user_id, "
            "for_agent := $agent_id, most := 500)",
            *OWNER,
        ),
    ),
    "sql paths": (
        OWNER,
        in_sql("from association_paths('duck', $word, for_user := $user_id, for_agent := $agent_id)", *OWNER),
    ),
    "sql memories of concepts": (
        OWNER,
        in_sql(
            "from memories_of([$word, 'duck', 'cake'], for_user := $user_id, for_agent := $agent_id, "
            "most := 500)",
            *OWNER,
        ),
    ),
    "sql facts": (
        OWNER, in_sql("from facts_as_of(null, null, for_user := $user_id, for_agent := $agent_id)", *OWNER)
    ),
}  # fmt: skip
"""What can be asked: which parts of a scope it takes, and how."""

FORGOTTEN_BY_NOW = {"long term"}
"""What has faded since it happened."""

known_parts = {name: [None, *{getattr(one, name) for one in scopes()} - {None}] for name in ALL}
asked_scopes = st.one_of(
    st.sampled_from(scopes()),
    st.builds(
        Scope, **{name: st.sampled_from(sorted(parts, key=str)) for name, parts in known_parts.items()}
    ),
    st.builds(Scope, user_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)),
)
asked_words = st.sampled_from([mark(one) for one in scopes()]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5
)


@pytest.mark.parametrize("name", QUESTIONS)
def test_each_question_finds_what_is_of_its_scope_and_nothing_else(built: Memory, name: str) -> None:
    parts, ask = QUESTIONS[name]
    found = set()
    for scope in [Scope("ana"), Scope("ana", "coach"), Scope("Ana"), Scope(twins()[0]), Scope(twins()[1])]:
        answer = seen(ask(built, scope, mark(scope)))
        assert answer <= included(scope, *parts)
        found |= answer
    if name not in FORGOTTEN_BY_NOW:
        assert found, "else the above compares nothing"


@settings(max_examples=15, deadline=None)
@given(
    asked=st.lists(
        st.tuples(st.sampled_from(sorted(QUESTIONS)), asked_scopes, asked_words), min_size=1, max_size=5
    )
)
def test_no_answer_has_what_is_of_another_scope(built: Memory, asked: list[tuple[str, Scope, str]]) -> None:
    check(built, asked)


@pytest.mark.long
@settings(max_examples=400, deadline=None)
@given(
    asked=st.lists(
        st.tuples(st.sampled_from(sorted(QUESTIONS)), asked_scopes, asked_words), min_size=1, max_size=8
    )
)
def test_no_answer_has_what_is_of_another_scope_with_many_more_questions(
    built: Memory, asked: list[tuple[str, Scope, str]]
) -> None:
    check(built, asked)


def check(memory: Memory, asked: list[tuple[str, Scope, str]]) -> None:
    for name, scope, word in asked:
        parts, ask = QUESTIONS[name]
        with suppress(UsageError):  # of several users' episodes of one id none is meant
            answer = ask(memory, scope, word)
            own = included(scope, *parts)
            asked_for = {word} if name.startswith(("paths", "sql paths")) else set()
            assert seen(answer) <= own | asked_for, (name, scope)


def test_suggestions_are_made_of_the_users_own_episodes(built: Memory) -> None:
    for user in ("ana", "an", "$user_id", twins()[1], None):
        scope = Scope(user)
        suggestion = built.suggest("bake a hazelnut cake", ["search"], user_id=user, limit=50)
        own = {mark(scope)}
        assert seen(suggestion) == own
        for other in (Scope("ana"), Scope(twins()[0])):
            asked = built.suggest(f"bake for {mark(other)}", [f"{mark(other)}_oven"], user_id=user, limit=50)
            assert seen(asked) - {mark(other)} <= own, "what is asked is said again, as the task"
    assert built.suggest("bake a hazelnut cake", user_id="nobody").episode_count == 0


def test_the_same_text_of_two_scopes_is_never_one_memory(built: Memory) -> None:
    rows = built.cursor_for(
        "select user_id, agent_id, memory_ids::varchar[] from consolidated_memories "
        "where list_contains($1, content)",
        [list(SAME_TEXTS)],
    ).fetchall()
    assert len(rows) == len({(one.user_id, one.agent_id) for one in scopes()})
    for user_id, agent_id, ids in rows:
        owner = Scope(user_id, agent_id)
        assert set(ids) <= {
            str(event.event_id)
            for one in scopes()
            if (one.user_id, one.agent_id) == (owner.user_id, owner.agent_id)
            for event in memories(one)
        }
        assert len(ids) >= 2, "nearly the same words of one scope are one memory"


def test_concepts_of_scopes_that_share_their_bits_are_bound_to_their_own(built: Memory) -> None:
    """Everyone's memories were recalled together."""
    strays = built.cursor_for(
        """
        select source.user_id, source.concept, target.user_id, target.concept
        from staging.int_associations as edge
        inner join concepts as source on edge.source_id = source.concept_id
        inner join concepts as target on edge.target_id = target.concept_id
        where
            source.user_id is distinct from target.user_id
            or source.agent_id is distinct from target.agent_id
        """
    ).fetchall()
    assert strays == []
    for user in twins():
        assert built.associations(["duck"], user_id=user), "else the above compares nothing"


@pytest.mark.long
def test_what_is_built_of_a_user_is_the_same_whether_others_are_there_or_not(
    home_of_all: Path, tmp_path: Path
) -> None:
    """Nothing of another user has a part in it: no text, no count, no rank, no threshold."""
    user = twins()[0]
    build_home(tmp_path, [one for one in scopes() if one.user_id == user])
    alone, among_all = (contents(home, user) for home in (tmp_path / "home", home_of_all))
    assert alone.keys() == among_all.keys()
    assert {name.split(".")[1] for name, rows in alone.items() if rows} >= {
        *("short_term_memories", "consolidated_memories", "facts", "concepts", "associations", "episodes"),
        *("patterns", "episode_reflections", "search_documents", "memory_features", "session_gists"),
    }
    for name, rows in alone.items():
        assert rows == among_all[name], name


READ_NOW = {"consolidated", "short_term"}
"""Views that say how strong a memory is at the moment at which they are read."""

NOT_SAID = {"run_id", "batch_seq", "changed_batch_seq", "segment", "line", "loaded_at", "as_of", "row_hash"}


def contents(home: Path, user: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return of each published table that knows users the rows of one, but for how they came to be."""
    found = {}
    with duckdb.connect(str(Workbench(home).snapshot()), read_only=True) as connection:
        tables = connection.execute(
            """
            select schema_name, table_name, list(column_name order by column_index)
            from duckdb_columns() inner join (
                select database_name, schema_name, table_name from duckdb_tables()
                union all select database_name, schema_name, view_name from duckdb_views() where not internal
            ) using (database_name, schema_name, table_name)
            group by all having list_contains(list(column_name), 'user_id')
            """
        ).fetchall()
        for schema, table, columns in tables:
            if table in READ_NOW:
                continue
            kept = ", ".join(f'"{one}"' for one in columns if one not in NOT_SAID)
            rows = connection.execute(
                f'select {kept} from "{schema}"."{table}" where user_id = $1 order by all', [user]
            ).fetchall()
            found[f"{schema}.{table}"] = rows
    return found
