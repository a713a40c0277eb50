"""Layer normalization, with and without a mean."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks
from nnfast._load import _core

_FLOAT32_EPS, _FLOAT64_EPS = (float(np.finfo(dtype).eps) for dtype in (np.float32, np.float64))


class LayerNormSaved(NamedTuple):
    """What layer_norm_backward needs of the forward pass besides x and gamma."""

    mean: NDArray[np.float64]
    """The means that were subtracted, flat, in C order of the other axes."""
    inv_std: NDArray[np.float64]
    """``1 / sqrt(variance + eps)``, likewise."""
    axes: tuple[int, ...]
    """The axes that were normalized."""


class RMSNormSaved(NamedTuple):
    """What rms_norm_backward needs of the forward pass besides x and gamma."""

    inv_rms: NDArray[np.float64]
    """``1 / sqrt(mean of squares + eps)``, flat, in C order of the other axes."""
    axes: tuple[int, ...]


def layer_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], LayerNormSaved]:
    """Layer normalization: ``gamma * (x - mean) / sqrt(var + eps) + beta`` along one or several axes.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, at least one axis
        Any strides, not copied. float16 is computed in float32 and rounded once.
    gamma, beta : array_like of the shape that x has along `axis`, optional
        Scale and shift of each value along `axis`; ones and zeros if None.
    axis : int or tuple of int, default -1
        The axes along which values are normalized together.
    eps : float, default 1e-5
        Added to the variance, inside the root.
    out : ndarray of x's dtype and shape, optional
        Takes y; ``out=x`` is allowed, where the backward pass does not need x.

    Returns
    -------
    y : ndarray of x's dtype and shape
        Statistics are taken in float64, in an order that does not depend on threads or strides.
    saved : LayerNormSaved
        For layer_norm_backward.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or out has another dtype than x.
    ValueError
        If a shape does not match, eps is not positive, or out is read-only or overlaps another array. Nothing is
        written then.

    See Also
    --------
    layer_norm_backward : Its gradient.
    nnfast.nn.LayerNorm : The layer.
    torch.nn.functional.layer_norm : PyTorch's.
    group_norm, instance_norm

    References
    ----------
    Ba, Kiros, Hinton, "Layer normalization", 2016.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> y, saved = nf.layer_norm(np.array([[1.0, 3.0], [5.0, 5.0]]), eps=1e-12)
    >>> y.round(6), saved.mean
    (array([[-1.,  1.],
           [ 0.,  0.]]), array([2., 5.]))
    """
    x = _arrays.plain(x, "x")
    axes = _arrays.axes_of(axis, x, "x")
    if type(eps) is not float:
        eps = _checks.real(eps, "eps")
    return _core.layer_norm(x, gamma, beta, axes, eps, True, out, LayerNormSaved)


def layer_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None,
    saved: LayerNormSaved,
    *,
    out: tuple[NDArray[Any] | None, ...] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Gradients of layer_norm with respect to its input, scale and shift.

    Parameters
    ----------
    dy : array_like, shape of x
        Gradient of the loss with respect to y.
    x : array_like of float16, float32 or float64
        The input of the forward pass.
    gamma : array_like, or None
        As given to the forward pass.
    saved : LayerNormSaved
        From the forward pass.
    out : tuple of three ndarrays or None, optional
        Take dx, dgamma and dbeta; ``dx`` may be dy or x itself.

    Returns
    -------
    dx : ndarray of x's dtype and shape
        Gradient of the loss with respect to x.
    dgamma, dbeta : ndarray of x's dtype (float32 for float16), of the shape that x has along the axes
        Gradients of the loss with respect to gamma and beta.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or an out has the wrong dtype.
    ValueError
        If a shape does not match, or an out is read-only or overlaps another array.

    See Also
    --------
    layer_norm : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([[1.0, 3.0, 8.0]])
    >>> y, saved = nf.layer_norm(x)
    >>> dx, dgamma, dbeta = nf.layer_norm_backward(np.ones((1, 3)), x, None, saved)
    >>> abs(dx).max() < 1e-15, dbeta
    (np.True_, array([1., 1., 1.]))
    """
    if not isinstance(saved, LayerNormSaved):
        raise TypeError(f"saved must be what layer_norm returned, got {type(saved).__name__}")
    dx, dgamma, dbeta = _core.layer_norm_backward(
        dy,
        x,
        gamma,
        saved.mean,
        saved.inv_std,
        saved.axes,
        True,
        *_checks.outputs(out, ("dx", "dgamma", "dbeta")),
    )
    return dx, dgamma, dbeta


