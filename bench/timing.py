"""Timing candidates in turn: every round runs each of them once, so that a slow moment of the machine meets all."""

from collections.abc import Callable, Sequence
from time import perf_counter_ns

import numpy as np

Call = Callable[[], object]


def time_ns(call: Call, number: int = 1) -> float:
    """Nanoseconds a call, over `number` calls."""
    begin = perf_counter_ns()
    for _ in range(number):
        call()
    return (perf_counter_ns() - begin) / number


def in_turn(calls: Sequence[Call], rounds: int, number: int = 1) -> list[float]:
    """Median nanoseconds of each call; one round warms up and is not counted."""
    times = [[time_ns(call, number) for call in calls] for _ in range(rounds + 1)]
    return [float(median) for median in np.median(times[1:], axis=0)]
