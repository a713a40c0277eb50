"""Losses: value and gradient from one pass, both kinds of labels, errors that change nothing."""

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
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def reference(z: Array, targets: Array) -> tuple[float, Array]:
    """Mean of sum_j t_j (log sum exp z - z_j), and its gradient, in float64."""
    z = z.astype(np.float64)
    shifted = z - z.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    rows = np.where(targets == 0, 0, targets * (np.log(total) - shifted)).sum(axis=1)
    gradient = e / total * targets.sum(axis=1, keepdims=True) - targets
    return float(rows.mean()), gradient / len(z)


def one_hot(labels: Array, classes: int) -> Array:
    return np.eye(classes)[labels]


def case(n: int, classes: int, dtype: type, seed: int) -> tuple[Array, Array, Array]:
    """Logits, class indices, probabilities."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 6, (n, classes)).astype(dtype)
    return z, rng.integers(0, classes, n), rng.dirichlet(np.ones(classes), n).astype(dtype)


@both_dtypes
@settings(max_examples=20)
@given(n=st.integers(1, 40), classes=st.integers(1, 70), seed=st.integers(0, 2**32))
def test_loss_and_gradient_are_the_formula(
    engine: str, dtype: type, n: int, classes: int, seed: int
) -> None:
    z, labels, targets = case(n, classes, dtype, seed)
    for given_labels, desired in ((labels, one_hot(labels, classes)), (targets, targets)):
        loss, dz = nf.softmax_cross_entropy(z, given_labels)
        expected, gradient = reference(z, desired.astype(np.float64))
        assert loss == pytest.approx(expected, rel=2e-6 if dtype == np.float32 else 1e-12)
        assert dz.dtype == dtype
        np.testing.assert_allclose(dz, gradient, atol=4 * np.finfo(dtype).eps / n)


def test_gradient_numerically() -> None:
    z, labels, targets = case(4, 6, np.float64, 1)
    for given_labels in (labels, targets, 2 * targets):
        gradient = nf.softmax_cross_entropy(z, given_labels)[1]
        assert_gradient(gradient, lambda v, t=given_labels: nf.softmax_cross_entropy(v, t)[0], z)


def test_an_untrained_network_loses_log_c() -> None:
    for classes in (2, 10, 1000):
        loss, _ = nf.softmax_cross_entropy(np.zeros((3, classes), np.float32), [0, 1, 1])
        assert loss == pytest.approx(np.log(classes), rel=1e-12)


@both_dtypes
def test_extreme_logits(isa: str, dtype: type) -> None:
    big = np.array([[1e4, 0, 0], [0, -1e4, 0]], dtype)
    with np.errstate(all="raise"):
        loss, dz = nf.softmax_cross_entropy(big, [1, 1])
        assert loss == pytest.approx((1e4 + 1e4 + np.log(2)) / 2)
        np.testing.assert_allclose(dz, [[0.5, -0.5, 0], [0.25, -0.5, 0.25]], atol=1e-7)
        masked = np.array([[0.0, -np.inf, 0.0]], dtype)
        assert nf.softmax_cross_entropy(masked, [0])[0] == pytest.approx(np.log(2))
        assert nf.softmax_cross_entropy(masked, [1])[0] == np.inf
        half = np.array([[0.5, 0, 0.5]], dtype)
        assert nf.softmax_cross_entropy(masked, half)[0] == pytest.approx(np.log(2))
        nan = np.array([[0.0, np.nan, 1.0], [0, 0, 0]], dtype)
        loss, dz = nf.softmax_cross_entropy(nan, [0, 0])
    assert np.isnan(loss)
    assert np.isnan(dz[0]).all()
    assert np.isfinite(dz[1]).all()


@both_dtypes
def test_bits(dtype: type) -> None:
    z, labels, targets = case(23, 37, dtype, 2)
    for given_labels in (labels, targets):
        loss, dz = nf.softmax_cross_entropy(z, given_labels)
        for isa in SAME_BITS_ISAS:
            for threads in (1, 2, 7):
                with forced(isa=isa, threads=threads, grain=1):
                    again = nf.softmax_cross_entropy(z, given_labels)
                assert again[0] == loss
                assert_same_bits(again[1], dz)
        for laid in layouts(z).values():
            again = nf.softmax_cross_entropy(laid, given_labels, out=laid)
            assert again[0] == loss
            assert again[1] is laid
            assert_same_bits(laid, dz)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_any_integers_are_labels(dtype: type) -> None:
    z, labels, _ = case(5, 4, np.float32, 3)
    expected = nf.softmax_cross_entropy(z, labels)
    for given_labels in (labels.astype(dtype), labels.astype(dtype)[::-1][::-1], labels.tolist()):
        loss, dz = nf.softmax_cross_entropy(z, given_labels)
        assert loss == expected[0]
        assert_same_bits(dz, expected[1])


def test_integer_logits_and_integer_one_hot() -> None:
    loss, dz = nf.softmax_cross_entropy([[0, 1], [2, 3]], [[1, 0], [0, 1]])
    assert dz.dtype == np.float64
    assert loss == pytest.approx(reference(np.array([[0, 1], [2, 3]]), np.eye(2))[0])


Z = np.zeros((3, 4))
FROZEN = np.zeros((3, 4))
FROZEN.flags.writeable = False


@pytest.mark.parametrize(
    ("z", "labels", "out", "error", "message"),
    [
        (Z, [0, 4, 0], None, ValueError, r"labels must be .* \[0, 4\), got 4 at position 1"),
        (Z, [0, 0, -1], None, ValueError, "labels must be .* got -1 at position 2"),
        (Z, np.array([0, 2**63, 0], np.uint64), None, ValueError, "labels must be .* position 1"),
        (Z, [0, 1], None, ValueError, r"labels must have shape \(3,\), got \(2,\)"),
        (Z, np.zeros((3, 5)), None, ValueError, r"labels must have the shape of logits"),
        (Z, np.zeros(3), None, TypeError, r"labels must be integers .*, got dtype float64"),
        (Z, ["a", "b", "c"], None, TypeError, "labels must be integers .*, got dtype <U1"),
        (Z, np.zeros((3, 4), complex), None, TypeError, "labels must be integers .* complex128"),
        (np.zeros(4), [0], None, ValueError, r"logits must have shape \(N, C\)"),
        (np.zeros((0, 4)), np.zeros(0, int), None, ValueError, "logits must have shape"),
        (np.zeros((3, 0)), [0, 0, 0], None, ValueError, "logits must have shape"),
        (Z.astype(complex), [0, 0, 0], None, TypeError, "logits must be .* real"),
        (Z, [0, 0, 0], Z.astype(np.float32), TypeError, "out must have dtype float64, got float32"),
        (Z, [0, 0, 0], np.zeros((4, 3)), ValueError, "out must have the shape of logits"),
        (Z, [0, 0, 0], FROZEN, ValueError, "out must be writeable"),
        (Z, [0, 0, 0], [[0]], TypeError, "out must be a numpy.ndarray, got list"),
    ],
)
def test_errors(z: Any, labels: Any, out: Any, error: type[Exception], message: str) -> None:
    before = np.array(out)
    with pytest.raises(error, match=message):
        nf.softmax_cross_entropy(z, labels, out=out)
    np.testing.assert_array_equal(before, out)


def test_a_wrong_label_does_not_change_out() -> None:
    out = np.full((3, 4), 7.0)
    with pytest.raises(ValueError, match="labels"):
        nf.softmax_cross_entropy(Z, [0, 0, 9], out=out)
    np.testing.assert_array_equal(out, 7)


def test_overlaps_are_refused() -> None:
    memory = np.zeros(20)
    z, shifted = memory[:12].reshape(3, 4), memory[4:16].reshape(3, 4)
    with pytest.raises(ValueError, match="out must be logits itself or share no memory"):
        nf.softmax_cross_entropy(z, [0, 0, 0], out=shifted)
    with pytest.raises(ValueError, match="out and labels must not share memory"):
        nf.softmax_cross_entropy(Z, z, out=z)
    # Labels that were checked must not be overwritten before they are used.
    labels = memory[:3].view(np.int64)
    for function in (nf.softmax_cross_entropy, nf.svm_loss):
        with pytest.raises(ValueError, match="out and labels must not share memory"):
            function(np.ones((3, 4)), labels, out=memory[:12].reshape(3, 4))
        np.testing.assert_array_equal(memory, 0)


# ---- label smoothing, class weights, ignored labels ----


def smoothed(labels: Array, classes: int, smoothing: float, weights: Array) -> Array:
    """The targets of PyTorch's label smoothing and class weights."""
    hard = one_hot(labels, classes) * weights[labels][:, np.newaxis]
    return (1 - smoothing) * hard + smoothing / classes * weights


