"""The macros of macros/memory, evaluated as they are: rendered outside dbt and run in DuckDB.

Nothing here computes a mechanism; it lays out cases as rows and asks the macro. Times are seconds on a
clock of one's own, whose zero is `ZERO` in the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import yaml

from mnemoduck.extensions import load_extension
from mnemoduck.project import find_project, render, variables

ZERO = "timestamp '2026-01-01 12:00:00'"
DAY = 86_400.0


@dataclass(frozen=True)
class Said:
    """Something that was said to a mind: a row of short_term_memories, as far as the macro reads it."""

    mind: str
    content: str
    at: float
    """Seconds."""

    importance: float | None = 0.5
    urgency: float | None = None
    emotional_salience: float | None = None
    forgotten_at: float | None = None


@dataclass(frozen=True)
class Slot:
    """One slot of a mind."""

    slot: int
    content: str
    capacity: int
    coherence: float
    priority: float
    use_count: int


class Mechanisms:
    """The macros of a project, with the values of its variables."""

    def __init__(self, project: Path | None = None) -> None:
        self.project = find_project(project)
        self.parameters = variables(self.project)
        self._connection = duckdb.connect(config={"threads": 1})  # small questions, many of them
        load_extension(self._connection, "fts")  # `stem`, where a macro takes the stems of words
        self._connection.execute(f"create table said ({', '.join(_columns(self.project))})")

    def activations(
        self, cases: Sequence[tuple[Sequence[float], float]], *, kept: int | None = None
    ) -> list[float | None]:
        """Return the activation of each (times of use, moment), from the state that a table would keep.

        The state is of all uses that are given, also of those after the moment. `kept` is how many of the
        last uses are kept exactly, by default the project's variable.
        """
        kept = kept or int(self.parameters["activation_recent_uses"])
        expression = self._render("activation", "use_count", "first_used_at", "recent_use_times", "as_of")
        found = self._ask(
            f"""
            with stored as (
                select
                    number,
                    len(uses) as use_count,
                    {_moment("list_min(uses)")} as first_used_at,
                    list_transform(list_reverse_sort(uses)[:{kept}], lambda used: {_moment("used")})
                        as recent_use_times,
                    {_moment("seconds")} as as_of
                from cases
            )
            select {expression} from stored order by number
            """,
            uses=pa.array([list(uses) for uses, _ in cases], pa.list_(pa.float64())),
            seconds=pa.array([at for _, at in cases], pa.float64()),
        )
        return [value for (value,) in found]

    def activation(self, uses: Sequence[float], moments: Sequence[float]) -> list[float]:
        """Return the activation of one memory at several moments, all of them after its first use."""
        return [_known(value) for value in self.activations([(uses, at) for at in moments])]

    def retrieval_probabilities(
        self, activations: Sequence[float], threshold: float | None = None
    ) -> list[float]:
        """Return the probability of retrieval of each activation, by default at the project's threshold."""
        above = self.parameters["retrieval_threshold"] if threshold is None else threshold
        expression = self._render("retrieval_probability", "activation", str(above))
        found = self._ask(
            f"select {expression} from cases order by number",
            activation=pa.array(activations, pa.float64()),
        )
        return [float(value) for (value,) in found]

    def retentions(self, cases: Sequence[tuple[float, float, float]]) -> list[float]:
        """Return the retention of each (time of the last use, stability in days, moment)."""
        expression = self._render("retention", _moment("used"), "stability", _moment("seconds"))
        found = self._ask(
            f"select {expression} from cases order by number",
            used=pa.array([used for used, _, _ in cases], pa.float64()),
            stability=pa.array([stability for _, stability, _ in cases], pa.float64()),
            seconds=pa.array([at for _, _, at in cases], pa.float64()),
        )
        return [float(value) for (value,) in found]

    def stabilities(self, histories: Sequence[Sequence[float]]) -> list[float]:
        """Return the stability in days after each history of uses.

        Args:
            histories: the uses of each, in seconds, in any order.
        """
        times = "list_transform(list_sort(uses), lambda used: make_timestamp(cast(used * 1e6 as bigint)))"
        spaced = self._render("spaced_uses", "times")
        found = self._ask(
            f"""
            select {self._render("stability_days", "spaced")}
            from (select number, {spaced} as spaced from (select number, {times} as times from cases))
            order by number
            """,
            uses=pa.array([list(uses) for uses in histories], pa.list_(pa.float64())),
        )
        return [float(value) for (value,) in found]

    def working_memory(self, said: Sequence[Said], at: float) -> dict[str, list[Slot]]:
        """Return the slots of every mind that something was said to, at a moment."""
        rows = pa.table(
            {
                "number": pa.array(range(len(said)), pa.int64()),
                "mind": pa.array([one.mind for one in said], pa.string()),
                "content": pa.array([one.content for one in said], pa.string()),
                "importance": pa.array([one.importance for one in said], pa.float64()),
                "urgency": pa.array([one.urgency for one in said], pa.float64()),
                "emotional_salience": pa.array([one.emotional_salience for one in said], pa.float64()),
                "seconds": pa.array([one.at for one in said], pa.float64()),
                "forgotten": pa.array([one.forgotten_at for one in said], pa.float64()),
            }
        )
        content_hash = self._render("hash_key", (self._render("normalised_text", "content"),))
        self._connection.execute("delete from said")
        self._connection.register("rows", rows)
        self._connection.execute(
            f"""
            insert into said by name
            select
                cast(printf('00000000-0000-7000-8000-%012x', number) as uuid) as memory_id,
                mind as user_id,
                content,
                {content_hash} as content_hash,
                'episodic' as memory_type,
                importance,
                urgency,
                emotional_salience,
                {_moment("seconds")} as occurred_at,
                {_moment("seconds")} as recorded_at,
                {_moment("forgotten")} as forgotten_at
            from rows
            """
        )
        self._connection.unregister("rows")
        moment = _moment(repr(float(at)))
        slots = self._connection.execute(
            f"""
            select user_id, slot, content, capacity, coherence, priority, use_count
            from ({self._render("working_memory_slots", "said", "user_id", moment)})
            order by user_id, slot
            """
        ).fetchall()
        minds: dict[str, list[Slot]] = {one.mind: [] for one in said}
        for mind, *slot in slots:
            minds[mind].append(Slot(*slot))
        return minds

    def _render(self, macro: str, *arguments: Any) -> str:
        return render(self.project, macro, *arguments)

    def _ask(self, query: str, **columns: Any) -> list[tuple[Any, ...]]:
        cases = pa.table(columns)
        self._connection.register(
            "cases", cases.append_column("number", pa.array(range(cases.num_rows), pa.int64()))
        )
        try:
            return self._connection.execute(query).fetchall()
        finally:
            self._connection.unregister("cases")


def _moment(seconds: str) -> str:
    return f"({ZERO} + to_microseconds(cast(round(({seconds}) * 1e6) as bigint)))"


def _known(value: float | None) -> float:
    if value is None:
        raise ValueError("There is no activation before the first use: ask for a later moment.")
    return value


def _columns(project: Path) -> list[str]:
    """Return the columns of short_term_memories as its contract has them: what nobody sets is null."""
    document = yaml.safe_load(
        (project / "models" / "short_term" / "short_term_memories.yml").read_text("utf-8")
    )
    (model,) = (model for model in document["models"] if model["name"] == "short_term_memories")
    return [f"{column['name']} {column['data_type']}" for column in model["columns"]]
