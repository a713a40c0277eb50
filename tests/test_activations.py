"""Activations: values, gradients, bits, ufunc manners, errors."""

import functools
import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import nnfast as nf
from bench.ulp import ulp
from conftest import FMA_ISAS, ISAS, NO_FMA, SAME_BITS_ISAS
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast import activations
from nnfast._testing import forced
from nnfast.activations import Activation
from tests.reference.activations import FORMULAS, SLOPES, Float64, Mpfr
from ulp import assert_ulp, ulp_error

Array = NDArray[Any]
BASELINE = "x86-64-v2"


class Case(NamedTuple):
    """A row of the public table with values for its parameters; every test below iterates these."""

    row: Activation
    params: tuple[float, ...]
    ulp: float

    @property
    def name(self) -> str:
        return " ".join(map(str, (self.row.name, *self.params)))

    def bound(self, isa: str) -> float:
        """With FMA; the baseline may be 1 off more where the formula is not a single operation."""
        return self.ulp + 1 if isa == BASELINE and self.ulp > 0.5 else self.ulp

    def call(self, name: str, *arguments: Any, **kwargs: Any) -> Any:
        form = {"approximate": "tanh"} if "gelu_tanh" in name else {}
        return getattr(nf, name.replace("gelu_tanh", "gelu"))(*arguments, **form, **kwargs)

    def forward(self, x: Any, *params: float, **kwargs: Any) -> Any:
        return self.call(self.row.name, x, *params, **kwargs)

    def backward(self, dy: Any, saved: Any, *params: float, **kwargs: Any) -> Any:
        return self.call(f"{self.row.name}_backward", dy, saved, *params, **kwargs)

    def saved(self, x: Array) -> Array:
        return x if self.row.saves == "x" else self.forward(x, *self.params)

    def backward_at(self, dy: Array, x: Array, **kwargs: Any) -> Array:
        return self.backward(dy, self.saved(x), *self.params, **kwargs)

    def rounded(self, dtype: type) -> tuple[float, ...]:
        """The parameters as a kernel of this dtype has them."""
        return tuple(float(dtype(value)) for value in self.params)

    def reference(self, x: Array, dtype: type = np.float64) -> Array:
        with np.errstate(all="ignore"):
            return FORMULAS[self.row.name](Float64, x, *self.rounded(dtype))

    def slope(self, saved: Array, dtype: type = np.float64) -> Array:
        with np.errstate(all="ignore"):
            return SLOPES[self.row.name](Float64, saved, *self.rounded(dtype))


OTHER_PARAMETERS = [
    ("leaky_relu", (0.0625,), 0.5),
    ("leaky_relu", (0.0,), 0.5),
    ("prelu", (0.25,), 0.5),
    ("prelu", (-1.5,), 0.5),
    ("elu", (0.3125,), 2),
    ("celu", (0.3125,), 2),
    ("softplus", (0.5, float("inf")), 2),
    ("softplus", (0.5, 20.0), 2),
    ("threshold", (-0.5, 7.0), 0),
    ("threshold", (1.5, -1.5), 0),
    ("hardshrink", (0.0,), 0),
    ("hardshrink", (0.75,), 0),
    ("softshrink", (0.0,), 0.5),
    ("softshrink", (0.3125,), 0.5),
    ("squareplus", (0.25,), 2),
    ("squareplus", (1000.0,), 2),
    ("hardtanh", (-0.5, 3.0), 0),
]
TABLE = [
    *(
        Case(row, tuple(row.params.values()), row.ulp)
        for row in nf.activations.TABLE.values()
        if row.name != "prelu"
    ),
    *(Case(nf.activations.TABLE[name], params, ulp) for name, params, ulp in OTHER_PARAMETERS),
]
every_activation = pytest.mark.parametrize("f", TABLE, ids=lambda f: f.name)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def arrays(dtype: type, *, side: int = 40) -> st.SearchStrategy[Array]:
    """Arrays of up to three axes, some of length 0, of any numbers: subnormal, infinite, NaN."""
    width = np.dtype(dtype).itemsize * 8
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=side)
    return hnp.arrays(dtype, shapes, elements=st.floats(width=width))


def samples(dtype: type, n: int = 1000) -> Array:
    """Numbers of all magnitudes and both signs, special values first."""
    rng = np.random.default_rng(7)
    wide = np.exp(rng.uniform(-40, 7, n)) * rng.choice([-1, 1], n)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, -3e38, -104.0, -745.2, 17.5]
    return np.concatenate([special, wide]).astype(dtype)


# ---- values ----


@every_activation
@both_dtypes
@settings(max_examples=5)
@given(data=st.data())
def test_forward_is_the_formula(engine: str, f: Case, dtype: type, data: Any) -> None:
    x = data.draw(arrays(dtype))
    with np.errstate(all="ignore"):
        y = f.forward(x, *f.params)
    reference = f.reference(x.astype(np.float64), dtype)
    assert np.shape(y) == x.shape
    assert np.asarray(y).dtype == dtype
    finite = np.isfinite(x)  # the formula may not have the limit
    y, reference = np.asarray(y)[finite], reference[finite]
    if dtype == np.float32:
        assert_ulp(y, reference, f.bound(engine))
    else:  # the reference has roundings of its own
        np.testing.assert_allclose(y, reference, rtol=1e-11, atol=1e-320)


