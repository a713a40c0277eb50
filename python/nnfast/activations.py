"""Activations and their gradients.

Those without an optional parameter are NumPy ufuncs; the others, and the gradients, are functions over ufuncs and take
the keywords of one: ``out=``, ``where=``, ``dtype=``, ``casting=``, ``order=``, ``subok=``.

A gradient is ``<name>_backward(dy, saved)``: ``saved`` is the output ``y`` where the gradient follows from it, so that
a training step may overwrite x, and the input ``x`` elsewhere; ``x=`` or ``y=`` say which one is given. Its ufunc is
``<name>_backward.ufunc``. ``TABLE`` says of each what it is: formula, parameters, what is saved, error bound, exact
points.
"""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from collections.abc import Callable, Mapping
from functools import lru_cache
from math import inf
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from nnfast import _arrays, _checks, _docs, _gradients, _labels, _seeds
from nnfast._gradients import Backward
from nnfast._keywords import UfuncKeywords, shown
from nnfast._load import _core
from nnfast._seeds import Rng
from nnfast._table import TABLE as TABLE
from nnfast._table import Activation as Activation

__all__ = [
    "celu",
    "celu_backward",
    "derivative",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "hardshrink",
    "hardshrink_backward",
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardswish",
    "hardswish_backward",
    "hardtanh",
    "hardtanh_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "logsigmoid",
    "logsigmoid_backward",
    "maxout",
    "maxout_backward",
    "mish",
    "mish_backward",
    "prelu",
    "prelu_backward",
    "prelu_weight_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "relu_squared",
    "relu_squared_backward",
    "rrelu",
    "rrelu_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softplus",
    "softplus_backward",
    "softshrink",
    "softshrink_backward",
    "softsign",
    "softsign_backward",
    "squareplus",
    "squareplus_backward",
    "tanh",
    "tanh_backward",
    "tanhshrink",
    "tanhshrink_backward",
    "threshold",
    "threshold_backward",
]

