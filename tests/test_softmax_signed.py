"""softmin, and logsumexp with factors and the sign of the sum."""

from typing import Any

import mpmath
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

Array = NDArray[Any]
every_dtype = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
AXES = (0, 1, -1, (0, 2), None)


@every_dtype
@pytest.mark.parametrize("axis", AXES)
def test_softmin_is_softmax_of_minus_x(isa: str, dtype: type, axis: Any) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.normal(0, 3, (2, 3, 4, 40)).astype(dtype)
    y = nf.softmin(x, axis)
    assert_same_bits(y, nf.softmax(-x, axis))
    dx = nf.softmin_backward(dy, y, axis)
    assert_same_bits(dx, -nf.softmax_backward(dy, y, axis))
    assert_same_bits(nf.softmin_backward(dy, x=x, axis=axis), dx)
    for laid in layouts(x).values():
        out = np.empty_like(laid)
        assert nf.softmin(laid, axis, out=out) is out
        assert_same_bits(np.ascontiguousarray(out), y)
        assert nf.softmin(laid, axis, out=laid) is laid
        assert_same_bits(np.ascontiguousarray(laid), y)


@every_dtype
def test_softmin_of_short_rows(dtype: type) -> None:
    x = np.random.default_rng(2).normal(0, 3, (50, 40)).astype(dtype)
    for n in (1, 5, 31, 32, 33):
        assert_same_bits(nf.softmin(x[:, :n]), nf.softmax(-x[:, :n]))


def test_softmin_of_what_is_no_float_array() -> None:
    expected = nf.softmax([-1.0, -2.0, -3.0])
    for x in ([1, 2, 3], np.array([1, 2, 3], np.uint8), (1.0, 2.0, 3.0)):
        np.testing.assert_allclose(nf.softmin(x), expected, rtol=1e-6)
    x = np.array([1.0, 2.0, 3.0], ">f8")
    np.testing.assert_array_equal(nf.softmin(x), expected)
    assert nf.softmin(np.zeros((0, 3))).shape == (0, 3)
    np.testing.assert_array_equal(nf.softmin([1.0, -np.inf]), [0, 1])
    with pytest.raises(TypeError, match="x must be an array of real"):
        nf.softmin([1j])
    with pytest.raises(TypeError, match="MaskedArray"):
        nf.softmin(np.ma.array([1.0]))
    with pytest.raises(ValueError, match="axis"):
        nf.softmin(np.zeros(3), 1)


def test_softmin_gradient_numerically() -> None:
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(2, 3, 5))
    dx = nf.softmin_backward(w, nf.softmin(x))
    assert_gradient(dx, lambda v: float((w * nf.softmin(v)).sum()), x)


def exact(x: Array, b: Array) -> tuple[float, float]:
    with mpmath.workdps(60):
        terms = (
            mpmath.mpf(float(w)) * mpmath.exp(mpmath.mpf(float(v)))
            for v, w in zip(x, b, strict=True)
        )
        total = mpmath.fsum(terms)
        if total == 0:
            return -np.inf, 0.0
        return float(mpmath.log(abs(total))), float(mpmath.sign(total))


@every_dtype
@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 60), seed=st.integers(0, 2**32), signed=st.booleans())
def test_factors(dtype: type, n: int, seed: int, signed: bool) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 5, n).astype(dtype)
    b = rng.integers(0, 4, n).astype(dtype)
    if signed:
        b *= rng.choice([-1, 1], n)
    y, sign = nf.logsumexp(x, b=b, return_sign=True)
    assert y.dtype == sign.dtype == dtype
    log, expected_sign = exact(x, b)
    eps = float(np.finfo(dtype).eps)
    if signed:  # where terms cancel, what is lost is relative to their size
        size = np.exp(exact(x, np.abs(b))[0] - max(log, -100))
        assert y == pytest.approx(log, rel=2 * eps, abs=8 * 2.3e-16 * size + 1e-15)
    else:
        assert y == pytest.approx(log, rel=2 * eps, abs=1e-15)
    if not signed or size < 1e10:
        assert sign == expected_sign
    without = nf.logsumexp(x, b=b)
    np.testing.assert_array_equal(without, np.nan if sign < 0 else y)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("keepdims", [False, True])
