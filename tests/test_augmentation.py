"""Augmentation: what each draw does to an image, how often, layouts, results in place, errors."""

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnfast as nf
from layouts import assert_same_bits, layouts

Array = NDArray[Any]
aug = nf.augmentation

NUMBERS = [np.dtype(code) for code in "?bBhHiIlLefdFD"]
FLOATS = [np.dtype(code) for code in "efd"]
SEEDS = st.integers(0, 2**64 - 1)


def images(seed: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """Numbers of which few are equal, as far as the dtype has many."""
    numbers = np.random.default_rng(seed).standard_normal(shape) * 50
    return (numbers > 0 if np.dtype(dtype).kind == "b" else np.abs(numbers)).astype(dtype)


def channels_last(x: Array) -> Array:
    """The same images in (N, H, W, C)."""
    return np.ascontiguousarray(np.moveaxis(x, 1, 3))


def channels_first(x: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(x, 3, 1))


def uniforms(seed: int, n: int, count: int) -> Array:
    """The numbers that decide about each of n images."""
    return np.random.default_rng(seed).random((n, count))


def assert_rate(count: int, n: int, p: float) -> None:
    """As often as n independent draws of probability p give it, to five standard deviations."""
    assert abs(count - n * p) <= 5 * math.sqrt(n * p * (1 - p))


def assert_even(places: Array, counts: tuple[int, ...]) -> None:
    """All places (rows of coordinates) are equally frequent, taken together."""
    flat = np.ravel_multi_index(tuple(places.T), counts)
    for found in np.bincount(flat, minlength=math.prod(counts)):
        assert_rate(found, len(places), 1 / math.prod(counts))


def flip(x: Array, **keywords: Any) -> Array:
    return aug.random_flip(x, 0.6, **keywords)


def flip_vertically(x: Array, **keywords: Any) -> Array:
    return aug.random_flip(x, 0.4, direction="vertical", **keywords)


def crop(x: Array, **keywords: Any) -> Array:
    return aug.random_crop(x, (4, 3), **keywords)


def crop_padded(x: Array, **keywords: Any) -> Array:
    return aug.random_crop(x, 6, padding=2, **keywords)


def noise(x: Array, **keywords: Any) -> Array:
    return aug.random_noise(x, 0.5, **keywords)


def erasing(x: Array, **keywords: Any) -> Array:
    return aug.random_erasing(x, 0.7, value=np.arange(3) % 2, **keywords)


def erasing_randomly(x: Array, **keywords: Any) -> Array:
    return aug.random_erasing(x, 0.7, value="random", **keywords)


EVERY = [flip, flip_vertically, crop, crop_padded, noise, erasing, erasing_randomly]
IN_PLACE = [function for function in EVERY if function not in (crop, crop_padded)]
LAID_OUT = [function for function in EVERY if function is not noise]  # noise knows no layout
every_function = pytest.mark.parametrize("function", EVERY)
Function = Callable[..., Array]


# ---- flips ----


@given(
    shape=st.tuples(*[st.integers(0, 6)] * 4),
    dtype=st.sampled_from(NUMBERS),
    p=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    vertical=st.booleans(),
    seed=SEEDS,
)
def test_flip_is_its_definition(
    shape: tuple[int, ...], dtype: Any, p: float, vertical: bool, seed: int
) -> None:
    x = images(1, shape, dtype)
    expected = x.copy()
    for image, (u,) in zip(expected, uniforms(seed, len(x), 1), strict=True):
        if u < p:
            image[...] = image[:, ::-1].copy() if vertical else image[..., ::-1].copy()
    direction = "vertical" if vertical else "horizontal"
    y = aug.random_flip(x, p, direction=direction, rng=seed)
    assert_same_bits(y, expected)
    assert not np.may_share_memory(x, y)


def flipped(x: Array, p: float, seed: int) -> Array:
    """Which of the images were mirrored; each is as it was or the mirror of it."""
    y = aug.random_flip(x, p, rng=seed)
    same = (y == x).all(axis=(1, 2, 3))
    mirrored = (y == x[..., ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    return mirrored


@pytest.mark.parametrize("p", [0.0, 0.01, 0.5, 0.9, 1.0])
def test_flip_rate_and_independence(p: float) -> None:
    n = 20_000
    x = images(2, (n, 1, 2, 3), np.float32)
    first, other = flipped(x, p, 3), flipped(x, p, 4)
    assert_rate(first.sum(), n, p)
    assert_rate((first & other).sum(), n, p * p)
    assert_rate((first[1:] & first[:-1]).sum(), n - 1, p * p)


# ---- crops ----


@given(data=st.data(), dtype=st.sampled_from(NUMBERS), seed=SEEDS)
def test_crop_is_its_definition(data: Any, dtype: Any, seed: int) -> None:
    n, channels = data.draw(st.tuples(st.integers(0, 5), st.integers(0, 3)))
    padding = data.draw(st.integers(0, 3))
    high, wide = (data.draw(st.integers(1, 6)) + 2 * padding for _ in range(2))
    height, width = data.draw(st.integers(1, high)), data.draw(st.integers(1, wide))
    x = images(1, (n, channels, high - 2 * padding, wide - 2 * padding), dtype)
    expected = np.empty((n, channels, height, width), dtype)
    for i, (down, right) in enumerate(uniforms(seed, n, 2)):
        top, left = math.floor(down * (high - height + 1)), math.floor(right * (wide - width + 1))
        for c in range(channels):
            padded = np.pad(x[i, c], padding)
            expected[i, c] = padded[top : top + height, left : left + width]
    y = aug.random_crop(x, (height, width), padding=padding, rng=seed)
    assert_same_bits(y, expected)
    assert not np.may_share_memory(x, y)


def test_all_windows_are_equally_likely() -> None:
    n, at = 60_000, np.arange(1, 13).reshape(3, 4)
    x = np.broadcast_to(at, (n, 1, 3, 4))
    corner = aug.random_crop(x, (2, 2), rng=1)[:, 0, 0, 0]
    assert_even(np.stack(np.divmod(corner - 1, 4), axis=1), (2, 3))
    # With padding the window's four pixels tell its place, which is the image's place in a larger one.
    y = aug.random_crop(x, (5, 6), padding=2, rng=1)[:, 0]
    first = (y.reshape(n, -1) == 6).argmax(axis=1)  # at (1, 1), never cut off
    top_left = np.array([3, 3]) - np.stack(np.divmod(first, 6), axis=1)
    assert_even(top_left, (3, 3))


def test_an_int_is_a_square_and_the_whole_image_is_itself() -> None:
    x = images(1, (4, 3, 6, 6), np.float32)
    assert_same_bits(aug.random_crop(x, 4, rng=1), aug.random_crop(x, (4, 4), rng=1))
    assert_same_bits(aug.random_crop(x, np.int64(6)), x)
    assert_same_bits(aug.random_crop(x, [6, 6]), x)


def test_crop_without_padding_copies_the_windows_alone() -> None:
    x = np.ones((16, 3, 100, 100), np.float32)
    tracemalloc.start()
    aug.random_crop(x, 20, rng=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < x.nbytes / 4


# ---- noise ----


@pytest.mark.parametrize("dtype", FLOATS)
def test_noise_is_normal(dtype: Any) -> None:
    n = 1_000_000
    z = aug.random_noise(np.zeros((10, 10, 100, 100), dtype), 1, rng=1).ravel().astype(np.float64)
    # Of normal numbers: mean 0, mean square 1, mean fourth power 3, with variances 1, 2 and 96.
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
        assert abs((z**power).mean() - mean) < 5 * math.sqrt(variance / n)
    for bound in (-3, -1.5, -0.5, 0.5, 1.5, 3):
        assert_rate((z < bound).sum(), n, math.erfc(-bound / math.sqrt(2)) / 2)
    for lag in (1, 2, 3, 100, 10_000):
        assert abs((z[lag:] * z[:-lag]).mean()) < 5 / math.sqrt(n - lag)
    other = aug.random_noise(np.zeros(n, dtype), 1, rng=2)
    assert abs((z * other).mean()) < 5 / math.sqrt(n)


@settings(max_examples=30)
@given(
    shape=st.lists(st.integers(0, 6), max_size=4).map(tuple),
    dtype=st.sampled_from(FLOATS),
    std=st.floats(0, 10),
    seed=SEEDS,
)
def test_noise_is_added(shape: tuple[int, ...], dtype: Any, std: float, seed: int) -> None:
    x = images(1, shape, dtype)
    wide = np.float64 if dtype == np.float64 else np.float32
    z = aug.random_noise(np.zeros(shape, wide), 1, rng=seed)
    y = aug.random_noise(x, std, rng=seed)
    assert_same_bits(y, (x.astype(wide) + wide(std) * z).astype(dtype))


def test_noise_has_other_bits_than_the_draws_of_the_same_seed() -> None:
    z = aug.random_noise(np.zeros(1000), 1, rng=3)
    assert not np.isin(np.random.default_rng(3).standard_normal(1000), z).any()


def test_noise_keeps_nan_and_infinity() -> None:
    x = np.array([np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(aug.random_noise(x, 1), x)


def test_noise_of_other_byte_order() -> None:
    x = images(1, (2, 3), np.float32)
    y = aug.random_noise(x.astype(x.dtype.newbyteorder()), 1, rng=1)
    assert_same_bits(y, aug.random_noise(x, 1, rng=1))


# ---- erasing ----


def rectangle(
    u: Array, height: int, width: int, p: float, scale: Any, ratio: Any
) -> tuple[slice, slice]:
    """What is erased, try after try as torchvision's RandomErasing does it, from 23 uniform numbers."""
    chance, shares, ratios, down, right = u[0], u[1:11], u[11:21], u[21], u[22]
    if chance < p:
        for share, aspect in zip(shares, ratios, strict=True):
            area = height * width * (scale[0] + share * (scale[1] - scale[0]))
            low, high = math.log(ratio[0]), math.log(ratio[1])
            aspect = math.exp(low + aspect * (high - low))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if h < height and w < width:
                top, left = math.floor(down * (height - h + 1)), math.floor(right * (width - w + 1))
                return slice(top, top + h), slice(left, left + w)
    return slice(0), slice(0)


ranges = {
    "scale": st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    "ratio": st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)).map(sorted),
}


@given(
    shape=st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 12), st.integers(0, 12)),
    dtype=st.sampled_from(NUMBERS),
    p=st.sampled_from([0.0, 0.5, 1.0]),
    seed=SEEDS,
    **ranges,
)
def test_erasing_is_its_definition(
    shape: tuple[int, ...], dtype: Any, p: float, seed: int, scale: Any, ratio: Any
) -> None:
    x = images(1, shape, dtype)
    value = np.arange(shape[1]) % 2
    expected = x.copy()
    for image, u in zip(expected, uniforms(seed, len(x), 23), strict=True):
        image[:, *rectangle(u, *shape[2:], p, scale, ratio)] = value[:, None, None]
    y = aug.random_erasing(x, p, scale=scale, ratio=ratio, value=value, rng=seed)
    assert_same_bits(y, expected)
    assert not np.may_share_memory(x, y)


def rectangles(y: Array, value: float) -> Array:
    """Top, left, height and width in each image; checks that what has the value is one rectangle in all channels."""
    hit = (y == value).all(axis=1)
    np.testing.assert_array_equal((y == value).any(axis=1), hit)
    rows, columns = hit.any(axis=2), hit.any(axis=1)
    np.testing.assert_array_equal(hit, rows[:, :, None] & columns[:, None, :])
    for side in (rows, columns):  # without gaps
        assert (np.diff(side.astype(int), axis=1, prepend=0, append=0) == 1).sum(axis=1).max() <= 1
    return np.stack([f(s, 1) for f in (np.argmax, np.sum) for s in (rows, columns)], axis=1)


@settings(max_examples=30)
@given(seed=SEEDS, **ranges)
def test_erased_is_one_rectangle_in_range(seed: int, scale: Any, ratio: Any) -> None:
    size = 24
    x = images(1, (50, 2, size, size), np.float32)
    y = aug.random_erasing(x, 1, scale=scale, ratio=ratio, value=-1, rng=seed)
    assert_same_bits(y[y != -1], x[y != -1])
    for _, _, h, w in rectangles(y, -1):
        assert max(h, w) < size
        # Some share and ratio within their ranges have sides that round to these.
        if min(h, w) > 0:
            shares = (h - 0.5) * (w - 0.5) / size**2, (h + 0.5) * (w + 0.5) / size**2
            assert shares[0] <= scale[1] * (1 + 1e-9)
            assert shares[1] >= scale[0] * (1 - 1e-9)
            ratios = (h - 0.5) / (w + 0.5), (h + 0.5) / (w - 0.5)
            assert ratios[0] <= ratio[1] * (1 + 1e-9)
            assert ratios[1] >= ratio[0] * (1 - 1e-9)


@pytest.mark.parametrize("p", [0.0, 0.05, 0.5, 1.0])
def test_erasing_rate(p: float) -> None:
    n = 20_000
    x = np.ones((n, 1, 8, 8), np.float32)
    y = aug.random_erasing(x, p, scale=(0.1, 0.3), ratio=(0.8, 1.2), rng=5)
    assert_rate((y == 0).any(axis=(1, 2, 3)).sum(), n, p)


def test_ten_tries() -> None:
    n = 20_000
    x = np.ones((n, 1, 2, 2), np.float32)
    # The rectangle is a pixel up to a share of 9/16, and the whole image, which does not fit, from there on.
    y = aug.random_erasing(x, 1, scale=(0.5, 1), ratio=(1, 1), rng=5)
    assert set((y == 0).sum(axis=(1, 2, 3))) == {0, 1}
    assert_rate((y == 0).sum(), n, 1 - (7 / 8) ** 10)
    assert_same_bits(aug.random_erasing(x, 1, scale=(1, 1), ratio=(1, 1)), x)


def test_all_places_are_equally_likely() -> None:
    n = 60_000
    x = np.ones((n, 1, 5, 6), np.float32)
    y = aug.random_erasing(x, 1, scale=(0.3, 0.3), ratio=(1, 1), rng=6)
    found = rectangles(y, 0)
    assert (found[:, 2:] == 3).all()
    assert_even(found[:, :2], (3, 4))


def test_share_and_logarithm_of_the_ratio_are_uniform() -> None:
    x = np.ones((3000, 1, 100, 100), np.uint8)
    y = aug.random_erasing(x, 1, scale=(0.1, 0.3), ratio=(0.5, 3), rng=7)
    _, _, h, w = rectangles(y, 0).T
    for found, low, high in (
        (h * w / 10_000, 0.1, 0.3),
        (np.log(h / w), math.log(0.5), math.log(3)),
    ):
        for part in (0.1, 0.5, 0.8):
            assert_rate((found < low + part * (high - low)).sum(), len(x), part)


@pytest.mark.parametrize("dtype", FLOATS)
def test_random_values_are_normal(dtype: Any) -> None:
    x = np.full((100, 3, 64, 64), 100, dtype)
    y = aug.random_erasing(x, 1, value="random", rng=8)
    z = y[y != 100].astype(np.float64)
    assert z.size > 100 * 3 * 64 * 64 * 0.02
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
        assert abs((z**power).mean() - mean) < 5 * math.sqrt(variance / z.size)
    # Where they are is where a number would be, and no two of them are equal.
    assert_same_bits(y != 100, aug.random_erasing(x, 1, value=0, rng=8) == 0)
    if dtype == np.float64:
        assert np.unique(z).size == z.size


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.uint8, 255),
        (np.uint64, 2**64 - 1),
        (np.int64, 2**60 + 1),
        (bool, 1),
        (np.float16, 0.1),
        (np.float32, np.nan),
        (np.float16, -np.inf),
        (np.complex64, 0.5),
        (np.float32, np.float64(0.1)),
    ],
)
def test_values_of_every_dtype(dtype: Any, value: Any) -> None:
    x = np.zeros((1, 1, 4, 4), dtype)
    y = aug.random_erasing(x, 1, scale=(0.25, 0.25), ratio=(1, 1), value=value, rng=0)
    expected = np.array([value], dtype)[0]
    same = np.isnan(y) if np.isnan(expected) else y == expected
    assert same.sum() == 4
    assert (y == 0).sum() == 12


