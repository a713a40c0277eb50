"""Batch normalization and its gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _checks
from nnfast._load import _core
from nnfast.normalization.running import (
    CONVENTIONS,
    Convention,
    Momentum,
    batch_counter,
    is_training,
    rate_of,
    settings_of,
)

__all__ = ["batch_norm", "batch_norm_backward"]


class BatchNormSaved(NamedTuple):
    """What batch_norm_backward needs of the forward pass besides x and gamma."""

    mean: NDArray[np.float64]
    """The mean that was subtracted, shape (C,)."""
    inv_std: NDArray[np.float64]
    """``1 / sqrt(variance + eps)``, shape (C,)."""
    axis: int
    training: bool
    mask: NDArray[np.uint8] | None = None
    """One bit per element, 1 where the activation was positive, in rows as the kernels read them."""
    add: bool = False
    """Whether something was added before the activation."""


def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    running_mean: NDArray[Any] | None = None,
    running_var: NDArray[Any] | None = None,
    *,
    training: bool | None = None,
    momentum: Momentum = ...,
    eps: float | None = None,
    axis: int = 1,
    activation: str | None = None,
    add: ArrayLike | None = None,
    running_var_correction: int | None = None,
    num_batches_tracked: NDArray[np.integer] | None = None,
    convention: Convention = "torch",
    reuse: BatchNormSaved | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], BatchNormSaved]:
    """Batch normalization: ``gamma * (x - mean) / sqrt(var + eps) + beta`` for every channel.

    In training, mean and the biased variance are those of the batch, and the running statistics move towards them; in
    inference they are the running statistics.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (N, C), (N, C, L), (N, C, H, W), (N, C, D, H, W), ...
        Any strides, not copied. float16 is computed in float32 and rounded once.
    gamma, beta : array_like, shape (C,) or (1, C), optional
        Scale and shift, both of one shape; ones and zeros if None. It may also be one that broadcasts to x, such as
        (1, C, 1, 1), or (C, 1) where the samples are the columns of x and axis is 0.
    running_mean, running_var : ndarray of x's dtype (float32 for x of float16), shape as of gamma, optional
        Updated in place in training (optional there); read in inference, where they are required and may be any
        array_like.
    training : bool, optional
        False if left out; must be given where running statistics are.
    momentum : float in [0, 1] or None, optional
        Weight of the *new* value, as in PyTorch: ``running = (1 - momentum) * running + momentum * batch``; for another
        convention that of the old value: ``running = momentum * running + (1 - momentum) * batch``. None: the running
        statistics are the averages over all batches so far, which `num_batches_tracked` counts.
    eps : float, optional
        Added to the variance, inside the root.
    axis : int, default 1
        The axis of the channels; -1 for channels last.
    activation : "relu", optional
        Applied to y in the same pass; a mask of one bit per element is saved for the backward pass.
    add : array_like of x's shape, optional
        Added before the activation, as in a residual block.
    running_var_correction : int, 0 or 1, optional
        running_var takes the variance over N - 1 (PyTorch) or, with 0, over N (Keras, CS231n, Flax, ONNX).
    num_batches_tracked : ndarray of integers, shape (), optional
        Incremented in training; required where momentum is None.
    convention : "torch", "keras" or "cs231n", default "torch"
        What momentum means, and what it, eps and running_var_correction default to: 0.1, 1e-5 and 1 as in PyTorch,
        0.99, 1e-3 and 0 as in Keras, or 0.9, 1e-5 and 0 as in CS231n.
    reuse : BatchNormSaved, optional
        What an earlier call saved and is no longer needed: this call saves into its memory where that is large enough.
    out : ndarray of x's dtype and shape, optional
        Takes y; ``out=x`` is allowed, where the backward pass does not need x, and ``out=add``.

    Returns
    -------
    y : ndarray of x's dtype and shape
        float32 is within 4 ULP of the larger of abs(y) and abs(beta). A constant channel gives exactly beta. Statistics
        are taken in float64, in an order that does not depend on threads, strides or the place of the axis.
    saved : BatchNormSaved
        For batch_norm_backward.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or one that is written has the wrong dtype, or running statistics are given
        without training.
    ValueError
        If a shape does not match, x has fewer than two values per channel in training, eps is not positive, momentum is
        not in [0, 1], running_var is negative or NaN, activation or convention is unknown, or an array that is written
        is read-only or overlaps another. Nothing is written then.

    See Also
    --------
    batch_norm_backward : Its gradient.
    nnfast.nn.BatchNorm : The layer.
    torch.nn.functional.batch_norm : PyTorch's.
    batch_norm_stats, merge_stats, fold_batch_norm

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
    >>> images = np.random.default_rng(0).normal(3, 2, (8, 4, 5, 5))
    >>> y, saved = nf.batch_norm(images, training=True, activation="relu")
    >>> y.shape, y.min()
    ((8, 4, 5, 5), np.float64(0.0))

    Running statistics as in CS231n, momentum times the old value and the rest of the batch's:

    >>> mean, var = np.zeros(2), np.zeros(2)
    >>> y, saved = nf.batch_norm(x, None, None, mean, var, training=True, momentum=0.75, convention="cs231n")
    >>> mean, var
    (array([0.5 , 1.25]), array([0.25, 0.  ]))
    """
    # Arguments are asked about only where they are not the default: the checks are most of a call on a small array.
    if training is None:
        training = is_training(training, running_mean, running_var)
    if type(axis) is not int:
        axis = _checks.integer(axis, "axis")
    if activation is not None and activation != "relu":
        raise ValueError(f'activation must be None or "relu", got {activation!r}')
    rate: float | None
    if (
        momentum is ...
        and eps is None
        and running_var_correction is None
        and type(convention) is str
        and convention == "torch"
    ):
        rate, eps, correction = CONVENTIONS["torch"]
    else:
        momentum, eps, correction = settings_of(convention, momentum, eps, running_var_correction)
        rate = rate_of(momentum, convention)
    mean = inv_std = mask = None  # whose memory is used again
    if reuse is not None:
        _require_saved(reuse, "reuse")
        mean, inv_std, mask = reuse.mean, reuse.inv_std, reuse.mask
    counter = batch_counter(num_batches_tracked) if num_batches_tracked is not None else None
    if rate is None:
        if training and running_mean is not None and counter is None:
            raise ValueError("num_batches_tracked must be given when momentum is None")
        rate = 1.0 / (int(counter) + 1) if counter is not None else 0.0
    result = _core.batch_norm(
        x,
        gamma,
        beta,
        running_mean,
        running_var,
        training,
        rate,
        eps,
        axis,
        correction,
        activation is not None,
        add,
        out,
        mean,
        inv_std,
        mask,
        BatchNormSaved,
    )
    if training and counter is not None:
        counter += 1
    return result


def batch_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None,
    saved: BatchNormSaved,
    *,
    out: tuple[NDArray[Any] | None, ...] | None = None,
) -> tuple[NDArray[Any], ...]:
    """Gradients of batch_norm with respect to its input, scale and shift, and to what was added.

    Parameters
    ----------
    dy : array_like, shape of x
        Gradient of the loss with respect to y.
    x : array_like of float16, float32 or float64
        The input of the forward pass.
    gamma : array_like, or None
        As given to the forward pass.
    saved : BatchNormSaved
        From the forward pass; its mode decides whether the statistics depend on x (training) or not (inference).
    out : tuple of ndarrays or None, optional
        Take dx, dgamma, dbeta and, where something was added, dadd; ``dx`` may be dy or x itself.

    Returns
    -------
    dx : ndarray of x's dtype and shape
        Gradient of the loss with respect to x.
    dgamma, dbeta : ndarray of x's dtype (float32 for float16) and gamma's shape, or (C,) without gamma
        Gradients of the loss with respect to gamma and beta.
    dadd : ndarray of x's shape
        Only where `add` was given; dy itself where there was no activation.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or an out has the wrong dtype.
    ValueError
        If a shape does not match, or an out is read-only or overlaps another array.

    See Also
    --------
    batch_norm : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([[1.0], [3.0], [5.0]])
    >>> y, saved = nf.batch_norm(x, training=True)
    >>> dx, dgamma, dbeta = nf.batch_norm_backward(np.ones((3, 1)), x, None, saved)
    >>> abs(dx).max() < 1e-15, dbeta
    (np.True_, array([3.]))
    """
    _require_saved(saved, "saved")
    mean, inv_std, axis, training, mask, add = saved
    dx = dgamma = dbeta = dadd = None
    if out is not None:
        names = ("dx", "dgamma", "dbeta", "dadd")
        dx, dgamma, dbeta, *rest = _checks.outputs(out, names if add else names[:3])
        dadd = rest[0] if rest else None
    return _core.batch_norm_backward(
        dy, x, gamma, mean, inv_std, axis, training, mask, add, dx, dgamma, dbeta, dadd
    )


def _require_saved(value: object, name: str) -> None:
    if not isinstance(value, BatchNormSaved):
        raise TypeError(f"{name} must be what batch_norm returned, got {type(value).__name__}")
