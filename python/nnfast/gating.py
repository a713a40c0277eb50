"""Gated linear units: an axis in two halves, the first times an activation of the second."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _dask, _labels
from nnfast._load import _core

Function = TypeVar("Function", bound=Callable[..., Any])

_ufuncs: dict[str, np.ufunc] = _core.make_gates()
# Pickle finds them here by their names.
globals().update(_ufuncs)
_INDEX = {name: index for index, name in enumerate(n for n in _ufuncs if "backward" not in n)}

_FORWARD = """{title}: ``a * {act}(b)``, a and b the first and the second half of an axis.

Parameters
----------
x : array_like of float16, float32 or float64, shape (..., 2 * n, ...)
    Other types are converted as NumPy's ufuncs do. A Dask array gives a lazy one, a DataArray one without coordinates
    along the axis, and pandas' arrays, whose labels fit no half, an ndarray.
axis : int, default -1
out : ndarray of x's dtype, shape (..., n, ...), optional

Returns
-------
y : ndarray, shape (..., n, ...)
    One rounding more than ``{act}``.

Raises
------
TypeError
    If x is not of real numbers or a masked array, or out has another dtype.
ValueError
    If the axis has an odd length, or out has another shape, is read-only or overlaps x.

References
----------
{source}.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> nf.{name}(np.array([3.0, 4.0, 0.0, 50.0]))
array({example})
"""

_BACKWARD = """Gradient of {name}: ``dy * {act}(b)`` in the axis's first half, ``dy * a * {act}'(b)`` in the second.

Parameters
----------
dy : array_like of float16, float32 or float64, shape (..., n, ...)
    Gradient of the loss with respect to y.
x : array_like, shape (..., 2 * n, ...)
    What {name} was given.
axis : int, default -1
out : ndarray of x's dtype, shape (..., 2 * n, ...), optional

Returns
-------
dx : ndarray, shape (..., 2 * n, ...)

Raises
------
TypeError
    If an array is not of real numbers or a masked array, or out has another dtype.
ValueError
    If shapes do not match, or out is read-only or overlaps an input.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> nf.{name}_backward(np.array([2.0]), np.array([3.0, 0.0]))
array({gradient})
"""

_DAUPHIN = 'Dauphin et al., "Language modeling with gated convolutional networks", 2017'
_SHAZEER = 'Shazeer, "GLU variants improve transformer", 2020'
_TEXTS = {
    name: {
        "title": title,
        "act": act,
        "source": source,
        "example": example,
        "gradient": gradient,
    }
    for name, title, act, source, example, gradient in (
        ("glu", "Gated linear unit", "sigmoid", _DAUPHIN, "[1.5, 4. ]", "[1. , 1.5]"),
        ("geglu", "Gated linear unit with gelu", "gelu", _SHAZEER, "[  0., 200.]", "[0., 3.]"),
        ("swiglu", "Gated linear unit with silu", "silu", _SHAZEER, "[  0., 200.]", "[0., 3.]"),
    )
}


def _documented(function: Function) -> Function:
    """Gives a function its docstring."""
    name = function.__name__.removesuffix("_backward")
    template = _FORWARD if name == function.__name__ else _BACKWARD
    function.__doc__ = template.format(name=name, **_TEXTS[name])
    return function


@_documented
def glu(x: ArrayLike, axis: int = -1, *, out: NDArray[Any] | None = None) -> Any:
    return _forward("_glu", x, axis, out)


@_documented
def glu_backward(
    dy: ArrayLike, x: ArrayLike, axis: int = -1, *, out: NDArray[Any] | None = None
) -> Any:
    return _backward("_glu", dy, x, axis, out)


@_documented
def geglu(x: ArrayLike, axis: int = -1, *, out: NDArray[Any] | None = None) -> Any:
    return _forward("_geglu", x, axis, out)


@_documented
def geglu_backward(
    dy: ArrayLike, x: ArrayLike, axis: int = -1, *, out: NDArray[Any] | None = None
) -> Any:
    return _backward("_geglu", dy, x, axis, out)


@_documented
def swiglu(x: ArrayLike, axis: int = -1, *, out: NDArray[Any] | None = None) -> Any:
    return _forward("_swiglu", x, axis, out)


@_documented
def swiglu_backward(
    dy: ArrayLike, x: ArrayLike, axis: int = -1, *, out: NDArray[Any] | None = None
) -> Any:
    return _backward("_swiglu", dy, x, axis, out)


def _forward(name: str, x: Any, axis: int, out: NDArray[Any] | None) -> Any:
    if _labels.is_xarray(x):
        axis, half = _half(x, axis)
        y = _forward(name, x.data, axis, out)
        return y if out is not None else _half_of(x, axis, half).copy(data=y)
    if _dask.is_dask(x):
        a, b = _halves(x, axis)
        return _ufuncs[name](a, b)
    x = _arrays.floating(x, "x", float16=True)
    axis, half = _half(x, axis)
    y = _arrays.output(out, (*x.shape[:axis], half, *x.shape[axis + 1 :]), x.dtype, x)
    _core.gate(_INDEX[name], _arrays.axis_last(x, axis), _arrays.axis_last(y, axis))
    return y


def _backward(name: str, dy: Any, x: Any, axis: int, out: NDArray[Any] | None) -> Any:
    if _labels.is_xarray(x):
        dx = _backward(name, _labels.values_of(dy), x.data, axis, out)
        return dx if out is not None else x.copy(data=dx)
    if _dask.is_dask(x):
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
    dx = _arrays.output(out, x.shape, x.dtype, x, dy)
    last = [_arrays.axis_last(array, axis) for array in (dy, x, dx)]
    _core.gate_backward(_INDEX[name], *last)
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
