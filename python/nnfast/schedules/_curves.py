"""The ways from one rate to another."""

from __future__ import annotations

import math


def between(start: float, end: float, done: float, left: float) -> float:
    """The point between start (done 0, left 1) and end (done 1, left 0).

    Counted from the nearer end: never outside, exact at both ends, and close to each of them as exact as its share.
    """
    return start + (end - start) * done if done <= left else end + (start - end) * left


def line(start: float, end: float, step: float, n: float) -> float:
    """A line of n steps."""
    return between(start, end, step / n, (n - step) / n)


def cosine(start: float, end: float, step: float, n: float, exponent: float = 1.0) -> float:
    """Half a wave of n steps. As squares, where 1 - cos and 1 + cos would cancel near the ends."""
    done, left = (math.sin(math.pi / 2 * (part / n)) ** 2 for part in (step, n - step))
    if exponent != 1:
        left = math.pow(left, exponent)
        done = 1 - left
    return between(start, end, done, left)


def geometric(start: float, end: float, step: float, n: float) -> float:
    """A factor a step, n times."""
    return start * math.pow(end / start, step / n)


def flat(start: float, end: float, step: float, n: float) -> float:
    return start


CURVES = {"cos": cosine, "linear": line}
WARMUPS = {**CURVES, "exponential": geometric, "constant": flat}


def compounded(lr: float, gamma: float, n: int, name: str = "gamma") -> float:
    """lr gamma^n."""
    try:
        return lr * gamma**n
    except OverflowError:
        raise OverflowError(
            f"{name} must be smaller: {name}**{n} is too large for {gamma}"
        ) from None
