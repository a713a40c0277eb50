"""What is no array, and what says it is one and lies."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuzz.source import Source


class Refused(Exception):
    """Raised by an object that was asked for something."""


class Lying:
    """An object whose special methods do what they like."""

    def __init__(self, **methods: Any) -> None:
        self.__dict__.update(methods)


class Sequence:
    """Says it has `length` items, and has others."""

    def __init__(self, length: int, items: list[Any]) -> None:
        self.length, self.items = length, items

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at: Any) -> Any:
        return self.items[at]


class Array:
    """Is converted into something else each time."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is Refused:
            raise Refused
        return answer


class Interface:
    """Describes its memory by what is no description."""

    def __init__(self, interface: Any) -> None:
        self.__array_interface__ = interface


class Universal:
    """Takes part in ufuncs, or says so."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.shape, self.ndim, self.dtype = (3, 4), 2, np.dtype("f4")

    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
        if self.answer is Refused:
            raise Refused
        return self.answer


class Number:
    """Is asked for a number."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __float__(self) -> Any:
        if self.answer is Refused:
            raise Refused
        return self.answer

    __index__ = __float__
    __bool__ = __float__


class Shaped(np.ndarray):  # type: ignore[type-arg]
    """An array that says it has another shape, size and number of axes."""

    shape = property(lambda self: (3, 4))  # type: ignore[assignment]
    ndim = property(lambda self: 2)  # type: ignore[assignment]
    size = property(lambda self: 12)  # type: ignore[assignment]
    strides = property(lambda self: (16, 4))  # type: ignore[assignment]


class Typed(np.ndarray):  # type: ignore[type-arg]
    """An array that says it is of float32."""

    dtype = property(lambda self: np.dtype("f4"))  # type: ignore[assignment]
    itemsize = property(lambda self: 4)  # type: ignore[assignment]


class Reluctant(np.ndarray):  # type: ignore[type-arg]
    """An array of which no other can be made."""

    def __array_finalize__(self, other: Any) -> None:
        if isinstance(other, Reluctant):
            raise Refused


class Wrapping(np.ndarray):  # type: ignore[type-arg]
    """An array that comes back as no array."""

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        return "wrapped"


CLASSES: tuple[Callable[[NDArray[Any]], Any], ...] = (
    lambda array: array.view(Shaped),
    lambda array: array.view(Typed),
    lambda array: array.view(Reluctant),
    lambda array: array.view(Wrapping),
    lambda array: np.ma.MaskedArray(array),
    lambda array: array.view(np.recarray),
    lambda array: Array(array),
    lambda array: Array(array, array[..., :1] if array.ndim else array),
    lambda array: Interface(array.__array_interface__),
    lambda array: memoryview(array) if array.dtype.kind in "fiu" else array,
    lambda array: array.tolist() if array.size < 300 else array,
    lambda array: array[()],
)


def disguised(source: Source, array: NDArray[Any]) -> Any:
    """The array as an object of another class."""
    return source.pick(CLASSES)(array)


def _generator() -> Any:
    yield 1.0


STRANGERS: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: True,
    lambda: 0,
    lambda: 1,
    lambda: -1,
    lambda: 2**31,
    lambda: 2**63,
    lambda: -(2**63) - 1,
    lambda: 2**70,
    lambda: 0.5,
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: -1e308,
    lambda: 1j,
    lambda: "relu",
    lambda: "\ud800",
    lambda: b"\x00\x01",
    lambda: bytearray(b"12345678"),
    lambda: [],
    lambda: [1.0, 2.0, 3.0],
    lambda: [[1.0], [2.0, 3.0]],
    lambda: [None, "x"],
    lambda: (),
    lambda: (1, 2),
    lambda: {},
    lambda: {"a": np.ones(3)},
    lambda: {1, 2},
    lambda: object(),
    lambda: type,
    lambda: len,
    lambda: _generator(),
    lambda: np.float32(0.5),
    lambda: np.float16(3),
    lambda: np.int8(-3),
    lambda: np.array(None),
    lambda: np.array([None, 1.0, "x"], dtype=object),
    lambda: np.ones((0, 3), np.float32),
    lambda: np.datetime64("2020-01-01"),
    lambda: Sequence(3, [1.0]),
    lambda: Sequence(2, [1.0, 2.0, 3.0]),
    lambda: Sequence(-1, []),
    lambda: Array(None),
    lambda: Array([1.0, 2.0]),
    lambda: Array(Refused),
    lambda: Array(np.ones(3), np.ones(4), np.ones((2, 2))),
    lambda: Interface({"shape": (-1,), "typestr": "<f4", "data": (0, False), "version": 3}),
    lambda: Interface({"shape": (3,), "typestr": "<q9", "data": (0, False), "version": 3}),
    lambda: Interface({"shape": "x", "typestr": "<f4", "version": 3}),
    lambda: Interface(None),
    lambda: Interface(3),
    lambda: Universal(NotImplemented),
    lambda: Universal(None),
    lambda: Universal(Refused),
    lambda: Lying(__array_ufunc__=None, shape="x", dtype=3, ndim=-1),
    lambda: Lying(shape=(2**62, 2), dtype=np.dtype("f4"), ndim=2),
    lambda: Number(2),
    lambda: Number(0.5),
    lambda: Number("x"),
    lambda: Number(Refused),
)


def stranger(source: Source) -> Any:
    """Any object."""
    return source.pick(STRANGERS)()
