"""What running statistics are updated by: conventions, momentum, the counter of batches."""

from __future__ import annotations

from types import EllipsisType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnfast import _arrays, _checks

Convention = Literal["torch", "keras", "cs231n"]
Momentum = float | EllipsisType | None
"""A number, None for the average over all batches, or ... for the convention's default."""

# momentum, eps and running_var_correction.
CONVENTIONS: dict[str, tuple[float, float, int]] = {
    "torch": (0.1, 1e-5, 1),
    "keras": (0.99, 1e-3, 0),
    "cs231n": (0.9, 1e-5, 0),
}


def settings_of(
    convention: Convention, momentum: Momentum, eps: float | None, correction: int | None
) -> tuple[float | None, float, int]:
    """momentum, eps and running_var_correction: those given, checked, and the convention's for the others."""
    if type(convention) is not str or convention not in CONVENTIONS:
        _checks.one_of(convention, CONVENTIONS, "convention")
    defaults = CONVENTIONS[convention]
    if momentum is ...:
        momentum = defaults[0]
    elif momentum is not None:
        momentum = _checks.real_in(momentum, 0, 1, "momentum")
    eps = defaults[1] if eps is None else _checks.real(eps, "eps")
    if correction is None:
        correction = defaults[2]
    elif correction not in (0, 1):
        raise ValueError(f"running_var_correction must be 0 or 1, got {correction!r}")
    return momentum, eps, int(correction)


def rate_of(momentum: float | None, convention: Convention) -> float | None:
    """The weight of the new value in the running statistics; None where all batches weigh the same."""
    return momentum if convention == "torch" or momentum is None else 1 - momentum


def is_training(training: bool | None, running_mean: Any, running_var: Any) -> bool:
    """Whether it is training: forgotten beside running statistics, it would be inference by their first values."""
    if training is None and not (running_mean is None and running_var is None):
        raise TypeError(
            "training must be given with running_mean and running_var: True normalizes by the batch and updates them, "
            "False normalizes by them"
        )
    return bool(training)


def is_vector(array: NDArray[Any], n: int) -> bool:
    """Whether it has one value for each of n channels: shape (n,), with any axes of length 1 beside it."""
    return array.ndim > 0 and array.size == max(array.shape) == n


def batch_counter(counter: Any) -> NDArray[np.integer]:
    _arrays.check_unmasked(counter, "num_batches_tracked")
    if not isinstance(counter, np.ndarray) or counter.dtype.kind not in "iu" or counter.shape != ():
        raise TypeError("num_batches_tracked must be an ndarray of integers of shape ()")
    if not counter.flags.writeable:
        raise ValueError("num_batches_tracked must be writeable, but is read-only")
    if counter < 0:
        raise ValueError(f"num_batches_tracked must not be negative, got {counter}")
    return counter


def rate_and_counter(
    momentum: float | None, num_batches_tracked: Any
) -> tuple[float, NDArray[np.integer] | None]:
    """The weight of the new value, and the counter of batches if there is one."""
    counter = None if num_batches_tracked is None else batch_counter(num_batches_tracked)
    if momentum is not None:
        return momentum, counter
    if counter is None:
        raise ValueError("num_batches_tracked must be given when momentum is None")
    return 1.0 / (int(counter) + 1), counter


def check_running(
    value: Any, name: str, x: NDArray[Any], axis: int, out: NDArray[Any] | None
) -> None:
    """Refuse a running statistic that cannot be updated by the instances of x."""
    _arrays.check_floats(value, name)
    dtype = _arrays.parameter_dtype(x.dtype)
    if value.dtype != dtype:
        raise TypeError(f"{name} must have dtype {dtype}, got {value.dtype}")
    channels = x.shape[axis]
    if not is_vector(value, channels):
        raise ValueError(f"{name} must have shape ({channels},), got {value.shape}")
    _arrays.check_writeable(value, name)
    for other, of in ((x, "x"), (out, "out")):
        if other is not None and np.may_share_memory(value, other):
            raise ValueError(f"{name} and {of} must not share memory")
    if x.size < 2 * len(x) * channels:
        raise ValueError(
            f"x must have two values a channel or more where running_var is updated, got {x.shape}"
        )
