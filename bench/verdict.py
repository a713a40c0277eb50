"""Who is faster, and whether the spread of the measurements lets anybody say so."""

from math import comb
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["ahead", "behind", "noise"]

# Between two runs the same code differs by this much, by where its memory lies and what else the machine does; a
# difference within it is no verdict, however often it is measured in one run.
MARGIN = 1.1


class Ratio(NamedTuple):
    """A peer's time over ours, round by round: the median, and an interval that holds it with 99 %."""

    median: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """ahead and behind only where the interval and the median say so, and the median by more than the margin."""
        if self.low > 1 and self.median > MARGIN:
            return "ahead"
        if self.high < 1 and self.median < 1 / MARGIN:
            return "behind"
        return "noise"


def ratio(peer: NDArray[np.float64], ours: NDArray[np.float64]) -> Ratio:
    """Of two candidates timed in turn; the interval is that of the sign test, which assumes no distribution."""
    ratios = np.sort(peer / ours)
    n = len(ratios)
    outside = tail = 0
    while outside < (n - 1) // 2:
        tail += comb(n, outside)
        if 2 * tail / 2**n > 0.01:
            break
        outside += 1
    outside = max(outside - 1, 0)
    return Ratio(float(np.median(ratios)), float(ratios[outside]), float(ratios[n - 1 - outside]))
