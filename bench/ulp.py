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
    finite = np.isfinite(expected) & np.isfinite(actual)
    if finite.all():
        return distance(actual, expected, expected if scale is None else scale)
    safe = np.where(finite, expected, 1)
    found = distance(
        np.where(finite, actual, 1).astype(actual.dtype),
        safe,
        safe if scale is None else np.where(finite, scale, 1),
    )
    with np.errstate(over="ignore"):
        rounded = expected.astype(actual.dtype)
    same = (np.isnan(actual) & np.isnan(expected)) | (actual == rounded)
    return np.where(finite, found, np.where(same, 0, np.inf))


def distance(
    actual: NDArray[Any], expected: NDArray[Any], scale: NDArray[Any]
) -> NDArray[np.float64]:
    """|actual - expected| in ulps of scale in actual's dtype, of finite numbers."""
    off: NDArray[Any] = np.abs(actual - expected)
    off /= ulp(scale, actual.dtype)
    return off.astype(np.float64, copy=False)


def ulp(scale: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The unit in the last place of numbers of a dtype as large as these, which are of a wider one."""
    min_exponent, digits = FORMATS[dtype]
    if scale.dtype == np.float64 and dtype != np.float64:
        # The exponent's bits alone are the power of two below: a tenth of the time of frexp and ldexp.
        power = (scale.view(np.int64) & 0x7FF0_0000_0000_0000).view(np.float64)
        return np.maximum(power, 2.0**min_exponent) * 2.0**-digits
    exponent = np.frexp(scale)[1] - 1
    return np.ldexp(np.ones_like(scale), np.maximum(exponent, min_exponent) - digits)
