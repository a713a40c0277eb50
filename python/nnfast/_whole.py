"""Copies and pickles in which an array that several objects hold stays one array.

pickle and copy keep the identity of arrays, joblib does not: it writes an array anew at every place where it is met. Of
other objects joblib keeps the identity as pickle does. So an array goes into a pickle inside of an object, the same one
wherever the array is met, that comes back as the array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray


class _Only:
    """Stands for an array in a pickle: there is one for each array, as long as the pickler refers to it."""

    __slots__ = ("__weakref__", "array")

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __reduce__(self) -> tuple[Any, ...]:
        return writeable, (self.array,)


_only: WeakValueDictionary[int, _Only] = WeakValueDictionary()


def writeable(array: NDArray[Any]) -> NDArray[Any]:
    """The array, or a copy if it is read-only, as joblib's memory maps and Dask's messages are."""
    return array if array.flags.writeable else np.array(array)


def _only_of(array: NDArray[Any]) -> _Only:
    # An existing one holds a reference to the array, so that no other object can have its id.
    found = _only.get(id(array))
    if found is None:
        found = _only[id(array)] = _Only(array)
    return found


def packed(value: Any) -> Any:
    """The value with an _Only for each array in it and in the dicts, lists and tuples of it."""
    return _mapped(value, lambda v: _only_of(v) if isinstance(v, np.ndarray) else v, {})


def unpacked(value: Any) -> Any:
    """Undo packed, where nothing was pickled in between."""
    return _mapped(value, lambda v: v.array if isinstance(v, _Only) else v, {})


def _mapped(value: Any, change: Callable[[Any], Any], seen: dict[int, Any]) -> Any:
    """The value with everything in it changed. Unchanged containers stay the same objects: they may be shared."""
    if type(value) not in (dict, list, tuple):
        return change(value)
    if id(value) not in seen:
        seen[id(value)] = value  # for one that contains itself
        parts = list(value.values()) if isinstance(value, dict) else list(value)
        made = [_mapped(part, change, seen) for part in parts]
        if any(new is not old for new, old in zip(made, parts, strict=True)):
            again: Any = dict(zip(value, made, strict=True)) if type(value) is dict else made
            seen[id(value)] = tuple(made) if type(value) is tuple else again
    return seen[id(value)]


class Whole:
    """The base of objects whose copies and pickles keep shared arrays shared, within them and between them."""

    def __getstate__(self) -> Any:
        return packed(object.__getstate__(self))

    def __setstate__(self, state: Any) -> None:
        attributes, slots = state if isinstance(state, tuple) else (state, None)
        vars(self).update(attributes or {})
        for name, value in (slots or {}).items():
            setattr(self, name, value)

    def __copy__(self) -> Self:
        made = type(self).__new__(type(self))
        made.__setstate__(unpacked(self.__getstate__()))
        return made
