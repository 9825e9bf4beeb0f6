"""The page in docs/, made from a result file and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.page import table
from benchmarks.recall_quality.studies import BY_WORDS_ALONE

PAGE = "recall-quality.md"
TITLES = {"locomo": "LoCoMo", "longmemeval": "LongMemEval"}
ALL = "all"

TARGETS = {
    ("locomo", "recall@5", ALL): 0.71,
    ("locomo", "recall@10", ALL): 0.80,
    ("locomo", "recall@20", ALL): 0.85,
    ("locomo", "recall@10", "multi-hop"): 0.47,
    ("longmemeval", "sessions recall_all@5", ALL): 0.88,
}
"""What recall without a model and without a network is to reach on the development files."""


def write_report(result: dict[str, Any], docs: Path) -> None:
    """Write the page of a result."""
    (docs / PAGE).write_text("\n".join(_page(result)) + "\n", "utf-8")


def _page(result: dict[str, Any]) -> Iterator[str]:
    run = result["run"]
    yield "# How well recall finds what answers"
    yield ""
    yield (
        "Made by `python -m benchmarks.recall_quality report` from benchmarks/recall_quality/result.json. "
        f"Measured {run['measured_at'][:10]} at commit {run['commit']}, without a model and "
        "without a network but where vectors are named. "
        "Repeat it with `make bench-recall-quality` where locomo_dev.json and "
        "longmemeval_s_dev.json.gz are in "
        "../shared/data, or any file in either format with"
    )
    yield ""
    yield from (
        "```console",
        "$ mnemoduck eval locomo FILE --compare",
        "$ mnemoduck eval longmemeval FILE",
        "```",
    )
    yield ""
    if parts := result.get("parts"):
        yield (
            "The parts ran side by side, as processes of their own: "
            + "; ".join(f"{name} at {part['commit']}, {part['measured_at']}" for name, part in parts.items())
            + ". The rules of recall are the same in all of these commits; they differ in the benchmark, and "
            "in the order in which vectors are stored, which changes no answer."
        )
        yield ""
    yield from _what_is_measured()
    yield from _results(result)
    yield from _ablations(result)
    yield from _with_vectors(result)
    yield from _sweep(result)
    yield from _leave_one_out(result)
    yield from _tried(result)
    yield from _peers(result)
    yield from _turns_of_longmemeval(result)


def _what_is_measured() -> Iterator[str]:
    yield "## What is measured"
    yield ""
    yield (
        "The file is imported into a home of its own and built, each question is asked with "
        "`Memory.recall` of the "
        "memories of its own conversation, and what comes back is compared with what the benchmark says "
        "answers it. Questions are not recorded as uses of memories."
    )
    yield ""
    yield (
        "- LoCoMo (Maharana et al. 2024): a list of samples with `sample_id`, `conversation` and "
        "`qa`. The fraction of "
        "a question's evidence turns among the first 5, 10 and 20, averaged over questions. Evidence "
        "is split "
        "on blanks, commas and semicolons; what is no turn of the conversation is dropped; questions left "
        "without any are not asked, and counted. A question is asked after the last turn."
    )
    yield (
        "- LongMemEval (Wu et al. 2024): a list of questions with `question_date`, "
        "`answer_session_ids` and the "
        "three lists of the haystack. recall_all@k: 1 if all sessions that answer are among the "
        "first k, and the "
        "same for turns with `has_answer`. Sessions come in the order of their first recalled turn, "
        "as in the "
        "official code. Abstention questions (`_abs` in the id) are left out of the averages, as "
        "there. The official "
        "retrievers search only what the user said; recall searches the turns of both. A question is "
        "asked at "
        "its date, or after its haystack where that ends later: the official measure searches all of it."
    )
    yield (
        "- Intervals are 95 % percentile bootstrap intervals over questions (2,000 resamples, a "
        "fixed seed); those of "
        "differences are paired. Questions of one conversation are not independent, so a "
        "conversation that is "
        "not in the file may be further off: see below how far conversations differ."
    )
    yield ""


def _results(result: dict[str, Any]) -> Iterator[str]:
    yield "## Results"
    yield ""
    for name, found in result["evaluations"].items():
        measures = list(found["measures"])
        yield f"### {TITLES[name]}"
        yield ""
        skipped = sum(found["skipped"].values())
        is_built = "" if found["is_built"] else " (not built: asked of what had just arrived)"
        yield (
            f"{found['memories']:,} memories{is_built}, {found['questions']:,} questions, {skipped} not asked"
            + (f" ({', '.join(found['skipped'])})" if skipped else "")
            + f". {' '.join(found['notes'])}".rstrip()
        )
        yield ""
        kinds = list(found["measures"][measures[0]])
        rows = []
        for kind in kinds:
            figures = [found["measures"][measure].get(kind) for measure in measures]
            count = max(figure["questions"] for figure in figures if figure)
            rows.append([kind, str(count), *map(_with_interval, figures)])
        yield from table(["questions", "", *measures], rows)
        yield ""
    yield from table(
        ["target", "wanted", "found"],
        [
            [
                f"{TITLES[name]} {measure}" + ("" if kind == ALL else f", {kind}"),
                f"{target:.2f}",
                f"{result['evaluations'][name]['measures'][measure][kind]['value']:.3f}",
            ]
            for (name, measure, kind), target in TARGETS.items()
        ],
    )
    yield ""


def _ablations(result: dict[str, Any]) -> Iterator[str]:
    yield "## Plain BM25, and each part switched off"
    yield ""
    yield (
        "Through the API, of the same homes, as `--compare` does it. Plain BM25 is k1 = 1.2, b = 0.75 over "
        "the same terms (stems, irregular forms, no stop words) with names searched for and nothing else. "
        "What changes, in brackets the interval of the difference, paired; a plus means that recall as it "
        "is does worse."
    )
    yield ""
    for name, found in result["evaluations"].items():
        yield f"{TITLES[name]}:"
        yield ""
        yield from _compared(found, "as it is")
        yield ""


def _compared(found: dict[str, Any], title: str) -> Iterator[str]:
    """Yield a table of what an evaluation found, and of how its other ways differ."""
    measures = list(found["measures"])
    return table(
        ["recall", *measures],
        [
            [title, *(f"{found['measures'][measure][ALL]['value']:.3f}" for measure in measures)],
            *(
                [way["name"], *(_with_interval(way["differences"][measure], "+") for measure in measures)]
                for way in found["variants"]
            ),
        ],
    )


def _with_vectors(result: dict[str, Any]) -> Iterator[str]:
    yield "## With vectors"
    yield ""
    if not result["with_vectors"]:
        yield "Not measured: the extra `minilm` was not installed."
        yield ""
        return
    yield (
        "The same homes, built once more with `--embeddings minilm` ([the extra](embeddings.md)), and asked "
        "the same: by words and by meaning ([how](vectors.md)). In brackets, as above, the interval; of the "
        "difference, paired."
    )
    yield ""
    for name, found in result["with_vectors"].items():
        measures = list(found["measures"])
        without = result["evaluations"][name]["measures"]
        yield f"{TITLES[name]}:"
        yield ""
        kinds = [kind for kind in (ALL, "multi-hop") if kind in found["measures"][measures[0]]]
        yield from table(
            ["questions", "recall", *measures],
            [
                *(
                    [kind, way, *(_with_interval(figures[measure][kind]) for measure in measures)]
                    for kind in kinds
                    for way, figures in (
                        ("without vectors", without),
                        ("with MiniLM's", found["measures"]),
                    )
                ),
                [
                    ALL,
                    "what they change",
                    *(
                        _with_interval(_negative(found["variants"][0]["differences"][measure]), "+")
                        for measure in measures
                    ),
                ],
            ],
        )
        yield ""
    better, worse = (
        [
            f"{TITLES[name]} {measure}"
            for name, found in result["with_vectors"].items()
            for measure, figures in found["measures"].items()
            if sign * (figures[ALL]["value"] - result["evaluations"][name]["measures"][measure][ALL]["value"])
            > 0
        ]
        for sign in (1, -1)
    )
    yield (
        f"Better with vectors: {', '.join(better) or 'nothing'}. Worse: {', '.join(worse) or 'nothing'}. "
        + (
            "So MiniLM is off by default: `embedding_provider: auto` never takes it. Who wants what is "
            "better with it sets MNEMODUCK_EMBEDDINGS=minilm."
            if worse
            else "MiniLM is off by default all the same, since the extra is 1.7 GB: `embedding_provider: "
            "auto` never takes it, MNEMODUCK_EMBEDDINGS=minilm does."
        )
    )
    yield ""


def _negative(figure: dict[str, Any]) -> dict[str, Any]:
    """Return the same difference seen from the other side."""
    if figure["value"] is None:
        return figure
    return {**figure, "value": -figure["value"], "low": -figure["high"], "high": -figure["low"]}


def _sweep(result: dict[str, Any]) -> Iterator[str]:
    yield "## What each weight is worth"
    yield ""
    yield (
        "From here on it is the formula of recall by words in numpy (benchmarks/recall_quality/formula.py), "
        "fast enough to try a weight. It has no time boost and no prior; what the API gives without them, "
        "and what it gives: "
        + "; ".join(
            f"{TITLES[name]} {_listed(_by_words_alone(found))} and {_listed(result['formula'][name])}"
            for name, found in result["evaluations"].items()
        )
        + ". Nor has it phrases. What stands in quotation marks must be in a memory word for word, and who "
        "asks may quote a title otherwise than it was said; of "
        + ", ".join(f"{TITLES[name]}'s questions {count}" for name, count in result["quoted"].items())
        + " have some. There recall found less than the formula, and nowhere else; this was measured before "
        "recall answered with the words of a phrase that nobody said."
    )
    yield ""
    yield (
        "Each weight moved alone. Most moves change less than the interval is wide: the weights lie "
        "on a plateau, and are round "
        "numbers of it. LongMemEval's 30 questions move in steps of 0.033."
    )
    yield ""
    yield from table(
        ["weight", "value", *_heads(result)],
        [
            [
                row["weight"] or "as it is",
                ""
                if row["weight"] is None
                else f"{row['value']:g} instead of {result['weights'][row['weight']]:g}",
                *_means(result, row["means"]),
            ]
            for row in result["sweep"]
        ],
    )
    yield ""


def _by_words_alone(found: dict[str, Any]) -> list[float]:
    """Return what the API found without the time boost and the prior."""
    way = next(way for way in found["variants"] if way["name"] == BY_WORDS_ALONE.name)
    return [figures[ALL]["value"] for figures in way["measures"].values()]


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _leave_one_out(result: dict[str, Any]) -> Iterator[str]:
    rows = result["leave_one_out"]
    measures = list(result["evaluations"]["locomo"]["measures"])
    yield "## One conversation left out"
    yield ""
    yield (
        "For each conversation of LoCoMo, the best of the moves above was chosen on the other four "
        "(by the average of "
        "the three measures) and judged on this one. If choosing did better on what it has not seen, "
        "the weights as they "
        "are would be worth changing."
    )
    yield ""
    yield from table(
        ["left out", "questions", "chosen on the others", *measures, *(f"{m}, chosen" for m in measures)],
        [
            [
                row["conversation"],
                str(row["questions"]),
                row["chosen"],
                *(f"{value:.3f}" for value in row["as_it_is"]),
                *(f"{value:.3f}" for value in row["with_the_choice"]),
            ]
            for row in rows
        ],
    )
    yield ""
    total = sum(row["questions"] for row in rows)
    means = {
        key: [
            sum(row[key][place] * row["questions"] for row in rows) / total for place in range(len(measures))
        ]
        for key in ("as_it_is", "with_the_choice")
    }
    yield (
        "Over all questions: as it is "
        + ", ".join(f"{value:.3f}" for value in means["as_it_is"])
        + "; with what the other four would choose "
        + ", ".join(f"{value:.3f}" for value in means["with_the_choice"])
        + "."
    )
    yield ""


def _tried(result: dict[str, Any]) -> Iterator[str]:
    yield "## What did not help enough"
    yield ""
    yield (
        "In the same formula. Pseudo-relevance feedback adds words that the best answers share (as "
        "RM3, Lavrenko & Croft "
        "2001); the concept graph adds what spreading activation reaches from the words of the question; "
        "shorter stems bring more forms of a word together; a turn that tells something before it "
        "asks could lose less. None of them is part of recall."
    )
    yield ""
    yield from table(
        ["tried", *_heads(result)],
        [[row["name"], *_means(result, row["means"])] for row in result["tried"]],
    )
    yield ""


def _peers(result: dict[str, Any]) -> Iterator[str]:
    yield "## Beside others"
    yield ""
    yield (
        "The same turns and questions, each peer as its documentation begins, searching only the question's "
        "own conversation; in brackets the interval. Chroma and LanceDB search vectors of all-MiniLM-L6-v2, "
        "of the same texts, which are those that mnemoduck has where it says so. mnemoduck is as in the "
        "results above."
    )
    yield ""
    yield from table(
        ["peer", "version", "settings"],
        [[row["peer"], row["version"], row["settings"]] for row in result["peers"]],
    )
    yield ""
    better, parts = [], []
    for name, found in result["evaluations"].items():
        measures = list(found["measures"])
        own = {measure: found["measures"][measure][ALL] for measure in measures}
        rows = [["mnemoduck", *(_with_interval(own[measure]) for measure in measures)]]
        if name in result["with_vectors"]:
            vectors = result["with_vectors"][name]["measures"]
            rows.append(
                ["mnemoduck, with MiniLM", *(_with_interval(vectors[measure][ALL]) for measure in measures)]
            )
        for row in result["peers"]:
            figures = row["measures"].get(name, {})
            rows.append([row["peer"], *(_with_interval(figures.get(measure)) for measure in measures)])
            asked = max((figure["questions"] for figure in figures.values()), default=0)
            if asked != found["questions"]:
                parts.append(f"{row['peer']} was asked {asked} of {found['questions']} of {TITLES[name]}")
                continue
            better += [
                f"{row['peer']} on {TITLES[name]} {measure} "
                f"({figures[measure]['value']:.3f} against {own[measure]['value']:.3f})"
                for measure in measures
                if figures[measure]["value"] > own[measure]["value"]
            ]
        yield f"{TITLES[name]}:"
        yield ""
        yield from table(["", *measures], rows)
        yield ""
    yield (
        f"Better than mnemoduck without vectors: {'; '.join(better)}."
        if better
        else "None of them is better on any measure."
    )
    if parts:
        yield ""
        yield f"{'; '.join(parts)}: not comparable with the other rows."


def _turns_of_longmemeval(result: dict[str, Any]) -> Iterator[str]:
    found = result["turns_first"]
    share = {name: f"{100 * count / found['turns']:.0f} %" for name, count in found.items()}
    yield ""
    yield "## Why turns of LongMemEval come late"
    yield ""
    yield (
        f"Of the first ten turns by words alone, {share['evidence']} are evidence, and "
        f"{share['same_session']} are others of the sessions that answer ({share['same_session_assistant']} "
        "replies of the assistant): recall finds the sessions, and with the answer what was said around it. "
        "By sessions that is right; by turns a question counts only if each turn that answers is among "
        "the ten, often turns of several sessions. So what neighbours and the session add, which LoCoMo's "
        "short turns need, costs places here: what each weight is worth stands above."
    )
    yield ""
    yield (
        f"And {found['ends_with_question']} of the {found['to_be_found']} turns of evidence end with a "
        'question ("I just got a new …, can you recommend …?") and lose by `recall_question_weight`, though '
        "most of their words tell something. To take it off only for the share of the words that ask is "
        "among what was tried: some more questions of LongMemEval, on LoCoMo no more than chance, for one "
        "more column of the index. With 30 questions the intervals are too wide to choose by them, so it is "
        "not part of recall."
    )


def _heads(result: dict[str, Any]) -> list[str]:
    return [
        f"{TITLES[name]} {measure}"
        for name, found in result["evaluations"].items()
        for measure in found["measures"]
    ]


def _means(result: dict[str, Any], means: dict[str, list[float]]) -> list[str]:
    return [
        f"{means[name][place]:.3f}" if name in means else "-"
        for name, found in result["evaluations"].items()
        for place in range(len(found["measures"]))
    ]


def _with_interval(figure: dict[str, Any] | None, sign: str = "") -> str:
    if figure is None or figure["value"] is None:
        return "-"
    return f"{figure['value']:{sign}.3f} [{figure['low']:{sign}.3f}, {figure['high']:{sign}.3f}]"
