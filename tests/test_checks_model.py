"""check_model: planted faults by name, no alarm on healthy networks, skipped checks, what it prints, errors."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import nnfast as nf
from checks_data import Own, State, dense, digits
from gradients import Array
from networks import every_network, inputs, numbers
from nnfast import nn, optim
from nnfast.checks import ModelReport, check_model
from nnfast.checks.data import mixture
from nnfast.checks.rate import too_high, too_low

X, LABELS = digits()
ORDER = np.argsort(LABELS, kind="stable")
NAMES = [
    "input scale",
    "shuffling",
    "finite values",
    "first weights",
    "loss at chance",
    "regularization",
    "gradient",
    "overfitting",
    "rate not too high",
    "rate not too low",
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small are not shared among threads for good on a machine that has other work, too."""
    with threadpool_limits(1, user_api="blas"):
        yield


def checked(net: nn.Layer, x: Any = X, y: Any = LABELS, **given: Any) -> ModelReport:
    return check_model(net, x, y, **{"optimizer": optim.Adam, "verbose": False, **given})


def found(report: ModelReport, name: str) -> Any:
    return next(finding for finding in report.findings if finding.name == name)


def network(
    n_in: int, n_out: int, activation: Any, norm: bool, drop: float, width: int, dtype: Any
) -> nn.Sequential:
    """Two hidden layers with all that goes between them."""
    rng = np.random.default_rng(0)
    layers: list[nn.Layer] = []
    for side in (n_in, width):
        layers.append(nn.Dense(side, width, rng=rng, dtype=dtype))
        layers += [nn.BatchNorm(width, dtype=dtype)] if norm else []
        layers.append(activation())
        layers += [nn.Dropout(drop, rng=rng)] if drop else []
    return nn.Sequential(*layers, nn.Dense(width, n_out, rng=rng, dtype=dtype))


# ---- six faults, and healthy networks ----


def test_a_healthy_network_passes_everything() -> None:
    report = checked(dense(64, 100, 10))
    assert report.passed == NAMES
    assert report.failed == report.skipped == []
    assert [finding.name for finding in report.findings] == NAMES
    assert not any(finding.advice for finding in report.findings)


def signs(n: int) -> Array:
    """A column of small weights."""
    return np.random.default_rng(0).normal(0, 0.1, (n, 1)).astype(np.float32)


