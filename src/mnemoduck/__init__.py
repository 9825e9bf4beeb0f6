"""The memory warehouse for AI agents: DuckDB + dbt, owned by its user.

`Memory` is all that an agent needs; the errors it raises are in `mnemoduck.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Memory", "Recollection", "WorkingMemorySlot", "__version__"]

if TYPE_CHECKING:
    from mnemoduck.memory import Memory
    from mnemoduck.reader import WorkingMemorySlot
    from mnemoduck.recall import Recollection


def __getattr__(name: str) -> Any:
    """Import the public classes when they are asked for: writers need not pay for the readers."""
    if name == "Memory":
        from mnemoduck.memory import Memory

        return Memory
    if name == "Recollection":
        from mnemoduck.recall import Recollection

        return Recollection
    if name == "WorkingMemorySlot":
        from mnemoduck.reader import WorkingMemorySlot

        return WorkingMemorySlot
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
