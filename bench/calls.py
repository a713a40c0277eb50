"""What a call costs before any arithmetic, and what the import costs."""

import subprocess
import sys

import numpy as np

import nnfast as nf
from bench.timing import in_turn

IMPORT = "import time, {0}; t = time.perf_counter(); import {1}; print(time.perf_counter() - t)"


def call_ratio(rounds: int = 200, number: int = 2000) -> float:
    """relu on 100 float32 elements over np.negative on the same array, both as they allocate."""
    x = np.random.default_rng(0).standard_normal(100, dtype=np.float32)
    ours, numpys = in_turn([lambda: nf.relu(x), lambda: np.negative(x)], rounds, number)
    return ours / numpys


def import_ms(rounds: int = 15) -> float:
    """Milliseconds that importing nnfast takes once NumPy is imported, in fresh processes."""
    command = [sys.executable, "-c", IMPORT.format("numpy", "nnfast")]
    times = [float(subprocess.check_output(command)) for _ in range(rounds)]
    return float(np.median(times)) * 1e3


def main() -> None:
    """Print both."""
    print(f"relu on 100 float32 elements over np.negative: {call_ratio():.2f}")
    print(f"import nnfast after import numpy: {import_ms():.1f} ms")
