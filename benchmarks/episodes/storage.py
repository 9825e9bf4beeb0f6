"""`python -m benchmarks.episodes.storage` measures in which form steps take least; see docs/episodes.md.

Each form is written to a file of its own, checkpointed, measured and read back: what comes back must equal
what went in. The copies are the same episodes again under other ids: of as many users, where texts of one
user are not another's, and of one user, where all but the ids of a copy is there already.
"""

from __future__ import annotations

import gzip
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import click
import duckdb
import pyarrow as pa

from benchmarks.machine import describe_run

RESULT = Path(__file__).with_name("storage.json")
EPISODES = Path(__file__).resolve().parents[3] / "shared" / "data" / "agent_episodes_dev.jsonl.gz"
TEXTS = ("observation", "args", "text", "error")
NOW, NEW = "", "storage_version 'latest'"
SMALL_BLOCKS = "block_size 16384"
READ_EPISODES = 40


@dataclass(frozen=True)
class Form:
    """How steps are stored: statements that write them from `steps` to `m`, and a query that reads them.

    `add` writes those of `more` beside what is there.
    """

    write: tuple[str, ...]
    read: str
    add: tuple[str, ...] = ()
    options: str = NOW


def by_key(columns: Sequence[str], options: str = NOW) -> Form:
    """Return the form in which texts of some columns are kept once for each user, under a hash."""
    keys = {
        name: f"case when {name} is not null then cast(md5("
        f"coalesce(length(user_id) || ':' || user_id, '-') || length({name}) || ':' || {name}) as uuid) end"
        for name in columns
    }

    def steps(source: str) -> str:
        replaced = ", ".join(f"{key} as {name}" for name, key in keys.items())
        return f"select * replace ({replaced}) from {source}"

    def texts(source: str) -> str:
        told = " union all ".join(
            f"select {key} as text_key, user_id, {name} as told, event_id from {source} "
            f"where {name} is not null"
            for name, key in keys.items()
        )
        return (
            "select text_key, user_id, any_value(told) as told, min(event_id) as first_event_id "
            f"from ({told}) group by text_key, user_id"
        )

    together = ", ".join(f"of_{name}.told as {name}" for name in columns)
    joins = " ".join(
        f"left join m.texts as of_{name} on steps.{name} = of_{name}.text_key" for name in columns
    )
    return Form(
        write=(
            f"create table m.steps as {steps('steps')}",
            f"create table m.texts as select * exclude (first_event_id) from ({texts('steps')}) "
            "order by first_event_id",
        ),
        read=f"select steps.* replace ({together}) from m.steps as steps {joins}",
        add=(
            f"insert into m.steps {steps('more')}",
            f"insert into m.texts select * exclude (first_event_id) from ({texts('more')}) "
            "where text_key not in (select text_key from m.texts) order by first_event_id",
        ),
        options=options,
    )


PLAIN = Form(
    write=("create table m.steps as from steps",), read="from m.steps", add=("insert into m.steps from more",)
)
# Computed beside: the number of the first call of the same tool in the episode, and what differs.
DELTA = Form(
    write=(
        """
        create table m.steps as
        select steps.* replace (delta.middle as observation), delta.base_step, delta.prefix, delta.suffix
        from steps
        left join delta on steps.episode_id[:41] = delta.episode_id and steps.step = delta.step
        order by steps.rowid
        """,
    ),
    read="""
        select
            steps.* exclude (base_step, prefix, suffix) replace (
                case
                    when steps.base_step is null then steps.observation
                    else left(base.observation, steps.prefix) || steps.observation
                        || right(base.observation, steps.suffix)
                end as observation
            )
        from m.steps as steps
        left join m.steps as base
            on steps.episode_key = base.episode_key and steps.base_step = base.step
        """,
)
FORMS = {
    "plain columns": PLAIN,
    "observations once for each user": by_key(["observation"]),
    "observations and arguments once": by_key(["observation", "args"]),
    "all texts once": by_key(TEXTS),
    "observations as what differs from the first of the tool": DELTA,
    "plain columns, newest file format": Form(PLAIN.write, PLAIN.read, PLAIN.add, NEW),
    "observations once, newest file format": by_key(["observation"], NEW),
}


