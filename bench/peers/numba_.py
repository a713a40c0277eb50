"""Numba: parallel loops, compiled for this machine, with fast mathematics."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import njit, prange

from bench import optim
from bench.case import Arrays, Forms

NAME, VERSION = "Numba", numba.__version__
Values = dict[str, float]

parallel = njit(parallel=True, fastmath=True, error_model="numpy", cache=True)


def set_threads(n: int) -> bool:
    """Numba takes fewer than it was started with."""
    numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))
    return True


@parallel
def relu6(x, out):
    for i in prange(x.size):
        out[i] = min(max(x[i], x.dtype.type(0)), x.dtype.type(6))


@parallel
def relu6_backward(dy, y, out):
    for i in prange(dy.size):
        out[i] = dy[i] if y[i] > 0 and y[i] < 6 else dy.dtype.type(0)


@parallel
def hardtanh(x, out):
    for i in prange(x.size):
        out[i] = min(max(x[i], x.dtype.type(-1)), x.dtype.type(1))


@parallel
def hardsigmoid(x, out):
    three, six = x.dtype.type(3), x.dtype.type(6)
    for i in prange(x.size):
        out[i] = min(max(x[i] + three, x.dtype.type(0)), six) / six


@parallel
def hardswish(x, out):
    three, six = x.dtype.type(3), x.dtype.type(6)
    for i in prange(x.size):
        out[i] = x[i] * min(max(x[i] + three, x.dtype.type(0)), six) / six


@parallel
def softsign(x, out):
    one = x.dtype.type(1)
    for i in prange(x.size):
        out[i] = x[i] / (one + abs(x[i]))


@parallel
def softsign_backward(dy, x, out):
    one = x.dtype.type(1)
    for i in prange(dy.size):
        size = one + abs(x[i])
        out[i] = dy[i] / (size * size)


@parallel
def silu(x, out):
    one = x.dtype.type(1)
    for i in prange(x.size):
        out[i] = x[i] / (one + np.exp(-x[i]))


@parallel
def relu(x, out):
    for i in prange(x.size):
        out[i] = max(x[i], x.dtype.type(0))


@parallel
def relu_backward(dy, y, out):
    for i in prange(dy.size):
        out[i] = dy[i] if y[i] > 0 else dy.dtype.type(0)


@parallel
def leaky_relu(x, slope, out):
    for i in prange(x.size):
        out[i] = x[i] if x[i] > 0 else slope * x[i]


@parallel
def leaky_relu_backward(dy, y, slope, out):
    for i in prange(dy.size):
        out[i] = dy[i] if y[i] > 0 else slope * dy[i]


@parallel
def prelu(x, weight, out):
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] if x[i, j] > 0 else weight[j] * x[i, j]


@parallel
def prelu_backward(dy, x, weight, out):
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = dy[i, j] if x[i, j] > 0 else weight[j] * dy[i, j]


@parallel
def elu(x, alpha, out):
    for i in prange(x.size):
        out[i] = x[i] if x[i] > 0 else alpha * np.expm1(x[i])


@parallel
def elu_backward(dy, y, alpha, out):
    for i in prange(dy.size):
        out[i] = dy[i] if y[i] > 0 else dy[i] * (y[i] + alpha)


@parallel
def sigmoid(x, out):
    one = x.dtype.type(1)
    for i in prange(x.size):
        out[i] = one / (one + np.exp(-x[i]))


@parallel
def sigmoid_backward(dy, y, out):
    one = y.dtype.type(1)
    for i in prange(dy.size):
        out[i] = dy[i] * y[i] * (one - y[i])


@parallel
def tanh(x, out):
    for i in prange(x.size):
        out[i] = np.tanh(x[i])


@parallel
def tanh_backward(dy, y, out):
    one = y.dtype.type(1)
    for i in prange(dy.size):
        out[i] = dy[i] * (one - y[i] * y[i])


@parallel
def dropout_backward(dy, mask, scale, out):
    zero = dy.dtype.type(0)
    for i in prange(dy.size):
        out[i] = dy[i] * scale if mask[i >> 3] >> (i & 7) & 1 else zero


@parallel
def softmax(x, out):
    for i in prange(x.shape[0]):
        largest = x[i, 0]
        for j in range(x.shape[1]):
            largest = max(largest, x[i, j])
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            out[i, j] = np.exp(x[i, j] - largest)
            total += out[i, j]
        for j in range(x.shape[1]):
            out[i, j] /= total


@parallel
def sgd(param, grad, v, lr, momentum):
    for i in prange(param.size):
        v[i] = momentum * v[i] + grad[i]
        param[i] -= lr * v[i]


@parallel
def adam(param, grad, m, v, lr, b1, b2, eps, one):
    for i in prange(param.size):
        m[i] += (one - b1) * (grad[i] - m[i])
        v[i] += (one - b2) * (grad[i] * grad[i] - v[i])
        param[i] -= lr * (m[i] / (one - b1)) / (np.sqrt(v[i] / (one - b2)) + eps)


def writing(function: Callable[..., Any], *names: str) -> Callable[[Arrays, Values], Forms]:
    """A call that writes into an array of its own; scalars have the arrays' dtype."""

    def make(arrays: Arrays, values: Values) -> Forms:
        inputs = list(arrays.values())
        out = np.empty_like(inputs[0])
        scalars = [out.dtype.type(values[name]) for name in names]

        def call() -> Any:
            function(*inputs, *scalars, out)
            return out

        return {"out": call}

    return make


def dropout_backward_forms(arrays: Arrays, values: Values) -> Forms:
    return writing(dropout_backward, "scale")(arrays, {"scale": 1 / (1 - values["p"])})


def updating(function: Callable[..., Any], *scalars: float) -> Callable[[Arrays, Values], Forms]:
    """A step on copies of the parameter and its state."""

    def make(arrays: Arrays, values: Values) -> Forms:
        own = [a if name == "grad" else a.copy() for name, a in arrays.items()]
        chosen = [own[0].dtype.type(scalar) for scalar in scalars]

        def step() -> Any:
            function(*own, *chosen)
            return own[0]

        return {"in place": step}

    return make


OPERATIONS = {
    "relu6": writing(relu6),
    "relu6_backward": writing(relu6_backward),
    "hardtanh": writing(hardtanh),
    "hardsigmoid": writing(hardsigmoid),
    "hardswish": writing(hardswish),
    "softsign": writing(softsign),
    "softsign_backward": writing(softsign_backward),
    "silu": writing(silu),
    "relu": writing(relu),
    "relu_backward": writing(relu_backward),
    "leaky_relu": writing(leaky_relu, "negative_slope"),
    "leaky_relu_backward": writing(leaky_relu_backward, "negative_slope"),
    "prelu": writing(prelu),
    "prelu_backward": writing(prelu_backward),
    "elu": writing(elu, "alpha"),
    "elu_backward": writing(elu_backward, "alpha"),
    "sigmoid": writing(sigmoid),
    "sigmoid_backward": writing(sigmoid_backward),
    "tanh": writing(tanh),
    "tanh_backward": writing(tanh_backward),
    "softmax": writing(softmax),
    "dropout_backward": dropout_backward_forms,
    "SGD": updating(sgd, optim.LR, optim.MOMENTUM),
    "Adam": updating(adam, optim.LR, *optim.BETAS, optim.EPS, 1),
}
