"""The learning-rate range search: its steps, its ends, optimizers of all kinds, its picture, errors."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from checks_data import Own, State, dense, digits
from gradients import Array
from networks import everything, numbers
from nnfast import nn
from nnfast.checks import RateRange, learning_rate_range
from nnfast.checks.training import Trainee

X, LABELS = digits()


# ---- the search ----


def by_hand(net: nn.Sequential, opt: Any, rates: Array, size: int, seed: int) -> list[float]:
    """Rows in random order, a higher rate for each batch."""
    rng = np.random.default_rng(seed)
    losses: list[float] = []
    while True:
        order = rng.permutation(len(X))
        for first in range(0, len(X) - size + 1, size):
            if len(losses) == len(rates):
                return losses
            rows = order[first : first + size]
            loss, dz = nf.softmax_cross_entropy(net.forward(X[rows], training=True), LABELS[rows])
            losses.append(loss)
            net.backward(dz)
            opt.lr = rates[len(losses) - 1]
            opt.step(net.grads)


@pytest.mark.parametrize("kind", [nf.optim.Adam, nf.optim.SGD])
def test_it_is_a_training_whose_rate_grows(kind: Any) -> None:
    net = dense(64, 32, 10)
    found = learning_rate_range(
        net, X, LABELS, optimizer=kind, low=1e-5, high=0.1, steps=50, batch_size=128, rng=7
    )
    np.testing.assert_allclose(found.rates, np.geomspace(1e-5, 0.1, 50))
    losses = by_hand(net, kind(net.params), found.rates, 128, nf._seeds.seed_of(7))
    np.testing.assert_array_equal(found.losses, losses)
    assert not found.diverged


@pytest.mark.parametrize(
    ("kind", "usual"), [(nf.optim.Adam, (1e-3, 1e-1)), (nf.optim.SGD, (1e-2, 1.0))]
)
def test_usual_rates_are_found(kind: Any, usual: tuple[float, float]) -> None:
    found = learning_rate_range(dense(64, 100, 10), X, LABELS, optimizer=kind)
    assert found.lowest is not None
    assert found.highest is not None
    assert found.suggestion is not None
    assert usual[0] < found.suggestion < usual[1]
    assert found.lowest <= found.suggestion < found.highest
    assert str(found).endswith(f"suggestion {found.suggestion:.1e}")


def test_it_ends_where_the_loss_has_grown() -> None:
    found = learning_rate_range(dense(64, 100, 10), X, LABELS, high=1e3)
    assert found.diverged
    assert len(found.rates) == len(found.losses) < 100
    assert found.losses[-1] > 4 * found.losses[0] > found.losses[:-1].max()
    assert np.isfinite(found.losses).all()


def test_values_that_are_not_finite_are_left_out() -> None:
    exploding = Own(np.exp, lambda dy, x: dy * np.exp(x))
    net = nn.Sequential(nn.Dense(64, 32, rng=0), exploding, nn.Dense(32, 10, rng=1))
    found = learning_rate_range(net, X, LABELS, optimizer=nf.optim.SGD, high=1e9)
    assert found.diverged
    assert np.isfinite(found.losses).all()
    nothing = learning_rate_range(dense(64, 10), X * np.nan, LABELS)
    assert (len(nothing.losses), nothing.diverged, nothing.suggestion) == (0, True, None)


def test_a_loss_that_does_not_fall_suggests_nothing() -> None:
    found = learning_rate_range(dense(64, 10), X, LABELS, low=1e-12, high=1e-8)
    assert (found.lowest, found.highest, found.suggestion) == (None, None, None)
    assert str(found) == "the loss falls at none of the rates to 1.0e-08"


def test_the_ends_of_a_curve() -> None:
    rates = np.geomspace(1e-4, 1e2, 61)
    falls = 2.0 - 1.5 / (1 + np.exp(-8 * (np.log10(rates) + 2)))  # about 1e-2
    losses = np.where(rates > 1.1, 2 + rates, falls)
    noise = 0.01 * np.random.default_rng(0).standard_normal(61)
    found = RateRange(rates, losses + noise, True)
    assert found.lowest == pytest.approx(10**-2, rel=1)
    assert found.highest == pytest.approx(1.0)
    assert found.suggestion == pytest.approx(0.1)
    steep = RateRange(rates, np.where(rates > 1.1, 9.0, np.where(rates < 0.7, 2.0, 0.5)), True)
    assert steep.suggestion == steep.lowest == pytest.approx(0.794, abs=0.01)


def test_smoothing_is_a_running_average() -> None:
    found = RateRange(np.ones(3), np.array([1.0, 2.0, 4.0]), False)
    weights = np.array([0.81, 0.9, 1.0])
    expected = [1.0, (0.9 + 2) / 1.9, weights @ [1, 2, 4] / weights.sum()]
    np.testing.assert_allclose(found.smoothed, expected)


def test_nothing_is_changed() -> None:
    net, x, labels = everything(), numbers((12, 2, 3)), np.arange(12) % 3
    opt = nf.optim.Adam(net.params)
    state = State(net, x, labels, *opt.state["exp_avg"])
    learning_rate_range(net, x, labels, optimizer=opt, steps=20)
    state.assert_same()
    assert (opt.lr, opt.step_count) == (1e-3, 0)


# ---- optimizers ----


def trained(net: nn.Sequential, optimizer: Any, rate: float, steps: int = 3) -> list[Array]:
    """The parameters after steps of a copy."""
    trainee = Trainee(net, optimizer)
    trainee.set_rate(rate)
    for _ in range(steps):
        trainee.step((X[:32], LABELS[:32]), nf.softmax_cross_entropy)
    return trainee.net.params


def test_an_optimizer_is_copied_with_its_settings_and_state() -> None:
    net = dense(64, 32, 10)
    opt = nf.optim.SGD(net.params, lr=0.1, momentum=0.9, weight_decay=0.1, clip_global_norm=0.5)
    opt.step([np.ones_like(param) for param in net.params])
    copied = trained(net, opt, 0.1)
    for _ in range(3):
        _, dz = nf.softmax_cross_entropy(net.forward(X[:32], training=True), LABELS[:32])
        net.backward(dz)
        opt.step(net.grads)
    for own, of_copy in zip(net.params, copied, strict=True):
        np.testing.assert_array_equal(own, of_copy)


def test_an_optimizer_may_have_the_parameters_in_any_form() -> None:
    net = dense(64, 32, 10)
    w1, b1, w2, b2 = net.params
    plain = trained(net, nf.optim.SGD(net.params), 0.1)
    named = trained(net, nf.optim.SGD(net.named_params()), 0.1)
    turned = trained(net, nf.optim.SGD([b2, w2, b1, w1]), 0.1)
    part = trained(net, nf.optim.SGD([w2, b2]), 0.1)
    for i in range(4):
        np.testing.assert_array_equal(named[i], plain[i])
        np.testing.assert_array_equal(turned[i], plain[i])
    np.testing.assert_array_equal(part[0], w1)
    assert (part[2] != w2).any()


def test_rates_of_groups_keep_their_proportion() -> None:
    net = dense(64, 10)
    groups = [{"params": net.params[:1], "lr": 0.02}, {"params": net.params[1:]}]
    opt = nf.optim.SGD(groups, lr=0.1)
    trainee = Trainee(net, opt)
    trainee.set_rate(0.5)
    assert isinstance(trainee.optimizer, nf.optim.SGD)
    assert trainee.optimizer.lr == 0.5
    assert trainee.optimizer.groups == [{"lr": pytest.approx(0.1)}, {}]
    assert opt.groups == [{"lr": 0.02}, {}]


def test_an_optimizer_of_the_users_own() -> None:
    class Descent:
        def __init__(self, params: list[Array]) -> None:
            self.params, self.lr = params, 0.0

        def step(self, grads: list[Array]) -> None:
            for param, grad in zip(self.params, grads, strict=True):
                param -= self.lr * grad

    net = dense(64, 32, 10)
    own = learning_rate_range(net, X, LABELS, optimizer=Descent, steps=40)
    ours = learning_rate_range(net, X, LABELS, optimizer=nf.optim.SGD, steps=40)
    np.testing.assert_allclose(own.losses[:30], ours.losses[:30], 1e-4)


# ---- the picture ----


def test_the_picture(tmp_path: Path) -> None:
    found = learning_rate_range(dense(64, 32, 10), X, LABELS, steps=40)
    found.save_picture(tmp_path / "rate.png")
    assert (tmp_path / "rate.png").read_bytes().startswith(b"\x89PNG")
    found.save_picture(str(tmp_path / "rate.svg"))
    drawn = (tmp_path / "rate.svg").read_text()
    assert drawn.startswith("<?xml")
    nothing = RateRange(np.array([0.1]), np.array([1.0]), False)
    nothing.save_picture(tmp_path / "nothing.png")
    assert (tmp_path / "nothing.png").exists()


def test_the_plot_goes_into_axes() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    found = learning_rate_range(dense(64, 32, 10), X, LABELS, steps=40)
    found.plot(axes)
    loss, smoothed, suggestion = axes.lines
    np.testing.assert_array_equal(loss.get_xydata(), np.stack([found.rates, found.losses], 1))
    np.testing.assert_array_equal(smoothed.get_ydata(), found.smoothed)
    assert suggestion.get_xdata()[0] == found.suggestion
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "learning rate"


def test_pyplot_is_not_loaded(tmp_path: Path) -> None:
    code = f"""
