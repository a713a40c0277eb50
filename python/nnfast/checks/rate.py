"""Learning rates: the range search, and whether one is too high or too low."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _checks, _seeds, optim
from nnfast._seeds import Rng
from nnfast.checks.copies import Loss, Probe, data_of, without_dropout
from nnfast.checks.training import Batch, Maker, Trainee, batches_of, run
from nnfast.checks.weights import not_finite
from nnfast.losses import softmax_cross_entropy
from nnfast.nn import Layer
from nnfast.optim.optimizer import Optimizer

# Of the running average of the losses; how many times the first loss is too much; the part of the fall that counts as
# its beginning; the share of the rate of the lowest loss that is suggested.
_SMOOTHING, _TOO_MUCH, _BEGINNING, _SHARE = 0.9, 4.0, 0.1, 0.1


# ---- the range search ----


@dataclass(frozen=True)
class RateRange:
    """What learning_rate_range found.

    Parameters
    ----------
    rates : ndarray of float64
        The learning rate of each step.
    losses : ndarray of float64
        The loss of the batch of each step, before its update.
    diverged : bool
        Whether the search ended before its last rate, as the loss was not finite or four times the first.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> rates = np.array([0.001, 0.01, 0.1, 1.0])
    >>> found = nf.checks.RateRange(rates, np.array([2.3, 2.0, 0.5, 9.0]), diverged=True)
    >>> found.lowest, found.highest
    (0.01, 0.1)
    >>> print(found)
    the loss falls at rates from 1.0e-02 to 1.0e-01; suggestion 1.0e-02
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    diverged: bool

    @property
    def smoothed(self) -> NDArray[np.float64]:
        """The running average of the losses: 0.9 old and 0.1 new, corrected for its beginning."""
        averages, total, weight = [], 0.0, 0.0
        for loss in self.losses:
            total = _SMOOTHING * total + (1 - _SMOOTHING) * loss
            weight = _SMOOTHING * weight + (1 - _SMOOTHING)
            averages.append(total / weight)
        return np.array(averages)

    @property
    def lowest(self) -> float | None:
        """The rate from which on a tenth of the smoothed loss's fall is made; None if it has not fallen."""
        ends = self._ends()
        return None if ends is None else float(self.rates[ends[0]])

    @property
    def highest(self) -> float | None:
        """The rate at which the smoothed loss is least; None if it has not fallen."""
        ends = self._ends()
        return None if ends is None else float(self.rates[ends[1]])

    @property
    def suggestion(self) -> float | None:
        """A tenth of the highest, but not below the lowest; None if the loss has not fallen."""
        if self.lowest is None or self.highest is None:
            return None
        return max(_SHARE * self.highest, self.lowest)

    def _ends(self) -> tuple[int, int] | None:
        """Where the smoothed loss falls for good, and where it is least, if that is more than the noise at first."""
        if not self.losses.size:
            return None
        smoothed = self.smoothed
        first = self.losses[: max(1, len(self.losses) // 10)]
        best = int(np.argmin(smoothed))
        fall = first.mean() - smoothed[best]
        if fall <= first.std():
            return None
        above = np.flatnonzero(smoothed[: best + 1] > first.mean() - _BEGINNING * fall)
        return int(above[-1]) + 1 if above.size else 0, best

    def __str__(self) -> str:
        if self.suggestion is None:
            return f"the loss falls at none of the rates to {self.rates.max(initial=0):.1e}"
        ends = f"{self.lowest:.1e} to {self.highest:.1e}"
        return f"the loss falls at rates from {ends}; suggestion {self.suggestion:.1e}"

    def plot(self, axes: Any) -> None:
        """Draw the losses over the rates.

        Parameters
        ----------
        axes : matplotlib.axes.Axes
        """
        axes.plot(self.rates, self.losses, color="#1f77b4", alpha=0.3, label="loss of a batch")
        axes.plot(self.rates, self.smoothed, color="#1f77b4", label="smoothed")
        if self.suggestion is not None:
            axes.axvspan(self.lowest, self.highest, color="#2ca02c", alpha=0.15, label="it falls")
            label = f"suggestion {self.suggestion:.1e}"
            axes.axvline(self.suggestion, color="#d62728", ls="--", label=label)
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
        axes.grid(alpha=0.3)
        axes.legend()

    def save_picture(self, path: str | os.PathLike[str]) -> None:
        """Save the plot as a picture.

        Parameters
        ----------
        path : path-like
            Its ending says which kind it is.

        Raises
        ------
        ImportError
            If there is no matplotlib: ``pip install matplotlib``.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("the picture needs matplotlib: pip install matplotlib") from error
        figure = Figure(figsize=(6, 4), layout="constrained")
        self.plot(figure.subplots())
        figure.savefig(path, dpi=100)


def learning_rate_range(
    net: Layer,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: Loss = softmax_cross_entropy,
    optimizer: Optimizer | Maker = optim.Adam,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
    rng: Rng = 0,
) -> RateRange:
    """Search for the learning rates that train a network: one training whose rate grows by a factor every step.

    Parameters
    ----------
    net : Layer
        It is copied.
    X : array_like, shape (N, ...)
    y : array_like, shape (N, ...)
        What loss takes.
    loss : function, default nnfast.softmax_cross_entropy
        ``loss(scores, y)`` gives its value and the gradient with respect to the scores.
    optimizer : function or optimizer, default nnfast.optim.Adam
        A function of a list of arrays that gives an optimizer of them, such as a class of nnfast.optim, or what has
        ``step(grads)`` and the rate as ``lr``; or an optimizer of nnfast for net's parameters, which is copied.
    low, high : float, default 1e-7 and 10
        The first and the last rate.
    steps : int, default 100
        From one to the other; at least 2.
    batch_size : int, default 32
        Batches are drawn at random, and what does not fill one is left out in each epoch.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None, default 0
        For the batches: by default the same at every call.

    Returns
    -------
    found : RateRange
        The curve, the range in which the loss falls, a suggestion, and ``save_picture(path)``.

    Raises
    ------
    TypeError
        If net is no Layer, loss or optimizer no function, or X not of real numbers.
    ValueError
        If X and y have not as many rows, a number is not positive, high is not above low, or the optimizer is of other
        parameters.

    Notes
    -----
    Steps are few, so that the rate of the lowest loss is about as high as a rate can be: a constant one had better be a
    tenth of it. For a cycle or OneCycle, `lowest` and `highest` are its ends.

    References
    ----------
    Smith, "Cyclical learning rates for training neural networks", 2017 (2015), section 3.3.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((256, 8))
    >>> labels = (x[:, 0] > x[:, 1]).astype(int)
    >>> net = nf.nn.Sequential(nf.nn.Dense(8, 32, rng=0), nf.nn.ReLU(), nf.nn.Dense(32, 2, rng=1))
    >>> found = nf.checks.learning_rate_range(net, x, labels, optimizer=nf.optim.SGD)
    >>> found.lowest < found.suggestion < found.highest, found.diverged
    (True, True)
    """
    x, targets = data_of(net, X, y, loss)
    low, high = _checks.positive(low, "low"), _checks.positive(_checks.finite(high, "high"), "high")
    if low >= high:
        raise ValueError(f"high must be above low, got {high} and {low}")
    steps = _checks.integer_from(steps, 2, "steps")
    size = _checks.integer_from(batch_size, 1, "batch_size")
    trainee = Trainee(net, optimizer)
    batches = batches_of(x, targets, size, True, _seeds.generator_of(rng))
    rates = np.geomspace(low, high, steps)

    def goes_on(losses: list[float]) -> bool:
        trainee.set_rate(float(rates[len(losses)]))
        return not losses or losses[-1] <= _TOO_MUCH * abs(losses[0])

    losses = run(trainee, batches, steps, loss, goes_on).losses
    found = np.array(losses)
    return RateRange(rates[: len(losses)], found, len(losses) < steps)


# ---- whether a rate is too high or too low ----


class Trials:
    """Short trainings from the same start at the user's rate times a factor, and the loss that each comes to.

    Parameters
    ----------
    net : Layer
    rows : tuple of ndarrays
        (x, y) of which the loss is taken before and after.
    loss : function
    make : function
        Gives a Trainee of net at the user's rate.
    batches : function
        Gives the batches of a training, the same each time.
    steps : int
        Of each training.
    """

    def __init__(
        self,
        net: Layer,
        rows: Batch,
        loss: Loss,
        make: Callable[[], Trainee],
        batches: Callable[[], Iterator[Batch]],
        steps: int,
    ) -> None:
        self._rows, self._loss, self._make, self._batches = rows, loss, make, batches
        self._probe = Probe(without_dropout(net), *rows, loss)
        self.steps, self.start, self.rate = steps, self._probe.first, make().optimizer.lr
        self._known: dict[tuple[float, int], float] = {}
        self._reason = ""

    def story(self) -> str:
        """A description of the training at the user's rate."""
        self.after()
        steps = max(steps for factor, steps in self._known if factor == 1)
        after = self.after(1.0, steps)
        end = f"to {after:.4g}" if math.isfinite(after) else f"diverges{self._reason}"
        return f"loss {self.start:.4g} {end} in {steps} steps at {self.rate:.1g}"

    def after(self, factor: float = 1.0, steps: int | None = None) -> float:
        """The loss after a training; infinite if it diverged."""
        key = factor, steps or self.steps
        if key not in self._known:
            self._known[key] = self._trained(*key)
        return self._known[key]

    def _trained(self, factor: float, steps: int) -> float:
        trainee = self._make()
        trainee.set_rate(factor * self.rate)
        found = run(trainee, self._batches(), steps, self._loss)
        if found.diverged:
            if factor == 1:
                self._reason = self._where(trainee.net)
            return math.inf
        self._probe.take_params(trainee.net)
        try:
            value = self._probe.value()
        except ValueError:  # the last update has gone where a layer does not follow
            return math.inf
        return value if math.isfinite(value) else math.inf

    def _where(self, net: Layer) -> str:
        """Where a network breaks that has diverged."""
        try:
            where = not_finite(net, *self._rows, self._loss)
        except ValueError as error:
            return f" ({error})"
        return f" (first in {where})" if where else ""


def too_high(trials: Trials, constant: float) -> float | None:
    """The factor by which a lower rate does much better than the user's, where that does not learn.

    It does not learn if its loss is 0.8 times the constant's or more, after four times the steps, too: momentum may
    take the loss up before it comes down. A lower rate does much better if it comes to 0.6 times that; where the loss
    has grown out of all measure, below the start is enough.
    """
    own = trials.after()
    if math.isfinite(own) and own >= 0.8 * constant:
        own = trials.after(1.0, 4 * trials.steps)
    if own < 0.8 * constant:
        return None
    grown = own > 2 * max(constant, trials.start)
    for factor in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        lower = trials.after(factor)
        if lower < 0.6 * min(own, constant) or (grown and lower < trials.start):
            return factor
    return None


def too_low(trials: Trials) -> float | None:
    """The factor by which a higher rate takes off a third of the loss, of which the user's moves a hundredth."""
    own = trials.start - trials.after()
    if abs(own) > 0.01 * abs(trials.start):
        return None
    for factor in (1e1, 1e2, 1e3, 1e4, 1e5, 1e6):
        higher = trials.start - trials.after(factor)
        if higher > abs(trials.start) / 3 and own < 0.01 * higher:
            return factor
    return None
