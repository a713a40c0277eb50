"""Options of the losses: reductions, weights, axes of classes, infinite values and overflow."""

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
OF_CLASSES = ("softmax_cross_entropy", "cross_entropy", "svm_loss")
OF_ELEMENTS = (
    "mse_loss",
    "l1_loss",
    "huber_loss",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
    "log_cosh_loss",
    "poisson_nll_loss",
    "kl_div",
    "hinge_loss",
    "squared_hinge_loss",
    "sigmoid_focal_loss",
)
seeds = st.integers(0, 2**32)


def reduced(each: Array, weight: Array, total: float, reduction: str) -> Any:
    """The reduction of losses with these weights; the mean divides by `total`."""
    rows = np.where(weight == 0, 0, each * weight)
    if reduction == "mean":
        return rows.sum() / total if total else 0.0
    return rows.sum() if reduction == "sum" else rows


# ---- classes ----


def class_rows(
    name: str, z: Array, targets: Array, class_weight: Array, smoothing: float
) -> tuple[Array, Array]:
    """Loss and gradient of each row, classes last, in float64."""
    desired = ((1 - smoothing) * targets + smoothing / z.shape[-1]) * class_weight
    if name == "cross_entropy":
        rows = -(desired * np.maximum(np.log(z), -100)).sum(axis=-1)
        return rows, -desired / np.maximum(z, 1e-12)
    shifted = z - z.max(axis=-1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=-1, keepdims=True)
    rows = (desired * (np.log(total) - shifted)).sum(axis=-1)
    return rows, e / total * desired.sum(axis=-1, keepdims=True) - desired


def hinge_rows(s: Array, labels: Array) -> tuple[Array, Array]:
    m = s - np.take_along_axis(s, labels[..., None], -1) + 1
    np.put_along_axis(m, labels[..., None], 0, -1)
    slopes = (m > 0).astype(float)
    np.put_along_axis(slopes, labels[..., None], -slopes.sum(axis=-1, keepdims=True), -1)
    return np.maximum(m, 0).sum(axis=-1), slopes


