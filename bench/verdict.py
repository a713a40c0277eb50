"""Who is faster, and whether the spread of the measurements lets anybody say so."""

from collections.abc import Sequence
from math import comb
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["ahead", "level", "behind", "noise"]

# Within this factor of each other two candidates are level. Two runs of the same code differ by 2 % in the median of
# all points: what is nearer than that to the border of two verdicts is neither.
LEVEL = 1.1
DOUBT = 1.02
# A session in which all rounds say that we are so much faster needs no other: processes differ by less.
CLEAR = 1.25


class Judged(NamedTuple):
    """A peer's time over ours: the median, an interval that holds it with 99 %, and what follows."""

    median: float
    low: float
    high: float
    verdict: Verdict


def judge(sessions: Sequence[NDArray[np.float64]]) -> Judged:
    """Of the ratios in every round of every session.

    A verdict is what all sessions say, each by its median, none of them in doubt; and what their rounds together do not
    take back. All else is noise: two runs need not agree on it.
    """
    low, median, high = interval(np.concatenate(sessions))
    said = {zone(float(np.median(session))) for session in sessions}
    verdict = said.pop() if len(said) == 1 else "noise"
    if verdict == "ahead" and low <= 1:
        verdict = "noise"
    if verdict == "behind" and high >= 1:
        verdict = "noise"
    if verdict == "level" and high / low > LEVEL**2:
        verdict = "noise"
    return Judged(median, low, high, verdict)


def clear(judged: Judged) -> bool:
    """Whether one session is enough."""
    return judged.low > CLEAR


def zone(ratio: float) -> Verdict:
    """What one session says."""
    if ratio > LEVEL * DOUBT:
        return "ahead"
    if ratio < 1 / (LEVEL * DOUBT):
        return "behind"
    if DOUBT / LEVEL < ratio < LEVEL / DOUBT:
        return "level"
    return "noise"


def interval(ratios: NDArray[np.float64]) -> tuple[float, float, float]:
    """The median and its interval, by the sign test, which assumes no distribution."""
    ratios = np.sort(ratios)
    n = len(ratios)
    outside = tail = 0
    while outside < (n - 1) // 2:
        tail += comb(n, outside)
        if 2 * tail / 2**n > 0.01:
            break
        outside += 1
    outside = max(outside - 1, 0)
    return float(ratios[outside]), float(np.median(ratios)), float(ratios[n - 1 - outside])
