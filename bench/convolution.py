"""Cases of convolutions, and a table over the shapes of networks: ``python -m bench convolutions``."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import nnfast as nf
from bench.case import Array, Call, Case, Forms
from bench.timing import Budget, rounds

CHANNELS, SIDE, KERNEL = 16, 28, 3
BUDGET = Budget(seconds=1.5, least=5, most=40, slot_ns=2e6)


class Shape(NamedTuple):
    """Images of `channels` by side by side to `outputs`, padded to the same side."""

    batch: int
    channels: int
    side: int
    kernel: int
    outputs: int
    groups: int = 1


SHAPES = [
    Shape(64, 3, 32, 3, 32),
    Shape(64, 32, 32, 3, 32),
    Shape(64, 64, 16, 3, 128),
    Shape(128, 1, 28, 5, 16),
    Shape(128, 16, 14, 5, 32),
    Shape(32, 64, 56, 3, 64),
    Shape(32, 128, 28, 1, 512),
    Shape(32, 64, 28, 3, 64, 64),
]


def patches(x: Array, kernel: int) -> Array:
    """A view of images as (N, H, W, C, kh, kw), padded to the same size."""
    before = (kernel - 1) // 2
    edge = (before, kernel - 1 - before)
    padded = np.pad(x, ((0, 0), (0, 0), edge, edge))
    return sliding_window_view(padded, (kernel, kernel), (2, 3)).transpose(0, 2, 3, 1, 4, 5)


def conv2d(x: Array, w: Array, b: Array) -> Array:
    """One product over sliding windows."""
    n, _, height, width = x.shape
    columns = patches(x, w.shape[-1]).reshape(n * height * width, -1)
    y = columns @ w.reshape(len(w), -1).T + b
    return y.reshape(n, height, width, -1).transpose(0, 3, 1, 2)


def conv2d_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """The gradient with respect to x by the kernels turned round, that with respect to w by one product."""
    turned = w[:, :, ::-1, ::-1].swapaxes(0, 1)
    dx = conv2d(dy, turned, np.zeros(len(turned), dy.dtype))
    n, _, height, width = x.shape
    columns = patches(x, w.shape[-1]).reshape(n * height * width, -1)
    rows = dy.transpose(1, 0, 2, 3).reshape(len(w), -1)
    return dx, (rows @ columns).reshape(w.shape), rows.sum(1)


def by_group(function: Callable[..., Any], shape: Shape, *arrays: Array) -> Any:
    """A function of one group, for each of them."""
    return [
        function(
            *(np.split(a, shape.groups, axis)[g] for a, axis in zip(arrays, axes, strict=True))
        )
        for axes in [(1, 0, 0) if function in (conv2d, cs231n_forward) else (1, 1, 0)]
        for g in range(shape.groups)
    ]


# ---- CS231n's im2col.py: columns by fancy indexing, their gradient by np.add.at ----


def im2col_indices(x: Array, kernel: int) -> tuple[Array, Array, Array]:
    _, channels, height, width = x.shape
    i0 = np.tile(np.repeat(np.arange(kernel), kernel), channels)
    j0 = np.tile(np.arange(kernel), kernel * channels)
    i = i0[:, None] + np.repeat(np.arange(height), width)
    j = j0[:, None] + np.tile(np.arange(width), height)
    return np.repeat(np.arange(channels), kernel * kernel)[:, None], i, j


def im2col(x: Array, kernel: int) -> Array:
    p = (kernel - 1) // 2
    k, i, j = im2col_indices(x, kernel)
    columns = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))[:, k, i, j]
    return columns.transpose(1, 2, 0).reshape(len(k), -1)


def cs231n_forward(x: Array, w: Array, b: Array) -> Array:
    y = w.reshape(len(w), -1) @ im2col(x, w.shape[-1]) + b[:, None]
    return y.reshape(len(w), *x.shape[2:], len(x)).transpose(3, 0, 1, 2)


def cs231n_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    kernel = w.shape[-1]
    p = (kernel - 1) // 2
    rows = dy.transpose(1, 2, 3, 0).reshape(len(w), -1)
    dw = (rows @ im2col(x, kernel).T).reshape(w.shape)
    columns = (w.reshape(len(w), -1).T @ rows).reshape(w[0].size, -1, len(x)).transpose(2, 0, 1)
    k, i, j = im2col_indices(x, kernel)
    dx = np.zeros((*x.shape[:2], x.shape[2] + 2 * p, x.shape[3] + 2 * p), x.dtype)
    np.add.at(dx, (slice(None), k, i, j), columns)
    return dx[:, :, p : dx.shape[2] - p, p : dx.shape[3] - p], dw, rows.sum(1)


# ---- cases of the suite ----


def inputs(*names: str, sequences: bool = False) -> Callable[..., dict[str, Array]]:
    """As many images, or sequences, as n elements make."""

    def make(n: int, rng: np.random.Generator) -> dict[str, Array]:
        sides = (SIDE * SIDE,) if sequences else (SIDE, SIDE)
        batch = max(1, n // (CHANNELS * SIDE * SIDE))
        shapes = {
            **dict.fromkeys(("x", "dy"), (batch, CHANNELS, *sides)),
            "w": (CHANNELS, CHANNELS, *(KERNEL,) * len(sides)),
            "b": (CHANNELS,),
        }
        return {name: rng.standard_normal(shapes[name]) for name in names}

    return make


def forward_forms(function: Callable[..., Array]) -> Callable[..., Forms]:
    def forms(x: Array, w: Array, b: Array) -> Forms:
        out = np.empty_like(x)
        return {
            "out": lambda: function(x, w, b, padding="same", out=out),
            "allocating": lambda: function(x, w, b, padding="same"),
        }

    return forms


def backward_forms(function: Callable[..., Any]) -> Callable[..., Forms]:
    def forms(dy: Array, x: Array, w: Array) -> Forms:
        out = np.empty_like(x), np.empty_like(w), np.empty(len(w), x.dtype)
        return {
            "out": lambda: function(dy, x, w, padding="same", out=out),
            "allocating": lambda: function(dy, x, w, padding="same"),
        }

    return forms


def of_sequences(x: Array, w: Array) -> tuple[Array, Array]:
    """Columns of sequences, and the kernels as a matrix."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1)))
    columns = sliding_window_view(padded, KERNEL, 2).transpose(0, 2, 1, 3)
    return columns.reshape(x.shape[0] * x.shape[2], -1), w.reshape(len(w), -1)


