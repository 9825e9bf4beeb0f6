"""The page and the plot in docs/, made from a result file and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.science.literature import CEPEDA_OPTIMUM, EBBINGHAUS, MURDOCK

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "mnemoduck"  # the same result gives the same file
mpl.rcParams["svg.fonttype"] = "none"
import matplotlib.pyplot as plt  # noqa: E402  (after the backend was chosen)

PAGE, PLOT = "science.md", "science.svg"


def write_report(result: dict[str, Any], docs: Path) -> None:
    """Write the page and the plot of a result."""
    (docs / PAGE).write_text("\n".join(_page(result)) + "\n", "utf-8")
    _plot(result, docs / PLOT)


def _page(result: dict[str, Any]) -> Iterator[str]:
    yield "# Memory science, checked against the literature"
    yield ""
    yield (
        "Each mechanism of memory is one macro in macros/memory. Here each of them is run as it is, through "
        "the experiments that its source is known for, and its figures stand beside what people did. Where "
        "they differ the page says so. Made by `python -m benchmarks.science report` from "
        "benchmarks/science/result.json, and that by `python -m benchmarks.science run` "
        "(`make bench-science` does both): a few seconds, no clock and no chance in it. "
        "tests/unit/test_science.py holds the macros to these findings, with "
        "tolerances, and result and page to each other."
    )
    yield ""
    yield f"![Six studies]({PLOT})"
    yield ""
    yield "## In one table"
    yield ""
    yield from _table(["finding", "source", "does it hold here?"], _verdicts(result))
    yield ""
    for section in (
        _activation,
        _retention,
        _savings,
        _relearning,
        _spacing,
        _serial_position,
        _capacity,
        _tail,
        _time,
        _others,
        _parameters,
        _references,
    ):
        yield from section(result)
        yield ""


def _verdicts(result: dict[str, Any]) -> list[list[str]]:
    forgetting, savings, serial = result["forgetting"], result["ebbinghaus"], result["serial_position"]
    population = forgetting["populations"][1]
    told = _condition(serial, 5.0, rehearsed=True, filler="none")
    counted = _condition(serial, 5.0, rehearsed=True, filler="spoken")
    return [
        [
            "The odds of recall are a power function of time",
            "Anderson & Schooler 1991",
            f"yes: slope {forgetting['log_odds']['slope']:.2f} = -d/s, r² {forgetting['log_odds']['r2']:.3f}",
        ],
        [
            "Forgetting is nearer to a power function than to an exponential",
            "Wixted & Ebbesen 1991",
            "activation: yes. Retention: no for one memory, which is exponential; yes for a population "
            f"(r² {population['as_power']['r2']:.2f} against {population['as_exponential']['r2']:.2f})",
        ],
        [
            "Savings fall from 58 % after 20 minutes to 21 % after 31 days",
            "Ebbinghaus 1885",
            f"not with our defaults (RMSE {savings['curves']['retention']['rmse']:.2f} and "
            f"{savings['curves']['retrieval_probability']['rmse']:.2f}); retrieval probability can be fitted "
            f"to it (RMSE {savings['curves']['retrieval_probability_fitted']['rmse']:.3f}), retention cannot "
            f"({savings['curves']['retention_fitted']['rmse']:.2f})",
        ],
        [
            "What was forgotten is relearned faster",
            "Ebbinghaus 1885",
            f"yes, but too little: {result['relearning']['savings'][0]:.0%} after 20 minutes, "
            f"{result['relearning']['savings'][3]:.0%} after a day",
        ],
        [
            "Spaced repetitions last longer than massed ones",
            "Cepeda et al. 2006",
            "retention: yes. Strength (activation): no, slightly the reverse",
        ],
        [
            "There is a best gap, and it grows with the interval",
            "Cepeda et al. 2008",
            "no: we do not have it",
        ],
        [
            "The last words of a list are remembered",
            "Murdock 1962",
            f"yes: {_ends(_condition(serial, 2.0), 'last')}",
        ],
        [
            "The first words of a list are remembered, because they are rehearsed",
            "Rundus 1971",
            f"yes, with rehearsal {_ends(told, 'first')}; without it "
            f"{_ends(_condition(serial, 5.0), 'first')}",
        ],
        [
            "Half a minute of counting takes the last words away, not the first",
            "Glanzer & Cunitz 1966",
            f"yes, if the counting is said: the last {counted['last']:.0%}, the first "
            f"{counted['first']:.0%}, the middle {counted['middle']:.0%}. Silence alone takes nothing away",
        ],
        [
            "About seven things are held, more if they form chunks",
            "Miller 1956",
            f"yes: 5 to {result['capacity']['most']} in {result['capacity']['minds']} minds; "
            "Cowan's 4 (2001) is below our minimum",
        ],
    ]


def _activation(result: dict[str, Any]) -> Iterator[str]:
    found = result["forgetting"]
    yield "## Activation, and the probability of retrieval"
    yield ""
    yield from _code(
        "activation B = ln(sum((t - t_j)^-d)),  d = activation_decay", "p = 1 / (1 + e^((tau - B) / s))"
    )
    yield ""
    yield (
        "*Source.* The odds that something is needed again fall as a power of the time since its last "
        "use, in headlines, in what is said to children and in mail (Anderson & Schooler 1991); ACT-R "
        "makes it the base level of a memory, with d = 0.5 and a logistic probability of retrieval "
        "(Anderson & Lebiere 1998)."
    )
    yield ""
    yield (
        f"*Ours.* Of one use, activation falls with slope {found['activation_slope']:.3f} on ln t; of ten "
        f"uses within a day, from 100 days on, with {found['activation_slope_of_ten_uses']:.3f}. The log "
        f"odds of retrieval fall with slope {found['log_odds']['slope']:.3f} = -d/s (r² "
        f"{found['log_odds']['r2']:.4f}, 10 seconds to a year)."
    )
    yield ""
    yield (
        "*Deviation.* It is the odds that are a power function, not the probability: that falls slowly "
        f"at first, is 0.5 at {found['threshold_age_days']:.0f} days (one use), and from ten "
        f"times that age on is itself a power function (slope {found['late_probability_slope']:.2f}). Over "
        f"the whole range a power function explains {found['probability_as_power']['r2']:.0%} of the "
        "variance of ln p. With s = 0.4 the odds fall more steeply than those of Ebbinghaus's savings do "
        f"(slope {result['ebbinghaus']['log_odds_slope']:.2f}, below). Ranking takes the order only, and "
        "that is the power law's."
    )


def _retention(result: dict[str, Any]) -> Iterator[str]:
    found = result["forgetting"]
    yield "## Retention and stability"
    yield ""
    yield from _code(
        "R = exp(-t / S)",
        "S = initial_stability_days * stability_growth ^ (uses at least spacing_hours after the one before)",
    )
    yield ""
    yield (
        "*Source.* Two components of long-term memory, retrievability and stability (Wozniak, "
        "Gorzelanczyk & Murakowski 1995). That one memory is lost exponentially is their model, not "
        "Ebbinghaus's: he fitted a logarithmic function, and averaged data are nearer to a power function "
        "(Wixted & Ebbesen 1991). Arithmetic means of exponentials can look like a power function though "
        "none of them is one, geometric means do not (Anderson & Tweney 1997); single subjects follow "
        "power functions all the same (Wixted & Ebbesen 1997)."
    )
    yield ""
    yield (
        f"*Ours.* One memory is exponential (r² {found['retention_as_exponential']['r2']:.4f}; as a power "
        f"function {found['retention_as_power']['r2']:.2f}). A population of which a share q is reinforced "
        "once more, of these q again, and so on, has stabilities of 7, 14, 28… days, and its mean is a power "
        "function with exponent log q / log(stability_growth), with a ripple:"
    )
    yield ""
    yield from _table(
        [
            "q",
            "exponent expected",
            "measured from 14 days on",
            "r² as power",
            "r² as exponential",
            "geometric mean as exponential",
        ],
        [
            [
                f"{one['share_reinforced_again']:.2f}",
                f"{one['predicted_slope']:.2f}",
                f"{one['slope_from_two_weeks_on']:.3f}",
                f"{one['as_power']['r2']:.3f}",
                f"{one['as_exponential']['r2']:.3f}",
                f"{one['geometric_mean_as_exponential']['r2']:.3f}",
            ]
            for one in found["populations"]
        ],
    )
    yield ""
    yield (
        "*Deviation.* The power law is the population's, and only if reinforcement is as unequal as this. "
        "For one memory retention has no long tail: after ten stabilities nothing is left. Rank by "
        "strength, which has the tail; take retention as what is due for review or may be let go."
    )


def _savings(result: dict[str, Any]) -> Iterator[str]:
    found = result["ebbinghaus"]
    yield "## Ebbinghaus's savings"
    yield ""
    yield (
        "*Source.* Of the time that a list of syllables took to learn, the share saved in relearning it "
        "(Ebbinghaus 1885; replicated by Murre & Dros 2015, whose table these are from)."
    )
    yield ""
    yield from _table(
        ["curve", *found["delays"], "RMSE"],
        [
            ["savings, measured", *(f"{value:.3f}" for value in found["savings"]), ""],
            *(
                [
                    f"{name.replace('_fitted', '').replace('_', ' ')}: {curve['says']}",
                    *(f"{value:.3f}" for value in curve["values"]),
                    f"{curve['rmse']:.3f}",
                ]
                for name, curve in found["curves"].items()
            ),
        ],
    )
    yield ""
    yield (
        "*Deviation.* Our defaults remember far more: they are set for sentences that mean something to the "
        "one who said them, over weeks, not for lists of syllables. Shape matters more than level: with no "
        "stability does an exponential fit delays from minutes to a month, while retrieval "
        f"probability with s = {found['fitted_noise']:.2f} and tau = {found['fitted_threshold']:.2f} is as "
        f"near as the power function itself (exponent {found['savings_as_power']['slope']:.3f}). That "
        "noise is several times what ACT-R models use: savings are no probability of recall."
    )


def _relearning(result: dict[str, Any]) -> Iterator[str]:
    found = result["relearning"]
    yield "## Relearning"
    yield ""
    yield (
        "A memory that was learned with eight repetitions, six seconds apart, is learned again after a "
        "delay, until its activation is what it was. *Saved* is the share of repetitions that this "
        "spares. The other columns compare a memory used once, and again after the delay, with a new one "
        "that is used only then."
    )
    yield ""
    yield from _table(
        [
            "delay",
            "Ebbinghaus",
            "saved",
            "strength before",
            "activation gained, 1 h later",
            "stability, old and new",
            "retention 30 d later",
            "strength 30 d later",
        ],
        [
            [
                name,
                f"{EBBINGHAUS[number][2]:.0%}" if number < len(EBBINGHAUS) else "",
                f"{found['savings'][number]:.1%}",
                f"{found['strength_before'][number]:.2f}",
                f"{found['activation_gain_after_an_hour'][number]:.3f}",
                " and ".join(f"{days:g} d" for days in found["stability_days_old_and_new"][number]),
                " and ".join(
                    f"{value:.3f}" for value in found["retention_after_30_days_old_and_new"][number]
                ),
                " and ".join(f"{value:.2f}" for value in found["strength_after_30_days_old_and_new"][number]),
            ]
            for number, name in enumerate(found["delays"])
        ],
    )
    yield ""
    yield (
        "*Ours.* What was forgotten and comes back is always stronger than what is new, the less the "
        f"longer it was away. *Deviation.* Savings fall with the power {found['savings_slope']:.2f} (that "
        f"is -d), Ebbinghaus's with {result['ebbinghaus']['savings_as_power']['slope']:.2f}: activation "
        "alone forgets too fast that something was once known. Stability makes up for it in steps: from "
        "spacing_hours on it doubles, however long the delay."
    )


def _spacing(result: dict[str, Any]) -> Iterator[str]:
    found = result["spacing"]
    gaps = found["gaps"]
    shown = [gaps.index(gap) for gap in (0.0, 1.0, 7.0, 21.0, 105.0)]
    yield "## The spacing effect"
    yield ""
    yield (
        "*Source.* Repetitions that are spaced are remembered longer than massed ones (Cepeda et al. 2006, a "
        "review of 184 articles). For each interval until the test there is a best gap between two sessions: "
        f"{' and '.join(CEPEDA_OPTIMUM)} (Cepeda et al. 2008). Just after learning, massed practice wins "
        "(Pavlik & Anderson 2005)."
    )
    yield ""
    yield "*Ours.* Two uses, a gap apart, tested an interval after the second: retention / strength."
    yield ""
    yield from _table(
        ["test after", *(f"gap {gaps[number]:g} d" for number in shown)],
        [
            [
                "1 h" if one["interval"] < 1 else f"{one['interval']:g} d",
                *(f"{_share(one['retention'][number])} / {one['strength'][number]:.3f}" for number in shown),
            ]
            for one in found["intervals"]
        ],
    )
    yield ""
    yield "Three uses, tested 35 days after the last:"
    yield ""
    yield from _table(
        ["uses", "stability", "retention", "activation", "strength"],
        [
            [
                name,
                f"{one['stability_days'][0]:g} d",
                _share(one["retention"][0]),
                f"{one['activation'][0]:.3f}",
                f"{one['strength'][0]:.3f}",
            ]
            for name, one in found["three_uses"].items()
        ],
    )
    yield ""
    yield (
        "*Deviation.* Retention shows the effect from spacing_hours on, at every interval, as a step: all "
        "gaps of a day or more are equal, so there is no best gap (the ridgeline of Cepeda et al. is "
        "missing) and no advantage of massed practice shortly after. Strength does not show it: a base "
        "level adds up uses and does not know how far apart they were, so at the same time after the last "
        "use the massed memory is slightly stronger. (Tested at the same time after the *first* use the "
        "spaced one is stronger, because it was used later: that is recency.) It matters where memories "
        "are ranked by strength alone: a thing said three times in a minute is not below one said in "
        "three weeks. Pavlik & Anderson's remedy, a decay of each use's own that grows with the "
        "activation at that use, needs every use to be kept."
    )


def _serial_position(result: dict[str, Any]) -> Iterator[str]:
    found = result["serial_position"]
    worth = found["worth_of_age"]
    yield "## Serial position in working memory"
    yield ""
    yield (
        "*Source.* Of a list of words the last ones and the first ones are recalled best (Murdock 1962). "
        "The first are rehearsed most (Rundus 1971); half a minute of counting takes away the advantage "
        "of the last and leaves that of the first (Glanzer & Cunitz 1966)."
    )
    yield ""
    yield (
        f"*Ours.* {found['lists']} lists of 20 unrelated words are said to one mind each; what is in "
        "working memory at the end counts as recalled. Without differences between words the last five "
        "are in mind and no other, so the words differ a little in importance (0.5 ± 0.05), in another "
        "order in each list. Rehearsed lists repeat what is in a buffer of four words, a new word "
        "displacing one of the old (Atkinson & Shiffrin 1968), which gives each word as many repetitions "
        "as below. The filler is half a minute of nothing (silent) or of counting aloud, which is "
        "remembered like anything else (spoken)."
    )
    yield ""
    yield from _table(
        ["list", "filler", "importance", "first 3", "middle (6-12)", "last 5", "words held"],
        [
            [
                f"{one['pace']:g} s a word{', rehearsed' if one['rehearsed'] else ''}",
                one["filler"],
                f"0.5 ± {one['spread']:g}",
                *(f"{one[part]:.0%}" for part in ("first", "middle", "last")),
                f"{one['words_held']:.1f}",
            ]
            for one in found["conditions"]
        ],
    )
    yield ""
    yield (
        "Times each word was said in the rehearsed lists, by position: "
        + ", ".join(f"{count:.1f}" for count in found["rehearsals"])
        + "."
    )
    yield ""
    yield (
        f"*Deviation.* Five words are held whatever the pace, where people recalled {MURDOCK['20-1']} at "
        f"one and {MURDOCK['20-2']} at two seconds a word: working memory is not all that they recall "
        "from. Silence does not take the last words away, since nothing displaces them: as in people, it "
        "is what comes in between that does. Without rehearsal, counting displaces the whole list; with it "
        "the very last word, said once, is the first to go (as in Craik 1970). And "
        "recency is weak against importance: the activation term is near 1 for all that was said within "
        "half a minute. What was said "
        + ", ".join(f"{age} s" for age in worth)
        + " ago comes before what was said a second ago if it is more important by "
        + ", ".join(f"{value:.2f}" for value in worth.values())
        + " (of 1)."
    )


def _capacity(result: dict[str, Any]) -> Iterator[str]:
    found = result["capacity"]
    yield "## Capacity"
    yield ""
    yield from _code(
        "c = share of pairs, among the 9 strongest candidates, that have a long word in common",
        "capacity = 5 + round(4 * c)",
    )
    yield ""
    yield (
        "*Source.* Seven, plus or minus two, chunks (Miller 1956); about four where chunking is prevented "
        "(Cowan 2001). That coherence is what makes room is our rule, after Miller's chunks; the linear "
        "form is our choice."
    )
    yield ""
    yield (
        f"*Ours.* {found['minds']} minds, of 1 to 20 candidates of which none to all are about the same "
        f"thing: never more than {found['most']}, and {found['fewest_below_promise']} of them held fewer "
        "than 5 and fewer than there were. Of 20 candidates:"
    )
    yield ""
    firsts = found["held_of_20"][:10]
    yield from _table(
        ["related", *(str(one["related"]) for one in firsts[:-1]), f"{firsts[-1]['related']} or more"],
        [
            ["coherence", *(f"{one['coherence']:.2f}" for one in firsts)],
            ["held", *(str(one["held"]) for one in firsts)],
        ],
    )
    yield ""
    yield (
        "*Deviation.* Cowan's limit of four for unrelated material is below our minimum of five. Holding one "
        "more than people do costs an agent nothing."
    )


def _tail(result: dict[str, Any]) -> Iterator[str]:
    found = result["tail"]
    lengths = [one["uses"] for one in found["kinds"][0]["lengths"]]
    yield "## The tail of older uses"
    yield ""
    yield (
        f"Of each memory the last {found['kept']} uses and the first are kept, and the others are taken to "
        "be spread evenly between (Petrov 2006). Error of activation against the sum over all uses, "
        f"{len(lengths)} lengths of history: median of the absolute error, and the range."
    )
    yield ""
    yield from _table(
        ["uses were", *(f"{length} uses" for length in lengths)],
        [
            [
                one["kind"],
                *(
                    f"{each['median']:.3f} ({each['lowest']:+.2f} to {each['highest']:+.2f})"
                    for each in one["lengths"]
                ),
            ]
            for one in found["kinds"]
        ],
    )
    yield ""
    yield (
        f"The error is never above ln(1 / (1 - d)) = {found['bound_above']:.2f} (all older uses as old as "
        f"the first) nor below -ln(n / k), {found['bound_below_at_1000']:.2f} for 1,000 uses (all older "
        "uses as young as the oldest that is kept). *Deviation.* Steady use is approximated to a few "
        "hundredths. A memory that is used ever more often is underrated by as much as "
        f"{-found['lowest']:.1f}: it counts as if it had been used about as often as is kept. Uses that "
        "come in clusters are nothing rare, so this is the case to mind once memories have hundreds of "
        "uses. More uses kept help little: of 1,000 uses, mostly of late, the "
        "median error is "
        + ", ".join(f"{one['median']:.2f} with {one['kept']} kept" for one in found["by_kept"])
        + ". What would help, and is not done: keep the 20th, 40th, 80th… last use as well and spread the "
        "others between those. The errors of all histories above would then lie between "
        f"{found['remedy']['lowest']:.2f} and {found['remedy']['highest']:+.2f}."
    )


def _time(result: dict[str, Any]) -> Iterator[str]:
    found = result["past"]
    yield "## Strength between uses, and looking back"
    yield ""
    yield (
        "Between uses activation, retention and the probability of retrieval never rise, and a use never "
        "lowers them, at its moment nor later, for any history, also where the tail begins: properties, "
        "tested on generated histories. Working memory at a moment is the same whether or not anything came "
        "after (tested likewise)."
    )
    yield ""
    yield (
        "Short-term and long-term memory at an earlier moment are what a build of the events up to it has: a "
        "row that has changed since is summed up again from its uses "
        "([decision 8](decisions/0008-consolidation.md); property tests beside those models). The state of "
        "the last use would not do: evaluated at an earlier moment, activation is exact as long as the state "
        "holds all uses, and beyond that too high, because the tail counts uses that were still to come. Of "
        "40 uses, one an hour:"
    )
    yield ""
    yield from _table(
        ["later uses", *(str(count) for count in found["later_uses"])],
        [["activation too high by", *(f"{value:.3f}" for value in found["difference"])]],
    )


def _others(_: dict[str, Any]) -> Iterator[str]:
    yield "## What is measured elsewhere"
    yield ""
    yield (
        "Near-duplicates, gists and fates, the Hebbian weights between concepts, and facts in two times "
        "are tested by their own rules, beside their models; none of them is claimed here to follow an "
        "experiment on people."
    )


def _parameters(result: dict[str, Any]) -> Iterator[str]:
    yield "## Parameters"
    yield ""
    yield "All are in dbt_project.yml, with their ranges. *Ours* means that no source gives the number."
    yield ""
    values = result["parameters"]
    yield from _table(
        ["parameter", "default", "unit", "where the number is from"],
        [[f"`{name}`", f"{values[name]:g}", unit, source] for name, unit, source in PARAMETERS],
    )


PARAMETERS = (
    ("attention_window_minutes", "minutes", "ours"),
    ("attention_fallback_minutes", "minutes", "ours; as long as the silence that ends a session"),
    ("capacity_minimum", "memories", "7 - 2, Miller (1956)"),
    ("capacity_maximum", "memories", "7 + 2, Miller (1956)"),
    ("priority_weight_activation", "share", "ours"),
    ("priority_weight_importance", "share", "ours"),
    ("priority_weight_urgency", "share", "ours"),
    ("priority_weight_emotion", "share", "ours"),
    (
        "activation_decay",
        "exponent",
        "0.5 is ACT-R's, Anderson & Lebiere (1998); the power function is Anderson & Schooler's (1991)",
    ),
    ("activation_recent_uses", "uses", "ours; the approximation is Petrov's (2006)"),
    (
        "activation_noise",
        "activation",
        "ours, of the order that ACT-R models use; the form is Anderson & Lebiere's (1998)",
    ),
    ("retrieval_threshold", "activation", "ours: one use is retrieved half the time after 38 days"),
    ("initial_stability_days", "days", "ours; Ebbinghaus (1885) gives no such number"),
    (
        "stability_growth",
        "factor",
        "2, by which the best intervals between repetitions grew for vocabulary, Wozniak (1990)",
    ),
    ("spacing_hours", "hours", "ours; gaps of a day and more are those that Cepeda et al. (2008) compared"),
    ("session_gap_minutes", "minutes", "ours; what web analytics call a session"),
    ("default_importance", "share", "ours: the middle"),
)
"""Name, unit and source of each parameter of memory."""


def _references(_: dict[str, Any]) -> Iterator[str]:
    yield "## References"
    yield ""
    yield REFERENCES


REFERENCES = """\
- Anderson, J. R. & Lebiere, C. (1998). The atomic components of thought. Erlbaum.
- Anderson, J. R. & Schooler, L. J. (1991). Reflections of the environment in memory. Psychological Science
  2, 396-408.