@functools.cache
def interval_edges() -> Array:
    """Floats around those at which the intervals of a table meet, and at which it ends."""
    header = (Path(__file__).parents[1] / "cpp/simd/piecewise_coefficients.hpp").read_text()
    table = re.compile(r"top = (.*)f;\n.*start = (.*)f;\n.*scale = (.*)f;\n.*shift = (.*);")
    found = []
    for *numbers, shift in table.findall(header):
        top, start, scale = map(float.fromhex, numbers)

        def changes(bits: Array, start: float, scale: float, shift: int) -> Array:
            """The last of the floats before the interval, the low bits of a key, is another."""
            keys = (bits.view(np.float32) * scale + start).astype(np.float32).view(np.uint32)
            return bits[np.flatnonzero(np.diff(keys >> shift))]

        end = np.float32(top).view(np.uint32)
        coarse = changes(np.arange(0, end, 512, dtype=np.uint32), start, scale, int(shift))
        steps = np.add.outer(coarse, np.arange(513, dtype=np.uint32)).ravel()
        edges = np.append(changes(steps, start, scale, int(shift)), end)
        assert edges.size == 8
        found.append(np.add.outer(edges, np.arange(-2, 4)).astype(np.uint32).view(np.float32))
    x = np.concatenate(found).ravel()
    return np.concatenate([x, -x])


@functools.cache
def every_exponent() -> Array:
    """Of float32; and where tables have edges."""
    bits = np.arange(0, 2**32, 2**14 + 1, dtype=np.uint64).astype(np.uint32)
    x = bits.view(np.float32)
    return np.concatenate([x[np.isfinite(x)], interval_edges()])


@every_activation
def test_float32_error_over_all_exponents(f: Case) -> None:
    x = every_exponent()
    expected = f.reference(x.astype(np.float64), np.float32)
    for isa in ISAS:  # not by a fixture: the reference takes longer than they do
        with forced(isa=isa), np.errstate(all="ignore"):
            assert_ulp(f.forward(x, *f.params), expected, f.bound(isa))


def bends(dtype: type) -> Array:
    """Numbers of all magnitudes, and many where functions bend."""
    x = samples(dtype, 400)
    return np.concatenate([x[np.isfinite(x)], np.random.default_rng(3).normal(0, 3, 400)]).astype(
        dtype
    )


@every_activation
def test_float64_error_against_mpfr(f: Case) -> None:
    x = bends(np.float64)
    expected = Mpfr().of(FORMULAS[f.row.name], x, *f.params)
    for isa in ISAS:
        with forced(isa=isa), np.errstate(all="ignore"):
            assert_ulp(f.forward(x, *f.params), expected, f.bound(isa))


def gradient_error(dx: Array, exact: Array, dy: Array) -> Array:
    """Ulps of the larger of |dx| and |dy| / 8: a slope near 0 is the difference of larger numbers."""
    scale = np.maximum(np.abs(exact), np.abs(dy.astype(exact.dtype)) / 8)
    return ulp_error(dx, exact, scale)


@every_activation
def test_float32_gradient_error(f: Case) -> None:
    x = every_exponent()
    dy = np.random.default_rng(1).standard_normal(x.size).astype(np.float32)
    with np.errstate(all="ignore"):
        saved = f.saved(x)
        exact = dy.astype(np.float64) * f.slope(saved.astype(np.float64), np.float32)
    finite = np.isfinite(saved)
    for isa in ISAS:
        with forced(isa=isa), np.errstate(all="ignore"):
            dx = f.backward(dy, saved, *f.params)
        error = gradient_error(dx[finite], exact[finite], dy[finite])
        assert error.max() <= 2 + (isa == BASELINE), isa


@every_activation
def test_float64_gradient_error_against_mpfr(f: Case) -> None:
    x = bends(np.float64)
    dy = np.random.default_rng(1).standard_normal(x.size)
    saved = f.saved(x)
    finite = np.isfinite(saved)
    saved, dy = saved[finite], dy[finite]
    exact = Mpfr().of(lambda m, s, dy, *p: dy * SLOPES[f.row.name](m, s, *p), saved, dy, *f.params)
    for isa in ISAS:
        with forced(isa=isa):
            dx = f.backward(dy, saved, *f.params)
        assert gradient_error(dx, exact, dy).max() <= 2 + (isa == BASELINE), isa


@every_activation
def test_float16_is_the_rounded_float32(isa: str, f: Case) -> None:
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    dy = np.random.default_rng(1).permutation(x)
    with np.errstate(all="ignore"):
        y, wide = f.forward(x, *f.params), f.forward(x.astype(np.float32), *f.params)
        assert y.dtype == np.float16
        assert_same_but_for_nan(y, wide.astype(np.float16))
        dx = f.backward(dy, y, *f.params)
        wide = f.backward(dy.astype(np.float32), y.astype(np.float32), *f.params)
        assert_same_but_for_nan(dx, wide.astype(np.float16))


def assert_same_but_for_nan(actual: Array, expected: Array) -> None:
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(actual), nan)
    assert_same_bits(actual[~nan], expected[~nan])


@every_activation
def test_gradient_numerically(f: Case) -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(0.1, 3, (3, 7)) * rng.choice([-1, 1], (3, 7))
    dy = rng.standard_normal((3, 7))
    assert_gradient(f.backward_at(dy, x), lambda v: float((dy * f.forward(v, *f.params)).sum()), x)


@every_activation
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_exact_points(isa: str, f: Case, dtype: type) -> None:
    if f.params == tuple(f.row.params.values()):
        for x, y in f.row.exact:
            given = np.full(20, x, dtype)
            np.testing.assert_array_equal(f.forward(given, *f.params), np.full(20, y, dtype))
    nan = dtype(np.nan)
    assert np.isnan(f.forward(nan, *f.params))
    assert np.isnan(f.backward(dtype(1), nan, *f.params))
    slope_is_0 = f.row.name in ("relu6", "hardtanh", "threshold", "hardshrink")
    assert np.isnan(f.backward(nan, dtype(0.25), *f.params)) or slope_is_0