@both_dtypes
@pytest.mark.parametrize("name", OF_CLASSES)
@settings(max_examples=12)
@given(data=st.data(), seed=seeds)
def test_losses_of_classes(engine: str, name: str, dtype: type, data: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = data.draw(st.sampled_from([(1,), (5,), (4, 3), (2, 3, 4), (70,), (2, 33)]))
    classes = data.draw(st.integers(1, 40))
    axis = data.draw(st.integers(-len(rows) - 1, len(rows)))
    z = rng.normal(0, 4, (*rows, classes)).astype(dtype)
    if name == "cross_entropy":
        z = rng.dirichlet(np.ones(classes), rows).astype(dtype)
        z[rng.random(z.shape) < 0.1] = 0
    labels = rng.integers(0, classes, rows)
    targets = np.eye(classes)[labels]
    reduction = data.draw(st.sampled_from(REDUCTIONS))
    options: dict[str, Any] = {"reduction": reduction, "axis": axis}
    weight, total = np.ones(rows), np.ones(rows)
    class_weight, smoothing = np.ones(classes), 0.0
    given_labels: Any = labels
    if name != "svm_loss":
        smoothing = options["label_smoothing"] = data.draw(st.sampled_from([0.0, 0.2, 1.0]))
        if data.draw(st.booleans()):
            class_weight = options["class_weight"] = rng.integers(0, 3, classes) / 2
        if data.draw(st.booleans()):
            targets = rng.dirichlet(np.ones(classes), rows).astype(dtype)
            given_labels = np.moveaxis(targets, -1, axis)
        else:
            total = class_weight[labels]
            if data.draw(st.booleans()):
                ignored = rng.random(rows) < 0.3
                given_labels = np.where(ignored, -1, labels)
                options["ignore_index"] = -1
                weight = weight * ~ignored
    if data.draw(st.booleans()):
        # Of the shape of the losses, or of their first axis.
        given_weight = rng.integers(0, 4, data.draw(st.sampled_from([rows, rows[:1]]))) / 2
        options["sample_weight"] = given_weight
        weight = weight * given_weight.reshape(-1, *(1,) * (len(rows) - given_weight.ndim)).reshape(
            given_weight.shape + (1,) * (len(rows) - given_weight.ndim)
        )
    each, slopes = (
        hinge_rows(z.astype(float), labels)
        if name == "svm_loss"
        else class_rows(name, z.astype(float), targets, class_weight, smoothing)
        if z.all() or name != "cross_entropy"
        else with_zeros(z, targets, class_weight, smoothing)
    )
    denominator = float((weight * total).sum())
    expected = reduced(each, weight, denominator, reduction)
    scale = (1 / denominator if denominator else 0) if reduction == "mean" else 1
    expected_slopes = np.where(weight[..., None] == 0, 0, slopes * weight[..., None] * scale)
    found, dz = getattr(nf, name)(np.moveaxis(z, -1, axis), given_labels, **options)
    eps = float(np.finfo(dtype).eps)
    size = float(np.abs(each).max(initial=1)) * 40
    np.testing.assert_allclose(found, expected, rtol=20 * eps, atol=size * eps)
    assert dz.dtype == dtype
    assert isinstance(found, np.ndarray if reduction == "none" else float)
    if reduction == "none":
        assert found.shape == rows
        assert found.dtype == np.float64
    # The softmax and the targets may cancel.
    largest = np.abs(slopes).max() + (weight.max() * class_weight.max() * scale)
    np.testing.assert_allclose(
        np.moveaxis(dz, axis, -1), expected_slopes, rtol=40 * eps, atol=40 * eps * largest
    )


def with_zeros(
    p: Array, targets: Array, class_weight: Array, smoothing: float
) -> tuple[Array, Array]:
    with np.errstate(divide="ignore"):
        return class_rows("cross_entropy", p.astype(float), targets, class_weight, smoothing)


@both_dtypes
def test_class_axes_have_the_bits_of_rows(dtype: type) -> None:
    """Whatever the axis, the layout, the threads and the instruction set."""
    rng = np.random.default_rng(3)
    for classes in (10, 600, 3000):
        z = rng.dirichlet(np.ones(classes), (3, 5)).astype(dtype)
        targets = rng.dirichlet(np.ones(classes), (3, 5)).astype(dtype)
        labels, weight = rng.integers(0, classes, (3, 5)), rng.random((3, 5))
        for name in OF_CLASSES:
            for given_labels in (labels, targets) if name != "svm_loss" else (labels,):
                options = {"sample_weight": weight, "reduction": "none"}
                function = getattr(nf, name)
                each, dz = function(z, given_labels, **options)
                for isa in SAME_BITS_ISAS:
                    for threads in (1, 3):
                        with forced(isa=isa, threads=threads, grain=1):
                            again = function(z, given_labels, **options)
                        assert_same_bits(again[0], each)
                        assert_same_bits(again[1], dz)
                for laid in (
                    *layouts(z).values(),
                    np.moveaxis(np.moveaxis(z, -1, 0).copy(), 0, -1),
                ):
                    again = function(laid, given_labels, out=laid, **options)
                    assert_same_bits(again[0], each)
                    assert_same_bits(laid, dz)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_sequences_and_samples_in_columns(name: str) -> None:
    """(B, T, C) is (B T, C), labels as indices or one-hot; the columns of (C, N) are the rows of its transpose."""
    function, rng = getattr(nf, name), np.random.default_rng(0)
    z, labels = rng.dirichlet(np.ones(4), (2, 6)), rng.integers(0, 4, (2, 6))
    loss, dz = function(z.reshape(12, 4), labels.ravel())
    sequence_loss, sequence_dz = function(z, labels)
    assert sequence_loss == loss
    assert_same_bits(sequence_dz, dz.reshape(2, 6, 4))
    columns = z.reshape(12, 4).T.copy()
    one_hot = np.eye(4)[labels]
    for found in (
        function(columns, labels.ravel(), axis=0),
        *([] if name == "svm_loss" else [function(columns, one_hot.reshape(12, 4).T, axis=0)]),
    ):
        np.testing.assert_allclose(found[0], loss, rtol=1e-15)
        np.testing.assert_allclose(found[1].T, dz, rtol=1e-15, atol=1e-16)


# ---- elements ----


def element(name: str, x: Array, t: Array, pos_weight: Array) -> tuple[Array, Array]:
    """Loss and gradient of each element, in float64."""
    d = x - t
    if name == "mse_loss":
        return d * d, 2 * d
    if name == "l1_loss":
        return np.abs(d), np.sign(d)
    if name == "huber_loss":
        near = np.abs(d) <= 0.75
        return np.where(near, d * d / 2, 0.75 * (np.abs(d) - 0.375)), np.clip(d, -0.75, 0.75)
    if name == "binary_cross_entropy":
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(x), -100), np.maximum(np.log1p(-x), -100)
        return -t * logs[0] - (1 - t) * logs[1], d / np.maximum(x * (1 - x), 1e-12)
    if name == "log_cosh_loss":
        return np.log1p(2 * np.sinh(np.abs(d) / 2) ** 2), np.tanh(d)
    if name == "poisson_nll_loss":
        return np.exp(x) - t * x, np.exp(x) - t
    if name == "kl_div":
        return t * (np.log(t) - x), -t
    if name == "sigmoid_focal_loss":
        s = 1 / (1 + np.exp(-x))
        entropy = t * np.log1p(np.exp(-x)) + (1 - t) * np.log1p(np.exp(x))
        q, weight = t * (1 - s) + (1 - t) * s, 0.25 * t + 0.75 * (1 - t)
        grown = 1.5 * (1 - 2 * t) * s * (1 - s) * entropy / q
        return weight * q**1.5 * entropy, weight * q**1.5 * (grown + s - t)
    if name.endswith("hinge_loss"):
        over = np.maximum(0, 1 - t * x)
        return (over, -t * (over > 0)) if name == "hinge_loss" else (over**2, -2 * t * over)
    s = 1 / (1 + np.exp(-x))
    common = np.log1p(np.exp(-np.abs(x)))
    loss = pos_weight * t * (np.maximum(-x, 0) + common) + (1 - t) * (np.maximum(x, 0) + common)
    return loss, (1 - t) * s - pos_weight * t * (1 - s)


