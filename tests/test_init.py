"""Initialisation: spread, distribution, orthogonality, fans and gains, sources of randomness, errors, deep networks."""

import inspect
import math
import re
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnfast as nf
from conftest import THREADS
from layouts import assert_same_bits, layouts
from nnfast import init
from nnfast._testing import forced
from nnfast.random import Philox

Array = NDArray[Any]
Function = Callable[..., Array]

FLOATS = [np.float32, np.float64]
DENSE, CONV = (800, 1200), (96, 160, 9, 7)
SEEDS = st.integers(0, 2**64 - 1)

OF_FANS = [
    init.xavier_uniform,
    init.xavier_normal,
    init.he_uniform,
    init.he_normal,
    init.lecun_uniform,
    init.lecun_normal,
]
TRUNCATED = [
    partial(init.truncated_normal, low=low, high=high)
    for low, high in ((-2, 2), (-0.1, 0.2), (1, 3), (-6, -2))
]
DRAWN = [init.uniform, init.normal, *TRUNCATED, *OF_FANS, init.orthogonal]
EVERY = [init.zeros, partial(init.constant, value=0.01), *DRAWN]


def named(function: Any) -> str:
    if isinstance(function, partial):
        return f"{function.func.__name__} {list(function.keywords.values())}"
    return str(getattr(function, "__name__", function))


every_function = pytest.mark.parametrize("function", EVERY, ids=named)
every_drawn = pytest.mark.parametrize("function", DRAWN, ids=named)
every_dtype = pytest.mark.parametrize("dtype", FLOATS)


# ---- mean and spread ----


def assert_spread(w: Array, mean: float, variance: float) -> None:
    """The mean to five standard deviations of it, the variance to one per cent."""
    w = w.astype(np.float64)
    assert abs(w.mean() - mean) < 5 * math.sqrt(variance / w.size)
    assert w.var() == pytest.approx(variance, rel=0.01)


SPREADS: list[tuple[Function, tuple[int, ...], dict[str, Any], float]] = [
    (f, shape, keywords, variance)
    for pair, cases in (
        (
            (init.xavier_uniform, init.xavier_normal),
            [
                (DENSE, {}, 2 / 2000),
                (DENSE, {"mode": "fan_in"}, 1 / 800),
                (DENSE, {"mode": "fan_out"}, 1 / 1200),
                (DENSE, {"gain": 5 / 3}, 25 / 9 * 2 / 2000),
                (DENSE, {"gain": 3, "mode": "fan_in"}, 9 / 800),
                (DENSE, {"mode": "fan_in", "layout": "conv"}, 1 / 1200),
                (CONV, {}, 2 / (256 * 63)),
                (CONV, {"mode": "fan_in"}, 1 / (160 * 63)),
                (CONV, {"mode": "fan_out", "layout": "conv"}, 1 / (96 * 63)),
            ],
        ),
        (
            (init.he_uniform, init.he_normal),
            [
                (DENSE, {}, 2 / 800),
                (DENSE, {"mode": "fan_out"}, 2 / 1200),
                (DENSE, {"mode": "fan_avg"}, 2 / 1000),
                (DENSE, {"layout": "conv"}, 2 / 1200),
                (DENSE, {"activation": "linear"}, 1 / 800),
                (DENSE, {"activation": "tanh"}, 25 / 9 / 800),
                (DENSE, {"activation": "leaky_relu"}, 2 / 1.0001 / 800),
                (DENSE, {"activation": "leaky_relu", "negative_slope": 0.5}, 2 / 1.25 / 800),
                (CONV, {}, 2 / (160 * 63)),
                (CONV, {"mode": "fan_out"}, 2 / (96 * 63)),
            ],
        ),
        (
            (init.lecun_uniform, init.lecun_normal),
            [
                (DENSE, {}, 1 / 800),
                (DENSE, {"layout": "conv"}, 1 / 1200),
                (CONV, {}, 1 / (160 * 63)),
            ],
        ),
    )
    for f in pair
    for shape, keywords, variance in cases
]


@pytest.mark.parametrize(("function", "shape", "keywords", "variance"), SPREADS, ids=named)
@every_dtype
def test_variance_follows_from_the_fans(
    function: Function,
    shape: tuple[int, ...],
    keywords: dict[str, Any],
    variance: float,
    dtype: Any,
) -> None:
    w = function(shape, **keywords, dtype=dtype, rng=1)
    assert w.shape == shape
    assert w.dtype == dtype
    assert_spread(w, 0, variance)


