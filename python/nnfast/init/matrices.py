"""Orthogonal matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nnfast import _checks
from nnfast._arrays import Shape
from nnfast.init.arguments import Rng, check_axes, stream, target

__all__ = ["orthogonal"]


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
    array = target(shape, dtype, out)
    check_axes(array.shape)
    rows, columns = array.shape[0], math.prod(array.shape[1:])
    tall = max(rows, columns), min(rows, columns)
    q, r = np.linalg.qr(stream(rng).normal(tall, dtype=np.float64))
    # The factors are unique, and q therefore as evenly distributed as the numbers, only with a positive diagonal of r.
    q *= np.copysign(gain, np.diag(r))
    array[...] = (q if rows >= columns else q.T).reshape(array.shape)
    return array
