"""Checks of the arguments that are not arrays."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from typing import Any


def real(value: Any, name: str) -> float:
    """value as a Python float; a TypeError that names the argument if it is not a real number."""
    if type(value) is float:
        return value
    try:
        if not hasattr(value, "__float__") and not hasattr(value, "__index__"):
            raise TypeError
        return float(value)
    except TypeError:
        raise TypeError(f"{name} must be a real number, got {type(value).__name__}") from None


def real_in(value: Any, low: float, high: float, name: str) -> float:
    """value as a Python float in [low, high]."""
    number = value if type(value) is float else real(value, name)
    if not low <= number <= high:
        raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {number!r}")
    return number


def unit_interval(value: Any, name: str) -> float:
    """value as a Python float in [0, 1)."""
    number = value if type(value) is float else real(value, name)
    if not 0 <= number < 1:
        raise ValueError(f"{name} must be in [0, 1), got {number!r}")
    return number


def integer(value: Any, name: str) -> int:
    """value as a Python int; a TypeError that names the argument if it is not an integer."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {type(value).__name__}") from None


def integer_from(value: Any, low: int, name: str) -> int:
    """value as a Python int that is not below low."""
    number = integer(value, name)
    if number < low:
        raise ValueError(f"{name} must be at least {low}, got {number}")
    return number


def finite(value: Any, name: str) -> float:
    """value as a Python float that is neither infinite nor NaN."""
    number = value if type(value) is float else real(value, name)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number!r}")
    return number


def not_negative(value: Any, name: str) -> float:
    """value as a Python float that is not negative and not NaN."""
    number = value if type(value) is float else real(value, name)
    if not number >= 0:
        raise ValueError(f"{name} must not be negative, got {number!r}")
    return number


def finite_not_negative(value: Any, name: str) -> float:
    """value as a Python float that is neither negative nor infinite nor NaN."""
    number = value if type(value) is float else real(value, name)
    return number if 0 <= number < math.inf else not_negative(finite(number, name), name)


def interval(low: Any, high: Any) -> tuple[float, float]:
    """low and high as finite Python floats in this order."""
    low, high = finite(low, "low"), finite(high, "high")
    if low > high:
        raise ValueError(f"low must not be above high, got {low} and {high}")
    return low, high


def one_of(value: Any, choices: Collection[str], name: str) -> str:
    """value, which is one of the strings."""
    if not isinstance(value, str) or value not in choices:
        *first, last = (repr(choice) for choice in choices)
        raise ValueError(f"{name} must be {', '.join(first)} or {last}, got {value!r}")
    return value


def positive(value: Any, name: str) -> float:
    """value as a Python float above 0."""
    number = value if type(value) is float else real(value, name)
    if not number > 0:
        raise ValueError(f"{name} must be positive, got {number!r}")
    return number


def outputs(out: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    """`out` as a tuple with a place for each of the results; all None for None."""
    if out is None:
        return (None,) * len(names)
    if not isinstance(out, tuple) or len(out) != len(names):
        count = {1: "one array", 2: "two arrays", 3: "three arrays", 4: "four arrays"}[len(names)]
        raise TypeError(f"out must be a tuple of {count} ({', '.join(names)})")
    return out


def output_and(out: Any, other: str) -> tuple[Any, Any]:
    """`out` for the first result alone, or as a pair that has a place for the other one too."""
    if not isinstance(out, tuple):
        return out, None
    if len(out) != 2:
        raise TypeError(f"out must be an array or a pair of them, the second for {other}")
    return out