@every_dtype
def test_spread_that_is_given(dtype: Any) -> None:
    n = 1_000_000
    assert_spread(init.uniform(n, -0.1, 0.3, dtype=dtype, rng=1), 0.1, 0.16 / 12)
    assert_spread(init.uniform(n, dtype=dtype, rng=1), 0.5, 1 / 12)
    assert_spread(init.normal(n, 3, 0.01, dtype=dtype, rng=1), 3, 1e-4)
    assert_spread(init.normal(n, dtype=dtype, rng=1), 0, 1)


def truncated_moments(low: float, high: float) -> tuple[float, float]:
    """Mean and variance of a standard normal number between two bounds."""
    densities = [math.exp(-z * z / 2) / math.sqrt(2 * math.pi) for z in (low, high)]
    mass = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
    mean = (densities[0] - densities[1]) / mass
    return mean, 1 + (low * densities[0] - high * densities[1]) / mass - mean**2


@pytest.mark.parametrize("bounds", [(-2, 2), (-1, 3), (0, 0.5), (0.6, 2.5), (-2.5, -2)])
@every_dtype
def test_spread_of_truncated_numbers(bounds: tuple[float, float], dtype: Any) -> None:
    mean, variance = truncated_moments(*bounds)
    assert_spread(init.truncated_normal(10**6, 0, 1, *bounds, dtype=dtype, rng=1), mean, variance)
    w = init.truncated_normal(10**6, 5, 0.1, *bounds, dtype=dtype, rng=2)
    assert_spread(w, 5 + 0.1 * mean, 0.01 * variance)


def test_the_documented_deviation_of_truncated_numbers() -> None:
    deviation = math.sqrt(truncated_moments(-2, 2)[1])
    assert deviation == pytest.approx(0.8796, abs=5e-5)
    assert init.truncated_normal.__doc__.count("0.8796") == 2


# ---- distribution ----


def upper_tail(z: Array) -> Array:
    return np.array([math.erfc(number / math.sqrt(2)) / 2 for number in z])


def normal_below(z: Array) -> Array:
    return upper_tail(-z)


def uniform_below(low: float, high: float) -> Callable[[Array], Array]:
    return lambda x: (x - low) / (high - low)


def truncated_below(low: float, high: float) -> Callable[[Array], Array]:
    """From the tail the bounds are nearer to, where the differences of the other would be rounding errors."""
    above = low + high > 0
    tail = upper_tail if above else normal_below
    at_low, at_high = tail(np.array([low, high]))
    return lambda z: (tail(z) - at_low) / (at_high - at_low)


def assert_distributed(x: Array, below: Callable[[Array], Array]) -> None:
    """Kolmogorov and Smirnov: the largest distance of shares from probabilities, above the bound once in a million."""
    x = np.sort(x.ravel().astype(np.float64))
    n = x.size
    probability = below(x)
    distance = max(
        (np.arange(1, n + 1) / n - probability).max(), (probability - np.arange(n) / n).max()
    )
    assert distance * math.sqrt(n) < math.sqrt(math.log(2 * 10**6) / 2)


BOUNDS = [
    (-2.0, 2.0),
    (-8.0, 8.0),
    (-0.53, 0.0),
    (-0.1, 0.7),
    (-0.1, 0.1),
    (5e-324, 0.7),
    (0.3, 0.9),
    (0.5, 9.0),
    (0.6, 2.2),
    (3.0, 4.0),
    (-4.0, -3.0),
    (-1.2, -0.6),
    (-38.0, -6.0),
    (20.0, 1e9),
    (20.0, 20.001),
]
SHARES = [
    (init.uniform, (100_000,), {"low": -3, "high": 5}, uniform_below(-3, 5)),
    (init.normal, (100_000,), {"mean": 0, "std": 1}, normal_below),
    (init.xavier_uniform, (200, 400), {}, uniform_below(-0.1, 0.1)),
    (init.xavier_normal, (200, 400), {}, lambda x: normal_below(x * math.sqrt(300))),
    (init.he_uniform, (150, 400), {}, uniform_below(-0.2, 0.2)),
    (init.he_normal, (150, 400), {}, lambda x: normal_below(x * math.sqrt(75))),
    (init.lecun_uniform, (300, 400), {}, uniform_below(-0.1, 0.1)),
    (init.lecun_normal, (300, 400), {}, lambda x: normal_below(x * math.sqrt(300))),
    *[
        (init.truncated_normal, (50_000,), {"low": low, "high": high}, truncated_below(low, high))
        for low, high in BOUNDS
    ],
]


@pytest.mark.parametrize(("function", "shape", "keywords", "below"), SHARES, ids=named)
@every_dtype
def test_distribution(
    function: Function, shape: tuple[int, ...], keywords: dict[str, Any], below: Any, dtype: Any
) -> None:
    assert_distributed(function(shape, **keywords, dtype=dtype, rng=3), below)


