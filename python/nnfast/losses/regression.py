"""Losses of numbers and of distributions, element by element, with their gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _docs
from nnfast._load import _core
from nnfast.losses._reduction import Loss, Reduction
from nnfast.losses.binary import binary_cross_entropy_with_logits

__all__ = [
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "log_cosh_loss",
    "mse_loss",
    "poisson_nll_loss",
]


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
    whole = given.shape == x.shape
    if not (whole or _broadcasts_to(given.shape, x.shape)):
        raise ValueError(
            f"variances must broadcast to the shape of predictions, {x.shape}, got {given.shape}"
        )
    if (given < 0).any():
        raise ValueError(f"variances must not be negative, got {given[given < 0].flat[0]}")
    with np.errstate(all="ignore"):
        v = np.maximum(given, x.dtype.type(eps))
        if not whole:
            v = np.broadcast_to(v, x.shape)
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
