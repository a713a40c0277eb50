"""Activations of x + bias, the step after a matrix product, in one pass; the gradient brings the bias's along.

``bias_relu(x, bias)`` is ``relu(x + bias)`` with a bias for every element of the last axis, and likewise for gelu, silu
and tanh. ``bias_<name>_backward`` returns the gradient with respect to x and that with respect to the bias: its sum
over all other axes.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _labels
from nnfast._arrays import Outputs
from nnfast._load import _core

Function = TypeVar("Function", bound=Callable[..., Any])
Gradients = tuple[NDArray[Any], NDArray[Any]]

_ufuncs: dict[str, np.ufunc] = _core.make_biased()
# Pickle finds them here by their names.
globals().update(_ufuncs)
_INDEX = {name: index for index, name in enumerate(_ufuncs)}

_FORWARD = """{name}(x + bias), in one pass.

Parameters
----------
x : array_like of float16, float32 or float64, shape (..., n)
    Usually a matrix product. Other types are converted as NumPy's ufuncs do; lazy and labelled arrays (Dask, xarray)
    are given to a ufunc and come back as what they are.
bias : array_like, shape (n,)
    Converted to x's dtype.
out : ndarray of x's shape and dtype, optional
    May be x.

Returns
-------
y : ndarray of x's shape and dtype
    The same bits as ``nf.{name}(x + bias)`` gives for float32 and float64; of float16 the sum is not rounded.

Raises
------
TypeError
    If x is not of real numbers or out has another dtype.
ValueError
    If shapes do not match, or out is read-only or overlaps x without being x, or overlaps bias.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> {example}
{result}
"""

_BACKWARD = """Gradients of bias_{name}, by x and by the bias, from one pass.

Parameters
----------
dy : array_like of float16, float32 or float64, shape (..., n)
    Gradient of the loss with respect to y.
{saved}out : ndarray of dy's shape and dtype, or a pair of arrays, optional
    For dx, which may be dy; the second of a pair, of shape (n,), takes dbias.

Returns
-------
dx : ndarray, shape (..., n)
    ``nf.{name}_backward(dy, {of})``, the same bits.
dbias : ndarray, shape (n,)
    The sum of dx over all axes but the last, in float64 and in an order that only the shape decides.

Raises
------
TypeError
    If an array is not of real numbers or out has another dtype.
ValueError
    If shapes do not match, or out is read-only or overlaps an input without being dy.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> {example}
{result}
"""

_BY_Y = """y : array_like, shape (..., n)
    What bias_{name} returned.
"""
_BY_X = """x : array_like, shape (..., n)
bias : array_like, shape (n,)
    What bias_{name} was given.
"""

_MATRIX = "np.array([[-2.0, 0.0], [1.0, 0.0]])"
_EXAMPLES = {
    "bias_relu": (f"nf.bias_relu({_MATRIX}, [1.0, 3.0])", "array([[0., 3.],\n       [2., 3.]])"),
    "bias_gelu": ("nf.bias_gelu(np.zeros((1, 2)), [0.0, 10.0])", "array([[ 0., 10.]])"),
    "bias_silu": ("nf.bias_silu(np.zeros((1, 2)), [0.0, 50.0])", "array([[ 0., 50.]])"),
    "bias_tanh": ("nf.bias_tanh(np.zeros((1, 2)), [0.0, np.inf])", "array([[0., 1.]])"),
    "bias_relu_backward": (
        "nf.bias_relu_backward(np.ones((2, 2)), np.array([[0.0, 3.0], [2.0, 3.0]]))[1]",
        "array([1., 2.])",
    ),
    "bias_gelu_backward": (
        "nf.bias_gelu_backward(np.ones((2, 1)), np.zeros((2, 1)), [0.0])[1]",
        "array([1.])",
    ),
    "bias_silu_backward": (
        "nf.bias_silu_backward(np.ones((2, 1)), np.zeros((2, 1)), [0.0])[1]",
        "array([1.])",
    ),
    "bias_tanh_backward": (
        "nf.bias_tanh_backward(np.ones((2, 2)), np.array([[0.0, 1.0], [0.5, 1.0]]))[1]",
        "array([1.75, 0.  ])",
    ),
}


def _documented(function: Function) -> Function:
    """Gives a function its docstring."""
    name = function.__name__.removeprefix("bias_").removesuffix("_backward")
    backward = function.__name__.endswith("_backward")
    by_y = "y" in function.__code__.co_varnames
    function.__doc__ = (_BACKWARD if backward else _FORWARD).format(
        name=name,
        saved=(_BY_Y if by_y else _BY_X).format(name=name),
        of="y" if by_y else "x + bias",
        example=_EXAMPLES[function.__name__][0],
        result=_EXAMPLES[function.__name__][1],
    )
    return function


def _forward(name: str, x: ArrayLike, bias: ArrayLike, out: NDArray[Any] | None) -> Any:
    if _arrays.is_foreign(x):  # the bias belongs to columns by their position, not by their labels
        return _ufuncs[name](x, _labels.values_of(bias))
    return _core.bias_forward(_INDEX[name], x, bias, out)


@_documented
def bias_relu(x: ArrayLike, bias: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    return _forward("_bias_relu", x, bias, out)


@_documented
def bias_relu_backward(dy: ArrayLike, y: ArrayLike, *, out: Outputs = None) -> Gradients:
    return _core.bias_backward(_INDEX["_bias_relu"], dy, y, None, *_checks.output_and(out, "dbias"))


@_documented
def bias_gelu(x: ArrayLike, bias: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    return _forward("_bias_gelu", x, bias, out)


@_documented
def bias_gelu_backward(
    dy: ArrayLike, x: ArrayLike, bias: ArrayLike, *, out: Outputs = None
) -> Gradients:
    return _core.bias_backward(_INDEX["_bias_gelu"], dy, x, bias, *_checks.output_and(out, "dbias"))


@_documented
def bias_silu(x: ArrayLike, bias: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    return _forward("_bias_silu", x, bias, out)


@_documented
def bias_silu_backward(
    dy: ArrayLike, x: ArrayLike, bias: ArrayLike, *, out: Outputs = None
) -> Gradients:
    return _core.bias_backward(_INDEX["_bias_silu"], dy, x, bias, *_checks.output_and(out, "dbias"))


@_documented
def bias_tanh(x: ArrayLike, bias: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    return _forward("_bias_tanh", x, bias, out)


@_documented
def bias_tanh_backward(dy: ArrayLike, y: ArrayLike, *, out: Outputs = None) -> Gradients:
    return _core.bias_backward(_INDEX["_bias_tanh"], dy, y, None, *_checks.output_and(out, "dbias"))