# An example each: the arguments, or the whole expression, and what it prints.
_EXAMPLES = {
    "relu": ("np.array([-1.5, -0.0, 2.0])", "array([0., 0., 2.])"),
    "relu_backward": ("np.ones(3), np.array([0.0, 1.0, 2.0])", "array([0., 1., 1.])"),
    "relu6": ("np.array([-1.5, 2.0, 7.0])", "array([0., 2., 6.])"),
    "relu6_backward": ("np.ones(3), np.array([0.0, 2.0, 6.0])", "array([0., 1., 0.])"),
    "hardtanh": ("np.array([-3.0, 0.5, 3.0]), max_val=2.0", "array([-1. ,  0.5,  2. ])"),
    "hardtanh_backward": ("np.ones(3), np.array([-1.0, 0.5, 1.0])", "array([0., 1., 0.])"),
    "leaky_relu": ("np.array([-2.0, 3.0]), negative_slope=0.5", "array([-1.,  3.])"),
    "leaky_relu_backward": (
        "np.ones(2), np.array([-1.0, 3.0]), negative_slope=0.5",
        "array([0.5, 1. ])",
    ),
    "prelu": (
        "np.array([[-4.0, 2.0], [-2.0, -8.0]]), np.array([0.25, 0.5])",
        "array([[-1. ,  2. ],\n       [-0.5, -4. ]])",
    ),
    "prelu_backward": ("np.ones(2), np.array([-4.0, 2.0]), 0.25", "array([0.25, 1.  ])"),
    "threshold": ("np.array([-1.0, 0.5, 2.0]), 0.5, 9.0", "array([9., 9., 2.])"),
    "threshold_backward": ("np.ones(3), np.array([-1.0, 0.5, 2.0]), 0.5", "array([0., 0., 1.])"),
    "hardshrink": ("np.array([-2.0, 0.5, 3.0])", "array([-2.,  0.,  3.])"),
    "hardshrink_backward": ("np.ones(3), np.array([-2.0, 0.0, 3.0])", "array([1., 0., 1.])"),
    "softshrink": ("np.array([-2.0, 0.5, 3.0])", "array([-1.5,  0. ,  2.5])"),
    "softshrink_backward": ("np.ones(3), np.array([-1.5, 0.0, 2.5])", "array([1., 0., 1.])"),
    "relu_squared": ("np.array([-2.0, 0.5, 3.0])", "array([0.  , 0.25, 9.  ])"),
    "relu_squared_backward": ("np.ones(3), np.array([-2.0, 0.5, 3.0])", "array([0., 1., 6.])"),
    "hardsigmoid": ("np.array([-3.0, 0.0, 1.5])", "array([0.  , 0.5 , 0.75])"),
    "hardsigmoid_backward": ("np.full(2, 6.0), np.array([0.0, 3.0])", "array([1., 0.])"),
    "hardswish": ("np.array([-3.0, -1.5, 4.0])", "array([-0.   , -0.375,  4.   ])"),
    "hardswish_backward": ("np.ones(3), np.array([-4.0, 0.0, 4.0])", "array([0. , 0.5, 1. ])"),
    "elu": ("np.array([-np.inf, 0.0, 2.0]), alpha=0.5", "array([-0.5,  0. ,  2. ])"),
    "elu_backward": ("np.ones(3), np.array([-1.0, -0.5, 3.0])", "array([0. , 0.5, 1. ])"),
    "celu": ("np.array([-np.inf, 0.0, 2.0]), alpha=0.5", "array([-0.5,  0. ,  2. ])"),
    "celu_backward": (
        "np.ones(3), np.array([-0.5, -0.25, 3.0]), alpha=0.5",
        "array([0. , 0.5, 1. ])",
    ),
    "selu": ("nf.selu(np.array([0.0, 1.0])).round(6)", "array([0.      , 1.050701])"),
    "selu_backward": (
        "nf.selu_backward(np.ones(1), np.array([2.0])).round(6)",
        "array([1.050701])",
    ),
    "sigmoid": ("np.array([-np.inf, 0.0, np.log(3.0)])", "array([0.  , 0.5 , 0.75])"),
    "sigmoid_backward": ("np.ones(2), np.array([0.5, 1.0])", "array([0.25, 0.  ])"),
    "logsigmoid": ("np.array([-np.inf, -1000.0, np.inf])", "array([  -inf, -1000.,    -0.])"),
    "logsigmoid_backward": ("np.ones(2), np.array([0.0, -np.inf])", "array([0.5, 1. ])"),
    "softplus": ("np.array([-np.inf, 1000.0])", "array([   0., 1000.])"),
    "softplus_backward": ("np.ones(2), np.array([0.0, np.inf])", "array([0.5, 1. ])"),
    "tanh": ("np.array([-np.inf, 0.0, np.inf])", "array([-1.,  0.,  1.])"),
    "tanh_backward": ("np.ones(2), np.array([0.0, 1.0])", "array([1., 0.])"),
    "tanhshrink": ("nf.tanhshrink(np.array([0.0, 1e-3])) * 3e9", "array([0.       , 0.9999996])"),
    "tanhshrink_backward": ("np.ones(2), np.array([0.0, np.inf])", "array([0., 1.])"),
    "silu": (
        "nf.silu(np.array([-np.inf, 0.0, np.log(3.0)])) / np.log(3.0)",
        "array([-0.  ,  0.  ,  0.75])",
    ),
    "silu_backward": ("np.ones(2), np.array([0.0, 100.0])", "array([0.5, 1. ])"),
    "mish": ("np.array([-np.inf, 0.0, 100.0])", "array([ -0.,   0., 100.])"),
    "mish_backward": ("np.ones(2), np.array([0.0, 100.0])", "array([0.6, 1. ])"),
    "softsign": ("np.array([-np.inf, 1.0, 3.0])", "array([-1.  ,  0.5 ,  0.75])"),
    "softsign_backward": ("np.ones(2), np.array([0.0, 1.0])", "array([1.  , 0.25])"),
    "squareplus": ("np.array([-1.5, 0.0, 1.5])", "array([0.5, 1. , 2. ])"),
    "squareplus_backward": ("np.ones(3), np.array([0.5, 1.0, 2.0])", "array([0.2, 0.5, 0.8])"),
    "gelu": ("np.array([-np.inf, 0.0, 10.0])", "array([-0.,  0., 10.])"),
    "gelu_backward": ("np.ones(2), np.array([0.0, 10.0])", "array([0.5, 1. ])"),
    "gelu_tanh": (
        "nf.gelu(np.array([-np.inf, 0.0, 10.0]), approximate='tanh')",
        "array([-0.,  0., 10.])",
    ),
    "gelu_tanh_backward": (
        "nf.gelu_backward(np.ones(2), np.array([0.0, 10.0]), approximate='tanh')",
        "array([0.5, 1. ])",
    ),
}