def test_a_wrong_distribution_is_found() -> None:
    # Normal numbers of the right mean and variance instead of uniform ones, and bounds a little off.
    with pytest.raises(AssertionError):
        assert_distributed(init.normal(100_000, 0.5, 12**-0.5, rng=3), uniform_below(0, 1))
    with pytest.raises(AssertionError):
        assert_distributed(init.truncated_normal(50_000, rng=3), truncated_below(-2.4, 2.4))


@given(
    low=st.floats(-50, 50),
    width=st.sampled_from([0, 1e-9, 1e-7, 1e-5, 0.1, 1, 50]),
    mean=st.floats(-10, 10),
    std=st.floats(0, 10),
    dtype=st.sampled_from(FLOATS),
    seed=SEEDS,
)
def test_bounds_are_never_exceeded(
    low: float, width: float, mean: float, std: float, dtype: Any, seed: int
) -> None:
    high = low + width
    w = init.truncated_normal(1000, mean, std, low, high, dtype=dtype, rng=seed)
    assert w.min() >= dtype(mean + std * low)
    assert w.max() <= dtype(mean + std * high)


def test_bounds_are_reached_and_not_passed_by_a_million() -> None:
    w = init.truncated_normal(10**6, rng=4)
    assert -2 <= w.min() < -1.9999
    assert 1.9999 < w.max() <= 2


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (0.0, 0.0), (-70.0, -70.0), (0.1, 0.1 + 1e-12)])
@every_dtype
def test_bounds_that_meet(bounds: tuple[float, float], dtype: Any) -> None:
    w = init.truncated_normal(10, 1, 0.5, *bounds, dtype=dtype)
    np.testing.assert_allclose(w, 1 + 0.5 * bounds[0], rtol=1e-7)


@pytest.mark.parametrize("bounds", [(-0.5, 2.0), (2.0, 3.0)])
@every_dtype
def test_truncated_numbers_are_those_of_the_stream(bounds: tuple[float, float], dtype: Any) -> None:
    rng, stream = Philox(3, 5), Philox(3, 5)
    w = init.truncated_normal((7, 90), 0.1, 2, *bounds, dtype=dtype, rng=rng)
    assert_same_bits(w.astype(np.float32), stream.truncated_normal((7, 90), 0.1, 2, *bounds))
    assert rng.offset == stream.offset


@pytest.mark.parametrize("function", [f for f in DRAWN if f is not init.orthogonal], ids=named)
def test_neighbouring_numbers_are_independent(function: Function) -> None:
    w = function((1000, 300), rng=6).astype(np.float64)
    w = (w - w.mean()) / w.std()
    other = function((1000, 300), rng=7).astype(np.float64)
    pairs = [(w[1:], w[:-1]), (w[:, 1:], w[:, :-1]), (w, (other - other.mean()) / other.std())]
    for left, right in pairs:
        assert abs((left * right).mean()) < 5 / math.sqrt(left.size)


# ---- constants ----


@every_dtype
def test_constants(dtype: Any) -> None:
    assert_same_bits(init.zeros((2, 3), dtype=dtype), np.zeros((2, 3), dtype))
    assert_same_bits(init.constant((2, 3), 0.01, dtype=dtype), np.full((2, 3), 0.01, dtype))
    assert_same_bits(init.constant(2, -3, dtype=dtype), np.full(2, -3, dtype))


# ---- orthogonal matrices ----


@pytest.mark.parametrize(
    "shape", [(200, 50), (50, 200), (90, 90), (64, 8, 3, 3), (4, 30, 5, 5), (8, 8, 1), (1, 7)]
)
@pytest.mark.parametrize("gain", [1.0, math.sqrt(2), 0.1])
@every_dtype
def test_orthogonality(shape: tuple[int, ...], gain: float, dtype: Any) -> None:
    w = init.orthogonal(shape, gain=gain, dtype=dtype, rng=1)
    assert (w.shape, w.dtype) == (shape, dtype)
    matrix = w.reshape(shape[0], -1).astype(np.float64)
    gram = matrix @ matrix.T if len(matrix) <= len(matrix.T) else matrix.T @ matrix
    # An element of w is wrong by half a unit in the last place, or a few in float64, which LAPACK computes in.
    bound = gain**2 * (1 if dtype == np.float32 else 20) * np.finfo(dtype).eps
    np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), rtol=0, atol=bound)


def test_float32_is_the_float64_result_rounded() -> None:
    w = init.orthogonal((30, 20), rng=1)
    assert_same_bits(w, init.orthogonal((30, 20), dtype=np.float64, rng=1).astype(np.float32))


