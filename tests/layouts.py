"""Layouts of the same data, and equality of bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def layouts(array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Copies of one array that lie differently in memory: equal values, other offsets and strides."""

    def offset(elements: int) -> NDArray[Any]:
        flat = np.empty(array.size + elements, array.dtype)[elements:]
        return put(flat.reshape(array.shape))

    def unaligned() -> NDArray[Any]:
        raw = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype)
        return put(raw.reshape(array.shape))

    def put(like: NDArray[Any]) -> NDArray[Any]:
        like[...] = array
        return like

    spaced = np.empty((*array.shape, 3), array.dtype)[..., 1]
    made = {
        "contiguous": array.copy(),
        "offset": offset(3),
        "unaligned": unaligned(),
        "spaced": put(spaced),
        "fortran": np.asfortranarray(array.copy()),
    }
    if array.ndim:
        made["reversed"] = put(np.empty_like(array, order="C")[::-1])
        made["reversed inner"] = put(np.empty_like(array, order="C")[..., ::-1])
    return made


def assert_same_bits(actual: NDArray[Any], expected: NDArray[Any]) -> None:
    """Equal dtype, shape and bits; any NaN equals any other, and 0.0 does not equal -0.0."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)
    numbers = ~np.isnan(expected) if expected.dtype.kind == "f" else np.ones(expected.shape, bool)
    if expected.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(actual)[numbers], np.signbit(expected)[numbers])
