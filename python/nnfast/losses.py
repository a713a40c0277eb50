"""Losses with their gradients from one pass."""

from typing import Any

from numpy.typing import ArrayLike, NDArray

from nnfast._load import _core


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, out: NDArray[Any] | None = None
) -> tuple[float, NDArray[Any]]:
    """Mean cross-entropy of the softmax of logits, and its gradient.

    ``loss = mean_i(log sum_j exp(z_ij) - z_i,label)``, ``dlogits = (softmax(z) - onehot(labels)) / N``.

    Parameters
    ----------
    logits : array_like of float32 or float64, shape (N, C)
    labels : array_like
        Class indices in [0, C), integers of shape (N,); or probabilities of shape (N, C), for which the loss is
        ``mean_i(sum_j t_ij (log sum_k exp(z_ik) - z_ij))``.
    out : ndarray of the logits' dtype and shape, optional
        Takes dlogits; ``out=logits`` is allowed.

    Returns
    -------
    loss : float
        In nats, accumulated in float64; -log of the probability of the right class, averaged. An untrained network
        gives log(C).
    dlogits : ndarray, shape (N, C)
        Gradient of loss.

    Raises
    ------
    TypeError
        If logits are not real numbers, labels neither integers nor real numbers, or out has another dtype.
    ValueError
        If a shape does not match, a label is not in [0, C), there is no row or no class, or out is read-only or
        overlaps its inputs. Nothing is written then.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> loss, dz = nf.softmax_cross_entropy(np.zeros((2, 4)), [0, 3])
    >>> round(loss, 6), dz[0]
    (1.386294, array([-0.375,  0.125,  0.125,  0.125]))
    """
    return _core.softmax_cross_entropy(logits, labels, out)
