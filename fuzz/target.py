"""What is fuzzed: a function that takes any bytes, and returns or refuses them with a sentence."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from mnemoduck.errors import MnemoduckError
from mnemoduck.home import Home, open_home

CORPUS = Path(__file__).with_name("corpus")

CHEAP, MEDIUM, DEAR = 200, 6, 1
"""Weights: a target has a share of the cases in proportion. A dear one takes milliseconds a case."""


@dataclass(frozen=True)
class Target:
    """Something that reads what others wrote.

    Attributes:
        says: what holds for any bytes, beside that nothing but an error of ours comes out.
        check: raises what is not expected, AssertionError included.
        tokens: pieces of text that mean something to it.
        cases: bytes near those that it accepts; by default pieces of its corpus, changed and joined.
        max_bytes: longer cases are not tried.
        weight: CHEAP, MEDIUM or DEAR.
    """

    name: str
    says: str
    check: Callable[[bytes], None]
    tokens: tuple[bytes, ...] = ()
    cases: st.SearchStrategy[bytes] | None = None
    max_bytes: int = 4096
    weight: int = CHEAP

    @property
    def corpus(self) -> Path:
        """The folder of its first cases; those that failed once are among them, as `crash-…`."""
        return CORPUS / self.name

    def seeds(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.corpus.glob("*"))]

    def strategy(self) -> st.SearchStrategy[bytes]:
        """Return what cases are drawn from."""
        near = near_to(self.seeds() or [b""], self.tokens)
        return near if self.cases is None else st.one_of(self.cases, self.cases, near)


_NUMBERS = (b"0", b"-1", b"1e400", b"NaN", b"-Infinity", b"9" * 400, b"9" * 5000, b"1e-400", b"0.5", b"true")
_SIGNS = (b"\0", b"\n", b"\r", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\xff", b"\x1b[31m")
_TEXTS = (
    "\u202e", "\u2028", "\ufeff", "é", "e\u0301", "İ", "ß", "👩🏽\u200d🚀", "\ufffe", "\U0010ffff", "\u00a0",
    "\u0660",
)  # fmt: skip
_LONG = (
    b"[" * 300,
    b"{" * 300,
    b" " * 300,
    b"a" * 300,
    b"\\ud800",
    b"\\u0000",
    b"../../etc/passwd",
    b"{{ 1 }}",
)
ODD = (*_NUMBERS, *_SIGNS, *(text.encode() for text in _TEXTS), *_LONG)
"""What goes wrong elsewhere."""


def near_to(seeds: list[bytes], tokens: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Return a strategy for bytes that differ from one seed, or two of them joined, in a few places."""
    seed = st.sampled_from(seeds)
    piece = st.sampled_from([*tokens, *ODD]) | st.binary(max_size=4)
    share = st.integers(0, 1000)
    edits = st.lists(st.tuples(share, share, piece | st.tuples(share, share)), max_size=5)

    def build(first: bytes, second: bytes, is_joined: bool, changes: list[tuple[int, int, object]]) -> bytes:
        data = first + second if is_joined else first
        for start, length, what in changes:
            begin = start * len(data) // 1000
            end = begin + length * len(data) // 4000
            if isinstance(what, tuple):  # a copy of another part
                source = what[0] * len(data) // 1000
                new = data[source : source + what[1] * len(data) // 4000]
            else:
                assert isinstance(what, bytes)
                new = what
            data = data[:begin] + new + data[end:]
        return data

    return st.builds(build, seed, seed, st.booleans(), edits)


@contextlib.contextmanager
def may_refuse(*others: type[Exception]) -> Iterator[None]:
    """Let through errors of ours, and these others, if they say something that can be shown."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, (MnemoduckError, *others)):
            raise
        if not str(error).strip():
            raise AssertionError(f"{type(error).__name__} says nothing") from error


def scratch_folder() -> Path:
    """Return a new folder in memory if there is such a place; who made it removes it at the end."""
    shared = Path("/dev/shm")  # noqa: S108  (files of this process, in a folder of a random name)
    return Path(
        tempfile.mkdtemp(prefix="mnemoduck-fuzz-", dir=shared if os.access(shared, os.W_OK) else None)
    )


_folder: Path | None = None


def scratch() -> Path:
    """Return this process's folder; `python -m fuzz run` removes it."""
    global _folder
    if _folder is None:
        given = os.environ.get("MNEMODUCK_FUZZ_FOLDER")
        _folder = Path(given) if given else scratch_folder()
        setattr(os, "fsync", lambda _: None)  # noqa: B010  (nothing here has to survive a loss of power)
    return _folder


def scratch_file(name: str, data: bytes) -> Path:
    """Write a case to a file, in place of the one before, and return its path."""
    path = scratch() / name
    path.write_bytes(data)
    return path


def scratch_home(name: str) -> Home:
    """Return a home in the process's folder."""
    return open_home(scratch() / name)


def emptied(folder: Path) -> None:
    """Remove the files of a folder and of its subfolders."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
