"""Assertions in units in the last place."""

from typing import Any

import numpy as np

from bench.ulp import ulp_error

__all__ = ["assert_ulp", "ulp_error"]


def assert_ulp(actual: Any, expected: Any, bound: float) -> None:
    """No element is further than `bound` ulps away."""
    error = ulp_error(np.atleast_1d(actual), np.atleast_1d(expected))
    if error.size:
        worst = int(error.argmax())
        assert error.flat[worst] <= bound, (
            f"{error.flat[worst]:.3f} ulp at {worst}: got {np.ravel(actual)[worst]!r}, "
            f"want {np.ravel(expected)[worst]!r}"
        )
