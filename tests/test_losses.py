"""Losses: value and gradient from one pass, both kinds of labels, errors that change nothing."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnfast as nf
from conftest import FMA_ISAS
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
    for given_labels, wanted in ((labels, one_hot(labels, classes)), (targets, targets)):
        loss, dz = nf.softmax_cross_entropy(z, given_labels)
        expected, gradient = reference(z, wanted.astype(np.float64))
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
        for isa in FMA_ISAS:
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
        (Z, np.zeros(3), None, ValueError, "labels must have the shape of logits"),
        (Z, ["a", "b", "c"], None, TypeError, "labels must be integer class indices"),
        (Z, np.zeros((3, 4), complex), None, TypeError, "labels must be integer class indices"),
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


def test_a_wrong_label_leaves_out_alone() -> None:
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
