"""Gated linear units: an axis in two halves, the first times an activation of the second."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _dask, _docs, _gradients, _labels
from nnfast._load import _core

__all__ = [
    "geglu",
    "geglu_backward",
    "glu",
    "glu_backward",
    "swiglu",
    "swiglu_backward",
]

_ufuncs: dict[str, np.ufunc] = _core.make_gates()
# Pickle finds them here by their names.
globals().update(_ufuncs)
_INDEX = {name: index for index, name in enumerate(n for n in _ufuncs if "backward" not in n)}

_documented = _docs.documented(_docs.gate)


@_documented
def glu(x: ArrayLike, axis: int = -1, *, out: NDArray[Any] | None = None) -> Any:
    return _forward("_glu", x, axis, out)


@_documented
def glu_backward(
    dy: ArrayLike,
    x: ArrayLike | None = None,
    axis: int = -1,
    *,
    y: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    return _backward("_glu", dy, x, axis, out, y)


@_documented
def geglu(x: ArrayLike, axis: int = -1, *, out: NDArray[Any] | None = None) -> Any:
    return _forward("_geglu", x, axis, out)


@_documented
def geglu_backward(
    dy: ArrayLike,
    x: ArrayLike | None = None,
    axis: int = -1,
    *,
    y: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    return _backward("_geglu", dy, x, axis, out, y)


@_documented
def swiglu(x: ArrayLike, axis: int = -1, *, out: NDArray[Any] | None = None) -> Any:
    return _forward("_swiglu", x, axis, out)


@_documented
def swiglu_backward(
    dy: ArrayLike,
    x: ArrayLike | None = None,
    axis: int = -1,
    *,
    y: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    return _backward("_swiglu", dy, x, axis, out, y)


def _forward(name: str, x: Any, axis: int, out: NDArray[Any] | None) -> Any:
    plain = type(x) is np.ndarray  # which is soon seen
    if not plain and _labels.is_xarray(x):
        axis, half = _half(x, axis)
        y = _forward(name, x.data, axis, out)
        return y if out is not None else _half_of(x, axis, half).copy(data=y)
    if not plain and _dask.is_dask(x):
        a, b = _halves(x, axis)
        return _ufuncs[name](a, b)
    x = _arrays.floating(x, "x", float16=True)
    axis, half = _half(x, axis)
    y = _arrays.output(out, (*x.shape[:axis], half, *x.shape[axis + 1 :]), x.dtype, x)
    _core.gate(_INDEX[name], x, y, axis)
    return y


def _backward(
    name: str, dy: Any, x: Any, axis: int, out: NDArray[Any] | None, y: Any = None
) -> Any:
    if x is None or y is not None:
        _gradients.require_one(name.removeprefix("_"), ("x",), x=x, y=y)
    plain = type(x) is np.ndarray
    if not plain and _labels.is_xarray(x):
        dx = _backward(name, _labels.values_of(dy), x.data, axis, out)
        return dx if out is not None else x.copy(data=dx)
    if not plain and _dask.is_dask(x):
        dy = _labels.values_of(dy)
        a, b = _halves(x, axis)
        if dy.shape != a.shape:
            raise ValueError(f"dy must have shape {a.shape}, got {dy.shape}")
        gradients = [_ufuncs[name](dy, b), _ufuncs[f"{name}_gate_backward"](dy, a, b)]
        return np.concatenate(gradients, axis=axis)
    x = _arrays.floating(x, "x", float16=True)
    axis, half = _half(x, axis)
    dy = _arrays.floating(dy, "dy", float16=True)
    shape = (*x.shape[:axis], half, *x.shape[axis + 1 :])
    if dy.shape != shape:
        raise ValueError(f"dy must have shape {shape}, got {dy.shape}")
    dx = _arrays.output_like(out, x, x, dy)
    _core.gate_backward(_INDEX[name], dy, x, dx, axis)
    return dx


def _half(x: Any, axis: int) -> tuple[int, int]:
    axis = _arrays.axis_of(axis, x, "x")
    if x.shape[axis] % 2:
        raise ValueError(f"x must have an even length along axis {axis}, got shape {x.shape}")
    return axis, x.shape[axis] // 2


def _halves(x: Any, axis: int) -> tuple[Any, Any]:
    """Both halves of a Dask array, by its own indexing."""
    axis, half = _half(x, axis)
    before = (slice(None),) * axis
    return x[(*before, slice(None, half))], x[(*before, slice(half, None))]


def _half_of(x: Any, axis: int, half: int) -> Any:
    """The first half of a DataArray, without the coordinates along the axis, which would name the first half alone."""
    dim = x.dims[axis]
    along = [name for name, coordinate in x.coords.items() if dim in coordinate.dims]
    return x.isel({dim: slice(half)}).drop_vars(along)
