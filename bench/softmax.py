"""Cases of softmax, over rows of 100."""

import numpy as np

import nnfast as nf
from bench.activations import ufunc_forms
from bench.case import Array, Case, normal

COLUMNS = 100


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


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
]
