"""What initialisers are given: a shape or an array, and where numbers come from."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nnfast import _arrays, _seeds
from nnfast._arrays import Shape
from nnfast.random import Philox

Rng: TypeAlias = "_seeds.Rng | Philox"


def target(shape: Shape, dtype: DTypeLike, out: NDArray[Any] | None) -> NDArray[Any]:
    """A new array, or `out`, checked."""
    if shape is None and out is None:
        raise TypeError("shape must be an int or a tuple of ints where there is no out, got None")
    return _arrays.target(shape, dtype, (np.float32, np.float64), out)


def stream(rng: Rng) -> Philox:
    """Where numbers are drawn from. To be called when everything has been checked: it may advance a Generator."""
    return rng if isinstance(rng, Philox) else Philox(rng)


def check_axes(shape: tuple[int, ...]) -> None:
    if len(shape) < 2:
        raise ValueError(f"shape must have two axes or more, got {shape}")
