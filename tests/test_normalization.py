"""Batch normalisation: hard inputs, running statistics, pieces, gradients, bits, errors that change nothing."""

import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnfast as nf
from conftest import SAME_BITS_ISAS
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast import _core
from nnfast._testing import forced
from nnfast.normalization import BatchNormStats
from normalization_data import case, images
from tests.reference import normalization as reference
from tests.reference.normalization import EPS

Array = NDArray[Any]
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of every column, in two passes of long double."""
    wide = x.astype(np.longdouble)
    mean = wide.mean(axis=0)
    return mean, ((wide - mean) ** 2).mean(axis=0)


def exact(x: Array, gamma: Array, beta: Array, mean: Array, var: Array) -> Array:
    return reference.batch_norm_inference(x.astype(np.longdouble), gamma, beta, mean, var)


def assert_promised(x: Array, gamma: Array, beta: Array, ulps: int = 4) -> None:
    """float32 within 4 ulp of the larger of |y| and |beta| plus 2^-48 |gamma mean| / sigma."""
    y, _ = nf.batch_norm(x, gamma, beta, training=True)
    mean, var = statistics(x)
    desired = exact(x, gamma, beta, mean, var)
    larger = np.maximum(np.abs(desired), np.abs(beta)).astype(np.float32)
    bound = ulps * np.spacing(larger) + 2.0**-48 * np.abs(gamma * mean) / np.sqrt(var + EPS)
    assert np.all(np.abs(y - desired) <= bound)


@settings(max_examples=20)
@given(
    n=st.sampled_from([2, 3, 17, 255, 256, 257, 600]),
    c=st.sampled_from([1, 15, 16, 17, 63, 64, 65, 130]),
    seed=st.integers(0, 2**32),
)
def test_forward_is_within_the_promised_error(engine: str, n: int, c: int, seed: int) -> None:
    assert_promised(*case(n, c, np.float32, seed)[:3])


@pytest.mark.parametrize(("mean", "sigma"), [(1e4, 1), (1e30, 1e29), (0, 1e-3), (-3e5, 0.1)])
def test_forward_at_hard_values(isa: str, mean: float, sigma: float) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(mean, sigma, (1000, 33)).astype(np.float32)
    assert_promised(x, *rng.standard_normal((2, 33)).astype(np.float32))


def test_float64_forward(engine: str) -> None:
    x, gamma, beta, _ = case(300, 40, np.float64)
    y, _ = nf.batch_norm(x + 1e6, gamma, beta, training=True)
    np.testing.assert_allclose(
        y, exact(x + 1e6, gamma, beta, *statistics(x + 1e6)).astype(float), rtol=0, atol=1e-9
    )
    y, _ = nf.batch_norm(x, gamma, beta, training=True)
    np.testing.assert_allclose(
        y, exact(x, gamma, beta, *statistics(x)).astype(float), rtol=1e-13, atol=1e-14
    )


@both_dtypes
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e30, -7e-20])
def test_a_constant_channel_gives_exactly_beta(isa: str, dtype: type, value: float) -> None:
    x = np.full((77, 20), value, dtype)
    beta = np.linspace(-3, 3, 20).astype(dtype)
    y, _ = nf.batch_norm(x, np.full(20, 2.5, dtype), beta, training=True)
    assert_same_bits(y, np.broadcast_to(beta, y.shape).copy())


def test_defaults_are_one_and_zero() -> None:
    x = case(10, 5, np.float64)[0]
    y, saved = nf.batch_norm(x, training=True)
    ones = nf.batch_norm(x, np.ones(5), np.zeros(5), training=True)[0]
    assert_same_bits(y, ones)
    assert (saved.axis, saved.training) == (1, True)
    np.testing.assert_allclose(saved.mean, x.mean(axis=0))
    np.testing.assert_allclose(saved.inv_std, 1 / np.sqrt(x.var(axis=0) + EPS))


@both_dtypes
def test_running_statistics(engine: str, dtype: type) -> None:
    x, gamma, beta, _ = case(50, 20, dtype)
    running_mean, running_var = np.full(20, 2, dtype), np.full(20, 3, dtype)
    nf.batch_norm(x, gamma, beta, running_mean, running_var, training=True, momentum=0.25)
    mean, var = statistics(x)
    tolerance = 2 * np.finfo(dtype).eps
    np.testing.assert_allclose(
        running_mean, (0.75 * 2 + 0.25 * mean).astype(float), tolerance, 1e-7
    )
    unbiased = (0.75 * 3 + 0.25 * var * 50 / 49).astype(float)
    np.testing.assert_allclose(running_var, unbiased, tolerance)
    kept = running_mean.copy(), running_var.copy()
    y, saved = nf.batch_norm(x, gamma, beta, running_mean, running_var, training=False)
    assert_same_bits(running_mean, kept[0])
    assert_same_bits(running_var, kept[1])
    desired = exact(x, gamma, beta, *(a.astype(np.longdouble) for a in kept)).astype(float)
    np.testing.assert_allclose(y, desired, rtol=4 * np.finfo(dtype).eps, atol=8 * tolerance)
    assert not saved.training


def test_saved_mean_does_not_follow_the_running_mean() -> None:
    x, running_mean, running_var = np.ones((3, 2)), np.zeros(2), np.ones(2)
    _, saved = nf.batch_norm(x, None, None, running_mean, running_var, training=False)
    running_mean += 5
    np.testing.assert_array_equal(saved.mean, 0)


@settings(max_examples=15)
@given(
    n=st.sampled_from([2, 3, 17, 300]),
    c=st.sampled_from([1, 16, 17, 64, 65, 130]),
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_backward_is_the_formula(engine: str, n: int, c: int, seed: int, dtype: type) -> None:
    x, gamma, _, dy = case(n, c, dtype, seed)
    _, saved = nf.batch_norm(x, gamma, training=True)
    dx, dgamma, dbeta = nf.batch_norm_backward(dy, x, gamma, saved)
    mean, var = (a.astype(float) for a in statistics(x))
    eps = np.finfo(dtype).eps
    scale = np.abs(gamma) / np.sqrt(var + EPS)
    normalised = np.abs((x - mean) / np.sqrt(var + EPS)).max(initial=1)
    expected, exact_dgamma, _ = reference.batch_norm_backward(
        dy.astype(float), x.astype(float), gamma
    )
    assert np.all(np.abs(dx - expected) <= 8 * eps * scale * np.abs(dy).max() * (1 + normalised**2))
    np.testing.assert_allclose(dgamma, exact_dgamma, rtol=1e-6, atol=1e-6 * n)
    np.testing.assert_allclose(dbeta, dy.sum(axis=0, dtype=float), rtol=2 * eps, atol=eps * n)
    # The mean is a double: to float32 that is exact, to float64 it has a rounding.
    condition = 1 + (np.abs(mean) / np.sqrt(var + EPS) if dtype == np.float64 else 0)
    rounding = 4 * n * eps * scale * np.abs(dy).max() * condition
    assert np.all(np.abs(dx.sum(axis=0, dtype=float)) <= rounding)
    assert (dx.dtype, dgamma.dtype, dbeta.dtype) == (dtype,) * 3


@pytest.mark.parametrize("training", [True, False])
def test_gradients_numerically(training: bool) -> None:
    x, gamma, beta, dy = case(5, 3, np.float64)
    running = () if training else (np.full(3, 0.5), np.full(3, 2.0))

    def forward(x: Array, gamma: Array, beta: Array) -> tuple[Array, Any]:
        statistics = [array.copy() for array in running]
        return nf.batch_norm(x, gamma, beta, *statistics, training=training)

    saved = forward(x, gamma, beta)[1]
    dx, dgamma, dbeta = nf.batch_norm_backward(dy, x, gamma, saved)
    assert_gradient(dx, lambda v: float((dy * forward(v, gamma, beta)[0]).sum()), x)
    assert_gradient(dgamma, lambda v: float((dy * forward(x, v, beta)[0]).sum()), gamma)
    assert_gradient(dbeta, lambda v: float((dy * forward(x, gamma, v)[0]).sum()), beta)


def test_nan_and_infinity_stay_in_their_channel(isa: str) -> None:
    x = case(40, 20, np.float32)[0]
    clean = nf.batch_norm(x, training=True)[0]
    x[3, 7], x[4, 9] = np.nan, np.inf
    with np.errstate(all="raise"):
        y, saved = nf.batch_norm(x, training=True)
        dx = nf.batch_norm_backward(x, x, None, saved)[0]
    touched = [7, 9]
    assert np.isnan(y[:, touched]).all()
    assert np.isnan(dx[:, touched]).all()
    assert_same_bits(np.delete(y, touched, axis=1), np.delete(clean, touched, axis=1))


def everything(x: Array, gamma: Array, beta: Array, dy: Array, axis: int = 1) -> list[Array]:
    """All results, forward and backward, in training and inference."""
    c = x.shape[axis]
    kept = np.float32 if x.dtype == np.float16 else x.dtype
    running_mean, running_var = np.ones(c, kept), np.full(c, 2, kept)
    results = []
    for training in (True, False):
        y, saved = nf.batch_norm(
            x, gamma, beta, running_mean, running_var, training=training, axis=axis
        )
        results += [y, saved.mean, saved.inv_std, running_mean.copy(), running_var.copy()]
        results += nf.batch_norm_backward(dy, x, gamma, saved)
    return results


# The second is summed by halves.
@both_dtypes
@pytest.mark.parametrize(("n", "c"), [(70, 150), (201, 170)])
def test_bits(n: int, c: int, dtype: type) -> None:
    x, gamma, beta, dy = case(n, c, dtype)
    expected = everything(x, gamma, beta, dy)
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                for actual, desired in zip(everything(x, gamma, beta, dy), expected, strict=True):
                    assert_same_bits(actual, desired)
    for laid, laid_dy in zip(layouts(x).values(), layouts(dy).values(), strict=True):
        for axis, transpose in ((1, False), (-1, False), (0, True), (-2, True)):
            pair = (laid.T, laid_dy.T) if transpose else (laid, laid_dy)
            results = everything(pair[0], gamma, beta, pair[1], axis)
            for actual, desired in zip(results, expected, strict=True):
                assert_same_bits(actual.T if transpose and actual.ndim == 2 else actual, desired)


@both_dtypes
def test_in_place(dtype: type) -> None:
    x, gamma, beta, dy = case(20, 30, dtype)
    y, saved = nf.batch_norm(x, gamma, beta, training=True)
    results = nf.batch_norm_backward(dy, x, gamma, saved)
    for laid in layouts(x).values():
        assert nf.batch_norm(laid, gamma, beta, training=True, out=laid)[0] is laid
        assert_same_bits(laid, y)
    for buffer in (*layouts(dy).values(), x.copy()):
        outs = (buffer, np.empty(30, dtype), np.empty(60, dtype)[::2])
        source = buffer if np.array_equal(buffer, x) else x
        gradient = dy if source is buffer else buffer
        returned = nf.batch_norm_backward(gradient, source, gamma, saved, out=outs)
        for out, back, desired in zip(outs, returned, results, strict=True):
            assert back is out
            assert_same_bits(out, desired)


# Results past the caches are stored past them, except in place; rows of 1003 begin at every place of a line.
@both_dtypes
def test_a_large_result_has_the_bits_of_one_in_place(dtype: type) -> None:
    c = 1003
    n = 2**24 // (c * np.dtype(dtype).itemsize) + 8
    x, gamma, beta, dy = case(n, c, dtype)
    y, saved = nf.batch_norm(x, gamma, beta, training=True)
    dx = nf.batch_norm_backward(dy, x, gamma, saved)[0]
    placed, gradient = x.copy(), dy.copy()
    nf.batch_norm(placed, gamma, beta, training=True, out=placed)
    nf.batch_norm_backward(gradient, x, gamma, saved, out=(gradient, None, None))
    assert_same_bits(y, placed)
    assert_same_bits(dx, gradient)


def test_other_input_types() -> None:
    assert nf.batch_norm([[1, 2], [3, 4]], training=True)[0].dtype == np.float64
    assert nf.batch_norm(np.ones((2, 2), np.int8), training=True)[0].dtype == np.float32
    x = case(6, 4, np.float32)[0]
    swapped = x.astype(x.dtype.newbyteorder())
    assert_same_bits(nf.batch_norm(swapped, training=True)[0], nf.batch_norm(x, training=True)[0])
    y, saved = nf.batch_norm(np.ones((4, 0)), training=True)
    assert y.shape == (4, 0)
    assert [a.shape for a in nf.batch_norm_backward(y, y, None, saved)] == [(4, 0), (0,), (0,)]
    assert nf.batch_norm(np.ones((0, 3)), None, None, *np.ones((2, 3)), training=False)[0].size == 0


X = np.arange(12.0).reshape(4, 3)
FROZEN = np.ones(3)
FROZEN.flags.writeable = False
IN_BOTH_MODES = [
    ({"x": np.ones(3)}, ValueError, r"x must have at least 2 axes, got shape \(3,\)"),
    ({"activation": "gelu"}, ValueError, "activation must be None or .relu., got 'gelu'"),
    ({"running_var_correction": 2}, ValueError, "running_var_correction must be 0 or 1, got 2"),
    ({"add": np.ones((3, 4))}, ValueError, "add must have the shape of x"),
    ({"add": X * 1j}, TypeError, "add must be .* real"),
    ({"x": X.astype(complex)}, TypeError, "x must be .* real .* complex128"),
    ({"axis": 1.0}, TypeError, "axis must be an int, got float"),
    ({"axis": 2}, ValueError, "axis must be an axis of x"),
    ({"gamma": np.ones(4)}, ValueError, r"gamma must have shape \(3,\), got \(4,\)"),
    ({"beta": np.ones((3, 1))}, ValueError, "beta must have shape"),
    ({"gamma": np.ones(3, complex)}, TypeError, "gamma must be .* real"),
    ({"eps": 0.0}, ValueError, "eps must be positive, got 0.0"),
    ({"eps": np.nan}, ValueError, "eps must be positive"),
    ({"eps": "x"}, TypeError, "eps must be a real number, got str"),
    ({"momentum": 1.5}, ValueError, r"momentum must be in \[0, 1\], got 1.5"),
    ({"momentum": np.nan}, ValueError, "momentum must be in"),
    ({"momentum": "x"}, TypeError, "momentum must be a real number"),
    ({"running_mean": None}, ValueError, "running_mean and running_var .* together"),
    ({"running_var": np.ones(4)}, ValueError, r"running_var must have shape \(3,\)"),
    ({"running_var": np.array([1, -1, 1.0])}, ValueError, "running_var .* got -1.0 for chan"),
    ({"running_var": np.array([1, 1, np.nan])}, ValueError, "running_var must not be negative"),
    ({"out": np.ones((4, 3), "f")}, TypeError, "out must have dtype float64, got float32"),
    ({"out": np.ones((3, 4))}, ValueError, "out must have the shape of x"),
]
IN_TRAINING = [  # where running statistics are written, and those of the batch taken
    ({"x": np.ones((1, 3))}, ValueError, "x must have at least 2 values a channel in training"),
    ({"momentum": None}, ValueError, "num_batches_tracked must be given when momentum is None"),
    ({"num_batches_tracked": np.zeros(1, int)}, TypeError, r"num_batches_tracked .* shape \(\)"),
    ({"num_batches_tracked": np.array(1.0)}, TypeError, "num_batches_tracked must be .* integers"),
    ({"num_batches_tracked": np.array(-1)}, ValueError, "num_batches_tracked must not be negat"),
    ({"running_mean": [0, 0, 0]}, TypeError, "running_mean must be a numpy.ndarray, got list"),
    ({"running_mean": np.ones(3, "f")}, TypeError, "running_mean must have dtype float64"),
    ({"running_var": FROZEN}, ValueError, "running_var must be writeable"),
]


@pytest.mark.parametrize(
    ("training", "changes", "error", "message"),
    [(training, *row) for training in (True, False) for row in IN_BOTH_MODES]
    + [(True, *row) for row in IN_TRAINING],
)
def test_errors_change_nothing(
    training: bool, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    keywords: dict[str, Any] = {
        "x": X.copy(),
        "running_mean": np.full(3, 2.0),
        "running_var": np.full(3, 3.0),
        "out": np.full((4, 3), 9.0),
        "training": training,
        **changes,
    }
    before = {key: np.array(value) for key, value in keywords.items()}
    with pytest.raises(error, match=message):
        nf.batch_norm(**keywords)
    for key, value in before.items():
        np.testing.assert_array_equal(keywords[key], value)


def test_one_row_in_inference() -> None:
    y, _ = nf.batch_norm(
        np.ones((1, 3)), None, None, np.zeros(3), np.ones(3), training=False, eps=3.0
    )
    np.testing.assert_array_equal(y, 0.5)


def test_inference_needs_running_statistics() -> None:
    with pytest.raises(ValueError, match="running_mean and running_var must be given when"):
        nf.batch_norm(X)


def test_overlaps_are_refused() -> None:
    memory = np.arange(40.0)
    x = memory[:12].reshape(4, 3)
    before = memory.copy()
    for keywords, message in (
        ({"out": memory[3:15].reshape(4, 3)}, "out must be x itself or share no memory"),
        ({"running_mean": memory[:3], "running_var": np.ones(3)}, "running_mean and x must not"),
        (
            {"running_mean": memory[30:33], "running_var": memory[31:34]},
            "running_mean and running_var must not share",
        ),
        (
            {
                "running_mean": memory[20:23],
                "running_var": np.ones(3),
                "out": memory[18:30].reshape(4, 3),
            },
            "running_mean and out must not",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            nf.batch_norm(x, training=True, **keywords)
        np.testing.assert_array_equal(memory, before)


@pytest.mark.parametrize("axis", [1, -1])
def test_reuse_takes_the_memory_of_an_earlier_call(axis: int) -> None:
    rng = np.random.default_rng(0)
    large, small = (rng.standard_normal((n, 8, 3, 8)) for n in (20, 7))

    def normalised(x: Array, **keywords: Any) -> Any:
        return nf.batch_norm(x, training=True, activation="relu", axis=axis, **keywords)

    _, first = normalised(large)
    for x in (small, large, rng.standard_normal((30, 8, 3, 8))):
        y, saved = normalised(x)
        again, reusing = normalised(x, reuse=first)
        assert_same_bits(again, y)
        for name in ("mean", "inv_std", "mask"):
            assert_same_bits(getattr(reusing, name), getattr(saved, name))
        assert reusing.mean is first.mean
        assert reusing.inv_std is first.inv_std
        assert np.shares_memory(reusing.mask, first.mask) == (len(x) <= 20)
        for one, other in zip(
            nf.batch_norm_backward(y, x, None, reusing),
            nf.batch_norm_backward(y, x, None, saved),
            strict=True,
        ):
            assert_same_bits(one, other)


def test_reuse_of_what_does_not_fit() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 4))
    y, saved = nf.batch_norm(x, training=True, activation="relu")
    read_only = saved._replace(mean=np.broadcast_to(0.0, 4), inv_std=np.empty(8)[::2], mask=None)
    for earlier in (read_only, nf.batch_norm(x[:, :3], training=True)[1]):
        again, reusing = nf.batch_norm(x, training=True, activation="relu", reuse=earlier)
        assert_same_bits(again, y)
        assert_same_bits(reusing.mask, saved.mask)
        assert_same_bits(reusing.inv_std, saved.inv_std)
        assert not np.shares_memory(reusing.mean, earlier.mean)
    with pytest.raises(TypeError, match="reuse must be what batch_norm returned, got ndarray"):
        nf.batch_norm(x, training=True, reuse=x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_does_not_overwrite_the_scale(dtype: type) -> None:
    x, gamma = X.astype(dtype), np.ones(3, dtype)
    _, saved = nf.batch_norm(x, gamma, training=True)
    with pytest.raises(ValueError, match=r"out\[1\] and gamma must not share memory"):
        nf.batch_norm_backward(x, x, gamma, saved, out=(None, gamma, None))
    images, of_groups = np.ones((2, 3, 4), dtype), nf.group_norm(np.ones((2, 3, 4), dtype), 3)[1]
    with pytest.raises(ValueError, match=r"out\[2\] and gamma must not share memory"):
        nf.group_norm_backward(images, images, gamma, of_groups, out=(None, None, gamma))
    np.testing.assert_array_equal(gamma, 1)


def test_backward_errors() -> None:
    _, saved = nf.batch_norm(X, training=True)
    dx = np.full((4, 3), 9.0)
    for arguments, keywords, error, message in (
        ((np.ones((3, 4)), X, None, saved), {}, ValueError, "dy must have the shape of x"),
        ((X, X[:, :2], None, saved), {}, ValueError, "must have shape|must have the shape"),
        ((X, X, None, None), {}, TypeError, "saved must be what batch_norm returned, got NoneType"),
        ((X, X, np.ones(4), saved), {}, ValueError, r"gamma must have shape \(3,\)"),
        ((X * 1j, X, None, saved), {}, TypeError, "dy must be .* real"),
        ((X, X, None, saved), {"out": X}, TypeError, "out must be a tuple of three"),
        ((X, X, None, saved), {"out": (dx, dx[0], None)}, ValueError, r"out\[1\] and out\[0\]"),
        ((X, X, None, saved), {"out": (dx, None, FROZEN)}, ValueError, r"out\[2\] must be writ"),
        ((X, X, None, saved), {"out": (dx, np.ones(3, "f"), None)}, TypeError, r"out\[1\] must h"),
    ):
        with pytest.raises(error, match=message):
            nf.batch_norm_backward(*arguments, **keywords)
        np.testing.assert_array_equal(dx, 9)


# ---- images, channels last, activation and addition ----


SHAPES = [(3, 5, 7), (2, 17, 4, 4), (5, 3, 6, 9), (2, 6, 3, 2, 5), (4, 70, 1, 3), (2, 1, 40, 50)]


def as_rows(array: Array) -> Array:
    """(N, C, ...) as (values per channel, C)."""
    return np.moveaxis(array, 1, -1).reshape(-1, array.shape[1]) if array.ndim > 1 else array


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_images_are_their_rows(engine: str, shape: tuple[int, ...], dtype: type) -> None:
    """The bits are those of the matrix with the same values per channel, wherever the axis is."""
    x, gamma, beta, dy = images(shape, dtype)
    rows = everything(as_rows(x), gamma, beta, as_rows(dy))
    for made, desired in zip(everything(x, gamma, beta, dy), rows, strict=True):
        assert_same_bits(as_rows(made), desired)
    last = everything(np.moveaxis(x, 1, -1), gamma, beta, np.moveaxis(dy, 1, -1), axis=-1)
    for made, desired in zip(last, rows, strict=True):
        assert_same_bits(made.reshape(desired.shape), desired)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_layouts_of_images(dtype: type) -> None:
    x, gamma, beta, dy = images((3, 19, 5, 7), dtype)
    expected = everything(x, gamma, beta, dy)
    for laid, laid_dy in zip(layouts(x).values(), layouts(dy).values(), strict=True):
        for made, desired in zip(everything(laid, gamma, beta, laid_dy), expected, strict=True):
            assert_same_bits(made, desired)
    cut = np.empty((3, 19, 7, 9), dtype)[:, :, 1:6, 2:9]
    cut[...] = x
    for made, desired in zip(everything(cut, gamma, beta, dy), expected, strict=True):
        assert_same_bits(made, desired)


@pytest.mark.parametrize("shape", [(70, 33), *SHAPES])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("added", [True, False])
def test_relu_and_addition_are_those_of_separate_steps(
    engine: str, shape: tuple[int, ...], dtype: type, training: bool, added: bool
) -> None:
    """Bit for bit in float32 and float64; float16 is not rounded in between."""
    wide = np.float32 if dtype == np.float16 else dtype
    x, gamma, beta, dy = (a.astype(dtype) for a in images(shape, wide))
    add = images(shape, wide, seed=1)[0].astype(dtype) if added else None
    running = np.ones(shape[1], wide), np.full(shape[1], 2, wide)
    y, saved = nf.batch_norm(
        x, gamma, beta, *running, training=training, activation="relu", add=add
    )
    running = np.ones(shape[1], wide), np.full(shape[1], 2, wide)
    plain, plain_saved = nf.batch_norm(x.astype(wide), gamma, beta, *running, training=training)
    total = plain + add.astype(wide) if add is not None else plain
    assert_same_bits(y, nf.relu(total).astype(dtype))
    masked = np.where(total > 0, dy, 0).astype(dtype)
    results = nf.batch_norm_backward(dy, x, gamma, saved)
    expected = nf.batch_norm_backward(masked.astype(wide), x.astype(wide), gamma, plain_saved)
    for made, desired in zip(results, expected, strict=False):
        assert_same_bits(made, desired.astype(made.dtype))
    assert len(results) == (4 if added else 3)
    if added:
        assert_same_bits(results[3], masked)
    assert saved.mask is not None
    assert saved.mask.nbytes <= x.size / 8 + 8 * max(x.size // shape[1], shape[1])


def test_the_gradient_of_an_addition_without_activation_is_dy() -> None:
    x, gamma, beta, dy = images((3, 5, 7), np.float32)
    y, saved = nf.batch_norm(x, gamma, beta, training=True, add=dy)
    assert_same_bits(y, nf.batch_norm(x, gamma, beta, training=True)[0] + dy)
    assert nf.batch_norm_backward(dy, x, gamma, saved)[3] is dy
    given = np.empty_like(dy)
    assert nf.batch_norm_backward(dy, x, gamma, saved, out=(None, None, None, given))[3] is given
    assert_same_bits(given, dy)


@pytest.mark.parametrize("channels_last", [True, False])
def test_relu_at_zero_nan_and_infinity(isa: str, channels_last: bool) -> None:
    """The gradient at 0 is 0; NaN stays NaN and its gradient passes."""
    x = np.array([[1.0, -1], [np.nan, 2], [3, -np.inf], [0, -0.0]], np.float32)
    kept = np.array([[1.0, 0], [1, 1], [1, 0], [0, 0]], np.float32)
    running = np.zeros(2), np.ones(2)
    arrays = (x, kept) if channels_last else (x.T[None], kept.T[None])
    y, saved = nf.batch_norm(
        arrays[0], None, None, *running, training=False, activation="relu", eps=1e-30
    )
    np.testing.assert_array_equal(y, nf.relu(arrays[0]))
    dx = nf.batch_norm_backward(np.ones_like(arrays[0]), arrays[0], None, saved)[0]
    np.testing.assert_array_equal(dx, arrays[1])


@pytest.mark.parametrize("activation", [None, "relu"])
def test_gradients_of_images_numerically(activation: str | None) -> None:
    x, gamma, beta, dy = images((2, 3, 2, 2), np.float64)
    add = images((2, 3, 2, 2), np.float64, seed=2)[0]

    def loss(x: Array, gamma: Array, beta: Array, add: Array) -> float:
        y, _ = nf.batch_norm(x, gamma, beta, training=True, activation=activation, add=add)
        return float((dy * y).sum())

    _, saved = nf.batch_norm(x, gamma, beta, training=True, activation=activation, add=add)
    dx, dgamma, dbeta, dadd = nf.batch_norm_backward(dy, x, gamma, saved)
    assert_gradient(dx, lambda v: loss(v, gamma, beta, add), x)
    assert_gradient(dgamma, lambda v: loss(x, v, beta, add), gamma)
    assert_gradient(dbeta, lambda v: loss(x, gamma, v, add), beta)
    assert_gradient(dadd, lambda v: loss(x, gamma, beta, v), add)


@pytest.mark.parametrize("shape", [(2**22, 2), (1, 2, 2**22), (2**25, 1)])
def test_many_values_per_channel(shape: tuple[int, ...]) -> None:
    """More than one chunk of partial sums, with lanes along and across channels, up to 2^25 values."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal(shape, np.float32)
    x += np.float32(0.3)
    with forced(threads=2, grain=1):
        y, _ = nf.batch_norm(x, training=True)
    with forced(threads=1):
        assert_same_bits(nf.batch_norm(x, training=True)[0], y)
    for c in range(shape[1]):
        column, result = x[:, c].ravel().astype(float), y[:, c].ravel()
        # Two passes of a pairwise sum, the second of which corrects the first.
        mean = column.mean()
        mean += (column - mean).mean()
        sigma = np.sqrt(((column - mean) ** 2).mean() + EPS)
        exact = (column - mean) / sigma
        bound = 4 * np.spacing(np.abs(exact).astype(np.float32)) + 2.0**-48 * abs(mean) / sigma
        assert np.all(np.abs(result - exact) <= bound)


