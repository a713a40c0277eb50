"""State arrays in 16 or 8 bits: their shapes and dtypes, as cpp/kernels/packing.hpp has them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnfast._load import _core
from nnfast._state import kept_dtype

StateDtype = Literal["float32", "bfloat16", "uint8"]
STATE_DTYPES = ("float32", "bfloat16", "uint8")

_BLOCK, _BLOCK_BYTES = 128, 130  # numbers that share a base, and their bytes with it
_LEAST = 4096  # elements of an array whose state is worth blocks


def first_state(param: NDArray[Any], dtype: StateDtype) -> NDArray[Any]:
    """Zeros for a parameter of float16 or float32."""
    if dtype == "bfloat16":
        return np.zeros(param.shape, np.uint16)
    if dtype == "uint8" and param.size >= _LEAST:
        return np.zeros((-(-param.size // _BLOCK), _BLOCK_BYTES), np.uint8)
    return np.zeros_like(param, dtype=kept_dtype(param))


def unpacked(array: NDArray[Any], param: NDArray[Any], rule: str, state: int) -> NDArray[Any]:
    """The numbers of a parameter's array of this state of a rule, in the parameter's shape; a copy."""
    if array.dtype not in (np.uint16, np.uint8):
        return array.copy()
    found: NDArray[Any] = _core.unpacked(array, rule, state, param.shape)
    return found
