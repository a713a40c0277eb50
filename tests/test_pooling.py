"""Pooling, its gradients, and the columns of windows: against plain NumPy and PyTorch."""

import re
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnfast as nf
from conftest import ISAS
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from reference import pooling as reference

Array = NDArray[Any]
DTYPES = (np.float16, np.float32, np.float64)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_dims = pytest.mark.parametrize("dims", [1, 2])


class Functions(NamedTuple):
    """Those of one number of dimensions."""

    max_pool: Any
    max_pool_backward: Any
    avg_pool: Any
    avg_pool_backward: Any
    global_avg_pool: Any
    global_avg_pool_backward: Any


FUNCTIONS = {
    dims: Functions(
        *(getattr(nf, f"{name.replace('pool', f'pool{dims}d')}") for name in Functions._fields)
    )
    for dims in (1, 2)
}


class Case(NamedTuple):
    """Windows over an x of shape (N, C, *plane)."""

    x: Array
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool

    @property
    def dims(self) -> int:
        return len(self.kernel)

    @property
    def fits(self) -> bool:
        sides = zip(self.x.shape[2:], *self[1:5], strict=True)
        return all(reference.count_of(*side, self.ceil_mode) >= 1 for side in sides)

    def options(self, axis: int = 1, dilation: bool = True) -> dict[str, Any]:
        """As arguments."""
        made = {"stride": self.stride, "padding": self.padding, "ceil_mode": self.ceil_mode}
        if dilation:
            made["dilation"] = self.dilation
        return {"kernel_size": self.kernel, "axis": axis, **made}


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    """Few different ones, so that there are ties; zeros of both signs, infinities and NaN among them."""
    values = rng.integers(-3, 4, shape).astype(dtype)
    special = rng.random(shape)
    for k, value in enumerate((np.nan, np.inf, -np.inf, -0.0)):
        values[(special > 0.02 * k) & (special < 0.02 * (k + 1))] = value
    return values


@st.composite
def cases(draw: Any, dtype: Any, dilated: bool, special: bool = True) -> Case:
    """Kernels of all kinds, those of the fast ways more often."""
    dims = draw(st.sampled_from((1, 2, 2)))
    kernel = tuple(draw(st.sampled_from((1, 2, 2, 3, 3, 4, 5, 7))) for _ in range(dims))
    stride = tuple(draw(st.sampled_from((1, 1, 2, 2, 3, 5))) for _ in range(dims))
    dilation = tuple(draw(st.sampled_from((1, 1, 1, 2, 3))) if dilated else 1 for _ in range(dims))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    plane = tuple(draw(st.integers(1, 40 if dims == 1 else 21)) for _ in range(dims))
    shape = (draw(st.integers(0, 2)), draw(st.integers(0, 3)), *plane)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = numbers(rng, shape, dtype) if special else rng.standard_normal(shape).astype(dtype)
    return Case(x, kernel, stride, padding, dilation, draw(st.booleans()))