def test_signs_of_zero() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        zeros = np.array([0.0, -0.0], dtype)
        for name in ("relu", "relu6"):
            assert_same_bits(getattr(nf, name)(zeros), np.zeros(2, dtype))
        for name in ("tanh", "elu", "celu", "selu", "leaky_relu", "hardtanh", "hardswish", "silu"):
            assert_same_bits(getattr(nf, name)(zeros), zeros)
        for name in ("mish", "gelu", "softsign", "tanhshrink"):
            assert_same_bits(getattr(nf, name)(zeros), zeros)


@every_activation
def test_limits_of_gradients(isa: str, f: Case) -> None:
    """No NaN from an infinite x."""
    for dtype in (np.float32, np.float64):
        ends = np.array([-np.inf, np.inf], dtype)
        with np.errstate(all="ignore"):
            dx = f.backward_at(np.ones(2, dtype), ends)
        # What is left of a gradient with respect to y where y is infinite is not the function's.
        if f.row.saves == "x":
            slopes = [0, 1, f.params[0] if f.params else 1]
            assert np.all(np.isin(dx, [0, np.inf] if f.row.name == "relu_squared" else slopes))


@every_activation
@both_dtypes
def test_ranges_are_never_left(isa: str, f: Case, dtype: type) -> None:
    x = np.concatenate([samples(dtype, 20000), np.linspace(-800, 800, 20001, dtype=dtype)])
    x = x[~np.isnan(x)]
    with np.errstate(all="ignore"):
        y = f.forward(x, *f.params)
    if f.params == tuple(f.row.params.values()):
        lowest = np.nextafter(dtype(f.row.low), dtype(-np.inf)) if f.row.low % 1 else f.row.low
        assert y.min() >= lowest
        assert y.max() <= f.row.high


def test_sigmoid_is_monotonic_to_rounding() -> None:
    x = np.linspace(-20, 20, 200_001, dtype=np.float32)
    assert np.all(np.diff(nf.sigmoid(x).astype(np.float64)) >= -np.finfo(np.float32).eps)


# ---- the same bits, however it is called ----


@every_activation
@both_dtypes
def test_bits_do_not_depend_on_threads(f: Case, dtype: type) -> None:
    x = samples(dtype)
    for isa in nf.cpu_info()["supported"]:
        results = []
        for threads in (1, 2, 3, 5, 8, 16):
            with forced(isa=isa, threads=threads, grain=1), np.errstate(all="ignore"):
                results.append((f.forward(x, *f.params), f.backward_at(x, x)))
        for forward, backward in results[1:]:
            assert_same_bits(forward, results[0][0])
            assert_same_bits(backward, results[0][1])


@every_activation
@both_dtypes
def test_bits_do_not_depend_on_the_fma_instruction_set(f: Case, dtype: type) -> None:
    x = samples(dtype, 5000)
    results = []
    for isa in FMA_ISAS:
        with forced(isa=isa), np.errstate(all="ignore"):
            results.append((f.forward(x, *f.params), f.backward_at(x[::-1], x)))
    for forward, backward in results:
        assert_same_bits(forward, results[0][0])
        assert_same_bits(backward, results[0][1])


@every_activation
@both_dtypes
def test_bits_do_not_depend_on_the_layout(isa: str, f: Case, dtype: type) -> None:
    x = samples(dtype, 4 * 37 - 12).reshape(4, 37)
    with np.errstate(all="ignore"):
        y, dx = f.forward(x, *f.params), f.backward_at(x[::-1].copy(), x)
        for name, laid in layouts(x).items():
            assert_same_bits(f.forward(laid, *f.params), y)
            for out in layouts(x).values():
                assert f.forward(laid, *f.params, out=out) is out
                assert_same_bits(out, y)
            assert_same_bits(f.backward_at(laid[::-1], laid), dx)
            inplace = layouts(x)[name]
            assert_same_bits(f.forward(inplace, *f.params, out=inplace), y)
            dy = layouts(x[::-1].copy())[name]
            assert_same_bits(f.backward_at(dy, x, out=dy), dx)


@every_activation
@both_dtypes
def test_bits_do_not_depend_on_the_neighbours(isa: str, f: Case, dtype: type) -> None:
    """Vectors that have a lane in a tail are computed in another way than those that have none."""
    rng = np.random.default_rng(11)
    x = np.concatenate([samples(dtype, 500), rng.normal(0, 1, 500), rng.normal(0, 9, 500)])
    x = x.astype(dtype)
    one = np.ones_like(x)
    with np.errstate(all="ignore"):
        y, dx = f.forward(x, *f.params), f.backward_at(one, x)
        for order in (np.argsort(x), rng.permutation(x.size)):
            assert bits(f.forward(x[order], *f.params)) == bits(y[order])
            assert bits(f.backward_at(one, x[order])) == bits(dx[order])


