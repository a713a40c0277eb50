"""Preprocessing of a network's input: scikit-learn transformers that learn from training data and are applied to any.

===============================  ============================================================
zero-centring                    ``StandardScaler(with_std=False)``
standardising                    ``StandardScaler()``
PCA                              ``PCA(n_components)``
PCA whitening                    ``Whitening("pca")``, or ``PCA(n_components, whiten=True)``
ZCA whitening                    ``Whitening("zca")``
mean image                       ``ImageScaler(per="pixel", with_std=False)``
per-channel mean                 ``ImageScaler(with_std=False)``
per-channel mean and deviation   ``ImageScaler()``
===============================  ============================================================

StandardScaler, PCA and Whitening take tables of samples and features, ImageScaler takes batches of images. All work in
pipelines and in searches over their parameters, learn from data in pieces (``partial_fit``; into which does not matter
but for rounding), and have an inverse. What they learn is float64, from the one-pass kernels of ``nf.batch_norm_stats``
and ``nf.merge_stats``; float32 and float64 data keep their dtype, everything else becomes float64.

Dask arrays, and lists of delayed pieces, are learned from in one pass and transformed lazily.

StandardScaler skips NaN, takes weights of samples, and with ``with_mean=False`` sparse tables, which stay sparse; PCA
learns from sparse tables without making them dense. Elsewhere NaN and sparse tables are errors, as infinities and data
without samples are everywhere. An error changes nothing of what was learned.

This module needs scikit-learn: ``pip install 'nnfast[sklearn]'``.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> from sklearn.pipeline import make_pipeline
>>> rng = np.random.default_rng(0)
>>> train, test = rng.normal(5, 3, (800, 20)), rng.normal(5, 3, (200, 20))
>>> prepare = make_pipeline(nf.preprocessing.StandardScaler(), nf.preprocessing.Whitening("zca"))
>>> prepare.fit(train).transform(test).shape
(200, 20)
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _column_stats, _docs, _principal
from nnfast._dask import is_dask
from nnfast._sklearn import DTYPES, lazy_on_dask, on_dask, unchanged_on_error
from nnfast._sparse import is_sparse
from nnfast.augmentation import Layout
from nnfast.normalization import BatchNormStats, batch_norm, batch_norm_stats, merge_stats

try:
    from sklearn.base import (
        BaseEstimator,
        ClassNamePrefixFeaturesOutMixin,
        OneToOneFeatureMixin,
        TransformerMixin,
        clone,
    )
    from sklearn.utils.validation import (
        _check_sample_weight,
        check_array,
        check_is_fitted,
        validate_data,
    )
except ImportError as error:
    raise ImportError(
        "nnfast.preprocessing needs scikit-learn 1.6 or newer: pip install 'nnfast[sklearn]'"
    ) from error

__all__ = ["PCA", "ImageScaler", "StandardScaler", "Whitening"]

Floats = NDArray[np.float64]
AnyStats = TypeVar("AnyStats", bound=_column_stats.Stats)

_ROUNDING = float(np.finfo(np.float64).eps)


class _Seen(NamedTuple):
    """The statistics of a piece of the training data."""

    samples: int
    stats: _column_stats.Stats
    shape: tuple[int, ...]
    """The shape in which the statistics are public."""
    scatter: Floats | None = None
    """The sum of outer products of differences from the mean, where it is needed."""


def _together(*pieces: _Seen) -> _Seen:
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
    return _Seen(sum(piece.samples for piece in pieces), stats, first.shape, scatter)


def _merged(pieces: list[_column_stats.Stats]) -> _column_stats.Stats:
    whole = [piece for piece in pieces if isinstance(piece, BatchNormStats)]
    if len(whole) == len(pieces):
        return merge_stats(*whole)
    return _column_stats.merged(*pieces)


def _seen_by(transformer: _Transformer, X: ArrayLike) -> _Seen:
    """The statistics of X; the transformer, which other threads may use, is not changed."""
    seen: _Seen = clone(transformer)._seen(X, first=True)
    return seen


def _stats_of(x: Floats, axis: int) -> BatchNormStats:
    """Statistics of the channels, whose variance must be finite."""
    with np.errstate(over="ignore"):  # an error says it better
        return _with_variance(batch_norm_stats(x, axis=axis))


def _stats_of_columns(x: Any, weights: Floats | None) -> _column_stats.Stats:
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


class _Transformer(TransformerMixin, BaseEstimator):
    """Learning from one piece or several: subclasses define its statistics, and what is learned from them."""

    n_samples_seen_: Any
    mean_: Floats
    _stats: _column_stats.Stats

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
        if is_dask(X):
            if options.get("sample_weight") is not None:
                raise ValueError("sample_weight must be None where X is Dask's")
            seen = self._seen_on_dask(X, first)
        else:
            seen = self._seen(X, first, **options)
        if not first:
            seen = _together(self._before(), seen)
        self._keep(seen)

    def _seen_on_dask(self, X: Any, first: bool) -> _Seen:
        """The statistics of a Dask array, in one pass."""
        data = on_dask()
        table = data.Table(X)
        self._checked(table.head, reset=first)
        seen: _Seen = data.learned(partial(_seen_by, clone(self)), _together, table)
        return seen

    def _checked(self, X: ArrayLike, *, reset: bool, **options: Any) -> NDArray[Any]:
        """X as an array."""
        return _table(self, X, reset=reset, **options)

    def _seen(self, X: ArrayLike, first: bool, **options: Any) -> _Seen:
        """The statistics of X alone; first: whether nothing was learned before."""
        raise NotImplementedError

    def _before(self) -> _Seen:
        """The statistics learned before."""
        raise NotImplementedError

    def _keep(self, seen: _Seen) -> None:
        """Set all learned attributes."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class _Scaler(_Transformer):
    """A mean and a scale for each index of an axis: subclasses define the axis, and apply them."""

    var_: Floats
    scale_: Floats
    with_mean: bool
    with_std: bool
    copy: bool

    def _keep(self, seen: _Seen) -> None:
        self.n_samples_seen_ = self._samples_of(seen)
        self._stats = seen.stats
        self.mean_, self.var_ = (a.reshape(seen.shape) for a in (seen.stats.mean, seen.stats.var))
        self.scale_ = _scale(self.mean_, self.var_)

    def _samples_of(self, seen: _Seen) -> Any:
        """What n_samples_seen_ says."""
        return seen.samples

    def _used(self) -> tuple[Floats, Floats]:
        """Mean and scale as vectors; 0 and 1 where they are switched off."""
        size = self.mean_.size
        mean = self.mean_.ravel() if self.with_mean else np.zeros(size)
        return mean, self.scale_.ravel() if self.with_std else np.ones(size)


