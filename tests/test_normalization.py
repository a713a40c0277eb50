"""Batch normalisation: values at hard inputs, running statistics, gradients, bits, errors that change nothing."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnfast as nf
from conftest import FMA_ISAS
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast._testing import forced

Array = NDArray[Any]
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
EPS = 1e-5


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of every column, in two passes of long double."""
    wide = x.astype(np.longdouble)
    mean = wide.mean(axis=0)
    return mean, ((wide - mean) ** 2).mean(axis=0)


def reference(x: Array, gamma: Array, beta: Array, mean: Array, var: Array) -> Array:
    return gamma * (x.astype(np.longdouble) - mean) / np.sqrt(var + EPS) + beta


def backward_reference(dy: Array, x: Array, gamma: Array, mean: Array, var: Array) -> Array:
    """The gradient in training, as the paper gives it."""
    n, dy = len(x), dy.astype(np.float64)
    normalised = (x - mean) / np.sqrt(var + EPS)
    dgamma, dbeta = (dy * normalised).sum(axis=0), dy.sum(axis=0)
    return gamma / np.sqrt(var + EPS) / n * (n * dy - dbeta - normalised * dgamma)


def case(n: int, c: int, dtype: type, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """x, gamma, beta, dy."""
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.normal(0, 3, c), rng.uniform(0.5, 2, c), (n, c)).astype(dtype)
    gamma, beta = rng.standard_normal((2, c)).astype(dtype)
    return x, gamma, beta, rng.standard_normal((n, c)).astype(dtype)


