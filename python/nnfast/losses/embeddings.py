"""Losses of pairs and triplets of embeddings, with their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _docs
from nnfast._load import _core
from nnfast.losses._reduction import Loss, Reduction

__all__ = [
    "cosine_embedding_loss",
    "triplet_margin_loss",
]


def cosine_embedding_loss(
    x1: ArrayLike,
    x2: ArrayLike,
    targets: ArrayLike,
    *,
    margin: float = 0.0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    axis: int = -1,
) -> tuple[Loss, NDArray[Any], NDArray[Any]]:
    """Compute the loss of pairs of embeddings by the cosine of their angle, and its gradients.

    ``loss = mean_i(1 - cos(x1_i, x2_i))`` over the pairs whose target is 1, ``max(0, cos(x1_i, x2_i) - margin)`` over
    those whose target is -1.

    Parameters
    ----------
    x1, x2 : array_like of float32 or float64, shape (N, D), or with other axes, the same for both
        Embeddings; of zeros alone, the cosine is 0.
    targets : array_like, shape (N,), or that of x1 without the axis
        1 where both are alike, -1 where they are not.
    margin : float in [-1, 1], default 0
        The largest cosine of what is not alike.
    sample_weight : array_like, shape (N,) or that of targets, optional
        Factor of the loss of each pair, not negative. The mean divides by the sum of the weights, and is 0 where that
        is. A pair of weight 0 may hold anything.
    reduction : "mean", "sum" or "none", default "mean"
        "none" gives the loss of each pair, and the gradients of their sum.
    axis : int, default -1
        That of an embedding.

    Returns
    -------
    loss : float, or ndarray of float64
        Of a pair that is alike in [0, 2], of another in [0, 1 - margin].
    dx1, dx2 : ndarrays of the shape of x1
        Gradients of the loss with respect to both.

    Raises
    ------
    TypeError
        If an argument is not of real numbers.
    ValueError
        If shapes do not match, a target is neither 1 nor -1, margin is not in [-1, 1], a weight is negative or not
        finite, reduction is unknown, the axis does not exist, or there is no element.

    See Also
    --------
    torch.nn.functional.cosine_embedding_loss : PyTorch's.
    triplet_margin_loss

    Notes
    -----
    As in PyTorch, squares of lengths are taken larger by 1e-12.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x1, x2 = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[4.0, 3.0], [1.0, 1.0]])
    >>> nf.cosine_embedding_loss(x1, x2, [1, -1], reduction="none")[0].round(6)
    array([0.04    , 0.707107])
    """
    margin = _checks.real_in(margin, -1, 1, "margin")
    return _core.cosine_embedding_loss(x1, x2, targets, margin, sample_weight, reduction, axis)


@_docs.like(cosine_embedding_loss)
def triplet_margin_loss(
    anchors: ArrayLike,
    positives: ArrayLike,
    negatives: ArrayLike,
    *,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    axis: int = -1,
) -> tuple[Loss, NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Compute the loss of triplets of embeddings by their distances, and its gradients.

    ``loss = mean_i(max(0, ‖anchor - positive‖ - ‖anchor - negative‖ + margin))``.

    Parameters
    ----------
    anchors, positives, negatives : array_like of float32 or float64, shape (N, D), or with other axes, the same for all
        Embeddings; the positive is alike the anchor, the negative is not.
    margin : float, default 1
        Positive.
    p : float, default 2
        Of the norm ``(Σ |d|^p)^(1/p)``; at least 1.
    eps : float, default 1e-6
        Added to the differences, as in PyTorch, so that the distance of equals has a gradient.
    swap : bool, default False
        Whether the distance of positive and negative counts where it is less than that of anchor and negative.
    sample_weight : array_like, shape (N,) or that of anchors without the axis, optional
        Factor of the loss of each triplet, not negative. The mean divides by the sum of the weights, and is 0 where
        that is. A triplet of weight 0 may hold anything.
    {reduction}
    {axis}

    Returns
    -------
    loss : float, or ndarray of float64
        0 where the negative is farther than the positive by the margin or more.
    danchors, dpositives, dnegatives : ndarrays of the shape of anchors
        Gradients of the loss with respect to each.

    Raises
    ------
    TypeError
        If an argument is not of real numbers.
    ValueError
        If shapes do not match, margin is not positive, p is below 1 or not finite, eps is negative, a weight is
        negative or not finite, reduction is unknown, the axis does not exist, or there is no element.

    See Also
    --------
    torch.nn.functional.triplet_margin_loss : PyTorch's.
    cosine_embedding_loss

    References
    ----------
    Balntas, Riba, Ponsa, Mikolajczyk, "Learning local feature descriptors with triplets and shallow convolutional
    neural networks", 2016: the swap.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> loss, da, dp, dn = nf.triplet_margin_loss([[0.0, 0.0]], [[3.0, 4.0]], [[0.0, 5.0]], eps=0)
    >>> loss, da
    (1.0, array([[-0.6,  0.2]]))
    """
    margin = _checks.positive(margin, "margin")
    p = _checks.finite(p, "p")
    if p < 1:
        raise ValueError(f"p must be at least 1, got {p!r}")
    eps = _checks.finite_not_negative(eps, "eps")
    if p == 2 and not swap:  # as most are
        return _core.triplet_margin_loss(
            anchors, positives, negatives, margin, eps, sample_weight, reduction, axis
        )
    anchor, positive, negative = _of_one_shape(
        anchors=anchors, positives=positives, negatives=negatives
    )
    axis = _arrays.axis_of(axis, anchor, "anchors")
    with np.errstate(all="ignore"):
        near, of_near, pull = _distances(anchor, positive, p, eps, axis)
        far, of_far, push = _distances(anchor, negative, p, eps, axis)
        part, of_other = np.zeros_like(push), of_far
        if swap:
            other, of_other, part = _distances(positive, negative, p, eps, axis)
            push = np.where(other < far, 0, push)
            part = np.where(other < far, part, 0)
            far = np.minimum(far, other)
        over = margin + near - far
        loss, slope = _reduced(np.where(over <= 0, 0, over), sample_weight, reduction)
        pull, push, part = (_times(slope, factor) for factor in (pull, push, part))
    return (
        loss,
        _mixed(of_near, of_far, pull, -push, axis),
        _mixed(of_near, of_other, -pull, -part, axis),
        _mixed(of_far, of_other, push, part, axis),
    )