def test_all_directions_are_equally_likely() -> None:
    stream = Philox(2)
    matrices = [init.orthogonal((2, 2), dtype=np.float64, rng=stream) for _ in range(4000)]
    for column in (0, 1):
        angles = np.array([math.atan2(w[1, column], w[0, column]) for w in matrices])
        assert_distributed(angles, uniform_below(-math.pi, math.pi))
        # Numbers that are not normal prefer the diagonals, or the axes.
        off_diagonal = np.abs(angles % (math.pi / 2) - math.pi / 4)
        assert_distributed(off_diagonal, uniform_below(0, math.pi / 4))
    rotations = sum(np.linalg.det(w) > 0 for w in matrices)
    assert abs(rotations - 2000) < 5 * math.sqrt(1000)


# ---- fans ----


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((784, 512), None, (784, 512)),
        ((784, 512), "dense", (784, 512)),
        ((784, 512), "conv", (512, 784)),
        ((64, 3, 7), None, (21, 448)),
        ((64, 3, 7, 5), None, (105, 2240)),
        ((64, 3, 7, 5), "conv", (105, 2240)),
        ((64, 3, 7, 5, 2), None, (210, 4480)),
        ((0, 5), None, (0, 5)),
        ((5, 4, 0, 3), None, (0, 0)),
        ((np.int64(3), np.uint8(4)), None, (3, 4)),
    ],
)
def test_fans(shape: tuple[int, ...], layout: Any, expected: tuple[int, int]) -> None:
    found = init.fans(shape, layout)
    assert found == expected
    assert [type(fan) for fan in found] == [int, int]


# ---- gains ----

GAINS: list[tuple[str, float | None]] = [
    *[(name, None) for name in ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu")],
    *[("leaky_relu", slope) for slope in (0.0, 0.2, 1.0, 3.5, -0.5)],
]


def moment(y: Callable[[Array], Array]) -> float:
    """The mean square of a function of standard normal numbers."""
    z = np.linspace(-12, 12, 240_001)
    return float((y(z) ** 2 * np.exp(-z * z / 2)).sum() / np.exp(-z * z / 2).sum())


@pytest.mark.parametrize("slope", [0.01, 0.0, 0.25, 1.0, -2.0])
def test_gains_of_rectifiers_keep_the_second_moment(slope: float) -> None:
    gain = init.gain("leaky_relu", negative_slope=slope)
    assert gain**2 * moment(lambda z: np.where(z > 0, z, slope * z)) == pytest.approx(1, abs=1e-6)
    if slope == 0:
        assert init.gain("relu") == gain
    if slope == 0.01:
        assert init.gain("leaky_relu") == gain


def test_conventional_gains() -> None:
    gains = [init.gain(name) for name in ("linear", "sigmoid", "tanh", "selu")]
    assert gains == [1, 1, 5 / 3, 3 / 4]


def test_steep_slopes_do_not_overflow() -> None:
    assert init.gain("leaky_relu", negative_slope=1e200) == pytest.approx(math.sqrt(2) * 1e-200)


@pytest.mark.peers
@pytest.mark.parametrize(("activation", "slope"), GAINS)
def test_gains_are_pytorchs(activation: Any, slope: float | None) -> None:
    from torch.nn.init import calculate_gain

    expected = calculate_gain(activation, slope)
    assert init.gain(activation, negative_slope=slope) == pytest.approx(expected, rel=1e-15)


PEERS: list[tuple[Function, str, dict[str, Any]]] = [
    (init.uniform, "uniform_", {}),
    (init.normal, "normal_", {}),
    (init.truncated_normal, "trunc_normal_", {}),
    # PyTorch's bounds are numbers.
    (
        partial(init.truncated_normal, mean=3, std=2, low=-1, high=0.5),
        "trunc_normal_",
        {"mean": 3, "std": 2, "a": 1, "b": 4},
    ),
    (
        partial(init.truncated_normal, mean=3, std=2, low=1, high=1.5),
        "trunc_normal_",
        {"mean": 3, "std": 2, "a": 5, "b": 6},
    ),
    (init.xavier_uniform, "xavier_uniform_", {}),
    (partial(init.xavier_normal, gain=2), "xavier_normal_", {"gain": 2}),
    (init.he_uniform, "kaiming_uniform_", {}),
    (init.he_normal, "kaiming_normal_", {}),
    (partial(init.he_normal, mode="fan_out"), "kaiming_normal_", {"mode": "fan_out"}),
    (
        partial(init.he_uniform, activation="leaky_relu", negative_slope=0.5),
        "kaiming_uniform_",
        {"a": 0.5},
    ),
    (partial(init.he_normal, activation="selu"), "kaiming_normal_", {"nonlinearity": "selu"}),
    (partial(init.orthogonal, gain=2), "orthogonal_", {"gain": 2}),
]


@pytest.mark.peers
@pytest.mark.parametrize(("function", "name", "keywords"), PEERS, ids=named)
@pytest.mark.parametrize("shape", [(500, 800), (100, 80, 5, 7)])
def test_spread_is_pytorchs(
    function: Function, name: str, keywords: dict[str, Any], shape: tuple[int, ...]
) -> None:
    import torch

    # PyTorch's dense weights are (out, in).
    theirs = torch.empty(shape[::-1] if len(shape) == 2 else shape)
    filled = getattr(torch.nn.init, name)(theirs, generator=torch.manual_seed(1), **keywords)
    ours = function(out=np.empty(shape, np.float32), rng=1)
    expected = filled.numpy().astype(np.float64)
    assert ours.var() == pytest.approx(expected.var(), rel=0.015)
    assert abs(ours.mean(dtype=np.float64) - expected.mean()) < 7 * expected.std() / math.sqrt(
        ours.size
    )


# ---- names ----


def test_names_of_initialisers() -> None:
    for name in ("zeros", "orthogonal", *[function.__name__ for function in OF_FANS]):
        assert init.by_name(name) is getattr(init, name)
    others = {"glorot": "xavier", "kaiming": "he", "xavier": "xavier", "he": "he", "lecun": "lecun"}
    for name, same in others.items():
        assert init.by_name(name) is getattr(init, f"{same}_normal")
        assert init.by_name(f"{name}_normal") is getattr(init, f"{same}_normal")
        assert init.by_name(f"{name}_uniform") is getattr(init, f"{same}_uniform")


def test_named_initialisers_need_a_shape_alone_and_are_documented() -> None:
    documented = set(re.findall(r'"(\w+)"', init.by_name.__doc__))
    for name in init.NAMES:
        w = init.by_name(name)((6, 4), dtype=np.float64, rng=1)
        assert (w.shape, w.dtype) == ((6, 4), np.float64)
        assert name in documented or name.split("_")[0] in ("glorot", "kaiming")


@every_function
def test_all_are_called_alike(function: Function) -> None:
    parameters = inspect.signature(function).parameters
    assert next(iter(parameters)) == "shape"
    keywords = [name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY]
    assert keywords[-3:] == ["dtype", "rng", "out"]


# ---- all of them ----


@every_function
@every_dtype
def test_memory_does_not_matter(function: Function, dtype: Any) -> None:
    for shape in ((70, 30), (6, 5, 3, 3)):
        w = function(shape, dtype=dtype, rng=2)
        for out in layouts(np.ones_like(w)).values():
            assert function(out=out, rng=2) is out
            assert_same_bits(out, w)
            out[...] = 9
            assert function(shape, dtype=np.float16, rng=2, out=out) is out  # out decides
            assert_same_bits(out, w)


@every_function
def test_dtypes(function: Function) -> None:
    assert function((3, 4)).dtype == np.float32
    for dtype in ("float64", np.dtype("d"), float):
        assert function((3, 4), dtype=dtype).dtype == np.float64


@every_function
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (3, 0, 2), (0, 4, 3, 3)])
def test_empty_arrays(function: Function, shape: tuple[int, ...]) -> None:
    assert function(shape, rng=1).shape == shape


