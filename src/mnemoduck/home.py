"""The home folder: where everything that belongs to one user's memory lives.

The layout is described in docs/home.md. A folder becomes a home by its marker file `home.json`,
which carries the version of the layout, so that a mistyped path is never filled with our files and
a later version can upgrade an earlier home.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NoReturn

from mnemoduck.errors import HomeError

HOME_VARIABLE = "MNEMODUCK_HOME"
DEFAULT_HOME = ".mnemoduck"
LAYOUT_VERSION = 1
"""What this release writes. A home of an earlier one is brought here by `mnemoduck.migrations`."""

RESTORING = "restoring.json"
"""The marker of a folder that a backup is being restored to; in the end it becomes `home.json`."""

_MAX_MARKER_BYTES = 64 * 1024
"""More of a marker is not read: it is a line."""

FILE_MODE = 0o600
FOLDER_MODE = 0o700


@dataclass(frozen=True)
class Home:
    """Paths of one home. Creating the object touches nothing: see `open_home`."""

    path: Path

    @property
    def marker(self) -> Path:
        return self.path / "home.json"

    @property
    def inbox(self) -> Path:
        """Segments that are being written (`.open`) or wait to be loaded (`.jsonl`)."""
        return self.path / "inbox"

    @property
    def loaded(self) -> Path:
        """Segments whose events are in raw/ but not yet in a published snapshot, a folder a batch."""
        return self.inbox / "loaded"

    @property
    def raw(self) -> Path:
        """Parquet files of loaded events: the source of truth."""
        return self.path / "raw"

    @property
    def manifest(self) -> Path:
        """One line for each committed batch of raw files."""
        return self.raw / "batches.jsonl"

    @property
    def quarantine(self) -> Path:
        return self.path / "quarantine"

    @property
    def warehouse(self) -> Path:
        return self.path / "warehouse.duckdb"

    @property
    def llm_cache(self) -> Path:
        """What models have answered, and vectors: survives full refreshes and the warehouse."""
        return self.path / "llm_cache.duckdb"

    @property
    def published(self) -> Path:
        return self.path / "published"

    @property
    def current(self) -> Path:
        """Text file with the name of the newest snapshot whose tests passed."""
        return self.published / "CURRENT"

    @property
    def archive(self) -> Path:
        """Parquet files of cold months, a folder a model."""
        return self.path / "archive"

    @property
    def news(self) -> Path:
        """16 bytes that differ after every change that readers must know of; see `mnemoduck.news`."""
        return self.path / "news"

    @property
    def recall_statistics(self) -> Path:
        """How often recall was answered from the caches of all processes so far."""
        return self.logs / "recall_cache.json"

    @property
    def redactions(self) -> Path:
        """How many secrets were found in what was written so far; see `mnemoduck.redaction`."""
        return self.logs / "redactions.json"

    @property
    def runs(self) -> Path:
        """The history of runs, a file for each day; see `mnemoduck.pipeline.history`."""
        return self.path / "runs"

    @property
    def query_samples(self) -> Path:
        """How long sampled questions took, a file for each day; see `mnemoduck.query_samples`."""
        return self.logs / "queries"

    @property
    def expectations(self) -> Path:
        """What came of expectations, and the results that Data Docs are made of."""
        return self.path / "expectations"

    @property
    def data_docs(self) -> Path:
        """The pages that Great Expectations makes of its results."""
        return self.path / "data_docs"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def schedule_log(self) -> Path:
        """What runs said that a schedule started, with what was rotated out of it beside it."""
        return self.logs / "schedule.log"

    @property
    def target(self) -> Path:
        """dbt's artifacts of runs started by `mnemoduck run`."""
        return self.path / "target"

    @property
    def purge(self) -> Path:
        """What a purge that is at work, or was interrupted, takes out; see `mnemoduck.forgetting.journal`."""
        return self.path / "purge"

    @property
    def run_lock(self) -> Path:
        return self.path / "run.lock"


def resolve_home(path: str | Path | None = None) -> Path:
    """Return the absolute path of the home: the argument, else MNEMODUCK_HOME, else ./.mnemoduck.

    Raises:
        HomeError: no file system can have such a path, or it is relative to a folder that is gone.
    """
    asked = Path(path or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME)
    try:
        home = asked.expanduser().absolute()
        if "\0" in str(home):
            raise ValueError("it holds a NUL character")
        str(home).encode("utf-8")  # DuckDB opens no other path
    except (ValueError, RuntimeError, OSError) as error:
        reason = str(error).rstrip(".")
        raise HomeError(
            f"{str(asked)!r} cannot be a home: {reason}. Name another with --home or {HOME_VARIABLE}."
        ) from error
    return home


