"""The parts of the suite, one module for each subject. A module that lies here is a part: nothing else to do.

What a part is made of is said by `Part`. It may also have

    plot(found_by_scale, path)   draws an .svg, which its section of the page begins with
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from benchmarks.suite.work import Work

Found = dict[str, Any]
FoundByScale = Mapping[str, Found]
"""What a part found at each scale, the smallest scale first; `memories` is in each."""

_ORDER = ("build", "storage", "queries", "concurrency", "ingest", "claims")
"""In which parts are measured and shown; others follow by name. `build` makes the home that all read,
`storage` weighs it, and `queries` adds to it while it is read."""


class Part(Protocol):
    """One subject that is measured at each scale."""

    NAME: str
    TITLE: str

    def measure(self, work: Work) -> Found:
        """Return what was measured, as plain data; raise if what was timed was not what it should be."""
        ...

    def ratios(self, found: Found) -> dict[str, float]:
        """Return figures that do not depend on the machine and of which less is better.

        They are multiples of something that was measured beside them: `select 1`, an fsync, the loop of
        `Work.calibrate`. `compare` flags one that grew to more than 1.3 times of what it was.
        """
        ...

    def report(self, found_by_scale: FoundByScale) -> Iterator[str]:
        """Yield the lines of the part's section, below its title, in Markdown."""
        ...


def find_parts() -> dict[str, Part]:
    """Return all parts by name, in the order in which they are measured."""
    found: dict[str, Part] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        part = cast(Part, importlib.import_module(f"{__name__}.{module.name}"))
        if part.NAME in found:
            raise RuntimeError(f"two parts of the suite are named {part.NAME!r}")
        found[part.NAME] = part
    places = {name: place for place, name in enumerate(_ORDER)}
    return dict(sorted(found.items(), key=lambda named: (places.get(named[0], len(places)), named[0])))