def test_a_first_value_far_off_does_not_spoil_the_variance() -> None:
    """The sums are about the first value; where it is an outlier they are computed again about the mean."""
    x = np.random.default_rng(0).normal(0, 1, (5000, 3))
    x[0] = 1e9
    for shape in (x.shape, (1, *x.shape[::-1])):
        arranged = x.T.reshape(shape) if len(shape) == 3 else x
        stats = nf.batch_norm_stats(arranged)
        mean, var = statistics(x)
        np.testing.assert_allclose(stats.mean, mean.astype(float), rtol=1e-15)
        np.testing.assert_allclose(stats.var, var.astype(float), rtol=1e-14)


def test_cumulative_average_and_correction() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(2, 3, (20, 4, 3)) for _ in range(5)]
    running_mean, running_var, count = np.zeros(4), np.zeros(4), np.array(0)
    for x in batches:
        nf.batch_norm(
            x,
            running_mean=running_mean,
            running_var=running_var,
            training=True,
            momentum=None,
            num_batches_tracked=count,
            running_var_correction=0,
        )
    assert count == 5
    np.testing.assert_allclose(running_mean, np.mean([x.mean(axis=(0, 2)) for x in batches], 0))
    np.testing.assert_allclose(running_var, np.mean([x.var(axis=(0, 2)) for x in batches], 0))
    nf.batch_norm(
        batches[0], None, None, running_mean, running_var, training=False, num_batches_tracked=count
    )
    assert count == 5


