"""Batch normalization folded into the weights of the layer before it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays
from nnfast.normalization.running import Convention, is_vector, settings_of

__all__ = ["fold_batch_norm"]


def fold_batch_norm(
    weight: ArrayLike,
    bias: ArrayLike | None,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    mean: ArrayLike,
    var: ArrayLike,
    *,
    eps: float | None = None,
    axis: int = 0,
    convention: Convention = "torch",
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Fold the batch normalization after a layer into the layer's weight and bias, for inference.

    Parameters
    ----------
    weight : array_like of float32 or float64
        Of the layer: (out, in, kh, kw) of a convolution, or with ``axis=1`` the (in, out) of ``x @ weight``.
    bias : array_like, shape (out,), or None
        Of the layer; None is zeros.
    gamma, beta : array_like, shape (out,), or None
        Scale and shift; ones and zeros if None. As for batch_norm, a shape may have axes of length 1, too, such as
        (1, out), (out, 1) or (1, out, 1, 1).
    mean, var : array_like, shape as of gamma
        The running statistics.
    eps : float, optional
        As the batch normalization has it.
    axis : int, default 0
        The axis of the outputs in weight.
    convention : "torch", "keras" or "cs231n", default "torch"
        What eps defaults to, as in batch_norm: 1e-5, 1e-3 or 1e-5.

    Returns
    -------
    weight, bias : ndarray of weight's dtype
        Computed in float64, rounded once.

    Raises
    ------
    TypeError
        If an array is not of real numbers.
    ValueError
        If a shape does not match, eps is not positive, var is negative or NaN, or convention is unknown.

    See Also
    --------
    batch_norm, batch_norm_stats, merge_stats

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> rng = np.random.default_rng(0)
    >>> x, w = rng.standard_normal((4, 3)), rng.standard_normal((3, 2))
    >>> gamma, beta, mean, var = rng.uniform(1, 2, (4, 2))
    >>> w1, b1 = nf.fold_batch_norm(w, None, gamma, beta, mean, var, axis=1)
    >>> np.allclose(x @ w1 + b1, nf.batch_norm(x @ w, gamma, beta, mean, var, training=False)[0])
    True
    """
    weight = _arrays.floating(weight, "weight")
    axis = _arrays.axis_of(axis, weight, "weight")
    outputs = weight.shape[axis]
    _, eps, _ = settings_of(convention, None, eps, None)
    if not 0 < eps < np.inf:
        raise ValueError(f"eps must be positive, got {eps}")

    def vector(value: ArrayLike | None, name: str, missing: float) -> NDArray[np.float64]:
        if value is None:
            return np.full(outputs, missing)
        array = _arrays.floating(value, name).astype(np.float64)
        if not is_vector(array, outputs):
            raise ValueError(f"{name} must have shape ({outputs},), got {array.shape}")
        return array.reshape(outputs)

    var = vector(var, "var", 1)
    if not (var >= 0).all():
        raise ValueError("var must not be negative or NaN")
    scale = vector(gamma, "gamma", 1) / np.sqrt(var + eps)
    shape = [1] * weight.ndim
    shape[axis] = outputs
    shift = (vector(bias, "bias", 0) - vector(mean, "mean", 0)) * scale + vector(beta, "beta", 0)
    return (weight * scale.reshape(shape)).astype(weight.dtype), shift.astype(weight.dtype)
