"""The training of the estimators: against one written out, in pieces, when it stops, rates, names."""

import math
import pickle
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier

import nnfast as nf
from estimator_data import LABELS, Array, X, Y, Z, assert_same_bits, both, data, differ, params
from nnfast.estimators import NNClassifier, NNRegressor, perceptron, training


# ---- steps ----
def by_hand(
    sizes: list[int],
    between: Callable[[int, np.random.Generator], list[nf.nn.Layer]],
    loss: Callable[..., Any],
    targets: Array,
    *,
    x: Array = X,
    parts: list[int],
    epochs: int,
    bias: bool = True,
) -> nf.nn.Sequential:
    """A network trained as the estimators say they do: parts are where batches begin and end."""
    rng = np.random.default_rng(np.random.RandomState(7).randint(2**31 - 1))
    layers: list[nf.nn.Layer] = []
    for n_in, n_out in pairwise(sizes[:-1]):
        layers.append(nf.nn.Dense(n_in, n_out, bias=bias, dtype=x.dtype, init="he", rng=rng))
        layers += between(n_out, rng)
    layers.append(nf.nn.Dense(*sizes[-2:], dtype=x.dtype, init="zeros"))
    net = nf.nn.Sequential(*layers)
    named, grads = net.named_params(), net.named_grads()
    weights = [name for name in named if name.endswith(".weight")]
    opt = nf.optim.AdamW(
        [
            {"params": {name: named.pop(name) for name in weights}, "weight_decay": 0.1},
            {"params": named, "weight_decay": 0.0},
        ],
        lr=0.01,
    )
    in_order = {name: grads[name] for name in (*weights, *named)}
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for first, last in pairwise(parts):
            rows = order[first:last]
            _, dz = loss(net.forward(x[rows], training=True), targets[rows])
            net.backward(dz)
            opt.step(in_order)
    return net


SETTINGS: dict[str, Any] = {
    "hidden_layer_sizes": [8, 6],
    "optimizer": "adamw",
    "learning_rate_init": 0.01,
    "weight_decay": 0.1,
    "batch_size": 30,
    "max_iter": 3,
    "random_state": 7,
}
WEIGHTS = {0: 2.0, 1: 0.5, 2: 3.0}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("settings", "loss", "y"),
    [
        ({}, nf.softmax_cross_entropy, Y),
        (
            {"label_smoothing": 0.1, "class_weight": WEIGHTS},
            partial(nf.softmax_cross_entropy, label_smoothing=0.1, class_weight=[2, 0.5, 3]),
            Y,
        ),
        ({}, nf.binary_cross_entropy_with_logits, LABELS),
        ({"loss": "mse"}, nf.mse_loss, Z[:, None]),
        ({"loss": "l1"}, nf.l1_loss, X[:, :2]),
        ({"loss": "huber"}, nf.huber_loss, X[:, :2]),
    ],
    ids=["classes", "weights", "labels", "mse", "l1", "huber"],
)
def test_training_is_the_one_written_out(
    dtype: Any, settings: dict[str, Any], loss: Any, y: Array
) -> None:
    make = NNRegressor if "loss" in settings else NNClassifier
    x, targets = X.astype(dtype), y.astype(dtype) if y.ndim == 2 else y
    sizes = [4, 8, 6, y.shape[1] if y.ndim == 2 else 3]
    expected = by_hand(
        sizes,
        lambda n, rng: [nf.nn.ReLU()],
        loss,
        targets,
        x=x,
        parts=[0, 30, 60, 90],
        epochs=3,
    )
    net = make(**SETTINGS, **settings).fit(x, y).net_
    assert list(net.named_params()) == list(expected.named_params())
    for a, b in zip(net.params, expected.params, strict=True):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, b)