def test_float16_is_the_rounded_float32_result() -> None:
    x, gamma, beta, dy = (a.astype(np.float16) for a in images((3, 9, 5, 5), np.float32))
    running = np.zeros(9, np.float32), np.ones(9, np.float32)
    y, saved = nf.batch_norm(x, gamma, beta, *running, training=True)
    wide, wide_saved = nf.batch_norm(x.astype("f"), gamma, beta, training=True)
    assert_same_bits(y, wide.astype(np.float16))
    dx, dgamma, dbeta = nf.batch_norm_backward(dy, x, gamma, saved)
    assert (dx.dtype, dgamma.dtype, dbeta.dtype) == (np.float16, np.float32, np.float32)
    expected = nf.batch_norm_backward(dy.astype("f"), x.astype("f"), gamma, wide_saved)
    assert_same_bits(dx, expected[0].astype(np.float16))
    with pytest.raises(TypeError, match="running_mean must have dtype float32, got float16"):
        nf.batch_norm(x, None, None, *np.ones((2, 9), np.float16), training=True)


# ---- gradients and statistics over pieces, folding ----


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "axis"), [((40, 7), 1), ((6, 5, 4, 4), 1), ((6, 4, 5), -1), ((9, 3, 3000), 1)]
)
def test_gradients_of_pieces_are_those_of_the_whole(
    shape: tuple[int, ...], axis: int, dtype: type
) -> None:
    rng = np.random.default_rng(1)
    x, dy = rng.normal(3, 2, shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    channels, count = shape[axis], x.size // shape[axis]
    gamma = rng.uniform(0.5, 2, channels)
    _, saved = nf.batch_norm(x, gamma, training=True, axis=axis)
    dx, dgamma, dbeta = nf.batch_norm_backward(dy, x, gamma, saved)
    moments = saved.mean, saved.inv_std
    pieces = slice(0, 2), slice(2, 2), slice(2, None)
    sums = np.sum(
        [_core.batch_norm_parameter_gradients(dy[p], x[p], *moments, axis) for p in pieces], 0
    )
    assert sums.dtype == np.float64
    eps = np.finfo(np.float64 if dtype == np.float64 else np.float32).eps
    # Of float32 few terms are added as they are: an eps of the sum of their sizes.
    normalised = (np.moveaxis(x.astype(float), axis, -1) - saved.mean) * saved.inv_std
    terms = np.abs(np.moveaxis(dy.astype(float), axis, -1)).reshape(-1, channels)
    sizes = [(terms * np.abs(normalised).reshape(-1, channels)).sum(axis=0), terms.sum(axis=0)]
    assert np.all(np.abs(sums - [dgamma, dbeta]) <= eps * np.add(np.abs(sums), sizes) + 1e-12)
    found = [
        _core.batch_norm_input_gradient(dy[p], x[p], gamma, *moments, *sums, count, axis)
        for p in pieces
    ]
    assert [part.dtype for part in found] == 3 * [dtype]
    np.testing.assert_allclose(np.concatenate(found), dx, rtol=0, atol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_piece_of_nan_spoils_its_channel_alone(axis: int) -> None:
    x = np.ones((3, 3), np.float32)
    inv_std = np.array([1, np.nan, 1])
    dx = _core.batch_norm_input_gradient(
        x, x, None, np.zeros(3), inv_std, np.zeros(3), np.zeros(3), 3, axis
    )
    np.testing.assert_array_equal(np.isnan(np.moveaxis(dx, axis, 0)).all(axis=1), np.isnan(inv_std))
    assert np.isnan(dx).sum() == 3


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_merged_statistics_are_those_of_the_whole(seed: int, cuts: list[int]) -> None:
    x = np.random.default_rng(seed).normal(50, 2, (60, 3, 4)).astype(np.float32)
    pieces = [nf.batch_norm_stats(piece) for piece in np.split(x, sorted(cuts))]
    merged, whole = nf.merge_stats(*pieces), nf.batch_norm_stats(x)
    assert merged.count == whole.count == 240
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=4e-16)
    np.testing.assert_allclose(merged.m2, whole.m2, rtol=1e-13)
    tree = nf.merge_stats(nf.merge_stats(*pieces[:1]), nf.merge_stats(*pieces))
    assert tree.count == pieces[0].count + 240
    y, _ = nf.batch_norm(x, None, None, merged.mean, merged.var, training=False)
    exact = nf.batch_norm(x, training=True)[0]
    np.testing.assert_allclose(y, exact, rtol=3e-7, atol=1e-12)


def exact_m2(x: np.ndarray) -> Fraction:
    """The sum of squared differences from the mean, without rounding."""
    values = [Fraction(float(value)) for value in x]
    mean = sum(values) / len(values)
    return sum(((value - mean) ** 2 for value in values), Fraction(0))


def ulps_off(value: float, exact: Fraction) -> float:
    return abs(float((Fraction(float(value)) - exact) / Fraction(float(np.spacing(float(exact))))))


def awkward_columns(n: int, seed: int) -> np.ndarray:
    """Columns of n float64 values whose variance is hard to get right."""
    normal = np.random.default_rng(seed).standard_normal(n)
    return np.stack(
        [
            normal,
            normal + 1e4,
            1e-3 * normal - 7e8,
            1e-9 * normal + 1e6,
            normal * 10.0 ** np.linspace(-8, 8, n),
            np.where(np.arange(n) % 3 == 0, 0.1, 0.3),
            1e-100 * (normal + 3),
            1e100 * (normal + 3),
        ],
        axis=1,
    )


@pytest.mark.parametrize("n", [2, 3, 7, 15, 16, 17, 64, 1000, 9001])
@pytest.mark.parametrize("layout", ["rows", "columns", "images"])
def test_the_variance_of_float64_is_right_to_2_ulp(n: int, layout: str) -> None:
    columns = awkward_columns(n, seed=n)
    x = {
        "rows": columns,
        "columns": np.asfortranarray(columns),
        "images": np.ascontiguousarray(columns.T)[None],
    }[layout]
    stats = nf.batch_norm_stats(x)
    exact = [exact_m2(column) / n for column in columns.T]
    assert max(map(ulps_off, stats.var, exact)) <= 2


@pytest.mark.parametrize("cuts", [[1], [3, 500], list(range(10, 1000, 10))])
def test_merged_variances_of_float64_are_right_to_2_ulp(cuts: list[int]) -> None:
    columns = awkward_columns(1000, seed=5)
    pieces = [nf.batch_norm_stats(piece) for piece in np.split(columns, cuts)]
    half = len(pieces) // 2
    for merged in (
        nf.merge_stats(*pieces),
        nf.merge_stats(nf.merge_stats(*pieces[:half]), nf.merge_stats(*pieces[half:])),
    ):
        exact = [exact_m2(column) / 1000 for column in columns.T]
        assert max(map(ulps_off, merged.var, exact)) <= 2


def test_statistics_without_what_rounding_took_are_merged_all_the_same() -> None:
    columns = awkward_columns(100, seed=1)[:, :2]
    pieces = [nf.batch_norm_stats(piece) for piece in np.split(columns, [30])]
    rounded = [BatchNormStats(piece.count, piece.mean, piece.m2) for piece in pieces]
    np.testing.assert_allclose(
        nf.merge_stats(*rounded).var, nf.merge_stats(*pieces).var, rtol=1e-11
    )
    assert nf.merge_stats(pickle.loads(pickle.dumps(pieces[0])), pieces[1]).count == 100


def test_constant_channels_have_no_variance() -> None:
    values = np.array([0.1, 1e-300, -1e17 / 3, 1e200, 0.0])
    for x in (np.full((77, 5), values), np.full((3, 5, 4001), values[:, None])):
        stats = nf.batch_norm_stats(x)
        np.testing.assert_array_equal(stats.mean, values)
        np.testing.assert_array_equal(stats.m2, np.zeros(5))


def test_statistics_errors() -> None:
    empty = nf.batch_norm_stats(np.ones((0, 3)))
    assert (empty.count, empty.mean.tolist()) == (0, [0, 0, 0])
    assert nf.merge_stats(empty, empty) is empty
    for arguments, error, message in (
        ((), ValueError, "pieces must hold at least one"),
        ((empty, 3), TypeError, "pieces must be BatchNormStats, got int"),
        ((empty, nf.batch_norm_stats(X[:, :2])), ValueError, "equally many channels, got 3 and 2"),
    ):
        with pytest.raises(error, match=message):
            nf.merge_stats(*arguments)
    with pytest.raises(ValueError, match="at least 2 axes"):
        nf.batch_norm_stats(np.ones(3))


@both_dtypes
def test_folding(dtype: type) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 8)).astype(dtype)
    w = rng.standard_normal((8, 5)).astype(dtype)
    bias, gamma, beta, mean = rng.standard_normal((4, 5)).astype(dtype)
    var = rng.uniform(0.5, 2, 5).astype(dtype)
    expected = nf.batch_norm(x @ w + bias, gamma, beta, mean, var, training=False)[0]
    tolerance = 50 * np.finfo(dtype).eps
    for weight, axis in ((w, 1), (w.T, 0), (w[:, :, None, None], -3)):
        folded, shift = nf.fold_batch_norm(weight, bias, gamma, beta, mean, var, axis=axis)
        assert folded.dtype == shift.dtype == dtype
        assert folded.shape == weight.shape
        flat = folded.reshape(8, 5) if axis != 0 else folded.T
        np.testing.assert_allclose(x @ flat + shift, expected, tolerance, tolerance)
    for changes, message in (
        ({"var": -var}, "var must not be negative"),
        ({"gamma": gamma[:4]}, r"gamma must have shape \(5,\), got \(4,\)"),
        ({"eps": 0.0}, "eps must be positive, got 0.0"),
        ({"axis": 2}, "axis must be an axis of weight"),
    ):
        keywords = {"gamma": gamma, "beta": beta, "mean": mean, "var": var, "axis": 1, **changes}
        with pytest.raises(ValueError, match=message):
            nf.fold_batch_norm(w, bias, **keywords)


