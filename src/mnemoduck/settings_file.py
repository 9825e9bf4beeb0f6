"""Changing `mnemoduck.toml`: what is not changed stays as its owner wrote it, comments and order included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomlkit

from mnemoduck.home import Home, write_atomically
from mnemoduck.settings import find_setting, read_file, settings_file


def write_settings(home: Home, values: Mapping[str, Any]) -> None:
    """Write values, by key, to the file of a home; it is made if it is missing. None removes a key.

    Args:
        values: as `mnemoduck.settings.parse_value` or a `Settings` has them.

    Raises:
        UsageError: the file as it is cannot be read, or a key is no setting.
    """
    path = settings_file(home)
    read_file(path)  # what is wrong in it is told before it is touched
    document = tomlkit.parse(path.read_text("utf-8")) if path.exists() else tomlkit.document()
    for key, value in values.items():
        setting = find_setting(key)
        section, _, name = key.rpartition(".")
        if section and section not in document:
            if value is None:
                continue
            document[section] = tomlkit.table()
        place: Any = document[section] if section else document
        if value is not None:
            place[name] = setting.show(value)
        elif name in place:
            del place[name]
    write_atomically(path, tomlkit.dumps(document))
