"""What the transformers share: learning from one piece or several, in memory or on Dask."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays
from nnfast._dask import is_dask_data
from nnfast._sklearn import DTYPES, on_dask, unchanged_on_error
from nnfast._sparse import is_sparse
from nnfast.normalization import BatchNormStats, batch_norm, batch_norm_stats, merge_stats
from nnfast.preprocessing import _column_stats
from nnfast.preprocessing._column_stats import Floats, Stats

try:
    from sklearn.base import BaseEstimator, TransformerMixin, clone
    from sklearn.utils.validation import check_array, validate_data
except ImportError as error:
    raise ImportError(
        "nnfast.preprocessing needs scikit-learn 1.6 or newer: pip install 'nnfast[sklearn]'"
    ) from error

AnyStats = TypeVar("AnyStats", bound=Stats)

ROUNDING = float(np.finfo(np.float64).eps)


class Seen(NamedTuple):
    """The statistics of a piece of the training data."""

    samples: int
    stats: Stats
    shape: tuple[int, ...]
    """The shape in which the statistics are public."""
    scatter: Floats | None = None
    """The sum of outer products of differences from the mean, where it is needed."""


def together(*pieces: Seen) -> Seen:
    """The merged statistics of several pieces."""
    first = pieces[0]
    with np.errstate(over="ignore", invalid="ignore"):
        stats = _with_variance(_merged([piece.stats for piece in pieces]))
    scatter = None
    if first.scatter is not None:
        # Chan, Golub, LeVeque 1979, as in merge_stats.
        scatter = np.zeros_like(first.scatter)
        for piece in pieces:
            assert piece.scatter is not None  # as the first's
            assert isinstance(piece.stats, BatchNormStats)  # they have neither gaps nor weights
            difference = piece.stats.mean - stats.mean
            scatter += piece.scatter + piece.stats.count * np.outer(difference, difference)
    return Seen(sum(piece.samples for piece in pieces), stats, first.shape, scatter)


def _merged(pieces: list[Stats]) -> Stats:
    whole = [piece for piece in pieces if isinstance(piece, BatchNormStats)]
    if len(whole) == len(pieces):
        return merge_stats(*whole)
    return _column_stats.merged(*pieces)


def seen_by(transformer: Transformer, X: ArrayLike) -> Seen:
    """The statistics of X; the transformer, which other threads may use, is not changed."""
    seen: Seen = clone(transformer)._seen(X, first=True)
    return seen


def stats_of(x: Floats, axis: int) -> BatchNormStats:
    """Statistics of the channels, whose variance must be finite."""
    with np.errstate(over="ignore"):  # an error says it better
        return _with_variance(batch_norm_stats(x, axis=axis))


def stats_of_columns(x: Any, weights: Floats | None) -> Stats:
    """Statistics of the columns of a table that may be sparse and have gaps; their variance must be finite."""
    with np.errstate(over="ignore", invalid="ignore"):  # an error says it better
        if is_sparse(x):
            return _with_variance(_column_stats.of_csr(x, weights))
        if weights is None:
            stats = batch_norm_stats(x, axis=1)
            if not np.isnan(stats.mean).any():
                return _with_variance(stats)
        return _with_variance(_column_stats.of_table(x, weights))


def _with_variance(stats: AnyStats) -> AnyStats:
    """The statistics; a ValueError if a variance is not finite."""
    if not np.isfinite(stats.m2).all():
        raise ValueError("X must have a variance that float64 can hold")
    return stats


class Transformer(TransformerMixin, BaseEstimator):
    """Learning from one piece or several: subclasses define its statistics, and what is learned from them."""

    n_samples_seen_: Any
    mean_: Floats
    _stats: Stats

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Learn from X alone.

        Parameters
        ----------
        X : array_like
            Training data.
        y : object, optional
            Ignored.

        Returns
        -------
        self
            The transformer.
        """
        with unchanged_on_error(self):
            self._learn(X, first=True)
        return self

    def partial_fit(self, X: ArrayLike, y: object = None) -> Self:
        """Learn from X and all that was learned from before.

        Parameters
        ----------
        X : array_like
            A piece of the training data, of one sample or more.
        y : object, optional
            Ignored.

        Returns
        -------
        self
            The transformer.
        """
        with unchanged_on_error(self):
            self._learn(X, first=not hasattr(self, "_stats"))
        return self

    def _learn(self, X: ArrayLike, *, first: bool, **options: Any) -> None:
        if is_dask_data(X):
            if options.get("sample_weight") is not None:
                raise ValueError("sample_weight must be None where X is Dask's")
            seen = self._seen_on_dask(X, first)
        else:
            seen = self._seen(X, first, **options)
        if not first:
            seen = together(self._before(), seen)
        self._keep(seen)

    def _seen_on_dask(self, X: Any, first: bool) -> Seen:
        """The statistics of a Dask array, in one pass."""
        data = on_dask()
        table = data.Table(X)
        self._checked(table.head, reset=first)
        seen: Seen = data.learned(partial(seen_by, clone(self)), together, table)
        return seen

    def _checked(self, X: ArrayLike, *, reset: bool, **options: Any) -> NDArray[Any]:
        """X as an array."""
        return table(self, X, reset=reset, **options)

    def _seen(self, X: ArrayLike, first: bool, **options: Any) -> Seen:
        """The statistics of X alone; first: whether nothing was learned before."""
        raise NotImplementedError

    def _before(self) -> Seen:
        """The statistics learned before."""
        raise NotImplementedError

    def _keep(self, seen: Seen) -> None:
        """Set all learned attributes."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def table(estimator: object, X: ArrayLike, *, reset: bool, **options: Any) -> NDArray[Any]:
    """X as an array (n_samples, n_features), its features learned or checked."""
    _arrays.check_readable(X, "X")
    x: NDArray[Any] = validate_data(estimator, X, reset=reset, dtype=DTYPES, **options)
    return x


def columns(estimator: object, X: ArrayLike, count: int, **options: Any) -> NDArray[Any]:
    """X as an array (n_samples, count), whose columns may be called anything."""
    _arrays.check_readable(X, "X")
    x: NDArray[Any] = check_array(X, dtype=DTYPES, estimator=estimator, input_name="X", **options)
    if x.shape[1] != count:
        raise ValueError(
            f"X must have {count} columns, as {type(estimator).__name__} returns them, got {x.shape[1]}"
        )
    return x


def affine(
    x: NDArray[Any],
    *,
    mean: Floats | None = None,
    scale: Floats | None = None,
    shift: Floats | None = None,
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """(x - mean) * scale + shift, with one value of each for each index of the axis; None leaves a step out."""
    limits = np.finfo(x.dtype)
    if (
        scale is not None
        and x.dtype != np.float64
        and not limits.smallest_normal <= scale.min() <= scale.max() <= limits.max
    ):
        # A deviation near the ends of float32, whose inverse it does not hold, or none at all.
        y = affine(x.astype(np.float64), mean=mean, scale=scale, shift=shift, axis=axis)
        return _stored(y.astype(x.dtype), out)
    origin, ones = np.zeros(x.shape[axis]) if mean is None else mean, np.ones(x.shape[axis])
    # Beside a variance of 1 this eps is nothing.
    eps = limits.smallest_normal
    return batch_norm(x, scale, shift, origin, ones, training=False, eps=eps, axis=axis, out=out)[0]


def _stored(y: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    if out is None:
        return y
    out[...] = y
    return out