def test_batch_norm_dropout_and_a_last_row_that_joins_a_batch() -> None:
    expected = by_hand(
        [4, 8, 6, 3],
        lambda n, rng: [
            nf.nn.BatchNorm(n, dtype=float),
            nf.nn.ReLU(),
            nf.nn.Dropout(0.25, rng=rng),
        ],
        nf.softmax_cross_entropy,
        Y[:61],
        x=X[:61],
        parts=[0, 30, 61],
        epochs=3,
        bias=False,
    )
    net = NNClassifier(**SETTINGS, batch_norm=True, dropout=0.25).fit(X[:61], Y[:61]).net_
    state = net.state_dict()
    assert state.keys() == expected.state_dict().keys()
    for name, array in expected.state_dict().items():
        np.testing.assert_array_equal(state[name], array)


@pytest.mark.parametrize(
    ("n", "size", "lengths"),
    [
        (5, 5, [5]),
        (5, 9, [5]),
        (6, 5, [6]),
        (11, 5, [5, 6]),
        (12, 5, [5, 5, 2]),
        (3, 1, [1, 1, 1]),
        (1, 1, [1]),
        (1, 5, [1]),
    ],
)
def test_batches(n: int, size: int, lengths: list[int]) -> None:
    parts = training.batches(n, size)
    assert [part.stop - part.start for part in parts] == lengths
    assert [i for part in parts for i in range(n)[part]] == list(range(n))


def test_batches_are_cut_from_what_needs_no_conversion() -> None:
    seen = []

    class Seen(NNRegressor):
        def _train(self, *arrays: Any) -> None:
            seen.append(arrays)
            super()._train(*arrays)

    for x in (X.astype(np.float32), np.asfortranarray(X)):
        Seen(max_iter=1).fit(x, np.arange(90))
        taken, targets, _ = seen[-1]
        assert taken.dtype == targets.dtype == x.dtype
        assert taken.flags.c_contiguous


def test_batches_of_auto_are_of_200() -> None:
    x, y = np.tile(X, (5, 1)), np.tile(Y, 5)
    net = NNClassifier(max_iter=1, random_state=0).fit(x, y)
    assert_same_bits(net, NNClassifier(max_iter=1, random_state=0, batch_size=200).fit(x, y))
    assert differ(net, NNClassifier(max_iter=1, random_state=0, batch_size=199).fit(x, y))


def test_an_untrained_network_has_the_loss_of_a_guess() -> None:
    net = NNClassifier(learning_rate_init=0, max_iter=1).fit(X, Y)
    assert net.loss_ == pytest.approx(math.log(3))
    guessing = NNClassifier(init="he", learning_rate_init=0, max_iter=1, random_state=0)
    assert guessing.fit(X, Y).loss_ > net.loss_


def test_the_loss_is_the_mean_over_samples() -> None:
    net = NNRegressor(learning_rate_init=0, max_iter=1, batch_size=80).fit(X, Z)
    assert net.loss_ == pytest.approx(np.mean(Z**2))


def test_without_shuffle_every_epoch_has_the_same_order() -> None:
    settings = {"random_state": 0, "max_iter": 2, "batch_size": 45, "init": "xavier"}
    order = np.r_[45:90, :45]
    x, y = X[order], Y[order]
    ordered = NNClassifier(**settings, shuffle=False).fit(X, Y)
    assert differ(ordered, NNClassifier(**settings, shuffle=False).fit(x, y))
    x, y = np.concatenate([X, X]), np.concatenate([Y, Y])
    settings["max_iter"] = 1
    assert_same_bits(ordered, NNClassifier(**settings, shuffle=False).fit(x, y))
    assert differ(ordered, NNClassifier(**settings).fit(x, y))


# ---- partial_fit, warm_start ----


