"""Random numbers whose spread follows from the fans: Xavier's, He's and LeCun's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nnfast._arrays import Shape
from nnfast.init.arguments import Rng, target
from nnfast.init.distributions import normal, uniform
from nnfast.init.spread import Activation, Layout, Mode, deviation, gain

__all__ = [
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "xavier_normal",
    "xavier_uniform",
]


def xavier_uniform(
    shape: Shape = None,
    *,
    gain: float = 1.0,
    mode: Mode = "fan_avg",
    layout: Layout | None = None,
    dtype: DTypeLike = np.float32,
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Uniform weights of variance ``2 gain**2 / (fan_in + fan_out)``.

    They lie in ``gain * sqrt(6 / (fan_in + fan_out))`` about 0. Keeps the spread of activations and gradients through
    layers that are linear near 0, such as tanh.

    Parameters
    ----------
    shape : tuple of ints or None
        Of the weights, two axes or more; None takes out's. fans says what the axes are.
    gain : float, default 1
        Not negative; the function of this name knows it for an activation.
    mode : "fan_avg", "fan_in" or "fan_out", default "fan_avg"
        The variance is ``gain**2`` over the mean of both fans, or over one of them: "fan_in" is the 1 / fan_in of
        lecture notes, which keeps the spread of activations, "fan_out" keeps that of gradients.
    layout : "dense", "conv" or None
        What the axes are; None says dense for two axes and conv for more.
    dtype : float32 or float64, default float32
        Of the result; `out` decides if it is given.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random, Philox or None
        Source of the numbers, as for uniform.
    out : ndarray of one of these dtypes, optional
        Takes the result, at any strides.

    Returns
    -------
    w : ndarray

    Raises
    ------
    TypeError
        If the dtype is another, shape is no tuple of ints, gain is no real number, or rng is of another type.
    ValueError
        If shape has less than two axes, is negative, not what layout says or not that of out, gain is negative or not
        finite, mode or layout is unknown, rng is out of range, or out is read-only. Nothing is written or drawn then.

    References
    ----------
    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.

    Examples
    --------
    >>> import nnfast as nf
    >>> w = nf.init.xavier_uniform((300, 100), rng=0)
    >>> round(float(abs(w).max()), 3), round((6 / 400) ** 0.5, 3)
    (0.122, 0.122)
    """
    array = target(shape, dtype, out)
    return _uniform(array, deviation(array.shape, layout, mode, gain), rng)


