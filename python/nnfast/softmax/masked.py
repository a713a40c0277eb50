"""Softmax of the elements that a mask lets take part, and its gradient."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks
from nnfast._load import _core

__all__ = ["masked_softmax", "masked_softmax_backward"]


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
