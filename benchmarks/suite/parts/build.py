"""Building: everything, nothing new, 1 % new and 1 % late, in time, memory and bytes."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.layers.measure import STEPS, bytes_of_stream
from benchmarks.suite.parts import Found, FoundByScale
from benchmarks.suite.work import Work, calibrate
from mnemoduck.home import open_home

NAME = "build"
TITLE = "Builds"


def measure(work: Work) -> Found:
    """Return what each step of building the home took, and how quick the machine was before and after."""
    before = calibrate()
    if "home" not in work.__dict__:
        home = open_home(work.empty_folder("home"))
        work.build(home, STEPS)
        work.home = home
    return {**work.built, "stream_bytes": bytes_of_stream(work.stream), "calibration_seconds": before}


def ratios(found: Found) -> dict[str, float]:
    return {}


def report(found_by_scale: FoundByScale) -> Iterator[str]:
    yield ""
