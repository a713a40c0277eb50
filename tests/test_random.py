"""Streams of random numbers: their definition, the place in them, their distribution, errors."""

import contextlib
import copy
import math
import pickle
import re
import shutil
import subprocess
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnfast as nf
from conftest import ISAS, SAME_BITS_ISAS, THREADS
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from nnfast.random import Philox
from tests.reference.philox import stream_word, stream_words
from ulp import assert_ulp

Array = NDArray[Any]
KINDS = [
    ("bits", np.uint32),
    ("bits", np.uint64),
    ("uniform", np.float32),
    ("uniform", np.float64),
    ("normal", np.float32),
    ("normal", np.float64),
    ("exponential", np.float32),
    ("exponential", np.float64),
    ("truncated_normal", np.float32),
    ("truncated_normal", np.float64),
    ("integers", np.int64),
    ("integers", np.uint64),
]
# Those whose bits do not depend on fused multiply-add.
ANYWHERE = ("bits", "uniform", "integers")
every_kind = pytest.mark.parametrize(("kind", "dtype"), KINDS)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
seeds = st.integers(0, 2**64 - 1)
# Places in a stream, with those where words, blocks, counters and the stream end.
places = (
    st.integers(0, 300)
    | st.integers(2**32 - 200, 2**32 + 200)
    | st.integers(2**38 - 200, 2**38 + 200)
    | st.integers(0, 2**63 - 10_000)
)


def draw(stream: Philox, kind: str, shape: Any, dtype: Any, **keywords: Any) -> Array:
    if kind == "integers":
        keywords = {"low": 3, "high": 2**63 - 7, **keywords}
    return getattr(stream, kind)(shape, dtype=dtype, **keywords)


def words_of(dtype: Any) -> int:
    return np.dtype(dtype).itemsize // 4


# ---- definitions ----


@settings(max_examples=15)
@given(seed=seeds, offset=places, n=st.integers(0, 150))
def test_bits_are_their_definition(engine: str, seed: int, offset: int, n: int) -> None:
    words = [stream_word(seed, offset + i) for i in range(n)]
    assert Philox(seed, offset).bits(n).tolist() == words


@settings(max_examples=15)
@given(seed=seeds, offset=places, n=st.integers(0, 70))
def test_wide_bits_are_two_words(engine: str, seed: int, offset: int, n: int) -> None:
    even = offset + offset % 2
    pairs = [
        stream_word(seed, even + 2 * i) | stream_word(seed, even + 2 * i + 1) << 32
        for i in range(n)
    ]
    assert Philox(seed, offset).bits(n, dtype=np.uint64).tolist() == pairs


def elements_of(seed: int, first: int, n: int, dtype: Any) -> Array:
    """The elements first, first + 1, ... of a stream as unsigned integers as wide as dtype."""
    words = words_of(dtype)
    unsigned = np.uint32 if words == 1 else np.dtype("<u8")
    return stream_words(seed, first * words, n * words).view(unsigned)


def unit(bits: Array, dtype: Any) -> Array:
    """The upper 24 or 53 bits as a fraction, exactly."""
    if dtype == np.float32:
        return (bits >> 8).astype(np.float32) * np.float32(2**-24)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


@both_dtypes
@settings(max_examples=15)
@given(
    seed=seeds,
    first=st.integers(0, 2**60),
    n=st.integers(0, 200),
    limits=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=2).map(sorted)
    | st.just([0.0, 1.0]),
)
def test_uniform_is_its_formula(
    engine: str, dtype: type, seed: int, first: int, n: int, limits: list[float]
) -> None:
    x = Philox(seed, first * words_of(dtype)).uniform(n, *limits, dtype=dtype)
    low, high = (dtype(limit) for limit in limits)
    assert_same_bits(x, low + (high - low) * unit(elements_of(seed, first, n, dtype), dtype))


def near(value: float) -> st.SearchStrategy[float]:
    """Within some ulps of float32, and not one of its numbers."""
    return st.integers(-999, 999).map(lambda by: value * (1 + by * 1e-9))


@both_dtypes
@settings(max_examples=100)
@given(
    limits=st.tuples(near(1), near(1)) | st.tuples(near(-3), near(2)) | st.tuples(near(1), near(9))
)
def test_uniform_stays_between_its_limits(dtype: type, limits: tuple[float, float]) -> None:
    low, high = sorted(limits)
    x = Philox(7).uniform(2000, low, high, dtype=dtype)
    assert dtype(low) <= x.min() <= x.max() <= dtype(high)


def test_uniform_reaches_both_ends_of_its_range() -> None:
    x = Philox(1).uniform(2**20)
    assert x.min() < 2.0**-19
    assert 1 - 2.0**-19 < x.max() < 1
    assert_same_bits(Philox(0).uniform(99, 2.5, 2.5), np.full(99, 2.5, np.float32))


