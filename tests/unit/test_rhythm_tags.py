"""The rhythms of the models: one tag each, and nothing is made from what is built less often."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnemoduck.pipeline.rhythm import RHYTHMS

PROJECT = Path(__file__).resolve().parents[2]
MODELS = {path.stem: path for kind in ("sql", "py") for path in (PROJECT / "models").rglob(f"*.{kind}")}

WHAT_ARRIVES_THROUGH_THE_CACHE = {("int_llm_answers", "llm_calls"), ("memory_embeddings", "llm_calls")}
"""They read what the calls have left in the cache, whenever that was; the order is for runs that do both."""


def tags(model: str) -> list[str]:
    """The tags that dbt_project.yml gives along the path of a model; they add up."""
    configured: Any = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())["models"]["mnemoduck"]
    found = []
    for part in (*MODELS[model].relative_to(PROJECT / "models").parent.parts, model):
        configured = configured.get(part) or {}
        found += [configured["+tags"]] if "+tags" in configured else []
    return found


def parents(model: str) -> Iterator[str]:
    yield from re.findall(r"""\bref\(['"](\w+)['"]\)""", MODELS[model].read_text())


@pytest.mark.parametrize("model", sorted(MODELS))
def test_a_model_has_one_rhythm_and_is_made_from_what_is_built_as_often(model: str) -> None:
    assert "tags=" not in MODELS[model].read_text()
    (rhythm,) = tags(model)
    assert rhythm in RHYTHMS
    if MODELS[model].parent.name == "observability":
        return  # what tells about the home tells how far the rest has got
    for parent in parents(model):
        if (model, parent) not in WHAT_ARRIVES_THROUGH_THE_CACHE:
            assert RHYTHMS.index(tags(parent)[0]) <= RHYTHMS.index(rhythm), parent


def test_each_rhythm_has_a_selector() -> None:
    selectors = yaml.safe_load((PROJECT / "selectors.yml").read_text())["selectors"]
    assert set(RHYTHMS) <= {selector["name"] for selector in selectors}
    assert [selector["name"] for selector in selectors if selector.get("default")] == [
        "everything_but_unit_tests"
    ]
