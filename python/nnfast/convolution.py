"""Convolutions of images and sequences, and their gradients."""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import ArrayLike, NDArray

from nnfast import _checks
from nnfast._docs import like
from nnfast._load import _core

__all__ = ["conv1d", "conv1d_backward", "conv2d", "conv2d_backward"]

Padding = int | tuple[int, ...] | Literal["same", "valid"]
Gradients = tuple[NDArray[Any] | None, NDArray[Any] | None, NDArray[Any] | None]


def conv2d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | Literal["same", "valid"] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    r"""Convolve images with learned kernels.

    With stride s, dilation d and padding p

    .. math:: y_{n,o,i,j} = b_o + \sum_{c,k,l} w_{o,c,k,l} \, x_{n,c,\,is+kd-p,\,js+ld-p}

    where x is 0 outside of its edges: the correlation that every library calls a convolution.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (N, C, H, W), or (N, H, W, C) with ``axis=-1``
        Any strides. float16 is computed in float32 and rounded once.
    w : array_like of the dtype of x, or float32 for float16, shape (out, C / groups, kh, kw)
        The kernels, whatever `axis` is.
    b : array_like, shape (out,), optional
        Added to each output channel.
    stride : int or pair of int, default 1
        Step from one output to the next, along H and W.
    padding : int, pair of int, "same" or "valid", default 0
        Zeros before and after x, along H and W. "same" gives y the height and width of x, with the odd zero at the end,
        and wants a stride of 1; "valid" is 0.
    dilation : int or pair of int, default 1
        Step from one element of a kernel to the next, in x.
    groups : int, default 1
        Divides channels and outputs: each group of outputs sees its own channels alone. C for a depthwise convolution.
    axis : int, default 1
        The axis of the channels in x and y: 1, or -1 for channels last.
    out : ndarray of x's dtype and y's shape, optional
        Takes y; shares no memory with x, w or b.

    Returns
    -------
    y : ndarray of x's dtype, shape (N, out, H', W'), or (N, H', W', out) with ``axis=-1``
        ``H' = (H + 2 * padding - dilation * (kh - 1) - 1) // stride + 1``, W' likewise.

    Raises
    ------
    TypeError
        If an array is not of real numbers, a number no int, or out has another dtype.
    ValueError
        If a shape does not match, the kernel is larger than the padded x, groups does not divide the channels, a number
        is too small, "same" meets a stride, or out is read-only or overlaps. Nothing is written then.

    See Also
    --------
    conv2d_backward : Its gradient.
    nnfast.nn.Conv2d : The layer.
    torch.nn.functional.conv2d : PyTorch's.
    im2col, col2im, conv1d

    Notes
    -----
    Patches of the images are multiplied with the kernels in tiles that stay in the second-level cache, without BLAS.
    Each output is a sum over channels, then rows and columns of the kernel, in this order, in blocks of at most 256
    products: bits depend neither on threads, strides and `axis`, nor on the instruction set if it has FMA. Beside
    arguments and results a call holds at most 8 MiB, and 1 MiB a thread.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> edges = np.array([[[[-1.0, 1.0]]]])
    >>> nf.conv2d(x, edges)[0, 0, 0]
    array([1., 1., 1.])
    >>> nf.conv2d(x, np.ones((8, 1, 3, 3)), np.zeros(8), stride=2, padding=1).shape
    (1, 8, 2, 2)
    """
    return _core.convolution(x, w, b, *_options(stride, padding, dilation, groups, axis, 2), out)


def conv2d_backward(
    dy: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | Literal["same", "valid"] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    axis: int = 1,
    need: tuple[bool, bool, bool] = (True, True, True),
    out: Gradients | None = None,
) -> Gradients:
    """Gradients of conv2d with respect to its input, its kernels and its bias.

    Parameters
    ----------
    dy : array_like, shape of y
        Gradient of the loss with respect to y.
    x : array_like of float16, float32 or float64
        The input of conv2d.
    w : array_like
        The kernels, as given to conv2d.
    stride, padding, dilation, groups, axis
        As given to conv2d.
    need : tuple of three bool, default (True, True, True)
        Which of dx, dw and db are computed: the first layer of a network does not need dx, which costs as much as dw.
    out : tuple of three ndarrays or None, optional
        Take dx, dw and db, and are overwritten; share no memory with each other, nor with dy, x or w.

    Returns
    -------
    dx : ndarray of x's dtype and shape, or None
        Gradient of the loss with respect to x.
    dw : ndarray of w's dtype (x's, where w was converted to it) and shape, or None
        Sums over the positions of an image in blocks of about 256, and over images in at most 16 groups.
    db : ndarray of dw's dtype, shape (out,), or None
        Sums in float64.

    Raises
    ------
    TypeError
        If an array is not of real numbers, a number no int, or an out has another dtype.
    ValueError
        If a shape does not match, as in conv2d, or an out is read-only, overlaps or is not needed. Nothing is written
        then.

    See Also
    --------
    conv2d : The function.

    Notes
    -----
    Bits and memory are as for conv2d.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x, w = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 2, 2))
    >>> dy = np.ones((1, 1, 3, 3))
    >>> dx, dw, db = nf.conv2d_backward(dy, x, w)
    >>> dx[0, 0]
    array([[1., 2., 2., 1.],
           [2., 4., 4., 2.],
           [2., 4., 4., 2.],
           [1., 2., 2., 1.]])
    >>> dw[0, 0], db
    (array([[45., 54.],
           [81., 90.]]), array([9.]))
    """
    return _backward(dy, x, w, _options(stride, padding, dilation, groups, axis, 2), need, out)


