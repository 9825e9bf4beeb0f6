"""The dbt project: where it is, what its variables are, and the science that its macros define.

Each mechanism of memory is defined once, as a dbt macro. What arrived since the last build is ranked
by the same definitions: `render` expands a macro of the project into SQL outside dbt.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import yaml
from jinja2 import Environment, StrictUndefined

from mnemoduck.errors import UsageError
from mnemoduck.forking import first_use

PROJECT_VARIABLE = "MNEMODUCK_PROJECT"
_RENDERED_FOLDERS = ("memory", "cross_db", "llm", "search")
_NEED_DBT = ("parameters.sql", "settings.sql", "recluster.sql")


def find_project(path: str | Path | None = None) -> Path:
    """Return the folder of the dbt project.

    In this order: the argument, MNEMODUCK_PROJECT, the working folder if it is one, the checkout that
    this package was installed from in editable mode, the copy inside the package.

    Raises:
        UsageError: the folder that was asked for holds no mnemoduck project.
    """
    asked = path or os.environ.get(PROJECT_VARIABLE)
    if asked:
        folder = Path(asked).expanduser().absolute()
        if not _is_project(folder):
            raise UsageError(
                f"{folder} holds no mnemoduck dbt project (a dbt_project.yml with `name: mnemoduck`). "
                f"Name another folder with --project or {PROJECT_VARIABLE}, or leave it out."
            )
        return folder
    package = Path(__file__).resolve().parent
    for folder in (Path.cwd(), package.parents[1], package / "project"):
        if _is_project(folder):
            return folder
    raise UsageError(
        f"The dbt project of mnemoduck was not found. Name its folder with --project or {PROJECT_VARIABLE}."
    )


def find_expectations(project: Path) -> Path:
    """Return the folder of the suites of expectations: that of the project, as is a copy of it."""
    return project / "orchestration" / "expectations"


@lru_cache(maxsize=1024)  # statements name the tables of what is fresh, of which there are ever new ones
def render(project: Path, macro: str, *arguments: Any) -> str:
    """Return the SQL that a macro of macros/memory, llm, search or cross_db expands to for DuckDB.

    Variables have the values of dbt_project.yml. Raises UsageError where the macro would stop dbt.
    """
    with first_use:
        module = _macros(project)
    function: Callable[..., Any] = getattr(module, macro)
    return str(function(*arguments)).strip()


@cache
def variables(project: Path) -> dict[str, Any]:
    """Return the variables of dbt_project.yml with their values there."""
    document = yaml.safe_load((project / "dbt_project.yml").read_text("utf-8"))
    return dict(document["vars"])


@cache
def _macros(project: Path) -> Any:
    environment = Environment(  # its output is SQL of our own, not HTML
        extensions=["jinja2.ext.do"],
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
    )
    source = "\n".join(
        path.read_text("utf-8")
        for folder in _RENDERED_FOLDERS
        for path in sorted((project / "macros" / folder).glob("*.sql"))
        if path.name not in _NEED_DBT
    )

    def dispatch(name: str, _package: str) -> Callable[..., Any]:
        return getattr(module, f"duckdb__{name}")  # type: ignore[no-any-return]

    def stop(message: str) -> NoReturn:
        raise UsageError(message)

    module: Any = environment.from_string(source).make_module(
        {
            "return": lambda value: value,
            "adapter": SimpleNamespace(dispatch=dispatch),
            "exceptions": SimpleNamespace(raise_compiler_error=stop),
            "parameter": lambda name: variables(project)[name],
            "execute": False,
        }
    )
    return module


def _is_project(folder: Path) -> bool:
    try:
        text = (folder / "dbt_project.yml").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return any(line.strip().replace('"', "") == "name: mnemoduck" for line in text.splitlines())