def last(x: Array) -> Array:
    """With the channels last, contiguous."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def first(x: Array) -> Array:
    return np.moveaxis(x, -1, 1)


@every_dtype
@settings(max_examples=40)
@given(data=st.data())
def test_maxima_are_their_definition(isa: str, dtype: type, data: Any) -> None:
    case = data.draw(cases(dtype, dilated=True))
    if not case.fits:
        with pytest.raises(ValueError, match="kernel_size must fit into x"):
            FUNCTIONS[case.dims].max_pool(case.x, **case.options())
        return
    functions, options = FUNCTIONS[case.dims], case.options()
    y, which = reference.max_pool(case.x, *case[1:])
    found = functions.max_pool(case.x, **options)
    assert_same_bits(found[0], y)
    assert_same_bits(found[1], which)
    found = functions.max_pool(last(case.x), **case.options(axis=-1))
    assert_same_bits(first(found[0]), y)
    assert_same_bits(first(found[1]), which)
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    dx = reference.max_pool_backward(dy, which, case.x.shape[2:])
    assert_same_bits(functions.max_pool_backward(dy, which, case.x.shape), dx)
    shape = (case.x.shape[0], *case.x.shape[2:], case.x.shape[1])
    found = functions.max_pool_backward(last(dy), last(which), shape, axis=-1)
    assert_same_bits(first(found), dx)


@every_dtype
@settings(max_examples=40)
@given(data=st.data(), count_include_pad=st.booleans())
def test_means_are_their_definition(
    isa: str, dtype: type, data: Any, count_include_pad: bool
) -> None:
    case = data.draw(cases(dtype, dilated=False))
    if not case.fits:
        return
    functions = FUNCTIONS[case.dims]
    options = case.options(dilation=False) | {"count_include_pad": count_include_pad}
    with np.errstate(invalid="ignore"):
        y = reference.avg_pool(case.x, count_include_pad, *case[1:])
    assert_same_bits(functions.avg_pool(case.x, **options), y)
    channels_last = options | {"axis": -1}
    assert_same_bits(first(functions.avg_pool(last(case.x), **channels_last)), y)
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    plane = case.x.shape[2:]
    dx = reference.avg_pool_backward(dy, count_include_pad, plane, *case[1:])
    assert_same_bits(functions.avg_pool_backward(dy, case.x.shape, **options), dx)
    shape = (case.x.shape[0], *plane, case.x.shape[1])
    assert_same_bits(first(functions.avg_pool_backward(last(dy), shape, **channels_last)), dx)


@every_dtype
@every_dims
@pytest.mark.parametrize("plane", [1, 7, 16, 50])
def test_global_means(dtype: type, dims: int, plane: int) -> None:
    x = np.random.default_rng(0).standard_normal((3, 37, *(plane,) * dims)).astype(dtype)
    functions, axes = FUNCTIONS[dims], tuple(range(2, 2 + dims))
    y = functions.global_avg_pool(x)
    wide = x.astype(np.float64).mean(axis=axes)
    bound = np.finfo(dtype).eps * np.abs(wide) + 1e-15
    assert (y.shape, y.dtype) == ((3, 37), dtype)
    assert (np.abs(y - wide) <= bound).all()
    assert_same_bits(functions.global_avg_pool(last(x), axis=-1), y)
    assert_same_bits(functions.global_avg_pool(last(x)[..., :1], axis=-1), y[:, :1])
    dx = functions.global_avg_pool_backward(y, x.shape)
    expected = np.broadcast_to(np.expand_dims(y / plane**dims, axes), x.shape)
    assert_same_bits(dx, np.ascontiguousarray(expected))
    channels_last = functions.global_avg_pool_backward(y, last(x).shape, axis=-1)
    assert_same_bits(first(channels_last), dx)


# The shapes of the fast ways, of the plain ones, and planes that are taken some elements at a time.
SHAPES = [
    ((2, 3, 16, 18), 2, 2, 0),
    ((2, 3, 17, 19), 3, 2, 1),
    ((2, 3, 9, 40), 3, 1, 1),
    ((1, 2, 70, 70), 3, 3, 0),
    ((2, 3, 5, 3), 2, 1, 1),
]


@every_dtype
@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), SHAPES)
def test_bits_do_not_depend_on_threads_and_layout(
    dtype: type, shape: tuple[int, ...], kernel: int, stride: int, padding: int
) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    y, which = nf.max_pool2d(x, kernel, stride, padding=padding)
    mean = nf.avg_pool2d(x, kernel, stride, padding=padding)
    dx = nf.max_pool2d_backward(y, which, shape)
    dmean = nf.avg_pool2d_backward(y, shape, kernel, stride, padding=padding)
    whole = nf.global_avg_pool2d(x)
    channels_last = nf.max_pool2d(last(x), kernel, stride, padding=padding, axis=-1)

    def check(x: Array, y: Array, which: Array, out: dict[str, Any]) -> None:
        found = nf.max_pool2d(x, kernel, stride, padding=padding)
        assert_same_bits(found[0], y)
        assert_same_bits(found[1], which)
        assert_same_bits(nf.avg_pool2d(x, kernel, stride, padding=padding, **out), mean)
        assert_same_bits(nf.global_avg_pool2d(x), whole)

    for isa in ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                check(x, y, which, {})
                assert_same_bits(nf.max_pool2d_backward(y, which, shape), dx)
                assert_same_bits(
                    nf.avg_pool2d_backward(y, shape, kernel, stride, padding=padding), dmean
                )
                found = nf.max_pool2d(last(x), kernel, stride, padding=padding, axis=-1)
                assert_same_bits(found[0], channels_last[0])
                assert_same_bits(first(found[0]), y)
    for name, laid in layouts(x).items():
        dy, at = layouts(y)[name], layouts(which)[name]
        check(laid, y, which, {"out": layouts(np.empty_like(y))[name]})
        out = (layouts(np.empty_like(y))[name], layouts(np.empty_like(which))[name])
        found = nf.max_pool2d(laid, kernel, stride, padding=padding, out=out)
        assert [a is b for a, b in zip(found, out, strict=True)] == [True, True]
        assert_same_bits(out[0], y)
        assert_same_bits(out[1], which)
        to = layouts(np.full(shape, 9, dtype))[name]
        assert nf.max_pool2d_backward(dy, at, shape, out=to) is to  # overwritten, not added to
        assert_same_bits(to, dx)
        nf.avg_pool2d_backward(dy, shape, kernel, stride, padding=padding, out=to)
        assert_same_bits(to, dmean)


def test_channels_may_be_in_between() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 8)).astype(np.float32)
    between = np.ascontiguousarray(np.moveaxis(x, 1, 2))
    y, which = nf.max_pool2d(x, 2)
    found = nf.max_pool2d(between, 2, axis=2)
    assert_same_bits(np.moveaxis(found[0], 2, 1), y)
    assert_same_bits(np.moveaxis(found[1], 2, 1), which)


@pytest.mark.parametrize("axis", [1, -1])
def test_the_first_maximum_wins_and_nan_before_it(isa: str, axis: int) -> None:
    """Along rows and across channels; with one window, and among many."""
    rows = [
        ([0.0, -0.0, 1.0, 1.0], 1.0, 2),
        ([0.0, -0.0, -1.0, -0.0], 0.0, 0),
        ([-0.0, 0.0, -1.0, 0.0], -0.0, 0),
        ([1.0, np.nan, 5.0, np.nan], np.nan, 1),
        ([np.inf, np.nan, np.inf, 0.0], np.nan, 1),
        ([-np.inf] * 4, -np.inf, 0),
        ([-np.inf, -5.0, -np.inf, np.inf], np.inf, 3),
    ]
    for dtype in DTYPES:
        for row, value, place in rows:
            x = np.tile(np.array(row, dtype), 20).reshape(1, 20, 4)  # a window each
            x = x.reshape(1, 1, 1, 80) if axis == 1 else last(x.reshape(1, 20, 1, 4))
            y, which = nf.max_pool2d(x, (1, 4), axis=axis)
            assert_same_bits(y.ravel(), np.full(20, value, dtype))
            starts = 4 * np.arange(20) if axis == 1 else np.zeros(20, int)
            assert (which.ravel() == starts + place).all()


def test_padding_never_wins(isa: str) -> None:
    x = np.full((1, 1, 9, 33), -np.inf, np.float32)
    for stride in (1, 2, 3):
        y, which = nf.max_pool2d(x, 3, stride, padding=1)
        assert (y == -np.inf).all()
        rows, columns = (np.maximum(np.arange(n) * stride - 1, 0) for n in y.shape[2:])
        assert (which[0, 0] == rows[:, np.newaxis] * 33 + columns).all()


def test_a_window_without_elements() -> None:
    """Dilation steps over a plane; PyTorch gives a position outside of it."""
    for x in (np.ones((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1))):
        y, which = nf.max_pool2d(x, 2, padding=1, dilation=2)
        assert (y.item(), which.item()) == (-np.inf, -1)
        assert nf.max_pool2d_backward(y, which, x.shape).item() == 0
    wide = np.ones((1, 1, 1, 4), np.float32)
    y, which = nf.max_pool2d(wide, 2, stride=1, padding=1, dilation=2, axis=-1)
    assert (which[0, 0, 0] == -1).all()


def test_positions_outside_the_plane_take_part_in_nothing() -> None:
    which = np.array([[[[-1, 4, 3, 2**31 - 1, -(2**31)]]]], np.int32)
    for dtype in DTYPES:
        dx = nf.max_pool2d_backward(np.ones(which.shape, dtype), which, (1, 1, 2, 2))
        assert dx.tolist() == [[[[0, 0], [0, 1]]]]


@every_dims
def test_gradients_numerically(dims: int) -> None:
    rng, functions = np.random.default_rng(0), FUNCTIONS[dims]
    x = rng.permutation(2 * 2 * 6**dims).reshape(2, 2, *(6,) * dims).astype(float)  # no ties

    def check(forward: Any, backward: Any) -> None:
        dy = rng.standard_normal(forward(x).shape)
        assert_gradient(backward(dy), lambda x: float((dy * forward(x)).sum()), x)

    for options in ({"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}):
        which = functions.max_pool(x, **options)[1]
        check(
            partial(_first_of, functions.max_pool, options),
            partial(functions.max_pool_backward, which=which, shape=x.shape),
        )
        for count in (True, False):
            both = options | {"count_include_pad": count, "ceil_mode": True}
            check(
                partial(functions.avg_pool, **both),
                partial(functions.avg_pool_backward, shape=x.shape, **both),
            )
    check(functions.global_avg_pool, partial(functions.global_avg_pool_backward, shape=x.shape))
    columns = {"kernel_size": 3, "stride": 2, "padding": 1}
    check(partial(nf.im2col, **columns), partial(nf.col2im, shape=x.shape, **columns))


def _first_of(function: Any, options: dict[str, Any], x: Array) -> Array:
    y: Array = function(x, **options)[0]
    return y


def test_long_signals_and_large_kernels() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 20000)).astype(np.float32)
    for kernel, stride in ((20000, 1), (3000, 1500), (1, 20000), (5000, 2)):
        y, which = nf.max_pool1d(x, kernel, stride)
        starts = np.arange(y.shape[-1]) * stride
        for k, start in enumerate(starts):
            assert (which[..., k] == start + x[..., start : start + kernel].argmax(axis=-1)).all()
        mean = nf.avg_pool1d(x, kernel, stride)
        for k, start in enumerate(starts):
            wide = x[..., start : start + kernel].astype(float).mean(axis=-1)
            np.testing.assert_allclose(mean[..., k], wide, atol=1e-4)


def test_overflow_is_reported() -> None:
    x = np.full((1, 1, 2, 2), 3e38, np.float32)
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert np.isinf(nf.avg_pool2d(x, 2)).all()
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert np.isinf(nf.max_pool2d_backward(x, np.zeros(x.shape, np.int32), x.shape)).any()
    half = np.full((1, 1, 2, 2), 65504, np.float16)
    assert nf.avg_pool2d(half, 2) == 65504
    with pytest.warns(RuntimeWarning, match="overflow"):
        nf.max_pool2d_backward(half, np.zeros(x.shape, np.int32), x.shape)


# Strides that are summed a phase at a time and those that are not; rows longer than what is summed at once; kernels
# that reach over many windows; more rows than are summed at once.
LONG = [
    ((1, 2, 700), (3,), (2,), (1,)),
    ((1, 2, 1500), (7,), (4,), (3,)),
    ((2, 1, 2600), (11,), (9,), (5,)),
    ((1, 1, 2600), (4,), (200,), (2,)),
    ((1, 1, 900), (300,), (1,), (150,)),
    ((1, 1, 900), (500,), (130,), (0,)),
    ((1, 2, 90, 40), (3, 3), (1, 1), (1, 1)),
    ((1, 2, 40, 300), (2, 5), (3, 2), (1, 2)),
    ((1, 1, 30, 37), (9, 4), (2, 9), (4, 1)),
]


@every_dtype
@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), LONG)
def test_long_rows_backward(
    isa: str,
    dtype: type,
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> None:
    rng, dims, plane = np.random.default_rng(0), len(kernel), shape[2:]
    functions, one = FUNCTIONS[dims], (1,) * dims
    for count in (True, False):
        for ceil_mode in (True, False):
            options = (kernel, stride, padding, one, ceil_mode)
            y = functions.avg_pool(
                np.zeros(shape, dtype), kernel, stride, padding=padding, ceil_mode=ceil_mode
            )
            dy = rng.standard_normal(y.shape).astype(dtype)
            dx = reference.avg_pool_backward(dy, count, plane, *options)
            given: dict[str, Any] = {"padding": padding, "ceil_mode": ceil_mode}
            given["count_include_pad"] = count
            found = functions.avg_pool_backward(dy, shape, kernel, stride, **given)
            assert_same_bits(found, dx)
            given["axis"] = -1
            to = (shape[0], *plane, shape[1])
            assert_same_bits(
                first(functions.avg_pool_backward(last(dy), to, kernel, stride, **given)), dx
            )


def folded(columns: Array, shape: tuple[int, ...], *options: tuple[int, ...]) -> Array:
    """col2im in plain NumPy: a window's elements in their order, float16 in float32."""
    kernel, stride, padding, dilation = options
    counts = [
        reference.count_of(n, *each, False) for n, *each in zip(shape[2:], *options, strict=True)
    ]
    split = columns.reshape(*shape[:2], *kernel, *counts)
    around = [n + 2 * p + s for n, p, s in zip(shape[2:], padding, stride, strict=True)]
    wide = np.promote_types(columns.dtype, np.float32)
    dx = np.zeros((*shape[:2], *around), wide)
    for place in np.ndindex(*kernel):
        at = tuple(
            slice(k * d, k * d + s * (n - 1) + 1, s)
            for k, d, s, n in zip(place, dilation, stride, counts, strict=True)
        )
        dx[(..., *at)] += split[(slice(None), slice(None), *place)]
    inside = (slice(p, p + n) for p, n in zip(padding, shape[2:], strict=True))
    return dx[(..., *inside)].astype(columns.dtype)


