"""Pooling in plain NumPy, a window at a time: the oracle of the tests."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def count_of(n: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows an axis has; below 1 if none fits. With ceil_mode the last begins before the padding behind."""
    room = n + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= n + padding else count


def windows(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> Iterator[tuple[tuple[int, ...], list[NDArray[np.intp]], int]]:
    """For each window of a plane: its place, its indices along each axis, and how many with the padding."""
    counts = [
        count_of(n, *options, ceil_mode)
        for n, *options in zip(shape, kernel, stride, padding, dilation, strict=True)
    ]
    for place in np.ndindex(*counts):
        indices, padded = [], 1
        for k, n in enumerate(shape):
            along = place[k] * stride[k] - padding[k] + dilation[k] * np.arange(kernel[k])
            padded *= int((along < n + padding[k]).sum())
            indices.append(along[(along >= 0) & (along < n)])
        yield place, indices, padded


def _values(x: Array, indices: list[NDArray[np.intp]]) -> Array:
    """Those of a window, flat along the last axis."""
    found = x[(..., *np.ix_(*indices))]
    return found.reshape(*x.shape[:2], int(np.prod(found.shape[2:])))


def max_pool(x: Array, *options: Any) -> tuple[Array, NDArray[np.int32]]:
    """y and positions of x of shape (N, C, *plane); `options` as of windows."""
    plane = x.shape[2:]
    found = list(windows(plane, *options))
    counts = tuple(np.array(found[-1][0]) + 1)
    y = np.full((*x.shape[:2], *counts), -np.inf, x.dtype)
    which = np.full(y.shape, -1, np.int32)
    positions = np.arange(np.prod(plane)).reshape(plane)
    for place, indices, _ in found:
        values = _values(x, indices)
        if values.shape[-1] == 0:
            continue
        first = values.argmax(axis=-1)  # the first of equals, and of NaN
        here = (slice(None), slice(None), *place)
        y[here] = np.take_along_axis(values, first[..., np.newaxis], -1)[..., 0]
        which[here] = positions[np.ix_(*indices)].ravel()[first]
    return y, which


def max_pool_backward(dy: Array, which: NDArray[np.int32], plane: tuple[int, ...]) -> Array:
    """Summed in the order of the windows in dy's dtype, float16 in float32."""
    wide = np.promote_types(dy.dtype, np.float32)
    dx = np.zeros((*dy.shape[:2], int(np.prod(plane))), wide)
    for n, c, *place in np.ndindex(dy.shape):
        at = (n, c, *place)
        if which[at] >= 0:
            dx[n, c, which[at]] += dy[at]
    return dx.reshape(*dy.shape[:2], *plane).astype(dy.dtype)


def avg_pool(x: Array, count_include_pad: bool, *options: Any) -> Array:
    """y of x of shape (N, C, *plane), summed in the order of a window's elements in x's dtype, float16 in float32."""
    wide = x.astype(np.promote_types(x.dtype, np.float32))
    found = list(windows(x.shape[2:], *options))
    y = np.zeros((*x.shape[:2], *(np.array(found[-1][0]) + 1)), wide.dtype)
    for place, indices, padded in found:
        values = _values(wide, indices)
        total = np.zeros(x.shape[:2], wide.dtype)
        for k in range(values.shape[-1]):
            total += values[..., k]
        divisor = padded if count_include_pad else values.shape[-1]
        y[(slice(None), slice(None), *place)] = total / wide.dtype.type(divisor)
    return y.astype(x.dtype)


def avg_pool_backward(
    dy: Array, count_include_pad: bool, plane: tuple[int, ...], *options: Any
) -> Array:
    """Summed in the order of the windows in dy's dtype, float16 in float32."""
    wide = dy.astype(np.promote_types(dy.dtype, np.float32))
    dx = np.zeros((*dy.shape[:2], *plane), wide.dtype)
    for place, indices, padded in windows(plane, *options):
        divisor = padded if count_include_pad else int(np.prod([len(along) for along in indices]))
        share = wide[(slice(None), slice(None), *place)] / wide.dtype.type(divisor)
        dx[(..., *np.ix_(*indices))] += share[(..., *(np.newaxis,) * len(plane))]
    return dx.astype(dy.dtype)
