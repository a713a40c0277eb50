"""Dropout after a bias and ReLU, in one pass: the bits of the parts, gradients, layouts, errors."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import nnfast as nf
from conftest import THREADS
from dropout_data import both_dtypes, every_dtype, floats, numbers, probabilities, seeds, twins
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from tests.reference.philox import inverted_scale, keep, pack, unpack

Array = NDArray[Any]


def bias_relu_reference(x: Array, bias: Array) -> Array:
    """relu(x + bias); of float16 in float32, as it is not rounded between."""
    wide = np.float64 if x.dtype == np.float64 else np.float32
    with np.errstate(all="ignore"):
        return nf.relu(x.astype(wide) + bias.astype(wide))


@every_dtype
@settings(max_examples=12)
@given(data=st.data(), seed=seeds, p=probabilities)
def test_bits_are_those_of_dropout_after_bias_and_relu(
    engine: str, dtype: type, data: Any, seed: int, p: float
) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=30))
    x, bias = data.draw(floats(dtype, shape)), data.draw(floats(dtype, shape[-1:]))
    rectified = bias_relu_reference(x, bias)
    dropped, kept = nf.dropout(rectified, p, rng=seed)
    y, mask = nf.bias_relu_dropout(x, bias, p, rng=seed)
    with np.errstate(over="ignore"):
        assert_same_bits(y, dropped.astype(dtype))
    positive = ~(rectified.reshape(-1) <= 0)
    assert_same_bits(mask, pack(unpack(kept, x.size) & positive))


@every_dtype
def test_rows_of_nan_and_infinity(isa: str, dtype: type) -> None:
    """Each in turn as a whole row, in x or in the bias; rows of 13 begin anywhere in a byte of the mask."""
    for value in (np.nan, np.inf, -np.inf):
        x, bias = numbers((9, 13), dtype), numbers(13, dtype, seed=1)
        x[::3] = value
        bias[::4] = -value
        rectified = bias_relu_reference(x, bias)
        with np.errstate(all="raise"):
            y, mask = nf.bias_relu_dropout(x, bias, 0.5, rng=2)
        assert_same_bits(y, nf.dropout(rectified, 0.5, rng=2)[0].astype(dtype))
        kept = unpack(nf.dropout_mask(117, 0.5, rng=2), 117)
        assert_same_bits(mask, pack(kept & ~(rectified.reshape(-1) <= 0)))


def assert_columns(dbias: Array, dx: Array) -> None:
    """The float64 sums of dx's columns, rounded once; in float64 up to the order of the sum."""
    rows, axes = dx.astype(np.float64), tuple(range(dx.ndim - 1))
    total, size = rows.sum(axis=axes), np.abs(rows).sum(axis=axes)
    bound = np.finfo(dx.dtype).eps / 2 * np.abs(total) + rows.size * 2.0**-53 * size
    assert (dbias.dtype, dbias.shape) == (dx.dtype, dx.shape[-1:])
    assert np.all(np.abs(dbias.astype(np.float64) - total) <= bound + np.finfo(dx.dtype).tiny)


