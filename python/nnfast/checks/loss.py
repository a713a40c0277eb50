"""The loss before training, with a penalty, and after training on a few rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _checks, _seeds, optim, penalties
from nnfast._seeds import Rng
from nnfast.checks.copies import Array, Loss, Probe, data_of, some_rows, without_dropout
from nnfast.checks.training import Batch, Trainee, run
from nnfast.losses import binary_cross_entropy_with_logits, softmax_cross_entropy, svm_loss
from nnfast.nn import Layer

Penalty = Callable[[list[Array], float], float]

_OF_LOGITS = softmax_cross_entropy, svm_loss, binary_cross_entropy_with_logits

# The logarithm takes this in place of a frequency of 0.
_RARE = 1e-3


# ---- at chance ----


@dataclass(frozen=True)
class LossAtChance:
    """What loss_at_chance found.

    Parameters
    ----------
    loss : float
        The loss of the network.
    expected : float
        The loss of a guess by chance.
    rows : int
        The number of rows that the losses are means over.

    Examples
    --------
    >>> import nnfast as nf
    >>> print(nf.checks.LossAtChance(loss=2.4, expected=2.302585, rows=1000))
    loss 2.4, at chance 2.303
    """

    loss: float
    expected: float
    rows: int

    @property
    def passed(self) -> bool:
        """Whether they are about the same.

        The loss is at least 0.75 times what is expected, as less can only be learned, and at most 2.5 times and 1.5
        more, as first weights of the usual size make scores that differ by 1 or 2; of N rows by 2 / √N more.
        """
        few = 2 / math.sqrt(self.rows)
        return (0.75 - few) * self.expected <= self.loss <= (2.5 + few) * self.expected + 1.5

    def __str__(self) -> str:
        return f"loss {self.loss:.4g}, at chance {self.expected:.4g}"


def loss_at_chance(
    net: Layer,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: Loss = softmax_cross_entropy,
    prior: Literal["uniform", "frequencies"] = "uniform",
) -> LossAtChance:
    """Compare the loss of an untrained network with that of guessing: ln C for the softmax of C classes.

    Parameters
    ----------
    net : Layer
        Untrained. It is copied, and its layers of nnfast drop nothing in that.
    X : array_like, shape (N, ...)
    y : array_like, shape (N, ...)
        What loss takes.
    loss : function, default nnfast.softmax_cross_entropy
        ``loss(scores, y)`` gives its value and the gradient with respect to the scores.
    prior : "uniform" or "frequencies", default "uniform"
        Whether guessing has scores that are all 0, or those that give the classes the probabilities they have in y. The
        latter is for a network whose last bias begins so; its loss is the entropy of y.

    Returns
    -------
    result : LossAtChance
        Its ``passed`` allows for what random first weights add.

    Raises
    ------
    TypeError
        If net is no Layer, loss no function, or X not of real numbers.
    ValueError
        If X and y have not as many rows, or prior is unknown.

    Notes
    -----
    What is expected is the loss itself, of scores that are all 0: ln C of softmax_cross_entropy (2.302 for ten
    classes), with label smoothing, too; C - 1 of svm_loss; ln 2 of binary_cross_entropy_with_logits. It means
    something only if the network's output are such scores.

    References
    ----------
    CS231n, "Before learning: sanity checks".

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> net = nf.nn.Sequential(nf.nn.Dense(64, 10, init="zeros"))
    >>> result = nf.checks.loss_at_chance(net, np.ones((100, 64)), np.arange(100) % 10)
    >>> round(result.loss, 3), round(result.expected, 3), result.passed
    (2.303, 2.303, True)
    """
    x, targets = data_of(net, X, y, loss)
    _checks.one_of(prior, ("uniform", "frequencies"), "prior")
    probe = Probe(without_dropout(net), x, targets, loss)
    guess = np.zeros_like(probe.scores())
    if prior == "frequencies":
        guess[...] = best_constant(guess, targets)
    return LossAtChance(probe.first, float(loss(guess, targets)[0]), len(x))


# ---- with a penalty ----


@dataclass(frozen=True)
class Regularization:
    """What regularization_raises_loss found.

    Parameters
    ----------
    plain : float
        The loss without the penalty.
    penalized : float
        And with it.

    Examples
    --------
    >>> import nnfast as nf
    >>> print(nf.checks.Regularization(plain=2.303, penalized=2.55))
    loss 2.303, with the penalty 2.55
    """

    plain: float
    penalized: float

    @property
    def passed(self) -> bool:
        """Whether the penalty has raised the loss, to a finite number."""
        return self.plain < self.penalized < math.inf

    def __str__(self) -> str:
        return f"loss {self.plain:.4g}, with the penalty {self.penalized:.4g}"


def regularization_raises_loss(
    net: Layer,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: Loss = softmax_cross_entropy,
    penalty: Penalty = penalties.l2,
    strength: float = 1e-2,
) -> Regularization:
    """Compare the loss with and without a penalty on the weights, which can but raise it.

    Parameters
    ----------
    net : Layer
        It is copied, and its layers of nnfast drop nothing in that.
    X : array_like, shape (N, ...)
    y : array_like, shape (N, ...)
        What loss takes.
    loss : function, default nnfast.softmax_cross_entropy
        ``loss(scores, y)`` gives its value and the gradient with respect to the scores.
    penalty : function, default nnfast.penalties.l2
        ``penalty(weights, strength)`` gives its value for a list of arrays: copies of the parameters of two axes or
        more, or of all if none has.
    strength : float, default 1e-2
        Positive.

    Returns
    -------
    result : Regularization

    Raises
    ------
    TypeError
        If net is no Layer, loss or penalty no function, or X not of real numbers.
    ValueError
        If X and y have not as many rows, or strength is not positive.

    References
    ----------
    CS231n, "Before learning: sanity checks".

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> net = nf.nn.Sequential(nf.nn.Dense(64, 10, rng=0))
    >>> x, labels = np.zeros((20, 64)), np.arange(20) % 10
    >>> print(nf.checks.regularization_raises_loss(net, x, labels, strength=0.1))
    loss 2.303, with the penalty 3.307
    """
    x, targets = data_of(net, X, y, loss)
    if not callable(penalty):
        raise TypeError(f"penalty must be a function, got {type(penalty).__name__}")
    strength = _checks.positive(strength, "strength")
    plain = Probe(without_dropout(net), x, targets, loss).first
    params = [param.copy() for param in net.params]
    weights = [param for param in params if param.ndim > 1] or params
    return Regularization(plain, plain + float(penalty(weights, strength)))


# ---- a tiny set ----


@dataclass(frozen=True)
class Overfitting:
    """What overfit_tiny found.

    Parameters
    ----------
    losses : ndarray of float64
        The loss before each step.
    accuracy : float or None
        The share of rows classified correctly in the end; None without classes.
    constant : float
        The loss of the best scores that are the same for all rows.
    rows : int
        The number of rows.
    rate : float
        Adam's learning rate.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> print(nf.checks.Overfitting(np.array([2.4, 1.1, 0.01]), 1.0, 2.3, rows=10, rate=1e-2))
    loss 2.4 to 0.01 on 10 rows in 3 steps, 100% right
    """

    losses: NDArray[np.float64]
    accuracy: float | None
    constant: float
    rows: int
    rate: float

    @property
    def passed(self) -> bool:
        """Whether all rows are right, or the loss at most 1/20 of that of the best constant or 0.001 of the first."""
        if self.accuracy == 1:
            return True
        return bool(len(self.losses)) and bool(
            self.losses[-1] <= max(0.05 * self.constant, 0.001 * self.losses[0])
        )

    def __str__(self) -> str:
        if not len(self.losses):
            return "the loss is no number"
        ends = f"loss {self.losses[0]:.4g} to {self.losses[-1]:.4g}"
        right = "" if self.accuracy is None else f", {self.accuracy:.0%} right"
        return f"{ends} on {self.rows} rows in {len(self.losses)} steps{right}"


def overfit_tiny(
    net: Layer,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: Loss = softmax_cross_entropy,
    size: int = 10,
    steps: int = 300,
    rates: Sequence[float] = (1e-2, 1e-3, 1e-1),
    rng: Rng = 0,
) -> Overfitting:
    """Train on a few rows alone, without dropout: a network that is put together rightly learns them by heart.

    Parameters
    ----------
    net : Layer
        It is copied, and its layers of nnfast drop nothing in that.
    X : array_like, shape (N, ...)
    y : array_like, shape (N, ...)
        What loss takes.
    loss : function, default nnfast.softmax_cross_entropy
        ``loss(scores, y)`` gives its value and the gradient with respect to the scores.
    size : int, default 10
        Rows, drawn at random, of which no two have the same X. A linear network learns as many as there are features.
    steps : int, default 300
        Steps of Adam over all of these rows, at most.
    rates : sequence of floats, default (1e-2, 1e-3, 1e-1)
        Adam's learning rates, each tried from the same beginning until one will do.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None, default 0
        For the rows: by default the same at every call.

    Returns
    -------
    result : Overfitting
        Of the first rate that will do, or the best.

    Raises
    ------
    TypeError
        If net is no Layer, loss no function, or X not of real numbers.
    ValueError
        If X and y have not as many rows, a number is not positive, or there is no rate.

    References
    ----------
    CS231n, "Before learning: sanity checks".

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> net = nf.nn.Sequential(nf.nn.Dense(20, 50, rng=0), nf.nn.ReLU(), nf.nn.Dense(50, 10, rng=1))
    >>> rng = np.random.default_rng(0)
    >>> x, labels = rng.standard_normal((100, 20)), rng.integers(0, 10, 100)
    >>> result = nf.checks.overfit_tiny(net, x, labels)
    >>> result.passed, result.accuracy
    (True, 1.0)
    """
    x, targets = data_of(net, X, y, loss)
    size, steps = _checks.integer_from(size, 1, "size"), _checks.integer_from(steps, 1, "steps")
    rates = [_checks.positive(rate, f"rates[{i}]") for i, rate in enumerate(rates)]
    if not rates:
        raise ValueError("rates must not be empty")
    few = _distinct_rows(x, targets, size, _seeds.generator_of(rng))
    start = without_dropout(net)
    found = []
    for rate in rates:
        found.append(_overfitted(start, few, loss, steps, rate))
        if found[-1].passed:
            return found[-1]
    return min(found, key=lambda result: result.losses[-1] if len(result.losses) else math.inf)


def _distinct_rows(x: Array, y: Array, size: int, rng: np.random.Generator) -> Batch:
    """Rows drawn at random; of equal rows only the first, as the others may contradict it."""
    drawn, targets = some_rows(x, y, 10 * size, rng)
    _, first = np.unique(drawn.reshape(len(drawn), -1), axis=0, return_index=True)
    rows = np.sort(first)[:size]
    return drawn[rows], targets[rows]


def _overfitted(net: Layer, few: Batch, loss: Loss, steps: int, rate: float) -> Overfitting:
    trainee = Trainee(net, lambda params: optim.Adam(params, lr=rate))
    x, y = few
    first = Probe(net, x, y, loss).scores()
    labels = labels_of(first, y)
    constant = constant_loss(first, y, loss)
    right: list[float] = []

    def watched(scores: Array, y: Array) -> tuple[float, Any]:
        if labels is not None:
            right.append(right_share(scores, labels))
        return loss(scores, y)

    def result(losses: list[float]) -> Overfitting:
        accuracy = right[-1] if right else None
        return Overfitting(np.array(losses), accuracy, constant, len(x), rate)

    def goes_on(losses: list[float]) -> bool:
        return not (losses and losses[-1] < 0.1 * losses[0] and result(losses).passed)

    return result(run(trainee, repeat(few, steps), steps, watched, goes_on).losses)


# ---- classes, and scores that do not depend on the input ----


def tells_of_chance(scores: Array, y: Array, loss: Loss) -> bool:
    """Whether scores of 0 are a guess by chance: those of classes, and those shaped as y if the loss takes logits."""
    takes_logits = getattr(loss, "func", loss) in _OF_LOGITS  # of a partial, the function
    return labels_of(scores, y) is not None and (y.ndim < scores.ndim or takes_logits)


def labels_of(scores: Array, y: Array) -> NDArray[np.intp] | None:
    """The class of each row, from indices, rows of probabilities, or 0 and 1; None if y has no classes."""
    several = _several(scores)
    if several and y.dtype.kind in "iu" and y.ndim == 1:
        return y.astype(np.intp)
    if y.shape != scores.shape or y.ndim > 2:
        return None
    if several:
        shares = (y >= 0).all() and np.allclose(y.sum(axis=1), 1)
        return y.argmax(axis=1) if shares else None
    return y.reshape(-1).astype(np.intp) if np.isin(y, (0, 1)).all() else None


def right_share(scores: Array, labels: NDArray[np.intp]) -> float:
    """The share of rows whose class has the highest score."""
    found = scores.argmax(axis=1) if _several(scores) else scores.reshape(-1) > 0
    return float((found == labels).mean())


def best_constant(scores: Array, y: Array) -> Array | float:
    """The logits of the classes' frequencies in y; 0 without classes."""
    labels = labels_of(scores, y)
    if labels is None:
        return 0.0
    if _several(scores):
        classes = np.arange(scores.shape[1])  # other labels are such as are ignored
        counts = (labels[:, None] == classes).sum(axis=0)
        return np.asarray(np.log(np.maximum(counts / max(counts.sum(), 1), _RARE)))
    share = np.clip(labels.mean(), _RARE, 1 - _RARE)
    return math.log(share / (1 - share))


def constant_loss(scores: Array, y: Array, loss: Loss) -> float:
    """The loss of the best scores that are the same for all rows: the logits, or the mean of the targets."""
    candidates = [best_constant(scores, y)]
    if y.shape == scores.shape:
        candidates.append(np.asarray(y.mean(axis=0)))
    found = []
    for candidate in candidates:
        constant = np.zeros_like(scores)
        constant[...] = candidate
        found.append(float(loss(constant, y)[0]))
    return min(found)


def _several(scores: Array) -> bool:
    """Whether there is a score for each class, not one for two."""
    return scores.ndim == 2 and scores.shape[1] > 1