def _doc(name: str) -> str:
    """The docstring of an activation, or of the gradient of one."""
    forward = name.removesuffix("_backward")
    write = _docs.activation if name == forward else _docs.activation_backward
    code, result = _EXAMPLES[name]
    return write(TABLE[forward], (code if "nf." in code else f"nf.{name}({code})", result))


_ufuncs: dict[str, np.ufunc] = _core.make_activations(
    {row.ufunc: _doc(row.name) for row in TABLE.values()}
    | {f"{row.ufunc}_backward": _docs.backward_ufunc(row) for row in TABLE.values()}
)

hardsigmoid = _ufuncs["hardsigmoid"]
hardswish = _ufuncs["hardswish"]
logsigmoid = _ufuncs["logsigmoid"]
mish = _ufuncs["mish"]
relu = _ufuncs["relu"]
relu6 = _ufuncs["relu6"]
relu_squared = _ufuncs["relu_squared"]
selu = _ufuncs["selu"]
sigmoid = _ufuncs["sigmoid"]
silu = _ufuncs["silu"]
softsign = _ufuncs["softsign"]
tanh = _ufuncs["tanh"]
tanhshrink = _ufuncs["tanhshrink"]

# Ufuncs under a Python function: pickle finds them here by their names.
globals().update({name: ufunc for name, ufunc in _ufuncs.items() if name.startswith("_")})

# doctest does not look into ufuncs by itself.
__test__ = {name: _ufuncs[name].__doc__ for name in TABLE if name in _ufuncs}


_documented = _docs.documented(_doc)


def _call(name: str, arrays: tuple[Any, ...], params: tuple[float, ...], keywords: Any) -> Any:
    """Call the ufunc with parameters that do not promote the dtype of the arrays."""
    ufunc = _ufuncs[name]
    result = _core.call_with_parameters(ufunc, arrays, params, keywords)
    if result is not None:
        return result
    for array in arrays:
        if type(array) is not np.ndarray and _arrays.is_foreign(array):  # the type is soon known
            params = tuple(_arrays.scalar_for(value, array) for value in params)
            break
    return ufunc(*arrays, *params, **keywords)


# ---- gradients from x or from y ----

# Their kernels compare y with constants that x is on the same side of.
_PIECEWISE = {"relu", "relu6", "hardtanh", "leaky_relu", "hardshrink"}

# Row.slope_of_y of the table.
_SLOPES: dict[str, Callable[..., Any]] = {
    "hardsigmoid": lambda y: _call(
        "_hardtanh_backward", (_arrays.operand_for(1 / 6, y), y), (0.0, 1.0), {}
    ),
    "logsigmoid": lambda y: -np.expm1(y),
    "softplus": lambda y, beta: -np.expm1(np.multiply(y, _arrays.operand_for(-beta, y))),
    "softsign": lambda y: np.square(1 - np.abs(y)),
}


def _output(name: str, x: Any, y: Any, *params: float, dtype: DTypeLike | None = None) -> Any:
    """What takes the place of y where a gradient that takes y is given x."""
    _gradients.require_one(name, TABLE[name].takes, y=y, x=x)
    return x if name in _PIECEWISE else globals()[name](x, *params, dtype=dtype)


def _slope(name: str, x: Any, y: Any, *params: float) -> Any:
    """dy/dx where a gradient that takes x is given y."""
    _gradients.require_one(name, TABLE[name].takes, x=x, y=y)
    dtype = y.dtype if hasattr(y, "dtype") else np.asarray(y).dtype
    if dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"y must be of float16, float32 or float64, got {dtype}")
    return _SLOPES[name](y, *params)


# No argument is keyword-only, and none is collected in a dict, since that would cost 20 to 300 ns at every call.


