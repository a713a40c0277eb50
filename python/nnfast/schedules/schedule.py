"""What all schedules are, and what is done with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from nnfast import _checks
from nnfast.schedules import _fields
from nnfast.schedules._fields import FunctionOfStep

__all__ = ["Schedule", "values"]


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
        _fields.check_fields(self)

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
        return self._at(_fields.count_or_0(step, "step"))

    def _at(self, step: int) -> float:
        raise NotImplementedError


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
    schedule, count = _fields.function(schedule, "schedule"), _fields.count_or_0(steps, "steps")
    return np.fromiter((rate(schedule, step) for step in range(count)), np.float64, count)


def rate(schedule: FunctionOfStep, step: int) -> float:
    """The rate that a caller's function returns, checked."""
    return _checks.real(schedule(step), "schedule(step)")
