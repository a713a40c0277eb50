"""The leaky rectifier whose slopes are random in training."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _seeds
from nnfast._load import _core
from nnfast._seeds import Rng
from nnfast.activations.ufuncs import UFUNCS, call

__all__ = [
    "rrelu",
    "rrelu_backward",
]


def rrelu(
    x: ArrayLike,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    *,
    training: bool = False,
    rng: Rng = None,
    slopes: NDArray[Any] | None = None,
    offset: int = 0,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Leaky rectified linear unit with random slopes: ``x where x > 0, else slope * x``, one slope an element.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, any shape
        NaN gives NaN. Other types are converted as NumPy's ufuncs do.
    lower, upper : float, default 1/8 and 1/3
        In training the slopes are uniform in [lower, upper), in inference all of them are ``(lower + upper) / 2``.
        Finite; lower is not above upper.
    training : bool, default False
        As in PyTorch.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Source of the slopes: as for dropout.
    slopes : ndarray of x's shape, optional
        Slopes to use in training in place of random ones; of x's dtype, float32 for float16.
    offset : int, default 0
        For x that is part of a larger array: the position of its first element there, in C order. With the same int as
        `rng`, the pieces of an array get the slopes of the whole.
    out : ndarray of x's dtype and shape, optional
        Takes y; ``out=x`` is allowed.

    Returns
    -------
    y : ndarray of x's dtype and shape
        Exactly x where x > 0.
    slopes : ndarray of x's shape, or None in inference
        For rrelu_backward. ``nf.random.Philox(rng).uniform(x.shape, lower, upper, dtype=x.dtype)``, of float32 for
        float16, or what was given.

    Raises
    ------
    TypeError
        If x is not of real numbers, rng is of another type, or slopes or out has another dtype.
    ValueError
        If lower is above upper or one of them not finite, rng or offset is out of range, a shape does not match, or out
        is read-only.

    See Also
    --------
    rrelu_backward : Its gradient.
    nnfast.nn.RReLU : The layer.
    torch.nn.functional.rrelu : PyTorch's.
    leaky_relu, prelu

    References
    ----------
    Xu, Wang, Chen, Li, "Empirical evaluation of rectified activations in convolutional network", 2015.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x = np.array([-24.0, 2.0])
    >>> y, slopes = nf.rrelu(x, training=True, rng=0)
    >>> bool(-8 <= y[0] <= -3), np.array_equal(y, [-24 * slopes[0], 2])
    (True, True)
    >>> nf.rrelu(x)
    (array([-5.5,  2. ]), None)
    """
    x = _arrays.floating(x, "x", float16=True)
    slope = _mean_slope(lower, upper)
    y = _arrays.output_like(out, x)
    if not training:
        return call("_leaky_relu", (x,), (slope,), {"out": y}), None
    if slopes is None:
        slopes = _random_slopes(x, float(lower), float(upper), rng, offset)
    else:
        _check_slopes(slopes, x, "x")
    return UFUNCS["_prelu"](x, slopes, out=y), slopes


def rrelu_backward(
    dy: ArrayLike,
    x: ArrayLike,
    slopes: NDArray[Any] | None = None,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    *,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient of rrelu: ``dy where x > 0, else slope * dy``.

    Parameters
    ----------
    dy : array_like of float16, float32 or float64
        Gradient of the loss with respect to y.
    x : array_like, dy's shape
        What rrelu was given; converted to dy's dtype.
    slopes : ndarray, dy's shape, or None
        What rrelu returned; None is the mean slope of inference.
    lower, upper : float, default 1/8 and 1/3
        As given to rrelu: the mean slope follows from them.
    out : ndarray of dy's dtype and shape, optional
        Takes dx; ``out=dy`` is allowed.

    Returns
    -------
    dx : ndarray of dy's dtype and shape
        Gradient of the loss with respect to x.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or slopes or out has another dtype.
    ValueError
        If lower is above upper or one of them not finite, shapes do not match, or out is read-only.

    See Also
    --------
    rrelu : The function.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.rrelu_backward(np.ones(2), np.array([-24.0, 2.0]), slopes=np.array([0.25, 0.125]))
    array([0.25, 1.  ])
    """
    dy = _arrays.floating(dy, "dy", float16=True)
    x = _arrays.floating(x, "x", float16=True)
    slope = _mean_slope(lower, upper)
    if x.shape != dy.shape:
        raise ValueError(f"x must have the shape of dy, {dy.shape}, got {x.shape}")
    x = x.astype(dy.dtype, copy=False)
    if slopes is not None:
        _check_slopes(slopes, dy, "dy")
    dx = _arrays.output_like(out, dy)
    if slopes is None:
        call("_prelu_backward", (dy, x), (slope,), {"out": dx})
    else:
        UFUNCS["_prelu_backward"](dy, x, slopes, out=dx)
    return dx


def _mean_slope(lower: float, upper: float) -> float:
    lower, upper = _checks.finite(lower, "lower"), _checks.finite(upper, "upper")
    if lower > upper:
        raise ValueError(f"upper must not be below lower, {lower}, got {upper}")
    return (lower + upper) / 2


def _random_slopes(
    x: NDArray[Any], lower: float, upper: float, rng: Rng, offset: int
) -> NDArray[Any]:
    """Those of Philox(rng).uniform, without its checks: they are most of a call on a small array."""
    place = _checks.integer_from(offset, 0, "offset")
    slopes = np.empty_like(x, _arrays.parameter_dtype(x.dtype))
    if place + slopes.size > 2**62:
        raise ValueError(f"offset must leave room for {slopes.size} slopes, got {offset}")
    kind, bounds = _slope_range(lower, upper, slopes.dtype)
    seed = _seeds.seed_of(rng)
    if slopes.size:
        _core.fill_random(kind, slopes, seed, place, *bounds)
    return slopes


@lru_cache
def _slope_range(
    lower: float, upper: float, dtype: np.dtype[Any]
) -> tuple[int, tuple[float, float]]:
    from nnfast import random  # not loaded by every import of nnfast

    return random.UNIFORM, random.low_and_range(lower, upper, dtype)


def _check_slopes(slopes: Any, x: NDArray[Any], name: str) -> None:
    """Check slopes of rrelu against the array that they are for."""
    if not isinstance(slopes, np.ndarray):
        raise TypeError(f"slopes must be a numpy.ndarray, got {type(slopes).__name__}")
    _arrays.check_unmasked(slopes, "slopes")
    dtype = _arrays.parameter_dtype(x.dtype)
    if slopes.dtype != dtype:
        raise TypeError(f"slopes must have dtype {dtype}, got {slopes.dtype}")
    if slopes.shape != x.shape:
        raise ValueError(f"slopes must have the shape of {name}, {x.shape}, got {slopes.shape}")
