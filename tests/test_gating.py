"""Gated linear units: values, gradients, bits, layouts, errors."""

import pickle
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
from nnfast import gating
from nnfast._testing import forced
from tests.reference.activations import FORMULAS, SLOPES, Float64
from ulp import ulp_error

Array = NDArray[Any]
BASELINE = "x86-64-v2"
GATES = {"glu": "sigmoid", "geglu": "gelu", "swiglu": "silu"}
every_gate = pytest.mark.parametrize("name", GATES)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def forward(name: str, x: Any, *arguments: Any, **kwargs: Any) -> Any:
    return getattr(nf, name)(x, *arguments, **kwargs)


def backward(name: str, dy: Any, x: Any, *arguments: Any, **kwargs: Any) -> Any:
    return getattr(nf, f"{name}_backward")(dy, x, *arguments, **kwargs)


def slope(name: str, b: Array) -> Array:
    """Of the gate, by what it is given."""
    if name == "glu":
        e = np.exp(-np.abs(b))
        return e / (1 + e) ** 2
    return SLOPES[GATES[name]](Float64, b)


@every_gate
@both_dtypes
def test_bits_are_those_of_the_parts(isa: str, name: str, dtype: type) -> None:
    rng = np.random.default_rng(3)
    x, dy = rng.normal(0, 5, (2, 7, 90)).astype(dtype)
    dy = dy[:, :45]
    a, b = x[:, :45], x[:, 45:]
    # glu's logistic function of float32 is by a table, as silu's; sigmoid has more digits.
    act = gating._glu(np.ones_like(b), b) if name == "glu" else getattr(nf, GATES[name])(b)
    assert_same_bits(forward(name, x), a * act)
    dx = backward(name, dy, x)
    assert_same_bits(dx[:, :45], dy * act)
    if name != "glu":  # sigmoid's own gradient is by y
        steep = getattr(nf, f"{GATES[name]}_backward")(np.ones_like(b), b)
        assert_same_bits(dx[:, 45:], dy * a * steep)


@every_gate
@settings(max_examples=10)
@given(data=st.data())
def test_values_are_the_formulas(engine: str, name: str, data: Any) -> None:
    dtype = np.float32
    axis = data.draw(st.integers(-3, 2))
    shape = list(data.draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=9)))
    half = tuple(shape)
    shape[axis] *= 2
    numbers = st.floats(-60, 60, width=32)
    x = data.draw(hnp.arrays(dtype, tuple(shape), elements=numbers))
    dy = data.draw(hnp.arrays(dtype, half, elements=numbers))
    y, dx = forward(name, x, axis), backward(name, dy, x, axis)
    assert (y.dtype, y.shape, dx.dtype, dx.shape) == (dtype, half, dtype, x.shape)
    a, b = np.split(x.astype(np.float64), 2, axis)
    act = FORMULAS[GATES[name]](Float64, b)
    tiny = np.finfo(dtype).tiny
    for actual, expected, scale in (
        (y, a * act, a * act),
        (np.split(dx, 2, axis)[0], dy * act, dy * act),
        (np.split(dx, 2, axis)[1], dy * a * slope(name, b), np.abs(dy * a) / 8),
    ):
        scale = np.maximum(np.abs(scale), np.abs(expected))
        normal = (np.abs(expected) > tiny) & (np.abs(act) > tiny) & (np.abs(dy * a) > tiny)
        error = ulp_error(np.atleast_1d(actual[normal]), expected[normal], scale[normal])
        assert error.max(initial=0) <= 4.5


@every_gate
def test_accuracy_at_the_ends_of_tables(isa: str, name: str) -> None:
    ends = np.array([3.75, 5.625, 8], np.float32)
    near = np.concatenate(
        [np.nextafter(ends, np.float32(0)), ends, np.nextafter(ends, np.float32(9))]
    )
    b = np.concatenate([near, -near, np.linspace(-12, 12, 4800, dtype=np.float32)])
    expected = FORMULAS[GATES[name]](Float64, b.astype(np.float64))
    # All of them in one vector with others, and each alone.
    y = getattr(gating, f"_{name}")(np.ones_like(b), b)
    assert ulp_error(y, expected, np.abs(expected)).max() <= (3 if isa == BASELINE else 2)
    assert_same_bits(
        np.array([forward(name, np.array([1, e], np.float32))[0] for e in b[:18]]), y[:18]
    )


