"""Softmax, softmin, log_softmax, logsumexp and sparsemax with their gradients, along any axes; masked softmax."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _dask, _docs, _gradients, _labels
from nnfast._keywords import GufuncKeywords, shown
from nnfast._load import _core

Axis = int | tuple[int, ...] | None

_ndarray = np.ndarray

# Generalised ufuncs, which know neither masks nor labels, along one axis.
_softmax: np.ufunc = _core.softmax
_softmax_backward: np.ufunc = _core.softmax_backward
_log_softmax: np.ufunc = _core.log_softmax
_log_softmax_backward: np.ufunc = _core.log_softmax_backward
_logsumexp: np.ufunc = _core.logsumexp
_logsumexp_backward: np.ufunc = _core.logsumexp_backward
_sparsemax: np.ufunc = _core.sparsemax
_sparsemax_backward: np.ufunc = _core.sparsemax_backward

# The same for plain arrays, by their numbers: None where there are others. Asked first, as the rules of a generalised
# ufunc take longer than all of a call on a small array; and NumPy hands one the rows of one axis at a time.
_along = _core.softmax_along
_INDEX = {name: index for index, name in enumerate(_core.softmax_names)}
_SOFTMAX, _SOFTMAX_BACKWARD = _INDEX["softmax"], _INDEX["softmax_backward"]
_LOG_SOFTMAX, _LOG_SOFTMAX_BACKWARD = _INDEX["log_softmax"], _INDEX["log_softmax_backward"]
_LOGSUMEXP, _LOGSUMEXP_BACKWARD = _INDEX["logsumexp"], _INDEX["logsumexp_backward"]
_SPARSEMAX, _SPARSEMAX_BACKWARD = _INDEX["sparsemax"], _INDEX["sparsemax_backward"]

_FLOATS = "efd"  # float16, float32 and float64
_LONG = 32  # elements of a row

# Elements that logsumexp with factors takes together.
_BLOCK = 1 << 14


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
        found = _along(_SOFTMAX, (x,), axis, False, out)
        if found is not None:
            return found
    return _same_shape(_softmax, (x,), ("x",), axis, out, kwargs)


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
        y = _output(softmax, x, y, axis, kwargs)
    if type(axis) is int and not kwargs:
        dx = _along(_SOFTMAX_BACKWARD, (dy, y), axis, False, out)
        if dx is not None:
            return dx
    return _same_shape(_softmax_backward, (dy, y), ("dy", "y"), axis, out, kwargs)


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
        y = _output(softmin, x, y, axis, kwargs)
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
        found = _along(_LOG_SOFTMAX, (x,), axis, False, out)
        if found is not None:
            return found
    return _same_shape(_log_softmax, (x,), ("x",), axis, out, kwargs)


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
        y = _output(log_softmax, x, y, axis, kwargs)
    if type(axis) is int and not kwargs:
        dx = _along(_LOG_SOFTMAX_BACKWARD, (dy, y), axis, False, out)
        if dx is not None:
            return dx
    return _same_shape(_log_softmax_backward, (dy, y), ("dy", "y"), axis, out, kwargs)


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
        return _signed_logsumexp(x, b, axis, bool(keepdims), bool(return_sign), out, kwargs)
    if type(axis) is int and not kwargs:
        if axis == -1 and out is None and not keepdims and type(x) is _ndarray and x.ndim == 1:
            return _logsumexp(x)
        y = _along(_LOGSUMEXP, (x,), axis, bool(keepdims), out)
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
        return _signed_logsumexp_backward(dy, x, b, axis, bool(keepdims), out, kwargs)
    if type(axis) is int and not kwargs:
        dx = _along(_LOGSUMEXP_BACKWARD, (dy, x), axis, bool(keepdims), out)
        if dx is not None:
            return dx
    if "axes" in kwargs:  # which say where the axis of each array is
        return _logsumexp_backward(dy, x, out=out, **kwargs)
    _require_unmasked((dy, x), ("dy", "x"), out)
    up, values = _unlabelled(dy), _unlabelled(x)
    axes = _axes(axis, values, "x")
    up = _without_axes(up, values, axes, bool(keepdims))
    if len(axes) == 1:
        places = [(), axes[0], axes[0]]
        dx = _logsumexp_backward(up, values, axes=places, out=out, **kwargs)
    else:
        flat = _logsumexp_backward(up, _flattened(values, axes), **kwargs)
        dx = _given(_restored(flat, values.shape, axes), out, kwargs)
    return dx if out is not None else _labels.labelled_like(dx, x)


@shown
@_docs.like(softmax)
def sparsemax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    out: NDArray[Any] | None = None,
    **kwargs: Unpack[GufuncKeywords],
) -> Any:
    """Sparse probabilities along one axis or several: the point of the simplex that is nearest to x.

    ``max(x - t, 0)`` with the t for which it sums to 1; where softmax has small probabilities it has zeros.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (..., n)
        Infinite values are limits: sparsemax([1, inf]) = [0, 1]. A row of -inf gives NaN, as does a row with a NaN.
        pandas' and xarray's arrays give arrays of their kind with the same labels, Dask's lazy ones.
    {axis}
    {out}
    {dtype}

    Returns
    -------
    y : ndarray of x's shape and dtype
        In [0, 1]; sums along the axis are 1 within rounding. Of float16 and float32 the result in float64, rounded; of
        float64 off by less than 2**-51. Sums are taken in float64, in an order that depends on n alone.

    {Raises}

    See Also
    --------
    sparsemax_backward : Its gradient.
    nnfast.nn.Sparsemax : The layer.
    softmax, softmin

    Notes
    -----
    Exact without sorting: of the elements above a bound of t a better bound follows, until it leaves none of them out.
    A handful of passes over a row find it.

    References
    ----------
    Martins, Astudillo, "From softmax to sparsemax: a sparse model of attention and multi-label classification", 2016;
    Michelot, "A finite algorithm for finding the projection of a point onto the canonical simplex of R^n", 1986.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.sparsemax(np.array([1.0, 0.5, -1.0]))
    array([0.75, 0.25, 0.  ])
    >>> nf.sparsemax(np.zeros((2, 4)), axis=None)[0]
    array([0.125, 0.125, 0.125, 0.125])
    """
    if type(axis) is int and not kwargs:
        found = _along(_SPARSEMAX, (x,), axis, False, out)
        if found is not None:
            return found
    return _same_shape(_sparsemax, (x,), ("x",), axis, out, kwargs)


@shown
@_gradients.over(_sparsemax_backward)
@_docs.like(softmax_backward)
def sparsemax_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    axis: Axis = -1,
    *,
    x: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    **kwargs: Unpack[GufuncKeywords],
) -> Any:
    """Gradient of sparsemax: ``dy - mean(dy where y > 0)`` along its axes where y > 0, else 0.

    Parameters
    ----------
    {dy}
    y : array_like, shape (..., n)
        What sparsemax returned.
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
    sparsemax : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.sparsemax_backward(np.array([1.0, 0.0, 5.0]), np.array([0.75, 0.25, 0.0]))
    array([ 0.5, -0.5,  0. ])
    """
    if y is None or x is not None:
        y = _output(sparsemax, x, y, axis, kwargs)
    if type(axis) is int and not kwargs:
        dx = _along(_SPARSEMAX_BACKWARD, (dy, y), axis, False, out)
        if dx is not None:
            return dx
    return _same_shape(_sparsemax_backward, (dy, y), ("dy", "y"), axis, out, kwargs)


def masked_softmax(
    x: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    scale: float = 1.0,
    causal: bool = False,
    axis: int = -1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Softmax of ``scale * x`` over the elements that take part, 0 elsewhere: the weights of attention, in one pass.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (..., T, S)
        Scores of T queries and S keys. Without ``causal=True`` any shape with at least one axis.
    mask : array_like of bool that broadcasts to x's shape, optional
        True where an element takes part. NaN and infinities elsewhere do not matter.
    scale : float, default 1.0
        Such as ``1 / sqrt(d)``. The product is rounded to x's dtype (float16: to float32).
    causal : bool, default False
        Query i sees the keys ``j <= i + S - T`` alone, so that the last query sees all; with a mask, both hold.
    axis : int, default -1
        That of the sum, and of the keys; the queries lie along the last of the other axes. (softmax takes several
        axes, and arrays with labels.)
    out : ndarray of x's shape and dtype, optional
        Takes y; ``out=x`` is allowed.

    Returns
    -------
    y : ndarray of x's shape and dtype
        What takes part has the bits of ``softmax(where(takes_part, scale * x, -inf))``, so that a NaN among it gives
        NaN; all else is 0, also where nothing of a row takes part.

    Raises
    ------
    TypeError
        If x is not of real numbers, mask is not of bool, scale is no number, or out has another dtype.
    ValueError
        If scale is not finite, mask does not broadcast to x's shape, x has no axis of queries for ``causal=True``, the
        axis does not exist, or out has another shape, is read-only or overlaps.

    See Also
    --------
    masked_softmax_backward : Its gradient.
    softmax, log_softmax, logsumexp

    References
    ----------
    Vaswani et al., "Attention is all you need", 2017.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.masked_softmax(np.zeros((2, 4)), [[True, True, False, False], [False] * 4])
    array([[0.5, 0.5, 0. , 0. ],
           [0. , 0. , 0. , 0. ]])
    >>> nf.masked_softmax(np.zeros((2, 2)), causal=True)
    array([[1. , 0. ],
           [0.5, 0.5]])
    """
    x = _arrays.floating(x, "x", float16=True)
    scale = _checks.finite(scale, "scale")
    return _core.masked_softmax(x, mask, scale, bool(causal), _arrays.axis_of(axis, x, "x"), out)