FOLDS = [
    *(
        (shape, kernel, stride, padding, (1,) * len(kernel))
        for shape, kernel, stride, padding in LONG
    ),
    ((2, 3, 16, 16), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((2, 3, 17, 18), (3, 2), (2, 2), (4, 30), (2, 3)),
    ((2, 3, 9, 300), (2, 3), (1, 12), (0, 3), (3, 5)),
    ((1, 1, 6, 6), (2, 2), (7, 300), (0, 1), (1, 1)),
    ((0, 3, 6, 6), (2, 2), (1, 1), (0, 0), (1, 1)),
]


@every_dtype
@pytest.mark.parametrize(("shape", "kernel", "stride", "padding", "dilation"), FOLDS)
def test_columns_are_summed_in_order(
    isa: str,
    dtype: type,
    shape: tuple[int, ...],
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
) -> None:
    given_ = {"padding": padding, "dilation": dilation}
    columns = nf.im2col(np.zeros(shape, dtype), kernel, stride, **given_)
    columns = np.random.default_rng(0).standard_normal(columns.shape).astype(dtype)
    dx = folded(columns, shape, kernel, stride, padding, dilation)
    assert_same_bits(nf.col2im(columns, shape, kernel, stride, **given_), dx)
    to = (shape[0], *shape[2:], shape[1])
    swapped = np.ascontiguousarray(np.swapaxes(columns, 1, 2))
    assert_same_bits(first(nf.col2im(swapped, to, kernel, stride, axis=-1, **given_)), dx)
    for threads in (1, 3):
        with forced(threads=threads, grain=1):
            assert_same_bits(nf.col2im(columns, shape, kernel, stride, **given_), dx)
    for name, laid in layouts(columns).items():
        out = layouts(np.full(shape, 9, dtype))[name]
        assert nf.col2im(laid, shape, kernel, stride, out=out, **given_) is out
        assert_same_bits(out, dx)


@every_dtype
@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (2, 70, 5, 9), (3, 2, 20, 30), (0, 2, 3, 3)])
def test_gradients_of_whole_planes(dtype: type, shape: tuple[int, ...]) -> None:
    dy = np.random.default_rng(0).standard_normal(shape[:2]).astype(dtype)
    wide = dy.astype(np.promote_types(dtype, np.float32)) / np.float32(shape[2] * shape[3])
    dx = np.empty(shape, dtype)
    dx[...] = wide[..., np.newaxis, np.newaxis]
    for threads in (1, 3):
        with forced(threads=threads, grain=1):
            assert_same_bits(nf.global_avg_pool2d_backward(dy, shape), dx)
            for name, out in layouts(np.full(shape, 9, dtype)).items():
                nf.global_avg_pool2d_backward(layouts(dy)[name], shape, out=out)
                assert_same_bits(out, dx)
            for axis in (2, 3):
                to = np.moveaxis(dx, 1, axis).shape
                found = nf.global_avg_pool2d_backward(dy, to, axis=axis)
                assert_same_bits(np.moveaxis(found, axis, 1), dx)