# ---- all of them ----


@pytest.mark.parametrize("function", LAID_OUT)
@pytest.mark.parametrize("dtype", FLOATS)
def test_both_layouts_give_the_same_images(function: Function, dtype: Any) -> None:
    x = images(3, (20, 3, 7, 5), dtype)
    y = function(x, rng=1)
    last = function(channels_last(x), layout="NHWC", rng=1)
    assert last.shape[3] == 3
    assert_same_bits(channels_first(last), y)
    out = np.empty_like(last)
    assert function(channels_last(x), layout="NHWC", rng=1, out=out) is out
    assert_same_bits(out, last)


@every_function
@pytest.mark.parametrize("dtype", FLOATS)
def test_memory_does_not_matter(function: Function, dtype: Any) -> None:
    x = images(4, (20, 3, 7, 5), dtype)
    y = function(x, rng=2)
    assert (y.shape != x.shape) or (y != x).any()
    for laid in layouts(x).values():
        assert_same_bits(function(laid, rng=2), y)
        assert_same_bits(laid, x)
    for out in layouts(np.zeros_like(y)).values():
        assert function(x, rng=2, out=out) is out
        assert_same_bits(out, y)


@pytest.mark.parametrize("function", IN_PLACE)
@pytest.mark.parametrize("dtype", FLOATS)
def test_in_place(function: Function, dtype: Any) -> None:
    x = images(5, (20, 3, 7, 5), dtype)
    y = function(x, rng=3)
    for laid in layouts(x).values():
        assert function(laid, rng=3, out=laid) is laid
        assert_same_bits(laid, y)
    memory = x.copy()
    seen = memory.view()
    seen.flags.writeable = False
    assert function(seen, rng=3, out=memory) is memory
    assert_same_bits(memory, y)