@both_dtypes
@settings(max_examples=15)
@given(
    n=st.integers(1, 20),
    classes=st.integers(1, 40),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    weighted=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_smoothing_weights_and_ignored_labels(
    engine: str, dtype: type, n: int, classes: int, smoothing: float, weighted: bool, seed: int
) -> None:
    z, labels, _ = case(n, classes, dtype, seed)
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.1, 2, classes) if weighted else np.ones(classes)
    ignored = rng.random(n) < 0.3
    given_labels = np.where(ignored, -100, labels)
    loss, dz = nf.softmax_cross_entropy(
        z,
        given_labels,
        label_smoothing=smoothing,
        class_weight=weights if weighted else None,
        ignore_index=-100,
    )
    assert_same_bits(dz[ignored], np.zeros_like(dz[ignored]))
    if ignored.all():
        assert loss == 0
        return
    kept = ~ignored
    targets = smoothed(labels[kept], classes, smoothing, weights)
    # The reference divides by the number of rows, the loss by the weights.
    by = kept.sum() / weights[labels[kept]].sum()
    expected, gradient = reference(z[kept], targets)
    assert loss == pytest.approx(expected * by, rel=4e-6 if dtype == np.float32 else 1e-12)
    scale = weights.max() / weights[labels[kept]].sum()
    np.testing.assert_allclose(dz[kept], gradient * by, atol=8 * np.finfo(dtype).eps * scale)