def masked_softmax_backward(
    dy: ArrayLike,
    y: ArrayLike,
    *,
    scale: float = 1.0,
    axis: int = -1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient of masked_softmax: ``scale * y * (dy - sum(dy * y))`` along its axis, 0 where y is 0.

    Parameters
    ----------
    dy : array_like, y's shape
        Gradient of the loss with respect to y; converted to y's dtype. NaN and infinities where y is 0 do not matter.
    y : array_like of float16, float32 or float64, shape (..., n)
        What masked_softmax returned.
    scale : float, default 1.0
        As given to masked_softmax.
    axis : int, default -1
        As given to masked_softmax.
    out : ndarray of y's shape and dtype, optional
        Takes dx; ``out=dy`` is allowed.

    Returns
    -------
    dx : ndarray of y's shape and dtype
        Gradient of the loss with respect to x, not to ``scale * x``.

    Raises
    ------
    TypeError
        If an array is not of real numbers, scale is no number, or out has another dtype.
    ValueError
        If scale is not finite, shapes do not match, the axis does not exist, or out is read-only or overlaps.

    See Also
    --------
    masked_softmax : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> y = nf.masked_softmax(np.zeros(3), [True, True, False])
    >>> nf.masked_softmax_backward(np.array([1.0, 0.0, np.inf]), y)
    array([ 0.25, -0.25,  0.  ])
    """
    y = _arrays.floating(y, "y", float16=True)
    scale = _checks.finite(scale, "scale")
    return _core.masked_softmax_backward(dy, y, scale, _arrays.axis_of(axis, y, "y"), out)


def _output(
    forward: Callable[..., Any], x: Any, y: Any, axis: Axis, kwargs: Mapping[str, Any]
) -> Any:
    """y where a gradient is given x in its place."""
    _gradients.require_one(forward.__name__, ("y", "x"), y=y, x=x)
    given = {name: kwargs[name] for name in ("dtype",) if name in kwargs}
    if "axes" in kwargs:  # of dy, y and dx
        return forward(x, axes=[kwargs["axes"][1]] * 2, **given)
    return forward(x, axis, **given)


# ---- other arrays, and several axes ----


def _same_shape(
    ufunc: np.ufunc,
    arrays: tuple[Any, ...],
    names: tuple[str, ...],
    axis: Axis,
    out: Any,
    kwargs: Mapping[str, Any],
) -> Any:
    """A generalised ufunc whose result has the shape of its inputs, which broadcast, along any axes."""
    if "keepdims" in kwargs:
        raise TypeError(f"{ufunc.__name__} has no argument 'keepdims': its result has x's axes")
    if "axes" in kwargs:
        return ufunc(*arrays, out=out, **kwargs)
    _require_unmasked(arrays, names, out)
    values = [_unlabelled(array) for array in arrays]
    if type(axis) is int:
        y = ufunc(*values, axis=axis, out=out, **kwargs)
    else:
        if len(values) > 1:
            values = list(np.broadcast_arrays(*values))
        axes = _axes(axis, values[-1], names[-1])
        flat = ufunc(*(_flattened(value, axes) for value in values), **kwargs)
        y = _given(_restored(flat, values[-1].shape, axes), out, kwargs)
    labelled = out is None and y.shape == values[-1].shape
    return _labels.labelled_like(y, arrays[-1]) if labelled else y


def _reduced(x: Any, axis: Axis, keepdims: bool, out: Any, kwargs: Mapping[str, Any]) -> Any:
    """logsumexp along any axes of any array."""
    if "axes" in kwargs:
        return _logsumexp(x, keepdims=keepdims, out=out, **kwargs)
    _require_unmasked((x,), ("x",), out)
    if _labels.is_xarray(x):
        if out is not None:
            raise TypeError("out must be None for an xarray.DataArray: pass x.values")
        axes = _axes(axis, x, "x")
        return x.reduce(logsumexp, axis=axes, keepdims=keepdims, keep_attrs=True, **kwargs)
    values = _unlabelled(x)
    axes = _axes(axis, values, "x")
    if len(axes) == 1:
        y = _logsumexp(values, axis=axes[0], keepdims=keepdims, out=out, **kwargs)
    else:
        y = _logsumexp(_flattened(values, axes), **kwargs)
        if keepdims:
            y = np.reshape(y, [1 if d in axes else n for d, n in enumerate(values.shape)])
        y = _given(y, out, kwargs)
    if out is None and _labels.is_pandas(x) and x.ndim == 2 and len(axes) == 1 and not keepdims:
        return x._constructor_sliced(y, index=x.index if axes == (1,) else x.columns)
    return y


class _Factored:
    """x and factors b of its exponentials, broadcast to one shape: as rows along the axes."""

    def __init__(self, x: Any, b: Any, axis: Axis, kwargs: Mapping[str, Any]) -> None:
        if not kwargs.keys() <= {"dtype", "casting"}:
            raise TypeError("only dtype and casting may be given beside b and return_sign")
        values = _arrays.floating(x, "x", float16=True)
        given = _arrays.plain(1.0 if b is None else b, "b")
        factors = _arrays.floating(given, "b", float16=True)
        try:
            self.shape = np.broadcast_shapes(values.shape, factors.shape)
        except ValueError:
            message = f"b must broadcast with x of shape {values.shape}, got {factors.shape}"
            raise ValueError(message) from None
        weak = given.dtype.kind != "f" or b is None or isinstance(b, float)
        dtype = values.dtype if weak else np.result_type(values, factors)
        self.dtype = np.dtype(kwargs.get("dtype") or dtype)
        values, factors = np.broadcast_to(values, self.shape), np.broadcast_to(factors, self.shape)
        self.axes = _axes(axis, values, "x")
        n = prod(self.shape[d] for d in self.axes)
        rows = prod(side for d, side in enumerate(self.shape) if d not in self.axes)
        self.values = _flattened(values, self.axes).reshape(rows, n)
        self.factors = _flattened(factors, self.axes).reshape(rows, n)

    def blocks(self) -> Iterator[tuple[slice, _SignedTerms]]:
        """Some rows after the other, whose numbers stay in the cache."""
        rows, n = self.values.shape
        step = max(1, _BLOCK // max(1, n))
        for first in range(0, rows, step):
            some = slice(first, first + step)
            yield some, _SignedTerms(self.values[some], self.factors[some])

    def reduced(self, values: NDArray[np.float64], keepdims: bool) -> Any:
        """A number for each row, in the shape of the result."""
        kept = [1 if d in self.axes else n for d, n in enumerate(self.shape)]
        shape = kept if keepdims else [n for d, n in enumerate(self.shape) if d not in self.axes]
        return values.reshape(shape).astype(self.dtype)[()]


class _SignedTerms:
    """``b * exp(x - shift)`` of rows, and their sums, in float64: of the gradient, for the logarithm is a kernel."""

    def __init__(self, x: NDArray[Any], b: NDArray[Any]) -> None:
        # Contiguous, so that the order of the sums does not depend on the layout.
        values = x.astype(np.float64, order="C")
        none = b == 0
        if none.any():
            values[none] = -np.inf
        largest = values.max(axis=-1, keepdims=True, initial=-np.inf)
        values -= np.where(np.isfinite(largest), largest, 0)
        # The largest terms apart: their factors enter the sum exactly.
        top = np.divmod(np.flatnonzero(values == 0), values.shape[1])
        factors = b[top].astype(np.float64)
        most = np.bincount(top[0], factors, len(values))
        self.terms = np.exp(values, out=values)
        self.terms *= b
        self.terms[top] = 0
        others = self.terms.sum(axis=-1, keepdims=True)
        self.terms[top] = factors
        self.sum = most[:, np.newaxis] + others


def _signed_logsumexp(
    x: Any,
    b: Any,
    axis: Axis,
    keepdims: bool,
    return_sign: bool,
    out: Any,
    kwargs: Mapping[str, Any],
) -> Any:
    """logsumexp with factors of either sign, or with the sign of the sum."""
    with np.errstate(all="ignore"):
        factored = _Factored(x, b, axis, kwargs)
        values, factors = factored.values, factored.factors
        single = factored.dtype == values.dtype == factors.dtype == np.float32
        if not single:  # float16, too: its results are rounded once
            values, factors = values.astype(np.float64), factors.astype(np.float64)
        logs, signs = _core.signed_logsumexp(values, factors, 1, False, True)
        if not return_sign:
            logs[signs < 0] = np.nan
        y = _given(factored.reduced(logs, keepdims), out, kwargs)
    return (y, factored.reduced(signs, keepdims)) if return_sign else y


def _signed_logsumexp_backward(
    dy: Any, x: Any, b: Any, axis: Axis, keepdims: bool, out: Any, kwargs: Mapping[str, Any]
) -> Any:
    with np.errstate(all="ignore"):
        factored = _Factored(x, b, axis, kwargs)
        shape, axes = factored.shape, factored.axes
        up = _without_axes(_arrays.plain(dy, "dy"), np.broadcast_to(0.0, shape), axes, keepdims)
        rest = tuple(n for d, n in enumerate(shape) if d not in axes)
        up = np.broadcast_to(up, rest).reshape(len(factored.values), 1)
        flat = np.empty(factored.values.shape)
        for some, terms in factored.blocks():
            flat[some] = np.where(terms.terms == 0, 0, up[some] * terms.terms / terms.sum)
        flat = flat.reshape(*rest, flat.shape[1])
        dx = _arrays.summed_to(_restored(flat, shape, axes), np.shape(x))
        return _given(dx.astype(factored.dtype), out, kwargs)


def _require_unmasked(arrays: tuple[Any, ...], names: tuple[str, ...], out: Any) -> None:
    """Refuse masked arrays, whose masked elements would enter the sums, and Dask's tables."""
    for array, name in zip(arrays, names, strict=True):
        if not (_dask.is_dask(array) or _labels.is_xarray(array)):
            _arrays.check_readable(array, name)
    target = out[0] if type(out) is tuple and len(out) == 1 else out
    _arrays.check_unmasked(target, "out")
    if target is not None and not isinstance(target, np.ndarray):
        raise TypeError(f"out must be a numpy.ndarray, got {type(target).__name__}")


def _unlabelled(value: Any) -> Any:
    """The values without labels, as Dask's array or NumPy's; a matrix, which always has two axes, as an ndarray."""
    value = _labels.values_of(value)
    if isinstance(value, np.ndarray) and not isinstance(value, np.matrix):
        return value
    return value if _arrays.is_foreign(value) else np.asarray(value)


def _axes(axis: Axis, array: Any, name: str) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(array.ndim))
    if type(axis) is not tuple:
        _checks.integer(axis, "axis")
    return _arrays.axes_of(axis, array, name)


