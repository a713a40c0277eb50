"""A mean and a deviation for each feature, channel or pixel."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import OneToOneFeatureMixin
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted

from nnfast import _arrays, _checks
from nnfast._sklearn import DTYPES, lazy_on_dask, unchanged_on_error
from nnfast._sparse import is_sparse
from nnfast.augmentation import Layout
from nnfast.normalization import BatchNormStats
from nnfast.preprocessing import _column_stats
from nnfast.preprocessing._column_stats import Floats
from nnfast.preprocessing._transformer import (
    ROUNDING,
    Seen,
    Transformer,
    affine,
    columns,
    stats_of,
    stats_of_columns,
    table,
)

__all__ = ["ImageScaler", "StandardScaler"]


class _Scaler(Transformer):
    """A mean and a scale for each index of an axis: subclasses define the axis, and apply them."""

    var_: Floats
    scale_: Floats
    with_mean: bool
    with_std: bool
    copy: bool

    def _keep(self, seen: Seen) -> None:
        self.n_samples_seen_ = self._samples_of(seen)
        self._stats = seen.stats
        self.mean_, self.var_ = (a.reshape(seen.shape) for a in (seen.stats.mean, seen.stats.var))
        self.scale_ = _scale(self.mean_, self.var_)

    def _samples_of(self, seen: Seen) -> Any:
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
        return affine(x, mean=mean, scale=1 / scale, out=None if copy else x)

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
        x = columns(self, X, self.mean_.size, force_writeable=not copy, **self._TAKES)
        mean, scale = self._used()
        if is_sparse(x):
            self._check_sparse()
            return _columns_scaled(x, scale, copy)
        return affine(x, scale=scale, shift=mean, out=None if copy else x)

    _TAKES: ClassVar[dict[str, Any]] = {"accept_sparse": "csr", "ensure_all_finite": "allow-nan"}

    def _checked(self, X: ArrayLike, *, reset: bool, **options: Any) -> Any:
        return table(self, X, reset=reset, **self._TAKES, **options)

    def _seen(
        self, X: ArrayLike, first: bool, *, sample_weight: ArrayLike | None = None, **options: Any
    ) -> Seen:
        x = self._checked(X, reset=first, **options)
        if is_sparse(x):
            self._check_sparse()
        weights = None if sample_weight is None else _weights_of(x, sample_weight)
        return Seen(x.shape[0], stats_of_columns(x, weights), x.shape[1:])

    def _samples_of(self, seen: Seen) -> Any:
        stats = seen.stats
        return stats.samples if isinstance(stats, _column_stats.ColumnStats) else seen.samples

    def _before(self) -> Seen:
        stats = self._stats
        samples = stats.count if isinstance(stats, BatchNormStats) else 0
        return Seen(samples, stats, self.mean_.shape)

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

    def _seen(self, X: ArrayLike, first: bool, **options: Any) -> Seen:
        x = self._checked(X, reset=first, **options)
        flat, axis = self._flat(x)
        stats = stats_of(flat, axis)
        return Seen(len(x), stats, self._shape_of_statistics(x))

    def _before(self) -> Seen:
        return Seen(self.n_samples_seen_, self._stats, self.mean_.shape)

    def _mapped(self, x: NDArray[Any], **numbers: Floats) -> NDArray[Any]:
        flat, axis = self._flat(x)
        return affine(flat, axis=axis, out=None if self.copy else flat, **numbers).reshape(x.shape)

    def _flat(self, x: NDArray[Any]) -> tuple[NDArray[Any], int]:
        return (x.reshape(len(x), -1), 1) if self.per == "pixel" else (x, self.layout.index("C"))

    def _shape_of_statistics(self, x: NDArray[Any]) -> tuple[int, ...]:
        return x.shape[1:] if self.per == "pixel" else (x.shape[self.layout.index("C")],)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


def _weights_of(x: Any, sample_weight: Any) -> Floats:
    """The weights of the samples, checked."""
    _arrays.check_readable(sample_weight, "sample_weight")
    weights: Floats = _check_sample_weight(sample_weight, x, dtype=np.float64)
    if (weights < 0).any() or not weights.any():
        raise ValueError("sample_weight must not be negative or all 0")
    return weights


def _scale(mean: Floats, var: Floats) -> Floats:
    """The standard deviation; 1 where it is rounding alone, which standardising would turn into noise."""
    deviation = np.sqrt(var)
    return np.where(deviation <= ROUNDING * np.abs(mean), 1.0, deviation)


def _columns_scaled(x: Any, scale: Floats, copy: bool) -> Any:
    """The columns of a CSR table times one number each."""
    y = x.copy() if copy else x
    y.data *= scale.take(y.indices)
    return y
