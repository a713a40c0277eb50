"""Layer normalisation, with and without a mean: values, gradients, bits, errors that change nothing."""

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
from nnfast._testing import forced
from tests.reference import normalization as reference
from tests.reference.normalization import EPS

Array = NDArray[Any]
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def case(rows: int, n: int, dtype: type, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """x, gamma, beta, dy."""
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.normal(0, 3, (rows, 1)), rng.uniform(0.5, 2, (rows, 1)), (rows, n))
    gamma, beta = rng.standard_normal((2, n))
    return tuple(a.astype(dtype) for a in (x, gamma, beta, rng.standard_normal((rows, n))))  # type: ignore[return-value]


def exact(x: Array, gamma: Array, beta: Array) -> Array:
    return reference.layer_norm(x.astype(np.longdouble), gamma, beta)


def everything(x: Array, gamma: Array, beta: Array, dy: Array, axis: Any = -1) -> list[Array]:
    """All results of both functions, forward and backward."""
    y, saved = nf.layer_norm(x, gamma, beta, axis=axis)
    z, rms_saved = nf.rms_norm(x, gamma, axis=axis, eps=EPS)
    return [
        y,
        saved.mean,
        saved.inv_std,
        *nf.layer_norm_backward(dy, x, gamma, saved),
        z,
        rms_saved.inv_rms,
        *nf.rms_norm_backward(dy, x, gamma, rms_saved),
    ]


