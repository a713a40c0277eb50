"""What the estimators refuse: errors name the argument, and what was learned stays."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from estimator_data import (
    LABELS,
    Array,
    X,
    Y,
    Z,
    both,
    data,
    params,
)
from nnfast.estimators import NNClassifier, NNRegressor, training


@both
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"hidden_layer_sizes": (5, 0)}, ValueError, r"hidden_layer_sizes\[1\] must be at least 1"),
        ({"hidden_layer_sizes": 2.5}, TypeError, "hidden_layer_sizes must be an int, got float"),
        ({"activation": "reluu"}, ValueError, "activation must be 'identity', "),
        ({"activation": list}, TypeError, "activation must make a Layer, got list"),
        ({"activation": nf.nn.GLU}, ValueError, "activation must make a layer that keeps the sha"),
        ({"dropout": 1.5}, ValueError, r"dropout must be in \[0, 1\], got 1.5"),
        ({"init": "small"}, ValueError, "init must be 'auto', "),
        ({"optimizer": "adamm"}, ValueError, "optimizer must be .*'sgd', "),
        (
            {"optimizer": list},
            TypeError,
            "optimizer must return an nnfast.optim.Optimizer, got list",
        ),
        ({"learning_rate_init": -1}, ValueError, "learning_rate_init must not be negative"),
        ({"learning_rate_init": "fast"}, TypeError, "learning_rate_init must be a real number"),
        ({"schedule": "cos"}, ValueError, "schedule must be 'linear', 'cosine' or 'onecycle', got"),
        ({"schedule": 0.1}, TypeError, "schedule must be None, a name, a function .*, got float"),
        (
            {"schedule": nf.schedules.Constant(0.1), "learning_rate_init": 0.1},
            ValueError,
            "learning_rate_init must be None where schedule has the rates",
        ),
        (
            {"schedule": nf.schedules.ReduceOnPlateau(0.1, mode="max")},
            ValueError,
            "schedule must have mode 'min' where early_stopping is False",
        ),
        (
            {"learning_rate": "invscaling"},
            ValueError,
            "learning_rate must be 'constant' or 'adaptive', got 'invscaling'",
        ),
        (
            {"learning_rate": "adaptive", "schedule": "linear"},
            ValueError,
            "schedule must be None where learning_rate is 'adaptive'",
        ),
        ({"weight_decay": -1}, ValueError, "weight_decay must not be negative"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"batch_size": "all"}, TypeError, "batch_size must be an int"),
        ({"batch_size": 1, "batch_norm": True}, ValueError, "batch_norm needs batches of two samp"),
        ({"max_iter": 0}, ValueError, "max_iter must be at least 1"),
        ({"tol": -1}, ValueError, "tol must not be negative"),
        ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change must be at least 1"),
        (
            {"validation_fraction": 1.0},
            ValueError,
            r"validation_fraction must be in \(0, 1\), got 1",
        ),
        (
            {"early_stopping": True, "validation_fraction": 0.999},
            ValueError,
            "early_stopping needs more samples for its share of validation_fraction=0.999: ",
        ),
        ({"random_state": "a"}, ValueError, "random_state must be an int, .* or None, got 'a'"),
    ],
)
def test_settings_are_checked(
    make: Any, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    x, y = data(make)
    net = make(max_iter=2, random_state=0).fit(x, y)
    before = vars(net) | {}
    weights = copy.deepcopy(params(net))
    net.set_params(**settings)
    with pytest.raises(error, match=message):
        net.fit(x, y)
    after = {name: value for name, value in vars(net).items() if name not in settings}
    assert after == {name: value for name, value in before.items() if name not in settings}
    for a, b in zip(params(net), weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NNClassifier(label_smoothing=2).fit(X, Y), "label_smoothing must be in"),
        (
            lambda: NNClassifier(class_weight="even").fit(X, Y),
            "class_weight must be a dict, 'balanced' or",
        ),
        (lambda: NNClassifier(class_weight=[1, 2]).fit(X, Y), "class_weight must be a dict"),
        (
            lambda: NNClassifier(class_weight={1: -1}).fit(X, Y),
            r"class_weight\[1\] must not be neg",
        ),
        (lambda: NNClassifier(class_weight={0: 1}).fit(X, LABELS), "class_weight must be None"),
        (lambda: NNClassifier().fit(X, Z), "Unknown label type: continuous"),
        (lambda: NNClassifier().fit(X, Y * 0), r"y must have two classes or more, got 1 class: "),
        (lambda: NNRegressor(loss="mae").fit(X, Z), "loss must be 'mse', 'l1' or 'huber', got"),
        (lambda: NNClassifier().partial_fit(X, Y), "classes must be given in the first call"),
        (
            lambda: NNClassifier(class_weight="balanced").partial_fit(X, Y, [0, 1, 2]),
            "class_weight must not be 'balanced' in partial_fit",
        ),
        (
            lambda: NNClassifier(early_stopping=True).partial_fit(X, Y, [0, 1, 2]),
            "early_stopping must be False for partial_fit",
        ),
        (
            lambda: NNClassifier().partial_fit(X, Y, [0, 1, 2]).partial_fit(X, Y + 1),
            r"y must be of classes_, \[0, 1, 2\], got 3",
        ),
        (
            lambda: NNClassifier(max_iter=1, warm_start=True).fit(X, Y).fit(X, Y % 2),
            r"y must have all of classes_, \[0, 1, 2\], for warm_start, got none of 2",
        ),
        (
            lambda: NNClassifier(class_weight={0: 1, 7: 2}).fit(X, Y),
            r"class_weight must have classes of y, \[0, 1, 2\], got 7",
        ),
        (
            lambda: NNClassifier(max_iter=1).fit(X, Y).partial_fit(X, Y, [0, 1, 2, 3]),
            r"classes must be those of the first call, \[0 1 2\]",
        ),
        (
            lambda: NNClassifier(max_iter=1).fit(X, Y).partial_fit(X, LABELS),
            "y must be of classes_, as before, got 2 labels a sample",
        ),
        (
            lambda: NNClassifier(max_iter=1).fit(X, LABELS).partial_fit(X, LABELS[:, [0, 1, 1]]),
            "y must be of classes_, as before, got 3 labels a sample",
        ),
        (
            lambda: NNClassifier(max_iter=1).fit(X, LABELS).partial_fit(X, Y),
            "y must have many labels a sample, as before, got one class each",
        ),
        (
            lambda: NNRegressor(max_iter=1).fit(X, Z).partial_fit(X, X),
            "y must have 1 outputs, as before, got 4",
        ),
        (
            lambda: NNRegressor(early_stopping=True).fit(X[:9], Z[:9]),
            "early_stopping needs more samples .*: a single one has no score",
        ),
        (
            lambda: NNClassifier(early_stopping=True).fit(X[:3], ["cat", "cat", "dog"]),
            "early_stopping needs more samples .* least populated class.*dog",
        ),
    ],
)
def test_settings_that_exclude_each_other(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_warm_start_needs_the_same_layers() -> None:
    net = NNClassifier((8,), warm_start=True, max_iter=2).fit(X, Y)
    before = net.predict_proba(X)
    with pytest.raises(
        ValueError, match="warm_start needs the layers that there were, but the sta"
    ):
        net.set_params(hidden_layer_sizes=(9,)).fit(X, Y)
    np.testing.assert_array_equal(net.predict_proba(X), before)


@pytest.mark.parametrize(
    ("x", "y", "settings", "reason"),
    [
        (X, Z, {"learning_rate_init": 1e6}, "the learning rate, 1e+06, may be too high"),
        (X * 1e200, Z, {}, "X has values up to "),
        (X, Z * 1e200, {}, "y has values up to "),
    ],
)
def test_a_loss_that_is_not_finite(x: Array, y: Array, settings: Any, reason: str) -> None:
    net = NNRegressor(optimizer="sgd", max_iter=50).fit(X, Z)
    before = net.predict(X)
    with pytest.raises(ValueError, match=r"the loss became (nan|inf) in epoch \d+: ") as caught:
        net.set_params(**settings).fit(x, y)
    assert reason in str(caught.value)
    np.testing.assert_array_equal(net.predict(X), before)


def test_many_classes_are_no_large_values() -> None:
    assert "the learning rate, 0.1," in training.why_not_finite(X, np.arange(5000), 0.1)


def test_a_loss_that_is_not_finite_in_partial_fit() -> None:
    net = NNRegressor().partial_fit(X, Z)
    with pytest.raises(ValueError, match="the loss became inf in epoch 2: X has values up to "):
        net.partial_fit(X * 1e200, Z)
    assert net.n_iter_ == len(net.history_["loss"]) == 1


@both
def test_weights_that_are_not_finite(make: Any) -> None:
    x, y = data(make)
    net = make(optimizer="sgd", schedule=lambda step: 1e308 * 10 ** (step > 0), max_iter=1)
    with pytest.raises(ValueError, match="the weights became infinite: the learning rate, "):
        net.set_params(init="he").fit(x * 100, y)
    with pytest.raises(ValueError, match="the weights became infinite: the learning rate, "):
        net.partial_fit(x * 100, y, **({"classes": [0, 1, 2]} if make is NNClassifier else {}))
    assert not hasattr(net, "net_")


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("make", [NNClassifier, NNRegressor])
def test_a_loss_that_is_not_finite_is_reported_before_the_next_batch(
    make: Any, batch_norm: bool
) -> None:
    settings = {"learning_rate_init": 1e160, "optimizer": "sgd", "random_state": 0}
    x, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 2
    with pytest.raises(
        ValueError, match=r"the loss became (nan|inf) in epoch 1: the learning rate"
    ):
        make((8, 8), batch_norm=batch_norm, batch_size=10, **settings).fit(x, y)
    net = make((8, 8), batch_norm=batch_norm, batch_size=10, **settings)
    classes = {"classes": [0, 1]} if make is NNClassifier else {}
    with pytest.raises(
        ValueError, match=r"the loss became (nan|inf) in epoch 1: the learning rate"
    ):
        net.partial_fit(x, y, **classes)
