"""Weights of samples in the estimators."""

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, r2_score
from sklearn.neural_network import MLPClassifier, MLPRegressor

import nnfast as nf
from nnfast.estimators import NNClassifier, NNRegressor

Array = NDArray[Any]
RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 5))
LABELS = np.array(["a", "b", "c"])[(X[:, 0] > 0) + (X[:, 1] > 0.5).astype(int)]
NUMBERS = X @ RNG.standard_normal(5) + 0.1
WEIGHTS = RNG.uniform(0, 3, 60)
SGD = {"learning_rate_init": 0.05, "batch_size": 60, "shuffle": False, "max_iter": 5, "tol": 0.0}
OURS = SGD | {"optimizer": "sgd", "weight_decay": 0.0, "activation": "tanh"}
THEIRS = SGD | {
    "solver": "sgd",
    "alpha": 0.0,
    "activation": "tanh",
    "momentum": 0.0,
    "n_iter_no_change": 99,
}


def peer(model: Any, x: Array, y: Array, weights: Array, ours: Any) -> list[float]:
    """The losses of scikit-learn's network that begins with our weights."""
    dense = [layer for layer in ours.net_ if isinstance(layer, nf.nn.Dense)]
    model.partial_fit(
        x, y, **({"classes": np.unique(y)} if isinstance(model, MLPClassifier) else {})
    )
    model.set_params(warm_start=True)
    model.coefs_ = [layer.weight.copy() for layer in dense]
    model.intercepts_ = [layer.bias.copy() for layer in dense]
    model.loss_curve_ = []
    model._no_improvement_count, model.best_loss_ = 0, np.inf
    model.fit(x, y, sample_weight=weights)
    return model.loss_curve_


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("hidden", [(), (7,)])
def test_a_regressor_learns_as_scikit_learns_does(hidden: tuple[int, ...]) -> None:
    settings = {"hidden_layer_sizes": hidden, "random_state": 0}
    ours = NNRegressor(**OURS | settings)
    begun = NNRegressor(**OURS | settings | {"learning_rate_init": 0.0, "max_iter": 1})
    begun.fit(X, NUMBERS)
    ours.fit(X, NUMBERS, sample_weight=WEIGHTS)
    # Their loss and gradient are half of ours.
    theirs = MLPRegressor(**THEIRS | settings | {"learning_rate_init": 0.1})
    losses = peer(theirs, X, NUMBERS, WEIGHTS, begun)
    np.testing.assert_allclose(np.array(ours.history_["loss"]) / 2, losses, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_a_classifier_learns_as_scikit_learns_does() -> None:
    settings = {"hidden_layer_sizes": (7,), "random_state": 0}
    ours = NNClassifier(**OURS | settings).fit(X, LABELS, sample_weight=WEIGHTS)
    begun = NNClassifier(**OURS | settings | {"learning_rate_init": 0.0, "max_iter": 1})
    losses = peer(MLPClassifier(**THEIRS | settings), X, LABELS, WEIGHTS, begun.fit(X, LABELS))
    np.testing.assert_allclose(ours.history_["loss"], losses, rtol=1e-9)


MODELS = [
    (NNClassifier, LABELS),
    (NNClassifier, np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1).astype(int)),
    (NNRegressor, NUMBERS),
    (NNRegressor, X[:, :2]),
]


@pytest.mark.parametrize(("model", "y"), MODELS)
def test_weights_mean_repetitions(model: Any, y: Array) -> None:
    """In a batch of all, a weight of k is k rows, and one of 0 none; equal weights are none."""
    settings = OURS | {"batch_size": 1000, "random_state": 0, "hidden_layer_sizes": (4,)}
    counts = np.arange(60) % 3
    weighted = model(**settings).fit(X, y, sample_weight=counts)
    repeated = model(**settings).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts, axis=0))
    np.testing.assert_allclose(weighted.history_["loss"], repeated.history_["loss"], rtol=1e-9)
    alike = model(**settings).fit(X, y, sample_weight=np.full(60, 2.5))
    plain = model(**settings).fit(X, y)
    np.testing.assert_allclose(alike.history_["loss"], plain.history_["loss"], rtol=1e-9)
    again = pickle.loads(pickle.dumps(alike))
    np.testing.assert_array_equal(again.predict(X), alike.predict(X))


