"""Sparsemax and its gradient."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _docs, _gradients
from nnfast._keywords import GufuncKeywords, shown
from nnfast._load import _core
from nnfast.softmax.axes import INDEX, Axis, along, output_of, same_shape
from nnfast.softmax.plain import softmax, softmax_backward

__all__ = ["sparsemax", "sparsemax_backward"]

_sparsemax: np.ufunc = _core.sparsemax
_sparsemax_backward: np.ufunc = _core.sparsemax_backward
_SPARSEMAX, _SPARSEMAX_BACKWARD = INDEX["sparsemax"], INDEX["sparsemax_backward"]


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
        found = along(_SPARSEMAX, (x,), axis, False, out)
        if found is not None:
            return found
    return same_shape(_sparsemax, (x,), ("x",), axis, out, kwargs)


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
        y = output_of(sparsemax, x, y, axis, kwargs)
    if type(axis) is int and not kwargs:
        dx = along(_SPARSEMAX_BACKWARD, (dy, y), axis, False, out)
        if dx is not None:
            return dx
    return same_shape(_sparsemax_backward, (dy, y), ("dy", "y"), axis, out, kwargs)