@pytest.mark.parametrize("function", EVERY[:8], ids=named)
def test_any_number_of_axes(function: Function) -> None:
    for shape, expected in ((5, (5,)), (np.int64(5), (5,)), ((), ()), ((1, 2, 3), (1, 2, 3))):
        w = function(shape, rng=1)
        assert isinstance(w, np.ndarray)
        assert w.shape == expected


@every_drawn
@every_dtype
def test_threads_do_not_matter(function: Function, dtype: Any) -> None:
    shape = (131, 1009) if function is not init.orthogonal else (131, 59)
    drawn = []
    for threads in THREADS:
        with forced(threads=threads, grain=1):
            drawn.append(function(shape, dtype=dtype, rng=3))
    for w in drawn[1:]:
        assert_same_bits(w, drawn[0])


@every_drawn
def test_sources_of_randomness(function: Function) -> None:
    def drawn(rng: Any) -> bytes:
        return function((20, 10), rng=rng).tobytes()

    assert drawn(7) == drawn(7) == drawn(np.int64(7)) == drawn(Philox(7)) != drawn(8)
    assert drawn(None) != drawn(None)
    sequence = np.random.SeedSequence(3)
    seed = int(sequence.generate_state(1, np.uint64)[0])
    assert drawn(sequence) == drawn(sequence) == drawn(seed)
    rng, twin = np.random.default_rng(1), np.random.default_rng(1)
    assert drawn(rng) == drawn(int(twin.bit_generator.random_raw()))
    assert rng.bit_generator.state == twin.bit_generator.state


