"""What the lessons share: the digits, networks, a training loop, and the form of what is found."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import nnfast as nf

Array = NDArray[Any]


# ---- what an experiment needs ----


class Digits(NamedTuple):
    """Images (N, 64), and what they show."""

    x: Array
    labels: Array
    x_test: Array
    labels_test: Array


def digits(n: int = 1437, seed: int = 0) -> Digits:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels: n to train with, of all classes, and the rest to test.

    The mean image is taken off, and all pixels are divided by one number, so that they spread by about 1.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x, x_test, labels, labels_test = train_test_split(
        images, labels, train_size=n, stratify=labels, random_state=seed
    )
    mean, scale = x.mean(axis=0), x.std()
    x, x_test = (((part - mean) / scale).astype(np.float32) for part in (x, x_test))
    return Digits(x, labels, x_test, labels_test)


def network(
    hidden: Sequence[int],
    activation: Callable[[], nf.nn.Layer] = nf.nn.ReLU,
    *,
    init: Any = "he",
    norm: bool = False,
    p: float = 0.0,
    mode: Any = "inverted",
    dtype: Any = np.float32,
    seed: int = 0,
) -> nf.nn.Sequential:
    """Hidden layers of these widths, perhaps with batch normalization or dropout, and a dense one for ten scores."""
    rng = np.random.default_rng(seed)
    layers: list[nf.nn.Layer] = []
    n = 64
    for width in hidden:
        layers.append(nf.nn.Dense(n, width, bias=not norm, dtype=dtype, init=init, rng=rng))
        if norm:
            layers.append(nf.nn.BatchNorm(width, dtype=dtype))
        layers.append(activation())
        if p:
            layers.append(nf.nn.Dropout(p, mode=mode, rng=rng))
        n = width
    return nf.nn.Sequential(*layers, nf.nn.Dense(n, 10, dtype=dtype, init=init, rng=rng))


def epochs(
    net: nf.nn.Layer, opt: Any, data: Digits, n: int, *, batch: int = 32, seed: int = 0
) -> Iterator[float]:
    """Train for n epochs; the mean loss of each as it ends. Where a training diverges it is infinite from then on."""
    rng = np.random.default_rng(seed)
    for epoch in range(n):
        losses = []
        order = rng.permutation(len(data.x))
        for start in range(0, len(order) - batch + 1, batch):
            rows = order[start : start + batch]
            with np.errstate(over="ignore", invalid="ignore"):  # of a rate that is too high
                z = net.forward(data.x[rows], training=True)
                loss, dz = nf.softmax_cross_entropy(z, data.labels[rows], out=z)
                net.backward(dz)
            if not math.isfinite(loss):
                yield from repeat(math.inf, n - epoch)
                return
            opt.step(net.grads)
            losses.append(loss)
        yield float(np.mean(losses))


def needed(losses: Sequence[float], target: float) -> float:
    """How many epochs it took to a loss below the target; inf if it was not reached."""
    return next((i for i, loss in enumerate(losses, 1) if loss < target), math.inf)


def accuracies(net: nf.nn.Layer, data: Digits) -> tuple[float, float]:
    """The shares of training and test images whose class is predicted."""
    pairs = ((data.x, data.labels), (data.x_test, data.labels_test))
    train, test = (float(np.mean(net.forward(x).argmax(axis=1) == labels)) for x, labels in pairs)
    return train, test


def mean_and_error(values: Sequence[float] | Array) -> tuple[float, float]:
    """The mean, and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


# ---- what comes of it ----


class Finding(NamedTuple):
    """What was measured, and whether it shows a part of the claim; None for a remark that decides nothing."""

    text: str
    shown: bool | None = None

    def __str__(self) -> str:
        return f"{WORDS[self.shown]}: {self.text}"


WORDS = {True: "shown", False: "not shown", None: "also measured"}


class Lesson(NamedTuple):
    """What a run of an experiment gives."""

    findings: list[Finding]
    figure: Any

    @property
    def shown(self) -> bool:
        """Whether every part of the claim is."""
        return all(finding.shown is not False for finding in self.findings)


def figure(width: float = 10, height: float = 3.6) -> Any:
    """An empty one."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def tidy(*axes: Any) -> None:
    """A grid, and whole numbers where epochs are counted."""
    for ax in axes:
        ax.grid(alpha=0.3)
        if ax.get_xlabel() == "epoch":
            ax.xaxis.get_major_locator().set_params(integer=True)
