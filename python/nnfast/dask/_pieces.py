"""Batch normalization of a batch that lies in pieces: what each does when statistics, or sums, of all are known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnfast._load import _core
from nnfast.normalization import BatchNormStats, batch_norm

Array = NDArray[Any]


def normalized(
    x: Array, gamma: Array | None, beta: Array | None, stats: BatchNormStats, eps: float, axis: int
) -> Array:
    """A piece of y; the statistics are those of the whole batch. Where one is NaN, so is all of y."""
    if np.isnan(stats.var).any():  # batch_norm raises an error
        return np.full_like(x, np.nan)
    return batch_norm(x, gamma, beta, stats.mean, stats.var, training=False, eps=eps, axis=axis)[0]


def sums(dy: Array, x: Array, stats: BatchNormStats, eps: float, axis: int) -> list[Array]:
    """What a piece adds to dgamma and dbeta, in float64."""
    return list(_core.batch_norm_parameter_gradients(dy, x, stats.mean, _inv_std(stats, eps), axis))


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
    """A piece of dx; dgamma and dbeta are those of the whole batch."""
    inv_std = _inv_std(stats, eps)
    return _core.batch_norm_input_gradient(
        dy, x, gamma, stats.mean, inv_std, dgamma, dbeta, stats.count, axis
    )


def _inv_std(stats: BatchNormStats, eps: float) -> NDArray[np.float64]:
    inv_std: NDArray[np.float64] = 1 / np.sqrt(stats.var + eps)
    return inv_std