def test_numbers_of_the_stride_may_be_large() -> None:
    x = np.arange(6.0, dtype=np.float32).reshape(1, 1, 6)
    assert nf.avg_pool1d(x, 2, 2**31 - 1).tolist() == [[[0.5]]]
    dx = nf.avg_pool1d_backward(np.ones((1, 1, 1)), x.shape, 2, 2**31 - 1)
    assert dx.tolist() == [[[0.5, 0.5, 0, 0, 0, 0]]]
    assert nf.max_pool1d(x, 1, 2**31 - 1, dilation=2**31 - 1)[0].tolist() == [[[0]]]
    columns = nf.im2col(x, 1, 2**31 - 1, dilation=2**31 - 1)
    assert nf.col2im(columns, x.shape, 1, 2**31 - 1, dilation=2**31 - 1).tolist() == [[[0] * 6]]


# ---- columns ----


@every_dtype
@settings(max_examples=25)
@given(data=st.data())
def test_columns_are_windows(dtype: type, data: Any) -> None:
    case = data.draw(cases(dtype, dilated=True, special=False))._replace(ceil_mode=False)
    if not case.fits:
        return
    x, options = case.x, {"padding": case.padding, "dilation": case.dilation}
    columns = nf.im2col(x, case.kernel, case.stride, **options)
    around = [(0, 0), (0, 0), *((p, p) for p in case.padding)]
    padded = np.pad(x, around)
    spread = tuple(d * (k - 1) + 1 for k, d in zip(case.kernel, case.dilation, strict=True))
    axes = tuple(range(2, x.ndim))
    views = np.lib.stride_tricks.sliding_window_view(padded, spread, axes)
    views = views[(slice(None), slice(None), *(slice(None, None, s) for s in case.stride))]
    views = views[(..., *(slice(None, None, d) for d in case.dilation))]
    windows = int(np.prod(views.shape[2 : x.ndim]))
    elements = int(np.prod(case.kernel))
    expected = np.moveaxis(views.reshape(*x.shape[:2], windows, elements), 2, 3)
    assert_same_bits(columns, expected.reshape(columns.shape))
    channels_last = nf.im2col(last(x), case.kernel, case.stride, axis=-1, **options)
    assert_same_bits(channels_last, np.swapaxes(columns, 1, 2))
    # What goes back to one element is added: as often as it was taken.
    taken = nf.col2im(columns, x.shape, case.kernel, case.stride, **options)
    ones = nf.im2col(np.ones(x.shape), case.kernel, case.stride, **options)
    times = nf.col2im(ones, x.shape, case.kernel, case.stride, **options)
    np.testing.assert_allclose(taken, (x * times).astype(dtype), rtol=20 * np.finfo(dtype).eps)
    shape = last(x).shape
    found = nf.col2im(channels_last, shape, case.kernel, case.stride, axis=-1, **options)
    assert_same_bits(first(found), taken)