@pytest.mark.parametrize("function", [f for f in IN_PLACE if f is not noise])
def test_in_place_channels_last(function: Function) -> None:
    x = channels_last(images(5, (20, 3, 7, 5), np.float32))
    y = function(x, layout="NHWC", rng=3)
    function(x, layout="NHWC", rng=3, out=x)
    assert_same_bits(x, y)


@pytest.mark.parametrize("function", [flip, flip_vertically, crop, crop_padded, erasing])
@pytest.mark.parametrize("dtype", NUMBERS)
def test_draws_do_not_depend_on_the_dtype(function: Function, dtype: Any) -> None:
    x = images(6, (20, 3, 7, 5), np.uint8) % 2
    y = function(x.astype(dtype), rng=4)
    assert_same_bits(y, function(x, rng=4).astype(dtype))


@every_function
def test_a_longer_batch_begins_with_the_same_images(function: Function) -> None:
    x = images(7, (12, 3, 7, 5), np.float32)
    y = function(x, rng=5)
    for n in range(13):
        assert_same_bits(function(x[:n], rng=5), y[:n])


@every_function
def test_empty_arrays(function: Function) -> None:
    assert function(np.empty((0, 3, 7, 5), np.float32)).shape[:2] == (0, 3)
    if function is not erasing:  # which has values for three channels
        assert function(np.empty((4, 0, 7, 5), np.float32)).shape[:2] == (4, 0)


