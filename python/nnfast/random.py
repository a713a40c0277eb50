"""Streams of random numbers that are a function of seed and position alone, drawn by all threads in parallel.

For initialisation, noise and sampling: the same numbers on every run, for every number of threads, and for any piece of
an array by itself. The words are those of Philox4x32-10 with the seed as its key and the position as its counter.
"""

from __future__ import annotations  # numpy.random is not loaded before it is needed

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from nnfast import _arrays, _checks, _docs, _seeds
from nnfast._arrays import Shape
from nnfast._load import _core
from nnfast._seeds import Rng

__all__ = ["Philox"]

_BITS, UNIFORM, _NORMAL, _EXPONENTIAL = range(4)
_INTEGERS = (np.int32, np.int64, np.uint32, np.uint64)
# With less than this share of the normal distribution between the bounds, most normal numbers would be rejected.
_LEAST_KEPT = 0.3
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
            return self._fill(UNIFORM, array, 0.0, 1.0)
        return self._fill(UNIFORM, array, *low_and_range(low, high, array.dtype))

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

    def exponential(
        self,
        shape: Shape = None,
        scale: float = 1.0,
        *,
        dtype: DTypeLike = np.float32,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Exponential numbers, up to 22 times the mean in float32 and 37 times in float64.

        ``-scale * log(u)`` for a u in (0, 1] of 31 bits in float32 and of 53 in float64.

        Parameters
        ----------
        shape : int, tuple of ints or None
            Of the result; None takes out's, or one number.
        scale : float, default 1
            The mean, the inverse of the rate. Finite in the dtype; not negative.
        dtype : float32 or float64, default float32
            Of the result; `out` decides if it is given.
        out : ndarray of one of these dtypes, optional
            Takes the result, at any strides.

        Returns
        -------
        x : ndarray
            Not negative; the same bits on every instruction set with fused multiply-add.

        Raises
        ------
        TypeError
            If the dtype is another, shape is no int or tuple of ints, or scale is no number.
        ValueError
            If scale is negative or not finite, shape is negative or not that of out, out is read-only, or the stream
            ends before.

        See Also
        --------
        choice : whose draws without replacement are made of them.

        Examples
        --------
        >>> import nnfast as nf
        >>> x = nf.random.Philox(0).exponential(100_000, scale=2)
        >>> bool(x.min() >= 0), round(float(x.mean()), 1)
        (True, 2.0)
        """
        array = _arrays.target(shape, dtype, (np.float32, np.float64), out)
        scale = _finite(scale, "scale", array.dtype)
        if scale < 0:
            raise ValueError(f"scale must not be negative, got {scale}")
        return self._fill(_EXPONENTIAL, array, scale, 0.0)

    def truncated_normal(
        self,
        shape: Shape = None,
        mean: float = 0.0,
        std: float = 1.0,
        low: float = -2.0,
        high: float = 2.0,
        *,
        dtype: DTypeLike = np.float32,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Normal numbers without those outside ``[mean + low * std, mean + high * std]``.

        Parameters
        ----------
        shape : int, tuple of ints or None
            Of the result; None takes out's, or one number.
        mean, std : float, default 0 and 1
            Of the whole distribution. Finite in the dtype; std is not negative.
        low, high : float, default -2 and 2
            Bounds, in standard deviations from the mean. Finite, in any place.
        dtype : float32 or float64, default float32
            Of the result; `out` decides if it is given.
        out : ndarray of one of these dtypes, optional
            Takes the result, at any strides.

        Returns
        -------
        x : ndarray
            Never outside the bounds as the dtype rounds them; the same bits on every instruction set with fused
            multiply-add.

        Raises
        ------
        TypeError
            If the dtype is another, shape is no int or tuple of ints, or a number is none.
        ValueError
            If mean, std, low or high is not finite, std is negative, low is above high, shape is negative or not that
            of out, out is read-only, or the stream ends before.

        See Also
        --------
        nnfast.init.truncated_normal : the same numbers as initial weights.

        Notes
        -----
        By rejection, each element by itself: one that is rejected is replaced by that of the same place in another
        stream of the seed, so any piece of an array can be drawn by itself. Where the bounds hold 30 % of the normal
        distribution or more, candidates are the numbers of ``normal``. Elsewhere they are distributed between the
        bounds evenly or, where the density falls fast, exponentially, and kept with a probability proportional to the
        ratio of the densities; they are computed in float64, so that a float32 takes two words there too.

        References
        ----------
        Robert, "Simulation of truncated normal variables", 1995.

        Examples
        --------
        >>> import nnfast as nf
        >>> x = nf.random.Philox(0).truncated_normal(100_000, low=-1, high=3)
        >>> bool(x.min() >= -1 and x.max() <= 3), round(float(x.mean()), 2)
        (True, 0.28)
        """
        array = _arrays.target(shape, dtype, (np.float32, np.float64), out)
        mean, std = _checks.real(mean, "mean"), _checks.real(std, "std")
        _finite(mean, "mean", array.dtype)
        if _finite(std, "std", array.dtype) < 0:
            raise ValueError(f"std must not be negative, got {std}")
        low, high = _checks.interval(low, high)
        if math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2)) >= 2 * _LEAST_KEPT:
            return self._truncate(array, mean, std, low, high, -1.0)
        if high < 0:  # where the density is highest is to be low
            std, low, high = -std, -high, -low
        top = max(low, 0.0)
        # Up to a fall by e an even spread loses little; a rate of nearly 0 would be divided by.
        rate = top if top * (high - low) > 1 else 0.0
        if array.dtype == np.float64:
            return self._truncate(array, mean, std, low, high, rate)
        wide = self._truncate(np.empty(array.shape), mean, std, low, high, rate)
        array[...] = wide
        return array

    def integers(
        self,
        shape: Shape = None,
        low: int = 0,
        high: int | None = None,
        *,
        dtype: DTypeLike = np.int64,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Integers in [low, high), each equally likely.

        Parameters
        ----------
        shape : int, tuple of ints or None
            Of the result; None takes out's, or one number.
        low : int, default 0
            The least number.
        high : int, optional
            Must be given: what all numbers are below, above low. Both bounds may be those of the dtype.
        dtype : int32, int64, uint32 or uint64, default int64
            Of the result; `out` decides if it is given. The numbers do not depend on it.
        out : ndarray of one of these dtypes, optional
            Takes the result, at any strides.

        Returns
        -------
        x : ndarray
            The same on every instruction set.

        Raises
        ------
        TypeError
            If the dtype is another, shape is no int or tuple of ints, or low or high is no int.
        ValueError
            If high is not above low, a bound is out of the dtype's range, shape is negative or not that of out, out is
            read-only, or the stream ends before.

        Notes
        -----
        A number is the upper half of the product of ``high - low`` and two words of the stream, whatever the dtype.
        There is no bias: words that some numbers would have one more of than others, at most ``high - low`` of 2**64,
        are replaced by those of the same place in another stream of the seed. So any piece of an array can be drawn by
        itself.

        References
        ----------
        Lemire, "Fast random integer generation in an interval", 2019.

        Examples
        --------
        >>> import nnfast as nf
        >>> nf.random.Philox(0).integers(10, 1, 7)
        array([6, 5, 3, 4, 4, 4, 3, 4, 3, 3])
        """
        array = _arrays.target(shape, dtype, _INTEGERS, out)
        low, high = _checks.integer(low, "low"), _checks.integer(high, "high")
        if low >= high:
            raise ValueError(f"high must be above low, {low}, got {high}")
        limits = np.iinfo(array.dtype)
        if low < limits.min:
            raise ValueError(f"low must be at least {limits.min} for {array.dtype}, got {low}")
        if high > int(limits.max) + 1:
            raise ValueError(
                f"high must be at most {int(limits.max) + 1} for {array.dtype}, got {high}"
            )
        return self._integers(array, low, high)

    def permutation(self, x: int | ArrayLike, axis: int = 0) -> NDArray[Any]:
        """The numbers below x in random order, or a shuffled copy of an array, every order equally likely.

        Parameters
        ----------
        x : int or array_like
            How many numbers; or what is shuffled along the axis.
        axis : int, default 0
            Of an array, the axis whose entries change places.

        Returns
        -------
        permuted : ndarray of int64, shape (x,), or of x's dtype and shape
            A new array.

        Raises
        ------
        TypeError
            If axis is no int.
        ValueError
            If x is negative or has no axes, the axis does not exist, or the stream ends before.

        See Also
        --------
        choice : some of the entries.

        Notes
        -----
        Takes two words of the stream, which are the seed of the order. Every number goes to one of up to 2**16 buckets
        by a random word, and each bucket is shuffled by Fisher and Yates's method: all threads take part, and their
        number does not matter.

        References
        ----------
        Rao, "Generation of random permutations of given number of elements using random sampling numbers", 1961;
        Sandelius, "A simple randomization procedure", 1962.

        Examples
        --------
        >>> import numpy as np, nnfast as nf
        >>> order = nf.random.Philox(0).permutation(6)
        >>> np.sort(order)
        array([0, 1, 2, 3, 4, 5])
        >>> letters = nf.random.Philox(0).permutation(np.array(list("abcdef")))
        >>> np.array_equal(letters, np.array(list("abcdef"))[order])
        True
        """
        if _is_count(x):
            return self._permuted(_checks.integer_from(x, 0, "x"))
        array = _with_axes(x, "x")
        axis = _arrays.axis_of(axis, array, "x")
        return np.take(array, self._permuted(array.shape[axis]), axis)

    def choice(
        self,
        a: int | ArrayLike,
        shape: Shape = None,
        *,
        replace: bool = True,
        p: ArrayLike | None = None,
        axis: int = 0,
    ) -> NDArray[Any]:
        """Entries of an array, or numbers below a, drawn at random.

        Parameters
        ----------
        a : int or array_like
            How many numbers; or what entries are drawn from along the axis.
        shape : int, tuple of ints or None, default None
            How many are drawn; None is one, without an axis.
        replace : bool, default True
            Whether an entry may be drawn again. The order of those drawn without replacement is random, too.
        p : array_like of float, shape (n,), optional
            The probabilities of the n entries, of sum 1. Without replacement those that are left are scaled up after
            every draw. None: all are equal.
        axis : int, default 0
            Of an array, the axis along which the entries lie.

        Returns
        -------
        drawn : ndarray of int64 and this shape, or of a's dtype and shape, in which it takes the place of the axis

        Raises
        ------
        TypeError
            If shape is no int or tuple of ints, p is not of real numbers, or axis is no int.
        ValueError
            If there is nothing to draw from, more is drawn without replacement than there is or than p is positive
            for, p has another shape, a negative number, NaN or another sum than 1, shape is negative, the axis does
            not exist, or the stream ends before.

        See Also
        --------
        permutation : all entries.
        integers : numbers of any bounds.

        Notes
        -----
        With replacement a draw is a number of ``integers`` or, with p, the first entry whose cumulated probability is
        above a float64 number of ``uniform``: a function of the seed and its place alone. Without replacement all draws
        follow from one seed, two words of the stream, and with p they are the entries with the least of the numbers
        ``exponential() / p``.

        References
        ----------
        Efraimidis, Spirakis, "Weighted random sampling with a reservoir", 2006.

        Examples
        --------
        >>> import numpy as np, nnfast as nf
        >>> drawn = nf.random.Philox(0).choice(["a", "b", "c"], 10_000, p=[0.5, 0.2, 0.3])
        >>> round(float(np.mean(drawn == "a")), 2)
        0.5
        >>> np.unique(nf.random.Philox(0).choice(1000, 1000, replace=False)).size
        1000
        """
        counted = _is_count(a)
        array = np.empty(0) if counted else _with_axes(a, "a")
        if not counted:
            axis = _arrays.axis_of(axis, array, "a")
        n = _checks.integer_from(a, 0, "a") if counted else array.shape[axis]
        sides = () if shape is None else _arrays.sides_of(shape)
        count = math.prod(sides)
        weights = None if p is None else _probabilities(p, n)
        if n == 0 and count:
            raise ValueError("a must have entries to draw from, got 0")
        left = n if weights is None else int(np.count_nonzero(weights))
        if not replace and count > left:
            raise ValueError(
                f"shape must have at most {left} elements without replacement, got {count}"
            )
        draw = self._drawn if replace else self._drawn_once
        found = (draw(n, count, weights) if count else np.empty(0, np.int64)).reshape(sides)
        return found if counted else np.take(array, found, axis)

    # ---- what the methods share ----

    def _permuted(self, n: int) -> NDArray[np.int64]:
        order = np.empty(n, np.int64)
        if n:
            _core.permutation(order, self._seed_of_order())
        return order

    def _drawn(self, n: int, count: int, weights: NDArray[np.float64] | None) -> NDArray[np.int64]:
        """Numbers below n with replacement."""
        if weights is None:
            return self._integers(np.empty(count, np.int64), 0, n)
        cumulated = weights.cumsum()
        cumulated /= cumulated[-1]
        return cumulated.searchsorted(self.uniform(count, dtype=np.float64), side="right")

    def _drawn_once(
        self, n: int, count: int, weights: NDArray[np.float64] | None
    ) -> NDArray[np.int64]:
        """Numbers below n without replacement."""
        if weights is None and count > n // 8:
            return self._permuted(n)[:count]
        stream = Philox(self._seed_of_order())
        if weights is None:
            return _distinct(stream, n, count)
        with np.errstate(divide="ignore", invalid="ignore"):
            times = stream.exponential(n, dtype=np.float64) / weights
        times[weights == 0] = np.inf
        first = np.argpartition(times, count - 1)[:count]
        return first[np.argsort(times[first], kind="stable")]

    def _seed_of_order(self) -> int:
        return int(self.bits(dtype=np.uint64))

    def _integers(self, array: NDArray[Any], low: int, high: int) -> NDArray[Any]:
        element, end = self._places(array, 2)
        if array.size:
            _core.fill_integers(array, self.seed, element, low % 2**64, (high - low) % 2**64)
        self._offset = end
        return array

    def _truncate(
        self, array: NDArray[Any], mean: float, std: float, low: float, high: float, rate: float
    ) -> NDArray[Any]:
        element, end = self._places(array, array.itemsize // 4)
        if array.size:
            _core.fill_truncated(array, self.seed, element, mean, std, low, high, rate)
        self._offset = end
        return array

    def _fill(self, kind: int, array: NDArray[Any], first: float, second: float) -> NDArray[Any]:
        element, end = self._places(array, array.itemsize // 4)
        if array.size:
            _core.fill_random(kind, array, self.seed, element, first, second)
        self._offset = end
        return array

    def _places(self, array: NDArray[Any], words: int) -> tuple[int, int]:
        """The first element of the stream that an array of elements of so many words takes, and the word after them."""
        if not array.size:
            return 0, self._offset
        element = -(-self._offset // words)
        end = (element + array.size) * words
        if end >= 2**63:
            raise ValueError(f"offset must leave room for {array.size} numbers, got {self._offset}")
        return element, end


def _is_count(value: Any) -> bool:
    """Whether it is a number of entries, and no array of them."""
    return hasattr(value, "__index__") and not getattr(value, "ndim", 0)


def _with_axes(value: Any, name: str) -> NDArray[Any]:
    array = _arrays.plain(value, name)
    if not array.ndim:
        raise ValueError(f"{name} must be an int or have an axis, got {value!r}")
    return array


def _probabilities(p: Any, n: int) -> NDArray[np.float64]:
    """The probabilities of n entries."""
    given = _arrays.floating(p, "p")
    if given.shape != (n,):
        raise ValueError(f"p must have shape ({n},), got {given.shape}")
    weights = given.astype(np.float64)
    if not (weights >= 0).all():
        raise ValueError("p must have no negative number and no NaN")
    total = float(weights.sum())
    if n and not abs(total - 1) <= math.sqrt(np.finfo(given.dtype).eps):  # as NumPy has it
        raise ValueError(f"p must have the sum 1, got {total!r}")
    return weights


def _distinct(stream: Philox, n: int, count: int) -> NDArray[np.int64]:
    """The first `count` numbers below n of a stream that differ from all before."""
    drawn = np.empty(0, np.int64)
    while True:
        more = stream.integers(count + count // 4 + 8, 0, n)
        drawn = np.concatenate([drawn, more])
        first = np.unique(drawn, return_index=True)[1]
        if first.size >= count:
            first.sort()
            return drawn[first[:count]]


def low_and_range(low: float, high: float, dtype: np.dtype[Any]) -> tuple[float, float]:
    """What fill_random takes for uniform numbers in [low, high): low, and high - low, in the dtype."""
    low, high = _checks.real(low, "low"), _checks.real(high, "high")
    if low > high:
        raise ValueError(f"low must not be above high, got {low} and {high}")
    low, high = _finite(low, "low", dtype), _finite(high, "high", dtype)
    return low, _finite(high - low, "high - low", dtype)


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
