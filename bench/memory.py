"""What the memory of a large result costs: with `out=`, as NumPy allocates it, and where malloc keeps what is freed."""

import os
import subprocess
import sys

import numpy as np

import nnfast as nf
from bench.timing import in_turn

N = 10**7
# glibc's: large blocks come from the heap, which is not given back, so that their pages are there the next time.
KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
SETTINGS = {
    "as it comes": {},
    "malloc keeps memory": KEEPING,
    "no huge pages": {"NUMPY_MADVISE_HUGEPAGE": "0"},
}


def milliseconds(n: int = N, rounds: int = 11) -> list[float]:
    """A copy and relu of n float32 elements into an array that is there; relu and np.negative into new ones."""
    x = np.random.default_rng(0).standard_normal(n, dtype=np.float32)
    y = np.empty_like(x)
    calls = [lambda: nf.relu(x, out=y), lambda: nf.relu(x), lambda: np.negative(x)]
    return [ns / 1e6 for ns in in_turn(calls, rounds)]


def main(n: int = N) -> None:
    """Print a line for each setting, each in a process of its own."""
    print(f"{n:,} float32, ms{'':11}{'relu, out=':>14}{'relu':>14}{'np.negative':>14}")
    code = f"from bench import memory; print(*memory.milliseconds({n}))"
    for name, setting in SETTINGS.items():
        printed = subprocess.check_output(
            [sys.executable, "-c", code], text=True, env=os.environ | setting
        )
        print(f"{name:28}" + "".join(f"{float(value):14.2f}" for value in printed.split()))
