"""How a kernel and NumPy's matrix product get on with each other, as in a training step, where they alternate.

After each 128 x 784 by 784 x 512 product a kernel runs with the default number of threads and, in the same place, with
one. The product runs without a kernel, and with each of them.
"""

from typing import NamedTuple

import numpy as np

import nnfast as nf
from bench.timing import Call, time_ns


class Neighbours(NamedTuple):
    """Medians in microseconds."""

    kernel: float
    kernel_serial: float
    product: float
    product_serial: float
    product_alone: float

    @property
    def kernel_ratio(self) -> float:
        """What default threads cost or bring the kernel, in this place."""
        return self.kernel / self.kernel_serial

    @property
    def product_ratio(self) -> float:
        """What the kernel costs the product."""
        return self.product / self.product_alone

    @property
    def thread_cost(self) -> float:
        """What the kernel's threads cost the product beyond what its memory traffic does."""
        return self.product / self.product_serial


def one_product() -> Call:
    """The first product of a training step."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((128, 784), dtype=np.float32)
    b = rng.standard_normal((784, 512), dtype=np.float32)
    c = np.empty((128, 512), np.float32)
    return lambda: np.matmul(a, b, out=c)


def measure(kernel: Call, rounds: int, steps: int = 5, product: Call | None = None) -> Neighbours:
    """Medians over rounds of a few steps each, the three kinds of step in turn."""
    run_product = product or one_product()

    def pairs() -> list[tuple[float, float]]:
        return [(time_ns(run_product), time_ns(kernel)) for _ in range(steps)]

    alone, serial, default = [], [], []
    for _ in range(rounds):
        alone += [time_ns(run_product) for _ in range(steps)]
        with nf.num_threads(1):
            serial += pairs()
        default += pairs()
    product_serial, kernel_serial = np.median(serial, axis=0) / 1e3
    product_default, kernel_default = np.median(default, axis=0) / 1e3
    return Neighbours(
        kernel_default, kernel_serial, product_default, product_serial, np.median(alone) / 1e3
    )
