"""Masked softmax and its gradient: what takes part, bits, layouts, errors."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import nnfast as nf
from conftest import SAME_BITS_ISAS
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast._testing import forced

Array = NDArray[Any]
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every_dtype = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])


def taking_part(shape: tuple[int, ...], mask: Any, causal: bool, axis: int) -> Array:
    """Where elements of an array of that shape take part, by the definition."""
    kept = np.broadcast_to(True if mask is None else mask, shape)
    if not causal:
        return kept
    moved = np.moveaxis(np.broadcast_to(True, shape), axis, -1)
    queries, keys = moved.shape[-2:]
    i, j = np.ogrid[:queries, :keys]
    return kept & np.moveaxis(np.broadcast_to(j <= i + keys - queries, moved.shape), -1, axis)


def composed(x: Array, kept: Array, scale: float, axis: int) -> Array:
    """By softmax of what has -inf where it takes no part, to the bit."""
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    with np.errstate(all="ignore"):
        scores = np.where(kept, wide * wide.dtype.type(scale), wide.dtype.type(-np.inf))
        y = np.where(kept, nf.softmax(scores, axis=axis), wide.dtype.type(0))
        return y.astype(x.dtype)


@every_dtype
@settings(max_examples=8)
@given(data=st.data())
def test_what_takes_part_is_softmax_to_the_bit(engine: str, dtype: type, data: Any) -> None:
    causal = data.draw(st.booleans())
    shape = data.draw(hnp.array_shapes(min_dims=1 + causal, max_dims=4, min_side=0, max_side=37))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    seed = data.draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 3, shape).astype(dtype)
    # Some elements of any bits, infinities and NaN.
    strange = rng.random(shape) < data.draw(st.sampled_from([0, 0.02]))
    x[strange] = rng.choice([np.nan, np.inf, -np.inf, 6e4], strange.sum())
    scale = data.draw(st.sampled_from([1.0, 0.125, -1.0, 0.0, 0.3]))
    mask = None
    if data.draw(st.booleans()):
        sides = [side if data.draw(st.booleans()) else 1 for side in shape]
        mask = rng.random(sides[data.draw(st.integers(0, len(sides))) :]) < 0.6
    kept = taking_part(shape, mask, causal, axis)
    y = nf.masked_softmax(x, mask, scale=scale, causal=causal, axis=axis)
    assert_same_bits(y, composed(x, kept, scale, axis))
    hidden = np.where(kept, x, dtype(np.nan))  # what takes no part does not matter
    assert_same_bits(nf.masked_softmax(hidden, kept, scale=scale, axis=axis), y)


@both_dtypes
def test_it_is_the_formula(isa: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    x, mask = rng.normal(0, 4, (3, 40, 50)).astype(dtype), rng.random((3, 1, 50)) < 0.5
    kept = taking_part(x.shape, mask, True, -1)
    e = np.where(kept, np.exp(0.25 * x.astype(np.longdouble)), 0)
    expected = e / np.maximum(e.sum(axis=-1, keepdims=True), 1e-300)
    y = nf.masked_softmax(x, mask, scale=0.25, causal=True)
    np.testing.assert_allclose(y, expected, rtol=20 * np.finfo(dtype).eps)


@both_dtypes
@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (1, 5), (5, 1)])
def test_causal_is_aligned_at_the_last_column(dtype: type, shape: tuple[int, int]) -> None:
    queries, keys = shape
    y = nf.masked_softmax(np.zeros(shape, dtype), causal=True)
    for i in range(queries):
        seen = max(0, min(keys, i + 1 + keys - queries))
        expected = [1 / max(seen, 1)] * seen + [0] * (keys - seen)
        np.testing.assert_allclose(y[i], expected, rtol=1e-6)


def test_a_row_in_which_nothing_takes_part(isa: str) -> None:
    """Is 0, and has no gradient; one whose elements are all -inf is NaN, as that of softmax is."""
    x = np.full((3, 19), -np.inf)
    mask = np.zeros((3, 19), bool)
    mask[1] = True
    mask[2, 4] = True
    x[2] = np.nan
    x[2, 4] = 1
    with np.errstate(all="raise"):
        y = nf.masked_softmax(x, mask)
        dx = nf.masked_softmax_backward(np.full((3, 19), np.inf), y[[0, 0, 0]])
    assert_same_bits(y[0], np.zeros(19))
    assert np.isnan(y[1]).all()
    assert_same_bits(y[2], (np.arange(19) == 4) * 1.0)
    assert_same_bits(dx, np.zeros((3, 19)))


@every_dtype
def test_bits(dtype: type) -> None:
    rng = np.random.default_rng(1)
    x, dy = rng.normal(0, 2, (2, 5, 21, 43)).astype(dtype)
    x[2, 7, 3] = np.nan
    mask = rng.random((5, 1, 43)) < 0.7

    def results(x: Array, mask: Array, dy: Array) -> list[Array]:
        y = nf.masked_softmax(x, mask, scale=0.5, causal=True)
        return [y, nf.masked_softmax_backward(dy, y, scale=0.5)]

    expected = results(x, mask, dy)
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                for actual, same in zip(results(x, mask, dy), expected, strict=True):
                    assert_same_bits(actual, same)
    full = np.broadcast_to(mask, x.shape)
    for name, laid in layouts(x).items():
        laid_mask, laid_dy = layouts(full)[name], layouts(dy)[name]
        for actual, same in zip(results(laid, laid_mask, laid_dy), expected, strict=True):
            assert_same_bits(actual, same)
        turned = nf.masked_softmax(
            laid.swapaxes(1, 2), full.swapaxes(1, 2), scale=0.5, causal=True, axis=1
        )
        assert_same_bits(turned.swapaxes(1, 2), expected[0])
        assert nf.masked_softmax(laid, laid_mask, scale=0.5, causal=True, out=laid) is laid
        assert_same_bits(laid, expected[0])
        assert nf.masked_softmax_backward(laid_dy, laid, scale=0.5, out=laid_dy) is laid_dy
        assert_same_bits(laid_dy, expected[1])


@pytest.mark.parametrize("columns", [1, 17, 4096, 4097])
def test_float16_is_the_rounded_float32(engine: str, columns: int) -> None:
    rng = np.random.default_rng(2)
    x, dy = rng.normal(0, 3, (2, 6, columns)).astype(np.float16)
    mask = rng.random(x.shape) < 0.8
    y = nf.masked_softmax(x, mask, scale=0.7)
    assert_same_bits(y, nf.masked_softmax(x.astype(np.float32), mask, scale=0.7).astype(np.float16))
    dx = nf.masked_softmax_backward(dy, y, scale=0.7)
    wide = nf.masked_softmax_backward(dy.astype(np.float32), y.astype(np.float32), scale=0.7)
    assert_same_bits(dx, wide.astype(np.float16))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("axis", [-1, 1])
def test_gradient_numerically(causal: bool, axis: int) -> None:
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((2, 2, 4, 5))
    mask = rng.random((4, 5)) < 0.7
    keywords: dict[str, Any] = {"scale": 0.3, "causal": causal, "axis": axis}
    y = nf.masked_softmax(x, mask, **keywords)
    dx = nf.masked_softmax_backward(dy, y, scale=0.3, axis=axis)
    assert_gradient(dx, lambda v: float((dy * nf.masked_softmax(v, mask, **keywords)).sum()), x)


@every_dtype
def test_backward_is_that_of_softmax(engine: str, dtype: type) -> None:
    """Times the scale; whatever dy is where y is 0."""
    rng = np.random.default_rng(4)
    dy, x = rng.standard_normal((2, 9, 33)).astype(dtype)
    kept = rng.random(x.shape) < 0.8
    y = nf.masked_softmax(x, kept)
    plain = nf.softmax_backward(np.where(kept, dy, dtype(0)), y)
    dy[~kept] = rng.choice([np.nan, np.inf, 5], (~kept).sum())
    assert_same_bits(nf.masked_softmax_backward(dy, y), np.where(kept, plain, dtype(0)))
    assert_same_bits(
        nf.masked_softmax_backward(dy, y, scale=-2), np.where(kept, -2 * plain, dtype(0))
    )
    dy[0, np.flatnonzero(kept[0])[0]] = np.nan
    assert np.isnan(nf.masked_softmax_backward(dy, y)[0][kept[0]]).all()


def test_other_input_types() -> None:
    assert nf.masked_softmax([1, 2, 3], [True, False, True]).dtype == np.float64
    assert nf.masked_softmax(np.ones(3, np.int16)).dtype == np.float32
    assert nf.masked_softmax(np.ones((0, 4)), causal=True).shape == (0, 4)
    assert nf.masked_softmax(np.ones((4, 0)), causal=True).shape == (4, 0)
    assert_same_bits(nf.masked_softmax(np.ones((4, 3)), False), np.zeros((4, 3)))
    half = nf.masked_softmax(np.array([1, 2], np.float16), scale=60000)
    assert half.tolist() == [0, 1]
    nonzero = np.array([2, 0, 255], np.uint8).view(bool)  # True, though not the byte 1
    assert nf.masked_softmax(np.zeros(3), nonzero).tolist() == [0.5, 0, 0.5]


X = np.ones((4, 6))
MASK = np.ones((4, 6), bool)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        (
            {"mask": np.tril(np.ones((4, 6)))},
            TypeError,
            r"mask must be an array of bool, .* got dtype float64: pass mask.astype\(bool\) .* mask == 0 for",
        ),
        ({"mask": MASK.astype(np.uint8)}, TypeError, "mask must be an array of bool"),
        ({"mask": MASK[:, :5]}, ValueError, r"mask must broadcast to .* x, \(4, 6\), got \(4, 5\)"),
        (
            {"mask": MASK[None]},
            ValueError,
            r"mask must broadcast to the shape of x, .* \(1, 4, 6\)",
        ),
        (
            {"mask": np.ma.masked_array(MASK, MASK)},
            TypeError,
            "mask must be an array without a mask",
        ),
        ({"scale": np.inf}, ValueError, "scale must be finite, got inf"),
        ({"scale": "1"}, TypeError, "scale must be a real number, got str"),
        ({"axis": 2}, ValueError, r"axis must be an axis of x with shape \(4, 6\), got 2"),
        ({"axis": 0.5}, TypeError, "axis must be an int, got float"),
        (
            {"x": X[0], "causal": True},
            ValueError,
            r"x must have an axis of queries .* got shape \(6,\)",
        ),
        ({"x": X * 1j}, TypeError, "x must be an array of real numbers"),
        ({"out": np.ones((4, 6), "f")}, TypeError, "out must have dtype float64, got float32"),
        ({"out": np.ones((6, 4))}, ValueError, "out must have the shape of x"),
        ({"out": np.broadcast_to(1.0, (4, 6))}, ValueError, "out must be writeable"),
    ],
)
def test_errors(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nf.masked_softmax(**{"x": X, **keywords})


def test_errors_of_memory_and_of_the_gradient() -> None:
    memory = np.ones(30)
    with pytest.raises(ValueError, match="out must be x itself"):
        nf.masked_softmax(memory[:24].reshape(4, 6), out=memory[6:].reshape(4, 6))
    with pytest.raises(ValueError, match="out and mask must not share memory"):
        nf.masked_softmax(memory[:24], memory.view(bool)[:24], out=memory[:24])
    with pytest.raises(ValueError, match="dy must have the shape of y"):
        nf.masked_softmax_backward(X[:, :5], X)
    with pytest.raises(ValueError, match="scale must be finite"):
        nf.masked_softmax_backward(X, X, scale=np.nan)
    with pytest.raises(ValueError, match="out must be y itself"):
        nf.masked_softmax_backward(X[0], memory[:6], out=memory[3:9])
    np.testing.assert_array_equal(memory, np.ones(30))