import sys, numpy as np, nnfast as nf
nf.checks.RateRange(np.ones(2), np.ones(2), False).save_picture({str(tmp_path / "p.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_checks_load_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, nnfast as nf; nf.checks; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        RateRange(np.ones(1), np.ones(1), False).save_picture("p.png")


# ---- errors ----


class NoRate:
    def __init__(self, params: list[Array]) -> None: ...

    def step(self, grads: list[Array]) -> None: ...


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"net": 1}, TypeError, "net must be a Layer"),
        ({"loss": "mse"}, TypeError, "loss must be a function"),
        ({"y": LABELS[:-1]}, ValueError, "X and y must have as many rows"),
        ({"low": 0}, ValueError, "low must be positive"),
        ({"high": np.inf}, ValueError, "high must be finite"),
        ({"low": 1.0, "high": 1.0}, ValueError, "high must be above low"),
        ({"steps": 1}, ValueError, "steps must be at least 2"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"optimizer": "Adam"}, TypeError, "optimizer must be one of nnfast.optim or a function"),
        ({"optimizer": NoRate}, TypeError, "optimizer must make what has lr, got NoRate"),
        ({"optimizer": lambda params: None}, TypeError, "what has lr, got NoneType"),
        (
            {"optimizer": nf.optim.SGD([np.zeros(3)])},
            ValueError,
            "optimizer must be of parameters of net",
        ),
        ({"rng": []}, TypeError, "rng must be"),
    ],
)
def test_errors(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        learning_rate_range(**{"net": dense(64, 10), "X": X, "y": LABELS, **given})


def test_a_batch_that_is_at_fault_is_an_error() -> None:
    net = nn.Sequential(nn.Dense(64, 10, rng=0), nn.BatchNorm(10))
    with pytest.raises(ValueError, match="two values a channel"):
        learning_rate_range(net, X, LABELS, batch_size=1)
    with pytest.raises(ValueError, match="labels"):
        learning_rate_range(dense(64, 10), X, np.where(np.arange(len(LABELS)) > 9, LABELS, 77))


def test_a_layer_that_refuses_its_parameters_has_diverged() -> None:
    net = nn.Sequential(nn.Dense(64, 32, rng=0), nn.ELU(learn_alpha=True), nn.Dense(32, 10, rng=1))
    net.params[2][...] = 0.01
    found = learning_rate_range(net, X, LABELS, low=1e-4)
    assert found.diverged
    assert found.losses[-1] < 4 * found.losses[0]
