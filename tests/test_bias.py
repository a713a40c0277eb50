"""Activations of x + bias: the bits of their parts, gradients, layouts, errors."""

import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import nnfast as nf
from conftest import SAME_BITS_ISAS
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast import bias as family
from nnfast._testing import forced

Array = NDArray[Any]
NAMES = ["relu", "gelu", "gelu_tanh", "silu", "tanh"]
BY_Y = ("relu", "tanh")
every_name = pytest.mark.parametrize("name", NAMES)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def function(name: str) -> Any:
    """The function of that name; gelu_tanh is a form of gelu, and its gradient of that of gelu."""
    form = {"approximate": "tanh"} if "gelu_tanh" in name else {}
    return partial(getattr(nf, name.replace("gelu_tanh", "gelu")), **form)


def forward(name: str, x: Any, bias: Any, **kwargs: Any) -> Any:
    return function(f"bias_{name}")(x, bias, **kwargs)


def backward(name: str, dy: Any, x: Any, bias: Any, **kwargs: Any) -> tuple[Array, Array]:
    gradient = function(f"bias_{name}_backward")
    if name in BY_Y:
        return gradient(dy, forward(name, x, bias), **kwargs)
    return gradient(dy, x, bias, **kwargs)


def slope(name: str, dy: Array, x: Array, bias: Array) -> Array:
    """The gradient of the activation alone."""
    saved = function(name)(x + bias) if name in BY_Y else x + bias
    return function(f"{name}_backward")(dy, saved)


@every_name
@both_dtypes
@settings(max_examples=10)
@given(data=st.data())
def test_bits_are_those_of_the_parts(engine: str, name: str, dtype: type, data: Any) -> None:
    width = np.dtype(dtype).itemsize * 8
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=40))
    x = data.draw(hnp.arrays(dtype, shape, elements=st.floats(width=width)))
    bias = data.draw(hnp.arrays(dtype, shape[-1:], elements=st.floats(width=width)))
    dy = data.draw(hnp.arrays(dtype, shape, elements=st.floats(-10, 10, width=width)))
    with np.errstate(all="ignore"):
        assert_same_bits(forward(name, x, bias), function(name)(x + bias))
        dx, dbias = backward(name, dy, x, bias)
        assert_same_bits(dx, slope(name, dy, x, bias))
        rows = dx.astype(np.float64)
        total, size = (v.sum(axis=tuple(range(x.ndim - 1))) for v in (rows, np.abs(rows)))
    assert (dbias.dtype, dbias.shape) == (dtype, bias.shape)
    finite = np.isfinite(total)
    bound = np.finfo(dtype).eps * np.abs(total) + x.size * 2**-53 * size
    bound += np.finfo(dtype).smallest_subnormal
    assert np.all(np.abs(dbias.astype(np.float64) - total)[finite] <= bound[finite])
    np.testing.assert_array_equal(np.isnan(dbias), np.isnan(total))


@every_name
def test_gradients_numerically(name: str) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, 4, 5))
    bias = rng.standard_normal(5)
    dx, dbias = backward(name, dy, x, bias)
    assert_gradient(dx, lambda v: float((dy * forward(name, v, bias)).sum()), x)
    assert_gradient(dbias, lambda b: float((dy * forward(name, x, b)).sum()), bias)


@every_name
@pytest.mark.parametrize("shape", [(700, 5), (3, 4000), (40, 7, 33), (20_000,)])
@both_dtypes
def test_bits_do_not_depend_on_threads_and_layout(name: str, shape: Any, dtype: type) -> None:
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    bias = rng.standard_normal(shape[-1]).astype(dtype)
    y, (dx, dbias) = forward(name, x, bias), backward(name, dy, x, bias)
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7, 16):
            with forced(isa=isa, threads=threads, grain=1):
                assert_same_bits(forward(name, x, bias), y)
                for actual, expected in zip(backward(name, dy, x, bias), (dx, dbias), strict=True):
                    assert_same_bits(actual, expected)
    for label, laid in layouts(x).items():
        assert_same_bits(forward(name, laid, layouts(bias).get(label, bias)), y)
        assert forward(name, laid, bias, out=laid) is laid
        assert_same_bits(laid, y)
    for laid_dy, laid_x in zip(layouts(dy).values(), layouts(x).values(), strict=True):
        got = backward(name, laid_dy, laid_x, bias, out=laid_dy)
        assert got[0] is laid_dy
        assert_same_bits(laid_dy, dx)
        assert_same_bits(got[1], dbias)


@every_name
def test_halves(engine: str, name: str) -> None:
    rng = np.random.default_rng(2)
    x, dy = rng.standard_normal((2, 30, 21)).astype(np.float16)
    bias = rng.standard_normal(21).astype(np.float16)
    wide = [a.astype(np.float32) for a in (dy, x, bias)]
    y = forward(name, x, bias)
    assert_same_bits(y, forward(name, *wide[1:]).astype(np.float16))
    if name not in BY_Y:
        dx, dbias = backward(name, dy, x, bias)
        expected_dx, expected_dbias = backward(name, *wide)
        assert_same_bits(dx, expected_dx.astype(np.float16))
        assert_same_bits(dbias, expected_dbias.astype(np.float16))


