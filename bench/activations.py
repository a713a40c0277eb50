"""Cases of the activations."""

from collections.abc import Callable
from typing import Any

import numpy as np

import nnfast as nf
from bench.case import Array, Case, Forms, normal

SLOPE, ALPHA, PIECES, COLUMNS = 0.01, 1.0, 4, 100

Inputs = Callable[[int, np.random.Generator], dict[str, Array]]


def ufunc_forms(function: Callable[..., Any]) -> Callable[..., Forms]:
    """The forms of a ufunc, its inputs in the order in which they are named."""

    def forms(**arrays: Array) -> Forms:
        inputs = tuple(arrays.values())
        out = np.empty_like(inputs[0])
        return {
            "out": lambda: function(*inputs, out=out),
            "allocating": lambda: function(*inputs),
        }

    return forms


def case(
    function: Callable[..., Any], inputs: Inputs, plain: Callable[..., Any], **values: float
) -> Case:
    """Of a function that is called as a ufunc is."""
    name, forms = function.__name__, ufunc_forms(function)
    return Case(name, inputs, plain, forms, values, elementwise=True)


def and_output(forward: Callable[[Array], Array]) -> Inputs:
    """dy, and y as forward gives it."""

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        return {"dy": rng.standard_normal(n), "y": forward(rng.standard_normal(n))}

    return inputs


def with_slopes(*names: str) -> Inputs:
    """Rows, and a slope for every column."""

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        arrays = normal(*names, columns=COLUMNS)(n, rng)
        return arrays | {"weight": rng.uniform(0.1, 0.5, COLUMNS)}

    return inputs


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def leaky_relu(x: Array) -> Array:
    return np.where(x > 0, x, SLOPE * x)


def elu(x: Array) -> Array:
    return np.where(x > 0, x, ALPHA * np.expm1(np.minimum(x, 0)))


def maxout(x: Array) -> tuple[Array, Array]:
    groups = x.reshape(len(x), -1, PIECES)
    which = groups.argmax(axis=-1)
    y = np.take_along_axis(groups, which[..., None], axis=-1)[..., 0]
    return y, which.astype(np.uint8)


def maxout_backward(dy: Array, which: Array) -> Array:
    dx = np.zeros((*dy.shape, PIECES), dy.dtype)
    np.put_along_axis(dx, which[..., None].astype(np.intp), dy[..., None], axis=-1)
    return dx.reshape(len(dy), -1)


def maxout_forms(x: Array) -> Forms:
    out = np.empty((len(x), x.shape[1] // PIECES), x.dtype)
    return {
        "out": lambda: nf.maxout(x, PIECES, out=out),
        "allocating": lambda: nf.maxout(x, PIECES),
    }


def maxout_backward_forms(dy: Array, which: Array) -> Forms:
    out = np.empty((len(dy), dy.shape[1] * PIECES), dy.dtype)
    return {
        "out": lambda: nf.maxout_backward(dy, which, PIECES, out=out),
        "allocating": lambda: nf.maxout_backward(dy, which, PIECES),
    }


def maxout_backward_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    shape = max(1, n // COLUMNS), COLUMNS // PIECES
    return {"dy": rng.standard_normal(shape), "which": rng.integers(0, PIECES, shape, np.uint8)}


CASES = [
    case(nf.relu, normal("x"), lambda x: np.maximum(x, 0)),
    case(nf.relu_backward, and_output(lambda x: np.maximum(x, 0)), lambda dy, y: dy * (y > 0)),
    case(nf.leaky_relu, normal("x"), leaky_relu, negative_slope=SLOPE),
    case(
        nf.leaky_relu_backward,
        and_output(leaky_relu),
        lambda dy, y: np.where(y > 0, dy, SLOPE * dy),
        negative_slope=SLOPE,
    ),
    case(nf.prelu, with_slopes("x"), lambda x, weight: np.where(x > 0, x, weight * x)),
    case(
        nf.prelu_backward,
        with_slopes("dy", "x"),
        lambda dy, x, weight: np.where(x > 0, dy, weight * dy),
    ),
    Case(
        "prelu_weight_backward",
        with_slopes("dy", "x"),
        lambda dy, x, weight: (dy * np.minimum(x, 0)).sum(axis=0),
        lambda dy, x, weight: {"allocating": lambda: nf.prelu_weight_backward(dy, x, weight)},
    ),
    case(nf.elu, normal("x"), elu, alpha=ALPHA),
    case(
        nf.elu_backward,
        and_output(elu),
        lambda dy, y: np.where(y > 0, dy, dy * (y + ALPHA)),
        alpha=ALPHA,
    ),
    case(nf.sigmoid, normal("x"), sigmoid),
    case(nf.sigmoid_backward, and_output(sigmoid), lambda dy, y: dy * y * (1 - y)),
    case(nf.tanh, normal("x"), lambda x: np.tanh(x)),
    case(nf.tanh_backward, and_output(np.tanh), lambda dy, y: dy * (1 - y * y)),
    Case("maxout", normal("x", columns=COLUMNS), maxout, maxout_forms, {"pieces": PIECES}),
    Case(
        "maxout_backward",
        maxout_backward_inputs,
        maxout_backward,
        maxout_backward_forms,
        {"pieces": PIECES},
    ),
]