@both_dtypes
@settings(max_examples=12)
@given(data=st.data(), p=st.floats(0, 0.99) | st.just(1.0), seed=st.integers(0, 99))
def test_backward_keeps_and_sums(engine: str, dtype: type, data: Any, p: float, seed: int) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=30))
    dy = numbers(shape, dtype, seed)
    mask = np.random.default_rng(seed).integers(0, 256, -(-dy.size // 8), np.uint8)
    dx, dbias = nf.bias_relu_dropout_backward(dy, mask, p)
    kept = unpack(mask, dy.size).reshape(shape)
    assert_same_bits(dx, keep(dy, kept, inverted_scale(p)))
    assert_columns(dbias, dx)


@pytest.mark.parametrize("shape", [(700, 5), (3, 4000), (40, 7, 33), (20_001,)])
@every_dtype
def test_bias_relu_dropout_has_the_same_bits(dtype: type, shape: tuple[int, ...]) -> None:
    x, dy = numbers(shape, dtype), numbers(shape, dtype, seed=1)
    bias = numbers(shape[-1], dtype, seed=2)

    def results(x: Array, dy: Array, bias: Array) -> list[Array]:
        y, mask = nf.bias_relu_dropout(x, bias, 0.3, rng=5, offset=3)
        return [y, mask, *nf.bias_relu_dropout_backward(dy, mask, 0.3)]

    expected = results(x, dy, bias)
    for isa in nf.cpu_info()["supported"]:
        for threads in THREADS:
            with forced(isa=isa, threads=threads, grain=1):
                for result, value in zip(results(x, dy, bias), expected, strict=True):
                    assert_same_bits(result, value)
    wide_bias = np.repeat(bias, 2)[::2]
    for laid_x, laid_dy in zip(layouts(x).values(), layouts(dy).values(), strict=True):
        for result, value in zip(results(laid_x, laid_dy, wide_bias), expected, strict=True):
            assert_same_bits(result, value)
        y, mask = nf.bias_relu_dropout(laid_x, bias, 0.3, rng=5, offset=3, out=laid_x)
        assert y is laid_x
        assert_same_bits(y, expected[0])
        dx, dbias = nf.bias_relu_dropout_backward(laid_dy, mask, 0.3, out=laid_dy)
        assert dx is laid_dy
        assert_same_bits(dx, expected[2])
        assert_same_bits(dbias, expected[3])


def test_a_given_mask_is_used_and_left_as_it_is() -> None:
    x, bias = numbers((9, 13)), numbers(13, seed=1)
    given_mask = nf.dropout_mask((9, 13), 0.4, rng=7)
    before = given_mask.copy()
    y, mask = nf.bias_relu_dropout(x, bias, 0.4, mask=given_mask)
    assert_same_bits(given_mask, before)
    expected, expected_mask = nf.bias_relu_dropout(x, bias, 0.4, rng=7)
    assert_same_bits(y, expected)
    assert_same_bits(mask, expected_mask)


def test_pairs_of_outputs() -> None:
    x, bias = numbers((9, 13)), numbers(13, seed=1)
    y, mask = nf.bias_relu_dropout(x, bias, 0.4, rng=7)
    given = np.empty_like(y), np.full_like(mask, 255)
    found = nf.bias_relu_dropout(x, bias, 0.4, rng=7, out=given)
    assert all(a is b for a, b in zip(found, given, strict=True))
    assert_same_bits(given[0], y)
    assert_same_bits(given[1], mask)
    dx, dbias = nf.bias_relu_dropout_backward(y, mask, 0.4)
    gradients = y, np.empty(13)
    nf.bias_relu_dropout_backward(y, mask, 0.4, out=gradients)
    assert_same_bits(gradients[0], dx)
    assert_same_bits(gradients[1], dbias)
    only_y, none = nf.bias_relu_dropout(x, bias, training=False, out=given)
    assert only_y is given[0]
    assert none is None


@pytest.mark.parametrize(
    ("mask_out", "error", "message"),
    [
        (np.empty(2, np.uint8), ValueError, r"out\[1\] must have shape \(3,\), got \(2,\)"),
        (np.empty(3, np.int8), TypeError, r"out\[1\] must have dtype uint8"),
        (np.empty(6, np.uint8)[::2], ValueError, r"out\[1\] must be contiguous"),
    ],
)
def test_errors_of_pairs_of_outputs(mask_out: Array, error: type[Exception], message: str) -> None:
    generator, twin = twins()
    out = np.full((4, 6), 9.0)
    with pytest.raises(error, match=message):
        nf.bias_relu_dropout(X, BIAS, rng=generator, out=(out, mask_out))
    mask = nf.dropout_mask((4, 6), 0.5, rng=0)
    with pytest.raises(ValueError, match=r"out\[1\] and mask must not share memory"):
        nf.bias_relu_dropout(X, BIAS, mask=mask, out=(out, mask))
    with pytest.raises(ValueError, match=r"out\[1\] and out\[0\] must not share memory"):
        nf.bias_relu_dropout_backward(X, mask, out=(out, out[1]))
    assert generator.bit_generator.state == twin.bit_generator.state
    np.testing.assert_array_equal(out, 9)


def test_bias_relu_dropout_in_inference() -> None:
    x, bias = numbers((9, 13)), numbers(13, seed=1)
    expected = nf.bias_relu(x, bias)
    y, mask = nf.bias_relu_dropout(x, bias, 0.4, training=False, out=x)
    assert y is x
    assert mask is None
    assert_same_bits(y, expected)


def test_gradients_of_bias_relu_dropout_numerically() -> None:
    x, dy = numbers((2, 3, 4, 5))
    bias = numbers(5, seed=1)
    _, mask = nf.bias_relu_dropout(x, bias, 0.3, rng=5)
    dx, dbias = nf.bias_relu_dropout_backward(dy, mask, 0.3)

    def loss(x: Array, bias: Array) -> float:
        return float((dy * nf.bias_relu_dropout(x, bias, 0.3, rng=5)[0]).sum())

    assert_gradient(dx, lambda v: loss(v, bias), x)
    assert_gradient(dbias, lambda b: loss(x, b), bias)


# ---- errors ----

X, BIAS = np.ones((4, 6)), np.ones(6)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"bias": np.ones(5)}, ValueError, r"bias must have shape \(6,\), got \(5,\)"),
        ({"bias": np.ones(6, complex)}, TypeError, "bias must be an array of real numbers"),
        ({"x": np.ones(()), "out": None}, ValueError, "x must have at least one axis"),
    ],
)
@pytest.mark.parametrize("seed", [None, 0], ids=["generator", "int"])
def test_errors_of_bias_relu_dropout(
    keywords: dict[str, Any], error: type[Exception], message: str, seed: int | None
) -> None:
    generator, twin = twins()
    out = np.full((4, 6), 9.0)
    rng = generator if seed is None else seed
    arguments = {"x": X, "bias": BIAS, "out": out, "rng": rng, **keywords}
    with pytest.raises(error, match=message):
        nf.bias_relu_dropout(**arguments)
    with pytest.raises(ValueError, match="out and bias must not share memory"):
        nf.bias_relu_dropout(X, out[2], rng=rng, out=out)
    assert generator.bit_generator.state == twin.bit_generator.state
    np.testing.assert_array_equal(out, 9)
