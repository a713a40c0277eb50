"""Activations of x + bias, the step after a matrix product, in one pass; the gradient brings the bias's along.

``bias_relu(x, bias)`` is ``relu(x + bias)`` with a bias for every element of the last axis, and likewise for gelu, silu
and tanh. ``bias_<name>_backward`` returns the gradient with respect to x and that with respect to the bias: its sum
over all other axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _docs, _gradients, _labels
from nnfast._arrays import Outputs
from nnfast._load import _core
from nnfast._table import TABLE
from nnfast.activations.parametric import gelu_form

__all__ = [
    "bias_gelu",
    "bias_gelu_backward",
    "bias_relu",
    "bias_relu_backward",
    "bias_silu",
    "bias_silu_backward",
    "bias_tanh",
    "bias_tanh_backward",
]

Gradients = tuple[NDArray[Any], NDArray[Any]]

_ufuncs: dict[str, np.ufunc] = _core.make_biased()
# Pickle finds them here by their names.
globals().update(_ufuncs)
_INDEX = {name: index for index, name in enumerate(_ufuncs)}

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


def _doc(name: str) -> str:
    """The docstring of a function, or of the gradient of one."""
    act = name.removeprefix("bias_").removesuffix("_backward")
    if name.endswith("_backward"):
        return _docs.biased_backward(act, TABLE[act].saves, _EXAMPLES[name])
    return _docs.biased(act, _EXAMPLES[name])


_documented = _docs.documented(_doc)


def _forward(name: str, x: ArrayLike, bias: ArrayLike, out: NDArray[Any] | None) -> Any:
    if _arrays.is_foreign(x):  # the bias belongs to columns by their position, not by their labels
        return _ufuncs[name](x, _labels.values_of(bias))
    return _core.bias_forward(_INDEX[name], x, bias, out)


def _output(forward: Callable[..., Any], x: Any, bias: Any, y: Any) -> Any:
    """y where a gradient is given x and bias in its place."""
    return forward(_arrays.plain(_input(forward, x, bias, y, ("y", "x")), "x"), bias)


def _input(
    forward: Callable[..., Any], x: Any, bias: Any, y: Any, takes: tuple[str, ...] = ("x",)
) -> Any:
    """x; a TypeError unless a gradient is given one of what it takes, and bias with x alone."""
    _gradients.require_one(forward.__name__, takes, y=y, x=x)
    if (x is None) != (bias is None):
        alone = "x" if bias is None else "bias"
        raise TypeError(
            f"{forward.__name__}_backward must be given x and bias together, got {alone}"
        )
    return x


@_documented
def bias_relu(x: ArrayLike, bias: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    return _forward("_bias_relu", x, bias, out)


@_documented
def bias_relu_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    *,
    x: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    out: Outputs = None,
) -> Gradients:
    if y is None or x is not None or bias is not None:
        y = _output(bias_relu, x, bias, y)
    return _core.bias_backward(_INDEX["_bias_relu"], dy, y, None, *_checks.output_and(out, "dbias"))


@_documented
def bias_gelu(
    x: ArrayLike,
    bias: ArrayLike,
    *,
    approximate: Literal["none", "tanh"] = "none",
    out: NDArray[Any] | None = None,
) -> Any:
    return _forward("_bias_gelu" + gelu_form(approximate), x, bias, out)


@_documented
def bias_gelu_backward(
    dy: ArrayLike,
    x: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    approximate: Literal["none", "tanh"] = "none",
    y: ArrayLike | None = None,
    out: Outputs = None,
) -> Gradients:
    if x is None or bias is None or y is not None:
        x = _input(bias_gelu, x, bias, y)
    index = _INDEX["_bias_gelu" + gelu_form(approximate)]
    return _core.bias_backward(index, dy, x, bias, *_checks.output_and(out, "dbias"))


@_documented
def bias_silu(x: ArrayLike, bias: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    return _forward("_bias_silu", x, bias, out)


@_documented
def bias_silu_backward(
    dy: ArrayLike,
    x: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    y: ArrayLike | None = None,
    out: Outputs = None,
) -> Gradients:
    if x is None or bias is None or y is not None:
        x = _input(bias_silu, x, bias, y)
    return _core.bias_backward(_INDEX["_bias_silu"], dy, x, bias, *_checks.output_and(out, "dbias"))


@_documented
def bias_tanh(x: ArrayLike, bias: ArrayLike, *, out: NDArray[Any] | None = None) -> Any:
    return _forward("_bias_tanh", x, bias, out)


@_documented
def bias_tanh_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    *,
    x: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    out: Outputs = None,
) -> Gradients:
    if y is None or x is not None or bias is not None:
        y = _output(bias_tanh, x, bias, y)
    return _core.bias_backward(_INDEX["_bias_tanh"], dy, y, None, *_checks.output_and(out, "dbias"))
