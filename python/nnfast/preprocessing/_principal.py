"""Principal components beside the covariance matrix: of sparse tables, how many there are, and their Gaussian model."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROUNDING = float(np.finfo(np.float64).eps)
_LEAST = float(np.finfo(np.float64).tiny)


def truncated(x: Any, mean: Floats, variance: float, count: int) -> tuple[Floats, Floats]:
    """The first right singular vectors of a CSR table less its mean, as rows, and the variances along them, over N.

    `variance` is that of all features together. The table is centred within each product, and so stays sparse:
    ``(x - 1 meanᵀ) v = x v - 1 (meanᵀ v)``.
    """
    from scipy.sparse.linalg import LinearOperator, svds  # type: ignore[import-untyped]

    if variance == 0:  # ARPACK finds no vector to begin with
        return np.eye(count, x.shape[1]), np.zeros(count)

    def forward(v: Floats) -> Floats:
        product: Floats = x @ v - mean @ v
        return product

    def backward(u: Floats) -> Floats:
        total = u.sum(axis=0)
        product: Floats = x.T @ u - (mean * total if u.ndim == 1 else np.outer(mean, total))
        return product

    centred = LinearOperator(
        dtype=np.float64,
        shape=x.shape,
        matvec=forward,
        rmatvec=backward,
        matmat=forward,
        rmatmat=backward,
    )
    # Of a fixed first vector, so that every fit has the same bits.
    first = np.random.default_rng(0).uniform(-1, 1, min(x.shape))
    _, singular, vectors = svds(centred, k=count, v0=first, solver="arpack")
    order = np.argsort(-singular)
    return np.ascontiguousarray(vectors[order]), singular[order] ** 2 / x.shape[0]


def likeliest_count(variances: Floats, samples: int) -> int:
    """The number of components, from 1 to one less than the features, of greatest evidence.

    Minka, "Automatic choice of dimensionality for PCA", 2000, equations 76 and 78, in logarithms. The variances are
    over N - 1, one for each feature, in descending order.
    """
    if variances.size < 2:
        return 1
    least = float(variances[0]) * variances.size * _ROUNDING
    evidence = [_evidence(variances, k, samples, least) for k in range(1, variances.size)]
    return 1 + int(np.argmax(evidence))


def _evidence(variances: Floats, k: int, samples: int, least: float) -> float:
    """The logarithm of Laplace's approximation of p(data | k), but for a constant.

    A variance up to `least` is rounding, whose logarithm would win over all others.
    """
    n_features = variances.size
    if variances[k - 1] <= least:
        return -math.inf
    noise = max(float(variances[k:].mean()), least)
    angles = np.arange(n_features, n_features - k, -1) / 2
    log_p_u = -k * math.log(2) + sum(math.lgamma(a) - a * math.log(math.pi) for a in angles)
    log_kept = -samples / 2 * np.log(variances[:k]).sum()
    log_noise = -samples * (n_features - k) / 2 * math.log(noise)
    m = n_features * k - k * (k + 1) / 2
    smoothed = np.where(np.arange(n_features) < k, variances, noise)
    i, j = np.triu_indices(k, 1, n_features)
    curvature = (variances[i] - variances[j]) * (1 / smoothed[j] - 1 / smoothed[i])
    curvature = np.log(np.maximum(curvature, _LEAST)) + math.log(samples)
    occam = (m + k) / 2 * math.log(2 * math.pi) - curvature.sum() / 2 - k / 2 * math.log(samples)
    return float(log_p_u + log_kept + log_noise + occam)


class Gaussian:
    """The model behind PCA: variances along the components, and one for all directions beside them.

    Tipping, Bishop, "Probabilistic principal component analysis", 1999. Directions without variance are left out, of
    the inverse and of the determinant: the density is that within the others.
    """

    def __init__(self, components: Floats, variances: Floats, noise: float) -> None:
        self._components, self._variances, self._noise = components, variances, noise
        largest = float(variances[0]) if variances.size else 0.0
        negligible = largest * components.shape[1] * _ROUNDING
        kept = variances > negligible
        self._inverse = np.divide(1.0, variances, where=kept, out=np.zeros_like(variances))
        self._inverse_noise = 1 / noise if noise > negligible else 0.0
        self._others = components.shape[1] - len(components)
        self._axes = int(kept.sum()) + (self._others if self._inverse_noise else 0)
        self._log_det = float(np.log(variances[kept]).sum())
        if self._inverse_noise:
            self._log_det += self._others * math.log(noise)

    def covariance(self) -> Floats:
        """Of the features."""
        return self._matrix(self._variances, self._noise)

    def precision(self) -> Floats:
        """Its inverse."""
        return self._matrix(self._inverse, self._inverse_noise)

    def log_densities(self, coordinates: Floats, squares: Floats) -> Floats:
        """Of samples of these coordinates along the components and these squared distances from the mean."""
        own = coordinates * coordinates
        beside = np.maximum(squares - own.sum(axis=1), 0.0)
        distance = own @ self._inverse + beside * self._inverse_noise
        density: Floats = -0.5 * (distance + self._axes * math.log(2 * math.pi) + self._log_det)
        return density

    def _matrix(self, along: Floats, beside: float) -> Floats:
        if not self._others:
            beside = 0.0
        v = self._components
        matrix = (v.T * (along - beside)) @ v
        matrix.flat[:: len(matrix) + 1] += beside
        return matrix