def sin_cos_turns(t: Array) -> tuple[Array, Array]:
    """Of 2 pi t in extended precision; what is left of t beyond a quarter turn is exact."""
    quarters = np.rint(4 * t)
    angle = (4 * t - quarters) * np.longdouble("1.57079632679489661923132169163975144")
    s, c = np.sin(angle), np.cos(angle)
    turn = quarters.astype(int) % 4
    return np.choose(turn, [s, c, -s, -c]), np.choose(turn, [c, -s, -c, s])


def box_muller(seed: int, blocks: int, dtype: Any) -> Array:
    """Normal numbers of the first blocks of a stream, in extended precision, out of the fractions in dtype."""
    in_block = 64 // words_of(dtype)
    pairs = elements_of(seed, 0, blocks * in_block, dtype).reshape(blocks, 2, -1)
    if dtype == np.float32:
        above_zero = ((pairs[:, 0] >> 1).astype(dtype) + dtype(0.5)) * dtype(2**-31)
    else:
        above_zero = unit(pairs[:, 0], dtype) + 2.0**-54
    radius = np.sqrt(-2 * np.log(above_zero.astype(np.longdouble)))
    s, c = sin_cos_turns(unit(pairs[:, 1], dtype).astype(np.longdouble))
    return np.stack([radius * c, radius * s], axis=1).reshape(-1)


@both_dtypes
def test_normal_is_box_and_muller(isa: str, dtype: type) -> None:
    """Within 5 ulp: relative to its size, and with u half an ulp of 1, the logarithm is within 2 u (math.hpp: an ulp),
    which the root halves, the root and the product within u each, sine and cosine within 2 u. 5 u are at most 5 ulps.
    """
    blocks = 5000
    expected = box_muller(3, blocks, dtype)
    x = Philox(3).normal(expected.size, dtype=dtype)
    assert_ulp(x, expected.astype(np.float64) if dtype == np.float32 else expected, 5)


@both_dtypes
def test_mean_and_std_are_applied_in_two_roundings(isa: str, dtype: type) -> None:
    z = Philox(4).normal(1000, dtype=dtype)
    x = Philox(4).normal(1000, mean=0.1, std=3.7, dtype=dtype)
    assert_same_bits(x, z * dtype(3.7) + dtype(0.1))
    assert_same_bits(Philox(4).normal(9, 0.1, 0, dtype=dtype), np.full(9, dtype(0.1)))


# The places in the stream of seed 0 of one of the least words there are, 2, and of one of the greatest, 2^32 - 20.
LEAST, GREATEST = 3_304_761_608, 153_885_839


