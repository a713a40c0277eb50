"""Both threading runtimes between matrix products, alone and after somebody else has loaded libgomp.

A build from source shares the system's libgomp with every other extension built from source. Whoever loads it first
decides how its workers wait; by default they spin, and take the cores of the BLAS.
"""

import os
import subprocess
import sys

CODE = """
import ctypes, sys
if {preload}:
    ctypes.CDLL("libgomp.so.1")
from bench import neighbours, registry
row = neighbours.measure(registry.call({kernel!r}, 2**20), rounds={rounds})
print(row.kernel, row.kernel_serial, row.kernel_ratio, row.product_ratio)
"""


def measure(kernel: str, runtime: str, preload: bool, rounds: int) -> list[float]:
    """Microseconds of the kernel and of its serial form, their ratio, and what the product takes over alone."""
    code = CODE.format(preload=preload, kernel=kernel, rounds=rounds)
    environment = os.environ | {"NNFAST_THREADING": runtime}
    printed = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    return [float(word) for word in printed.split()]


def main(rounds: int = 40) -> None:
    """Print the table."""
    print(
        f"{'1M elements':12}{'runtime':10}{'libgomp':10}{'kernel':>9}{'serial':>9}{'ratio':>8}{'product':>9}"
    )
    for kernel in ("tanh", "Adam"):
        for preload in (False, True):
            for runtime in ("helpers", "openmp"):
                us, serial, ratio, product = measure(kernel, runtime, preload, rounds)
                print(
                    f"{kernel:12}{runtime:10}{'shared' if preload else 'ours':10}"
                    f"{us:9.0f}{serial:9.0f}{ratio:8.2f}{product:9.2f}",
                    flush=True,
                )
