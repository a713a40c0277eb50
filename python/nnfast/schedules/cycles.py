"""Rates that rise and fall, once or again and again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nnfast.schedules import _curves, _fields
from nnfast.schedules.schedule import Schedule

__all__ = ["CosineRestarts", "Cyclic", "OneCycle"]


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

    lr: float = field(metadata=_fields.RATE)
    T_0: int = field(metadata=_fields.COUNT)
    T_mult: float = field(default=1, metadata={"check": _fields.multiple})
    eta_min: float = field(default=0.0, metadata=_fields.RATE)
    lr_mult: float = field(default=1.0, metadata=_fields.ABOVE_0)

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
            lr = self.eta_min + _curves.compounded(
                lr - self.eta_min, self.lr_mult, number, "lr_mult"
            )
        return _curves.cosine(lr, self.eta_min, step - begin, length)

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

    base_lr: float = field(metadata=_fields.RATE)
    max_lr: float = field(metadata=_fields.RATE)
    step_size_up: int = field(metadata=_fields.COUNT)
    step_size_down: int | None = field(default=None, metadata={"check": _fields.count_or_none})
    mode: str = field(
        default="triangular",
        metadata={"check": _fields.one_of("triangular", "triangular2", "exp_range")},
    )
    gamma: float = field(default=1.0, metadata=_fields.SHARE)

    def _at(self, step: int) -> float:
        up = self.step_size_up
        down = self.step_size_down or up
        cycle, place = divmod(step, up + down)
        scale = {
            "triangular": 1.0,
            "triangular2": math.pow(0.5, cycle),
            "exp_range": math.pow(self.gamma, step),
        }[self.mode]
        highest = _curves.between(self.base_lr, self.max_lr, scale, 1 - scale)
        if place <= up:
            return _curves.line(self.base_lr, highest, place, up)
        return _curves.line(highest, self.base_lr, place - up, down)


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

    max_lr: float = field(metadata=_fields.RATE)
    total_steps: int = field(metadata=_fields.COUNT)
    pct_start: float = field(default=0.3, metadata=_fields.SHARE)
    anneal_strategy: str = field(default="cos", metadata={"check": _fields.one_of(*_curves.CURVES)})
    div_factor: float = field(default=25.0, metadata=_fields.ABOVE_0)
    final_div_factor: float = field(default=1e4, metadata=_fields.ABOVE_0)
    three_phase: bool = field(default=False, metadata=_fields.FLAG)

    def _at(self, step: int) -> float:
        step = min(step, self.total_steps - 1)
        curve = _curves.CURVES[self.anneal_strategy]
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
