"""Rates that stay or fall."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from nnfast.schedules import _curves, _fields
from nnfast.schedules.schedule import Schedule

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "InverseSqrt",
    "InverseTime",
    "Linear",
    "MultiStep",
    "Polynomial",
    "Step",
]


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate at every step: a part of Sequential, or what others are compared with.

    Parameters
    ----------
    lr : float
        Not negative, as all rates.

    Raises
    ------
    TypeError
        If lr is not a real number.
    ValueError
        If lr is negative or not finite.

    Examples
    --------
    >>> import nnfast as nf
    >>> nf.schedules.Constant(0.1)(1000)
    0.1
    """

    lr: float = field(metadata=_fields.RATE)

    def _at(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class Step(Schedule):
    """A fall by a factor every so many steps: ``max(min_lr, lr * gamma ** (step // step_size))``.

    Parameters
    ----------
    lr : float
    step_size : int
        Steps from fall to fall.
    gamma : float, default 0.1
        Positive.
    min_lr : float, default 0
        The least rate.

    Raises
    ------
    TypeError
        If a rate or gamma is not a real number, or step_size not an integer.
    ValueError
        If a rate is negative, gamma or step_size not positive, or one of them not finite.

    Examples
    --------
    >>> import nnfast as nf
    >>> schedule = nf.schedules.Step(0.8, step_size=30, gamma=0.5)
    >>> schedule(29), schedule(30), schedule(60)
    (0.8, 0.4, 0.2)
    """

    lr: float = field(metadata=_fields.RATE)
    step_size: int = field(metadata=_fields.COUNT)
    gamma: float = field(default=0.1, metadata=_fields.ABOVE_0)
    min_lr: float = field(default=0.0, metadata=_fields.RATE)

    def _at(self, step: int) -> float:
        return max(self.min_lr, _curves.compounded(self.lr, self.gamma, step // self.step_size))


@dataclass(frozen=True)
class MultiStep(Schedule):
    """A fall by a factor at every milestone: ``max(min_lr, lr * gamma ** (number of milestones <= step))``.

    Parameters
    ----------
    lr : float
    milestones : sequence of int
        The first steps of the lower rates; positive, increasing.
    gamma : float, default 0.1
        Positive.
    min_lr : float, default 0
        The least rate.

    Raises
    ------
    TypeError
        If a rate or gamma is not a real number, or milestones not a sequence of integers.
    ValueError
        If a rate is negative, gamma or a milestone not positive, a number not finite, or milestones do not increase.

    Examples
    --------
    >>> import nnfast as nf
    >>> schedule = nf.schedules.MultiStep(0.8, milestones=[30, 80], gamma=0.5)
    >>> schedule(29), schedule(30), schedule(80)
    (0.8, 0.4, 0.2)
    """

    lr: float = field(metadata=_fields.RATE)
    milestones: Sequence[int] = field(metadata=_fields.MILESTONES)
    gamma: float = field(default=0.1, metadata=_fields.ABOVE_0)
    min_lr: float = field(default=0.0, metadata=_fields.RATE)

    def _at(self, step: int) -> float:
        return max(
            self.min_lr,
            _curves.compounded(self.lr, self.gamma, bisect_right(self.milestones, step)),
        )


@dataclass(frozen=True)
class Exponential(Schedule):
    """A fall by a factor at every step: ``max(min_lr, lr * gamma ** step)``.

    Parameters
    ----------
    lr : float
    gamma : float
        Positive. Above 1 the rate climbs, to search the range of rates.
    min_lr : float, default 0
        The least rate.

    Raises
    ------
    TypeError
        If a number is not real.
    ValueError
        If a rate is negative, gamma not positive, or one of them not finite.
    OverflowError
        When called, if the rate has climbed beyond all floats.

    Examples
    --------
    >>> import nnfast as nf
    >>> schedule = nf.schedules.Exponential(0.8, gamma=0.5)
    >>> schedule(0), schedule(1), schedule(2)
    (0.8, 0.4, 0.2)
    """

    lr: float = field(metadata=_fields.RATE)
    gamma: float = field(metadata=_fields.ABOVE_0)
    min_lr: float = field(default=0.0, metadata=_fields.RATE)

    def _at(self, step: int) -> float:
        return max(self.min_lr, _curves.compounded(self.lr, self.gamma, step))


@dataclass(frozen=True)
class InverseTime(Schedule):
    """1/t decay: ``max(min_lr, lr / (1 + decay * (step // step_size)))``.

    Parameters
    ----------
    lr : float
    decay : float
        Not negative; after 1 / decay falls the rate is half of lr.
    step_size : int, default 1
        Steps from fall to fall.
    min_lr : float, default 0
        The least rate.

    Raises
    ------
    TypeError
        If a number is not real, or step_size not an integer.
    ValueError
        If a number is negative or not finite, or step_size not positive.

    References
    ----------
    Li, Karpathy, Johnson, "CS231n: Convolutional neural networks for visual recognition", notes on annealing, 2016.

    Examples
    --------
    >>> import nnfast as nf
    >>> schedule = nf.schedules.InverseTime(0.8, decay=0.1)
    >>> schedule(0), schedule(10), schedule(30)
    (0.8, 0.4, 0.2)
    """

    lr: float = field(metadata=_fields.RATE)
    decay: float = field(metadata=_fields.FACTOR)
    step_size: int = field(default=1, metadata=_fields.COUNT)
    min_lr: float = field(default=0.0, metadata=_fields.RATE)

    def _at(self, step: int) -> float:
        return max(self.min_lr, self.lr / (1 + self.decay * (step // self.step_size)))


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """Linear warm-up, then a fall with the root: ``lr * min(t / warmup_steps, sqrt(warmup_steps / t))``, t = step + 1.

    The schedule of the Transformer. Its paper counts steps from 1, hence t, and takes the peak from the model's width,
    ``lr = (d_model * warmup_steps) ** -0.5``.

    Parameters
    ----------
    lr : float
        The highest rate, that of step warmup_steps - 1.
    warmup_steps : int
        At least 1, which is no warm-up.
    min_lr : float, default 0
        The least rate after the warm-up.

    Raises
    ------
    TypeError
        If a rate is not a real number, or warmup_steps not an integer.
    ValueError
        If a rate is negative or not finite, or warmup_steps not positive.

    References
    ----------
    Vaswani et al., "Attention is all you need", 2017.

    Examples
    --------
    >>> import nnfast as nf
    >>> schedule = nf.schedules.InverseSqrt(0.8, warmup_steps=4)
    >>> schedule(0), schedule(3), schedule(15), schedule(63)
    (0.2, 0.8, 0.4, 0.2)
    """

    lr: float = field(metadata=_fields.RATE)
    warmup_steps: int = field(metadata=_fields.COUNT)
    min_lr: float = field(default=0.0, metadata=_fields.RATE)

    def _at(self, step: int) -> float:
        t = step + 1
        if t < self.warmup_steps:
            return self.lr * (t / self.warmup_steps)
        return max(self.min_lr, self.lr * math.sqrt(self.warmup_steps / t))


@dataclass(frozen=True)
class Linear(Schedule):
    """A line from one rate to another: ``lr + (end_lr - lr) * step / total_iters``, then end_lr.

    Parameters
    ----------
    lr, end_lr : float
        Either may be the higher. (PyTorch's LinearLR takes factors of one rate.)
    total_iters : int
        The first step that has end_lr.

    Raises
    ------
    TypeError
        If a rate is not a real number, or total_iters not an integer.
    ValueError
        If a rate is negative or not finite, or total_iters not positive.

    Examples
    --------
    >>> import nnfast as nf
    >>> schedule = nf.schedules.Linear(0.1, 0.0, total_iters=100)
    >>> schedule(0), schedule(50), schedule(100), schedule(101)
    (0.1, 0.05, 0.0, 0.0)
    """

    lr: float = field(metadata=_fields.RATE)
    end_lr: float = field(metadata=_fields.RATE)
    total_iters: int = field(metadata=_fields.COUNT)

    def _at(self, step: int) -> float:
        return _curves.line(self.lr, self.end_lr, min(step, self.total_iters), self.total_iters)


@dataclass(frozen=True)
class Polynomial(Schedule):
    """A power's fall: ``end_lr + (lr - end_lr) * (1 - step / total_iters) ** power``, then end_lr.

    Parameters
    ----------
    lr : float
    total_iters : int
        The first step that has end_lr.
    power : float, default 1
        Positive: 1 is a line, above 1 the fall is steep first, below 1 last.
    end_lr : float, default 0
    cycle : bool, default False
        Instead of ending go back up, to where a fall of twice, three times, ... total_iters would be.

    Raises
    ------
    TypeError
        If lr, power or end_lr is not a real number, or total_iters not an integer.
    ValueError
        If a rate is negative, power or total_iters not positive, or one of them not finite.

    References
    ----------
    Chen et al., "DeepLab: semantic image segmentation with deep convolutional nets, atrous convolution, and fully
    connected CRFs", 2016 ("poly", power 0.9).

    Examples
    --------
    >>> import nnfast as nf
    >>> schedule = nf.schedules.Polynomial(0.8, total_iters=100, power=2.0)
    >>> schedule(0), schedule(50), schedule(100)
    (0.8, 0.2, 0.0)
    """

    lr: float = field(metadata=_fields.RATE)
    total_iters: int = field(metadata=_fields.COUNT)
    power: float = field(default=1.0, metadata=_fields.ABOVE_0)
    end_lr: float = field(default=0.0, metadata=_fields.RATE)
    cycle: bool = field(default=False, metadata=_fields.FLAG)

    def _at(self, step: int) -> float:
        falls = -(-step // self.total_iters) if self.cycle and step else 1
        n = falls * self.total_iters
        left = ((n - min(step, n)) / n) ** self.power
        return _curves.between(self.lr, self.end_lr, 1 - left, left)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine wave: ``eta_min + (lr - eta_min) * ((1 + cos(pi * step / T_max)) / 2) ** exponent``, then eta_min.

    PyTorch's CosineAnnealingLR climbs again after T_max; this one stays at eta_min. CosineRestarts starts anew.

    Parameters
    ----------
    lr : float
    T_max : int
        The first step that has eta_min.
    eta_min : float, default 0
    exponent : float, default 1
        Positive; above 1 the rate falls earlier.

    Raises
    ------
    TypeError
        If a rate or exponent is not a real number, or T_max not an integer.
    ValueError
        If a rate is negative, exponent or T_max not positive, or one of them not finite.

    References
    ----------
    Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.

    Examples
    --------
    >>> import nnfast as nf
    >>> schedule = nf.schedules.Cosine(0.1, T_max=100)
    >>> schedule(0), round(schedule(50), 12), schedule(100), schedule(101)
    (0.1, 0.05, 0.0, 0.0)
    """

    lr: float = field(metadata=_fields.RATE)
    T_max: int = field(metadata=_fields.COUNT)
    eta_min: float = field(default=0.0, metadata=_fields.RATE)
    exponent: float = field(default=1.0, metadata=_fields.ABOVE_0)

    def _at(self, step: int) -> float:
        return _curves.cosine(
            self.lr, self.eta_min, min(step, self.T_max), self.T_max, self.exponent
        )
