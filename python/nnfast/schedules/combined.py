"""Schedules made of others, or of any functions of the step."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from nnfast.schedules import _curves, _fields
from nnfast.schedules._fields import FunctionOfStep
from nnfast.schedules.schedule import Schedule, rate

__all__ = ["Scaled", "Sequential", "Warmup"]


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

    schedule: FunctionOfStep = field(metadata=_fields.FUNCTION)
    warmup_steps: int = field(metadata=_fields.COUNT_OR_0)
    start_lr: float = field(default=0.0, metadata=_fields.RATE)
    curve: str = field(default="linear", metadata={"check": _fields.one_of(*_curves.WARMUPS)})
    overlap: bool = field(default=False, metadata=_fields.FLAG)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.curve == "exponential" and self.start_lr == 0:
            raise ValueError("start_lr must be positive for an exponential warm-up, got 0.0")

    def _at(self, step: int) -> float:
        begin = 0 if self.overlap else self.warmup_steps
        target = rate(self.schedule, max(0, step - begin))
        if step >= self.warmup_steps:
            return target
        return _curves.WARMUPS[self.curve](self.start_lr, target, step, self.warmup_steps)


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

    schedules: Sequence[FunctionOfStep] = field(metadata=_fields.FUNCTIONS)
    milestones: Sequence[int] = field(metadata=_fields.MILESTONES)

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
        return rate(self.schedules[place], step - begin)


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

    schedule: FunctionOfStep = field(metadata=_fields.FUNCTION)
    factor: float = field(metadata=_fields.FACTOR)

    def _at(self, step: int) -> float:
        return self.factor * rate(self.schedule, step)
