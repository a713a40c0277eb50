"""Estimators of images, and of any network that is given as layers."""

import pickle
from typing import Any

import dask.array as da
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score

import nnfast as nf
from estimator_data import Array, assert_same_bits, differ
from nnfast.estimators import NNClassifier, NNRegressor

DIGITS = load_digits()
IMAGES = (DIGITS.images[:, None] / 16).astype(np.float32)
LABELS = DIGITS.target
X, Y = IMAGES[:60], LABELS[:60] % 2
SHORT: dict[str, Any] = {"max_iter": 3, "batch_size": 16, "random_state": 0}


def layers(rng: Any) -> list[nf.nn.Layer]:
    return [
        nf.nn.BatchNorm(1),
        nf.nn.Flatten(),
        nf.nn.Dense(64, 24, rng=rng),
        nf.nn.ReLU(),
        nf.nn.Dropout(0.1, rng=rng),
        nf.nn.Dense(24, 2, rng=rng),
    ]


def scores(rng: Any) -> list[nf.nn.Layer]:
    return [nf.nn.Flatten(), nf.nn.Dense(64, 1, rng=rng)]


def test_digits_as_images() -> None:
    def net(rng: Any) -> list[nf.nn.Layer]:
        return [*layers(rng)[:5], nf.nn.Dense(24, 10, rng=rng)]

    classifier = NNClassifier(layers=net, max_iter=30, batch_size=32, random_state=0)
    assert cross_val_score(classifier, IMAGES, LABELS, cv=3).min() > 0.9


def test_layers_are_the_network_of_the_settings() -> None:
    """The same layers, made from the same draws, give the same bits."""
    rows = X.reshape(60, 64)
    settings = NNClassifier((24,), dropout=0.1, init="he", **SHORT).fit(rows, Y)

    def same(rng: np.random.Generator) -> list[nf.nn.Layer]:
        made = layers(rng)
        return made[2:]

    assert_same_bits(NNClassifier(layers=same, **SHORT).fit(rows, Y), settings)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("given", ["function", "list", "tuple", "Sequential"])
def test_every_way_to_give_layers(given: str, dtype: Any) -> None:
    made = {
        "function": layers,
        "list": layers(0),
        "tuple": tuple(layers(0)),
        "Sequential": nf.nn.Sequential(*layers(0)),
    }[given]
    before = None if given == "function" else [p.copy() for layer in made for p in layer.params]
    classifier = NNClassifier(layers=made, **SHORT)
    x = X.astype(dtype)
    first = classifier.fit(x, Y).net_
    assert all(param.dtype == dtype for param in first.params)
    assert classifier.predict(x).shape == (60,)
    assert classifier.predict_proba(x).dtype == dtype
    assert_same_bits(clone(classifier).fit(x, Y), classifier)
    assert_same_bits(
        pickle.loads(pickle.dumps(NNClassifier(layers=layers, **SHORT))).fit(x, Y),
        NNClassifier(layers=layers, **SHORT).fit(x, Y),
    )
    if before is not None:  # a fit trains copies
        for param, value in zip([p for la in made for p in la.params], before, strict=True):
            np.testing.assert_array_equal(param, value)
    assert classifier.fit(x, Y).net_ is not first


def test_random_state_reaches_what_a_function_draws() -> None:
    one, two = (
        NNClassifier(layers=layers, **(SHORT | {"random_state": seed})).fit(X, Y) for seed in (0, 1)
    )
    assert differ(one, two)


def test_regression_of_images() -> None:
    z = X.reshape(60, -1) @ np.linspace(-1, 1, 64)
    net = NNRegressor(layers=scores, learning_rate_init=0.02, max_iter=300, random_state=0)
    assert net.fit(X, z).score(X, z) > 0.9
    assert net.predict(X[:3]).shape == (3,)


@pytest.mark.parametrize("shape", [(60, 4, 16), (60, 1, 2, 4, 8)])
def test_rows_of_any_shape(shape: tuple[int, ...]) -> None:
    def net(rng: Any) -> list[nf.nn.Layer]:
        return layers(rng)[1:]

    rows = NNClassifier(layers=net, **SHORT).fit(X.reshape(60, 64), Y)
    assert_same_bits(NNClassifier(layers=net, **SHORT).fit(X.reshape(shape), Y), rows)


