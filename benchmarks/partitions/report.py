"""The page and the plot in docs/, made from a result file and from nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.page import plt, table
from benchmarks.partitions.questions import (
    LATEST_OF_USER,
    LOOKUP,
    ONE_MONTH_BY_TYPE,
    USER_AND_TYPE,
    WORKING_MEMORY,
)

PAGE, PLOT = "partitions-benchmark.md", "partitions-benchmark.svg"

_QUESTIONS = (WORKING_MEMORY, ONE_MONTH_BY_TYPE, LOOKUP, USER_AND_TYPE, LATEST_OF_USER)
_LAYOUTS = {
    "months": "months",
    "plain": "one table in time order",
    "indexed": "one table with compound indexes",
    "only": "a table of that month only",
}


def write_report(result: dict[str, Any], docs: Path) -> None:
    """Write the page and the plot of a result."""
    (docs / PAGE).write_text("\n".join(_page(result)) + "\n", "utf-8")
    _plot(result, docs / PLOT)


def _page(result: dict[str, Any]) -> Iterator[str]:
    run, sizes = result["run"], result["sizes"]
    names = [f"{size['rows']:,} rows" for size in sizes]
    yield "# Monthly partitions, measured"
    yield ""
    yield (
        "Made by `python -m benchmarks.partitions report` from benchmarks/partitions/result.json. "
        f"Measured {run['measured_at'][:10]} at commit {run['commit']} on {run['processors']} processors "
        f"({run['architecture']}, {run['memory_gb']} GB), Python {run['python']}, DuckDB "
        f"{run['packages']['duckdb']}, dbt {run['packages']['dbt-core']}. The stream covers 36 months "
        "(benchmarks/partitions/stream.py). Repeat it with `make bench-partitions`."
    )
    yield ""
    yield f"![Multiples of select 1]({PLOT})"
    yield ""
    yield "## Targets"
    yield ""
    yield from table(["target", "limit", *names], [target.line(sizes) for target in _TARGETS])
    yield ""
    yield "## Questions"
    yield ""
    yield (
        "Each figure is the median as a multiple of `select 1` through the same client, asked in turns with "
        "it, and the median in ms. *Rows read* is what EXPLAIN ANALYZE counted in the scans at the largest "
        "size."
    )
    yield ""
    for question in _QUESTIONS:
        yield f"**{question[0].upper()}{question[1:]}**"
        yield ""
        yield from table(["layout", "asked through", *names, "rows read"], list(_answers(sizes, question)))
        yield ""
    yield "## Building and changing"
    yield ""
    yield (
        "Seconds, with the file's size after the full build. For the months it is the model's own time as "
        "dbt measured it, for one table that of the bare SQL. *Untouched* rows are those that did not change "
        "and still have their place in their table and every value."
    )
    yield ""
    yield from table(["", "layout", *names], list(_builds(sizes)))
    yield ""
    yield "## Life cycle of one month"
    yield ""
    yield ("Seconds that the database worked, the start of dbt left out. A month has a 36th of the rows.")
    yield ""
    yield from table(["", *names], list(_life_cycle(sizes)))


@dataclass(frozen=True)
class _Target:
    """A promise about a size's result: `value` reads the figure, `limit` says what it must be there."""

    name: str
    limit: str
    unit: str
    value: Callable[[dict[str, Any]], float]
    is_met: Callable[[float, int], bool]
    from_rows: int = 0
    """The size from which on it is promised."""

    def line(self, sizes: list[dict[str, Any]]) -> list[str]:
        return [self.name, self.limit, *(self._judge(size) for size in sizes)]

    def _judge(self, size: dict[str, Any]) -> str:
        value = self.value(size)
        if size["rows"] < self.from_rows:
            verdict = "no limit"
        else:
            verdict = "met" if self.is_met(value, size["rows"]) else "**missed**"
        return f"{value:.2f} {self.unit}, {verdict}"


