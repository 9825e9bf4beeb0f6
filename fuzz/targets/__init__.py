"""One module for each subject; each has its targets as TARGETS."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from fuzz.target import Target


def modules() -> list[str]:
    """Return the full names of the modules of targets."""
    return sorted(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))


def targets_of(module: str) -> tuple[Target, ...]:
    found = importlib.import_module(module).TARGETS
    assert isinstance(found, tuple)
    return found


def all_targets() -> Iterator[tuple[str, Target]]:
    """Yield each target with the module that it is in."""
    for module in modules():
        for target in targets_of(module):
            yield module, target


def find_target(name: str) -> Target:
    """Return a target by its name; KeyError if there is none."""
    return {target.name: target for _, target in all_targets()}[name]
