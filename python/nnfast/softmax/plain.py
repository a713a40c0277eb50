"""Softmax, softmin and log_softmax, with their gradients."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _docs, _gradients
from nnfast._keywords import GufuncKeywords, shown
from nnfast._load import _core
from nnfast.softmax.axes import INDEX, Axis, along, output_of, same_shape

__all__ = [
    "log_softmax",
    "log_softmax_backward",
    "softmax",
    "softmax_backward",
    "softmin",
    "softmin_backward",
]

_ndarray = np.ndarray

_softmax: np.ufunc = _core.softmax
_softmax_backward: np.ufunc = _core.softmax_backward
_log_softmax: np.ufunc = _core.log_softmax
_log_softmax_backward: np.ufunc = _core.log_softmax_backward
_SOFTMAX, _SOFTMAX_BACKWARD = INDEX["softmax"], INDEX["softmax_backward"]
_LOG_SOFTMAX, _LOG_SOFTMAX_BACKWARD = INDEX["log_softmax"], INDEX["log_softmax_backward"]

_FLOATS = "efd"  # float16, float32 and float64
_LONG = 32  # elements of a row


@shown
def softmax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    out: NDArray[Any] | None = None,
    **kwargs: Unpack[GufuncKeywords],
) -> Any:
    """Softmax along one axis or several: ``exp(x - max(x)) / sum(exp(x - max(x)))``.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (..., n)
        Infinite values are limits: softmax([1, inf]) = [0, 1]. A row of -inf gives NaN, as does a row with a NaN.
        pandas' and xarray's arrays give arrays of their kind with the same labels, Dask's lazy ones.
    axis : int, tuple of ints or None, default -1
        The axes of the sum; None for all. A Dask array must have one chunk along them.
    out : ndarray of x's shape, optional
        Takes y; ``out=x`` is allowed.
    dtype, casting, order, subok
        As for every NumPy ufunc.

    Returns
    -------
    y : ndarray of x's shape and dtype
        In [0, 1]; sums along the axis are 1 within rounding. The sum is taken in float64, in an order that depends on n
        alone.

    Raises
    ------
    TypeError
        If an array is not of real numbers or is masked, or out cannot take the dtype.
    ValueError
        If shapes do not match, the axis does not exist, or out is read-only.

    See Also
    --------
    log_softmax, logsumexp, masked_softmax, softmin, sparsemax
    softmax_backward : Its gradient.
    nnfast.nn.Softmax : The layer.
    torch.nn.functional.softmax : PyTorch's.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.softmax(np.log([1.0, 2.0, 5.0]))
    array([0.125, 0.25 , 0.625])
    >>> nf.softmax(np.zeros((2, 4)), axis=None)[0]
    array([0.125, 0.125, 0.125, 0.125])
    """
    if type(axis) is int and not kwargs:
        found = along(_SOFTMAX, (x,), axis, False, out)
        if found is not None:
            return found
    return same_shape(_softmax, (x,), ("x",), axis, out, kwargs)


@shown
@_gradients.over(_softmax_backward)
@_docs.like(softmax)
def softmax_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    axis: Axis = -1,
    *,
    x: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    **kwargs: Unpack[GufuncKeywords],
) -> Any:
    """Gradient of softmax: ``y * (dy - sum(dy * y))`` along its axes.

    Parameters
    ----------
    dy : array_like of float16, float32 or float64, shape (..., n)
        Gradient of the loss with respect to y.
    y : array_like, shape (..., n)
        What softmax returned.
    axis : int, tuple of ints or None, default -1
        As given to the forward function.
    x : array_like, optional
        In place of y, by keyword: what the forward function was given; y is computed again.
    out : ndarray of the broadcast shape, optional
        Takes dx; ``out=dy`` is allowed.
    {dtype}

    Returns
    -------
    dx : ndarray of the broadcast shape
        Gradient of the loss with respect to x.

    {Raises}

    See Also
    --------
    softmax : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.softmax_backward(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    array([ 0.25, -0.25])
    """
    if y is None or x is not None:
        y = output_of(softmax, x, y, axis, kwargs)
    if type(axis) is int and not kwargs:
        dx = along(_SOFTMAX_BACKWARD, (dy, y), axis, False, out)
        if dx is not None:
            return dx
    return same_shape(_softmax_backward, (dy, y), ("dy", "y"), axis, out, kwargs)


@shown
@_docs.like(softmax)
def softmin(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    out: NDArray[Any] | None = None,
    **kwargs: Unpack[GufuncKeywords],
) -> Any:
    """Softmax of -x along one axis or several: the smallest element has the largest weight.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (..., n)
        Infinite values are limits: softmin([1, -inf]) = [0, 1]. A row of inf gives NaN, as does a row with a NaN.
    {axis}
    {out}
    {dtype}

    Returns
    -------
    y : ndarray of x's shape and dtype
        The bits of ``softmax(-x)``.

    {Raises}

    See Also
    --------
    softmin_backward : Its gradient.
    torch.nn.functional.softmin : PyTorch's.
    softmax, sparsemax

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.softmin(np.log([1.0, 2.0, 4.0])).round(6)
    array([0.571429, 0.285714, 0.142857])
    """
    if type(x) is _ndarray and type(axis) is int and not kwargs and x.ndim:  # noqa: SIM102
        if x.dtype.char in _FLOATS and (out is None or out is x):
            # One pass that scales; short rows, and those of other axes, are quicker by two.
            if axis == -1 and x.shape[-1] >= _LONG:
                return _core.masked_softmax(x, None, -1.0, False, x.ndim - 1, out)
            y = np.negative(x, out=out)
            return softmax(y, axis, out=y)
    values = x if _arrays.is_foreign(x) else _arrays.floating(x, "x", float16=True)
    return softmax(np.negative(values), axis, out=out, **kwargs)


@shown
@_docs.like(softmax_backward)
def softmin_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    axis: Axis = -1,
    *,
    x: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    **kwargs: Unpack[GufuncKeywords],
) -> Any:
    """Gradient of softmin: ``-y * (dy - sum(dy * y))`` along its axes.

    Parameters
    ----------
    {dy}
    y : array_like, shape (..., n)
        What softmin returned.
    {axis}
    {x}
    {out}
    {dtype}

    Returns
    -------
    dx : ndarray of the broadcast shape
        Gradient of the loss with respect to x.

    {Raises}

    See Also
    --------
    softmin : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.softmin_backward(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    array([-0.25,  0.25])
    """
    if y is None or x is not None:
        y = output_of(softmin, x, y, axis, kwargs)
    dx = softmax_backward(dy, y, axis, out=out, **kwargs)
    return np.negative(dx, out=dx) if isinstance(dx, np.ndarray) else -dx


@shown
@_docs.like(softmax)
def log_softmax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    out: NDArray[Any] | None = None,
    **kwargs: Unpack[GufuncKeywords],
) -> Any:
    """Logarithm of softmax along one axis or several: ``x - max(x) - log(sum(exp(x - max(x))))``.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (..., n)
        Infinite values are limits: log_softmax([1, inf]) = [-inf, 0]. A row of -inf gives NaN, as does a row with a
        NaN. pandas' and xarray's arrays give arrays of their kind with the same labels, Dask's lazy ones.
    {axis}
    {out}
    {dtype}

    Returns
    -------
    y : ndarray of x's shape and dtype
        Never above 0, within 2 ULP also where one element has nearly all the weight.

    {Raises}

    See Also
    --------
    log_softmax_backward : Its gradient.
    nnfast.nn.LogSoftmax : The layer.
    torch.nn.functional.log_softmax : PyTorch's.
    softmax, logsumexp, masked_softmax

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.log_softmax(np.array([0.0, 1000.0, -np.inf]))
    array([-1000.,     0.,   -inf])
    """
    if type(axis) is int and not kwargs:
        found = along(_LOG_SOFTMAX, (x,), axis, False, out)
        if found is not None:
            return found
    return same_shape(_log_softmax, (x,), ("x",), axis, out, kwargs)


@shown
@_gradients.over(_log_softmax_backward)
@_docs.like(softmax_backward)
def log_softmax_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    axis: Axis = -1,
    *,
    x: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    **kwargs: Unpack[GufuncKeywords],
) -> Any:
    """Gradient of log_softmax: ``dy - exp(y) * sum(dy)`` along its axes.

    Parameters
    ----------
    {dy}
    y : array_like, shape (..., n)
        What log_softmax returned.
    {axis}
    {x}
    {out}
    {dtype}

    Returns
    -------
    dx : ndarray of the broadcast shape
        Gradient of the loss with respect to x.

    {Raises}

    See Also
    --------
    log_softmax : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.log_softmax_backward(np.array([1.0, 0.0]), np.log([0.5, 0.5]))
    array([ 0.5, -0.5])
    """
    if y is None or x is not None:
        y = output_of(log_softmax, x, y, axis, kwargs)
    if type(axis) is int and not kwargs:
        dx = along(_LOG_SOFTMAX_BACKWARD, (dy, y), axis, False, out)
        if dx is not None:
            return dx
    return same_shape(_log_softmax_backward, (dy, y), ("dy", "y"), axis, out, kwargs)
