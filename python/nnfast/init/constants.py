"""One number everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nnfast import _checks
from nnfast._arrays import Shape
from nnfast.init.arguments import Rng, target

__all__ = ["constant", "zeros"]


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
    array = target(shape, dtype, out)
    array[...] = value
    return array
