"""The training loop of the estimators: batches, steps, epochs, learning rates, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import cached_property, partial
from itertools import pairwise
from time import perf_counter
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nnfast import _checks, nn, optim, schedules
from nnfast._load import _core
from nnfast._sparse import is_sparse
from nnfast.nn.layer import Buffer
from nnfast.optim.optimizer import Optimizer

Array = NDArray[Any]
Loss = Callable[..., tuple[float, Array]]
FunctionOfStep = Callable[[int], float]
HowToSchedule = str | FunctionOfStep | schedules.ReduceOnPlateau | None
HowToOptimize = str | Callable[..., Optimizer]
HowToShuffle = bool | Literal["partitions"]

WEIGHT_DECAY = 1e-3
"""For rules whose default is 0."""

# Of an adaptive rate, scikit-learn's.
_LEAST_RATE, _ADAPTIVE_DIVISOR = 1e-6, 5.0

_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    name.lower(): getattr(optim, name) for name in optim.rules.__all__
} | {
    "momentum": partial(optim.SGD, momentum=0.9),
    "nesterov": partial(optim.SGD, momentum=0.9, nesterov=True),
}
_SCHEDULES: dict[str, Callable[[float, int], FunctionOfStep]] = {
    "linear": lambda lr, steps: schedules.Linear(lr, 0.0, steps),
    "cosine": schedules.Cosine,
    "onecycle": schedules.OneCycle,
}


class WeightedTargets:
    """Targets with a weight for each row, indexed together as one array."""

    __slots__ = ("values", "weights")

    def __init__(self, values: Array, weights: Array) -> None:
        self.values, self.weights = values, weights

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> WeightedTargets:
        return WeightedTargets(self.values[rows], self.weights[rows])


def split_weights(targets: Any) -> tuple[Array, Array | None]:
    """The targets, and the weights if there are any."""
    if isinstance(targets, WeightedTargets):
        return targets.values, targets.weights
    return targets, None


class Epoch(NamedTuple):
    """The statistics of an epoch."""

    loss: float
    learning_rate: float
    seconds: float


class Rows(Protocol):
    """The rows to train on: they make batches, and compute the gradients of one."""

    def __len__(self) -> int: ...

    def batches(self, order: Array, parts: list[slice]) -> Iterator[Array]:
        """A batch for each part of the order; it is valid until the next."""

    def gradients(
        self, net: nn.Sequential, loss: Loss, optimizer: Optimizer, batch: Array, targets: Array
    ) -> float:
        """The loss of a batch, and its gradients in the network's own arrays, for the next step of the optimizer."""

    def order(self, rng: np.random.Generator) -> Array:
        """An order of an epoch in which rows are mixed within their partition alone."""


class InMemory:
    """The rows of an array, contiguous in C order."""

    def __init__(self, x: Array) -> None:
        self._x = x
        self._memory = Buffer()

    def __len__(self) -> int:
        return int(self._x.shape[0])

    def batches(self, order: Array, parts: list[slice]) -> Iterator[Array]:
        # Always a copy, so that the network does not keep the caller's x.
        for part in parts:
            shape = part.stop - part.start, *self._x.shape[1:]
            out = self._memory.take(shape, self._x.dtype)
            _core.take_rows(self._x, order[part], out)
            yield out

    def gradients(
        self, net: nn.Sequential, loss: Loss, optimizer: Optimizer, batch: Array, targets: Array
    ) -> float:
        z = net.forward(batch, training=True)
        values, weights = split_weights(targets)
        value, dz = loss(z, values, sample_weight=weights, out=z)
        net.backward(dz)
        return value

    def order(self, rng: np.random.Generator) -> Array:
        return rng.permutation(len(self))  # an array is one partition


class InSparseTable(InMemory):
    """The rows of a CSR table."""

    def batches(self, order: Array, parts: list[slice]) -> Iterator[Any]:
        for part in parts:
            yield self._x[order[part]]


def is_in_memory(x: Any) -> bool:
    """Whether it is an array or a CSR table, and no rows elsewhere."""
    return isinstance(x, np.ndarray) or is_sparse(x)


def rows_of(x: Any) -> Rows:
    """X as rows to train on."""
    if is_sparse(x):
        return InSparseTable(x)
    rows: Rows = InMemory(x) if isinstance(x, np.ndarray) else x
    return rows