WRONG = Own(np.tanh, lambda dy, x: dy * (1 - x * x))
FAULTS: dict[str, tuple[str, Any]] = {
    "wrong gradient": (
        "gradient",
        lambda: checked(nn.Sequential(nn.Dense(64, 32, rng=0), WRONG, nn.Dense(32, 10, rng=1))),
    ),
    "sign of a gradient": (
        "gradient",
        lambda: checked(
            nn.Sequential(dense(64, 32), Own(np.tanh, lambda dy, x: -dy / np.cosh(x) ** 2))
        ),
    ),
    "zero init": ("first weights", lambda: checked(dense(64, 100, 10, init="zeros"))),
    "constant init": (
        "first weights",
        lambda: checked(dense(64, 50, 50, 10, init=partial(nf.init.constant, value=0.01))),
    ),
    "constant init, dropout": (
        "first weights",
        lambda: checked(
            nn.Sequential(
                nn.Dense(64, 50, init=partial(nf.init.constant, value=0.01)),
                nn.Tanh(),
                nn.Dropout(0.5, rng=0),
                nn.Dense(50, 10, init=partial(nf.init.constant, value=0.01)),
            )
        ),
    ),
    "Adam too high": ("rate not too high", lambda: checked(dense(64, 100, 10), lr=10.0)),
    "SGD too high": (
        "rate not too high",
        lambda: checked(dense(64, 100, 10), optimizer=optim.SGD, lr=100.0),
    ),
    "momentum too high, BatchNorm": (
        "rate not too high",
        lambda: checked(
            network(64, 10, nn.ReLU, True, 0.2, 64, np.float32),
            optimizer=partial(optim.SGD, momentum=0.9),
            lr=100.0,
        ),
    ),
    "Adam too low": ("rate not too low", lambda: checked(dense(64, 100, 10), lr=1e-7)),
    "SGD too low": (
        "rate not too low",
        lambda: checked(dense(64, 100, 10), optimizer=optim.SGD, lr=1e-6),
    ),
    "rate of 0": ("rate not too low", lambda: checked(dense(64, 100, 10), lr=0)),
    "no shuffling of ten classes": (
        "shuffling",
        lambda: checked(dense(64, 100, 10), X[ORDER], LABELS[ORDER], shuffle=False),
    ),
    "no shuffling of two": (
        "shuffling",
        lambda: checked(dense(64, 100, 2), X[ORDER], LABELS[ORDER] // 5, shuffle=False),
    ),
    "unscaled bytes": ("input scale", lambda: checked(dense(64, 100, 10), np.abs(100 * X))),
    "bytes as integers": (
        "input scale",
        lambda: checked(dense(64, 100, 10), np.minimum(np.abs(100 * X), 255).astype(np.uint8)),
    ),
    "one large feature": (
        "input scale",
        lambda: checked(dense(64, 100, 10), X * np.where(np.arange(64) == 9, 1e4, 1)),
    ),
    "one tiny feature": (
        "input scale",
        lambda: checked(dense(64, 100, 10), X * np.where(np.arange(64) == 9, 1e-6, 1)),
    ),
    "equal columns": (
        "first weights",
        lambda: checked(
            dense(64, 50, 10, init=lambda shape, **_: np.ones(shape, np.float32) * signs(shape[0]))
        ),
    ),
    "all features tiny": ("input scale", lambda: checked(dense(64, 100, 10), 1e-4 * X)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(fault: str) -> None:
    name, report = FAULTS[fault][0], FAULTS[fault][1]()
    assert report.failed == [name]
    assert found(report, name).advice
    assert len(report.findings) == len(NAMES)


RATES: list[tuple[Any, float]] = [
    (optim.Adam, 1e-3),
    (optim.SGD, 1e-1),
    (optim.SGD, 1e-2),
    (partial(optim.SGD, momentum=0.9), 1e-2),
    (optim.AdamW, 3e-4),
    (optim.RMSprop, 1e-3),
    (optim.Adagrad, 1e-2),
    (optim.Adam, 1e-2),
]


@pytest.mark.parametrize("data", ["digits", "sixteenths", "random labels"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid])
@pytest.mark.parametrize("norm", [False, True])
def test_no_alarm_on_healthy_networks(data: str, activation: Any, norm: bool) -> None:
    kind = ["digits", "sixteenths", "random labels"].index(data)
    which = [nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid].index(activation)
    # Each with and without dropout beside each other, but not all of them beside all.
    drop = 0.5 * ((kind + which + norm) % 2)
    place = 5 * kind + 3 * norm + bool(drop) + which
    x, y = X, LABELS
    if data == "sixteenths":
        x = np.round(np.abs(X) * 4).clip(0, 16) / 16
    if data == "random labels":
        x, y = numbers((400, 20)), np.random.default_rng(0).integers(0, 10, 400)
    optimizer, lr = RATES[place % len(RATES)]
    width, dtype = ((16, np.float32), (100, np.float64), (64, np.float32))[place % 3]
    net = network(x.shape[1], 10, activation, norm, drop, width, dtype)
    report = checked(net, x, y, optimizer=optimizer, lr=lr, batch_size=(32, 64)[place % 2])
    assert report.passed == NAMES, report


def targets(kind: str) -> tuple[Array, Any, int]:
    """What is learned, its loss, and how many scores that takes."""
    two = (LABELS > 4).astype(np.float32)[:, None]
    one_hot = np.eye(10, dtype=np.float32)[LABELS]
    return {
        "regression": (X[:, 2:4] * X[:, 3:5], nf.mse_loss, 2),
        "smoothed": (LABELS, partial(nf.softmax_cross_entropy, label_smoothing=0.1), 10),
        "probabilities": (0.9 * one_hot + 0.01, nf.softmax_cross_entropy, 10),
        "hinge": (LABELS, nf.svm_loss, 10),
        "two classes": (two, nf.binary_cross_entropy_with_logits, 1),
        "squares of one-hot rows": (one_hot, nf.mse_loss, 10),
        "squares of 0 and 1": (two, nf.mse_loss, 1),
        "huber": (X[:, :1] + X[:, 20:21], nf.huber_loss, 1),
    }[kind]


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        "regression",
        "smoothed",
        "probabilities",
        "hinge",
        "two classes",
        "squares of one-hot rows",
        "squares of 0 and 1",
        "huber",
    ],
)
def test_no_alarm_with_other_losses(kind: str, norm: bool) -> None:
    y, loss, n_out = targets(kind)
    net = network(64, n_out, nn.ReLU, norm, 0.2, 64, np.float32)
    report = checked(net, X, y, loss=loss)
    assert report.failed == [], report
    no_chance = kind in ("regression", "huber") or kind.startswith("squares")
    assert ("loss at chance" in report.skipped) == no_chance
    assert ("shuffling" in report.skipped) == (kind in ("regression", "huber"))


def test_no_alarm_on_small_and_odd_networks() -> None:
    two = numbers((300, 2))
    xor = (two[:, 0] * two[:, 1] > 0).astype(int)
    zeros_last = nn.Sequential(dense(64, 100), nn.ReLU(), nn.Dense(100, 10, init="zeros"))
    images = X.reshape(-1, 1, 8, 8)
    residual = nn.StochasticDepth(nn.Sequential(dense(64, 32, 64), nn.Tanh()), 0.5, rng=0)
    rare = np.where(numbers((500, 20_000), 1) > 3.7, 0.1, 0.0)  # as counts of words are
    for net, x, y in (
        (dense(64, 10), X, LABELS),
        (dense(2, 2), two, (two[:, 0] > 0).astype(int)),
        (dense(2, 16, 2, activation=nn.Tanh), two, xor),
        (dense(64, 32, 32, 32, 32, 10), X, LABELS),
        (zeros_last, X, LABELS),
        (nn.Sequential(nn.Flatten(), dense(64, 32, 10)), images, LABELS),
        (nn.Sequential(residual, nn.ReLU(), dense(64, 10)), X, LABELS),
        (nn.Sequential(nn.Dropout(0.1, rng=0), dense(64, 32, 10)), X, LABELS),
        (dense(20_000, 8, 2), rare, np.arange(500) % 2),
        (dense(64, 32, 10), X[:40], LABELS[:40]),
        (
            network(1, 2, nn.ReLU, True, 0.0, 16, np.float32),
            two[:, :1],
            (two[:, 0] > 0).astype(int),
        ),
        (dense(2, 2), two, np.random.default_rng(0).integers(0, 2, 300)),
        (dense(64, 32, 10), X, np.where(np.arange(len(X)) % 30, 0, LABELS)),
    ):
        report = checked(net, x, y)
        assert report.failed == [], report


# ---- the input ----


def test_the_scale_is_that_of_the_input_of_the_first_weights() -> None:
    raw = 255 * np.abs(X)
    normalized = nn.Sequential(nn.Sequential(nn.BatchNorm(64), dense(64, 32)), dense(32, 10))
    halved = Own(lambda x: x / 255, lambda dy, x: dy / 255)
    for net in (normalized, nn.Sequential(halved, dense(64, 32, 10))):
        assert "input scale" in checked(net, raw).passed
    assert "input scale" in checked(dense(64, 32, 10), raw).failed


class Embedding(nn.Layer):
    """Rows of a table, by indices."""

    def __init__(self) -> None:
        self.table, self.dtable = numbers((300, 10)), np.zeros((300, 10))
        self.x = np.zeros(0, int)

    def forward(self, x: Any, training: bool = False) -> Array:
        self.x = np.asarray(x)[:, 0]
        return self.table[self.x]

    def backward(self, dy: Any) -> None:
        self.dtable[...] = 0
        np.add.at(self.dtable, self.x, dy)

    def named_params(self) -> dict[str, Array]:
        return {"table": self.table}

    def named_grads(self) -> dict[str, Array]:
        return {"table": self.dtable}


def test_indices_have_no_scale() -> None:
    indices = np.arange(600)[:, None] % 300
    report = checked(Embedding(), indices, indices[:, 0] % 10)
    assert report.failed == []
    assert report.skipped == ["input scale"]


# ---- batches ----


def pairs(order: Any, size: int = 32) -> Iterator[tuple[Array, Array]]:
    for first in range(0, len(order) - size + 1, size):
        rows = order[first : first + size]
        yield X[rows], LABELS[rows]


def test_batches_of_the_users_own() -> None:
    net = dense(64, 100, 10)
    assert checked(net, batches=pairs(ORDER)).failed == ["shuffling"]
    shuffled = np.random.default_rng(0).permutation(len(X))
    assert checked(net, batches=pairs(shuffled)).passed == NAMES
    assert checked(net, batches=list(pairs(shuffled)), lr=1e-7).failed == ["rate not too low"]


def test_rows_in_an_order_that_mixes_classes_are_shuffled_enough() -> None:
    assert checked(dense(64, 32, 10), shuffle=False).failed == []
    assert checked(dense(64, 32, 10), shuffle=False, batch_size=2000).failed == []


def test_the_mixture_is_in_numbers() -> None:
    report = checked(dense(64, 32, 10), X[ORDER], LABELS[ORDER], shuffle=False, batch_size=32)
    of_batch = [len(np.unique(LABELS[ORDER][i : i + 32])) for i in range(0, 1797 - 31, 32)]
    shares = np.bincount(LABELS) / len(LABELS)
    expected = (1 - (1 - shares) ** 32).sum()
    assert found(report, "shuffling").found == (
        f"{np.mean(of_batch):.3g} classes in a batch, {expected:.3g} at random"
    )


def test_batches_that_count_as_mixed() -> None:
    ten, two = np.arange(1000) % 10, np.arange(1000) % 2

    def mixed(labels: Array, *batches: list[int]) -> bool:
        return mixture(labels, [np.array(batch) for batch in batches]).mixed

    assert not mixed(ten, *[[1] * 20] * 5)
    assert not mixed(ten, *[[1] * 10 + [2] * 5 + [3] * 5] * 5)
    assert mixed(ten, *[[1, 2, 3, 4, 5, 6] * 4] * 5)  # more than half of the classes
    assert not mixed(two, *[[0] * 8, [1] * 8] * 5)
    assert mixed(two, [0, 0], [1, 1])  # that happens
    rarely = np.arange(1000) % 100 == 0
    assert mixed(rarely.astype(int), *[[0] * 32] * 10)
    result = mixture(two, [np.array([0, 0, 0, 1])] * 3)
    assert result.found == 2
    assert result.expected == pytest.approx(2 * (1 - 0.5**4))


# ---- numbers that are none ----


def test_the_layer_with_the_first_nan_is_named() -> None:
    def logarithm(x: Array) -> Array:
        return np.log(x)

    net = nn.Sequential(nn.Dense(64, 32, rng=0), Own(logarithm, lambda dy, x: dy / x), nn.Tanh())
    report = checked(net, X, LABELS)
    assert report.failed == ["finite values"]
    assert found(report, "finite values").found.endswith(
        "first in what comes out of layer 1, Own()"
    )
    assert set(report.skipped) == set(NAMES[3:])


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("X", "first in X"),
        ("parameter", "first in the parameter 2.bias"),
        ("loss", "first in the loss or its gradient"),
        ("gradient", "first in a gradient of layer 1, Own()"),
    ],
)
def test_the_place_of_the_first_value_that_is_not_finite(place: str, message: str) -> None:
    layer = Own(np.tanh, lambda dy, x: dy / (0 if place == "gradient" else np.cosh(x) ** 2))
    net = nn.Sequential(nn.Dense(64, 32, rng=0), layer, nn.Dense(32, 10, rng=1))
    x, loss = X, nf.softmax_cross_entropy
    if place == "X":
        x = np.where(np.arange(64) == 5, np.inf, X)
    if place == "parameter":
        net.named_params()["2.bias"][3] = np.nan
    if place == "loss":
        loss = lambda scores, y: (math.nan, scores)  # noqa: E731
    report = checked(net, x, loss=loss)
    assert "finite values" in report.failed
    assert found(report, "finite values").found.endswith(message)