def at_byte(x: Array, offset: int) -> Array:
    """A copy that starts so many bytes behind a multiple of 64."""
    memory = np.empty(x.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    copy = memory[start : start + x.nbytes].view(x.dtype)
    copy[...] = x
    return copy


def bits(y: Array) -> bytes:
    """Of numbers, and that the others are none."""
    return np.where(np.isnan(y), y.dtype.type(np.nan), y).tobytes()


@every_activation
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bits_do_not_depend_on_length_and_offset(isa: str, f: Case, dtype: type) -> None:
    """Every length from 0 to 300, every offset from 0 to 63 bytes, a result elsewhere and in place."""
    with np.errstate(all="ignore"):
        x = samples(dtype, 300)
        dy = x[::-1].copy()
        saved = f.saved(x)
        y, dx = f.forward(x, *f.params), f.backward(dy, saved, *f.params)
        for n in range(301):
            here, there = n % 64, 7 * n % 64
            piece, out = at_byte(x[:n], here), at_byte(x[:n], there)
            f.forward(piece, *f.params, out=out)
            assert bits(out) == bits(y[:n]), (n, here, there)
            f.forward(piece, *f.params, out=piece)
            assert bits(piece) == bits(y[:n]), (n, here)
            gradient = at_byte(dy[:n], there)
            f.backward(gradient, at_byte(saved[:n], here), *f.params, out=gradient)
            assert bits(gradient) == bits(dx[:n]), (n, here, there)


@both_dtypes
def test_bits_of_results_that_go_past_the_caches(isa: str, dtype: type) -> None:
    """From 16 MiB on; pieces of them go the usual way."""
    n, piece = 2**24 // np.dtype(dtype).itemsize + 77, 100_000
    x = np.resize(samples(dtype, 5000), n)
    dy = np.roll(x, 17)
    for offset in (0, 1, 5, 15):
        out = np.full(n + 16, 7, dtype)[offset : offset + n]
        with np.errstate(all="ignore"):
            for threads in (1, 2):
                with forced(isa=isa, threads=threads):
                    nf.relu_backward(dy, x, out=out)
            for start in range(0, n, piece):
                part = slice(start, start + piece)
                assert bits(out[part]) == bits(nf.relu_backward(dy[part], x[part]))
        assert np.all(out.base[:offset] == 7)
        assert np.all(out.base[offset + n :] == 7)


# ---- a NumPy citizen ----


@every_activation
def test_dtypes_follow_numpy(f: Case) -> None:
    # As np.sqrt has it; an integer array with a Python float is float64 to NumPy, whatever its width.
    integers = {
        np.bool_: 2,
        np.int8: 2,
        np.uint8: 2,
        np.int16: 4,
        np.uint16: 4,
        np.int32: 8,
        np.int64: 8,
    }
    expected = {dtype: np.dtype(f"f{8 if f.params else size}") for dtype, size in integers.items()}
    floating = {dtype: np.dtype(dtype) for dtype in (np.float16, np.float32, np.float64)}
    for given_dtype, result in (expected | floating).items():
        x = np.array([0, 1], given_dtype)
        y = f.forward(x, *f.params)
        assert y.dtype == result, given_dtype
        ulps = 2 + (nf.cpu_info()["chosen"] == NO_FMA)
        assert_ulp(y, f.reference(x.astype(np.float64)).astype(result), ulps)
        assert f.backward(y, y, *f.params).dtype == result
    swapped = np.array([-1.0, 2.0], ">f4")
    assert_same_bits(f.forward(swapped, *f.params), f.forward(swapped.astype("f4"), *f.params))
    assert isinstance(f.forward(1.5, *f.params), np.float64)
    with pytest.raises(TypeError):
        f.forward(np.array([1j]), *f.params)


def test_a_numpy_scalar_parameter_does_not_promote() -> None:
    x = np.ones(3, np.float32)
    assert nf.leaky_relu(x, np.float64(0.1)).dtype == np.float32
    assert nf.elu(x, np.float64(0.1)).dtype == np.float32
    assert nf.leaky_relu_backward(x, x, np.float64(0.1)).dtype == np.float32
    assert nf.elu_backward(x, x, np.float64(0.1)).dtype == np.float32


@every_activation
def test_where_broadcasting_and_casting_are_numpys(f: Case) -> None:
    x = np.linspace(-2, 2, 12).reshape(3, 4)
    out = np.full((3, 4), 9.0)
    where = x > 0
    f.forward(x, *f.params, out=out, where=where)
    np.testing.assert_array_equal(out, np.where(where, f.forward(x, *f.params), 9))
    dx = f.backward(x, x[0], *f.params)
    np.testing.assert_array_equal(
        dx, f.backward(x, np.broadcast_to(x[0], x.shape).copy(), *f.params)
    )
    assert f.forward(x, *f.params, dtype=np.float32).dtype == np.float32
    with pytest.raises(TypeError, match="Cannot cast ufunc .* output"):
        f.forward(x, *f.params, out=np.empty((3, 4), np.int64))
    with pytest.raises(ValueError, match="broadcast"):
        f.forward(x, *f.params, out=np.empty((3, 5)))
    frozen = np.empty((3, 4))
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        f.forward(x, *f.params, out=frozen)


@every_activation
def test_partly_overlapping_output(f: Case) -> None:
    memory = samples(np.float32, 2000)
    with np.errstate(all="ignore"):
        expected = f.forward(memory[:-3].copy(), *f.params)
        f.forward(memory[:-3], *f.params, out=memory[3:])
    assert_same_bits(memory[3:], expected)


def test_subclasses_pass_through() -> None:
    class Labelled(np.ndarray):
        pass

    x = np.array([-1.0, 2.0]).view(Labelled)
    for f in TABLE:
        assert isinstance(f.forward(x, *f.params), Labelled)


@pytest.mark.parametrize(
    "ufunc",
    [
        nf.relu,
        nf.relu_backward.ufunc,
        activations._prelu,
        activations._prelu_backward,
        nf.sigmoid,
        nf.silu_backward.ufunc,
        nf.elu_backward.ufunc,
        nf.gelu_backward.ufunc,
        nf.softmax_backward.ufunc,
        activations._elu,
        activations._leaky_relu_backward,
    ],
    ids=lambda ufunc: ufunc.__name__,
)
def test_ufuncs_are_ufuncs_and_pickle(ufunc: np.ufunc) -> None:
    assert isinstance(ufunc, np.ufunc)
    assert pickle.loads(pickle.dumps(ufunc)) is ufunc


def test_reduce_and_accumulate_apply_the_ufunc_step_by_step() -> None:
    x = np.linspace(-3, 3, 50)
    running = [x[0]]
    for value in x[1:]:
        running.append(nf.prelu(running[-1], value))
    np.testing.assert_array_equal(activations._prelu.accumulate(x), running)
    assert activations._prelu.reduce(x) == running[-1]


# ---- floating-point warnings ----


@every_activation
@both_dtypes
def test_no_warnings_from_tails_and_nan(engine: str, f: Case, dtype: type) -> None:
    x = samples(dtype, 40)
    x = x[np.abs(x) < 1e37] if f.params and abs(f.params[0]) > 1 else x
    x = x[np.abs(x) < 1e18] if f.row.name == "relu_squared" else x  # others have large squares
    with np.errstate(all="raise"):
        for n in range(len(x) + 1):
            f.forward(x[:n], *f.params)


@both_dtypes
def test_overflow_is_raised_where_the_result_overflows(engine: str, dtype: type) -> None:
    x = np.full(300, -0.5 * np.finfo(dtype).max, dtype)
    x[150:] *= -1
    with np.errstate(all="raise"):
        nf.leaky_relu(x[150:], 10.0)  # the side not taken would overflow
        with pytest.raises(FloatingPointError, match="overflow"):
            nf.leaky_relu(x, 10.0)
        with pytest.raises(FloatingPointError, match="overflow"):
            nf.leaky_relu(x[::-1], 10.0)
        with pytest.raises(FloatingPointError, match="invalid"):
            nf.tanh_backward(np.full(40, np.inf, dtype), np.ones(40, dtype))


@every_activation
@both_dtypes
def test_the_side_not_taken_does_not_overflow(engine: str, f: Case, dtype: type) -> None:
    large = -1e30 if f.row.name == "relu_squared" else 1e30
    x, dy = np.full((2, 40), [[large], [np.finfo(dtype).max / 4]], dtype)
    with np.errstate(all="raise"):
        dx = f.backward_at(dy, x)
    assert np.isfinite(dx).all()


# ---- prelu's slope ----

WEIGHT_SHAPES = [
    ((5, 4), ()),
    ((5, 4), (1,)),
    ((5, 4), (4,)),
    ((5, 4), (5, 1)),
    ((3, 4, 2, 6), (4, 1, 1)),
    ((0, 3), (3,)),
]


@pytest.mark.parametrize(("shape", "weight"), WEIGHT_SHAPES)
@both_dtypes
def test_prelu_weight_gradient(
    engine: str, shape: tuple[int, ...], weight: tuple[int, ...], dtype: type
) -> None:
    rng = np.random.default_rng(4)
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    slope = rng.standard_normal(weight).astype(dtype)
    dweight = nf.prelu_weight_backward(dy, x, slope)
    assert dweight.shape == weight
    assert dweight.dtype == dtype
    terms = (dy * np.minimum(x, 0)).astype(np.float64)
    padded = (1,) * (len(shape) - len(weight)) + weight
    axes = tuple(axis for axis, n in enumerate(padded) if n != shape[axis])
    expected = terms.sum(axis=axes).reshape(weight)
    np.testing.assert_allclose(dweight, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "weight"), [((700, 60), (60,)), ((6, 5, 40, 33), (5, 1, 1)), ((300, 200), (300, 1))]
)
@both_dtypes
def test_a_slope_for_each_channel(
    engine: str, shape: tuple[int, ...], weight: tuple[int, ...], dtype: type
) -> None:
    """Large arrays take another way than the ufunc, which it must not be possible to tell."""
    rng = np.random.default_rng(11)
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    slope = rng.standard_normal(weight).astype(dtype)
    y, dx = activations._prelu(x, slope), activations._prelu_backward(dy, x, slope)
    assert_same_bits(nf.prelu(x, slope), y)
    assert_same_bits(nf.prelu_backward(dy, x, slope), dx)
    for laid in layouts(x).values():
        assert_same_bits(nf.prelu(laid, slope), y)
        assert nf.prelu(laid, slope, out=laid) is laid
        assert_same_bits(laid, y)
    assert_same_bits(nf.prelu_backward(dy, x, slope, out=dy), dx)
    assert_same_bits(nf.prelu(x, slope, dtype=np.float64), activations._prelu(x, slope, dtype="f8"))


