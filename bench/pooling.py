"""Cases of pooling: images of 16 x 16, eight channels, windows of 2 and 3; signals of 256."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import nnfast as nf
from bench.case import Array, Case, Forms

CHANNELS, SIDE = 8, 16
PLANES = {1: (SIDE * SIDE,), 2: (SIDE, SIDE)}
# As people pool: halves, and the overlapping windows of ResNet's first stage.
HALVES: dict[str, Any] = {"kernel_size": 2}
OVERLAPPING: dict[str, Any] = {"kernel_size": 3, "stride": 2, "padding": 1}
Inputs = Callable[[int, np.random.Generator], dict[str, Array]]


def shape_of(n: int, dims: int) -> tuple[int, ...]:
    """That of x, of about n elements."""
    return (max(1, n // (CHANNELS * SIDE * SIDE)), CHANNELS, *PLANES[dims])


def windows(x: Array, kernel: int, stride: int, padding: int, fill: float) -> Array:
    """A view of the windows, each flat along the last axis (a copy)."""
    dims = x.ndim - 2
    padded = np.pad(x, [(0, 0)] * 2 + [(padding, padding)] * dims, constant_values=fill)
    views = sliding_window_view(padded, (kernel,) * dims, tuple(range(2, x.ndim)))
    views = views[(..., *[slice(None, None, stride)] * dims, *[slice(None)] * dims)]
    return views.reshape(*views.shape[: x.ndim], -1)


def max_pool(x: Array, kernel_size: int, stride: int | None = None, padding: int = 0) -> Any:
    """The largest of each window, and where it is in its plane."""
    step = stride or kernel_size
    found = windows(x, kernel_size, step, padding, -np.inf)
    element = found.argmax(axis=-1)
    which = np.zeros(element.shape, np.int32)
    for k in range(x.ndim - 2):
        along = np.arange(element.shape[2 + k]) * step - padding
        of_element = element // kernel_size ** (x.ndim - 3 - k) % kernel_size
        places = along.reshape(-1, *(1,) * (x.ndim - 3 - k)) + of_element
        which = which * x.shape[2 + k] + places.astype(np.int32)
    return found.max(axis=-1), which


def max_pool_backward(dy: Array, which: Array, plane: tuple[int, ...]) -> Array:
    """Added place by place, as np.add.at does."""
    dx = np.zeros((dy.shape[0] * dy.shape[1], int(np.prod(plane))), dy.dtype)
    rows = np.arange(len(dx))[:, np.newaxis]
    np.add.at(dx, (rows, which.reshape(len(dx), -1)), dy.reshape(len(dx), -1))
    return dx.reshape(*dy.shape[:2], *plane)


def avg_pool(x: Array, kernel_size: int, stride: int | None = None, padding: int = 0) -> Array:
    """The mean of each window."""
    return windows(x, kernel_size, stride or kernel_size, padding, 0.0).mean(axis=-1)


def spread(dy: Array, shape: tuple[int, ...], kernel_size: int) -> Array:
    """The gradient of the mean of windows that do not overlap."""
    for axis in range(2, dy.ndim):
        dy = np.repeat(dy, kernel_size, axis=axis)
    return dy / kernel_size ** (dy.ndim - 2)


def overlapping(dy: Array, shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> Array:
    """That of windows which do, element by element of a window."""
    dims = dy.ndim - 2
    dx = np.zeros((*shape[:2], *(side + 2 * padding + stride for side in shape[2:])), dy.dtype)
    share = dy / kernel**dims
    for place in np.ndindex((kernel,) * dims):
        ends = [first + stride * n for first, n in zip(place, dy.shape[2:], strict=True)]
        dx[(..., *map(slice, place, ends, (stride,) * dims))] += share
    return dx[(..., *(slice(padding, padding + side) for side in shape[2:]))]


def columns_of(x: Array) -> Array:
    """Windows of 3 along each axis as columns."""
    found = windows(x, 3, 1, 1, 0.0)
    return np.moveaxis(found, -1, 2).reshape(len(x), -1, int(np.prod(x.shape[2:])))


def images(dims: int) -> Inputs:
    return lambda n, rng: {"x": rng.standard_normal(shape_of(n, dims))}


def pooled(dims: int, positions: bool = False, **options: Any) -> Inputs:
    """A gradient with respect to y, and the positions of maxima."""

    def make(n: int, rng: np.random.Generator) -> dict[str, Array]:
        y, which = max_pool(rng.standard_normal(shape_of(n, dims)), **options)
        made = {"dy": rng.standard_normal(y.shape)}
        return made | ({"which": which} if positions else {})

    return make


def shape_before(dy: Array) -> tuple[int, ...]:
    """That of x."""
    return (*dy.shape[:2], *PLANES[dy.ndim - 2])


def both(function: Callable[..., Any], shape: tuple[int, ...], dtype: Any) -> Forms:
    """With a place for the result, and without."""
    out = np.empty(shape, dtype)
    return {"out": partial(function, out=out), "allocating": function}


def of_dims(dims: int) -> list[Case]:
    """The cases of images or of signals."""

    def function(name: str) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(nf, name.replace("pool", f"pool{dims}d"))
        return found

    def case(name: str, inputs: Inputs, plain: Any, forms: Any, variant: str = "") -> Case:
        values = {"kernel": 2.0, "stride": 2.0, "padding": 0.0}
        if variant:
            values = {"kernel": 3.0, "stride": 2.0, "padding": 1.0}
        return Case(name.replace("pool", f"pool{dims}d") + variant, inputs, plain, forms, values)

    cases = []
    for options, variant in ((HALVES, ""), (OVERLAPPING, " overlapping")):

        def max_forms(x: Array, options: dict[str, Any] = options) -> Forms:
            call = partial(function("max_pool"), x, **options)
            y, which = call()
            return {"out": partial(call, out=(y, which)), "allocating": call}

        def max_backward_forms(dy: Array, which: Array) -> Forms:
            shape = shape_before(dy)
            call = partial(function("max_pool_backward"), dy, which, shape)
            return both(call, shape, dy.dtype)

        def avg_forms(x: Array, options: dict[str, Any] = options) -> Forms:
            call = partial(function("avg_pool"), x, **options)
            return both(call, call().shape, x.dtype)

        def avg_backward_forms(dy: Array, options: dict[str, Any] = options) -> Forms:
            shape = shape_before(dy)
            call = partial(function("avg_pool_backward"), dy, shape, **options)
            return both(call, shape, dy.dtype)

        cases += [
            case("max_pool", images(dims), partial(max_pool, **options), max_forms, variant),
            case(
                "max_pool_backward",
                pooled(dims, True, **options),
                lambda dy, which: max_pool_backward(dy, which, PLANES[dims]),
                max_backward_forms,
                variant,
            ),
            case("avg_pool", images(dims), partial(avg_pool, **options), avg_forms, variant),
            case(
                "avg_pool_backward",
                pooled(dims, **options),
                (lambda dy: overlapping(dy, shape_before(dy), 3, 2, 1))
                if variant
                else (lambda dy: spread(dy, shape_before(dy), 2)),
                avg_backward_forms,
                variant,
            ),
        ]
    axes = tuple(range(2, 2 + dims))

    def global_backward(dy: Array) -> Array:
        shape = (*dy.shape, *PLANES[dims])
        return np.broadcast_to(np.expand_dims(dy / SIDE**2, axes), shape).copy()

    def global_forms(x: Array) -> Forms:
        return both(partial(function("global_avg_pool"), x), x.shape[:2], x.dtype)

    def global_backward_forms(dy: Array) -> Forms:
        shape = (*dy.shape, *PLANES[dims])
        return both(partial(function("global_avg_pool_backward"), dy, shape), shape, dy.dtype)

    def means(n: int, rng: np.random.Generator) -> dict[str, Array]:
        return {"dy": rng.standard_normal(shape_of(n, dims)[:2])}

    return [
        *cases,
        case("global_avg_pool", images(dims), lambda x: x.mean(axis=axes), global_forms),
        case("global_avg_pool_backward", means, global_backward, global_backward_forms),
    ]


def im2col_forms(x: Array) -> Forms:
    call = partial(nf.im2col, x, 3, padding=1)
    return both(call, call().shape, x.dtype)


def col2im_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    return {"columns": columns_of(rng.standard_normal(shape_of(n // 9, 2)))}


def col2im(columns: Array) -> Array:
    shape = (len(columns), CHANNELS, SIDE, SIDE)
    dx = np.zeros((len(columns), CHANNELS, SIDE + 2, SIDE + 2), columns.dtype)
    split = columns.reshape(len(columns), CHANNELS, 3, 3, SIDE, SIDE)
    for i, j in np.ndindex(3, 3):
        dx[:, :, i : i + SIDE, j : j + SIDE] += split[:, :, i, j]
    return dx[:, :, 1:-1, 1:-1].reshape(shape)


def col2im_forms(columns: Array) -> Forms:
    shape = (len(columns), CHANNELS, SIDE, SIDE)
    return both(partial(nf.col2im, columns, shape, 3, padding=1), shape, columns.dtype)


CASES = [
    *of_dims(2),
    *of_dims(1),
    Case("im2col", images(2), columns_of, im2col_forms),
    Case("col2im", col2im_inputs, col2im, col2im_forms),
]
