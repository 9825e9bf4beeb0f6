"""What every regular expression of the package has to be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mnemoduck

PACKAGE = Path(mnemoduck.__file__).parent
POSSESSIVE_GROUP = re.compile(r"\)(?:[*+?]|\{{1,2}[0-9,]+\}{1,2})\+")


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the texts of a module, those with names in them as they are written, with their first lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, ast.get_source_segment(source, node) or ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_no_group_is_possessive_since_older_pythons_match_too_much_by_it() -> None:
    """Of python/cpython 106052, which Python 3.11.0 to 3.11.4 have: `(?:ab?c)*+` matches all of "aca"."""
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in texts(path.read_text("utf-8"))
        if POSSESSIVE_GROUP.search(text)
    ]
    assert not found, "write them as atomic groups, (?>(?:…)*): " + "; ".join(found)


def test_what_is_looked_for_is_found() -> None:
    source = """A = rf"(?:{B}){{0,9}}+"\nC = r"(?:a){2,}+"\nD = "(?:a)*+"\nE = r"[a-z]*+(?:b)+(?>(?:c)*)"\n"""
    assert {line for line, text in texts(source) if POSSESSIVE_GROUP.search(text)} == {1, 2, 3}