@like(conv2d)
def conv1d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int] | Literal["same", "valid"] = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Convolve sequences with learned kernels: conv2d, which has the formula and notes, of images of height 1.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (N, C, L), or (N, L, C) with ``axis=-1``
        Any strides.
    w : array_like of the dtype of x, or float32 for float16, shape (out, C / groups, k)
        The kernels, whatever `axis` is.
    b : array_like, shape (out,), optional
        Added to each output channel.
    stride : int, default 1
        Step from one output to the next.
    padding : int, "same" or "valid", default 0
        Zeros before and after x, as for conv2d.
    dilation : int, default 1
        Step from one element of a kernel to the next, in x.
    groups : int, default 1
        Divides channels and outputs, as for conv2d.
    axis : int, default 1
        The axis of the channels: 1, or -1 for channels last. Numbers may also be tuples of one.
    out : ndarray of x's dtype and y's shape, optional
        Takes y; shares no memory with x, w or b.

    Returns
    -------
    y : ndarray of x's dtype, shape (N, out, L'), or (N, L', out) with ``axis=-1``
        ``L' = (L + 2 * padding - dilation * (k - 1) - 1) // stride + 1``.

    {Raises}

    See Also
    --------
    conv1d_backward : Its gradient.
    nnfast.nn.Conv1d : The layer.
    torch.nn.functional.conv1d : PyTorch's.
    conv2d

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.conv1d(np.array([[[1.0, 2.0, 4.0, 8.0]]]), np.array([[[1.0, 1.0, 1.0]]]), padding="same")
    array([[[ 3.,  7., 14., 12.]]])
    """
    return _core.convolution(x, w, b, *_options(stride, padding, dilation, groups, axis, 1), out)


@like(conv2d_backward)
def conv1d_backward(
    dy: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    *,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int] | Literal["same", "valid"] = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
    axis: int = 1,
    need: tuple[bool, bool, bool] = (True, True, True),
    out: Gradients | None = None,
) -> Gradients:
    """Gradients of conv1d with respect to its input, its kernels and its bias.

    Parameters
    ----------
    dy : array_like, shape of y
        Gradient of the loss with respect to y.
    x : array_like of float16, float32 or float64
        The input of conv1d.
    w : array_like
        The kernels, as given to conv1d.
    stride, padding, dilation, groups, axis
        As given to conv1d.
    need : tuple of three bool, default (True, True, True)
        Which of dx, dw and db are computed.
    out : tuple of three ndarrays or None, optional
        Take dx, dw and db, and are overwritten; share no memory with each other, nor with dy, x or w.

    Returns
    -------
    dx, dw, db : ndarray or None
        As those of conv2d_backward.

    {Raises}

    See Also
    --------
    conv1d : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x, w = np.array([[[1.0, 2.0, 4.0, 8.0]]]), np.array([[[1.0, -1.0]]])
    >>> dx, dw, db = nf.conv1d_backward(np.ones((1, 1, 3)), x, w)
    >>> dx, dw, db
    (array([[[ 1.,  0.,  0., -1.]]]), array([[[ 7., 14.]]]), array([3.]))
    """
    return _backward(dy, x, w, _options(stride, padding, dilation, groups, axis, 1), need, out)


Options = tuple[list[int], list[int], list[int], int, bool]


def _options(
    stride: Any, padding: Any, dilation: Any, groups: Any, axis: Any, spatial: int
) -> Options:
    """The arguments beside the arrays as _core takes them: numbers by axis, no padding for "same"."""
    strides = _each(stride, 1, "stride", spatial)
    if isinstance(padding, str):
        same = _checks.one_of(padding, ("same", "valid"), "padding") == "same"
        if same and any(step != 1 for step in strides):
            raise ValueError(f'stride must be 1 with padding="same", got {stride!r}')
        paddings = [] if same else [0] * spatial
    else:
        paddings = _each(padding, 0, "padding", spatial)
    return (
        strides,
        paddings,
        _each(dilation, 1, "dilation", spatial),
        _below(_checks.integer_from(groups, 1, "groups"), "groups"),
        _is_last(axis, spatial),
    )


def _each(value: Any, low: int, name: str, spatial: int) -> list[int]:
    """A number for each axis that the kernel slides along."""
    if not isinstance(value, tuple | list):
        return [_below(_checks.integer_from(value, low, name), name)] * spatial
    if len(value) != spatial:
        expected = "an int or a pair of them" if spatial == 2 else "an int or a tuple of one"
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return [_below(_checks.integer_from(each, low, name), name) for each in value]


def _below(value: int, name: str) -> int:
    if value >= 2**31:
        raise ValueError(f"{name} must be below 2**31, got {value}")
    return value


def _is_last(axis: Any, spatial: int) -> bool:
    """Whether the channels are the last axis, or the second."""
    axis = _checks.integer(axis, "axis")
    if axis in (1, -spatial - 1):
        return False
    if axis in (-1, spatial + 1):
        return True
    raise ValueError(f"axis must be 1, or -1 for channels last, got {axis}")


def _backward(
    dy: ArrayLike, x: ArrayLike, w: ArrayLike, options: Options, need: Any, out: Any
) -> Gradients:
    names = ("dx", "dw", "db")
    if not isinstance(need, tuple | list) or len(need) != len(names):
        raise TypeError(f"need must be a tuple of three bools ({', '.join(names)}), got {need!r}")
    outs = _checks.outputs(out, names)
    for i, (needed, given) in enumerate(zip(need, outs, strict=True)):
        if given is not None and not needed:
            raise ValueError(f"out[{i}] must be None where need[{i}] is false")
    need_dx, need_dw, need_db = (bool(each) for each in need)
    return _core.convolution_backward(dy, x, w, *options, need_dx, need_dw, need_db, *outs)