# ---- conventions, and what people bring along ----

OF_OLD_VALUE = {"torch": 0.9, "keras": 0.99, "cs231n": 0.9}


@pytest.mark.parametrize("convention", OF_OLD_VALUE)
def test_conventions(convention: Any) -> None:
    """Each system's defaults, for the function and for the layer; what is given wins, in that system's sense."""
    x = np.random.default_rng(0).normal(3, 2, (6, 4))
    eps = 1e-3 if convention == "keras" else EPS
    n = 6 if convention != "torch" else 5  # by which the variance is divided
    for options, old, desired_eps, divisor in (
        ({}, OF_OLD_VALUE[convention], eps, n),
        ({"momentum": 0.75}, 0.25 if convention == "torch" else 0.75, eps, n),
        ({"momentum": 1}, 0.0 if convention == "torch" else 1.0, eps, n),
        ({"eps": 0.5, "running_var_correction": 1}, OF_OLD_VALUE[convention], 0.5, 5),
    ):
        mean, var = np.full(4, 2.0), np.full(4, 3.0)
        given_settings: dict[str, Any] = {"convention": convention, **options}
        y, _ = nf.batch_norm(x, None, None, mean, var, training=True, **given_settings)
        deviations = x - x.mean(axis=0)
        np.testing.assert_allclose(y, deviations / np.sqrt(x.var(axis=0) + desired_eps))
        np.testing.assert_allclose(mean, old * 2 + (1 - old) * x.mean(axis=0), rtol=1e-14)
        unbiased = (deviations**2).sum(axis=0) / divisor
        np.testing.assert_allclose(var, old * 3 + (1 - old) * unbiased, rtol=1e-14)
        layer = nf.nn.BatchNorm(4, dtype=np.float64, **given_settings)
        layer.running_mean, layer.running_var = np.full(4, 2.0), np.full(4, 3.0)
        net = nf.nn.Sequential(layer, nf.nn.ReLU())  # fused
        assert_same_bits(net.forward(x, training=True), nf.relu(y))
        assert_same_bits(layer.running_mean, mean)
        assert_same_bits(layer.running_var, var)
        inferred = nf.batch_norm(x, None, None, mean, var, training=False, **given_settings)[0]
        assert_same_bits(layer.forward(x), inferred)
        # As training in shards does.
        layer.running_mean, layer.running_var = np.full(4, 2.0), np.full(4, 3.0)
        layer._move_running(nf.batch_norm_stats(x))
        np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-14)
        np.testing.assert_allclose(layer.running_var, var, rtol=1e-14)


