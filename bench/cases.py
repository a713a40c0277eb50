"""The kernels that the benchmarks of threads and neighbours run, as calls that allocate nothing."""

from collections.abc import Callable

import numpy as np

import nnfast as nf

Case = Callable[[int], Callable[[], object]]


def relu(n: int) -> Callable[[], object]:
    """A cheap kernel: memory or cache decides."""
    x = np.random.default_rng(0).standard_normal(n, dtype=np.float32)
    out = np.empty_like(x)
    return lambda: nf.relu(x, out=out)


def tanh(n: int) -> Callable[[], object]:
    """A kernel of arithmetic."""
    x = np.random.default_rng(0).standard_normal(n, dtype=np.float32)
    out = np.empty_like(x)
    return lambda: nf.tanh(x, out=out)


def adam(n: int) -> Callable[[], object]:
    """A step on one array: four read, three written."""
    rng = np.random.default_rng(0)
    params, grads = (rng.standard_normal(n, dtype=np.float32) for _ in range(2))
    optimizer = nf.optim.Adam([params])
    return lambda: optimizer.step([grads])


CASES: dict[str, Case] = {"relu": relu, "tanh": tanh, "adam": adam}
