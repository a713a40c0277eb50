"""Normalisation layers."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _checks
from nnfast._load import _core


class BatchNormSaved(NamedTuple):
    """What batch_norm_backward needs of the forward pass besides x and gamma."""

    mean: NDArray[np.float64]
    """The mean that was subtracted, shape (C,)."""
    inv_std: NDArray[np.float64]
    """``1 / sqrt(variance + eps)``, shape (C,)."""
    axis: int
    training: bool


def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    running_mean: NDArray[Any] | None = None,
    running_var: NDArray[Any] | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], BatchNormSaved]:
    """Batch normalisation: ``gamma * (x - mean) / sqrt(var + eps) + beta`` for every channel.

    In training, mean and the biased variance are those of the batch, and the running statistics move towards them; in
    inference they are the running statistics.

    Parameters
    ----------
    x : array_like of float32 or float64, shape (N, C)
        Any strides, not copied.
    gamma, beta : array_like, shape (C,), optional
        Scale and shift; ones and zeros if None.
    running_mean, running_var : ndarray of x's dtype, shape (C,)
        Updated in place in training (None: not kept); read in inference, where they are required.
    training : bool, default False
    momentum : float in [0, 1], default 0.1
        Weight of the *new* value, as in PyTorch: ``running = (1 - momentum) * running + momentum * batch``. (Keras,
        Flax and ONNX give the weight of the old value.) running_var takes the unbiased variance.
    eps : float, default 1e-5
        Added to the variance, inside the root.
    axis : int, default 1
        The axis of the channels.
    out : ndarray of x's dtype and shape, optional
        Takes y; ``out=x`` is allowed, where the backward pass does not need x.

    Returns
    -------
    y : ndarray of x's dtype and shape
        A constant channel gives exactly beta. Statistics are taken in float64, in an order that does not depend on
        threads or strides.
    saved : BatchNormSaved
        For batch_norm_backward.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or one that is written has another dtype than x.
    ValueError
        If a shape does not match, x has fewer than two rows in training, eps is not positive, momentum is not in
        [0, 1], running_var is negative or NaN, or an array that is written is read-only or overlaps another. Nothing is
        written then.

    References
    ----------
    Ioffe, Szegedy, "Batch normalization", 2015.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([[1.0, 5.0], [3.0, 5.0]])
    >>> y, saved = nf.batch_norm(x, training=True, eps=1e-12)
    >>> y.round(6), saved.mean
    (array([[-1.,  0.],
           [ 1.,  0.]]), array([2., 5.]))
    """
    training, axis = bool(training), _checks.integer(axis, "axis")
    y, mean, inv_std = _core.batch_norm(
        x,
        gamma,
        beta,
        running_mean,
        running_var,
        training,
        _checks.real(momentum, "momentum"),
        _checks.real(eps, "eps"),
        axis,
        out,
    )
    return y, BatchNormSaved(mean, inv_std, axis, training)


def batch_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None,
    saved: BatchNormSaved,
    *,
    out: tuple[NDArray[Any] | None, NDArray[Any] | None, NDArray[Any] | None] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Gradients of batch_norm by its input, scale and shift.

    Parameters
    ----------
    dy : array_like, shape (N, C)
        Gradient of the loss by y.
    x : array_like of float32 or float64, shape (N, C)
        The input of the forward pass.
    gamma : array_like, shape (C,), or None
        As given to the forward pass.
    saved : BatchNormSaved
        From the forward pass; its mode decides whether the statistics depend on x (training) or not (inference).
    out : tuple of three ndarrays or None, optional
        Take dx, dgamma and dbeta, of x's dtype; ``dx`` may be dy or x itself.

    Returns
    -------
    dx : ndarray, shape (N, C)
    dgamma, dbeta : ndarray, shape (C,)

    Raises
    ------
    TypeError
        If an array is not of real numbers, or an out has another dtype than x.
    ValueError
        If a shape does not match, or an out is read-only or overlaps another array.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([[1.0], [3.0], [5.0]])
    >>> y, saved = nf.batch_norm(x, training=True)
    >>> dx, dgamma, dbeta = nf.batch_norm_backward(np.ones((3, 1)), x, None, saved)
    >>> abs(dx).max() < 1e-15, dbeta
    (np.True_, array([3.]))
    """
    if not isinstance(saved, BatchNormSaved):
        raise TypeError(f"saved must be what batch_norm returned, got {type(saved).__name__}")
    if out is None:
        out = (None, None, None)
    elif not isinstance(out, tuple) or len(out) != 3:
        raise TypeError("out must be a tuple of three arrays (dx, dgamma, dbeta)")
    return _core.batch_norm_backward(
        dy, x, gamma, saved.mean, saved.inv_std, saved.axis, saved.training, *out
    )