class Patience:
    """Counts epochs whose score is not better than the best by more than tol."""

    def __init__(self, tol: float, most: float) -> None:
        self._tol, self._most = tol, most
        self._best, self._waited = -math.inf, 0

    def is_best(self, score: float) -> bool:
        """Report the score of an epoch, and return whether it is the best; NaN never is."""
        self._waited = 0 if score > self._best + self._tol else self._waited + 1
        if not score > self._best:
            return False
        self._best = score
        return True

    def wait_again(self) -> None:
        """Count from 0, against the same best score."""
        self._waited = 0

    @property
    def is_over(self) -> bool:
        """Whether there were too many of these epochs."""
        return self._waited >= self._most


class Training:
    """A network, and what trains it an epoch at a time; it goes on where it stopped.

    loss(z, targets, sample_weight=None, out=z) gives the loss and its gradient. The schedule is a function of the step,
    something that looks at every epoch, or None for a constant rate.
    """

    _adaptive: Patience | None = None
    is_over = False
    """Whether an adaptive rate has become so small that the training ends."""

    def __init__(
        self,
        net: nn.Sequential,
        loss: Loss,
        optimizer: Optimizer,
        schedule: FunctionOfStep | schedules.ReduceOnPlateau | Patience | None,
        rng: np.random.Generator,
    ) -> None:
        self.net, self.optimizer = net, optimizer
        self._loss, self._rng = loss, rng
        self._rate: FunctionOfStep | None = None
        self._plateau: schedules.ReduceOnPlateau | None = None
        if isinstance(schedule, schedules.ReduceOnPlateau):
            self._plateau = copy(schedule)
            optimizer.lr = schedule.lr
        elif isinstance(schedule, Patience):
            self._adaptive = schedule
        else:
            self._rate = schedule

    @cached_property
    def _grads(self) -> list[Array]:
        return grads_of(self.net)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_grads"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        # In what joblib wrote of version 0.1, the optimizer's arrays are not those of the network.
        vars(self).pop("_grads", None)
        self.optimizer.params = [param for pairs in _by_decay(self.net) for param, _ in pairs]
        keywords = getattr(self._loss, "keywords", {})
        if "class_weights" in keywords:  # its name in version 0.1
            keywords["class_weight"] = keywords.pop("class_weights")

    def epochs(self, x: Any, y: Array, batch_size: int, shuffle: HowToShuffle) -> Iterator[Epoch]:
        """Train one epoch over contiguous x and y at each iteration; x may be a CSR table, or Rows."""
        rows = rows_of(x)
        n = len(y)
        parts = batches(n, batch_size)
        order = np.arange(n)
        while True:
            begin = perf_counter()
            if isinstance(shuffle, str):
                order = rows.order(self._rng)
            elif shuffle:
                order = self._rng.permutation(n)
            targets, total = y[order], 0.0
            for part, batch in zip(parts, rows.batches(order, parts), strict=True):
                total += (part.stop - part.start) * self._step(rows, batch, targets[part])
                # The next step would fail on the NaN in its statistics, with an error that says less.
                if not math.isfinite(total):
                    break
            yield Epoch(total / n, float(self.optimizer.lr), perf_counter() - begin)

    def end_epoch(self, loss: float, score: float | None) -> None:
        """Pass the loss, or the validation score, to what sets the rate by it: a score with mode "max", or adaptive."""
        if self._adaptive is not None:
            self._adapt(self._adaptive, -loss if score is None else score)
        if self._plateau is not None:
            metric = loss if self._plateau.mode == "min" else score
            assert metric is not None  # check_schedule
            self.optimizer.lr = self._plateau.update(metric)

    def _adapt(self, patience: Patience, score: float) -> None:
        """Divide the rate, as scikit-learn does, after many epochs that were no better, or stop where it is small."""
        patience.is_best(score)
        if not patience.is_over:
            return
        self.is_over = self.optimizer.lr <= _LEAST_RATE
        if not self.is_over:
            self.optimizer.lr /= _ADAPTIVE_DIVISOR
            patience.wait_again()

    @property
    def is_adaptive(self) -> bool:
        """Whether is_over says when to stop."""
        return self._adaptive is not None

    def _step(self, rows: Rows, batch: Array, targets: Array) -> float:
        if self._rate is not None:
            self.optimizer.lr = self._rate(self.optimizer.step_count)
        loss = rows.gradients(self.net, self._loss, self.optimizer, batch, targets)
        self.optimizer.step(self._grads)
        return loss


def batches(n: int, size: int) -> list[slice]:
    """n rows in parts of that size; a last one of one row, in which BatchNorm finds no variance, joins that before."""
    ends = [*range(size, n, size), n]
    if n > size and n % size == 1:
        del ends[-2]
    return [slice(first, last) for first, last in pairwise([0, *ends])]


