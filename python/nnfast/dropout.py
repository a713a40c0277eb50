"""Dropout: masks that are a function of a seed and the position alone."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _checks, _seeds
from nnfast._load import _core
from nnfast._seeds import Rng

Mode = Literal["inverted", "vanilla"]


def dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    training: bool = True,
    mode: Mode = "inverted",
    rng: Rng = None,
    mask: NDArray[np.uint8] | None = None,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Set elements to zero with probability p.

    Parameters
    ----------
    x : array_like of float32 or float64, any shape
    p : float in [0, 1], default 0.5
        Probability of dropping an element, honoured to 2**-32. 0 is the identity, 1 gives zeros.
    training : bool, default True
        In inference nothing is dropped.
    mode : "inverted" or "vanilla"
        Inverted dropout scales what it keeps by ``1 / (1 - p)`` in training; vanilla dropout scales by ``1 - p`` in
        inference instead.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        Source of the mask. An int in [0, 2**64) or a SeedSequence gives the same mask at every call; a Generator is
        advanced by one raw draw of its bit generator, which is the seed; None takes fresh entropy.
    mask : ndarray of uint8, shape (ceil(x.size / 8),), optional
        A mask to use instead of a random one, packed as below.
    out : ndarray of x's dtype and shape, optional
        Takes y; ``out=x`` is allowed.

    Returns
    -------
    y : ndarray of x's dtype and shape
        What is dropped is 0, also where x is NaN or infinite.
    mask : ndarray of uint8, shape (ceil(x.size / 8),), or None in inference
        One bit an element, 1 where it was kept: ``numpy.packbits(kept.ravel(), bitorder="little")``.

    Raises
    ------
    TypeError
        If x is not of real numbers, rng is of another type, or mask or out has another dtype.
    ValueError
        If p or rng is out of range, mode is unknown, a shape does not match, or out is read-only or overlaps.

    References
    ----------
    Srivastava et al., "Dropout", 2014; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> y, mask = nf.dropout(np.ones(8), p=0.5, rng=0)
    >>> np.array_equal(y == 2, np.unpackbits(mask, bitorder="little"))
    True
    """
    p = _checks.real_in(p, 0, 1, "p")
    _check_mode(mode)
    if not training:
        x, y = _core.checked_output(x, out)
        return np.multiply(x, 1 - p if mode == "vanilla" else 1.0, out=y), None
    seed = 0 if mask is not None else _seeds.seed_of(rng)
    return _core.dropout(x, p, _scale(p, mode), seed, mask, out)


def dropout_backward(
    dy: ArrayLike,
    mask: NDArray[np.uint8] | None,
    p: float = 0.5,
    *,
    mode: Mode = "inverted",
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient of dropout in training: dy where the element was kept, scaled as it was, else 0.

    Parameters
    ----------
    dy : array_like of float32 or float64
        Gradient of the loss by y.
    mask : ndarray of uint8, shape (ceil(dy.size / 8),)
        What dropout returned.
    p : float in [0, 1], default 0.5
    mode : "inverted" or "vanilla"
        Both as given to dropout.
    out : ndarray of dy's dtype and shape, optional
        ``out=dy`` is allowed.

    Returns
    -------
    dx : ndarray of dy's dtype and shape

    Raises
    ------
    TypeError
        If dy is not of real numbers, or mask or out has another dtype.
    ValueError
        If p is out of range, mode is unknown, a shape does not match, or out is read-only or overlaps.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.dropout_backward(np.ones(4), np.array([0b0101], dtype=np.uint8), p=0.5)
    array([2., 0., 2., 0.])
    """
    p = _checks.real_in(p, 0, 1, "p")
    _check_mode(mode)
    return _core.dropout_backward(dy, mask, _scale(p, mode), out)


def _scale(p: float, mode: Mode) -> float:
    return 1.0 if mode == "vanilla" or p == 1 else 1 / (1 - p)


def _check_mode(mode: str) -> None:
    if mode not in ("inverted", "vanilla"):
        raise ValueError(f"mode must be 'inverted' or 'vanilla', got {mode!r}")