def test_weights_of_samples_multiply_those_of_classes() -> None:
    settings = OURS | {"random_state": 0}
    of_classes = {"a": 2.0, "b": 0.5, "c": 0.0}
    both = NNClassifier(class_weight=of_classes, **settings).fit(X, LABELS, WEIGHTS)
    product = WEIGHTS * [of_classes[label] for label in LABELS]
    one = NNClassifier(**settings).fit(X, LABELS, sample_weight=product)
    np.testing.assert_allclose(both.history_["loss"], one.history_["loss"], rtol=1e-12)


@pytest.mark.parametrize(("model", "y"), MODELS)
def test_pieces_and_held_out_shares_have_weights(model: Any, y: Array) -> None:
    settings = OURS | {"random_state": 0}
    classes = {"classes": np.unique(LABELS)} if y is LABELS else {}
    parts = model(**settings | {"max_iter": 1})
    whole = model(**settings | {"max_iter": 1}).fit(X, y, sample_weight=WEIGHTS)
    parts.partial_fit(X, y, sample_weight=WEIGHTS, **classes)
    assert parts.loss_ == whole.loss_
    # What is held out is weighed, too: with all but a few rows of no weight, the score is that of the others.
    light = model(**settings | {"early_stopping": True, "validation_fraction": 0.5})
    light.fit(X, y, sample_weight=(np.arange(60) % 2).astype(float))
    assert np.isfinite(light.history_["validation_score"]).all()
    heavy = model(**settings | {"early_stopping": True, "validation_fraction": 0.5}).fit(X, y)
    assert light.history_["validation_score"] != heavy.history_["validation_score"]


@pytest.mark.parametrize(("model", "y"), MODELS)
def test_weights_may_be_given_to_some_calls_only(model: Any, y: Array) -> None:
    for first, then in ((None, WEIGHTS), (WEIGHTS, None), (None, np.ones(60))):
        net = model(**OURS | {"random_state": 0}).fit(X, y, sample_weight=first)
        other = model(**OURS | {"random_state": 0}).fit(X, y, sample_weight=first)
        net.partial_fit(X, y, sample_weight=then)
        other.partial_fit(X, y, sample_weight=np.ones(60) if then is None else then)
        np.testing.assert_allclose(net.loss_, other.loss_, rtol=1e-12)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(59), "sample_weight.shape == .59"),
        (np.ones((60, 1)), "Sample weights must be 1D"),
        (-np.ones(60), "sample_weight must not be negative or all 0"),
        (np.zeros(60), "all 0|at least one non-zero"),
        (np.full(60, np.nan), "NaN"),
    ],
)
def test_bad_weights(weights: Array, message: str) -> None:
    net = NNClassifier(max_iter=1)
    with pytest.raises(ValueError, match=message):
        net.fit(X, LABELS, sample_weight=weights)
    assert not hasattr(net, "net_")
    with pytest.raises(TypeError, match=r"sample_weight.filled\(value\)"):
        net.fit(X, LABELS, sample_weight=np.ma.masked_array(WEIGHTS, WEIGHTS > 1))


def test_weights_with_dask_are_refused() -> None:
    import dask.array as da

    with pytest.raises(ValueError, match="sample_weight must be None where X is Dask's"):
        NNClassifier(max_iter=1).fit(da.from_array(X), LABELS, sample_weight=WEIGHTS)


def test_the_validation_score_is_weighted() -> None:
    z, weights = RNG.standard_normal((60, 3)), WEIGHTS
    classifier = NNClassifier(max_iter=1).fit(X, LABELS)
    labels = np.arange(60) % 3
    expected = accuracy_score(labels, z.argmax(axis=1), sample_weight=weights)
    assert abs(classifier._validation_score(z, labels, weights) - expected) < 1e-12
    regressor = NNRegressor(max_iter=1).fit(X, NUMBERS)
    expected = r2_score(z[:, :1], z[:, 1:2], sample_weight=weights)
    assert abs(regressor._validation_score(z[:, 1:2], z[:, :1], weights) - expected) < 1e-12