@every_name
def test_other_dtypes_and_ufuncs(name: str) -> None:
    assert forward(name, [[1, 2]], [3, 4]).dtype == np.float64
    assert forward(name, np.ones((0, 3), np.float32), np.ones(3)).shape == (0, 3)
    assert backward(name, np.ones((0, 3)), np.ones((0, 3)), np.ones(3))[1].tolist() == [0, 0, 0]
    ufunc = getattr(family, f"_bias_{name}")
    assert pickle.loads(pickle.dumps(ufunc)) is ufunc
    x = np.random.default_rng(3).standard_normal((4, 9))
    assert_same_bits(ufunc(x, x[0]), forward(name, x, x[0]))


@every_name
def test_warnings_are_those_of_the_parts(engine: str, name: str) -> None:
    with np.errstate(all="raise"):
        forward(name, np.full((3, 50), np.nan), np.zeros(50))
        forward(name, np.array([[-np.inf, np.inf, -1e30]]), np.zeros(3))
        backward(name, np.ones((3, 50)), np.full((3, 50), np.nan), np.zeros(50))
    if name in ("gelu", "gelu_tanh", "silu"):  # whose slope is above 1 somewhere
        largest = np.full((3, 50), np.finfo(np.float64).max)
        with pytest.warns(RuntimeWarning, match=f"overflow encountered in bias_{name}"):
            backward(name, largest, np.full((3, 50), 2.0), np.zeros(50))


def test_an_unknown_form_of_gelu() -> None:
    for call in (nf.bias_gelu, partial(nf.bias_gelu_backward, np.ones((2, 3)))):
        with pytest.raises(ValueError, match="approximate must be 'none' or 'tanh', got 'fast'"):
            call(np.ones((2, 3)), np.ones(3), approximate="fast")


@every_name
def test_errors(name: str) -> None:
    x, bias = np.ones((2, 3)), np.ones(3)
    for arguments, error, message in (
        ((x, np.ones(2)), ValueError, r"bias must have shape \(3,\), got \(2,\)"),
        ((1.0, bias), ValueError, "x must have at least one axis"),
        ((x, 1j * bias), TypeError, "bias must be an array of real numbers"),
        ((1j * x, bias), TypeError, "x must be an array of real numbers"),
    ):
        with pytest.raises(error, match=message):
            forward(name, *arguments)
    memory = np.arange(12.0)
    for out, error, message in (
        (np.ones((3, 2)), ValueError, "out must have the shape of x"),
        (np.ones((2, 3), np.float32), TypeError, "out must have dtype float64"),
        (np.broadcast_to(1.0, (2, 3)), ValueError, "out must be writeable"),
        ([1], TypeError, "out must be a numpy.ndarray"),
        (memory[1:7].reshape(2, 3), ValueError, "out must be x itself"),
    ):
        with pytest.raises(error, match=message):
            forward(name, memory[:6].reshape(2, 3), bias, out=out)
    np.testing.assert_array_equal(memory, np.arange(12.0))
    with pytest.raises(ValueError, match="dy must have the shape of"):
        backward(name, np.ones((3, 3)), x, bias)
    shared = np.ones((3, 3))
    with pytest.raises(ValueError, match="out and bias must not share memory"):
        forward(name, shared[1:] * 1, shared[0], out=shared[:2])


@every_name
def test_a_pair_of_outputs(name: str) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 40, 6))
    bias = rng.standard_normal(6)
    dx, dbias = backward(name, dy, x, bias)
    column = np.full((6, 2), 9.0)
    given = np.empty_like(dx), column[:, 1]
    found = backward(name, dy, x, bias, out=given)
    assert all(a is b for a, b in zip(found, given, strict=True))
    assert_same_bits(found[0], dx)
    assert_same_bits(found[1], dbias)
    np.testing.assert_array_equal(column[:, 0], 9)
    assert_same_bits(backward(name, dy, x, bias, out=(None, given[1]))[0], dx)


@every_name
def test_errors_of_a_pair_of_outputs(name: str) -> None:
    x, bias, dx = np.ones((2, 3)), np.ones(3), np.full((2, 3), 9.0)
    for out, error, message in (
        ((dx, np.ones(2)), ValueError, r"out\[1\] must have shape \(3,\), got \(2,\)"),
        ((dx, np.ones(3, np.float32)), TypeError, r"out\[1\] must have dtype float64"),
        ((dx, np.broadcast_to(1.0, 3)), ValueError, r"out\[1\] must be writeable"),
        ((dx, dx[0]), ValueError, r"out\[1\] and out\[0\] must not share memory"),
        ((dx,), TypeError, "out must be an array or a pair of them, the second for dbias"),
    ):
        with pytest.raises(error, match=message):
            backward(name, np.ones((2, 3)), x, bias, out=out)
    np.testing.assert_array_equal(dx, 9)
    dy = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"out\[1\] and dy must not share memory"):
        backward(name, dy, x, bias, out=(dx, dy[0]))
    np.testing.assert_array_equal(dx, 9)
