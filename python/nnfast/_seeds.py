"""What ``rng=`` takes, as the seed of a stream of random bits."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

Rng: TypeAlias = "int | np.random.Generator | np.random.SeedSequence | None"


def seed_of(rng: Rng) -> int:
    """A seed in [0, 2**64).

    An int is the seed; a SeedSequence gives its first 64 bits of state, and is not changed by it; a Generator is
    advanced by one raw draw of its bit generator, which is the seed; None takes fresh entropy.

    Raises
    ------
    TypeError
        If rng is of another type.
    ValueError
        If it is an int out of range.
    """
    if type(rng) is not int:
        if isinstance(rng, np.random.Generator):
            return int(rng.bit_generator.random_raw())
        if rng is None:
            rng = np.random.SeedSequence()
        if isinstance(rng, np.random.SeedSequence):
            return int(rng.generate_state(1, np.uint64)[0])
        if isinstance(rng, bool) or not isinstance(rng, np.integer):
            raise TypeError(
                "rng must be an int, a numpy.random.Generator, a SeedSequence or None, "
                f"got {type(rng).__name__}"
            )
    if not 0 <= rng < 2**64:
        raise ValueError(f"rng must be in [0, 2**64), got {rng}")
    return int(rng)


def seed_or_draw(rng: Rng) -> int | Callable[[], int]:
    """The seed, or what draws it: for who calls that when everything else has been checked, as it advances a Generator.

    Raises
    ------
    ValueError
        If it is an int out of range.
    """
    if type(rng) is int:
        return seed_of(rng)
    if rng is not None and isinstance(rng, np.random.Generator):
        draw: Callable[[], int] = rng.bit_generator.random_raw
        return draw
    return lambda: seed_of(rng)


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
