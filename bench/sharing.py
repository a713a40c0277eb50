"""What it brings to share threads with the BLAS, in a training step: to its kernels, to its products, to all of it.

The network is 784-512-256-10 with BatchNorm and dropout, the batch 128. Rounds without sharing and with it take turns;
figures are medians over rounds, and ratios are taken within a round.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import NamedTuple

import numpy as np

import nnfast as nf
from bench import neighbours, registry
from bench.timing import Call, in_turn, settle, time_ns
from bench.training import LayersOfNN

BATCH, SIZES = 128, [784, 512, 256, 10]


class Found(NamedTuple):
    """Of one round, without sharing or with it."""

    kernels: dict[str, float]
    """The time of each over its serial time in the same place."""
    products: float
    """Nanoseconds of all products of a step."""
    asleep: float
    """The same, after 10 ms of sleep."""
    step: float
    """A whole step over its products."""


def products() -> Call:
    """The matrix products of a step, forward and backward, and nothing else."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    layers = [(normal(BATCH, m), normal(m, n), normal(BATCH, n)) for m, n in pairwise(SIZES)]
    out = [tuple(np.empty_like(array) for array in layer) for layer in layers]

    def call() -> None:
        for (x, w, _), (_, _, y) in zip(layers, out, strict=True):
            np.matmul(x, w, out=y)
        for i in reversed(range(len(layers))):
            (x, w, dy), (dx, dw, _) = layers[i], out[i]
            np.matmul(x.T, dy, out=dw)
            if i > 0:  # the gradient of the data is not needed
                np.matmul(dy, w.T, out=dx)

    return call


def network() -> tuple[LayersOfNN, Call]:
    """The network, and a step of it."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, SIZES[0]), dtype=np.float32)
    labels = rng.integers(0, SIZES[-1], BATCH)
    net = LayersOfNN("batch norm, dropout", SIZES, 0.2, 0)
    return net, lambda: net.train_step(x, labels)


def kernels() -> dict[str, Call]:
    """What runs between the products."""
    net, step = network()
    step()  # for the gradients
    found = {
        f"{kernel} of {n:,}": registry.call(kernel, n)
        for kernel in ("tanh", "gelu")
        for n in (2**16, 2**18)
    }
    return found | {"Adam, ten arrays": lambda: net.adam.step(net.net.grads)}


def measure(rounds: int) -> tuple[list[Found], list[Found]]:
    """Without sharing, and with it, a round each in turn."""
    product, step, between = products(), network()[1], kernels()

    def found(sharing: AbstractContextManager[object]) -> Found:
        with sharing:
            # The BLAS's own workers look out for a tenth of a second.
            time.sleep(0.15)
            settle()
            ratios = {
                name: neighbours.measure(call, 4, steps=3, product=product).kernel_ratio
                for name, call in between.items()
            }
            bare, whole = in_turn([product, step], rounds=12)
            asleep = []
            for _ in range(5):
                time.sleep(0.01)
                asleep.append(time_ns(product))
            alone = in_turn([product], rounds=12)[0]
        return Found(ratios, alone, float(np.median(asleep)), whole / bare)

    both = [(found(nullcontext()), found(nf.share_blas_threads())) for _ in range(rounds)]
    own, shared = zip(*both, strict=True)
    return list(own), list(shared)


def main(rounds: int = 8) -> None:
    """Print the table."""
    with nf.share_blas_threads() as sharing:
        if not sharing:
            print(f"NumPy's BLAS cannot share threads here: {sharing.reason}")
            return
    both = measure(rounds)
    print(f"{'':34}{'own threads':>12}{'shared':>12}")

    def line(name: str, of: Callable[[Found], float], form: str = ".2f") -> None:
        cells = [f"{np.median([of(found) for found in side]):12{form}}" for side in both]
        print(f"{name:34}" + "".join(cells))

    for name in both[0][0].kernels:
        line(f"{name}, over serial", lambda found, name=name: found.kernels[name])
    line("all products of a step, us", lambda found: found.products / 1e3, ".0f")
    line("after 10 ms of sleep, us", lambda found: found.asleep / 1e3, ".0f")
    line("a whole step, over its products", lambda found: found.step)
    turns = list(zip(*both, strict=True))
    ratio = np.median([shared.products / own.products for own, shared in turns])
    later = np.median([shared.asleep - own.asleep for own, shared in turns]) / 1e3
    print(f"products, shared over own: {ratio:.3f}; after sleep {later:+.0f} us")