def _changed(size: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = size["changes"]["changed_1_percent"]["months"]
    return found


_TARGETS = (
    _Target(
        "working memory, to `select 1`",
        "at most 6 x, 8 x at 10M",
        "x",
        lambda size: _ratio(size, WORKING_MEMORY, "months", "router"),
        lambda value, rows: value <= (8 if rows >= 10_000_000 else 6),
    ),
    _Target(
        "one month's aggregate, to a table of that month only",
        "at most 1.3 x",
        "x",
        lambda size: (
            _ratio(size, ONE_MONTH_BY_TYPE, "months", "router")
            / _ratio(size, ONE_MONTH_BY_TYPE, "only", "only that month")
        ),
        lambda value, rows: value <= 1.3,
    ),
    _Target(
        "lookup by id, to `select 1`",
        "at most 4 x",
        "x",
        lambda size: _ratio(size, LOOKUP, "months", "router"),
        lambda value, rows: value <= 4,
    ),
    _Target(
        "one user and type over all history, faster than one table in time order",
        "at least 5 x from 1M",
        "x",
        lambda size: (
            _ratio(size, USER_AND_TYPE, "plain", "one table")
            / _ratio(size, USER_AND_TYPE, "months", "access path")
        ),
        lambda value, rows: value >= 5,
        from_rows=1_000_000,
    ),
    _Target(
        "1 % changed: the model's own time, of its full build",
        "at most 5 % from 1M",
        "%",
        lambda size: 100 * _changed(size)["share_of_full_build"],
        lambda value, rows: value <= 5,
        from_rows=1_000_000,
    ),
    _Target(
        "1 % changed: unchanged rows that were not touched",
        "at least 90 %",
        "%",
        lambda size: 100 * _changed(size)["untouched_rows"] / _changed(size)["unchanged_rows"],
        lambda value, rows: value >= 90,
    ),
)


def _ratio(size: dict[str, Any], question: str, layout: str, way: str) -> float:
    for found in size["questions"]:
        if (found["question"], found["layout"], found["way"]) == (question, layout, way):
            return float(found["ratio"])
    raise KeyError((question, layout, way))


def _answers(sizes: list[dict[str, Any]], question: str) -> Iterator[list[str]]:
    ways = [
        (found["layout"], found["way"]) for found in sizes[-1]["questions"] if found["question"] == question
    ]
    for layout, way in ways:
        found = [
            next(
                entry
                for entry in size["questions"]
                if (entry["question"], entry["layout"], entry["way"]) == (question, layout, way)
            )
            for size in sizes
        ]
        seen = found[-1]["witness"]
        yield [
            _LAYOUTS[layout],
            way,
            *(f"{entry['ratio']:.1f}x ({entry['median_ms']:.2f} ms)" for entry in found),
            f"{seen['rows_scanned']:,}{' by index' if seen['index_scans'] else ''}" if seen else "",
        ]


def _builds(sizes: list[dict[str, Any]]) -> Iterator[list[str]]:
    for layout in ("months", "plain", "indexed"):
        built = [size["builds"][layout] for size in sizes]
        yield [
            "full build",
            _LAYOUTS[layout],
            *(f"{found['seconds']:.2f} s, {found['bytes'] / 1e6:,.0f} MB" for found in built),
        ]
    for layout in ("months", "plain", "indexed"):
        changed = [size["changes"]["changed_1_percent"][layout] for size in sizes]
        yield [
            "1 % of the rows changed, in all months",
            _LAYOUTS[layout],
            *(
                f"{found['seconds']:.2f} s"
                + (
                    f", {found['untouched_rows']:,} of {found['unchanged_rows']:,} untouched"
                    if layout == "months"
                    else ""
                )
                for found in changed
            ),
        ]
    for key, name in (
        ("new_1_percent_on_last_day", "1 % new, on the last day"),
        ("nothing_new", "nothing new"),
    ):
        yield [
            name,
            _LAYOUTS["months"],
            *(f"{size['changes'][key]['months']['seconds']:.2f} s" for size in sizes),
        ]
    yield [
        "nothing new, in a model of one row, the first of its kind in the run: dbt compiles the macros",
        _LAYOUTS["months"],
        *(f"{size['changes']['nothing_new']['months']['seconds_of_first_model']:.2f} s" for size in sizes),
    ]


def _life_cycle(sizes: list[dict[str, Any]]) -> Iterator[list[str]]:
    names = {
        "archive_one": "archive a month",
        "archive_ten": "archive ten months",
        "restore_one": "restore a month",
        "drop_one": "drop a month",
        "delete_one_plain": "delete a month from one table in time order",
        "delete_one_indexed": "delete a month from one table with compound indexes",
    }
    for key, name in names.items():
        yield [name, *(f"{size['life_cycle'][key]:.3f} s" for size in sizes)]


def _plot(result: dict[str, Any], path: Path) -> None:
    """One panel a question: the multiples of select 1 against the number of rows."""
    sizes = result["sizes"]
    figure, panels = plt.subplots(1, len(_QUESTIONS), figsize=(3.2 * len(_QUESTIONS), 4), sharey=True)
    lines = {}
    for panel, question in zip(panels, _QUESTIONS, strict=True):
        ways = [(f["layout"], f["way"]) for f in sizes[-1]["questions"] if f["question"] == question]
        for layout, way in ways:
            label, colour, style = _LINES[layout if layout != "months" else _kind(way)]
            (lines[label],) = panel.plot(
                [size["rows"] for size in sizes],
                [_ratio(size, question, layout, way) for size in sizes],
                marker="o",
                color=colour,
                linestyle=style,
                label=label,
            )
        panel.set_title(question.replace(": ", ":\n").replace(" over all", "\nover all"), fontsize=9)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.minorticks_off()
        panel.set_xlabel("rows")
        panel.grid(visible=True, alpha=0.3)
    panels[0].set_ylabel("median, multiples of select 1")
    figure.legend(handles=list(lines.values()), loc="lower center", ncols=len(lines), fontsize=9)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


_LINES = {
    "routed": ("months: only those needed", "tab:blue", "-"),
    "macro": ("months: _recent, _between", "tab:cyan", "-"),
    "view": ("months: the view of all", "tab:gray", "-"),
    "plain": (_LAYOUTS["plain"], "tab:orange", "--"),
    "indexed": (_LAYOUTS["indexed"], "tab:red", ":"),
    "only": (_LAYOUTS["only"], "tab:green", "--"),
}


def _kind(way: str) -> str:
    if way.startswith("view"):
        return "view"
    return "macro" if way.startswith("_") else "routed"
