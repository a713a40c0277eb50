"""Every kernel beside its peers and the machine's limit: sessions are run, merged and judged."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench import limits, registry
from bench.case import Case
from bench.plan import Plan
from bench.session import Row, points
from bench.verdict import judge

ROOT = Path(__file__).parents[1]


def run(
    plan: Plan,
    only: list[str],
    peers: list[str],
    begun: Row | None = None,
    save: Callable[[Row], None] = lambda result: None,
) -> Row:
    """The suite, with a progress bar, family by family: limits before and after, the sessions between.

    Parameters
    ----------
    begun
        What an earlier run has saved: the families that it measured are not measured again.
    save
        Called with the result after each family.

    Raises
    ------
    ValueError
        If `begun` is of another plan, or its next family is measured on another machine.
    """
    from tqdm import tqdm

    result: Row = {
        "commit": commit(),
        "plan": json.loads(json.dumps(plan)),
        "limits": [],
        "points": [],
    }
    if begun is not None:
        if list(begun["plan"].values()) != result["plan"]:
            raise ValueError("a run must go on by the plan that it was begun with")
        result |= begun
    result["plan"] = plan._asdict()
    missing = unmeasured(plan, registry.cases(only), result["points"])
    rates = [limits.Rate(**rate) for rate in result["limits"]]
    rates = limits.best(rates, limits.measure(max(plan.threads), plan.limit_ms))
    count = sum(len(points(plan, cases)) for cases in missing)
    order = {case.kernel: i for i, case in enumerate(registry.cases())}
    with tqdm(total=plan.sessions * count, unit="point", smoothing=0.05) as bar:
        for i, cases in enumerate(missing):
            sessions: list[list[Row]] = []
            for _ in range(plan.sessions):
                machine, *rows = lines(plan, [case.kernel for case in cases], peers, bar)
                if result.setdefault("machine", machine) != machine:
                    raise ValueError("a run must go on on the machine that it was begun on")
                sessions.append(rows)
            rows = [merged(rows) for rows in zip(*sessions, strict=True)]
            if i == len(missing) - 1:
                rates = limits.best(rates, limits.measure(max(plan.threads), plan.limit_ms))
            result["limits"] = [rate._asdict() for rate in rates]
            rows = sorted([*result["points"], *rows], key=lambda row: order[row["kernel"]])
            result["points"] = [with_limit(row, rates) for row in rows]
            save(result)
    return result


def commit() -> str:
    """The commit that is measured."""
    words = ["git", "rev-parse", "--short=10", "HEAD"]
    try:
        return subprocess.check_output(words, cwd=ROOT, text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def unmeasured(plan: Plan, cases: list[Case], measured: list[Row]) -> list[list[Case]]:
    """The cases that have points which are not there yet, a list for each family."""
    there = {(row["kernel"], row["n"], row["dtype"], row["threads"]) for row in measured}
    families: dict[str, list[Case]] = {}
    for case in cases:
        wanted = {(p.case.kernel, p.n, p.dtype, p.threads) for p in points(plan, [case])}
        if not wanted <= there:
            families.setdefault(registry.family(case), []).append(case)
    return list(families.values())


def lines(plan: Plan, kernels: list[str], peers: list[str], bar: Any) -> Iterator[Row]:
    """What a session says, line by line.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.
    """
    task = json.dumps({"plan": plan, "kernels": kernels, "peers": peers})
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "bench", "session", task]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith("{"):
                bar.write(line.rstrip())
                continue
            row = json.loads(line)
            if "kernel" in row:
                bar.update()
                bar.set_postfix_str(f"{row['kernel']} {row['dtype']} {row['n']:.0e}")
            yield row
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def merged(rows: tuple[Row, ...]) -> Row:
    """One point of all sessions: candidates, our fastest form against the fastest of the others, and the verdict."""
    times = {
        name: [np.array(row["times"][name]) for row in rows]
        for name in rows[0]["times"]
        if all(name in row["times"] for row in rows)
    }
    medians = {name: float(np.median(np.concatenate(parts))) for name, parts in times.items()}
    ours = min((n for n in medians if n.startswith("nnfast")), key=medians.__getitem__)
    peer = min((n for n in medians if not n.startswith("nnfast")), key=medians.__getitem__)
    judged = judge([p / o for p, o in zip(times[peer], times[ours], strict=True)])
    shared = {name: value for name, value in rows[0].items() if name not in ("times", "forms")}
    return shared | {
        "candidates": {
            name: summary(np.concatenate(parts)) | {"form": rows[0]["forms"][name]}
            for name, parts in times.items()
        },
        "nnfast": ours,
        "peer": peer,
        **judged._asdict(),
    }


def summary(times: np.ndarray) -> Row:
    """Nanoseconds a call."""
    low, median, high = np.percentile(times, [25, 50, 75])
    return {"median": median, "low": low, "high": high, "rounds": len(times)}


def with_limit(row: Row, rates: list[limits.Rate]) -> Row:
    """The row with the machine's floor, and how near we are to it."""
    floor = limits.floor_ns(
        rates, *(row[key] for key in ("bytes", "working_set", "threads", "in_place"))
    )
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
