"""Parameters and gradients as users have them: sequences or mappings of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Sequence[NDArray[Any]] | Mapping[str, NDArray[Any]]


def names_of(arrays: Arrays) -> list[str] | None:
    """The keys of a mapping."""
    return list(arrays) if type(arrays) is dict or isinstance(arrays, Mapping) else None


def values(arrays: Arrays, name: str) -> list[NDArray[Any]]:
    """The arrays in their order.

    Raises
    ------
    TypeError
        If it is one array, or no sequence or mapping.
    """
    if isinstance(arrays, list):  # first: asking an abstract class takes longer
        return list(arrays)
    if isinstance(arrays, dict):
        return list(arrays.values())
    # A memoryview, which counts as a sequence, is one array.
    if isinstance(arrays, np.ndarray | memoryview) or not isinstance(arrays, Mapping | Sequence):
        raise TypeError(
            f"{name} must be a sequence or mapping of arrays, got {type(arrays).__name__}"
        )
    return list(arrays.values()) if isinstance(arrays, Mapping) else list(arrays)


def values_like(
    arrays: Arrays, names: list[str] | None, name: str, like: str = "params"
) -> list[NDArray[Any]]:
    """The arrays in the order of the parameters, which have those names or none, and are called `like`.

    Raises
    ------
    TypeError
        If one is a mapping and the other is not.
    ValueError
        If the names are not those of the parameters.
    """
    if names is None:
        if type(arrays) is list:  # what most calls give: asking an abstract class takes longer
            return arrays
        if isinstance(arrays, Mapping):
            raise TypeError(f"{name} must be a sequence of arrays, as {like} were, got a mapping")
        return values(arrays, name)
    if type(arrays) is not dict and not isinstance(arrays, Mapping):
        raise TypeError(f"{name} must be a mapping, as {like} were, got {type(arrays).__name__}")
    if type(arrays) is dict and [*arrays] == names:  # as most are: quicker than to look each up
        return [*arrays.values()]
    if not all(map(arrays.__contains__, names)):
        missing = next(key for key in names if key not in arrays)
        raise ValueError(f"{name} must have the names of {like}, but lacks {missing!r}")
    if len(arrays) != len(names):
        raise ValueError(f"{name} must have the {len(names)} names of {like}, got {len(arrays)}")
    return [*map(arrays.__getitem__, names)]
