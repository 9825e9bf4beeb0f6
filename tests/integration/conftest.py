"""Homes to work on: an empty one, a built one, and copies of it to change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.workbench import PROJECT, SAMPLE_STREAM, Workbench


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    """A home that does not exist yet."""
    return Workbench(tmp_path / "home")


@pytest.fixture(scope="session")
def built_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the sample stream, built and published; do not change it: see `sample`."""
    bench = Workbench(tmp_path_factory.mktemp("sample") / "home")
    done = bench.mnemoduck("ingest", str(SAMPLE_STREAM))
    assert done.code == 0, done.out + done.err
    bench.build()
    return bench.home


@pytest.fixture
def sample(built_home: Path, tmp_path: Path) -> Workbench:
    """A copy of the built sample home, to change at will."""
    shutil.copytree(built_home, tmp_path / "home")
    return Workbench(tmp_path / "home")


@pytest.fixture
def read_only_sample(built_home: Path) -> Workbench:
    return Workbench(built_home)


@pytest.fixture
def project_copy(tmp_path: Path) -> Callable[[], Path]:
    """Make a copy of the dbt project, to break it."""

    def copy() -> Path:
        folder = tmp_path / "project"
        folder.mkdir()
        for name in ("dbt_project.yml", "profiles.yml", "selectors.yml"):
            if (PROJECT / name).exists():
                shutil.copy(PROJECT / name, folder)
        for name in ("models", "macros", "seeds", "tests/data"):
            shutil.copytree(PROJECT / name, folder / name)
        return folder

    return copy
