"""Activations and their gradients.

Those without an optional parameter are NumPy ufuncs; the others are functions over ufuncs and take every keyword of one
(``out=``, ``where=``, ``dtype=``...). A gradient is ``<name>_backward(dy, saved)``, where ``saved`` is the output ``y``
for all of them but prelu, whose learned slope may be negative and which saves its input ``x``.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _checks
from nnfast._load import _core

prelu: np.ufunc = _core.prelu
prelu_backward: np.ufunc = _core.prelu_backward
relu: np.ufunc = _core.relu
relu_backward: np.ufunc = _core.relu_backward
sigmoid: np.ufunc = _core.sigmoid
sigmoid_backward: np.ufunc = _core.sigmoid_backward
tanh: np.ufunc = _core.tanh
tanh_backward: np.ufunc = _core.tanh_backward

# doctest does not look into ufuncs by itself.
__test__ = {
    ufunc.__name__: ufunc.__doc__
    for ufunc in (
        prelu,
        prelu_backward,
        relu,
        relu_backward,
        sigmoid,
        sigmoid_backward,
        tanh,
        tanh_backward,
    )
}


def leaky_relu(x: ArrayLike, negative_slope: float = 0.01, **kwargs: Any) -> Any:
    """Leaky rectified linear unit: ``x`` where ``x > 0``, else ``negative_slope * x``.

    Parameters
    ----------
    x : array_like of float32 or float64, any shape
    negative_slope : float, default 0.01
        Keras uses 0.3.
    **kwargs
        Of a NumPy ufunc: out, where, dtype, casting, order, subok.

    Returns
    -------
    y : ndarray or scalar of x's shape and dtype
        Within 0.5 ULP (one product).

    Raises
    ------
    TypeError
        If negative_slope is not a real number.

    References
    ----------
    Maas, Hannun, Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.leaky_relu(np.array([-2.0, 3.0]), negative_slope=0.5)
    array([-1.,  3.])
    """
    return _core._leaky_relu(x, _checks.real(negative_slope, "negative_slope"), **kwargs)


def leaky_relu_backward(
    dy: ArrayLike, y: ArrayLike, negative_slope: float = 0.01, **kwargs: Any
) -> Any:
    """Gradient of leaky_relu: ``dy`` where ``y > 0``, else ``negative_slope * dy``.

    Parameters
    ----------
    dy : array_like of float32 or float64
        Gradient of the loss by y.
    y : array_like
        What leaky_relu returned.
    negative_slope : float, default 0.01
        As given to leaky_relu; not negative, since y would not tell the side x was on.
    **kwargs
        Of a NumPy ufunc; ``out=dy`` is allowed.

    Returns
    -------
    dx : ndarray or scalar of the broadcast shape

    Raises
    ------
    TypeError
        If negative_slope is not a real number.
    ValueError
        If negative_slope is negative.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.leaky_relu_backward(np.ones(2), np.array([-1.0, 3.0]), negative_slope=0.5)
    array([0.5, 1. ])
    """
    slope = _checks.not_negative(negative_slope, "negative_slope")
    return _core._leaky_relu_backward(dy, y, slope, **kwargs)


def elu(x: ArrayLike, alpha: float = 1.0, **kwargs: Any) -> Any:
    """Exponential linear unit: ``x`` where ``x > 0``, else ``alpha * (exp(x) - 1)``.

    Parameters
    ----------
    x : array_like of float32 or float64, any shape
        elu(-inf) = -alpha, NaN gives NaN.
    alpha : float, default 1.0
    **kwargs
        Of a NumPy ufunc: out, where, dtype, casting, order, subok.

    Returns
    -------
    y : ndarray or scalar of x's shape and dtype
        Within 1 ULP for alpha 1, 2 for another (one more on machines without FMA).

    Raises
    ------
    TypeError
        If alpha is not a real number.

    References
    ----------
    Clevert, Unterthiner, Hochreiter, "Fast and accurate deep network learning by exponential linear units", 2015.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.elu(np.array([-np.inf, -np.log(2.0), 2.0]))
    array([-1. , -0.5,  2. ])
    """
    return _core._elu(x, _checks.real(alpha, "alpha"), **kwargs)


def elu_backward(dy: ArrayLike, y: ArrayLike, alpha: float = 1.0, **kwargs: Any) -> Any:
    """Gradient of elu: ``dy`` where ``y > 0``, else ``dy * (y + alpha)``.

    Parameters
    ----------
    dy : array_like of float32 or float64
        Gradient of the loss by y.
    y : array_like
        What elu returned.
    alpha : float, default 1.0
        As given to elu; positive, since y would not tell the side x was on.
    **kwargs
        Of a NumPy ufunc; ``out=dy`` is allowed.

    Returns
    -------
    dx : ndarray or scalar of the broadcast shape

    Raises
    ------
    TypeError
        If alpha is not a real number.
    ValueError
        If alpha is not positive.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.elu_backward(np.ones(3), np.array([-1.0, -0.5, 2.0]))
    array([0. , 0.5, 1. ])
    """
    number = _checks.real(alpha, "alpha")
    if not number > 0:
        raise ValueError(f"alpha must be positive, got {number!r}")
    return _core._elu_backward(dy, y, number, **kwargs)


def prelu_weight_backward(dy: ArrayLike, x: ArrayLike, weight: ArrayLike) -> NDArray[Any]:
    """Gradient of prelu by its slope: the sum of ``dy * min(x, 0)`` over what each slope was broadcast to.

    Parameters
    ----------
    dy : array_like of float32 or float64
        Gradient of the loss by y, of x's shape.
    x : array_like
        prelu's input.
    weight : array_like
        The slope as given to prelu; its shape says what to sum over, its values do not matter.

    Returns
    -------
    dweight : ndarray of weight's shape and x's dtype
        Summed in float64, in an order that does not depend on strides or threads.

    Raises
    ------
    ValueError
        If dy does not have x's shape, or weight's does not broadcast to it.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([[-4.0, 2.0], [-2.0, -8.0]])
    >>> nf.prelu_weight_backward(np.ones((2, 2)), x, np.array([0.25, 0.5]))
    array([-6., -8.])
    """
    x, dy, shape = np.asarray(x), np.asarray(dy), np.shape(weight)
    if dy.shape != x.shape:
        raise ValueError(f"dy must have the shape of x, {x.shape}, got {dy.shape}")
    padded = (1,) * (x.ndim - len(shape)) + shape
    if len(padded) != x.ndim or any(w not in (1, n) for w, n in zip(padded, x.shape, strict=True)):
        raise ValueError(f"weight must broadcast to the shape of x, {x.shape}, got {shape}")
    kept = [axis for axis, w in enumerate(padded) if w != 1]
    order = kept + [axis for axis in range(x.ndim) if axis not in kept]
    sums = _core.prelu_weight_backward(dy.transpose(order), x.transpose(order), len(kept))
    return sums.reshape(shape)


def maxout(
    x: ArrayLike, pieces: int, axis: int = -1, *, out: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Maxout: the largest of every ``pieces`` neighbours along an axis.

    Parameters
    ----------
    x : array_like of float32 or float64, shape (..., m * pieces, ...)
        The pieces of a unit lie next to each other: ``x`` is read as (..., m, pieces, ...).
    pieces : int in [1, 256]
    axis : int, default -1
    out : ndarray of x's dtype, shape (..., m, ...), optional

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
    x = _floating(x, "x")
    axis = _axis(axis, x, "x")
    _pieces(pieces)
    if x.shape[axis] % pieces:
        raise ValueError(
            f"pieces must divide the length of axis {axis} of x, {x.shape[axis]}, got {pieces}"
        )
    shape = (*x.shape[:axis], x.shape[axis] // pieces, *x.shape[axis + 1 :])
    y = _out(out, shape, x.dtype, x)
    which = np.empty(shape, np.uint8)
    _core.maxout(_last(x, axis), _last(y, axis), _last(which, axis), pieces)
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
    dy : array_like of float32 or float64, shape (..., m, ...)
        Gradient of the loss by y.
    which : ndarray of uint8, dy's shape
        What maxout returned.
    pieces : int in [1, 256]
    axis : int, default -1
    out : ndarray of dy's dtype, shape (..., m * pieces, ...), optional

    Returns
    -------
    dx : ndarray, shape (..., m * pieces, ...)

    Raises
    ------
    TypeError
        If dy is not of real numbers or out has another dtype.
    ValueError
        If shapes do not match, or out is read-only or overlaps dy.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.maxout_backward(np.array([5.0, 7.0]), np.array([1, 0], dtype=np.uint8), 2)
    array([0., 5., 7., 0.])
    """
    dy = _floating(dy, "dy")
    axis = _axis(axis, dy, "dy")
    _pieces(pieces)
    if not isinstance(which, np.ndarray):
        raise TypeError(f"which must be a numpy.ndarray, got {type(which).__name__}")
    if which.dtype != np.uint8:
        raise TypeError(f"which must have dtype uint8, got {which.dtype}")
    if which.shape != dy.shape:
        raise ValueError(f"which must have the shape of dy, {dy.shape}, got {which.shape}")
    shape = (*dy.shape[:axis], dy.shape[axis] * pieces, *dy.shape[axis + 1 :])
    dx = _out(out, shape, dy.dtype, dy)
    _core.maxout_backward(_last(dy, axis), _last(which, axis), _last(dx, axis), pieces)
    return dx