def xavier_normal(
    shape: Shape = None,
    *,
    gain: float = 1.0,
    mode: Mode = "fan_avg",
    layout: Layout | None = None,
    dtype: DTypeLike = np.float32,
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Normal weights of variance ``2 gain**2 / (fan_in + fan_out)``.

    Keeps the spread of activations and gradients through layers that are linear near 0, such as tanh.

    Parameters
    ----------
    shape : tuple of ints or None
        Of the weights, two axes or more; None takes out's. fans says what the axes are.
    gain : float, default 1
        Not negative; the function of this name knows it for an activation.
    mode : "fan_avg", "fan_in" or "fan_out", default "fan_avg"
        As for xavier_uniform.
    layout : "dense", "conv" or None
        What the axes are; None says dense for two axes and conv for more.
    dtype : float32 or float64, default float32
        Of the result; `out` decides if it is given.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random, Philox or None
        Source of the numbers, as for uniform.
    out : ndarray of one of these dtypes, optional
        Takes the result, at any strides.

    Returns
    -------
    w : ndarray

    Raises
    ------
    TypeError
        If the dtype is another, shape is no tuple of ints, gain is no real number, or rng is of another type.
    ValueError
        If shape has less than two axes, is negative, not what layout says or not that of out, gain is negative or not
        finite, mode or layout is unknown, rng is out of range, or out is read-only. Nothing is written or drawn then.

    References
    ----------
    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.

    Examples
    --------
    >>> import nnfast as nf
    >>> w = nf.init.xavier_normal((300, 100), rng=0)
    >>> round(float(w.std()), 2), round((2 / 400) ** 0.5, 2)
    (0.07, 0.07)
    """
    array = target(shape, dtype, out)
    return _normal(array, deviation(array.shape, layout, mode, gain), rng)


def he_uniform(
    shape: Shape = None,
    *,
    mode: Mode = "fan_in",
    activation: Activation = "relu",
    negative_slope: float | None = None,
    layout: Layout | None = None,
    dtype: DTypeLike = np.float32,
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Uniform weights of variance ``gain(activation)**2 / fan_in``, 2 / fan_in for ReLU.

    They lie in ``gain * sqrt(3 / fan_in)`` about 0. ReLU lets half of what comes in through; twice the variance makes
    up for it.

    Parameters
    ----------
    shape : tuple of ints or None
        Of the weights, two axes or more; None takes out's. fans says what the axes are.
    mode : "fan_in", "fan_out" or "fan_avg", default "fan_in"
        Which fan the variance is divided by: "fan_in" keeps the spread of activations, "fan_out" that of gradients,
        "fan_avg" is their mean.
    activation : "relu", "leaky_relu", or another that gain knows, default "relu"
        What follows the layer.
    negative_slope : float, optional
        Of leaky_relu, 0.01 if it is not given; of PReLU its first weight.
    layout : "dense", "conv" or None
        What the axes are; None says dense for two axes and conv for more.
    dtype : float32 or float64, default float32
        Of the result; `out` decides if it is given.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random, Philox or None
        Source of the numbers, as for uniform.
    out : ndarray of one of these dtypes, optional
        Takes the result, at any strides.

    Returns
    -------
    w : ndarray

    Raises
    ------
    TypeError
        If the dtype is another, shape is no tuple of ints, negative_slope is no real number, or rng is of another type.
    ValueError
        If shape has less than two axes, is negative, not what layout says or not that of out, mode, activation or
        layout is unknown, negative_slope is not finite or not of this activation, rng is out of range, or out is
        read-only. Nothing is written or drawn then.

    References
    ----------
    He, Zhang, Ren, Sun, "Delving deep into rectifiers: surpassing human-level performance on ImageNet classification",
    2015.

    Examples
    --------
    >>> import nnfast as nf
    >>> w = nf.init.he_uniform((300, 100), rng=0)
    >>> round(float(abs(w).max()), 3), round((6 / 300) ** 0.5, 3)
    (0.141, 0.141)
    """
    array = target(shape, dtype, out)
    rectified = gain(activation, negative_slope=negative_slope)
    return _uniform(array, deviation(array.shape, layout, mode, rectified), rng)


def he_normal(
    shape: Shape = None,
    *,
    mode: Mode = "fan_in",
    activation: Activation = "relu",
    negative_slope: float | None = None,
    layout: Layout | None = None,
    dtype: DTypeLike = np.float32,
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Normal weights of variance ``gain(activation)**2 / fan_in``, 2 / fan_in for ReLU.

    ReLU lets half of what comes in through; twice the variance makes up for it.

    Parameters
    ----------
    shape : tuple of ints or None
        Of the weights, two axes or more; None takes out's. fans says what the axes are.
    mode : "fan_in", "fan_out" or "fan_avg", default "fan_in"
        As for he_uniform.
    activation : "relu", "leaky_relu", or another that gain knows, default "relu"
        What follows the layer.
    negative_slope : float, optional
        Of leaky_relu, 0.01 if it is not given; of PReLU its first weight.
    layout : "dense", "conv" or None
        What the axes are; None says dense for two axes and conv for more.
    dtype : float32 or float64, default float32
        Of the result; `out` decides if it is given.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random, Philox or None
        Source of the numbers, as for uniform.
    out : ndarray of one of these dtypes, optional
        Takes the result, at any strides.

    Returns
    -------
    w : ndarray

    Raises
    ------
    TypeError
        If the dtype is another, shape is no tuple of ints, negative_slope is no real number, or rng is of another type.
    ValueError
        If shape has less than two axes, is negative, not what layout says or not that of out, mode, activation or
        layout is unknown, negative_slope is not finite or not of this activation, rng is out of range, or out is
        read-only. Nothing is written or drawn then.

    References
    ----------
    He, Zhang, Ren, Sun, "Delving deep into rectifiers: surpassing human-level performance on ImageNet classification",
    2015.

    Examples
    --------
    >>> import nnfast as nf
    >>> w = nf.init.he_normal((64, 32, 3, 3), rng=0)
    >>> round(float(w.std()), 2), round((2 / (32 * 3 * 3)) ** 0.5, 2)
    (0.08, 0.08)
    """
    array = target(shape, dtype, out)
    rectified = gain(activation, negative_slope=negative_slope)
    return _normal(array, deviation(array.shape, layout, mode, rectified), rng)


def lecun_uniform(
    shape: Shape = None,
    *,
    layout: Layout | None = None,
    dtype: DTypeLike = np.float32,
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Uniform weights of variance ``1 / fan_in``, in ``sqrt(3 / fan_in)`` about 0.

    Parameters
    ----------
    shape : tuple of ints or None
        Of the weights, two axes or more; None takes out's. fans says what the axes are.
    layout : "dense", "conv" or None
        What the axes are; None says dense for two axes and conv for more.
    dtype : float32 or float64, default float32
        Of the result; `out` decides if it is given.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random, Philox or None
        Source of the numbers, as for uniform.
    out : ndarray of one of these dtypes, optional
        Takes the result, at any strides.

    Returns
    -------
    w : ndarray

    Raises
    ------
    TypeError
        If the dtype is another, shape is no tuple of ints, or rng is of another type.
    ValueError
        If shape has less than two axes, is negative, not what layout says or not that of out, layout is unknown, rng is
        out of range, or out is read-only. Nothing is written or drawn then.

    References
    ----------
    LeCun, Bottou, Orr, Müller, "Efficient backprop", 1998.

    Examples
    --------
    >>> import nnfast as nf
    >>> w = nf.init.lecun_uniform((300, 100), rng=0)
    >>> round(float(abs(w).max()), 3), round((3 / 300) ** 0.5, 3)
    (0.1, 0.1)
    """
    array = target(shape, dtype, out)
    return _uniform(array, deviation(array.shape, layout, "fan_in", 1.0), rng)


def lecun_normal(
    shape: Shape = None,
    *,
    layout: Layout | None = None,
    dtype: DTypeLike = np.float32,
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Normal weights of variance ``1 / fan_in``, which networks of SELUs need to normalize themselves.

    Parameters
    ----------
    shape : tuple of ints or None
        Of the weights, two axes or more; None takes out's. fans says what the axes are.
    layout : "dense", "conv" or None
        What the axes are; None says dense for two axes and conv for more.
    dtype : float32 or float64, default float32
        Of the result; `out` decides if it is given.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random, Philox or None
        Source of the numbers, as for uniform.
    out : ndarray of one of these dtypes, optional
        Takes the result, at any strides.

    Returns
    -------
    w : ndarray

    Raises
    ------
    TypeError
        If the dtype is another, shape is no tuple of ints, or rng is of another type.
    ValueError
        If shape has less than two axes, is negative, not what layout says or not that of out, layout is unknown, rng is
        out of range, or out is read-only. Nothing is written or drawn then.

    References
    ----------
    LeCun, Bottou, Orr, Müller, "Efficient backprop", 1998; Klambauer, Unterthiner, Mayr, Hochreiter, "Self-normalizing
    neural networks", 2017.

    Examples
    --------
    >>> import nnfast as nf
    >>> w = nf.init.lecun_normal((300, 100), rng=0)
    >>> round(float(w.std()), 2), round((1 / 300) ** 0.5, 2)
    (0.06, 0.06)
    """
    array = target(shape, dtype, out)
    return _normal(array, deviation(array.shape, layout, "fan_in", 1.0), rng)


def _uniform(array: NDArray[Any], std: float, rng: Rng) -> NDArray[Any]:
    bound = math.sqrt(3) * std
    return uniform(low=-bound, high=bound, rng=rng, out=array)


def _normal(array: NDArray[Any], std: float, rng: Rng) -> NDArray[Any]:
    return normal(std=std, rng=rng, out=array)
