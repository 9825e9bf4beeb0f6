"""Lists and dicts that cannot be changed: what is cached is given to many.

They are lists and dicts in every other respect (equality, JSON, printing), so nobody notices who only reads.
Copies, `list(…)`, `dict(…)`, `copy.copy`, `copy.deepcopy` and what is unpickled, are the plain kind again.
"""

from __future__ import annotations

import copy
from typing import Any, NoReturn, TypeVar

Key = TypeVar("Key")
Item = TypeVar("Item")


def _refuse(self: Any, *_: Any, **__: Any) -> NoReturn:
    kind = "list" if isinstance(self, list) else "dict"
    raise TypeError(f"A recollection cannot be changed: others may be given the same. Take {kind}(…) of it.")


class FrozenList(list[Item]):
    """A list that refuses changes with a TypeError."""

    __slots__ = ()

    append = extend = insert = remove = pop = clear = sort = reverse = _refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse

    def copy(self) -> list[Item]:
        return list(self)

    def __copy__(self) -> list[Item]:
        return list(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Item]:
        return copy.deepcopy(list(self), memo)

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return list, (list(self),)


class FrozenDict(dict[Key, Item]):
    """A dict that refuses changes with a TypeError."""

    __slots__ = ()

    update = setdefault = pop = popitem = clear = _refuse
    __setitem__ = __delitem__ = __ior__ = _refuse

    def copy(self) -> dict[Key, Item]:
        return dict(self)

    def __copy__(self) -> dict[Key, Item]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Key, Item]:
        return copy.deepcopy(dict(self), memo)

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return dict, (dict(self),)


def freeze(value: Any) -> Any:
    """Return lists and dicts as frozen ones, at every depth; anything else as it is."""
    if isinstance(value, dict):
        return FrozenDict({key: freeze(part) for key, part in value.items()})
    if isinstance(value, list):
        return FrozenList([freeze(part) for part in value])
    return value


def thaw(value: Any) -> Any:
    """Return lists and dicts as plain ones, at every depth; anything else as it is."""
    if isinstance(value, dict):
        return {key: thaw(part) for key, part in value.items()}
    if isinstance(value, list):
        return [thaw(part) for part in value]
    return value