def test_smoothed_gradient_numerically() -> None:
    z, labels, _ = case(4, 6, np.float64, 1)
    settings = {
        "label_smoothing": 0.2,
        "class_weight": np.linspace(0.5, 2, 6),
        "ignore_index": int(labels[0]),
    }
    _, dz = nf.softmax_cross_entropy(z, labels, **settings)
    assert_gradient(dz, lambda v: nf.softmax_cross_entropy(v, labels, **settings)[0], z)


@pytest.mark.peers
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_smoothing_and_weights_are_those_of_pytorch(smoothing: float) -> None:
    import torch

    z, labels, _ = case(30, 7, np.float64, 2)
    weights = np.linspace(0.5, 2, 7)
    leaf = torch.tensor(z, requires_grad=True)
    theirs = torch.nn.functional.cross_entropy(
        leaf,
        torch.tensor(labels),
        torch.tensor(weights),
        ignore_index=3,
        label_smoothing=smoothing,
    )
    theirs.backward()
    loss, dz = nf.softmax_cross_entropy(
        z, labels, label_smoothing=smoothing, class_weight=weights, ignore_index=3
    )
    assert loss == pytest.approx(theirs.item(), rel=1e-13)
    np.testing.assert_allclose(dz, leaf.grad.numpy(), atol=1e-16)


def test_an_ignored_row_may_hold_anything() -> None:
    z = np.array([[np.nan, np.inf], [0.0, 0.0]])
    loss, dz = nf.softmax_cross_entropy(z, [-1, 0], ignore_index=-1)
    assert loss == pytest.approx(np.log(2))
    assert_same_bits(dz, np.array([[0, 0], [-0.5, 0.5]]))


# ---- multiclass hinge ----


def hinge_reference(s: Array, labels: Array, margin: float) -> tuple[float, Array]:
    rows = np.arange(len(s))
    m = s.astype(float) - s[rows, labels, np.newaxis].astype(float) + margin
    m[rows, labels] = 0
    slopes = (m > 0).astype(float)
    slopes[rows, labels] = -slopes.sum(axis=1)
    return float(np.maximum(m, 0).sum() / len(s)), slopes / len(s)


