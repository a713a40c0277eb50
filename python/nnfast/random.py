"""Streams of random numbers that are a function of seed and position alone, drawn by all threads in parallel.

For initialisation and noise: the same numbers on every run, for every number of threads, and for any piece of an array
by itself. The words are those of Philox4x32-10 with the seed as its key and the position as its counter.
"""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nnfast import _arrays, _checks, _docs, _seeds
from nnfast._arrays import Shape
from nnfast._load import _core
from nnfast._seeds import Rng

__all__ = ["Philox"]

_BITS, _UNIFORM, _NORMAL = range(3)
_LARGEST = {np.dtype(kind): float(np.finfo(kind).max) for kind in (np.float32, np.float64)}


class Philox:
    """A stream of random numbers and a place in it.

    A stream is a sequence of words of 32 bits. A number of 32 bits takes one of them and one of 64 bits two, from the
    next even place on; drawing n numbers moves the place on by what they take. So ``Philox(seed, k).uniform(n)`` is
    ``Philox(seed).uniform(k + n)[k:]``. The place is all the state there is.

    Parameters
    ----------
    seed : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None, default None
        Of the stream: an int in [0, 2**64), the first 64 bits of a SeedSequence's state, one raw draw of a Generator's
        bit generator or of a BitGenerator, one random integer of a RandomState, or fresh entropy.
    offset : int in [0, 2**63), default 0
        The place to begin at, in words.

    Attributes
    ----------
    seed : int
    offset : int
        The place of the next word; may be set.

    Raises
    ------
    TypeError
        If seed or offset is of another type.
    ValueError
        If seed or offset is out of range.

    Notes
    -----
    Word 64 b + 16 j + c of the stream is word j of the four that Philox4x32-10 gives for the counter
    (16 b + c, 0, 0) and the key `seed`, 64 bits of both with the lower half first.

    Masks of dropout come from other streams of their seed, so that a seed may serve both.

    References
    ----------
    Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> stream = nf.random.Philox(seed=0)
    >>> x = stream.normal((2, 3))
    >>> stream.offset
    6
    >>> np.array_equal(x, nf.random.Philox(0).normal((2, 3)))
    True
    """

    __slots__ = ("_offset", "seed")

    def __init__(self, seed: Rng = None, offset: int = 0) -> None:
        self.offset = offset
        self.seed = _seeds.seed_of(seed)

    @property
    def offset(self) -> int:
        return self._offset

    @offset.setter
    def offset(self, value: int) -> None:
        value = _checks.integer(value, "offset")
        if not 0 <= value < 2**63:
            raise ValueError(f"offset must be in [0, 2**63), got {value}")
        self._offset = value

    def __repr__(self) -> str:
        return f"Philox(seed={self.seed}, offset={self.offset})"

    def bits(
        self,
        shape: Shape = None,
        *,
        dtype: DTypeLike = np.uint32,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """The words themselves.

        Parameters
        ----------
        shape : int, tuple of ints or None
            Of the result; None takes out's, or one number.
        dtype : uint32 or uint64, default uint32
            Of the result; `out` decides if it is given. A uint64 is two words, the lower half first.
        out : ndarray of one of these dtypes, optional
            Takes the result, at any strides.

        Returns
        -------
        bits : ndarray

        Raises
        ------
        TypeError
            If the dtype is another, or shape is no int or tuple of ints.
        ValueError
            If shape is negative or not that of out, out is read-only, or the stream ends before.

        Examples
        --------
        >>> import nnfast as nf
        >>> nf.random.Philox(0).bits(2)
        array([1713891541, 4175744164], dtype=uint32)
        """
        return self._fill(
            _BITS, _arrays.target(shape, dtype, (np.uint32, np.uint64), out), 0.0, 0.0
        )

    def uniform(
        self,
        shape: Shape = None,
        low: float = 0.0,
        high: float = 1.0,
        *,
        dtype: DTypeLike = np.float32,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Uniform numbers in [low, high), ``low + (high - low) u`` for a u of 24 bits in float32 and of 53 in float64.

        Parameters
        ----------
        shape : int, tuple of ints or None
            Of the result; None takes out's, or one number.
        low, high : float, default 0 and 1
            Rounded to the dtype, where they and their difference are finite; a number may round to high, never above.
        dtype : float32 or float64, default float32
            Of the result; `out` decides if it is given.
        out : ndarray of one of these dtypes, optional
            Takes the result, at any strides.

        Returns
        -------
        x : ndarray
            The same bits on every instruction set.

        Raises
        ------
        TypeError
            If the dtype is another, shape is no int or tuple of ints, or low or high is no number.
        ValueError
            If low, high or their difference is not finite or low is above high, shape is negative or not that of
            out, out is read-only, or the stream ends before.

        Examples
        --------
        >>> import nnfast as nf
        >>> x = nf.random.Philox(0).uniform(1000, -1, 1)
        >>> bool(x.min() >= -1 and x.max() < 1)
        True
        """
        array = _arrays.target(shape, dtype, (np.float32, np.float64), out)
        if low == 0 and high == 1:  # as most have it
            return self._fill(_UNIFORM, array, 0.0, 1.0)
        low, high = _checks.real(low, "low"), _checks.real(high, "high")
        if low > high:
            raise ValueError(f"low must not be above high, got {low} and {high}")
        low, high = _finite(low, "low", array.dtype), _finite(high, "high", array.dtype)
        return self._fill(_UNIFORM, array, low, _finite(high - low, "high - low", array.dtype))

    def normal(
        self,
        shape: Shape = None,
        mean: float = 0.0,
        std: float = 1.0,
        *,
        dtype: DTypeLike = np.float32,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Normal numbers, up to 6.7 standard deviations off the mean in float32 and 8.7 in float64.

        Parameters
        ----------
        shape : int, tuple of ints or None
            Of the result; None takes out's, or one number.
        mean, std : float, default 0 and 1
            Finite in the dtype; std is not negative.
        dtype : float32 or float64, default float32
            Of the result; `out` decides if it is given.
        out : ndarray of one of these dtypes, optional
            Takes the result, at any strides.

        Returns
        -------
        x : ndarray
            The same bits on every instruction set with fused multiply-add.

        Raises
        ------
        TypeError
            If the dtype is another, shape is no int or tuple of ints, or mean or std is no number.
        ValueError
            If mean or std is not finite or std is negative, shape is negative or not that of out, out is read-only,
            or the stream ends before.

        References
        ----------
        Box, Muller, "A note on the generation of random normal deviates", 1958.

        Examples
        --------
        >>> import nnfast as nf
        >>> x = nf.random.Philox(0).normal(100_000, mean=1, std=0.1)
        >>> round(float(x.mean()), 3), round(float(x.std()), 3)
        (1.0, 0.1)
        """
        array = _arrays.target(shape, dtype, (np.float32, np.float64), out)
        if mean == 0 and std == 1:
            return self._fill(_NORMAL, array, 0.0, 1.0)
        mean, std = _finite(mean, "mean", array.dtype), _finite(std, "std", array.dtype)
        if std < 0:
            raise ValueError(f"std must not be negative, got {std}")
        return self._fill(_NORMAL, array, mean, std)

    def _fill(self, kind: int, array: NDArray[Any], first: float, second: float) -> NDArray[Any]:
        if not array.size:
            return array
        words = array.itemsize // 4
        element = -(-self._offset // words)
        end = (element + array.size) * words
        if end >= 2**63:
            raise ValueError(f"offset must leave room for {array.size} numbers, got {self._offset}")
        _core.fill_random(kind, array, self.seed, element, first, second)
        self._offset = end
        return array


def _finite(value: float, name: str, dtype: np.dtype[Any]) -> float:
    """value, rounded to the dtype."""
    number = _checks.real(value, name)
    if not abs(number) <= _LARGEST[dtype]:
        raise ValueError(f"{name} must be finite in {dtype}, got {number}")
    return float(dtype.type(number))


_docs.finish(
    __name__,
    {
        "bits": "The next words of the stream.",
    },
)
