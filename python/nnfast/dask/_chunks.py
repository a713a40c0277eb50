"""Checks of Dask arrays; errors name the argument."""

from typing import Any

import dask.array as da

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
    dtype = _arrays.floating(array._meta[:0] if array.ndim else array._meta, name, halves=True).dtype
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
