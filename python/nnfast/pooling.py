"""Pooling of images and signals, its gradients, and their windows as the columns of a matrix.

Names and arguments are those of ``torch.nn.functional``. The two-dimensional functions take x of shape (N, C, H, W),
the one-dimensional ones (N, C, L); ``axis=-1`` is for channels last, (N, H, W, C) and (N, L, C). Neither is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _docs
from nnfast._load import _core

__all__ = [
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "col2im",
    "global_avg_pool1d",
    "global_avg_pool1d_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "im2col",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
]

Function = TypeVar("Function", bound=Callable[..., Any])
Array = NDArray[Any]
Positions = NDArray[np.int32]
Sides = int | tuple[int, ...]
Shape = tuple[int, ...]

_X = """x : array_like of float16, float32 or float64, shape {shape}
    Or with the channels along another axis."""
_WINDOWS = """kernel_size : {sides}
    Elements of a window{each}.
stride : {sides}, optional
    Elements from one window to the next; that of kernel_size by default.
padding : {sides}, default {zero}
    Elements around x, at most half of kernel_size{padding}."""
_CEIL = """ceil_mode : bool, default False
    Whether there are windows that reach past the padding; each begins before the padding at the end."""
_AXIS = """axis : int, default 1
    The axis of the channels, any but the first; -1 for channels last."""
_SHAPE = """shape : tuple of int
    That of x."""
_DY = """dy : array_like of float16, float32 or float64, shape of y
    Gradient of the loss with respect to y."""
_DX = """out : ndarray of dy's dtype and the given shape, optional
    Takes dx; shares no memory with {read}.

Returns
-------
dx : ndarray of dy's dtype and the given shape
    Gradient of the loss with respect to x."""
_RAISES = """Raises
------
TypeError
    If {array} is not of real numbers, an argument is of another type, or out has another dtype.
ValueError
    If {array} has not {axes} axes, {what} is out of range, a shape does not match, or out is read-only or overlaps.
    Nothing is written then."""

_DOCS = {
    "max_pool": """Max pooling: the largest value of every window, and where it was.

Parameters
----------
{x}
{windows} It counts as -inf.
dilation : {sides}, default 1
    Elements from one of a window to the next.
{ceil}
{axis}
out : ndarray of x's dtype and y's shape, optional
    Takes y; as a pair, the second takes which. They share no memory with x.

Returns
-------
y : ndarray of x's dtype, shape {out_shape}
    The first of equals wins. NaN propagates: the first of a window wins.
which : ndarray of int32, y's shape
    {position}, for the gradient.
    -1 for a window without elements, which dilation may make: its y is -inf.

{raises}

See Also
--------
{see_also}

Examples
--------
>>> import numpy as np, nnfast as nf
{example}
""",
    "max_pool_backward": """Gradient of {forward}: each dy is added where the largest value of its window was.

Parameters
----------
{dy}
which : ndarray of int32, shape of y
    What {forward} returned. Positions outside of x take part in nothing.
{shape_of_x}
{axis}
{dx} The sum over the windows in their C order; float16 is summed in float32.

{raises}

See Also
--------
{see_also}

Examples
--------
>>> import numpy as np, nnfast as nf
{example}
""",
    "avg_pool": """Average pooling: the mean of every window.

Parameters
----------
{x}
{windows} It counts as 0.
{ceil}
count_include_pad : bool, default True
    Whether a mean is taken over the padding, too. What lies past the padding never counts.
{axis}
out : ndarray of x's dtype and y's shape, optional
    Takes y; shares no memory with x.

Returns
-------
y : ndarray of x's dtype, shape {out_shape}
    A window is summed in x's dtype, float16 in float32.

{raises}

See Also
--------
{see_also}

Examples
--------
>>> import numpy as np, nnfast as nf
{example}
""",
    "avg_pool_backward": """Gradient of {forward}: each element of x gets the share of dy of every window that it is in.

Parameters
----------
{dy}
{shape_of_x}
kernel_size, stride, padding, ceil_mode, count_include_pad, axis
    As given to {forward}.
{dx} The sum over the windows in their C order; float16 is summed in float32.

{raises}