def element_case(name: str, shape: tuple[int, ...], dtype: type, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x, t = rng.normal(0, 2, (2, *shape))
    if name.startswith(("binary", "sigmoid")):
        t = rng.integers(0, 3, shape) / 2
    if name.endswith("hinge_loss"):
        t = np.sign(t)
    if name == "binary_cross_entropy":
        x = np.clip(rng.random(shape) * 1.1 - 0.05, 0, 1)
    if name in ("poisson_nll_loss", "kl_div"):
        t = np.abs(t)
    return x.astype(dtype), t.astype(dtype)


OPTIONS: dict[str, dict[str, Any]] = {
    "huber_loss": {"delta": 0.75},
    "sigmoid_focal_loss": {"gamma": 1.5},
}


@both_dtypes
@pytest.mark.parametrize("name", OF_ELEMENTS)
@settings(max_examples=10)
@given(data=st.data(), seed=seeds)
def test_losses_of_elements(engine: str, name: str, dtype: type, data: Any, seed: int) -> None:
    shape = data.draw(st.sampled_from([(1,), (7,), (5, 3), (2, 3, 4), (300, 10), (2, 2500)]))
    x, t = element_case(name, shape, dtype, seed)
    rng = np.random.default_rng(seed)
    reduction = data.draw(st.sampled_from(REDUCTIONS))
    options: dict[str, Any] = {"reduction": reduction, **OPTIONS.get(name, {})}
    weight = np.ones(shape)
    if data.draw(st.booleans()):
        given_weight = rng.integers(0, 4, data.draw(st.sampled_from([shape, shape[:1]]))) / 2
        options["sample_weight"] = given_weight
        weight = weight * given_weight.reshape(
            given_weight.shape + (1,) * (len(shape) - given_weight.ndim)
        )
    pos_weight = np.ones(())
    if name.endswith("logits") and data.draw(st.booleans()):
        kept = data.draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
        own = tuple(side if keep else 1 for side, keep in zip(shape, kept, strict=True))
        pos_weight = options["pos_weight"] = rng.uniform(
            0, 3, own[data.draw(st.integers(0, 1)) * (own[0] == 1) :]
        )
    each, slopes = element(name, x.astype(float), t.astype(float), pos_weight)
    total = float(weight.sum())
    expected = reduced(each, weight, total, reduction)
    scale = (1 / total if total else 0) if reduction == "mean" else 1
    found, dx = getattr(nf, name)(x, t, **options)
    eps = float(np.finfo(dtype).eps)
    # A power by its logarithm loses as many ulps as that has units.
    rtol = (40 if name == "sigmoid_focal_loss" else 10) * eps
    terms = np.abs(x * t).max() if name in ("poisson_nll_loss", "kl_div") else 0
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=eps * (np.abs(each).max() + terms))
    np.testing.assert_allclose(
        dx,
        slopes * weight * scale,
        rtol=rtol,
        atol=8 * eps * scale * weight.max() * (1 + pos_weight.max()),
    )
    assert dx.dtype == dtype
    assert isinstance(found, np.ndarray if reduction == "none" else float)
    if reduction == "none":
        assert found.shape == shape


