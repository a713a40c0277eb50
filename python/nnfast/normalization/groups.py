"""Group normalization and its gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks
from nnfast._load import _core

__all__ = ["group_norm", "group_norm_backward"]


class GroupNormSaved(NamedTuple):
    """What group_norm_backward needs of the forward pass besides x and gamma."""

    mean: NDArray[np.float64]
    """The means that were subtracted, shape (N, num_groups)."""
    inv_std: NDArray[np.float64]
    """``1 / sqrt(variance + eps)``, shape (N, num_groups)."""
    axis: int


def group_norm(
    x: ArrayLike,
    num_groups: int,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    axis: int = 1,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], GroupNormSaved]:
    """Group normalization: ``gamma * (x - mean) / sqrt(var + eps) + beta`` for groups of channels of every sample.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, shape (N, C), (N, C, L), (N, C, H, W), ...
        Any strides, not copied. float16 is computed in float32 and rounded once.
    num_groups : int
        Divides C; neighbouring channels are a group.
    gamma, beta : array_like, shape (C,) or (1, C), optional
        Scale and shift, both of one shape; ones and zeros if None. With axis=1 it may also be one that broadcasts to x,
        such as (1, C, 1, 1).
    eps : float, default 1e-5
        Added to the variance, inside the root.
    axis : int, default 1
        The axis of the channels, any but the first; fastest where it comes before the axes of the image.
    out : ndarray of x's dtype and shape, optional
        Takes y; ``out=x`` is allowed, where the backward pass does not need x.

    Returns
    -------
    y : ndarray of x's dtype and shape
        Statistics are taken in float64, in an order that does not depend on threads or strides.
    saved : GroupNormSaved
        For group_norm_backward.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or out has another dtype than x.
    ValueError
        If a shape does not match, num_groups does not divide C, eps is not positive, or out is read-only or overlaps x.
        Nothing is written then.

    See Also
    --------
    group_norm_backward : Its gradient.
    nnfast.nn.GroupNorm : The layer.
    torch.nn.functional.group_norm : PyTorch's.
    instance_norm, layer_norm

    References
    ----------
    Wu, He, "Group normalization", 2018.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.random.default_rng(0).normal(3, 2, (2, 6, 4, 4))
    >>> y, saved = nf.group_norm(x, 3)
    >>> y.shape, bool(abs(y.reshape(2, 3, -1).mean(axis=-1)).max() < 1e-12)
    ((2, 6, 4, 4), True)
    """
    array, axis = channels_second(x, axis, "x")
    return by_groups(array, _checks.integer(num_groups, "num_groups"), gamma, beta, eps, axis, out)


def group_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None,
    saved: GroupNormSaved,
    *,
    out: tuple[NDArray[Any] | None, ...] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Gradients of group_norm, and of instance_norm, with respect to the input, scale and shift.

    Parameters
    ----------
    dy : array_like, shape of x
        Gradient of the loss with respect to y.
    x : array_like of float16, float32 or float64
        The input of the forward pass.
    gamma : array_like, or None
        As given to the forward pass.
    saved : GroupNormSaved
        From the forward pass.
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
    TypeError
        If an array is not of real numbers, or an out has the wrong dtype.
    ValueError
        If a shape does not match, or an out is read-only or overlaps another array.

    See Also
    --------
    group_norm : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.random.default_rng(0).normal(3, 2, (2, 6, 5))
    >>> y, saved = nf.group_norm(x, 3)
    >>> dx, dgamma, dbeta = nf.group_norm_backward(np.ones_like(x), x, None, saved)
    >>> bool(abs(dx).max() < 1e-14), dbeta
    (True, array([10., 10., 10., 10., 10., 10.]))
    """
    if not isinstance(saved, GroupNormSaved):
        raise TypeError(f"saved must be what group_norm returned, got {type(saved).__name__}")
    shape = np.shape(saved.mean)
    if len(shape) != 2:
        raise ValueError(f"saved.mean must have shape (N, groups), got {shape}")
    dx, dgamma, dbeta = _checks.outputs(out, ("dx", "dgamma", "dbeta"))
    moved, given_dgamma, given_dbeta = _core.group_norm_backward(
        channels_second(dy, saved.axis, "dy")[0],
        channels_second(x, saved.axis, "x")[0],
        gamma,
        saved.mean,
        saved.inv_std,
        shape[1],
        None if dx is None else channels_second(dx, saved.axis, "out[0]")[0],
        dgamma,
        dbeta,
    )
    return as_given(moved, dx, saved.axis), given_dgamma, given_dbeta


def by_groups(
    array: NDArray[Any],
    groups: int,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    eps: float,
    axis: int,
    out: NDArray[Any] | None,
) -> tuple[NDArray[Any], GroupNormSaved]:
    """group_norm of an array whose channels are its second axis, and the given one of `out`."""
    y, saved = _core.group_norm(
        array,
        groups,
        gamma,
        beta,
        eps if type(eps) is float else _checks.real(eps, "eps"),
        axis,
        None if out is None else channels_second(out, axis, "out")[0],
        GroupNormSaved,
    )
    return as_given(y, out, axis), saved


def channels_second(value: Any, axis: int, name: str) -> tuple[NDArray[Any], int]:
    """A view whose second axis is that of the channels, and the number of the axis they have in `value`."""
    array = _arrays.plain(value, name)
    if type(axis) is int and axis == 1 < array.ndim:  # as most are
        return array, axis
    axis = _arrays.axis_of(axis, array, name)
    if axis == 0:
        raise ValueError("axis must not be the first, which is the samples'")
    return (array if axis == 1 else np.moveaxis(array, axis, 1)), axis


def as_given(moved: NDArray[Any], out: NDArray[Any] | None, axis: int) -> NDArray[Any]:
    if out is not None:
        return out
    return moved if axis == 1 else np.moveaxis(moved, 1, axis)
