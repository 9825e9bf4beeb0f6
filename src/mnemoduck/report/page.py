"""The page: what was read, as one piece of HTML. Texts are escaped by Jinja2 and ElementTree.

The page asks for nothing: its Content-Security-Policy allows its own style, by hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from datetime import date, datetime
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mnemoduck.report import charts, texts
from mnemoduck.report.charts import Series
from mnemoduck.report.memories import MAX_OWNERS
from mnemoduck.report.records import Curve, PartitionedModel, Report, Run

FATES = ("reinforced", "retained", "superseded", "forgotten")
_FATE_COLOURS = ("c1", "c2", "c3", "c0")
_TYPE_COLOURS = ("c1", "c2", "c4", "c3", "c5")
_OUTCOME_COLOURS = {"published": "c2", "unchanged": "c0", "not published": "bad", "skipped": "c3"}
_OWNER_COLOURS = ("c1", "c3", "c2", "c4", "c5")
_NARROW_CONCEPTS = 14
_MAX_MONTHS = 36
_NARROW_MONTHS = 12
"""Months that are drawn, of which the narrow drawing has the last; so many at least."""
_CONCEPT_CHARACTERS = 24


def render_page(report: Report, folder: Path) -> str:
    """Return the page of a report; the same report gives the same page.

    Args:
        folder: where the page is to lie, for links to what lies in the home.
    """
    environment = _environment()
    style = environment.get_template("page.css").render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    operation = report.operation
    return environment.get_template("page.html").render(
        report=report,
        operation=operation,
        style=Markup(style),  # noqa: S704 - a file of our own
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        scope=_say_scope(report),
        as_of=texts.exact_moment(report.as_of),
        snapshot_age=_say_age(report),
        last_run=next((run for run in operation.runs.shown if run.outcome != "skipped"), None),
        fates=FATES,
        fate_series=_legend(zip(FATES, _FATE_COLOURS, strict=True)),
        type_series=_type_series(report),
        outcome_series=_legend(_OUTCOME_COLOURS.items()),
        owner_series=_owner_series(report),
        charts=_draw(report),
        curve_series=[_curve_series(place) for place in range(len(report.curves))],
        associated=_associated(report),
        run_levels=_OUTCOME_COLOURS,
        data_docs=_link(Path(operation.home), operation.data_docs, folder),
        max_months=_MAX_MONTHS,
        max_owners=MAX_OWNERS,
        month_series=[Series("table", "c1"), Series("archived", "c4")],
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mnemoduck.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        shown=texts.shown,
        whose=texts.whose,
        count=texts.count,
        counted=texts.counted,
        share=texts.share,
        decimal=texts.decimal,
        moment=texts.moment,
        duration=texts.duration,
        meter=charts.meter,
        exact=texts.exact_moment,
        breakable=_breakable,
        until=lambda then, now: texts.duration((then - now.replace(tzinfo=None)).total_seconds()),
    )
    return environment


def _draw(report: Report) -> dict[str, Markup]:
    """Return the charts of the sections that have something to draw."""
    drawn = {}
    activity, fates, runs = report.activity, report.fates, report.operation.runs.shown[::-1]
    if activity.bins:
        labels = [_bin_label(one.begin, activity.step) for one in activity.bins]
        drawn["activity"] = charts.stacked_bars(
            f"Memories by {activity.step} and type",
            labels,
            _type_series(report),
            [[one.counts.get(kind, 0) for kind in activity.types] for one in activity.bins],
            [
                f"{label}: {texts.counted(one.total, 'memory', 'memories')}"
                for label, one in zip(labels, activity.bins, strict=True)
            ],
        )
    if fates.moments:
        drawn["fates"] = charts.stacked_bars(
            "Long-term memories by fate at some moments",
            [_bin_label(one.begin, activity.step) for one in fates.moments[:-1]] + ["now"],
            _legend(zip(FATES, _FATE_COLOURS, strict=True)),
            [[one.counts.get(fate, 0) for fate in FATES] for one in fates.moments],
            [
                f"{texts.moment(one.begin)}: "
                + ", ".join(f"{texts.count(one.counts.get(fate, 0))} {fate}" for fate in FATES)
                for one in fates.moments
            ],
        )
    if report.curves:
        drawn["curves"] = charts.curves(
            "What is retained of some memories in the days to come if nobody uses them",
            [
                (_curve_series(place), curve.points, curve.forgotten, _curve_tip(curve))
                for place, curve in enumerate(report.curves)
            ],
        )
    if report.graph.concepts:
        colours = _owner_colours(report)
        drawn["graph"] = charts.graph(
            "The strongest concepts and the associations between them",
            [
                (
                    texts.shown(concept.concept, _CONCEPT_CHARACTERS),
                    concept.strength,
                    colours[concept.scope],
                    f"{texts.shown(concept.concept)} ({texts.whose(concept.scope)})",
                )
                for concept in report.graph.concepts
            ],
            [(edge.source, edge.target, edge.strength) for edge in report.graph.edges],
            narrow_nodes=_NARROW_CONCEPTS,
        )
    if runs:
        drawn["runs"] = charts.stacked_bars(
            "Seconds of the last runs, by outcome",
            [f"{run.ended_at:%d %b %H:%M}" for run in runs],
            _legend(_OUTCOME_COLOURS.items()),
            [[run.seconds if run.outcome == outcome else 0 for outcome in _OUTCOME_COLOURS] for run in runs],
            [_run_tip(run) for run in runs],
        )
    if report.operation.partitions:
        drawn["partitions"] = _draw_partitions(report.operation.partitions, report.as_of)
    return drawn


def _draw_partitions(models: Sequence[PartitionedModel], as_of: datetime) -> Markup:
    """Draw the months up to the last one that has rows and had begun by `as_of`."""
    filled = [_number_of(month.month) for model in models for month in model.months if month.rows]
    now = _number_of(as_of)
    last = max([number for number in filled if number <= now] or filled or [now])
    first = max(min([*filled, last - _NARROW_MONTHS + 1]), last - _MAX_MONTHS + 1)
    most = max((month.rows for model in models for month in model.months), default=0)
    rows = []
    for model in models:
        months = {_number_of(month.month): month for month in model.months}
        name = texts.shown(model.model, 60)
        cells = []
        for number in range(first, last + 1):
            month = months.get(number)
            label = f"{name}, {_month_label(number)}"
            if month is None:
                cells.append((0.0, "c0", f"{label}: no partition"))
            else:
                css = {"hot": "c1", "cold": "c4"}.get(month.state, "c0")
                tip = f"{label}: {texts.counted(month.rows, 'row')}, {month.state}"
                cells.append((month.rows / most if most else 0.0, css, tip))
        rows.append((name, cells))
    return charts.heat_strip(
        "Rows of each partitioned model by month",
        rows,
        [_month_label(number) for number in range(first, last + 1)],
        narrow_columns=_NARROW_MONTHS,
    )


def _number_of(day: date) -> int:
    """Return the number of a month, of which the next month has the next."""
    return day.year * 12 + day.month - 1


def _month_label(number: int) -> str:
    return f"{number // 12}-{number % 12 + 1:02}"


def _legend(pairs: object) -> list[Series]:
    return [Series(name, css) for name, css in pairs]  # type: ignore[attr-defined]


def _type_series(report: Report) -> list[Series]:
    kinds = report.activity.types
    return [Series(kind, _TYPE_COLOURS[place % len(_TYPE_COLOURS)]) for place, kind in enumerate(kinds)]


def _owner_colours(report: Report) -> dict[tuple[str | None, str | None], str]:
    """Return a colour for each of the owners of concepts, of which there are as many at most."""
    owners = list(dict.fromkeys(concept.scope for concept in report.graph.concepts))
    return {owner: _OWNER_COLOURS[place % MAX_OWNERS] for place, owner in enumerate(owners)}


def _owner_series(report: Report) -> list[Series]:
    return [Series(texts.whose(owner), css) for owner, css in _owner_colours(report).items()]


def _associated(report: Report) -> list[tuple[str, str, str, float]]:
    """Return the strongest associations of the graph as words: two concepts, whose, and how strong."""
    concepts = report.graph.concepts
    return [
        (
            concepts[edge.source].concept,
            concepts[edge.target].concept,
            texts.whose(concepts[edge.source].scope),
            edge.strength,
        )
        for edge in report.graph.edges[:12]
    ]


def _curve_series(place: int) -> Series:
    return Series(f"curve {place + 1}", ("c1", "c3", "c2", "c4", "c5")[place % 5])


def _curve_tip(curve: Curve) -> str:
    return f"{texts.shown(curve.memory.content, 80)} (stability {curve.memory.stability_days:,.0f} days)"


def _run_tip(run: Run) -> str:
    return f"{texts.moment(run.ended_at)} UTC, {texts.shown(run.outcome, 30)}, {texts.duration(run.seconds)}"


def _bin_label(begin: datetime, step: str) -> str:
    if step in ("hour", "six hours"):
        return f"{begin.day} {begin:%b %H}:00"
    if step in ("day", "week"):
        return f"{begin.day} {begin:%b}"
    return f"{begin:%b} {begin.year}" if step in ("month", "quarter") else str(begin.year)


def _say_scope(report: Report) -> str:
    said = [
        f"{name.removesuffix('_id')} {texts.shown(value, 60)}"
        for name, value in report.scope.as_dict().items()
        if value is not None
    ]
    return ", ".join(said) or "everyone"


def _say_age(report: Report) -> str:
    published_at = report.operation.published_at
    if published_at is None:
        return "unknown"
    seconds = (report.as_of.replace(tzinfo=None) - published_at).total_seconds()
    return texts.duration(seconds) if seconds >= 0 else "newer"


def _breakable(name: str) -> Markup:
    """Return a name that may be broken behind its underscores."""
    return Markup("_<wbr>").join(name.split("_"))


def _link(home: Path, target: str | None, folder: Path) -> str | None:
    """Return the address of a file of the home, relative to the page."""
    return None if target is None else quote(os.path.relpath(home / target, folder))
