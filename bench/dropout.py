"""Cases of dropout."""

import numpy as np

import nnfast as nf
from bench.case import Array, Case, Forms, normal

P = 0.2
RNG = np.random.default_rng(0)


def dropout(x: Array) -> tuple[Array, Array]:
    """As people write it; the mask of ours, which a pass has to write, is one bit an element."""
    mask = RNG.random(x.shape, dtype=x.dtype) >= P
    return x * mask / (1 - P), np.empty(-(-x.size // 8), np.uint8)


def forms(x: Array) -> Forms:
    out = np.empty_like(x)
    return {
        "out": lambda: nf.dropout(x, P, rng=RNG, out=out),
        "allocating": lambda: nf.dropout(x, P, rng=RNG),
    }


def backward_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    return {"dy": rng.standard_normal(n), "mask": rng.integers(0, 256, -(-n // 8), np.uint8)}


def dropout_backward(dy: Array, mask: Array) -> Array:
    """The mask as this package packs it; people who keep booleans save the unpacking."""
    return dy * np.unpackbits(mask, count=dy.size, bitorder="little") / (1 - P)


def backward_forms(dy: Array, mask: Array) -> Forms:
    out = np.empty_like(dy)
    return {
        "out": lambda: nf.dropout_backward(dy, mask, P, out=out),
        "allocating": lambda: nf.dropout_backward(dy, mask, P),
    }


CASES = [
    Case("dropout", normal("x"), dropout, forms, {"p": P}, random=True),
    Case("dropout_backward", backward_inputs, dropout_backward, backward_forms, {"p": P}),
]