See Also
--------
{see_also}

Examples
--------
>>> import numpy as np, nnfast as nf
{example}
""",
    "global_avg_pool": """Global average pooling: the mean of every channel of every sample.

Parameters
----------
{x}
{axis}
out : ndarray of x's dtype, shape (N, C), optional
    Takes y; shares no memory with x.

Returns
-------
y : ndarray of x's dtype, shape (N, C)
    Summed in float64, in an order that does not depend on threads, strides or the place of the axis. (PyTorch's
    AdaptiveAvgPool keeps axes of length 1.)

{raises}

See Also
--------
{see_also}

References
----------
Lin, Chen, Yan, "Network in network", 2013.

Examples
--------
>>> import numpy as np, nnfast as nf
{example}
""",
    "global_avg_pool_backward": """Gradient of {forward}: dy divided by the number of elements, for each of them.

Parameters
----------
dy : array_like of float16, float32 or float64, shape (N, C)
    Gradient of the loss with respect to y.
{shape_of_x}
{axis}
{dx}

{raises}

See Also
--------
{see_also}

Examples
--------
>>> import numpy as np, nnfast as nf
{example}
""",
}
_EXAMPLES = {
    "max_pool2d": """>>> x = np.array([[[[1.0, 5.0, 2.0, 0.0],
...                 [3.0, 4.0, 8.0, 8.0]]]])
>>> y, which = nf.max_pool2d(x, 2)
>>> y, which
(array([[[[5., 8.]]]]), array([[[[1, 6]]]], dtype=int32))""",
    "max_pool1d": """>>> y, which = nf.max_pool1d(np.array([[[1.0, 5.0, 2.0, 0.0]]]), 3, stride=1)
>>> y, which
(array([[[5., 5.]]]), array([[[1, 1]]], dtype=int32))""",
    "max_pool2d_backward": """>>> x = np.array([[[[1.0, 5.0, 2.0, 0.0],
...                 [3.0, 4.0, 8.0, 8.0]]]])
>>> y, which = nf.max_pool2d(x, 2)
>>> nf.max_pool2d_backward(np.array([[[[10.0, 20.0]]]]), which, x.shape)
array([[[[ 0., 10.,  0.,  0.],
         [ 0.,  0., 20.,  0.]]]])""",
    "max_pool1d_backward": """>>> x = np.array([[[1.0, 5.0, 2.0, 0.0]]])
>>> y, which = nf.max_pool1d(x, 3, stride=1)
>>> nf.max_pool1d_backward(np.array([[[10.0, 20.0]]]), which, x.shape)
array([[[ 0., 30.,  0.,  0.]]])""",
    "avg_pool2d": """>>> x = np.array([[[[1.0, 5.0, 2.0, 0.0],
...                 [3.0, 3.0, 8.0, 6.0]]]])
>>> nf.avg_pool2d(x, 2)
array([[[[3., 4.]]]])""",
    "avg_pool1d": """>>> nf.avg_pool1d(np.array([[[1.0, 5.0, 3.0, 4.0]]]), 3, stride=1)
array([[[3., 4.]]])""",
    "avg_pool2d_backward": """>>> nf.avg_pool2d_backward(np.array([[[[4.0, 8.0]]]]), (1, 1, 2, 4), 2)
array([[[[1., 1., 2., 2.],
         [1., 1., 2., 2.]]]])""",
    "avg_pool1d_backward": """>>> nf.avg_pool1d_backward(np.array([[[3.0, 6.0]]]), (1, 1, 4), 3, stride=1)
array([[[1., 3., 3., 2.]]])""",
    "global_avg_pool2d": """>>> nf.global_avg_pool2d(np.arange(8.0).reshape(1, 2, 2, 2))
array([[1.5, 5.5]])""",
    "global_avg_pool1d": """>>> nf.global_avg_pool1d(np.array([[[1.0, 2.0], [5.0, 9.0]]]))
array([[1.5, 7. ]])""",
    "global_avg_pool2d_backward": """>>> nf.global_avg_pool2d_backward(np.array([[4.0, 8.0]]), (1, 2, 2, 2))
