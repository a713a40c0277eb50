"""Cases of embeddings: rows of 64, as many indices as the table has rows."""

import numpy as np

import nnfast as nf
from bench.case import Array, Case, Forms

COLUMNS = 64


def inputs(name: str):
    """The table or the gradient, and as many indices."""

    def make(n: int, rng: np.random.Generator) -> dict[str, Array]:
        rows = max(1, n // COLUMNS)
        return {name: rng.standard_normal((rows, COLUMNS)), "indices": rng.integers(0, rows, rows)}

    return make


def forms(weight: Array, indices: Array) -> Forms:
    out = np.empty((len(indices), weight.shape[1]), weight.dtype)
    return {
        "out": lambda: nf.embedding(indices, weight, out=out),
        "allocating": lambda: nf.embedding(indices, weight),
    }


def backward_forms(dy: Array, indices: Array) -> Forms:
    out = np.empty_like(dy)
    return {
        "out": lambda: nf.embedding_backward(dy, indices, len(dy), out=out),
        "allocating": lambda: nf.embedding_backward(dy, indices, len(dy)),
    }


def backward(dy: Array, indices: Array) -> Array:
    dweight = np.zeros_like(dy)
    np.add.at(dweight, indices, dy)
    return dweight


CASES = [
    Case("embedding", inputs("weight"), lambda weight, indices: weight[indices], forms),
    Case("embedding_backward", inputs("dy"), backward, backward_forms),
]
