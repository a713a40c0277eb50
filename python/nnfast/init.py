"""Initial weights and biases: constants, random numbers of a chosen variance, orthogonal matrices.

Every function gives a new array of a shape, or fills `out`, whose shape is taken where none is given. They are called
alike, ``f(shape, dtype=..., rng=..., out=...)``, so that a layer can be given any of them; by_name finds those that
need no more by the names people use, "he" or "xavier".

Random numbers come from nnfast.random.Philox: a seed gives the same ones for every number of threads, all strides and
both dtypes. They are numbers of float32, which a float64 array takes as they are, so that networks of float32 and of
float64 begin alike; only orthogonal computes in float64, and rounds. (Philox itself has numbers of 53 bits.) An int or
a SeedSequence gives the same numbers at every call, and so the layers of a network the same beginning. A Philox stream
is drawn from where it stands and moves on, and a Generator is advanced by one raw draw of its bit generator, which is
the seed: one of these two serves a whole network.

How far random weights may spread follows from the fans of a layer, the number of inputs a unit sums up and of units an
input goes to, since a sum of n products has n times their variance.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> stream = nf.random.Philox(seed=0)
>>> w1 = nf.init.he_normal((800, 500), rng=stream)
>>> w2 = nf.init.xavier_uniform((500, 10), rng=stream)
>>> b2 = nf.init.zeros(10)
>>> round(float(w1.std()), 3), (2 / 800) ** 0.5
(0.05, 0.05)
"""

from __future__ import annotations  # numpy.random is not loaded before it is needed

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nnfast import _arrays, _checks, _docs, _seeds
from nnfast._arrays import Shape
from nnfast.random import Philox

