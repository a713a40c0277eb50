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
) -> tuple[Array, BatchNormSaved]:
    """A piece of y, and what its gradients need; the statistics are those of the whole batch."""
    return batch_norm(x, gamma, beta, stats.mean, stats.var, eps=eps, axis=axis)


def sums(dy: Array, x: Array, gamma: Array | None, saved: BatchNormSaved) -> tuple[Array, ...]:
    """A piece of dx as if the statistics did not depend on x, and its parts of dgamma and dbeta."""
    return batch_norm_backward(dy, x, gamma, saved)


def input_gradient(
    dx: Array,
    x: Array,
    gamma: Array | None,
    stats: BatchNormStats,
    dgamma: Array,
    dbeta: Array,
    eps: float,
    axis: int,
) -> Array:
    """A piece of dx, written over that of `sums`; dgamma and dbeta are those of the whole batch.

    ``dx - gamma / std * (mean(dy) + (x - mean) / std * mean(dy * (x - mean) / std))``, which is a normalisation of x
    that is added to dx.
    """
    rate = -1.0 / (np.sqrt(stats.var + eps) * stats.count)
    if gamma is not None:
        rate = rate * gamma
    return batch_norm(
        x,
        rate * dgamma,
        rate * dbeta,
        stats.mean,
        stats.var,
        eps=eps,
        axis=axis,
        add=dx,
        out=dx,
    )[0]
