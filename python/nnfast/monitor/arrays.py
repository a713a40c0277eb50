"""The statistics of one array of activations or gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays

Floats = NDArray[np.float64]

BINS = 64
# A histogram is at least as wide as this share of its largest number: bins must be wider than a rounding.
_LEAST_WIDTH = 1e-6


@dataclass(frozen=True)
class Statistics:
    """What ``statistics`` says of an array; mean, std, min, max and the histogram are of its finite numbers.

    Parameters
    ----------
    size : int
        Elements.
    mean : float
        NaN, as are std, min and max, where no number is finite.
    std : float
        The biased standard deviation: the root of the mean square of what differs from the mean.
    min : float
        The least finite number.
    max : float
        The largest finite number.
    zeros : float
        The share of elements that are 0, in [0, 1].
    nans : int
        The number of NaN.
    infinities : int
        The number of infinities.
    low : float
        Where the histogram begins.
    high : float
        Where it ends.
    counts : ndarray of int64
        Finite elements in each of its 64 bins, which are of one width; shape (64,).

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> found = nf.monitor.statistics(np.array([-3.0, 0.0, 0.0, 3.0, np.nan]))
    >>> found.mean, found.max, found.zeros, found.nans
    (0.0, 3.0, 0.4, 1)
    """

    size: int
    mean: float
    std: float
    min: float
    max: float
    zeros: float
    nans: int
    infinities: int
    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def edges(self) -> Floats:
        """The borders of the histogram's bins, shape (65,)."""
        share = np.linspace(0, 1, len(self.counts) + 1)
        return (1 - share) * self.low + share * self.high  # their difference might overflow

    @property
    def finite(self) -> bool:
        """Whether no element is NaN or infinite."""
        return self.nans == self.infinities == 0

    @property
    def norm(self) -> float:
        """The Euclidean norm of the finite elements."""
        count = self.size - self.nans - self.infinities
        return math.sqrt(count) * math.hypot(self.mean, self.std) if count else math.nan


def statistics(values: ArrayLike) -> Statistics:
    """Mean, deviation, extremes, histogram, share of zeros and counts of what is not finite.

    Parameters
    ----------
    values : array_like of real numbers, any shape
        Only read.

    Returns
    -------
    Statistics
        Computed in float64.

    Raises
    ------
    TypeError
        If values are not real numbers.
    ValueError
        If there are none.

    References
    ----------
    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, for what
    histograms of activations and gradients by layer show.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> found = nf.monitor.statistics([1.0, 2.0, 2.0, 3.0])
    >>> found.mean, found.min, found.max, found.counts.sum(), found.edges.shape
    (2.0, 1.0, 3.0, np.int64(4), (65,))
    """
    array = _arrays.floating(values, "values", float16=True)
    if not array.size:
        raise ValueError("values must hold at least one number, got none")
    finite = array[np.isfinite(array)].astype(np.float64)
    nans = int(np.isnan(array).sum())
    return Statistics(
        size=array.size,
        zeros=float(np.mean(array == 0)),
        nans=nans,
        infinities=array.size - finite.size - nans,
        **_of_finite(finite),
    )


def _of_finite(values: Floats) -> dict[str, Any]:
    """The fields of Statistics for finite values, which are overwritten."""
    if not values.size:
        nothing = dict.fromkeys(("mean", "std", "min", "max"), math.nan)
        return {**nothing, "low": 0.0, "high": 1.0, "counts": np.zeros(BINS, np.int64)}
    # Squares and differences of what diverges would overflow; a power of two changes no digit.
    scale = _power_of_two(float(np.abs(values).max()))
    values /= scale
    low, high = float(values.min()), float(values.max())
    begin, end = _widened(low, high)
    counts, _ = np.histogram(values, BINS, (begin, end))
    numbers = {"mean": float(values.mean()), "std": float(values.std()), "min": low, "max": high}
    numbers |= {"low": begin, "high": end}
    return {**{name: number * scale for name, number in numbers.items()}, "counts": counts}


def _power_of_two(number: float) -> float:
    """The largest that is not above the number, and 1 for 0."""
    return math.ldexp(1.0, math.frexp(number)[1] - 1) if number else 1.0


def _widened(low: float, high: float) -> tuple[float, float]:
    """A range around [low, high], numbers of at most 2, that 64 bins divide."""
    more = max(0.0, _LEAST_WIDTH - (high - low)) / 2
    return low - more, high + more
