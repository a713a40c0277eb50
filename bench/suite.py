"""Every kernel beside its peers and the machine's limit, alone and between matrix products."""

import itertools
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import nnfast as nf
from bench import limits, neighbours, registry
from bench.case import Call, Case, Forms, Problem
from bench.peers import Peer
from bench.timing import Budget, rounds, settle, time_ns
from bench.verdict import ratio

Times = NDArray[np.float64]
Row = dict[str, Any]


class Plan(NamedTuple):
    """What is measured and how long."""

    sizes: tuple[int, ...]
    dtypes: tuple[str, ...]
    threads: tuple[int, ...]
    seconds: float  # for a comparison
    slot_us: float
    least_rounds: int
    most_rounds: int
    between_rounds: int
    limit_ms: float


def quick(threads: int) -> Plan:
    """A cache-sized and a larger array, float32, all threads: two minutes on two cores."""
    return Plan((10**4, 10**6), ("float32",), (threads,), 0.8, 1500, 9, 60, 8, 6)


def full(threads: int, sizes: tuple[int, ...] = (10**3, 10**4, 10**5, 10**6, 10**7)) -> Plan:
    """Everything: half an hour on two cores."""
    both = tuple(sorted({1, threads}))
    return Plan(sizes, ("float32", "float64"), both, 1.2, 2000, 9, 100, 10, 20)


@dataclass(frozen=True)
class Point:
    """A case at one size, dtype and number of threads."""

    case: Case
    n: int
    dtype: str
    threads: int

    @property
    def name(self) -> str:
        """For the progress bar and for complaints."""
        return f"{self.case.kernel} {self.dtype} {self.n:.0e} x{self.threads}"


def points(plan: Plan, cases: list[Case]) -> Iterator[Point]:
    """The points of a plan, in the order in which they are measured."""
    for combination in itertools.product(cases, plan.dtypes, plan.sizes, plan.threads):
        case, dtype, n, threads = combination
        yield Point(case, n, dtype, threads)


def measure(point: Point, plan: Plan, peers: list[Peer]) -> Row:
    """All candidates at a point: what the JSON file holds of it."""
    problem = point.case.problem(point.n, np.dtype(point.dtype))
    with nf.num_threads(point.threads):
        candidates, faults = gather(point, problem, peers)
        budget = Budget(plan.seconds, plan.least_rounds, plan.most_rounds, plan.slot_us * 1e3)
        times = rounds({name: call for name, (_, call) in candidates.items()}, budget)
    row: Row = {
        "kernel": point.case.kernel,
        "family": registry.family(point.case),
        "n": point.n,
        "size": problem.size,
        "bytes": problem.bytes,
        "working_set": problem.working_set,
        "dtype": point.dtype,
        "threads": point.threads,
        "faults": faults,
        "candidates": {
            name: summary(times[name]) | {"form": form} for name, (form, _) in candidates.items()
        },
    }
    row |= compare(times)
    if point.threads > 1 or nf.get_num_threads() == 1:
        row["between"] = between(problem, plan)
    return row


def gather(
    point: Point, problem: Problem, peers: list[Peer]
) -> tuple[dict[str, tuple[str, Call]], dict[str, str]]:
    """By name, form and call of every candidate whose result is right; what is wrong with the others.

    Raises
    ------
    AssertionError
        If a result of nnfast or of the plain NumPy is wrong.
    """
    candidates: dict[str, tuple[str, Call]] = {}
    for form, call in problem.forms().items():
        assert (fault := problem.check(call())) is None, f"nnfast, {point.name}, {form}: {fault}"
        candidates[f"nnfast {form}"] = form, call
    plain = problem.plain()
    for call in plain.values():
        assert (fault := problem.check(call())) is None, f"plain NumPy, {point.name}: {fault}"
    candidates["NumPy"] = fastest(plain)
    faults = {}
    for peer in peers:
        operation = peer.OPERATIONS.get(point.case.kernel)
        if operation is None or not peer.set_threads(point.threads):
            continue
        right: Forms = {}
        for form, call in operation(problem.arrays, point.case.values).items():
            if (fault := problem.check(call())) is None:
                right[form] = call
            else:
                faults[f"{peer.NAME} {form}"] = fault
        settle()
        if right:
            candidates[peer.NAME] = fastest(right)
    return candidates, faults


def fastest(forms: Forms) -> tuple[str, Call]:
    """The form that is quickest in a short trial."""
    if len(forms) == 1:
        return next(iter(forms.items()))
    times = {}
    for form, call in forms.items():
        call()
        times[form] = min(time_ns(call) for _ in range(5))
        settle()
    best = min(times, key=times.__getitem__)
    return best, forms[best]


def summary(times: Times) -> Row:
    """Nanoseconds a call."""
    low, median, high = np.percentile(times, [25, 50, 75])
    return {"median": median, "low": low, "high": high, "rounds": len(times)}


def compare(times: dict[str, Times]) -> Row:
    """Our fastest form against the fastest of the others."""
    medians = {name: float(np.median(t)) for name, t in times.items()}
    ours = min((n for n in medians if n.startswith("nnfast")), key=medians.__getitem__)
    peer = min((n for n in medians if not n.startswith("nnfast")), key=medians.__getitem__)
    found = ratio(times[peer], times[ours])
    return {"nnfast": ours, "peer": peer, **found._asdict(), "verdict": found.verdict}


def between(problem: Problem, plan: Plan) -> Row:
    """The kernel between two matrix products."""
    call = next(iter(problem.forms().values()))
    call()
    long = time_ns(call) > 5e6
    found = neighbours.measure(call, max(4, plan.between_rounds // (3 if long else 1)), steps=3)
    settle()
    return found._asdict() | {
        "kernel_ratio": found.kernel_ratio,
        "product_ratio": found.product_ratio,
    }


def machine(peers: list[Peer]) -> Row:
    """What the figures depend on."""
    info = nf.cpu_info()
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "cores": nf.get_num_threads(),
        "isa": info["chosen"],
        "threading": nf._core.threading(),
        "versions": {
            "Python": platform.python_version(),
            "nnfast": nf.__version__,
            "NumPy": np.__version__,
            **{peer.NAME: peer.VERSION for peer in peers},
        },
    }


def processor() -> str:
    """Its name as the system gives it."""
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else "unknown"


def run(plan: Plan, cases: list[Case], peers: list[Peer]) -> Row:
    """The suite, with a progress bar: limits before and after, the points between."""
    from tqdm import tqdm

    threads = max(plan.threads)
    before = limits.measure(threads, plan.limit_ms)
    rows = []
    bar = tqdm(list(points(plan, cases)), unit="point", smoothing=0.05)
    for point in bar:
        bar.set_postfix_str(point.name)
        rows.append(measure(point, plan, peers))
    rates = limits.best(before, limits.measure(threads, plan.limit_ms)) if before else []
    return {
        "machine": machine(peers),
        "plan": plan._asdict(),
        "limits": [rate._asdict() for rate in rates],
        "points": [with_limit(row, rates) for row in rows],
    }


def with_limit(row: Row, rates: list[limits.Rate]) -> Row:
    """The row with its floor, from the better of both measurements of the machine."""
    floor = limits.floor_ns(rates, row["bytes"], row["working_set"], row["threads"])
    if floor is None:
        return row
    return row | {"limit_ns": floor, "share": floor / row["candidates"][row["nnfast"]]["median"]}


def rounded(value: Any) -> Any:
    """Four digits of every number: more would be noise, and files of a megabyte."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
