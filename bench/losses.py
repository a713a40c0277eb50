"""Cases of the losses: value and gradient, 10 classes."""

import numpy as np

import nnfast as nf
from bench.case import Array, Case, Forms

CLASSES = 10


def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    rows = max(1, n // CLASSES)
    return {"z": rng.standard_normal((rows, CLASSES)), "labels": rng.integers(0, CLASSES, rows)}


def softmax_cross_entropy(z: Array, labels: Array) -> tuple[Array, Array]:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    rows = np.arange(len(z))
    loss = -np.log(p[rows, labels]).mean()
    p[rows, labels] -= 1
    p /= len(z)
    return loss, p


def forms(z: Array, labels: Array) -> Forms:
    out = np.empty_like(z)
    return {
        "out": lambda: nf.softmax_cross_entropy(z, labels, out=out),
        "allocating": lambda: nf.softmax_cross_entropy(z, labels),
    }


CASES = [Case("softmax_cross_entropy", inputs, softmax_cross_entropy, forms)]