def test_a_slope_for_each_channel_is_checked_as_by_the_ufunc() -> None:
    memory = np.random.default_rng(12).standard_normal(40_001).astype(np.float32)
    x, slope = memory[:-1].reshape(400, 100), np.full(100, 0.5, np.float32)
    expected = nf.prelu(x.copy(), slope)
    assert_same_bits(nf.prelu(x, slope, out=memory[1:].reshape(400, 100)), expected)
    with pytest.raises(ValueError, match="could not be broadcast"):
        nf.prelu(x, slope[:99])
    with pytest.raises(ValueError, match="read-only"):
        nf.prelu(x, slope, out=np.broadcast_to(np.float32(1), x.shape))
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="overflow"):
        nf.prelu(np.full((400, 100), -3e38, np.float32), slope * 10)


def test_prelu_weight_gradient_numerically() -> None:
    rng = np.random.default_rng(5)
    x, dy = rng.standard_normal((2, 3, 4, 5))
    slope = rng.standard_normal((4, 1))
    assert_gradient(
        nf.prelu_weight_backward(dy, x, slope), lambda w: float((dy * nf.prelu(x, w)).sum()), slope
    )


def test_prelu_weight_bits() -> None:
    rng = np.random.default_rng(6)
    x, dy = rng.standard_normal((2, 700, 5)).astype(np.float32)
    expected = nf.prelu_weight_backward(dy, x, np.ones(5))
    for laid_x, laid_dy in zip(layouts(x).values(), layouts(dy).values(), strict=True):
        assert_same_bits(nf.prelu_weight_backward(laid_dy, laid_x, np.ones(5)), expected)
    for isa in SAME_BITS_ISAS:
        for threads in (2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                assert_same_bits(nf.prelu_weight_backward(dy, x, np.ones(5)), expected)


def test_prelu_weight_errors() -> None:
    x = np.ones((3, 4))
    with pytest.raises(ValueError, match=r"dy must have the shape of x, \(3, 4\), got \(4, 3\)"):
        nf.prelu_weight_backward(x.T, x, 1.0)
    for weight in (np.ones(3), np.ones((1, 3, 4)), np.ones((2, 4))):
        with pytest.raises(ValueError, match="weight must broadcast"):
            nf.prelu_weight_backward(x, x, weight)


# ---- maxout ----


def maxout_reference(x: Array, pieces: int, axis: int) -> tuple[Array, Array]:
    moved = np.moveaxis(x, axis, -1)
    grouped = moved.reshape(*moved.shape[:-1], moved.shape[-1] // pieces, pieces)
    which = grouped.argmax(axis=-1) if grouped.size else np.zeros(grouped.shape[:-1], int)
    y = np.take_along_axis(grouped, which[..., None], axis=-1)[..., 0]
    return np.moveaxis(y, -1, axis), np.moveaxis(which, -1, axis)


@both_dtypes
@settings(max_examples=10)
@given(data=st.data())
def test_maxout_is_the_formula(engine: str, dtype: type, data: Any) -> None:
    pieces = data.draw(st.integers(1, 5))
    axis = data.draw(st.integers(-3, 2))
    shape = list(data.draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=7)))
    shape[axis] *= pieces
    few = st.sampled_from([0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan])
    x = data.draw(hnp.arrays(dtype, tuple(shape), elements=few))
    y, which = nf.maxout(x, pieces, axis)
    expected, held = maxout_reference(x, pieces, axis)
    assert_same_bits(y, expected)
    np.testing.assert_array_equal(which, held)
    dy = np.arange(y.size, dtype=dtype).reshape(y.shape)
    dx = nf.maxout_backward(dy, which, pieces, axis)
    grouped = np.moveaxis(dx, axis, -1).reshape(*np.moveaxis(dy, axis, -1).shape, pieces)
    np.testing.assert_array_equal(grouped.sum(axis=-1), np.moveaxis(dy, axis, -1))
    assert np.count_nonzero(dx) == np.count_nonzero(dy)