@both_dtypes
@settings(max_examples=15)
@given(
    n=st.integers(1, 20),
    classes=st.integers(1, 70),
    margin=st.sampled_from([1.0, 0.0, 2.5, -1.0]),
    seed=st.integers(0, 2**32),
)
def test_hinge(engine: str, dtype: type, n: int, classes: int, margin: float, seed: int) -> None:
    s, labels, _ = case(n, classes, dtype, seed)
    loss, ds = nf.svm_loss(s, labels, margin=margin)
    expected, slopes = hinge_reference(s, labels, margin)
    eps = float(np.finfo(dtype).eps)
    assert loss == pytest.approx(expected, rel=8 * eps, abs=40 * classes * eps)
    np.testing.assert_allclose(ds, slopes, rtol=2 * eps)
    again = nf.svm_loss(s, labels, margin=margin, out=s)
    assert again[0] == loss
    assert again[1] is s
    assert_same_bits(s, ds)


def test_hinge_numerically_and_by_hand() -> None:
    s, labels, _ = case(4, 6, np.float64, 1)
    _, ds = nf.svm_loss(s, labels)
    assert_gradient(ds, lambda v: nf.svm_loss(v, labels)[0], s)
    # The example of CS231n's notes, and an untrained network.
    scores = [[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]]
    assert nf.svm_loss(scores, [0, 1, 2])[0] == pytest.approx((2.9 + 0 + 12.9) / 3)
    assert nf.svm_loss(np.zeros((5, 10)), np.arange(5))[0] == 9


# ---- losses of elements ----


def element_losses(name: str, x: Array, t: Array) -> tuple[Array, Array]:
    """Loss and gradient of each element, in long double."""
    x, t = x.astype(np.longdouble), t.astype(np.longdouble)
    d = x - t
    size = np.abs(d)
    if name == "huber_loss":
        near = size <= 0.75
        return np.where(near, d * d / 2, 0.75 * (size - 0.375)), np.clip(d, -0.75, 0.75)
    if name == "binary_cross_entropy_with_logits":
        s = 1 / (1 + np.exp(-x))
        return np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x))), s - t
    if name == "log_cosh_loss":
        return np.log1p(2 * np.sinh(size / 2) ** 2), np.tanh(d)
    if name == "poisson_nll_loss":
        return np.exp(x) - t * x, np.exp(x) - t
    if name == "kl_div":
        return t * (np.log(t) - x), -t
    if name == "sigmoid_focal_loss":
        s = 1 / (1 + np.exp(-x))
        entropy = t * np.log1p(np.exp(-x)) + (1 - t) * np.log1p(np.exp(x))
        q, weight = t * (1 - s) + (1 - t) * s, 0.25 * t + 0.75 * (1 - t)
        grown = 2 * (1 - 2 * t) * s * (1 - s) * entropy / q
        return weight * q**2 * entropy, weight * q**2 * (grown + s - t)
    if name.endswith("hinge_loss"):
        over = np.maximum(0, 1 - t * x)
        return (over, -t * (over > 0)) if name == "hinge_loss" else (over**2, -2 * t * over)
    return (d * d, 2 * d) if name == "mse_loss" else (size, np.sign(d))


SINGLE = {
    "mse_loss": {},
    "l1_loss": {},
    "huber_loss": {"delta": 0.75},
    "binary_cross_entropy_with_logits": {},
    "log_cosh_loss": {},
    "poisson_nll_loss": {},
    "kl_div": {},
    "hinge_loss": {},
    "squared_hinge_loss": {},
    "sigmoid_focal_loss": {},
}
every_single = pytest.mark.parametrize("name", SINGLE)


def inputs(name: str, shape: tuple[int, ...], dtype: type, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 2, shape)
    of_classes = name.startswith(("binary", "sigmoid"))
    t = rng.integers(0, 2, shape) if of_classes else rng.normal(0, 2, shape)
    if name.endswith("hinge_loss"):
        t = np.sign(t)
    if name in ("poisson_nll_loss", "kl_div"):
        t = np.abs(t)
    return x.astype(dtype), t.astype(dtype)


