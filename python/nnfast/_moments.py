"""How means and sums of squares of pieces make those of the whole."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnfast import _pairs


def merged(
    counts: Sequence[Any], means: Sequence[_pairs.Pair], m2s: Sequence[_pairs.Pair]
) -> tuple[_pairs.Pair, _pairs.Pair]:
    """The mean and m2 of all pieces together (Chan, Golub, LeVeque 1979).

    A count is a float, or an array with one for each mean. A piece without a count has no part in it, but its mean must
    be finite; where no piece has one, the mean is that of the last.
    """
    # About the first mean, so that a large one costs no digits.
    origin = means[-1]
    for n, (high, low) in zip(counts[-2::-1], means[-2::-1], strict=True):
        origin = np.where(n > 0, high, origin[0]), np.where(n > 0, low, origin[1])

    def weighted(terms: Sequence[_pairs.Pair]) -> list[_pairs.Pair]:
        return [_pairs.scale(term, n) for term, n in zip(terms, counts, strict=True)]

    count = sum(counts)
    shift = _pairs.total(weighted([_pairs.subtract(mean, origin) for mean in means]))
    mean = _pairs.add(origin, _pairs.divide(shift, np.where(count > 0, count, 1.0)))
    about = weighted([_pairs.square(_pairs.subtract(each, mean)) for each in means])
    return mean, _pairs.total([*m2s, *about])