__all__ = [
    "by_name",
    "constant",
    "fans",
    "gain",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Activation = Literal["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]
Initialiser: TypeAlias = Callable[..., NDArray[Any]]
Layout = Literal["dense", "conv"]
Mode = Literal["fan_in", "fan_out", "fan_avg"]
Rng: TypeAlias = "_seeds.Rng | Philox"

_GAINS = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "leaky_relu": math.nan,  # follows from its slope
    "selu": 3 / 4,
}


# ---- constants ----


def zeros(
    shape: Shape = None,
    *,
    dtype: DTypeLike = np.float32,
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """All 0: for biases. Units whose weights all begin at 0 get the same gradient and stay the same for ever.

    Parameters
    ----------
    shape : int, tuple of ints or None
        Of the result; None takes out's.
    dtype : float32 or float64, default float32
        Of the result; `out` decides if it is given.
    rng
        Is not used: all initialisers are called alike.
    out : ndarray of one of these dtypes, optional
        Takes the result, at any strides.

    Returns
    -------
    b : ndarray

    Raises
    ------
    TypeError
        If the dtype is another, or shape is no int or tuple of ints.
    ValueError
        If shape is negative or not that of out, or out is read-only.

    Examples
    --------
    >>> import nnfast as nf
    >>> nf.init.zeros(3)
    array([0., 0., 0.], dtype=float32)
    """
    return constant(shape, 0.0, dtype=dtype, out=out)


def constant(
    shape: Shape = None,
    value: float = 0.0,
    *,
    dtype: DTypeLike = np.float32,
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """One number everywhere: 1 for a scale, or 0.01 for the biases of ReLUs, so that all of them let something through.

    Whether slightly positive biases help is not settled. Goodfellow and others take 0.1; the notes of CS231n name 0.01,
    and 0 as more common.

    Parameters
    ----------
    shape : int, tuple of ints or None
        Of the result; None takes out's.
    value : float, default 0
    dtype : float32 or float64, default float32
        Of the result; `out` decides if it is given.
    rng
        Is not used: all initialisers are called alike.
    out : ndarray of one of these dtypes, optional
        Takes the result, at any strides.

    Returns
    -------
    b : ndarray

    Raises
    ------
    TypeError
        If the dtype is another, shape is no int or tuple of ints, or value is no real number.
    ValueError
        If shape is negative or not that of out, or out is read-only.

    References
    ----------
    Goodfellow, Bengio, Courville, "Deep learning", 2016, section 8.4; Karpathy and others, notes of CS231n, "Neural
    networks part 2: setting up the data and the loss".

    Examples
    --------
    >>> import nnfast as nf
    >>> nf.init.constant(3, 0.01)
    array([0.01, 0.01, 0.01], dtype=float32)
    """
    value = _checks.real(value, "value")
    array = _target(shape, dtype, out)
    array[...] = value
    return array


# ---- random numbers of a given spread ----


def uniform(
    shape: Shape = None,
    low: float = 0.0,
    high: float = 1.0,
    *,
    dtype: DTypeLike = np.float32,
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Uniform numbers in [low, high), of mean ``(low + high) / 2`` and variance ``(high - low)**2 / 12``.

    Parameters
    ----------
    shape : int, tuple of ints or None
        Of the result; None takes out's.
    low, high : float, default 0 and 1
        Finite in float32; ``low + (high - low) u`` may round to high.
    dtype : float32 or float64, default float32
        Of the result; `out` decides if it is given.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random, Philox or None
        Source of the numbers. An int in [0, 2**64) or a SeedSequence gives the same at every call; a Generator is
        advanced by one raw draw of its bit generator, which is the seed; a Philox stream moves on by what is drawn;
        None takes fresh entropy.
    out : ndarray of one of these dtypes, optional
        Takes the result, at any strides.

    Returns
    -------
    w : ndarray
        What ``Philox(rng).uniform(shape, low, high)`` gives, in float32; in float64 not outside the bounds as these
        are in float64.

    Raises
    ------
    TypeError
        If the dtype is another, shape is no int or tuple of ints, low or high is no real number, or rng is of another
        type.
    ValueError
        If low or high is not finite, low is above high, rng is out of range, shape is negative or not that of out, or
        out is read-only. Nothing is written or drawn then.

    Examples
    --------
    >>> import nnfast as nf
    >>> w = nf.init.uniform((300, 100), -0.1, 0.1, rng=0)
    >>> bool(abs(w).max() <= 0.1), round(float(w.std()), 2)
    (True, 0.06)
    """
    low, high = _checks.interval(low, high)
    array = _target(shape, dtype, out)
    _drawn(array, lambda out: _stream(rng).uniform(low=low, high=high, out=out))
    return array if array.dtype == np.float32 else np.clip(array, low, high, out=array)


def normal(
    shape: Shape = None,
    mean: float = 0.0,
    std: float = 1.0,
    *,
    dtype: DTypeLike = np.float32,
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Normal numbers: with ``std=0.01`` the "small random numbers" that serve networks of few layers.

    Parameters
    ----------
    shape : int, tuple of ints or None
        Of the result; None takes out's.
    mean, std : float, default 0 and 1
        Finite in float32; std is not negative.
    dtype : float32 or float64, default float32
        Of the result; `out` decides if it is given.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random, Philox or None
        Source of the numbers, as for uniform.
    out : ndarray of one of these dtypes, optional
        Takes the result, at any strides.

    Returns
    -------
    w : ndarray
        What ``Philox(rng).normal(shape, mean, std)`` gives, in float32.

    Raises
    ------
    TypeError
        If the dtype is another, shape is no int or tuple of ints, mean or std is no real number, or rng is of another
        type.
    ValueError
        If mean or std is not finite, std is negative, rng is out of range, shape is negative or not that of out, or out
        is read-only. Nothing is written or drawn then.

    Examples
    --------
    >>> import nnfast as nf
    >>> w = nf.init.normal((300, 100), std=0.01, rng=0)
    >>> round(float(w.std()), 3)
    0.01
    """
    mean, std = _checks.finite(mean, "mean"), _checks.finite_not_negative(std, "std")
    array = _target(shape, dtype, out)
    return _drawn(array, lambda out: _stream(rng).normal(mean=mean, std=std, out=out))


def truncated_normal(
    shape: Shape = None,
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    *,
    dtype: DTypeLike = np.float32,
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Normal numbers without those outside ``[mean + low * std, mean + high * std]``.

    `std` is that of the normal distribution before it is truncated, as in ``torch.nn.init.trunc_normal_`` (whose bounds
    are numbers, not deviations). What is left has less: between -2 and 2 its standard deviation is 0.8796 std, and
    ``std / 0.8796`` makes up for it, as Keras and JAX do.

    Parameters
    ----------
    shape : int, tuple of ints or None
        Of the result; None takes out's.
    mean, std : float, default 0 and 1
        Of the whole distribution. Finite; std is not negative.
    low, high : float, default -2 and 2
        Bounds, in standard deviations from the mean. Finite, in any place.
    dtype : float32 or float64, default float32
        Of the result; `out` decides if it is given.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random, Philox or None
        Source of the numbers, as for uniform.
    out : ndarray of one of these dtypes, optional
        Takes the result, at any strides.

    Returns
    -------
    w : ndarray
        Never outside the bounds as the dtype rounds them.

    Raises
    ------
    TypeError
        If the dtype is another, shape is no int or tuple of ints, mean, std, low or high is no real number, or rng is
        of another type.
    ValueError
        If mean, std, low or high is not finite, std is negative, low is above high, rng is out of range, shape is
        negative or not that of out, or out is read-only. Nothing is written or drawn then.

    Notes
    -----
    The numbers of ``nnfast.random.Philox.truncated_normal`` in float32: exact, by rejection, each a function of its
    seed and its place in the stream.

    References
    ----------
    Robert, "Simulation of truncated normal variables", 1995.

    Examples
    --------
    >>> import nnfast as nf
    >>> w = nf.init.truncated_normal((300, 100), std=0.1, rng=0)
    >>> bool(abs(w).max() <= 0.2), round(float(w.std()), 2)
    (True, 0.09)
    """
    mean, std = _checks.finite(mean, "mean"), _checks.finite_not_negative(std, "std")
    low, high = _checks.interval(low, high)
    array = _target(shape, dtype, out)
    _drawn(
        array,
        lambda out: _stream(rng).truncated_normal(mean=mean, std=std, low=low, high=high, out=out),
    )
    if array.dtype == np.float32:
        return array
    return np.clip(array, mean + std * low, mean + std * high, out=array)


# ---- random numbers whose spread follows from the fans ----


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
    array = _target(shape, dtype, out)
    return _uniform(array, _deviation(array.shape, layout, mode, gain), rng)


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
    array = _target(shape, dtype, out)
    return _normal(array, _deviation(array.shape, layout, mode, gain), rng)


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
    array = _target(shape, dtype, out)
    rectified = gain(activation, negative_slope=negative_slope)
    return _uniform(array, _deviation(array.shape, layout, mode, rectified), rng)


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
    array = _target(shape, dtype, out)
    rectified = gain(activation, negative_slope=negative_slope)
    return _normal(array, _deviation(array.shape, layout, mode, rectified), rng)


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
    array = _target(shape, dtype, out)
    return _uniform(array, _deviation(array.shape, layout, "fan_in", 1.0), rng)


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
    array = _target(shape, dtype, out)
    return _normal(array, _deviation(array.shape, layout, "fan_in", 1.0), rng)


# ---- orthogonal matrices ----


def orthogonal(
    shape: Shape = None,
    *,
    gain: float = 1.0,
    dtype: DTypeLike = np.float32,
    rng: Rng = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """A random matrix with orthonormal columns, or rows if it has fewer of these, times gain.

    All such matrices are equally likely (Haar measure). A deep linear network of them keeps the length of what goes
    through exactly, not only in the mean.

    Parameters
    ----------
    shape : tuple of ints or None
        Of the weights, two axes or more; None takes out's. All axes after the first are taken together: a convolution's
        (out, in, kh, kw) is a matrix of out rows.
    gain : float, default 1
        Not negative; the function of this name knows it for an activation.
    dtype : float32 or float64, default float32
        Of the result; `out` decides if it is given. float32 is the float64 result, rounded.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random, Philox or None
        Source of the numbers, as for uniform. What LAPACK makes of them may differ from machine to machine by rounding.
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
        If shape has less than two axes, is negative or not that of out, gain is negative or not finite, rng is out of
        range, or out is read-only. Nothing is written or drawn then.

    References
    ----------
    Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
    2014; Mezzadri, "How to generate random matrices from the classical compact groups", 2007.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> w = nf.init.orthogonal((300, 100), rng=0)
    >>> np.allclose(w.T @ w, np.eye(100), atol=1e-6)
    True
    """
    gain = _checks.finite_not_negative(gain, "gain")
    array = _target(shape, dtype, out)
    _check_axes(array.shape)
    rows, columns = array.shape[0], math.prod(array.shape[1:])
    tall = max(rows, columns), min(rows, columns)
    q, r = np.linalg.qr(_stream(rng).normal(tall, dtype=np.float64))
    # The factors are unique, and q therefore as evenly distributed as the numbers, only with a positive diagonal of r.
    q *= np.copysign(gain, np.diag(r))
    array[...] = (q if rows >= columns else q.T).reshape(array.shape)
    return array


# ---- what the spread follows from ----


def gain(activation: Activation, *, negative_slope: float | None = None) -> float:
    """By how much weights of variance 1 / fan_in are to be scaled so that what follows the layer keeps its spread.

    Parameters
    ----------
    activation : str
        ============== ==============================
        activation     gain
        ============== ==============================
        ``linear``     1
        ``sigmoid``    1
        ``tanh``       5 / 3
        ``relu``       sqrt(2)
        ``leaky_relu`` sqrt(2 / (1 + negative_slope**2))
        ``selu``       3 / 4
        ============== ==============================
    negative_slope : float, optional
        Of leaky_relu, 0.01 if it is not given; of PReLU its first weight.

    Returns
    -------
    gain : float
        As ``torch.nn.init.calculate_gain``. Those of ReLU and leaky ReLU follow from their second moments. That of tanh
        is a convention, and that of SELU was found by experiment; weights that make SELUs normalize themselves are
        those of lecun_normal. For others, such as GELU, there is no agreed one; people take ReLU's.

    Raises
    ------
    TypeError
        If negative_slope is no real number.
    ValueError
        If the activation is not one of these, or negative_slope is not finite or not of this activation.

    References
    ----------
    He et al., "Delving deep into rectifiers", 2015; PyTorch, ``torch.nn.init.calculate_gain``.

    Examples
    --------
    >>> import nnfast as nf
    >>> nf.init.gain("relu"), nf.init.gain("leaky_relu", negative_slope=1)
    (1.4142135623730951, 1.0)
    """
    found = _GAINS[_checks.one_of(activation, _GAINS, "activation")]
    if activation != "leaky_relu":
        if negative_slope is not None:
            raise ValueError(f"negative_slope must be None for {activation}, got {negative_slope}")
        return found
    slope = _checks.finite(0.01 if negative_slope is None else negative_slope, "negative_slope")
    return math.sqrt(2) / math.hypot(1, slope)


def fans(shape: int | tuple[int, ...], layout: Layout | None = None) -> tuple[int, int]:
    """How many inputs a unit of a layer sums up, and how many outputs an input goes to, by the weights' shape.

    Parameters
    ----------
    shape : tuple of ints
        (in, out) of dense weights, (out, in, ...) of convolution weights with any number of kernel axes.
    layout : "dense", "conv" or None
        None says dense for two axes and conv for more. "conv" for two axes is also that of ``torch.nn.Linear``,
        (out, in).

    Returns
    -------
    fan_in, fan_out : int
        (in, out), or both times the size of the kernel: (in kh kw, out kh kw).

    Raises
    ------
    TypeError
        If shape is no tuple of ints.
    ValueError
        If shape is negative or has less than two axes, more than two axes are called dense, or layout is unknown.

    Examples
    --------
    >>> import nnfast as nf
    >>> nf.init.fans((784, 512)), nf.init.fans((64, 32, 3, 3))
    ((784, 512), (288, 576))
    """
    sides = _arrays.sides_of(shape)
    _check_axes(sides)
    if layout is None:
        layout = "dense" if len(sides) == 2 else "conv"
    first, second, *kernel = sides
    if _checks.one_of(layout, ("dense", "conv"), "layout") == "conv":
        size = math.prod(kernel)
        return second * size, first * size
    if kernel:
        raise ValueError(f"shape must have two axes with layout 'dense', got {shape}")
    return first, second


def by_name(name: str) -> Initialiser:
    """The initialiser of a name.

    Parameters
    ----------
    name : str
        That of a function here which needs nothing but a shape: "zeros", "orthogonal", "xavier_normal",
        "xavier_uniform", "he_normal", "he_uniform", "lecun_normal" or "lecun_uniform". "xavier", "he" and "lecun" are
        short for the normal ones. "glorot" and "kaiming" may stand for "xavier" and "he", the same people's other
        names.

    Returns
    -------
    initialiser : function
        To be called with a shape and ``dtype=``, ``rng=`` or ``out=``. (Other settings of one, or one that needs more,
        can be had by functools.partial.)

    Raises
    ------
    ValueError
        If there is none of this name.

    Examples
    --------
    >>> import nnfast as nf
    >>> nf.init.by_name("he") is nf.init.he_normal
    True
    >>> from functools import partial
    >>> small = partial(nf.init.normal, std=0.01)
    >>> small((784, 512), rng=0).shape
    (784, 512)
    """
    return _BY_NAME[_checks.one_of(name, _BY_NAME, "name")]


def _initialisers() -> dict[str, Initialiser]:
    """The initialisers by the names that by_name takes."""
    known: dict[str, Initialiser] = {"zeros": zeros, "orthogonal": orthogonal}
    for names, in_normal, in_uniform in (
        (("xavier", "glorot"), xavier_normal, xavier_uniform),
        (("he", "kaiming"), he_normal, he_uniform),
        (("lecun",), lecun_normal, lecun_uniform),
    ):
        for name in names:
            known |= {name: in_normal, f"{name}_normal": in_normal, f"{name}_uniform": in_uniform}
    return known


_BY_NAME = _initialisers()
NAMES = _BY_NAME.keys()


# ---- arguments ----


def _target(shape: Shape, dtype: DTypeLike, out: NDArray[Any] | None) -> NDArray[Any]:
    """A new array, or `out`, checked."""
    if shape is None and out is None:
        raise TypeError("shape must be an int or a tuple of ints where there is no out, got None")
    return _arrays.target(shape, dtype, (np.float32, np.float64), out)


def _stream(rng: Rng) -> Philox:
    """Where numbers are drawn from. To be called when everything has been checked: it may advance a Generator."""
    return rng if isinstance(rng, Philox) else Philox(rng)


def _check_axes(shape: tuple[int, ...]) -> None:
    if len(shape) < 2:
        raise ValueError(f"shape must have two axes or more, got {shape}")


def _deviation(shape: tuple[int, ...], layout: Layout | None, mode: Mode, gain: float) -> float:
    """The standard deviation of weights."""
    gain = _checks.finite_not_negative(gain, "gain")
    fan_in, fan_out = fans(shape, layout)
    by_mode = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    fan = by_mode[_checks.one_of(mode, by_mode, "mode")]
    # A fan of 0 is that of an array without elements.
    return gain / math.sqrt(fan or 1)


# ---- draws ----


def _drawn(
    array: NDArray[Any], draw: Callable[[NDArray[np.float32]], NDArray[Any]]
) -> NDArray[Any]:
    """The array, filled by numbers of float32 in either dtype."""
    if array.dtype == np.float32:
        return draw(array)
    array[...] = draw(np.empty(array.shape, np.float32))
    return array


def _uniform(array: NDArray[Any], std: float, rng: Rng) -> NDArray[Any]:
    bound = math.sqrt(3) * std
    return uniform(low=-bound, high=bound, rng=rng, out=array)


def _normal(array: NDArray[Any], std: float, rng: Rng) -> NDArray[Any]:
    return normal(std=std, rng=rng, out=array)


_docs.finish(
    __name__,
    {
        "value": "The number.",
        "w": "The weights: out, or a new array.",
        "b": "The biases: out, or a new array.",
    },
)