def why_not_finite(x: Any, y: Array, lr: float) -> str:
    """Advice where the loss is not finite."""
    array: Any
    for name, array in (("X", x), ("y", y)):
        largest = float(abs(array).max()) if is_in_memory(array) else array.largest()
        if largest > 1e3 and array.dtype.kind == "f":  # classes are numbered
            return f"{name} has values up to {largest:.3g}: standardise it"
    return f"the learning rate, {lr:.3g}, may be too high"


# ---- optimizers and schedules by name ----


def check_shuffle(how: Any) -> None:
    """Check a name; whatever else is true or false."""
    if isinstance(how, str) and how != "partitions":
        raise ValueError(f"shuffle must be True, False or 'partitions', got {how!r}")


def check_optimizer(how: Any) -> None:
    """Check a name, or a function."""
    if not callable(how):
        _checks.one_of(how, _OPTIMIZERS, "optimizer")


def optimizer_of(
    how: HowToOptimize, net: nn.Sequential, lr: float | None, weight_decay: float | None
) -> Optimizer:
    """The optimizer of a network's parameters; only weights of dense and convolution layers decay."""
    decaying, others = ([param for param, _ in pairs] for pairs in _by_decay(net))
    make = _OPTIMIZERS[how] if isinstance(how, str) else how
    made = make([{"params": decaying}, {"params": others, "weight_decay": 0.0}])
    if not isinstance(made, Optimizer):
        raise TypeError(
            f"optimizer must return an nnfast.optim.Optimizer, got {type(made).__name__}"
        )
    if lr is not None:
        made.lr = lr
    if weight_decay is not None:
        made.weight_decay = weight_decay
    elif isinstance(how, str) and made.weight_decay == 0:
        made.weight_decay = WEIGHT_DECAY
    return made


def check_learning_rate(how: Any, schedule: Any) -> None:
    """Check that it is constant or adaptive, and adaptive without a schedule."""
    _checks.one_of(how, ("constant", "adaptive"), "learning_rate")
    if how == "adaptive" and schedule is not None:
        raise ValueError("schedule must be None where learning_rate is 'adaptive'")


def check_schedule(how: Any, lr: float | None, scored: bool) -> None:
    """Check that it is None, a name, a function, or a ReduceOnPlateau whose metric there is."""
    if how is None or isinstance(how, str):
        if how is not None:
            _checks.one_of(how, _SCHEDULES, "schedule")
        return
    if isinstance(how, schedules.ReduceOnPlateau):
        if how.mode == "max" and not scored:
            raise ValueError("schedule must have mode 'min' where early_stopping is False")
    elif not callable(how):
        raise TypeError(
            "schedule must be None, a name, a function of the step or a ReduceOnPlateau, "
            f"got {type(how).__name__}"
        )
    if lr is not None:
        raise ValueError("learning_rate_init must be None where schedule has the rates")


def schedule_of(
    how: HowToSchedule, lr: float, steps: int
) -> FunctionOfStep | schedules.ReduceOnPlateau | None:
    """The schedule of a name from a rate on over a number of steps; others as they are."""
    return _SCHEDULES[how](lr, steps) if isinstance(how, str) else how


def grads_of(net: nn.Sequential) -> list[Array]:
    """The gradients, in the order of the optimizer's parameters."""
    return [grad for pairs in _by_decay(net) for _, grad in pairs]


def _by_decay(net: nn.Sequential) -> tuple[list[tuple[Array, Array]], list[tuple[Array, Array]]]:
    """Parameters with their gradients: the weights of dense and convolution layers, and the rest."""
    decaying: list[tuple[Array, Array]] = []
    others: list[tuple[Array, Array]] = []
    grads = net.named_grads()
    for name, param in net.named_params().items():
        decays = name.endswith("weight") and param.ndim > 1
        (decaying if decays else others).append((param, grads[name]))
    return decaying, others


# ---- progress ----


@contextmanager
def progress(shown: bool, total: int) -> Iterator[Callable[..., None]]:
    """A function that shows an epoch's numbers in a bar, or nothing."""
    if not shown:
        yield lambda **numbers: None
        return
    with _tqdm()(total=total, unit="epoch") as made:

        def show(**numbers: float) -> None:
            made.set_postfix(numbers, refresh=False)
            made.update()

        yield show


@contextmanager
def bar(shown: bool, what: str, unit: str) -> Iterator[Callable[[int], None]]:
    """A function that counts one more unit of so many in a bar, which goes away at the end, or nothing."""
    if not shown:
        yield lambda total: None
        return
    with _tqdm()(desc=what, unit=unit, leave=False) as made:

        def count(total: int) -> None:
            made.total = total
            made.update()

        yield count


def _tqdm() -> Any:
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError("verbose=True needs tqdm: pip install 'nnfast[sklearn]'") from error
    return tqdm
