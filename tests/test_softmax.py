"""Softmax and its gradient: values, limits, bits, axes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import nnfast as nf
from conftest import NO_FMA, SAME_BITS_ISAS
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from ulp import assert_ulp

Array = NDArray[Any]
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def reference(x: Array, axis: int = -1) -> Array:
    """exp(x - max) / sum, in long double."""
    x = x.astype(np.longdouble)
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@both_dtypes
@settings(max_examples=15)
@given(data=st.data())
def test_softmax_is_the_formula(engine: str, dtype: type, data: Any) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=40))
    width = np.dtype(dtype).itemsize * 8
    numbers = st.floats(-1000, 1000, width=width)
    x = data.draw(hnp.arrays(dtype, shape, elements=numbers))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    y = nf.softmax(x, axis=axis)
    assert y.dtype == dtype
    assert y.shape == shape
    expected = reference(x, axis)
    floor = 4 * np.finfo(dtype).smallest_subnormal
    ulps = 2 if engine != NO_FMA else 3
    np.testing.assert_allclose(y, expected, rtol=ulps * np.finfo(dtype).eps, atol=floor)
    np.testing.assert_allclose(y.astype(np.float64).sum(axis=axis), 1, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 10, 17, 1000, 10_000])
def test_error_on_long_rows(isa: str, n: int) -> None:
    x = np.random.default_rng(n).normal(0, 4, (3, n)).astype(np.float32)
    assert_ulp(nf.softmax(x), reference(x).astype(np.float64), 2 if isa != NO_FMA else 3)


@both_dtypes
@pytest.mark.parametrize("n", [2, 5, 31, 100])
def test_error_of_a_small_logarithm(isa: str, dtype: type, n: int) -> None:
    """The digits that 1 + others loses are kept, where the others sum to about as much as the largest."""
    rng = np.random.default_rng(n)
    x = np.repeat(rng.uniform(-10, 10, (5000, 1)), n, axis=1)
    x[:, n // 2] += np.log((n - 1) / rng.uniform(0.3, 3, 5000))
    x = x.astype(dtype)
    wide = x.astype(np.longdouble)
    d = wide - wide.max(axis=1, keepdims=True)
    exact = d - np.log(np.exp(d).sum(axis=1, keepdims=True))
    assert_ulp(nf.log_softmax(x), exact, 2 if isa != NO_FMA else 3)


@both_dtypes
def test_infinities_are_limits(isa: str, dtype: type) -> None:
    inf, nan = np.inf, np.nan
    with np.errstate(all="raise"):
        for row, expected in (
            ([1, inf], [0, 1]),
            ([inf, inf], [0.5, 0.5]),
            ([-inf, 0], [0, 1]),
            ([-inf, -inf], [nan, nan]),
            ([nan, 1], [nan, nan]),
            ([nan, inf], [nan, nan]),
            ([1, 2, nan], [nan] * 3),
            ([5], [1]),
        ):
            for padding in range(3):  # rows shorter than a vector, and longer
                x = np.array(row + [-inf] * 15 * padding, dtype)
                y = nf.softmax(x)
                np.testing.assert_array_equal(y[: len(row)], expected)


@both_dtypes
def test_gradient_numerically(dtype: type) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, 5))
    analytic = nf.softmax_backward(dy, nf.softmax(x))
    assert_gradient(analytic, lambda v: float((dy * nf.softmax(v)).sum()), x)
    narrow = nf.softmax_backward(dy.astype(dtype), nf.softmax(x).astype(dtype))
    assert narrow.dtype == dtype
    np.testing.assert_allclose(narrow, analytic, atol=1e-6)


@both_dtypes
def test_backward_is_the_formula(engine: str, dtype: type) -> None:
    rng = np.random.default_rng(1)
    for n in (1, 10, 16, 33, 500):
        dy = rng.standard_normal((7, n)).astype(dtype)
        y = nf.softmax(rng.standard_normal((7, n)).astype(dtype))
        wide_dy, wide_y = dy.astype(np.float64), y.astype(np.float64)
        expected = wide_y * (wide_dy - (wide_dy * wide_y).sum(axis=-1, keepdims=True))
        dx = nf.softmax_backward(dy, y)
        np.testing.assert_allclose(dx, expected, atol=4 * np.finfo(dtype).eps)


def test_rows_of_no_elements(isa: str) -> None:
    """Their strides are 0, as those of one element a row."""
    with np.errstate(all="raise"):
        for dtype in (np.float16, np.float32, np.float64):
            for shape, axis in (((7, 0), -1), ((0, 7, 5), 0)):
                x = np.ones(shape, dtype)
                assert nf.softmax(x, axis).shape == nf.softmax_backward(x, x, axis).shape == shape
                assert nf.masked_softmax_backward(x, x, axis=axis).shape == shape
                assert (nf.logsumexp(x, axis) == -np.inf).all()


@both_dtypes
def test_bits(dtype: type) -> None:
    x = np.random.default_rng(2).normal(0, 5, (9, 75)).astype(dtype)
    dy = np.random.default_rng(3).standard_normal((9, 75)).astype(dtype)
    y, dx = nf.softmax(x), nf.softmax_backward(dy, nf.softmax(x))
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                assert_same_bits(nf.softmax(x), y)
                assert_same_bits(nf.softmax_backward(dy, y), dx)
    for laid in layouts(x).values():
        assert_same_bits(nf.softmax(laid), y)
        assert_same_bits(nf.softmax(laid.T, axis=0), y.T)
        assert_same_bits(nf.softmax(laid, out=laid), y)
    for laid in layouts(dy).values():
        assert_same_bits(nf.softmax_backward(laid, y, out=laid), dx)


@pytest.mark.parametrize("rows", [7, 8, 16, 17, 21, 37, 100, 300])
@pytest.mark.parametrize("n", [3, 40, 600, 1100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_lie_across_have_the_bits_of_contiguous_ones(
    isa: str, dtype: type, n: int, rows: int
) -> None:
    """Also too many for whole vectors of them side by side; in place, and by few threads and many."""
    rng = np.random.default_rng(rows)
    x, dy = (rng.standard_normal((n, rows)).astype(dtype) for _ in range(2))
    along = np.ascontiguousarray(x.T)
    for grain in (1, 0):
        with forced(isa=isa, grain=grain):
            for function in (nf.softmax, nf.log_softmax):
                y, backward = function(along), getattr(nf, f"{function.__name__}_backward")
                expected = backward(np.ascontiguousarray(dy.T), y)
                out = x.copy()
                assert function(out, 0, out=out) is out
                assert_same_bits(np.ascontiguousarray(out.T), y)
                into = dy.copy()
                backward(into, out, 0, out=into)
                assert_same_bits(np.ascontiguousarray(into.T), expected)
            assert_same_bits(nf.logsumexp(x, 0), nf.logsumexp(along))


def test_ufunc_arguments() -> None:
    assert nf.softmax(np.empty((0, 4))).shape == (0, 4)
    assert nf.softmax(np.empty((4, 0))).shape == (4, 0)
    assert nf.softmax_backward(np.empty((4, 0)), np.empty((4, 0))).shape == (4, 0)
    assert nf.softmax([1, 2]).dtype == np.float64
    assert nf.softmax(np.ones(3, np.float16)).dtype == np.float16
    assert nf.softmax(np.ones(3, np.int16)).dtype == np.float32
    with pytest.raises(ValueError, match="does not have enough dimensions"):
        nf.softmax(1.0)
    with pytest.raises(np.exceptions.AxisError):
        nf.softmax(np.ones((2, 3)), axis=2)
    with pytest.raises(TypeError):
        nf.softmax(np.ones(3, complex))


# ---- log_softmax and logsumexp ----


def log_reference(x: Array, axis: int = -1) -> tuple[Array, Array]:
    """log_softmax and logsumexp in long double, by log1p of the sum without its largest term."""
    x = x.astype(np.longdouble)
    order = np.sort(x, axis=axis)
    largest = order.take([-1], axis=axis)
    others = np.exp(order - largest).take(range(x.shape[axis] - 1), axis=axis)
    log = np.log1p(others.sum(axis=axis, keepdims=True))
    return (x - largest) - log, np.squeeze(largest + log, axis=axis)


@both_dtypes
@settings(max_examples=15)
@given(data=st.data())
def test_log_softmax_and_logsumexp_are_the_formulas(engine: str, dtype: type, data: Any) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=40))
    numbers = st.floats(-300, 300, width=np.dtype(dtype).itemsize * 8)
    x = data.draw(hnp.arrays(dtype, shape, elements=numbers))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    y, total = nf.log_softmax(x, axis=axis), nf.logsumexp(x, axis=axis)
    expected_y, expected_total = log_reference(x, axis)
    assert (y.dtype, np.asarray(total).dtype) == (dtype, dtype)
    ulps = 2 if engine != NO_FMA else 3
    wide = np.float64 if dtype == np.float32 else np.longdouble
    assert_ulp(y, expected_y.astype(wide), ulps)
    largest = np.abs(x).max(axis=axis).astype(np.float64)
    bound = 2 * np.finfo(dtype).eps * np.maximum(np.abs(expected_total), largest)
    assert np.all(np.abs(total - expected_total) <= bound)


@both_dtypes
def test_log_softmax_of_the_largest_down_to_subnormal_results(isa: str, dtype: type) -> None:
    """The result is minus the sum of the others, whose terms are subnormal long before the sum is 0."""
    gaps = np.linspace(0, 110 if dtype == np.float32 else 760, 1001)
    x = np.zeros((len(gaps), 16), dtype)
    x[:, 0] = gaps
    expected = log_reference(x)[0]
    wide = np.float64 if dtype == np.float32 else np.longdouble
    assert_ulp(nf.log_softmax(x), expected.astype(wide), 2 if isa != NO_FMA else 3)


@pytest.mark.parametrize("n", [1, 2, 10, 17, 1000, 10_000])
@pytest.mark.parametrize("spread", [0.1, 4, 60])
@both_dtypes
def test_log_softmax_error_on_long_rows(isa: str, n: int, spread: float, dtype: type) -> None:
    x = np.random.default_rng(n).normal(0, spread, (3, n)).astype(dtype)
    x[0, n // 2] = 30  # one element has nearly all the weight
    expected = log_reference(x)[0]
    wide = np.float64 if dtype == np.float32 else np.longdouble
    assert_ulp(nf.log_softmax(x), expected.astype(wide), 2 if isa != NO_FMA else 3)


@both_dtypes
def test_infinities_of_logarithms_are_limits(isa: str, dtype: type) -> None:
    inf, nan = np.inf, np.nan
    with np.errstate(all="raise"):
        for row, logs, total in (
            ([1, inf], [-inf, 0], inf),
            ([-inf, 0], [-inf, 0], 0),
            ([-inf, -inf], [nan, nan], -inf),
            ([nan, 1], [nan, nan], nan),
            ([nan, inf], [nan, nan], nan),
            ([nan, -inf], [nan, nan], nan),
            ([5], [0], 5),
            ([3e38, -3e38], [0, None], 3e38),
        ):
            for padding in range(3):
                x = np.array(row + [-inf] * 15 * padding, dtype)
                y = nf.log_softmax(x)
                for actual, expected in zip(y, logs, strict=False):
                    if expected is not None:
                        np.testing.assert_array_equal(actual, expected)
                np.testing.assert_array_equal(nf.logsumexp(x), dtype(total))
    assert nf.logsumexp(np.empty((2, 0), dtype)).tolist() == [-inf, -inf]


@both_dtypes
def test_gradients_of_logarithms(engine: str, dtype: type) -> None:
    rng = np.random.default_rng(4)
    x, dy = rng.standard_normal((2, 3, 5))
    by_log = nf.log_softmax_backward(dy, nf.log_softmax(x))
    assert_gradient(by_log, lambda v: float((dy * nf.log_softmax(v)).sum()), x)
    by_sum = nf.logsumexp_backward(dy[:, 0], x)
    assert_gradient(by_sum, lambda v: float((dy[:, 0] * nf.logsumexp(v)).sum()), x)
    along = nf.logsumexp_backward(dy[:, 0], x.T.copy(), axes=[(), 0, 0])
    np.testing.assert_array_equal(along.T, by_sum)
    narrow = nf.log_softmax_backward(dy.astype(dtype), nf.log_softmax(x).astype(dtype))
    assert narrow.dtype == dtype
    np.testing.assert_allclose(narrow, by_log, atol=1e-5)
    np.testing.assert_allclose(
        nf.logsumexp_backward(dy[:, 0].astype(dtype), x.astype(dtype)), by_sum, atol=1e-6
    )


@both_dtypes
def test_bits_of_logarithms(dtype: type) -> None:
    x = np.random.default_rng(2).normal(0, 5, (9, 75)).astype(dtype)
    dy = np.random.default_rng(3).standard_normal((9, 75)).astype(dtype)

    def results() -> list[Array]:
        y = nf.log_softmax(x)
        gradients = nf.log_softmax_backward(dy, y), nf.logsumexp_backward(dy[:, 0], x)
        return [y, nf.logsumexp(x), *gradients]

    expected = results()
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                for actual, same in zip(results(), expected, strict=True):
                    assert_same_bits(actual, same)
    for laid in layouts(x).values():
        assert_same_bits(nf.log_softmax(laid), expected[0])
        assert_same_bits(nf.logsumexp(laid), expected[1])
        assert_same_bits(nf.logsumexp(laid.T, axis=0), expected[1])
        assert_same_bits(nf.log_softmax(laid, out=laid), expected[0])
    for laid in layouts(dy).values():
        assert_same_bits(nf.log_softmax_backward(laid, expected[0], out=laid), expected[2])


@both_dtypes
@pytest.mark.parametrize("n", [3, 40])
def test_bits_of_a_row_do_not_depend_on_its_neighbours(isa: str, dtype: type, n: int) -> None:
    """Also where maxima are so large that elements are shifted, which rows together and rows across are not."""
    rng = np.random.default_rng(n)
    x = rng.normal(0, 5, (50, n)).astype(dtype)
    x[::7] += np.asarray([[300], [5000], [-1e5], [1e9], [-300], [-6000], [0], [0]], dtype)
    x[3, 1], x[20, 2], x[30], x[40, 0] = np.inf, np.nan, -np.inf, -np.inf
    turned = np.ascontiguousarray(x.T)
    for function in (nf.softmax, nf.log_softmax, nf.logsumexp):
        expected = np.asarray([function(row) for row in x])
        assert_same_bits(function(x), expected)
        assert_same_bits(function(turned, axis=0), np.moveaxis(expected, 0, -1))
    labels = rng.integers(0, n, 50)
    dx = nf.softmax_cross_entropy(x, labels, reduction="sum")[1]
    for row in range(50):
        alone = nf.softmax_cross_entropy(x[row : row + 1], labels[row : row + 1], reduction="sum")[
            1
        ]
        assert_same_bits(dx[row : row + 1], alone)


@both_dtypes
@pytest.mark.parametrize("offset", [0, 200, 250, 1000, 3000, 5000, -5000, 1e6])
@pytest.mark.parametrize("axis", [0, 1])
def test_error_of_large_elements(isa: str, dtype: type, offset: float, axis: int) -> None:
    x = (np.random.default_rng(1).normal(0, 8, (64, 30)) + offset).astype(dtype)
    exact, total = log_reference(x, axis)
    wide = np.float64 if dtype == np.float32 else np.longdouble
    assert_ulp(nf.log_softmax(x, axis), exact.astype(wide), 2 if isa != NO_FMA else 3)
    assert_ulp(nf.softmax(x, axis), reference(x, axis).astype(wide), 3)
    assert_ulp(nf.logsumexp(x, axis), total.astype(wide), 2)


@pytest.mark.parametrize("shape", [(1, 1), (70, 9), (3, 4096), (2, 4097), (3, 9000), (0, 4)])
def test_float16_results_are_the_rounded_float32_results(
    engine: str, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(5)
    x, dy = rng.normal(0, 3, (2, *shape)).astype(np.float16)
    wide_x, wide_dy = x.astype(np.float32), dy.astype(np.float32)
    for name in ("softmax", "log_softmax", "logsumexp", "sparsemax"):
        function, gradient = getattr(nf, name), getattr(nf, f"{name}_backward")
        expected = np.asarray(function(wide_x)).astype(np.float16)
        for laid in layouts(x).values():
            assert_same_bits(function(laid), expected)
        saved, up = (x, dy[:, 0]) if name == "logsumexp" else (expected, dy)
        wide_up = wide_dy[:, 0] if name == "logsumexp" else wide_dy
        dx = gradient(wide_up, saved.astype(np.float32)).astype(np.float16)
        for laid in layouts(saved).values():
            assert_same_bits(gradient(up, laid), dx)
        equal = np.broadcast_to(x[:, :1], shape)  # its stride along the axis is 0
        assert_same_bits(function(equal), function(equal.copy()))


def test_float16_overflows_with_a_warning(isa: str) -> None:
    x = np.array([[65504.0, -65504.0]] * 40, np.float16)
    with pytest.warns(RuntimeWarning, match="overflow encountered in log_softmax"):
        assert np.isinf(nf.log_softmax(x)[:, 1]).all()
    with np.errstate(all="raise"):
        nf.softmax(x)


# ---- sparsemax ----


def sparsemax(x: Array) -> Array:
    """As the paper has it, by sorting, in long double; along the last axis."""
    x = x.astype(np.longdouble)
    x = x - x.max(axis=-1, keepdims=True)
    z = -np.sort(-x, axis=-1)
    total = np.cumsum(z, axis=-1) - 1
    k = np.arange(1, x.shape[-1] + 1)
    support = (k * z > total).sum(axis=-1, keepdims=True)
    t = np.take_along_axis(total, support - 1, -1) / support
    return np.maximum(x - t, 0)


def assert_sparse(y: Array, x: Array) -> None:
    """Of float32 the rounded result in float64, of float64 within 2**-51, as documented."""
    expected = sparsemax(x)
    if y.dtype == np.float32:
        np.testing.assert_allclose(y, expected, rtol=2.0**-23, atol=2.0**-48)
    else:
        np.testing.assert_allclose(y, expected, rtol=0, atol=2.0**-51)


@both_dtypes
@settings(max_examples=15)
@given(data=st.data())
def test_sparsemax_is_the_formula(engine: str, dtype: type, data: Any) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=40))
    width = np.dtype(dtype).itemsize * 8
    numbers = st.floats(-1000, 1000, width=width) | st.floats(-1, 1, width=width)
    x = data.draw(hnp.arrays(dtype, shape, elements=numbers))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    y = nf.sparsemax(x, axis=axis)
    assert (y.dtype, y.shape) == (dtype, shape)
    assert_sparse(np.moveaxis(y, axis, -1), np.moveaxis(x, axis, -1))
    np.testing.assert_allclose(y.astype(np.float64).sum(axis=axis), 1, rtol=1e-6)


@both_dtypes
@pytest.mark.parametrize("n", [1, 2, 10, 17, 1000, 10_000])
@pytest.mark.parametrize("spread", [1e-3, 0.1, 4])
def test_sparsemax_of_long_rows(isa: str, dtype: type, n: int, spread: float) -> None:
    """Of many in the support, and of few; of numbers far from 0."""
    x = np.random.default_rng(n).normal(0, spread, (3, n)).astype(dtype)
    assert_sparse(nf.sparsemax(x), x)
    assert_sparse(nf.sparsemax(x + dtype(1000)), x + dtype(1000))
    ties = np.repeat(x[:, : -(-n // 4)], 4, axis=1)
    assert_sparse(nf.sparsemax(ties), ties)


@both_dtypes
def test_points_of_sparsemax(isa: str, dtype: type) -> None:
    inf, nan = np.inf, np.nan
    for x, y in (
        ([5.0], [1]),
        ([1, 0.5, -1], [0.75, 0.25, 0]),
        ([0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]),
        ([3, 2, 2], [1, 0, 0]),
        ([1, inf, inf, -inf], [0, 0.5, 0.5, 0]),
        ([-inf, 0, -inf], [0, 1, 0]),
        ([1e30, -1e30, 1e30], [0.5, 0, 0.5]),
        ([-inf, -inf], [nan, nan]),
        ([1, nan, 1], [nan, nan, nan]),
        ([inf, nan, 0], [nan, nan, nan]),
        ([nan] * 40, [nan] * 40),
    ):
        given_x = np.array(x, dtype)
        np.testing.assert_array_equal(nf.sparsemax(given_x), np.array(y, dtype))
        strided = np.repeat(given_x, 3)[::3]
        np.testing.assert_array_equal(nf.sparsemax(strided), np.array(y, dtype))
    for shape in ((0,), (3, 0), (0, 3)):
        empty = np.empty(shape, dtype)
        assert nf.sparsemax(empty).shape == nf.sparsemax_backward(empty, empty).shape == shape


@both_dtypes
def test_gradient_of_sparsemax(engine: str, dtype: type) -> None:
    rng = np.random.default_rng(3)
    x, dy = rng.normal(0, 0.7, (2, 50, 23)).astype(dtype)
    y = nf.sparsemax(x)
    support = y > 0
    mean = (dy * support).astype(np.longdouble).sum(axis=-1) / support.sum(axis=-1)
    expected = np.where(support, dy - mean[:, None], 0)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(nf.sparsemax_backward(dy, y), expected, rtol=eps, atol=2 * eps)
    assert_same_bits(nf.sparsemax_backward(dy, x=x), nf.sparsemax_backward(dy, y))
    dx = nf.sparsemax_backward(dy, y)
    dy[~support] = np.nan  # what has no weight does not matter
    assert_same_bits(nf.sparsemax_backward(dy, y), dx)
    dx = nf.sparsemax_backward(np.ones(2, dtype), np.array([np.nan, np.nan], dtype))
    assert np.isnan(dx).all()


def test_gradient_of_sparsemax_numerically() -> None:
    rng = np.random.default_rng(4)
    x, dy = rng.normal(0, 0.7, (2, 6, 5))
    for axis in (0, 1):
        dx = nf.sparsemax_backward(dy, nf.sparsemax(x, axis), axis)
        assert_gradient(dx, lambda v, axis=axis: float((dy * nf.sparsemax(v, axis)).sum()), x)


@both_dtypes
def test_bits_of_sparsemax(dtype: type) -> None:
    x, dy = np.random.default_rng(5).normal(0, 1, (2, 40, 77)).astype(dtype)
    y, dx = nf.sparsemax(x), nf.sparsemax_backward(dy, nf.sparsemax(x))
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                for laid, laid_dy in zip(layouts(x).values(), layouts(dy).values(), strict=True):
                    assert_same_bits(nf.sparsemax(laid), y)
                    assert_same_bits(nf.sparsemax_backward(laid_dy, y), dx)
                turned = np.ascontiguousarray(x.T)
                assert_same_bits(nf.sparsemax(turned, 0).T, y)
                assert nf.sparsemax(turned, 0, out=turned) is turned
                assert_same_bits(turned.T, y)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ["softmax_backward", "log_softmax_backward"])
def test_large_gradients_have_the_bits_of_small_ones(isa: str, dtype: type, name: str) -> None:
    """They go past the caches by lines, which begin and end within rows."""
    function, rows, n = getattr(nf, name), 9000, 257
    rng = np.random.default_rng(6)
    dy, y = rng.normal(0, 1, (2, rows, n)).astype(dtype)
    expected = np.concatenate(
        [function(dy[i : i + 500], y[i : i + 500]) for i in range(0, rows, 500)]
    )
    assert expected.nbytes > 1 << 22
    for offset in (0, 1, 5):
        room = np.full(rows * n + 64, np.nan, dtype)
        out = room[offset : offset + rows * n].reshape(rows, n)
        assert function(dy, y, out=out) is out
        assert_same_bits(out, expected)
        assert np.isnan(room[:offset]).all()
        assert np.isnan(room[offset + rows * n :]).all()
    assert_same_bits(function(dy, y, out=dy), expected)