def test_columns_make_a_convolution() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((4, 3, 2, 2))
    y = w.reshape(4, -1) @ nf.im2col(x, 2)
    views = np.lib.stride_tricks.sliding_window_view(x, (2, 2), (2, 3))
    np.testing.assert_allclose(y.reshape(2, 4, 4, 5), np.einsum("nchwij,ocij->nohw", views, w))
    assert_same_bits(nf.im2col(last(x), 2, axis=-1), np.swapaxes(nf.im2col(x, 2), 1, 2))
    out = np.empty((2, 12, 20))
    assert nf.im2col(x, 2, out=out) is out


# ---- PyTorch ----


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(120))
def test_as_pytorch(seed: int) -> None:
    import torch

    rng = np.random.default_rng(seed)
    dims = int(rng.integers(1, 3))
    kernel, stride, dilation = (
        tuple(int(rng.choice(choices)) for _ in range(dims))
        for choices in ([1, 2, 2, 3, 3, 4, 5], [1, 2, 2, 3, 4], [1, 1, 2, 3])
    )
    ceil_mode, count = bool(rng.integers(2)), bool(rng.integers(2))
    shape = (2, 3, *rng.integers(4, 24, dims).tolist())
    x = rng.permutation(int(np.prod(shape))).reshape(shape) / 7  # no ties, NaN or infinity
    leaf = torch.tensor(x, requires_grad=True)
    functional, functions = torch.nn.functional, FUNCTIONS[dims]

    for of_max in (True, False):
        padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
        options: dict[str, Any] = {"padding": padding, "ceil_mode": ceil_mode}
        options |= {"dilation": dilation} if of_max else {"count_include_pad": count}
        name = f"{'max' if of_max else 'avg'}_pool{dims}d"
        returned = {"return_indices": True} if of_max else {}
        pool = functions.max_pool if of_max else functions.avg_pool
        try:
            theirs = getattr(functional, name)(leaf, kernel, stride, **options, **returned)
        except RuntimeError as error:
            if "too small" not in str(error):
                raise
            with pytest.raises(ValueError, match="kernel_size must fit"):
                pool(x, kernel, stride, **options)
            continue
        ours = pool(x, kernel, stride, **options)
        if of_max:
            theirs, indices = theirs
            y_theirs = theirs.detach().numpy()
            assert (ours[1] == np.where(np.isinf(y_theirs), -1, indices.numpy())).all()
            y, which = ours
        else:
            y = ours
        np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=1e-14)
        dy = rng.standard_normal(y.shape)
        if not np.isfinite(y).all():
            continue  # PyTorch would write outside of dx
        leaf.grad = None
        theirs.backward(torch.tensor(dy))
        if of_max:
            dx = functions.max_pool_backward(dy, which, shape)
        else:
            dx = functions.avg_pool_backward(dy, shape, kernel, stride, **options)
        np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=1e-13, atol=1e-14)


