"""Means and variances of the columns of tables that have gaps, weights of rows, or few entries (CSR).

All are taken about the mean, in float64 and in two passes, the second of which corrects the first one's rounding (Chan,
Golub, LeVeque, "Algorithms for computing the sample variance", 1983). NaN is a gap: it counts nowhere.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnfast import _moments
from nnfast.normalization import BatchNormStats

Array = NDArray[Any]
Floats = NDArray[np.float64]

# Elements that are converted to float64 together.
_BLOCK = 1 << 20


class ColumnStats(NamedTuple):
    """Statistics of columns each of which has a count of its own."""

    counts: Floats
    """Values of a column that are no gaps, or the sum of their weights."""
    mean: Floats
    """NaN where there is no value."""
    m2: Floats
    """The weighted sum of squared differences from the mean."""
    weighted: bool

    @property
    def var(self) -> Floats:
        """The biased variance; NaN where there is no value."""
        return _quotient(self.m2, self.counts)

    @property
    def samples(self) -> int | float | Array:
        """The counts as scikit-learn has them: one number where they are the same, integers without weights."""
        counts = self.counts if self.weighted else self.counts.astype(np.int64)
        same: int | float = counts[0].item()
        return same if (counts == counts[0]).all() else counts


Stats = BatchNormStats | ColumnStats


def of_table(x: Array, weights: Floats | None) -> ColumnStats:
    """Statistics of the columns of an array with gaps, weights of its rows, or both."""
    count, total, m2, drift = np.zeros((4, x.shape[1]))
    for part, known, of_rows in _blocks(x, weights):
        count += (known * of_rows).sum(axis=0)
        total += (part * of_rows).sum(axis=0)
    mean = _quotient(total, count)
    about = np.where(count > 0, mean, 0.0)
    for part, known, of_rows in _blocks(x, weights):
        deviation = np.where(known, part - about, 0.0)
        m2 += (of_rows * deviation * deviation).sum(axis=0)
        drift += (of_rows * deviation).sum(axis=0)
    return _corrected(count, mean, m2, drift, weights is not None)


def of_csr(x: Any, weights: Floats | None) -> Stats:
    """Statistics of the columns of a CSR table, whose zeros are values as any."""
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    rows, width = x.shape
    whole = rows if weights is None else weights.sum()
    of_entries = None if weights is None else np.repeat(weights, np.diff(x.indptr))
    entries, stored, gaps, total, m2, drift = np.zeros((6, width))
    for value, column, weight in _entries(x, of_entries):
        known = ~np.isnan(value)
        entries += np.bincount(column, minlength=width)
        stored += np.bincount(column, weight * known, width)
        gaps += np.bincount(column, weight * ~known, width)
        total += np.bincount(column, weight * np.where(known, value, 0.0), width)
    count = whole - gaps
    # Rounding must leave no zeros in a column that is full.
    absent = np.where(entries == rows, 0.0, np.maximum(count - stored, 0.0))
    count = absent + stored
    mean = _quotient(total, count)
    about = np.where(count > 0, mean, 0.0)
    for value, column, weight in _entries(x, of_entries):
        deviation = np.where(np.isnan(value), 0.0, value - about[column])
        m2 += np.bincount(column, weight * deviation * deviation, width)
        drift += np.bincount(column, weight * deviation, width)
    m2 += absent * about * about
    drift -= absent * about
    found = _corrected(count, mean, m2, drift, weights is not None)
    if weights is None and not gaps.any():
        return BatchNormStats(rows, found.mean, found.m2)
    return found


def merged(*pieces: Stats) -> ColumnStats:
    """The statistics of several pieces together."""
    columns = [_by_column(piece) for piece in pieces]
    counts = [piece.counts for piece in columns]
    mean, m2 = _moments.merged(
        counts,
        [(np.where(piece.counts > 0, piece.mean, 0.0), 0.0) for piece in columns],
        [(piece.m2, 0.0) for piece in columns],
    )
    count = np.sum(counts, axis=0)
    weighted = any(piece.weighted for piece in columns)
    return ColumnStats(count, np.where(count > 0, mean[0], np.nan), m2[0], weighted)


def _by_column(stats: Stats) -> ColumnStats:
    if isinstance(stats, ColumnStats):
        return stats
    return ColumnStats(np.full(stats.mean.shape, float(stats.count)), stats.mean, stats.m2, False)


def _corrected(
    count: Floats, mean: Floats, m2: Floats, drift: Floats, weighted: bool
) -> ColumnStats:
    """With what the rounding of the mean has left over, a mean deviation that should be 0."""
    shift = np.divide(drift, count, where=count > 0, out=np.zeros_like(count))
    return ColumnStats(count, mean + shift, np.maximum(m2 - drift * shift, 0.0), weighted)


def _quotient(total: Floats, count: Floats) -> Floats:
    return np.divide(total, count, where=count > 0, out=np.full_like(total, np.nan))


def _blocks(x: Array, weights: Floats | None) -> Iterator[tuple[Floats, Array, Any]]:
    """Rows in float64 with 0 for gaps, where there are none, and the weights as a column."""
    rows = max(1, _BLOCK // max(1, x.shape[1]))
    for first in range(0, len(x), rows):
        part = x[first : first + rows].astype(np.float64)
        known = ~np.isnan(part)
        part[~known] = 0.0
        yield part, known, 1.0 if weights is None else weights[first : first + rows, None]


def _entries(x: Any, of_entries: Floats | None) -> Iterator[tuple[Floats, Array, Any]]:
    """Values of a CSR table in float64, their columns and weights."""
    for first in range(0, x.nnz, _BLOCK):
        part = slice(first, min(first + _BLOCK, x.nnz))
        weight = np.ones(part.stop - first) if of_entries is None else of_entries[part]
        yield x.data[part].astype(np.float64), x.indices[part], weight
