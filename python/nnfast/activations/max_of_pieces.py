"""Maxout and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks
from nnfast._load import _core

__all__ = [
    "maxout",
    "maxout_backward",
]

_UINT8 = np.dtype(np.uint8)


def maxout(
    x: ArrayLike, pieces: int, axis: int = -1, *, out: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Maxout: the largest of every ``pieces`` neighbours along an axis.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (..., m * pieces, ...)
        The pieces of a unit are contiguous: ``x`` is read as (..., m, pieces, ...).
    pieces : int in [1, 256]
        How many neighbours there are for each y.
    axis : int, default -1
        The axis of the neighbours.
    out : ndarray of x's dtype, shape (..., m, ...), optional
        Takes the result.

    Returns
    -------
    y : ndarray, shape (..., m, ...)
        The first of equals wins; NaN propagates.
    which : ndarray of uint8, y's shape
        The piece that held it, for maxout_backward.

    Raises
    ------
    TypeError
        If x is not of real numbers or out has another dtype.
    ValueError
        If pieces does not divide the axis, or out has another shape, is read-only or overlaps x.

    See Also
    --------
    maxout_backward : Its gradient.
    nnfast.nn.Maxout : The layer.

    References
    ----------
    Goodfellow et al., "Maxout networks", 2013.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> y, which = nf.maxout(np.array([1.0, 3.0, -2.0, -5.0]), 2)
    >>> y, which
    (array([ 3., -2.]), array([1, 0], dtype=uint8))
    """
    x = _arrays.floating(x, "x", float16=True)
    axis = _arrays.axis_of(axis, x, "x")
    _pieces(pieces)
    if x.shape[axis] % pieces:
        raise ValueError(
            f"pieces must divide the length of axis {axis} of x, {x.shape[axis]}, got {pieces}"
        )
    shape = (*x.shape[:axis], x.shape[axis] // pieces, *x.shape[axis + 1 :])
    y = _arrays.output(out, shape, x.dtype, x)
    if x.dtype.itemsize == 2:  # exact both ways
        y[...], which = maxout(x.astype(np.float32), pieces, axis)
        return y, which
    which = np.empty(shape, np.uint8)
    _core.maxout(x, y, which, axis, pieces)
    return y, which


def maxout_backward(
    dy: ArrayLike,
    which: NDArray[np.uint8],
    pieces: int,
    axis: int = -1,
    *,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient of maxout: ``dy`` goes to the piece that was largest, the others get 0.

    Parameters
    ----------
    dy : array_like of float16, float32 or float64, shape (..., m, ...)
        Gradient of the loss with respect to y.
    which : ndarray of uint8, dy's shape
        What maxout returned.
    pieces : int in [1, 256]
        As given to maxout.
    axis : int, default -1
        As given to maxout.
    out : ndarray of dy's dtype, shape (..., m * pieces, ...), optional
        Takes dx.

    Returns
    -------
    dx : ndarray, shape (..., m * pieces, ...)
        Gradient of the loss with respect to x.

    Raises
    ------
    TypeError
        If dy is not of real numbers or out has another dtype.
    ValueError
        If shapes do not match, or out is read-only or overlaps dy.

    See Also
    --------
    maxout : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.maxout_backward(np.array([5.0, 7.0]), np.array([1, 0], dtype=np.uint8), 2)
    array([0., 5., 7., 0.])
    """
    dy = _arrays.floating(dy, "dy", float16=True)
    axis = _arrays.axis_of(axis, dy, "dy")
    _pieces(pieces)
    if type(which) is not np.ndarray:
        _arrays.check_unmasked(which, "which")
        if not isinstance(which, np.ndarray):
            raise TypeError(f"which must be a numpy.ndarray, got {type(which).__name__}")
    if which.dtype != _UINT8:
        raise TypeError(f"which must have dtype uint8, got {which.dtype}")
    if which.shape != dy.shape:
        raise ValueError(f"which must have the shape of dy, {dy.shape}, got {which.shape}")
    shape = (*dy.shape[:axis], dy.shape[axis] * pieces, *dy.shape[axis + 1 :])
    dx = _arrays.output(out, shape, dy.dtype, dy)
    if dy.dtype.itemsize == 2:  # exact both ways
        dx[...] = maxout_backward(dy.astype(np.float32), which, pieces, axis)
        return dx
    _core.maxout_backward(dy, which, dx, axis, pieces)
    return dx


def _pieces(pieces: int) -> None:
    if not 1 <= _checks.integer(pieces, "pieces") <= 256:
        raise ValueError(f"pieces must be in [1, 256], got {pieces}")
