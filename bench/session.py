"""One process that measures points: every candidate at each, alone and, ours, between matrix products.

The suite starts several, since some of what differs between two runs is decided when a process starts: where its memory
lies, and on which processor a library's threads settle.
"""

import json
import platform
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nnfast as nf
from bench import neighbours, registry
from bench import peers as all_peers
from bench.case import Call, Case, Forms, Problem
from bench.peers import Peer
from bench.plan import Plan
from bench.timing import Budget, rounds, settle, time_ns

Times = NDArray[np.float64]
Row = dict[str, Any]
Key = tuple[str, int, str, int]  # a kernel, its size, dtype and threads


@dataclass(frozen=True)
class Point:
    """A case at one size, dtype and number of threads."""

    case: Case
    n: int
    dtype: str
    threads: int

    @property
    def key(self) -> Key:
        """What names it."""
        return self.case.kernel, self.n, self.dtype, self.threads

    @property
    def name(self) -> str:
        """For the progress bar and for complaints."""
        return f"{self.case.kernel} {self.dtype} {self.n:.0e} x{self.threads}"


def measure(point: Point, plan: Plan, peers: list[Peer], again: bool = False) -> Row:
    """All candidates at a point: nanoseconds a call in every round, by name.

    Parameters
    ----------
    again
        Another session has measured what stands once in a result: the kernel between matrix products.
    """
    problem = point.case.problem(point.n, np.dtype(point.dtype))
    with nf.num_threads(point.threads):
        candidates, faults = gather(point, problem, peers)
        settle()  # the BLAS's workers, from the products of the point before, while this one was made
        budget = Budget(plan.seconds, plan.least_rounds, plan.most_rounds, plan.slot_us * 1e3)
        times = rounds({name: call for name, (_, call) in candidates.items()}, budget, is_ours)
    row: Row = {
        "kernel": point.case.kernel,
        "family": registry.family(point.case),
        "n": point.n,
        "size": problem.size,
        "bytes": problem.bytes,
        "working_set": problem.working_set,
        "in_place": point.case.in_place,
        "dtype": point.dtype,
        "threads": point.threads,
        "faults": faults,
        "forms": {name: form for name, (form, _) in candidates.items()},
        "times": {name: found.tolist() for name, found in times.items()},
    }
    if not again and (point.threads > 1 or nf.get_num_threads() == 1):
        row["between"] = between(problem, plan)
    return row


def is_ours(candidate: str) -> bool:
    """Whether a candidate is a form of nnfast's."""
    return candidate.startswith("nnfast")


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


def between(problem: Problem, plan: Plan) -> Row:
    """The kernel between two matrix products."""
    call = next(iter(problem.forms().values()))
    call()
    long = time_ns(call) > 5e6
    found = neighbours.measure(call, max(4, plan.between_rounds // (3 if long else 1)), steps=3)
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
        "blas": [
            {name: library[name] for name in ("version", "kernels", "threads")}
            for library in info["blas"]
        ],
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


def points(plan: Plan, cases: list[Case]) -> list[Point]:
    """The points of a plan, in the order in which they are measured.

    All sizes in the first dtype with all threads; in other dtypes or with fewer threads, one or the other, those sizes
    that the plan names.
    """
    main = plan.dtypes[0], max(plan.threads)
    return [
        Point(case, n, dtype, threads)
        for case in cases
        for dtype in plan.dtypes
        for n in plan.sizes
        for threads in plan.threads
        if (dtype, threads) == main
        or (n in plan.side_sizes and (dtype == main[0] or threads == main[1]))
    ]


def main(plan: Plan, wanted: list[Key], expected: list[str], again: bool) -> None:
    """Print a line of JSON about the machine, and one a point; lines that are not JSON are for people."""
    peers = all_peers.load(expected)
    print(json.dumps(machine(peers)), flush=True)
    for kernel, n, dtype, threads in wanted:
        point = Point(registry.case(kernel), n, dtype, threads)
        print(json.dumps(measure(point, plan, peers, again), default=float), flush=True)
