"""What a benchmark case says of a kernel: its inputs, what it computes, how it is called, what it must move."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Values = Mapping[str, float]
Call = Callable[[], Any]
Forms = dict[
    str, Call
]  # ways of calling one thing ("out", "allocating"), of which the fastest counts


@dataclass(frozen=True)
class Case:
    """A public kernel of nnfast in the suite.

    kernel       its name, also that of the operation with the peers; a variant may follow a space
    inputs       (n, rng) -> named arrays, floating ones in float64; n is about the number of elements
    plain        the operation as people write it in NumPy, arrays by name: a peer, and in float64 the reference
    forms        the same arrays -> calls of nnfast, each returning what `plain` returns, or the first of it
    values       scalars that nnfast and the peers are given
    accepts      results are random or near: `plain` gives their kind and size alone; what is wrong with one, or None
    elementwise  a ufunc, or called as one is
    in_place     results overwrite inputs, as those of an optimizer do
    """

    kernel: str
    inputs: Callable[[int, np.random.Generator], dict[str, Array]]
    plain: Callable[..., Any]
    forms: Callable[..., Forms]
    values: dict[str, float] = field(default_factory=dict)
    accepts: Callable[[Arrays, Values, Array], str | None] | None = None
    in_place: bool = False
    elementwise: bool = False

    def problem(self, n: int, dtype: np.dtype[Any], seed: int = 0) -> "Problem":
        """The case at one size and dtype."""
        wide = self.inputs(n, np.random.default_rng(seed))
        arrays = {name: narrow(array, dtype) for name, array in wide.items()}
        expected = results(self.plain(**widen(arrays)))
        return Problem(self, arrays, tuple(narrow(array, dtype) for array in expected))


@dataclass(frozen=True)
class Problem:
    """Arrays that candidates share and only read, and what they have to give."""

    case: Case
    arrays: dict[str, Array]
    expected: tuple[Array, ...]

    @property
    def bytes(self) -> int:
        """Every input read once and every result written once."""
        return sum(a.nbytes for a in (*self.arrays.values(), *self.expected))

    @property
    def working_set(self) -> int:
        """Bytes of the distinct arrays, which decide in which cache they lie."""
        inputs = sum(a.nbytes for a in self.arrays.values())
        return inputs if self.case.in_place else self.bytes

    @property
    def size(self) -> int:
        """Elements of the largest array."""
        return max(a.size for a in self.arrays.values())

    def forms(self) -> Forms:
        """The calls of nnfast."""
        return self.case.forms(**self.arrays)

    def plain(self) -> Forms:
        """The call in plain NumPy."""
        arrays = copies(self.arrays)
        return {"allocating": lambda: self.case.plain(**arrays)}

    def check(self, given: Any) -> str | None:
        """What is wrong with a candidate's results, or None."""
        if self.case.accepts:
            return self.case.accepts(self.arrays, self.case.values, np.asarray(results(given)[0]))
        for actual, expected in zip(results(given), self.expected, strict=False):
            if np.shape(actual) != expected.shape:
                return f"shape {np.shape(actual)}, expected {expected.shape}"
            if not expected.size:
                continue
            # Peers add in float32, and errors grow with the length of their sums.
            tolerance = np.finfo(expected.dtype).eps * 2e3 if expected.dtype.kind == "f" else 0
            scale = float(np.max(np.abs(expected)))
            error = float(np.max(np.abs(np.asarray(actual, expected.dtype) - expected)))
            if not error <= tolerance * scale:
                return f"off by {error:.3g} where the largest value is {scale:.3g}"
        return None


def results(given: Any) -> tuple[Any, ...]:
    """What a call returned, as a tuple of arrays."""
    return tuple(given) if isinstance(given, tuple | list) else (given,)


def narrow(array: Any, dtype: np.dtype[Any]) -> Array:
    """Floating arrays in the case's dtype, others as they are."""
    array = np.asarray(array)
    return array.astype(dtype) if array.dtype.kind == "f" else array


def widen(arrays: Arrays) -> dict[str, Array]:
    """Floating arrays in float64: copies, which an update in place may change."""
    return {name: narrow(np.array(array), np.dtype(np.float64)) for name, array in arrays.items()}


def copies(arrays: Arrays) -> dict[str, Array]:
    """Arrays that an update in place may change."""
    return {name: array.copy() for name, array in arrays.items()}


def square(n: int) -> tuple[int, int]:
    """A matrix of about n elements."""
    side = max(1, round(n**0.5))
    return side, side


def normal(*names: str, columns: int | None = None) -> Callable[..., dict[str, Array]]:
    """Inputs of a standard normal distribution, flat or in rows."""

    def make(n: int, rng: np.random.Generator) -> dict[str, Array]:
        shape = (n,) if columns is None else (max(1, n // columns), columns)
        return {name: rng.standard_normal(shape) for name in names}

    return make
