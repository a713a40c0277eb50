"""Gradients that take x or y, whichever is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from nnfast import _arrays, _gradients
from nnfast._gradients import Backward
from nnfast._table import TABLE
from nnfast.activations.ufuncs import UFUNCS, call, documented

# Their kernels compare y with constants that x is on the same side of.
_PIECEWISE = {"relu", "relu6", "hardtanh", "leaky_relu", "hardshrink"}

# Row.slope_of_y of the table.
_SLOPES: dict[str, Callable[..., Any]] = {
    "hardsigmoid": lambda y: call(
        "_hardtanh_backward", (_arrays.operand_for(1 / 6, y), y), (0.0, 1.0), {}
    ),
    "logsigmoid": lambda y: -np.expm1(y),
    "softplus": lambda y, beta: -np.expm1(np.multiply(y, _arrays.operand_for(-beta, y))),
    "softsign": lambda y: np.square(1 - np.abs(y)),
}


def output(
    forward: Callable[..., Any], x: Any, y: Any, *params: float, dtype: DTypeLike | None = None
) -> Any:
    """What takes the place of y where a gradient that takes y is given x."""
    name = forward.__name__
    _gradients.require_one(name, TABLE[name].takes, y=y, x=x)
    return x if name in _PIECEWISE else forward(x, *params, dtype=dtype)


def slope(name: str, x: Any, y: Any, *params: float) -> Any:
    """dy/dx where a gradient that takes x is given y."""
    _gradients.require_one(name, TABLE[name].takes, x=x, y=y)
    dtype = y.dtype if hasattr(y, "dtype") else np.asarray(y).dtype
    if _arrays.is_bfloat16(dtype):
        return np.asarray(_SLOPES[name](y.astype(np.float32), *params)).astype(dtype)
    if dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"y must be of float16, float32 or float64, got {dtype}")
    return _SLOPES[name](y, *params)


# No argument is keyword-only, and none is collected in a dict, since that would cost 20 to 300 ns at every call.


def of_y(name: str) -> Backward[...]:
    """The gradient of an activation without parameters, which takes y by position."""
    ufunc = UFUNCS[f"{name}_backward"]

    def backward(
        dy: ArrayLike,
        y: ArrayLike | None = None,
        out: Any = None,
        where: Any = True,
        dtype: DTypeLike | None = None,
        casting: str = "same_kind",
        order: str = "K",
        subok: bool = True,
        x: ArrayLike | None = None,
    ) -> Any:
        if y is None or x is not None:
            y = output(UFUNCS[name], x, y, dtype=dtype)
        if (
            where is True
            and dtype is None
            and casting == "same_kind"
            and order == "K"
            and subok is True
        ):
            return ufunc(dy, y) if out is None else ufunc(dy, y, out=out)
        return _with_keywords(ufunc, dy, y, out, where, dtype, casting, order, subok)

    return _named(backward, name)


def of_x(name: str) -> Backward[...]:
    """The gradient of an activation without parameters, which takes x by position."""
    ufunc = UFUNCS[f"{name}_backward"]

    def backward(
        dy: ArrayLike,
        x: ArrayLike | None = None,
        out: Any = None,
        where: Any = True,
        dtype: DTypeLike | None = None,
        casting: str = "same_kind",
        order: str = "K",
        subok: bool = True,
        y: ArrayLike | None = None,
    ) -> Any:
        call = ufunc
        if x is None or y is not None:
            call, x = np.multiply, slope(name, x, y)
        if (
            where is True
            and dtype is None
            and casting == "same_kind"
            and order == "K"
            and subok is True
        ):
            return call(dy, x) if out is None else call(dy, x, out=out)
        return _with_keywords(call, dy, x, out, where, dtype, casting, order, subok)

    return _named(backward, name)


def _with_keywords(
    call: Callable[..., Any],
    dy: Any,
    saved: Any,
    out: Any,
    where: Any,
    dtype: DTypeLike | None,
    casting: str,
    order: str,
    subok: bool,
) -> Any:
    """Call a ufunc with keywords that few calls have; without those that are NumPy's defaults, which cost time."""
    if casting == "same_kind" and order == "K" and subok is True:
        if dtype is None:
            return call(dy, saved, out=out, where=where)
        if where is True:
            return (
                call(dy, saved, dtype=dtype)
                if out is None
                else call(dy, saved, out=out, dtype=dtype)
            )
    return call(
        dy, saved, out=out, where=where, dtype=dtype, casting=casting, order=order, subok=subok
    )


def _named(function: Callable[..., Any], name: str) -> Backward[...]:
    function.__name__ = function.__qualname__ = f"{name}_backward"
    function.__module__ = "nnfast.activations.plain"  # where pickle finds it
    return backward_of(function)


def backward_of(function: Callable[_gradients.P, Any]) -> Backward[_gradients.P]:
    """Give a gradient its docstring and its ufunc."""
    name = function.__name__
    row = TABLE[name.removesuffix("_backward")]
    return _gradients.over(UFUNCS[f"{row.ufunc}_backward"])(documented(function))