@every_single
@both_dtypes
@settings(max_examples=8)
@given(shape=st.sampled_from([(1,), (17,), (5, 3), (4096,), (4, 5000)]), seed=st.integers(0, 2**32))
def test_losses_of_elements(
    engine: str, name: str, dtype: type, shape: tuple[int, ...], seed: int
) -> None:
    x, t = inputs(name, shape, dtype, seed)
    loss, dx = getattr(nf, name)(x, t, **SINGLE[name])
    values, slopes = element_losses(name, x, t)
    eps = float(np.finfo(dtype).eps)
    # Where the terms of a loss have both signs, what is lost is relative to their size.
    terms = np.abs(x * t) if name in ("poisson_nll_loss", "kl_div") else np.zeros(1)
    assert loss == pytest.approx(
        float(values.mean()), rel=4 * eps, abs=4 * eps * float((np.abs(values) + terms).mean())
    )
    np.testing.assert_allclose(
        dx, (slopes / x.size).astype(float), rtol=4 * eps, atol=2 * eps / x.size
    )


@every_single
@both_dtypes
def test_bits_of_elements(name: str, dtype: type) -> None:
    x, t = inputs(name, (9, 1300), dtype)
    function = getattr(nf, name)
    loss, dx = function(x, t, **SINGLE[name])
    for isa in SAME_BITS_ISAS:
        for threads in (1, 2, 7):
            with forced(isa=isa, threads=threads, grain=1):
                again = function(x, t, **SINGLE[name])
            assert again[0] == loss
            assert_same_bits(again[1], dx)
    for laid, laid_t in zip(layouts(x).values(), layouts(t).values(), strict=True):
        again = function(laid, laid_t, **SINGLE[name], out=laid)
        assert again[0] == loss
        assert again[1] is laid
        assert_same_bits(laid, dx)


@every_single
def test_gradients_of_elements_numerically(name: str) -> None:
    x, t = inputs(name, (3, 4), np.float64)
    function = getattr(nf, name)
    _, dx = function(x, t, **SINGLE[name])
    assert_gradient(dx, lambda v: function(v, t, **SINGLE[name])[0], x)


@both_dtypes
def test_log_cosh_is_exact_next_to_0_and_far_away(isa: str, dtype: type) -> None:
    eps = float(np.finfo(dtype).eps)
    for d in (1e-12, 1e-3, 0.1, 0.599, 0.601, 1.0, 5.0, 40.0, 1e6):
        x = dtype(d)
        loss, slope = nf.log_cosh_loss([x], np.zeros(1, dtype))
        with mpmath.workdps(40):
            exact = (
                mpmath.log(mpmath.cosh(mpmath.mpf(float(x))))
                if d < 1e4
                else float(x) - mpmath.log(2)
            )
        assert loss == pytest.approx(float(exact), rel=4 * eps)
        assert slope[0] == pytest.approx(np.tanh(float(x)), rel=2 * eps)


@both_dtypes
def test_rates_and_counts(isa: str, dtype: type) -> None:
    eps = float(np.finfo(dtype).eps)
    rates, counts = np.array([0.0, 0.5, 3.0, 1e20], dtype), np.array([0.0, 2.0, 0.0, 1e20], dtype)
    each, slopes = nf.poisson_nll_loss(rates, counts, log_input=False, eps=1e-3, reduction="none")
    x, t = rates.astype(np.longdouble), counts.astype(np.longdouble)
    np.testing.assert_allclose(each, (x - t * np.log(x + 1e-3)).astype(float), rtol=8 * eps)
    np.testing.assert_allclose(slopes, (1 - t / (x + 1e-3)).astype(float), rtol=8 * eps, atol=eps)
    # Nobody came, and nobody was expected; a rate below 0 is none.
    assert nf.poisson_nll_loss(np.array([-np.inf], dtype), np.zeros(1, dtype))[0] == 0
    with np.errstate(all="raise"):
        assert np.isnan(nf.poisson_nll_loss(np.array([-1.0], dtype), [1.0], log_input=False)[0])


