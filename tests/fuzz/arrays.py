"""Arrays of any dtype, shape, strides and place in one memory."""

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuzz.memory import SIZE, Memory
from fuzz.source import Source
from fuzz.strangers import disguised

FLOATS = [np.dtype(kind) for kind in ("f4", "f4", "f4", "f8", "f8", "f2")]
OTHERS = [
    np.dtype(kind)
    for kind in ("i8", "i4", "i2", "u1", "b1", "u8", ">f4", ">f8", ">f2", ">i4", "g", "c8", "c16")
] + [np.dtype(kind) for kind in ("M8[s]", "m8[s]", "S3", "U2", "V5", "f4,i2", "(2,)f4")]
SIDES = (3, 4, 1, 2, 8, 5, 16, 17, 0, 33, 64, 7, 100, 130, 257)
HUGE = ((2**40,), (2**20, 2**20), (2**60,), (3, 2**58), (2**31, 2**29), (1, 2**40, 1), (2**58, 3))
# Elements of a plain array, so that several of float64 have room.
MOST = 900


@dataclass
class Frame:
    """What a call's arrays have in common, and what came of them."""

    name: str
    source: Source
    memory: Memory
    shape: tuple[int, ...]
    axis: int
    dtype: np.dtype[Any]
    huge: bool
    last: int = 0
    made: list[Any] = field(default_factory=list)

    @classmethod
    def grown(cls, name: str, source: Source, memory: Memory, *, huge: bool) -> "Frame":
        """The plan of a call; `huge` allows arrays of more elements than there is memory."""
        if huge and source.rarely(64):
            shape = source.pick(HUGE)
            return cls(name, source, memory, shape, source.below(len(shape)), np.dtype("f4"), True)
        ndim = source.pick((2, 2, 2, 1, 4, 3, 0, 5, 12, 33, 64))
        shape = _sides(source, ndim)
        axis = source.pick((1, -1, 0, 2)) if ndim else 0
        dtype = source.pick(FLOATS)
        return cls(name, source, memory, shape, axis, dtype, False)

    @property
    def side(self) -> int:
        """The length of the call's axis."""
        return self.shape[self.axis % len(self.shape)] if self.shape else 1

    @property
    def elements(self) -> int:
        """Of the call's shape."""
        return prod(self.shape)


def _sides(source: Source, ndim: int) -> tuple[int, ...]:
    """A shape of so many axes, of few elements."""
    sides: list[int] = []
    for _ in range(ndim):
        side = 1 if len(sides) > 6 else source.pick(SIDES)
        sides.append(min(side, MOST // max(1, prod(sides))))
    return tuple(sides)


def shapes(frame: Frame, usual: int) -> tuple[int, ...]:
    """The shape of the call, or one that is made of it; `usual` is the most frequent choice."""
    choice = frame.source.below(32)
    choice = usual if choice < 19 else choice - 19
    shape, axis = frame.shape, frame.axis % max(1, len(frame.shape))
    rest = (*shape[:axis], *shape[axis + 1 :])
    match choice:
        case 0:
            return shape
        case 1:
            return (frame.side,)
        case 2:
            return rest
        case 3:
            return (*shape[:axis], frame.side // 2, *shape[axis + 1 :])
        case 4:
            return (-(-frame.elements // 8),)
        case 5:
            return shape[:1]
        case 6:
            return shape[:-1]
        case 7:
            return shape[::-1]
        case 8:
            return ()
        case 9:
            return (*shape, 1)[-64:]
        case 10:
            return (-(-prod(shape[:2]) // 8),)
        case 11:
            return shape[:2]
        case _:
            return _sides(frame.source, frame.source.below(5))


def _strides(frame: Frame, shape: tuple[int, ...], itemsize: int) -> list[int]:
    """Of any order, sign and spacing; zero where an axis is broadcast."""
    source = frame.source
    kind = source.pick((0, 0, 0, 1, 2, 3, 4, 5))
    order = list(range(len(shape)))[::-1]
    if kind == 1:
        order.reverse()
    elif kind == 2 and order:
        turn = source.below(len(order))
        order = order[turn:] + order[:turn]
    step = itemsize
    if kind == 3:
        step += source.pick((itemsize, 1, 2 * itemsize, 64))
    strides = [0] * len(shape)
    for axis in order:
        strides[axis] = step
        step *= max(1, shape[axis])
    if kind >= 4 and strides:
        axis = source.below(len(strides))
        strides[axis] *= -1 if kind == 4 else 0
    return strides


def array(frame: Frame, shape: tuple[int, ...], dtype: np.dtype[Any], *, written: bool) -> Any:
    """An array of the call's memory, now and then read-only, or of a class of its own."""
    source = frame.source
    if source.rarely(16):
        dtype = source.pick(FLOATS + OTHERS)
    if prod(shape) * dtype.itemsize > SIZE // 2:
        return virtual(frame, shape, dtype)
    strides = _strides(frame, shape, dtype.itemsize)
    reach = [(side - 1) * stride for side, stride in zip(shape, strides, strict=True)]
    low = sum(r for r in reach if r < 0) if prod(shape) else 0
    high = dtype.itemsize + (sum(r for r in reach if r > 0) if prod(shape) else 0)
    if high - low > SIZE:
        return virtual(frame, shape, dtype)
    start = _place(frame, high - low)
    frame.last = start
    made = frame.memory.array(shape, dtype, start - low, tuple(strides))
    if written:
        frame.memory.allow(shape, dtype.itemsize, start - low, tuple(strides))
    special = source.below(24)
    if special == 23:
        made.flags.writeable = False
    elif special == 22:
        made = disguised(source, made)
    return made


def _place(frame: Frame, extent: int) -> int:
    """Where an array's lowest byte lies: apart from the others, at an end of the memory, or over the last one."""
    source, room = frame.source, SIZE - extent
    match source.pick((0, 0, 0, 0, 1, 2, 3, 4, 5)):
        case 0:  # a slot of its own where there is room
            slot = len(frame.made) * 4096
            frame.made.append(None)
            return slot if slot <= room else room
        case 1:
            return room
        case 2:
            return 0
        case 3:
            return min(frame.last, room)
        case 4:
            return min(frame.last + source.pick((4, 8, 1, 2, 64)), room)
        case _:
            return min(source.below(SIZE), room)


def virtual(frame: Frame, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A read-only array of any number of elements that are all the same one."""
    element = frame.memory.array((), dtype, 0, ())
    return np.broadcast_to(element, shape)
