"""numexpr: expressions over blocks, with its own threads and out=."""

from collections.abc import Callable
from typing import Any

import numexpr
import numpy as np

from bench import optim
from bench.case import Arrays, Forms

NAME, VERSION = "numexpr", numexpr.__version__
Values = dict[str, float]


def set_threads(n: int) -> bool:
    """numexpr takes it for its next evaluation."""
    numexpr.set_num_threads(n)
    return True


def expression(text: str) -> Callable[[Arrays, Values], Forms]:
    """A call of one expression; scalars have the arrays' dtype, so that float32 stays float32."""

    def make(arrays: Arrays, values: Values) -> Forms:
        out = np.empty_like(next(iter(arrays.values())))
        names = dict(arrays) | {name: out.dtype.type(value) for name, value in values.items()}
        return {"out": lambda: numexpr.evaluate(text, local_dict=names, out=out)}

    return make


def updating(*steps: tuple[str, str]) -> Callable[[Arrays, Values], Forms]:
    """An update as one expression an array, on copies."""

    def make(arrays: Arrays, values: Values) -> Forms:
        names: dict[str, Any] = {n: a if n == "grad" else a.copy() for n, a in arrays.items()}
        scalars = {
            "lr": optim.LR,
            "momentum": optim.MOMENTUM,
            "b1": optim.BETAS[0],
            "b2": optim.BETAS[1],
            "eps": optim.EPS,
        }
        dtype = names["param"].dtype.type
        names |= {name: dtype(value) for name, value in scalars.items()}

        def step() -> Any:
            for target, text in steps:
                numexpr.evaluate(text, local_dict=names, out=names[target])
            return names["param"]

        return {"in place": step}

    return make


OPERATIONS = {
    "relu": expression("where(x > 0, x, 0)"),
    "relu_backward": expression("where(y > 0, dy, 0)"),
    "threshold": expression("where(x > threshold, x, value)"),
    "threshold_backward": expression("where(x > threshold, dy, 0)"),
    "hardshrink": expression("where(abs(x) > lambd, x, 0)"),
    "hardshrink_backward": expression("where(abs(y) > lambd, dy, 0)"),
    "softshrink": expression("where(x > lambd, x - lambd, where(x < -lambd, x + lambd, 0))"),
    "softshrink_backward": expression("where(y != 0, dy, 0)"),
    "relu_squared": expression("where(x > 0, x * x, 0)"),
    "relu_squared_backward": expression("where(x > 0, 2 * dy * x, 0)"),
    "squareplus": expression("(x + sqrt(x * x + b)) / 2"),
    "squareplus_backward": expression("dy * (y * y / (y * y + b / 4))"),
    "leaky_relu": expression("where(x > 0, x, negative_slope * x)"),
    "leaky_relu_backward": expression("where(y > 0, dy, negative_slope * dy)"),
    "elu": expression("where(x > 0, x, alpha * expm1(x))"),
    "elu_backward": expression("where(y > 0, dy, dy * (y + alpha))"),
    "sigmoid": expression("1 / (1 + exp(-x))"),
    "sigmoid_backward": expression("dy * y * (1 - y)"),
    "tanh": expression("tanh(x)"),
    "tanh_backward": expression("dy * (1 - y * y)"),
    "SGD": updating(("v", "momentum * v + grad"), ("param", "param - lr * v")),
    "Adam": updating(
        ("m", "m + (1 - b1) * (grad - m)"),
        ("v", "v + (1 - b2) * (grad * grad - v)"),
        ("param", "param - lr * (m / (1 - b1)) / (sqrt(v / (1 - b2)) + eps)"),
    ),
}