@both
@pytest.mark.parametrize("schedule", [None, "onecycle"])
def test_calls_of_partial_fit_are_epochs_of_fit(make: Any, schedule: Any) -> None:
    x, y = data(make)
    settings = {"schedule": schedule, "batch_norm": True, "dropout": 0.2, "batch_size": 40}
    whole = make(**settings, max_iter=3, random_state=0).fit(x, y)
    pieces = make(**settings, max_iter=3, random_state=0)
    first = {"classes": [2, 0, 1]} if make is NNClassifier else {}
    for k in range(3):
        assert pieces.partial_fit(x, y, **({} if k else first)) is pieces
        assert pieces.n_iter_ == k + 1
    assert_same_bits(pieces, whole)
    assert pieces.history_["loss"] == whole.history_["loss"]
    assert pieces.history_["learning_rate"] == whole.history_["learning_rate"]


def test_pieces_need_not_have_every_class() -> None:
    net = NNClassifier(random_state=0).partial_fit(X[Y == 1], Y[Y == 1], classes=[0, 1, 2])
    assert net.predict_proba(X).shape == (90, 3)
    net.partial_fit(X.astype(np.float32), Y, classes=[0, 1, 2])
    assert {array.dtype for array in params(net)} == {np.dtype(float)}


def test_many_labels_need_no_classes() -> None:
    net = NNClassifier(random_state=0).partial_fit(X, LABELS).partial_fit(X, LABELS)
    assert_same_bits(net, NNClassifier(random_state=0, max_iter=2).fit(X, LABELS))


@both
def test_warm_start_begins_with_the_weights(make: Any) -> None:
    x, y = data(make)
    net = make(warm_start=True, random_state=0, max_iter=50).fit(x, y)
    loss = net.loss_
    net.set_params(dropout=0.0, max_iter=1, learning_rate_init=0).fit(x, y)
    assert net.loss_ < loss
    assert net.n_iter_ == len(net.history_["loss"]) == 1
    again = make(random_state=0, max_iter=1, learning_rate_init=0).fit(x, y)
    assert again.loss_ > loss
    net = make(warm_start=True, max_iter=1).fit(x.astype(np.float32), y).fit(x, y)
    assert {array.dtype for array in params(net)} == {np.dtype(np.float32)}


# ---- stopping ----


def test_a_loss_that_does_not_fall_ends_the_training() -> None:
    net = NNClassifier(learning_rate_init=0, n_iter_no_change=4).fit(X, Y)
    assert net.n_iter_ == 5
    net = NNClassifier(learning_rate_init=0, n_iter_no_change=math.inf, max_iter=30).fit(X, Y)
    assert net.n_iter_ == 30
    losses = NNClassifier(tol=0.02, n_iter_no_change=2).fit(X, Y).history_["loss"]
    best = np.minimum.accumulate(losses)
    better = [
        True,
        *(after < before - 0.02 for before, after in zip(best, losses[1:], strict=False)),
    ]
    assert better[-3:] == [True, False, False]
    assert [False, False] not in [better[i : i + 2] for i in range(len(better) - 2)]


def test_patience() -> None:
    patience = training.Patience(tol=0.5, most=3)
    best = [patience.is_best(score) for score in (1.0, 2.0, 2.0, 2.25, math.nan, 2.75)]
    # The last is above the best by no more than tol.
    assert best == [True, True, False, True, False, True]
    assert patience.is_over
    assert patience.is_best(4.0)
    assert not patience.is_over


def too_high(step: int) -> float:
    return 0.02 if step < 20 else 100.0


@both
def test_early_stopping_keeps_the_best(make: Any) -> None:
    """A rate that is too high by far ruins the network after 20 epochs."""
    x, y = data(make)
    net = make(
        early_stopping=True,
        validation_fraction=0.3,
        schedule=too_high,
        batch_norm=True,
        n_iter_no_change=30,
        max_iter=80,
        random_state=6,
    ).fit(x, y)
    scores = net.history_["validation_score"]
    assert net.best_validation_score_ == max(scores) > scores[-1]
    assert net.n_iter_ == len(scores) == np.argmax(scores) + 1 + 30
    assert net.score(x, y) > 0.8
    ruined = make(
        schedule=too_high,
        batch_norm=True,
        n_iter_no_change=math.inf,
        max_iter=net.n_iter_,
        random_state=6,
    ).fit(x, y)
    assert ruined.score(x, y) < net.score(x, y)
    net.set_params(early_stopping=False, schedule=None).fit(x, y)
    assert not hasattr(net, "best_validation_score_")