@pytest.mark.peers
def test_columns_as_pytorch() -> None:
    import torch

    x = np.random.default_rng(0).standard_normal((2, 3, 9, 11))
    given_ = {"padding": (1, 2), "dilation": (2, 1)}
    columns = nf.im2col(x, (3, 2), (2, 1), **given_)
    theirs = torch.nn.functional.unfold(torch.tensor(x), (3, 2), stride=(2, 1), **given_)
    assert_same_bits(columns, theirs.numpy())
    folded = torch.nn.functional.fold(theirs, (9, 11), (3, 2), stride=(2, 1), **given_)
    ours = nf.col2im(columns, x.shape, (3, 2), (2, 1), **given_)
    np.testing.assert_allclose(ours, folded.numpy(), rtol=1e-14)


# ---- errors ----

X = np.zeros((2, 3, 4, 5), np.float32)
WHICH = np.zeros((2, 3, 2, 2), np.int32)
READ_ONLY = np.zeros((2, 3, 2, 2), np.float32)
READ_ONLY.flags.writeable = False
ERRORS: list[tuple[str, tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ("max_pool2d", (X[0], 2), {}, ValueError, r"x must have 4 axes, \(N, C, H, W\), got shape \(3, 4, 5\)"),
    ("max_pool1d", (X, 2), {}, ValueError, r"x must have 3 axes, \(N, C, L\), got shape"),
    ("max_pool2d", (X[:, :, :0], 1), {}, ValueError, "x must have planes of 1 to 2\\*\\*31 - 1 elements"),
    ("max_pool2d", (X.astype(complex), 2), {}, TypeError, "x must be an array of real numbers"),
    ("max_pool2d", (X, 0), {}, ValueError, r"kernel_size must be in \[1, 2\*\*31\), got 0"),
    ("max_pool2d", (X, 2.5), {}, TypeError, "kernel_size must be an int, got float"),
    ("max_pool2d", (X, (1, 2, 3)), {}, ValueError, "kernel_size must be an int or 2 of them"),
    ("max_pool2d", (X, 5), {}, ValueError, "kernel_size must fit into x with its padding, 4 elements along axis 2"),
    ("max_pool2d", (X, 2**31), {}, ValueError, "kernel_size must be in"),
    ("max_pool2d", (X, 2, 0), {}, ValueError, r"stride must be in \[1, 2\*\*31\), got 0"),
    ("max_pool2d", (X, 2), {"padding": -1}, ValueError, r"padding must be in \[0, 2\*\*31\), got -1"),
    ("max_pool2d", (X, 3), {"padding": 2}, ValueError, "padding must be at most half of kernel_size, 3, got 2"),
    ("max_pool2d", (X, 2), {"dilation": 0}, ValueError, "dilation must be in"),
    ("max_pool2d", (X, 2), {"axis": 0}, ValueError, "axis must name the channel axis of x with shape"),
    ("max_pool2d", (X, 2), {"axis": 4}, ValueError, "axis must name the channel axis"),
    ("max_pool2d", (X, 2), {"axis": 1.0}, TypeError, "axis must be an int, got float"),
    ("max_pool2d", (X, 2), {"out": np.zeros((2, 3, 2, 2))}, TypeError, "out must have dtype float32, got float64"),
    ("max_pool2d", (X, 2), {"out": X}, ValueError, r"out must have shape \(2, 3, 2, 2\), got"),
    ("max_pool2d", (X, 2), {"out": READ_ONLY}, ValueError, "out must be writeable"),
    ("max_pool2d", (X, 2), {"out": X[:, :, ::2, :4:2]}, ValueError, "out and x must not share memory"),
    ("max_pool2d", (X, 2), {"out": (None, WHICH.astype(np.int64))}, TypeError, r"out\[1\] must have dtype int32"),
    ("max_pool2d", (X, 2), {"out": (None, None, None)}, TypeError, "out must be an array or a pair of them"),
    ("max_pool2d_backward", (WHICH, WHICH.astype("i8"), X.shape), {}, TypeError, "which must have dtype int32"),
    ("max_pool2d_backward", (WHICH, WHICH.tolist(), X.shape), {}, TypeError, "which must be a numpy.ndarray, got list"),
    ("max_pool2d_backward", (WHICH, WHICH[:1], X.shape), {}, ValueError, "which must have the shape of dy"),
    ("max_pool2d_backward", (WHICH[:1], WHICH[:1], X.shape), {}, ValueError, "dy must have the axes of x with shape"),
    ("max_pool2d_backward", (WHICH, WHICH, 4), {}, TypeError, "shape must be a tuple of ints, got int"),
    ("max_pool2d_backward", (WHICH, WHICH, (2, 3, 4)), {}, ValueError, "shape must have 4 axes"),
    ("max_pool2d_backward", (WHICH, WHICH, (2, 3, -4, 5)), {}, ValueError, "shape must not be negative"),
    ("avg_pool2d_backward", (WHICH[:1], X.shape, 2), {}, ValueError, r"dy must have the shape of y, \(2, 3, 2, 2\)"),
    ("global_avg_pool2d", (X,), {"out": np.zeros((2, 4), np.float32)}, ValueError, r"out must have shape \(2, 3\)"),
    ("global_avg_pool2d_backward", (X, X.shape), {}, ValueError, r"dy must have the shape of y, \(2, 3\), got"),
    ("im2col", (X, 2), {"axis": 2}, ValueError, "axis must be 1 or -1, got 2"),
    ("im2col", (X[0, 0], 2), {}, ValueError, "x must have three or four axes"),
    ("im2col", (X, 2), {"out": np.zeros((12, 12, 2), np.float32).T}, ValueError, "out must be C-contiguous"),
    ("col2im", (X, (2, 3), 2), {}, ValueError, "shape must have three or four axes"),
    ("col2im", (X, X.shape, 2), {"axis": 2}, ValueError, "axis must be 1 or -1, got 2"),
    ("col2im", (np.zeros((2, 12, 12)), X.shape, 2), {"out": X}, TypeError, "out must have dtype float64"),
    ("max_pool2d", (X, None), {}, TypeError, "kernel_size must be an int, got NoneType"),
    ("max_pool2d", (X, np.array([2, 2])), {}, TypeError, "kernel_size must be an int, got ndarray"),
    ("max_pool2d", (X, 2**70), {}, ValueError, "kernel_size must be in"),
    ("max_pool2d_backward", (WHICH, WHICH, (2.0, 3, 4, 5)), {}, TypeError, "shape must be an int, got float"),
    ("col2im", (X, X.shape, 2), {}, ValueError, r"columns must have shape \(2, 12, 12\), got"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "options", "kind", "message"), ERRORS)
def test_errors(
    name: str, args: tuple[Any, ...], options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        getattr(nf, name)(*args, **options)
    assert re.match(r"[a-z_0-9]+(\[1\])?( and x)? must", str(caught.value))
