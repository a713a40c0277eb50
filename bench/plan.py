"""What a run of the suite measures and how long."""

from typing import NamedTuple


class Plan(NamedTuple):
    """Sizes in elements, and what is spent on a comparison of all candidates at a point."""

    sizes: tuple[int, ...]
    side_sizes: tuple[
        int, ...
    ]  # of them, what is measured in other dtypes and with fewer threads too
    dtypes: tuple[str, ...]
    threads: tuple[int, ...]
    sessions: int  # processes, each with so much of the following; one where it leaves no doubt
    seconds: float
    slot_us: float
    least_rounds: int
    most_rounds: int
    between_rounds: int
    limit_ms: float


def quick(threads: int) -> Plan:
    """A cache-sized and a larger array, float32, all threads: two minutes on two cores."""
    return Plan((10**4, 10**6), (), ("float32",), (threads,), 2, 0.08, 1000, 4, 30, 4, 6)


def full(threads: int) -> Plan:
    """Five sizes in float32 with all threads, two of them in float64 or with one thread: 30 minutes on two cores."""
    sizes, dtypes = (10**3, 10**4, 10**5, 10**6, 10**7), ("float32", "float64")
    return Plan(
        sizes, (10**4, 10**6), dtypes, tuple(sorted({1, threads})), 2, 0.25, 1500, 5, 50, 5, 20
    )
