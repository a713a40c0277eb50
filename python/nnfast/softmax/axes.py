"""The kernels over arrays of any kind and along any axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from nnfast import _arrays, _checks, _dask, _gradients, _labels
from nnfast._load import _core

Axis = int | tuple[int, ...] | None

# The kernels of plain arrays, by their numbers: None where there are others. Asked before the generalised ufuncs, which
# know neither masks nor labels: the rules of one take longer than all of a call on a small array, and NumPy hands it
# the rows of one axis at a time.
along = _core.softmax_along
INDEX = {name: index for index, name in enumerate(_core.softmax_names)}


def same_shape(
    ufunc: np.ufunc,
    arrays: tuple[Any, ...],
    names: tuple[str, ...],
    axis: Axis,
    out: Any,
    kwargs: Mapping[str, Any],
) -> Any:
    """A generalised ufunc whose result has the shape of its inputs, which broadcast, along any axes."""
    if "keepdims" in kwargs:
        raise TypeError(f"{ufunc.__name__} has no argument 'keepdims': its result has x's axes")
    if "axes" in kwargs:
        return ufunc(*arrays, out=out, **kwargs)
    require_unmasked(arrays, names, out)
    values = [unlabelled(array) for array in arrays]
    if type(axis) is int:
        y = ufunc(*values, axis=axis, out=out, **kwargs)
    else:
        if len(values) > 1:
            values = list(np.broadcast_arrays(*values))
        axes = axes_of(axis, values[-1], names[-1])
        flat = ufunc(*(flattened(value, axes) for value in values), **kwargs)
        y = into_out(restored(flat, values[-1].shape, axes), out, kwargs)
    labelled = out is None and y.shape == values[-1].shape
    return _labels.labelled_like(y, arrays[-1]) if labelled else y


def output_of(
    forward: Callable[..., Any], x: Any, y: Any, axis: Axis, kwargs: Mapping[str, Any]
) -> Any:
    """y where a gradient is given x in its place."""
    _gradients.require_one(forward.__name__, ("y", "x"), y=y, x=x)
    given = {name: kwargs[name] for name in ("dtype",) if name in kwargs}
    if "axes" in kwargs:  # of dy, y and dx
        return forward(x, axes=[kwargs["axes"][1]] * 2, **given)
    return forward(x, axis, **given)


def require_unmasked(arrays: tuple[Any, ...], names: tuple[str, ...], out: Any) -> None:
    """Refuse masked arrays, whose masked elements would enter the sums, and Dask's tables."""
    for array, name in zip(arrays, names, strict=True):
        if not (_dask.is_dask(array) or _labels.is_xarray(array)):
            _arrays.check_readable(array, name)
    target = out[0] if type(out) is tuple and len(out) == 1 else out
    _arrays.check_unmasked(target, "out")
    if target is not None and not isinstance(target, np.ndarray):
        raise TypeError(f"out must be a numpy.ndarray, got {type(target).__name__}")


def unlabelled(value: Any) -> Any:
    """The values without labels, as Dask's array or NumPy's; a matrix, which always has two axes, as an ndarray."""
    value = _labels.values_of(value)
    if isinstance(value, np.ndarray) and not isinstance(value, np.matrix):
        return value
    return value if _arrays.is_foreign(value) else np.asarray(value)


def axes_of(axis: Axis, array: Any, name: str) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(array.ndim))
    if type(axis) is not tuple:
        _checks.integer(axis, "axis")
    return _arrays.axes_of(axis, array, name)


def flattened(array: Any, axes: tuple[int, ...]) -> Any:
    """The array with the axes joined into one, the last."""
    rest = [d for d in range(array.ndim) if d not in axes]
    moved = np.transpose(array, (*rest, *axes))
    return moved.reshape((*(array.shape[d] for d in rest), prod(array.shape[d] for d in axes)))


def restored(flat: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """The inverse of flattened."""
    rest = [d for d in range(len(shape)) if d not in axes]
    order = (*rest, *axes)
    moved = flat.reshape(tuple(shape[d] for d in order))
    return np.transpose(moved, [order.index(d) for d in range(len(shape))])


def without_axes(dy: Any, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """dy without the axes that keepdims kept; not with more axes than y, which would broadcast x."""
    if keepdims:
        if np.ndim(dy) != x.ndim or any(dy.shape[d] != 1 for d in axes):
            kept = tuple(1 if d in axes else n for d, n in enumerate(x.shape))
            raise ValueError(f"dy must have shape {kept} where keepdims is True, got {dy.shape}")
        return dy.reshape([n for d, n in enumerate(dy.shape) if d not in axes])
    rest = tuple(n for d, n in enumerate(x.shape) if d not in axes)
    if np.ndim(dy) > len(rest):
        raise ValueError(f"dy must broadcast to the shape of y, {rest}, got {np.shape(dy)}")
    return dy


def into_out(y: Any, out: Any, kwargs: Mapping[str, Any]) -> Any:
    """The result, copied into `out` if there is one."""
    if out is None:
        return y
    target = out[0] if isinstance(out, tuple) else out
    if target.shape != np.shape(y):
        raise ValueError(f"out must have shape {np.shape(y)}, got {target.shape}")
    _arrays.check_writeable(target, "out")
    np.copyto(target, y, casting=kwargs.get("casting", "same_kind"))
    return target
