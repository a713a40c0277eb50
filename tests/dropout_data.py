"""Inputs for the tests of dropout and its relatives."""

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

Array = NDArray[Any]
every_dtype = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
seeds = st.integers(0, 2**64 - 1)
probabilities = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 0.5, 2.0**-32, 1 - 2.0**-32])
# Places in a stream, with those where blocks and counters end; an array may go on past the last offset.
offsets = (
    st.integers(0, 300)
    | st.integers(2**32 - 200, 2**32 + 200)
    | st.integers(0, 2**63 - 10_000)
)  # fmt: skip


def numbers(shape: Any, dtype: Any = np.float64, seed: int = 0) -> Array:
    """Normal ones."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def floats(dtype: Any, shape: Any) -> st.SearchStrategy[Array]:
    """Arrays of any, with infinities and NaN."""
    if dtype == np.float16:  # any bits: floats of this width are found by rejecting others
        return hnp.arrays(np.uint16, shape).map(lambda bits: bits.view(np.float16))
    return hnp.arrays(dtype, shape, elements=st.floats(width=np.dtype(dtype).itemsize * 8))


def twins() -> tuple[np.random.Generator, np.random.Generator]:
    """Of equal states."""
    return np.random.default_rng(1), np.random.default_rng(1)