def _distances(
    x: NDArray[Any], y: NDArray[Any], p: float, eps: float, axis: int
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.float64]]:
    """‖x - y + eps‖; and its gradient, as an array and the factor of each row."""
    powers = d = np.add(np.subtract(x, y), eps, dtype=x.dtype)
    if p != 2:
        powers = np.copysign(np.abs(d) ** x.dtype.type(p - 1), d)
        powers[d == 0] = 0
    distance = _core.pair_sums(d, powers, axis)[..., 0] ** (1 / p)
    factor = np.divide(1, distance ** (p - 1), out=np.zeros_like(distance), where=distance != 0)
    return distance, powers, factor


def _times(slope: NDArray[Any], factor: NDArray[Any]) -> NDArray[Any]:
    """Their product; 0 where there is no slope, whatever the factor."""
    return np.where(slope == 0, 0, slope * factor)


def _mixed(
    x: NDArray[Any], y: NDArray[Any], of_x: NDArray[Any], of_y: NDArray[Any], axis: int
) -> NDArray[Any]:
    return _core.mix_pairs(x, y, np.stack((of_x, of_y), -1), axis, None)


def _reduced(
    each: NDArray[np.float64], sample_weight: Any, reduction: Reduction
) -> tuple[Loss, Any]:
    """Reduce losses that are not negative; and the factor of the gradient of each: 0 where there is no loss."""
    return _core.l1_loss(each, np.zeros_like(each), 0.0, None, sample_weight, reduction, None)


def _of_one_shape(**arrays: ArrayLike) -> list[NDArray[Any]]:
    """Arrays of float32 or float64 of one shape that is not empty, in the dtype that has room for all."""
    read = [_arrays.floating(array, name) for name, array in arrays.items()]
    first, *_ = arrays
    shape = read[0].shape
    if not read[0].ndim or not read[0].size:
        raise ValueError(f"{first} must have an axis, and none may be empty, got shape {shape}")
    for name, array in zip(arrays, read, strict=True):
        if array.shape != shape:
            raise ValueError(f"{name} must have the shape of {first}, {shape}, got {array.shape}")
    dtype = read[0].dtype
    if any(array.dtype != dtype for array in read):
        dtype = np.result_type(*read)
        read = [array.astype(dtype) for array in read]
    return read
