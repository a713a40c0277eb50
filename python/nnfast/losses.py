"""Losses with their gradients from one pass.

Each returns its value, accumulated in float64, and the gradient with respect to its first argument.
``reduction="mean"`` gives the mean over the rows (cross-entropy of classes, hinge) or over all elements, ``"sum"``
their sum, and ``"none"`` the loss of each row or element as a float64 array, with the gradient of the sum.
"""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import ArrayLike, NDArray

from nnfast import _checks, _docs
from nnfast._load import _core

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "log_cosh_loss",
    "mse_loss",
    "poisson_nll_loss",
    "softmax_cross_entropy",
    "svm_loss",
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
    cross_entropy, svm_loss, kl_div

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
    softmax_cross_entropy, svm_loss

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
    sample_weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    axis: int = -1,
    out: NDArray[Any] | None = None,
) -> tuple[Loss, NDArray[Any]]:
    r"""Compute the multiclass hinge loss, and its gradient.

    .. math:: loss = \frac 1 N \sum_i \sum_{{j \ne label_i}} \max(0, s_{{ij}} - s_{{i,label_i}} + margin)

    (PyTorch's ``multi_margin_loss`` divides by the number of classes besides.)

    Parameters
    ----------
    scores : array_like of float32 or float64, shape (N, C), or with more axes
        Scores s of the classes.
    labels : array_like of integers, of the shape of scores without the axis of the classes
        Class indices in [0, C).
    margin : float, default 1
        How far the score of the label must be above each other one for no loss.
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
    softmax_cross_entropy, cross_entropy

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
    return _core.svm_loss(scores, labels, margin, sample_weight, reduction, axis, out)


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
    binary_cross_entropy

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
    torch.nn.functional.mse_loss : PyTorch's.
    l1_loss, huber_loss, log_cosh_loss, poisson_nll_loss

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
    mse_loss

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


def _ignored(index: int) -> int:
    label = _checks.integer(index, "ignore_index")
    if not -(2**63) <= label < 2**63:
        raise ValueError(f"ignore_index must be in [-2**63, 2**63), got {label}")
    return label