def _of_y(name: str) -> Backward[...]:
    """The gradient of an activation without parameters, which takes y by position."""
    ufunc = _ufuncs[f"{name}_backward"]

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
            y = _output(name, x, y, dtype=dtype)
        if casting == "same_kind" and order == "K" and subok is True:
            if dtype is None and where is True:
                return ufunc(dy, y) if out is None else ufunc(dy, y, out=out)
            if dtype is None:
                return ufunc(dy, y, out=out, where=where)
            if where is True:
                return (
                    ufunc(dy, y, dtype=dtype) if out is None else ufunc(dy, y, out=out, dtype=dtype)
                )
        return ufunc(
            dy, y, out=out, where=where, dtype=dtype, casting=casting, order=order, subok=subok
        )

    return _named(backward, name)


def _of_x(name: str) -> Backward[...]:
    """The gradient of an activation without parameters, which takes x by position."""
    ufunc = _ufuncs[f"{name}_backward"]

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
            call, x = np.multiply, _slope(name, x, y)
        if casting == "same_kind" and order == "K" and subok is True:
            if dtype is None and where is True:
                return call(dy, x) if out is None else call(dy, x, out=out)
            if dtype is None:
                return call(dy, x, out=out, where=where)
            if where is True:
                return (
                    call(dy, x, dtype=dtype) if out is None else call(dy, x, out=out, dtype=dtype)
                )
        return call(
            dy, x, out=out, where=where, dtype=dtype, casting=casting, order=order, subok=subok
        )

    return _named(backward, name)


def _named(function: Callable[..., Any], name: str) -> Backward[...]:
    function.__name__ = function.__qualname__ = f"{name}_backward"
    return _backward(function)


def _backward(function: Callable[_gradients.P, Any]) -> Backward[_gradients.P]:
    """Give a gradient its docstring and its ufunc."""
    name = function.__name__
    row = TABLE[name.removesuffix("_backward")]
    return _gradients.over(_ufuncs[f"{row.ufunc}_backward"])(_documented(function))


hardsigmoid_backward = _of_x("hardsigmoid")
hardswish_backward = _of_x("hardswish")
logsigmoid_backward = _of_x("logsigmoid")
mish_backward = _of_x("mish")
relu_backward = _of_y("relu")
relu6_backward = _of_y("relu6")
relu_squared_backward = _of_x("relu_squared")
selu_backward = _of_y("selu")
sigmoid_backward = _of_y("sigmoid")
silu_backward = _of_x("silu")
softsign_backward = _of_x("softsign")
tanh_backward = _of_y("tanh")
tanhshrink_backward = _of_x("tanhshrink")


# ---- functions with parameters ----


@shown
@_documented
def hardtanh(
    x: ArrayLike, min_val: float = -1.0, max_val: float = 1.0, **kwargs: Unpack[UfuncKeywords]
) -> Any:
    return _call("_hardtanh", (x,), _bounds(min_val, max_val), kwargs)


@shown
@_backward
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
        y = _output("hardtanh", x, y)
    elif min_val != -1 or max_val != 1:
        bounds = _rounded(bounds, getattr(y, "dtype", None))
    return _call("_hardtanh_backward", (dy, y), bounds, kwargs)


@shown
@_documented
def leaky_relu(x: ArrayLike, negative_slope: float = 0.01, **kwargs: Unpack[UfuncKeywords]) -> Any:
    return _call("_leaky_relu", (x,), (_checks.real(negative_slope, "negative_slope"),), kwargs)


@shown
@_backward
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
        y = _output("leaky_relu", x, y)
    return _call("_leaky_relu_backward", (dy, y), (slope,), kwargs)


def _by_channel(backward: bool, arrays: list[Any], weight: Any, keywords: Mapping[str, Any]) -> Any:
    """Call the ufunc or, for contiguous arrays with a weight for each channel, a kernel that uses all threads."""
    if not keywords or keywords.keys() == {"out"}:
        result = _core.prelu_by_channel(backward, arrays, weight, keywords.get("out"))
        if result is not None:
            return result
    _arrays.check_unmasked(weight, "weight")
    weight = _labels.values_of(weight)  # by position, as NumPy broadcasts
    return _ufuncs["_prelu_backward" if backward else "_prelu"](*arrays, weight, **keywords)


@shown
@_documented
def prelu(x: ArrayLike, weight: ArrayLike, **kwargs: Unpack[UfuncKeywords]) -> Any:
    return _by_channel(False, [x], weight, kwargs)


