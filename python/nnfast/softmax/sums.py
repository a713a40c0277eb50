"""Logarithms of sums of exponentials, and their gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _docs, _gradients, _labels
from nnfast._keywords import GufuncKeywords, shown
from nnfast._load import _core
from nnfast.softmax.axes import (
    INDEX,
    Axis,
    along,
    axes_of,
    flattened,
    into_out,
    require_unmasked,
    restored,
    unlabelled,
    without_axes,
)
from nnfast.softmax.plain import softmax
from nnfast.softmax.signed_sums import signed_logsumexp, signed_logsumexp_backward

__all__ = ["logsumexp", "logsumexp_backward"]

_ndarray = np.ndarray

_logsumexp: np.ufunc = _core.logsumexp
_logsumexp_backward: np.ufunc = _core.logsumexp_backward
_LOGSUMEXP, _LOGSUMEXP_BACKWARD = INDEX["logsumexp"], INDEX["logsumexp_backward"]


@shown
@_docs.like(softmax)
def logsumexp(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    out: NDArray[Any] | None = None,
    **kwargs: Unpack[GufuncKeywords],
) -> Any:
    """Logarithm of the sum of exponentials along one axis or several: ``max(x) + log(sum(b * exp(x - max(x))))``.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (..., n)
        A row of -inf, or of no elements, gives -inf; one with inf gives inf; NaN gives NaN. A DataFrame gives a Series
        and a DataArray one with the axes that are left, Dask's arrays lazy ones.
    {axis}
    b : array_like that broadcasts with x, optional
        Factors of the exponentials, of either sign; where one is 0, x may be anything. As in SciPy. With b or
        return_sign, objects of pandas and xarray give ndarrays, and Dask's arrays are refused.
    keepdims : bool, default False
        Whether the axes stay, with length 1; a pandas object then gives an ndarray.
    return_sign : bool, default False
        Whether the sign of the sum is returned too: then y is the logarithm of its size. Else the logarithm of a
        negative sum is NaN.
    out : ndarray of y's shape, optional
        Takes y.
    {dtype}

    Returns
    -------
    y : ndarray or scalar of x's dtype, shape (...)
        The sum is taken in float64. With b, of the dtype of x and b together.
    sign : ndarray or scalar of y's dtype and shape
        With ``return_sign=True``: 1, -1, 0 where the sum is 0, and NaN where it is.

    {Raises}

    See Also
    --------
    logsumexp_backward : Its gradient.
    torch.logsumexp : PyTorch's.
    softmax, log_softmax, masked_softmax

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.logsumexp(np.array([[1000.0, 1000.0], [-np.inf, 3.0]])) - [1000, 0]
    array([0.69314718, 3.        ])
    >>> y, sign = nf.logsumexp([1000.0, 1001.0], b=[1.0, -1.0], return_sign=True)
    >>> round(float(y), 6), float(sign)
    (1000.541325, -1.0)
    """
    if b is not None or return_sign:
        if type(axis) is int and out is None and not kwargs:
            found = _core.signed_logsumexp(x, b, axis, bool(keepdims), bool(return_sign))
            if found is not None:
                return found
        return signed_logsumexp(x, b, axis, bool(keepdims), bool(return_sign), out, kwargs)
    if type(axis) is int and not kwargs:
        if axis == -1 and out is None and not keepdims and type(x) is _ndarray and x.ndim == 1:
            return _logsumexp(x)
        y = along(_LOGSUMEXP, (x,), axis, bool(keepdims), out)
        if y is not None:
            return y
    return _reduced(x, axis, bool(keepdims), out, kwargs)


@shown
@_gradients.over(_logsumexp_backward)
@_docs.like(softmax)
def logsumexp_backward(
    dy: ArrayLike,
    x: ArrayLike | None = None,
    axis: Axis = -1,
    *,
    y: ArrayLike | None = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    out: NDArray[Any] | None = None,
    **kwargs: Unpack[GufuncKeywords],
) -> Any:
    """Gradient of logsumexp: ``dy * softmax(x)`` along its axes, ``dy * b * exp(x) / sum(b * exp(x))`` with b.

    Parameters
    ----------
    dy : array_like of float16, float32 or float64, shape (...)
        Gradient of the loss with respect to y; it broadcasts to y's shape.
    x : array_like, shape (..., n)
        What logsumexp was given.
    axis : int, tuple of ints or None, default -1
        As given to logsumexp.
    y : None
        No array: the gradient does not follow from y.
    b : array_like, optional
        As given to logsumexp; the gradient is that with respect to x.
    keepdims : bool, default False
        As given to logsumexp.
    out : ndarray of x's shape, optional
        Takes dx.
    {dtype}

    Returns
    -------
    dx : ndarray of x's shape
        Gradient of the loss with respect to x.

    {Raises}

    See Also
    --------
    logsumexp : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.logsumexp_backward(2.0, np.array([1.0, 1.0]))
    array([1., 1.])
    """
    if x is None or y is not None:
        _gradients.require_one("logsumexp", ("x",), x=x, y=y)
    if b is not None:
        return signed_logsumexp_backward(dy, x, b, axis, bool(keepdims), out, kwargs)
    if type(axis) is int and not kwargs:
        dx = along(_LOGSUMEXP_BACKWARD, (dy, x), axis, bool(keepdims), out)
        if dx is not None:
            return dx
    if "axes" in kwargs:  # which say where the axis of each array is
        return _logsumexp_backward(dy, x, out=out, **kwargs)
    require_unmasked((dy, x), ("dy", "x"), out)
    up, values = unlabelled(dy), unlabelled(x)
    axes = axes_of(axis, values, "x")
    up = without_axes(up, values, axes, bool(keepdims))
    if len(axes) == 1:
        places = [(), axes[0], axes[0]]
        dx = _logsumexp_backward(up, values, axes=places, out=out, **kwargs)
    else:
        flat = _logsumexp_backward(up, flattened(values, axes), **kwargs)
        dx = into_out(restored(flat, values.shape, axes), out, kwargs)
    return dx if out is not None else _labels.labelled_like(dx, x)


def _reduced(x: Any, axis: Axis, keepdims: bool, out: Any, kwargs: Mapping[str, Any]) -> Any:
    """logsumexp along any axes of any array."""
    if "axes" in kwargs:
        return _logsumexp(x, keepdims=keepdims, out=out, **kwargs)
    require_unmasked((x,), ("x",), out)
    if _labels.is_xarray(x):
        if out is not None:
            raise TypeError("out must be None for an xarray.DataArray: pass x.values")
        axes = axes_of(axis, x, "x")
        return x.reduce(logsumexp, axis=axes, keepdims=keepdims, keep_attrs=True, **kwargs)
    values = unlabelled(x)
    axes = axes_of(axis, values, "x")
    if len(axes) == 1:
        y = _logsumexp(values, axis=axes[0], keepdims=keepdims, out=out, **kwargs)
    else:
        y = _logsumexp(flattened(values, axes), **kwargs)
        if keepdims:
            y = np.reshape(y, [1 if d in axes else n for d, n in enumerate(values.shape)])
        y = into_out(y, out, kwargs)
    if out is None and _labels.is_pandas(x) and x.ndim == 2 and len(axes) == 1 and not keepdims:
        return x._constructor_sliced(y, index=x.index if axes == (1,) else x.columns)
    return y
