"""The page and the plot in docs/, made from a result file and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.layers.measure import FULL, LATE_PERCENT, NEWEST_PERCENT, NOTHING_NEW, STEPS
from benchmarks.page import plt, table

PAGE, PLOT = "layers-benchmark.md", "layers-benchmark.svg"

STEP_NAMES = {
    FULL: "full build",
    NEWEST_PERCENT: "1 % new",
    LATE_PERCENT: "1 % late",
    NOTHING_NEW: "nothing new",
}
_LINES = {
    FULL: ("tab:blue", "-"),
    NEWEST_PERCENT: ("tab:orange", "-"),
    LATE_PERCENT: ("tab:red", "--"),
    NOTHING_NEW: ("tab:gray", ":"),
}
_EVERYTHING = "all layers"

FOLLOWS_SHARE = 0.05
"""A model follows the change if 1 % of it costs at most this share of its full build,"""
COUNTS_SECONDS = 0.25
"""beside so many seconds, below which the fixed cost of a model and the noise of a machine lie."""


def write_report(result: dict[str, Any], docs: Path) -> None:
    """Write the page and the plot of a result."""
    sizes = result["sizes"]
    (docs / PAGE).write_text("\n".join(_page(sizes)) + "\n", "utf-8")
    _plot(sizes, docs / PLOT)


def seconds_of(size: dict[str, Any], step: str, *, layer: str = _EVERYTHING, model: str = "") -> float:
    """Return the time of a model, of the models of a layer, or of all; 0 if there was none of that name."""
    return float(
        sum(
            found["seconds"]
            for found in size["steps"][step]["models"]
            if (found["name"] == model if model else layer in (_EVERYTHING, found["layer"]))
        )
    )


def exponent(small: tuple[int, float], large: tuple[int, float]) -> float | None:
    """Return k of seconds = c rows^k through two points (rows, seconds), None if one has no time."""
    if min(small[1], large[1]) <= 0:
        return None
    return math.log(large[1] / small[1]) / math.log(large[0] / small[0])


def find_laggards(sizes: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each model whose incremental build does not follow the change.

    Judged at the largest size, where a fixed cost weighs least: 1 % must cost at most FOLLOWS_SHARE of the
    full build more than nothing at all, and nothing at all must not cost more than at the smallest size,
    each beside COUNTS_SECONDS.
    """
    small, large = sizes[0], sizes[-1]
    for name, layer in _models(large):
        full, idle = (seconds_of(large, step, model=name) for step in (FULL, NOTHING_NEW))
        for step in (NEWEST_PERCENT, LATE_PERCENT):
            seconds = seconds_of(large, step, model=name)
            if seconds - idle > max(FOLLOWS_SHARE * full, COUNTS_SECONDS):
                yield (
                    f"{layer}/{name}: {STEP_NAMES[step]} takes {seconds:.2f} s, {_percent(seconds, full)} of "
                    f"the full build ({full:.2f} s); nothing new takes {idle:.2f} s."
                )
        before = seconds_of(small, NOTHING_NEW, model=name)
        if small is not large and idle - before > COUNTS_SECONDS:
            yield (
                f"{layer}/{name}: nothing new takes {idle:.2f} s at {large['rows']:,} memories and "
                f"{before:.2f} s at {small['rows']:,}: it looks at what is stored."
            )


