"""Losses of two classes, element by element, with their gradients."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from nnfast import _checks, _docs
from nnfast._load import _core
from nnfast.losses._reduction import Loss, Reduction

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "hinge_loss",
    "sigmoid_focal_loss",
    "squared_hinge_loss",
]


def binary_cross_entropy_with_logits(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    """Compute the binary cross-entropy of the sigmoid of logits, and its gradient.

    ``loss = mean(-w t log σ(x) - (1 - t) log(1 - σ(x)))``, ``dx = ((1 - t) σ(x) - w t (1 - σ(x))) / n``: computed from
    ``log(1 + e^-|x|)``, so that nothing overflows or cancels.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
        Logits x. Where x is infinite, the loss is 0 or infinite.
    targets : array_like, the same shape
        t: 0 or 1, or probabilities.
    pos_weight : array_like, optional
        w: factor of the loss of t = 1, not negative; broadcasts to the shape of predictions. The mean does not divide
        by it.
    sample_weight : array_like, shape (N,) or that of predictions, optional
        Factor of the loss of each element, of shape (N,) for all elements of a row; not negative. The mean divides by
        the sum of the weights, and is 0 where that is. An element of weight 0 may hold anything.
    reduction : "mean", "sum" or "none", default "mean"
        "none" gives the loss of each element, and the gradient of their sum.
    out : ndarray of the predictions' dtype and shape, optional
        Takes the gradient; may be predictions or targets.

    Returns
    -------
    loss : float, or ndarray of float64
        In nats; log 2 of an untrained network.
    dpredictions : ndarray
        Gradient of the loss with respect to predictions.

    Raises
    ------
    TypeError
        If an argument is not of real numbers, or out has another dtype.
    ValueError
        If shapes do not match, a weight is negative or not finite, reduction is unknown, there is no element, or out is
        read-only or overlaps partly. Nothing is written then.

    See Also
    --------
    torch.nn.functional.binary_cross_entropy_with_logits : PyTorch's.
    binary_cross_entropy, sigmoid_focal_loss

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> loss, dx = nf.binary_cross_entropy_with_logits(np.zeros(2), [0.0, 1.0])
    >>> round(loss, 6), dx
    (0.693147, array([ 0.25, -0.25]))
    """
    return _core.binary_cross_entropy_with_logits(
        predictions, targets, 0.0, pos_weight, sample_weight, reduction, out
    )


@_docs.like(binary_cross_entropy_with_logits)
def binary_cross_entropy(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    """Compute the binary cross-entropy of probabilities, and its gradient.

    ``loss = mean(-t log p - (1 - t) log(1 - p))``, ``dp = (p - t) / (p (1 - p)) / n``. From logits,
    ``binary_cross_entropy_with_logits`` loses no digits.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
        Probabilities p in [0, 1].
    targets : array_like, the same shape
        t: 0 or 1, or probabilities.
    {sample_weight}
    {reduction}
    {out}

    Returns
    -------
    loss : float, or ndarray of float64
        The mean, the sum, or of each row or element.
    dpredictions : ndarray
        Gradient of the loss with respect to predictions.

    {Raises}
        Also if a prediction is not in [0, 1].

    See Also
    --------
    torch.nn.functional.binary_cross_entropy : PyTorch's.
    binary_cross_entropy_with_logits

    Notes
    -----
    So that both stay finite, a logarithm is at least -100, and p (1 - p) at least 1e-12 in the gradient, as in PyTorch.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.binary_cross_entropy(np.array([0.5, 0.0]), [1.0, 1.0], reduction="none")[0].round(4)
    array([  0.6931, 100.    ])
    """
    return _core.binary_cross_entropy(
        predictions, targets, 0.0, None, sample_weight, reduction, out
    )


@_docs.like(binary_cross_entropy_with_logits)
def sigmoid_focal_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    """Compute the focal loss of the sigmoid of logits, and its gradient.

    With p = σ(x): ``loss = mean(-α t (1 - p)^γ log p - (1 - α) (1 - t) p^γ log(1 - p))``, the binary cross-entropy in
    which elements that are right count less.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
        Logits x.
    targets : array_like, the same shape
        t: 0 or 1, or probabilities: then the cross-entropy with t is taken times ``(t (1 - p) + (1 - t) p)^γ``.
    alpha : float in [0, 1] or None, default 0.25
        α: factor of the loss of t = 1, where that of t = 0 is 1 - α; None for none. The mean does not divide by it.
    gamma : float, default 2
        γ, not negative; 0 gives the cross-entropy.
    {sample_weight}
    {reduction}
    {out}

    Returns
    -------
    loss : float, or ndarray of float64
        In nats.
    dpredictions : ndarray
        Gradient of the loss with respect to predictions.

    {Raises}
        Also if alpha is not in [0, 1], or gamma is negative or not finite.

    See Also
    --------
    softmax_focal_loss, binary_cross_entropy_with_logits

    Notes
    -----
    Names and defaults are those of torchvision's function, whose reduction is "none" by default.

    Computed in float64, within 3 ULP of that for γ = 0 or 2; the power q^γ of the probability q of being wrong loses
    about γ (1 + abs(log q)) ULP for another γ.

    References
    ----------
    Lin, Goyal, Girshick, He, Dollár, "Focal loss for dense object detection", 2017.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> loss, dx = nf.sigmoid_focal_loss(np.zeros(2), [1.0, 0.0], alpha=None)
    >>> round(4 * loss, 6), dx.round(6)
    (0.693147, array([-0.149143,  0.149143]))
    """
    gamma = _checks.finite_not_negative(gamma, "gamma")
    positive = negative = 1.0
    if alpha is not None:
        positive = _checks.real_in(alpha, 0, 1, "alpha")
        negative = 1 - positive
    return _core.sigmoid_focal_loss(
        *(predictions, targets, gamma, positive, negative, sample_weight, reduction, out)
    )


@_docs.like(binary_cross_entropy_with_logits)
def hinge_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    """Compute the hinge loss of two classes, and its gradient.

    ``loss = mean(max(0, 1 - t x))``, ``dx = -t / n`` where that is positive. ``svm_loss`` is that of several classes.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
        Scores x.
    targets : array_like, the same shape
        t: 1 or -1. Of labels y that are 0 or 1, ``2 * y - 1``.
    {sample_weight}
    {reduction}
    {out}

    Returns
    -------
    loss : float, or ndarray of float64
        1 of an untrained network, whose scores are 0.
    dpredictions : ndarray
        Gradient of the loss with respect to predictions; 0 at a margin of exactly 1.

    {Raises}

    See Also
    --------
    squared_hinge_loss, svm_loss

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.hinge_loss(np.array([0.5, 2.0]), [1.0, 1.0])
    (0.25, array([-0.5,  0. ]))
    """
    return _core.hinge_loss(predictions, targets, 0.0, None, sample_weight, reduction, out)


@_docs.like(binary_cross_entropy_with_logits)
def squared_hinge_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    """Compute the squared hinge loss of two classes, and its gradient.

    ``loss = mean(max(0, 1 - t x)²)``, ``dx = -2 t max(0, 1 - t x) / n``. Of several classes, ``svm_loss`` with
    ``squared=True``.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
        Scores x.
    targets : array_like, the same shape
        t: 1 or -1. Of labels y that are 0 or 1, ``2 * y - 1``.
    {sample_weight}
    {reduction}
    {out}

    Returns
    -------
    loss : float, or ndarray of float64
        1 of an untrained network, whose scores are 0.
    dpredictions : ndarray
        Gradient of the loss with respect to predictions.

    {Raises}

    See Also
    --------
    hinge_loss, svm_loss

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.squared_hinge_loss(np.array([0.5, 2.0]), [1.0, 1.0])
    (0.125, array([-0.5, -0. ]))
    """
    return _core.squared_hinge_loss(predictions, targets, 0.0, None, sample_weight, reduction, out)
