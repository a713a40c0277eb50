"""Losses with their gradients from one pass.

Each returns its value, a float that is added up in float64, and the gradient by what was predicted, which takes the
same pass. All are means: over the rows, or over all elements.
"""

from typing import Any

from numpy.typing import ArrayLike, NDArray

from nnfast import _checks
from nnfast._load import _core


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    class_weights: ArrayLike | None = None,
    ignore_index: int | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]]:
    """Mean cross-entropy of the softmax of logits, and its gradient.

    ``loss = mean_i(log sum_j exp(z_ij) - z_i,label)``, ``dlogits = (softmax(z) - onehot(labels)) / N``.

    Parameters
    ----------
    logits : array_like of float32 or float64, shape (N, C)
    labels : array_like
        Class indices in [0, C), integers of shape (N,); or probabilities of shape (N, C), for which the loss is
        ``mean_i(sum_j t_ij (log sum_k exp(z_ik) - z_ij))``.
    label_smoothing : float in [0, 1], default 0
        ε: a class index wants ``(1 - ε) onehot(label) + ε / C`` instead of ``onehot(label)``. For class indices, as are
        the next two.
    class_weights : array_like, shape (C,), optional
        What each class counts, not negative. The mean is by the weights of the labels, as in PyTorch.
    ignore_index : int, optional
        A label that is none: such rows have no loss, no gradient, and no part in the mean. If there are no others, the
        loss is 0.
    out : ndarray of the logits' dtype and shape, optional
        Takes dlogits; ``out=logits`` is allowed.

    Returns
    -------
    loss : float
        In nats; -log of the probability of the right class, averaged. An untrained network gives log(C).
    dlogits : ndarray, shape (N, C)
        Gradient of loss.

    Raises
    ------
    TypeError
        If logits are not real numbers, labels neither integers nor real numbers, or out has another dtype.
    ValueError
        If a shape does not match, a label is not in [0, C), ignore_index is not that of an int64, a weight is
        negative, there is no row or no class, or out is read-only or overlaps its inputs. Nothing is written then.

    References
    ----------
    Label smoothing: Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> loss, dz = nf.softmax_cross_entropy(np.zeros((2, 4)), [0, 3])
    >>> round(loss, 6), dz[0]
    (1.386294, array([-0.375,  0.125,  0.125,  0.125]))
    """
    smoothing = _checks.real_in(label_smoothing, 0, 1, "label_smoothing")
    if ignore_index is not None:
        ignore_index = _checks.integer(ignore_index, "ignore_index")
        if not -(2**63) <= ignore_index < 2**63:
            raise ValueError(f"ignore_index must be in [-2**63, 2**63), got {ignore_index}")
    return _core.softmax_cross_entropy(logits, labels, smoothing, class_weights, ignore_index, out)


def svm_loss(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    margin: float = 1.0,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]]:
    """Multiclass hinge loss, and its gradient.

    ``loss = mean_i(sum over j ≠ label of max(0, s_ij - s_i,label + margin))``. (PyTorch's ``multi_margin_loss`` divides
    by the number of classes besides.)

    Parameters
    ----------
    scores : array_like of float32 or float64, shape (N, C)
    labels : array_like of integers, shape (N,)
        Class indices in [0, C).
    margin : float, default 1
    out : ndarray of the scores' dtype and shape, optional
        Takes dscores; ``out=scores`` is allowed.

    Returns
    -------
    loss : float
        An untrained network, all of whose scores are alike, gives (C - 1) margin.
    dscores : ndarray, shape (N, C)
        Gradient of loss; at a margin of exactly 0 it is 0.

    Raises
    ------
    TypeError
        If scores are not real numbers, labels not integers, margin is no number, or out has another dtype.
    ValueError
        If a shape does not match, a label is not in [0, C), there is no row or no class, or out is read-only or
        overlaps its inputs. Nothing is written then.

    References
    ----------
    Weston, Watkins, "Support vector machines for multi-class pattern recognition", 1999; CS231n, linear classification.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.svm_loss(np.array([[3.2, 5.1, -1.7]]), [0])
    (2.8999999999999995, array([[-1.,  1.,  0.]]))
    """
    return _core.svm_loss(scores, labels, _checks.real(margin, "margin"), out)