array([[[[1., 1.],
         [1., 1.]],
<BLANKLINE>
        [[2., 2.],
         [2., 2.]]]])""",
    "global_avg_pool1d_backward": """>>> nf.global_avg_pool1d_backward(np.array([[4.0, 8.0]]), (1, 2, 2))
array([[[2., 2.],
        [4., 4.]]])""",
}


def _documented(function: Function) -> Function:
    """Give a function its docstring."""
    name = function.__name__
    two = "2d" in name
    kind = name.replace("2d", "").replace("1d", "")
    backward, of_max = kind.endswith("_backward"), kind.startswith("max")
    words = {
        "name": name,
        "forward": name.removesuffix("_backward"),
        "sides": "int or (int, int)" if two else "int",
        "zero": "0",
        "each": ", along both axes or along each" if two else "",
        "padding": "",
        "shape": "(N, C, H, W)" if two else "(N, C, L)",
        "out_shape": "(N, C, windows down, windows across)" if two else "(N, C, windows)",
        "position": "Its position in its plane, row times W plus column"
        if two
        else "Its position along L",
        "read": "dy or which" if of_max else "dy",
        "array": "dy" if backward else "x",
        "axes": "four" if two else "three",
        "what": "axis" if kind.startswith("global") or kind == "max_pool_backward" else "a number",
    }
    if backward and kind.startswith("global"):
        words["axes"] = "two"
    parts = {
        "x": _X,
        "windows": _WINDOWS,
        "ceil": _CEIL,
        "axis": _AXIS,
        "shape_of_x": _SHAPE,
        "dy": _DY,
        "dx": _DX,
        "raises": _RAISES,
    }
    words["see_also"] = _docs.see_also(name)
    filled = {part: text.format(**words) for part, text in parts.items()}
    function.__doc__ = _DOCS[kind].format(**words | filled, example=_EXAMPLES[name])
    return function


# ---- windows ----


class Windows(NamedTuple):
    """The windows over the planes of x, with an element for each axis of a plane."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    axes: tuple[int, ...]
    """The axes of a plane."""
    channel: int
    """The axis of the channels."""
    shape: Shape
    """That of y."""


