"""Cases of softmax, its logarithm and logsumexp, over rows of 100."""

import numpy as np

import nnfast as nf
from bench.activations import ufunc_forms
from bench.case import Array, Case, Forms, normal

COLUMNS = 100


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def logsumexp(x: Array) -> Array:
    largest = x.max(axis=-1, keepdims=True)
    return (largest + np.log(np.exp(x - largest).sum(axis=-1, keepdims=True)))[:, 0]


def log_softmax(x: Array) -> Array:
    d = x - x.max(axis=-1, keepdims=True)
    return d - np.log(np.exp(d).sum(axis=-1, keepdims=True))


def reducing_forms(x: Array) -> Forms:
    out = np.empty(len(x), x.dtype)
    return {"out": lambda: nf.logsumexp(x, out=out), "allocating": lambda: nf.logsumexp(x)}


def spreading_forms(dy: Array, x: Array) -> Forms:
    out = np.empty_like(x)
    return {
        "out": lambda: nf.logsumexp_backward(dy, x, out=out),
        "allocating": lambda: nf.logsumexp_backward(dy, x),
    }


def log_backward_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    arrays = normal("dy", "x", columns=COLUMNS)(n, rng)
    return {"dy": arrays["dy"], "y": log_softmax(arrays["x"])}


def spreading_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    x = normal("x", columns=COLUMNS)(n, rng)["x"]
    return {"dy": rng.standard_normal(len(x)), "x": x}


def backward_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    arrays = normal("dy", "x", columns=COLUMNS)(n, rng)
    return {"dy": arrays["dy"], "y": softmax(arrays["x"])}


CASES = [
    Case("softmax", normal("x", columns=COLUMNS), softmax, ufunc_forms(nf.softmax)),
    Case(
        "softmax_backward",
        backward_inputs,
        lambda dy, y: y * (dy - (dy * y).sum(axis=-1, keepdims=True)),
        ufunc_forms(nf.softmax_backward),
    ),
    Case("log_softmax", normal("x", columns=COLUMNS), log_softmax, ufunc_forms(nf.log_softmax)),
    Case(
        "log_softmax_backward",
        log_backward_inputs,
        lambda dy, y: dy - np.exp(y) * dy.sum(axis=-1, keepdims=True),
        ufunc_forms(nf.log_softmax_backward),
    ),
    Case("logsumexp", normal("x", columns=COLUMNS), logsumexp, reducing_forms),
    Case(
        "logsumexp_backward",
        spreading_inputs,
        lambda dy, x: dy[:, None] * softmax(x),
        spreading_forms,
    ),
]
