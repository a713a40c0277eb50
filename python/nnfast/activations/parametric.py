"""Activations with parameters and their gradients: functions over ufuncs, whose keywords they take."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _gradients, _labels
from nnfast._keywords import UfuncKeywords, shown
from nnfast._load import _core
from nnfast._table import TABLE
from nnfast.activations.gradients import backward_of, output, slope
from nnfast.activations.ufuncs import UFUNCS, call, documented

__all__ = [
    "celu",
    "celu_backward",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "hardshrink",
    "hardshrink_backward",
    "hardtanh",
    "hardtanh_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "prelu",
    "prelu_backward",
    "prelu_weight_backward",
    "softplus",
    "softplus_backward",
    "softshrink",
    "softshrink_backward",
    "squareplus",
    "squareplus_backward",
    "threshold",
    "threshold_backward",
]


@shown
@documented
def hardtanh(
    x: ArrayLike, min_val: float = -1.0, max_val: float = 1.0, **kwargs: Unpack[UfuncKeywords]
) -> Any:
    return call("_hardtanh", (x,), _bounds(min_val, max_val), kwargs)


@shown
@backward_of
def hardtanh_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    min_val: float = -1.0,
    max_val: float = 1.0,
    *,
    x: ArrayLike | None = None,
    **kwargs: Unpack[UfuncKeywords],
) -> Any:
    bounds = _bounds(min_val, max_val)
    if y is None or x is not None:
        y = output(hardtanh, x, y)
    elif min_val != -1 or max_val != 1:
        bounds = _rounded(bounds, getattr(y, "dtype", None))
    return call("_hardtanh_backward", (dy, y), bounds, kwargs)


@shown
@documented
def leaky_relu(x: ArrayLike, negative_slope: float = 0.01, **kwargs: Unpack[UfuncKeywords]) -> Any:
    return call("_leaky_relu", (x,), (_checks.real(negative_slope, "negative_slope"),), kwargs)


@shown
@backward_of
def leaky_relu_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    negative_slope: float = 0.01,
    *,
    x: ArrayLike | None = None,
    **kwargs: Unpack[UfuncKeywords],
) -> Any:
    check = _checks.not_negative if x is None else _checks.real
    slope = check(negative_slope, "negative_slope")
    if y is None or x is not None:
        y = output(leaky_relu, x, y)
    return call("_leaky_relu_backward", (dy, y), (slope,), kwargs)


def _by_channel(backward: bool, arrays: list[Any], weight: Any, keywords: Mapping[str, Any]) -> Any:
    """Call the ufunc or, for contiguous arrays with a weight for each channel, a kernel that uses all threads."""
    if type(weight) is float:
        return call("_prelu_backward" if backward else "_prelu", tuple(arrays), (weight,), keywords)
    if not keywords or keywords.keys() == {"out"}:
        result = _core.prelu_by_channel(backward, arrays, weight, keywords.get("out"))
        if result is not None:
            return result
    _arrays.check_unmasked(weight, "weight")
    weight = _labels.values_of(weight)  # by position, as NumPy broadcasts
    return UFUNCS["_prelu_backward" if backward else "_prelu"](*arrays, weight, **keywords)


@shown
@documented
def prelu(x: ArrayLike, weight: ArrayLike, **kwargs: Unpack[UfuncKeywords]) -> Any:
    return _by_channel(False, [x], weight, kwargs)


@shown
@backward_of
def prelu_backward(
    dy: ArrayLike,
    x: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    *,
    y: ArrayLike | None = None,
    **kwargs: Unpack[UfuncKeywords],
) -> Any:
    if x is None or y is not None:
        _gradients.require_one("prelu", TABLE["prelu"].takes, x=x, y=y)
    if weight is None:
        raise TypeError("prelu_backward must be given weight")
    return _by_channel(True, [dy, x], weight, kwargs)


@shown
@documented
def elu(x: ArrayLike, alpha: float = 1.0, **kwargs: Unpack[UfuncKeywords]) -> Any:
    return call("_elu", (x,), (_checks.real(alpha, "alpha"),), kwargs)


@shown
@backward_of
def elu_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    alpha: float = 1.0,
    *,
    x: ArrayLike | None = None,
    **kwargs: Unpack[UfuncKeywords],
) -> Any:
    alpha = _checks.positive(alpha, "alpha")
    if y is None or x is not None:
        y = output(elu, x, y, alpha, dtype=kwargs.get("dtype"))
    return call("_elu_backward", (dy, y), (alpha,), kwargs)


@shown
@documented
def celu(x: ArrayLike, alpha: float = 1.0, **kwargs: Unpack[UfuncKeywords]) -> Any:
    return call("_celu", (x,), (_checks.positive(alpha, "alpha"),), kwargs)


@shown
@backward_of
def celu_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    alpha: float = 1.0,
    *,
    x: ArrayLike | None = None,
    **kwargs: Unpack[UfuncKeywords],
) -> Any:
    alpha = _checks.positive(alpha, "alpha")
    if y is None or x is not None:
        y = output(celu, x, y, alpha, dtype=kwargs.get("dtype"))
    return call("_celu_backward", (dy, y), (alpha,), kwargs)


@shown
@documented
def threshold(
    x: ArrayLike, threshold: float = 0.0, value: float = 0.0, **kwargs: Unpack[UfuncKeywords]
) -> Any:
    return call("_threshold", (x,), _step(threshold, value), kwargs)


@shown
@backward_of
def threshold_backward(
    dy: ArrayLike,
    x: ArrayLike | None = None,
    threshold: float = 0.0,
    value: float = 0.0,
    *,
    y: ArrayLike | None = None,
    **kwargs: Unpack[UfuncKeywords],
) -> Any:
    if x is None or y is not None:
        _gradients.require_one("threshold", TABLE["threshold"].takes, x=x, y=y)
    return call("_threshold_backward", (dy, x), _step(threshold, value), kwargs)


@shown
@documented
def hardshrink(x: ArrayLike, lambd: float = 0.5, **kwargs: Unpack[UfuncKeywords]) -> Any:
    return call("_hardshrink", (x,), (_checks.finite_not_negative(lambd, "lambd"),), kwargs)


@shown
@backward_of
def hardshrink_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    lambd: float = 0.5,
    *,
    x: ArrayLike | None = None,
    **kwargs: Unpack[UfuncKeywords],
) -> Any:
    lambd = _checks.finite_not_negative(lambd, "lambd")
    if y is None or x is not None:
        y = output(hardshrink, x, y)
    return call("_hardshrink_backward", (dy, y), (lambd,), kwargs)


@shown
@documented
def softshrink(x: ArrayLike, lambd: float = 0.5, **kwargs: Unpack[UfuncKeywords]) -> Any:
    return call("_softshrink", (x,), (_checks.finite_not_negative(lambd, "lambd"),), kwargs)


@shown
@backward_of
def softshrink_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    lambd: float = 0.5,
    *,
    x: ArrayLike | None = None,
    **kwargs: Unpack[UfuncKeywords],
) -> Any:
    lambd = _checks.finite_not_negative(lambd, "lambd")
    if y is None or x is not None:
        y = output(softshrink, x, y, lambd, dtype=kwargs.get("dtype"))
    return call("_softshrink_backward", (dy, y), (lambd,), kwargs)


@shown
@documented
def squareplus(x: ArrayLike, b: float = 4.0, **kwargs: Unpack[UfuncKeywords]) -> Any:
    return call("_squareplus", (x,), (_finite_positive(b, "b"),), kwargs)


@shown
@backward_of
def squareplus_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    b: float = 4.0,
    *,
    x: ArrayLike | None = None,
    **kwargs: Unpack[UfuncKeywords],
) -> Any:
    b = _finite_positive(b, "b")
    if y is None or x is not None:
        y = output(squareplus, x, y, b, dtype=kwargs.get("dtype"))
    return call("_squareplus_backward", (dy, y), (b,), kwargs)


@shown
@documented
def softplus(
    x: ArrayLike, beta: float = 1.0, threshold: float = inf, **kwargs: Unpack[UfuncKeywords]
) -> Any:
    return call("_softplus", (x,), _steepness(beta, threshold), kwargs)


@shown
@backward_of
def softplus_backward(
    dy: ArrayLike,
    x: ArrayLike | None = None,
    beta: float = 1.0,
    threshold: float = inf,
    *,
    y: ArrayLike | None = None,
    **kwargs: Unpack[UfuncKeywords],
) -> Any:
    params = _steepness(beta, threshold)
    if x is None or y is not None:
        if y is not None and threshold != inf:
            raise ValueError(f"threshold must be inf where y is given, got {threshold}")
        return np.multiply(dy, slope("softplus", x, y, beta), **kwargs)
    return call("_softplus_backward", (dy, x), params, kwargs)


@shown
@documented
def gelu(
    x: ArrayLike, approximate: Literal["none", "tanh"] = "none", **kwargs: Unpack[UfuncKeywords]
) -> Any:
    return call("_gelu" + gelu_form(approximate), (x,), (), kwargs)


@shown
@backward_of
def gelu_backward(
    dy: ArrayLike,
    x: ArrayLike | None = None,
    approximate: Literal["none", "tanh"] = "none",
    *,
    y: ArrayLike | None = None,
    **kwargs: Unpack[UfuncKeywords],
) -> Any:
    if x is None or y is not None:
        _gradients.require_one("gelu", TABLE["gelu"].takes, x=x, y=y)
    return call(f"_gelu{gelu_form(approximate)}_backward", (dy, x), (), kwargs)


def gelu_form(approximate: str) -> str:
    if approximate == "none":  # as most are
        return ""
    if approximate != "tanh":
        raise ValueError(f"approximate must be 'none' or 'tanh', got {approximate!r}")
    return "_tanh"


def _bounds(min_val: float, max_val: float) -> tuple[float, float]:
    if type(min_val) is not float or type(max_val) is not float:
        min_val, max_val = _checks.real(min_val, "min_val"), _checks.real(max_val, "max_val")
    if not min_val < max_val:
        raise ValueError(f"max_val must be above min_val, {min_val}, got {max_val}")
    return min_val, max_val


def _step(threshold: float, value: float) -> tuple[float, float]:
    return _number(threshold, "threshold"), _checks.real(value, "value")


def _steepness(beta: float, threshold: float) -> tuple[float, float]:
    return _checks.positive(beta, "beta"), _number(threshold, "threshold")


def _number(value: float, name: str) -> float:
    """A number that may be infinite, to compare with."""
    number = value if type(value) is float else _checks.real(value, name)
    if number != number:
        raise ValueError(f"{name} must be a number, got {number}")
    return number


def _finite_positive(value: float, name: str) -> float:
    return _checks.positive(_checks.finite(value, name), name)


def _rounded(bounds: tuple[float, float], dtype: Any) -> tuple[float, float]:
    """The bounds as they are in a y of that dtype, where the kernel would compare wider ones."""
    if not _arrays.is_narrow(dtype):
        return bounds
    with np.errstate(over="ignore"):
        low, high = np.array(bounds).astype(dtype)
    return float(low), float(high)


def prelu_weight_backward(dy: ArrayLike, x: ArrayLike, weight: ArrayLike) -> NDArray[Any]:
    """Gradient of prelu by its slope: the sum of ``dy * min(x, 0)`` over what each slope was broadcast to.

    Parameters
    ----------
    dy : array_like of float32 or float64
        Gradient of the loss with respect to y, of x's shape.
    x : array_like
        prelu's input.
    weight : array_like
        The slope as given to prelu; its shape says what to sum over, its values do not matter.

    Returns
    -------
    dweight : ndarray of weight's shape and x's dtype
        Summed in float64, in an order that does not depend on strides or threads.

    Raises
    ------
    TypeError
        If an array is not of real numbers.
    ValueError
        If dy does not have x's shape, or weight's does not broadcast to it.

    See Also
    --------
    prelu, prelu_backward

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([[-4.0, 2.0], [-2.0, -8.0]])
    >>> nf.prelu_weight_backward(np.ones((2, 2)), x, np.array([0.25, 0.5]))
    array([-6., -8.])
    """
    x, dy = _arrays.floating(x, "x"), _arrays.floating(dy, "dy")
    shape = _arrays.floating(weight, "weight").shape
    if dy.shape != x.shape:
        raise ValueError(f"dy must have the shape of x, {x.shape}, got {dy.shape}")
    if len(shape) == 1 and shape == x.shape[-1:] != (1,):  # one for each column, as most are
        first = x.ndim - 1, *range(x.ndim - 1)
        return _core.prelu_weight_backward(dy.transpose(first), x.transpose(first), 1)
    if shape == (1,) and x.ndim > 0:  # one for all
        return _core.prelu_weight_backward(dy, x, 0)
    padded = (1,) * (x.ndim - len(shape)) + shape
    if len(padded) != x.ndim or any(w not in (1, n) for w, n in zip(padded, x.shape, strict=True)):
        raise ValueError(f"weight must broadcast to the shape of x, {x.shape}, got {shape}")
    kept = [axis for axis, w in enumerate(padded) if w != 1]
    order = kept + [axis for axis in range(x.ndim) if axis not in kept]
    sums = _core.prelu_weight_backward(dy.transpose(order), x.transpose(order), len(kept))
    return sums.reshape(shape)