@shown
@_backward
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
@_documented
def elu(x: ArrayLike, alpha: float = 1.0, **kwargs: Unpack[UfuncKeywords]) -> Any:
    return _call("_elu", (x,), (_checks.real(alpha, "alpha"),), kwargs)


@shown
@_backward
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
        y = _output("elu", x, y, alpha, dtype=kwargs.get("dtype"))
    return _call("_elu_backward", (dy, y), (alpha,), kwargs)


@shown
@_documented
def celu(x: ArrayLike, alpha: float = 1.0, **kwargs: Unpack[UfuncKeywords]) -> Any:
    return _call("_celu", (x,), (_checks.positive(alpha, "alpha"),), kwargs)


@shown
@_backward
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
        y = _output("celu", x, y, alpha, dtype=kwargs.get("dtype"))
    return _call("_celu_backward", (dy, y), (alpha,), kwargs)


@shown
@_documented
def threshold(
    x: ArrayLike, threshold: float = 0.0, value: float = 0.0, **kwargs: Unpack[UfuncKeywords]
) -> Any:
    return _call("_threshold", (x,), _step(threshold, value), kwargs)


@shown
@_backward
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
    return _call("_threshold_backward", (dy, x), _step(threshold, value), kwargs)


@shown
@_documented
def hardshrink(x: ArrayLike, lambd: float = 0.5, **kwargs: Unpack[UfuncKeywords]) -> Any:
    return _call("_hardshrink", (x,), (_checks.finite_not_negative(lambd, "lambd"),), kwargs)


@shown
@_backward
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
        y = _output("hardshrink", x, y)
    return _call("_hardshrink_backward", (dy, y), (lambd,), kwargs)


@shown
@_documented
def softshrink(x: ArrayLike, lambd: float = 0.5, **kwargs: Unpack[UfuncKeywords]) -> Any:
    return _call("_softshrink", (x,), (_checks.finite_not_negative(lambd, "lambd"),), kwargs)


@shown
@_backward
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
        y = _output("softshrink", x, y, lambd, dtype=kwargs.get("dtype"))
    return _call("_softshrink_backward", (dy, y), (lambd,), kwargs)


@shown
@_documented
def squareplus(x: ArrayLike, b: float = 4.0, **kwargs: Unpack[UfuncKeywords]) -> Any:
    return _call("_squareplus", (x,), (_finite_positive(b, "b"),), kwargs)


@shown
@_backward
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
        y = _output("squareplus", x, y, b, dtype=kwargs.get("dtype"))
    return _call("_squareplus_backward", (dy, y), (b,), kwargs)


@shown
@_documented
def softplus(
    x: ArrayLike, beta: float = 1.0, threshold: float = inf, **kwargs: Unpack[UfuncKeywords]
) -> Any:
    return _call("_softplus", (x,), _steepness(beta, threshold), kwargs)


@shown
@_backward
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
        return np.multiply(dy, _slope("softplus", x, y, beta), **kwargs)
    return _call("_softplus_backward", (dy, x), params, kwargs)


@shown
@_documented
def gelu(
    x: ArrayLike, approximate: Literal["none", "tanh"] = "none", **kwargs: Unpack[UfuncKeywords]
) -> Any:
    return _call("_gelu" + _form(approximate), (x,), (), kwargs)


@shown
@_backward
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
    return _call(f"_gelu{_form(approximate)}_backward", (dy, x), (), kwargs)


def _form(approximate: str) -> str:
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
    if dtype not in (np.float16, np.float32):
        return bounds
    with np.errstate(over="ignore"):
        low, high = np.array(bounds).astype(dtype)
    return float(low), float(high)


