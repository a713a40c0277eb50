"""Dropout with a probability for each channel."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import nnfast as nf
from dropout_data import every_dtype, floats, numbers, offsets, probabilities, seeds, twins
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from tests.reference.philox import inverted_scale, keep, kept_reference, pack, scaled, unpack

Array = NDArray[Any]
both_modes = pytest.mark.parametrize("mode", ["inverted", "vanilla"])


def spread(p: Any, shape: tuple[int, ...], axis: int) -> Array:
    """One probability for each element."""
    rest = len(shape) - 1 - axis % len(shape)
    return np.broadcast_to(np.reshape(p, (-1,) + (1,) * rest), shape)


@every_dtype
@both_modes
@settings(max_examples=15)
@given(data=st.data(), seed=seeds, offset=offsets)
def test_channels_are_their_definition(
    isa: str, dtype: type, mode: str, data: Any, seed: int, offset: int
) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=9))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    p = data.draw(hnp.arrays(np.float64, shape[axis], elements=probabilities))
    x = data.draw(floats(dtype, shape))
    each = spread(p, shape, axis)
    kept = kept_reference(seed, x.size, each.reshape(-1), offset).reshape(shape)
    y, mask = nf.dropout(x, p, mode=mode, rng=seed, offset=offset, axis=axis)
    assert_same_bits(mask, pack(kept))
    expected = keep(x, kept, inverted_scale(each) if mode == "inverted" else 1)
    assert_same_bits(y, expected)
    assert_same_bits(nf.dropout_backward(x, mask, p, mode=mode, axis=axis), expected)
    assert_same_bits(nf.dropout_mask(shape, p, rng=seed, offset=offset, axis=axis), mask)
    y, mask = nf.dropout(x, p, training=False, mode=mode, axis=axis)
    assert mask is None
    with np.errstate(invalid="ignore"):
        expected = np.where(each == 1, 0, scaled(x, 1 - each)) if mode == "vanilla" else x
    assert_same_bits(y, expected.astype(dtype))


def test_masks_by_channel_with_any_engine(engine: str) -> None:
    """Blocks of the stream that begin before the array and end after it, shared among threads."""
    p = np.array([0.1, 0.9, 0.5])
    for shape, axis in (((7, 3, 61), 1), ((500, 3), 1), ((3, 777), 0), ((3, 5), 0)):
        each = spread(p, shape, axis).reshape(-1)
        for offset in (0, 1, 127, 128, 200):
            expected = pack(kept_reference(4, each.size, each, offset))
            made = nf.dropout_mask(shape, p, rng=4, offset=offset, axis=axis)
            assert_same_bits(made, expected)


@every_dtype
def test_equal_channels_are_one_probability(dtype: type) -> None:
    x = numbers((6, 5, 8), dtype)
    for mode in ("inverted", "vanilla"):
        for training in (True, False):
            keywords = {"rng": 3, "mode": mode, "training": training}
            y, mask = nf.dropout(x, [0.3] * 5, **keywords)
            expected, expected_mask = nf.dropout(x, 0.3, **keywords)
            assert_same_bits(y, expected)
            if training:
                assert_same_bits(mask, expected_mask)


@both_modes
@every_dtype
def test_channels_layouts_and_out(dtype: type, mode: str) -> None:
    x = numbers((6, 5, 8), dtype)
    p = np.linspace(0, 1, 6)[::-1]
    keywords = {"mode": mode, "axis": 0}
    y, mask = nf.dropout(x, p, rng=9, **keywords)
    for laid in layouts(x).values():
        out = layouts(np.zeros_like(x))["spaced"]
        assert nf.dropout(laid, p, rng=9, out=out, **keywords)[0] is out
        assert_same_bits(out, y)
        assert nf.dropout_backward(laid, mask, p, out=out, **keywords) is out
        assert_same_bits(out, y)
        assert nf.dropout(laid, p, rng=9, out=laid, **keywords)[0] is laid
        assert_same_bits(laid, y)


def test_kinds_of_channel_probabilities() -> None:
    x = numbers((4, 3))
    expected, mask = nf.dropout(x, np.array([0, 0.5, 1]), rng=1)
    for p in ([0, 0.5, 1], (0.0, 0.5, 1.0), np.array([0, 0.5, 1], np.float16)):
        assert_same_bits(nf.dropout(x, p, rng=1)[0], expected)
        assert nf.dropout(x, p, mask=mask)[1] is mask
    assert_same_bits(nf.dropout(x, np.array(0.3), rng=1)[0], nf.dropout(x, 0.3, rng=1)[0])
    assert_same_bits(nf.dropout(x, [0, 0, 0], rng=1)[0], x)
    assert not nf.dropout(x * np.nan, [1, 1, 1], rng=1)[0].any()


@every_dtype
def test_channels_drop_nan_and_overflow_in_silence(dtype: type) -> None:
    """As with one probability: an element that overflows may be dropped."""
    for value in (np.nan, np.inf, np.finfo(dtype).max):
        x = np.full((40, 3), value, dtype)
        with np.errstate(all="raise"):
            y, mask = nf.dropout(x, [0.3, 0.5, 0.7], rng=2)
        kept = unpack(mask, x.size).reshape(x.shape)
        assert_same_bits(y, keep(x, kept, 10))


def test_gradient_by_channel_numerically() -> None:
    x, dy = numbers((2, 4, 5))
    p = [0.1, 0.3, 0.5, 0.7, 0.2]
    _, mask = nf.dropout(x, p, rng=5)
    assert_gradient(
        nf.dropout_backward(dy, mask, p),
        lambda v: float((dy * nf.dropout(v, p, mask=mask)[0]).sum()),
        x,
    )


# ---- errors ----

X = np.ones((4, 6))


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"p": [0.5] * 5}, ValueError, r"p must be a number or have shape \(6,\), .* got \(5,\)"),
        ({"p": [[0.5] * 6]}, ValueError, r"p must be a number or have shape \(6,\), .* \(1, 6\)"),
        ({"p": [0.5] * 5 + [1.1]}, ValueError, r"p must be in \[0, 1\], got \[0.5"),
        ({"p": [0.5] * 5 + [-0.1]}, ValueError, r"p must be in \[0, 1\], got \[ ?0.5"),
        ({"p": [0.5] * 5 + [np.nan]}, ValueError, r"p must be in \[0, 1\], got \[0.5"),
        ({"p": [0.5j] * 6}, TypeError, "p must be an array of real numbers, got dtype complex128"),
        ({"axis": 2}, ValueError, r"axis must be an axis of .* with shape \(4, 6\), got 2"),
        ({"axis": None}, TypeError, "axis must be an int, got NoneType"),
    ],
)
def test_errors_of_channels(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    rng, twin = twins()
    out = np.full((4, 6), 9.0)
    bits = np.full(3, 9, np.uint8)
    arguments = {"p": [0.5] * 6, **keywords}
    with pytest.raises(error, match=message):
        nf.dropout(X, rng=rng, out=out, **arguments)
    with pytest.raises(error, match=message):
        nf.dropout(X, training=False, out=out, **arguments)
    with pytest.raises(error, match=message):
        nf.dropout_backward(X, np.zeros(3, np.uint8), out=out, **arguments)
    with pytest.raises(error, match=message):
        nf.dropout_mask((4, 6), rng=rng, out=bits, **arguments)
    assert rng.bit_generator.state == twin.bit_generator.state
    np.testing.assert_array_equal(out, 9)
    np.testing.assert_array_equal(bits, 9)


def test_backward_by_channel_refuses_an_overlap() -> None:
    memory = np.arange(60.0)
    dy = memory[:24].reshape(4, 6)
    with pytest.raises(ValueError, match="out and mask must not share memory"):
        nf.dropout_backward(dy, memory.view(np.uint8)[7:10], [0.5] * 6, out=dy)
    with pytest.raises(TypeError, match="mask must be an array of bool .* bits, got NoneType"):
        nf.dropout_backward(dy, None, [0.5] * 6, out=dy)
    np.testing.assert_array_equal(memory, np.arange(60.0))
