"""The page and the plot in docs/, made from a result file and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.page import plt, table
from benchmarks.patterns.heldout import PRIMARY, SCORES
from benchmarks.patterns.judgements import JUDGEMENTS

PAGE, PLOT = "patterns-evaluation.md", "patterns-evaluation.svg"
KINDS = {
    "tool_sequence": "tool sequences",
    "decision": "decisions",
    "error_recovery": "recoveries from errors",
    "context": "contexts",
}


def write_report(result: dict[str, Any], docs: Path) -> None:
    """Write the page and the plot of a result."""
    (docs / PAGE).write_text("\n".join(_page(result)) + "\n", "utf-8")
    _plot(result["held_out"], docs / PLOT)


def _page(result: dict[str, Any]) -> Iterator[str]:
    run, held_out = result["run"], result["held_out"]
    yield "# What patterns of episodes are worth"
    yield ""
    yield (
        "Made by `python -m benchmarks.patterns report` from benchmarks/patterns/result.json, measured "
        f"{run['measured_at'][:10]} at commit {run['commit']} with the SQL of this project and its default "
        "parameters. Repeat it with `python -m benchmarks.patterns run` where agent_episodes_dev.jsonl.gz "
        "(tau2-bench, MIT) is in ../shared/data: a few minutes, no clock and no chance in it but a seeded "
        f"resampling. Confidence is as of {result['moment'][:10]}, a day after the last episode ended."
    )
    yield ""
    yield from _in_short(result)
    yield from _counts(result)
    yield from _telling(result)
    yield from _held_out(held_out)
    yield from _calibration(held_out)
    yield from _limits()


def _in_short(result: dict[str, Any]) -> Iterator[str]:
    held_out = result["held_out"]
    areas = {name: part["scores"][PRIMARY]["pooled"] for name, part in held_out["variants"].items()}
    early = held_out["variants"]["first half"]["scores"][PRIMARY]["same task"]
    verdicts = [JUDGEMENTS[_key(one)][0] for one in result["telling"]]
    kept = sum(row["kept"] for row in result["counts"])
    telling = sum(row["actionable"] + row["warnings"] for row in result["counts"])
    yield (
        f"In short: {held_out['episodes']} episodes give {kept:,} patterns, of which {telling} tell "
        "success from failure by more than chance. Of the ten most telling ones "
        f"{verdicts.count('lesson')} are lessons, {verdicts.count('trivial')} say in other words how the "
        f"episode ended, and {verdicts.count('task mix')} which tasks are hard. On tasks that were left "
        "out confidence is about what it says. The patterns of an episode order success before failure "
        f"with an area of {_area(areas['whole'])}, where the base rate has 0.5; without those that tell "
        f"the end, {_area(areas['without the end'])}. From the first half of the calls, which is when an "
        f"agent could still use it, it is {_area(areas['first half'])}, and of two attempts at the same "
        f"task {_area(early)}: what is known by then is which tasks are hard, not which attempt will fail."
    )
    yield ""


def _counts(result: dict[str, Any]) -> Iterator[str]:
    parameters = result["parameters"]
    yield "## How many"
    yield ""
    yield from table(
        ["domain", "episodes", "tasks", "succeeded", "calls", "of which failed"],
        [
            [
                row["domain"],
                f"{row['episodes']:,}",
                f"{row['tasks']:,}",
                f"{row['successes'] / row['episodes']:.0%}",
                f"{row['calls']:,}",
                f"{row['failed_calls']:,}",
            ]
            for row in result["domains"]
        ],
    )
    yield ""
    yield (
        f"A pattern is kept from {parameters['pattern_min_support']} episodes on, and a sequence if no "
        "longer one has the same support. It is actionable if the lower bound of its confidence is above "
        "the base rate of what it is compared with, a warning if the upper bound is below, and both only "
        f"at a false discovery rate of {parameters['pattern_false_discovery_rate']:g} within its domain."
    )
    yield ""
    yield from table(
        ["domain", "kind", "seen at all", "kept", "actionable", "warnings"],
        [
            [
                row["domain"],
                KINDS[row["kind"]],
                *(f"{row[name]:,}" for name in ("found", "kept", "actionable", "warnings")),
            ]
            for row in result["counts"]
        ]
        + [
            [
                "**all**",
                "",
                *(
                    f"**{sum(row[name] for row in result['counts']):,}**"
                    for name in ("found", "kept", "actionable", "warnings")
                ),
            ]
        ],
    )
    yield ""
    failed_calls = sum(row["failed_calls"] for row in result["domains"])
    yield (
        f"Calls hardly ever fail in these data ({failed_calls} of "
        f"{sum(row['calls'] for row in result['domains']):,}), so no error with what recovered from it was "
        "seen often enough to be kept: nothing here says what recoveries are worth."
    )
    for row in result["domains"]:
        if not any(
            one["actionable"] + one["warnings"] for one in result["counts"] if one["domain"] == row["domain"]
        ):
            yield (
                f"In {row['domain']} no pattern tells: {row['episodes'] - row['successes']} failures among "
                f"{row['tasks']} tasks are too few."
            )
    yield ""


def _telling(result: dict[str, Any]) -> Iterator[str]:
    yield "## The ten most telling, read"
    yield ""
    yield (
        "Those with the smallest p-value (Fisher's exact test), passing over what shares half of its "
        "episodes with one above it. Each was read in its episodes."
    )
    yield ""
    yield from table(
        ["", "domain", "pattern", "succeeded", "tasks", "confidence (95 %)", "base rate", "q", "judged"],
        [
            [
                str(place),
                one["domain"],
                f"{_kind(one)}: `{one['pattern']}`",
                f"{one['success_count']} of {one['support']}",
                str(one["task_count"]),
                f"{one['confidence']:.2f} ({one['confidence_low']:.2f} to {one['confidence_high']:.2f})",
                f"{one['base_rate']:.2f}",
                f"{one['q_value']:.1g}",
                f"**{JUDGEMENTS[_key(one)][0]}**",
            ]
            for place, one in enumerate(result["telling"], 1)
        ],
    )
    yield ""
    for place, one in enumerate(result["telling"], 1):
        yield f"{place}. {JUDGEMENTS[_key(one)][1]}"
    yield ""
    yield (
        "A test cannot tell these apart: an episode that is about to fail is given away, so what stands "
        "before that is telling. Take a pattern for advice only if its steps are not how such episodes "
        "end, and look at the number of its tasks."
    )
    yield ""


def _held_out(held_out: dict[str, Any]) -> Iterator[str]:
    yield "## On tasks that were left out"
    yield ""
    yield (
        f"The tasks of each domain are dealt into {held_out['parts']} parts, {held_out['splits']} times "
        "over; patterns are learned from four parts and judge the episodes of the fifth. The score of an "
        "episode is the mean of its patterns' log-odds lifts, logit(confidence) - logit(base rate); this "
        "was chosen before any result was seen. The area under the ROC curve is the share of pairs, one "
        "success and one failure of the same domain and part, in which the success scores higher; the "
        "base rate gives all of a domain the same, which is 0.5. Intervals are 95 % of "
        f"{held_out['resamples']:,} resamples of tasks (with all their episodes)."
    )
    yield ""
    domains = [name for name in held_out["fewer calls"] if name not in ("pooled", "same task")]
    rows = [
        [
            f"patterns, {name}",
            *(_area(part["scores"][PRIMARY][column]) for column in [*domains, "pooled", "same task"]),
        ]
        for name, part in held_out["variants"].items()
    ]
    rows.append(
        [
            "fewer calls",
            *(_area(held_out["fewer calls"][column]) for column in [*domains, "pooled", "same task"]),
        ]
    )
    rows.append(["base rate", *["0.50"] * (len(domains) + 2)])
    yield from table(["score", *domains, "all, within domains", "same task"], rows)
    yield ""
    yield (
        "*Same task* compares only attempts at one task, of which one succeeded and one did not "
        f"({held_out['fewer calls']['same task']['pairs']:.0f} pairs): there patterns cannot do it by "
        "telling hard tasks from easy ones. *Whole* takes every pattern of the episode: an agent that "
        "gives the customer to a person, or stops after a test that came out well, has all but told the "
        "outcome, so this figure says little about the use of patterns. *Without the end* leaves out what "
        "the episode ended with and every pattern with transfer_to_human_agents. *First half* takes only "
        "what the first half of the calls shows, and of the circumstances what is known at the start."
    )
    yield ""
    yield "Other ways to make one number of them, looked at afterwards (all, within domains):"
    yield ""
    yield from table(
        ["score", *held_out["variants"]],
        [
            [words, *(_area(part["scores"][score]["pooled"]) for part in held_out["variants"].values())]
            for score, words in SCORES.items()
        ],
    )
    yield ""


def _calibration(held_out: dict[str, Any]) -> Iterator[str]:
    yield "## Is confidence what it says?"
    yield ""
    yield f"![Expected and observed success on tasks that were left out]({PLOT})"
    yield ""
    yield (
        "Left, each pattern with each episode of a task that was left out and has it: how often such "
        "episodes succeeded, by the pattern's confidence. Many patterns of one episode are nearly the "
        "same, so there is far less evidence than pairs. Right, the episodes in fifths by what their "
        "patterns expect of them, the base rate of the domain moved by the score. The Brier score is the "
        "mean squared error; less is better."
    )
    yield ""
    yield from table(
        ["confidence", "pairs a split", "mean confidence", "base rate", "observed (whole)"],
        [
            [
                f"{row['from']:.1f} to {row['to']:.1f}",
                f"{row['pairs']:,.0f}",
                f"{row['confidence']:.2f}",
                f"{row['base_rate']:.2f}",
                f"{row['observed']:.2f}",
            ]
            for row in held_out["variants"]["whole"]["patterns"]["bins"]
        ],
    )
    yield ""
    yield from table(
        ["", "patterns: Brier", "base rate", "episodes: Brier", "base rate", "better by (95 %)"],
        [
            [
                name,
                f"{part['patterns']['brier']:.3f}",
                f"{part['patterns']['base_brier']:.3f}",
                f"{part['episodes']['brier']:.3f}",
                f"{part['episodes']['base_brier']:.3f}",
                f"{part['episodes']['gain']:.4f} ({part['episodes']['gain_low']:.4f} to "
                f"{part['episodes']['gain_high']:.4f})",
            ]
            for name, part in held_out["variants"].items()
        ],
    )
    yield ""


def _limits() -> Iterator[str]:
    yield "## What this does not show"
    yield ""
    yield (
        "- Success goes with a pattern; nobody has tried whether following one helps. For that an agent "
        "would have to be given suggestions, with and without, on the same tasks."
    )
    yield (
        "- Retail has one agent and one attempt at a task, telecom two agents of one model: what tells "
        "agents apart and what tells tasks apart cannot always be separated. Compare with the same task's "
        "other attempts where there are any, as [reflections](reflections.md) do."
    )
    yield (
        "- Left-out tasks are of the same domain and written from the same templates. On another "
        "customer's work it can only be worse."
    )


def _plot(held_out: dict[str, Any], path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    for axes in (left, right):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="as expected")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_ylabel("observed success, tasks left out")
    for (name, part), colour in zip(
        held_out["variants"].items(), ("tab:blue", "tab:orange", "tab:green"), strict=True
    ):
        bins = part["patterns"]["bins"]
        sizes = [max(8.0, 160 * row["pairs"] / part["patterns"]["pairs"]) for row in bins]
        confidence, observed = [row["confidence"] for row in bins], [row["observed"] for row in bins]
        left.plot(confidence, observed, color=colour, linewidth=1, alpha=0.6)
        left.scatter(confidence, observed, s=sizes, color=colour, label=name)
        fifths = part["episodes"]["bins"]
        expected = [row["expected"] for row in fifths]
        errors = [
            [max(0.0, row["observed"] - row["low"]) for row in fifths],
            [max(0.0, row["high"] - row["observed"]) for row in fifths],
        ]
        right.errorbar(
            expected,
            [row["observed"] for row in fifths],
            yerr=errors,
            color=colour,
            marker="o",
            markersize=4,
            linewidth=1,
            elinewidth=0.6,
            label=name,
        )
    left.set_xlabel("confidence of the pattern")
    left.set_title("Patterns")
    right.set_xlabel("expected from an episode's patterns")
    right.set_title("Episodes, in fifths")
    left.legend(loc="upper left", fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _key(one: dict[str, Any]) -> tuple[str, str, str]:
    return one["domain"], one["kind"], one["pattern"]


def _kind(one: dict[str, Any]) -> str:
    kind: str = one["kind"]
    return {"tool_sequence": "sequence", "error_recovery": "recovery"}.get(kind, kind)


def _area(figures: dict[str, float]) -> str:
    return f"{figures['area']:.2f} ({figures['low']:.2f} to {figures['high']:.2f})"
