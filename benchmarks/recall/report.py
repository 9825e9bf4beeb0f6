"""The page and the plot in docs/, made from a result file and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.page import plt, table
from benchmarks.recall.homes import ADDED, MANY, ONE, RUN_OF_A_USER, SELECTED

PAGE, PLOT = "recall-benchmark.md", "recall-benchmark.svg"

GROWTH_AT_MOST = 2.0
"""p50 in 1,000 scopes at the largest size over that at the smallest."""
FTS5_SHARE_AT_MOST = 0.5
"""p50 by words alone in one scope at the largest size over that of FTS5, which knows nothing but words."""
CACHED_AT_LEAST = 100_000
"""Cached recalls a second in one process, one thread."""

_KINDS = {
    "lexical": "cold, by words alone, one thread",
    "cold": "cold, one thread",
    "cold_threads": "cold, eight threads",
    "cached": "cached, one thread",
    "cached_threads": "cached, eight threads",
}
_FTS5 = {"fts5": "FTS5, telling words, one thread", "fts5_as_asked": "FTS5, all words, one thread"}
_OURS = "mnemoduck"
_PEERS = ("SQLite FTS5", "Chroma", "LanceDB vectors", "LanceDB full text", "rank-bm25")

Size = dict[str, Any]


def write_report(result: dict[str, Any], docs: Path) -> None:
    """Write the page and the plot of a result."""
    sizes = result["sizes"]
    (docs / PAGE).write_text("\n".join(_page(sizes, result.get("remarks", []))) + "\n", "utf-8")
    _plot(sizes, docs / PLOT)


def growth_of_scopes(sizes: list[Size]) -> float | None:
    """Return p50 in 1,000 scopes at the largest size over that at the smallest."""
    small, large = (_recall(size, MANY) for size in (sizes[0], sizes[-1]))
    return float(large["cold"]["p50_ms"] / small["cold"]["p50_ms"]) if small and large else None


def share_of_fts5(size: Size, layout: str = ONE, kind: str = "fts5") -> float | None:
    """Return our p50 by words alone over that of FTS5 at a size, asked for the telling words (kind "fts5") or
    for all words of the query ("fts5_as_asked")."""
    recall = _recall(size, layout)
    return float(recall["lexical"]["p50_ms"] / recall[kind]["p50_ms"]) if recall else None


def slowest_cached(sizes: list[Size]) -> float | None:
    """Return cached recalls a second, one thread, where they are fewest."""
    found = [
        recall["cached"]["calls_per_second"]
        for size in sizes
        for layout in size["layouts"]
        if (recall := _recall(size, layout))
    ]
    return min(found) if found else None


def count_errors(sizes: list[Size]) -> int:
    """Return how many recalls failed or had no answer, over all sizes."""
    return sum(
        recall[kind]["errors"]
        for size in sizes
        for layout in size["layouts"]
        if (recall := _recall(size, layout))
        for kind in _KINDS
    )


def adding_seconds(size: Size, layout: str) -> float | None:
    """Return the median seconds that the models of the index took for ADDED more memories."""
    adding = size["layouts"].get(layout, {}).get("adding")
    return median(one["index_seconds"] for one in adding["rounds"]) if adding else None


def find_better_peers(size: Size) -> Iterator[str]:
    """Yield a sentence for each peer and each measure in which it is better than we are."""
    ours = _row(size, _OURS)
    for peer in _PEERS:
        theirs = _row(size, peer)
        if not ours or not theirs:
            continue
        wins = []
        for name, key, unit in (
            ("a query in all memories (p50)", "whole", "ms"),
            ("a query in one scope of 1,000 (p50)", "one_user", "ms"),
        ):
            if theirs[key] and ours[key] and theirs[key]["p50_ms"] < ours[key]["p50_ms"]:
                wins.append(
                    f"{name}: {_milliseconds(theirs[key]['p50_ms'])} against "
                    f"{_milliseconds(ours[key]['p50_ms'])} {unit}"
                )
        if theirs["rate"] > ours["rate"]:
            wins.append(f"ingest: {theirs['rate']:,.0f} memories a second against {ours['rate']:,.0f}")
        if 0 < theirs["disk"] < ours["disk"]:
            wins.append(f"disk: {theirs['disk'] / 1e6:,.0f} against {ours['disk'] / 1e6:,.0f} MB")
        if wins:
            yield f"At {size['rows']:,} memories **{peer}** is better at {'; '.join(wins)}."


def _page(sizes: list[Size], remarks: list[str]) -> Iterator[str]:
    large = sizes[-1]
    run = large["run"]
    names = [f"{size['rows']:,}" for size in sizes]
    yield "# Recall, its speed measured"
    yield ""
    yield (
        "Made by `python -m benchmarks.recall report` from benchmarks/recall/result.json. Measured "
        f"{run['measured_at'][:10]} at commit {run['commit']} on {run['processors']} processors "
        f"({run['architecture']}, {run['memory_gb']} GB), Python {run['python']}, "
        f"DuckDB {run['packages']['duckdb']}, SQLite {run['sqlite']}. Repeat it with `make bench-recall`. "
        "What recall finds is measured in another place; here it is how fast."
    )
    others = sorted({size["run"]["commit"] for size in sizes} - {run["commit"]})
    if others:
        yield f"Other sizes were measured at {', '.join(others)}."
    failures = [f"{size['rows']:,}: {failure}" for size in sizes for failure in size["failures"]]
    if failures:
        yield ""
        yield "Steps that failed, of which nothing is told below: " + "; ".join(failures) + "."
    yield ""
    for remark in remarks:
        yield remark
        yield ""
    yield f"![p50 of recall and of FTS5 against the number of memories]({PLOT})"
    yield ""
    yield "## What is asked for"
    yield ""
    yield from table(["", "goal", "measured", ""], list(_goals(sizes)))
    if any(share is None or share > FTS5_SHARE_AT_MOST for share in (share_of_fts5(large),)):
        yield ""
        yield (
            "Why what is missed is missed: at this size DuckDB plans and executes two or three "
            "statements for a question, which takes longer than FTS5 needs for a few rare words; with words "
            "that are in many memories it is the other way round (see p99). "
            "[Decision 18](decisions/0018-ranking-in-numpy.md) has the steps, and what would change it."
        )
    yield ""
    yield "## What is measured"
    yield ""
    yield (
        "The generated stream (benchmarks/stream.py) with its recalls and forgets, once with all memories "
        f"in one scope and once in 1,000 scopes, of which each has the same share: {RUN_OF_A_USER} memories "
        "one after the other are one user's, the next ones the next user's. A home has what recall reads, "
        f"built by dbt (`dbt run --select {' '.join(SELECTED)}`); its snapshot is made by the publishing "
        "function called directly, since a selection does not publish."
    )
    yield ""
    yield (
        "A query is 2 to 6 words of one memory that is not forgotten, every other one with its stop words, "
        "drawn by a seed, so each has an answer in its scope; an answer of nothing counts as an error. All "
        "times are those of `Memory.recall(query, user_id=..., limit=10)`, whole: reading the query, "
        "ranking with neighbours and sessions, and reading the texts. **Cold** is the first time that a "
        "query is asked (the files are in the memory of the system), **cached** the same query again. "
        "**Eight threads** share one `Memory` in one process. Ratios are to `select 1` through the same "
        "client, asked in turns with it. With fewer than a hundred calls p99 is close to the slowest one."
    )
    for layout in (ONE, MANY):
        yield ""
        yield f"## {layout[0].upper()}{layout[1:]}"
        yield ""
        rows = [row for size in sizes for row in _times(size, layout)]
        yield from table(
            ["memories", "", "p50", "p99", "p50 / select 1", "p99 / select 1", "a second", "calls", "errors"],
            rows,
        )
        shares = [
            f"{share:.2f} at {size['rows']:,}" for size in sizes if (share := share_of_fts5(size, layout))
        ]
        yield ""
        yield (
            "FTS5 (porter, unicode61, best ten by bm25, with their texts) is asked in turns with recall for "
            "any of the telling words, which recall tells by itself, and for any of all words of the query"
            + (", and for the user as a term of its index" if layout == MANY else "")
            + f". p50 of recall by words alone over that of FTS5, telling words: {', '.join(shares)}."
        )
        first = [
            f"{recall['first_ms']:,.0f} ms at {size['rows']:,}"
            for size in sizes
            if (recall := _recall(size, layout))
        ]
        yield f"Opening a home and the first recall: {', '.join(first)}."
    yield ""
    yield "## What a recall reads"
    yield ""
    yield (
        "Rows that EXPLAIN ANALYZE says were scanned, of the statements that a recall executes; the median "
        "of some queries and the most. DuckDB reads or skips row groups of 122,880 rows by their ranges of "
        "values: the postings of a user and a term lie together, so that few are read."
    )
    yield ""
    yield from table(
        ["memories", "", "postings", "scanned: postings", "most", "documents"], list(_scans(sizes))
    )
    yield ""
    yield "## Building, and adding a hundred memories"
    yield ""
    yield from table(["", *names], list(_building(sizes)))
    yield ""
    yield (
        f"Adding {ADDED} memories is an incremental dbt run after they were loaded, the median of three; "
        "seconds are those of the two models of the index, compiling included."
    )
    yield ""
    yield "## Peers"
    yield ""
    yield (
        "The same texts and the same queries in the same run, each peer as its documentation begins, in a "
        "process of its own (FTS5 in turns with recall). Chroma and LanceDB search vectors: all are given "
        "the same ones of 384 floats, the sum of a random direction for each word, so that texts that share "
        "words are near; making them is not counted, as no model is. Ingest is from texts to what can be "
        "asked, for mnemoduck loading events, building and publishing, with all that recall knows of a "
        "memory, of which the index is the smaller part. Disk is that of one store; a home has the events "
        "and a snapshot beside it. They do different things: how well each finds is another page."
    )
    yield ""
    yield "- SQLite FTS5: tokenize = 'porter unicode61', users a column of the index"
    yield "- Chroma: PersistentClient, HNSW and l2 as by default, users as metadata"
    yield "- LanceDB vectors: a table without an index, as it is created: exact, all vectors are read"
    yield (
        "- LanceDB full text: `create_fts_index` as by default (BM25, English stems, no stop words), and "
        "an index of users"
    )
    yield "- rank-bm25: BM25Okapi, all in Python's memory, nothing on disk; a user's texts by their numbers"
    for size in sizes:
        yield ""
        yield f"### {size['rows']:,} memories"
        yield ""
        yield from table(
            ["", "ingest/s", "disk", "all memories: p50", "p99", "one scope of 1,000: p50", "p99"],
            list(_peer_rows(size)),
        )
        skipped = [
            f"{name}: {peer['skipped']}" for name, peer in size.get("peers", {}).items() if "skipped" in peer
        ]
        if skipped:
            yield ""
            yield f"Not measured: {'; '.join(skipped)}."
    yield ""
    yield "## Where a peer is better"
    yield ""
    sentences = [f"- {sentence}" for size in sizes for sentence in find_better_peers(size)]
    yield from sentences or ["Nowhere in what was measured."]
    unanswered = list(_unanswered(sizes))
    if unanswered:
        yield ""
        yield f"Queries that a peer had no answer to: {'; '.join(unanswered)}."


def _goals(sizes: list[Size]) -> Iterator[list[str]]:
    small, large = sizes[0], sizes[-1]
    growth, cached = growth_of_scopes(sizes), slowest_cached(sizes)
    errors = count_errors(sizes)
    yield [
        f"1,000 scopes: p50 at {large['rows']:,} over p50 at {small['rows']:,}",
        f"at most {GROWTH_AT_MOST:g}",
        *_judged(growth, growth is not None and growth <= GROWTH_AT_MOST),
    ]
    for kind, words in (("fts5", "its telling words"), ("fts5_as_asked", "all its words")):
        share = share_of_fts5(large, kind=kind)
        yield [
            f"one scope: p50 by words alone at {large['rows']:,} over that of FTS5, given {words}",
            f"at most {FTS5_SHARE_AT_MOST:g}",
            *_judged(share, share is not None and share <= FTS5_SHARE_AT_MOST),
        ]
    yield [
        "cached recalls a second, one thread, the fewest",
        f"at least {CACHED_AT_LEAST:,}",
        *(_judged(cached, cached is not None and cached >= CACHED_AT_LEAST, "{:,.0f}")),
    ]
    yield ["recalls that failed or had no answer", "0", *_judged(errors, errors == 0, "{:,}")]
    before, after = (adding_seconds(size, ONE) for size in (small, large))
    if before and after:
        yield [
            f"adding {ADDED}: seconds at {large['rows']:,} over those at {small['rows']:,}",
            "does not depend on what is stored",
            f"{after / before:.2f}",
            "",
        ]


def _judged(value: float | None, is_met: bool, form: str = "{:.2f}") -> list[str]:
    return ["not measured", ""] if value is None else [form.format(value), "met" if is_met else "**missed**"]


def _times(size: Size, layout: str) -> Iterator[list[str]]:
    recall = _recall(size, layout)
    if not recall:
        return
    for kind, name in [*_FTS5.items(), *_KINDS.items()]:
        found = recall[kind]
        if found and found["calls"]:
            yield [
                f"{size['rows']:,}",
                name,
                _milliseconds(found["p50_ms"]) + " ms",
                _milliseconds(found["p99_ms"]) + " ms",
                _ratio(found["p50_ratio"]),
                _ratio(found["p99_ratio"]),
                f"{found['calls_per_second']:,.0f}" if "calls_per_second" in found else "",
                f"{found['calls']:,}",
                "" if kind in _FTS5 else f"{found['errors']}",
            ]


def _scans(sizes: list[Size]) -> Iterator[list[str]]:
    for layout in (ONE, MANY):
        for size in sizes:
            own = size["layouts"].get(layout, {})
            if "scans" in own:
                scanned, most = own["scans"]["rows_scanned"], own["scans"]["most_rows_scanned"]
                postings = _of_table(scanned, "search_postings")
                yield [
                    f"{size['rows']:,}",
                    layout,
                    f"{own['build']['postings']:,}",
                    f"{postings:,} ({100 * postings / own['build']['postings']:.1f} %)",
                    f"{_of_table(most, 'search_postings'):,}",
                    f"{_of_table(scanned, 'search_documents'):,}",
                ]


def _of_table(rows: dict[str, int], name: str) -> int:
    return sum(count for table_name, count in rows.items() if table_name.endswith(name))


def _building(sizes: list[Size]) -> Iterator[list[str]]:
    def each(form: str, *keys: str, layout: str = ONE) -> list[str]:
        cells = []
        for size in sizes:
            value: Any = size["layouts"].get(layout, {})
            for key in keys:
                value = (value or {}).get(key)
            cells.append("" if value is None else form.format(value))
        return cells

    yield ["loading the events", *each("{:.1f} s", "build", "load_seconds")]
    yield ["dbt, its start included", *each("{:.1f} s", "build", "dbt_seconds")]
    yield ["of that: the models of the index", *each("{:.1f} s", "build", "index_seconds")]
    yield ["publishing", *each("{:.1f} s", "build", "publish_seconds")]
    for layout in (ONE, MANY):
        cells = [adding_seconds(size, layout) for size in sizes]
        yield [
            f"adding {ADDED}, {layout}",
            *("" if seconds is None else f"{seconds:.2f} s" for seconds in cells),
        ]
    yield [
        "disk: the index",
        *(
            f"{size['layouts'][ONE]['build']['index_bytes'] / 1e6:,.0f} MB" if ONE in size["layouts"] else ""
            for size in sizes
        ),
    ]
    yield [
        "disk: the warehouse",
        *(
            f"{size['layouts'][ONE]['build']['warehouse_bytes'] / 1e6:,.0f} MB"
            if ONE in size["layouts"]
            else ""
            for size in sizes
        ),
    ]


def _row(size: Size, name: str) -> dict[str, Any] | None:
    """Return what a line of the peers' table shows, None if it was not measured."""
    one, many = (size["layouts"].get(layout, {}) for layout in (ONE, MANY))
    if name == _OURS:
        if "recall" not in one or "recall" not in many:
            return None
        build = many["build"]
        seconds = build["load_seconds"] + build["dbt_seconds"] + build["publish_seconds"]
        return {
            "version": "",
            "rate": build["rows"] / seconds,
            "disk": build["warehouse_bytes"],
            "whole": one["recall"]["cold"],
            "one_user": many["recall"]["cold"],
        }
    if name == "SQLite FTS5":
        if "recall" not in one or "recall" not in many:
            return None
        return {
            "version": size["run"]["sqlite"],
            "rate": many["fts5_build"]["rows"] / many["fts5_build"]["seconds"],
            "disk": many["fts5_build"]["bytes"],
            "whole": one["recall"]["fts5"],
            "one_user": many["recall"]["fts5"],
        }
    peer = size.get("peers", {}).get(name, {"skipped": "not asked for"})
    if "skipped" in peer:
        return None
    return {
        "version": peer["version"],
        "rate": peer["rows"] / peer["ingest_seconds"],
        "disk": peer["disk_bytes"],
        "memory": peer["memory_bytes"],
        "whole": peer["whole"],
        "one_user": peer["one_user"],
    }