def derivative(name: str, x: ArrayLike, *, out: Any = None, **kwargs: Any) -> Any:
    """Derivative f'(x) of an elementwise activation, given by its name: the gradient where that of the loss is 1.

    Parameters
    ----------
    name : str
        Of the function: ``"silu"`` for ``nnfast.silu``.
    x : array_like of float16, float32 or float64, any shape
        What the function is given, also where its gradient takes y.
    out : ndarray of x's shape, optional
        ``out=x`` is allowed.
    **kwargs
        The parameters of the function, and ``where``, ``dtype``, ``casting``, ``order``, ``subok`` as for every NumPy
        ufunc.

    Returns
    -------
    dydx : ndarray or scalar of x's shape and dtype
        The bits of ``nf.<name>_backward(1.0, x=x)``; at a kink its value there, so 0 for relu at 0.

    Raises
    ------
    TypeError
        If name is no str, x is not of real numbers, or a keyword is none of the function's.
    ValueError
        If there is no elementwise activation of that name (the message lists close ones), or a parameter is out of its
        range.

    See Also
    --------
    relu_backward

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.derivative("tanh", np.array([0.0, np.inf]))
    array([1., 0.])
    >>> nf.derivative("leaky_relu", np.array([-2.0, 3.0]), negative_slope=0.5)
    array([0.5, 1. ])
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}")
    if name not in _GRADIENTS:
        from difflib import get_close_matches  # not loaded by every import of nnfast

        close = get_close_matches(name.lower(), _GRADIENTS, n=5, cutoff=0.4) or list(_GRADIENTS)
        raise ValueError(
            f"name must be an elementwise activation, such as {', '.join(close)}, got {name!r}"
        )
    return _GRADIENTS[name](_arrays.operand_for(1.0, x), x=x, out=out, **kwargs)


_GRADIENTS: dict[str, Callable[..., Any]] = {
    name: globals()[f"{name}_backward"] for name in TABLE if name in globals()
}


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
    padded = (1,) * (x.ndim - len(shape)) + shape
    if len(padded) != x.ndim or any(w not in (1, n) for w, n in zip(padded, x.shape, strict=True)):
        raise ValueError(f"weight must broadcast to the shape of x, {x.shape}, got {shape}")
    kept = [axis for axis, w in enumerate(padded) if w != 1]
    order = kept + [axis for axis in range(x.ndim) if axis not in kept]
    sums = _core.prelu_weight_backward(dy.transpose(order), x.transpose(order), len(kept))
    return sums.reshape(shape)


def rrelu(
    x: ArrayLike,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    *,
    training: bool = False,
    rng: Rng = None,
    slopes: NDArray[Any] | None = None,
    offset: int = 0,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Leaky rectified linear unit with random slopes: ``x where x > 0, else slope * x``, one slope an element.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, any shape
        NaN gives NaN. Other types are converted as NumPy's ufuncs do.
    lower, upper : float, default 1/8 and 1/3
        In training the slopes are uniform in [lower, upper), in inference all of them are ``(lower + upper) / 2``.
        Finite; lower is not above upper.
    training : bool, default False
        As in PyTorch.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Source of the slopes: as for dropout.
    slopes : ndarray of x's shape, optional
        Slopes to use in training in place of random ones; of x's dtype, float32 for float16.
    offset : int, default 0
        For x that is part of a larger array: the position of its first element there, in C order. With the same int as
        `rng`, the pieces of an array get the slopes of the whole.
    out : ndarray of x's dtype and shape, optional
        Takes y; ``out=x`` is allowed.

    Returns
    -------
    y : ndarray of x's dtype and shape
        Exactly x where x > 0.
    slopes : ndarray of x's shape, or None in inference
        For rrelu_backward. ``nf.random.Philox(rng).uniform(x.shape, lower, upper, dtype=x.dtype)``, of float32 for
        float16, or what was given.

    Raises
    ------
    TypeError
        If x is not of real numbers, rng is of another type, or slopes or out has another dtype.
    ValueError
        If lower is above upper or one of them not finite, rng or offset is out of range, a shape does not match, or out
        is read-only.

    See Also
    --------
    rrelu_backward : Its gradient.
    nnfast.nn.RReLU : The layer.
    torch.nn.functional.rrelu : PyTorch's.
    leaky_relu, prelu

    References
    ----------
    Xu, Wang, Chen, Li, "Empirical evaluation of rectified activations in convolutional network", 2015.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([-24.0, 2.0])
    >>> y, slopes = nf.rrelu(x, training=True, rng=0)
    >>> bool(-8 <= y[0] <= -3), np.array_equal(y, [-24 * slopes[0], 2])
    (True, True)
    >>> nf.rrelu(x)
    (array([-5.5,  2. ]), None)
    """
    x = _arrays.floating(x, "x", float16=True)
    slope = _mean_slope(lower, upper)
    y = _arrays.output(out, x.shape, x.dtype)
    if not training:
        return _call("_leaky_relu", (x,), (slope,), {"out": y}), None
    if slopes is None:
        slopes = _random_slopes(x, float(lower), float(upper), rng, offset)
    else:
        _check_slopes(slopes, x, "x")
    return _ufuncs["_prelu"](x, slopes, out=y), slopes