def windows_of(
    shape: Shape,
    dims: int,
    kernel_size: Sides,
    stride: Sides | None,
    padding: Sides,
    dilation: Sides = 1,
    ceil_mode: bool = False,
    axis: int = 1,
    *,
    half: bool = True,
) -> Windows:
    """The windows over an x of that shape; `half`: whether the padding is at most half of the kernel.

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If one is out of range, or no window fits.
    """
    channel, axes = plane_axes(shape, dims, axis)
    kernel = sides(kernel_size, dims, 1, "kernel_size")
    steps = kernel if stride is None else sides(stride, dims, 1, "stride")
    around = sides(padding, dims, 0, "padding")
    apart = sides(dilation, dims, 1, "dilation")
    found = list(shape)
    for k, d in enumerate(axes):
        extent = (kernel[k] - 1) * apart[k] + 1
        if half:
            check_padding(kernel[k], around[k])
        room = shape[d] + 2 * around[k] - extent
        count = (-(-room // steps[k]) if ceil_mode else room // steps[k]) + 1
        if ceil_mode and (count - 1) * steps[k] >= shape[d] + around[k]:
            count -= 1
        if count < 1:
            raise ValueError(
                f"kernel_size must fit into x with its padding, {shape[d] + 2 * around[k]} elements along axis {d}, "
                f"got a window of {extent}"
            )
        found[d] = count
    return Windows(kernel, steps, around, apart, axes, channel, tuple(found))


def check_padding(kernel: int, padding: int) -> None:
    """A ValueError where padding is more than half of a kernel, as PyTorch has it."""
    if 2 * padding > kernel:
        raise ValueError(f"padding must be at most half of kernel_size, {kernel}, got {padding}")


def sides(value: Sides, dims: int, low: int, name: str) -> tuple[int, ...]:
    """An int, or one for each of `dims` axes, as a tuple.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If one is below low or from 2**31 on, or there are more or fewer.
    """
    several = value if isinstance(value, tuple | list) else (value,) * dims
    if len(several) != dims:
        raise ValueError(f"{name} must be an int or {dims} of them, got {value}")
    found = tuple(_checks.integer(each, name) for each in several)
    if not all(low <= each < 2**31 for each in found):
        raise ValueError(f"{name} must be in [{low}, 2**31), got {value}")
    return found


def plane_axes(shape: Shape, dims: int, axis: int, name: str = "x") -> tuple[int, tuple[int, ...]]:
    """The axis of the channels, and those of a plane."""
    form = "(N, C, H, W)" if dims == 2 else "(N, C, L)"
    axis = _checks.integer(axis, "axis")
    if len(shape) != dims + 2:
        raise ValueError(f"{name} must have {dims + 2} axes, {form}, got shape {shape}")
    if not -len(shape) <= axis < len(shape) or axis % len(shape) == 0:
        raise ValueError(
            f"axis must be that of the channels of {name} with shape {shape}, not the first, got {axis}"
        )
    channel = axis % len(shape)
    axes = tuple(d for d in range(1, len(shape)) if d != channel)
    plane = tuple(shape[d] for d in axes)
    if 0 in plane or prod(plane) >= 2**31:
        raise ValueError(
            f"{name} must have planes of 1 to 2**31 - 1 elements, got shape {shape}, channels along axis {channel}"
        )
    return channel, axes


def _gradient(
    dy: ArrayLike, of_shape: Shape | None, shape: Shape, out: Array | None, *read: Array
) -> tuple[Array, Array]:
    """dy, whose shape must be `of_shape`, and where dx goes."""
    dy = _arrays.floating(dy, "dy", float16=True)
    if of_shape is not None and dy.shape != of_shape:
        raise ValueError(f"dy must have the shape of y, {of_shape}, got {dy.shape}")
    return dy, _arrays.output(out, shape, dy.dtype, dy, *read)


def _shape_of_x(shape: Shape, name: str = "shape") -> Shape:
    if not isinstance(shape, tuple | list):
        raise TypeError(f"{name} must be a tuple of ints, got {type(shape).__name__}")
    return _arrays.sides_of(tuple(shape))


# ---- max pooling ----


def _max_pool(
    dims: int,
    x: ArrayLike,
    kernel_size: Sides,
    stride: Sides | None,
    padding: Sides,
    dilation: Sides,
    ceil_mode: bool,
    axis: int,
    out: Any,
) -> tuple[Array, Positions]:
    x = _arrays.floating(x, "x", float16=True)
    w = windows_of(x.shape, dims, kernel_size, stride, padding, dilation, ceil_mode, axis)
    given, given_which = _checks.output_and(out, "which")
    y = _arrays.output(given, w.shape, x.dtype, x)
    which = _arrays.output(given_which, w.shape, np.dtype(np.int32), x, y)
    _core.max_pool(x, y, which, w.kernel, w.stride, w.padding, w.dilation, w.channel)
    return y, which


def _max_pool_backward(
    dims: int, dy: ArrayLike, which: Positions, shape: Shape, axis: int, out: Array | None
) -> Array:
    shape = _shape_of_x(shape)
    channel, axes = plane_axes(shape, dims, axis, "shape")
    _arrays.check_unmasked(which, "which")
    if not isinstance(which, np.ndarray):
        raise TypeError(f"which must be a numpy.ndarray, got {type(which).__name__}")
    if which.dtype != np.int32 or not which.dtype.isnative:
        raise TypeError(f"which must have dtype int32, got {which.dtype}")
    dy, dx = _gradient(dy, None, shape, out, which)
    if dy.ndim != len(shape) or any(
        dy.shape[d] != shape[d] for d in range(dy.ndim) if d not in axes
    ):
        raise ValueError(
            f"dy must have the axes of x with shape {shape}, with as many samples and channels, got {dy.shape}"
        )
    if which.shape != dy.shape:
        raise ValueError(f"which must have the shape of dy, {dy.shape}, got {which.shape}")
    _core.max_pool_backward(dy, which, dx, channel)
    return dx


@_documented
def max_pool2d(
    x: ArrayLike,
    kernel_size: Sides,
    stride: Sides | None = None,
    *,
    padding: Sides = 0,
    dilation: Sides = 1,
    ceil_mode: bool = False,
    axis: int = 1,
    out: Array | tuple[Array | None, Positions | None] | None = None,
) -> tuple[Array, Positions]:
    return _max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode, axis, out)


@_documented
def max_pool1d(
    x: ArrayLike,
    kernel_size: Sides,
    stride: Sides | None = None,
    *,
    padding: Sides = 0,
    dilation: Sides = 1,
    ceil_mode: bool = False,
    axis: int = 1,
    out: Array | tuple[Array | None, Positions | None] | None = None,
) -> tuple[Array, Positions]:
    return _max_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode, axis, out)