@both_dtypes
@pytest.mark.parametrize("name", OF_ELEMENTS)
def test_bits_of_elements_in_any_layout(name: str, dtype: type) -> None:
    x, t = element_case(name, (9, 1300), dtype, 1)
    weight = np.random.default_rng(1).random((9, 1300))
    for options in (
        {},
        {"sample_weight": weight},
        {"sample_weight": weight[:, 0], "reduction": "none"},
    ):
        options = {**options, **OPTIONS.get(name, {})}
        function = getattr(nf, name)
        loss, dx = function(x, t, **options)
        for threads in (1, 3):
            for isa in SAME_BITS_ISAS:
                with forced(isa=isa, threads=threads, grain=1):
                    again = function(x, t, **options)
                assert_same_bits(again[0], np.asarray(loss))
                assert_same_bits(again[1], dx)
        for laid, laid_t in zip(layouts(x).values(), layouts(t).values(), strict=True):
            for out in (laid, laid_t):
                again = function(
                    laid.copy() if out is laid_t else laid,
                    laid_t.copy() if out is laid else laid_t,
                    out=out,
                    **options,
                )
                assert_same_bits(again[0], np.asarray(loss))
                assert_same_bits(out, dx)
                out[...] = x if out is laid else t


@pytest.mark.parametrize("name", OF_ELEMENTS)
def test_gradients_of_weighted_elements(name: str) -> None:
    x, t = element_case(name, (3, 4), np.float64, 2)
    x = x * 0.8 + 0.1 if name == "binary_cross_entropy" else x
    options: dict[str, Any] = {"sample_weight": [0.5, 2, 1], **OPTIONS.get(name, {})}
    if name.endswith("logits"):
        options["pos_weight"] = [1, 2, 0.5, 3]
    for reduction in ("mean", "sum"):
        call = partial(getattr(nf, name), targets=t, reduction=reduction, **options)
        assert_gradient(call(x)[1], lambda v, call=call: call(v)[0], x)


# ---- weights ----


def every_loss(dtype: type) -> dict[str, tuple[Array, Any]]:
    """Predictions and their targets or labels, of 4 rows."""
    rng = np.random.default_rng(7)
    p = rng.dirichlet(np.ones(3), 4).astype(dtype)
    return {
        **{name: (p, np.array([0, 2, 1, 1])) for name in OF_CLASSES},
        **{name: (p, rng.random((4, 3)).astype(dtype)) for name in OF_ELEMENTS},
    }


@both_dtypes
@pytest.mark.parametrize("name", [*OF_CLASSES, *OF_ELEMENTS])
def test_weights(name: str, dtype: type) -> None:
    x, t = every_loss(dtype)[name]
    function = getattr(nf, name)
    # All weights are 0: no loss, whatever the predictions.
    for reduction in REDUCTIONS:
        loss, dx = function(x, t, sample_weight=np.zeros(4), reduction=reduction)
        assert not np.any(loss)
        assert not dx.any()
    # A weight counts how often a row is there.
    doubled = np.repeat(x, [1, 2, 0, 3], axis=0), np.repeat(t, [1, 2, 0, 3], axis=0)
    for reduction in ("mean", "sum"):
        loss, _ = function(x, t, sample_weight=[1, 2, 0, 3], reduction=reduction)
        assert loss == pytest.approx(function(*doubled, reduction=reduction)[0], rel=1e-6)
    # A row of weight 0 may hold any allowed value.
    holed = x.copy()
    holed[2] = np.nan
    loss, dx = function(holed, t, sample_weight=[1, 2, 0, 3])
    expected = function(x, t, sample_weight=[1, 2, 0, 3])
    assert loss == expected[0]
    assert_same_bits(dx, expected[1])