def test_the_validation_share_is_held_out_and_stratified() -> None:
    seen = []

    class Seen(NNClassifier):
        def _train(self, x: Array, targets: Array, held_out: Any) -> None:
            seen.append((x, targets, *held_out))
            super()._train(x, targets, held_out)

    y = np.array([0] * 70 + [1] * 20)
    Seen(early_stopping=True, validation_fraction=0.2, max_iter=1).fit(X, y)
    x, targets, x_held, y_held = seen[0]
    np.testing.assert_array_equal(np.bincount(targets), [56, 16])
    np.testing.assert_array_equal(np.bincount(y_held), [14, 4])
    rows = np.concatenate([x, x_held])
    np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(X, axis=0))


def test_validation_scores_are_those_of_scikit_learn() -> None:
    for make, y in ((NNClassifier, Y), (NNClassifier, LABELS), (NNRegressor, X[:, :2])):
        net = make(max_iter=2, random_state=0).fit(X, y)
        targets = y.astype(float) if y.ndim == 2 else y
        score = net._validation_score(net.net_.forward(X), targets)
        assert score == pytest.approx(net.score(X, y), rel=1e-12)
    assert math.isnan(net._validation_score(np.full((2, 2), np.inf), np.ones((2, 2))))


# ---- rates ----


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (None, nf.schedules.Constant(0.01)),
        ("linear", nf.schedules.Linear(0.01, 0.0, 12)),
        ("cosine", nf.schedules.Cosine(0.01, 12)),
        ("onecycle", nf.schedules.OneCycle(0.01, 12)),
    ],
)
def test_named_schedules_span_the_training(schedule: Any, rates: Any) -> None:
    settings = {"batch_size": 30, "max_iter": 4, "random_state": 0}
    net = NNClassifier(schedule=schedule, learning_rate_init=0.01, **settings).fit(X, Y)
    # That of the last of three steps.
    assert net.history_["learning_rate"] == [rates(step) for step in (2, 5, 8, 11)]
    own = NNClassifier(schedule=lambda step: rates(step), **settings).fit(X, Y)
    assert_same_bits(own, net)
    if schedule is not None:
        default = NNClassifier(schedule=schedule, **settings).fit(X, Y)
        assert default.history_["learning_rate"][2] == pytest.approx(rates(8) / 10)


class Watched(nf.schedules.ReduceOnPlateau):
    seen: ClassVar[list[float]] = []

    def update(self, metric: Any) -> float:
        self.seen.append(metric)
        return super().update(metric)


@pytest.mark.parametrize(("mode", "metric"), [("min", "loss"), ("max", "validation_score")])
def test_plateaus_look_at_the_loss_or_the_score(mode: str, metric: str) -> None:
    plateau = Watched(1e-9, mode=mode, patience=1, factor=0.5, eps=0.0)
    Watched.seen.clear()
    net = NNClassifier(schedule=plateau, early_stopping=True, max_iter=6).fit(X, Y)
    assert net.history_["learning_rate"] == [1e-9, 1e-9, 1e-9, 5e-10, 5e-10, 2.5e-10]
    assert net.history_[metric] == Watched.seen
    assert plateau.lr == 1e-9


def adaptive_rates(losses: list[float], lr: float, tol: float, patience: int) -> list[float]:
    """The rates of MLPClassifier's "adaptive" for these losses, but that it waits for an epoch more."""
    rates, best, waited = [], math.inf, 0
    for loss in losses:
        rates.append(lr)
        waited = waited + 1 if loss > best - tol else 0
        best = min(best, loss)
        if waited >= patience:
            if lr <= 1e-6:
                break
            lr, waited = lr / 5, 0
    return rates


