"""The error of float32 activations against float64, over inputs of every sign and exponent.

A sample by default; all 2**32 inputs, in a few minutes each:

    python -c "from bench import accuracy; accuracy.main(step=1)"
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import nnfast as nf
from bench.ulp import ulp_error

Wide = NDArray[np.float64]
CHUNK = 2**25


def logistic(x: Wide) -> Wide:
    """1 / (1 + e^-x) without overflow or lost digits."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def exponential_linear(x: Wide) -> Wide:
    """x, or e^x - 1 below 0."""
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


FUNCTIONS: dict[str, tuple[Callable[..., NDArray[np.float32]], Callable[[Wide], Wide]]] = {
    "sigmoid": (nf.sigmoid, logistic),
    "tanh": (nf.tanh, np.tanh),
    "elu": (nf.elu, exponential_linear),
}


def worst(name: str, step: int) -> tuple[float, float, float]:
    """Largest error in ulps, where it is, and the mean, over every step-th float32 that is finite."""
    kernel, reference = FUNCTIONS[name]
    largest, where, total, count = 0.0, 0.0, 0.0, 0
    for begin in range(0, 2**32, CHUNK):
        bits = np.arange(begin, begin + CHUNK, step, dtype=np.uint64).astype(np.uint32)
        x = bits.view(np.float32)
        x = x[np.isfinite(x)]
        if x.size == 0:
            continue
        with np.errstate(all="ignore"):
            error = ulp_error(kernel(x), reference(x.astype(np.float64)))
        total, count, at = total + float(error.sum()), count + x.size, int(error.argmax())
        if error[at] > largest:
            largest, where = float(error[at]), float(x[at])
    return largest, where, total / count


def main(step: int = 251) -> None:
    """Print the table."""
    print(f"{'float32':10}{'max ULP':>9}{'mean':>8}   at x")
    for name in FUNCTIONS:
        largest, where, mean = worst(name, step)
        print(f"{name:10}{largest:9.3f}{mean:8.3f}   {where:.9g}", flush=True)