@_documented
def max_pool2d_backward(
    dy: ArrayLike, which: Positions, shape: Shape, *, axis: int = 1, out: Array | None = None
) -> Array:
    return _max_pool_backward(2, dy, which, shape, axis, out)


@_documented
def max_pool1d_backward(
    dy: ArrayLike, which: Positions, shape: Shape, *, axis: int = 1, out: Array | None = None
) -> Array:
    return _max_pool_backward(1, dy, which, shape, axis, out)


# ---- average pooling ----


def _avg_pool(
    dims: int,
    x: ArrayLike,
    kernel_size: Sides,
    stride: Sides | None,
    padding: Sides,
    ceil_mode: bool,
    count_include_pad: bool,
    axis: int,
    out: Array | None,
) -> Array:
    x = _arrays.floating(x, "x", float16=True)
    w = windows_of(x.shape, dims, kernel_size, stride, padding, 1, ceil_mode, axis)
    y = _arrays.output(out, w.shape, x.dtype, x)
    _core.avg_pool(x, y, w.kernel, w.stride, w.padding, w.channel, bool(count_include_pad))
    return y


def _avg_pool_backward(
    dims: int,
    dy: ArrayLike,
    shape: Shape,
    kernel_size: Sides,
    stride: Sides | None,
    padding: Sides,
    ceil_mode: bool,
    count_include_pad: bool,
    axis: int,
    out: Array | None,
) -> Array:
    shape = _shape_of_x(shape)
    w = windows_of(shape, dims, kernel_size, stride, padding, 1, ceil_mode, axis)
    dy, dx = _gradient(dy, w.shape, shape, out)
    _core.avg_pool_backward(
        dy, dx, w.kernel, w.stride, w.padding, w.channel, bool(count_include_pad)
    )
    return dx


@_documented
def avg_pool2d(
    x: ArrayLike,
    kernel_size: Sides,
    stride: Sides | None = None,
    *,
    padding: Sides = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    axis: int = 1,
    out: Array | None = None,
) -> Array:
    return _avg_pool(2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, axis, out)


@_documented
def avg_pool1d(
    x: ArrayLike,
    kernel_size: Sides,
    stride: Sides | None = None,
    *,
    padding: Sides = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    axis: int = 1,
    out: Array | None = None,
) -> Array:
    return _avg_pool(1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, axis, out)


@_documented
def avg_pool2d_backward(
    dy: ArrayLike,
    shape: Shape,
    kernel_size: Sides,
    stride: Sides | None = None,
    *,
    padding: Sides = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    axis: int = 1,
    out: Array | None = None,
) -> Array:
    return _avg_pool_backward(
        2, dy, shape, kernel_size, stride, padding, ceil_mode, count_include_pad, axis, out
    )


@_documented
def avg_pool1d_backward(
    dy: ArrayLike,
    shape: Shape,
    kernel_size: Sides,
    stride: Sides | None = None,
    *,
    padding: Sides = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    axis: int = 1,
    out: Array | None = None,
) -> Array:
    return _avg_pool_backward(
        1, dy, shape, kernel_size, stride, padding, ceil_mode, count_include_pad, axis, out
    )


# ---- whole planes ----


def _global_avg_pool(dims: int, x: ArrayLike, axis: int, out: Array | None) -> Array:
    x = _arrays.floating(x, "x", float16=True)
    channel, _ = plane_axes(x.shape, dims, axis)
    y = _arrays.output(out, (x.shape[0], x.shape[channel]), x.dtype, x)
    _core.global_avg_pool(x, y, channel)
    return y


