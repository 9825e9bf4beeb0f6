"""The page of a real home: it shows what the commands and the snapshot say, and so does a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from mnemoduck.report.page import render_page
from tests.integration.workbench import SAMPLE_END, Workbench
from tests.unit.test_report import SECTIONS, Parsed, a_report

HOSTILE = "\"><script>alert('x')</script><img src=x onerror=alert(1)> \u202egnp.exe \x1b[31m \ud83e\uddf3"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (320, 360, 640, 959, 1280)


def report(bench: Workbench, *arguments: str) -> str:
    """Return the page that the command writes."""
    out = bench.home.parent / f"page-{os.getpid()}.html"
    done = bench.mnemoduck_here("report", "--out", str(out), *arguments)
    assert done.code == 0, done.err
    assert str(out) in done.out
    page = out.read_text("utf-8")
    out.unlink()
    return page


@pytest.fixture(scope="module")
def shown(built_home: Path) -> dict[str, Any]:
    """What the page of the sample shows at its end."""
    done = Workbench(built_home).mnemoduck_here("report", "--json", "--as-of", SAMPLE_END)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


@pytest.fixture(scope="module")
def sample_page(built_home: Path) -> str:
    return report(Workbench(built_home), "--as-of", SAMPLE_END)


def asked(bench: Workbench, *arguments: str) -> list[dict[str, Any]]:
    done = bench.mnemoduck_here(*arguments, "--json")
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


def section(page: str, name: str) -> str:
    (found,) = re.findall(rf'<section id="{name}".*?</section>', page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", found)).split())


def test_the_page_of_the_sample_has_all_sections_and_is_the_same_each_time(
    read_only_sample: Workbench, sample_page: str
) -> None:
    page = report(read_only_sample, "--as-of", SAMPLE_END)
    assert page == sample_page
    assert [name for name in Parsed(page).ids if name != "health"] == list(SECTIONS)
    assert "allergy emergency kit" in section(page, "mind")
    assert "Please answer in short bullet points." in section(page, "strongest")
    assert "Lisbon" in section(page, "associations")
    assert "short_term_memories" in section(page, "partitions")
    assert len(page.encode()) < 200_000


def test_the_page_says_what_the_other_commands_say(read_only_sample: Workbench) -> None:
    whose = ("--user", "maya", "--as-of", SAMPLE_END)
    shown = json.loads(read_only_sample.mnemoduck_here("report", "--json", *whose).out)
    (mind,) = shown["minds"]["shown"]
    assert [slot["content"] for slot in mind["slots"]] == [
        slot["content"] for slot in asked(read_only_sample, "working-memory", *whose)
    ]
    long_term = asked(read_only_sample, "long-term", "--limit", "10000", *whose)
    assert [one["consolidated_id"] for one in shown["strongest"]] == [
        one["consolidated_id"] for one in long_term[:10]
    ]
    counts = shown["fates"]["moments"][-1]["counts"]
    assert counts["retained"] + counts["reinforced"] == len(long_term)
    next_to_go = sorted(one["forgets_at"] for one in long_term if one["forgets_at"])[:10]
    assert [one["forgets_at"] for one in shown["fading"]] == [
        time.replace("+00:00", "") for time in next_to_go
    ]
    ((memories,),) = read_only_sample.query(
        "select count(*) from short_term_memories where user_id = 'maya' and forgotten_at is null "
        f"and occurred_at <= '{SAMPLE_END.removesuffix('Z')}'"
    )
    assert shown["activity"]["memory_count"] == memories
    assert sum(sum(one["counts"].values()) for one in shown["activity"]["bins"]) == memories
    assert {concept["scope"][0] for concept in shown["graph"]["concepts"]} == {"maya"}


def test_fates_of_earlier_moments_are_those_that_the_snapshot_tells_of_them(
    read_only_sample: Workbench, shown: dict[str, Any]
) -> None:
    moments = shown["fates"]["moments"]
    assert len(moments) > 5
    for one in moments:
        counts = read_only_sample.query(
            f"select fate, count(*) from consolidated_as_of('{one['begin']}') group by fate"
        )
        assert one["counts"] == dict(counts)


def test_a_curve_begins_at_what_is_retained_and_falls_by_the_stability(
    read_only_sample: Workbench, shown: dict[str, Any]
) -> None:
    curves = shown["curves"]
    stabilities = [curve["memory"]["stability_days"] for curve in curves]
    assert len(stabilities) >= 3
    assert stabilities == sorted(set(stabilities))
    for curve in curves:
        (start, now), *_, (end, then) = curve["points"]
        assert (start, now) == (0, curve["memory"]["retention"])
        ((expected,),) = read_only_sample.query(
            f"select retention from consolidated_as_of(timestamp '{SAMPLE_END.removesuffix('Z')}' "
            f"+ interval '{end} days') where consolidated_id = '{curve['memory']['consolidated_id']}'"
        )
        assert then == pytest.approx(expected)


def test_concepts_and_associations_are_as_strong_as_the_view_says(
    read_only_sample: Workbench, shown: dict[str, Any]
) -> None:
    """The view is evaluated at the time of the query, the page at the end of the sample: all fade alike."""
    graph = shown["graph"]
    strengths = read_only_sample.query(
        "select source_id, source, sum(potential) from associations group by all order by 3 desc, 1"
    )
    of_concept = {concept_id: strength for concept_id, _, strength in strengths}
    most = strengths[0][2]
    assert graph["concept_count"] == len(strengths)
    assert {one["concept"] for one in graph["concepts"][:5]} == {concept for _, concept, _ in strengths[:5]}
    for one in graph["concepts"]:
        assert one["strength"] == pytest.approx(of_concept[one["concept_id"]] / most)
    potentials = {
        frozenset(pair): potential
        for *pair, potential in read_only_sample.query(
            "select source_id, target_id, potential from associations"
        )
    }
    ids = [one["concept_id"] for one in graph["concepts"]]
    drawn = [(frozenset((ids[one["source"]], ids[one["target"]])), one["strength"]) for one in graph["edges"]]
    assert len(drawn) > 30
    strongest = max(potentials.values())
    for pair, strength in drawn:
        assert strength <= 1
        assert strength == pytest.approx(drawn[0][1] * potentials[pair] / potentials[drawn[0][0]])
    assert strongest >= potentials[drawn[0][0]]


def test_long_after_the_last_memory_the_page_says_from_when_to_look(read_only_sample: Workbench) -> None:
    page = report(read_only_sample, "--as-of", "2027-06-01")
    assert f"--as-of {SAMPLE_END}" in section(page, "mind")
    before = report(read_only_sample, "--as-of", "1999-01-01", "--user", "nobody <b>")
    assert "no memories at this moment" in section(before, "mind")
    assert "Memories of <bdi>user nobody &lt;b&gt;</bdi>" in before


def test_what_was_ordered_forgotten_is_not_shown_before_and_after_the_order_is_carried_out(
    sample: Workbench, sample_page: str
) -> None:
    mind = asked(sample, "working-memory", "--user", "maya", "--as-of", SAMPLE_END)
    (lamp,) = (slot for slot in mind if "blue lamp" in slot["content"])
    assert "blue lamp" in sample_page
    assert "blue heron" not in sample_page, "it was ordered forgotten in the stream"
    assert sample.mnemoduck_here("forget", lamp["memory_id"]).code == 0
    told = report(sample, "--as-of", SAMPLE_END)
    assert "blue lamp" not in told
    assert "1 order to forget waits for the next run" in told
    assert sample.mnemoduck_here("forget", "--user", "maya", "--yes").code == 0
    told = report(sample, "--as-of", SAMPLE_END)
    assert "Lisbon" not in told
    assert "hazelnut" not in told
    assert "certificate of the home server" in told


def test_the_page_lies_in_the_home_for_its_owner_alone(sample: Workbench) -> None:
    done = sample.mnemoduck_here("report", "--as-of", SAMPLE_END)
    assert done.code == 0, done.err
    page = sample.home / "report.html"
    assert str(page) in done.out
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    for out in (sample.home, sample.home / "no folder" / "page.html"):
        refused = sample.mnemoduck_here("report", "--out", str(out))
        assert refused.code == 2
        assert str(out.name if out != sample.home else out) in refused.err


@pytest.mark.long
def test_a_home_of_one_memory_that_is_hostile_has_a_page(bench: Workbench) -> None:
    done = bench.mnemoduck(
        "remember", HOSTILE + " x" * 20_000, "--user", "<b>u</b>", "--agent", "a\u202e", "--session", "'s'"
    )
    assert done.code == 0, done.err
    bench.build()
    page = report(bench)
    parsed = Parsed(page)
    assert {"script", "img", "b"}.isdisjoint(tag for tag, _ in parsed.elements)
    assert "<script>alert('x')</script>" in section(page, "mind")
    assert "\\u202egnp.exe \\x1b[31m" in section(page, "mind")
    assert "<b>u</b> / a\\u202e / 's'" in section(page, "mind")
    assert "1 memory" in page
    assert len(page.encode()) < 200_000


# In a browser ------------------------------------------------------------------------------------------


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Open a page in a headless browser; return its elements as they are then, and what the console said."""
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install -y --no-install-recommends chromium")

    def open_page(page: Path, *options: str) -> tuple[str, str]:
        done = subprocess.run(
            [
                str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--disable-background-networking", "--no-first-run", "--hide-scrollbars",
                "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}",
                "--virtual-time-budget=3000", "--dump-dom", *options, page.as_uri(),
            ],
            capture_output=True, text=True, check=False, timeout=300,
            env={**os.environ, "HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)

    return open_page


def test_a_browser_shows_all_sections_and_asks_for_nothing(
    sample_page: str, browse: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text(sample_page)
    shot = tmp_path / "page.png"
    shown, console = browse(page, "--window-size=360,800", f"--screenshot={shot}")
    assert [name for name in Parsed(shown).ids if name != "health"] == list(SECTIONS)
    assert console == ""
    assert shot.read_bytes().startswith(b"\x89PNG")
    # What the policy keeps out is told on the console: so an empty one means that nothing was asked for.
    page.write_text(
        page.read_text().replace("</footer>", '</footer><img src="other.png"><p style="color: red">')
    )
    _, console = browse(page)
    assert console.count("Content Security Policy") >= 2


def test_nothing_is_wider_than_the_window(
    sample_page: str, browse: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    """Measured by a script in copies: of the sample, and of a page with all there can be, in long words."""
    measuring = """<script>
        addEventListener("load", () => {
            for (const part of document.querySelectorAll("details")) part.open = true;
            const charts = [...document.querySelectorAll(".chart svg")].filter(one => one.clientWidth > 0);
            const margin = getComputedStyle(document.body).margin;
            const needed = document.scrollingElement.scrollWidth;
            parent.postMessage([name, innerWidth, needed, charts.length, margin].join(" "), "*");
        });
    </script></body>"""
    pages = {
        "sample": sample_page,
        "full": render_page(a_report("Donaudampfschifffahrtsgesellschaft_" * 9), tmp_path),
    }
    frames = []
    for name, page in pages.items():
        scriptable = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        (tmp_path / f"{name}.html").write_text(scriptable.replace("</body>", measuring))
        frames += [f'<iframe name="{name}" src="{name}.html" width="{width}"></iframe>' for width in WIDTHS]
    (tmp_path / "outer.html").write_text(
        "<!DOCTYPE html><style>iframe { border: 0 }</style><body><script>"
        "addEventListener('message', told => document.body.append('[' + told.data + ']'))"
        f"</script>{''.join(frames)}</body>"
    )
    shown, _ = browse(tmp_path / "outer.html")
    told = sorted(line.split(" ") for line in re.findall(r"\[(.*?)\]", shown.partition("</script>")[2]))
    assert sorted((name, int(width)) for name, width, *_ in told) == [
        (name, width) for name in sorted(pages) for width in WIDTHS
    ]
    for name, width, needed, charts, margin in told:
        assert int(needed) <= int(width), name
        assert int(charts) == (6 if name == "full" else 5), "each chart is shown once, wide or narrow"
        assert margin == "0px", "the style is in force"