class StandardScaler(OneToOneFeatureMixin, _Scaler):
    """Zero-centring and standardising of features: ``(x - mean) / std``.

    Like scikit-learn's. NaN is skipped in learning and stays NaN. Sparse tables, which zero-centring would make dense,
    are scaled with ``with_mean=False``.

    Parameters
    ----------
    with_mean : bool, default True
        Subtract the mean of each feature. ``StandardScaler(with_std=False)`` is zero-centring.
    with_std : bool, default True
        Divide by the biased standard deviation of each feature (the root of the mean square, over N).
    copy : bool, default True
        False writes results over the input, where that is an array or CSR table of float32 or float64.

    Attributes
    ----------
    mean_, var_ : ndarray of float64, shape (n_features,)
        Mean and biased variance, learned whether they are used or not; NaN for a feature that was NaN alone.
    scale_ : ndarray of float64, shape (n_features,)
        The standard deviation; 1 for a constant feature, one whose deviation is not above a rounding of its mean.
    n_samples_seen_ : int, float, or ndarray of shape (n_features,)
        Samples, or the sum of their weights where these were given; for each feature where NaN makes them differ.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        Where X had names.

    Raises
    ------
    ValueError
        If X is not of shape (n_samples, n_features) with at least one sample, holds infinities, has other features than
        were learned from, is sparse where with_mean is True, or its variance overflows float64.
    sklearn.exceptions.NotFittedError
        If nothing was learned yet.

    Notes
    -----
    Of sparse tables, formats other than CSR are converted to it, and so returned.

    References
    ----------
    LeCun, Bottou, Orr, Müller, "Efficient BackProp", 1998.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> train = np.array([[1.0, 7.0], [3.0, 7.0]])
    >>> scaler = nf.preprocessing.StandardScaler().fit(train)
    >>> scaler.transform([[5.0, 8.0]])
    array([[3., 1.]])
    >>> scaler.inverse_transform([[3.0, 1.0]])
    array([[5., 8.]])

    A gap, and a sample that counts three times:

    >>> scaler = nf.preprocessing.StandardScaler().fit([[1.0, 2.0], [np.nan, 4.0]], sample_weight=[1, 3])
    >>> scaler.mean_, scaler.n_samples_seen_
    (array([1. , 3.5]), array([1., 4.]))
    """

    def __init__(self, *, with_mean: bool = True, with_std: bool = True, copy: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std
        self.copy = copy

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from X alone.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)
            Training data.
        y : object, optional
            Ignored.
        sample_weight : array_like, shape (n_samples,), optional
            How often each sample counts, not negative. Not for Dask arrays.

        Returns
        -------
        self
            The transformer.
        """
        with unchanged_on_error(self):
            self._learn(X, first=True, sample_weight=sample_weight)
        return self

    def partial_fit(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn from X and all that was learned from before.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)
            A piece of the training data, of one sample or more.
        y : object, optional
            Ignored.
        sample_weight : array_like, shape (n_samples,), optional
            As of fit; samples of pieces without it count once.

        Returns
        -------
        self
            The transformer.
        """
        with unchanged_on_error(self):
            self._learn(X, first=not hasattr(self, "_stats"), sample_weight=sample_weight)
        return self

    @lazy_on_dask
    def transform(self, X: ArrayLike, copy: bool | None = None) -> Any:
        """Subtract the mean and divide by the scale.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)
        copy : bool, optional
            In place of the scaler's own.

        Returns
        -------
        ndarray, or CSR table for a sparse one, of X's shape, float32 or float64
            In X's own memory where ``copy=False`` has that.
        """
        check_is_fitted(self)
        copy = self.copy if copy is None else copy
        x = self._checked(X, reset=False, force_writeable=not copy)
        mean, scale = self._used()
        if is_sparse(x):
            self._check_sparse()
            return _columns_scaled(x, 1 / scale, copy)
        return _affine(x, mean=mean, scale=1 / scale, out=None if copy else x)

    @lazy_on_dask
    def inverse_transform(self, X: ArrayLike, copy: bool | None = None) -> Any:
        """Multiply by the scale and add the mean.

        Parameters
        ----------
        X : array_like or sparse table, of the shape that transform returns
        copy : bool, optional
            In place of the scaler's own.

        Returns
        -------
        ndarray, or CSR table for a sparse one, of X's shape, float32 or float64
            In X's own memory where ``copy=False`` has that.
        """
        check_is_fitted(self)
        copy = self.copy if copy is None else copy
        x = _columns(self, X, self.mean_.size, force_writeable=not copy, **self._TAKES)
        mean, scale = self._used()
        if is_sparse(x):
            self._check_sparse()
            return _columns_scaled(x, scale, copy)
        return _affine(x, scale=scale, shift=mean, out=None if copy else x)

    _TAKES: ClassVar[dict[str, Any]] = {"accept_sparse": "csr", "ensure_all_finite": "allow-nan"}

    def _checked(self, X: ArrayLike, *, reset: bool, **options: Any) -> Any:
        return _table(self, X, reset=reset, **self._TAKES, **options)

    def _seen(
        self, X: ArrayLike, first: bool, *, sample_weight: ArrayLike | None = None, **options: Any
    ) -> _Seen:
        x = self._checked(X, reset=first, **options)
        if is_sparse(x):
            self._check_sparse()
        weights = None if sample_weight is None else _weights_of(x, sample_weight)
        return _Seen(x.shape[0], _stats_of_columns(x, weights), x.shape[1:])

    def _samples_of(self, seen: _Seen) -> Any:
        stats = seen.stats
        return stats.samples if isinstance(stats, _column_stats.ColumnStats) else seen.samples

    def _before(self) -> _Seen:
        stats = self._stats
        samples = stats.count if isinstance(stats, BatchNormStats) else 0
        return _Seen(samples, stats, self.mean_.shape)

    def _check_sparse(self) -> None:
        """A ValueError where the mean of a sparse table is to be subtracted."""
        if self.with_mean:
            raise ValueError(
                "with_mean must be False where X is sparse, as zero-centring would make it dense, got True"
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = not self.with_mean
        return tags


class ImageScaler(_Scaler):
    """Subtraction of the mean image, or of a mean per channel, and division by the deviation of the same.

    ``ImageScaler(per="pixel", with_std=False)`` subtracts the mean image, ``ImageScaler(with_std=False)`` the mean of
    each channel, and ``ImageScaler()`` makes mean and deviation of each channel 0 and 1.

    Images have four axes, which no table has: column names and ``set_output`` do not apply.

    Parameters
    ----------
    per : "channel" or "pixel", default "channel"
        Whether a channel has one mean and one deviation, over all images and pixels, or each of its pixels has them,
        over all images.
    with_mean : bool, default True
        Subtract the mean.
    with_std : bool, default True
        Divide by the biased standard deviation.
    layout : "NCHW" or "NHWC", default "NCHW"
        Whether images are of shape (N, C, H, W) or (N, H, W, C). Makes no difference per pixel.
    copy : bool, default True
        False writes results over the input, where that is an array of float32 or float64 (per pixel: and contiguous).

    Attributes
    ----------
    mean_, var_ : ndarray of float64, shape (C,), or that of an image per pixel
        Mean and biased variance, learned whether they are used or not.
    scale_ : ndarray of float64, of the same shape
        The standard deviation; 1 where it is not above a rounding of the mean.
    n_samples_seen_ : int
        Images.

    Raises
    ------
    TypeError
        If X is sparse.
    ValueError
        If X does not have four axes, an image and a pixel, holds NaN or infinities, has another number of channels (per
        pixel: another image shape) than was learned from, its variance overflows float64, or `per` or `layout` is
        unknown.
    sklearn.exceptions.NotFittedError
        If nothing was learned yet.

    Notes
    -----
    Images of integers become float64, eight times as large: ``x.astype(np.float32)`` beforehand is exact and halves
    that. Per channel, images may be of different sizes from batch to batch.

    References
    ----------
    Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012; Simonyan,
    Zisserman, "Very deep convolutional networks for large-scale image recognition", 2014; He, Zhang, Ren, Sun, "Deep
    residual learning for image recognition", 2015.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> train = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3)).astype(np.float32)
    >>> scaler = nf.preprocessing.ImageScaler(layout="NHWC").fit(train)
    >>> y = scaler.transform(train)
    >>> scaler.mean_.shape, y.dtype, abs(y.mean(axis=(0, 1, 2))).max() < 1e-6
    ((3,), dtype('float32'), np.True_)
    >>> nf.preprocessing.ImageScaler(per="pixel", with_std=False).fit(train).mean_.shape
    (8, 8, 3)
    """

    def __init__(
        self,
        *,
        per: Literal["channel", "pixel"] = "channel",
        with_mean: bool = True,
        with_std: bool = True,
        layout: Layout = "NCHW",
        copy: bool = True,
    ) -> None:
        self.per = per
        self.with_mean = with_mean
        self.with_std = with_std
        self.layout = layout
        self.copy = copy

    @lazy_on_dask
    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Subtract the mean and divide by the scale.

        Parameters
        ----------
        X : array_like, of the shape that was learned from but for the number of samples

        Returns
        -------
        ndarray of X's shape, float32 or float64
            In X's own memory where ``copy=False`` has that.
        """
        check_is_fitted(self)
        x = self._checked(X, reset=False, force_writeable=not self.copy)
        mean, scale = self._used()
        return self._mapped(x, mean=mean, scale=1 / scale)

    @lazy_on_dask
    def inverse_transform(self, X: ArrayLike) -> NDArray[Any]:
        """Multiply by the scale and add the mean.

        Parameters
        ----------
        X : array_like, of the shape that transform returns

        Returns
        -------
        ndarray of X's shape, float32 or float64
            In X's own memory where ``copy=False`` has that.
        """
        check_is_fitted(self)
        x = self._checked(X, reset=False, force_writeable=not self.copy)
        mean, scale = self._used()
        return self._mapped(x, scale=scale, shift=mean)

    def _checked(self, X: ArrayLike, *, reset: bool, **options: Any) -> NDArray[Any]:
        _checks.one_of(self.per, ("channel", "pixel"), "per")
        _checks.one_of(self.layout, ("NCHW", "NHWC"), "layout")
        _arrays.check_readable(X, "X")
        x: NDArray[Any] = check_array(
            X,
            dtype=DTYPES,
            ensure_2d=False,
            allow_nd=True,
            estimator=self,
            input_name="X",
            **options,
        )
        if x.ndim != 4 or not x.size:
            raise ValueError(f"X must be images of shape ({', '.join(self.layout)}), got {x.shape}")
        if not reset and self._shape_of_statistics(x) != self.mean_.shape:
            what = "channels" if self.per == "channel" else "images"
            raise ValueError(f"X must have {what} of {self.mean_.shape}, got shape {x.shape}")
        return x

    def _seen(self, X: ArrayLike, first: bool, **options: Any) -> _Seen:
        x = self._checked(X, reset=first, **options)
        flat, axis = self._flat(x)
        stats = _stats_of(flat, axis)
        return _Seen(len(x), stats, self._shape_of_statistics(x))

    def _before(self) -> _Seen:
        return _Seen(self.n_samples_seen_, self._stats, self.mean_.shape)

    def _mapped(self, x: NDArray[Any], **numbers: Floats) -> NDArray[Any]:
        flat, axis = self._flat(x)
        return _affine(flat, axis=axis, out=None if self.copy else flat, **numbers).reshape(x.shape)

    def _flat(self, x: NDArray[Any]) -> tuple[NDArray[Any], int]:
        return (x.reshape(len(x), -1), 1) if self.per == "pixel" else (x, self.layout.index("C"))

    def _shape_of_statistics(self, x: NDArray[Any]) -> tuple[int, ...]:
        return x.shape[1:] if self.per == "pixel" else (x.shape[self.layout.index("C")],)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


class _Axes(NamedTuple):
    """The axes of greatest variance, and the linear maps built on them."""

    components: Floats
    """A row an axis."""
    variances: Floats
    """Along the axes, over N, in descending order."""
    forward: Floats
    """The matrix that a centred sample is multiplied by, one row for each output."""
    backward: Floats
    """Its inverse, one row for each input."""
    left: float = 0.0
    """The variance beside the components, over N."""


class _Rotation(ClassNamePrefixFeaturesOutMixin, _Transformer):
    """Linear maps built on the eigenvectors of the covariance: what differs is `_maps`.

    Mean and scatter matrix are learned from each piece; the eigenvectors, far more work, are computed when first asked
    for: by `fit` itself, after `partial_fit` by the first use.

    They are those of the covariance, not singular vectors of the data, as a scatter matrix can be merged exactly and
    samples come in their thousands. NumPy's eigh, which is LAPACK's divide and conquer, takes no longer for all of
    them than SciPy's takes for a few.
    """

    _scatter: Floats | None
    """None of a sparse table."""
    _found: _Axes | None

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Learn from X alone.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)
            Training data, at least two samples.
        y : object, optional
            Ignored.

        Returns
        -------
        self
            The transformer.
        """
        with unchanged_on_error(self):
            self._learn(X, first=True, ensure_min_samples=2)
            self._axes()
        return self

    @lazy_on_dask
    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Subtract the mean and apply the map.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)

        Returns
        -------
        ndarray of float32 or float64, shape (n_samples, n_outputs)
            Of X's dtype, if that is one of these.
        """
        check_is_fitted(self)
        return self._mapped(_table(self, X, reset=False))

    @lazy_on_dask
    def inverse_transform(self, X: ArrayLike) -> NDArray[Any]:
        """Undo the map, as far as it kept everything, and add the mean.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_outputs)

        Returns
        -------
        ndarray of float32 or float64, shape (n_samples, n_features)
            Of X's dtype, if that is one of these.
        """
        check_is_fitted(self)
        axes = self._axes()
        x = _columns(self, X, len(axes.forward))
        y = x @ axes.backward.T.astype(x.dtype)
        return _affine(y, shift=self.mean_, out=y)

    def _mapped(self, x: NDArray[Any]) -> NDArray[Any]:
        y: NDArray[Any] = _affine(x, mean=self.mean_) @ self._axes().forward.T.astype(x.dtype)
        return y

    def _seen(self, X: ArrayLike, first: bool, **options: Any) -> _Seen:
        x = self._checked(X, reset=first, **options)
        self._check_parameters(x.shape[1])
        stats = _stats_of(x, 1)
        return _Seen(len(x), stats, stats.mean.shape, _scatter(x, stats.mean))

    def _before(self) -> _Seen:
        if self._scatter is None:
            raise ValueError(
                "partial_fit must not follow fit on a sparse X, of which no covariance is kept"
            )
        return _Seen(self.n_samples_seen_, self._stats, self.mean_.shape, self._scatter)

    def _keep(self, seen: _Seen) -> None:
        self.n_samples_seen_, self.mean_ = seen.samples, seen.stats.mean
        self._stats, self._scatter, self._found = seen.stats, seen.scatter, None

    def _axes(self) -> _Axes:
        if self._found is None:
            if self.n_samples_seen_ < 2:
                raise ValueError(f"{type(self).__name__} has seen 1 sample and needs at least 2")
            assert self._scatter is not None  # of a sparse table they are found at once
            self._found = self._maps(*_eigen(self._scatter / self.n_samples_seen_))
        return self._found

    def _check_parameters(self, n_features: int) -> None:
        raise NotImplementedError

    def _maps(self, components: Floats, variances: Floats) -> _Axes:
        raise NotImplementedError

    @property
    def components_(self) -> Floats:
        """The axes, one in each row."""
        return self._axes().components

    @property
    def _n_features_out(self) -> int:
        return len(self._axes().forward)


class PCA(_Rotation):
    """Principal component analysis: centred data in the coordinates of greatest variance, all or the first of them.

    Like scikit-learn's with a full decomposition, components of the same sign, variances over N - 1; and it learns from
    pieces of any size exactly. Sparse tables are centred within matrix-vector products, and never made dense.

    Parameters
    ----------
    n_components : int, float in (0, 1), "mle" or None, default None
        How many, 0 for a model of noise alone; or the share of the variance that they exceed together; or as many as
        Minka's estimate finds, which needs as many samples as features; or as many as there are, the smaller of the
        numbers of samples and features. Of a sparse table only ints from 1 to below that number, and None for one less.
    whiten : bool, default False
        Divide the coordinates by their standard deviation. (Whitening("pca") has an eps beside it.)

    Attributes
    ----------
    components_ : ndarray of float64, shape (n_components_, n_features)
        An axis each row, of length 1.
    explained_variance_ : ndarray of float64, shape (n_components_,)
        The variance along each axis, over N - 1.
    explained_variance_ratio_ : ndarray of float64, shape (n_components_,)
        Its share of all variance.
    singular_values_ : ndarray of float64, shape (n_components_,)
        Of the centred data: ``sqrt((n_samples_seen_ - 1) * explained_variance_)``.
    noise_variance_ : float
        The mean variance along the axes that were left out, of as many as samples or features allow; 0 if none was.
    n_components_ : int
    mean_ : ndarray of float64, shape (n_features,)
    n_samples_seen_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        Where X had names.

    Raises
    ------
    TypeError
        If X is sparse in partial_fit, or n_components is of another type.
    ValueError
        If n_components is out of range, X is not of shape (n_samples, n_features), holds NaN or infinities, has other
        features than were learned from, or its variance overflows float64; if fewer than two samples were seen in all.
    sklearn.exceptions.NotFittedError
        If nothing was learned yet.

    Notes
    -----
    Time goes with N D² + D³ and memory with D², for N samples of D features: where features by far outnumber samples,
    scikit-learn's is the better choice. Whitened coordinates without variance beyond rounding are 0.

    A sparse table takes its components from ARPACK (``scipy.sparse.linalg.svds``), in memory of (N + D) n_components_.

    The model of score, get_covariance and get_precision is a Gaussian with the variances of the components, and
    noise_variance_ in all directions beside them. Directions without variance are left out of its density and inverse.

    References
    ----------
    Pearson, "On lines and planes of closest fit to systems of points in space", 1901; Tipping, Bishop, "Probabilistic
    principal component analysis", 1999; Minka, "Automatic choice of dimensionality for PCA", 2000.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.random.default_rng(0).normal(size=(500, 3)) * (9, 1, 3)
    >>> pca = nf.preprocessing.PCA(0.95).fit(x)
    >>> pca.n_components_, pca.transform(x).shape
    (2, (500, 2))
    >>> pieces = nf.preprocessing.PCA(2)
    >>> for piece in np.split(x, 5):
    ...     pieces = pieces.partial_fit(piece)
    >>> np.allclose(pieces.components_, pca.components_)
    True
    >>> import scipy.sparse
    >>> table = scipy.sparse.csr_array(np.diag(np.arange(50.0)))
    >>> nf.preprocessing.PCA(3).fit_transform(table).shape
    (50, 3)
    """

    def __init__(
        self,
        n_components: int | float | Literal["mle"] | None = None,
        *,
        whiten: bool = False,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Learn from X alone.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)
            Training data, at least two samples.
        y : object, optional
            Ignored.

        Returns
        -------
        self
            The transformer.
        """
        if not is_sparse(X):
            return super().fit(X)
        with unchanged_on_error(self):
            self._learn_sparse(X)
        return self

    @lazy_on_dask
    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Subtract the mean and apply the map.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)

        Returns
        -------
        ndarray of float32 or float64, shape (n_samples, n_components_)
            The coordinates of each sample.
        """
        check_is_fitted(self)
        x = _table(self, X, reset=False, accept_sparse="csr")
        return self._mapped_sparse(x) if is_sparse(x) else self._mapped(x)

    def score_samples(self, X: ArrayLike) -> Floats:
        """The logarithm of each sample's density under the Gaussian model.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)

        Returns
        -------
        ndarray of float64, shape (n_samples,)
            In nats.
        """
        check_is_fitted(self)
        x: Any = _table(self, X, reset=False, accept_sparse="csr").astype(np.float64, copy=False)
        components, mean = self.components_, self.mean_
        if is_sparse(x):
            coordinates = x @ components.T - mean @ components.T
            squares = np.asarray(x.multiply(x).sum(axis=1)).ravel() - 2 * (x @ mean) + mean @ mean
        else:
            centred = x - mean
            coordinates, squares = centred @ components.T, (centred * centred).sum(axis=1)
        return self._model().log_densities(coordinates, squares)

    def score(self, X: ArrayLike, y: object = None) -> float:
        """The mean of score_samples, by which searches choose n_components.

        Parameters
        ----------
        X : array_like or sparse table, shape (n_samples, n_features)
        y : object, optional
            Ignored.

        Returns
        -------
        float
            In nats.
        """
        return float(self.score_samples(X).mean())

    def get_covariance(self) -> Floats:
        """The covariance of the features in the Gaussian model.

        Returns
        -------
        ndarray of float64, shape (n_features, n_features)
            Over N - 1, as explained_variance_ is.
        """
        check_is_fitted(self)
        return self._model().covariance()

    def get_precision(self) -> Floats:
        """The inverse of get_covariance, the pseudo-inverse where directions are without variance.

        Returns
        -------
        ndarray of float64, shape (n_features, n_features)
            Symmetric.
        """
        check_is_fitted(self)
        return self._model().precision()

    def _learn_sparse(self, X: Any) -> None:
        x = _table(self, X, reset=True, accept_sparse="csr", ensure_min_samples=2)
        limit = min(x.shape) - 1
        count = _sparse_count(self.n_components, limit)
        x = x.astype(np.float64, copy=False)
        stats = _stats_of_columns(x, None)
        assert isinstance(stats, BatchNormStats)  # there are neither gaps nor weights
        self._keep(_Seen(x.shape[0], stats, stats.mean.shape))
        total = float(stats.var.sum())
        components, variances = _principal.truncated(x, stats.mean, total, count)
        left = max(total - float(variances.sum()), 0.0)
        self._found = self._axes_of(_signed(components), variances, left)

    def _mapped_sparse(self, x: Any) -> NDArray[Any]:
        forward = self._axes().forward.T
        y: NDArray[Any] = x.astype(np.float64, copy=False) @ forward - self.mean_ @ forward
        return y.astype(x.dtype, copy=False)

    def _check_parameters(self, n_features: int) -> None:
        _check_components(self.n_components, n_features, "features")

    def _maps(self, components: Floats, variances: Floats) -> _Axes:
        samples = self.n_samples_seen_
        _check_components(self.n_components, samples, "samples")
        limit = min(samples, variances.size)
        if isinstance(self.n_components, str):
            if samples < variances.size:
                raise ValueError(
                    "n_components='mle' is only supported if n_samples >= n_features, "
                    f"got {samples} of {variances.size}"
                )
            count = _principal.likeliest_count(variances * self._over_n_less_one(), samples)
        else:
            count = _count(self.n_components, variances, limit)
        left = float(variances[count:limit].sum())
        return self._axes_of(components[:count], variances, left)

    def _axes_of(self, components: Floats, variances: Floats, left: float) -> _Axes:
        """The maps of the components; variances may have more."""
        if not self.whiten:
            return _Axes(components, variances, components, components.T, left)
        count = len(components)
        multiply, divide = _roots(variances * self._over_n_less_one(), self.mean_.size)
        forward, backward = components * divide[:count, None], components.T * multiply[:count]
        return _Axes(components, variances, forward, backward, left)

    def _over_n_less_one(self) -> float:
        return float(self.n_samples_seen_ / (self.n_samples_seen_ - 1))

    def _model(self) -> _principal.Gaussian:
        return _principal.Gaussian(self.components_, self.explained_variance_, self.noise_variance_)

    @property
    def n_components_(self) -> int:
        """The number of components."""
        return len(self.components_)

    @property
    def explained_variance_(self) -> Floats:
        """The variance along each component, over N - 1."""
        axes = self._axes()
        return axes.variances[: len(axes.components)] * self._over_n_less_one()

    @property
    def explained_variance_ratio_(self) -> Floats:
        """The share of each component in the variance."""
        axes = self._axes()
        kept = axes.variances[: len(axes.components)]
        total = kept.sum() + axes.left
        return kept / total if total else kept

    @property
    def singular_values_(self) -> Floats:
        """The singular values of the centred data."""
        axes = self._axes()
        values: Floats = np.sqrt(axes.variances[: len(axes.components)] * self.n_samples_seen_)
        return values

    @property
    def noise_variance_(self) -> float:
        """The mean variance beside the components, over N - 1."""
        axes = self._axes()
        others = min(self.n_samples_seen_, self.mean_.size) - len(axes.components)
        return axes.left * self._over_n_less_one() / others if others else 0.0

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not (_is_share(self.n_components) or self.n_components == "mle")
        return tags


class Whitening(_Rotation):
    """PCA whitening and ZCA whitening: centred data with the identity for a covariance.

    With eigenvectors V and eigenvalues λ of the biased covariance, PCA whitening is ``(x - mean) V / √(λ + eps)``; ZCA
    whitening rotates that back, ``(x - mean) V / √(λ + eps) Vᵀ``, and of all whitenings changes the data least, so that
    images still look like images.

    Parameters
    ----------
    kind : "pca" or "zca", default "pca"
    eps : float, default 1e-5
        Added to the eigenvalues, lest directions of little variance become loud. Scale the features first, or choose it
        with their variance in mind. 0 whitens fully.

    Attributes
    ----------
    components_ : ndarray of float64, shape (n_features, n_features)
        An eigenvector each row, in descending order of the eigenvalues.
    eigenvalues_ : ndarray of float64, shape (n_features,)
        Of the covariance over N.
    mean_ : ndarray of float64, shape (n_features,)
    n_samples_seen_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features,)
        Where X had names.

    Raises
    ------
    TypeError
        If X is sparse, or eps is no number.
    ValueError
        If kind is unknown, eps is negative or not finite, X is not of shape (n_samples, n_features), holds NaN or
        infinities, has other features than were learned from, or its variance overflows float64; if fewer than two
        samples were seen in all.
    sklearn.exceptions.NotFittedError
        If nothing was learned yet.

    Notes
    -----
    Time goes with N D² + D³ and memory with D², for N samples of D features. Directions in which the data has no
    variance beyond rounding even with eps are mapped to 0, and the inverse leaves them at the mean.

    References
    ----------
    Bell, Sejnowski, "The 'independent components' of natural scenes are edge filters", 1997; Kessy, Lewin, Strimmer,
    "Optimal whitening and decorrelation", 2018.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.random.default_rng(0).normal(size=(500, 2)) @ [[3.0, 1.0], [0.0, 2.0]] + 7
    >>> whitening = nf.preprocessing.Whitening("zca", eps=0).fit(x)
    >>> y = whitening.transform(x)
    >>> np.allclose(y.T @ y / 500, np.eye(2))
    True
    >>> np.allclose(whitening.inverse_transform(y), x)
    True
    """

    def __init__(self, kind: Literal["pca", "zca"] = "pca", *, eps: float = 1e-5) -> None:
        self.kind = kind
        self.eps = eps

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[Any]:
        """Names of the outputs: those of the features with "zca", else whitening0, whitening1, ...

        Parameters
        ----------
        input_features : array_like of str, optional
            Names of the features, where none were learned.

        Returns
        -------
        ndarray of str
            One for each output.
        """
        mixin = OneToOneFeatureMixin if self.kind == "zca" else ClassNamePrefixFeaturesOutMixin
        names: NDArray[Any] = mixin.get_feature_names_out(self, input_features)
        return names

    def _check_parameters(self, n_features: int) -> None:
        _checks.one_of(self.kind, ("pca", "zca"), "kind")
        _checks.not_negative(_checks.finite(self.eps, "eps"), "eps")

    def _maps(self, components: Floats, variances: Floats) -> _Axes:
        multiply, divide = _roots(variances + self.eps, variances.size)
        forward, backward = components * divide[:, None], components.T * multiply
        if self.kind == "zca":
            forward, backward = components.T @ forward, backward @ components
        return _Axes(components, variances, forward, backward)

    @property
    def eigenvalues_(self) -> Floats:
        """The variance along each component, over N."""
        return self._axes().variances


# ---- checks ----


def _table(estimator: object, X: ArrayLike, *, reset: bool, **options: Any) -> NDArray[Any]:
    """X as an array (n_samples, n_features), its features learned or checked."""
    _arrays.check_readable(X, "X")
    x: NDArray[Any] = validate_data(estimator, X, reset=reset, dtype=DTYPES, **options)
    return x


def _columns(estimator: object, X: ArrayLike, count: int, **options: Any) -> NDArray[Any]:
    """X as an array (n_samples, count), whose columns may be called anything."""
    _arrays.check_readable(X, "X")
    x: NDArray[Any] = check_array(X, dtype=DTYPES, estimator=estimator, input_name="X", **options)
    if x.shape[1] != count:
        raise ValueError(
            f"X must have {count} columns, as {type(estimator).__name__} returns them, got {x.shape[1]}"
        )
    return x


def _weights_of(x: Any, sample_weight: Any) -> Floats:
    """The weights of the samples, checked."""
    _arrays.check_readable(sample_weight, "sample_weight")
    weights: Floats = _check_sample_weight(sample_weight, x, dtype=np.float64)
    if (weights < 0).any() or not weights.any():
        raise ValueError("sample_weight must not be negative or all 0")
    return weights


def _is_share(n_components: Any) -> bool:
    return isinstance(n_components, float | np.floating)


def _check_components(n_components: Any, limit: int, of: str) -> None:
    if n_components is None:
        return
    if isinstance(n_components, str):
        if n_components != "mle":
            raise ValueError(
                f"n_components must be an int, a float in (0, 1), 'mle' or None, got {n_components!r}"
            )
        return
    if _is_share(n_components):
        if not 0 < n_components < 1:
            raise ValueError(f"n_components must be in (0, 1) as a float, got {n_components!r}")
        return
    if _checks.integer_from(n_components, 0, "n_components") > limit:
        raise ValueError(f"n_components must not exceed the {limit} {of}, got {n_components}")


def _sparse_count(n_components: Any, limit: int) -> int:
    """The number of components of a sparse table, of which ARPACK finds all but one at most."""
    if limit < 1:
        raise ValueError("X must have two features or more where it is sparse, got 1")
    if n_components is None:
        return limit
    if _is_share(n_components) or isinstance(n_components, str):
        raise ValueError(
            f"n_components must be an int or None where X is sparse, got {n_components!r}"
        )
    count = _checks.integer_from(n_components, 1, "n_components")
    if count > limit:
        raise ValueError(
            f"n_components must be below both samples and features where X is sparse, got {count} of {limit + 1}"
        )
    return count


# ---- arithmetic ----


def _scale(mean: Floats, var: Floats) -> Floats:
    """The standard deviation; 1 where it is rounding alone, which standardising would turn into noise."""
    deviation = np.sqrt(var)
    return np.where(deviation <= _ROUNDING * np.abs(mean), 1.0, deviation)


def _affine(
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
        y = _affine(x.astype(np.float64), mean=mean, scale=scale, shift=shift, axis=axis)
        return _stored(y.astype(x.dtype), out)
    origin, ones = np.zeros(x.shape[axis]) if mean is None else mean, np.ones(x.shape[axis])
    # Beside a variance of 1 this eps is nothing.
    eps = limits.smallest_normal
    return batch_norm(x, scale, shift, origin, ones, training=False, eps=eps, axis=axis, out=out)[0]


def _columns_scaled(x: Any, scale: Floats, copy: bool) -> Any:
    """The columns of a CSR table times one number each."""
    y = x.copy() if copy else x
    y.data *= scale.take(y.indices)
    return y


def _stored(y: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
    if out is None:
        return y
    out[...] = y
    return out


def _scatter(x: NDArray[Any], mean: Floats) -> Floats:
    """The sum of outer products of differences from the mean, in float64 and in blocks no larger than itself."""
    n_features = mean.size
    scatter = np.zeros((n_features, n_features))
    rows = max(n_features, 1024)
    for first in range(0, len(x), rows):
        centred = x[first : first + rows] - mean
        scatter += centred.T @ centred
    return scatter


def _eigen(covariance: Floats) -> tuple[Floats, Floats]:
    """Eigenvectors as rows and eigenvalues in descending order; of each vector the largest entry is positive."""
    values, vectors = np.linalg.eigh(covariance)
    # Rounding leaves small eigenvalues on either side of 0.
    return _signed(np.ascontiguousarray(vectors.T[::-1])), np.maximum(values[::-1], 0)


def _signed(components: Floats) -> Floats:
    """The rows with a positive largest entry each, in place."""
    largest = np.abs(components).argmax(axis=1, keepdims=True)
    components *= np.sign(np.take_along_axis(components, largest, axis=1))
    return components


def _roots(variances: Floats, n_features: int) -> tuple[Floats, Floats]:
    """Standard deviations and their inverses; both 0 where the variance is rounding alone."""
    kept = variances > variances[0] * n_features * _ROUNDING
    roots = np.sqrt(variances, where=kept, out=np.zeros_like(variances))
    return roots, np.divide(1, roots, where=kept, out=np.zeros_like(variances))


def _shares(variances: Floats) -> Floats:
    total = variances.sum()
    return variances / total if total else variances


def _count(n_components: int | float | None, variances: Floats, limit: int) -> int:
    """The number of components."""
    if n_components is None:
        return limit
    if not _is_share(n_components):
        return int(n_components)
    exceeded = np.searchsorted(np.cumsum(_shares(variances)), n_components, side="right")
    return min(int(exceeded) + 1, limit)


_docs.finish(
    __name__,
    {
        "X": "The samples.",
        "kind": "Whether the axes are those of the eigenvectors, or turned back to the features'.",
    },
)
