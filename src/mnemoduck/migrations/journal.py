"""What a migration changes, kept before it does: so that it can be undone, by whoever comes after a crash.

    upgrade/kept/…       copies of files as they were, by their paths below the home
    upgrade/made         paths of files that were not there, a JSON text a line

The folder is removed when the step is recorded in the home's marker.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from mnemoduck.appending import append_line
from mnemoduck.home import FOLDER_MODE, Home, sync_file, sync_folder


class Journal:
    """The journal of the step that is at work in a home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._folder = home.path / "upgrade"
        self._kept = self._folder / "kept"
        self._made = self._folder / "made"

    def begin(self) -> None:
        self._kept.mkdir(mode=FOLDER_MODE, parents=True)
        sync_folder(self._folder)
        sync_folder(self._home.path)

    def keep(self, path: Path) -> None:
        """Keep a file before it is changed, replaced or removed; again, the first copy stays."""
        copy = self._kept / path.relative_to(self._home.path)
        if copy.exists() or self._is_made(path):
            return
        self._make_folders(copy.parent)
        aside = copy.with_name(f"{copy.name}.tmp")
        shutil.copyfile(path, aside)
        sync_file(aside)
        os.replace(aside, copy)
        sync_folder(copy.parent)

    def make(self, path: Path) -> None:
        """Note a file that is not there before it is made."""
        relative = str(path.relative_to(self._home.path))
        append_line(self._made, json.dumps(relative).encode(), durable=True)
        sync_folder(self._folder)

    def roll_back(self) -> None:
        """Make every file what it was. Interrupted, it is done again."""
        for path in self._all_made():
            path.unlink(missing_ok=True)
            with suppress(OSError):  # others are in it, or it was there before
                path.parent.rmdir()
        for copy in sorted(self._kept.rglob("*")):
            if not copy.is_file() or copy.suffix == ".tmp":
                continue
            path = self._home.path / copy.relative_to(self._kept)
            path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            aside = path.with_name(f"{path.name}.tmp")
            shutil.copyfile(copy, aside)
            sync_file(aside)
            os.replace(aside, path)
            sync_folder(path.parent)

    def remove(self) -> None:
        """Remove what was kept: the step is made, or undone."""
        if self._folder.exists():
            shutil.rmtree(self._folder)
            sync_folder(self._home.path)

    def _all_made(self) -> list[Path]:
        try:
            lines = self._made.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        made = []
        for line in lines:
            with suppress(ValueError):  # torn: then the file was not made
                made.append(self._home.path / json.loads(line))
        return made

    def _is_made(self, path: Path) -> bool:
        return path in self._all_made()

    def _make_folders(self, folder: Path) -> None:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir(mode=FOLDER_MODE)
            sync_folder(one.parent)