@settings(max_examples=15)
@given(
    rows=st.sampled_from([1, 3, 4, 5, 9, 70]),
    n=st.sampled_from([1, 2, 15, 16, 17, 64, 100, 768]),
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_values_and_gradients(engine: str, rows: int, n: int, seed: int, dtype: type) -> None:
    x, gamma, beta, dy = case(rows, n, dtype, seed)
    y, mean, _, dx, dgamma, dbeta, z, _, dx_rms, dgamma_rms = everything(x, gamma, beta, dy)
    eps = np.finfo(dtype).eps
    larger = np.maximum(np.abs(exact(x, gamma, beta)), np.abs(beta))
    # In float64 the mean is rounded too.
    lost = np.abs(x).max() * np.abs(gamma) * eps * 300 if dtype == np.float64 else 0
    assert np.all(np.abs(y - exact(x, gamma, beta)) <= 4 * eps * larger + lost)
    np.testing.assert_allclose(
        z, reference.rms_norm(x.astype(np.longdouble), gamma).astype(float), 4 * eps
    )
    np.testing.assert_allclose(mean, x.mean(-1, dtype=np.longdouble).astype(float), 1e-15, 1e-15)
    wide, wide_dy, g = x.astype(float), dy.astype(float), gamma * dy.astype(float)
    hat, inv_std = reference.normalized(wide, -1)
    exact_dx, exact_dgamma, exact_dbeta = reference.layer_norm_backward(wide_dy, wide, gamma)
    scale = 16 * eps * inv_std * np.abs(g).max(initial=1) * (1 + np.abs(hat).max(initial=0) ** 2)
    assert np.all(np.abs(dx - exact_dx) <= scale + 300 * eps * np.abs(x).max() * inv_std**2)
    rounding = 40 * eps * rows + 1e-6 * (eps > 1e-8)
    np.testing.assert_allclose(dgamma, exact_dgamma, 1e-5, rounding)
    np.testing.assert_allclose(dbeta, exact_dbeta, 4 * eps, 4 * eps * rows)
    exact_dx, exact_dgamma = reference.rms_norm_backward(wide_dy, wide, gamma)
    _, inv_rms = reference.rms_normalized(wide)
    scale = 16 * eps * inv_rms * np.abs(g).max(initial=1) * 20
    assert np.all(np.abs(dx_rms - exact_dx) <= scale)
    np.testing.assert_allclose(dgamma_rms, exact_dgamma, 1e-5, rounding)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bits(dtype: type) -> None:
    x, gamma, beta, dy = case(150, 70, dtype)
    expected = everything(x, gamma, beta, dy)
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                for made, desired in zip(everything(x, gamma, beta, dy), expected, strict=True):
                    assert_same_bits(made, desired)
    for laid, laid_dy in zip(layouts(x).values(), layouts(dy).values(), strict=True):
        for made, desired in zip(everything(laid, gamma, beta, laid_dy), expected, strict=True):
            assert_same_bits(made, desired)


@both_dtypes
def test_axes(dtype: type) -> None:
    """Along any axes as along the rows of the matrix that they make."""
    x, gamma, beta, dy = case(15, 28, dtype)
    expected = everything(x, gamma, beta, dy)
    shape = (3, 4, 5, 7)  # (3, 5) are rows, (4, 7) are normalised

    def cube(a: Array) -> Array:
        return (
            a.reshape(4, 7)
            if a.ndim == 1
            else np.ascontiguousarray(a.reshape(3, 5, 4, 7).swapaxes(1, 2))
        )

    assert cube(x).shape == shape
    for axis in ((1, 3), (3, 1), (-3, -1)):
        made = everything(cube(x), cube(gamma), cube(beta), cube(dy), axis)
        for result, desired in zip(made, expected, strict=True):
            if desired.shape == (28,) or desired.ndim == 2:
                assert_same_bits(result, cube(desired))
            else:
                assert_same_bits(result, desired)


@both_dtypes
def test_in_place_and_out(dtype: type) -> None:
    x, gamma, beta, dy = case(9, 40, dtype)
    y, saved = nf.layer_norm(x, gamma, beta)
    buffer = x.copy()
    assert nf.layer_norm(buffer, gamma, beta, out=buffer)[0] is buffer
    assert_same_bits(buffer, y)
    expected = nf.layer_norm_backward(dy, x, gamma, saved)
    out = dy.copy(), np.empty(80, dtype)[::2], np.empty(40, dtype)
    made = nf.layer_norm_backward(out[0], x, gamma, saved, out=out)
    for back, place, desired in zip(made, out, expected, strict=True):
        assert back is place
        assert_same_bits(back, desired)
    z, rms_saved = nf.rms_norm(x, gamma)
    assert nf.rms_norm(x, gamma, out=buffer)[0] is buffer
    assert_same_bits(buffer, z)
    dx = dy.copy()
    assert nf.rms_norm_backward(dx, x, gamma, rms_saved, out=(dx, None))[0] is dx
    assert_same_bits(dx, nf.rms_norm_backward(dy, x, gamma, rms_saved)[0])


def test_gradients_numerically() -> None:
    x, gamma, beta, dy = case(3, 5, np.float64)

    def loss(x: Array, gamma: Array, beta: Array) -> float:
        return float((dy * nf.layer_norm(x, gamma, beta)[0]).sum())

    def rms_loss(x: Array, gamma: Array) -> float:
        return float((dy * nf.rms_norm(x, gamma)[0]).sum())

    dx, dgamma, dbeta = nf.layer_norm_backward(dy, x, gamma, nf.layer_norm(x, gamma, beta)[1])
    assert_gradient(dx, lambda v: loss(v, gamma, beta), x)
    assert_gradient(dgamma, lambda v: loss(x, v, beta), gamma)
    assert_gradient(dbeta, lambda v: loss(x, gamma, v), beta)
    dx, dgamma = nf.rms_norm_backward(dy, x, gamma, nf.rms_norm(x, gamma)[1])
    assert_gradient(dx, lambda v: rms_loss(v, gamma), x)
    assert_gradient(dgamma, lambda v: rms_loss(x, v), gamma)


@both_dtypes
def test_hard_rows(isa: str, dtype: type) -> None:
    beta = np.linspace(-3, 3, 20).astype(dtype)
    for value in (0.0, 0.1, 1e30, -7e-20):
        y, _ = nf.layer_norm(np.full((5, 20), value, dtype), None, beta)
        assert_same_bits(y, np.broadcast_to(beta, y.shape).copy())
    x, gamma, _, _ = case(7, 300, dtype)
    for shift, scale in ((1e4, 1), (0, 1e30), (0, 1e-3)):
        moved = (x * dtype(scale) + dtype(shift)).astype(dtype)
        expected = exact(moved, gamma, np.zeros(300)).astype(float)
        eps = np.finfo(dtype).eps
        # The mean is a double: to float32 that is exact, to float64 it has a rounding.
        wide = moved.astype(float)
        lost = np.abs(gamma * wide.mean(-1, keepdims=True)) / wide.std(-1, keepdims=True)
        bound = 4 * eps * np.abs(expected) + (2.0**-48 if dtype == np.float32 else eps) * lost
        assert np.all(np.abs(nf.layer_norm(moved, gamma)[0] - expected) <= bound)
    x[2, 3], x[4, 5] = np.nan, np.inf
    with np.errstate(all="raise"):
        y, _ = nf.layer_norm(x, gamma)
    assert np.isnan(y[[2, 4]]).all()
    assert np.isfinite(np.delete(y, [2, 4], axis=0)).all()


def test_squares_that_float32_has_no_exponents_for(isa: str) -> None:
    x = case(5, 300, np.float32)[0]
    for scale in (2.0**-90, 2.0**90):  # exact, so that only the deviation can change
        moved = (x * np.float32(scale)).astype(np.float32)
        for function in (nf.layer_norm, nf.rms_norm):
            y, _ = function(moved, eps=1e-5 * scale**2)
            np.testing.assert_allclose(y, function(x, eps=1e-5)[0], 4 * 2.0**-23)


def test_a_first_value_far_off_does_not_spoil_the_variance() -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 5000))
    x[:, 0] = 1e9
    _, saved = nf.layer_norm(x)
    np.testing.assert_allclose(saved.inv_std, 1 / x.std(axis=1), rtol=1e-14)


