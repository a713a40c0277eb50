"""Unevaluated sums of float64: a value, or an array of them, and what rounding took from it."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

Pair: TypeAlias = tuple[Any, Any]


def add(a: Pair, b: Pair) -> Pair:
    """a + b."""
    high, low = _two_sum(a[0], b[0])
    return _two_sum(high, low + (a[1] + b[1]))


def subtract(a: Pair, b: Pair) -> Pair:
    """a - b."""
    return add(a, (-b[0], -b[1]))


def scale(a: Pair, factor: Any) -> Pair:
    """a times a float64."""
    high, low = _two_product(a[0], factor)
    return _two_sum(high, low + a[1] * factor)


def square(a: Pair) -> Pair:
    """a times a."""
    high, low = _two_product(a[0], a[0])
    return _two_sum(high, _finite(low + 2 * a[0] * a[1]))


def divide(a: Pair, divisor: Any) -> Pair:
    """a over a float64, or an array of them, that is not 0."""
    quotient = a[0] / divisor
    with np.errstate(invalid="ignore"):
        rest, _ = subtract(a, _two_product(quotient, divisor))
    return _two_sum(quotient, _finite(rest / divisor))


def total(terms: Iterable[Pair]) -> Pair:
    """The sum of all terms, in their order."""
    sum_: Pair = (0.0, 0.0)
    for term in terms:
        sum_ = add(sum_, term)
    return sum_


def _two_sum(a: Any, b: Any) -> Pair:
    """a + b (Knuth)."""
    high = a + b
    with np.errstate(invalid="ignore"):
        part = high - a
        low = (a - (high - part)) + (b - part)
    return high, _finite(low)


def _two_product(a: Any, b: Any) -> Pair:
    """a * b (Dekker)."""
    high = a * b
    with np.errstate(invalid="ignore", over="ignore"):
        (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
        low = ((a_high * b_high - high) + a_high * b_low + a_low * b_high) + a_low * b_low
    return high, _finite(low)


def _halves(a: Any) -> Pair:
    """A number as two of 26 bits (Veltkamp)."""
    shifted = 134217729.0 * a
    high = shifted - (shifted - a)
    return high, a - high


def _finite(low: Any) -> Any:
    """What rounding took: nothing that is known from what is infinite, NaN or too large to halve."""
    return np.where(np.isfinite(low), low, 0.0)
