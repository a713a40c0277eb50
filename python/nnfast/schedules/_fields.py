"""What the fields of schedules hold: checks, each of which names its field."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from itertools import pairwise
from typing import Any

from nnfast import _checks

FunctionOfStep = Callable[[int], float]
"""The argument of combinators: a schedule, or any function of the step."""


def positive(value: Any, name: str) -> float:
    return _checks.positive(_checks.finite(value, name), name)


def count(value: Any, name: str) -> int:
    return _checks.integer_from(value, 1, name)


def count_or_0(value: Any, name: str) -> int:
    return _checks.integer_from(value, 0, name)


def count_or_none(value: Any, name: str) -> int | None:
    return None if value is None else count(value, name)


def share(value: Any, name: str) -> float:
    return _checks.real_in(value, 0.0, 1.0, name)


def not_nan(value: Any, name: str) -> float:
    return _checks.real_in(value, -math.inf, math.inf, name)


def function(value: Any, name: str) -> FunctionOfStep:
    if not callable(value):
        raise TypeError(f"{name} must be a function of the step, got {type(value).__name__}")
    return value  # type: ignore[no-any-return]


def items(value: Any, name: str) -> tuple[Any, ...]:
    try:
        return tuple(value)
    except TypeError:
        raise TypeError(f"{name} must be a sequence, got {type(value).__name__}") from None


def functions(value: Any, name: str) -> tuple[FunctionOfStep, ...]:
    found = tuple(function(item, f"{name}[{i}]") for i, item in enumerate(items(value, name)))
    if not found:
        raise ValueError(f"{name} must not be empty")
    return found


def milestones(value: Any, name: str) -> tuple[int, ...]:
    steps = tuple(
        _checks.integer_from(item, 1, f"{name}[{i}]") for i, item in enumerate(items(value, name))
    )
    if any(after <= before for before, after in pairwise(steps)):
        raise ValueError(f"{name} must increase, got {steps}")
    return steps


def multiple(value: Any, name: str) -> float:
    """At least 1; an int where it is whole, so that cycles are counted in integers."""
    found = _checks.finite(value, name)
    if found < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(found) if found.is_integer() else found


def one_of(*choices: str) -> Callable[[Any, str], str]:
    def check(value: Any, name: str) -> str:
        return _checks.one_of(value, choices, name)

    return check


RATE = FACTOR = {"check": _checks.finite_not_negative}
ABOVE_0 = {"check": positive}
COUNT = {"check": count}
COUNT_OR_0 = {"check": count_or_0}
SHARE = {"check": share}
REDUCTION = {"check": _checks.unit_interval}
MILESTONES = {"check": milestones}
FLAG = {"check": lambda value, name: bool(value)}
FUNCTION = {"check": function}
FUNCTIONS = {"check": functions}


def check_fields(instance: Any) -> None:
    """Replace the values of a dataclass by those that the checks of its fields return."""
    for entry in fields(instance):
        if check := entry.metadata.get("check"):
            value = check(getattr(instance, entry.name), entry.name)
            object.__setattr__(instance, entry.name, value)  # a frozen one allows no other way