def _floating(value: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.type in (np.float32, np.float64) and array.dtype.isnative:
        return array
    for dtype in (np.float32, np.float64):
        if np.can_cast(array.dtype, dtype):
            return array.astype(dtype)
    raise TypeError(f"{name} must be an array of real numbers, got dtype {array.dtype}")


def _axis(axis: int, array: NDArray[Any], name: str) -> int:
    axis = _checks.integer(axis, "axis")
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(f"axis must be an axis of {name} with shape {array.shape}, got {axis}")
    return axis % array.ndim


def _last(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """The array with an axis (not negative) moved to the end: at no cost where there is nothing to move."""
    return array if axis == array.ndim - 1 else np.moveaxis(array, axis, -1)


def _pieces(pieces: int) -> None:
    if not 1 <= _checks.integer(pieces, "pieces") <= 256:
        raise ValueError(f"pieces must be in [1, 256], got {pieces}")


def _out(
    out: NDArray[Any] | None, shape: tuple[int, ...], dtype: np.dtype[Any], read: NDArray[Any]
) -> NDArray[Any]:
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a numpy.ndarray, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out must have dtype {dtype}, got {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out must be writeable, but is read-only")
    if np.may_share_memory(out, read):
        raise ValueError("out must share no memory with the input")
    return out