class Trials:
    """Losses after trainings, as they are needed: by factor, or by factor and steps."""

    steps = 100

    def __init__(self, start: float, known: dict[Any, float]) -> None:
        self.start, self.known = start, known

    def after(self, factor: float = 1.0, steps: int = 100) -> float:
        known = self.known.get((factor, steps), self.known.get(factor, self.known[0]))
        return float(known)


@pytest.mark.parametrize(
    ("known", "factor"),
    [
        ({1: 1.0, 0: 0.1}, None),  # it learns
        ({1: 9.0, (1, 400): 1.0, 0: 0.1}, None),  # in time
        ({1: 2.3, 0.1: 2.3, 0.01: 0.5, 0: 2.4}, 0.01),
        ({1: 2.3, 0: 1.9}, None),  # nor does another rate
        ({1: np.inf, 0.1: np.inf, 0.01: 2.3, 0: 2.5}, 0.01),
        ({1: 9.0, 0.1: 2.4, 0: 2.6}, 0.1),
        ({1: 9.0, 0: 2.6}, None),
    ],
)
def test_a_rate_is_too_high(known: dict[Any, float], factor: float | None) -> None:
    trials: Any = Trials(2.5, known)
    assert too_high(trials, constant=2.3) == factor


@pytest.mark.parametrize(
    ("known", "factor"),
    [
        ({1: 2.499, 10: 2.49, 100: 2.4, 1e3: 1.0, 0: 0.1}, 1e3),
        ({1: 2.499, 0: 2.0}, None),  # nor does another rate
        ({1: 2.47, 0: 0.01}, None),  # it moves
        ({1: 2.53, 0: 0.01}, None),
        ({1: 2.48, 10: 0.9, 0: 0.7}, None),
    ],
)
def test_a_rate_is_too_low(known: dict[Any, float], factor: float | None) -> None:
    trials: Any = Trials(2.5, known)
    assert too_low(trials) == factor


