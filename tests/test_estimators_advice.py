"""What the estimators say where something went wrong: names of other libraries, trainings that led nowhere."""

import inspect
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from nnfast.estimators import NNClassifier, NNRegressor

RNG = np.random.default_rng(0)
X = RNG.standard_normal((100, 3))
both = pytest.mark.parametrize("model", [NNClassifier, NNRegressor])


def test_targets_that_are_not_standardised() -> None:
    net = NNRegressor(random_state=0, max_iter=30)
    for y in (X.sum(axis=1) + 1000, 1e6 * X[:, :2], 1e-6 * X[:, 0] + 1):
        with pytest.warns(
            ConvergenceWarning, match="mean of .* standard deviation of .*StandardScaler"
        ) as told:
            net.fit(X, y)
        assert told[0].filename == __file__
        assert net.n_iter_ >= 10  # it learned all the same


def test_a_training_that_learned_nothing() -> None:
    y = RNG.standard_normal(100)
    wild = NNRegressor(random_state=0, learning_rate_init=3.0, n_iter_no_change=20)
    with pytest.warns(ConvergenceWarning, match="R² = .*try another learning_rate_init"):
        wild.fit(X, y)


@both
@pytest.mark.parametrize(("dtype", "rate"), [(np.float64, 1e60), (np.float32, 1e16)])
def test_a_loss_that_is_huge(model: Any, dtype: type, rate: float) -> None:
    """Stopped before it is infinite, which is an error."""
    net = model((), optimizer="sgd", learning_rate_init=rate, max_iter=2, random_state=0)
    net.set_params(weight_decay=0.0, batch_size=100)
    with pytest.warns(
        ConvergenceWarning, match=r"ended at a loss of \S+e\+\d+: the learning rate, "
    ):
        net.fit(X.astype(dtype), (X[:, 0] > 0).astype(int))
    assert net.loss_ > 1e12


def test_good_trainings_say_nothing() -> None:
    y = X.sum(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NNRegressor(random_state=0, max_iter=60, learning_rate_init=0.01).fit(X, y)
        NNRegressor(random_state=0, max_iter=3).fit(X, y + 1000)  # an experiment
        NNRegressor(loss="l1", random_state=0, max_iter=50).fit(
            X, np.exp(3 * X[:, 0] * X[:, 1]).clip(0, 20)
        )
        NNClassifier(random_state=0).fit(X, y > 0)


@both
def test_every_name_of_scikit_learn_is_ours_or_explained(model: Any) -> None:
    theirs = MLPClassifier if model is NNClassifier else MLPRegressor
    ours = inspect.signature(model).parameters
    missing = inspect.signature(theirs).parameters.keys() - ours.keys()
    assert {"solver", "alpha", "power_t", "momentum"} <= missing
    for name in sorted(missing | {"lr", "epochs", "rng"}):
        with pytest.raises(
            TypeError, match=rf"^{model.__name__} has no argument '{name}': "
        ) as told:
            model(**{name: 1})
        with pytest.raises(ValueError, match=rf"has no parameter '{name}': "):
            model().set_params(**{name: 1})
        named = [word for word in ours if f"{word}=" in str(told.value)]
        assert named or name == "max_fun", name
    with pytest.raises(TypeError, match="unexpected keyword argument 'anything'"):
        model(anything=1)
    with pytest.raises(ValueError, match="Invalid parameter 'anything'"):
        model().set_params(anything=1)
    net = model((3,), dropout=0.1)
    assert clone(net).get_params() == pickle.loads(pickle.dumps(net)).get_params()


@both
def test_random_states(model: Any) -> None:
    y = (X[:, 0] > 0).astype(int)

    def loss(state: Any) -> float:
        return model(random_state=state, max_iter=2).fit(X, y).loss_

    for make in (
        np.random.RandomState,
        np.random.default_rng,
        np.random.PCG64,
        np.random.SeedSequence,
    ):
        assert loss(make(1)) == loss(make(1)) != loss(make(2))
    np.random.seed(1)  # noqa: NPY002 -- what is meant by the module
    first = loss(np.random)
    np.random.seed(1)  # noqa: NPY002 -- what is meant by the module
    assert loss(None) == first == loss(1)  # as scikit-learn's None is its global one
    with pytest.raises(ValueError, match="random_state must be an int, .* or None, got 'a'"):
        loss("a")
