"""Penalties on the parameters, with their gradients from the same pass, and the constraint on norms.

A penalty's value is to be added to the loss and its slope to the gradients: ``loss += l2(weights, 1e-4, grads)``.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from nnfast import _arrays, _checks, _docs
from nnfast._array_lists import Arrays, names_of, values, values_like
from nnfast._load import _core

__all__ = ["elastic_net", "l1", "l2", "max_norm_"]


def l1(params: Arrays, strength: float, grads: Arrays | None = None) -> float:
    """The lasso: λ Σ|w|.

    Parameters
    ----------
    params : sequence or mapping of ndarrays of float32 or float64
        Any shapes and strides. Biases are usually left out.
    strength : float
        λ, not negative.
    grads : as params, optional
        Takes the gradients: λ sign(w), 0 where w is 0, is *added* to them.

    Returns
    -------
    value : float
        Added up in float64, in an order that the shapes decide.

    Raises
    ------
    TypeError
        If an array is of another dtype, or strength is no number.
    ValueError
        If strength is negative, or a gradient has another shape, is read-only or shares its parameter's memory. No
        gradient is changed then.

    References
    ----------
    Tibshirani, "Regression shrinkage and selection via the lasso", 1996.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w, dw = np.array([1.0, -2.0, 0.0]), np.zeros(3)
    >>> nf.penalties.l1([w], 0.1, [dw])
    0.30000000000000004
    >>> dw
    array([ 0.1, -0.1,  0. ])
    """
    return _elastic_net(params, _checks.not_negative(strength, "strength"), 0.0, grads)


def l2(params: Arrays, strength: float, grads: Arrays | None = None) -> float:
    """Ridge: λ/2 Σw². With the half, its gradient is λ w.

    Parameters
    ----------
    params : sequence or mapping of ndarrays of float32 or float64
        Any shapes and strides. Biases are usually left out.
    strength : float
        λ, not negative.
    grads : as params, optional
        Takes the gradients: λ w is *added* to them.

    Returns
    -------
    value : float
        Added up in float64, in an order that the shapes decide.

    Raises
    ------
    TypeError
        If an array is of another dtype, or strength is no number.
    ValueError
        If strength is negative, or a gradient has another shape, is read-only or shares its parameter's memory. No
        gradient is changed then.

    References
    ----------
    Krogh, Hertz, "A simple weight decay can improve generalization", 1991.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w, dw = np.array([1.0, -2.0, 0.0]), np.ones(3)
    >>> nf.penalties.l2({"w": w}, 0.5, {"w": dw})
    1.25
    >>> dw
    array([1.5, 0. , 1. ])
    """
    return _elastic_net(params, 0.0, _checks.not_negative(strength, "strength"), grads)


def elastic_net(
    params: Arrays, l1_strength: float, l2_strength: float, grads: Arrays | None = None
) -> float:
    """L1 and L2 together: λ₁ Σ|w| + λ₂/2 Σw².

    Parameters
    ----------
    params : sequence or mapping of ndarrays of float32 or float64
        Any shapes and strides. Biases are usually left out.
    l1_strength, l2_strength : float
        λ₁ and λ₂, not negative.
    grads : as params, optional
        Takes the gradients: λ₁ sign(w) + λ₂ w is *added* to them.

    Returns
    -------
    value : float
        Added up in float64, in an order that the shapes decide.

    Raises
    ------
    TypeError
        If an array is of another dtype, or a strength is no number.
    ValueError
        If a strength is negative, or a gradient has another shape, is read-only or shares its parameter's memory. No
        gradient is changed then.

    References
    ----------
    Zou, Hastie, "Regularization and variable selection via the elastic net", 2005.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.penalties.elastic_net([np.array([1.0, -2.0])], 1.0, 2.0)
    8.0
    """
    strengths = (
        _checks.not_negative(l1_strength, "l1_strength"),
        _checks.not_negative(l2_strength, "l2_strength"),
    )
    return _elastic_net(params, *strengths, grads)


def max_norm_(
    weight: NDArray[Any], max_norm: float, *, axis: int | tuple[int, ...] = 0
) -> NDArray[Any]:
    """Scale down, in place, what a unit takes in, to a norm of at most c: to be called after a step.

    Parameters
    ----------
    weight : ndarray of float32 or float64
        (n_in, n_out) of a dense layer, or (out, in, kh, kw) of a convolution with ``axis=(1, 2, 3)``.
    max_norm : float
        c, positive.
    axis : int or tuple of ints, default 0
        Axes over which a norm is taken: those of a unit's inputs.

    Returns
    -------
    weight : the array itself
        Units whose norm is at most c are left as they are, to the bit.

    Raises
    ------
    TypeError
        If weight is no array of float32 or float64, or max_norm is no number.
    ValueError
        If weight is read-only, max_norm is not positive, or axis names no axes of weight.

    References
    ----------
    Srebro, Shraibman, "Rank, trace-norm and max-norm", 2005; Hinton et al., "Improving neural networks by preventing
    co-adaptation of feature detectors", 2012.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = np.array([[3.0, 0.3], [4.0, 0.4]])
    >>> nf.penalties.max_norm_(w, 1.0)
    array([[0.6, 0.3],
           [0.8, 0.4]])
    """
    limit = _checks.positive(max_norm, "max_norm")
    _arrays.check_floats(weight, "weight")
    _arrays.check_writeable(weight, "weight")
    axes = _arrays.axes_of(axis, weight, "weight")
    _core.max_norm(weight, axes, limit)
    return weight


def _elastic_net(
    params: Arrays, l1_strength: float, l2_strength: float, grads: Arrays | None
) -> float:
    arrays, keys = values(params, "params"), names_of(params)
    slopes = None if grads is None else values_like(grads, keys, "grads")
    return _core.elastic_net(arrays, l1_strength, l2_strength, slopes, keys)


_docs.finish(__name__, {})