@every_gate
def test_gradient_numerically(name: str) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((4, 6)), rng.standard_normal((2, 6))
    dx = backward(name, dy, x, axis=0)
    assert_gradient(dx, lambda v: float((dy * forward(name, v, axis=0)).sum()), x)


@every_gate
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6000,), (9, 70), (3, 4, 34), (3, 5, 300)])
def test_bits(name: str, dtype: type, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape).astype(dtype)
    dy = rng.standard_normal((*shape[:-1], shape[-1] // 2)).astype(dtype)
    y, dx = forward(name, x), backward(name, dy, x)
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7, 16):
            with forced(isa=isa, threads=threads, grain=1):
                assert_same_bits(forward(name, x), y)
                assert_same_bits(backward(name, dy, x), dx)
    for laid, laid_dy in zip(layouts(x).values(), layouts(dy).values(), strict=True):
        assert_same_bits(forward(name, laid), y)
        assert forward(name, x, out=laid_dy) is laid_dy
        assert_same_bits(laid_dy, y)
    for laid in layouts(x).values():
        assert_same_bits(backward(name, dy, x, out=laid), dx)
    if x.ndim > 1:
        moved = np.moveaxis(x, -1, 0)
        assert_same_bits(forward(name, moved, 0), np.moveaxis(y, -1, 0))
        got = backward(name, np.moveaxis(dy, -1, 0), moved, 0)
        assert_same_bits(got, np.moveaxis(dx, -1, 0))


@every_gate
def test_halves_are_the_ufunc_of_both(name: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((5, 8)).astype(np.float32)
    ufunc = getattr(gating, f"_{name}")
    assert_same_bits(ufunc(x[:, :4], x[:, 4:]), forward(name, x))
    gate = getattr(gating, f"_{name}_gate_backward")
    assert_same_bits(gate(x[:, :4], x[:, :4], x[:, 4:]), backward(name, x[:, :4], x)[:, 4:])
    for function in (ufunc, gate):
        assert pickle.loads(pickle.dumps(function)) is function


@every_gate
def test_limits(engine: str, name: str) -> None:
    with np.errstate(all="raise"):
        y = forward(name, np.array([1.0, 2.0, np.nan, 3.0, 50.0, -800.0, 1.0, np.nan]))
    assert y[0] == (1.0 if name == "glu" else 50.0)
    assert y[1] == 0
    assert np.isnan(y[2:]).all()
    assert forward(name, [[1, 2]]).dtype == np.float64
    if name != "glu":
        overflows = pytest.raises(FloatingPointError, match=f"overflow .* {name}")
        with np.errstate(all="raise"), overflows:
            forward(name, np.array([1e300, 1e300]))
    b = np.concatenate([np.geomspace(1e-320, 1e300, 200), -np.geomspace(1e-320, 1e308, 200)])
    with np.errstate(all="raise"):
        forward(name, np.concatenate([np.full(400, 0.5), b]))
        backward(name, np.full(400, 0.5), np.concatenate([np.full(400, 0.5), b]))


@every_gate
def test_errors(name: str) -> None:
    x = np.ones((2, 6))
    for arguments, error, message in (
        (
            (np.ones((2, 5)),),
            ValueError,
            r"x must have an even length along axis 1, got .*\(2, 5\)",
        ),
        ((x, 2), ValueError, "axis must be an axis of x"),
        ((x, 1.0), TypeError, "axis must be an int"),
        ((1j * x,), TypeError, "x must be an array of real numbers"),
    ):
        with pytest.raises(error, match=message):
            forward(name, *arguments)
    for out, error, message in (
        (np.ones((2, 6)), ValueError, r"out must have shape \(2, 3\)"),
        (np.ones((2, 3), np.float32), TypeError, "out must have dtype float64"),
        (x[:, :3], ValueError, "out must share no memory"),
        (np.broadcast_to(1.0, (2, 3)), ValueError, "out must be writeable"),
    ):
        with pytest.raises(error, match=message):
            forward(name, x, out=out)
    np.testing.assert_array_equal(x, 1)
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 3\), got \(2, 6\)"):
        backward(name, x, x)
    with pytest.raises(ValueError, match="out must share no memory"):
        backward(name, x[:, :3].copy(), x, out=x)


@pytest.mark.parametrize("name", ["glu", "geglu", "swiglu"])
def test_rows_without_elements(name: str) -> None:
    x = np.ones((64, 4), np.float32)[:, :0]  # whose strides are not 0
    assert getattr(nf, name)(x).shape == (64, 0)
    assert getattr(nf, f"{name}_backward")(x, x).shape == (64, 0)
