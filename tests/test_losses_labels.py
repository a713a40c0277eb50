"""Losses of labels beside the cross-entropies: the likelihood, squared hinges, weights of classes, focal loss."""

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
NAMES = ("nll_loss", "svm_loss", "svm_loss squared", "softmax_focal_loss")


def called(name: str) -> tuple[Any, dict[str, Any]]:
    plain, *squared = name.split()
    return getattr(nf, plain), {"squared": True} if squared else {}


def rows_of(name: str, x: Array, labels: Array, gamma: float = 2) -> tuple[Array, Array]:
    """Loss and gradient of each row, classes last, in float64."""
    hot = np.eye(x.shape[-1])[labels]
    if name == "nll_loss":
        return -(x * hot).sum(axis=-1), -hot
    if name.startswith("svm"):
        over = np.maximum(0, x - (x * hot).sum(axis=-1, keepdims=True) + 1) * (1 - hot)
        slopes = 2 * over if name.endswith("squared") else (over > 0).astype(float)
        each = (over**2 if name.endswith("squared") else over).sum(axis=-1)
        return each, slopes - hot * slopes.sum(axis=-1, keepdims=True)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    wrong = (p * (1 - hot)).sum(axis=-1)
    right = (p * hot).sum(axis=-1)
    log = np.where(wrong < 0.5, np.log1p(-np.minimum(wrong, 0.5)), np.log(right))
    slope = wrong**gamma - gamma * wrong ** (gamma - 1) * right * log
    return -(wrong**gamma) * log, slope[..., None] * (p * (1 - hot) - hot * wrong[..., None])


@both_dtypes
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_value_and_gradient(engine: str, name: str, dtype: type, data: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = data.draw(st.sampled_from([(1,), (5,), (4, 3), (2, 3, 4), (70,)]))
    classes = data.draw(st.integers(2, 40))
    axis = data.draw(st.integers(-len(rows) - 1, len(rows)))
    x = rng.normal(0, 2, (*rows, classes)).astype(dtype)
    labels = rng.integers(0, classes, rows)
    given_labels, weight = labels, np.ones(rows)
    function, options = called(name)
    reduction = options["reduction"] = data.draw(st.sampled_from(REDUCTIONS))
    if data.draw(st.booleans()):
        options["class_weight"] = class_weight = rng.integers(0, 3, classes) / 2
        weight = weight * class_weight[labels]
    if not name.startswith("svm") and data.draw(st.booleans()):
        ignored = rng.random(rows) < 0.3
        options["ignore_index"] = -100
        given_labels, weight = np.where(ignored, -100, labels), weight * ~ignored
    if data.draw(st.booleans()):
        given_weight = rng.integers(0, 4, data.draw(st.sampled_from([rows, rows[:1]]))) / 2
        options["sample_weight"] = given_weight
        weight = weight * given_weight.reshape(
            given_weight.shape + (1,) * (len(rows) - given_weight.ndim)
        )
    each, slopes = rows_of(name, x.astype(float), labels)
    total = float(weight.sum()) if reduction == "mean" else 1.0
    scale = 1 / total if total else 0.0
    expected = each * weight if reduction == "none" else (each * weight).sum() * scale
    laid = np.ascontiguousarray(np.moveaxis(x, -1, axis))
    loss, dx = function(laid, given_labels, axis=axis, **options)
    eps = float(np.finfo(dtype).eps)
    size = float(np.abs(each).max(initial=1) * weight.max(initial=1)) * classes
    np.testing.assert_allclose(loss, expected, rtol=20 * eps, atol=8 * size * eps)
    assert dx.dtype == dtype
    np.testing.assert_allclose(
        np.moveaxis(dx, axis, -1),
        slopes * weight[..., None] * scale,
        rtol=40 * eps,
        # The entropy of a row that is nearly certain is known to an ulp of 1.
        atol=40 * eps * (np.abs(slopes).max() + 1e-3) * weight.max() * scale,
    )
    again, in_place = function(laid, given_labels, axis=axis, out=laid, **options)
    assert in_place is laid
    assert_same_bits(np.asarray(again), np.asarray(loss))
    assert_same_bits(laid, dx)


@both_dtypes
@pytest.mark.parametrize("name", NAMES)
def test_bits(name: str, dtype: type) -> None:
    rng = np.random.default_rng(2)
    function, options = called(name)
    options["sample_weight"] = rng.random(23)
    for classes in (3, 37, 600):
        x, labels = rng.normal(0, 3, (23, classes)).astype(dtype), rng.integers(0, classes, 23)
        loss, dx = function(x, labels, **options)
        for isa in SAME_BITS_ISAS:
            for threads in (1, 3):
                with forced(isa=isa, threads=threads, grain=1):
                    again = function(x, labels, **options)
                assert again[0] == loss
                assert_same_bits(again[1], dx)
        for laid in layouts(x).values():
            again = function(laid, labels, out=laid, **options)
            assert again[0] == loss
            assert_same_bits(laid, dx)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_numerically(name: str) -> None:
    rng = np.random.default_rng(1)
    x, labels = rng.normal(0, 2, (4, 6)), rng.integers(0, 6, 4)
    function, options = called(name)
    options |= {"class_weight": np.linspace(0.5, 2, 6), "sample_weight": [1, 0.5, 2, 1]}
    for reduction in ("mean", "sum"):
        _, dx = function(x, labels, reduction=reduction, **options)
        assert_gradient(
            dx, lambda v, r=reduction: function(v, labels, reduction=r, **options)[0], x
        )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 3.0])
