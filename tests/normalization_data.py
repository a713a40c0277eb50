"""Inputs for the tests of normalisation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def case(n: int, c: int, dtype: type, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """x, gamma, beta, dy."""
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.normal(0, 3, c), rng.uniform(0.5, 2, c), (n, c)).astype(dtype)
    gamma, beta = rng.standard_normal((2, c)).astype(dtype)
    return x, gamma, beta, rng.standard_normal((n, c)).astype(dtype)


def images(shape: tuple[int, ...], dtype: type, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """x, gamma, beta, dy; the channels are axis 1."""
    x, gamma, beta, dy = case(int(np.prod(shape)) // shape[1], shape[1], dtype, seed)
    back = (shape[0], *shape[2:], shape[1])
    return tuple(  # type: ignore[return-value]
        np.moveaxis(a.reshape(back), -1, 1).copy() if a.ndim == 2 else a
        for a in (x, gamma, beta, dy)
    )
