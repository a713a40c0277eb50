"""Rows of a table by their indices, and the gradient with respect to the table."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import nnfast as nf
from conftest import ISAS
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast._testing import forced

Array = NDArray[Any]
every_dtype = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


def numbers(shape: Any, dtype: Any = np.float64, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def reference(dy: Array, indices: Array, n: int) -> Array:
    """Sums in float64 in the order of the indices, rounded once; float16 by way of float32."""
    sums = np.zeros((n, dy.shape[-1]))
    np.add.at(sums, indices, dy.astype(np.float64))
    return (sums.astype(np.float32) if dy.dtype == np.float16 else sums).astype(dy.dtype)


@every_dtype
@settings(max_examples=8)
@given(data=st.data())
def test_both_are_their_definitions(engine: str, dtype: type, data: Any) -> None:
    n, d = data.draw(st.integers(1, 300)), data.draw(st.integers(0, 70))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=30))
    few = data.draw(st.integers(1, n))  # of the rows, so that many have several indices
    kind = data.draw(st.sampled_from([i for i in INTEGERS if np.iinfo(i).max >= few - 1]))
    indices = np.random.default_rng(d).integers(0, few, shape).astype(kind)
    weight, dy = numbers((n, d), dtype), numbers((*shape, d), dtype, 1)
    assert_same_bits(nf.embedding(indices, weight), weight[indices])
    assert_same_bits(nf.embedding_backward(dy, indices, n), reference(dy, indices, n))


@every_dtype
@pytest.mark.parametrize("heavy", [0.0, 0.5])
def test_bits_do_not_depend_on_threads_and_layout(dtype: type, heavy: float) -> None:
    """Neither where one index has half of the work, which is then shared by columns."""
    rng = np.random.default_rng(2)
    n, d = 500, 150
    indices = rng.integers(0, n, (9, 40))
    indices[rng.random(indices.shape) < heavy] = 7
    weight, dy = numbers((n, d), dtype), numbers((9, 40, d), dtype, 3)
    expected = reference(dy, indices, n)
    for isa in ISAS:
        for threads in (1, 2, 7, 16):
            with forced(isa=isa, threads=threads, grain=1):
                assert_same_bits(nf.embedding(indices, weight), weight[indices])
                assert_same_bits(nf.embedding_backward(dy, indices, n), expected)
    for name, laid in layouts(dy).items():
        at, table = layouts(indices)[name], layouts(weight)[name]
        assert_same_bits(nf.embedding_backward(laid, at, n), expected)
        out = layouts(np.full((n, d), 9, dtype))[name]
        assert nf.embedding_backward(laid, at, n, out=out) is out  # overwritten, not added to
        assert_same_bits(out, expected)
        assert nf.embedding(at, table, out=laid) is laid
        assert_same_bits(laid, weight[indices])


def test_gradient_numerically() -> None:
    weight, dy = numbers((5, 3)), numbers((2, 4, 3), seed=1)
    indices = np.array([[0, 4, 4, 2], [2, 2, 2, 0]])
    dweight = nf.embedding_backward(dy, indices, 5)
    assert_gradient(dweight, lambda w: float((dy * nf.embedding(indices, w)).sum()), weight)


def test_sums_keep_their_digits() -> None:
    """2^24 + 1 is no float32, nor 2049 a float16: a running sum in the dtype would stay there."""
    for dtype, large in ((np.float32, 2.0**24), (np.float16, 2048.0)):
        dy = np.ones((5, 1), dtype)
        dy[0] = large
        assert nf.embedding_backward(dy, [0] * 5, 1).item() == large + 4


def test_special_values() -> None:
    dy = np.array([[np.nan, np.inf, -0.0, 1], [1, -np.inf, -0.0, np.inf]], np.float32)
    with np.errstate(all="raise"):
        summed = nf.embedding_backward(dy, [1, 1], 3)
    np.testing.assert_array_equal(summed[1], np.array([np.nan, np.nan, 0, np.inf], np.float32))
    assert not np.signbit(summed[1, 2])
    assert_same_bits(summed[[0, 2]], np.zeros((2, 4), np.float32))
    for dtype in (np.float16, np.float32, np.float64):
        largest = np.full((2, 3), np.finfo(dtype).max, dtype)
        with pytest.warns(RuntimeWarning, match="overflow encountered in embedding_backward"):
            assert np.isinf(nf.embedding_backward(largest, [0, 0], 1)).all()


def test_other_input_types() -> None:
    assert nf.embedding([], np.ones((3, 2))).shape == (0, 2)
    assert nf.embedding_backward(np.ones((0, 2)), [], 3).tolist() == [[0, 0]] * 3
    assert nf.embedding_backward(np.ones((0, 2)), [], 0).shape == (0, 2)
    assert nf.embedding(2, [[1], [2], [3]]).tolist() == [3]
    assert nf.embedding_backward([1, 2], np.uint8(1), np.int64(2)).tolist() == [[0, 0], [1, 2]]
    assert nf.embedding(np.array([1]), np.ones((3, 2), np.float16)).dtype == np.float16


@pytest.mark.parametrize(
    ("indices", "said"),
    [
        ([[0, 3], [2, 1]], r"indices must be in \[0, 3\), got 3 at position \(0, 1\)"),
        ([[0, 1], [-1, 5]], r"got -1 at position \(1, 0\)"),
        (np.array([2**64 - 1], np.uint64), rf"got {2**64 - 1} at position \(0,\)"),
        (np.int8(-128), r"got -128 at position \(\)"),
    ],
)
def test_an_index_out_of_range(indices: Any, said: str) -> None:
    """Is found before anything is written."""
    shape = (*np.shape(indices), 2)
    y, dweight = np.full(shape, 9.0), np.full((3, 2), 9.0)
    with pytest.raises(IndexError, match=said):
        nf.embedding(indices, np.ones((3, 2)), out=y)
    with pytest.raises(IndexError, match=said):
        nf.embedding_backward(np.ones(shape), indices, 3, out=dweight)
    assert (y == 9).all()
    assert (dweight == 9).all()


W = np.ones((3, 2))


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"indices": [0.0]}, TypeError, "indices must be an array of integers, got dtype float64"),
        ({"indices": [True]}, TypeError, "indices must be an array of integers, got dtype bool"),
        ({"indices": np.zeros(0)}, TypeError, "indices must be an array of integers"),
        ({"weight": W[0]}, ValueError, r"weight must have shape \(n, d\), got \(2,\)"),
        ({"weight": 1j * W}, TypeError, "weight must be an array of real numbers"),
        ({"out": np.ones((1, 3))}, ValueError, r"out must have shape \(1, 2\), got \(1, 3\)"),
        ({"out": np.ones((1, 2), "f")}, TypeError, "out must have dtype float64, got float32"),
        ({"out": W[:1]}, ValueError, "out and weight must not share memory"),
    ],
)
def test_errors(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nf.embedding(**{"indices": [0], "weight": W, **keywords})


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"n": -1}, ValueError, "n must be at least 0, got -1"),
        ({"n": 2**64}, ValueError, r"n must be below 2\*\*63"),
        ({"n": 3.0}, TypeError, "n must be an int, got float"),
        ({"n": 2**62}, (ValueError, MemoryError), "too|allocate"),
        ({"indices": [0, 1]}, ValueError, r"dy must have the shape of indices, \(2,\), and a last"),
        (
            {"dy": 1.0, "indices": 0},
            ValueError,
            r"dy must have the shape of indices, \(\), .* got \(\)",
        ),
        (
            {"indices": np.ma.masked_array([0, 1, 2], [1, 0, 0])},
            TypeError,
            "indices must be .* mask",
        ),
        ({"out": W}, ValueError, "out and dy must not share memory"),
        ({"out": np.ones((3, 2), int)}, TypeError, "out must have dtype float64"),
        ({"out": np.broadcast_to(1.0, (3, 2))}, ValueError, "out must be writeable"),
    ],
)
def test_errors_of_the_gradient(keywords: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        nf.embedding_backward(**{"dy": W, "indices": [0, 1, 2], "n": 3, **keywords})


def test_more_rows_than_memory_without_columns() -> None:
    n = 2**57 + 5
    assert nf.embedding_backward(np.zeros((1, 0)), [0], n).shape == (n, 0)
    out = np.zeros((n, 0))
    assert nf.embedding_backward(np.zeros((1, 0)), [0], n, out=out) is out


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("padding", [0, 3])
def test_a_large_gradient_is_cleared_to_its_last_element(dtype: type, padding: int) -> None:
    """Past the caches zeros are written by non-temporal stores, which need aligned memory."""
    n, d = 20_011, 848 // np.dtype(dtype).itemsize
    memory = np.full(n * (d + padding) + 2, 7, dtype)
    rows = memory[1:-1].reshape(n, d + padding)
    indices, dy = np.array([0, 5, 5, n - 1]), np.ones((4, d), dtype)
    dweight = nf.embedding_backward(dy, indices, n, out=rows[:, :d])
    assert dweight.nbytes >= 2**24
    expected = np.zeros(n, dtype)
    expected[indices] = [1, 2, 2, 1]
    assert (dweight == expected[:, None]).all()
    assert (memory[[0, -1]] == 7).all()
    assert (rows[:, d:] == 7).all()
