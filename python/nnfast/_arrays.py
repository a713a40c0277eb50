"""Checks of arrays for functions along an axis; errors name the argument."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from nnfast import _checks

Shape = int | tuple[int, ...] | None
# The type of `out` for one result, or for a pair of results.
Outputs = NDArray[Any] | tuple[NDArray[Any] | None, NDArray[Any] | None] | None

_OWN = (np.ndarray, np.generic, int, float, list, tuple)
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_WITH_FLOAT16 = (*_FLOATS, np.dtype(np.float16))
_NEVER_LAZY = (np.generic, int, float, list, tuple, type(None))


def is_bfloat16(dtype: Any) -> bool:
    """Whether the dtype is bfloat16 of ml_dtypes, which need not be installed."""
    return getattr(dtype, "name", None) == "bfloat16" and dtype.itemsize == 2


def is_narrow(dtype: Any) -> bool:
    """Whether the dtype is float32, float16 or bfloat16."""
    return dtype in (np.float16, np.float32) or is_bfloat16(dtype)


def parameter_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of what is kept beside arrays of that dtype: float32 for float16 and bfloat16."""
    return dtype if dtype.itemsize > 2 else np.dtype(np.float32)


def is_foreign(value: Any) -> bool:
    """Whether it is an array of another library, which takes part in ufuncs: Dask's, xarray's, pandas'."""
    return not isinstance(value, _OWN) and hasattr(value, "__array_ufunc__")


def scalar_for(value: Any, array: Any) -> Any:
    """A Python float as a scalar that does not promote a foreign array, whose library may make an array of it first."""
    dtypes = _dtypes_of(array)
    narrow = bool(dtypes) and all(map(is_narrow, dtypes))
    return np.float32(value) if narrow else value


def operand_for(value: float, array: Any) -> Any:
    """A Python float as an operand that does not promote an array: a scalar of the dtype of a foreign one.

    bfloat16 is foreign to NumPy's rules of promotion, which make float32 of it.
    """
    dtypes = _dtypes_of(array)
    if not (is_foreign(array) or any(is_bfloat16(dtype) for dtype in dtypes)):
        return value
    floating = bool(dtypes) and all(
        isinstance(dtype, np.dtype) and (dtype.kind == "f" or is_bfloat16(dtype))
        for dtype in dtypes
    )
    return np.result_type(*dtypes).type(value) if floating else value


def _dtypes_of(array: Any) -> list[Any]:
    return [array.dtype] if hasattr(array, "dtype") else list(getattr(array, "dtypes", []))


def has_axes(value: Any) -> bool:
    """Whether it is an array, or a list, and no number."""
    return isinstance(value, list | tuple) or bool(getattr(value, "ndim", 0))


def check_unmasked(value: Any, name: str) -> None:
    """Refuse a masked array: what it masks would take part.

    Raises
    ------
    TypeError
        If it is one.
    """
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise TypeError(
            f"{name} must be an array without a mask, got a MaskedArray: pass {name}.filled(value)"
        )


def check_readable(value: Any, name: str) -> None:
    """Refuse an array that cannot be read as an ndarray: its mask would be ignored, or Dask would compute it at once.

    The one check of whatever is read that is no plain ndarray; bindings/arrays.cpp calls it, too.

    Raises
    ------
    TypeError
        If it is a masked array, or an array or table of Dask's, or has one inside, as xarray's may.
    """
    if type(value) is np.ndarray or isinstance(value, _NEVER_LAZY):
        return
    check_unmasked(value, name)
    graph = getattr(value, "__dask_graph__", None)
    if graph is not None and graph() is not None:
        kind = f"{type(value).__module__.partition('.')[0]} {type(value).__name__}"
        of_table = hasattr(value, "to_dask_array")
        how = f" with {name}.to_dask_array(lengths=True)" if of_table else ""
        raise TypeError(
            f"{name} must be in memory, got a lazy {kind}: pass {name}.compute(), "
            f"or use nnfast.dask{how} where it has the function"
        )


