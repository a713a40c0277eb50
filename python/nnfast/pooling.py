"""Pooling of images and signals, its gradients, and their windows as the columns of a matrix.

Names and arguments are those of ``torch.nn.functional``. The two-dimensional functions take x of shape (N, C, H, W),
the one-dimensional ones (N, C, L); ``axis=-1`` is for channels last, (N, H, W, C) and (N, L, C). Neither is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _docs
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
    return Windows(
        *_core.pool_windows(
            shape, dims, kernel_size, stride, padding, dilation, ceil_mode, axis, half
        )
    )


def window(
    dims: int, kernel_size: Sides, stride: Sides | None, padding: Sides, dilation: Sides
) -> tuple[Shape, Shape, Shape, Shape]:
    """kernel_size, stride, padding and dilation, each with a number for each of `dims` axes.

    Raises
    ------
    TypeError
        If one is of another type.
    ValueError
        If one is out of range, or the padding is more than half of the kernel, as PyTorch has it.
    """
    return _core.pool_window(dims, kernel_size, stride, padding, dilation)


def sides(value: Sides, dims: int, low: int, name: str) -> tuple[int, ...]:
    """An int, or one for each of `dims` axes, as a tuple.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If one is below low or from 2**31 on, or there are more or fewer.
    """
    return _core.pool_sides(value, dims, low, name)


def plane_axes(shape: Shape, dims: int, axis: int, name: str = "x") -> tuple[int, tuple[int, ...]]:
    """The axis of the channels, and those of a plane."""
    return _core.plane_axes(shape, dims, axis, name)


# ---- max pooling ----


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
    return _core.max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode, axis, out)


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
    return _core.max_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode, axis, out)


@_documented
def max_pool2d_backward(
    dy: ArrayLike, which: Positions, shape: Shape, *, axis: int = 1, out: Array | None = None
) -> Array:
    return _core.max_pool_backward(2, dy, which, shape, axis, out)


@_documented
def max_pool1d_backward(
    dy: ArrayLike, which: Positions, shape: Shape, *, axis: int = 1, out: Array | None = None
) -> Array:
    return _core.max_pool_backward(1, dy, which, shape, axis, out)


# ---- average pooling ----


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
    return _core.avg_pool(
        2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, axis, out
    )


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
    return _core.avg_pool(
        1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, axis, out
    )


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
    return _core.avg_pool_backward(
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
    return _core.avg_pool_backward(
        1, dy, shape, kernel_size, stride, padding, ceil_mode, count_include_pad, axis, out
    )


# ---- whole planes ----


@_documented
def global_avg_pool2d(x: ArrayLike, *, axis: int = 1, out: Array | None = None) -> Array:
    return _core.global_avg_pool(2, x, axis, out)


@_documented
def global_avg_pool1d(x: ArrayLike, *, axis: int = 1, out: Array | None = None) -> Array:
    return _core.global_avg_pool(1, x, axis, out)


@_documented
def global_avg_pool2d_backward(
    dy: ArrayLike, shape: Shape, *, axis: int = 1, out: Array | None = None
) -> Array:
    return _core.global_avg_pool_backward(2, dy, shape, axis, out)


@_documented
def global_avg_pool1d_backward(
    dy: ArrayLike, shape: Shape, *, axis: int = 1, out: Array | None = None
) -> Array:
    return _core.global_avg_pool_backward(1, dy, shape, axis, out)


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
    return _core.im2col(x, kernel_size, stride, padding, dilation, axis, out)


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
    return _core.col2im(columns, shape, kernel_size, stride, padding, dilation, axis, out)
