"""The loss at chance, with a penalty, and on a tiny set."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from checks_data import Own, State, dense, digits
from gradients import Array
from networks import F64, everything, numbers
from nnfast import nn
from nnfast.checks import loss_at_chance, overfit_tiny, regularization_raises_loss

X, LABELS = digits()


# ---- at chance ----


def silent(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Dense(n_in, n_out, init="zeros"))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (nf.softmax_cross_entropy, math.log(10)),
        (partial(nf.softmax_cross_entropy, label_smoothing=0.2), math.log(10)),
        (nf.svm_loss, 9),
        (partial(nf.svm_loss, margin=2.0), 18),
    ],
)
def test_the_expected_loss_of_ten_classes(loss: Any, expected: float) -> None:
    result = loss_at_chance(silent(64, 10), X, LABELS, loss=loss)
    assert result.expected == pytest.approx(expected)
    assert result.loss == pytest.approx(expected)
    assert result.passed


def test_the_expected_loss_of_two_classes() -> None:
    y = (LABELS > 4).astype(float)[:, None]
    result = loss_at_chance(silent(64, 1), X, y, loss=nf.binary_cross_entropy_with_logits)
    assert result.expected == pytest.approx(math.log(2))
    assert result.passed


def test_frequencies_have_their_entropy() -> None:
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    entropy = -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))
    net, x = silent(4, 3), numbers((100, 4))
    uniform = loss_at_chance(net, x, labels)
    assert uniform.expected == pytest.approx(math.log(3))
    known = loss_at_chance(net, x, labels, prior="frequencies")
    assert known.expected == pytest.approx(entropy)
    net.params[1][...] = np.log([0.7, 0.2, 0.1])
    assert loss_at_chance(net, x, labels, prior="frequencies").loss == pytest.approx(entropy)

    binary = (np.arange(100) < 20).astype(float)[:, None]
    loss = nf.binary_cross_entropy_with_logits
    known = loss_at_chance(silent(4, 1), x, binary, loss=loss, prior="frequencies")
    assert known.expected == pytest.approx(-0.2 * math.log(0.2) - 0.8 * math.log(0.8))

    one_hot = np.eye(3)[labels]
    known = loss_at_chance(silent(4, 3), x, one_hot, prior="frequencies")
    assert known.expected == pytest.approx(entropy)


def test_it_is_the_loss_in_training_without_dropout() -> None:
    def make(p: float, mode: Any) -> nn.Sequential:
        drop = nn.Dropout(p, mode=mode, rng=0)
        layers = [nn.Dense(64, 32, rng=0), nn.BatchNorm(32), nn.ReLU(), drop]
        return nn.Sequential(*layers, nn.Dense(32, 10, rng=1))

    def first(net: nn.Sequential) -> float:
        return nf.softmax_cross_entropy(net.forward(X, training=True), LABELS)[0]

    for p, mode in ((0.0, "inverted"), (0.5, "inverted")):
        expected = pytest.approx(first(make(0.0, mode)), rel=1e-5)
        assert loss_at_chance(make(p, mode), X, LABELS).loss == expected
    connected = nn.DropConnect(64, 10, 0.5, rng=0)
    expected = nf.softmax_cross_entropy(connected.forward(X), LABELS)[0]
    assert loss_at_chance(connected, X, LABELS).loss == pytest.approx(expected, rel=1e-5)
    # What vanilla dropout keeps is scaled by 1 - p where nothing is dropped.
    net = make(0.0, "inverted")
    net.named_params()["4.weight"][...] *= 0.75
    vanilla = loss_at_chance(make(0.25, "vanilla"), X, LABELS).loss
    assert vanilla == pytest.approx(first(net), rel=1e-5)


def test_weights_too_large_and_labels_that_are_known() -> None:
    net = dense(64, 32, 10)
    assert loss_at_chance(net, X, LABELS).passed
    for param in net.params:
        param *= 5
    result = loss_at_chance(net, X, LABELS)
    assert result.loss > 10
    assert not result.passed
    told = 5 * np.eye(10)[LABELS]
    known = loss_at_chance(nn.Flatten(), told, LABELS)
    assert known.loss < 0.1
    assert not known.passed
    assert str(known) == f"loss {known.loss:.4g}, at chance 2.303"


def test_of_few_rows_the_loss_may_differ() -> None:
    made = nf.checks.LossAtChance
    assert made(1.4, 2.303, rows=16).passed
    assert not made(1.4, 2.303, rows=1600).passed
    assert not made(math.nan, 2.303, rows=16).passed


# ---- with a penalty ----


def test_regularization_adds_its_penalty() -> None:
    net = dense(64, 32, 10)
    net.params[1][...] = 100.0  # biases are left out
    plain = nf.softmax_cross_entropy(net.forward(X), LABELS)[0]
    weights = [net.params[0], net.params[2]]
    result = regularization_raises_loss(net, X, LABELS, strength=0.1)
    assert result.plain == pytest.approx(plain, rel=1e-5)
    penalty = nf.penalties.l2(weights, 0.1)
    assert result.penalized - result.plain == pytest.approx(penalty, rel=1e-5)
    assert result.passed
    result = regularization_raises_loss(net, X, LABELS, penalty=nf.penalties.l1, strength=0.1)
    penalty = nf.penalties.l1(weights, 0.1)
    assert result.penalized - result.plain == pytest.approx(penalty, rel=1e-5)
    assert str(result) == f"loss {result.plain:.4g}, with the penalty {result.penalized:.4g}"


def test_names_of_version_0_1_warn() -> None:
    with pytest.warns(DeprecationWarning, match="is called regularization_raises_loss now"):
        assert nf.checks.regularisation_raises_loss is regularization_raises_loss
    with pytest.raises(AttributeError, match="no attribute 'regularisation'"):
        _ = nf.checks.regularisation


def test_regularization_that_raises_nothing() -> None:
    assert not regularization_raises_loss(silent(64, 10), X, LABELS).passed
    net = dense(64, 10)
    assert not regularization_raises_loss(net, X, LABELS, penalty=lambda w, s: -s).passed
    assert not regularization_raises_loss(net, X, LABELS, penalty=lambda w, s: math.inf).passed
    net.params[0][0, 0] = np.nan
    assert not regularization_raises_loss(net, X, LABELS).passed
    slopes = nn.Sequential(nn.PReLU(10))  # no weights but these
    assert regularization_raises_loss(slopes, X[:, :10], LABELS).passed


# ---- a tiny set ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid])
def test_a_tiny_set_is_learned_by_heart(activation: Any, dtype: Any) -> None:
    net = dense(64, 32, 10, activation=activation, dtype=dtype)
    result = overfit_tiny(net, X, LABELS)
    assert result.passed
    assert (result.accuracy, result.rows, result.rate) == (1.0, 10, 1e-2)
    assert result.losses[-1] < 0.1 * result.losses[0]
    assert len(result.losses) < 300
    assert str(result).endswith(f"on 10 rows in {len(result.losses)} steps, 100% right")


def test_its_first_step_is_adams() -> None:
    net = dense(64, 32, 10)
    rows = np.random.default_rng(nf._seeds.seed_of(3)).permutation(len(X))[:5]
    result = overfit_tiny(net, X, LABELS, size=5, rng=3, rates=[1e-3], steps=2)
    losses = []
    opt = nf.optim.Adam(net.params, lr=1e-3)
    for _ in range(2):
        loss, dz = nf.softmax_cross_entropy(net.forward(X[rows], training=True), LABELS[rows])
        losses.append(loss)
        net.backward(dz)
        opt.step(net.grads)
    np.testing.assert_allclose(result.losses, losses, 1e-6)


@pytest.mark.parametrize("mode", ["inverted", "vanilla"])
def test_dropout_does_not_hinder(mode: Any) -> None:
    drops = [nn.Dropout(0.9, mode=mode, rng=0), nn.DropConnect(32, 10, 0.9, rng=1)]
    net = nn.Sequential(nn.Dense(64, 32, rng=0), nn.ReLU(), *drops)
    assert overfit_tiny(net, X, LABELS).passed
    branch = nn.StochasticDepth(nn.Dense(64, 64, rng=0), 0.9, rng=0)
    assert overfit_tiny(branch, X, X[:, ::-1], loss=nf.mse_loss).passed


def test_regression_is_judged_by_its_loss() -> None:
    y = X[:, 2:3] * X[:, 3:4]
    result = overfit_tiny(dense(64, 32, 1), X, y, loss=nf.mse_loss)
    assert result.accuracy is None
    assert result.passed
    rows = np.random.default_rng(nf._seeds.seed_of(0)).permutation(len(X))[:10]
    assert result.constant == pytest.approx(y[rows].var(axis=0).mean(), rel=1e-5)
    assert str(result).endswith("steps")
    nothing = Own(lambda x: 0 * x, lambda dy, x: 0 * dy)
    blocked = nn.Sequential(nn.Dense(64, 1, rng=0), nothing)
    assert not overfit_tiny(blocked, X, y, loss=nf.mse_loss).passed


def test_how_far_a_loss_must_fall() -> None:
    def passes(first: float, last: float, constant: float, accuracy: float | None = None) -> bool:
        losses = np.array([first, last])
        return nf.checks.Overfitting(losses, accuracy, constant, rows=10, rate=1e-2).passed

    assert passes(10, 0.04, constant=1)
    assert not passes(10, 0.06, constant=1)
    assert passes(10, 0.009, constant=0)
    assert not passes(10, 0.011, constant=0)
    assert passes(2, 1, constant=2, accuracy=1.0)
    assert not passes(2, 1, constant=2, accuracy=0.9)
    assert overfit_tiny(dense(64, 32, 1), X, np.full((len(X), 1), 0.3), loss=nf.mse_loss).passed


def test_a_layer_that_lets_nothing_through() -> None:
    nothing = Own(lambda x: 0 * x, lambda dy, x: 0 * dy)
    net = nn.Sequential(nn.Dense(64, 32, rng=0), nothing, nn.Dense(32, 10, rng=1))
    result = overfit_tiny(net, X, LABELS, steps=40)
    assert not result.passed
    assert result.accuracy is not None
    assert result.accuracy < 1
    assert len(result.losses) == 40


def test_equal_rows_do_not_contradict_each_other() -> None:
    x = np.repeat(X[:5], 2, axis=0)
    result = overfit_tiny(dense(64, 32, 10), x, np.arange(10))
    assert result.passed
    assert result.rows == 5


def test_the_best_rate_is_reported() -> None:
    net = dense(64, 32, 10)
    assert overfit_tiny(net, X, LABELS, rates=[1e-9, 1e-2]).rate == 1e-2
    worse = overfit_tiny(net, X, LABELS, rates=[1e-9, 1e-6], steps=20)
    assert (worse.passed, worse.rate) == (False, 1e-6)


def test_a_loss_that_is_not_finite() -> None:
    result = overfit_tiny(dense(64, 10), np.full_like(X, np.nan), LABELS)
    assert not result.passed
    assert str(result) == "the loss is no number"


def test_labels_that_are_ignored_are_no_failure() -> None:
    labels = np.where(np.arange(len(LABELS)) % 2, 255, LABELS)
    loss = partial(nf.softmax_cross_entropy, ignore_index=255)
    assert overfit_tiny(dense(64, 32, 10), X, labels, loss=loss).passed
    assert overfit_tiny(dense(64, 32, 10), X, np.full(len(X), 255), loss=loss).passed


# ---- all of them ----


@pytest.mark.parametrize("check", [loss_at_chance, regularization_raises_loss, overfit_tiny])
def test_nothing_is_changed(check: Any) -> None:
    net, x, labels = everything(), numbers((12, 2, 3)), np.arange(12) % 3
    state = State(net, x, labels)
    check(net, x, labels)
    state.assert_same()


@pytest.mark.parametrize("check", [loss_at_chance, regularization_raises_loss, overfit_tiny])
def test_common_errors(check: Any) -> None:
    net = dense(64, 10, dtype=F64)
    with pytest.raises(TypeError, match="net must be a Layer"):
        check(None, X, LABELS)
    with pytest.raises(TypeError, match="loss must be a function"):
        check(net, X, LABELS, loss=None)
    with pytest.raises(ValueError, match="X and y must have as many rows"):
        check(net, X, LABELS[1:])
    with pytest.raises(ValueError, match="x must have shape"):
        check(net, X[:, 1:], LABELS)


@pytest.mark.parametrize(
    ("check", "given", "error", "message"),
    [
        (loss_at_chance, {"prior": "flat"}, ValueError, "prior must be 'uniform' or 'frequencies'"),
        (regularization_raises_loss, {"strength": 0}, ValueError, "strength must be positive"),
        (regularization_raises_loss, {"penalty": 1}, TypeError, "penalty must be a function"),
        (overfit_tiny, {"size": 0}, ValueError, "size must be at least 1"),
        (overfit_tiny, {"steps": 0}, ValueError, "steps must be at least 1"),
        (overfit_tiny, {"rates": []}, ValueError, "rates must not be empty"),
        (overfit_tiny, {"rates": [1e-3, 0]}, ValueError, r"rates\[1\] must be positive"),
        (overfit_tiny, {"rng": 0.5}, TypeError, "rng must be"),
    ],
)
def test_own_errors(check: Any, given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check(dense(64, 10), X, LABELS, **given)


def test_the_arrays_that_were_given_may_be_lists() -> None:
    x: list[Any] = numbers((6, 2)).tolist()
    result: Array = overfit_tiny(dense(2, 8, 2), x, [0, 1, 0, 1, 0, 1], size=2).losses
    assert len(result) > 0