def _flattened(array: Any, axes: tuple[int, ...]) -> Any:
    """The array with the axes joined into one, the last."""
    rest = [d for d in range(array.ndim) if d not in axes]
    moved = np.transpose(array, (*rest, *axes))
    return moved.reshape((*(array.shape[d] for d in rest), prod(array.shape[d] for d in axes)))


def _restored(flat: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """The inverse of _flattened."""
    rest = [d for d in range(len(shape)) if d not in axes]
    order = (*rest, *axes)
    moved = flat.reshape(tuple(shape[d] for d in order))
    return np.transpose(moved, [order.index(d) for d in range(len(shape))])


def _without_axes(dy: Any, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """dy without the axes that keepdims kept; not with more axes than y, which would broadcast x."""
    if keepdims:
        if np.ndim(dy) != x.ndim or any(dy.shape[d] != 1 for d in axes):
            kept = tuple(1 if d in axes else n for d, n in enumerate(x.shape))
            raise ValueError(f"dy must have shape {kept} where keepdims is True, got {dy.shape}")
        return dy.reshape([n for d, n in enumerate(dy.shape) if d not in axes])
    rest = tuple(n for d, n in enumerate(x.shape) if d not in axes)
    if np.ndim(dy) > len(rest):
        raise ValueError(f"dy must broadcast to the shape of y, {rest}, got {np.shape(dy)}")
    return dy


def _given(y: Any, out: Any, kwargs: Mapping[str, Any]) -> Any:
    """The result, copied into `out` if there is one."""
    if out is None:
        return y
    target = out[0] if isinstance(out, tuple) else out
    if target.shape != np.shape(y):
        raise ValueError(f"out must have shape {np.shape(y)}, got {target.shape}")
    _arrays.check_writeable(target, "out")
    np.copyto(target, y, casting=kwargs.get("casting", "same_kind"))
    return target
