"""Seeds of random streams, from whatever ``rng=`` accepts."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

import os
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

Rng: TypeAlias = """
int | np.random.Generator | np.random.BitGenerator | np.random.SeedSequence | np.random.RandomState | ModuleType | None
"""

_INTEGERS = int, np.integer


def seed_of(rng: Rng) -> int:
    """A seed in [0, 2**64).

    An int is the seed; a SeedSequence gives its first 64 bits of state, and is not changed by it; a Generator or a
    BitGenerator is advanced by one raw draw, which is the seed; a RandomState, or the module numpy.random for its
    global one, by one random integer of 64 bits; None takes fresh entropy.

    Raises
    ------
    TypeError
        If rng is of another type.
    ValueError
        If it is an int out of range.
    """
    if rng is None:
        return int.from_bytes(_fresh(), "little")
    if type(rng) is not int:
        if type(rng) is _generator:
            generator: Any = rng
            return int(generator.bit_generator.random_raw())
        draw = _draw_of(rng)
        if draw is not None:
            return int(draw())
        if isinstance(rng, np.random.SeedSequence):
            return int(rng.generate_state(1, np.uint64)[0])
        if isinstance(rng, bool) or not isinstance(rng, np.integer):
            raise TypeError(
                "rng must be an int, a numpy.random.Generator, BitGenerator, SeedSequence or RandomState, "
                f"numpy.random or None, got {type(rng).__name__}"
            )
    if not 0 <= rng < 2**64:
        raise ValueError(f"rng must be in [0, 2**64), got {rng}")
    return int(rng)


# numpy.random.Generator, once one was given: to find it in a module that is loaded late takes as long as to draw.
_generator: Any = None

# 8 bytes of the system: there is no state that threads would share, or a forked child inherit.
_fresh = partial(os.urandom, 8)


def _draw_of(rng: Any) -> Callable[[], int] | None:
    """A function that draws a seed and advances rng by it; None if rng is not advanced."""
    global _generator
    if isinstance(rng, _INTEGERS):
        return None
    random = np.random
    _generator = random.Generator
    bits = rng.bit_generator if isinstance(rng, random.Generator) else rng
    if isinstance(bits, random.BitGenerator):
        draw: Callable[[], int] = bits.random_raw
        return draw
    if rng is np.random or isinstance(rng, np.random.RandomState):
        return lambda: int(rng.randint(0, 2**64, dtype=np.uint64))
    return None


def seed_or_draw(rng: Rng) -> int | Callable[[], int | bytes]:
    """The seed, or what draws it: for who calls that when everything else has been checked, as it advances a Generator.

    What it draws is an int, or 8 bytes.

    Raises
    ------
    ValueError
        If it is an int out of range.
    """
    if rng is None:
        return _fresh
    if type(rng) is int:
        return rng if 0 <= rng < 2**64 else seed_of(rng)
    if type(rng) is _generator:
        generator: Any = rng
        draw: Callable[[], int] = generator.bit_generator.random_raw
        return draw
    return _draw_of(rng) or partial(seed_of, rng)


def generator_of(rng: Rng) -> np.random.Generator:
    """A generator of NumPy's for what needs few numbers, begun with seed_of(rng).

    Raises
    ------
    TypeError
        If rng is of another type.
    ValueError
        If it is an int out of range.
    """
    return np.random.default_rng(seed_of(rng))


def lasting(rng: Rng) -> Rng:
    """rng, for who draws from it again and again: an int and a SeedSequence, which no draw advances, as a generator.

    Raises
    ------
    TypeError
        If rng is of another type.
    ValueError
        If it is an int out of range.
    """
    return rng if rng is None or _draw_of(rng) else generator_of(rng)
