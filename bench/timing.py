"""Timing candidates in turn: every round runs each of them once, so that a slow moment of the machine meets all."""

import gc
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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


def settle(most: float = 0.2) -> None:
    """Wait until this process's other threads sleep: spinning workers would take the next candidate's cores."""
    end = time.monotonic() + most
    while others_run() and time.monotonic() < end:
        time.sleep(2e-4)


def others_run() -> bool:
    """Whether a thread other than the calling one is running or wants to.

    The system says so of each; the process's CPU time would not do, as it counts those in ticks of milliseconds. Where
    nothing is known, workers get some time to fall asleep.
    """
    own = str(threading.get_native_id())
    try:
        threads = os.listdir("/proc/self/task")
    except OSError:
        time.sleep(0.02)
        return False
    return any(running(thread) for thread in threads if thread != own)


def running(thread: str) -> bool:
    """Whether the state of a thread is R; False if it has ended meanwhile."""
    try:
        with open(f"/proc/self/task/{thread}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"R"
    except OSError:
        return False


class Budget:
    """How long a comparison takes: a number of rounds between two, by the seconds that may pass."""

    def __init__(self, seconds: float, least: int, most: int, slot_ns: float) -> None:
        self.seconds, self.least, self.most, self.slot_ns = seconds, least, most, slot_ns

    def repeats(self, call: Call) -> int:
        """Calls that fill a slot, by the fastest of three: the first finds its data cold, and workers asleep."""
        return max(1, round(self.slot_ns / max(min(time_ns(call) for _ in range(3)), 1)))


# After so many rounds, a peer that takes so much longer than the fastest one is out of the race.
TRIAL = 3
BEATEN = 1.6


def rounds(
    calls: Mapping[str, Call], budget: Budget, stays: Callable[[str], bool] = lambda name: True
) -> dict[str, np.ndarray]:
    """Nanoseconds of each call in every round.

    A turn is half a slot of untimed calls, so that data and workers are where they are back to back, a slot of timed
    ones, and a pause until all workers sleep. Who goes first moves on with the round. No garbage is collected. Those
    that need not stay are measured for as long as they may yet be the fastest of their kind.
    """
    names = list(calls)
    number = {name: budget.repeats(call) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in names}
    end = time.monotonic() + budget.seconds
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(budget.most):
            if turn >= budget.least and time.monotonic() > end:
                break
            if turn == TRIAL:
                names = unbeaten(times, stays)
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                time_ns(calls[name], -(-number[name] // 2))
                times[name].append(time_ns(calls[name], number[name]))
                settle()
    finally:
        if collecting:
            gc.enable()
    return {name: np.array(values) for name, values in times.items()}


def unbeaten(times: Mapping[str, list[float]], stays: Callable[[str], bool]) -> list[str]:
    """Those that stay, and of the others those that may yet be the fastest."""
    others = [min(values) for name, values in times.items() if not stays(name)]
    limit = BEATEN * min(others, default=0)
    return [name for name, values in times.items() if stays(name) or min(values) <= limit]
