"""Checks of Dask arrays; errors name the argument."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
from dask.layers import ArrayBlockwiseDep

from nnfast import _arrays


def array_of(value: Any, name: str) -> da.Array:
    """The argument, which must be a Dask array.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if not isinstance(value, da.Array):
        raise TypeError(f"{name} must be a dask.array.Array, got {type(value).__name__}")
    return value


def floating(value: Any, name: str) -> da.Array:
    """The argument as a Dask array of the dtype that nnfast's functions give it.

    Raises
    ------
    TypeError
        If it is something else, or not of real numbers.
    """
    array = array_of(value, name)
    dtype = _arrays.floating(
        array._meta[:0] if array.ndim else array._meta, name, float16=True
    ).dtype
    return array.astype(dtype)


def require_whole(array: da.Array, axes: tuple[int, ...], name: str) -> None:
    """Refuse an array that is cut along an axis along which it must be whole.

    Raises
    ------
    ValueError
        If it is.
    """
    cut = [axis for axis in axes if len(array.chunks[axis]) > 1]
    if cut:
        lengths = ", ".join(f"{axis}: -1" for axis in cut)
        raise ValueError(
            f"{name} must have one chunk along axis {', '.join(map(str, cut))}, "
            f"got {len(array.chunks[cut[0]])}: {name}.rechunk({{{lengths}}}) puts them together"
        )


def require_known(array: da.Array, name: str) -> None:
    """Refuse an array whose shape is not known yet.

    Raises
    ------
    ValueError
        If it is not.
    """
    if any(length != length for length in array.shape):
        raise ValueError(
            f"{name} must have a known shape, got {array.shape}: {name}.compute_chunk_sizes() finds it out"
        )


def places_of(array: da.Array) -> list[list[tuple[int, int]]]:
    """Where chunks begin and end along each axis."""
    ends = [np.cumsum((0, *lengths)).tolist() for lengths in array.chunks]
    return [list(pairwise(along)) for along in ends]


class _Numbers(ArrayBlockwiseDep):  # type: ignore[misc]  # Dask is not typed here
    """The number of each chunk along every axis."""

    def __getitem__(self, index: tuple[int, ...]) -> tuple[int, ...]:
        return index


def by_place(
    function: Callable[..., Any], x: da.Array, *more: Any, dtype: Any, meta: Any
) -> da.Array:
    """function(chunk, its number along every axis, chunks of more ...) for all chunks of x.

    What map_blocks does for a function with a block_id, at half the price. Settings are best bound to the function:
    Dask looks through what is given as an argument, for every chunk.
    """
    indices = tuple(range(x.ndim))
    arguments: list[Any] = [x, indices, _Numbers(x.chunks), indices]
    for value in more:
        arguments += [value, indices if isinstance(value, da.Array) else None]
    result: da.Array = da.blockwise(
        function, indices, *arguments, dtype=dtype, meta=meta, align_arrays=False
    )
    return result
