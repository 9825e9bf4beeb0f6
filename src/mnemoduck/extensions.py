"""DuckDB's own signed extension binaries, as they come in Python packages: no network is needed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import duckdb

from mnemoduck.errors import MnemoduckError


def extension_path(name: str) -> Path:
    """Return the file of an installed `duckdb-extension-<name>` package for this DuckDB.

    Raises:
        MnemoduckError: the package is missing or holds a binary for another DuckDB version.
    """
    module = importlib.util.find_spec(f"duckdb_extension_{name}")
    if module is None or not module.submodule_search_locations:
        raise MnemoduckError(
            f"The DuckDB extension {name!r} is missing: pip install "
            f"duckdb-extension-{name}=={duckdb.__version__}"
        )
    folder = Path(next(iter(module.submodule_search_locations))) / "extensions"
    path = folder / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if not path.exists():
        raise MnemoduckError(
            f"The DuckDB extension {name!r} is of another version than DuckDB "
            f"{duckdb.__version__}: pip install duckdb-extension-{name}=={duckdb.__version__}"
        )
    return path


def load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load an installed extension into the connection's database instance."""
    quoted = str(extension_path(name)).replace("'", "''")
    connection.execute(f"load '{quoted}'")
