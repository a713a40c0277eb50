"""Short trainings of copies: optimizers for their parameters, batches, and runs that may diverge."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np

from nnfast.checks.copies import Array, Loss
from nnfast.nn import Layer
from nnfast.optim.optimizer import Optimizer

Batch = tuple[Any, Any]


class Steps(Protocol):
    """The attributes that checks need of an optimizer: those of nnfast have them, and a user's may."""

    lr: float

    def step(self, grads: Any) -> Any: ...


Maker = Callable[[list[Array]], Steps]
GoesOn = Callable[[list[float]], bool]


class Trainee:
    """A copy of a network, and an optimizer of its parameters.

    Parameters
    ----------
    net : Layer
    optimizer : an optimizer of nnfast for net's parameters, or a function that makes one for a list of arrays

    Raises
    ------
    TypeError
        If what optimizer makes has no lr or no step.
    ValueError
        If it is an optimizer of other parameters.
    """

    optimizer: Steps

    def __init__(self, net: Layer, optimizer: Optimizer | Maker) -> None:
        self.net = copy.deepcopy(net)
        self._places: list[int] | None = None
        self._names: list[str] | None = None
        if isinstance(optimizer, Optimizer):
            self._copy(optimizer, net)
        elif callable(optimizer):
            self.optimizer = optimizer(self.net.params)
        else:
            kind = type(optimizer).__name__
            raise TypeError(f"optimizer must be one of nnfast.optim or a function, got {kind}")
        for part in ("lr", "step"):
            if not hasattr(self.optimizer, part):
                kind = type(self.optimizer).__name__
                raise TypeError(f"optimizer must make what has {part}, got {kind}")

    def _copy(self, optimizer: Optimizer, net: Layer) -> None:
        """The optimizer as it is, for the copy's parameters."""
        place_of = {id(param): i for i, param in enumerate(net.params)}
        if any(id(param) not in place_of for param in optimizer.params):
            raise ValueError("optimizer must be of parameters of net")
        self._places = [place_of[id(param)] for param in optimizer.params]
        self._names = optimizer._names
        params = self.net.params
        memo: dict[int, Any] = {id(p): params[place_of[id(p)]] for p in optimizer.params}
        memo[id(optimizer._core)] = optimizer._new_core()
        self.optimizer = copy.deepcopy(optimizer, memo)

    def set_rate(self, rate: float) -> None:
        """The rate, and those that groups have of their own in proportion."""
        before = self.optimizer.lr
        self.optimizer.lr = rate
        for group in getattr(self.optimizer, "groups", []):
            if "lr" in group and before:
                group["lr"] *= rate / before

    def step(self, batch: Batch, loss: Loss) -> float:
        """The loss of a batch, and an update if it is a number."""
        x, y = batch
        value, dscores = loss(self.net.forward(x, training=True), y)
        if math.isfinite(value):
            self.net.backward(dscores)
            self.optimizer.step(self._grads())
        return float(value)

    def _grads(self) -> Any:
        grads = self.net.grads
        if self._places is not None:
            grads = [grads[i] for i in self._places]
        return grads if self._names is None else dict(zip(self._names, grads, strict=True))


class Run(NamedTuple):
    """The result of a training."""

    losses: list[float]
    """The loss of each batch before its update."""
    diverged: bool
    """Whether the loss became NaN or infinite; such a value is not among the losses."""


def run(
    trainee: Trainee,
    batches: Iterable[Batch],
    steps: int,
    loss: Loss,
    goes_on: GoesOn = lambda losses: True,
) -> Run:
    """Train until the steps are done, the loss is no number, or `goes_on`, asked before each step, says no."""
    losses: list[float] = []
    start = copy.deepcopy(trainee.net)
    with np.errstate(all="ignore"):
        for batch in islice(batches, steps):
            if not goes_on(losses):
                break
            try:
                value = trainee.step(batch, loss)
            except ValueError:
                # Such as a learned alpha that has become negative. A batch that is at fault raises again.
                loss(start.forward(batch[0], training=True), batch[1])
                value = math.nan
            if not math.isfinite(value):
                return Run(losses, True)
            losses.append(value)
    return Run(losses, False)


def batches_of(
    x: Array, y: Array, size: int, shuffle: bool, rng: np.random.Generator
) -> Iterator[Batch]:
    """Epoch after epoch, without an end; rows that fill no batch are left out."""
    size = min(size, len(x))
    while True:
        order = rng.permutation(len(x)) if shuffle else np.arange(len(x))
        for first in range(0, len(x) - size + 1, size):
            rows = order[first : first + size]
            yield x[rows], y[rows]
