"""A step along a line to where the strong Wolfe conditions hold."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isfinite, sqrt
from typing import Any, NamedTuple

__all__ = ["CURVATURE", "Point", "strong_wolfe"]

# Of the slope: how much the loss sinks at least, and what is left of it at most.
DECREASE, CURVATURE = 1e-4, 0.9
FURTHER = 10.0  # times as far, at most, where a step was too short
MARGIN = 0.1  # of a bracket: how near a trial comes to its ends
MOST_TRIALS = 25


class Point(NamedTuple):
    """A point of the line: the step to it, the loss there, its slope along the line and its gradient."""

    step: float
    loss: float
    slope: float
    gradient: Any


def strong_wolfe(
    at: Callable[[float], Point], start: Point, step: float, resolution: float
) -> tuple[Point, bool]:
    """Search along a line that descends at its start, step 0, beginning with `step`.

    Parameters
    ----------
    at : callable
        Computes the point of a step.
    start : Point
    step : float
    resolution : float
        Smaller differences of losses mean nothing.

    Returns
    -------
    found : Point
        One that fulfils the strong Wolfe conditions, or else the lowest; the start where none is lower.
    measurable : bool
        Whether the search did not end at the resolution of the losses.

    Notes
    -----
    Algorithms 3.5 and 3.6 of Nocedal, Wright, "Numerical Optimization", 2006. A loss that is not finite is too far.
    """
    low, high = start, None
    for _ in range(MOST_TRIALS):
        point = at(step)
        if not (isfinite(point.loss) and isfinite(point.slope)):
            point = Point(step, inf, inf, None)
        enough = point.loss <= start.loss + DECREASE * step * start.slope
        if enough and (low is start or point.loss < low.loss):
            if abs(point.slope) <= -CURVATURE * start.slope:
                return point, True
            # The minimum lies between the new lowest point and one on the side to which the loss sinks from it.
            if high is None:
                high = low if point.slope >= 0 else None
            elif point.slope * (high.step - point.step) >= 0:
                high = low
            before, low = low, point
        else:
            before, high = low, point
        if high is None:
            shortest, farthest = low.step + 0.01 * (low.step - before.step), FURTHER * low.step
            step = _interpolated(before, low, shortest, farthest)
            continue
        width = high.step - low.step
        if abs(width * start.slope) <= resolution:
            return low, False
        ends = sorted((low.step + MARGIN * width, high.step - MARGIN * width))
        step = ends[0 if width > 0 else 1] if high.loss == inf else _interpolated(low, high, *ends)
    return low, True


def _interpolated(a: Point, b: Point, least: float, most: float) -> float:
    """Where the cubic through two points with their slopes is lowest, but within bounds; their middle if nowhere."""
    mean = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.step - b.step)
    square = mean * mean - a.slope * b.slope
    if a.step > b.step:
        a, b = b, a
    if square >= 0:
        root = sqrt(square)
        below = b.slope - a.slope + 2 * root
        if below != 0:
            lowest = b.step - (b.step - a.step) * ((b.slope + root - mean) / below)
            return min(max(lowest, least), most)
    return (least + most) / 2
