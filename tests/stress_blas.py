"""Products of NumPy's BLAS and nnfast's kernels from many threads on one pool, for so many seconds, with forks between.

``python tests/stress_blas.py 600`` compares every result bit for bit with what it was before there were threads. A
child is forked from time to time, while products are under way, and computes kernels; not products, for which it may
have inherited a lock of OpenBLAS. Nor are there factorizations by LU then: those run on OpenBLAS's own threads, which
it ends before a fork in the middle of their work. ``--no-forks`` has them.
"""

import os
import sys
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nnfast as nf

Array = NDArray[Any]


def products(rng: np.random.Generator, lu: bool) -> list[Callable[[], Array]]:
    """Matrix products, matrix-vector products and factorizations of random sizes."""
    dtype = [np.float32, np.float64][rng.integers(2)]
    m, k, n = rng.integers(1, 400, 3)
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    long, x = rng.standard_normal((1500, 700)).astype(dtype), rng.standard_normal(700).astype(dtype)
    square = rng.standard_normal((250, 250)) + 20 * np.eye(250)
    return [
        lambda: a @ b,
        lambda: long @ x,
        lambda: np.dot(x, x),
        lambda: np.linalg.cholesky(square @ square.T),
        *([lambda: np.linalg.inv(square)] if lu else []),
    ]


def kernels(rng: np.random.Generator) -> list[Callable[[], Array]]:
    """Kernels of random sizes."""
    x = rng.standard_normal(int(rng.integers(1, 300_000)), dtype=np.float32)
    rows = rng.standard_normal((int(rng.integers(2, 300)), 256), dtype=np.float32)
    return [
        lambda: nf.tanh(x),
        lambda: nf.dropout(x, 0.3, rng=1)[0],
        lambda: nf.batch_norm(rows, training=True)[0],
        lambda: nf.softmax(rows),
    ]


def digest(result: Array) -> int:
    return zlib.crc32(np.ascontiguousarray(result).view(np.uint8).reshape(-1))


def stress(seconds: float, threads: int, forks: bool) -> list[str]:
    """What went wrong."""
    rng = np.random.default_rng(0)
    work = [call for _ in range(8) for call in products(rng, lu=not forks) + kernels(rng)]
    in_child = kernels(rng)
    expected = [digest(call()) for call in work]
    expected_in_child = [digest(call()) for call in in_child]
    sharing = nf.share_blas_threads()
    if not sharing:
        return [sharing.reason]
    wrong: list[str] = []
    calls = [0] * threads
    end = time.monotonic() + seconds

    def run(index: int) -> None:
        own = np.random.default_rng(index)
        while time.monotonic() < end and not wrong:
            i = int(own.integers(len(work)))
            if digest(work[i]()) != expected[i]:
                wrong.append(f"call {i}")
            calls[index] += 1

    def watch() -> None:
        before = [-1] * threads
        while time.monotonic() < end:
            time.sleep(10)
            if time.monotonic() < end and any(a == b for a, b in zip(before, calls, strict=True)):
                print("hangs:", calls, flush=True)
                os._exit(2)
            before = list(calls)

    threading.Thread(target=watch, daemon=True).start()
    callers = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
    for caller in callers:
        caller.start()
    while forks and time.monotonic() < end and not wrong:
        time.sleep(0.05)
        child = os.fork()
        if child == 0:
            os._exit([digest(call()) for call in in_child] != expected_in_child)
        if os.waitpid(child, 0)[1] != 0:
            wrong.append("in a child")
    for caller in callers:
        caller.join()
    print(sum(calls), "calls", flush=True)
    return wrong


if __name__ == "__main__":
    wrong = stress(float(sys.argv[1]), threads=8, forks="--no-forks" not in sys.argv)
    print(wrong)
    sys.exit(bool(wrong))