def test_a_least_word_is_far_out(isa: str) -> None:
    """sqrt(-2 log(1.5 / 2^31)): radii of 24 bits would end at 5.8."""
    block = Philox(0, LEAST // 64 * 64)
    radius, angle = (stream_word(0, LEAST + i) for i in (0, 32))
    assert radius == 2
    pair = block.normal((2, 32))[:, LEAST % 64]
    r, turn = math.sqrt(-2 * math.log(1.5 * 2**-31)), 2 * math.pi * (angle >> 8) / 2**24
    np.testing.assert_allclose(pair, [r * math.cos(turn), r * math.sin(turn)], rtol=1e-6)


def test_a_greatest_word_is_at_the_mean(isa: str) -> None:
    """Its fraction rounds to 1, whose logarithm must not be above 0."""
    assert stream_word(0, GREATEST) == 2**32 - 20
    pair = Philox(0, GREATEST // 64 * 64).normal((2, 32), mean=3, std=2)[:, GREATEST % 64]
    assert pair.tolist() == [3, 3]


# ---- the same bits, whatever makes them ----


@every_kind
def test_bits_do_not_depend_on_how_they_are_made(kind: str, dtype: type) -> None:
    shape = (5, 7, 61)
    for offset in (0, 13, 64):
        expected = draw(Philox(9, offset), kind, shape, dtype)
        for isa in ISAS if kind in ANYWHERE else SAME_BITS_ISAS:
            for threads in THREADS:
                with forced(isa=isa, threads=threads, grain=1):
                    assert_same_bits(draw(Philox(9, offset), kind, shape, dtype), expected)


@every_kind
def test_threads_share_a_strided_array(engine: str, kind: str, dtype: type) -> None:
    """The numbers go to the elements in C order, whatever their strides are, and nowhere else."""
    expected = draw(Philox(2, 5), kind, (3, 11, 17), dtype)
    for out in layouts(np.zeros((3, 11, 17), dtype)).values():
        stream = Philox(2, 5)
        assert draw(stream, kind, None, dtype, out=out) is out
        assert_same_bits(out, expected)
    around = np.zeros((3, 22, 19), dtype)
    draw(Philox(2, 5), kind, None, dtype, out=around[:, ::2, 1:-1])
    assert_same_bits(around[:, ::2, 1:-1], expected)
    around[:, ::2, 1:-1] = 0
    assert not around.any()


@every_kind
def test_a_large_array_is_the_sum_of_its_pieces(kind: str, dtype: type) -> None:
    """With as many threads as there are, and at their own grain."""
    n = 1_000_003
    whole = draw(Philox(6), kind, n, dtype)
    stream = Philox(6)
    pieces = [draw(stream, kind, size, dtype) for size in (1, 499_999, 3, n - 500_003)]
    assert_same_bits(np.concatenate(pieces), whole)


# ---- the place ----


@every_kind
@settings(max_examples=25)
@given(seed=seeds, skipped=st.integers(0, 400), n=st.integers(0, 400))
def test_any_piece_by_itself(
    engine: str, kind: str, dtype: type, seed: int, skipped: int, n: int
) -> None:
    whole = draw(Philox(seed), kind, skipped + n, dtype)
    stream = Philox(seed, skipped * words_of(dtype))
    assert_same_bits(draw(stream, kind, n, dtype), whole[skipped:])
    assert stream.offset == (skipped + n) * words_of(dtype)


@every_kind
@settings(max_examples=25)
@given(offset=places, sizes=st.lists(st.integers(0, 90), max_size=6))
def test_draws_follow_each_other(kind: str, dtype: type, offset: int, sizes: list[int]) -> None:
    stream = Philox(8, offset)
    pieces = [draw(stream, kind, size, dtype) for size in sizes]
    whole = Philox(8, offset)
    joined = draw(whole, kind, sum(sizes), dtype)
    assert_same_bits(np.concatenate([joined[:0], *pieces]), joined)
    assert stream.offset == whole.offset


@pytest.mark.parametrize("kind", ["bits", "uniform", "normal", "exponential", "truncated_normal"])
def test_wide_numbers_begin_at_even_places(kind: str) -> None:
    narrow, wide = [dtype for name, dtype in KINDS if name == kind]
    stream = Philox(5, 7)
    assert_same_bits(draw(stream, kind, 3, wide), draw(Philox(5), kind, 7, wide)[4:])
    assert stream.offset == 14
    draw(stream, kind, 1, narrow)
    assert stream.offset == 15
    draw(stream, kind, (2, 2), wide)
    assert stream.offset == 24


@every_kind
def test_no_numbers_do_not_move_the_place(kind: str, dtype: type) -> None:
    for offset in (0, 7, 2**63 - 1):
        stream = Philox(0, offset)
        for shape in (0, (3, 0, 2)):
            x = draw(stream, kind, shape, dtype)
            assert (x.shape, x.dtype) == (shape if isinstance(shape, tuple) else (shape,), dtype)
        assert stream.offset == offset


def test_the_last_words_of_a_stream() -> None:
    last = 2**63 - 2
    stream = Philox(1, last)
    assert stream.bits().item() == stream_word(1, last)
    assert stream.offset == last + 1
    with pytest.raises(ValueError, match=f"offset must leave room for 1 numbers, got {last + 1}"):
        stream.bits()
    stream.offset = last - 3
    assert stream.bits(2).tolist() == [stream_word(1, last - 3 + i) for i in range(2)]


def test_the_place_may_be_set_and_is_all_the_state() -> None:
    stream = Philox(11)
    first = stream.normal(10)
    twins = [pickle.loads(pickle.dumps(stream)), copy.copy(stream), eval(repr(stream))]
    after = stream.normal(10)
    for twin in twins:
        assert_same_bits(twin.normal(10), after)
    stream.offset = np.int64(0)
    assert_same_bits(stream.normal(10), first)


def test_seeds() -> None:
    sequence = np.random.SeedSequence(3)
    assert Philox(sequence).seed == int(sequence.generate_state(1, np.uint64)[0])
    rng, twin = np.random.default_rng(1), np.random.default_rng(1)
    assert Philox(rng).seed == int(twin.bit_generator.random_raw())
    assert rng.bit_generator.state == twin.bit_generator.state
    assert Philox().seed != Philox().seed
    assert Philox(np.uint64(2**64 - 1)).seed == 2**64 - 1


# ---- shape, dtype, out ----


@every_kind
def test_shapes_and_dtypes(kind: str, dtype: type) -> None:
    ten = draw(Philox(1), kind, 10, np.dtype(dtype).name)
    assert (ten.shape, ten.dtype) == ((10,), dtype)
    assert_same_bits(draw(Philox(1), kind, (2, np.int64(5)), dtype), ten.reshape(2, 5))
    for shape in (None, ()):
        assert_same_bits(draw(Philox(1), kind, shape, dtype), ten[0].reshape(()))


def test_default_dtypes() -> None:
    assert Philox(0).integers(high=2).dtype == np.int64
    assert Philox(0).exponential().dtype == np.float32
    assert Philox(0).truncated_normal().dtype == np.float32
    assert Philox(0).bits().dtype == np.uint32
    assert Philox(0).uniform().dtype == np.float32
    assert Philox(0).normal().dtype == np.float32


@every_kind
def test_out_decides_shape_and_dtype(kind: str, dtype: type) -> None:
    out = np.empty((3, 4), dtype)
    assert draw(Philox(1), kind, None, np.int8, out=out) is out
    assert_same_bits(out, draw(Philox(1), kind, (3, 4), dtype))
    assert draw(Philox(1), kind, (3, 4), dtype, out=out) is out


# ---- distribution: fixed seeds, bounds of five standard deviations ----


def assert_even(counts: Array) -> None:
    """Chi-square of counts that should be equal."""
    expected = counts.sum() / counts.size
    chi = float(((counts - expected) ** 2 / expected).sum())
    freedom = counts.size - 1
    assert abs(chi - freedom) < 5 * math.sqrt(2 * freedom)


def assert_mean(values: Array, mean: float, sigma: float) -> None:
    """`sigma` is the standard deviation of one value."""
    assert abs(float(values.mean(dtype=np.float64)) - mean) < 5 * sigma / math.sqrt(values.size)


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_bytes_and_half_words_are_uniform(seed: int) -> None:
    words = Philox(seed).bits(2**20)
    assert_even(np.bincount(words.view(np.uint8), minlength=256))
    assert_even(np.bincount(words.view(np.uint16), minlength=2**16))
    for byte in words.view(np.uint8).reshape(-1, 4).T:
        assert_even(np.bincount(byte, minlength=256))


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_bits_of_words_are_independent(seed: int) -> None:
    """Each bit, and each with that of a word further on: the next, of the next vector, counter's word, block."""
    words = Philox(seed).bits(2**19)
    for lag in (0, 1, 2, 8, 16, 32, 64, 4096):
        differ = words[lag:] ^ words[: words.size - lag] if lag else words
        for bit in range(32):
            assert_mean((differ >> bit & 1).astype(np.float32), 0.5, 0.5)


@both_dtypes
@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_serial_correlation(kind: str, dtype: type) -> None:
    """Of numbers and of their squares: Box and Muller's pairs share a radius."""
    n = 400_000
    x = draw(Philox(21), kind, n, dtype).astype(np.float64)
    x = (x - 0.5) * math.sqrt(12) if kind == "uniform" else x
    for lag in (1, 2, 16, 32, 64, 1000):
        assert_mean(x[lag:] * x[:-lag], 0, 1)
        squares = x * x - 1
        sigma = {"uniform": 4 / 5, "normal": 2}[kind]  # the variance of a square
        assert_mean(squares[lag:] * squares[:-lag], 0, sigma)


@both_dtypes
def test_uniform_is_even(dtype: type) -> None:
    x = Philox(5).uniform(1_000_000, dtype=dtype)
    assert_mean(x, 1 / 2, math.sqrt(1 / 12))
    assert_mean(x.astype(np.float64) ** 2, 1 / 3, math.sqrt(4 / 45))
    assert_even(np.histogram(x, bins=1000, range=(0, 1))[0])


@both_dtypes
def test_normal_has_its_moments_and_tails(dtype: type) -> None:
    n = 1_000_000
    x = Philox(5).normal(n, dtype=dtype).astype(np.float64)
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert_mean(x**power, mean, math.sqrt(variance))
    for limit in (0.5, 1, 2, 3, 4):
        tail = math.erfc(limit / math.sqrt(2)) / 2
        for side in (x > limit, x < -limit):
            assert_mean(side, tail, math.sqrt(tail * (1 - tail)))
    limits = [NormalDist().inv_cdf(i / 1000) for i in range(1, 1000)]
    assert_even(np.bincount(np.searchsorted(limits, x), minlength=1000))


def test_seeds_are_independent() -> None:
    a, b = (Philox(seed).bits(2**18) for seed in (0, 1))
    assert_even(np.bincount((a ^ b).view(np.uint8), minlength=256))


def test_masks_of_the_same_seed_are_independent() -> None:
    """Of any bit of the words, of the numbers and their squares, at the element's place and at its mask bit's."""
    n, seed = 400_000, 13
    kept = np.unpackbits(nf.dropout_mask(n, 0.5, rng=seed), bitorder="little")
    sign = 2.0 * kept - 1
    for at in (np.arange(n), np.arange(n) // 2):
        words = Philox(seed).bits(n)[at]
        for bit in range(32):
            assert_mean((words >> bit & 1) * 2.0 - 1, 0, 1)
            assert_mean(((words >> bit & 1) * 2.0 - 1) * sign, 0, 1)
        x = Philox(seed).normal(n)[at].astype(np.float64)
        assert_mean(x * sign, 0, 1)
        assert_mean((x * x - 1) * sign, 0, math.sqrt(2))


# ---- exponential, truncated ----


@both_dtypes
def test_exponential_is_the_logarithm(isa: str, dtype: type) -> None:
    n = 20_000
    bits = elements_of(3, 0, n, dtype)
    if dtype == np.float32:
        above_zero = ((bits >> 1).astype(dtype) + dtype(0.5)) * dtype(2**-31)
    else:
        above_zero = unit(bits, dtype) + 2.0**-54
    x = Philox(3).exponential(n, dtype=dtype)
    expected = -np.log(above_zero.astype(np.longdouble))
    assert_ulp(x, expected.astype(np.float64) if dtype == np.float32 else expected, 2)
    assert_same_bits(Philox(3).exponential(n, 2.5, dtype=dtype), x * dtype(2.5))
    assert_same_bits(Philox(3).exponential(9, 0, dtype=dtype), np.zeros(9, dtype))


@both_dtypes
def test_exponential_has_its_moments_and_tail(dtype: type) -> None:
    x = Philox(5).exponential(1_000_000, dtype=dtype).astype(np.float64)
    for power in (1, 2, 3):
        mean = math.factorial(power)
        assert_mean(x**power, mean, math.sqrt(math.factorial(2 * power) - mean**2))
    assert_even(np.histogram(np.exp(-x), bins=1000, range=(0, 1))[0])


@pytest.mark.parametrize("bounds", [(-2.0, 2.0), (-0.3, 4.0), (2.0, 3.0), (-9.0, -8.0), (0.1, 0.2)])
@both_dtypes
def test_any_piece_of_truncated_numbers(bounds: tuple[float, float], dtype: type) -> None:
    """Also where they are drawn from other distributions, by two words a number then."""

    def drawn(stream: Philox, n: int) -> Array:
        return stream.truncated_normal(n, 3, 0.5, *bounds, dtype=dtype)

    whole = drawn(Philox(8), 1000)
    stream = Philox(8)
    pieces = [drawn(stream, n) for n in (1, 70, 0, 600, 329)]
    assert_same_bits(np.concatenate(pieces), whole)
    words = 2 if bounds[0] * bounds[1] > 0 or dtype == np.float64 else 1
    assert stream.offset == 1000 * words
    assert dtype(3 + 0.5 * bounds[0]) <= whole.min() <= whole.max() <= dtype(3 + 0.5 * bounds[1])
    for isa in SAME_BITS_ISAS:
        for threads in THREADS:
            with forced(isa=isa, threads=threads, grain=1):
                assert_same_bits(drawn(Philox(8), 1000), whole)


# ---- integers ----


def integer(seed: int, at: int, low: int, high: int) -> int:
    """The number by its definition: words that are rejected come from the same place of other streams."""
    for stream in (0, *range(0x40000001, 0x40000100)):
        bits = stream_word(seed, 2 * at, stream) | stream_word(seed, 2 * at + 1, stream) << 32
        product = bits * (high - low)
        if product % 2**64 >= 2**64 % (high - low):
            return low + (product >> 64)
    raise AssertionError


@settings(max_examples=10)
@given(
    seed=seeds,
    at=st.integers(0, 2**61),
    bounds=st.sampled_from([(0, 6), (-(2**63), 2**63), (-3, 2**62), (0, 2**63 - 1), (5, 6)]),
)
def test_integers_are_their_definition(
    engine: str, seed: int, at: int, bounds: tuple[int, int]
) -> None:
    x = Philox(seed, 2 * at).integers(40, *bounds)
    assert x.tolist() == [integer(seed, at + i, *bounds) for i in range(40)]


def test_integers_do_not_depend_on_the_dtype() -> None:
    expected = Philox(3, 7).integers(1000, 10, 2**31)
    for dtype in (np.int32, np.uint32, np.uint64):
        stream = Philox(3, 7)
        x = stream.integers(1000, 10, 2**31, dtype=dtype)
        assert x.dtype == dtype
        assert stream.offset == 2008
        np.testing.assert_array_equal(x, expected)
    around = np.zeros((20, 30), np.int32)
    Philox(3, 7).integers(low=10, high=2**31, out=around[::2, ::-1])
    np.testing.assert_array_equal(around[::2, ::-1].ravel(), expected[:300])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_integers_of_all_of_a_dtype(dtype: type) -> None:
    limits = np.iinfo(dtype)
    low, high = int(limits.min), int(limits.max) + 1
    x = Philox(4).integers(100_000, low, high, dtype=dtype)
    assert_even(np.histogram(x.astype(np.float64), bins=100, range=(float(low), float(high)))[0])
    assert Philox(4).integers(9, high - 1, high, dtype=dtype).tolist() == [high - 1] * 9
    if limits.bits == 64:
        bits = Philox(4).bits(100_000, dtype=np.uint64)
        np.testing.assert_array_equal(x.astype(np.uint64) - np.uint64(low % 2**64), bits)


@pytest.mark.parametrize("count", [2, 3, 6, 1000])
def test_integers_are_even(count: int) -> None:
    assert_even(np.bincount(Philox(5).integers(1_000_000, 0, count), minlength=count))


def test_integers_of_a_large_range_are_even() -> None:
    """By products alone, every third number of three quarters of 2^64 would be twice as frequent."""
    x = Philox(5).integers(300_000, 0, 3 * 2**62, dtype=np.uint64)
    assert_even(np.bincount((x % np.uint64(3)).astype(int), minlength=3))


# ---- permutations and choices ----

SIZES = [0, 1, 2, 3, 100, 2**15, 2**15 + 1, 300_000]


@pytest.mark.parametrize("n", SIZES)
def test_permutations_have_every_number_once(n: int) -> None:
    stream = Philox(6, 3)
    order = stream.permutation(n)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    assert stream.offset == (6 if n else 3)
    for isa in ISAS:
        for threads in THREADS:
            with forced(isa=isa, threads=threads, grain=1):
                np.testing.assert_array_equal(Philox(6, 3).permutation(n), order)
    assert n < 100 or not np.array_equal(stream.permutation(n), order)


def test_orders_are_equally_likely() -> None:
    for n in (2, 3, 4, 5):
        stream = Philox(n)
        seen = np.array([stream.permutation(n) for _ in range(200 * math.factorial(n))])
        _, counts = np.unique(seen @ 10 ** np.arange(n), return_counts=True)
        assert counts.size == math.factorial(n)
        assert_even(counts)


def test_numbers_go_everywhere() -> None:
    """Of one bucket and of several: from each part of the array to each, neighbours apart, and parities mixed."""
    for n in (20_000, 640_000):
        order = Philox(n).permutation(n)
        parts = 20
        moves = (np.arange(n) * parts // n) * parts + order * parts // n
        assert_even(np.bincount(moves, minlength=parts * parts))
        steps = np.diff(order).astype(np.float64)
        # Of the difference of two of n numbers without replacement.
        assert_mean(np.sign(steps), 0, 1)
        assert_mean(np.abs(steps) / n, 1 / 3, math.sqrt(1 / 18))
        assert_mean((order % 2 * 2.0 - 1) * (np.arange(n) % 2 * 2 - 1), 0, 1)


def test_permutations_of_arrays() -> None:
    x = np.arange(60.0).reshape(3, 5, 4)
    for axis in (0, 1, -1):
        order = Philox(7).permutation(x.shape[axis])
        np.testing.assert_array_equal(Philox(7).permutation(x, axis), np.take(x, order, axis))
    assert Philox(7).permutation(np.empty((0, 3))).shape == (0, 3)


def test_choice_with_replacement() -> None:
    stream = Philox(8)
    x = stream.choice(7, (3, 5))
    assert stream.offset == 30
    np.testing.assert_array_equal(x, Philox(8).integers((3, 5), 0, 7))
    letters = np.array(list("abcdefg"))
    np.testing.assert_array_equal(Philox(8).choice(letters, (3, 5)), letters[x])
    assert Philox(8).choice(7).shape == ()
    table = np.arange(14).reshape(2, 7)
    np.testing.assert_array_equal(Philox(8).choice(table, (3, 5), axis=1), table[:, x])
    p = np.array([0.1, 0, 0.3, 0.6])
    drawn = Philox(8).choice(4, 500_000, p=p)
    counts = np.bincount(drawn, minlength=4)
    for count, probability in zip(counts, p, strict=True):
        sigma = math.sqrt(500_000 * probability * (1 - probability))
        assert abs(count - 500_000 * probability) <= 5 * sigma
    pieces = Philox(8)
    parts = [pieces.choice(4, n, p=p) for n in (1, 77, 422)]
    np.testing.assert_array_equal(np.concatenate(parts), drawn[:500])
    assert Philox(8).choice(3, 0).shape == Philox(8).choice(0, 0).shape == (0,)


@pytest.mark.parametrize(("n", "count"), [(1, 1), (10, 10), (10, 4), (1000, 9), (10**15, 500)])
def test_choice_without_replacement(n: int, count: int) -> None:
    stream = Philox(9)
    x = stream.choice(n, count, replace=False)
    assert stream.offset == 2
    assert np.unique(x).size == count
    assert 0 <= x.min() <= x.max() < n
    np.testing.assert_array_equal(Philox(9).choice(n, count, replace=False), x)
    assert Philox(9).choice(n, 0, replace=False).size == 0


def test_choices_without_replacement_are_equally_likely() -> None:
    """Ordered pairs of 5 by a permutation, and single ones of 40 by draws that differ."""
    stream = Philox(10)
    pairs = np.array([stream.choice(5, 2, replace=False) for _ in range(20_000)])
    counts = np.bincount(pairs @ [5, 1], minlength=25).reshape(5, 5)
    assert not counts.diagonal().any()
    assert_even(counts[~np.eye(5, dtype=bool)])
    some = np.array([stream.choice(40, 3, replace=False) for _ in range(20_000)])
    for column in some.T:
        assert_even(np.bincount(column, minlength=40))


def test_weighted_choices_without_replacement() -> None:
    """The first has the probabilities, the second those of what is left."""
    p = np.array([0.5, 0.3, 0.2, 0])
    stream = Philox(11)
    pairs = np.array([stream.choice(4, 2, replace=False, p=p) for _ in range(20_000)])
    counts = np.bincount(pairs @ [4, 1], minlength=16).reshape(4, 4)
    for i in range(4):
        for j in range(4):
            share = p[i] * p[j] / (1 - p[i]) if i != j else 0
            sigma = math.sqrt(20_000 * share * (1 - share))
            assert abs(counts[i, j] - 20_000 * share) <= 5 * sigma


# ---- a battery made by others ----

# Dieharder's tests, but those that it calls suspect.
BATTERY = [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 15, 16, 17, 100, 101, 102]
BATTERY += [200, 201, 202, 203, 204, 205, 206, 207, 208, 209]
TUPLES = {200: 4, 201: 2, 202: 4, 203: 4}  # numbers looked at together, where there is no default
P_VALUES = 60


def dieharder(program: str, test: int, stream: Philox) -> list[str]:
    """Its lines of p-values of one test, about the words of a stream from its place on."""
    command = [program, "-g", "200", "-d", str(test)]
    if test in TUPLES:
        command += ["-n", str(TUPLES[test])]
    words = np.empty(2**18, np.uint32)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        with contextlib.suppress(BrokenPipeError):  # it stops reading when it has enough
            while process.poll() is None:
                process.stdin.write(stream.bits(out=words))
        printed = process.stdout.read().decode()
    return [line for line in printed.splitlines() if re.search("PASSED|WEAK|FAILED", line)]


@pytest.mark.slow
def test_dieharder() -> None:
    """Four minutes. One p-value in a hundred is called weak; five standard deviations above that are four of all."""
    program = shutil.which("dieharder")
    assert program, "dieharder is not installed: apt-get install dieharder"
    stream = Philox(0)
    lines = [line for test in BATTERY for line in dieharder(program, test, stream)]
    report = "\n".join(lines)
    print(report)
    assert len(lines) == P_VALUES, report
    assert "FAILED" not in report, report
    assert report.count("WEAK") <= 4, report


# ---- errors ----

FROZEN = np.ones(3, np.float32)
FROZEN.flags.writeable = False
OUT = np.full(3, 9.0, np.float32)


@pytest.mark.parametrize(
    ("kind", "keywords", "error", "message"),
    [
        ("bits", {"shape": -1}, ValueError, "shape must not be negative, got -1"),
        ("bits", {"shape": (2, -1)}, ValueError, r"shape must not be negative, got \(2, -1\)"),
        ("bits", {"shape": 1.5}, TypeError, "shape must be an int, got float"),
        ("bits", {"shape": [2]}, TypeError, "shape must be an int, got list"),
        ("bits", {"dtype": np.float32}, TypeError, "dtype must be uint32 or uint64, got float32"),
        ("bits", {"dtype": ">u4"}, TypeError, "dtype must be uint32 or uint64, got >u4"),
        ("bits", {"out": OUT}, TypeError, "out must have dtype uint32 or uint64, got float32"),
        ("uniform", {"dtype": np.float16}, TypeError, "dtype must be float32 or float64, got fl"),
        ("uniform", {"out": [1]}, TypeError, "out must be a numpy.ndarray, got list"),
        ("uniform", {"out": FROZEN}, ValueError, "out must be writeable, but is read-only"),
        ("uniform", {"out": OUT.astype(">f4")}, TypeError, "out must have dtype .* got >f4"),
        ("uniform", {"out": OUT, "shape": 4}, ValueError, r"shape \(4,\), got \(3,\)"),
        ("uniform", {"out": OUT, "low": 2}, ValueError, "low must not be above high, got 2.0 and"),
        ("uniform", {"out": OUT, "low": 1 + 1e-12}, ValueError, "low must not be above high"),
        ("uniform", {"out": OUT, "low": np.nan}, ValueError, "low must be finite in float32"),
        ("uniform", {"out": OUT, "high": np.inf}, ValueError, "high must be finite in float32"),
        ("uniform", {"out": OUT, "high": 1e39}, ValueError, "high must be finite .* got 1e\\+39"),
        ("uniform", {"out": OUT, "low": "0"}, TypeError, "low must be a real number, got str"),
        ("uniform", {"out": OUT, "high": None}, TypeError, "high must be a real number, got None"),
        ("uniform", {"out": OUT, "low": -3e38, "high": 3e38}, ValueError, "high - low must be fin"),
        ("normal", {"out": OUT, "mean": -np.inf}, ValueError, "mean must be finite in float32"),
        ("normal", {"out": OUT, "mean": 1e39}, ValueError, "mean must be finite in float32"),
        ("normal", {"out": OUT, "std": np.nan}, ValueError, "std must be finite in float32"),
        ("normal", {"out": OUT, "std": -0.5}, ValueError, "std must not be negative, got -0.5"),
        ("normal", {"out": OUT, "std": 1j}, TypeError, "std must be a real number, got complex"),
        (
            "exponential",
            {"out": OUT, "scale": -1},
            ValueError,
            "scale must not be negative, got -1",
        ),
        ("exponential", {"out": OUT, "scale": np.inf}, ValueError, "scale must be finite in float"),
        ("exponential", {"out": OUT, "scale": "1"}, TypeError, "scale must be a real number"),
        ("exponential", {"dtype": np.int64}, TypeError, "dtype must be float32 or float64, got in"),
        ("truncated_normal", {"out": OUT, "std": -1}, ValueError, "std must not be negative"),
        ("truncated_normal", {"out": OUT, "low": 3}, ValueError, "low must not be above high"),
        ("truncated_normal", {"out": OUT, "high": np.inf}, ValueError, "high must be finite"),
        ("truncated_normal", {"out": OUT, "mean": 1e39}, ValueError, "mean must be finite in fl"),
        ("integers", {"shape": 3}, TypeError, "high must be an int, got NoneType"),
        ("integers", {"shape": 3, "high": 2.5}, TypeError, "high must be an int, got float"),
        ("integers", {"shape": 3, "low": 5, "high": 5}, ValueError, "high must be above low, 5, g"),
        ("integers", {"shape": 3, "high": -1}, ValueError, "high must be above low, 0, got -1"),
        ("integers", {"high": 2**63 + 1}, ValueError, r"at most 9223372036854775808 for int64"),
        ("integers", {"high": 1, "low": -1, "dtype": "u4"}, ValueError, "low must be at least 0 f"),
        ("integers", {"high": 1, "dtype": np.int8}, TypeError, "int32, int64, uint32 or uint64, g"),
        ("integers", {"high": 1, "out": OUT}, TypeError, "out must have dtype int32, int64, uint3"),
        ("permutation", {"x": -1}, ValueError, "x must be at least 0, got -1"),
        ("permutation", {"x": 1.5}, ValueError, "x must be an int or have an axis, got 1.5"),
        ("permutation", {"x": [1, 2], "axis": 1}, ValueError, "axis"),
        ("choice", {"a": 0}, ValueError, "a must have entries to draw from, got 0"),
        ("choice", {"a": -3}, ValueError, "a must be at least 0, got -3"),
        ("choice", {"a": 3, "shape": -1}, ValueError, "shape must not be negative"),
        ("choice", {"a": 3, "shape": 4, "replace": False}, ValueError, "at most 3 elements witho"),
        ("choice", {"a": 2, "p": [1]}, ValueError, r"p must have shape \(2,\), got \(1,\)"),
        ("choice", {"a": 2, "p": [1.5, -0.5]}, ValueError, "p must have no negative number"),
        ("choice", {"a": 2, "p": [1, np.nan]}, ValueError, "p must have no negative number and n"),
        ("choice", {"a": 2, "p": [0.5, 0.25]}, ValueError, "p must have the sum 1, got 0.75"),
        ("choice", {"a": 2, "p": ["a", "b"]}, TypeError, "p must be an array of real numbers"),
        (
            "choice",
            {"a": 2, "shape": 2, "p": [1, 0], "replace": False},
            ValueError,
            "at most 1 elements without replacement, got 2",
        ),
        ("normal", {"dtype": "f8", "mean": 1e308, "std": np.inf}, ValueError, "std .* float64"),
    ],
)
def test_errors_change_nothing(
    kind: str, keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    stream, out = Philox(1, 5), keywords.get("out")
    before = copy.copy(out)
    with pytest.raises(error, match=message):
        getattr(stream, kind)(**keywords)
    assert (stream.seed, stream.offset) == (1, 5)
    np.testing.assert_array_equal(out, before)


@every_kind
def test_the_end_of_a_stream_changes_nothing(kind: str, dtype: type) -> None:
    out = np.full(10, 9, dtype)
    stream = Philox(1, 2**63 - 10)
    with pytest.raises(ValueError, match="offset must leave room for 10 numbers"):
        draw(stream, kind, None, dtype, out=out)
    assert stream.offset == 2**63 - 10
    np.testing.assert_array_equal(out, 9)


@pytest.mark.parametrize(
    ("seed", "offset", "error", "message"),
    [
        (-1, 0, ValueError, "rng must be in"),
        (2**64, 0, ValueError, "rng must be in"),
        (0.5, 0, TypeError, "rng must be an int"),
        (None, -1, ValueError, r"offset must be in \[0, 2\*\*63\), got -1"),
        (None, 2**63, ValueError, "offset must be in"),
        (None, 0.0, TypeError, "offset must be an int, got float"),
    ],
)
def test_invalid_streams(seed: Any, offset: Any, error: type[Exception], message: str) -> None:
    """A Generator, in place of None, is not advanced for it."""
    rng, twin = np.random.default_rng(1), np.random.default_rng(1)
    with pytest.raises(error, match=message):
        Philox(rng if seed is None else seed, offset)
    assert rng.bit_generator.state == twin.bit_generator.state


def test_an_offset_that_is_refused_is_not_taken() -> None:
    stream = Philox(0, 3)
    for offset, error in ((-1, ValueError), (2**63, ValueError), (1.0, TypeError)):
        with pytest.raises(error, match="offset must be"):
            stream.offset = offset
    assert stream.offset == 3