def test_maxout_gradient_numerically() -> None:
    rng = np.random.default_rng(8)
    x, dy = rng.permutation(60).reshape(5, 12) / 10, rng.standard_normal((5, 4))
    which = nf.maxout(x, 3)[1]
    assert_gradient(
        nf.maxout_backward(dy, which, 3), lambda v: float((dy * nf.maxout(v, 3)[0]).sum()), x
    )


def test_maxout_of_float16() -> None:
    x = np.random.default_rng(10).standard_normal((6, 40)).astype(np.float16)
    y, which = nf.maxout(x, 4)
    wide_y, wide_which = nf.maxout(x.astype(np.float32), 4)
    assert_same_bits(y, wide_y.astype(np.float16))
    np.testing.assert_array_equal(which, wide_which)
    dx = nf.maxout_backward(y, which, 4)
    assert_same_bits(dx, nf.maxout_backward(wide_y, which, 4).astype(np.float16))
    out = np.empty_like(y)
    assert nf.maxout(x, 4, out=out)[0] is out
    assert_same_bits(out, y)


def test_maxout_layouts_and_out() -> None:
    x = np.random.default_rng(9).standard_normal((6, 40)).astype(np.float32)
    y, which = nf.maxout(x, 4)
    dx = nf.maxout_backward(y, which, 4)
    for laid in layouts(x).values():
        assert_same_bits(nf.maxout(laid, 4)[0], y)
        assert_same_bits(nf.maxout_backward(y, which, 4, out=laid), dx)
    for out in layouts(y).values():
        assert nf.maxout(x, 4, out=out)[0] is out
        assert_same_bits(out, y)


