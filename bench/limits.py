"""What the memory of this machine gives, measured by a program compiled for the occasion."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

SOURCE = Path(__file__).with_suffix(".cpp")


class Rate(NamedTuple):
    """Bytes a second, those read and those written together, where `bytes` of them are worked on."""

    kind: str
    threads: int
    bytes: int
    rate: float


def measure(threads: int, milliseconds: float) -> list[Rate]:
    """Every kind, at every power of two from 4 KiB to 256 MiB, with 1 thread and with `threads`.

    An empty list, and a line that says so, where there is no compiler.
    """
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        print("left out: the machine's limits (no C++ compiler)")
        return []
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "limits"
        flags = ["-O3", "-march=native", "-std=c++17", "-pthread"]
        subprocess.run([compiler, *flags, SOURCE, "-o", program], check=True)
        command = [program, str(threads), str(milliseconds)]
        printed = subprocess.check_output(command, text=True)
    fields = (line.split(";") for line in printed.splitlines())
    return [Rate(kind, int(t), int(b), float(rate)) for kind, t, b, rate in fields]


def best(*runs: list[Rate]) -> list[Rate]:
    """The highest rate of several runs: a busy moment of the machine is none of its limits."""
    found: dict[tuple[str, int, int], Rate] = {}
    for rate in (rate for run in runs for rate in run):
        known = found.get(rate[:3])
        found[rate[:3]] = rate if known is None or rate.rate > known.rate else known
    return list(found.values())


def floor_ns(
    rates: list[Rate], nbytes: int, working_set: int, threads: int, in_place: bool = False
) -> float | None:
    """Nanoseconds that moving nbytes takes at least, at the rate of the fastest kind where so much is worked on.

    An update in place is a kind for those who work in place: its lines travel once for a read and a write. None if
    nothing was measured.
    """
    highest: dict[int, float] = {}
    for rate in rates:
        if rate.threads == threads and (in_place or rate.kind != "update"):
            highest[rate.bytes] = max(highest.get(rate.bytes, 0), rate.rate)
    if not highest:
        return None
    sizes = sorted(highest)
    found = np.interp(np.log(working_set), np.log(sizes), [highest[size] for size in sizes])
    return nbytes / float(found) * 1e9