@pytest.mark.parametrize("n", [2, 16, 17, 300, 100_000])
@pytest.mark.parametrize("far", [1, 16])
def test_first_values_far_off_do_not_spoil_the_float32_variance(isa: str, n: int, far: int) -> None:
    rng = np.random.default_rng(n)
    for mean in (0, 1e3, 1e5):
        x = rng.normal(mean, 1, (5, n)).astype(np.float32)
        x[:4, :far] += np.float32(50)
        _, saved = nf.layer_norm(x)
        wide = x.astype(np.float64)
        expected = 1 / np.sqrt(wide.var(axis=1) + EPS)
        np.testing.assert_allclose(saved.inv_std, expected, rtol=2 * 2.0**-23)
        np.testing.assert_allclose(saved.mean, x.mean(1, dtype=np.longdouble).astype(float), 1e-15)


def test_float16_is_the_rounded_float32_result() -> None:
    x, gamma, beta, dy = case(6, 50, np.float16)
    for made, desired in zip(
        everything(x, gamma, beta, dy), everything(x.astype("f"), gamma, beta, dy), strict=True
    ):
        assert_same_bits(made, desired.astype(made.dtype))


def test_defaults_and_other_types() -> None:
    x = case(4, 6, np.float64)[0]
    assert_same_bits(nf.layer_norm(x)[0], nf.layer_norm(x, np.ones(6), np.zeros(6))[0] + 0.0)
    assert_same_bits(nf.rms_norm(x)[0], nf.rms_norm(x, np.ones(6))[0])
    assert nf.layer_norm([[1, 2], [3, 5]])[0].dtype == np.float64
    for dtype, eps in ((np.float16, 2**-23), (np.float32, 2**-23), (np.float64, 2**-52)):
        z = x.astype(dtype)
        assert_same_bits(nf.rms_norm(z)[0], nf.rms_norm(z, eps=eps)[0])
    y, saved = nf.layer_norm(np.ones((0, 3)))
    assert [a.shape for a in nf.layer_norm_backward(y, y, None, saved)] == [(0, 3), (3,), (3,)]


def test_saved_arrays_may_have_any_layout() -> None:
    dy, x = np.random.default_rng(0).standard_normal((2, 6, 5))
    for forward, backward in (
        (nf.layer_norm, nf.layer_norm_backward),
        (nf.rms_norm, nf.rms_norm_backward),
    ):
        _, saved = forward(x)
        *statistics, axes = saved
        expected = backward(dy, x, None, saved)
        for lying in zip(*(layouts(array).values() for array in statistics), strict=True):
            for found, desired in zip(
                backward(dy, x, None, type(saved)(*lying, axes)), expected, strict=True
            ):
                assert_same_bits(found, desired)
        for wrong in ((2,), (-1,), (1, 1), (1, 0), (2**31 - 1,)):
            with pytest.raises(ValueError, match="saved.axes must be axes of x with shape"):
                backward(dy, x, None, saved._replace(axes=wrong))
        memory = np.ones(40)
        dx = memory[:30].reshape(6, 5)
        overlapping = type(saved)(*(memory[20:26] for _ in statistics), axes)
        outs = (dx, *(None for _ in expected[1:]))
        with pytest.raises(ValueError, match=r"out\[0\] and saved.* must not share memory"):
            backward(dy, x, None, overlapping, out=outs)
        np.testing.assert_array_equal(memory, 1)