def plain(value: ArrayLike, name: str) -> NDArray[Any]:
    """An argument that is only read, as an ndarray; pandas' and xarray's by position, without their labels.

    Raises
    ------
    TypeError
        If it is masked or lazy.
    """
    if type(value) is np.ndarray:
        return value
    check_readable(value, name)
    return np.asarray(value)


def floating(value: ArrayLike, name: str, *, float16: bool = False) -> NDArray[Any]:
    """The array in float32 or float64, or float16 or bfloat16 where these are welcome.

    Raises
    ------
    TypeError
        If it is masked or lazy, or not of real numbers.
    """
    kept = _WITH_FLOAT16 if float16 else _FLOATS
    if type(value) is np.ndarray and value.dtype in kept:  # as most are
        return value
    array = plain(value, name)
    if array.dtype in kept or (float16 and is_bfloat16(array.dtype)):
        return array
    # Other dtypes become float32 or float64, as in NumPy's functions for all but the shortest integers.
    for dtype in (
        *((np.float16,) if float16 and array.dtype.kind == "f" else ()),
        np.float32,
        np.float64,
    ):
        if np.can_cast(array.dtype, dtype):
            return array.astype(dtype)
    raise TypeError(
        f"{name} must be an array of real numbers, got dtype {array.dtype}{advice(array, name)}"
    )


def advice(array: NDArray[Any], name: str) -> str:
    """Advice for an error: what to pass in place of an array whose dtype is not numeric."""
    if array.dtype in (object, np.longdouble):
        return f": pass {name}.astype(float)"
    if array.dtype.names:
        return f": pass a field, such as {name}[{array.dtype.names[0]!r}]"
    return ""


# Of an error where a float64 array meets narrower ones.
SOURCE_OF_FLOAT64 = (
    ": NumPy makes float64 where no dtype is given (np.zeros, rng.random, a mask divided by p), and every product with "
    "it is float64; give it dtype=np.float32, or astype(np.float32). nnfast.checks.check_dtypes lists dtypes by name"
)


def source_of_float64(array: NDArray[Any], dtype: np.dtype[Any]) -> str:
    """Where a float64 array among narrower ones usually comes from, for the end of an error; else nothing."""
    return SOURCE_OF_FLOAT64 if is_narrow(dtype) and array.dtype == np.float64 else ""


def check_floats(array: Any, name: str, *, float16: bool = False) -> None:
    """Refuse what is not, as it is, an array of float32 or float64, or float16 or bfloat16 where these are welcome.

    Raises
    ------
    TypeError
        If it is something else.
    """
    check_unmasked(array, name)
    if isinstance(array, np.ndarray):
        if array.dtype in (np.float32, np.float64):
            return
        if float16 and (array.dtype == np.float16 or is_bfloat16(array.dtype)):
            return
        got = f"dtype {array.dtype}"
    else:
        got = type(array).__name__
    dtypes = "float16, bfloat16, float32 or float64" if float16 else "float32 or float64"
    raise TypeError(f"{name} must be a numpy.ndarray of {dtypes}, got {got}")


def check_writeable(array: NDArray[Any], name: str) -> None:
    """Refuse an array that cannot be written.

    Raises
    ------
    ValueError
        If it is read-only.
    """
    if not array.flags.writeable:
        raise ValueError(f"{name} must be writeable, but is read-only")


def axis_of(axis: int, array: Any, name: str) -> int:
    """The axis counted from the front.

    Raises
    ------
    ValueError
        If the array has no such axis.
    """
    if type(axis) is not int:  # as most are
        axis = _checks.integer(axis, "axis")
    ndim = array.ndim
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis must be an axis of {name} with shape {array.shape}, got {axis}")
    return axis + ndim if axis < 0 else axis