def test_axes_and_bits(axis: Any, keepdims: bool) -> None:
    rng = np.random.default_rng(3)
    x, b = rng.normal(0, 3, (2, 3, 4, 17))
    y, sign = nf.logsumexp(x, axis, b=b, keepdims=keepdims, return_sign=True)
    total = (b * np.exp(x)).sum(axis=axis, keepdims=keepdims)
    assert np.shape(y) == np.shape(sign) == np.shape(total)
    np.testing.assert_allclose(y, np.log(np.abs(total)), rtol=1e-12)
    np.testing.assert_array_equal(sign, np.sign(total))
    for laid, laid_b in zip(layouts(x).values(), layouts(b).values(), strict=True):
        again, _ = nf.logsumexp(laid, axis, b=laid_b, keepdims=keepdims, return_sign=True)
        assert_same_bits(np.asarray(again), np.asarray(y))
    if np.ndim(y):
        out = np.empty_like(y)
        assert nf.logsumexp(x, axis, b=b, keepdims=keepdims, return_sign=True, out=out)[0] is out
        assert_same_bits(out, y)
    plain, ones = nf.logsumexp(x, axis, keepdims=keepdims, return_sign=True)
    np.testing.assert_allclose(plain, nf.logsumexp(x, axis, keepdims=keepdims), atol=1e-15)
    assert (ones == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 4, 100, 3000])
def test_factors_have_the_same_bits_everywhere(dtype: type, n: int) -> None:
    rng = np.random.default_rng(n)
    x, b = rng.normal(0, 3, (2, 37, n)).astype(dtype)
    x[1, 0], x[2, -1], b[3] = np.inf, np.nan, 0
    b[4] *= 1e-40 if dtype == np.float32 else 1e-303
    y, sign = nf.logsumexp(x, b=b, return_sign=True)
    wide = np.longdouble
    with np.errstate(all="ignore"):
        terms = b.astype(wide) * np.exp(x.astype(wide))
        total = terms.sum(axis=1)
        expected = np.log(np.abs(total))
        lost = np.abs(terms).sum(axis=1) / np.abs(total)  # where terms cancel
    rows = np.isfinite(expected)
    bound = (4 * lost * np.finfo(float).eps + 2 * np.finfo(dtype).eps)[rows]
    assert (np.abs(y[rows] - expected[rows]) <= bound * np.maximum(1, np.abs(expected[rows]))).all()
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_array_equal(sign[rows], np.sign(total)[rows])
    for isa in SAME_BITS_ISAS:
        for threads in (1, 7):
            with forced(isa=isa, threads=threads, grain=1):
                again = nf.logsumexp(x, b=b, return_sign=True)
                assert_same_bits(again[0], y)
                assert_same_bits(again[1], sign)
                # A column of factors, and other layouts.
                one = nf.logsumexp(x, b=b[:, :1], return_sign=True)[0]
                assert_same_bits(one, nf.logsumexp(x, b=b[:, :1].repeat(n, 1), return_sign=True)[0])
                turned = nf.logsumexp(x.T.copy(), 0, b=np.asfortranarray(b).T, return_sign=True)
                assert_same_bits(turned[0], y)


def test_limits() -> None:
    inf, nan = np.inf, np.nan
    with np.errstate(all="raise"):
        for x, b, y, sign in (
            ([1, nan, inf], [1, 0, 0], 1, 1),
            ([1, 1], [1, -1], -inf, 0),
            ([1, 2], [0, 0], -inf, 0),
            ([-inf, -inf], [1, -1], -inf, 0),
            ([inf, 1], [1, 1], inf, 1),
            ([inf, 1], [-2, 1], inf, -1),
            ([inf, inf], [1, -1], nan, nan),
            ([nan, 1], [1, 1], nan, nan),
            ([inf, 1000], [-2, 1], inf, -1),
            ([-inf, 1], [3, 2], 1 + np.log(2), 1),
            ([0, 1], [1, nan], nan, nan),
            ([1000, 1000], [0.5, 0.5], 1000, 1),
            ([-1000, -1000], [-1, -1], -1000 + np.log(2), -1),
        ):
            found = nf.logsumexp(np.array(x, float), b=b, return_sign=True)
            np.testing.assert_allclose(found, (y, sign), rtol=1e-15)
        assert nf.logsumexp(np.zeros(0), b=1.0) == -inf
        # A sum of nearly one term keeps the digits of the others.
        assert nf.logsumexp([0.0, -80.0], b=[1.0, -2.0]) == pytest.approx(
            -2 * np.exp(-80), rel=1e-15, abs=0
        )


