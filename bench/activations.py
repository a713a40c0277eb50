"""Cases of the activations."""

from collections.abc import Callable
from typing import Any

import numpy as np

import nnfast as nf
from bench.case import Array, Arrays, Case, Forms, Values, normal
from nnfast.activations import TABLE, Activation
from tests.reference.activations import FORMULAS, SLOPES, Float64

SLOPE, LAMBD, PIECES, COLUMNS = 0.01, 0.5, 4, 100
SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

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


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softplus(x: Array) -> Array:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def erf(x: Array) -> Array:
    """SciPy's: NumPy has none."""
    from scipy.special import erf

    return erf(x)


def gelu_slope(x: Array) -> Array:
    return (1 + erf(x / 2**0.5)) / 2 + x * np.exp(-x * x / 2) / (2 * np.pi) ** 0.5


def mish_slope(x: Array) -> Array:
    t = np.tanh(softplus(x))
    return t + x * sigmoid(x) * (1 - t * t)


def silu_slope(x: Array) -> Array:
    s = sigmoid(x)
    return s * (1 + x * (1 - s))


# As people write it, parameters at their defaults; what is not here is timed beside its reference.
PLAIN = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hardtanh": lambda x: np.clip(x, -1, 1),
    "leaky_relu": lambda x: np.where(x > 0, x, SLOPE * x),
    "threshold": lambda x: np.where(x > 0, x, x.dtype.type(0)),
    "hardshrink": lambda x: np.where(np.abs(x) > LAMBD, x, x.dtype.type(0)),
    "softshrink": lambda x: np.sign(x) * np.maximum(np.abs(x) - LAMBD, 0),
    "relu_squared": lambda x: np.square(np.maximum(x, 0)),
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2,
    "hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "celu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
    "sigmoid": sigmoid,
    "logsigmoid": lambda x: -softplus(-x),
    "softplus": softplus,
    "tanh": lambda x: np.tanh(x),
    "tanhshrink": lambda x: x - np.tanh(x),
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "gelu": lambda x: x * (1 + erf(x / 2**0.5)) / 2,
}
# Gradients are functions of y where ours are given y, of x elsewhere.
PLAIN_SLOPES = {
    "relu": lambda y: y > 0,
    "relu6": lambda y: (y > 0) & (y < 6),
    "hardtanh": lambda y: (y > -1) & (y < 1),
    "leaky_relu": lambda y: np.where(y > 0, y.dtype.type(1), y.dtype.type(SLOPE)),
    "threshold": lambda x: x > 0,
    "hardshrink": lambda y: np.abs(y) > LAMBD,
    "softshrink": lambda y: y != 0,
    "relu_squared": lambda x: 2 * np.maximum(x, 0),
    "squareplus": lambda y: y * y / (y * y + 1),
    "hardsigmoid": lambda x: (np.abs(x) < 3) * x.dtype.type(1 / 6),
    "hardswish": lambda x: np.where(x >= 3, 1, np.where(x > -3, x / 3 + x.dtype.type(0.5), 0)),
    "elu": lambda y: np.where(y > 0, 1, y + 1),
    "celu": lambda y: np.where(y > 0, 1, y + 1),
    "selu": lambda y: np.where(y > 0, y.dtype.type(SCALE), y + y.dtype.type(SCALE * SELU_ALPHA)),
    "sigmoid": lambda y: y * (1 - y),
    "logsigmoid": lambda x: sigmoid(-x),
    "softplus": sigmoid,
    "tanh": lambda y: 1 - y * y,
    "tanhshrink": lambda x: np.tanh(x) ** 2,
    "silu": silu_slope,
    "mish": mish_slope,
    "softsign": lambda x: 1 / (1 + np.abs(x)) ** 2,
    "gelu": gelu_slope,
}


def referred(formulas: dict[str, Any], name: str) -> Callable[[Array], Array]:
    """The reference of an activation, or of its slope, in NumPy."""
    return lambda x: formulas[name](Float64(), x, *TABLE[name].params.values())