def test_focusing(gamma: float) -> None:
    rng = np.random.default_rng(3)
    z, labels = rng.normal(0, 3, (30, 5)), rng.integers(0, 5, 30)
    each, dz = nf.softmax_focal_loss(z, labels, gamma=gamma, reduction="none")
    expected, slopes = rows_of("focal", z, labels, gamma)
    np.testing.assert_allclose(each, expected, rtol=1e-11)
    np.testing.assert_allclose(dz, slopes, rtol=1e-9, atol=1e-12)
    x, t = rng.normal(0, 3, 40), rng.integers(0, 2, 40).astype(float)
    of_two = nf.sigmoid_focal_loss(x, t, gamma=gamma, alpha=None)[0]
    two = nf.softmax_focal_loss(np.stack((0 * x, x), 1), t.astype(int), gamma=gamma)[0]
    assert of_two == pytest.approx(two, rel=1e-12)
    if gamma == 0:
        assert two == pytest.approx(nf.binary_cross_entropy_with_logits(x, t)[0], rel=1e-13)


def test_a_row_that_is_certain() -> None:
    inf = np.inf
    with np.errstate(all="raise"):
        each, dz = nf.softmax_focal_loss([[inf, 0.0], [-inf, 0.0]], [0, 0], reduction="none")
    np.testing.assert_array_equal(each, [0, inf])
    np.testing.assert_array_equal(dz, [[0, 0], [-1, 1]])
    loss, dx = nf.nll_loss([[np.nan, -1.0], [-1.0, -2.0]], [0, 1], reduction="none")
    assert np.isnan(loss[0])
    assert np.isnan(dx[0, 0])
    assert loss[1] == 2
    # Of a label that does not count, anything may be there.
    loss, dx = nf.nll_loss([[np.nan, -1.0], [-1.0, -2.0]], [0, 1], ignore_index=0)
    assert loss == 2
    np.testing.assert_array_equal(dx, [[0, 0], [0, -1]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda z: nf.nll_loss(z, [0, 1, 4], out=z), ValueError, r"labels must be .* got 4"),
        (lambda z: nf.nll_loss(z, np.zeros((3, 4)), out=z), TypeError, "labels must be integers"),
        (lambda z: nf.nll_loss(z[0], [0]), ValueError, "predictions must have shape"),
        (
            lambda z: nf.svm_loss(z, [0, 1, 2], class_weight=[1, 2], out=z),
            ValueError,
            r"class_weight must have shape \(4,\)",
        ),
        (
            lambda z: nf.softmax_focal_loss(z, [0, 1, 2], gamma=-1, out=z),
            ValueError,
            "gamma must not be negative",
        ),
        (
            lambda z: nf.softmax_focal_loss(z, np.ones((3, 4)) / 4, out=z),
            ValueError,
            "labels must be class indices",
        ),
        (
            lambda z: nf.softmax_focal_loss(z, [0, 1, 2], reduction="each", out=z),
            ValueError,
            "reduction must be",
        ),
        (
            lambda z: nf.softmax_focal_loss(z, [0, 1, 2], sample_weight=[1, -1, 1], out=z),
            ValueError,
            "sample_weight must not be negative",
        ),
    ],
)
def test_errors_change_nothing(call: Any, error: type[Exception], message: str) -> None:
    z = np.ones((3, 4))
    with pytest.raises(error, match=message):
        call(z)
    np.testing.assert_array_equal(z, 1)
