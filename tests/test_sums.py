"""Sums of columns, which the gradients of biases are."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnfast import _core
from nnfast._testing import forced

DTYPES = [np.float16, np.float32, np.float64]
Array = np.ndarray[Any, Any]


def expected(x: Array) -> Array:
    """In float64, rounded once."""
    return x.astype(np.float64).reshape(-1, x.shape[-1]).sum(axis=0).astype(x.dtype)


@given(
    rows=st.integers(0, 70),
    n=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 9),
    step=st.sampled_from([1, -1, 2]),
)
def test_sums_are_those_of_float64(rows: int, n: int, dtype: type, seed: int, step: int) -> None:
    x = np.random.default_rng(seed).integers(-99, 99, (rows, n * 2)).astype(dtype)[:, ::step][:, :n]
    np.testing.assert_array_equal(_core.column_sums(x, None), expected(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_depend_on_no_thread_layout_or_number_of_axes(dtype: type) -> None:
    x = np.random.default_rng(0).standard_normal((6, 901, 37)).astype(dtype)
    sums = _core.column_sums(x, None)
    for threads in (1, 2, 3):
        with forced(threads=threads, grain=1):
            np.testing.assert_array_equal(_core.column_sums(x, None), sums)
            np.testing.assert_array_equal(_core.column_sums(x.reshape(-1, 37), None), sums)
            np.testing.assert_array_equal(_core.column_sums(np.asfortranarray(x), None), sums)


def test_out_is_checked() -> None:
    x = np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match=r"out must have shape \(4,\), got \(3,\)"):
        _core.column_sums(x, np.empty(3, np.float32))
    with pytest.raises(ValueError, match="out and x must not share memory"):
        _core.column_sums(x, x[0])
    with pytest.raises(ValueError, match="x must have at least one axis, got a scalar"):
        _core.column_sums(np.float32(1), None)