def _global_avg_pool_backward(
    dims: int, dy: ArrayLike, shape: Shape, axis: int, out: Array | None
) -> Array:
    shape = _shape_of_x(shape)
    channel, axes = plane_axes(shape, dims, axis, "shape")
    dy, dx = _gradient(dy, (shape[0], shape[channel]), shape, out)
    dx[...] = np.expand_dims(dy / prod(shape[d] for d in axes), axes)
    return dx


@_documented
def global_avg_pool2d(x: ArrayLike, *, axis: int = 1, out: Array | None = None) -> Array:
    return _global_avg_pool(2, x, axis, out)


@_documented
def global_avg_pool1d(x: ArrayLike, *, axis: int = 1, out: Array | None = None) -> Array:
    return _global_avg_pool(1, x, axis, out)


@_documented
def global_avg_pool2d_backward(
    dy: ArrayLike, shape: Shape, *, axis: int = 1, out: Array | None = None
) -> Array:
    return _global_avg_pool_backward(2, dy, shape, axis, out)


@_documented
def global_avg_pool1d_backward(
    dy: ArrayLike, shape: Shape, *, axis: int = 1, out: Array | None = None
) -> Array:
    return _global_avg_pool_backward(1, dy, shape, axis, out)


# ---- columns ----


def im2col(
    x: ArrayLike,
    kernel_size: Sides,
    stride: Sides = 1,
    *,
    padding: Sides = 0,
    dilation: Sides = 1,
    axis: int = 1,
    out: Array | None = None,
) -> Array:
    """Windows of images as the columns of a matrix, by which a convolution is a matrix product.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (N, C, H, W) or (N, C, L)
        Or with the channels last.
    kernel_size : int or (int, int)
        Elements of a window, along both axes or along each.
    stride : int or (int, int), default 1
        Elements from one window to the next.
    padding : int or (int, int), default 0
        Zeros around x.
    dilation : int or (int, int), default 1
        Elements from one of a window to the next.
    axis : int, default 1
        1, or -1 for channels last.
    out : ndarray of x's dtype and the shape of the result, C-contiguous, optional
        Shares no memory with x.

    Returns
    -------
    columns : ndarray of x's dtype, shape (N, C * kernel, windows), or (N, windows, C * kernel) for channels last
        A window has its elements in the order channel, row, column, as a weight of shape (out, C, kh, kw) has them:
        ``w.reshape(len(w), -1) @ columns`` is the convolution, and ``columns @ w.reshape(len(w), -1).T`` for channels
        last. As PyTorch's unfold.

    Raises
    ------
    TypeError
        If x is not of real numbers, an argument is of another type, or out has another dtype.
    ValueError
        If x has not three or four axes, a number is out of range, or out has another shape, is not contiguous, is
        read-only or overlaps x. Nothing is written then.

    See Also
    --------
    torch.nn.functional.unfold : PyTorch's.
    col2im, conv2d
    col2im : Its gradient.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.im2col(np.arange(9.0).reshape(1, 1, 3, 3), 2)
    array([[[0., 1., 3., 4.],
            [1., 2., 4., 5.],
            [3., 4., 6., 7.],
            [4., 5., 7., 8.]]])
    """
    x = _arrays.floating(x, "x", float16=True)
    layout = _Columns(x.shape, "x", kernel_size, stride, padding, dilation, axis)
    columns = _arrays.output(out, layout.shape, x.dtype, x)
    if not columns.flags.c_contiguous:
        raise ValueError("out must be C-contiguous")
    by_window = layout.by_window(columns)
    if any(layout.windows.padding):
        columns.fill(0)
    for element, taken, of_x in layout.elements():
        by_window[element][taken] = np.moveaxis(x, layout.windows.channel, 1)[of_x]
    return columns


