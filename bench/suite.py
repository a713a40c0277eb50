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
from bench.session import Key, Row, is_ours, points
from bench.verdict import Judged, clear, judge

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
        if commit() not in result["commit"]:
            result["commit"] += f", {commit()}"  # of the families that come now
    result["plan"] = plan._asdict()
    missing = unmeasured(plan, registry.cases(only), result["points"])
    rates = [limits.Rate(**rate) for rate in result["limits"]]
    rates = limits.best(rates, limits.measure(max(plan.threads), plan.limit_ms))
    order = {case.kernel: i for i, case in enumerate(registry.cases())}
    with tqdm(total=sum(map(len, missing)), unit="point", smoothing=0.05) as bar:
        for i, keys in enumerate(missing):
            machine, rows = measured(plan, keys, peers, bar)
            if result.setdefault("machine", machine) != machine:
                raise ValueError("a run must go on on the machine that it was begun on")
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


def unmeasured(plan: Plan, cases: list[Case], measured: list[Row]) -> list[list[Key]]:
    """The points that are not there yet, a list for each family."""
    there = {(row["kernel"], row["n"], row["dtype"], row["threads"]) for row in measured}
    families: dict[str, list[Key]] = {}
    for point in points(plan, cases):
        if point.key not in there:
            families.setdefault(registry.family(point.case), []).append(point.key)
    return list(families.values())


def measured(plan: Plan, keys: list[Key], peers: list[str], bar: Any) -> tuple[Row, list[Row]]:
    """The machine and these points, by so many sessions as it takes: what one says clearly, the next does not ask."""
    machine, *rows = lines(plan, keys, peers, bar)
    sessions = {key: [row] for key, row in zip(keys, rows, strict=True)}
    for _ in range(plan.sessions - 1):
        doubtful = [key for key, rows in sessions.items() if not clear(judgement(rows)[-1])]
        if not doubtful:
            break
        bar.total += len(doubtful)
        _, *rows = lines(plan, doubtful, peers, bar, again=True)
        for key, row in zip(doubtful, rows, strict=True):
            sessions[key].append(row)
    return machine, [merged(rows) for rows in sessions.values()]


def lines(
    plan: Plan, keys: list[Key], peers: list[str], bar: Any, again: bool = False
) -> Iterator[Row]:
    """What a session says, line by line.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.
    """
    task = json.dumps({"plan": plan, "points": keys, "peers": peers, "again": again})
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


def merged(rows: list[Row]) -> Row:
    """One point of all its sessions: candidates, our fastest form against the fastest of the others, the verdict."""
    times = of_candidates(rows)
    ours, peer, judged = judgement(rows)
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


def judgement(rows: list[Row]) -> tuple[str, str, Judged]:
    """Our fastest form, the fastest of the others, and how they compare in the rounds that measured both."""
    times = of_candidates(rows)
    medians = {name: float(np.median(np.concatenate(parts))) for name, parts in times.items()}
    ours = min(filter(is_ours, medians), key=medians.__getitem__)
    peer = min((n for n in medians if not is_ours(n)), key=medians.__getitem__)
    ratios = [p[: len(o)] / o[: len(p)] for p, o in zip(times[peer], times[ours], strict=True)]
    return ours, peer, judge(ratios)


def of_candidates(rows: list[Row]) -> dict[str, list[np.ndarray]]:
    """The times in every session of those that all sessions measured."""
    return {
        name: [np.array(row["times"][name]) for row in rows]
        for name in rows[0]["times"]
        if all(name in row["times"] for row in rows)
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