@every_function
def test_lists_are_read(function: Function) -> None:
    x = images(8, (2, 3, 7, 5), np.float64)
    assert_same_bits(function(x.tolist(), rng=1), function(x, rng=1))


@every_function
def test_sources_of_randomness(function: Function) -> None:
    x = images(9, (40, 3, 7, 5), np.float32)

    def drawn(rng: Any) -> bytes:
        return function(x, rng=rng).tobytes()

    assert drawn(7) == drawn(7) == drawn(np.int64(7)) != drawn(8)
    assert drawn(None) != drawn(None)
    sequence = np.random.SeedSequence(3)
    seed = int(sequence.generate_state(1, np.uint64)[0])
    assert drawn(sequence) == drawn(sequence) == drawn(seed)
    rng, twin = np.random.default_rng(1), np.random.default_rng(1)
    assert drawn(rng) == drawn(int(twin.bit_generator.random_raw()))
    assert rng.bit_generator.state == twin.bit_generator.state


# ---- errors ----

X = images(0, (4, 3, 6, 5), np.float64)
FROZEN = X.copy()
FROZEN.flags.writeable = False
BYTES = np.zeros(X.shape, np.uint8)

OF_ALL = [
    ({"rng": True}, TypeError, "rng must be an int, .* got bool"),
    ({"rng": -1}, ValueError, r"rng must be in \[0, 2\*\*64\), got -1"),
    ({"x": X.astype(object)}, TypeError, "x must be an array of .*, got dtype object"),
    ({"x": X.astype(str)}, TypeError, "x must be an array of .*, got dtype <U"),
    ({"out": np.ones(X.shape, "f")}, TypeError, "out must have dtype float64, got float32"),
    ({"out": np.ones((3, 4, 6, 5))}, ValueError, r"out must have shape \(4, 3, 6, 5\), got \(3, "),
    ({"out": FROZEN}, ValueError, "out must be writeable, but is read-only"),
    ({"out": [1]}, TypeError, "out must be a numpy.ndarray, got list"),
]
OF_LAYOUTS = [
    ({"layout": "CHW"}, ValueError, "layout must be 'NCHW' or 'NHWC', got 'CHW'"),
    ({"x": X[0]}, ValueError, r"x must have shape \(N, C, H, W\), got \(3, 6, 5\)"),
    ({"x": X[0], "layout": "NHWC"}, ValueError, r"x must have shape \(N, H, W, C\), got"),
    ({"x": X[None]}, ValueError, r"x must have shape .* got \(1, 4, 3, 6, 5\)"),
]
OF_CHANCES = [
    ({"p": -0.1}, ValueError, r"p must be in \[0, 1\], got -0.1"),
    ({"p": 1.1}, ValueError, "p must be in"),
    ({"p": np.nan}, ValueError, "p must be in"),
    ({"p": "0.5"}, TypeError, "p must be a real number, got str"),
]
OF_FLIP = [
    ({"direction": "up"}, ValueError, "direction must be 'horizontal' or 'vertical', got 'up'"),
]
OF_CROP = [
    ({"size": 0}, ValueError, "size must be positive, got 0 x 0"),
    ({"size": (3, -1)}, ValueError, "size must be positive, got 3 x -1"),
    ({"size": (7, 5)}, ValueError, "size must fit images of 6 x 5, got 7 x 5"),
    ({"size": (6, 6)}, ValueError, "size must fit images of 6 x 5, got 6 x 6"),
    ({"size": (7, 8), "padding": 1}, ValueError, "size must fit images of 8 x 7, got 7 x 8"),
    ({"layout": "NHWC"}, ValueError, "size must fit images of 3 x 6, got 6 x 5"),
    ({"size": 2.0}, TypeError, "size must be an int, got float"),
    ({"size": (2, "2")}, TypeError, "size must be an int, got str"),
    ({"size": None}, TypeError, "size must be an int, got NoneType"),
    ({"size": (1, 2, 3)}, TypeError, r"size must be a pair of numbers, got \(1, 2, 3\)"),
    ({"padding": -1}, ValueError, "padding must not be negative, got -1"),
    ({"padding": 1.0}, TypeError, "padding must be an int, got float"),
]
OF_NOISE = [
    ({"std": -1}, ValueError, "std must not be negative, got -1"),
    ({"std": np.nan}, ValueError, "std must not be negative, got nan"),
    ({"std": np.inf}, ValueError, "std must be finite, got inf"),
    ({"std": "1"}, TypeError, "std must be a real number, got str"),
    ({"x": BYTES, "out": BYTES}, TypeError, "x must be an array of float16, .* got dtype uint8"),
    ({"x": X * 1j}, TypeError, "x must be an array of float16, .* got dtype complex128"),
    ({"x": X.astype(np.longdouble)}, TypeError, "x must be an array of float16, .* got dtype"),
]
OF_ERASING = [
    ({"scale": (-0.1, 0.5)}, ValueError, r"scale must be in \[0, 1\], got -0.1"),
    ({"scale": (0.1, 1.5)}, ValueError, r"scale must be in \[0, 1\], got 1.5"),
    ({"scale": (0.5, 0.1)}, ValueError, "scale must be .* ascending order, got .0.5, 0.1"),
    ({"scale": (np.nan, 0.1)}, ValueError, "scale must be two finite numbers"),
    ({"scale": 0.5}, TypeError, "scale must be a pair of numbers, got 0.5"),
    ({"scale": (0.1, 0.2, 0.3)}, TypeError, "scale must be a pair of numbers, got"),
    ({"scale": ("a", 1)}, TypeError, "scale must be a real number, got str"),
    ({"ratio": (0, 1)}, ValueError, "ratio must be positive, got 0.0"),
    ({"ratio": (2, 1)}, ValueError, "ratio must be two finite numbers in ascending order"),
    ({"ratio": (1, np.inf)}, ValueError, "ratio must be two finite numbers in ascending order"),
    ({"ratio": 1}, TypeError, "ratio must be a pair of numbers, got 1"),
    ({"value": "other"}, TypeError, "value must be a number, one a channel or .* got 'other'"),
    ({"value": None}, TypeError, "value must be a number, .* got None"),
    ({"value": 1j}, TypeError, "value must be a number, .* got 1j"),
    ({"value": [1, 2]}, ValueError, r"value must be a number or 3, .* got shape \(2,\)"),
    ({"value": X[:1, :, :1, :1]}, ValueError, "value must be a number or 3"),
    ({"x": BYTES, "out": BYTES, "value": 256}, ValueError, "value must be held by dtype uint8"),
    ({"x": BYTES, "out": BYTES, "value": [0, 1, -1]}, ValueError, "value must be held by dtype"),
    ({"x": BYTES, "out": BYTES, "value": 0.5}, ValueError, "value must be held by .* got 0.5"),
    ({"x": BYTES, "out": BYTES, "value": np.nan}, ValueError, "value must be held by .* got nan"),
    ({"x": X.astype("e"), "out": None, "value": 1e6}, ValueError, "value must be held by .*16"),
    ({"x": BYTES, "out": BYTES, "value": "random"}, TypeError, 'value "random" needs x of a float'),
]