@pytest.mark.peers
def test_the_weighted_mean_is_that_of_scikit_learn() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(2)
    p, labels, weight = rng.dirichlet(np.ones(3), 20), rng.integers(0, 3, 20), rng.random(20)
    options = {"sample_weight": weight}
    for function, z in ((nf.cross_entropy, p), (nf.softmax_cross_entropy, np.log(p))):
        theirs = metrics.log_loss(labels, p, labels=[0, 1, 2], **options)
        assert function(z, labels, **options)[0] == pytest.approx(theirs, rel=1e-13)
    y, x = rng.normal(size=(2, 20, 3))
    theirs = metrics.mean_squared_error(y, x, **options)
    assert nf.mse_loss(x, y, **options)[0] == pytest.approx(theirs, rel=1e-13)
    theirs = metrics.mean_absolute_error(y, x, **options)
    assert nf.l1_loss(x, y, **options)[0] == pytest.approx(theirs, rel=1e-13)


# ---- limits ----

INF = float("inf")


@both_dtypes
@pytest.mark.parametrize("out", [False, True])
def test_infinite_logits(dtype: type, out: bool) -> None:
    cases = [
        ("binary_cross_entropy_with_logits", -INF, 0, 0, 0),
        ("binary_cross_entropy_with_logits", INF, 1, 0, 0),
        ("binary_cross_entropy_with_logits", INF, 0, INF, 1),
        ("binary_cross_entropy_with_logits", -INF, 1, INF, -1),
        ("binary_cross_entropy_with_logits", INF, 0.5, INF, 0.5),
        ("mse_loss", INF, 0, INF, INF),
        ("mse_loss", 1, -INF, INF, INF),
        ("l1_loss", -INF, 0, INF, -1),
        ("huber_loss", INF, 0, INF, 1),
        ("huber_loss", 0, INF, INF, -1),
        ("log_cosh_loss", -INF, 0, INF, -1),
        ("poisson_nll_loss", INF, 0, INF, INF),
        ("poisson_nll_loss", -INF, 2, INF, -2),
        ("kl_div", -INF, 0.5, INF, -0.5),
        ("hinge_loss", -INF, 1, INF, -1),
        ("hinge_loss", INF, 1, 0, 0),
        ("squared_hinge_loss", INF, -1, INF, INF),
        ("sigmoid_focal_loss", -INF, 1, INF, -0.25),
        ("sigmoid_focal_loss", INF, 1, 0, 0),
        ("sigmoid_focal_loss", INF, 0, INF, 0.75),
    ]
    for name, x, t, loss, slope in cases:
        for options in ({}, {"sample_weight": [1.0]}, {"reduction": "none"}):
            given_x, given_t = np.array([x], dtype), np.array([t], dtype)
            keywords = {**options, **({"out": given_x} if out else {})}
            with np.errstate(all="raise"):
                found, dx = getattr(nf, name)(given_x, given_t, **keywords)
            assert (np.asarray(found) == loss).all(), (name, x, t)
            assert dx == slope, (name, x, t)
    for name in OF_ELEMENTS[:3]:
        assert np.isnan(getattr(nf, name)(np.array([INF], dtype), np.array([INF], dtype))[0])


@both_dtypes
@pytest.mark.parametrize("out", [False, True])
def test_infinite_scores(dtype: type, out: bool) -> None:
    cases = [
        ("softmax_cross_entropy", [INF, 0, 0], 0, 0, [0, 0, 0]),
        ("softmax_cross_entropy", [INF, 0, 0], 1, INF, [1, -1, 0]),
        ("softmax_cross_entropy", [-INF, 0, 0], 0, INF, [-1, 0.5, 0.5]),
        ("softmax_cross_entropy", [-INF, 0, 0], 1, np.log(2), [0, -0.5, 0.5]),
        ("svm_loss", [INF, 0, 0], 0, 0, [0, 0, 0]),
        ("svm_loss", [INF, 0, 0], 1, INF, [1, -2, 1]),
        ("svm_loss", [-INF, 0, 0], 0, INF, [-2, 1, 1]),
        ("svm_loss", [-INF, 0, 0], 1, 1, [0, -1, 1]),
    ]
    for name, z, label, loss, slopes in cases:
        for options in ({}, {"sample_weight": [1.0]}, {"reduction": "none"}):
            scores = np.array([z], dtype)
            keywords = {**options, **({"out": scores} if out else {})}
            found, dz = getattr(nf, name)(scores, [label], **keywords)
            assert found == pytest.approx(loss), (name, z, label)
            np.testing.assert_array_equal(dz, [slopes])