@every_drawn
@settings(max_examples=20)
@given(rows=st.integers(1, 40), columns=st.integers(1, 9), seed=SEEDS)
def test_both_dtypes_begin_alike(function: Function, rows: int, columns: int, seed: int) -> None:
    """float32's numbers are those of float64, rounded; a stream moves on by as much."""
    streams = Philox(seed), Philox(seed)
    narrow = function((rows, columns), dtype=np.float32, rng=streams[0])
    wide = function((rows, columns), dtype=np.float64, rng=streams[1])
    assert_same_bits(wide.astype(np.float32), narrow)
    assert streams[0].offset == streams[1].offset


@given(
    low=st.floats(-1e30, 1e30), width=st.floats(0, 1e30), dtype=st.sampled_from(FLOATS), seed=SEEDS
)
def test_uniform_numbers_stay_within_the_bounds_of_their_dtype(
    low: float, width: float, dtype: Any, seed: int
) -> None:
    w = init.uniform(50, low, low + width, dtype=dtype, rng=seed)
    assert dtype(low) <= w.min() <= w.max() <= dtype(low + width)
    narrow = init.uniform(50, low, low + width, rng=seed)
    np.testing.assert_array_equal(w.astype(np.float32), narrow)


def test_layers_and_estimators_begin_alike_in_both_dtypes() -> None:
    layers: dict[str, Callable[[Any], nf.nn.Layer]] = {
        "Dense": lambda dtype: nf.nn.Dense(7, 5, dtype=dtype, rng=3),
        "DropConnect": lambda dtype: nf.nn.DropConnect(7, 5, dtype=dtype, rng=3),
        "Conv2d": lambda dtype: nf.nn.Conv2d(3, 4, 3, dtype=dtype, rng=3),
        "Embedding": lambda dtype: nf.nn.Embedding(9, 4, dtype=dtype, rng=3),
        "converted": lambda dtype: nf.nn.Sequential(nf.nn.Dense(7, 5, rng=3), dtype=dtype),
    }
    for make in layers.values():
        for narrow, wide in zip(make(np.float32).params, make(np.float64).params, strict=True):
            assert (narrow.dtype, wide.dtype) == (np.float32, np.float64)
            np.testing.assert_array_equal(narrow, wide)
    x, y = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 2
    settings_ = {"hidden_layer_sizes": (5, 4), "init": "he", "learning_rate_init": 0.0}
    nets = [
        nf.estimators.NNClassifier(**settings_, max_iter=1, weight_decay=0.0, random_state=1)
        .fit(x.astype(dtype), y)
        .net_
        for dtype in FLOATS
    ]
    for narrow, wide in zip(nets[0].params, nets[1].params, strict=True):
        assert (narrow.dtype, wide.dtype) == (np.float32, np.float64)
        np.testing.assert_array_equal(narrow, wide)


@every_drawn
@every_dtype
def test_a_stream_moves_on(function: Function, dtype: Any) -> None:
    stream = Philox(7, offset=11)
    first = function((20, 10), dtype=dtype, rng=stream)
    place = stream.offset
    # What is computed in float64 takes two words from the next even place on.
    wide = function in (init.orthogonal, *TRUNCATED[1:])
    assert place == (12 + 2 * 200 if wide else 11 + 200)
    second = function((20, 10), dtype=dtype, rng=stream)
    assert not np.isin(first, second).any()
    assert_same_bits(second, function((20, 10), dtype=dtype, rng=Philox(7, place)))
    assert_same_bits(first, function((20, 10), dtype=dtype, rng=Philox(7, 11)))


@pytest.mark.parametrize("function", EVERY[:2], ids=named)
def test_constants_draw_nothing(function: Function) -> None:
    rng, stream = np.random.default_rng(1), Philox(1)
    state = rng.bit_generator.state
    function(3, rng=rng)
    function(3, rng=stream)
    assert (rng.bit_generator.state, stream.offset) == (state, 0)


@given(shape=st.tuples(st.integers(0, 9), st.integers(0, 9)), seed=SEEDS)
def test_numbers_are_the_streams(shape: tuple[int, int], seed: int) -> None:
    assert_same_bits(init.normal(shape, 1, 2, rng=seed), Philox(seed).normal(shape, 1, 2))
    assert_same_bits(init.uniform(shape, 1, 2, rng=seed), Philox(seed).uniform(shape, 1, 2))


# ---- errors ----

OUT = np.full((4, 3), 9.0)
FROZEN = OUT.copy()
FROZEN.flags.writeable = False
Errors = list[tuple[dict[str, Any], type[Exception], str]]