def test_where_a_rate_breaks_the_network() -> None:
    report = checked(dense(64, 100, 10), optimizer=optim.SGD, lr=1e6)
    assert "diverges (first in" in found(report, "rate not too high").found
    elu = nn.Sequential(nn.Dense(64, 32, rng=0), nn.ELU(learn_alpha=True), nn.Dense(32, 10, rng=1))
    report = checked(elu, lr=3.0)
    assert report.failed == ["rate not too high"]
    assert "alpha must be positive" in found(report, "rate not too high").found


# ---- the others of the list ----


def test_weights_too_large_and_a_trained_network() -> None:
    net = dense(64, 100, 10)
    for param in net.params:
        param *= 5
    report = checked(net)
    assert report.failed == ["loss at chance"]
    assert "smaller first weights" in found(report, "loss at chance").advice
    trained = dense(64, 32, 10)
    opt = optim.Adam(trained.params, lr=1e-2)
    for _ in range(60):
        _, dz = nf.softmax_cross_entropy(trained.forward(X, training=True), LABELS)
        trained.backward(dz)
        opt.step(trained.grads)
    report = checked(trained)
    assert report.failed == ["loss at chance"]
    assert "trained already" in found(report, "loss at chance").advice


def test_a_network_that_cannot_learn() -> None:
    nothing = Own(lambda x: 0 * x, lambda dy, x: 0 * dy)
    report = checked(nn.Sequential(nn.Dense(64, 32, rng=0), nothing, nn.Dense(32, 10, rng=1)))
    assert report.failed == ["overfitting"]
    assert report.skipped == ["rate not too high", "rate not too low"]
    assert found(report, "rate not too low").found == "as overfitting failed"