DEFAULTS: dict[Function, dict[str, Any]] = {
    aug.random_flip: {},
    aug.random_crop: {"size": (6, 5)},
    aug.random_noise: {"std": 1},
    aug.random_erasing: {},
}
ERRORS = [
    (function, *case)
    for function, cases in (
        (aug.random_flip, OF_ALL + OF_LAYOUTS + OF_CHANCES + OF_FLIP),
        (aug.random_crop, OF_ALL + OF_LAYOUTS + OF_CROP),
        (aug.random_noise, OF_ALL + OF_NOISE),
        (aug.random_erasing, OF_ALL + OF_LAYOUTS + OF_CHANCES + OF_ERASING),
    )
    for case in cases
]


@pytest.mark.parametrize(("function", "keywords", "error", "message"), ERRORS)
def test_errors_change_nothing(
    function: Function, keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    rng = np.random.default_rng(1)
    arguments = DEFAULTS[function] | {"x": X, "out": np.full(X.shape, 9.0), "rng": rng} | keywords
    before = [np.array(arguments[name]) for name in ("x", "out")]
    state = rng.bit_generator.state
    with pytest.raises(error, match=message):
        function(**arguments)
    for name, array in zip(("x", "out"), before, strict=True):
        np.testing.assert_array_equal(arguments[name], array)
    assert rng.bit_generator.state == state


@pytest.mark.parametrize("function", DEFAULTS)
def test_overlaps_are_refused(function: Function) -> None:
    memory = np.arange(400.0)
    before = memory.copy()
    x = memory[:360].reshape(X.shape)
    outs = [memory[40:].reshape(X.shape), x[::-1], x[..., ::-1]]
    itself = "must be x itself or share no memory with it, but overlaps it"
    if function is aug.random_crop:
        outs, itself = [*outs, x], "must share no memory with the input"
    for out in outs:
        with pytest.raises(ValueError, match=f"out {itself}"):
            function(x, **DEFAULTS[function], out=out)
        np.testing.assert_array_equal(memory, before)


@pytest.mark.parametrize("function", IN_PLACE)
def test_the_same_memory_in_another_order_is_refused(function: Function) -> None:
    x = images(0, (3, 3, 5, 5), np.float64)
    before = x.copy()
    with pytest.raises(ValueError, match="out must be x itself or share no memory with it"):
        function(x, out=x.swapaxes(2, 3))
    assert_same_bits(x, before)