OF_ALL: Errors = [
    ({"shape": None, "out": None}, TypeError, "shape must be an int or a tuple .* got None"),
    ({"shape": (4.0, 3)}, TypeError, "shape must be an int, got float"),
    ({"shape": [4, 3]}, TypeError, "shape must be an int, got list"),
    ({"shape": (4, -3), "out": None}, ValueError, r"shape must not be negative, got \(4, -3\)"),
    ({"shape": (3, 4)}, ValueError, r"out must have shape \(3, 4\), got \(4, 3\)"),
    ({"out": OUT.astype("e")}, TypeError, "out must have dtype float32 or float64, got float16"),
    ({"out": OUT.astype(">f8")}, TypeError, "out must have dtype float32 or float64, got >f8"),
    ({"out": OUT.tolist()}, TypeError, "out must be a numpy.ndarray, got list"),
    ({"out": FROZEN}, ValueError, "out must be writeable, but is read-only"),
    ({"dtype": np.float16, "out": None}, TypeError, "dtype must be float32 or float64, got float1"),
    ({"dtype": int, "out": None}, TypeError, "dtype must be float32 or float64, got int64"),
]
OF_DRAWN: Errors = [
    ({"rng": True}, TypeError, "rng must be an int, .* got bool"),
    ({"rng": "1"}, TypeError, "rng must be an int, .* got str"),
    ({"rng": -1}, ValueError, r"rng must be in \[0, 2\*\*64\), got -1"),
]
OF_WEIGHTS: Errors = [
    ({"shape": (12,), "out": None}, ValueError, r"shape must have two axes or more, got \(12,\)"),
    ({"shape": 12, "out": None}, ValueError, r"shape must have two axes or more, got \(12,\)"),
    ({"shape": None, "out": np.ones(4)}, ValueError, r"shape must have two axes or more, got \(4"),
]
OF_LAYOUTS: Errors = [
    ({"layout": "NCHW"}, ValueError, "layout must be 'dense' or 'conv', got 'NCHW'"),
    ({"layout": 2}, ValueError, "layout must be 'dense' or 'conv', got 2"),
    (
        {"shape": (4, 3, 2), "out": None, "layout": "dense"},
        ValueError,
        r"shape must have two axes with layout 'dense', got \(4, 3, 2\)",
    ),
]
OF_MODES: Errors = [
    ({"mode": "fan"}, ValueError, "mode must be 'fan_in', 'fan_out' or 'fan_avg', got 'fan'"),
    ({"mode": ["fan_in"]}, ValueError, "mode must be 'fan_in', 'fan_out' or 'fan_avg', got .'fan_"),
]
OF_GAIN: Errors = [
    ({"gain": -1}, ValueError, "gain must not be negative, got -1"),
    ({"gain": np.inf}, ValueError, "gain must be finite, got inf"),
    ({"gain": "relu"}, TypeError, "gain must be a real number, got str"),
]
OF_ACTIVATION: Errors = [
    ({"activation": "gelu"}, ValueError, "activation must be 'linear', .* or 'selu', got 'gelu'"),
    ({"activation": None}, ValueError, "activation must be 'linear', .* got None"),
    ({"negative_slope": 0.1}, ValueError, "negative_slope must be None for relu, got 0.1"),
    (
        {"activation": "leaky_relu", "negative_slope": np.nan},
        ValueError,
        "negative_slope must be finite, got nan",
    ),
    (
        {"activation": "leaky_relu", "negative_slope": "0.1"},
        TypeError,
        "negative_slope must be a real number, got str",
    ),
]
OF_CONSTANT: Errors = [
    ({"value": "0"}, TypeError, "value must be a real number, got str"),
    ({"value": 1j}, TypeError, "value must be a real number, got complex"),
    ({"value": [1, 2, 3]}, TypeError, "value must be a real number, got list"),
]
OF_INTERVAL: Errors = [
    ({"low": 3, "high": 2}, ValueError, "low must not be above high, got 3.0 and 2.0"),
    ({"low": -np.inf}, ValueError, "low must be finite, got -inf"),
    ({"high": np.nan}, ValueError, "high must be finite, got nan"),
    ({"low": "0"}, TypeError, "low must be a real number, got str"),
    ({"high": None}, TypeError, "high must be a real number, got NoneType"),
]
OF_NORMAL: Errors = [
    ({"mean": np.nan}, ValueError, "mean must be finite, got nan"),
    ({"mean": "0"}, TypeError, "mean must be a real number, got str"),
    ({"std": -1}, ValueError, "std must not be negative, got -1"),
    ({"std": np.inf}, ValueError, "std must be finite, got inf"),
    ({"std": None}, TypeError, "std must be a real number, got NoneType"),
]
OF_EACH: list[tuple[Iterable[Function], Errors]] = [
    ((init.zeros, init.constant, init.uniform, init.normal, init.truncated_normal), OF_ALL),
    ((*OF_FANS, init.orthogonal), OF_ALL + OF_WEIGHTS),
    ((init.uniform, init.normal, init.truncated_normal, *OF_FANS, init.orthogonal), OF_DRAWN),
    (OF_FANS, OF_LAYOUTS),
    (OF_FANS[:4], OF_MODES),
    ((*OF_FANS[:2], init.orthogonal), OF_GAIN),
    (OF_FANS[2:4], OF_ACTIVATION),
    ((init.constant,), OF_CONSTANT),
    ((init.uniform, init.truncated_normal), OF_INTERVAL),
    ((init.normal, init.truncated_normal), OF_NORMAL),
]
ERRORS = [
    (function, *case) for functions, cases in OF_EACH for function in functions for case in cases
]