def axes_of(axis: int | tuple[int, ...], array: Any, name: str) -> tuple[int, ...]:
    """One axis or several, counted from the front, in ascending order.

    Raises
    ------
    ValueError
        If the array has no such axis, or one is named twice.
    """
    if type(axis) is int and -array.ndim <= axis < 0:  # as most are
        return (axis + array.ndim,)
    if not isinstance(axis, tuple):
        return (axis_of(axis, array, name),)
    axes = sorted(axis_of(each, array, name) for each in axis)
    if not axes or len(set(axes)) < len(axes):
        raise ValueError(f"axis must name axes of {name}, each once, got {axis}")
    return tuple(axes)


def output(
    out: NDArray[Any] | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *read: NDArray[Any],
) -> NDArray[Any]:
    """`out`, checked, or a new array.

    Raises
    ------
    TypeError
        If it is no array or has another dtype.
    ValueError
        If it has another shape, is read-only or shares memory with what is read.
    """
    if out is None:
        return np.empty(shape, dtype)
    if type(out) is not np.ndarray:  # as most are
        if not isinstance(out, np.ndarray):
            raise TypeError(f"out must be a numpy.ndarray, got {type(out).__name__}")
        check_unmasked(out, "out")
    if out.dtype != dtype:
        advice = source_of_float64(out, dtype)
        raise TypeError(f"out must have dtype {dtype}, got {out.dtype}{advice}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {out.shape}")
    check_writeable(out, "out")
    for array in read:
        if np.may_share_memory(out, array):
            raise ValueError("out must share no memory with the input")
    return out


def output_like(out: NDArray[Any] | None, like: NDArray[Any], *read: NDArray[Any]) -> NDArray[Any]:
    """`out`, checked, or a new array of the shape, dtype and layout of `like`.

    Raises
    ------
    TypeError
        As for output.
    ValueError
        As for output.
    """
    return np.empty_like(like) if out is None else output(out, like.shape, like.dtype, *read)


def summed_to(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Sums along the axes that were broadcast from this shape, taken in float64."""
    if array.shape == shape:
        return array
    missing = array.ndim - len(shape)
    axes = tuple(
        d for d in range(array.ndim) if d < missing or shape[d - missing] != array.shape[d]
    )
    sums = np.sum(array, axis=axes, dtype=np.float64)
    return sums.reshape(shape).astype(array.dtype)


def sides_of(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    """The shape as a tuple.

    Raises
    ------
    TypeError
        If it is no int or tuple of ints.
    ValueError
        If it is negative.
    """
    sides = shape if isinstance(shape, tuple) else (shape,)
    sides = tuple(_checks.integer(side, "shape") for side in sides)
    if any(side < 0 for side in sides):
        raise ValueError(f"shape must not be negative, got {shape}")
    return sides


def target(
    shape: Shape, dtype: DTypeLike, dtypes: tuple[type, ...], out: NDArray[Any] | None
) -> NDArray[Any]:
    """What is to be filled: a new array of shape () for None, or `out`, which decides about what is not given.

    Raises
    ------
    TypeError
        If the dtype is none of `dtypes`, shape is no int or tuple of ints, or out is no array.
    ValueError
        If shape is negative or not that of out, or out is read-only.
    """
    sides = None if shape is None else sides_of(shape)
    if out is None:
        made = np.dtype(dtype)
        if made.type not in dtypes or not made.isnative:
            raise TypeError(f"dtype must be {_names(dtypes)}, got {made}")
        return np.empty(sides or (), made)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a numpy.ndarray, got {type(out).__name__}")
    check_unmasked(out, "out")
    if out.dtype.type not in dtypes or not out.dtype.isnative:
        raise TypeError(f"out must have dtype {_names(dtypes)}, got {out.dtype}")
    if sides is not None and out.shape != sides:
        raise ValueError(f"out must have shape {sides}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out must be writeable, but is read-only")
    return out


def _names(dtypes: tuple[type, ...]) -> str:
    *others, last = (np.dtype(dtype).name for dtype in dtypes)
    return f"{', '.join(others)} or {last}"
