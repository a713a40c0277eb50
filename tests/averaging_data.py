"""What the tests of nnfast.averaging share: parameters, and how they are compared."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layouts import assert_same_bits
from nnfast.averaging import EMA, SWA
from ulp import assert_ulp

Array = NDArray[Any]
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
three_dtypes = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
both_averages = pytest.mark.parametrize("make", [EMA, SWA])
SHAPES = [(7, 33), (), (130,), (0, 4), (3, 5, 2)]
FROZEN = np.ones(3)
FROZEN.flags.writeable = False


def draw(dtype: type, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(1, 1, shape).astype(dtype) for shape in SHAPES]


def copies(arrays: list[Array]) -> list[Array]:
    return [array.copy() for array in arrays]


def assert_lists(actual: list[Array], expected: list[Array]) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert_same_bits(a, b)


def raw(array: Array) -> bytes:
    """Bits, those inside NaN too."""
    return array.tobytes()


def kept(dtype: type) -> type:
    return np.float32 if dtype == np.float16 else dtype


def exact_stats(x: Array, correction: int) -> tuple[Array, Array]:
    wide = x.astype(np.longdouble)
    mean = wide.mean(axis=0)
    return mean, np.square(wide - mean).sum(axis=0) / (len(x) - correction)


def assert_stats(found: tuple[Array, Array], expected: tuple[Array, Array]) -> None:
    """Within 2 ulp in float32. In float64 the means of the batches are themselves rounded, which the variance feels."""
    (mean, var), (true_mean, true_var) = found, expected
    if mean.dtype == np.float32:
        assert_ulp(mean, true_mean.astype(float), 2)
        assert_ulp(var, true_var.astype(float), 2)
        return
    eps, std = np.finfo(float).eps, np.sqrt(true_var)
    assert (np.abs(mean - true_mean) <= 2 * eps * np.maximum(np.abs(true_mean), std)).all()
    assert (np.abs(var - true_var) <= eps * std * (16 * std + np.abs(true_mean))).all()
