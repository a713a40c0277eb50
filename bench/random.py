"""Cases of the streams of random numbers, which fill an array."""

from collections.abc import Callable

import numpy as np

import nnfast as nf
from bench.case import Array, Arrays, Case, Forms, Values

GENERATOR = np.random.default_rng(0)
STREAM = nf.random.Philox(0)


def nothing(n: int, rng: np.random.Generator) -> dict[str, Array]:
    """What is filled: it is written, not read."""
    return {"into": np.zeros(n)}


def filling(draw: Callable[..., Array]) -> Callable[..., Forms]:
    def forms(into: Array) -> Forms:
        out = into.copy()
        return {
            "out": lambda: draw(out=out),
            "allocating": lambda: draw(into.shape, dtype=into.dtype),
        }

    return forms


def moments(mean: float, std: float) -> Callable[[Arrays, Values, Array], str | None]:
    """A check: mean and deviation within five deviations of theirs."""

    def accepts(arrays: Arrays, values: Values, x: Array) -> str | None:
        allowed = 5 / np.sqrt(x.size)
        if abs(x.mean() - mean) > allowed * std or abs(x.std() / std - 1) > allowed:
            return f"has mean {x.mean():.4f} and deviation {x.std():.4f}"
        return None

    return accepts


def uniform(into: Array) -> Array:
    return GENERATOR.random(into.shape, dtype=into.dtype)


def normal(into: Array) -> Array:
    return GENERATOR.standard_normal(into.shape, dtype=into.dtype)


def bits(into: Array) -> Array:
    return GENERATOR.integers(0, 2**32, into.shape, dtype=np.uint32)


def bit_forms(into: Array) -> Forms:
    out = np.empty(into.shape, np.uint32)
    return {"out": lambda: STREAM.bits(out=out), "allocating": lambda: STREAM.bits(into.shape)}


CASES = [
    Case(
        "random.uniform", nothing, uniform, filling(STREAM.uniform), accepts=moments(0.5, 12**-0.5)
    ),
    Case("random.normal", nothing, normal, filling(STREAM.normal), accepts=moments(0, 1)),
    Case("random.bits", nothing, bits, bit_forms, accepts=moments(2**31, 2**32 * 12**-0.5)),
]