def rms_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], RMSNormSaved]:
    """Layer normalization without a mean: ``gamma * x / sqrt(mean(x**2) + eps)`` along one or several axes.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, at least one axis
        Any strides, not copied. float16 is computed in float32 and rounded once.
    gamma : array_like of the shape that x has along `axis`, optional
        Scale of each value along `axis`; ones if None.
    axis : int or tuple of int, default -1
        The axes along which values are normalized together.
    eps : float, optional
        Added to the mean of squares, inside the root. None: the machine epsilon of the dtype of computation, as in
        PyTorch.
    out : ndarray of x's dtype and shape, optional
        Takes y; ``out=x`` is allowed, where the backward pass does not need x.

    Returns
    -------
    y : ndarray of x's dtype and shape
        The sum of squares is taken in float64, in an order that does not depend on threads or strides.
    saved : RMSNormSaved
        For rms_norm_backward.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or out has another dtype than x.
    ValueError
        If a shape does not match, eps is not positive, or out is read-only or overlaps another array. Nothing is
        written then.

    See Also
    --------
    rms_norm_backward : Its gradient.
    nnfast.nn.RMSNorm : The layer.
    torch.nn.functional.rms_norm : PyTorch's.

    References
    ----------
    Zhang, Sennrich, "Root mean square layer normalization", 2019.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.rms_norm(np.array([3.0, 4.0, 0.0, 0.0]))[0].round(6)
    array([1.2, 1.6, 0. , 0. ])
    """
    x = _arrays.floating(x, "x", float16=True)
    axes = _arrays.axes_of(axis, x, "x")
    if eps is None:
        eps = _FLOAT64_EPS if x.dtype == np.float64 else _FLOAT32_EPS
    if type(eps) is not float:
        eps = _checks.real(eps, "eps")
    return _core.layer_norm(x, gamma, None, axes, eps, False, out, RMSNormSaved)


def rms_norm_backward(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike | None,
    saved: RMSNormSaved,
    *,
    out: tuple[NDArray[Any] | None, ...] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Gradients of rms_norm with respect to its input and scale.

    Parameters
    ----------
    dy : array_like, shape of x
        Gradient of the loss with respect to y.
    x : array_like of float16, float32 or float64
        The input of the forward pass.
    gamma : array_like, or None
        As given to the forward pass.
    saved : RMSNormSaved
        From the forward pass.
    out : tuple of two ndarrays or None, optional
        Take dx and dgamma; ``dx`` may be dy or x itself.

    Returns
    -------
    dx : ndarray of x's dtype and shape
        Gradient of the loss with respect to x.
    dgamma : ndarray of x's dtype (float32 for float16), of the shape that x has along the axes
        Gradient of the loss with respect to gamma.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or an out has the wrong dtype.
    ValueError
        If a shape does not match, or an out is read-only or overlaps another array.

    See Also
    --------
    rms_norm : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([[3.0, 4.0, 0.0, 0.0]])
    >>> y, saved = nf.rms_norm(x)
    >>> dx, dgamma = nf.rms_norm_backward(x, x, None, saved)
    >>> abs(dx).max() < 1e-12, dgamma.round(6)
    (np.True_, array([3.6, 6.4, 0. , 0. ]))
    """
    if not isinstance(saved, RMSNormSaved):
        raise TypeError(f"saved must be what rms_norm returned, got {type(saved).__name__}")
    dx_out, dgamma_out = _checks.outputs(out, ("dx", "dgamma"))
    dx, dgamma = _core.layer_norm_backward(
        dy, x, gamma, None, saved.inv_rms, saved.axes, False, dx_out, dgamma_out, None
    )
    return dx, dgamma