@both_dtypes
@pytest.mark.parametrize("name", [*OF_CLASSES, *OF_ELEMENTS])
def test_nan_propagates(name: str, dtype: type) -> None:
    for out in (False, True):
        x, t = every_loss(dtype)[name]
        x[1, 0] = np.nan
        if name == "cross_entropy":
            x[1] = np.nan
        loss, dx = getattr(nf, name)(x, t, **({"out": x} if out else {}))
        assert np.isnan(loss)
        assert np.isnan(dx[1]).any()
        assert np.isfinite(dx[[0, 2, 3]]).all()


@pytest.mark.parametrize("out", [False, True])
@pytest.mark.parametrize("options", [{}, {"sample_weight": [1.0, 1.0]}, {"reduction": "none"}])
def test_float32_does_not_overflow(out: bool, options: dict[str, Any]) -> None:
    """Nor underflow: sums are those of float64."""

    def call(name: str, x: Any, t: Any, **more: Any) -> tuple[float, Array]:
        x = np.array(x, np.float32)
        t = np.array(t, np.float32) if np.ndim(t) == np.ndim(x) else t
        loss, dx = getattr(nf, name)(x, t, **options, **more, **({"out": x} if out else {}))
        return float(np.mean(loss)), dx * (0.5 if options.get("reduction") == "none" else 1)

    loss, dx = call("mse_loss", [1e30, 1], [0, 1])
    assert loss == pytest.approx(1e60 / 2, rel=1e-6)
    np.testing.assert_allclose(dx, [1e30, 0], rtol=1e-6)
    assert call("mse_loss", [3e38, 1], [-3e38, 1])[0] == pytest.approx(3.6e77 / 2, rel=1e-6)
    assert call("mse_loss", [1e-30, 1], [0, 1])[0] == pytest.approx(1e-60 / 2, rel=1e-6)
    loss, dx = call("l1_loss", [3e38, 1], [-3e38, 1])
    assert loss == pytest.approx(3e38, rel=1e-6)
    np.testing.assert_array_equal(dx, [0.5, 0])
    assert call("huber_loss", [3e38, 1], [-3e38, 1], delta=1e3)[0] == pytest.approx(3e41, rel=1e-6)
    assert call("huber_loss", [1e30, 1], [0, 1], delta=1e38)[0] == pytest.approx(2.5e59, rel=1e-6)
    assert call("log_cosh_loss", [3e38, 1], [-3e38, 1])[0] == pytest.approx(3e38, rel=1e-6)
    assert call("log_cosh_loss", [1e-30, 1], [0, 1])[0] == pytest.approx(2.5e-61, rel=1e-6)
    loss, dx = call("poisson_nll_loss", [100, 0], [0, 1])
    assert loss == pytest.approx(np.exp(100) / 2, rel=1e-6)
    assert dx[0] == INF  # e^100 is no float32
    assert call("kl_div", [-3e38, 0], [2, 1])[0] == pytest.approx(3e38, rel=1e-6)
    assert call("huber_loss", [1e-30, 1], [0, 1])[0] == pytest.approx(2.5e-61, rel=1e-6)
    assert call("hinge_loss", [-3e38, -3e38], [1, 1])[0] == pytest.approx(3e38, rel=1e-6)
    assert call("squared_hinge_loss", [-1e30, 2], [1, 1])[0] == pytest.approx(5e59, rel=1e-6)
    focal = call("sigmoid_focal_loss", [-60, 100], [0, 1], alpha=None)[0]
    assert focal == pytest.approx(np.exp(-180) / 2, rel=1e-5)
    huge = [[3e38, -3e38], [0.0, 0.0]]
    assert call("svm_loss", huge, [1, 0], squared=True)[0] == pytest.approx(1.8e77, rel=1e-6)
    assert call("svm_loss", huge, [1, 0])[0] == pytest.approx((6e38 + 2) / 2, rel=1e-6)
    assert call("softmax_cross_entropy", huge, [1, 0])[0] == pytest.approx(3e38, rel=1e-6)
    soft = [[0.25, 0.75], [1, 0]]
    assert call("softmax_cross_entropy", huge, soft)[0] == pytest.approx(2.25e38, rel=1e-6)
    for labels in ([0, 0], [[1, 0], [1, 0]]):
        loss, _ = call("softmax_cross_entropy", huge, labels, label_smoothing=0.5)
        assert loss == pytest.approx(0.75e38, rel=1e-6)
    loss, dx = call("binary_cross_entropy_with_logits", [-1e30, 1], [1, 0], pos_weight=1e20)
    assert loss == pytest.approx(5e49, rel=1e-6)
    np.testing.assert_allclose(dx[0], -5e19, rtol=1e-6)


