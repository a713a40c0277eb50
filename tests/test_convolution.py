"""Convolutions of images and sequences, and their gradients."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnfast as nf
from conftest import ISAS
from gradients import assert_gradient
from layouts import assert_same_bits, layouts
from nnfast._testing import forced
from reference.convolution import convolution, convolution_backward

Array = NDArray[Any]
every_dtype = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])


@dataclass(frozen=True)
class Setting:
    """Shapes and options of a call."""

    batch: int = 2
    channels: int = 3  # of a group
    outputs: int = 4  # of a group
    height: int = 9
    width: int = 10
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] | str = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def reach(self) -> tuple[int, int]:
        return (
            self.dilation[0] * (self.kernel[0] - 1) + 1,
            self.dilation[1] * (self.kernel[1] - 1) + 1,
        )

    @property
    def edges(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Zeros before and after, along both axes."""
        if self.padding == "same":
            before = [(reach - 1) // 2 for reach in self.reach]
            return (
                (before[0], self.reach[0] - 1 - before[0]),
                (before[1], self.reach[1] - 1 - before[1]),
            )
        rows, columns = (0, 0) if isinstance(self.padding, str) else self.padding
        return (rows, rows), (columns, columns)

    @property
    def fits(self) -> bool:
        rows, columns = self.edges
        return (
            self.height + sum(rows) >= self.reach[0] and self.width + sum(columns) >= self.reach[1]
        )

    @property
    def options(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def plain(self) -> dict[str, Any]:
        """The options of the reference."""
        return self.options | {"padding": self.edges}

    def arrays(self, dtype: Any = np.float64, seed: int = 0) -> tuple[Array, Array, Array, Array]:
        """x, w, b and dy."""
        rng = np.random.default_rng(seed)
        x = rng.standard_normal(
            (self.batch, self.groups * self.channels, self.height, self.width)
        ).astype(dtype)
        w = rng.standard_normal((self.groups * self.outputs, self.channels, *self.kernel)).astype(
            dtype
        )
        b = rng.standard_normal(len(w)).astype(dtype)
        sizes = [
            (size + sum(edges) - reach) // step + 1
            for size, edges, reach, step in zip(
                (self.height, self.width), self.edges, self.reach, self.stride, strict=True
            )
        ]
        return x, w, b, rng.standard_normal((self.batch, len(w), *sizes)).astype(dtype)


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def settings_of_calls(draw: Any, most: int = 24) -> Setting:
    stride = draw(pairs)
    paddings: Any = st.tuples(st.integers(0, 4), st.integers(0, 4)) | st.just("valid")
    if stride == (1, 1):
        paddings |= st.just("same")
    setting = Setting(
        draw(st.integers(1, 4)),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 20)),
        draw(st.integers(1, most)),
        draw(st.integers(1, 2 * most)),
        draw(st.tuples(st.integers(1, 5), st.integers(1, 5))),
        stride,
        draw(paddings),
        draw(pairs),
        draw(st.integers(1, 3)),
    )
    assume(setting.fits)
    return setting