def test_the_average_over_all_batches_has_no_convention() -> None:
    x = np.random.default_rng(0).normal(3, 2, (6, 4))
    found = []
    for convention in ("torch", "cs231n"):
        layer = nf.nn.BatchNorm(
            4, momentum=None, running_var_correction=0, convention=convention, dtype=np.float64
        )
        layer.forward(x, training=True)
        layer.forward(2 * x, training=True)
        found.append(layer.running_var.copy())
    assert_same_bits(*found)


def test_errors_of_conventions() -> None:
    for make in (
        lambda **k: nf.batch_norm(X, training=True, **k),
        lambda **k: nf.nn.BatchNorm(3, **k),
    ):
        with pytest.raises(
            ValueError, match="convention must be 'torch', 'keras' or 'cs231n', got 'tf'"
        ):
            make(convention="tf")
        with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\], got 1.5"):
            make(convention="keras", momentum=1.5)
        with pytest.raises(TypeError, match="momentum must be a real number, got str"):
            make(convention="keras", momentum="x")
        with pytest.raises(ValueError, match="running_var_correction must be 0 or 1, got 2"):
            make(convention="cs231n", running_var_correction=2)


def test_training_may_not_be_forgotten_beside_running_statistics() -> None:
    running = np.zeros(3), np.ones(3)
    for statistics_given in (running, (running[0], None), (None, running[1])):
        with pytest.raises(
            TypeError, match="training must be given with running_mean and running_var: "
        ):
            nf.batch_norm(X, None, None, *statistics_given)
    assert_same_bits(np.array(running), np.array([np.zeros(3), np.ones(3)]))
    assert not nf.batch_norm(X, None, None, *running, training=False)[1].training
    with pytest.raises(ValueError, match="must be given when training=False"):
        nf.batch_norm(X, training=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "axis", "of_parameters"),
    [
        ((6, 4), 1, (1, 4)),
        ((6, 4), -1, (1, 1, 4)),
        ((4, 6), 0, (4, 1)),  # columns as samples
        ((4, 6), 0, (1, 4)),
        ((3, 4, 2, 5), 1, (1, 4, 1, 1)),
        ((3, 4, 2, 5), 1, (4, 1, 1)),
        ((3, 4, 2, 5), 1, (1, 4)),
        ((3, 2, 5, 4), -1, (1, 1, 1, 4)),
        ((6, 1), 1, (1, 1)),
    ],
)
def test_parameters_of_other_shapes(
    shape: tuple[int, ...], axis: int, of_parameters: tuple[int, ...], dtype: type
) -> None:
    """gamma, beta and running statistics as (1, C) or as they broadcast to x; gradients come back like gamma."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(3, 2, (2, *shape)).astype(dtype)
    parameters = rng.uniform(0.5, 2, (4, shape[axis])).astype(dtype)
    flat, shaped = parameters.copy(), [row.reshape(of_parameters) for row in parameters.copy()]
    for training in (True, False):
        expected, saved = nf.batch_norm(x, *flat, training=training, axis=axis)
        y, same = nf.batch_norm(x, *shaped, training=training, axis=axis)
        assert_same_bits(y, expected)
        for found, row in zip(shaped, flat, strict=True):
            assert_same_bits(found.ravel(), row)
        gradients = nf.batch_norm_backward(dy, x, flat[0], saved)
        out = (np.empty_like(x), np.empty_like(shaped[0]), np.empty(of_parameters[::-1], dtype).T)
        for gradients_out in (None, out):
            found_dx, *found = nf.batch_norm_backward(dy, x, shaped[0], same, out=gradients_out)
            assert_same_bits(found_dx, gradients[0])
            for gradient, row in zip(found, gradients[1:], strict=True):
                assert gradient.shape == of_parameters
                assert_same_bits(gradient.ravel(), row)
            assert gradients_out is None or (found[0] is out[1] and found[1] is out[2])


def test_parameters_of_group_norm_and_folding_as_rows() -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, 4, 2, 5))
    gamma, beta = rng.uniform(0.5, 2, (2, 1, 4, 1, 1))
    y, saved = nf.group_norm(x, 2, gamma, beta)
    expected, flat_saved = nf.group_norm(x, 2, gamma.ravel(), beta.ravel())
    assert_same_bits(y, expected)
    found = nf.group_norm_backward(dy, x, gamma, saved)
    expected_gradients = nf.group_norm_backward(dy, x, gamma.ravel(), flat_saved)
    for made, desired in zip(found[1:], expected_gradients[1:], strict=True):
        assert made.shape == gamma.shape
        assert_same_bits(made.ravel(), desired)
    row = rng.uniform(1, 2, 4)
    weight = rng.standard_normal((3, 4))
    expected_folded = nf.fold_batch_norm(weight, None, *4 * [row], axis=1)
    for shape in ((1, 4), (4, 1), (1, 4, 1, 1)):
        folded = nf.fold_batch_norm(weight, None, *4 * [row.reshape(shape)], axis=1)
        for made, desired in zip(folded, expected_folded, strict=True):
            assert_same_bits(made, desired)
    for shape in ((2, 2), (4, 2), (1, 1)):
        with pytest.raises(ValueError, match=r"gamma must have shape \(4,\), got"):
            nf.fold_batch_norm(weight, None, np.ones(shape), None, row, row, axis=1)


@pytest.mark.parametrize(
    ("convention", "eps"), [("torch", 1e-5), ("keras", 1e-3), ("cs231n", 1e-5)]
)
def test_folding_has_the_eps_of_a_convention(convention: Any, eps: float) -> None:
    weight, row = np.ones((2, 3)), np.full(3, 0.01)
    for own in ({}, {"eps": 0.5}):
        found = nf.fold_batch_norm(
            weight, None, row, row, row, row, axis=1, convention=convention, **own
        )
        expected = nf.fold_batch_norm(
            weight, None, row, row, row, row, axis=1, **{"eps": eps, **own}
        )
        for a, b in zip(found, expected, strict=True):
            assert_same_bits(a, b)
    with pytest.raises(ValueError, match="convention must be 'torch', 'keras' or 'cs231n'"):
        nf.fold_batch_norm(weight, None, row, row, row, row, axis=1, convention="jax")  # type: ignore[arg-type]


def test_parameters_of_wrong_shapes() -> None:
    row = np.ones((1, 3))
    for gamma, beta, message in (
        (np.ones((3, 1)), None, r"gamma must have shape \(3,\), got \(3, 1\)"),
        (np.ones((2, 3)), None, r"gamma must have shape \(3,\), got \(2, 3\)"),
        (np.ones((1, 4)), None, r"gamma must have shape \(3,\), got \(1, 4\)"),
        (1.0, None, r"gamma must have shape \(3,\), got \(\)"),
        (row, row[0], r"beta must have the shape of gamma, \(1, 3\), got \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            nf.batch_norm(X, gamma, beta, training=True)
    # A matrix has two axes, whatever it is asked for.
    matrix = np.array([[1.0, 2.0, 3.0]]).view(np.matrix)
    y, saved = nf.batch_norm(X, matrix, matrix, training=True)
    assert_same_bits(y, nf.batch_norm(X, np.arange(1.0, 4), np.arange(1.0, 4), training=True)[0])
    assert nf.batch_norm_backward(X, X, matrix, saved)[1].shape == (1, 3)
    memory = np.zeros((1, 6))
    with pytest.raises(ValueError, match="running_mean and running_var must not share memory"):
        nf.batch_norm(X, None, None, memory[:, :3], memory[:, 2:5], training=True)


def test_a_scale_lies_along_the_axis_it_broadcasts_to() -> None:
    x = np.ones((2, 3, 5, 3))  # axis=-1 forgotten
    with pytest.raises(ValueError, match=r"gamma must have shape \(3,\), got \(1, 1, 1, 3\)"):
        nf.batch_norm(x, np.ones((1, 1, 1, 3)), training=True)
    nf.batch_norm(x, np.ones((1, 1, 1, 3)), training=True, axis=-1)
