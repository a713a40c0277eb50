"""Instance normalization and its gradients, with and without running statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks
from nnfast.normalization.batch import BatchNormSaved, batch_norm, batch_norm_backward
from nnfast.normalization.groups import (
    GroupNormSaved,
    by_groups,
    channels_second,
    group_norm,
    group_norm_backward,
)
from nnfast.normalization.running import check_running, is_training, rate_and_counter

__all__ = ["instance_norm", "instance_norm_backward"]


def instance_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    running_mean: NDArray[Any] | None = None,
    running_var: NDArray[Any] | None = None,
    training: bool | None = None,
    momentum: float | None = 0.1,
    num_batches_tracked: NDArray[np.integer] | None = None,
    eps: float = 1e-5,
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], GroupNormSaved | BatchNormSaved]:
    """Instance normalization: statistics of each channel of each sample; group_norm with as many groups as channels.

    With running statistics, those are updated in training and taken in place of the sample's own in inference.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (N, C, L), (N, C, H, W), ...
        Any strides, not copied. float16 is computed in float32 and rounded once.
    gamma, beta : array_like, optional
        Scale and shift, as of group_norm; ones and zeros if None.
    running_mean, running_var : ndarray of x's dtype (float32 for x of float16), shape (C,), optional
        Both or none. In training they are updated in place by the means, over the samples, of their means and unbiased
        variances; in inference they are read, and may be any array_like.
    training : bool, optional
        Must be given where running statistics are. Without them it makes no difference.
    momentum : float in [0, 1] or None, default 0.1
        Weight of the new value, as in PyTorch: ``running = (1 - momentum) * running + momentum * batch``. None: the
        running statistics are the averages over all batches so far, which `num_batches_tracked` counts.
    num_batches_tracked : ndarray of integers, shape (), optional
        Incremented in training; required where momentum is None.
    eps : float, default 1e-5
        Added to the variance, inside the root.
    axis : int, default 1
        The axis of the channels, any but the first.
    out : ndarray of x's dtype and shape, optional
        Takes y.

    Returns
    -------
    y : ndarray of x's dtype and shape
        The bits of group_norm with a group for each channel.
    saved : GroupNormSaved, or BatchNormSaved in inference with running statistics
        For instance_norm_backward.

    Raises
    ------
    TypeError
        As group_norm; if running statistics are given without training, or have another dtype.
    ValueError
        As group_norm; if one of the running statistics is missing, does not match, is read-only or overlaps another
        array, momentum is out of range, or x has less than two values a channel in training with running statistics.
        Nothing is written then.

    See Also
    --------
    instance_norm_backward : Its gradient.
    nnfast.nn.InstanceNorm : The layer.
    torch.nn.functional.instance_norm : PyTorch's.
    group_norm, layer_norm

    References
    ----------
    Ulyanov, Vedaldi, Lempitsky, "Instance normalization", 2016. Running statistics are those of PyTorch's
    ``instance_norm``, whose ``use_input_stats`` is training.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([[[1.0, 3.0], [5.0, 9.0]]])
    >>> y, saved = nf.instance_norm(x, eps=1e-12)
    >>> y.round(6), saved.mean
    (array([[[-1.,  1.],
            [-1.,  1.]]]), array([[2., 7.]]))
    >>> mean, var = np.zeros(2), np.ones(2)
    >>> y, saved = nf.instance_norm(x, running_mean=mean, running_var=var, training=True)
    >>> mean, var
    (array([0.2, 0.7]), array([1.1, 1.7]))
    """
    moved, axis = channels_second(x, axis, "x")
    groups = max(1, moved.shape[1])
    if momentum is not None and not (type(momentum) is float and 0 <= momentum <= 1):
        momentum = _checks.real_in(momentum, 0, 1, "momentum")
    if running_mean is None and running_var is None:
        return by_groups(moved, groups, gamma, beta, eps, axis, out)
    array = _arrays.plain(x, "x")
    if running_mean is None or running_var is None:
        missing = "running_mean" if running_mean is None else "running_var"
        raise ValueError(f"{missing} must be given where the other running statistic is")
    if not is_training(training, running_mean, running_var):
        return batch_norm(
            array,
            gamma,
            beta,
            running_mean,
            running_var,
            training=False,
            eps=eps,
            axis=axis,
            out=out,
        )
    array = _arrays.floating(array, "x", float16=True)
    running = {"running_mean": running_mean, "running_var": running_var}
    for name, value in running.items():
        check_running(value, name, array, axis, out)
    if np.may_share_memory(running_mean, running_var):
        raise ValueError("running_mean and running_var must not share memory")
    rate, counter = rate_and_counter(momentum, num_batches_tracked)
    y, saved = group_norm(array, groups, gamma, beta, eps=eps, axis=axis, out=out)
    if array.size:
        values = array.size // (len(array) * groups)
        # What rounding makes of it is nothing beside eps.
        var = np.maximum(1 / saved.inv_std**2 - eps, 0) * (values / (values - 1))
        for value, of_batch in ((running_mean, saved.mean), (running_var, var)):
            moved = (1 - rate) * value.astype(np.float64) + rate * of_batch.mean(axis=0).reshape(
                value.shape
            )
            value[...] = moved
    if counter is not None:
        counter += 1
    return y, saved


def instance_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None,
    saved: GroupNormSaved | BatchNormSaved,
    *,
    out: tuple[NDArray[Any] | None, ...] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Gradients of instance_norm with respect to its input, scale and shift.

    Parameters
    ----------
    dy : array_like, shape of x
        Gradient of the loss with respect to y.
    x : array_like of float16, float32 or float64
        The input of the forward pass.
    gamma : array_like, or None
        As given to the forward pass.
    saved : GroupNormSaved or BatchNormSaved
        From the forward pass; by running statistics, which do not depend on x, dx is ``gamma * dy / sqrt(var + eps)``.
    out : tuple of three ndarrays or None, optional
        Take dx, dgamma and dbeta; ``dx`` may be dy or x itself.

    Returns
    -------
    dx : ndarray of x's dtype and shape
        Gradient of the loss with respect to x.
    dgamma, dbeta : ndarray of x's dtype (float32 for float16) and gamma's shape, or (C,) without gamma
        Gradients of the loss with respect to gamma and beta.

    Raises
    ------
    TypeError, ValueError
        As group_norm_backward.

    See Also
    --------
    instance_norm : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([[[1.0, 3.0], [5.0, 9.0]]])
    >>> y, saved = nf.instance_norm(x)
    >>> nf.instance_norm_backward(np.ones_like(x), x, None, saved)[2]
    array([2., 2.])
    """
    if isinstance(saved, BatchNormSaved):
        dx, dgamma, dbeta = batch_norm_backward(dy, x, gamma, saved, out=out)
        return dx, dgamma, dbeta
    return group_norm_backward(dy, x, gamma, saved, out=out)
