"""The page of a report: nothing in a memory becomes a part of it, and the same data give the same page."""

from __future__ import annotations

import itertools
import json
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoduck.cli.report import report_command
from mnemoduck.errors import NothingPublishedError
from mnemoduck.home import Home
from mnemoduck.pipeline.history import NodeRun, RunRecord, record_run
from mnemoduck.report import charts, operation, texts
from mnemoduck.report.charts import Series
from mnemoduck.report.layout import place_nodes
from mnemoduck.report.page import render_page
from mnemoduck.report.records import (
    Activity,
    Bin,
    CacheSavings,
    Concept,
    Curve,
    Edge,
    Fates,
    Graph,
    HeldMemory,
    Measure,
    Mind,
    Minds,
    ModelTime,
    Operation,
    PartitionedModel,
    PartitionMonth,
    RecallLevel,
    Remark,
    Report,
    Run,
    Runs,
    Slot,
    Verdict,
)
from mnemoduck.scope import Scope

NOW = datetime(2026, 3, 15, 18, 30)
FOLDER = Path("/home/of/memories")
SECTIONS = (
    "mind", "activity", "fates", "forgetting", "associations", "strongest", "fading", "runs", "models",
    "savings", "expectations", "partitions",
)  # fmt: skip
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)' style='position:fixed",
    "</style></title></svg><style>*{background:url(http://example.com)}</style>",
    "<!-- ]]> {{ 7 * 7 }} {% if %} &lt;b&gt; \x00\x1b[31m\u202e\u2066\ufeff\u2028 javascript:alert(1)",
    "\ud800<a href=javascript:x>" + "\u0301" * 99,
    "<b>" * 400_000,
)


def a_report(word: str) -> Report:
    """Return a report that says one word wherever memories and their surroundings can say something."""
    owner = (word, word)
    held = HeldMemory(UUID(int=1), owner, word, word, 0.9, 0.5, 7.0, 2, 1, NOW, NOW + timedelta(days=9))
    run = Run(*(NOW.replace(tzinfo=UTC),) * 2, word, "not published", 12.5, 3, 2, 1, [word], [word], word)
    return Report(
        as_of=NOW.replace(tzinfo=UTC),
        scope=Scope(),
        remarks=[Remark("bad", word, "Mend it.")],
        operation=Operation(
            home=str(FOLDER),
            snapshot="20260315T182000000000Z-0123456789ab.duckdb",
            published_at=NOW - timedelta(minutes=10),
            waiting_events=3,
            waiting_forgets=1,
            quarantined_lines=2,
            runs=Runs([run], [ModelTime(word, word, 1, 1.5, 2.5, 10)]),
            savings=[CacheSavings(word, word, 9, 1, 1_234, 56, 7.5)],
            recall_levels=[RecallLevel(word, 3, 1)],
            partitions=[PartitionedModel(word, [PartitionMonth(date(2026, 3, 1), "hot", 12_345)])],
            verdicts=[Verdict(word, word, False, word, 3, [word])],
            health=[Measure(word, word, word)],
            data_docs="data_docs/index.html",
        ),
        minds=Minds([Mind((word, word, word), 7, 0.5, [Slot(1, 0.6, word, word, NOW)])], 3, 12, NOW),
        activity=Activity(1_234_567, "day", [word], [Bin(NOW, {word: 5}), Bin(NOW + timedelta(1), {})]),
        fates=Fates([Bin(NOW, {"retained": 5, "forgotten": 2})]),
        curves=[Curve(held, [(0.0, 1.0), (7.0, 0.4)], (6.0, 0.5))],
        graph=Graph([Concept(1, word, owner, 1.0), Concept(2, word, owner, 0.5)], [Edge(0, 1, 1.0)], 2),
        strongest=[held],
        fading=[held],
    )


EMPTY = replace(
    a_report("-"),
    remarks=[],
    operation=replace(
        a_report("-").operation,
        waiting_events=0, waiting_forgets=0, quarantined_lines=0, runs=Runs([], []), savings=[],
        recall_levels=[], partitions=[], verdicts=[], health=[], data_docs=None,
    ),
    minds=Minds([], 0, 0, None),
    activity=Activity(0, "day", [], []),
    fates=Fates([]),
    curves=[],
    graph=Graph([], [], 0),
    strongest=[],
    fading=[],
)  # fmt: skip