@pytest.mark.parametrize("source", [np.random.default_rng, Philox])
@pytest.mark.parametrize(("function", "keywords", "error", "message"), ERRORS, ids=named)
def test_errors_change_nothing(
    function: Function,
    keywords: dict[str, Any],
    error: type[Exception],
    message: str,
    source: Callable[[int], Any],
) -> None:
    rng, twin = source(1), source(1)
    needed = {"value": 1.0} if function is init.constant else {}
    arguments = {"shape": (4, 3), "out": OUT.copy(), "rng": rng} | needed | keywords
    before = np.array(arguments["out"])
    with pytest.raises(error, match=message):
        function(**arguments)
    np.testing.assert_array_equal(arguments["out"], before)
    # The next number of both is the same.
    np.testing.assert_array_equal(rng.uniform(), twin.uniform())


@pytest.mark.parametrize(
    ("shape", "layout", "error", "message"),
    [
        ((3,), None, ValueError, r"shape must have two axes or more, got \(3,\)"),
        (3, "dense", ValueError, r"shape must have two axes or more, got \(3,\)"),
        ((3, -1), None, ValueError, r"shape must not be negative, got \(3, -1\)"),
        ((3, "4"), None, TypeError, "shape must be an int, got str"),
        ((3, 4, 5), "dense", ValueError, r"shape must have two axes .* got \(3, 4, 5\)"),
        ((3, 4), "other", ValueError, "layout must be 'dense' or 'conv', got 'other'"),
    ],
)
def test_errors_of_fans(shape: Any, layout: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        init.fans(shape, layout)


def test_errors_of_names() -> None:
    with pytest.raises(ValueError, match="name must be 'zeros', .*, got 'normal'"):
        init.by_name("normal")
    with pytest.raises(ValueError, match="name must be .* got None"):
        init.by_name(None)  # type: ignore[arg-type]


# ---- what they do to a deep network ----


def depths(weights: Function, activation: Callable[[Array], Array]) -> list[Array]:
    """What comes out of each of ten layers of 500 units, for 500 inputs of mean 0 and variance 1."""
    stream = Philox(1)
    x = stream.normal((500, 500))
    layers = []
    for _ in range(10):
        x = activation(x @ weights((500, 500), rng=stream))
        layers.append(x)
    return layers


def test_small_random_weights_collapse() -> None:
    deviations = [h.std() for h in depths(partial(init.normal, std=0.01), nf.tanh)]
    # A layer multiplies the spread by 0.01 * sqrt(500).
    assert deviations[-1] < 1e-5
    for before, after in pairwise(deviations):
        assert after == pytest.approx(before * 0.2236, rel=0.1)


def test_large_random_weights_saturate() -> None:
    for h in depths(init.normal, nf.tanh):
        assert (abs(h) > 0.99).mean() > 0.85


@pytest.mark.parametrize("weights", [init.xavier_normal, init.xavier_uniform])
def test_xavier_keeps_the_spread_through_tanh(weights: Function) -> None:
    for h in depths(weights, nf.tanh):
        assert 0.2 < h.std() < 0.7
        assert (abs(h) > 0.99).mean() < 0.01


@pytest.mark.parametrize(
    ("weights", "factor"),
    [
        (init.xavier_normal, 0.5),
        (init.xavier_uniform, 0.5),
        (init.he_normal, 1.0),
        (init.he_uniform, 1.0),
    ],
)
def test_xavier_decays_by_half_a_layer_through_relu_and_he_does_not(
    weights: Function, factor: float
) -> None:
    squares = [float((h.astype(np.float64) ** 2).mean()) for h in depths(weights, nf.relu)]
    # The mean over nine layers of 500 units scatters by 3 %.
    assert (squares[9] / squares[0]) ** (1 / 9) == pytest.approx(factor, rel=0.15)


def test_orthogonal_weights_keep_every_length() -> None:
    first, *others = (np.linalg.norm(h, axis=1) for h in depths(init.orthogonal, lambda h: h))
    for lengths in others:
        np.testing.assert_allclose(lengths, first, rtol=1e-5)
