"""What can be said of orchestration/airflow without Airflow; `make test-airflow` runs it in a real one."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[2]
AIRFLOW = PROJECT / "orchestration" / "airflow"
MODULES = sorted((AIRFLOW / "dags").glob("*.py"))
PAGE = (PROJECT / "docs" / "airflow.md").read_text("utf-8")


def strings(tree: ast.AST) -> set[str]:
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def pins() -> dict[str, str]:
    lines = (AIRFLOW / "requirements.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_the_dags_need_only_airflow_cosmos_and_the_standard_library(module: Path) -> None:
    tree = ast.parse(module.read_text("utf-8"))
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} | {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    known = {"airflow", "cosmos", *(path.stem for path in MODULES), *sys.stdlib_module_names}
    assert {name.split(".")[0] for name in imported} <= known


def test_the_page_names_every_variable_that_the_dags_read() -> None:
    said = {text for module in MODULES for text in strings(ast.parse(module.read_text("utf-8")))}
    variables = {text for text in said if re.fullmatch(r"(MNEMODUCK|AIRFLOW)_[A-Z_]+", text)}
    assert variables >= {
        "MNEMODUCK_HOME",
        "MNEMODUCK_PROJECT",
        "MNEMODUCK_PROGRAMS",
        "MNEMODUCK_AIRFLOW_TASKS",
    }
    assert {name for name in variables if f"`{name}" not in PAGE} == set()


def test_what_is_pinned_for_airflow_is_what_the_extra_asks_for() -> None:
    extra = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]["airflow"]
    for requirement in map(Requirement, extra):
        assert requirement.specifier.contains(pins()[requirement.name])
    assert {pins()["apache-airflow"], pins()["apache-airflow-core"]} == {pins()["apache-airflow"]}


def test_the_page_tells_of_the_pinned_versions() -> None:
    assert f"Airflow {pins()['apache-airflow']}" in PAGE
    assert f"Cosmos {pins()['astronomer-cosmos']}" in PAGE