def _page(sizes: list[dict[str, Any]]) -> Iterator[str]:
    names = [f"{size['rows']:,} memories" for size in sizes]
    large = sizes[-1]
    run = large["run"]
    yield "# The layers as memory grows, measured"
    yield ""
    yield (
        "Made by `python -m benchmarks.layers report` from benchmarks/layers/result.json. Measured "
        f"{run['measured_at'][:10]} at commit {run['commit']} on {run['processors']} processors "
        f"({run['architecture']}, {run['memory_gb']} GB), Python {run['python']}, "
        f"DuckDB {run['packages']['duckdb']}, dbt {run['packages']['dbt-core']}. The stream covers 36 months "
        "(benchmarks/stream.py). Repeat it with `make bench-layers`."
    )
    others = sorted({size["run"]["commit"] for size in sizes} - {run["commit"]})
    if others:
        yield f"Smaller sizes were measured at {', '.join(others)}."
    yield ""
    yield (
        "Seconds are those that dbt took for the models of a layer, compiling them included, with one "
        "thread: they add up. A model that has nothing to do costs about 50 ms, a partitioned one more. Four "
        "kinds of runs, one after the other on the same home:"
    )
    yield ""
    yield "- **full build**: from no warehouse at all"
    yield "- **nothing new**: again, the quickest of three"
    yield (
        "- **1 % new**: 1 % more memories in the days that follow, with their recalls (2 % as many) and "
        "forgets (0.05 %)"
    )
    yield "- **1 % late**: 1 % more memories that were missed, in sessions all over the 36 months"
    yield ""
    yield f"![Seconds of each layer against the number of memories]({PLOT})"
    yield ""
    yield "## Full build"
    yield ""
    yield (
        "The exponent k of seconds = c * memories^k between one size and the next; 1 is linear. At small "
        "sizes what a model costs at least flattens it."
    )
    yield ""
    pairs = list(pairwise(sizes))
    yield from table(
        ["layer", *names, *(f"k to {b['rows']:,}" for _, b in pairs), "memories/s at the largest"],
        [
            [
                layer,
                *(f"{seconds_of(size, FULL, layer=layer):.2f} s" for size in sizes),
                *(_growth(a, b, FULL, layer) for a, b in pairs),
                f"{large['rows'] / max(seconds_of(large, FULL, layer=layer), 1e-3):,.0f}",
            ]
            for layer in _layers(large)
        ],
    )
    yield ""
    yield "## Incremental"
    yield ""
    yield "Seconds, and their share of the full build of the same layer at the same size."
    yield ""
    yield from table(
        ["layer", "run", *names, *(f"k to {b['rows']:,}" for _, b in pairs)],
        [
            [
                layer,
                STEP_NAMES[step],
                *(
                    f"{seconds_of(size, step, layer=layer):.2f} s, "
                    + _percent(seconds_of(size, step, layer=layer), seconds_of(size, FULL, layer=layer))
                    for size in sizes
                ),
                *(_growth(a, b, step, layer) for a, b in pairs),
            ]
            for layer in _layers(large)
            for step in (NEWEST_PERCENT, LATE_PERCENT, NOTHING_NEW)
        ],
    )
    yield ""
    yield "## Where the incremental does not follow the change"
    yield ""
    yield (
        f"Models of which, at {large['rows']:,} memories, 1 % costs more than nothing new by over "
        f"{100 * FOLLOWS_SHARE:.0f} % of the full build and {COUNTS_SECONDS} s, or of which nothing new "
        f"costs {COUNTS_SECONDS} s more than at {sizes[0]['rows']:,}:"
    )
    yield ""
    yield from [f"- {sentence}" for sentence in find_laggards(sizes)] or ["None."]
    yield ""
    yield f"## Each model at {large['rows']:,} memories"
    yield ""
    yield from table(
        ["model", *(STEP_NAMES[step] for step in _LINES)],
        [
            [f"{layer}/{name}", *(f"{seconds_of(large, step, model=name):.2f} s" for step in _LINES)]
            for name, layer in sorted(
                _models(large), key=lambda found: -seconds_of(large, FULL, model=found[0])
            )
        ],
    )
    yield ""
    yield "Rows that a run wrote, of models whose rows name their run: what followed from the change."
    yield ""
    yield from table(
        ["model", "rows in the end", *(f"written by: {STEP_NAMES[step]}" for step in _LINES if step != FULL)],
        [
            [
                f"{layer}/{name}",
                f"{large['steps'][LATE_PERCENT]['rows_written'][name][1]:,}",
                *(
                    _rows(*large["steps"][step]["rows_written"][name])
                    for step in (NEWEST_PERCENT, LATE_PERCENT, NOTHING_NEW)
                ),
            ]
            for name, layer in _models(large)
            if name in large["steps"][LATE_PERCENT]["rows_written"]
        ],
    )
    yield ""
    yield "## What is not a layer"
    yield ""
    yield (
        "Loading reads the sealed segments of the inbox, checks every event and writes raw/. Outside of "
        "models is the start of Python and dbt, reading the project, what dbt does between models, the hooks "
        "and the checkpoint at the end; with nothing new it is the fixed cost of a run. The tests of `dbt "
        "build` and the copy that publishes are not measured here."
    )
    yield ""
    yield from table(["", *names], list(_beside(sizes)))