@both_dtypes
def test_what_has_no_probability_has_no_divergence(isa: str, dtype: type) -> None:
    smallest = np.finfo(dtype).smallest_subnormal
    x = np.array([-np.inf, -1.0, -2.0, 0.0], dtype)
    t = np.array([0.0, smallest, 0.5, -0.5], dtype)
    with np.errstate(all="raise"):
        each, slopes = nf.kl_div(x, t, reduction="none")
    assert each[0] == 0
    assert each[1] == pytest.approx(float(t[1]) * (np.log(float(t[1])) + 1), rel=1e-5)
    assert each[2] == pytest.approx(0.5 * (np.log(0.5) + 2), rel=1e-6)
    assert np.isnan(each[3])
    np.testing.assert_array_equal(slopes, -t)


def test_binary_tails() -> None:
    x = np.array([1000.0, -1000.0, 40.0, -40.0])
    with np.errstate(all="raise"):
        for t, expected in ((1.0, [0, 1000, np.exp(-40), 40]), (0.0, [1000, 0, 40, np.exp(-40)])):
            for value, desired in zip(x, expected, strict=True):
                found, _ = nf.binary_cross_entropy_with_logits([value], [t])
                assert found == pytest.approx(desired, rel=1e-14)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nf.mse_loss([1.0], [1.0, 2.0]), ValueError, "targets must have the shape of"),
        (lambda: nf.mse_loss([1j], [1.0]), TypeError, "predictions must be an array of real"),
        (lambda: nf.l1_loss([], []), ValueError, "predictions must not be empty"),
        (lambda: nf.huber_loss([1.0], [1.0], delta=0), ValueError, "delta must be positive"),
        (lambda: nf.huber_loss([1.0], [1.0], delta="x"), TypeError, "delta must be a real"),
        (lambda: nf.poisson_nll_loss([1.0], [1.0], eps=0), ValueError, "eps must be positive"),
        (lambda: nf.sigmoid_focal_loss([1.0], [1.0], alpha=2), ValueError, "alpha must be in"),
        (lambda: nf.sigmoid_focal_loss([1.0], [1.0], gamma=-1), ValueError, "gamma must not be"),
        (lambda: nf.hinge_loss([1.0], [1.0], out=[0.0]), TypeError, "out must be a numpy"),
        (lambda: nf.kl_div([1.0], [1.0, 2.0]), ValueError, "targets must have the shape of"),
        (lambda: nf.mse_loss(Z, Z, out=FROZEN), ValueError, "out must be writeable"),
        (lambda: nf.mse_loss(Z, Z, out=Z.astype("f")), TypeError, "out must have dtype float64"),
        (lambda: nf.svm_loss(Z, [0, 1, 4]), ValueError, r"labels must be .* \[0, 4\), got 4"),
        (lambda: nf.svm_loss(Z, [0.0, 1, 2]), TypeError, "labels must be integers"),
        (lambda: nf.svm_loss(Z[0], [0]), ValueError, "scores must have shape"),
        (lambda: nf.svm_loss(Z, [0, 1, 2], margin=None), TypeError, "margin must be a real"),
        (
            lambda: nf.softmax_cross_entropy(Z, [0, 1, 2], label_smoothing=1.5),
            ValueError,
            "label_smoothing must be in",
        ),
        (
            lambda: nf.softmax_cross_entropy(Z, [0, 1, 2], class_weight=[1, 2]),
            ValueError,
            r"class_weight must have shape \(4,\)",
        ),
        (
            lambda: nf.softmax_cross_entropy(Z, [0, 1, 2], class_weight=[1, 1, -1, 1]),
            ValueError,
            "class_weight must not be negative, got -1",
        ),
        (
            lambda: nf.softmax_cross_entropy(Z, [0, 1, -1]),
            ValueError,
            "labels must be class indices",
        ),
        (
            lambda: nf.softmax_cross_entropy(Z, [0, 1, 2], ignore_index=2**63),
            ValueError,
            r"ignore_index must be in \[-2\*\*63, 2\*\*63\), got 9223372036854775808",
        ),
        (
            lambda: nf.softmax_cross_entropy(Z, [0, 1, 2], ignore_index=0.5),
            TypeError,
            "ignore_index must be an int",
        ),
        (
            lambda: nf.softmax_cross_entropy(Z, np.ones((3, 4)), ignore_index=1),
            ValueError,
            "labels must be class indices for ignore_index",
        ),
    ],
)
def test_errors_of_hinge_and_elements(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
    assert not FROZEN.any()
