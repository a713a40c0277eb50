"""Normalization as its papers write it, in the dtype of what it is given: tests give long doubles."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
EPS = 1e-5


def per_channel(x: Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of x but that of the channels, 1, and the shape in which a value per channel broadcasts against x."""
    return (0, *range(2, x.ndim)), (1, -1, *(1,) * (x.ndim - 2))


def normalized(x: Array, axes: Any) -> tuple[Array, Array]:
    """(x - mean) / sigma over axes, and 1 / sigma."""
    centred = x - x.mean(axis=axes, keepdims=True)
    inv_std = 1 / np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + EPS)
    return centred * inv_std, inv_std


def normalized_backward(scaled: Array, normal: Array, inv_std: Array, axes: Any) -> Array:
    """dx from gamma dy."""
    mean = scaled.mean(axis=axes, keepdims=True)
    slope = (scaled * normal).mean(axis=axes, keepdims=True)
    return inv_std * (scaled - mean - normal * slope)


# ---- batch_norm: (N, C, ...) ----


def batch_norm(x: Array, gamma: Array, beta: Array) -> Array:
    axes, shape = per_channel(x)
    return gamma.reshape(shape) * normalized(x, axes)[0] + beta.reshape(shape)


def batch_norm_inference(x: Array, gamma: Array, beta: Array, mean: Array, var: Array) -> Array:
    _, shape = per_channel(x)
    scale = gamma / np.sqrt(var + EPS)
    return scale.reshape(shape) * (x - mean.reshape(shape)) + beta.reshape(shape)


def batch_norm_backward(dy: Array, x: Array, gamma: Array) -> tuple[Array, Array, Array]:
    axes, shape = per_channel(x)
    normal, inv_std = normalized(x, axes)
    dx = normalized_backward(gamma.reshape(shape) * dy, normal, inv_std, axes)
    return dx, (dy * normal).sum(axis=axes), dy.sum(axis=axes)


def batch_norm_stats(x: Array) -> tuple[Array, Array]:
    """Mean and sum of squared differences from it."""
    axes, shape = per_channel(x)
    mean = x.mean(axis=axes)
    return mean, ((x - mean.reshape(shape)) ** 2).sum(axis=axes)


# ---- group_norm: (N, C, ...); instance_norm has a group per channel ----


def group_norm(x: Array, groups: int, gamma: Array, beta: Array) -> Array:
    _, shape = per_channel(x)
    normal, _ = normalized(x.reshape(len(x), groups, -1), -1)
    return gamma.reshape(shape) * normal.reshape(x.shape) + beta.reshape(shape)


def group_norm_backward(
    dy: Array, x: Array, groups: int, gamma: Array
) -> tuple[Array, Array, Array]:
    axes, shape = per_channel(x)
    sets = x.reshape(len(x), groups, -1)
    normal, inv_std = normalized(sets, -1)
    scaled = (gamma.reshape(shape) * dy).reshape(sets.shape)
    dx = normalized_backward(scaled, normal, inv_std, -1).reshape(x.shape)
    return dx, (dy * normal.reshape(x.shape)).sum(axis=axes), dy.sum(axis=axes)


# ---- layer_norm, rms_norm: along the last axis of rows ----


def layer_norm(x: Array, gamma: Array, beta: Array) -> Array:
    return gamma * normalized(x, -1)[0] + beta


def layer_norm_backward(dy: Array, x: Array, gamma: Array) -> tuple[Array, Array, Array]:
    normal, inv_std = normalized(x, -1)
    dx = normalized_backward(gamma * dy, normal, inv_std, -1)
    return dx, (dy * normal).sum(axis=0), dy.sum(axis=0)


def rms_normalized(x: Array) -> tuple[Array, Array]:
    """x / rms, and 1 / rms."""
    inv_rms = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPS)
    return x * inv_rms, inv_rms


def rms_norm(x: Array, gamma: Array) -> Array:
    return gamma * rms_normalized(x)[0]


def rms_norm_backward(dy: Array, x: Array, gamma: Array) -> tuple[Array, Array]:
    normal, inv_rms = rms_normalized(x)
    scaled = gamma * dy
    dx = inv_rms * (scaled - normal * (scaled * normal).mean(axis=-1, keepdims=True))
    return dx, (dy * normal).sum(axis=0)
