"""Copies and pickles in which an array that several objects hold stays one array.

pickle and copy keep the identity of arrays, joblib does not: it writes an array anew at every place where it is met. Of
other objects joblib keeps the identity as pickle does. So an array goes into a pickle inside of an object, the same one
wherever the array is met, that comes back as the array.
"""

from __future__ import annotations

from typing import Any, Self
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray


class _Only:
    """The only one for its array, as long as a pickler knows it."""

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
    # One that is there holds the array, whose id is therefore nobody else's.
    found = _only.get(id(array))
    if found is None:
        found = _only[id(array)] = _Only(array)
    return found


def packed(value: Any, _seen: dict[int, Any] | None = None) -> Any:
    """The value with an _Only for each array in it and in the dicts, lists and tuples of it.

    What has no array in it is the object that it was: it may be shared, too.
    """
    if isinstance(value, np.ndarray):
        return _only_of(value)
    if type(value) not in (dict, list, tuple):
        return value
    seen = {} if _seen is None else _seen
    if id(value) not in seen:
        seen[id(value)] = value  # for one that contains itself
        seen[id(value)] = _packed_parts(value, seen)
    return seen[id(value)]


def _packed_parts(value: Any, seen: dict[int, Any]) -> Any:
    parts = list(value.values()) if isinstance(value, dict) else list(value)
    made = [packed(part, seen) for part in parts]
    if all(new is old for new, old in zip(made, parts, strict=True)):
        return value
    return dict(zip(value, made, strict=True)) if isinstance(value, dict) else type(value)(made)


def unpacked(value: Any) -> Any:
    """What was packed, where nobody has unpickled it."""
    if isinstance(value, _Only):
        return value.array
    if type(value) is dict:
        return {name: unpacked(part) for name, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(unpacked, value))
    return value


class Whole:
    """What is copied and pickled with arrays that stay one where they are one, in it and in all that goes with it."""

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