@pytest.mark.parametrize("name", ["svm_loss", "softmax_cross_entropy"])
@pytest.mark.parametrize("out", [False, True])
def test_a_special_row_leaves_its_neighbours_their_bits(name: str, out: bool) -> None:
    rng = np.random.default_rng(4)
    z = (1e20 * rng.normal(size=(9, 20))).astype(np.float32)
    labels, targets = rng.integers(0, 20, 9), rng.dirichlet(np.ones(20), 9).astype(np.float32)
    for given_labels in (labels, targets) if name != "svm_loss" else (labels,):
        each, dz = getattr(nf, name)(z, given_labels, reduction="none")
        for row in range(9):
            other = z.copy()
            other[row, :2] = 3e38, -3e38
            keywords = {"out": other} if out else {}
            found, found_dz = getattr(nf, name)(other, given_labels, reduction="none", **keywords)
            assert np.isfinite(found).all()
            rest = np.arange(9) != row
            assert_same_bits(found[rest], each[rest])
            assert_same_bits(found_dz[rest], dz[rest])
            alone = z[row : row + 1].copy()
            alone[0, :2] = 3e38, -3e38
            found_alone, _ = getattr(nf, name)(alone, given_labels[row : row + 1], reduction="none")
            assert_same_bits(found_alone, found[row : row + 1])


def test_small_probabilities() -> None:
    for dtype in (np.float32, np.float64):
        for p in (1e-10, 1e-20, 1e-38, 1e-42):
            x = np.array([p], dtype)
            expected = min(100, -np.log(float(x[0])))
            assert nf.binary_cross_entropy(x, [1.0])[0] == pytest.approx(expected, rel=3e-7)
            assert nf.cross_entropy(x[None], [0])[0] == pytest.approx(expected, rel=3e-7)
            assert nf.binary_cross_entropy(x, [0.0])[0] == pytest.approx(float(x[0]), rel=3e-7)


# ---- errors ----

