"""Every axis: a row along any of them has the bits that it has by itself, whatever its neighbours hold."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nnfast as nf
from conftest import SAME_BITS_ISAS
from layouts import assert_same_bits
from nnfast._testing import forced

Array = NDArray[Any]
DTYPES = [np.float16, np.float32, np.float64]

# Of (outer, n, inner): lengths of a row about those of vectors, blocks and tiles, and what lies beside it.
SHAPES = [
    *((2, 10, inner) for inner in (1, 2, 7, 16, 33)),
    (3, 1, 7),
    (2, 33, 7),
    (67, 16, 1),
    (9, 24, 2),
    (70, 100, 1),
    (1, 128, 40),
    (2, 600, 17),
    (1, 1100, 16),
    (1, 4, 1024),
]


def made(shape: tuple[int, ...], dtype: type, seed: int, special: bool = False) -> Array:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 3, shape)
    if special:
        flat = x.reshape(-1)
        for value, part in ((-np.inf, 20), (np.inf, 300), (np.nan, 300), (60000, 300)):
            flat[rng.integers(0, flat.size, flat.size // part + 1)] = value
    return x.astype(dtype)


def rows(x: Array) -> list[tuple[int, int]]:
    """Where some rows of (outer, n, inner) are: the first and the last, and others between."""
    outer, _, inner = x.shape
    every = [(o, i) for o in range(outer) for i in range(inner)]
    return every if len(every) < 20 else [*every[:9], *every[9:-9:97], *every[-9:]]


def settings() -> Iterator[ExitStack]:
    """Every instruction set that promises the same bits, on one thread and on some."""
    for isa in SAME_BITS_ISAS:
        for threads, grain in ((1, None), (7, 1)):
            with ExitStack() as stack:
                stack.enter_context(forced(isa=isa, threads=threads, grain=grain))
                stack.enter_context(np.errstate(all="ignore"))
                yield stack


def check(function: Callable[..., Any], *arrays: Array) -> None:
    """function(*arrays, axis) along the middle axis of all, and along the last one of the moved arrays."""
    where = rows(arrays[0])
    with np.errstate(all="ignore"):
        alone = [function(*(a[o, :, i].copy() for a in arrays), -1) for o, i in where]
    moved = [np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in arrays]
    for _ in settings():
        results = [function(*arrays, 1), np.moveaxis(np.asarray(function(*moved, -1)), -1, 1)]
        results.append(function(*(np.asfortranarray(a) for a in arrays), 1))
        for y in results:
            for (o, i), row in zip(where, alone, strict=True):
                assert_same_bits(y[o, :, i], row)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax(shape: tuple[int, int, int], dtype: type) -> None:
    for special in (False, True):
        x, dy = made(shape, dtype, 1, special), made(shape, dtype, 2)
        for name in ("softmax", "log_softmax", "sparsemax"):
            forward, backward = getattr(nf, name), getattr(nf, f"{name}_backward")
            check(lambda v, axis, forward=forward: forward(v, axis), x)
            with np.errstate(all="ignore"):
                y = forward(x, 1)
            check(lambda d, v, axis, backward=backward: backward(d, v, axis), dy, y)
        check(lambda v, axis: nf.logsumexp(v, axis, keepdims=True), x)
        check(
            lambda v, g, axis: nf.logsumexp_backward(g.take([0], axis), v, axis, keepdims=True),
            x,
            dy,
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_in_place_and_into_other_layouts(dtype: type) -> None:
    x = made((3, 20, 11), dtype, 3)
    for axis in (0, 1, -1):
        y, total = nf.softmax(x, axis), nf.logsumexp(x, axis)
        place = x.copy()
        assert nf.softmax(place, axis, out=place) is place
        assert_same_bits(place, y)
        out = np.empty((*total.shape, 2), dtype)[..., 1]
        assert nf.logsumexp(x, axis, out=out) is out
        assert_same_bits(out, total)
        wide = np.empty((*x.shape, 2), dtype)[..., 0]
        assert nf.softmax(x[::-1], axis, out=wide) is wide
        assert_same_bits(wide, nf.softmax(x[::-1].copy(), axis))
        # Into memory that it overlaps, as NumPy's functions do.
        both = np.concatenate([x, x])
        nf.softmax(both[1 : 1 + len(x)], axis, out=both[: len(x)])
        assert_same_bits(both[: len(x)], nf.softmax(np.concatenate([x[1:], x[:1]]), axis))
        assert nf.softmax(np.asfortranarray(x), axis).flags.f_contiguous


@pytest.mark.parametrize("name", ["glu", "geglu", "swiglu"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("half", [1, 35])
@pytest.mark.parametrize("inner", [1, 2, 7, 16, 1024])
def test_gates(name: str, dtype: type, half: int, inner: int) -> None:
    x, dy = made((3, 2 * half, inner), dtype, 4, True), made((3, half, inner), dtype, 5)
    function, backward = getattr(nf, name), getattr(nf, f"{name}_backward")
    check(function, x)
    twice = np.concatenate([dy, dy], axis=1)
    check(lambda g, v, axis: backward(g.take(range(half), axis), v, axis), twice, x)
    out = np.empty((3, half, inner, 2), dtype)[..., 1]
    with np.errstate(all="ignore"):
        assert function(x, 1, out=out) is out
        assert_same_bits(out, function(x, 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pieces", [2, 7])
@pytest.mark.parametrize("inner", [1, 2, 7, 16, 1024])
def test_maxout(dtype: type, pieces: int, inner: int) -> None:
    x = made((3, 5 * pieces, inner), dtype, 6, True)
    groups = x.reshape(3, 5, pieces, inner)
    largest = groups.max(axis=2)
    held = np.where(np.isnan(groups), np.inf, groups)
    first = np.where(np.isnan(largest), np.isnan(groups).argmax(axis=2), held.argmax(axis=2))
    dy = made((3, 5, inner), dtype, 7)
    expected = np.where(np.arange(pieces)[:, None] == first[:, :, None], dy[:, :, None], 0)
    for _ in settings():
        y, which = nf.maxout(x, pieces, 1)
        assert_same_bits(y, largest)
        np.testing.assert_array_equal(which, first)
        assert_same_bits(
            nf.maxout_backward(dy, which, pieces, 1), expected.reshape(x.shape).astype(dtype)
        )
        turned = np.asfortranarray(x)
        assert_same_bits(nf.maxout(turned, pieces, 1)[0], largest)
        assert_same_bits(
            nf.maxout_backward(np.asfortranarray(dy), which, pieces, 1),
            expected.reshape(x.shape).astype(dtype),
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layer_norm(shape: tuple[int, int, int], dtype: type) -> None:
    n = shape[1]
    parameter = np.float64 if dtype == np.float64 else np.float32
    x, dy = made(shape, dtype, 8), made(shape, dtype, 9)
    gamma, beta = made((n,), parameter, 10), made((n,), parameter, 11)
    check(lambda v, axis: nf.layer_norm(v, gamma, beta, axis=axis)[0], x)
    check(lambda v, axis: nf.rms_norm(v, gamma, axis=axis)[0], x)
    moved = [np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (dy, x)]
    saved, rms_saved = nf.layer_norm(moved[1], gamma)[1], nf.rms_norm(moved[1], gamma)[1]
    expected = nf.layer_norm_backward(*moved, gamma, saved)
    rms_expected = nf.rms_norm_backward(*moved, gamma, rms_saved)
    for _ in settings():
        saved, rms_saved = nf.layer_norm(x, gamma, axis=1)[1], nf.rms_norm(x, gamma, axis=1)[1]
        for given, wanted in (
            (nf.layer_norm_backward(dy, x, gamma, saved), expected),
            (nf.rms_norm_backward(dy, x, gamma, rms_saved), rms_expected),
        ):
            assert_same_bits(np.moveaxis(given[0], 1, -1), wanted[0])
            for gradient, desired in zip(given[1:], wanted[1:], strict=True):
                assert_same_bits(gradient, desired)
        place = dy.copy()
        assert nf.layer_norm_backward(place, x, gamma, saved, out=(place, None, None))[0] is place
        assert_same_bits(np.moveaxis(place, 1, -1), expected[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_losses(shape: tuple[int, int, int], dtype: type) -> None:
    rng = np.random.default_rng(12)
    z = made(shape, dtype, 13)
    labels = rng.integers(0, shape[1], (shape[0], shape[2]))
    targets = nf.softmax(made(shape, dtype, 14), 1)
    p = nf.softmax(z, 1)
    moved = [np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (z, targets, p)]
    calls = [
        (nf.softmax_cross_entropy, (z, labels), (moved[0], labels)),
        (nf.softmax_cross_entropy, (z, targets), (moved[0], moved[1])),
        (nf.cross_entropy, (p, labels), (moved[2], labels)),
        (nf.svm_loss, (z, labels), (moved[0], labels)),
    ]
    expected = [function(*last) for function, _, last in calls]
    for _ in settings():
        for (function, arguments, _), (loss, slopes) in zip(calls, expected, strict=True):
            value, made_slopes = function(*arguments, axis=1)
            assert value == loss
            assert_same_bits(np.moveaxis(made_slopes, 1, -1), slopes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_masked_softmax(shape: tuple[int, int, int], dtype: type) -> None:
    x, dy = made(shape, dtype, 15), made(shape, dtype, 16)
    mask = np.random.default_rng(17).random(shape) < 0.7
    moved = [np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, dy, mask)]
    for causal in (False, True):
        expected = nf.masked_softmax(moved[0], moved[2], scale=0.5, causal=causal)
        expected_dx = nf.masked_softmax_backward(moved[1], expected, scale=0.5)
        for _ in settings():
            y = nf.masked_softmax(x, mask, scale=0.5, causal=causal, axis=1)
            assert_same_bits(np.moveaxis(y, 1, -1), expected)
            dx = nf.masked_softmax_backward(dy, y, scale=0.5, axis=1)
            assert_same_bits(np.moveaxis(dx, 1, -1), expected_dx)
            place = x.copy()
            assert (
                nf.masked_softmax(place, mask, scale=0.5, causal=causal, axis=1, out=place) is place
            )
            assert_same_bits(place, y)