def col2im(
    columns: ArrayLike,
    shape: Shape,
    kernel_size: Sides,
    stride: Sides = 1,
    *,
    padding: Sides = 0,
    dilation: Sides = 1,
    axis: int = 1,
    out: Array | None = None,
) -> Array:
    """Gradient of im2col: what its columns took from one element of x is added there.

    Parameters
    ----------
    columns : array_like of float16, float32 or float64
        Of the shape that im2col gives.
    shape : tuple of int
        That of x.
    kernel_size, stride, padding, dilation, axis
        As given to im2col.
    out : ndarray of columns' dtype and the given shape, optional
        Takes dx; shares no memory with columns.

    Returns
    -------
    dx : ndarray of columns' dtype and the given shape
        Summed in the order of a window's elements; float16 in float32. As PyTorch's fold.

    Raises
    ------
    TypeError
        If columns is not of real numbers, an argument is of another type, or out has another dtype.
    ValueError
        If shape has not three or four sides, a number is out of range, a shape does not match, or out is read-only or
        overlaps columns. Nothing is written then.

    See Also
    --------
    torch.nn.functional.fold : PyTorch's.
    im2col, conv2d

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.ones((1, 1, 3, 3))
    >>> nf.col2im(nf.im2col(x, 2), x.shape, 2)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    shape = _shape_of_x(shape)
    layout = _Columns(shape, "shape", kernel_size, stride, padding, dilation, axis)
    columns = _arrays.floating(columns, "columns", float16=True)
    if columns.shape != layout.shape:
        raise ValueError(f"columns must have shape {layout.shape}, got {columns.shape}")
    dx = _arrays.output(out, shape, columns.dtype, columns)
    by_window = layout.by_window(columns)
    images = np.moveaxis(dx, layout.windows.channel, 1)
    # An image at a time, so that float16 needs no more than one in float32.
    for i in range(shape[0]):
        image = images[i : i + 1]
        sums = np.zeros(image.shape, np.promote_types(dx.dtype, np.float32))
        for element, taken, of_x in layout.elements():
            sums[of_x] += by_window[element][i : i + 1][taken]
        image[...] = sums
    return dx


class _Columns:
    """Where the elements of windows lie in x and in its columns."""

    def __init__(
        self,
        shape: Shape,
        name: str,
        kernel_size: Sides,
        stride: Sides,
        padding: Sides,
        dilation: Sides,
        axis: int,
    ) -> None:
        if len(shape) not in (3, 4):
            raise ValueError(f"{name} must have three or four axes, got {shape}")
        dims = len(shape) - 2
        self.windows = w = windows_of(
            shape, dims, kernel_size, stride, padding, dilation, axis=axis, half=False
        )
        if w.channel not in (1, len(shape) - 1):
            raise ValueError(f"axis must be 1 or -1, got {axis}")
        self._x_shape = shape
        self._counts = tuple(w.shape[d] for d in w.axes)
        size = shape[w.channel] * prod(w.kernel)
        last = w.channel > 1
        self.shape = (
            shape[0],
            *((prod(self._counts), size) if last else (size, prod(self._counts))),
        )
        self._last = last

    def by_window(self, columns: Array) -> Array:
        """The columns with axes for each element of a window, then N, C, and the windows along each axis."""
        w, n, channels = self.windows, self.shape[0], self._x_shape[self.windows.channel]
        dims = len(w.kernel)
        if self._last:
            split = columns.reshape(n, *self._counts, channels, *w.kernel)
            return np.moveaxis(split, (*range(-dims, 0), -dims - 1), (*range(dims), dims + 1))
        split = columns.reshape(n, channels, *w.kernel, *self._counts)
        return np.moveaxis(split, range(2, 2 + dims), range(dims))

    def elements(self) -> Any:
        """For each element of a window: its index, the windows where it lies in x, and where it lies there."""
        w = self.windows
        for element in np.ndindex(w.kernel):
            taken, of_x = [slice(None)] * 2, [slice(None)] * 2
            for k, d in enumerate(w.axes):
                shift = element[k] * w.dilation[k] - w.padding[k]
                first = max(0, -(shift // w.stride[k]))
                last = min(self._counts[k], (self._x_shape[d] - 1 - shift) // w.stride[k] + 1)
                last = max(first, last)
                start = first * w.stride[k] + shift
                taken.append(slice(first, last))
                of_x.append(slice(start, start + (last - first) * w.stride[k], w.stride[k]))
            yield element, tuple(taken), tuple(of_x)
