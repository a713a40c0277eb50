"""Batch normalisation of a batch that lies in pieces: what each does when statistics, or sums, of all are known."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnfast.normalization import (
    BatchNormSaved,
    BatchNormStats,
    batch_norm,
    batch_norm_backward,
)

Array = NDArray[Any]


def normalised(
    x: Array, gamma: Array | None, beta: Array | None, stats: BatchNormStats, eps: float, axis: int
) -> Array:
    """A piece of y; the statistics are those of the whole batch. Without a number for one, there is none in y."""
    if np.isnan(stats.var).any():  # which batch_norm takes for a mistake
        return np.full_like(x, np.nan)
    return batch_norm(x, gamma, beta, stats.mean, stats.var, eps=eps, axis=axis)[0]


def sums(dy: Array, x: Array, stats: BatchNormStats, eps: float, axis: int) -> list[Array]:
    """What a piece adds to dgamma and dbeta."""
    saved = BatchNormSaved(stats.mean, 1 / np.sqrt(stats.var + eps), axis, training=False)
    return list(batch_norm_backward(dy, x, None, saved)[1:])


def input_gradient(
    dy: Array,
    x: Array,
    gamma: Array | None,
    stats: BatchNormStats,
    dgamma: Array,
    dbeta: Array,
    eps: float,
    axis: int,
) -> Array:
    """A piece of dx; dgamma and dbeta are those of the whole batch.

    ``gamma / std * (dy - mean(dy) - x_hat * mean(dy * x_hat))`` with ``x_hat = (x - mean) / std``: a normalisation of
    dy, to which one of x is added.
    """
    if np.isnan(stats.var).any():
        return np.full_like(x, np.nan)
    narrow = x.dtype
    if narrow == np.float16:  # rounded once
        dy, x = dy.astype(np.float32), x.astype(np.float32)
    scale = 1 / np.sqrt(stats.var + eps)
    if gamma is not None:
        scale = scale * gamma
    # Beside a variance of 1 this eps is nothing.
    tiny, ones = float(np.finfo(x.dtype).smallest_normal), np.ones_like(scale)
    dx, _ = batch_norm(dy, scale, None, dbeta / stats.count, ones, eps=tiny, axis=axis)
    rate = scale * (dgamma / -stats.count)
    batch_norm(x, rate, None, stats.mean, stats.var, eps=eps, axis=axis, add=dx, out=dx)
    return dx.astype(narrow, copy=False)