@both
@pytest.mark.parametrize("optimizer", ["nesterov", "adam"])
def test_an_adaptive_rate_falls_where_nothing_gets_better(make: Any, optimizer: str) -> None:
    x, y = data(make)
    settings = {"learning_rate_init": 0.01, "tol": 1e-2, "n_iter_no_change": 2, "random_state": 0}
    net = make(optimizer=optimizer, learning_rate="adaptive", max_iter=500, **settings).fit(x, y)
    rates = net.history_["learning_rate"]
    expected = adaptive_rates(net.history_["loss"], 0.01, 1e-2, 2)
    assert rates == expected
    assert rates[-1] == pytest.approx(0.01 / 5**6)  # the first at 1e-6 or below, where it ends
    constant = make(optimizer=optimizer, **settings).fit(x, y)
    assert len(set(constant.history_["learning_rate"])) == 1
    assert constant.n_iter_ < net.n_iter_ < 500


def test_an_adaptive_rate_is_scikit_learns() -> None:
    """The same losses, those of a rate of 0, ask for the same rates, an epoch later."""
    theirs = MLPClassifier(
        (4,),
        solver="sgd",
        learning_rate="adaptive",
        learning_rate_init=1e-4,
        tol=1e9,
        n_iter_no_change=3,
        max_iter=100,
        random_state=0,
    ).fit(X, Y)
    ours = NNClassifier(
        (4,),
        optimizer="nesterov",
        learning_rate="adaptive",
        learning_rate_init=1e-4,
        tol=1e9,
        n_iter_no_change=4,
        max_iter=100,
        random_state=0,
    ).fit(X, Y)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.history_["learning_rate"][-1] == pytest.approx(theirs._optimizer.learning_rate)


def test_an_adaptive_rate_looks_at_the_validation_score() -> None:
    net = NNClassifier(
        learning_rate="adaptive",
        early_stopping=True,
        n_iter_no_change=2,
        tol=0.3,
        max_iter=500,
        random_state=0,
    ).fit(X, Y)
    scores = [-score for score in net.history_["validation_score"]]
    assert net.history_["learning_rate"] == adaptive_rates(scores, 1e-3, 0.3, 2)


def test_an_adaptive_rate_goes_on_from_piece_to_piece() -> None:
    settings = {"learning_rate": "adaptive", "n_iter_no_change": 2, "tol": 1e9, "random_state": 0}
    net = NNClassifier(**settings)
    for _ in range(5):
        net.partial_fit(X, Y, classes=np.unique(Y))
    net = pickle.loads(pickle.dumps(net))
    for _ in range(5):
        net.partial_fit(X, Y)
    expected = adaptive_rates([1.0] * 10, 1e-3, 1e9, 2)
    assert net.history_["learning_rate"] == pytest.approx(expected)


# ---- names ----


@pytest.mark.parametrize("activation", perceptron.ACTIVATIONS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_activation_learns(activation: str, batch_norm: bool) -> None:
    x, y = load_iris(return_X_y=True)
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)
    net = NNClassifier((12, 10), activation, batch_norm=batch_norm, random_state=0, max_iter=150)
    # Squareplus, whose outputs are all positive, is slower with batch statistics.
    least = 0.85 if activation == "squareplus" else 0.9
    assert net.set_params(learning_rate_init=0.01).fit(x, y).score(x, y) > least
    assert [layer.n_in for layer in net.net_ if isinstance(layer, nf.nn.Dense)] == [4, 12, 10]


def test_every_activation_of_the_package_has_its_name() -> None:
    table = set(nf.activations.TABLE) | {"maxout", "glu", "geglu", "swiglu"}
    assert table | {"identity", "logistic", "rrelu"} == set(perceptron.ACTIVATIONS)


