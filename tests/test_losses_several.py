"""Losses of several gradients: Gaussian likelihood, cosine embedding, triplet margin."""

from functools import partial
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

Array = NDArray[Any]
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
REDUCTIONS = ("mean", "sum", "none")


def reduced(each: Array, weight: Array | None, reduction: str) -> Any:
    weight = np.ones(each.shape) if weight is None else weight
    total = weight.sum()
    rows = np.where(weight == 0, 0, each * weight)
    if reduction == "mean":
        return rows.sum() / total if total else 0.0
    return rows.sum() if reduction == "sum" else rows


def gaussian(x: Array, t: Array, v: Array, eps: float = 1e-6, full: bool = False) -> Array:
    v = np.maximum(v, eps)
    return (np.log(v) + (x - t) ** 2 / v) / 2 + full * np.log(2 * np.pi) / 2


def cosine(x1: Array, x2: Array, t: Array, margin: float = 0) -> Array:
    product = (x1 * x2).sum(-1)
    both = product / np.sqrt(((x1**2).sum(-1) + 1e-12) * ((x2**2).sum(-1) + 1e-12))
    return np.where(t == 1, 1 - both, np.maximum(0, both - margin))


def triplet(
    a: Array, b: Array, c: Array, p: float = 2, eps: float = 1e-6, swap: bool = False
) -> Array:
    def distance(x: Array, y: Array) -> Array:
        return (np.abs(x - y + eps) ** p).sum(-1) ** (1 / p)

    far = distance(a, c)
    if swap:
        far = np.minimum(far, distance(b, c))
    return np.maximum(0, 1 + distance(a, b) - far)


def inputs(name: str, shape: tuple[int, ...], dtype: type, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    x, y, z = rng.normal(0, 1, (3, *shape)).astype(dtype)
    if name == "gaussian_nll_loss":
        return [x, y, z * z]
    if name == "cosine_embedding_loss":
        return [x, y, rng.choice([-1, 1], shape[:-1])]
    return [x, y, z]


CASES: dict[str, tuple[Any, list[dict[str, Any]], int]] = {
    # The reference, options, how many arrays have gradients.
    "gaussian_nll_loss": (gaussian, [{}, {"full": True}, {"eps": 0.5}], 0b101),
    "cosine_embedding_loss": (cosine, [{}, {"margin": 0.25}], 0b11),
    "triplet_margin_loss": (
        triplet,
        [{}, {"p": 1.0}, {"p": 3.0, "swap": True}, {"swap": True}, {"eps": 1e-3}],
        0b111,
    ),
}
every = pytest.mark.parametrize("name", CASES)


@every
@both_dtypes
@settings(max_examples=15)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_value(engine: str, name: str, dtype: type, data: Any, seed: int) -> None:
    reference, choices, _ = CASES[name]
    shape = data.draw(st.sampled_from([(1, 1), (5, 3), (2, 3, 17), (40, 33), (3, 2500)]))
    arrays = inputs(name, shape, dtype, seed)
    options = data.draw(st.sampled_from(choices))
    reduction = data.draw(st.sampled_from(REDUCTIONS))
    of_losses = shape if name.startswith("gauss") else shape[:-1]
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 3, of_losses) / 2 if data.draw(st.booleans()) else None
    loss, *gradients = getattr(nf, name)(
        *arrays, **options, sample_weight=weight, reduction=reduction
    )
    each = reference(*(array.astype(float) for array in arrays), **options)
    eps = float(np.finfo(dtype).eps)
    size = float(np.abs(each).max() + 3)
    np.testing.assert_allclose(
        loss, reduced(each, weight, reduction), rtol=20 * eps, atol=20 * eps * size
    )
    for gradient in gradients:
        assert gradient.dtype == dtype
        assert gradient.shape == shape


@every
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_numerically(name: str, reduction: str) -> None:
    _, choices, which = CASES[name]
    arrays = inputs(name, (4, 3), np.float64, 3)
    if name.startswith("gauss"):
        arrays[2] += 0.6  # beyond the least variance
    for options in choices:
        call = partial(
            getattr(nf, name), **options, reduction=reduction, sample_weight=[1, 0.5, 2, 0]
        )
        _, *gradients = call(*arrays)
        places = [k for k in range(3) if which >> k & 1]
        for k, gradient in zip(places, gradients, strict=True):
            assert_gradient(
                gradient,
                lambda v, k=k, call=call: call(*arrays[:k], v, *arrays[k + 1 :])[0],
                arrays[k],
            )


