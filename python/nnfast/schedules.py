"""Learning-rate schedules: pure functions of the step, to be called and combined.

A schedule is a frozen object that is called with a step and returns the rate of that step. Steps count from 0; whether
one is a batch or an epoch is up to the caller. Nothing is remembered from call to call: any step may be asked for, in
any order, a resumed run needs nothing but its step, and no rate drifts. A schedule that has an end stays at its last
value. Only ReduceOnPlateau has state: it depends on the metrics that the training reports.

Arguments are named as in ``torch.optim.lr_scheduler`` where that has them; `lr` is the rate a schedule starts from.
Warmup, Sequential and Scaled combine schedules, or any functions of the step. ``python -m nnfast.schedules PICTURE``
draws one of each.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> w = np.array([1.0, 2.0])
>>> opt = nf.optim.SGD([w])
>>> schedule = nf.schedules.Warmup(nf.schedules.Cosine(0.1, T_max=90), warmup_steps=10)
>>> for _ in range(100):
...     opt.lr = schedule(opt.step_count)
...     opt.step([2 * w])
>>> schedule(5), schedule(10), schedule(100)
(0.05, 0.1, 0.0)
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from itertools import pairwise
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from nnfast import _checks, _docs

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Cyclic",
    "Exponential",
    "InverseSqrt",
    "InverseTime",
    "Linear",
    "MultiStep",
    "OneCycle",
    "Polynomial",
    "ReduceOnPlateau",
    "Scaled",
    "Schedule",
    "Sequential",
    "Step",
    "Warmup",
    "values",
]

FunctionOfStep = Callable[[int], float]
"""The argument of combinators: a schedule, or any function of the step."""


# ---- checks: every field names its own ----


def _positive(value: Any, name: str) -> float:
    return _checks.positive(_checks.finite(value, name), name)


def _count(value: Any, name: str) -> int:
    return _checks.integer_from(value, 1, name)


def _count_or_0(value: Any, name: str) -> int:
    return _checks.integer_from(value, 0, name)


def _count_or_none(value: Any, name: str) -> int | None:
    return None if value is None else _count(value, name)


def _share(value: Any, name: str) -> float:
    return _checks.real_in(value, 0.0, 1.0, name)


def _not_nan(value: Any, name: str) -> float:
    return _checks.real_in(value, -math.inf, math.inf, name)


def _function(value: Any, name: str) -> FunctionOfStep:
    if not callable(value):
        raise TypeError(f"{name} must be a function of the step, got {type(value).__name__}")
    return value  # type: ignore[no-any-return]


def _items(value: Any, name: str) -> tuple[Any, ...]:
    try:
        return tuple(value)
    except TypeError:
        raise TypeError(f"{name} must be a sequence, got {type(value).__name__}") from None


def _functions(value: Any, name: str) -> tuple[FunctionOfStep, ...]:
    found = tuple(_function(item, f"{name}[{i}]") for i, item in enumerate(_items(value, name)))
    if not found:
        raise ValueError(f"{name} must not be empty")
    return found


def _milestones(value: Any, name: str) -> tuple[int, ...]:
    steps = tuple(
        _checks.integer_from(item, 1, f"{name}[{i}]") for i, item in enumerate(_items(value, name))
    )
    if any(after <= before for before, after in pairwise(steps)):
        raise ValueError(f"{name} must increase, got {steps}")
    return steps


def _multiple(value: Any, name: str) -> float:
    """At least 1; an int where it is whole, so that cycles are counted in integers."""
    multiple = _checks.finite(value, name)
    if multiple < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(multiple) if multiple.is_integer() else multiple


def _one_of(*choices: str) -> Callable[[Any, str], str]:
    def check(value: Any, name: str) -> str:
        return _checks.one_of(value, choices, name)

    return check


_RATE = _FACTOR = {"check": _checks.finite_not_negative}
_ABOVE_0 = {"check": _positive}
_COUNT = {"check": _count}
_COUNT_OR_0 = {"check": _count_or_0}
_SHARE = {"check": _share}
_REDUCTION = {"check": _checks.unit_interval}
_MILESTONES = {"check": _milestones}
_FLAG = {"check": lambda value, name: bool(value)}
_FUNCTION = {"check": _function}
_FUNCTIONS = {"check": _functions}


def _check_fields(instance: Any) -> None:
    """Replace the values of a dataclass by those that the checks of its fields return."""
    for entry in fields(instance):
        if check := entry.metadata.get("check"):
            value = check(getattr(instance, entry.name), entry.name)
            object.__setattr__(instance, entry.name, value)  # a frozen one allows no other way


# ---- curves ----


def _between(start: float, end: float, done: float, left: float) -> float:
    """The point between start (done 0, left 1) and end (done 1, left 0).

    Counted from the nearer end: never outside, exact at both ends, and close to each of them as exact as its share.
    """
    return start + (end - start) * done if done <= left else end + (start - end) * left


def _line(start: float, end: float, step: float, n: float) -> float:
    """A line of n steps."""
    return _between(start, end, step / n, (n - step) / n)


def _cosine(start: float, end: float, step: float, n: float, exponent: float = 1.0) -> float:
    """Half a wave of n steps. As squares, where 1 - cos and 1 + cos would cancel near the ends."""
    done, left = (math.sin(math.pi / 2 * (part / n)) ** 2 for part in (step, n - step))
    if exponent != 1:
        left = math.pow(left, exponent)
        done = 1 - left
    return _between(start, end, done, left)


def _geometric(start: float, end: float, step: float, n: float) -> float:
    """A factor a step, n times."""
    return start * math.pow(end / start, step / n)


def _flat(start: float, end: float, step: float, n: float) -> float:
    return start


_CURVES = {"cos": _cosine, "linear": _line}
_WARMUPS = {**_CURVES, "exponential": _geometric, "constant": _flat}


def _compounded(lr: float, gamma: float, n: int, name: str = "gamma") -> float:
    """lr gamma^n."""
    try:
        return lr * gamma**n
    except OverflowError:
        raise OverflowError(
            f"{name} must be smaller: {name}**{n} is too large for {gamma}"
        ) from None


def _rate(schedule: FunctionOfStep, step: int) -> float:
    """The rate that a caller's function returns, checked."""
    return _checks.real(schedule(step), "schedule(step)")