def open_home(path: str | Path | None = None, *, create: bool = True) -> Home:
    """Return the home at `path`, made first if it is missing and `create` is true.

    Raises:
        HomeError: the path is a file, a folder with other things in it, a home of a later version,
            missing while `create` is false, or not readable and writable.
    """
    home = Home(resolve_home(path))
    try:
        if not home.marker.exists():
            if not create:
                _refuse_to_create(home)
            _claim(home)
        check_marker(home)
        for folder in (home.inbox, home.loaded, home.raw, home.quarantine, home.published, home.logs):
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except PermissionError as error:
        raise HomeError(
            f"The home {home.path} cannot be used: {error.strerror} ({error.filename}). Give this "
            f"user read and write access, or name another home with --home or {HOME_VARIABLE}."
        ) from error
    except (NotADirectoryError, FileExistsError) as error:
        raise HomeError(
            f"The home {home.path} cannot be used: {error.filename} is a file where a folder is "
            f"expected. Name another home with --home or {HOME_VARIABLE}."
        ) from error
    except OSError as error:
        raise HomeError(f"The home {home.path} cannot be used: {error.strerror}.") from error
    if not os.access(home.inbox, os.R_OK | os.W_OK | os.X_OK):
        raise HomeError(
            f"The home {home.path} cannot be used: no permission to write in {home.inbox}. Give this "
            f"user read and write access, or name another home with --home or {HOME_VARIABLE}."
        )
    return home


def _refuse_to_create(home: Home) -> NoReturn:
    if home.path.is_dir():
        _refuse_strangers(home)
    elif home.path.exists():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(home.path))
    raise HomeError(
        f"There is no mnemoduck home at {home.path}. Start one with `mnemoduck init`, or name "
        f"another with --home or {HOME_VARIABLE}."
    )


def _claim(home: Home) -> None:
    home.path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    _refuse_strangers(home)
    text = json.dumps({"layout_version": LAYOUT_VERSION, "created_at": datetime.now(UTC).isoformat()})
    write_atomically(home.marker, text + "\n")


def _refuse_strangers(home: Home) -> None:
    # Another process may be claiming the same folder at this moment: its temporary marker, or the
    # folders that it made after its marker, are no sign of a stranger's folder.
    strangers = [entry.name for entry in os.scandir(home.path) if not entry.name.startswith("home.json")]
    if strangers and not home.marker.exists():
        if RESTORING in strangers:
            raise HomeError(
                f"{home.path} is no home yet: a backup is being restored to it, or that was interrupted. "
                f"`mnemoduck restore TARGET --home {home.path}` goes on with it."
            )
        raise HomeError(
            f"{home.path} is not a mnemoduck home: it holds other files (such as "
            f"{sorted(strangers)[0]!r}) and no home.json. Name an empty or new folder with --home "
            f"or {HOME_VARIABLE}."
        )


def check_marker(home: Home, *, is_upgrade: bool = False) -> None:
    """Raise HomeError unless the marker of a home can be read and is of this layout.

    Args:
        is_upgrade: an earlier layout will do as well, and one whose upgrade was interrupted.
    """
    try:
        with home.marker.open("rb") as file:
            marker = json.loads(file.read(_MAX_MARKER_BYTES).decode("utf-8"))
        version = marker["layout_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HomeError(
            f"{home.marker} cannot be read as a home's marker ({error}). If this folder is a home, "
            f'restore the file with the content {{"layout_version": {LAYOUT_VERSION}}}.'
        ) from error
    is_number = isinstance(version, int) and not isinstance(version, bool)
    is_earlier = is_number and 1 <= version < LAYOUT_VERSION
    is_interrupted = is_number and 1 <= version <= LAYOUT_VERSION and "upgrading" in marker
    if (is_earlier or is_interrupted) and is_upgrade:
        return
    if is_interrupted:
        raise HomeError(
            f"The upgrade of the home {home.path} is at work, or was interrupted. `mnemoduck upgrade --home "
            f"{home.path}` undoes what it had begun and makes it."
        )
    if is_earlier:
        raise HomeError(
            f"The home {home.path} has layout version {version}, of an earlier release; this mnemoduck knows "
            f"version {LAYOUT_VERSION}. Back it up and run `mnemoduck upgrade --home {home.path}`; earlier "
            "releases cannot open it afterwards."
        )
    if version != LAYOUT_VERSION or isinstance(version, bool):
        raise HomeError(
            f"The home {home.path} has layout version {version}; this mnemoduck knows version "
            f"{LAYOUT_VERSION}. Use the mnemoduck release that wrote it, or name another home."
        )


def write_atomically(path: Path, text: str) -> None:
    """Replace the file at `path` so that readers see either the old text or the new, also after a crash."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    with create_file(temporary) as file:
        file.write(text.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


@contextmanager
def create_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new private file (mode 0600) for writing bytes, replacing one that is there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        yield file


def sync_file(path: Path) -> None:
    """Make a file that another writer has closed private (mode 0600) and durable."""
    os.chmod(path, FILE_MODE)
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Make renames in the folder durable."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
