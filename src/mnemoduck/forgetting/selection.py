"""Which events a purge takes out, and which it only takes the words from.

Out of raw/ go, of each order to forget that the purge is about:

- the memories that it names, or that are in its scope, as `int_forgotten_memories` has it; all copies that
  arrived of each, and those that say the same in the same scope at the same moment, which would come up in
  its place;
- of an order for a scope, the episodes that are in it, as `episode_features` has it, with all of their steps.

Without their words, but with their ids and times, stay: the orders (why was it to be forgotten?), recalls and
feedback that name a memory that goes (what was asked for? what was it good for?), and recalls and feedback
in the scope of an order for a scope. They hold together what is kept: that two memories were used at the
same time.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa

from mnemoduck.home import Home
from mnemoduck.pipeline.load import Batch
from mnemoduck.project import render

STAYS = {
    "recall": ("memory_ids",),
    "feedback": ("memory_id", "pattern_id", "outcome"),
    "forget": ("memory_ids", "is_whole_scope", "occurred_before"),
}
"""Of events whose words go, the fields that stay."""

STRUCTURE = frozenset(
    {
        *(
            "role",
            "memory_type",
            "step_type",
            "outcome",
            "requestor",
            "tool",
            "domain",
            "episode_id",
            "task_id",
        ),
        *("memory_ids", "memory_id", "pattern_id", "valid_from", "valid_to", "occurred_before"),
    }
)
"""Fields of payloads whose texts are names among others, not what was said."""


@dataclass(frozen=True)
class Selected:
    """The events of a purge, as REMOVED_SCHEMA has them.

    Attributes:
        memories: how many memories go; `episodes` so many episodes.
        users: of orders for all that a user has.
        unknown: ids that were named and of which there is no memory.
    """

    events: pa.Table
    memories: int
    episodes: int
    users: list[str]
    unknown: list[str]


def select_events(
    home: Home, project: Path, batches: list[Batch], order_ids: Collection[UUID] | None
) -> Selected:
    """Return what the orders with these ids take out of raw/; all orders if None.

    Cost: a look at every event's scope and type, and at the texts of memories that happened at the moment of
    one that goes.
    """
    connection = duckdb.connect(":memory:", config={"temp_directory": str(home.path / "tmp")})
    try:
        return _select(connection, home, project, batches, order_ids)
    finally:
        connection.close()


def _select(
    connection: duckdb.DuckDBPyConnection,
    home: Home,
    project: Path,
    batches: list[Batch],
    order_ids: Collection[UUID] | None,
) -> Selected:
    files = [str(home.raw / file.path) for batch in batches for file in batch.files]
    if files:
        connection.execute(
            f"create view raw as from read_parquet({_literals(files)}, hive_partitioning = false)"
        )
    else:
        connection.execute(
            "create view raw as select null::varchar as event_id, null::varchar as event_type, "
            "null::timestamp as occurred_at, null::timestamp as recorded_at, null::varchar as user_id, "
            "null::varchar as agent_id, null::varchar as session_id, null::varchar as payload where false"
        )
    wanted = None if order_ids is None else [str(order_id) for order_id in order_ids]
    connection.execute(
        """
        create table orders as
        select
            event_id, user_id, agent_id, session_id, recorded_at, payload,
            coalesce(cast((payload ->> '$.is_whole_scope') as boolean), false) as is_whole_scope,
            cast((payload ->> '$.occurred_before') as timestamp) as occurred_before
        from raw
        where event_type = 'forget' and ($1 is null or list_contains($1::varchar[], event_id))
        """,
        [wanted],
    )
    connection.execute("create table scopes as from orders where is_whole_scope")
    connection.execute(
        """
        create table named as
        select distinct
            lower(unnest(cast(json_extract_string(payload, '$.memory_ids[*]') as varchar[]))) as event_id,
            user_id
        from orders
        """
    )
    # As int_forgotten_memories: a scope forgets what was recorded by then; null parts of it mean any.
    in_scope = """
        exists (
            select 1 from scopes as s
            where
                s.recorded_at >= raw.recorded_at
                and (s.user_id is null or s.user_id = raw.user_id)
                and (s.agent_id is null or s.agent_id = raw.agent_id)
                and (s.session_id is null or s.session_id = raw.session_id)
                and (s.occurred_before is null or s.occurred_before > raw.occurred_at)
        )
    """
    # The order of a user concerns no other one.
    is_named = """
        exists (
            select 1 from named as n
            where n.event_id = raw.event_id and (n.user_id is null or n.user_id = raw.user_id)
        )
    """
    connection.execute(
        f"""
        create table memories as
        select distinct event_id from raw
        where event_type = 'memory' and ({is_named} or {in_scope})
        """
    )
    normalised = render(project, "normalised_text", "(payload ->> '$.content')")
    said = f"""
        select
            event_id, occurred_at, user_id, agent_id, session_id, (payload ->> '$.role') as role,
            {normalised} as said
        from raw where event_type = 'memory'
    """
    connection.execute(
        f"""
        insert into memories
        select distinct other.event_id
        from (
            {said} and occurred_at in (
                select occurred_at from raw where event_type = 'memory' and event_id in (from memories)
            )
        ) as other
        inner join ({said} and event_id in (from memories)) as gone
            on
                other.occurred_at = gone.occurred_at
                and other.said = gone.said
                and other.user_id is not distinct from gone.user_id
                and other.agent_id is not distinct from gone.agent_id
                and other.session_id is not distinct from gone.session_id
                and other.role is not distinct from gone.role
        where other.event_id not in (from memories)
        """
    )
    _select_episodes(connection, project)
    connection.execute(
        """
        create table naming as
        select distinct event_id from (
            select
                event_id,
                lower(unnest(
                    coalesce(cast(json_extract_string(payload, '$.memory_ids[*]') as varchar[]), [])
                    || [(payload ->> '$.memory_id')]
                )) as memory_id
            from raw
            where event_type in ('recall', 'feedback', 'forget')
        )
        where memory_id in (select event_id from memories)
        """
    )
    events = connection.execute(
        f"""
        select event_id, event_type, user_id, agent_id, session_id, payload, false as is_stripped
        from raw
        where
            (event_type = 'memory' and event_id in (select event_id from memories))
            or (
                event_type in ('episode_started', 'step', 'episode_completed')
                and (coalesce(user_id, ''), user_id is null, (payload ->> '$.episode_id')) in (from episodes)
            )
        union all
        select event_id, event_type, user_id, agent_id, session_id, payload, true as is_stripped
        from raw
        where
            (event_type = 'forget' and event_id in (select event_id from orders))
            or (event_type in ('recall', 'feedback', 'forget') and event_id in (select event_id from naming))
            or (event_type in ('recall', 'feedback') and {in_scope})
        """
    ).to_arrow_table()
    episodes = connection.execute("select count(*) from episodes").fetchone()
    memories = connection.execute("select count(*) from memories").fetchone()
    users = connection.execute(
        "select distinct user_id from scopes where user_id is not null and agent_id is null "
        "and session_id is null and occurred_before is null order by 1"
    ).fetchall()
    unknown = connection.execute(
        "select event_id from named where event_id not in (from memories) order by 1"
    ).fetchall()
    assert episodes is not None
    assert memories is not None
    return Selected(
        events, memories[0], episodes[0], [user for (user,) in users], [event_id for (event_id,) in unknown]
    )


def _select_episodes(connection: duckdb.DuckDBPyConnection, project: Path) -> None:
    """Make the table of episodes that are in the scope of an order, as stg_episodes and episode_features
    have them."""
    is_forgotten = render(project, "is_in_forgotten_scope", "scopes", "told")
    connection.execute(
        f"""
        create table episodes as
        with heard as (
            select *, (payload ->> '$.episode_id') as episode_id, event_type = 'episode_started' as is_start
            from raw
            where
                event_type in ('episode_started', 'episode_completed')
                and (payload ->> '$.episode_id') is not null
        ),
        told as (
            select
                user_id,
                episode_id,
                min(recorded_at) as recorded_at,
                arg_min(coalesce(agent_id, ''), (not is_start, occurred_at, event_id)) as agent_id,
                arg_min(coalesce(session_id, ''), (not is_start, occurred_at, event_id)) as session_id,
                min(occurred_at) filter (where is_start) as started_at,
                min(occurred_at) filter (where not is_start) as completed_at
            from heard
            group by user_id, episode_id
        )
        select distinct
            coalesce(told.user_id, '') as user_id,
            told.user_id is null as is_nobodys,
            told.episode_id
        from told inner join scopes on {is_forgotten}
        """
    )


def strip(event_type: str, payload: str) -> str:
    """Return a payload without its words: ids, flags and dates alone."""
    fields = STAYS[event_type]
    values = json.loads(payload)
    return _to_json({name: value for name, value in values.items() if name in fields})


def texts_of(event_type: str, payload: str, *, is_stripped: bool) -> Iterator[str]:
    """Yield the texts that go with an event: all that it says, but for names of roles, tools and ids."""
    values = json.loads(payload)
    if is_stripped:
        values = {name: value for name, value in values.items() if name not in STAYS[event_type]}
    for name, value in values.items():
        if name not in STRUCTURE:
            yield from _texts_in(value)


def replace_texts(payload: str, replaced: Any) -> str:
    """Return a payload with `replaced(text)` for each text in it, keys of mappings excepted."""
    return _to_json(_replace_in(json.loads(payload), replaced))


def _replace_in(value: Any, replaced: Any) -> Any:
    if isinstance(value, str):
        return replaced(value)
    if isinstance(value, list):
        return [_replace_in(one, replaced) for one in value]
    if isinstance(value, dict):
        return {key: one if key in STRUCTURE else _replace_in(one, replaced) for key, one in value.items()}
    return value


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts_in(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            if key not in STRUCTURE:
                yield from _texts_in(one)


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _literals(texts: Collection[str]) -> str:
    quoted = (text.replace("'", "''") for text in texts)
    return "[" + ", ".join(f"'{text}'" for text in quoted) + "]"
