"""Numerical gradients by centred differences in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def numerical_gradient(loss: Callable[[Array], float], x: Array, h: float = 1e-6) -> Array:
    """d loss / d x, an element at a time."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        sides = []
        for sign in (1, -1):
            moved = x.copy()
            moved[index] += sign * h
            sides.append(loss(moved))
        gradient[index] = (sides[0] - sides[1]) / (2 * h)
    return gradient


def assert_gradient(analytic: Array, loss: Callable[[Array], float], x: Array) -> None:
    """The analytic gradient agrees with the numerical one to 1e-6 of its largest element."""
    numeric = numerical_gradient(loss, x)
    scale = max(1.0, np.abs(numeric).max(initial=0))
    np.testing.assert_allclose(analytic, numeric, rtol=1e-6, atol=1e-7 * scale)