@click.command()
@click.option("--episodes", type=click.Path(path_type=Path, exists=True), default=EPISODES)
@click.option("--copies", default=20, show_default=True)
@click.option("--rounds", default=5, show_default=True, help="How often an episode is read in each form.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("target/benchmarks/episodes"))
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def storage(episodes: Path, copies: int, rounds: int, folder: Path, out: Path) -> None:
    """Write the steps in each form, read them back, and write what they take as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = episodes.read_bytes()
    lines = gzip.decompress(packed).splitlines(keepends=True)
    told = [json.loads(line) for line in lines]
    steps = list(_steps(told))
    result: dict[str, Any] = {
        **describe_run(),
        "copies": copies,
        "episodes": len(told),
        "steps": len(steps),
        "jsonl_bytes": sum(map(len, lines)),
        "jsonl_gz_bytes": len(gzip.compress(b"".join(lines), 9)),
        "texts": {name: _repeats(steps, name) for name in TEXTS},
        "observation_bytes": _observation_bytes(steps),
        "growth": _growth(steps),
        "streams": {},
    }
    for stream, (count, users) in {
        "once": (1, 1),
        f"{copies} users": (copies, copies),
        f"{copies} times one user": (copies, 1),
    }.items():
        result["streams"][stream] = {
            name: _measure(steps, form, count, users, folder / "steps.duckdb", rounds)
            for name, form in FORMS.items()
        }
        click.echo(f"{stream}: {json.dumps(result['streams'][stream], indent=1)}")
    out.write_text(json.dumps(result, indent=1) + "\n")


def _steps(episodes: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the steps as models/staging/stg_steps.sql types them, whole."""
    for episode in episodes:
        name = episode["episode_id"]
        for step in episode["steps"]:
            failed = bool(step.get("error"))
            yield {
                "event_id": _id(f"{name} {step['step']}"),
                "episode_key": _id(name),
                "batch_seq": 1,
                "user_id": None,
                "agent_id": episode["model"],
                "session_id": None,
                "episode_id": name,
                "step_type": step["type"],
                "tool": step.get("tool"),
                "args": json.dumps(step.get("args") or {}, separators=(",", ":"), ensure_ascii=False),
                "observation": step.get("observation"),
                "error": step["observation"] if failed else None,
                "requestor": step.get("requestor"),
                "role": step.get("role"),
                "text": step.get("text"),
                "step": step["step"],
                "latency_ms": None,
                "is_error": failed,
                "occurred_at": episode["started_at"],
            }


def _id(name: str) -> str:
    return str(uuid5(NAMESPACE_OID, name))


def _repeats(steps: Iterable[dict[str, Any]], name: str) -> dict[str, int]:
    """Return how many texts of a column there are, and how many bytes of UTF-8; all, and different ones."""
    texts = [step[name].encode() for step in steps if step[name] is not None]
    return {
        "count": len(texts),
        "bytes": sum(map(len, texts)),
        "different": len(set(texts)),
        "different_bytes": sum(map(len, set(texts))),
    }


def _observation_bytes(steps: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return the bytes of observations that are left to store in each way, without any bookkeeping."""
    calls = [step for step in steps if step["observation"] is not None]
    left = {
        "whole": sum(len(call["observation"].encode()) for call in calls),
        "once for each episode": sum(
            len(text.encode()) for _, text in {(call["episode_id"], call["observation"]) for call in calls}
        ),
        "once for each user": sum(len(text.encode()) for text in {call["observation"] for call in calls}),
    }
    bases: dict[str, Callable[[dict[str, Any]], object]] = {
        "what differs from the last of the tool in the episode": lambda call: (
            call["episode_id"],
            call["tool"],
        ),
        "what differs from the last of the tool": lambda call: call["tool"],
    }
    for name, place in bases.items():
        last: dict[object, str] = {}
        left[name] = 0
        for call in calls:
            key, text = place(call), call["observation"]
            left[name] += len((_difference(last[key], text)[2] if key in last else text).encode())
            last[key] = text
    left["what differs from the first of the tool in the episode"] = sum(
        len((row["middle"] or "").encode()) for row in _deltas(calls)
    )
    return left


def _growth(steps: Iterable[dict[str, Any]]) -> list[dict[str, float]]:
    """Return the share of new bytes in each further quarter of the episodes, in an order by chance."""
    texts: dict[str, list[str]] = {}
    for step in steps:
        if step["observation"] is not None:
            texts.setdefault(step["episode_id"], []).append(step["observation"])
    order = sorted(texts, key=_id)
    known: set[str] = set()
    parts, size = [], len(order) // 4
    for part in range(4):
        told = [text for name in order[part * size : (part + 1) * size] for text in texts[name]]
        new = set(told) - known
        known |= new
        parts.append(
            {
                "episodes": (part + 1) * size,
                "share_that_is_new": round(
                    sum(len(text.encode()) for text in new) / sum(len(text.encode()) for text in told), 3
                ),
            }
        )
    return parts


def _difference(base: str, text: str) -> tuple[int, int, str]:
    """Return how many characters are the same at the beginning and at the end, and what is between."""
    prefix = _same(base, text)
    suffix = _same(base[prefix:][::-1], text[prefix:][::-1])
    return prefix, suffix, text[prefix : len(text) - suffix]


def _same(one: str, other: str) -> int:
    differing = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))


def _deltas(calls: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield for each observation what differs from the first of the same tool in the episode."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for call in calls:
        base = first.setdefault((call["episode_id"], call["tool"]), call)
        row = {"episode_id": call["episode_id"], "step": call["step"]}
        if base is call:
            yield {**row, "base_step": None, "prefix": None, "suffix": None, "middle": call["observation"]}
        else:
            prefix, suffix, middle = _difference(base["observation"], call["observation"])
            yield {**row, "base_step": base["step"], "prefix": prefix, "suffix": suffix, "middle": middle}


def _measure(
    steps: Sequence[dict[str, Any]], form: Form, copies: int, users: int, path: Path, rounds: int
) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    if copies == 1:
        with _source(steps, copies, users) as connection:
            measured["bytes_small_blocks"] = _write(connection, form, path, SMALL_BLOCKS)
    with _source(steps, copies, users) as connection:
        measured["bytes"] = _write(connection, form, path, "")
        differing = connection.execute(
            f"select count(*) from ((from steps except all ({form.read})) "
            f"union all (({form.read}) except all from steps))"
        ).fetchone()
        if differing != (0,):
            raise AssertionError(f"{differing} steps do not come back as they were")
        names = connection.execute(
            "select episode_id from steps group by episode_id order by md5(episode_id) limit ?",
            [READ_EPISODES],
        ).fetchall()
        took = []
        for _ in range(rounds):
            for (name,) in names:
                floor = _milliseconds(lambda: connection.execute("select 1").fetchall())
                ours = _milliseconds(
                    lambda name=name: connection.execute(  # type: ignore[misc]
                        f"select * from ({form.read}) where episode_id = ? order by step", [name]
                    ).fetchall()
                )
                took.append((ours, ours / floor))
        measured["read_episode_ms"] = round(statistics.median(ms for ms, _ in took), 2)
        measured["read_episode_ratio_to_select_1"] = round(statistics.median(ratio for _, ratio in took), 1)
        if form.add:
            connection.execute(f"""
                create table more as
                select
                    * replace (
                        cast(md5(event_id || 'more') as uuid) as event_id,
                        cast(md5(episode_key || 'more') as uuid) as episode_key,
                        episode_id || '-more' as episode_id
                    )
                from steps
                limit {len(steps)}
            """)
            measured["add_ms"] = round(
                _milliseconds(lambda: [connection.execute(sql) for sql in form.add]), 1
            )
    path.unlink()
    return measured


def _write(connection: duckdb.DuckDBPyConnection, form: Form, path: Path, extra: str) -> int:
    """Write the table `steps` in a form to a new file, `m`; return the bytes that it takes."""
    for old in (path, path.with_name(f"{path.name}.wal")):
        old.unlink(missing_ok=True)
    connection.execute(f"attach '{path}' as m {_options(form.options, extra)}")
    for statement in form.write:
        connection.execute(statement)
    connection.execute("checkpoint m")
    return path.stat().st_size


def _options(*options: str) -> str:
    given = [option for option in options if option]
    return f"({', '.join(given)})" if given else ""


def _milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


def _source(steps: Sequence[dict[str, Any]], copies: int, users: int) -> duckdb.DuckDBPyConnection:
    """Return a connection with the steps, copied, in the table `steps`, and their deltas in `delta`."""
    connection = duckdb.connect()
    told = pa.Table.from_pylist(list(steps))
    connection.register("told", told)
    connection.execute(f"""
        create table steps as
        select
            told.* replace (
                cast(md5(event_id || copy) as uuid) as event_id,
                cast(md5(episode_key || copy) as uuid) as episode_key,
                case when {users} > 1 then 'user ' || copy end as user_id,
                episode_id || '-' || copy as episode_id,
                cast(step as integer) as step,
                cast(batch_seq as bigint) as batch_seq,
                cast(agent_id as varchar) as agent_id,
                cast(session_id as varchar) as session_id,
                cast(latency_ms as double) as latency_ms,
                cast(occurred_at as timestamp) + interval 1 day * copy as occurred_at
            ),
            cast(occurred_at as timestamp) + interval 1 day * copy as recorded_at
        from told, range({copies}) as copies (copy)
        order by copy, episode_id, step
    """)
    deltas = pa.Table.from_pylist(list(_deltas(step for step in steps if step["observation"] is not None)))
    connection.register("told_deltas", deltas)
    connection.execute("""
        create table delta as
        select
            episode_id,
            cast(step as integer) as step,
            cast(base_step as integer) as base_step,
            cast(prefix as integer) as prefix,
            cast(suffix as integer) as suffix,
            middle
        from told_deltas
    """)
    return connection


if __name__ == "__main__":
    storage()