- Anderson, R. B. & Tweney, R. D. (1997). Artifactual power curves in forgetting. Memory & Cognition 25,
  724-730.
- Atkinson, R. C. & Shiffrin, R. M. (1968). Human memory: a proposed system and its control processes.
  Psychology of Learning and Motivation 2, 89-195.
- Cepeda, N. J., Pashler, H., Vul, E., Wixted, J. T. & Rohrer, D. (2006). Distributed practice in verbal
  recall tasks. Psychological Bulletin 132, 354-380.
- Cepeda, N. J., Vul, E., Rohrer, D., Wixted, J. T. & Pashler, H. (2008). Spacing effects in learning: a
  temporal ridgeline of optimal retention. Psychological Science 19, 1095-1102.
- Cowan, N. (2001). The magical number 4 in short-term memory. Behavioral and Brain Sciences 24, 87-114.
- Craik, F. I. M. (1970). The fate of primary memory items in free recall. Journal of Verbal Learning and
  Verbal Behavior 9, 143-148.
- Ebbinghaus, H. (1885). Über das Gedächtnis. Duncker & Humblot.
- Glanzer, M. & Cunitz, A. R. (1966). Two storage mechanisms in free recall. Journal of Verbal Learning and
  Verbal Behavior 5, 351-360.
- Miller, G. A. (1956). The magical number seven, plus or minus two. Psychological Review 63, 81-97.
- Murdock, B. B. (1962). The serial position effect of free recall. Journal of Experimental Psychology 64,
  482-488.
