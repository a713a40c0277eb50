"""Losses with their gradients from one pass.

Each returns its value, accumulated in float64, and the gradient with respect to its first argument; those of
embeddings and of a variance return one for each of their arrays. ``reduction="mean"`` gives the mean over the rows
(losses of classes and of embeddings) or over all elements, ``"sum"`` their sum, and ``"none"`` the loss of each row or
element as a float64 array, with the gradient of the sum.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _docs
from nnfast._load import _core

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cross_entropy",
    "gaussian_nll_loss",
    "hinge_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "log_cosh_loss",
    "mse_loss",
    "nll_loss",
    "poisson_nll_loss",
    "sigmoid_focal_loss",
    "softmax_cross_entropy",
    "softmax_focal_loss",
    "squared_hinge_loss",
    "svm_loss",
    "triplet_margin_loss",
]

Reduction = Literal["mean", "sum", "none"]
# A float, or with reduction="none" an array.
Loss = Any


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    class_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    axis: int = -1,
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    r"""Compute the cross-entropy of the softmax of logits, and its gradient.

    .. math:: loss = \frac 1 N \sum_i \left( \log \sum_j e^{z_{ij}} - z_{i,label_i} \right)

    and ``dlogits = (softmax(z) - onehot(labels)) / N``.

    Parameters
    ----------
    logits : array_like of float32 or float64, shape (N, C), or with more axes
        Scores z of the classes, before the softmax.
    labels : array_like
        Class indices in [0, C), integers of the shape of logits without the axis of the classes; or probabilities of
        the shape of logits, for which the loss of a row is ``sum_j t_j (log sum_k exp(z_k) - z_j)``.
    label_smoothing : float in [0, 1], default 0
        ε: the target is ``(1 - ε) t + ε / C``, where a class index is ``t = onehot(label)``.
    class_weight : array_like, shape (C,), optional
        Factors of the targets of the classes, not negative. As in PyTorch, the mean over class indices divides by the
        weights of the labels, and that over probabilities by N.
    ignore_index : int, optional
        Rows of this label have no loss and no gradient, and do not count in the mean, which is 0 if there are no
        others. Labels must be class indices.
    sample_weight : array_like, shape (N,) or that of the losses, optional
        Factor of the loss of each row, not negative. The mean divides by the sum of the weights, and is 0 where that
        is. A row of weight 0 may hold anything.
    reduction : "mean", "sum" or "none", default "mean"
        "none" gives the loss of each row, and the gradient of their sum.
    axis : int, default -1
        The axis of the classes: 1 for logits of shape (N, C, L) or (N, C, H, W), whose labels have shape (N, L) or
        (N, H, W).
    out : ndarray of the logits' dtype and shape, optional
        Takes dlogits; ``out=logits`` is allowed.

    Returns
    -------
    loss : float, or ndarray of float64
        In nats; -log of the probability of the right class, averaged. An untrained network gives log(C).
    dlogits : ndarray of the logits' shape
        Gradient of the loss with respect to logits.

    Raises
    ------
    TypeError
        If logits are not real numbers, labels are neither integers nor probabilities of the logits' shape, or out has
        another dtype.
    ValueError
        If a shape does not match, a label is not in [0, C), ignore_index does not fit into an int64, a weight is
        negative or not finite, reduction is unknown, there is no row or no class, or out is read-only or overlaps its
        inputs. Nothing is written then.

    See Also
    --------
    torch.nn.functional.cross_entropy : PyTorch's.
    cross_entropy, svm_loss, kl_div, nll_loss, softmax_focal_loss

    References
    ----------
    Label smoothing: Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> loss, dz = nf.softmax_cross_entropy(np.zeros((2, 4)), [0, 3])
    >>> round(loss, 6), dz[0]
    (1.386294, array([-0.375,  0.125,  0.125,  0.125]))
    >>> images = np.zeros((2, 4, 5, 5))  # a class for each pixel
    >>> nf.softmax_cross_entropy(images, np.ones((2, 5, 5), int), axis=1, reduction="none")[0].shape
    (2, 5, 5)
    >>> words = np.zeros((2, 6, 4))  # (B, T, C): a class for each step of a sequence; the loss is the mean over both
    >>> nf.softmax_cross_entropy(words, np.ones((2, 6), int))[1].shape
    (2, 6, 4)
    >>> columns = np.zeros((4, 2))  # (C, N): a column is a sample
    >>> loss, dz = nf.softmax_cross_entropy(columns, [0, 3], axis=0)
    >>> dz[:, 0]
    array([-0.375,  0.125,  0.125,  0.125])
    """
    if type(label_smoothing) is not float or label_smoothing:
        label_smoothing = _checks.real_in(label_smoothing, 0, 1, "label_smoothing")
    ignored = None if ignore_index is None else _ignored(ignore_index)
    return _core.cross_entropy(
        True,
        logits,
        labels,
        label_smoothing,
        class_weight,
        ignored,
        sample_weight,
        reduction,
        axis,
        out,
    )


@_docs.like(softmax_cross_entropy)
def cross_entropy(
    predictions: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    class_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    axis: int = -1,
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    """Compute the cross-entropy of probabilities, and its gradient.

    ``loss = mean_i(-log p_i,label)``. From logits, ``softmax_cross_entropy`` loses no digits and is faster; PyTorch's
    function of this name takes logits.

    Parameters
    ----------
    predictions : array_like of float32 or float64, shape (N, C), or with more axes
        Probabilities p in [0, 1], which need not add up to 1.
    labels : array_like
        Class indices in [0, C), integers of the shape of predictions without the axis of the classes; or probabilities
        of the shape of predictions, for which the loss of a row is ``-sum_j t_j log p_j``.
    {label_smoothing}
    {class_weight}
    {ignore_index}
    {sample_weight}
    {reduction}
    {axis}
    out : ndarray of the predictions' dtype and shape, optional
        Takes the gradient; ``out=predictions`` is allowed.

    Returns
    -------
    loss : float, or ndarray of float64
        The mean, the sum, or of each row or element.
    dpredictions : ndarray of the predictions' shape
        ``-t / p``, divided by N for the mean.

    Raises
    ------
    TypeError
        If predictions are not real numbers, labels are neither integers nor probabilities of the predictions' shape, or
        out has another dtype.
    ValueError
        If a prediction is not in [0, 1], or as for softmax_cross_entropy. Nothing is written then.

    See Also
    --------
    softmax_cross_entropy, svm_loss, nll_loss

    Notes
    -----
    So that both stay finite, a logarithm is at least -100, and p at least 1e-12 in the gradient: the limits of
    PyTorch's ``binary_cross_entropy``.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.cross_entropy(np.array([[0.25, 0.75], [1.0, 0.0]]), [1, 1], reduction="none")[0].round(4)
    array([  0.2877, 100.    ])
    """
    if type(label_smoothing) is not float or label_smoothing:
        label_smoothing = _checks.real_in(label_smoothing, 0, 1, "label_smoothing")
    ignored = None if ignore_index is None else _ignored(ignore_index)
    return _core.cross_entropy(
        False,
        predictions,
        labels,
        label_smoothing,
        class_weight,
        ignored,
        sample_weight,
        reduction,
        axis,
        out,
    )


@_docs.like(softmax_cross_entropy)
def svm_loss(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    margin: float = 1.0,
    squared: bool = False,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    axis: int = -1,
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    r"""Compute the multiclass hinge loss, and its gradient.

    .. math:: loss = \frac 1 N \sum_i \sum_{{j \ne label_i}} \max(0, s_{{ij}} - s_{{i,label_i}} + margin)

    or of the squares of the maxima. (PyTorch's ``multi_margin_loss`` divides by the number of classes besides, and
    never by the weights.)

    Parameters
    ----------
    scores : array_like of float32 or float64, shape (N, C), or with more axes
        Scores s of the classes.
    labels : array_like of integers, of the shape of scores without the axis of the classes
        Class indices in [0, C).
    margin : float, default 1
        How far the score of the label must be above each other one for no loss.
    squared : bool, default False
        Whether margins that are violated count with their square, ``p=2`` of PyTorch.
    class_weight : array_like, shape (C,), optional
        Factors of the losses of the rows of each label, not negative. The mean divides by the weights of the labels.
    {sample_weight}
    {reduction}
    axis : int, default -1
        The axis of the classes.
    out : ndarray of the scores' dtype and shape, optional
        Takes dscores; ``out=scores`` is allowed.

    Returns
    -------
    loss : float, or ndarray of float64
        An untrained network, whose scores are equal, gives (C - 1) margin.
    dscores : ndarray of the scores' shape
        Gradient of the loss with respect to scores; 0 at a margin of exactly 0.

    Raises
    ------
    TypeError
        If scores are not real numbers, labels are not integers, margin is not a real number, or out has another dtype.
    ValueError
        If a shape does not match, a label is not in [0, C), a weight is negative or not finite, reduction is unknown,
        there is no row or no class, or out is read-only or overlaps its inputs. Nothing is written then.

    See Also
    --------
    torch.nn.functional.multi_margin_loss : PyTorch's.
    softmax_cross_entropy, cross_entropy, hinge_loss, squared_hinge_loss

    References
    ----------
    Weston, Watkins, "Support vector machines for multi-class pattern recognition", 1999; CS231n, linear classification.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.svm_loss(np.array([[3.2, 5.1, -1.7]]), [0])
    (2.8999999999999995, array([[-1.,  1.,  0.]]))
    """
    margin = _checks.real(margin, "margin")
    return _core.svm_loss(
        *(scores, labels, margin, bool(squared), class_weight, sample_weight, reduction, axis, out)
    )


@_docs.like(softmax_cross_entropy)
def nll_loss(
    predictions: ArrayLike,
    labels: ArrayLike,
    *,
    class_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    axis: int = -1,
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    """Compute the negative log-likelihood of labels, and its gradient.

    ``loss = mean_i(-x_i,label)``, ``dx = -onehot(labels) / N``. Of logits, ``softmax_cross_entropy`` takes one pass for
    log_softmax and this.

    Parameters
    ----------
    predictions : array_like of float32 or float64, shape (N, C), or with more axes
        Logarithms x of probabilities, as log_softmax gives.
    labels : array_like of integers, of the shape of predictions without the axis of the classes
        Class indices in [0, C).
    class_weight : array_like, shape (C,), optional
        Factors of the losses of the rows of each label, not negative. The mean divides by the weights of the labels.
    ignore_index : int, optional
        Rows of this label have no loss and no gradient, and do not count in the mean.
    {sample_weight}
    {reduction}
    {axis}
    out : ndarray of the predictions' dtype and shape, optional
        Takes the gradient; ``out=predictions`` is allowed.

    Returns
    -------
    loss : float, or ndarray of float64
        In nats.
    dpredictions : ndarray of the predictions' shape
        Gradient of the loss with respect to predictions.

    Raises
    ------
    TypeError
        If predictions are not real numbers, labels are not integers, or out has another dtype.
    ValueError
        If a shape does not match, a label is not in [0, C), ignore_index does not fit into an int64, a weight is
        negative or not finite, reduction is unknown, there is no row or no class, or out is read-only or overlaps its
        inputs. Nothing is written then.

    See Also
    --------
    torch.nn.functional.nll_loss : PyTorch's.
    softmax_cross_entropy, cross_entropy

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> loss, dx = nf.nll_loss(np.log([[0.5, 0.5], [0.25, 0.75]]), [0, 0])
    >>> round(loss, 6), dx[1]
    (1.039721, array([-0.5,  0. ]))
    """
    ignored = None if ignore_index is None else _ignored(ignore_index)
    return _core.nll_loss(
        *(predictions, labels, class_weight, ignored, sample_weight, reduction, axis, out)
    )


@_docs.like(softmax_cross_entropy)
def softmax_focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: float = 2.0,
    class_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    axis: int = -1,
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    """Compute the focal loss of the softmax of logits, and its gradient.

    With the probability p of the label, ``loss = mean_i(-(1 - p_i)^gamma log p_i)``: ``softmax_cross_entropy`` in which
    rows that are right count less.

    Parameters
    ----------
    logits : array_like of float32 or float64, shape (N, C), or with more axes
        Scores of the classes, before the softmax.
    labels : array_like of integers, of the shape of logits without the axis of the classes
        Class indices in [0, C).
    gamma : float, default 2
        Not negative; 0 gives the cross-entropy.
    class_weight : array_like, shape (C,), optional
        Factors of the losses of the rows of each label, not negative: the α of the paper. The mean divides by the
        weights of the labels.
    {ignore_index}
    {sample_weight}
    {reduction}
    {axis}
    {out}

    Returns
    -------
    loss : float, or ndarray of float64
        In nats.
    dlogits : ndarray of the logits' shape
        Gradient of the loss with respect to logits.

    Raises
    ------
    TypeError
        As for softmax_cross_entropy, or if gamma is not a real number.
    ValueError
        As for softmax_cross_entropy, or if labels are no class indices, or gamma is negative or not finite. Nothing is
        written then.

    See Also
    --------
    sigmoid_focal_loss, softmax_cross_entropy

    Notes
    -----
    Loss and gradient have ``1 + gamma`` times the relative error of the cross-entropy: an ULP of the logits' dtype, and
    besides an absolute error of an ULP of 1 in float64. So of a row that is nearly certain few digits are right, or
    none where 1 - p is below 1e-16; only its absolute error is small.

    References
    ----------
    Lin, Goyal, Girshick, He, Dollár, "Focal loss for dense object detection", 2017.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> loss, dz = nf.softmax_focal_loss(np.zeros((1, 2)), [1])
    >>> round(4 * loss, 6), dz.round(6)
    (0.693147, array([[ 0.298287, -0.298287]]))
    """
    gamma = _checks.finite_not_negative(gamma, "gamma")
    scores = _arrays.floating(logits, "logits")
    if np.ndim(labels) == scores.ndim:
        raise ValueError(f"labels must be class indices, got shape {np.shape(labels)} of logits")
    ignored = None if ignore_index is None else _ignored(ignore_index)
    _checks.one_of(reduction, ("mean", "sum", "none"), "reduction")
    each, dlogits = _core.cross_entropy(
        *(True, scores, labels, 0.0, class_weight, ignored, sample_weight, "none", axis, out)
    )
    weights = _weights_of_rows(np.asarray(labels), class_weight, ignored, sample_weight)
    total = float(weights.sum()) if reduction == "mean" else 1.0
    scale = 1 / total if total else 0.0
    # Of a row with the cross-entropy c = -log p the loss is f(c) = (1 - e^-c)^gamma c, and the gradient f'(c) dc.
    with np.errstate(all="ignore"):
        entropy = np.divide(each, weights, out=np.zeros_like(each), where=weights != 0)
        p, wrong = np.exp(-entropy), -np.expm1(-entropy)
        focus = wrong**gamma
        ratio = np.divide(entropy, wrong, out=np.ones_like(each), where=wrong != 0)
        slope = focus * (1 + gamma * np.multiply(p, ratio, out=np.zeros_like(each), where=p != 0))
        each *= focus
        factors = np.expand_dims(slope * scale, axis).astype(dlogits.dtype)
        np.multiply(dlogits, factors, out=dlogits)
    return each if reduction == "none" else float(each.sum()) * scale, dlogits


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


@_docs.like(binary_cross_entropy_with_logits)
def mse_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    """Compute the mean squared error, and its gradient: ``mean((x - t)²)``, ``2 (x - t) / n``.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
        What the model gives, x.
    targets : array_like, the same shape
        What it should give, t.
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

    See Also
    --------
    l1_loss, huber_loss, log_cosh_loss, poisson_nll_loss, gaussian_nll_loss
    torch.nn.functional.mse_loss : PyTorch's.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.mse_loss(np.array([1.0, 4.0]), [1.0, 2.0])
    (2.0, array([0., 2.]))
    """
    return _core.mse_loss(predictions, targets, 0.0, None, sample_weight, reduction, out)


@_docs.like(binary_cross_entropy_with_logits)
def l1_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    """Compute the mean absolute error, and its gradient: ``mean(|x - t|)``, ``sign(x - t) / n``, 0 where x = t.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
        What the model gives, x.
    targets : array_like, the same shape
        What it should give, t.
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

    See Also
    --------
    torch.nn.functional.l1_loss : PyTorch's.
    mse_loss, huber_loss, log_cosh_loss

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.l1_loss(np.array([1.0, 4.0]), [1.0, 2.0])
    (1.0, array([0. , 0.5]))
    """
    return _core.l1_loss(predictions, targets, 0.0, None, sample_weight, reduction, out)


@_docs.like(binary_cross_entropy_with_logits)
def huber_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    delta: float = 1.0,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    r"""Compute the Huber loss, squared near 0 and absolute beyond, and its gradient.

    Of n elements with d = x - t and delta δ

    .. math::

        loss = \frac 1 n \sum
        \begin{{cases}} d^2 / 2 & |d| \le \delta \\ \delta (|d| - \delta / 2) & |d| > \delta \end{{cases}}

    and ``dx = clip(d, -delta, delta) / n``.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
        What the model gives, x.
    targets : array_like, the same shape
        What it should give, t.
    delta : float, default 1
        Positive.
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
        Also if delta is not positive.

    See Also
    --------
    torch.nn.functional.huber_loss : PyTorch's.
    mse_loss, l1_loss, log_cosh_loss

    References
    ----------
    Huber, "Robust estimation of a location parameter", 1964.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.huber_loss(np.array([1.5, 4.0]), [1.0, 1.0])
    (1.3125, array([0.25, 0.5 ]))
    """
    delta = _checks.positive(delta, "delta")
    return _core.huber_loss(predictions, targets, delta, None, sample_weight, reduction, out)


@_docs.like(binary_cross_entropy_with_logits)
def log_cosh_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    """Compute the log-cosh loss, smooth between squared and absolute, and its gradient.

    ``loss = mean(log cosh(x - t))``, ``dx = tanh(x - t) / n``: about ``(x - t)² / 2`` near 0 and ``|x - t| - log 2``
    beyond.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
        What the model gives, x.
    targets : array_like, the same shape
        What it should give, t.
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

    See Also
    --------
    mse_loss, l1_loss, huber_loss

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> loss, dx = nf.log_cosh_loss(np.array([1.0, 30.0]), [1.0, 0.0])
    >>> round(2 * loss + float(np.log(2)), 12), dx
    (30.0, array([0. , 0.5]))
    """
    return _core.log_cosh_loss(predictions, targets, 0.0, None, sample_weight, reduction, out)


@_docs.like(binary_cross_entropy_with_logits)
def poisson_nll_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    log_input: bool = True,
    eps: float = 1e-8,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    """Compute the negative log-likelihood of counts under a Poisson distribution, and its gradient.

    Of the logarithm x of the rate: ``loss = mean(exp(x) - t x)``, ``dx = (exp(x) - t) / n``. Of the rate x itself:
    ``loss = mean(x - t log(x + eps))``, ``dx = (1 - t / (x + eps)) / n``. What does not depend on x, log(t!), is left
    out.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
        Logarithms of rates, or rates; NaN of the loss where x + eps is not positive.
    targets : array_like, the same shape
        Counts t, not negative. 0 times an infinite logarithm is 0.
    log_input : bool, default True
        Whether predictions are logarithms.
    eps : float, default 1e-8
        Positive; used for rates.
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
        Also if eps is not positive.

    See Also
    --------
    torch.nn.functional.poisson_nll_loss : PyTorch's.
    gaussian_nll_loss, mse_loss

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.poisson_nll_loss(np.array([0.0, np.log(4)]), [1.0, 4.0])[1].round(12)
    array([0., 0.])
    >>> nf.poisson_nll_loss(np.array([2.0]), [1.0], log_input=False)[1].round(6)
    array([0.5])
    """
    eps = _checks.positive(eps, "eps")
    loss = _core.poisson_nll_loss if log_input else _core.poisson_nll_loss_of_rates
    return loss(predictions, targets, eps, None, sample_weight, reduction, out)


@_docs.like(binary_cross_entropy_with_logits)
def kl_div(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    """Compute the Kullback-Leibler divergence of logarithms of probabilities from targets, and its gradient.

    ``loss = mean(t (log t - x))``, ``dx = -t / n``. PyTorch's ``reduction="batchmean"`` is ``"sum"`` divided by the
    number of rows.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
        Logarithms x of probabilities, as log_softmax gives.
    targets : array_like, the same shape
        Probabilities t; where t is 0 so is the loss, and where it is negative the loss is NaN.
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

    See Also
    --------
    torch.nn.functional.kl_div : PyTorch's.
    softmax_cross_entropy

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> loss, dx = nf.kl_div(np.log([[0.5, 0.5]]), [[1.0, 0.0]], reduction="sum")
    >>> round(loss, 6), dx + 0.0
    (0.693147, array([[-1.,  0.]]))
    """
    return _core.kl_div(predictions, targets, 0.0, None, sample_weight, reduction, out)


@_docs.like(binary_cross_entropy_with_logits)
def gaussian_nll_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    variances: ArrayLike,
    *,
    full: bool = False,
    eps: float = 1e-6,
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> tuple[Loss, NDArray[Any], NDArray[Any]]:
    """Compute the negative log-likelihood of targets under normal distributions, and its gradients.

    With v = max(variance, eps): ``loss = mean((log v + (x - t)² / v) / 2)``, ``dx = (x - t) / v / n``,
    ``dv = (1 - (x - t)² / v) / (2 v) / n``.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
        Means x.
    targets : array_like, the same shape
        t.
    variances : array_like that broadcasts to the shape of predictions
        Not negative. PyTorch's of shape (N,) for predictions of shape (N, D) is ``variances[:, None]`` here.
    full : bool, default False
        Whether the constant ``log(2 π) / 2`` is added.
    eps : float, default 1e-6
        The least variance, positive. As in PyTorch, the gradient of a smaller one is that at eps.
    {sample_weight}
    {reduction}

    Returns
    -------
    loss : float, or ndarray of float64
        In nats.
    dpredictions : ndarray of the predictions' dtype and shape
        Gradient of the loss with respect to predictions.
    dvariances : ndarray of the predictions' dtype, and the variances' shape
        That with respect to variances, summed along the axes that are broadcast.

    Raises
    ------
    TypeError
        If an argument is not of real numbers.
    ValueError
        If shapes do not match, a variance is negative, a weight is negative or not finite, eps is not positive,
        reduction is unknown, or there is no element.

    See Also
    --------
    torch.nn.functional.gaussian_nll_loss : PyTorch's.
    poisson_nll_loss, mse_loss

    References
    ----------
    Nix, Weigend, "Estimating the mean and variance of the target probability distribution", 1994.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> loss, dx, dv = nf.gaussian_nll_loss(np.array([1.0, 3.0]), [1.0, 1.0], [1.0, 4.0])
    >>> round(loss, 6), dx, dv
    (0.596574, array([0.  , 0.25]), array([0.25, 0.  ]))
    """
    eps = _checks.positive(eps, "eps")
    x = _arrays.floating(predictions, "predictions")
    t, given = (
        _arrays.floating(array, name).astype(x.dtype, copy=False)
        for array, name in ((targets, "targets"), (variances, "variances"))
    )
    if t.shape != x.shape:
        raise ValueError(f"targets must have the shape of predictions, {x.shape}, got {t.shape}")
    if not _broadcasts_to(given.shape, x.shape):
        raise ValueError(
            f"variances must broadcast to the shape of predictions, {x.shape}, got {given.shape}"
        )
    if (given < 0).any():
        raise ValueError(f"variances must not be negative, got {given[given < 0].flat[0]}")
    with np.errstate(all="ignore"):
        v = np.broadcast_to(np.maximum(given, x.dtype.type(eps)), x.shape)
        d = np.subtract(x, t)
        loss, dv = _core.gaussian_nll_loss(v, d, 0.0, None, sample_weight, reduction, None)
        np.divide(d, v, out=d)
        weights, total = _weights_of_elements(sample_weight, d.shape)
        scale = 1 / total if reduction == "mean" and total else float(reduction != "mean")
        if weights is None:
            d *= d.dtype.type(scale)
        else:
            d = np.multiply(
                d, weights * scale, out=np.zeros_like(d), where=weights != 0, casting="same_kind"
            )
    if full:
        constant = math.log(2 * math.pi) / 2
        of_each = {
            "mean": float(total != 0),
            "sum": total,
            "none": 1 if weights is None else weights,
        }
        loss = loss + constant * of_each[reduction]
    return loss, d, _arrays.summed_to(dv, given.shape)


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
    first, second = _of_one_shape(x1=x1, x2=x2)
    axis = _arrays.axis_of(axis, first, "x1")
    sums = _core.pair_sums(first, second, axis)
    alike = _arrays.floating(targets, "targets")
    if alike.shape != sums.shape[:-1]:
        raise ValueError(f"targets must have shape {sums.shape[:-1]}, got {alike.shape}")
    if not ((alike == 1) | (alike == -1)).all():
        raise ValueError("targets must be 1 or -1")
    with np.errstate(all="ignore"):
        shrink = 1 / np.sqrt(sums[..., 1:] + 1e-12)
        both = shrink[..., 0] * shrink[..., 1]
        cosine = sums[..., 0] * both
        over = cosine - margin
        each = np.where(alike == 1, 1 - cosine, np.where(over <= 0, 0, over))
        # Of what is alike, rounding may take the cosine beyond 1.
        loss, slope = _reduced(np.maximum(each, 0), sample_weight, reduction)
        slope *= -alike
        other = _times(slope, both)
        own = [-_times(slope, cosine * shrink[..., k] ** 2) for k in (0, 1)]
    return (
        loss,
        _mixed(first, second, own[0], other, axis),
        _mixed(second, first, own[1], other, axis),
    )


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


def _broadcasts_to(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False


def _weights_of_elements(
    sample_weight: Any, shape: tuple[int, ...]
) -> tuple[NDArray[np.float64] | None, float]:
    """Weights that were checked, of each element, and their sum."""
    if sample_weight is None:
        return None, float(math.prod(shape))
    given = np.asarray(sample_weight, np.float64)
    weights = np.broadcast_to(given.reshape(given.shape + (1,) * (len(shape) - given.ndim)), shape)
    return weights, float(weights.sum())


def _weights_of_rows(
    labels: NDArray[Any], class_weight: Any, ignored: int | None, sample_weight: Any
) -> NDArray[np.float64]:
    """The factor of each row's loss, of arguments that were checked."""
    weights = np.ones(labels.shape)
    if ignored is not None:
        weights[labels == ignored] = 0
    if class_weight is not None:
        weights *= np.take(np.asarray(class_weight, np.float64), labels, mode="clip")
    if sample_weight is not None:
        given = np.asarray(sample_weight, np.float64)
        weights *= given.reshape(given.shape + (1,) * (labels.ndim - given.ndim))
    return weights


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
    dtype = np.result_type(*read)
    return [array.astype(dtype, copy=False) for array in read]


def _ignored(index: int) -> int:
    label = _checks.integer(index, "ignore_index")
    if not -(2**63) <= label < 2**63:
        raise ValueError(f"ignore_index must be in [-2**63, 2**63), got {label}")
    return label