def _peer_rows(size: Size) -> Iterator[list[str]]:
    for name in (_OURS, *_PEERS):
        row = _row(size, name)
        if row is not None:
            yield [
                f"{name} {row['version']}".strip(),
                f"{row['rate']:,.0f}",
                f"{row['disk'] / 1e6:,.0f} MB" if row["disk"] else f"{row['memory'] / 1e6:,.0f} MB of memory",
                *(
                    f"{_milliseconds(row[key][quantile])} ms"
                    for key in ("whole", "one_user")
                    for quantile in ("p50_ms", "p99_ms")
                ),
            ]


def _unanswered(sizes: list[Size]) -> Iterator[str]:
    for size in sizes:
        for name, peer in size.get("peers", {}).items():
            for key, where in (("whole", "all memories"), ("one_user", "one scope")):
                if peer.get(key, {}).get("unanswered"):
                    yield (
                        f"{name} at {size['rows']:,} in {where}: {peer[key]['unanswered']} of "
                        f"{peer[key]['calls']}"
                    )


def _recall(size: Size, layout: str) -> dict[str, Any]:
    found: dict[str, Any] = size["layouts"].get(layout, {}).get("recall", {})
    return found


def _milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.4f}"


def _ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def _plot(sizes: list[Size], path: Path) -> None:
    """One panel a layout: p50 of each kind of call, and of FTS5, against the number of memories."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    lines = {
        "fts5": ("FTS5", "tab:gray", "--"),
        "lexical": ("cold, by words alone", "tab:purple", "-"),
        "cold": ("cold", "tab:blue", "-"),
        "cold_threads": ("cold, eight threads", "tab:orange", "-"),
        "cached": ("cached", "tab:green", "-"),
        "cached_threads": ("cached, eight threads", "tab:red", ":"),
    }
    for panel, layout in zip(panels, (ONE, MANY), strict=True):
        for kind, (name, colour, style) in lines.items():
            points = [
                (size["rows"], recall[kind]["p50_ms"])
                for size in sizes
                if (recall := _recall(size, layout)) and recall[kind] and recall[kind]["calls"]
            ]
            if points:
                rows, times = zip(*points, strict=True)
                panel.plot(rows, times, marker="o", color=colour, linestyle=style, label=name)
        panel.set_title(layout, fontsize=10)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.minorticks_off()
        panel.grid(visible=True, alpha=0.3)
        panel.set_xlabel("memories")
    panels[0].set_ylabel("p50, milliseconds")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=max(1, len(labels)), fontsize=9)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