def _beside(sizes: list[dict[str, Any]]) -> Iterator[list[str]]:
    yield [
        "loading: events a second",
        *(f"{size['loads'][FULL]['events'] / size['loads'][FULL]['seconds']:,.0f}" for size in sizes),
    ]
    for step in STEPS:
        yield [
            f"{STEP_NAMES[step]}: the whole process",
            *(f"{size['steps'][step]['wall_seconds']:.1f} s" for size in sizes),
        ]
        yield [
            f"{STEP_NAMES[step]}: outside of models",
            *(f"{size['steps'][step]['wall_seconds'] - seconds_of(size, step):.1f} s" for size in sizes),
        ]
    for step in STEPS:
        yield [
            f"{STEP_NAMES[step]}: most memory of the process",
            *(f"{size['steps'][step]['peak_mb']:,.0f} MB" for size in sizes),
        ]
    yield ["events as JSON lines", *(f"{size['stream']['bytes'] / 1e6:,.0f} MB" for size in sizes)]
    yield ["raw/, at the end", *(f"{size['files']['raw_bytes'] / 1e6:,.0f} MB" for size in sizes)]
    for step in STEPS:
        yield [
            f"warehouse after: {STEP_NAMES[step]}",
            *(f"{size['steps'][step]['warehouse_bytes'] / 1e6:,.0f} MB" for size in sizes),
        ]


def _models(size: dict[str, Any]) -> list[tuple[str, str]]:
    return [(found["name"], found["layer"]) for found in size["steps"][FULL]["models"]]


def _layers(size: dict[str, Any]) -> list[str]:
    """The layers in the order in which dbt came to them, and all of them together."""
    return [*dict.fromkeys(layer for _, layer in _models(size)), _EVERYTHING]


def _growth(small: dict[str, Any], large: dict[str, Any], step: str, layer: str) -> str:
    found = exponent(
        (small["rows"], seconds_of(small, step, layer=layer)),
        (large["rows"], seconds_of(large, step, layer=layer)),
    )
    return "" if found is None else f"{found:.2f}"


def _rows(written: int, rows: int) -> str:
    return f"{written:,} ({_percent(written, rows)})"


def _percent(part: float, whole: float) -> str:
    share = 100 * part / whole if whole else 100.0
    return f"{share:.1f} %" if share < 10 else f"{share:.0f} %"


def _plot(sizes: list[dict[str, Any]], path: Path) -> None:
    """One panel a layer: seconds of each kind of run against the number of memories."""
    layers = _layers(sizes[-1])
    columns = min(4, len(layers))
    lines = math.ceil(len(layers) / columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(3 * columns, 2.6 * lines + 0.6), sharex=True, sharey=True, squeeze=False
    )
    rows = [size["rows"] for size in sizes]
    for panel, layer in zip(grid.flat, layers, strict=False):
        for step, (colour, style) in _LINES.items():
            seconds = [seconds_of(size, step, layer=layer) for size in sizes]
            panel.plot(rows, seconds, marker="o", color=colour, linestyle=style, label=STEP_NAMES[step])
        panel.set_title(layer, fontsize=9)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.minorticks_off()
        panel.grid(visible=True, alpha=0.3)
    for panel in list(grid.flat)[len(layers) :]:
        panel.set_visible(False)
    for line in grid:
        line[0].set_ylabel("seconds")
    for panel in grid[-1]:
        panel.set_xlabel("memories")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), fontsize=9)
    figure.tight_layout(rect=(0, 0.5 / (2.6 * lines + 0.6), 1, 1))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