@every
@both_dtypes
def test_bits(name: str, dtype: type) -> None:
    function = getattr(nf, name)
    arrays = inputs(name, (9, 130), dtype, 1)
    weight = np.random.default_rng(1).random(9)
    loss, *gradients = function(*arrays, sample_weight=weight)
    for isa in SAME_BITS_ISAS:
        for threads in (1, 3):
            with forced(isa=isa, threads=threads, grain=1):
                again = function(*arrays, sample_weight=weight)
            assert again[0] == loss
            for found, expected in zip(again[1:], gradients, strict=True):
                assert_same_bits(found, expected)
    for laid, *rest in zip(*(layouts(a).values() for a in arrays if a.ndim == 2), strict=True):
        given = [laid, *rest, *(a for a in arrays if a.ndim != 2)]
        again = function(*given, sample_weight=weight)
        assert again[0] == loss
        for found, expected in zip(again[1:], gradients, strict=True):
            assert_same_bits(np.ascontiguousarray(found), expected)


def test_broadcast_variances() -> None:
    x, t, v = inputs("gaussian_nll_loss", (4, 5), np.float64, 2)
    for of_one in (v[:1], v[:, :1], v[0], v[0, 0]):
        loss, dx, dv = nf.gaussian_nll_loss(x, t, of_one)
        whole = nf.gaussian_nll_loss(x, t, np.broadcast_to(of_one, x.shape))
        assert loss == whole[0]
        np.testing.assert_array_equal(dx, whole[1])
        axes = {(1, 5): 0, (4, 1): 1, (5,): 0, (): None}[np.shape(of_one)]
        expected = whole[2].sum(axis=axes).reshape(np.shape(of_one))
        np.testing.assert_allclose(dv, expected, rtol=1e-14)


@pytest.mark.parametrize("axis", [0, 1, 2, -3])
def test_embeddings_along_any_axis(axis: int) -> None:
    rows = inputs("triplet_margin_loss", (4, 3, 6), np.float64, 2)
    moved = [np.moveaxis(array, -1, axis) for array in rows]
    for function, extra in (
        (nf.triplet_margin_loss, {}),
        (nf.cosine_embedding_loss, {}),
    ):
        arrays, at_axis = (
            (rows, moved) if function is nf.triplet_margin_loss else (rows[:2], moved[:2])
        )
        if function is nf.cosine_embedding_loss:
            extra = {"targets": np.random.default_rng(0).choice([-1, 1], (4, 3))}
        loss, *gradients = function(*arrays, **extra)
        again, *others = function(*at_axis, axis=axis, **extra)
        assert again == loss
        for gradient, other in zip(gradients, others, strict=True):
            np.testing.assert_array_equal(np.moveaxis(other, axis, -1), gradient)


@every
@both_dtypes
def test_weights_of_0_and_nan(name: str, dtype: type) -> None:
    arrays = inputs(name, (4, 3), dtype, 5)
    if name.startswith("gauss"):
        arrays[2] += 1
    function = getattr(nf, name)
    loss, *gradients = function(*arrays)
    for k in range(2):
        broken = [array.copy() for array in arrays]
        broken[k][1] = np.nan
        with np.errstate(all="raise"):
            found, *slopes = function(*broken)
            assert np.isnan(found)
            assert any(np.isnan(slope[1]).any() for slope in slopes)
            for slope in slopes:
                assert np.isfinite(slope[[0, 2, 3]]).all()
            found, *slopes = function(*broken, sample_weight=[1, 0, 1, 1], reduction="sum")
        assert np.isfinite(found)
        for slope in slopes:
            assert not slope[1].any()
            assert np.isfinite(slope).all()
    loss, *gradients = function(*arrays, sample_weight=np.zeros(4))
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients)