@pytest.mark.parametrize(
    ("arguments", "out", "error", "message"),
    [
        ((np.ones((2, 6)), 4), None, ValueError, "pieces must divide .* 6, got 4"),
        ((np.ones((2, 6)), 0), None, ValueError, r"pieces must be in \[1, 256\], got 0"),
        ((np.ones((2, 514)), 257), None, ValueError, "pieces must be in"),
        ((np.ones((2, 6)), 2, 2), None, ValueError, "axis must be an axis of x"),
        ((np.ones((2, 6)), 2, 1.0), None, TypeError, "axis must be an int, got float"),
        ((np.ones((2, 6)), 2.0), None, TypeError, "pieces must be an int, got float"),
        ((np.ones((2, 6), complex), 2), None, TypeError, "x must be .* real .* complex128"),
        ((np.ones((2, 6)), 2), [1], TypeError, "out must be a numpy.ndarray, got list"),
        ((np.ones((2, 6)), 2), np.ones((2, 3), np.float32), TypeError, "out must have dtype"),
        ((np.ones((2, 6)), 2), np.ones((3, 2)), ValueError, r"out must have shape \(2, 3\)"),
        ((np.ones((2, 6)), 2), np.broadcast_to(1.0, (2, 3)), ValueError, "out must be writeable"),
    ],
)
def test_maxout_errors(arguments: Any, out: Any, error: type[Exception], message: str) -> None:
    before = np.array(out)
    with pytest.raises(error, match=message):
        nf.maxout(*arguments, out=out)
    np.testing.assert_array_equal(before, out)


def test_maxout_refuses_overlap() -> None:
    memory = np.arange(12.0)
    with pytest.raises(ValueError, match="out must share no memory"):
        nf.maxout(memory, 2, out=memory[:6])
    np.testing.assert_array_equal(memory, np.arange(12.0))


def test_maxout_backward_errors() -> None:
    dy, which = np.ones((2, 3)), np.zeros((2, 3), np.uint8)
    with pytest.raises(TypeError, match="which must have dtype uint8, got int64"):
        nf.maxout_backward(dy, which.astype(np.int64), 2)
    with pytest.raises(TypeError, match="which must be a numpy.ndarray, got list"):
        nf.maxout_backward(dy, which.tolist(), 2)
    with pytest.raises(ValueError, match="which must have the shape of dy"):
        nf.maxout_backward(dy, which[:1], 2)
    with pytest.raises(ValueError, match="out must have shape"):
        nf.maxout_backward(dy, which, 2, out=np.ones((2, 3)))


# ---- parameters ----


@pytest.mark.parametrize("slope", [-0.1, np.nan, -np.inf])
def test_leaky_relu_backward_needs_a_slope_it_can_invert(slope: float) -> None:
    out = np.ones(3)
    with pytest.raises(ValueError, match="negative_slope must not be negative"):
        nf.leaky_relu_backward(np.zeros(3), np.zeros(3), slope, out=out)
    np.testing.assert_array_equal(out, 1)