def assert_promised(x: Array, gamma: Array, beta: Array, ulps: int = 4) -> None:
    """float32 within 4 ulp of the larger of |y| and |beta| plus 2^-48 |gamma mean| / sigma."""
    y, _ = nf.batch_norm(x, gamma, beta, training=True)
    mean, var = statistics(x)
    exact = reference(x, gamma, beta, mean, var)
    larger = np.maximum(np.abs(exact), np.abs(beta)).astype(np.float32)
    bound = ulps * np.spacing(larger) + 2.0**-48 * np.abs(gamma * mean) / np.sqrt(var + EPS)
    assert np.all(np.abs(y - exact) <= bound)


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
        y, reference(x + 1e6, gamma, beta, *statistics(x + 1e6)).astype(float), rtol=0, atol=1e-9
    )
    y, _ = nf.batch_norm(x, gamma, beta, training=True)
    np.testing.assert_allclose(
        y, reference(x, gamma, beta, *statistics(x)).astype(float), rtol=1e-13, atol=1e-14
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
    y, saved = nf.batch_norm(x, gamma, beta, running_mean, running_var)
    assert_same_bits(running_mean, kept[0])
    assert_same_bits(running_var, kept[1])
    exact = reference(x, gamma, beta, *(a.astype(np.longdouble) for a in kept)).astype(float)
    np.testing.assert_allclose(y, exact, rtol=4 * np.finfo(dtype).eps, atol=8 * tolerance)
    assert not saved.training


def test_saved_mean_does_not_follow_the_running_mean() -> None:
    x, running_mean, running_var = np.ones((3, 2)), np.zeros(2), np.ones(2)
    _, saved = nf.batch_norm(x, None, None, running_mean, running_var)
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
    expected = backward_reference(dy, x, gamma, mean, var)
    assert np.all(np.abs(dx - expected) <= 8 * eps * scale * np.abs(dy).max() * (1 + normalised**2))
    exact_dgamma = (dy * (x - mean) / np.sqrt(var + EPS)).sum(axis=0, dtype=float)
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
    running_mean, running_var = np.ones(c, x.dtype), np.full(c, 2, x.dtype)
    results = []
    for training in (True, False):
        y, saved = nf.batch_norm(
            x, gamma, beta, running_mean, running_var, training=training, axis=axis
        )
        results += [y, saved.mean, saved.inv_std, running_mean.copy(), running_var.copy()]
        results += nf.batch_norm_backward(dy, x, gamma, saved)
    return results


@both_dtypes
def test_bits(dtype: type) -> None:
    x, gamma, beta, dy = case(70, 150, dtype)
    expected = everything(x, gamma, beta, dy)
    for isa in FMA_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                for actual, wanted in zip(everything(x, gamma, beta, dy), expected, strict=True):
                    assert_same_bits(actual, wanted)
    for laid, laid_dy in zip(layouts(x).values(), layouts(dy).values(), strict=True):
        for axis, transpose in ((1, False), (-1, False), (0, True), (-2, True)):
            pair = (laid.T, laid_dy.T) if transpose else (laid, laid_dy)
            results = everything(pair[0], gamma, beta, pair[1], axis)
            for actual, wanted in zip(results, expected, strict=True):
                assert_same_bits(actual.T if transpose and actual.ndim == 2 else actual, wanted)


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
        for out, back, wanted in zip(outs, returned, results, strict=True):
            assert back is out
            assert_same_bits(out, wanted)


def test_other_input_types() -> None:
    assert nf.batch_norm([[1, 2], [3, 4]], training=True)[0].dtype == np.float64
    assert nf.batch_norm(np.ones((2, 2), np.float16), training=True)[0].dtype == np.float32
    x = case(6, 4, np.float32)[0]
    swapped = x.astype(x.dtype.newbyteorder())
    assert_same_bits(nf.batch_norm(swapped, training=True)[0], nf.batch_norm(x, training=True)[0])
    y, saved = nf.batch_norm(np.ones((4, 0)), training=True)
    assert y.shape == (4, 0)
    assert [a.shape for a in nf.batch_norm_backward(y, y, None, saved)] == [(4, 0), (0,), (0,)]
    assert nf.batch_norm(np.ones((0, 3)), None, None, np.ones(3), np.ones(3))[0].shape == (0, 3)


X = np.arange(12.0).reshape(4, 3)
FROZEN = np.ones(3)
FROZEN.flags.writeable = False
IN_BOTH_MODES = [
    ({"x": np.ones(3)}, ValueError, r"x must have shape \(N, C\), got \(3,\)"),
    ({"x": np.ones((2, 3, 4))}, ValueError, r"x must have shape \(N, C\)"),
    ({"x": X.astype(complex)}, TypeError, "x must be .* real .* complex128"),
    ({"axis": 1.0}, TypeError, "axis must be an int, got float"),
    ({"axis": 2}, ValueError, "axis must be in"),
    ({"gamma": np.ones(4)}, ValueError, r"gamma must have shape \(3,\), got \(4,\)"),
    ({"beta": np.ones((3, 1))}, ValueError, "beta must have shape"),
    ({"gamma": np.ones(3, complex)}, TypeError, "gamma must be .* real"),
    ({"eps": 0.0}, ValueError, "eps must be positive, got 0.0"),
    ({"eps": np.nan}, ValueError, "eps must be positive"),
    ({"eps": "x"}, TypeError, "eps must be a real number, got str"),
    ({"momentum": 1.5}, ValueError, r"momentum must be in \[0, 1\], got 1.5"),
    ({"momentum": np.nan}, ValueError, "momentum must be in"),
    ({"momentum": None}, TypeError, "momentum must be a real number"),
    ({"running_mean": None}, ValueError, "running_mean and running_var .* together"),
    ({"running_var": np.ones(4)}, ValueError, r"running_var must have shape \(3,\)"),
    ({"running_var": np.array([1, -1, 1.0])}, ValueError, "running_var .* got -1.0 for chan"),
    ({"running_var": np.array([1, 1, np.nan])}, ValueError, "running_var must not be negative"),
    ({"out": np.ones((4, 3), "f")}, TypeError, "out must have dtype float64, got float32"),
    ({"out": np.ones((3, 4))}, ValueError, "out must have the shape of x"),
]
IN_TRAINING = [  # where running statistics are written, and those of the batch taken
    ({"x": np.ones((1, 3))}, ValueError, "x must have at least 2 rows in training"),
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
    y, _ = nf.batch_norm(np.ones((1, 3)), None, None, np.zeros(3), np.ones(3), eps=3.0)
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
