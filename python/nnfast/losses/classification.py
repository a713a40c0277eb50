"""Losses of rows of scores, one for each class, with their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _docs
from nnfast._load import _core
from nnfast.losses._reduction import Loss, Reduction

__all__ = [
    "cross_entropy",
    "nll_loss",
    "softmax_cross_entropy",
    "softmax_focal_loss",
    "svm_loss",
]


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
    weights = None  # of one for each row
    if not (class_weight is None and ignored is None and sample_weight is None):
        weights = _weights_of_rows(np.asarray(labels), class_weight, ignored, sample_weight)
    total = 1.0
    if reduction == "mean":
        total = float(each.size if weights is None else weights.sum())
    scale = 1 / total if total else 0.0
    # Of a row with the cross-entropy c = -log p the loss is f(c) = (1 - e^-c)^gamma c, and the gradient f'(c) dc.
    with np.errstate(all="ignore"):
        entropy = each
        if weights is not None:
            entropy = np.divide(each, weights, out=np.zeros_like(each), where=weights != 0)
        p, wrong = np.exp(-entropy), -np.expm1(-entropy)
        focus = wrong**gamma
        ratio = np.divide(entropy, wrong, out=np.ones_like(each), where=wrong != 0)
        slope = focus * (1 + gamma * np.multiply(p, ratio, out=np.zeros_like(each), where=p != 0))
        each *= focus
        factors = np.expand_dims(slope * scale, axis).astype(dlogits.dtype)
        np.multiply(dlogits, factors, out=dlogits)
    return each if reduction == "none" else float(each.sum()) * scale, dlogits


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


def _ignored(index: int) -> int:
    label = _checks.integer(index, "ignore_index")
    if not -(2**63) <= label < 2**63:
        raise ValueError(f"ignore_index must be in [-2**63, 2**63), got {label}")
    return label