def forward_case(name: str, row: Activation) -> Case:
    """Of an activation of one array."""
    forms, plain = ufunc_forms(getattr(nf, name)), PLAIN.get(name) or referred(FORMULAS, name)
    return Case(name, normal("x"), plain, forms, dict(row.params), elementwise=True)


def backward_case(name: str, row: Activation) -> Case:
    """Of its gradient, by what it saves."""
    plain = PLAIN.get(name) or referred(FORMULAS, name)
    slope = PLAIN_SLOPES.get(name) or referred(SLOPES, name)

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        x = rng.standard_normal(n)
        return {"dy": rng.standard_normal(n), row.saves: x if row.saves == "x" else plain(x)}

    def gradient(dy: Array, **saved: Array) -> Array:
        return dy * slope(*saved.values())

    forms = ufunc_forms(getattr(nf, f"{name}_backward"))
    return Case(f"{name}_backward", inputs, gradient, forms, dict(row.params), elementwise=True)


def activation_cases() -> list[Case]:
    """Both directions of every activation of one array in the table."""
    # gelu_tanh is a form of gelu, and prelu has a weight.
    rows = {name: row for name, row in TABLE.items() if name not in ("gelu_tanh", "prelu")}
    return [make(name, row) for name, row in rows.items() for make in (forward_case, backward_case)]


def with_slopes(*names: str) -> Inputs:
    """Rows, and a slope for every column."""

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        arrays = normal(*names, columns=COLUMNS)(n, rng)
        return arrays | {"weight": rng.uniform(0.1, 0.5, COLUMNS)}

    return inputs


def rrelu(x: Array) -> tuple[Array, Array]:
    slopes = np.random.default_rng(0).uniform(1 / 8, 1 / 3, x.shape).astype(x.dtype)
    return np.where(x > 0, x, slopes * x), slopes


def rrelu_forms(x: Array) -> Forms:
    out = np.empty_like(x)
    return {
        "out": lambda: nf.rrelu(x, training=True, rng=0, out=out),
        "allocating": lambda: nf.rrelu(x, training=True, rng=0),
    }


def accepts_rrelu(arrays: Arrays, values: Values, y: Array) -> str | None:
    """Slopes are in their range, and each its own."""
    x = arrays["x"]
    slopes = (y / x)[x < -1e-3]
    if slopes.size and (slopes.min() < 0.1249 or slopes.max() > 0.3334):
        return f"has slopes from {slopes.min():.3f} to {slopes.max():.3f}"
    return None if np.array_equal(y[x > 0], x[x > 0]) else "changes what is positive"


def rrelu_backward_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    x = rng.standard_normal(n)
    return {"dy": rng.standard_normal(n), "x": x, "slopes": rrelu(x)[1]}


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
    *activation_cases(),
    Case(
        "prelu",
        with_slopes("x"),
        lambda x, weight: np.where(x > 0, x, weight * x),
        ufunc_forms(nf.prelu),
        elementwise=True,
    ),
    Case(
        "prelu_backward",
        with_slopes("dy", "x"),
        lambda dy, x, weight: np.where(x > 0, dy, weight * dy),
        ufunc_forms(nf.prelu_backward),
        elementwise=True,
    ),
    Case(
        "prelu_weight_backward",
        with_slopes("dy", "x"),
        lambda dy, x, weight: (dy * np.minimum(x, 0)).sum(axis=0),
        lambda dy, x, weight: {"allocating": lambda: nf.prelu_weight_backward(dy, x, weight)},
    ),
    Case("rrelu", normal("x"), rrelu, rrelu_forms, accepts=accepts_rrelu),
    Case(
        "rrelu_backward",
        rrelu_backward_inputs,
        lambda dy, x, slopes: np.where(x > 0, dy, slopes * dy),
        ufunc_forms(nf.rrelu_backward),
    ),
    Case("maxout", normal("x", columns=COLUMNS), maxout, maxout_forms, {"pieces": PIECES}),
    Case(
        "maxout_backward",
        maxout_backward_inputs,
        maxout_backward,
        maxout_backward_forms,
        {"pieces": PIECES},
    ),
]