@both_dtypes
def test_limits(dtype: type) -> None:
    zeros = np.zeros((1, 3), dtype)
    with np.errstate(all="raise"):
        loss, dx1, dx2 = nf.cosine_embedding_loss(zeros, zeros, [1])
        assert loss == 1
        assert not np.any([dx1, dx2])
        # Squares that are no float32.
        big = np.full((1, 3), 1e30, dtype)
        loss, dx1, _ = nf.cosine_embedding_loss(big, big, [1])
        assert loss == pytest.approx(0, abs=1e-15)
        np.testing.assert_allclose(dx1, 0, atol=1e-36)
        loss, da, dp, dn = nf.triplet_margin_loss(zeros, zeros, zeros, eps=0)
        assert loss == 1
        assert not np.any([da, dp, dn])
        # A variance of 0 is eps.
        loss, _, dv = nf.gaussian_nll_loss(zeros, zeros, 0.0, eps=0.25)
        assert loss == pytest.approx(np.log(0.25) / 2)
        assert dv == pytest.approx(2)
        loss, dx, _ = nf.gaussian_nll_loss(np.full(2, 1e30, dtype), np.zeros(2, dtype), 1.0)
        assert loss == pytest.approx(5e59, rel=1e-6)
        np.testing.assert_allclose(dx, 5e29, rtol=1e-6)


ONES = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nf.gaussian_nll_loss(ONES, ONES, -ONES),
            ValueError,
            "variances must not be negative, got -1",
        ),
        (lambda: nf.gaussian_nll_loss(ONES, ONES, ONES, eps=0), ValueError, "eps must be positive"),
        (
            lambda: nf.gaussian_nll_loss(ONES, ONES[0], ONES),
            ValueError,
            "targets must have the shape",
        ),
        (
            lambda: nf.gaussian_nll_loss(ONES, ONES, np.ones(2)),
            ValueError,
            "variances must broadcast",
        ),
        (
            lambda: nf.gaussian_nll_loss(ONES, ONES, ONES, reduction="x"),
            ValueError,
            "reduction must be",
        ),
        (
            lambda: nf.cosine_embedding_loss(ONES, ONES, [1, 0]),
            ValueError,
            "targets must be 1 or -1, got 0",
        ),
        (
            lambda: nf.cosine_embedding_loss(ONES, ONES, [1]),
            ValueError,
            r"targets must have shape \(2,\)",
        ),
        (
            lambda: nf.cosine_embedding_loss(ONES, ONES[:1], [1, 1]),
            ValueError,
            "x2 must have the shape of x1",
        ),
        (
            lambda: nf.cosine_embedding_loss(ONES, ONES, [1, 1], margin=2),
            ValueError,
            "margin must be in",
        ),
        (
            lambda: nf.triplet_margin_loss(ONES, ONES, ONES, margin=0),
            ValueError,
            "margin must be positive",
        ),
        (
            lambda: nf.triplet_margin_loss(ONES, ONES, ONES, p=0.5),
            ValueError,
            "p must be at least 1",
        ),
        (
            lambda: nf.triplet_margin_loss(ONES, ONES, ONES * 1j),
            TypeError,
            "negatives must be an array of real",
        ),
        (
            lambda: nf.triplet_margin_loss(ONES, ONES, ONES, axis=2),
            ValueError,
            "axis",
        ),
        (
            lambda: nf.triplet_margin_loss(ONES, ONES, ONES, sample_weight=[1, -1]),
            ValueError,
            "sample_weight must not be negative",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@both_dtypes
def test_triplets_have_the_bits_of_the_general_way(dtype: type) -> None:
    """Where positive and negative are farther apart than anchor and negative, swap changes nothing."""
    rng = np.random.default_rng(5)
    a, p = rng.normal(0, 1, (2, 9, 70)).astype(dtype)
    a[3] = p[3]
    n = (a + 0.3 * (a - p)).astype(dtype)
    weight = rng.integers(0, 3, 9) / 2
    for options in ({}, {"eps": 0.0}, {"margin": 0.5, "sample_weight": weight}):
        plain = nf.triplet_margin_loss(a, p, n, **options)
        swapped = nf.triplet_margin_loss(a, p, n, swap=True, **options)
        assert plain[0] == swapped[0]
        for one, other in zip(plain[1:], swapped[1:], strict=True):
            assert_same_bits(one, other)