def test_the_activation_is_the_one_of_its_name() -> None:
    for name in nf.activations.TABLE:
        layers = NNClassifier((5,), name, max_iter=1).fit(X, Y).net_.layers
        assert layers[1]._name == name.removesuffix("_tanh")
        assert ("approximate='tanh'" in repr(layers[1])) == name.endswith("_tanh")
    assert len(NNClassifier((5,), "identity", max_iter=1).fit(X, Y).net_) == 2
    assert isinstance(NNClassifier((5,), "logistic", max_iter=1).fit(X, Y).net_[1], nf.nn.Sigmoid)
    own = NNClassifier((5, 5), partial(nf.nn.ELU, alpha=0.5), max_iter=1).fit(X, Y)
    assert repr(own.net_[1]) == repr(own.net_[3]) == "ELU(alpha=0.5)"


@pytest.mark.parametrize(
    ("activation", "init"), [("relu", "he"), ("tanh", "xavier"), ("selu", "lecun")]
)
def test_first_weights_go_with_the_activation(activation: str, init: str) -> None:
    settings = {"learning_rate_init": 0, "max_iter": 1, "random_state": 0}
    auto = NNClassifier((8, 8), activation, **settings).fit(X, Y).net_
    named = NNClassifier((8, 8), activation, init=init, **settings).fit(X, Y).net_
    np.testing.assert_array_equal(auto[0].weight, named[0].weight)
    np.testing.assert_array_equal(auto[2].weight, named[2].weight)
    assert not auto[4].weight.any()
    assert named[4].weight.any()
    own = NNClassifier(init=partial(nf.init.normal, std=0.5), **settings).fit(X, Y).net_
    assert own[0].weight.std() == pytest.approx(0.5, rel=0.1)


RULES = nf.optim.rules.__all__


@pytest.mark.parametrize("rule", RULES)
def test_every_optimizer_by_its_name(rule: str) -> None:
    net = NNClassifier(optimizer=rule.lower(), max_iter=1).fit(X, Y)
    made = net._training.optimizer
    assert type(made) is getattr(nf.optim, rule)
    assert net.history_["learning_rate"] == [made.defaults["torch"]["lr"]]
    assert made.weight_decay == (0.01 if rule in ("AdamW", "LAMB") else 1e-3)
    net.set_params(learning_rate_init=0.05, weight_decay=0.2).fit(X, Y)
    assert (net._training.optimizer.lr, net._training.optimizer.weight_decay) == (0.05, 0.2)


def test_optimizers_with_settings() -> None:
    for name, nesterov in (("momentum", False), ("nesterov", True)):
        rule = partial(nf.optim.SGD, momentum=0.9, nesterov=nesterov, weight_decay=1e-3)
        settings = {"max_iter": 3, "random_state": 0}
        named = NNClassifier(optimizer=name, **settings).fit(X, Y)
        assert_same_bits(named, NNClassifier(optimizer=rule, **settings).fit(X, Y))
    plain = NNClassifier(optimizer=nf.optim.Adam, max_iter=1).fit(X, Y)
    assert plain._training.optimizer.weight_decay == 0
    rule = partial(nf.optim.Adam, lr=0.02, weight_decay=0.3)
    own = NNClassifier(optimizer=rule, max_iter=1).fit(X, Y)._training.optimizer
    assert (own.lr, own.weight_decay) == (0.02, 0.3)


def test_parameters_of_activations_do_not_decay() -> None:
    settings = {"optimizer": "sgd", "learning_rate_init": 0.1, "max_iter": 1, "random_state": 0}
    one, two = (
        NNClassifier((5,), "prelu", batch_norm=True, weight_decay=decay, **settings).fit(X, Y)
        for decay in (0.0, 5.0)
    )
    for name, array in one.net_.named_params().items():
        same = np.array_equal(two.net_.named_params()[name], array)
        # The last layer begins at 0: the first step has nothing to shrink.
        assert same == (name != "0.weight"), name
