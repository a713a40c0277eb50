"""Cases of the streams of random numbers, which fill an array."""

from collections.abc import Callable

import numpy as np

import nnfast as nf
from bench.case import Array, Arrays, Case, Forms, Values

GENERATOR = np.random.default_rng(0)
STREAM = nf.random.Philox(0)
RANGE = 1000


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


def exponential(into: Array) -> Array:
    return GENERATOR.standard_exponential(into.shape, dtype=into.dtype)


def truncated_normal(into: Array) -> Array:
    """Those out of bounds are drawn again."""
    x = GENERATOR.standard_normal(into.shape, dtype=into.dtype)
    while (out := np.flatnonzero(np.abs(x) > 2)).size:
        x[out] = GENERATOR.standard_normal(out.size, dtype=into.dtype)
    return x


def integers(into: Array) -> Array:
    return GENERATOR.integers(0, RANGE, into.shape)


def integer_forms(into: Array) -> Forms:
    out = np.empty(into.shape, np.int64)
    return {
        "out": lambda: STREAM.integers(high=RANGE, out=out),
        "allocating": lambda: STREAM.integers(into.shape, high=RANGE),
    }


def order(into: Array) -> Array:
    return GENERATOR.permutation(into.size)


def order_forms(into: Array) -> Forms:
    return {"allocating": lambda: STREAM.permutation(into.size)}


def is_order(arrays: Arrays, values: Values, x: Array) -> str | None:
    """Whether every number is there once."""
    return None if np.array_equal(np.sort(x), np.arange(x.size)) else "is no permutation"


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
    Case(
        "random.exponential",
        nothing,
        exponential,
        filling(STREAM.exponential),
        accepts=moments(1, 1),
    ),
    Case(
        "random.truncated_normal",
        nothing,
        truncated_normal,
        filling(STREAM.truncated_normal),
        accepts=moments(0, 0.8796),
    ),
    Case(
        "random.integers",
        nothing,
        integers,
        integer_forms,
        accepts=moments((RANGE - 1) / 2, RANGE * 12**-0.5),
    ),
    Case("random.permutation", nothing, order, order_forms, accepts=is_order),
    Case("random.bits", nothing, bits, bit_forms, accepts=moments(2**31, 2**32 * 12**-0.5)),
]