def test_the_wrong_layer_is_named() -> None:
    wrong = Own(np.tanh, lambda dy, x: dy)
    report = checked(nn.Sequential(nn.Dense(64, 32, rng=0), nn.ReLU(), wrong, dense(32, 10)))
    assert found(report, "gradient").found.endswith("; wrong by itself: layer 2, Own()")
    assert "layer 2, Own()" in found(report, "gradient").advice
    report = checked(dense(64, 10), loss=lambda z, y: (nf.svm_loss(z, y)[0], 0 * z + 0.1))
    assert found(report, "gradient").found.endswith("; wrong by itself: the loss")

    class OfBoth(nn.Sequential):
        def backward(self, dy: Any, *, input_gradient: bool = False) -> Any:
            dx = super().backward(dy, input_gradient=input_gradient)
            self.grads[0][...] *= 2
            return dx

    report = checked(OfBoth(nn.Dense(64, 32, rng=0), nn.Tanh(), nn.Dense(32, 10, rng=1)))
    assert report.failed == ["gradient"]
    assert "by itself" not in found(report, "gradient").found


def test_the_wrong_layer_is_named_where_others_have_nothing_to_check() -> None:
    class Ends(nn.Layer):
        def forward(self, x: Any, training: bool = False) -> Array:
            return np.asarray(x)

        def backward(self, dy: Any) -> None: ...

    wrong = Own(np.tanh, lambda dy, x: dy)
    net = nn.Sequential(nn.Flatten(), nn.Dense(64, 32, rng=0), wrong, nn.Dense(32, 10, rng=1))
    report = checked(net, (np.abs(X) > 1).astype(np.uint8))
    assert found(report, "gradient").found.endswith("; wrong by itself: layer 2, Own()")
    report = checked(Ends(), X[:, :10])
    assert "gradient" in report.skipped


