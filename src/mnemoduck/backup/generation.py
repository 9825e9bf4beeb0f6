"""What one backup holds: its files, each by its digest and the pieces that it is made of.

A generation is a JSON file of the target. Its name ends in the digest of its text, so that damage shows, and
what it says is checked before anything of it is used: who restores a backup may have got it from elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from mnemoduck.errors import StorageError

FORMAT_VERSION = 1

PIECE_BYTES = 1024 * 1024
"""A file is stored in pieces of this size: of a database that was changed here and there most are known."""

MAX_PATH_CHARACTERS = 1000

_ID = re.compile(r"[0-9]{6,12}-[0-9a-f]{12}")


def check_path(path: str) -> str:
    """Return a path below a home as it is.

    Raises:
        ValueError: it leads elsewhere, or is written in a way that a name of ours never is.
    """
    parts = path.split("/")
    is_plain = all(part not in {"", ".", ".."} for part in parts)
    if not is_plain or len(path) > MAX_PATH_CHARACTERS or "\\" in path or not path.isprintable():
        raise ValueError(f"{path[:80]!r} is no path below a home")
    return path


Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
HomePath = Annotated[str, AfterValidator(check_path)]


class Stamp(BaseModel):
    """By what a file is known to be as it was when it was read, without reading it again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Count
    mtime_ns: int
    ctime_ns: int
    inode: Count


class RowsSum(BaseModel):
    """How many rows, and a sum over them that does not depend on their order (32 hex digits)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: Count = 0
    checksum: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] = "0" * 32

    def __add__(self, other: RowsSum) -> RowsSum:
        halves = [
            (int(mine, 16) + int(theirs, 16)) % 2**64
            for mine, theirs in zip(_halves(self.checksum), _halves(other.checksum), strict=True)
        ]
        return RowsSum(rows=self.rows + other.rows, checksum="".join(f"{half:016x}" for half in halves))


def _halves(checksum: str) -> tuple[str, str]:
    return checksum[:16], checksum[16:]


class StoredFile(BaseModel):
    """A file of the home.

    Attributes:
        path: where it is put below the home.
        pieces: the SHA-256 of its pieces, each of PIECE_BYTES but the last.
        stamp: what it was like where it was read; None if it may have been changed in that moment.
        events: of a raw file, a sum over the events in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: HomePath
    size: Count
    sha256: Digest
    pieces: tuple[Digest, ...]
    stamp: Stamp | None = None
    events: RowsSum | None = None

    @model_validator(mode="after")
    def _has_its_pieces(self) -> StoredFile:
        if len(self.pieces) != -(-self.size // PIECE_BYTES):
            raise ValueError(f"{self.path} has {self.size} bytes, which are not {len(self.pieces)} pieces")
        return self

    def piece_size(self, number: int) -> int:
        """Return the bytes of a piece, counted from 0."""
        return min(PIECE_BYTES, self.size - number * PIECE_BYTES)


class Generation(BaseModel):
    """One backup of a home.

    Attributes:
        number: it is the so many-th in its target.
        home_made_at: when the home was made, by which it is told from others; None if it does not say.
        home_path: where it was.
        layout_version: of the home.
        batch_seq: the newest load in raw/.
        snapshot: the name of the published snapshot, and `snapshot_batch_seq` the newest load in it; None and
            0 if there is none, or it was left out.
        events: a sum over all events in raw/.
        waiting_events: lines of the inbox that are not in raw/ yet.
        began_at: what was acknowledged by then is in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Annotated[int, Field(ge=1)] = FORMAT_VERSION
    number: Annotated[int, Field(ge=1, lt=10**12)]
    began_at: AwareDatetime
    ended_at: AwareDatetime
    mnemoduck_version: str
    duckdb_version: str
    home_path: str
    home_made_at: str | None
    layout_version: Annotated[int, Field(ge=1)]
    batch_seq: Count
    snapshot: str | None
    snapshot_batch_seq: Count
    events: RowsSum
    waiting_events: Count
    files: tuple[StoredFile, ...]

    @model_validator(mode="after")
    def _has_each_file_once(self) -> Generation:
        taken: set[str] = set()
        for file in self.files:
            if file.path in taken:
                raise ValueError(f"{file.path} is in it twice")
            taken.add(file.path)
        for path in taken:
            for folder in PurePosixPath(path).parents:
                if str(folder) in taken:
                    raise ValueError(f"{folder} is a file and a folder in it")
        return self

    @property
    def size(self) -> int:
        """Bytes of all files, as they are when they are restored."""
        return sum(file.size for file in self.files)

    @property
    def pieces(self) -> set[str]:
        return {piece for file in self.files for piece in file.pieces}

    def file(self, path: str) -> StoredFile | None:
        return next((file for file in self.files if file.path == path), None)

    def to_text(self) -> str:
        return self.model_dump_json(exclude_defaults=False) + "\n"


def id_of(number: int, text: str) -> str:
    """Return the name of a generation with this number and text."""
    return f"{number:06d}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def is_id(name: str) -> bool:
    return _ID.fullmatch(name) is not None


def read_generation(generation_id: str, text: str) -> Generation:
    """Return what a generation says.

    Raises:
        StorageError: it is damaged, of a later format, or says what no backup does.
    """
    try:
        generation = Generation.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise StorageError(
            f"The backup {generation_id} cannot be read: {place}: {first['msg']}. Use another generation."
        ) from error
    if generation.format_version > FORMAT_VERSION:
        raise StorageError(
            f"The backup {generation_id} has format {generation.format_version}; this mnemoduck knows "
            f"{FORMAT_VERSION}. Use the release that made it."
        )
    if id_of(generation.number, text) != generation_id:
        raise StorageError(
            f"The backup {generation_id} was changed since it was made: its digest is another one. Use "
            "another generation."
        )
    return generation


def describe_moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