# ---- schedules ----


@dataclass(frozen=True)
class Schedule:
    """What all schedules are: immutable, comparable, picklable, and called with a step.

    Examples
    --------
    >>> import nnfast as nf
    >>> schedule = nf.schedules.Linear(0.1, 0.0, 100)
    >>> isinstance(schedule, nf.schedules.Schedule), schedule(50)
    (True, 0.05)
    >>> schedule
    Linear(lr=0.1, end_lr=0.0, total_iters=100)
    """

    def __post_init__(self) -> None:
        _check_fields(self)

    def __call__(self, step: SupportsIndex) -> float:
        """The rate of a step.

        Parameters
        ----------
        step : int
            Counted from 0; NumPy's integers too.

        Returns
        -------
        lr : float

        Raises
        ------
        TypeError
            If step is not an integer.
        ValueError
            If step is negative.
        """
        return self._at(_count_or_0(step, "step"))

    def _at(self, step: int) -> float:
        raise NotImplementedError


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

    lr: float = field(metadata=_RATE)

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

    lr: float = field(metadata=_RATE)
    step_size: int = field(metadata=_COUNT)
    gamma: float = field(default=0.1, metadata=_ABOVE_0)
    min_lr: float = field(default=0.0, metadata=_RATE)

    def _at(self, step: int) -> float:
        return max(self.min_lr, _compounded(self.lr, self.gamma, step // self.step_size))


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

    lr: float = field(metadata=_RATE)
    milestones: Sequence[int] = field(metadata=_MILESTONES)
    gamma: float = field(default=0.1, metadata=_ABOVE_0)
    min_lr: float = field(default=0.0, metadata=_RATE)

    def _at(self, step: int) -> float:
        return max(
            self.min_lr, _compounded(self.lr, self.gamma, bisect_right(self.milestones, step))
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

    lr: float = field(metadata=_RATE)
    gamma: float = field(metadata=_ABOVE_0)
    min_lr: float = field(default=0.0, metadata=_RATE)

    def _at(self, step: int) -> float:
        return max(self.min_lr, _compounded(self.lr, self.gamma, step))


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

    lr: float = field(metadata=_RATE)
    decay: float = field(metadata=_FACTOR)
    step_size: int = field(default=1, metadata=_COUNT)
    min_lr: float = field(default=0.0, metadata=_RATE)

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

    lr: float = field(metadata=_RATE)
    warmup_steps: int = field(metadata=_COUNT)
    min_lr: float = field(default=0.0, metadata=_RATE)

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

    lr: float = field(metadata=_RATE)
    end_lr: float = field(metadata=_RATE)
    total_iters: int = field(metadata=_COUNT)

    def _at(self, step: int) -> float:
        return _line(self.lr, self.end_lr, min(step, self.total_iters), self.total_iters)


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

    lr: float = field(metadata=_RATE)
    total_iters: int = field(metadata=_COUNT)
    power: float = field(default=1.0, metadata=_ABOVE_0)
    end_lr: float = field(default=0.0, metadata=_RATE)
    cycle: bool = field(default=False, metadata=_FLAG)

    def _at(self, step: int) -> float:
        falls = -(-step // self.total_iters) if self.cycle and step else 1
        n = falls * self.total_iters
        left = ((n - min(step, n)) / n) ** self.power
        return _between(self.lr, self.end_lr, 1 - left, left)


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

    lr: float = field(metadata=_RATE)
    T_max: int = field(metadata=_COUNT)
    eta_min: float = field(default=0.0, metadata=_RATE)
    exponent: float = field(default=1.0, metadata=_ABOVE_0)

    def _at(self, step: int) -> float:
        return _cosine(self.lr, self.eta_min, min(step, self.T_max), self.T_max, self.exponent)


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Cosine again and again, every cycle T_mult times as long as the one before, and lr_mult times as high.

    ``eta_min + (lr - eta_min) * lr_mult ** i * (1 + cos(pi * T_cur / T_i)) / 2``, where i counts the cycles and T_cur
    the steps of a cycle, whose length T_i is ``T_0 * T_mult ** i``. The first cycle starts from lr; eta_min is
    approached and never reached.

    Parameters
    ----------
    lr : float
    T_0 : int
        Steps of the first cycle.
    T_mult : float, default 1
        At least 1. Where it is not whole (in PyTorch it has to be), cycles begin between steps.
    eta_min : float, default 0
    lr_mult : float, default 1
        Positive. (Keras's m_mul.)

    Raises
    ------
    TypeError
        If a number is not real, or T_0 not an integer.
    ValueError
        If a rate is negative, T_0 or lr_mult not positive, T_mult below 1, a number not finite, or eta_min above lr
        while lr_mult is above 1.
    OverflowError
        When called, if the rate has climbed beyond all floats.

    References
    ----------
    Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.

    Examples
    --------
    >>> import nnfast as nf
    >>> schedule = nf.schedules.CosineRestarts(0.1, T_0=10, T_mult=2)
    >>> [round(schedule(step), 12) for step in (0, 5, 10, 20, 30)]
    [0.1, 0.05, 0.1, 0.05, 0.1]
    """

    lr: float = field(metadata=_RATE)
    T_0: int = field(metadata=_COUNT)
    T_mult: float = field(default=1, metadata={"check": _multiple})
    eta_min: float = field(default=0.0, metadata=_RATE)
    lr_mult: float = field(default=1.0, metadata=_ABOVE_0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr_mult > 1 and self.eta_min > self.lr:
            raise ValueError(
                f"eta_min must be at most lr where lr_mult is above 1, got {self.eta_min}"
            )

    def _at(self, step: int) -> float:
        number, begin, length = self._cycle(step)
        lr = self.lr
        if self.lr_mult != 1:
            lr = self.eta_min + _compounded(lr - self.eta_min, self.lr_mult, number, "lr_mult")
        return _cosine(lr, self.eta_min, step - begin, length)

    def _cycle(self, step: int) -> tuple[int, float, float]:
        """The number of a step's cycle, where it begins, and its length."""
        if self.T_mult == 1:
            number = step // self.T_0
            return number, number * self.T_0, self.T_0
        number = int(math.log1p(step / self.T_0 * (self.T_mult - 1)) / math.log(self.T_mult))
        # The logarithms round.
        while self._begin(number) > step:
            number -= 1
        while self._begin(number + 1) <= step:
            number += 1
        return number, self._begin(number), self.T_0 * self.T_mult**number

    def _begin(self, number: int) -> float:
        if isinstance(self.T_mult, int):
            grown: int = self.T_mult**number
            return self.T_0 * ((grown - 1) // (self.T_mult - 1))
        return self.T_0 * (math.expm1(number * math.log(self.T_mult)) / (self.T_mult - 1))


@dataclass(frozen=True)
class Cyclic(Schedule):
    """Up in a line and down again, cycle after cycle, from base_lr to max_lr.

    A cycle takes step_size_up steps up to ``base_lr + (max_lr - base_lr) * scale`` and step_size_down steps down.

    Parameters
    ----------
    base_lr, max_lr : float
        Either may be the higher.
    step_size_up : int
    step_size_down : int, optional
        By default step_size_up.
    mode : "triangular", "triangular2" or "exp_range", default "triangular"
        scale is 1; half as much in every cycle; or ``gamma ** step``.
    gamma : float in [0, 1], default 1
        Of "exp_range".

    Raises
    ------
    TypeError
        If a rate or gamma is not a real number, or a number of steps not an integer.
    ValueError
        If a rate is negative or not finite, a number of steps not positive, gamma not in [0, 1], or mode unknown.

    References
    ----------
    Smith, "Cyclical learning rates for training neural networks", 2017.

    Examples
    --------
    >>> import nnfast as nf
    >>> schedule = nf.schedules.Cyclic(0.25, 0.75, step_size_up=4, step_size_down=2)
    >>> [schedule(step) for step in (0, 2, 4, 5, 6)]
    [0.25, 0.5, 0.75, 0.5, 0.25]
    """

    base_lr: float = field(metadata=_RATE)
    max_lr: float = field(metadata=_RATE)
    step_size_up: int = field(metadata=_COUNT)
    step_size_down: int | None = field(default=None, metadata={"check": _count_or_none})
    mode: str = field(
        default="triangular", metadata={"check": _one_of("triangular", "triangular2", "exp_range")}
    )
    gamma: float = field(default=1.0, metadata=_SHARE)

    def _at(self, step: int) -> float:
        up = self.step_size_up
        down = self.step_size_down or up
        cycle, place = divmod(step, up + down)
        scale = {
            "triangular": 1.0,
            "triangular2": math.pow(0.5, cycle),
            "exp_range": math.pow(self.gamma, step),
        }[self.mode]
        highest = _between(self.base_lr, self.max_lr, scale, 1 - scale)
        if place <= up:
            return _line(self.base_lr, highest, place, up)
        return _line(highest, self.base_lr, place - up, down)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to max_lr and far down below the start: from max_lr / div_factor over max_lr to that / final_div_factor.

    The climb ends at step ``pct_start * total_steps - 1``, which need not be whole, the fall at ``total_steps - 1``, as
    in PyTorch. PyTorch's also moves the momentum; here ``opt.momentum`` may follow a schedule of its own.

    Parameters
    ----------
    max_lr : float
    total_steps : int
        Steps of the cycle; the last has the lowest rate.
    pct_start : float in [0, 1], default 0.3
        The share (not the percentage) of the steps that climb.
    anneal_strategy : "cos" or "linear", default "cos"
        The curve of each phase.
    div_factor : float, default 25
        The first rate is max_lr / div_factor.
    final_div_factor : float, default 1e4
        The last rate is max_lr / div_factor / final_div_factor.
    three_phase : bool, default False
        Fall back to the first rate in as many steps as the climb took, until ``2 * pct_start * total_steps - 2``, and
        only then to the last, as in the paper.

    Raises
    ------
    TypeError
        If a number is not real, or total_steps not an integer.
    ValueError
        If max_lr is negative, total_steps or a factor not positive, a number not finite, pct_start not in [0, 1], or
        anneal_strategy unknown.

    References
    ----------
    Smith, Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2017.

    Examples
    --------
    >>> import nnfast as nf
    >>> schedule = nf.schedules.OneCycle(1.0, total_steps=100)
    >>> schedule(0), schedule(29), f"{schedule(99):g}"
    (0.04, 1.0, '4e-06')
    """

    max_lr: float = field(metadata=_RATE)
    total_steps: int = field(metadata=_COUNT)
    pct_start: float = field(default=0.3, metadata=_SHARE)
    anneal_strategy: str = field(default="cos", metadata={"check": _one_of(*_CURVES)})
    div_factor: float = field(default=25.0, metadata=_ABOVE_0)
    final_div_factor: float = field(default=1e4, metadata=_ABOVE_0)
    three_phase: bool = field(default=False, metadata=_FLAG)

    def _at(self, step: int) -> float:
        step = min(step, self.total_steps - 1)
        curve = _CURVES[self.anneal_strategy]
        begin, lr = 0.0, self.max_lr / self.div_factor
        for end, target in self._phases():
            # A phase that ends where it begins is over.
            if step <= end and begin < end:
                return curve(lr, target, step - begin, end - begin)
            begin, lr = end, target
        return lr

    def _phases(self) -> list[tuple[float, float]]:
        """Where each phase ends, and its rate there."""
        first = self.max_lr / self.div_factor
        climbed = self.pct_start * self.total_steps - 1
        fallen = 2 * self.pct_start * self.total_steps - 2
        back = [(fallen, first)] if self.three_phase else []
        last = (self.total_steps - 1.0, first / self.final_div_factor)
        return [(climbed, self.max_lr), *back, last]


# ---- combinators ----


@dataclass(frozen=True)
class Warmup(Schedule):
    """A line up to a schedule's first rate, then the schedule, from its own step 0.

    ``start_lr + (schedule(0) - start_lr) * step / warmup_steps``, and ``schedule(step - warmup_steps)`` after that.

    Parameters
    ----------
    schedule : Schedule, or any function of the step
    warmup_steps : int
        The step that is the schedule's step 0. 0 is no warm-up.
    start_lr : float, default 0
        The rate of step 0, which changes nothing where it is 0.
    curve : "linear", "cos", "exponential" or "constant", default "linear"
        How it rises: in a line, in half a cosine wave, by a factor a step (from a positive start_lr), or at once, after
        the warm-up.
    overlap : bool, default False
        The schedule runs from step 0, below the warm-up, which leads to ``schedule(step)`` and ends in
        ``schedule(warmup_steps)``.

    Raises
    ------
    TypeError
        If schedule cannot be called, warmup_steps is not an integer, or start_lr not a real number; when called, if the
        schedule returns no number.
    ValueError
        If warmup_steps is negative, start_lr negative or not finite, 0 for "exponential", or curve unknown.

    References
    ----------
    Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017.

    Examples
    --------
    >>> import nnfast as nf
    >>> schedule = nf.schedules.Warmup(nf.schedules.Step(0.1, 30), warmup_steps=10, start_lr=0.05)
    >>> schedule(0), schedule(10), schedule(39), round(schedule(40), 12)
    (0.05, 0.1, 0.1, 0.01)
    """

    schedule: FunctionOfStep = field(metadata=_FUNCTION)
    warmup_steps: int = field(metadata=_COUNT_OR_0)
    start_lr: float = field(default=0.0, metadata=_RATE)
    curve: str = field(default="linear", metadata={"check": _one_of(*_WARMUPS)})
    overlap: bool = field(default=False, metadata=_FLAG)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.curve == "exponential" and self.start_lr == 0:
            raise ValueError("start_lr must be positive for an exponential warm-up, got 0.0")

    def _at(self, step: int) -> float:
        begin = 0 if self.overlap else self.warmup_steps
        target = _rate(self.schedule, max(0, step - begin))
        if step >= self.warmup_steps:
            return target
        return _WARMUPS[self.curve](self.start_lr, target, step, self.warmup_steps)


@dataclass(frozen=True)
class Sequential(Schedule):
    """One schedule after another, each from its own step 0.

    Parameters
    ----------
    schedules : sequence of Schedule, or of any functions of the step
    milestones : sequence of int
        The first steps of the second schedule, the third, ...; positive, increasing.

    Raises
    ------
    TypeError
        If one of schedules cannot be called, or milestones is not a sequence of integers; when called, if the schedule
        returns no number.
    ValueError
        If there are no schedules, milestones are not one fewer, not positive or do not increase.

    Examples
    --------
    >>> import nnfast as nf
    >>> parts = [nf.schedules.Constant(0.1), nf.schedules.Linear(0.1, 0.0, 20)]
    >>> schedule = nf.schedules.Sequential(parts, milestones=[80])
    >>> schedule(0), schedule(80), schedule(90), schedule(100)
    (0.1, 0.1, 0.05, 0.0)
    """

    schedules: Sequence[FunctionOfStep] = field(metadata=_FUNCTIONS)
    milestones: Sequence[int] = field(metadata=_MILESTONES)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.milestones) != len(self.schedules) - 1:
            raise ValueError(
                f"milestones must be one fewer than the {len(self.schedules)} schedules, "
                f"got {len(self.milestones)}"
            )

    def _at(self, step: int) -> float:
        place = bisect_right(self.milestones, step)
        begin = self.milestones[place - 1] if place else 0
        return _rate(self.schedules[place], step - begin)


@dataclass(frozen=True)
class Scaled(Schedule):
    """A schedule times a number: ``factor * schedule(step)``; for another batch size, or parameters that move slower.

    Parameters
    ----------
    schedule : Schedule, or any function of the step
    factor : float
        Not negative.

    Raises
    ------
    TypeError
        If schedule cannot be called, or factor is not a real number; when called, if the schedule returns no number.
    ValueError
        If factor is negative or not finite.

    Examples
    --------
    >>> import nnfast as nf
    >>> schedule = nf.schedules.Scaled(nf.schedules.Linear(0.1, 0.0, 100), 0.5)
    >>> schedule(0), schedule(50)
    (0.05, 0.025)
    """

    schedule: FunctionOfStep = field(metadata=_FUNCTION)
    factor: float = field(metadata=_FACTOR)

    def _at(self, step: int) -> float:
        return self.factor * _rate(self.schedule, step)


def values(schedule: FunctionOfStep, steps: int) -> NDArray[np.float64]:
    """The rates of the steps 0, 1, ..., steps - 1, to look at or to draw.

    Parameters
    ----------
    schedule : Schedule, or any function of the step
    steps : int
        How many.

    Returns
    -------
    rates : ndarray of float64, shape (steps,)

    Raises
    ------
    TypeError
        If schedule cannot be called or returns no number, or steps is not an integer.
    ValueError
        If steps is negative.

    Examples
    --------
    >>> import nnfast as nf
    >>> nf.schedules.values(nf.schedules.Linear(1.0, 0.0, 4), 6)
    array([1.  , 0.75, 0.5 , 0.25, 0.  , 0.  ])
    """
    schedule, count = _function(schedule, "schedule"), _count_or_0(steps, "steps")
    return np.fromiter((_rate(schedule, step) for step in range(count)), np.float64, count)


# ---- ReduceOnPlateau ----


@dataclass
class ReduceOnPlateau:
    """A fall by a factor whenever a metric has stopped improving; ``lr = plateau.update(metric)``.

    A metric is better if below ``best * (1 - threshold)``, or as mode and threshold_mode say; NaN never is. After more
    than `patience` updates without a better one, ``lr = max(lr * factor, min_lr)``, and the count begins anew after
    `cooldown` updates. The rule is that of PyTorch's ReduceLROnPlateau, to the bit.

    Parameters
    ----------
    lr : float
        The rate at first.
    mode : "min" or "max", default "min"
        Whether a lower metric is better, as a loss, or a higher one, as an accuracy.
    factor : float in [0, 1), default 0.1
    patience : int, default 10
        Updates without a better metric that are tolerated.
    threshold : float, default 1e-4
        How much better a metric has to be; not negative.
    threshold_mode : "rel" or "abs", default "rel"
        "rel" compares with ``best * (1 - threshold)``, or ``best * (1 + threshold)`` for "max"; where metrics are
        negative, worse ones pass. "abs" compares with ``best - threshold``, or ``best + threshold``.
    cooldown : int, default 0
        Updates after a fall that count as good.
    min_lr : float, default 0
    eps : float, default 1e-8
        A fall by no more than this is left out.

    Attributes
    ----------
    lr : float
        The rate now; may be set.
    best : float
        The best metric so far; at first inf, or -inf.
    num_bad_epochs, cooldown_counter : int
        Updates without a better one; updates that are left of the cooldown.

    Raises
    ------
    TypeError
        If a number is not real, or patience or cooldown not an integer.
    ValueError
        If a number is out of its range, or a mode unknown.

    Examples
    --------
    >>> import nnfast as nf
    >>> plateau = nf.schedules.ReduceOnPlateau(0.1, factor=0.5, patience=1)
    >>> [plateau.update(loss) for loss in (1.0, 0.9, 0.9, 0.9, 0.9, 0.9)]
    [0.1, 0.1, 0.1, 0.05, 0.05, 0.025]
    """

    lr: float = field(metadata=_RATE)
    _: KW_ONLY
    mode: str = field(default="min", metadata={"check": _one_of("min", "max")})
    factor: float = field(default=0.1, metadata=_REDUCTION)
    patience: int = field(default=10, metadata=_COUNT_OR_0)
    threshold: float = field(default=1e-4, metadata=_FACTOR)
    threshold_mode: str = field(default="rel", metadata={"check": _one_of("rel", "abs")})
    cooldown: int = field(default=0, metadata=_COUNT_OR_0)
    min_lr: float = field(default=0.0, metadata=_RATE)
    eps: float = field(default=1e-8, metadata=_FACTOR)
    best: float = field(init=False)
    num_bad_epochs: int = field(init=False, default=0)
    cooldown_counter: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        _check_fields(self)
        self.best = math.inf if self.mode == "min" else -math.inf

    def update(self, metric: SupportsFloat) -> float:
        """Report the metric of an epoch.

        Parameters
        ----------
        metric : float
            NaN counts as no better than any.

        Returns
        -------
        lr : float
            The rate from now on.

        Raises
        ------
        TypeError
            If metric is not a real number. Nothing is changed then.
        """
        value = _checks.real(metric, "metric")
        if self._is_better(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
        return self.lr

    def _is_better(self, metric: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            bound = self.best * (1 + sign * self.threshold)
        else:
            bound = self.best + sign * self.threshold
        return metric > bound if self.mode == "max" else metric < bound

    def _reduce(self) -> None:
        reduced = max(self.lr * self.factor, self.min_lr)
        if self.lr - reduced > self.eps:
            self.lr = reduced
        self.cooldown_counter = self.cooldown
        self.num_bad_epochs = 0

    def state_dict(self) -> dict[str, float]:
        """The state, from which an equal object can go on.

        Returns
        -------
        state : dict
            ``lr``, ``best``, ``num_bad_epochs`` and ``cooldown_counter``, floats and ints.

        Examples
        --------
        >>> import nnfast as nf
        >>> plateau = nf.schedules.ReduceOnPlateau(0.1)
        >>> plateau.update(2.5)
        0.1
        >>> plateau.state_dict()
        {'lr': 0.1, 'best': 2.5, 'num_bad_epochs': 0, 'cooldown_counter': 0}
        """
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from what state_dict returned.

        Parameters
        ----------
        state : mapping
            As returned by state_dict. What was given when the object was made is not part of it.

        Raises
        ------
        TypeError
            If state is not a mapping, or a value has the wrong type.
        ValueError
            If names are missing or too many, or a value is out of its range. Nothing is changed then.

        Examples
        --------
        >>> import nnfast as nf
        >>> saved = nf.schedules.ReduceOnPlateau(0.1).state_dict()
        >>> plateau = nf.schedules.ReduceOnPlateau(1.0)
        >>> plateau.load_state_dict(saved)
        >>> plateau.lr
        0.1
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a mapping, got {type(state).__name__}")
        if state.keys() != _STATE.keys():
            raise ValueError(f"state must have the names {', '.join(_STATE)}, got {list(state)}")
        checked = {name: check(state[name], f"state[{name!r}]") for name, check in _STATE.items()}
        for name, value in checked.items():
            setattr(self, name, value)


_STATE: dict[str, Callable[[Any, str], float]] = {
    "lr": _checks.finite_not_negative,
    "best": _not_nan,
    "num_bad_epochs": _count_or_0,
    "cooldown_counter": _count_or_0,
}


# ---- the picture ----

EXAMPLES: tuple[Schedule, ...] = (
    Constant(1.0),
    Step(1.0, 30, gamma=0.5),
    MultiStep(1.0, [20, 70], gamma=0.3),
    Exponential(1.0, 0.96, min_lr=0.1),
    InverseTime(1.0, 0.05),
    InverseSqrt(1.0, 15),
    Linear(1.0, 0.2, 100),
    Polynomial(1.0, 100, power=2.0),
    Cosine(1.0, 100),
    CosineRestarts(1.0, 16, T_mult=2),
    Cyclic(0.1, 1.0, 20, mode="triangular2"),
    OneCycle(1.0, 100),
    Warmup(Cosine(1.0, 80), 20),
    Sequential([Constant(1.0), Linear(1.0, 0.1, 40), Constant(0.05)], [40, 90]),
    Scaled(InverseSqrt(1.0, 15), 0.5),
)
"""One of each, as docs/schedules.md lists them."""


def save_picture(path: str, steps: int = 120) -> None:
    """Draw the examples, and ReduceOnPlateau beside the metric it watches.

    Parameters
    ----------
    path : str
        Where the picture goes; its ending says which kind it is.
    steps : int, default 120
    """
    from matplotlib.figure import Figure

    curves = {type(schedule).__name__: values(schedule, steps) for schedule in EXAMPLES}
    metric = np.maximum(1 - np.arange(steps) / 50, 0.2)  # falls, and stops falling
    plateau = ReduceOnPlateau(1.0, factor=0.5, patience=10)
    curves["ReduceOnPlateau"] = np.array([plateau.update(loss) for loss in metric])

    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(4, 4, sharex=True, sharey=True).ravel()
    for plot, (name, rates) in zip(axes, curves.items(), strict=True):
        plot.plot(rates, drawstyle="steps-post")
        plot.set_title(name)
        plot.grid(alpha=0.3)
    axes[-1].plot(metric, "--", color="grey", label="metric")
    axes[-1].legend()
    figure.supxlabel("step")
    figure.supylabel("learning rate")
    figure.savefig(path, dpi=90)


def main(arguments: list[str]) -> int:
    """``python -m nnfast.schedules PICTURE``."""
    if len(arguments) != 1:
        print("usage: python -m nnfast.schedules PICTURE", file=sys.stderr)
        return 2
    try:
        save_picture(arguments[0])
    except ModuleNotFoundError as missing:
        print(f"The picture needs {missing.name}: pip install matplotlib", file=sys.stderr)
        return 1
    return 0


_docs.finish(
    __name__,
    {
        "lr": "The rate it starts from; not negative.",
        "max_lr": "The highest rate; not negative.",
        "eta_min": "The least rate; not negative.",
        "min_lr": "The least rate; not negative.",
        "end_lr": "The last rate; not negative.",
        "factor": "What the rate is multiplied by at a fall.",
        "schedule": "A schedule, or any function of the step that gives a rate.",
        "schedules": "In their order.",
        "step_size_up": "Steps from base_lr to max_lr.",
        "rates": "In their order.",
    },
)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
