"""Random numbers of a given spread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nnfast import _checks
from nnfast._arrays import Shape
from nnfast.init.arguments import Rng, stream, target

__all__ = ["normal", "truncated_normal", "uniform"]


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
    array = target(shape, dtype, out)
    _drawn(array, lambda out: stream(rng).uniform(low=low, high=high, out=out))
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
    array = target(shape, dtype, out)
    return _drawn(array, lambda out: stream(rng).normal(mean=mean, std=std, out=out))


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
    array = target(shape, dtype, out)
    _drawn(
        array,
        lambda out: stream(rng).truncated_normal(mean=mean, std=std, low=low, high=high, out=out),
    )
    if array.dtype == np.float32:
        return array
    return np.clip(array, mean + std * low, mean + std * high, out=array)


def _drawn(
    array: NDArray[Any], draw: Callable[[NDArray[np.float32]], NDArray[Any]]
) -> NDArray[Any]:
    """The array, filled by numbers of float32 in either dtype."""
    if array.dtype == np.float32:
        return draw(array)
    array[...] = draw(np.empty(array.shape, np.float32))
    return array