def rrelu_backward(
    dy: ArrayLike,
    x: ArrayLike,
    slopes: NDArray[Any] | None = None,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    *,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient of rrelu: ``dy where x > 0, else slope * dy``.

    Parameters
    ----------
    dy : array_like of float16, float32 or float64
        Gradient of the loss with respect to y.
    x : array_like, dy's shape
        What rrelu was given; converted to dy's dtype.
    slopes : ndarray, dy's shape, or None
        What rrelu returned; None is the mean slope of inference.
    lower, upper : float, default 1/8 and 1/3
        As given to rrelu: the mean slope follows from them.
    out : ndarray of dy's dtype and shape, optional
        Takes dx; ``out=dy`` is allowed.

    Returns
    -------
    dx : ndarray of dy's dtype and shape
        Gradient of the loss with respect to x.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or slopes or out has another dtype.
    ValueError
        If lower is above upper or one of them not finite, shapes do not match, or out is read-only.

    See Also
    --------
    rrelu : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.rrelu_backward(np.ones(2), np.array([-24.0, 2.0]), slopes=np.array([0.25, 0.125]))
    array([0.25, 1.  ])
    """
    dy = _arrays.floating(dy, "dy", float16=True)
    x = _arrays.floating(x, "x", float16=True)
    slope = _mean_slope(lower, upper)
    if x.shape != dy.shape:
        raise ValueError(f"x must have the shape of dy, {dy.shape}, got {x.shape}")
    x = x.astype(dy.dtype, copy=False)
    if slopes is not None:
        _check_slopes(slopes, dy, "dy")
    dx = _arrays.output(out, dy.shape, dy.dtype)
    if slopes is None:
        _call("_prelu_backward", (dy, x), (slope,), {"out": dx})
    else:
        _ufuncs["_prelu_backward"](dy, x, slopes, out=dx)
    return dx


def _mean_slope(lower: float, upper: float) -> float:
    lower, upper = _checks.finite(lower, "lower"), _checks.finite(upper, "upper")
    if lower > upper:
        raise ValueError(f"upper must not be below lower, {lower}, got {upper}")
    return (lower + upper) / 2


def _slope_dtype(x: NDArray[Any]) -> np.dtype[Any]:
    return x.dtype if x.dtype.itemsize > 2 else np.dtype(np.float32)


def _random_slopes(
    x: NDArray[Any], lower: float, upper: float, rng: Rng, offset: int
) -> NDArray[Any]:
    """Those of Philox(rng).uniform, without its checks: they are most of a call on a small array."""
    place = _checks.integer_from(offset, 0, "offset")
    slopes = np.empty(x.shape, _slope_dtype(x))
    if place + slopes.size > 2**62:
        raise ValueError(f"offset must leave room for {slopes.size} slopes, got {offset}")
    kind, bounds = _slope_range(lower, upper, slopes.dtype)
    seed = _seeds.seed_of(rng)
    if slopes.size:
        _core.fill_random(kind, slopes, seed, place, *bounds)
    return slopes


@lru_cache
def _slope_range(
    lower: float, upper: float, dtype: np.dtype[Any]
) -> tuple[int, tuple[float, float]]:
    from nnfast import random  # not loaded by every import of nnfast

    return random.UNIFORM, random.low_and_range(lower, upper, dtype)


def _check_slopes(slopes: Any, x: NDArray[Any], name: str) -> None:
    """Check slopes of rrelu against the array that they are for."""
    if not isinstance(slopes, np.ndarray):
        raise TypeError(f"slopes must be a numpy.ndarray, got {type(slopes).__name__}")
    _arrays.check_unmasked(slopes, "slopes")
    if slopes.dtype != _slope_dtype(x):
        raise TypeError(f"slopes must have dtype {_slope_dtype(x)}, got {slopes.dtype}")
    if slopes.shape != x.shape:
        raise ValueError(f"slopes must have the shape of {name}, {x.shape}, got {slopes.shape}")


def maxout(
    x: ArrayLike, pieces: int, axis: int = -1, *, out: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Maxout: the largest of every ``pieces`` neighbours along an axis.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (..., m * pieces, ...)
        The pieces of a unit are contiguous: ``x`` is read as (..., m, pieces, ...).
    pieces : int in [1, 256]
        How many neighbours there are for each y.
    axis : int, default -1
        The axis of the neighbours.
    out : ndarray of x's dtype, shape (..., m, ...), optional
        Takes the result.

    Returns
    -------
    y : ndarray, shape (..., m, ...)
        The first of equals wins; NaN propagates.
    which : ndarray of uint8, y's shape
        The piece that held it, for maxout_backward.

    Raises
    ------
    TypeError
        If x is not of real numbers or out has another dtype.
    ValueError
        If pieces does not divide the axis, or out has another shape, is read-only or overlaps x.

    See Also
    --------
    maxout_backward : Its gradient.
    nnfast.nn.Maxout : The layer.

    References
    ----------
    Goodfellow et al., "Maxout networks", 2013.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> y, which = nf.maxout(np.array([1.0, 3.0, -2.0, -5.0]), 2)
    >>> y, which
    (array([ 3., -2.]), array([1, 0], dtype=uint8))
    """
    x = _arrays.floating(x, "x", float16=True)
    axis = _arrays.axis_of(axis, x, "x")
    _pieces(pieces)
    if x.shape[axis] % pieces:
        raise ValueError(
            f"pieces must divide the length of axis {axis} of x, {x.shape[axis]}, got {pieces}"
        )
    shape = (*x.shape[:axis], x.shape[axis] // pieces, *x.shape[axis + 1 :])
    y = _arrays.output(out, shape, x.dtype, x)
    if x.dtype == np.float16:  # exact both ways
        y[...], which = maxout(x.astype(np.float32), pieces, axis)
        return y, which
    which = np.empty(shape, np.uint8)
    _core.maxout(x, y, which, axis, pieces)
    return y, which


def maxout_backward(
    dy: ArrayLike,
    which: NDArray[np.uint8],
    pieces: int,
    axis: int = -1,
    *,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient of maxout: ``dy`` goes to the piece that was largest, the others get 0.

    Parameters
    ----------
    dy : array_like of float16, float32 or float64, shape (..., m, ...)
        Gradient of the loss with respect to y.
    which : ndarray of uint8, dy's shape
        What maxout returned.
    pieces : int in [1, 256]
        As given to maxout.
    axis : int, default -1
        As given to maxout.
    out : ndarray of dy's dtype, shape (..., m * pieces, ...), optional
        Takes dx.

    Returns
    -------
    dx : ndarray, shape (..., m * pieces, ...)
        Gradient of the loss with respect to x.

    Raises
    ------
    TypeError
        If dy is not of real numbers or out has another dtype.
    ValueError
        If shapes do not match, or out is read-only or overlaps dy.

    See Also
    --------
    maxout : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.maxout_backward(np.array([5.0, 7.0]), np.array([1, 0], dtype=np.uint8), 2)
    array([0., 5., 7., 0.])
    """
    dy = _arrays.floating(dy, "dy", float16=True)
    axis = _arrays.axis_of(axis, dy, "dy")
    _pieces(pieces)
    _arrays.check_unmasked(which, "which")
    if not isinstance(which, np.ndarray):
        raise TypeError(f"which must be a numpy.ndarray, got {type(which).__name__}")
    if which.dtype != np.uint8:
        raise TypeError(f"which must have dtype uint8, got {which.dtype}")
    if which.shape != dy.shape:
        raise ValueError(f"which must have the shape of dy, {dy.shape}, got {which.shape}")
    shape = (*dy.shape[:axis], dy.shape[axis] * pieces, *dy.shape[axis + 1 :])
    dx = _arrays.output(out, shape, dy.dtype, dy)
    if dy.dtype == np.float16:  # exact both ways
        dx[...] = maxout_backward(dy.astype(np.float32), which, pieces, axis)
        return dx
    _core.maxout_backward(dy, which, dx, axis, pieces)
    return dx


def _pieces(pieces: int) -> None:
    if not 1 <= _checks.integer(pieces, "pieces") <= 256:
        raise ValueError(f"pieces must be in [1, 256], got {pieces}")
