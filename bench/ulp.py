"""Distance in units in the last place."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Smallest exponent of a normal number, digits after the point.
FORMATS = {
    np.dtype(np.float16): (-14, 10),
    np.dtype(np.float32): (-126, 23),
    np.dtype(np.float64): (-1022, 52),
}


def ulp_error(
    actual: NDArray[Any], expected: NDArray[Any], scale: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """|actual - expected| in ulps of the expected value in actual's dtype, subnormal range included.

    expected is float64, or longdouble where actual is float64. Equal infinities and two NaN count as equal, an infinity
    or NaN on one side alone as infinitely far. With `scale`, the ulp is that of its values.
    """
    min_exponent, digits = FORMATS[actual.dtype]
    finite = np.isfinite(expected) & np.isfinite(actual)
    safe = np.where(finite, expected, 1)
    exponent = np.frexp(safe if scale is None else np.where(finite, scale, 1))[1] - 1
    ulp = np.ldexp(np.ones_like(safe), np.maximum(exponent, min_exponent) - digits)
    distance = np.abs(np.where(finite, actual, 1).astype(safe.dtype) - safe) / ulp
    with np.errstate(over="ignore"):
        rounded = expected.astype(actual.dtype)
    same = (np.isnan(actual) & np.isnan(expected)) | (actual == rounded)
    return np.where(same & ~finite, 0, np.where(finite, distance, np.inf)).astype(np.float64)
