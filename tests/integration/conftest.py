"""Homes to work on: an empty one, a built one, and copies of it to change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.workbench import PROJECT, SAMPLE_STREAM, SHARED_VARIABLE, Workbench, made_once


@pytest.fixture(scope="session", autouse=True)
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Say where the workers of this run of the tests share what takes long to make."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    os.environ[SHARED_VARIABLE] = str(folder)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    """A home that does not exist yet."""
    return Workbench(tmp_path / "home")


@pytest.fixture(scope="session")
def built_home() -> Path:
    """A home with the sample stream, built and published; do not change it: see `sample`.

    Built by plain dbt, which said what is in the file `said` beside it.
    """

    def build(folder: Path) -> None:
        bench = Workbench(folder / "home", forks=False)
        done = bench.mnemoduck("ingest", str(SAMPLE_STREAM))
        assert done.code == 0, done.out + done.err
        done = bench.dbt("build")
        assert done.code == 0, done.out + done.err
        (folder / "said").write_text(done.out)

    return made_once("sample", build) / "home"


@pytest.fixture
def sample(built_home: Path, tmp_path: Path) -> Workbench:
    """A copy of the built sample home, to change at will."""
    shutil.copytree(built_home, tmp_path / "home")
    return Workbench(tmp_path / "home")


@pytest.fixture
def read_only_sample(built_home: Path) -> Iterator[Workbench]:
    """The built sample home that all tests share: a recall there is one that is not recorded."""
    yield Workbench(built_home)
    assert not list((built_home / "inbox").glob("*.*")), "a test has written to the home that all share"


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