def conv1d(x: Array, w: Array, b: Array) -> Array:
    columns, kernels = of_sequences(x, w)
    return (columns @ kernels.T + b).reshape(x.shape[0], x.shape[2], -1).transpose(0, 2, 1)


def conv1d_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    dx = conv1d(dy, w[:, :, ::-1].swapaxes(0, 1), np.zeros(w.shape[1], dy.dtype))
    rows = dy.transpose(1, 0, 2).reshape(len(w), -1)
    return dx, (rows @ of_sequences(x, w)[0]).reshape(w.shape), rows.sum(1)


CASES = [
    Case("conv2d", inputs("x", "w", "b"), conv2d, forward_forms(nf.conv2d)),
    Case(
        "conv2d_backward",
        inputs("dy", "x", "w"),
        conv2d_backward,
        backward_forms(nf.conv2d_backward),
    ),
    Case("conv1d", inputs("x", "w", "b", sequences=True), conv1d, forward_forms(nf.conv1d)),
    Case(
        "conv1d_backward",
        inputs("dy", "x", "w", sequences=True),
        conv1d_backward,
        backward_forms(nf.conv1d_backward),
    ),
]


# ---- the table ----


def candidates(shape: Shape, torch: Any) -> dict[str, dict[str, Call]]:
    """Calls of y, dx, and dw with db, by who computes them."""
    rng = np.random.default_rng(0)
    images = (shape.batch, shape.channels, shape.side, shape.side)
    x = rng.standard_normal(images, np.float32)
    w = rng.standard_normal(
        (shape.outputs, shape.channels // shape.groups, shape.kernel, shape.kernel), np.float32
    )
    b = rng.standard_normal(shape.outputs, np.float32)
    y, dx, dw = np.empty((shape.batch, shape.outputs, *images[2:]), "f"), np.empty_like(x), w.copy()
    dy = rng.standard_normal(y.shape, np.float32)
    same: dict[str, Any] = {"padding": "same", "groups": shape.groups}
    need_x, need_w = (True, False, False), (False, True, True)
    calls: dict[str, dict[str, Call]] = {
        "y": {"nnfast": lambda: nf.conv2d(x, w, b, **same, out=y)},
        "dx": {
            "nnfast": lambda: nf.conv2d_backward(
                dy, x, w, **same, need=need_x, out=(dx, None, None)
            )
        },
        "dw": {
            "nnfast": lambda: nf.conv2d_backward(
                dy, x, w, **same, need=need_w, out=(None, dw, b.copy())
            )
        },
    }
    if torch:
        tx, tw, tb, tdy = (torch.from_numpy(a) for a in (x, w, b, dy))
        p = shape.kernel // 2
        backward = torch.ops.aten.convolution_backward
        conv = torch.nn.functional.conv2d
        calls["y"]["torch"] = lambda: conv(tx, tw, tb, padding=p, groups=shape.groups)
        for name, need in (("dx", need_x), ("dw", need_w)):
            calls[name]["torch"] = lambda need=need: backward(
                tdy, tx, tw, [len(b)], [1, 1], [p, p], [1, 1], False, [0, 0], shape.groups, need
            )
    # NumPy's gradients come together.
    calls["all"] = {
        "numpy": lambda: (
            by_group(conv2d, shape, x, w, b),
            by_group(conv2d_backward, shape, dy, x, w),
        ),
        "cs231n": lambda: (
            by_group(cs231n_forward, shape, x, w, b),
            by_group(cs231n_backward, shape, dy, x, w),
        ),
    }
    return calls


def measure() -> Iterator[tuple[Shape, dict[str, dict[str, float]]]]:
    """Milliseconds, medians, by result and by who computes it."""
    try:
        import torch
    except ImportError:
        torch = None
    if torch:
        torch.set_num_threads(nf.get_num_threads())
    for shape in SHAPES:
        yield (
            shape,
            {
                result: {who: float(np.median(t)) / 1e6 for who, t in rounds(calls, BUDGET).items()}
                for result, calls in candidates(shape, torch).items()
            },
        )


def main() -> None:
    """A table: milliseconds, and how many times as fast as the peers all three results are together."""
    print(f"{'N, C, H, kernel, K, groups':28}", end="")
    print("".join(f"{name:>9}" for name in ("y", "dx", "dw")), end="")
    print("".join(f"{name:>9}" for name in ("x torch", "y", "dx", "dw", "x numpy", "x cs231n")))
    ratios = []
    for shape, times in measure():
        ours = [times[name]["nnfast"] for name in ("y", "dx", "dw")]
        theirs = [times[name].get("torch", math.nan) for name in ("y", "dx", "dw")]
        ratios.append(sum(theirs) / sum(ours))
        print(
            f"{', '.join(map(str, shape)):28}", "".join(f"{t:9.3f}" for t in ours), end="", sep=""
        )
        columns = [ratios[-1], *(t / o for t, o in zip(theirs, ours, strict=True))]
        columns += [times["all"][who] / sum(ours) for who in ("numpy", "cs231n")]
        print("".join(f"{c:9.2f}" for c in columns), flush=True)
    print(f"geometric mean of x torch: {math.exp(float(np.mean(np.log(ratios)))):.2f}")
