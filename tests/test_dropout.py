"""Dropout: the random bits, the masks they make, what is kept, errors."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import nnfast as nf
from dropout_data import every_dtype, floats
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast import _core
from nnfast._testing import forced
from tests.reference.philox import (
    WORD,
    halves,
    inverted_scale,
    keep,
    kept_reference,
    pack,
    philox,
    philox_of,
    scaled,
    unpack,
)

Array = NDArray[Any]


# ---- the random bits ----


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([WORD] * 4, [WORD] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_reference_gives_the_published_words(
    counter: list[int], key: list[int], words: list[int]
) -> None:
    assert philox(counter, key) == words


def test_kernel_gives_the_published_words(isa: str) -> None:
    words = _core._philox4x32(0, 0, 0, 1)
    assert words.tolist() == [[0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]]


@settings(max_examples=30)
@given(
    key=st.integers(0, 2**64 - 1),
    first=st.integers(0, 2**64 - 40) | st.integers(2**32 - 20, 2**32 + 2),
    stream=st.integers(0, WORD),
)
def test_kernel_is_the_reference(isa: str, key: int, first: int, stream: int) -> None:
    words = _core._philox4x32(key, first, stream, 19)
    for i in range(19):
        assert words[i].tolist() == philox_of(key, first + i, stream)


# ---- masks ----


@settings(max_examples=30)
@given(
    n=st.integers(0, 700),
    seed=st.integers(0, 2**64 - 1),
    p=st.floats(0, 1) | st.sampled_from([0.0, 1.0, 0.5, 2.0**-32, 1 - 2.0**-32]),
)
def test_mask_is_its_definition(engine: str, n: int, seed: int, p: float) -> None:
    y, mask = nf.dropout(np.ones(n, np.float32), p, rng=seed)
    assert mask.shape == (-(-n // 8),)
    kept = kept_reference(seed, n, p)
    np.testing.assert_array_equal(mask, pack(kept))
    np.testing.assert_array_equal(y != 0, kept)


def test_low_bits_decide_where_high_bits_are_equal(engine: str) -> None:
    seed, n = 5, 128 * 40
    high, low = (halves(seed, 0, n, stream).astype(np.uint64) for stream in (1, 2))
    for element in (0, 77, 128, n - 1):
        at = int(high[element] << 16 | low[element])
        for threshold, expected in ((at, True), (at + 1, False)):
            _, mask = nf.dropout(np.ones(n), threshold / 2**32, rng=seed)
            assert unpack(mask, n)[element] == expected
            np.testing.assert_array_equal(
                unpack(mask, n), kept_reference(seed, n, threshold / 2**32)
            )


@every_dtype
def test_mask_does_not_depend_on_how_it_is_made(dtype: type) -> None:
    x = np.random.default_rng(0).standard_normal((5, 7, 61)).astype(dtype)
    y, mask = nf.dropout(x, 0.4, rng=9)
    for isa in nf.cpu_info()["supported"]:
        for threads in (1, 2, 7, 16):
            with forced(isa=isa, threads=threads, grain=1):
                again, again_mask = nf.dropout(x, 0.4, rng=9)
            assert_same_bits(again, y)
            assert_same_bits(again_mask, mask)
    for laid in layouts(x).values():
        again, again_mask = nf.dropout(laid, 0.4, rng=9)
        assert_same_bits(again, y)
        assert_same_bits(again_mask, mask)
        assert nf.dropout(laid, 0.4, rng=9, out=laid)[0] is laid
        assert_same_bits(laid, y)
        assert_same_bits(nf.dropout_backward(layouts(x)["reversed"], mask, 0.4, out=laid), y)


def test_a_longer_array_begins_with_the_same_mask() -> None:
    long = unpack(nf.dropout(np.ones(1000), 0.5, rng=3)[1], 1000)
    for n in range(401):
        np.testing.assert_array_equal(unpack(nf.dropout(np.ones(n), 0.5, rng=3)[1], n), long[:n])


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
def test_rate_and_independence(p: float) -> None:
    n = 1_000_000
    kept = unpack(nf.dropout(np.ones(n, np.float32), p, rng=11)[1], n)
    sigma = np.sqrt(n * p * (1 - p))
    assert abs(kept.sum() - n * (1 - p)) < 5 * sigma
    for lag in (1, 2, 8, 16, 32, 128, 4096):
        both = (~kept[lag:] & ~kept[:-lag]).sum()
        assert abs(both - (n - lag) * p * p) < 5 * np.sqrt(n) * p
    other = unpack(nf.dropout(np.ones(n, np.float32), p, rng=12)[1], n)
    assert abs((~kept & ~other).sum() - n * p * p) < 5 * np.sqrt(n) * p


# ---- values ----


@every_dtype
@settings(max_examples=10)
@given(data=st.data(), p=st.floats(0, 0.99))
def test_what_is_kept_is_scaled(engine: str, dtype: type, data: Any, p: float) -> None:
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20)
    x = data.draw(floats(dtype, data.draw(shapes)))
    for mode, scale in (("inverted", inverted_scale(p)), ("vanilla", 1)):
        y, mask = nf.dropout(x, p, mode=mode, rng=1)
        kept = unpack(mask, x.size).reshape(x.shape)
        assert_same_bits(y, keep(x, kept, scale))
        assert_same_bits(nf.dropout_backward(x, mask, p, mode=mode), y)


@every_dtype
def test_dropped_nan_and_infinity_are_zero(isa: str, dtype: type) -> None:
    for value in (np.nan, np.inf, -np.inf):
        x = np.full(100, value, dtype)
        with np.errstate(all="raise"):
            y, mask = nf.dropout(x, 0.5, rng=2)
        np.testing.assert_array_equal(y, np.where(unpack(mask, 100), dtype(value), dtype(0)))


@every_dtype
def test_zero_and_one_are_exact(isa: str, dtype: type) -> None:
    x = np.array([1.5, -0.0, np.nan, np.inf] * 50, dtype)
    assert_same_bits(nf.dropout(x, 0, rng=1)[0], x)
    assert_same_bits(nf.dropout(x, 1, rng=1)[0], np.zeros_like(x))
    assert_same_bits(nf.dropout(x, 1, mode="vanilla", rng=1)[0], np.zeros_like(x))


@every_dtype
def test_inference(dtype: type) -> None:
    x = np.linspace(-1, 1, 99).astype(dtype)
    y, mask = nf.dropout(x, 0.1, training=False)
    assert mask is None
    assert y is not x
    assert_same_bits(y, x)
    vanilla = nf.dropout(x, 0.1, training=False, mode="vanilla")[0]
    assert_same_bits(vanilla, scaled(x, 1 - 0.1))
    assert nf.dropout(x, 0.1, training=False, mode="vanilla", out=x)[0] is x
    assert_same_bits(x, vanilla)
    x[:3] = np.nan, np.inf, -np.inf
    assert_same_bits(nf.dropout(x, 1, training=False, mode="vanilla")[0], np.zeros_like(x))
    with pytest.raises(TypeError, match=f"out must have dtype {np.dtype(dtype)}, got int8"):
        nf.dropout(x, training=False, out=np.empty(99, np.int8))


def test_both_modes_have_the_same_mean() -> None:
    x = np.ones(200_000)
    for mode in ("inverted", "vanilla"):
        training = np.mean(nf.dropout(x, 0.3, mode=mode, rng=4)[0])
        inference = np.mean(nf.dropout(x, 0.3, mode=mode, training=False)[0])
        assert training == pytest.approx(inference, rel=0.01)


def test_a_given_mask_is_used_and_returned() -> None:
    x = np.arange(1.0, 12)
    kept = np.arange(11) % 3 == 0
    packed = pack(kept)
    y, mask = nf.dropout(x, 0.5, mask=packed)
    assert mask is packed
    np.testing.assert_array_equal(y, np.where(kept, 2 * x, 0))


def test_gradient_numerically() -> None:
    x, dy = np.random.default_rng(6).standard_normal((2, 4, 5))
    _, mask = nf.dropout(x, 0.3, rng=5)
    assert_gradient(
        nf.dropout_backward(dy, mask, 0.3),
        lambda v: float((dy * nf.dropout(v, 0.3, mask=mask)[0]).sum()),
        x,
    )


def test_sources_of_randomness() -> None:
    x = np.ones(500)

    def mask(rng: Any) -> bytes:
        return nf.dropout(x, rng=rng)[1].tobytes()

    assert mask(7) == mask(7) == mask(np.int64(7)) != mask(8)
    assert mask(None) != mask(None)
    sequence = np.random.SeedSequence(3)
    assert mask(sequence) == mask(sequence) == mask(int(sequence.generate_state(1, np.uint64)[0]))
    rng, twin = np.random.default_rng(1), np.random.default_rng(1)
    seed = int(twin.bit_generator.random_raw())
    assert mask(rng) == mask(seed)
    assert rng.bit_generator.state == twin.bit_generator.state
    assert mask(rng) != mask(seed)


def test_other_input_types() -> None:
    assert nf.dropout([1, 2, 3], rng=0)[0].dtype == np.float64
    assert nf.dropout(np.ones(3, np.float16), rng=0)[0].dtype == np.float16
    assert nf.dropout(1.0, rng=0)[0].shape == ()
    assert nf.dropout(np.empty((0, 3)), rng=0)[0].shape == (0, 3)


# ---- errors ----

X = np.ones((4, 5))
FROZEN = np.ones((4, 5))
FROZEN.flags.writeable = False
MASK = np.zeros(3, np.uint8)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"p": -0.1}, ValueError, r"p must be in \[0, 1\], got -0.1"),
        ({"p": 1.1}, ValueError, "p must be in"),
        ({"p": np.nan}, ValueError, "p must be in"),
        ({"p": "0.5"}, TypeError, "p must be a real number, got str"),
        (
            {"mode": "other"},
            ValueError,
            "mode must be 'inverted', 'vanilla' or 'cs231n', got 'other'",
        ),
        ({"rng": True}, TypeError, "rng must be an int, .* got bool"),
        ({"rng": 0.5}, TypeError, "rng must be an int, .* got float"),
        ({"rng": -1}, ValueError, "rng must be in"),
        ({"rng": 2**64}, ValueError, "rng must be in"),
        ({"x": X * 1j}, TypeError, "x must be .* real .* complex128"),
        ({"mask": MASK.astype(bool)}, ValueError, r"mask must have shape \(.*\), got \(\d+,\)"),
        ({"mask": [0, 0, 0]}, TypeError, "mask must be an array of bool .* bits, got .*list"),
        (
            {"mask": MASK[:2]},
            ValueError,
            r"mask must have shape .*, or \(3,\) as packed bits, got \(2,\)",
        ),
        ({"mask": np.zeros(6, np.uint8)[::2]}, ValueError, "mask must be contiguous"),
        ({"out": np.ones((4, 5), "f")}, TypeError, "out must have dtype float64, got float32"),
        ({"out": np.ones((5, 4))}, ValueError, "out must have the shape of x"),
        ({"out": FROZEN}, ValueError, "out must be writeable"),
        ({"out": [1]}, TypeError, "out must be a numpy.ndarray"),
    ],
)
def test_errors_change_nothing(
    keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = {"x": X, "out": np.full((4, 5), 9.0), "rng": 0, **keywords}
    before = np.array(arguments["out"])
    with pytest.raises(error, match=message):
        nf.dropout(**arguments)
    np.testing.assert_array_equal(arguments["out"], before)


def test_overlaps_are_refused() -> None:
    memory = np.arange(30.0)
    with pytest.raises(ValueError, match="out must be x itself or share no memory"):
        nf.dropout(memory[:20], rng=0, out=memory[5:25])
    with pytest.raises(ValueError, match="out and mask must not share memory"):
        nf.dropout(memory[:20], mask=memory.view(np.uint8)[:3], out=memory[:20])
    np.testing.assert_array_equal(memory, np.arange(30.0))


def test_backward_errors() -> None:
    with pytest.raises(TypeError, match="mask must be an array of bool .* bits, got NoneType"):
        nf.dropout_backward(X, None)
    with pytest.raises(ValueError, match="p must be in"):
        nf.dropout_backward(X, MASK, 2.0)
    with pytest.raises(ValueError, match="mode must be"):
        nf.dropout_backward(X, MASK, mode="x")