def test_dtypes_and_broadcasting() -> None:
    x = np.zeros((4, 1), np.float32)
    assert nf.logsumexp(x, b=2.0).dtype == np.float32
    assert nf.logsumexp(x, b=np.array([2])).dtype == np.float32
    assert nf.logsumexp(x, b=np.ones(3)).dtype == np.float64
    assert nf.logsumexp(x, b=np.ones(3)).shape == (4,)
    assert nf.logsumexp(x, None, b=np.ones((2, 4, 3)), keepdims=True).shape == (1, 1, 1)


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("keepdims", [False, True])
def test_gradient(axis: Any, keepdims: bool) -> None:
    rng = np.random.default_rng(4)
    x, b = rng.normal(size=(2, 3, 5))
    b[0, 0] = 0
    w = rng.normal(size=np.shape(nf.logsumexp(x, axis, keepdims=keepdims)))
    dx = nf.logsumexp_backward(w, x, axis, b=b, keepdims=keepdims)

    def loss(v: Array) -> float:
        return float((w * nf.logsumexp(v, axis, b=b, keepdims=keepdims, return_sign=True)[0]).sum())

    assert_gradient(dx, loss, x)
    np.testing.assert_allclose(
        nf.logsumexp_backward(w, x, axis, b=np.ones(5), keepdims=keepdims),
        nf.logsumexp_backward(w, x, axis, keepdims=keepdims),
        rtol=1e-13,
    )
    # x that was broadcast.
    few = x[:, :1].copy()
    up = np.ones(np.shape(nf.logsumexp(few, axis, b=b, keepdims=keepdims)))
    dx = nf.logsumexp_backward(up, few, axis, b=b, keepdims=keepdims)
    assert_gradient(
        dx, lambda v: float(np.sum(nf.logsumexp(v, axis, b=b, return_sign=True)[0])), few
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nf.logsumexp([1.0, 2.0], b=[1.0, 2.0, 3.0]), ValueError, "b must broadcast with"),
        (lambda: nf.logsumexp([1.0], b=["a"]), TypeError, "b must be an array of real"),
        (lambda: nf.logsumexp([1j], b=[1.0]), TypeError, "x must be an array of real"),
        (lambda: nf.logsumexp([1.0], b=np.ma.array([1.0])), TypeError, "MaskedArray"),
        (lambda: nf.logsumexp([1.0], b=[1.0], where=True), TypeError, "only dtype and casting"),
        (lambda: nf.logsumexp([1.0], 1, b=[1.0]), ValueError, "axis"),
        (
            lambda: nf.logsumexp([1.0], b=[1.0], out=np.zeros(3)),
            ValueError,
            r"out must have shape \(\), got \(3,\)",
        ),
        (
            lambda: nf.logsumexp_backward(np.ones(2), [1.0, 2.0], b=[1.0, 1.0]),
            ValueError,
            "dy must broadcast",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(20))
def test_scipy(seed: int) -> None:
    from scipy.special import logsumexp

    rng = np.random.default_rng(seed)
    x = rng.normal(0, 10 ** rng.uniform(-1, 2.5), (5, 7))
    b = rng.normal(size=(5, 7)) * (rng.random((5, 7)) < 0.8)
    for axis in (0, 1, None, (0, 1)):
        for keepdims in (False, True):
            ours = nf.logsumexp(x, axis, b=b, keepdims=keepdims, return_sign=True)
            theirs = logsumexp(x, axis, b=b, keepdims=keepdims, return_sign=True)
            np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
            np.testing.assert_array_equal(ours[1], theirs[1])
            ours = nf.logsumexp(x, axis, b=b, keepdims=keepdims)
            np.testing.assert_allclose(ours, logsumexp(x, axis, b=b, keepdims=keepdims), rtol=1e-12)


@pytest.mark.peers
def test_softmin_of_pytorch() -> None:
    import torch

    x, dy = np.random.default_rng(0).normal(0, 3, (2, 4, 9))
    leaf = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.softmin(leaf, 0)
    y.backward(torch.tensor(dy))
    ours = nf.softmin(x, 0)
    np.testing.assert_allclose(ours, y.detach().numpy(), rtol=1e-14)
    np.testing.assert_allclose(nf.softmin_backward(dy, ours, 0), leaf.grad.numpy(), atol=1e-15)