Z = np.zeros((3, 4))
Y = [0, 1, 2]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nf.softmax_cross_entropy(Z, np.zeros(3)),
            TypeError,
            r"labels must be integers \(class indices\) of shape \(3,\) or probabilities of shape "
            r"\(3, 4\), got dtype float64 of shape \(3,\)",
        ),
        (lambda: nf.softmax_cross_entropy(Z, ["abc"] * 3), TypeError, "got dtype <U3 of shape"),
        (
            lambda: nf.svm_loss(Z, np.zeros(3)),
            TypeError,
            r"labels must be integers \(class indices\) of shape \(3,\), got dtype float64",
        ),
        (lambda: nf.svm_loss(Z, ["abc"] * 3), TypeError, "got dtype <U3 of shape"),
        (lambda: nf.svm_loss(Z, [True] * 3), TypeError, "got dtype bool of shape"),
        (lambda: nf.dropout(Z, mask=np.zeros(2, "S5")), TypeError, r"got dtype \|S5"),
        (lambda: nf.optim.SGD([np.array(["abc"])]), TypeError, "<U3"),
        (
            lambda: nf.softmax_cross_entropy(Z, Y, reduction="batchmean"),  # type: ignore[arg-type]
            ValueError,
            "reduction must be 'mean', 'sum' or 'none', got 'batchmean'",
        ),
        (lambda: nf.mse_loss(Z, Z, reduction=None), ValueError, "reduction must be .* got None"),  # type: ignore[arg-type]
        (
            lambda: nf.softmax_cross_entropy(Z, Y, axis=2),
            ValueError,
            r"axis must be an axis of logits with shape \(3, 4\), got 2",
        ),
        (lambda: nf.svm_loss(Z, Y, axis=-(2**70)), ValueError, "axis must be an axis of scores"),
        (lambda: nf.svm_loss(Z, Y, axis=1.0), TypeError, "axis must be an int, got float"),  # type: ignore[arg-type]
        (
            lambda: nf.softmax_cross_entropy(Z, Y, axis=0),
            ValueError,
            r"labels must have shape \(4,\), got \(3,\)",
        ),
        (
            lambda: nf.softmax_cross_entropy(np.zeros((3, 4, 5)), np.zeros((3, 4), int), axis=1),
            ValueError,
            r"labels must have shape \(3, 5\), got \(3, 4\)",
        ),
        (
            lambda: nf.softmax_cross_entropy(Z, Y, sample_weight=[1, 2]),
            ValueError,
            r"sample_weight must have shape \(3,\), got \(2,\)",
        ),
        (
            lambda: nf.mse_loss(Z, Z, sample_weight=[1, 2]),
            ValueError,
            r"sample_weight must have shape \(3,\) or \(3, 4\), got \(2,\)",
        ),
        (
            lambda: nf.mse_loss(Z, Z, sample_weight=[1, -2, 1]),
            ValueError,
            "sample_weight must not be negative, got -2.0 at position 1",
        ),
        (
            lambda: nf.mse_loss(Z, Z, sample_weight=[1, np.nan, 1]),
            ValueError,
            "sample_weight must be finite, got nan at position 1",
        ),
        (
            lambda: nf.svm_loss(Z, Y, sample_weight=[1, np.inf, 1]),
            ValueError,
            "sample_weight must be finite, got inf",
        ),
        (
            lambda: nf.mse_loss(Z, Z, sample_weight=["a"] * 3),
            TypeError,
            "sample_weight must be an array of real numbers, got dtype <U1",
        ),
        (
            lambda: nf.binary_cross_entropy_with_logits(Z, Z, pos_weight=[1, 2]),
            ValueError,
            r"pos_weight must broadcast to the shape of predictions, \(3, 4\), got \(2,\)",
        ),
        (
            lambda: nf.binary_cross_entropy_with_logits(Z, Z, pos_weight=np.ones((1, 3, 4))),
            ValueError,
            "pos_weight must broadcast",
        ),
        (
            lambda: nf.binary_cross_entropy_with_logits(Z, Z, pos_weight=-1),
            ValueError,
            "pos_weight must not be negative",
        ),
        (
            lambda: nf.binary_cross_entropy([0.5, 1.5], [0, 1]),
            ValueError,
            r"predictions must be probabilities in \[0, 1\], got 1.5 at position 1",
        ),
        (
            lambda: nf.cross_entropy([[0.5, -0.5]], [0]),
            ValueError,
            r"predictions must be probabilities in \[0, 1\], got -0.5 at position 1",
        ),
        (
            lambda: nf.softmax_cross_entropy(Z, Z, ignore_index=1),
            ValueError,
            "labels must be class indices for ignore_index",
        ),
        (
            lambda: nf.softmax_cross_entropy(Z, Y, class_weight=[1, 1, np.nan, 1]),
            ValueError,
            "class_weight must be finite",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_errors_change_nothing() -> None:
    out = np.full((3, 4), 7.0)
    wrong = np.array([[0.5, 0.5], [0.5, 2]])
    calls = [
        lambda: nf.mse_loss(Z, Z, sample_weight=[1, -2, 1], out=out),
        lambda: nf.mse_loss(Z, Z, sample_weight=out, out=out),
        lambda: nf.binary_cross_entropy_with_logits(Z, Z, pos_weight=out[0], out=out),
        lambda: nf.binary_cross_entropy(Z + 2, Z, out=out),
        lambda: nf.cross_entropy(Z - 1, Y, out=out),
        lambda: nf.svm_loss(Z, Y, axis=5, out=out),
        lambda: nf.softmax_cross_entropy(Z, Y, reduction="x", out=out),  # type: ignore[arg-type]
        lambda: nf.cross_entropy(wrong, [0, 1], out=wrong),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="must"):
            call()
        assert (out == 7).all()
        assert wrong[0, 0] == 0.5
