"""Convolutions in plain NumPy, in the dtype of their arguments: images and sequences, channels first."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[Any]
Pair = tuple[int, int]


def padded(x: Array, padding: tuple[Pair, Pair]) -> Array:
    return np.pad(x, ((0, 0), (0, 0), *padding))


def patches(x: Array, kernel: Pair, stride: Pair, dilation: Pair) -> Array:
    """A view of padded images as (N, C, H', W', kh, kw)."""
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    windows = sliding_window_view(x, reach, axis=(2, 3))
    return windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def convolution(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Pair = (1, 1),
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """One product over the patches of each group."""
    p = patches(padded(x, padding), w.shape[2:], stride, dilation)
    n, channels, height, width, *kernel = p.shape
    p = p.reshape(n, groups, channels // groups, height, width, *kernel)
    by_group = w.reshape(groups, len(w) // groups, *w.shape[1:])
    y = np.einsum("ngchwkl,gockl->ngohw", p, by_group).reshape(n, len(w), height, width)
    return y if b is None else y + b[:, None, None]


def convolution_backward(
    dy: Array,
    x: Array,
    w: Array,
    stride: Pair = (1, 1),
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """dx is added up kernel element by kernel element."""
    wide = padded(x, padding)
    p = patches(wide, w.shape[2:], stride, dilation)
    n, channels, height, width, *kernel = p.shape
    p = p.reshape(n, groups, channels // groups, height, width, *kernel)
    by_group = dy.reshape(n, groups, len(w) // groups, height, width)
    dw = np.einsum("ngohw,ngchwkl->gockl", by_group, p).reshape(w.shape)
    weights = w.reshape(groups, len(w) // groups, *w.shape[1:])
    dx = np.zeros_like(wide)
    for k in range(kernel[0]):
        for j in range(kernel[1]):
            rows = slice(k * dilation[0], k * dilation[0] + stride[0] * height, stride[0])
            columns = slice(j * dilation[1], j * dilation[1] + stride[1] * width, stride[1])
            part = np.einsum("ngohw,goc->ngchw", by_group, weights[..., k, j])
            dx[:, :, rows, columns][:, :, :height, :width] += part.reshape(
                n, channels, height, width
            )
    (top, bottom), (left, right) = padding
    dx = dx[:, :, top : dx.shape[2] - bottom, left : dx.shape[3] - right]
    return dx, dw, dy.sum((0, 2, 3))