def last(x: Array) -> Array:
    """Channels last, contiguous."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def first(x: Any) -> Array:
    return np.moveaxis(x, -1, 1)


def assert_sum(actual: Array, expected: Array, magnitude: Array, terms: int) -> None:
    """Within eps (2 + sqrt(terms)) of the sum of absolute products, and the rounding of the result."""
    computed = np.float32 if actual.dtype == np.float16 else actual.dtype.type
    bound = np.finfo(computed).eps * (2 + terms**0.5) * magnitude
    if actual.dtype == np.float16:
        bound = bound + np.finfo(np.float16).eps * np.abs(expected) + 2.0**-24
    assert actual.shape == expected.shape
    assert (np.abs(actual.astype(np.longdouble) - expected) <= bound).all()


def assert_all_same(actual: Any, expected: Any) -> None:
    for each, same in zip(actual, expected, strict=True):
        assert_same_bits(each, same)


def check(setting: Setting, dtype: Any, arrays: tuple[Array, ...]) -> None:
    """y and all gradients against the reference in a wider dtype, channels first and last with the same bits."""
    x, w, b, dy = arrays
    wide = np.longdouble if dtype == np.float64 else np.float64
    x_, w_, b_, dy_ = (array.astype(wide) for array in arrays)
    y = nf.conv2d(x, w, b, **setting.options)
    magnitude = convolution(abs(x_), abs(w_), abs(b_), **setting.plain)
    depth = w[0].size
    assert_sum(y, convolution(x_, w_, b_, **setting.plain), magnitude, depth + 1)
    gradients = nf.conv2d_backward(dy, x, w, **setting.options)
    expected = convolution_backward(dy_, x_, w_, **setting.plain)
    magnitudes = convolution_backward(abs(dy_), abs(x_), abs(w_), **setting.plain)
    terms = (depth // setting.channels * setting.outputs, dy[:, 0].size, dy[:, 0].size)
    for actual, each, size, count in zip(gradients, expected, magnitudes, terms, strict=True):
        assert actual is not None
        assert actual.dtype == dtype
        assert_sum(actual, each, size, count)
    assert_same_bits(first(nf.conv2d(last(x), w, b, axis=-1, **setting.options)), y)
    dx, dw, db = nf.conv2d_backward(last(dy), last(x), w, axis=-1, **setting.options)
    assert_all_same((first(dx), dw, db), gradients)


@every_dtype
@settings(max_examples=8)
@given(setting=settings_of_calls())
def test_all_are_their_definitions(engine: str, dtype: type, setting: Setting) -> None:
    check(setting, dtype, setting.arrays(dtype))


LARGE = {
    "blocks of channels": Setting(2, 70, 9, 7, 9, (3, 3), padding="same"),
    "strips of outputs": Setting(1, 40, 800, 5, 6, (1, 1)),
    "a row of tiles": Setting(1, 2, 5, 3, 1500, (2, 3), padding=(1, 1)),
    "a large kernel": Setting(1, 2, 3, 40, 30, (19, 17), padding=(9, 0)),
    "a tap beyond a block": Setting(17, 2, 5, 2, 9, (1, 257), padding=(0, 128)),
    "in place": Setting(2, 5, 13, 30, 33, (3, 3), padding="same"),
    "in place, one run": Setting(2, 9, 7, 1, 784, (1, 3), padding="same"),
    "dilated far": Setting(1, 3, 5, 150, 140, (3, 3), dilation=(70, 60), padding=(3, 4)),
    "a large stride": Setting(1, 3, 5, 150, 140, (3, 2), stride=(50, 40)),
    "padding beyond the kernel": Setting(1, 2, 3, 4, 5, (2, 2), padding=(6, 7), stride=(2, 1)),
    "many images": Setting(37, 1, 6, 6, 7, (3, 3), padding="same"),
    "depthwise": Setting(2, 1, 1, 30, 33, (3, 3), padding="same", groups=20),
    "depthwise, one run": Setting(2, 1, 1, 1, 784, (1, 3), padding="same", groups=5),
    "narrow, depthwise": Setting(2, 1, 1, 40, 1, (3, 7), padding="same", groups=5),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("isa", ISAS)
def test_shapes_that_are_cut(isa: str, name: str) -> None:
    for dtype in (np.float32, np.float64):
        with forced(isa=isa):
            check(LARGE[name], dtype, LARGE[name].arrays(dtype))


@pytest.mark.parametrize("name", LARGE)
def test_bits_of_shapes_that_are_cut(name: str) -> None:
    x, w, b, dy = LARGE[name].arrays(np.float32)
    options = LARGE[name].options
    results = []
    for isa in ISAS:
        if isa != "x86-64-v2":  # the only one without FMA
            for threads in (1, 2):
                with forced(isa=isa, threads=threads, grain=1):
                    y = nf.conv2d(x, w, b, **options)
                    results.append((y, *nf.conv2d_backward(dy, x, w, **options)))
    for other in results[1:]:
        assert_all_same(other, results[0])


def test_sums_of_equal_products() -> None:
    """Rounding errors of one sign: a sum in one go would leave the bound."""
    setting = Setting(16, 64, 5, 16, 16, (3, 3), padding="same")
    arrays = tuple(np.full_like(array, 0.1) for array in setting.arrays(np.float32))
    check(setting, np.float32, arrays)


@settings(max_examples=10)
@given(data=st.data())
def test_sequences_are_images_of_height_1(data: Any) -> None:
    setting = data.draw(settings_of_calls())
    setting = replace(setting, height=1, kernel=(1, setting.kernel[1]))
    options = {"groups": setting.groups}
    for name in ("stride", "dilation", "padding"):
        value = getattr(setting, name)
        options[name] = value if isinstance(value, str) else value[1]
    flat = replace(
        setting,
        stride=(1, setting.stride[1]),
        dilation=(1, setting.dilation[1]),
        padding=setting.padding if isinstance(setting.padding, str) else (0, setting.padding[1]),
    )
    assume(flat.fits)
    x, w, b, dy = flat.arrays(np.float32)
    y = nf.conv2d(x, w, b, **flat.options)
    gradients = nf.conv2d_backward(dy, x, w, **flat.options)
    x, w, dy = x[:, :, 0], w[:, :, 0], dy[:, :, 0]
    assert_same_bits(nf.conv1d(x, w, b, **options), y[:, :, 0])
    assert_same_bits(first(nf.conv1d(last(x), w, b, axis=-1, **options)), y[:, :, 0])
    dx, dw, db = gradients
    assert dx is not None
    assert dw is not None
    assert_all_same(nf.conv1d_backward(dy, x, w, **options), (dx[:, :, 0], dw[:, :, 0], db))


OPTIONS = Setting(3, 5, 7, 12, 19, (3, 2), (2, 1), (1, 2), (1, 3), 2)


@every_dtype
def test_bits_do_not_depend_on_threads_and_layout(dtype: type) -> None:
    x, w, b, dy = OPTIONS.arrays(dtype)
    options = OPTIONS.options

    def results() -> tuple[Any, ...]:
        return nf.conv2d(x, w, b, **options), *nf.conv2d_backward(dy, x, w, **options)

    for isa in ISAS:
        with forced(isa=isa, threads=1):
            serial = results()
        for threads in (2, 7, 16):
            with forced(isa=isa, threads=threads, grain=1):
                assert_all_same(results(), serial)
        if isa != "x86-64-v2":  # the only one without FMA
            assert_all_same(serial, results())
    y, *gradients = results()
    for name in layouts(x):
        x_, w_, b_, dy_ = (layouts(array)[name] for array in (x, w, b, dy))
        out = layouts(np.full_like(y, 9))[name]
        assert nf.conv2d(x_, w_, b_, **options, out=out) is out
        assert_same_bits(out, y)
        outs = tuple(layouts(np.full_like(array, 9))[name] for array in gradients)
        returned = nf.conv2d_backward(dy_, x_, w_, **options, out=outs)
        assert all(given is taken for given, taken in zip(returned, outs, strict=True))
        assert_all_same(outs, gradients)


def test_bits_of_many_tiles_do_not_depend_on_threads() -> None:
    setting = Setting(5, 33, 18, 33, 40, (3, 3), padding="same")
    x, w, b, dy = setting.arrays(np.float32)
    results = []
    for threads in (1, 2, 5):
        with forced(threads=threads, grain=1):
            y = nf.conv2d(x, w, b, **setting.options)
            results.append((y, *nf.conv2d_backward(dy, x, w, **setting.options)))
    for other in results[1:]:
        assert_all_same(other, results[0])


@pytest.mark.parametrize("setting", [OPTIONS, replace(OPTIONS, padding="same", stride=(1, 1))])
def test_gradients_numerically(setting: Setting) -> None:
    setting = replace(setting, batch=2, channels=2, outputs=2, height=6, width=8)
    x, w, b, dy = setting.arrays()

    def loss(x: Array, w: Array, b: Array) -> float:
        return float((dy * nf.conv2d(x, w, b, **setting.options)).sum())

    dx, dw, db = nf.conv2d_backward(dy, x, w, **setting.options)
    assert dx is not None
    assert dw is not None
    assert db is not None
    assert_gradient(dx, lambda each: loss(each, w, b), x)
    assert_gradient(dw, lambda each: loss(x, each, b), w)
    assert_gradient(db, lambda each: loss(x, w, each), b)


@pytest.mark.peers
@settings(max_examples=20)
@given(setting=settings_of_calls())
def test_pytorch_gives_the_same(setting: Setting) -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # waiting threads of its own would take the cores of small calls
    arrays = setting.arrays()
    x, w, b, dy = (torch.tensor(array, requires_grad=True) for array in arrays)
    expected = torch.nn.functional.conv2d(x, w, b, **setting.options)
    expected.backward(dy)
    y = nf.conv2d(*arrays[:3], **setting.options)
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-10, atol=1e-10)
    gradients = nf.conv2d_backward(arrays[3], *arrays[:2], **setting.options)
    for actual, each in zip(gradients, (x, w, b), strict=True):
        np.testing.assert_allclose(actual, each.grad, rtol=1e-10, atol=1e-10)


def test_nan_and_inf_propagate() -> None:
    x, w, _, dy = Setting(1, 2, 3, 5, 6, (3, 3), padding="same").arrays(np.float32)
    for value in (np.nan, np.inf):
        bad = x.copy()
        bad[0, 1, 2, 3] = value
        y = nf.conv2d(bad, w, padding="same")
        reached = np.zeros((5, 6), bool)
        reached[1:4, 2:5] = True
        assert (np.isfinite(y) == ~reached).all()
        bad_dy = dy.copy()
        bad_dy[0, 1, 2, 3] = value
        dx, dw, db = nf.conv2d_backward(bad_dy, x, w, padding="same")
        assert dx is not None
        assert dw is not None
        assert db is not None
        assert (np.isfinite(dx) == ~reached).all()
        assert (np.isfinite(dw).all((1, 2, 3)) == [True, False, True]).all()
        assert (np.isfinite(db) == [True, False, True]).all()


@pytest.mark.parametrize("outputs", [1, 5])
def test_what_a_weight_does_not_meet_does_not_reach_its_gradient(outputs: int) -> None:
    """Vectors at the end of a row hold more than the row."""
    x, w, _, dy = Setting(1, 1, outputs, 4, 9, (1, 3), groups=2).arrays(np.float32)
    x[0, 0, 1, -1] = np.nan
    _, dw, _ = nf.conv2d_backward(dy, x, w, groups=2)
    assert dw is not None
    assert (np.isnan(dw[:outputs, 0, 0]) == [False, False, True]).all()
    assert np.isfinite(dw[outputs:]).all()


def test_no_floating_point_exceptions_are_left() -> None:
    with np.errstate(all="raise"):
        x = np.full((1, 1, 3, 3), np.float32(3e38))
        y = nf.conv2d(x, np.full((1, 1, 3, 3), np.float32(2)))
        assert np.isinf(y).all()
        np.add(1, 1)


def test_sizes_of_zero() -> None:
    w = np.ones((4, 3, 2, 2))
    assert nf.conv2d(np.ones((0, 3, 5, 5)), w).shape == (0, 4, 4, 4)
    dx, dw, db = nf.conv2d_backward(np.ones((0, 4, 4, 4)), np.ones((0, 3, 5, 5)), w)
    assert dx is not None
    assert dx.shape == (0, 3, 5, 5)
    np.testing.assert_array_equal(dw, np.zeros_like(w))
    np.testing.assert_array_equal(db, np.zeros(4))
    x = np.ones((2, 0, 5, 5))
    y = nf.conv2d(x, np.ones((4, 0, 2, 2)), [1, 2, 3, 4])
    np.testing.assert_array_equal(y, np.broadcast_to([[[1]], [[2]], [[3]], [[4]]], (2, 4, 4, 4)))
    assert nf.conv2d(np.ones((2, 3, 5, 5)), w[:0]).shape == (2, 0, 4, 4)
    dx, dw, db = nf.conv2d_backward(np.ones((2, 0, 4, 4)), np.ones((2, 3, 5, 5)), w[:0])
    np.testing.assert_array_equal(dx, np.zeros((2, 3, 5, 5)))
    assert dw is not None
    assert dw.shape == (0, 3, 2, 2)
    assert nf.conv2d(np.ones((2, 3, 0, 5)), w, padding="same").shape == (2, 4, 0, 5)
    y = nf.conv2d(np.ones((2, 3, 0, 5)), w, np.ones(4), padding=(1, 0))
    np.testing.assert_array_equal(y, np.ones((2, 4, 1, 4)))


def test_more_than_there_is_memory_or_time_for() -> None:
    nothing = np.broadcast_to(np.float32(0), (2**40, 1, 0, 5))
    w = np.ones((1, 1, 3, 3), np.float32)
    _, dw, db = nf.conv2d_backward(nothing, nothing, w, padding="same")
    np.testing.assert_array_equal(dw, np.zeros_like(w))
    np.testing.assert_array_equal(db, [0])
    x = np.broadcast_to(np.float32(0), (1, 1, 2**30, 2**30))
    with pytest.raises((MemoryError, ValueError)):
        nf.conv2d(x, x)


def test_what_is_not_needed_is_not_computed() -> None:
    x, w, _, dy = Setting().arrays()
    full = nf.conv2d_backward(dy, x, w)
    for i in range(3):
        need = tuple(j == i for j in range(3))
        gradients = nf.conv2d_backward(dy, x, w, need=need)
        for j, (actual, expected) in enumerate(zip(gradients, full, strict=True)):
            assert (actual is None) == (j != i)
            if actual is not None:
                assert expected is not None
                assert_same_bits(actual, expected)
    assert nf.conv2d_backward(dy, x, w, need=(False, False, False)) == (None, None, None)


def test_inputs_of_other_kinds() -> None:
    assert nf.conv2d([[[[1, 2], [3, 4]]]], [[[[1, 1]]]]).tolist() == [[[[3], [7]]]]
    x, w, b, dy = Setting().arrays()
    half = x.astype(np.float16)
    y = nf.conv2d(half, w.astype(np.float32), b)
    assert y.dtype == np.float16
    expected = nf.conv2d(half.astype(np.float32), w.astype(np.float32), b.astype(np.float32))
    assert_same_bits(y, expected.astype(np.float16))
    dx, dw, db = nf.conv2d_backward(dy, half, w.astype(np.float32))
    assert [each.dtype.name for each in (dx, dw, db) if each is not None] == [
        "float16",
        "float32",
        "float32",
    ]
    assert nf.conv2d(x.astype(np.float32), w).dtype == np.float32
    read_only = x.copy()
    read_only.setflags(write=False)
    assert_same_bits(nf.conv2d(read_only, w), nf.conv2d(x, w))


X, W = np.ones((2, 4, 5, 6)), np.ones((6, 2, 3, 3))


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"x": X[0]}, ValueError, r"x must have shape \(N, C, H, W\), got \(4, 5, 6\)"),
        ({"x": X[0], "axis": -1}, ValueError, r"x must have shape \(N, H, W, C\)"),
        ({"x": 1j * X}, TypeError, "x must be an array of real numbers"),
        (
            {"w": W[:, :1]},
            ValueError,
            r"w must have shape \(out, 2, kh, kw\) .* got \(6, 1, 3, 3\)",
        ),
        ({"w": W[0]}, ValueError, r"w must have shape \(out, 2, kh, kw\)"),
        ({"w": W[:, :, :0]}, ValueError, "w must have .* a kernel of at least 1"),
        ({"w": W[:5]}, ValueError, "groups must divide the output channels of w, 5, got 2"),
        ({"groups": 3}, ValueError, "groups must divide the channels of x, 4, got 3"),
        ({"groups": 0}, ValueError, "groups must be at least 1, got 0"),
        (
            {"w": np.ones((6, 2, 6, 1))},
            ValueError,
            "w must have a kernel that fits into x: at most 5",
        ),
        ({"dilation": (1, 3)}, ValueError, "at most 2 along axis 3 with dilation 3, got shape"),
        ({"b": np.ones(5)}, ValueError, r"b must have shape \(6,\), got \(5,\)"),
        ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ({"stride": 1.0}, TypeError, "stride must be an int, got float"),
        ({"stride": (1, 1, 1)}, ValueError, "stride must be an int or a pair of them, got"),
        ({"stride": 2**31}, ValueError, r"stride must be below 2\*\*31"),
        ({"padding": -1}, ValueError, "padding must be at least 0, got -1"),
        ({"padding": "full"}, ValueError, "padding must be 'same' or 'valid', got 'full'"),
        ({"padding": "same", "stride": (1, 2)}, ValueError, "stride must be 1 with padding"),
        ({"dilation": 0}, ValueError, "dilation must be at least 1"),
        ({"axis": 2}, ValueError, "axis must be 1, or -1 for channels last, got 2"),
        ({"axis": None}, TypeError, "axis must be an int"),
        ({"out": np.ones((2, 6, 3, 4), "f")}, TypeError, "out must have dtype float64"),
        ({"out": np.ones((2, 6, 3, 3))}, ValueError, r"out must have shape \(2, 6, 3, 4\)"),
        ({"out": np.broadcast_to(1.0, (2, 6, 3, 4))}, ValueError, "out must be writeable"),
    ],
)
def test_errors(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nf.conv2d(**{"x": X, "w": W, "groups": 2, **keywords})


DY = np.ones((2, 6, 3, 4))


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"dy": DY[:1]}, ValueError, r"dy must have shape \(2, 6, 3, 4\), got \(1, 6, 3, 4\)"),
        ({"w": W[:, :1]}, ValueError, "w must have shape"),
        ({"need": True}, TypeError, "need must be a tuple of three bools"),
        ({"out": np.ones(3)}, TypeError, "out must be a tuple of three arrays"),
        ({"need": (0, 1, 1), "out": (X.copy(), None, None)}, ValueError, r"out\[0\] must be None"),
        ({"out": (X, None, None)}, ValueError, r"out\[0\] and x must not share memory"),
        ({"out": (None, W, None)}, ValueError, r"out\[1\] and w must not share memory"),
        ({"out": (None, None, np.ones(5))}, ValueError, r"out\[2\] must have shape \(6,\)"),
        ({"out": (None, None, DY[0, :, 0, 0])}, ValueError, r"out\[2\] and dy must not share"),
        ({"out": (None, np.ones(W.shape, "e"), None)}, TypeError, r"out\[1\] must have dtype"),
    ],
)
def test_errors_of_the_gradient_write_nothing(
    keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = keywords.get("out")
    outs = [np.full(shape, 9.0) for shape in (X.shape, W.shape, (6,))]
    if isinstance(given, tuple):
        for i, each in enumerate(given):
            outs[i] = outs[i] if each is None else each
        keywords = keywords | {"out": tuple(outs) if "need" not in keywords else given}
    elif given is None:
        keywords = keywords | ({} if "need" in keywords else {"out": tuple(outs)})
    before = [each.copy() for each in outs]
    with pytest.raises(error, match=message):
        nf.conv2d_backward(**{"dy": DY, "x": X, "w": W, "groups": 2, **keywords})
    for each, was in zip(outs, before, strict=True):
        np.testing.assert_array_equal(each, was)


def test_errors_of_sequences() -> None:
    x, w = np.ones((2, 3, 8)), np.ones((4, 3, 2))
    with pytest.raises(ValueError, match=r"x must have shape \(N, C, L\), got"):
        nf.conv1d(X, w)
    with pytest.raises(ValueError, match=r"w must have shape \(out, 3, k\)"):
        nf.conv1d(x, W)
    with pytest.raises(ValueError, match="stride must be an int or a tuple of one, got"):
        nf.conv1d(x, w, stride=(1, 1))
    with pytest.raises(ValueError, match=r"x must have shape \(N, L, C\)"):
        nf.conv1d(X, w, axis=-1)
    with pytest.raises(ValueError, match="axis must be 1, or -1"):
        nf.conv1d(x, w, axis=3)
    assert nf.conv1d(x.transpose(0, 2, 1), w, axis=2).shape == (2, 7, 4)