class Parsed(HTMLParser):
    """The elements of a page with the names of their attributes, its text, and its links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.comments: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    @property
    def ids(self) -> list[str]:
        return [value for name, value in self.attributes if name == "id"]


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_what_a_memory_says_becomes_no_element_no_attribute_and_no_comment(word: str) -> None:
    page = render_page(a_report(word), FOLDER)
    hostile, harmless = Parsed(page), Parsed(render_page(a_report("harmless"), FOLDER))
    assert set(hostile.elements) == set(harmless.elements)
    assert hostile.comments == []
    assert [value for name, value in hostile.attributes if name == "href"] == [
        value for name, value in harmless.attributes if name == "href"
    ]
    assert not [text for text in hostile.texts for mark in text if unicodedata.category(mark) in ("Cf", "Cs")]
    assert "\x00" not in page
    assert "\x1b" not in page
    assert len(page.encode()) < 300_000


def test_what_a_memory_says_is_there_to_read() -> None:
    said = " ".join(Parsed(render_page(a_report(HOSTILE[0]), FOLDER)).texts)
    # In mind, strongest, fading and as the tip and the name of a curve, at least.
    assert said.count(HOSTILE[0]) > 20


def test_a_page_loads_nothing_and_allows_nothing_but_its_own_style() -> None:
    page = render_page(a_report("word"), FOLDER)
    parsed = Parsed(page)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src &#39;none&#39;; style-src &#39;sha256-")
    assert "unsafe" not in policy
    names = {name for name, _ in parsed.attributes}
    assert names.isdisjoint(
        {"src", "srcset", "style", "action", "xlink:href", "data", "poster", "background"}
    )
    assert not [name for name in names if name.startswith("on")]
    tags = {tag for tag, _ in parsed.elements}
    assert tags.isdisjoint({"script", "link", "img", "iframe", "object", "form", "base", "image", "use"})
    links = {value for name, value in parsed.attributes if name == "href"}
    assert {link for link in links if not link.startswith("#")} == {"data_docs/index.html"}
    assert {link[1:] for link in links if link.startswith("#")} == set(parsed.ids)
    (style,) = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style


def test_all_sections_are_there_and_what_is_empty_says_what_to_do() -> None:
    for report in (a_report("word"), EMPTY):
        ids = Parsed(render_page(report, FOLDER)).ids
        assert [name for name in ids if name != "health"] == list(SECTIONS)
    page = render_page(EMPTY, FOLDER)
    assert page.count('class="empty"') == len(SECTIONS) + 1  # savings have two parts
    for said in ("mnemoduck remember", "mnemoduck run", "mnemoduck expect published", "All is well"):
        assert said in page
    assert "Data Docs" not in page


def test_a_page_is_a_matter_of_its_report_only() -> None:
    assert render_page(a_report("word"), FOLDER) == render_page(a_report("word"), FOLDER)


def test_tables_have_heads_with_a_scope_and_charts_a_name() -> None:
    parsed = Parsed(render_page(a_report("word"), FOLDER))
    heads = [names for tag, names in parsed.elements if tag == "th"]
    assert heads
    assert all("scope" in names for names in heads)
    images = [names for tag, names in parsed.elements if tag == "svg"]
    assert all("aria-label" in names or "aria-hidden" in names for names in images)
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


def test_numbers_have_separators_and_times_say_their_zone() -> None:
    page = render_page(a_report("word"), FOLDER)
    assert "1,234,567" in page
    assert "All times are UTC" in page
    assert 'datetime="2026-03-15T18:30:00Z"' in page


def test_months_are_drawn_up_to_the_last_that_had_begun_a_year_of_them_at_least() -> None:
    def labels(as_of: datetime, *months: tuple[date, int]) -> list[str]:
        model = PartitionedModel("memories", [PartitionMonth(month, "hot", rows) for month, rows in months])
        report = replace(EMPTY, as_of=as_of, operation=an_operation(partitions=[model]))
        titles = re.findall(r"<title>memories, ([^<]*)</title>", render_page(report, FOLDER))
        return titles[: len(titles) // 2] if len(titles) <= 24 else titles[:-12]  # wide, without narrow

    march, april = date(2026, 3, 1), date(2026, 4, 1)
    year = labels(NOW.replace(tzinfo=UTC), (march, 5), (april, 0))
    assert len(year) == 12
    assert (year[0], year[-1]) == ("2025-04: no partition", "2026-03: 5 rows, hot")
    late = labels(NOW.replace(tzinfo=UTC), (date(2001, 1, 1), 1), (march, 5), (april, 7))
    assert (len(late), late[-1]) == (36, "2026-03: 5 rows, hot")
    early = labels(datetime(1, 1, 1, tzinfo=UTC), (march, 5))
    assert early[-1] == "2026-03: 5 rows, hot"


def _palettes() -> Iterator[dict[str, str]]:
    style = (Path(texts.__file__).parent / "templates" / "page.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", light))
    yield colours
    yield {**colours, **dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", dark))}


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2: (L1 + 0.05) / (L2 + 0.05) of relative luminances."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", list(_palettes()), ids=["light", "dark"])
def test_texts_and_shapes_stand_out_from_what_is_behind_them(palette: dict[str, str]) -> None:
    for text, behind in (
        ("ink", "card"), ("ink", "paper"), ("soft", "card"), ("soft", "paper"), ("c1", "card"),
        ("good", "good-paper"), ("look", "look-paper"), ("bad", "bad-paper"),
    ):  # fmt: skip
        assert _contrast(palette[text], palette[behind]) >= 4.5, (text, behind)
    for shape in ("c0", "c1", "c2", "c3", "c4", "c5", "bad"):
        assert _contrast(palette[shape], palette["card"]) >= 2.5, shape
    for shape in ("c1", "c2", "c3", "c4", "c5", "bad"):
        assert _contrast(palette[shape], palette["card"]) >= 3, shape


@given(st.text(st.characters(exclude_categories=[]), max_size=400), st.integers(8, 200))
def test_a_shown_text_is_one_short_line_without_anything_hidden(text: str, limit: int) -> None:
    line = texts.shown(text, limit)
    assert len(line) <= limit
    line.encode("utf-8")
    assert not [
        mark
        for mark in line
        if unicodedata.category(mark) in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp")
        or (unicodedata.category(mark) == "Cf" and mark not in "\u200c\u200d")
    ]


def test_a_text_that_fits_is_shown_as_it_is_and_a_longer_one_is_cut() -> None:
    assert texts.shown("Boa noite,\n Lisboa 🧳") == "Boa noite, Lisboa 🧳"
    assert texts.shown("a" * 160) == "a" * 160
    assert texts.shown("a" * 161) == "a" * 159 + "…"
    assert texts.shown("evil\u202etxt") == "evil\\u202etxt"
    assert texts.shown(None) == ""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.42, "0.4 seconds"), (59, "59.0 seconds"), (60, "1 minute"), (7_200, "2 hours"), (172_800, "2 days")],
)
def test_time_spans_are_said_in_the_unit_that_fits(seconds: float, said: str) -> None:
    assert texts.duration(seconds) == said


@settings(max_examples=12)
@given(st.integers(0, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29), st.floats(0, 1))))
def test_nodes_lie_within_the_drawing_and_at_the_same_places_each_time(
    count: int, pairs: list[tuple[int, int, float]]
) -> None:
    edges = [pair for pair in pairs if max(pair[:2]) < count and pair[0] != pair[1]]
    places = place_nodes(count, edges, (300.0, 200.0))
    assert len(places) == count
    assert all(0 <= x <= 300 and 0 <= y <= 200 for x, y in places)
    assert place_nodes(count, edges, (300.0, 200.0)) == places


def test_nodes_that_are_associated_lie_nearer_than_others() -> None:
    edges = [(one, other, 1.0) for one in range(4) for other in range(one)]
    edges += [(one + 4, other + 4, 1.0) for one, other, _ in edges]
    places = place_nodes(8, edges, (400.0, 400.0))

    def distance(one: int, other: int) -> float:
        (x1, y1), (x2, y2) = places[one], places[other]
        return math.hypot(x1 - x2, y1 - y2)

    within = [distance(one, other) for one, other, _ in edges]
    across = [distance(one, other) for one in range(4) for other in range(4, 8)]
    assert sum(within) / len(within) < 0.6 * sum(across) / len(across)


@given(st.lists(st.lists(st.integers(0, 10**12), min_size=2, max_size=2), min_size=1, max_size=50))
def test_bars_are_as_high_as_their_numbers(values: list[list[int]]) -> None:
    labels = [str(place) for place in range(len(values))]
    series = [Series("one", "c1"), Series("two", "c2")]
    chart = charts.stacked_bars("title", labels, series, values, labels)
    root = ElementTree.fromstring(f"<div>{chart}</div>")
    (wide,) = root.findall(".//div[@class='wide']/svg")
    for css, place in (("c1", 0), ("c2", 1)):
        heights = [float(bar.get("height", 0)) for bar in wide.findall(f"./rect[@class='{css}']")]
        drawn = [row[place] for row in values if row[place]]
        assert len(heights) == len(drawn)
        most = max(drawn, default=0)
        tallest = max(heights, default=0.0)
        for height, value in zip(heights, drawn, strict=True):
            assert height == pytest.approx(tallest * value / most, abs=0.03)
    assert all(float(bar.get("y", 0)) >= 0 for bar in wide.findall("./rect"))


# What the page says of the home ------------------------------------------------------------------------


def an_operation(**changes: Any) -> Operation:
    return replace(EMPTY.operation, **changes)


def a_run(number: int, outcome: str = "published", **changes: Any) -> RunRecord:
    ended_at = datetime(2026, 3, 15, tzinfo=UTC) + timedelta(minutes=10 * number)
    return RunRecord(
        run_id=f"run-{number}",
        command="run",
        outcome=outcome,
        started_at=ended_at - timedelta(seconds=10),
        ended_at=ended_at,
        **changes,
    )


def the_runs(home: Home, until: datetime = NOW) -> Runs:
    return operation._read_run_history(home, until.replace(tzinfo=UTC))


def test_nothing_is_remarked_on_where_all_is_well() -> None:
    assert operation.find_remarks(an_operation(), NOW) == []


def test_a_run_that_was_not_published_is_bad_and_says_why(home: Home) -> None:
    record_run(home, a_run(1))
    record_run(home, a_run(2, "not published", errors=("a test failed",)))
    record_run(home, a_run(3, "skipped"))
    (remark,) = operation.find_remarks(an_operation(runs=the_runs(home)), NOW)
    assert remark.level == "bad"
    assert "a test failed" in remark.text
    record_run(home, a_run(4))
    assert operation.find_remarks(an_operation(runs=the_runs(home)), NOW) == []


def test_tests_that_warn_need_a_look_and_are_named(home: Home) -> None:
    warned = NodeRun(name="latency_is_low", kind="test", status="warn", seconds=0.1, failures=1)
    record_run(home, a_run(1, nodes=(warned,)))
    (remark,) = operation.find_remarks(an_operation(runs=the_runs(home)), NOW)
    assert (remark.level, "latency_is_low" in remark.text) == ("look", True)


def test_events_that_wait_need_a_look_only_beside_an_old_snapshot() -> None:
    fresh = an_operation(waiting_events=9, published_at=NOW - timedelta(hours=23))
    old = an_operation(waiting_events=9, published_at=NOW - timedelta(hours=25))
    idle = an_operation(waiting_events=0, published_at=NOW - timedelta(days=99))
    assert [len(operation.find_remarks(one, NOW)) for one in (fresh, old, idle)] == [0, 1, 0]


def test_the_worst_comes_first_and_gives_the_page_its_level() -> None:
    failed = Verdict("published", "2026-03-15", False, "fail", 3, ["rows"])
    warned = Verdict("incoming", "2026-03-15", False, "warn", 3, [])
    remarks = operation.find_remarks(an_operation(quarantined_lines=1, verdicts=[warned, failed]), NOW)
    assert [remark.level for remark in remarks] == ["bad", "look", "look"]
    page = render_page(replace(EMPTY, remarks=remarks), FOLDER)
    assert 'class="verdict bad"' in page
    assert "Something is broken" in page


def test_runs_are_those_before_the_moment_the_newest_first_and_not_all_of_them(home: Home) -> None:
    node = NodeRun(name="facts", kind="model", status="success", seconds=0.5, rows=3)
    for number in range(60):
        record_run(home, a_run(number, nodes=(node.model_copy(update={"seconds": number / 10}),)))
    runs = the_runs(home, until=datetime(2026, 3, 15, 9, 5))
    assert len(runs.shown) == operation.MAX_RUNS
    assert [run.ended_at.strftime("%H:%M") for run in runs.shown[:2]] == ["09:00", "08:50"]
    (slowest,) = runs.slowest
    assert (slowest.name, slowest.runs, slowest.most_seconds, slowest.rows) == ("facts", 48, 5.4, 3)
    assert slowest.median_seconds == pytest.approx(3.05)


def test_few_runs_are_looked_for_further_back(home: Home) -> None:
    record_run(home, a_run(-100_000))
    record_run(home, a_run(1))
    assert len(the_runs(home).shown) == 2


def test_the_last_verdict_of_each_suite_counts_and_lines_that_are_none_do_not(home: Home) -> None:
    folder = home.path / "expectations"
    folder.mkdir()
    lines = [
        {"suite": "incoming", "checked_at": "2026-03-14T10:00:00+00:00", "success": False},
        {"suite": "incoming", "checked_at": "2026-03-15T10:00:00+00:00", "success": True, "evaluated": 5},
        {
            "suite": "published",
            "checked_at": "2026-03-15T10:00:00Z",
            "success": False,
            "failed": [{"column": "x"}],
        },
        {"suite": "published", "checked_at": "2026-03-16T10:00:00Z", "success": True},
    ]
    torn = '\n{"suite": "incoming", "checked'
    (folder / "results.jsonl").write_text("no json\n[]\n" + "\n".join(map(json.dumps, lines)) + torn)
    found = operation._read_verdicts(home, NOW.replace(tzinfo=UTC))
    assert [(one.suite, one.success, one.evaluated, one.failed) for one in found] == [
        ("incoming", True, 5, []),
        ("published", False, 0, ["column x"]),
    ]


def test_data_docs_are_linked_relative_to_the_page(home: Home, tmp_path: Path) -> None:
    assert operation._find_data_docs(home) is None
    docs = home.path / "data_docs" / "local site"
    docs.mkdir(parents=True)
    (docs / "index.html").touch()
    found = operation._find_data_docs(home)
    page = render_page(replace(EMPTY, operation=an_operation(home=str(home.path), data_docs=found)), tmp_path)
    assert 'href="home/data_docs/local%20site/index.html"' in page


# The command -------------------------------------------------------------------------------------------


def test_before_the_first_publication_the_command_says_to_run_first(home: Home) -> None:
    result = CliRunner().invoke(report_command, ["--home", str(home.path)])
    assert isinstance(result.exception, NothingPublishedError)
    assert result.exception.exit_code == 2
    assert "mnemoduck run" in str(result.exception)
    assert not (home.path / "report.html").exists()


def test_every_text_of_a_report_is_tried_by_the_hostile_words() -> None:
    """A field that is added to the records later must be filled in `a_report` with the word, too."""
    ours = {"level", "mend", "home", "snapshot", "step", "outcome", "state", "data_docs"}

    def texts_of(value: object, name: str) -> Iterator[tuple[str, str]]:
        if is_dataclass(value) and not isinstance(value, type):
            for field in fields(value):
                yield from texts_of(getattr(value, field.name), field.name)
        elif isinstance(value, list | tuple):
            for item in value:
                yield from texts_of(item, name)
        elif isinstance(value, str):
            yield name, value

    assert {name for name, text in texts_of(a_report("word"), "") if text != "word"} == ours
