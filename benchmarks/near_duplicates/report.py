"""The page in docs/, made from a result file and from nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PAGE = "near-duplicates.md"


def write_report(result: dict[str, Any], docs: Path) -> None:
    """Write the page of a result."""
    (docs / PAGE).write_text("\n".join(_page(result)) + "\n", "utf-8")


def _page(result: dict[str, Any]) -> Iterator[str]:
    run, values = result["run"], result["parameters"]
    yield "# Near-duplicates, measured"
    yield ""
    yield (
        "Made by `python -m benchmarks.near_duplicates report` from benchmarks/near_duplicates/result.json. "
        f"Measured {run['measured_at'][:10]} at commit {run['commit']} on {run['processors']} processors "
        f"({run['architecture']}, {run['memory_gb']} GB), Python {run['python']}, DuckDB "
        f"{run['packages']['duckdb']}. Repeat it with `python -m benchmarks.near_duplicates run`, and with "
        "`--data FOLDER` where locomo_dev.json and longmemeval_s_dev.json.gz are. What is merged and why is "
        "in [decision 7](decisions/0007-near-duplicates.md)."
    )
    yield ""
    yield (
        f"Parameters: similarity of at least {values['near_duplicate_similarity']}, additions of at most "
        f"{values['near_duplicate_additions']:.0%}, {values['minhash_bands']} bands of "
        f"{values['minhash_rows']} rows."
    )
    yield ""
    yield "## Against all pairs"
    yield ""
    yield (
        "All pairs of texts of one speaker with the same guard were compared exactly. *Similar* pairs have a "
        "Jaccard similarity of at least the threshold; *repetitions* are those of them that the whole rule "
        "merges. A text is merged into one text only, so what counts is how many of the texts that repeat an "
        "earlier one were merged, and which pairs came to be in one memory, against the groups that all "
        "repetitions connect."
    )
    yield ""
    yield from _table(
        ["", *result["all_pairs"]],
        [[name, *map(value, result["all_pairs"].values())] for name, value in _AGAINST_ALL_PAIRS],
    )
    yield ""
    yield "## Against labels"
    yield ""
    labels = result["labels"]
    yield (
        f"{labels['sayings']:,} made sayings (benchmarks/near_duplicates/stream.py), each first said, then "
        "twice with an edit that keeps its meaning and twice with one that changes it. By pair: precision "
        f"{_share(labels['pairs_in_both'], labels['pairs_merged'])}, recall "
        f"{_share(labels['pairs_in_both'], labels['pairs_that_say_the_same'])}. The recall is that of a "
        "cautious rule: a repetition that is missed costs a second memory, a wrong merge costs what was said."
    )
    yield ""
    yield from _table(
        ["edit", "says", "merged into the first"],
        [
            [
                name,
                "the same" if found["keeps_meaning"] else "something else",
                _share(found["merged"], found["said"]),
            ]
            for name, found in labels["edits"].items()
        ],
    )
    yield ""
    yield "## Drift"
    yield ""
    yield (
        "A text is merged into one that may itself have been merged into another. Merged texts, those of "
        "them that hang on another text than the first of their memory, those that are less similar to that "
        "first than the threshold (none can be), and texts that began a memory of their own because the "
        "chain could have led too far:"
    )
    yield ""
    yield from _table(
        ["", "merged", "not into the first", "below the threshold from the first", "cut off"],
        [
            [
                name,
                f"{found['merged']:,}",
                f"{found['not_into_the_first']:,}",
                f"{found['below_the_threshold_from_the_first']:,}",
                f"{found['not_merged_because_of_drift']:,}",
            ]
            for name, found in result["drift"].items()
        ],
    )
    yield ""
    yield "## Bands and rows"
    yield ""
    yield (
        "On another generated set. A bucket of the words that matter is always there beside the bands; bands "
        "are for misspellings and additions. Comparisons are exact comparisons per text."
    )
    yield ""
    yield from _table(
        [
            "bands",
            "rows",
            "similar pairs that share a bucket",
            "repeating texts merged",
            "comparisons per text",
        ],
        [
            [
                str(found["bands"]),
                str(found["rows"]),
                _share(found["similar_pairs_that_share_a_bucket"], found["similar_pairs"]),
                _share(found["of_which_merged"], found["texts_that_repeat_an_earlier_one"]),
                str(found["comparisons_per_text"]),
            ]
            for found in result["settings"]
        ],
    )
    yield ""
    yield "## Cost"
    yield ""
    yield (
        "Seconds of both models in an in-memory DuckDB with two threads, and bytes of their tables in a "
        "file for each text (int_text_buckets + int_texts). The machine was shared while this was measured: "
        "processor seconds, of both threads together, are what to compare. One saying in ten "
        "repeats an earlier one."
    )
    yield ""
    yield from _table(
        [
            "sayings",
            "full",
            "processor",
            "µs each",
            "1 % new",
            "processor",
            "of full",
            "nothing new",
            "bytes",
        ],
        [
            [
                f"{found['sayings']:,}",
                f"{found['full_seconds']['both']:.2f}",
                f"{found['full_seconds']['processor']:.2f}",
                f"{found['full_seconds']['processor'] / found['sayings'] * 1e6:.0f}",
                f"{found['one_percent_new_seconds']['both']:.2f}",
                f"{found['one_percent_new_seconds']['processor']:.2f}",
                f"{found['one_percent_new_seconds']['processor'] / found['full_seconds']['processor']:.1%}",
                f"{found['nothing_new_seconds']['both']:.2f}",
                " + ".join(str(size) for size in found["bytes_per_text"].values()),
            ]
            for found in result["costs"]
        ],
    )
    yield ""
    template = result["template"]
    yield (
        f"{template['texts']:,} texts of one user from two templates, each with one word of its own: "
        f"{template['full_seconds']['both']:.2f} s, {template['merged']:,} merged. A bucket that all of them "
        "share costs one comparison for each, not one for each pair."
    )


_AGAINST_ALL_PAIRS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("texts", lambda found: f"{found['texts']:,}"),
    ("similar pairs", lambda found: f"{found['similar_pairs']:,}"),
    (
        "… that share a bucket (recall of the bands)",
        lambda found: _share(found["similar_pairs_that_share_a_bucket"], found["similar_pairs"]),
    ),
    ("pairs that are repetitions", lambda found: f"{found['repetitions']:,}"),
    (
        "texts that repeat an earlier one",
        lambda found: f"{found['texts_that_repeat_an_earlier_one']:,}",
    ),
    (
        "… that were merged (recall)",
        lambda found: _share(found["of_which_merged"], found["texts_that_repeat_an_earlier_one"]),
    ),
    (
        "merged texts that repeat what they were merged into (precision)",
        lambda found: _share(found["merged_that_are_repetitions"], found["merged"]),
    ),
    (
        "pairs in one memory, recall by cluster",
        lambda found: _share(found["pairs_in_both"], found["pairs_in_one_memory_by_all_pairs"]),
    ),
    (
        "pairs in one memory, precision by cluster",
        lambda found: _share(found["pairs_in_both"], found["pairs_in_one_memory"]),
    ),
)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%} ({part:,} of {whole:,})" if whole else "none to find"


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
