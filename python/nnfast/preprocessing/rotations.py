"""Rotations to the axes of greatest variance: principal components and whitening."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, OneToOneFeatureMixin
from sklearn.utils.validation import check_is_fitted

from nnfast import _checks
from nnfast._sklearn import lazy_on_dask, unchanged_on_error
from nnfast._sparse import is_sparse
from nnfast.normalization import BatchNormStats
from nnfast.preprocessing import _principal
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

__all__ = ["PCA", "Whitening"]


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


class _Rotation(ClassNamePrefixFeaturesOutMixin, Transformer):
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
        return self._mapped(table(self, X, reset=False))

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
        x = columns(self, X, len(axes.forward))
        y = x @ axes.backward.T.astype(x.dtype)
        return affine(y, shift=self.mean_, out=y)

    def _mapped(self, x: NDArray[Any]) -> NDArray[Any]:
        y: NDArray[Any] = affine(x, mean=self.mean_) @ self._axes().forward.T.astype(x.dtype)
        return y

    def _seen(self, X: ArrayLike, first: bool, **options: Any) -> Seen:
        x = self._checked(X, reset=first, **options)
        self._check_parameters(x.shape[1])
        stats = stats_of(x, 1)
        return Seen(len(x), stats, stats.mean.shape, _scatter(x, stats.mean))

    def _before(self) -> Seen:
        if self._scatter is None:
            raise ValueError(
                "partial_fit must not follow fit on a sparse X, of which no covariance is kept"
            )
        return Seen(self.n_samples_seen_, self._stats, self.mean_.shape, self._scatter)

    def _keep(self, seen: Seen) -> None:
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
        x = table(self, X, reset=False, accept_sparse="csr")
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
        x: Any = table(self, X, reset=False, accept_sparse="csr").astype(np.float64, copy=False)
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
        x = table(self, X, reset=True, accept_sparse="csr", ensure_min_samples=2)
        limit = min(x.shape) - 1
        count = _sparse_count(self.n_components, limit)
        x = x.astype(np.float64, copy=False)
        stats = stats_of_columns(x, None)
        assert isinstance(stats, BatchNormStats)  # there are neither gaps nor weights
        self._keep(Seen(x.shape[0], stats, stats.mean.shape))
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
    kept = variances > variances[0] * n_features * ROUNDING
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