- Murre, J. M. J. & Dros, J. (2015). Replication and analysis of Ebbinghaus' forgetting curve. PLoS ONE
  10(7), e0120644.
- Pavlik, P. I. & Anderson, J. R. (2005). Practice and forgetting effects on vocabulary memory. Cognitive
  Science 29, 559-586.
- Petrov, A. A. (2006). Computationally efficient approximation of the base-level learning equation in
  ACT-R. Proceedings of ICCM 7, 391-392.
- Rundus, D. (1971). Analysis of rehearsal processes in free recall. Journal of Experimental Psychology 89,
  63-77.
- Wixted, J. T. & Ebbesen, E. B. (1991). On the form of forgetting. Psychological Science 2, 409-415.
- Wixted, J. T. & Ebbesen, E. B. (1997). Genuine power curves in forgetting. Memory & Cognition 25, 731-739.
- Wozniak, P. A. (1990). Optimization of learning. Master's thesis, University of Technology in Poznan.
- Wozniak, P. A., Gorzelanczyk, E. J. & Murakowski, J. A. (1995). Two components of long-term memory. Acta
  Neurobiologiae Experimentalis 55, 301-305."""


# --- the plot ------------------------------------------------------------------------------------------


def _plot(result: dict[str, Any], path: Path) -> None:
    figure, panels = plt.subplots(2, 3, figsize=(13.5, 9))
    _plot_forgetting(panels[0, 0], result)
    _plot_savings(panels[0, 1], result)
    _plot_spacing(panels[0, 2], result)
    _plot_serial_position(panels[1, 0], result)
    _plot_capacity(panels[1, 1], result)
    _plot_tail(panels[1, 2], result)
    for panel in panels.flat:
        panel.grid(visible=True, alpha=0.3)
        panel.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _plot_forgetting(panel: Any, result: dict[str, Any]) -> None:
    found = result["forgetting"]
    panel.plot(
        found["days"], found["retention"], "--", color="tab:red", label="retention of one memory, exponential"
    )
    for one, style in zip(found["populations"], ("-.", "-"), strict=True):
        panel.plot(
            found["days"],
            one["retention"],
            style,
            color="tab:orange",
            label=f"mean, {one['share_reinforced_again']:.0%} reinforced again",
        )
    panel.plot(
        found["odds_days"],
        found["odds"],
        color="tab:blue",
        label="odds of retrieval, power function",
    )
    _axes(panel, "Forgetting", "days since the last use", "share, odds", x="log", y="log")
    panel.set_ylim(1e-3, 200)


def _plot_savings(panel: Any, result: dict[str, Any]) -> None:
    found = result["ebbinghaus"]
    days = [seconds / 86_400 for seconds in found["seconds"]]
    panel.plot(days, found["savings"], "ko", label="savings, Ebbinghaus 1885")
    for name, colour, style in (
        ("retention", "tab:red", "--"),
        ("retention_fitted", "tab:red", ":"),
        ("retrieval_probability", "tab:blue", "--"),
        ("retrieval_probability_fitted", "tab:blue", "-"),
    ):
        curve = found["curves"][name]
        label = (
            f"{name.replace('_fitted', '').replace('_', ' ')}, {'fitted' if 'fitted' in name else 'default'}"
        )
        panel.plot(days, curve["values"], style, color=colour, label=f"{label} (RMSE {curve['rmse']:.2f})")
    relearned = result["relearning"]["savings"][: len(days)]
    panel.plot(days, relearned, "-", color="tab:green", label="repetitions that relearning saves")
    _axes(panel, "Ebbinghaus's savings", "days", "share", x="log")


def _plot_spacing(panel: Any, result: dict[str, Any]) -> None:
    found = result["spacing"]
    for one, colour in zip(found["intervals"][1:4], ("tab:blue", "tab:orange", "tab:green"), strict=True):
        panel.plot(
            found["gaps"],
            one["retention"],
            color=colour,
            label=f"retention, test after {one['interval']:g} d",
        )
        panel.plot(
            found["gaps"],
            one["strength"],
            ":",
            color=colour,
            label=f"strength, test after {one['interval']:g} d",
        )
    panel.set_xscale("symlog", linthresh=1)
    _axes(panel, "Spacing: two uses", "days between them", "share")


def _plot_serial_position(panel: Any, result: dict[str, Any]) -> None:
    found = result["serial_position"]
    for pace, rehearsed, filler, colour, style in (
        (2.0, False, "none", "tab:blue", "-"),
        (5.0, True, "none", "tab:orange", "-"),
        (5.0, True, "spoken", "tab:green", "--"),
    ):
        one = _condition(found, pace, rehearsed=rehearsed, filler=filler)
        label = f"{pace:g} s a word" + (", rehearsed" if rehearsed else "")
        panel.plot(
            range(1, 21),
            one["held"],
            style,
            color=colour,
            marker=".",
            label=label + (", then counting" if filler == "spoken" else ""),
        )
    _axes(panel, "Serial position", "position in the list", "share of lists")
    panel.set_xticks(range(1, 21, 3))


def _plot_capacity(panel: Any, result: dict[str, Any]) -> None:
    found = result["capacity"]["held_of_20"]
    panel.axhspan(5, 9, color="tab:gray", alpha=0.15, label="7 ± 2 (Miller 1956)")
    panel.axhline(4, color="tab:gray", linestyle=":", label="4 (Cowan 2001)")
    panel.step(
        [one["related"] for one in found], [one["held"] for one in found], where="mid", label="held of 20"
    )
    _axes(panel, "Capacity", "candidates that are about one thing", "memories in mind")
    panel.set_ylim(0, 10)


def _plot_tail(panel: Any, result: dict[str, Any]) -> None:
    for one in result["tail"]["kinds"]:
        lengths = [each["uses"] for each in one["lengths"]]
        panel.plot(lengths, [each["median"] for each in one["lengths"]], marker=".", label=one["kind"])
    _axes(panel, "Error of activation, last 10 uses kept", "uses", "median absolute error", x="log")


def _axes(
    panel: Any, title: str, across: str, up: str, *, x: str | None = None, y: str | None = None
) -> None:
    panel.set_title(title, fontsize=10)
    panel.set_xlabel(across)
    panel.set_ylabel(up)
    if x:
        panel.set_xscale(x)
    if y:
        panel.set_yscale(y)


# --- wording -------------------------------------------------------------------------------------------


def _condition(
    serial: dict[str, Any], pace: float, *, rehearsed: bool = False, filler: str = "none"
) -> dict[str, Any]:
    wanted = (pace, rehearsed, filler, 0.05)
    for one in serial["conditions"]:
        if (one["pace"], one["rehearsed"], one["filler"], one["spread"]) == wanted:
            return dict(one)
    raise KeyError(wanted)


def _ends(condition: dict[str, Any], end: str) -> str:
    return f"{condition[end]:.0%} of the {end} against {condition['middle']:.0%} of the middle"


def _share(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else "0"


def _code(*lines: str) -> Iterator[str]:
    yield "    " + "\n    ".join(lines)


def _table(header: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