def test_fit_goes_on_as_for_rows() -> None:
    """partial_fit, warm starts, early stopping and searches."""
    net = NNClassifier(layers=layers, **SHORT)
    for _ in range(3):
        net.partial_fit(X, Y, classes=[0, 1])
    assert_same_bits(net, NNClassifier(layers=layers, **SHORT).fit(X, Y))
    warm = NNClassifier(layers=layers, warm_start=True, **SHORT).fit(X, Y)
    before = warm.net_.state_dict()["2.weight"]
    assert not np.array_equal(warm.fit(X, Y).net_.state_dict()["2.weight"], before)
    stopped = NNClassifier(layers=layers, early_stopping=True, **SHORT).fit(X, Y)
    assert len(stopped.history_["validation_score"]) == 3
    search = GridSearchCV(net, {"learning_rate_init": [1e-3, 1e-2]}, cv=2).fit(X, Y)
    assert search.best_score_ > 0


def test_weights_of_all_layers_decay() -> None:
    """At any depth, and nothing else."""

    def net(rng: Any) -> list[nf.nn.Layer]:
        branch = nf.nn.Sequential(nf.nn.Dense(24, 24, rng=rng), nf.nn.BatchNorm(24), nf.nn.PReLU())
        made = layers(rng)
        return [*made[:3], nf.nn.StochasticDepth(branch, 0.2, rng=rng), *made[3:]]

    given: list[Any] = []

    def optimizer(params: Any) -> nf.optim.Optimizer:
        given.append(params)
        return nf.optim.SGD(params)

    fitted = NNClassifier(layers=net, optimizer=optimizer, **SHORT).fit(X, Y)
    decaying, others = (group["params"] for group in given[0])
    named = fitted.net_.named_params()
    of = {id(param): name for name, param in named.items()}
    assert [of[id(param)] for param in decaying] == [
        "2.weight",
        "3.branch.0.weight",
        "6.weight",
    ]
    assert {of[id(param)] for param in others} == named.keys() - {of[id(p)] for p in decaying}


def test_predictions_of_images_go_through_the_network_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = NNClassifier(layers=layers, **SHORT).fit(X, Y)
    whole = net.predict_proba(X)
    sizes: list[int] = []
    forward = nf.nn.Sequential.forward

    def counted(self: nf.nn.Sequential, x: Array, training: bool = False) -> Array:
        sizes.append(len(x))
        return forward(self, x, training)

    monkeypatch.setattr(nf.nn.Sequential, "forward", counted)
    many = np.concatenate([X] * 10)
    np.testing.assert_allclose(net.predict_proba(many)[:60], whole, rtol=1e-5)
    assert sizes == [256, 256, 88]


@pytest.mark.parametrize("make", [NNClassifier, NNRegressor])
@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"layers": 5}, TypeError, "layers must be layers of nnfast.nn or a function .* got int"),
        ({"layers": [nf.nn.Flatten(), 3]}, TypeError, r"layers\[1\] must be a Layer, got int"),
        ({"layers": lambda rng: [3]}, TypeError, r"layers\[0\] must be a Layer, got int"),
        ({"layers": []}, ValueError, "layers must hold at least one"),
        (
            {"layers": [nf.nn.Flatten(), nf.nn.Dense(64, 5)]},
            ValueError,
            r"layers must give y of shape \(n, [12]\) for X of shape \(n, 1, 8, 8\), got \(n, 5\)",
        ),
        ({"layers": [nf.nn.Dense(64, 2)]}, ValueError, r"layers\[0\], Dense: x must have shape"),
        ({"hidden_layer_sizes": (50,)}, ValueError, "hidden_layer_sizes must be left out"),
        ({"hidden_layer_sizes": np.array([50])}, ValueError, "hidden_layer_sizes must be left out"),
        ({"activation": "gelu"}, ValueError, "activation must be left out where layers are given"),
        ({"activation": nf.nn.ReLU}, ValueError, "activation must be left out"),
        ({"batch_norm": True}, ValueError, "batch_norm must be left out"),
        ({"dropout": 0.5}, ValueError, "dropout must be left out"),
        ({"init": "he"}, ValueError, "init must be left out"),
    ],
)
def test_errors_name_the_setting(
    make: Any, settings: dict[str, Any], kind: type[Exception], message: str
) -> None:
    net = make(**({"layers": layers} | settings))
    with pytest.raises(kind, match=message):
        net.fit(X, Y)
    assert not hasattr(net, "net_")


def test_images_of_other_shapes_are_refused() -> None:
    net = NNClassifier(layers=layers, **SHORT).fit(X, Y)
    for call in (net.predict, lambda x: net.partial_fit(x, Y)):
        with pytest.raises(
            ValueError, match=r"X must have shape \(n, 1, 8, 8\), as in fit, got \(n, 1, 4, 16\)"
        ):
            call(X.reshape(60, 1, 4, 16))
    with pytest.raises(ValueError, match="Found array with dim 4"):
        NNClassifier(**SHORT).fit(X, Y)
    with pytest.raises(TypeError, match="X must be in memory where layers are given, got a Dask"):
        net.fit(da.from_array(X), Y)
