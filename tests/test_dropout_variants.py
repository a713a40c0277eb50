"""Dropout of pieces of an array and for SELU; masks alone; what all variants share: float16, generators, errors."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import nnfast as nf
from conftest import NO_FMA, SAME_BITS_ISAS, THREADS
from dropout_data import (
    both_dtypes,
    every_dtype,
    numbers,
    offsets,
    probabilities,
    seeds,
    twins,
)
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from tests.reference.philox import inverted_scale, keep, kept_reference, pack, unpack

Array = NDArray[Any]


# ---- pieces of an array ----


@settings(max_examples=15)
@given(
    seed=seeds,
    offset=offsets,
    p=probabilities,
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=4) | st.just([1500, 1, 1200]),
)
def test_pieces_are_dropped_as_the_whole_is(
    engine: str, seed: int, offset: int, p: float, sizes: list[int]
) -> None:
    n = sum(sizes)
    kept = kept_reference(seed, n, p, offset)
    x = np.arange(1, n + 1, dtype=np.float32)
    y, mask = nf.dropout(x, p, rng=seed, offset=offset)
    assert_same_bits(mask, pack(kept))
    assert_same_bits(y, keep(x, kept, inverted_scale(p)))
    begin = 0
    for size in sizes:
        end = begin + size
        y, mask = nf.dropout(x[begin:end], p, rng=seed, offset=offset + begin)
        assert_same_bits(mask, pack(kept[begin:end]))
        assert_same_bits(y, keep(x[begin:end], kept[begin:end], inverted_scale(p)))
        begin = end


@settings(max_examples=15)
@given(seed=seeds, offset=offsets, n=st.integers(0, 400))
def test_all_variants_take_an_offset(seed: int, offset: int, n: int) -> None:
    mask = pack(kept_reference(seed, n, 0.3, offset))
    where = {"rng": seed, "offset": offset}
    ones = np.ones((n, 1))
    assert_same_bits(nf.dropout_mask(n, 0.3, **where), mask)
    assert_same_bits(nf.alpha_dropout(ones, 0.3, **where)[1], mask)
    assert_same_bits(nf.bias_relu_dropout(ones, [0], 0.3, **where)[1], mask)
    assert_same_bits(nf.dropout(ones, [0.3], **where)[1], mask)
    assert_same_bits(nf.dropout_mask((n, 1), [0.3], **where), mask)


def test_the_last_offset() -> None:
    last = 2**63 - 1
    _, mask = nf.dropout(np.ones(300), 0.5, rng=1, offset=last)
    _, first = nf.dropout(np.ones(1), 0.5, rng=1, offset=last)
    assert mask[0] & 1 == first[0]
    assert_same_bits(mask, pack(kept_reference(1, 300, 0.5, last)))


@every_dtype
def test_layouts_at_an_offset(dtype: type) -> None:
    x = numbers((3, 5, 67), dtype)
    y, mask = nf.dropout(x, 0.4, rng=9, offset=77)
    for threads in THREADS:
        for laid in layouts(x).values():
            with forced(threads=threads, grain=1):
                again, again_mask = nf.dropout(laid, 0.4, rng=9, offset=77, out=laid)
            assert_same_bits(again, y)
            assert_same_bits(again_mask, mask)


@both_dtypes
def test_large_arrays(dtype: type) -> None:
    """Non-temporal stores, except before the first aligned vector."""
    n = (16 << 20) // np.dtype(dtype).itemsize + 1001
    x = np.ones(n + 1, dtype)[1:]
    kept = kept_reference(2, n, 0.25, 55)
    y, mask = nf.dropout(x, 0.25, rng=2, offset=55)
    assert_same_bits(mask, pack(kept))
    assert_same_bits(y, keep(x, kept, 1 / 0.75))
    assert_same_bits(nf.dropout_backward(x, mask, 0.25), y)


# ---- masks alone ----


@every_dtype
@settings(max_examples=8)
@given(data=st.data(), seed=seeds, p=probabilities)
def test_mask_alone_is_that_of_dropout(
    engine: str, dtype: type, data: Any, seed: int, p: float
) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=12))
    mask = nf.dropout_mask(shape, p, rng=seed)
    assert_same_bits(mask, nf.dropout(np.ones(shape, dtype), p, rng=seed)[1])
    assert_same_bits(nf.dropout_mask(math.prod(shape), p, rng=seed), mask)
    out = np.full_like(mask, 255)
    assert nf.dropout_mask(shape, p, rng=seed, out=out) is out
    assert_same_bits(out, mask)


def test_large_masks_alone() -> None:
    """With the grain that the cost model chooses."""
    n = 3_000_001
    assert_same_bits(nf.dropout_mask(n, 0.1, rng=3), pack(kept_reference(3, n, 0.1)))
    each = np.resize([0.1, 0.6], n)
    made = nf.dropout_mask((n, 1), each, rng=3, axis=0)
    assert_same_bits(made, pack(kept_reference(3, n, each)))


# ---- alpha dropout ----

LEAST = (
    -1.7580993408473768599
)  # -lambda alpha of SELU, 1.0507009873554804934 and 1.6732632423543772848


def alpha_terms(p: float, dtype: Any) -> tuple[np.longdouble, np.longdouble, Any]:
    """a and b as the kernel has them, and the value of a dropped element."""
    a = 1 / math.sqrt((1 - p) * (1 + p * LEAST**2))
    b = -a * p * LEAST
    return np.longdouble(dtype(a)), np.longdouble(dtype(b)), dtype(a * LEAST + b)


@both_dtypes
@settings(max_examples=15)
@given(n=st.integers(0, 300), p=st.floats(0, 0.99), seed=seeds)
def test_alpha_dropout_is_its_definition(
    engine: str, dtype: type, n: int, p: float, seed: int
) -> None:
    """Within half an ulp of the result, and of the product where that is rounded too."""
    x = numbers(n, dtype)
    y, mask = nf.alpha_dropout(x, p, rng=seed)
    assert_same_bits(mask, nf.dropout_mask(n, p, rng=seed))
    kept = unpack(mask, n)
    a, b, dropped = alpha_terms(p, dtype)
    assert_same_bits(y[~kept], np.full(n - kept.sum(), dropped))
    product = a * x[kept].astype(np.longdouble)
    half_ulp = np.finfo(dtype).eps / 2
    bound = half_ulp * np.abs(product + b) + np.finfo(np.longdouble).eps * np.abs(product)
    if engine == NO_FMA:
        bound += half_ulp * np.abs(product)
    assert np.all(np.abs(y[kept] - (product + b)) <= bound)
    dx = nf.alpha_dropout_backward(x, mask, p)
    assert_same_bits(dx, keep(x, kept, float(1 / np.sqrt((1 - p) * (1 + p * LEAST**2)))))


@every_dtype
def test_alpha_dropout_has_the_same_bits(dtype: type) -> None:
    x = numbers((5, 7, 61), dtype)
    y, mask = nf.alpha_dropout(x, 0.3, rng=1)
    dx = nf.alpha_dropout_backward(x, mask, 0.3)
    for isa in SAME_BITS_ISAS:
        for threads in THREADS:
            with forced(isa=isa, threads=threads, grain=1):
                assert_same_bits(nf.alpha_dropout(x, 0.3, rng=1)[0], y)
                assert_same_bits(nf.alpha_dropout_backward(x, mask, 0.3), dx)
    for laid in layouts(x).values():
        assert_same_bits(nf.alpha_dropout_backward(laid, mask, 0.3), dx)
        assert nf.alpha_dropout(laid, 0.3, rng=1, out=laid)[0] is laid
        assert_same_bits(laid, y)


@every_dtype
@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9])
def test_alpha_dropout_keeps_mean_and_variance(dtype: type, p: float) -> None:
    """To five standard deviations."""
    n = 400_000
    x = numbers(n, dtype, seed=2)
    y = nf.alpha_dropout(x, p, rng=3)[0].astype(np.float64)
    assert abs(y.mean()) < 5 * y.std() / math.sqrt(n)
    assert abs((y * y).mean() - 1) < 5 * (y * y).std() / math.sqrt(n)


@every_dtype
def test_alpha_dropout_at_its_ends(isa: str, dtype: type) -> None:
    x = np.array([1.5, -2, np.nan, np.inf, -np.inf] * 20, dtype)
    with np.errstate(all="raise"):
        assert_same_bits(nf.alpha_dropout(x, 0, rng=1)[0], x)
        assert_same_bits(nf.alpha_dropout(x, 1, rng=1)[0], np.zeros_like(x))
        y, mask = nf.alpha_dropout(x, 0.5, rng=1)
    dropped = y[~unpack(mask, x.size)]
    assert_same_bits(dropped, np.full(dropped.size, alpha_terms(0.5, dtype)[2]))
    assert_same_bits(nf.alpha_dropout_backward(x, np.zeros(13, np.uint8), 1), np.zeros_like(x))
    assert_same_bits(nf.alpha_dropout_backward(x, np.full(13, 255, np.uint8), 0), x)


def test_alpha_dropout_in_inference_and_with_a_mask() -> None:
    x = numbers(20)
    y, mask = nf.alpha_dropout(x, 0.3, training=False)
    assert mask is None
    assert y is not x
    assert_same_bits(y, x)
    y, mask = nf.alpha_dropout(x, 0.3, rng=1)
    again, used = nf.alpha_dropout(x, 0.3, mask=mask)
    assert used is mask
    assert_same_bits(again, y)


def test_gradient_of_alpha_dropout_numerically() -> None:
    x, dy = numbers((2, 4, 5))
    _, mask = nf.alpha_dropout(x, 0.3, rng=5)
    assert_gradient(
        nf.alpha_dropout_backward(dy, mask, 0.3),
        lambda v: float((dy * nf.alpha_dropout(v, 0.3, mask=mask)[0]).sum()),
        x,
    )


# ---- float16 ----


def test_float16_is_the_rounded_float32(isa: str) -> None:
    """Rounded once, at the end; sums are of what is not rounded."""
    x, bias = numbers((40, 13), np.float16), numbers(13, np.float16, seed=1)
    mask = nf.dropout_mask(x.shape, 0.3, rng=5)
    each = np.linspace(0, 1, 13)

    def results(x: Array, bias: Array) -> list[Array]:
        return [
            nf.dropout(x, 0.3, rng=5)[0],
            nf.dropout(x, 0.3, training=False, mode="vanilla")[0],
            nf.dropout_backward(x, mask, 0.3),
            nf.dropout(x, each, rng=5)[0],
            nf.dropout(x, each, training=False, mode="vanilla")[0],
            nf.dropout_backward(x, mask, each),
            nf.alpha_dropout(x, 0.3, rng=5)[0],
            nf.alpha_dropout_backward(x, mask, 0.3),
            nf.bias_relu_dropout(x, bias, 0.3, rng=5)[0],
            *nf.bias_relu_dropout_backward(x, mask, 0.3),
        ]

    wide = results(x.astype(np.float32), bias.astype(np.float32))
    for result, expected in zip(results(x, bias), wide, strict=True):
        assert_same_bits(result, expected.astype(np.float16))


# ---- generators and errors ----

X = np.ones((4, 6))
BIAS = np.ones(6)
CALLS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "one p": lambda **keywords: nf.dropout(**{"x": X, **keywords}),
    "channels": lambda **keywords: nf.dropout(**{"x": X, "p": [0.5] * 6, **keywords}),
    "alpha": lambda **keywords: nf.alpha_dropout(**{"x": X, **keywords}),
    "bias": lambda **keywords: nf.bias_relu_dropout(**{"x": X, "bias": BIAS, **keywords}),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@every_call
def test_a_generator_is_advanced_once(call: Callable[..., tuple[Array, Array]]) -> None:
    rng, twin = twins()
    y, mask = call(rng=rng)
    assert_same_bits(call(rng=int(twin.bit_generator.random_raw()))[1], mask)
    call(rng=rng, mask=mask)
    call(rng=rng, training=False)
    assert rng.bit_generator.state == twin.bit_generator.state
    assert call(rng=rng, out=y)[0] is y
    assert rng.bit_generator.state != twin.bit_generator.state


FROZEN = np.ones((4, 6))
FROZEN.flags.writeable = False
WRONG = [
    ({"p": 1.1}, ValueError, "p must be in"),
    ({"p": None}, TypeError, "p must be a real number, got NoneType"),
    ({"offset": -1}, ValueError, r"offset must be in \[0, 2\*\*63\), got -1"),
    ({"offset": 2**63}, ValueError, "offset must be in"),
    ({"offset": 1.0}, TypeError, "offset must be an int, got float"),
    ({"x": X * 1j}, TypeError, "x must be an array of real numbers, got dtype complex128"),
    ({"out": np.full((4, 5), 9.0)}, ValueError, "out must have the shape of x"),
    ({"out": np.full((4, 6), 9, "f")}, TypeError, "out must have dtype float64, got float32"),
    ({"out": FROZEN}, ValueError, "out must be writeable"),
    ({"out": [9]}, TypeError, "out must be a numpy.ndarray, got list"),
    (
        {"mask": np.zeros(2, np.uint8)},
        ValueError,
        r"mask must have shape .*, or \(3,\) as packed bits, got \(2,\)",
    ),
    (
        {"mask": np.zeros(3, np.int8)},
        TypeError,
        "mask must be an array of bool .* bits, got .*int8",
    ),
]


@every_call
@pytest.mark.parametrize(("keywords", "error", "message"), WRONG)
def test_errors_change_nothing(
    call: Callable[..., Any], keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    rng, twin = twins()
    arguments = {"rng": rng, "out": np.full((4, 6), 9.0), **keywords}
    before = np.array(arguments["out"])
    with pytest.raises(error, match=message):
        call(**arguments)
    assert rng.bit_generator.state == twin.bit_generator.state
    np.testing.assert_array_equal(arguments["out"], before)


@every_call
def test_overlaps_change_nothing(call: Callable[..., Any]) -> None:
    memory = np.arange(60.0)
    x = memory[:24].reshape(4, 6)
    rng, twin = twins()
    with pytest.raises(ValueError, match="out must be x itself or share no memory"):
        call(x=x, rng=rng, out=memory[5:29].reshape(4, 6))
    with pytest.raises(ValueError, match="out and mask must not share memory"):
        call(x=x, mask=memory.view(np.uint8)[:3], out=x)
    assert rng.bit_generator.state == twin.bit_generator.state
    np.testing.assert_array_equal(memory, np.arange(60.0))


def test_errors_of_backward() -> None:
    mask = np.zeros(3, np.uint8)
    out = np.full((4, 6), 9.0)
    for backward in (nf.alpha_dropout_backward, nf.bias_relu_dropout_backward):
        for arguments, error, message in (
            ((X, None), TypeError, "mask must be an array of bool .* bits, got NoneType"),
            (
                (X, mask[:2]),
                ValueError,
                r"mask must have shape .*, or \(3,\) as packed bits, got \(2,\)",
            ),
            ((X, mask, 2), ValueError, "p must be in"),
            ((X * 1j, mask), TypeError, "dy must be an array of real numbers"),
            ((X[:, :5], mask), ValueError, "out must have the shape of dy"),
        ):
            with pytest.raises(error, match=message):
                backward(*arguments, out=out)
    with pytest.raises(ValueError, match="dy must have at least one axis"):
        nf.bias_relu_dropout_backward(1.0, mask[:1])
    np.testing.assert_array_equal(out, 9)


FROZEN_BITS = np.full(3, 9, np.uint8)
FROZEN_BITS.flags.writeable = False


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"shape": -1}, ValueError, "shape must not be negative, got -1"),
        ({"shape": (3, -8)}, ValueError, r"shape must not be negative, got \(3, -8\)"),
        ({"shape": 24.0}, TypeError, "shape must be an int, got float"),
        ({"shape": [24]}, TypeError, "shape must be an int, got list"),
        ({"p": -1}, ValueError, "p must be in"),
        ({"p": "0"}, TypeError, "p must be a real number, got str"),
        ({"offset": -1}, ValueError, "offset must be in"),
        ({"offset": "0"}, TypeError, "offset must be an int, got str"),
        ({"rng": True}, TypeError, "rng must be an int"),
        ({"rng": -1}, ValueError, "rng must be in"),
        ({"out": np.full(4, 9, np.uint8)}, ValueError, r"out must have shape \(3,\), got \(4,\)"),
        ({"out": np.full(3, 9, np.int8)}, TypeError, "out must have dtype uint8, got int8"),
        ({"out": np.full(6, 9, np.uint8)[::2]}, ValueError, "out must be contiguous"),
        ({"out": FROZEN_BITS}, ValueError, "out must be writeable"),
        ({"out": [9] * 3}, TypeError, "out must be a numpy.ndarray, got list"),
    ],
)
def test_errors_of_dropout_mask(
    keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    rng, twin = twins()
    arguments = {"shape": 24, "rng": rng, "out": np.full(3, 9, np.uint8), **keywords}
    with pytest.raises(error, match=message):
        nf.dropout_mask(**arguments)
    assert rng.bit_generator.state == twin.bit_generator.state
    np.testing.assert_array_equal(arguments["out"], 9)


def test_dropout_mask_advances_a_generator_once() -> None:
    rng, twin = twins()
    mask = nf.dropout_mask(24, rng=rng, out=np.empty(3, np.uint8))
    assert_same_bits(nf.dropout_mask(24, rng=int(twin.bit_generator.random_raw())), mask)
    assert rng.bit_generator.state == twin.bit_generator.state