@pytest.mark.parametrize("alpha", [0.0, -1.0, np.nan])
def test_elu_backward_needs_an_alpha_it_can_invert(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be positive"):
        nf.elu_backward(np.zeros(3), np.zeros(3), alpha)


@pytest.mark.parametrize("value", ["0.1", None, 1j, [0.1]])
def test_parameters_are_real_numbers(value: Any) -> None:
    x = np.ones(2)
    calls = {
        "negative_slope": (
            lambda: nf.leaky_relu(x, value),
            lambda: nf.leaky_relu_backward(x, x, value),
        ),
        "alpha": (lambda: nf.elu(x, value), lambda: nf.elu_backward(x, x, value)),
    }
    for name, pair in calls.items():
        for call in pair:
            with pytest.raises(TypeError, match=f"{name} must be a real number"):
                call()


def test_ulp_error_measures() -> None:
    one = np.array([1.0], np.float32)
    assert ulp_error(np.nextafter(one, np.float32(2)), np.array([1.0])) == 1
    assert ulp_error(one, np.array([np.inf])) == np.inf
    assert ulp_error(np.array([np.nan], np.float32), np.array([np.nan])) == 0
    assert ulp_error(one, np.array([1 + 2.0**-24]), np.array([-0.25])) == 2
    for dtype in (np.float16, np.float32):
        numbers = np.array(
            [-3, -2, 1, 1.999, 7e-5, 6e-8, 1e4, np.finfo(dtype).smallest_normal], dtype
        )
        assert (ulp(numbers.astype(np.float64), numbers.dtype) == np.spacing(np.abs(numbers))).all()


# ---- random slopes ----

HALF_TO_DOUBLE = [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", HALF_TO_DOUBLE)
def test_rrelu_in_training(dtype: type) -> None:
    x, dy = np.random.default_rng(0).normal(0, 3, (2, 50, 60)).astype(dtype)
    y, slopes = nf.rrelu(x, 0.1, 0.3, training=True, rng=5)
    kind = np.float64 if dtype == np.float64 else np.float32
    assert_same_bits(slopes, nf.random.Philox(5).uniform(x.shape, 0.1, 0.3, dtype=kind))
    assert_same_bits(y, np.where(x > 0, x, x.astype(kind) * slopes).astype(dtype))
    dx = nf.rrelu_backward(dy, x, slopes)
    assert_same_bits(dx, np.where(x > 0, dy, dy.astype(kind) * slopes).astype(dtype))
    again, same = nf.rrelu(x, training=True, slopes=slopes)
    assert same is slopes
    assert_same_bits(again, y)
    assert_same_bits(nf.rrelu(x[:7], 0.1, 0.3, training=True, rng=5)[0], y[:7])
    rest = nf.rrelu(x[7:], 0.1, 0.3, training=True, rng=5, offset=7 * 60)[0]
    assert_same_bits(rest, y[7:])
    for laid, gradient in zip(layouts(x).values(), layouts(dy).values(), strict=True):
        assert_same_bits(nf.rrelu(laid, 0.1, 0.3, training=True, rng=5)[0], y)
        assert nf.rrelu(laid, 0.1, 0.3, training=True, rng=5, out=laid)[0] is laid
        assert_same_bits(laid, y)
        assert nf.rrelu_backward(gradient, x, slopes, out=gradient) is gradient
        assert_same_bits(gradient, dx)


@pytest.mark.parametrize("dtype", HALF_TO_DOUBLE)
def test_rrelu_in_inference(dtype: type) -> None:
    x, dy = np.random.default_rng(0).normal(0, 3, (2, 50, 60)).astype(dtype)
    y, slopes = nf.rrelu(x, 0.125, 0.375)
    assert slopes is None
    assert_same_bits(y, nf.leaky_relu(x, 0.25))
    dx = nf.rrelu_backward(dy, x, None, 0.125, 0.375)
    assert_same_bits(dx, nf.leaky_relu_backward(dy, x=x, negative_slope=0.25))
    for shape in ((), (0,), (3, 0)):
        for training in (False, True):
            z = np.ones(shape, dtype)
            assert nf.rrelu(z, training=training)[0].shape == shape
            assert nf.rrelu_backward(z, z).shape == shape


def test_rrelu_gradient_numerically() -> None:
    x, dy = np.random.default_rng(1).normal(0, 1, (2, 4, 5))
    _, slopes = nf.rrelu(x, training=True, rng=2)
    dx = nf.rrelu_backward(dy, x, slopes)
    assert_gradient(
        dx, lambda v: float((dy * nf.rrelu(v, training=True, slopes=slopes)[0]).sum()), x
    )


def test_rrelu_errors_change_nothing() -> None:
    x = np.ones((2, 3), np.float32)
    out, rng = x.copy(), np.random.default_rng(0)
    before = rng.bit_generator.state
    for call, error, message in (
        (lambda k: nf.rrelu(x, 0.5, 0.25, **k), ValueError, "upper must not be below lower, 0.5, "),
        (lambda k: nf.rrelu(x, np.inf, **k), ValueError, "lower must be finite"),
        (lambda k: nf.rrelu(x, "0", **k), TypeError, "lower must be a real number, got str"),
        (lambda k: nf.rrelu(x, offset=-1, **k), ValueError, "offset must be at least 0, got -1"),
        (
            lambda k: nf.rrelu(x, slopes=np.ones((2, 3)), **k),
            TypeError,
            "slopes must have dtype float32, got float64",
        ),
        (
            lambda k: nf.rrelu(x, slopes=x[0], **k),
            ValueError,
            r"slopes must have the shape of x, \(2, 3\), got \(3,\)",
        ),
        (lambda k: nf.rrelu(x.astype(complex), **k), TypeError, "x must be an array of real num"),
    ):
        with pytest.raises(error, match=message):
            call({"training": True, "rng": rng, "out": out})
    with pytest.raises(ValueError, match="out must have shape"):
        nf.rrelu(x, training=True, rng=rng, out=out[0])
    with pytest.raises(ValueError, match="x must have the shape of dy"):
        nf.rrelu_backward(x, x[0])
    assert rng.bit_generator.state == before
    assert_same_bits(out, x)


# ---- PyTorch ----


@pytest.mark.peers
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pytorch_has_the_same(dtype: type) -> None:
    import torch
    from torch.nn import functional

    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 3, 500), [0.5, -0.5, 0.0, -0.0, np.inf, -np.inf, np.nan]])
    x, dy = x.astype(dtype), rng.standard_normal(507).astype(dtype)
    for name, params in (
        ("threshold", (0.25, -3.0)),
        ("hardshrink", (0.5,)),
        ("hardshrink", (0.0,)),
        ("softshrink", (0.5,)),
        ("softshrink", (1.25,)),
        ("softplus", (1.0, 20.0)),
        ("softplus", (2.0, 1.0)),
    ):
        leaf = torch.tensor(x, requires_grad=True)
        theirs = getattr(functional, name)(leaf, *params)
        theirs.backward(torch.tensor(dy))
        y = getattr(nf, name)(x, *params)
        dx = getattr(nf, f"{name}_backward")(dy, x=x, **named(name, params))
        real = ~np.isnan(x)  # our gradient is NaN there
        rtol = 4 * np.finfo(dtype).eps
        np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=rtol, err_msg=name)
        np.testing.assert_allclose(
            dx[real], leaf.grad.numpy()[real], rtol=rtol, atol=rtol, err_msg=name
        )


def named(name: str, params: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(activations.TABLE[name].params, params, strict=True))


@pytest.mark.peers
def test_rrelu_is_pytorchs() -> None:
    """With its noise for slopes in training; in inference; and the range of ours."""
    import torch
    from torch.nn import functional

    x, dy = np.random.default_rng(0).normal(0, 3, (2, 400))
    leaf, noise = torch.tensor(x, requires_grad=True), torch.zeros(400, dtype=torch.float64)
    theirs = torch.ops.aten.rrelu_with_noise(leaf, noise, 0.1, 0.4, True)
    theirs.backward(torch.tensor(dy))
    y, slopes = nf.rrelu(x, training=True, slopes=noise.numpy())
    np.testing.assert_array_equal(y, theirs.detach().numpy())
    np.testing.assert_array_equal(nf.rrelu_backward(dy, x, slopes), leaf.grad.numpy())
    inferred = functional.rrelu(torch.tensor(x), 0.1, 0.4).numpy()
    np.testing.assert_allclose(nf.rrelu(x, 0.1, 0.4)[0], inferred, rtol=1e-15)
    ours = nf.rrelu(np.full(10_000, -1.0), 0.1, 0.4, training=True, rng=0)[0]
    assert 0.1 <= -ours.max() <= 0.101
    assert 0.399 <= -ours.min() <= 0.4
