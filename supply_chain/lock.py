"""A lock file as pip reads it: each package pinned to a version and to the hashes of its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
"""What mnemoduck needs; the other lock files add tools to it."""
LOCKS = (
    LOCK,
    ROOT / "requirements-dev.lock",
    ROOT / "fuzz" / "requirements.lock",
    ROOT / "supply_chain" / "requirements.lock",
)
"""Every lock file that make installs from with hashes."""


class LockError(Exception):
    """A line of a lock file is not pinned, has no hash, or cannot be read."""


@dataclass(frozen=True)
class Pinned:
    """One package of a lock file; `needed_by` are the packages that need it, by their canonical names."""

    name: str
    version: str
    marker: str | None
    hashes: tuple[str, ...]
    needed_by: tuple[str, ...] = field(default=())


def read_lock(path: Path) -> list[Pinned]:
    """Return the packages of a lock file, in its order; the hashes are SHA-256 in hexadecimal.

    Raises:
        LockError: a package is not pinned to one version or has no hash, or an option stands in the file.
    """
    found = []
    for number, requirement, hashes, needed_by in _entries(path):
        where = f"{path.name}, line {number}"
        try:
            read = Requirement(requirement)
        except InvalidRequirement as error:
            raise LockError(f"{where}: {requirement!r} is no requirement ({error}).") from error
        pins = [one for one in read.specifier if one.operator == "==" and not one.version.endswith(".*")]
        if len(pins) != 1 or len(read.specifier) != 1 or read.url is not None:
            raise LockError(f"{where}: {read.name} is not pinned to one version.")
        if not hashes:
            raise LockError(f"{where}: {read.name} has no hash.")
        found.append(
            Pinned(
                name=canonicalize_name(read.name),
                version=pins[0].version,
                marker=str(read.marker) if read.marker else None,
                hashes=tuple(sorted(hashes)),
                needed_by=tuple(sorted(needed_by)),
            )
        )
    return found


def _entries(path: Path) -> list[tuple[int, str, list[str], list[str]]]:
    """Return number of the line, requirement, hashes and who needs it, of each package."""
    entries: list[tuple[int, str, list[str], list[str]]] = []
    is_via = False
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        text = line.strip().removesuffix("\\").strip()
        if text.startswith("#"):
            said = text.lstrip("# ").strip()
            is_via = said.startswith("via") or (is_via and bool(said))
            name = said.removeprefix("via").strip()
            if is_via and name and entries:
                # "mnemoduck (pyproject.toml)", "-c requirements.lock": no packages of the file.
                entries[-1][3].extend([] if " " in name else [canonicalize_name(name)])
        elif text.startswith("--hash="):
            algorithm, _, digest = text.removeprefix("--hash=").partition(":")
            if algorithm != "sha256" or len(digest) != 64 or not entries:
                raise LockError(f"{path.name}, line {number}: {text!r} is no hash by SHA-256.")
            entries[-1][2].append(digest)
        elif text.startswith("-"):
            raise LockError(f"{path.name}, line {number}: an option ({text!r}) stands in a lock file.")
        elif text:
            is_via = False
            entries.append((number, text, [], []))
    return entries