def test_errors_change_nothing() -> None:
    x = np.arange(12.0).reshape(4, 3)
    out = np.full((4, 3), 9.0)
    frozen = out.copy()
    frozen.flags.writeable = False
    for keywords, error, message in (
        ({"x": x * 1j}, TypeError, "x must be .* real"),
        ({"x": np.ones(())}, ValueError, "axis must be an axis of x"),
        ({"x": np.ones((3, 0)), "out": None}, ValueError, "x must have values along the axes"),
        ({"axis": 2}, ValueError, "axis must be an axis of x"),
        ({"axis": (1, -1)}, ValueError, "axis must name axes of x, each once"),
        ({"axis": ()}, ValueError, "axis must name axes of x"),
        ({"axis": 1.0}, TypeError, "axis must be an int, got float"),
        ({"gamma": np.ones(4)}, ValueError, r"gamma must have the shape of x along its axes, got"),
        ({"gamma": np.ones((1, 3))}, ValueError, "gamma must have the shape of x along its axes"),
        ({"eps": 0.0}, ValueError, "eps must be positive, got 0.0"),
        ({"eps": "x"}, TypeError, "eps must be a real number, got str"),
        ({"out": out[:2]}, ValueError, "out must have the shape of x"),
        ({"out": out.astype("f")}, TypeError, "out must have dtype float64"),
        ({"out": frozen}, ValueError, "out must be writeable"),
        ({"out": x.reshape(-1)[::-1].reshape(4, 3)}, ValueError, "out must be x itself or share"),
        ({"gamma": out[0]}, ValueError, "out and gamma must not share memory"),
    ):
        for function in (nf.layer_norm, nf.rms_norm):
            with pytest.raises(error, match=message):
                function(**{"x": x, "out": out, **keywords})
        np.testing.assert_array_equal(out, 9)
        np.testing.assert_array_equal(x, np.arange(12.0).reshape(4, 3))
    _, saved = nf.layer_norm(x)
    for arguments, outs, error, message in (
        ((x[:2], x, None, saved), None, ValueError, "dy must have the shape of x"),
        ((x[:2], x[:2], None, saved), None, ValueError, "saved.inv_std must have shape"),
        ((x, x, np.ones(4), saved), None, ValueError, "gamma must have the shape of x"),
        ((x, x, None, None), None, TypeError, "saved must be what layer_norm returned"),
        ((x, x, None, saved), out, TypeError, "out must be a tuple of three arrays"),
        ((x, x, None, saved), (out, out[0], None), ValueError, r"out\[1\] and out\[0\] must"),
        ((x, x, None, saved), (out, np.ones(4), None), ValueError, r"out\[1\] must have the sha"),
        ((x, x, None, saved), (out, np.ones(3, "f"), None), TypeError, r"out\[1\] must have dty"),
    ):
        with pytest.raises(error, match=message):
            nf.layer_norm_backward(*arguments, out=outs)
        np.testing.assert_array_equal(out, 9)
    with pytest.raises(TypeError, match="saved must be what rms_norm returned"):
        nf.rms_norm_backward(x, x, None, saved)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("layout", sorted(layouts(np.zeros((3, 0)))))
def test_rows_without_elements_have_gradients_without(name: str, layout: str) -> None:
    x = layouts(np.zeros((3, 0), np.float32))[layout]
    _, saved = getattr(nf, name)(np.zeros((3, 4), np.float32))
    dx, *others = getattr(nf, f"{name}_backward")(x, x, np.zeros(0, np.float32), saved)
    assert dx.shape == (3, 0)
    assert all(other.shape == (0,) for other in others)