def binary_cross_entropy_with_logits(
    predictions: ArrayLike, targets: ArrayLike, *, out: NDArray[Any] | None = None
) -> tuple[float, NDArray[Any]]:
    """Mean binary cross-entropy of the sigmoid of logits, and its gradient.

    ``loss = mean(-t log σ(x) - (1 - t) log(1 - σ(x)))``, ``dx = (σ(x) - t) / n``: computed as
    ``max(x, 0) - x t + log(1 + e^-|x|)``, so that nothing overflows or cancels.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
        Logits x.
    targets : array_like, the same shape
        t: 0 or 1, or probabilities.
    out : ndarray of the predictions' dtype and shape, optional
        Takes the gradient; may be predictions or targets.

    Returns
    -------
    loss : float
        In nats; log 2 of an untrained network.
    dpredictions : ndarray

    Raises
    ------
    TypeError
        If an array is not of real numbers, or out has another dtype.
    ValueError
        If shapes differ, there is no element, or out is read-only or overlaps partly. Nothing is written then.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> loss, dx = nf.binary_cross_entropy_with_logits(np.zeros(2), [0.0, 1.0])
    >>> round(loss, 6), dx
    (0.693147, array([ 0.25, -0.25]))
    """
    return _core.binary_cross_entropy_with_logits(predictions, targets, 0.0, out)


def mse_loss(
    predictions: ArrayLike, targets: ArrayLike, *, out: NDArray[Any] | None = None
) -> tuple[float, NDArray[Any]]:
    """Mean squared error, and its gradient: ``mean((x - t)²)``, ``2 (x - t) / n``.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
    targets : array_like, the same shape
    out : ndarray of the predictions' dtype and shape, optional
        Takes the gradient; may be predictions or targets.

    Returns
    -------
    loss : float
    dpredictions : ndarray

    Raises
    ------
    TypeError
        If an array is not of real numbers, or out has another dtype.
    ValueError
        If shapes differ, there is no element, or out is read-only or overlaps partly. Nothing is written then.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.mse_loss(np.array([1.0, 4.0]), [1.0, 2.0])
    (2.0, array([0., 2.]))
    """
    return _core.mse_loss(predictions, targets, 0.0, out)


def l1_loss(
    predictions: ArrayLike, targets: ArrayLike, *, out: NDArray[Any] | None = None
) -> tuple[float, NDArray[Any]]:
    """Mean absolute error, and its gradient: ``mean(|x - t|)``, ``sign(x - t) / n``, 0 where they are equal.

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
    targets : array_like, the same shape
    out : ndarray of the predictions' dtype and shape, optional
        Takes the gradient; may be predictions or targets.

    Returns
    -------
    loss : float
    dpredictions : ndarray

    Raises
    ------
    TypeError
        If an array is not of real numbers, or out has another dtype.
    ValueError
        If shapes differ, there is no element, or out is read-only or overlaps partly. Nothing is written then.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.l1_loss(np.array([1.0, 4.0]), [1.0, 2.0])
    (1.0, array([0. , 0.5]))
    """
    return _core.l1_loss(predictions, targets, 0.0, out)


def huber_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    delta: float = 1.0,
    out: NDArray[Any] | None = None,
) -> tuple[float, NDArray[Any]]:
    """Mean of squares near 0 and of absolute values beyond, and its gradient.

    With d = x - t: ``d² / 2`` where |d| ≤ delta, else ``delta (|d| - delta / 2)``; the gradient is d, cut to
    [-delta, delta].

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape
    targets : array_like, the same shape
    delta : float, default 1
        Positive.
    out : ndarray of the predictions' dtype and shape, optional
        Takes the gradient; may be predictions or targets.

    Returns
    -------
    loss : float
    dpredictions : ndarray

    Raises
    ------
    TypeError
        If an array is not of real numbers, delta is no number, or out has another dtype.
    ValueError
        If shapes differ, delta is not positive, there is no element, or out is read-only or overlaps partly. Nothing
        is written then.

    References
    ----------
    Huber, "Robust estimation of a location parameter", 1964.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.huber_loss(np.array([1.5, 4.0]), [1.0, 1.0])
    (1.3125, array([0.25, 0.5 ]))
    """
    return _core.huber_loss(predictions, targets, _checks.positive(delta, "delta"), out)