def test_a_gradient_that_cannot_be_checked_is_no_fault() -> None:
    stream = np.random.default_rng(0)
    kept: list[Array] = []

    def drop(x: Array) -> Array:
        kept[:] = [2.0 * (stream.random(x.shape) < 0.5)]
        return x * kept[0]

    net = nn.Sequential(dense(64, 64), Own(drop, lambda dy, x: dy * kept[0]), dense(64, 10))
    report = checked(net)
    assert report.failed == []
    assert report.skipped == ["gradient"]


def test_without_parameters_there_is_little_to_judge() -> None:
    report = check_model(nn.Tanh(), X[:, :10], LABELS, verbose=False)
    assert report.failed == []
    assert report.skipped == ["first weights", "regularization", "overfitting", *NAMES[-2:]]


# ---- the optimizer ----


def test_without_an_optimizer_the_rate_is_not_judged() -> None:
    report = checked(dense(64, 32, 10), optimizer=None)
    assert report.skipped == ["rate not too high", "rate not too low"]
    assert "optimizer=" in found(report, "rate not too low").found


def test_optimizers_of_all_kinds() -> None:
    net = dense(64, 100, 10)
    assert checked(net, optimizer=optim.Adam(net.params, lr=10.0)).failed == ["rate not too high"]
    assert checked(net, optimizer=optim.Adam(net.params, lr=1e-7)).failed == ["rate not too low"]
    assert checked(net, optimizer=optim.Adam(net.params, lr=1e-7), lr=1e-3).failed == []
    named = optim.SGD(net.named_params(), lr=1e-6)
    assert checked(net, optimizer=named).failed == ["rate not too low"]
    assert checked(net, optimizer=lambda p: optim.SGD(p, lr=100.0)).failed == ["rate not too high"]


def test_the_loss_is_that_of_a_training() -> None:
    report = checked(dense(64, 100, 10), lr=1e-3)
    start, end = found(report, "rate not too high").found.split()[1:4:2]
    assert 2 < float(start) < 4
    assert float(end) < 1
    assert found(report, "rate not too high").found.endswith("in 100 steps at 0.001")


# ---- around it ----


@every_network
def test_nothing_is_changed(make: Any, sample: tuple[int, ...]) -> None:
    net = make()
    x, labels = inputs(net, (40, *sample)), np.arange(40) % 3
    opt = optim.Adam(net.params)
    state = State(net, x, labels, *opt.state["exp_avg"])
    check_model(net, x, labels, optimizer=opt, verbose=False)
    state.assert_same()
    assert (opt.lr, opt.step_count) == (1e-3, 0)


def test_the_same_report_every_time() -> None:
    net = network(64, 10, nn.ReLU, True, 0.5, 32, np.float32)
    assert checked(net) == checked(net)
    assert checked(net, rng=1) != checked(net)


def test_it_prints_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    report = check_model(dense(64, 32, 10, init="zeros"), X, LABELS, optimizer=optim.Adam)
    printed = capsys.readouterr().out
    assert printed == f"{report}\n"
    lines = printed.splitlines()
    assert lines[0] == "5 checks passed, 1 failed, 4 skipped"
    assert lines[4].startswith(
        "FAILED   first weights      all units are alike, and stay so, in 0."
    )
    assert lines[5].startswith("         try                draw weights at random")
    assert len(lines) == 12
    checked(dense(64, 32, 10))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"net": None}, TypeError, "net must be a Layer"),
        ({"loss": 0}, TypeError, "loss must be a function"),
        ({"y": LABELS[1:]}, ValueError, "X and y must have as many rows"),
        ({"optimizer": None, "lr": 0.1}, ValueError, "lr must come with an optimizer"),
        ({"lr": -0.1}, ValueError, "lr must not be negative"),
        ({"optimizer": "Adam"}, TypeError, "optimizer must be one of nnfast.optim or a function"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"batches": []}, ValueError, "batches must not be empty"),
        ({"batches": [X]}, TypeError, "batches must give pairs of x and y, but not so at 0"),
        ({"rng": "0"}, TypeError, "rng must be"),
        ({"y": LABELS + 1}, ValueError, "labels"),
        ({"X": X[:, 1:]}, ValueError, "x must have shape"),
    ],
)
def test_errors(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        checked(
            **{
                "net": dense(64, 10),
                "x": given.get("X", X),
                **{k: v for k, v in given.items() if k != "X"},
            }
        )
