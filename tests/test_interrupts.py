"""Estimators: Ctrl-C in fit, and copies that train on; what version 0.1 wrote."""

import copy
import os
import pickle
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from dask import array as da
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nnfast as nf
from layouts import assert_same_bits
from networks import numbers
from nnfast import nn
from nnfast.estimators.training import Training
from test_copies import KEPT, WAYS, Way

X = numbers((60, 4))
Y = {"NNClassifier": (X.sum(axis=1) > 0).astype(int), "NNRegressor": X[:, 0] + 1}
KINDS = list(Y)
every_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, **settings: Any) -> Any:
    defaults = {"random_state": 0, "batch_size": 16, "max_iter": 5, "hidden_layer_sizes": (8,)}
    return getattr(nf.estimators, kind)(**(defaults | settings))


# ---- Ctrl-C ----


def interrupted_in(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second step of an epoch is interrupted."""
    step, count = Training._step, [0]

    def counted(self: Training, *args: Any) -> float:
        count[0] += 1
        if count[0] == 4 * (epoch - 1) + 2:
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(Training, "_step", counted)


@every_kind
@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("on_dask", [False, True])
def test_ctrl_c_keeps_model_and_history(
    kind: str, epoch: int, on_dask: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = make(kind)
    interrupted_in(epoch, monkeypatch)
    x = da.from_array(X, chunks=(20, 4)) if on_dask else X
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        assert estimator.fit(x, Y[kind]) is estimator
    assert estimator.n_iter_ == len(estimator.history_["loss"]) == epoch - 1
    assert np.isfinite(estimator.loss_) == (epoch > 1)
    assert estimator.predict(X).shape == (60,)
    # One step of the epoch that was interrupted is in the weights.
    assert estimator._training.optimizer.step_count == 4 * (epoch - 1) + 1
    copied = pickle.loads(pickle.dumps(estimator))
    for each in (estimator, copied):
        each.partial_fit(X, Y[kind])
    assert estimator.n_iter_ == epoch
    assert_same_bits(np.asarray(estimator.predict(X)), np.asarray(copied.predict(X)))


@every_kind
def test_ctrl_c_keeps_the_best_of_early_stopping(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {
        "early_stopping": True,
        "batch_size": 14,
        "validation_fraction": 0.1,
    }
    ended = make(kind, max_iter=2, **settings).fit(X, Y[kind])
    estimator = make(kind, **settings)
    interrupted_in(3, monkeypatch)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        estimator.fit(X, Y[kind])
    assert estimator.best_validation_score_ == ended.best_validation_score_
    for a, b in zip(estimator.net_.params, ended.net_.params, strict=True):
        assert_same_bits(a, b)


@every_kind
def test_ctrl_c_before_the_training_keeps_what_was_learned_before(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = make(kind).fit(X, Y[kind])
    before = estimator.predict(X)

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(nn, "Sequential", interrupted)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, -Y[kind])
    assert_same_bits(estimator.predict(X), before)
    assert estimator.n_iter_ == 5


@every_kind
def test_ctrl_c_in_partial_fit_ends_the_users_loop(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = make(kind).fit(X, Y[kind])
    interrupted_in(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        estimator.partial_fit(X, Y[kind])
    assert estimator.n_iter_ == len(estimator.history_["loss"]) == 5
    estimator.partial_fit(X, Y[kind])
    assert estimator.n_iter_ == 6


def test_a_signal_ends_a_long_fit() -> None:
    estimator = make("NNClassifier", max_iter=100_000, n_iter_no_change=np.inf)
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    # A shell's background jobs ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.warns(UserWarning, match="Training interrupted by user"):
            estimator.fit(X, Y["NNClassifier"])
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert 1 < estimator.n_iter_ < 100_000


# ---- copies ----


@every_kind
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize(
    "settings",
    [{}, {"batch_norm": True, "dropout": 0.2, "activation": "prelu", "optimizer": "nadam"}],
    ids=["plain", "all"],
)
def test_copies_of_estimators_train_on(kind: str, way: Way, settings: Any, tmp_path: Path) -> None:
    estimator = make(kind, **settings).fit(X, Y[kind])
    copied = way(estimator, tmp_path)
    before = [array.copy() for array in copied.net_.params]
    for each in (estimator, copied):
        each.partial_fit(X, Y[kind])
    assert any((a != b).any() for a, b in zip(copied.net_.params, before, strict=True))
    assert_same_bits(copied.predict(X), estimator.predict(X))
    assert copied.history_["loss"] == estimator.history_["loss"]
    for a, b in zip(copied.net_.params, estimator.net_.params, strict=True):
        assert_same_bits(a, b)


@every_kind
def test_loading_from_joblib_partial_fit(kind: str, tmp_path: Path) -> None:
    """scikit-learn's test_mlp_loading_from_joblib_partial_fit."""
    estimator = make(
        kind, hidden_layer_sizes=(), learning_rate_init=0.1, random_state=42, activation="relu"
    )
    x, target = np.array([[0.1]]), [0] if kind == "NNClassifier" else [0.5]
    options: dict[str, Any] = {"classes": [0, 1]} if kind == "NNClassifier" else {}
    estimator.partial_fit(x, target, **options)
    joblib.dump(estimator, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    for _ in range(10):
        loaded.partial_fit(x, target)
    for _ in range(10):
        estimator.partial_fit(x, target)
    assert loaded.loss_ < loaded.history_["loss"][0]
    for a, b in zip(loaded.net_.params, estimator.net_.params, strict=True):
        assert_same_bits(a, b)


@every_kind
def test_pipelines_and_searches(kind: str, tmp_path: Path) -> None:
    pipeline = make_pipeline(StandardScaler(), make(kind)).fit(X, Y[kind])
    joblib.dump(pipeline, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    for each in (pipeline, loaded):
        each[-1].partial_fit(X, Y[kind])
    assert_same_bits(loaded.predict(X), pipeline.predict(X))
    search = GridSearchCV(make(kind), {"dropout": [0.0, 0.2]}, cv=2, n_jobs=2).fit(X, Y[kind])
    search.best_estimator_.partial_fit(X, Y[kind])
    assert cross_val_score(clone(search.best_estimator_), X, Y[kind], cv=2).shape == (2,)


@every_kind
def test_estimators_that_version_0_1_wrote(kind: str) -> None:
    name = kind.removeprefix("NN").lower()
    x = numbers((40, 4))
    y = (x.sum(axis=1) > 0).astype(int) if kind == "NNClassifier" else x[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        pickled = pickle.loads((KEPT / f"{name}.pickle").read_bytes())
        by_joblib = joblib.load(KEPT / f"{name}.joblib")
    assert_same_bits(pickled.predict(x), by_joblib.predict(x))
    start = copy.deepcopy(pickled)
    for each in (pickled, by_joblib):
        each.partial_fit(x, y)
    for a, b, c in zip(pickled.net_.params, by_joblib.net_.params, start.net_.params, strict=True):
        assert_same_bits(a, b)
        assert (a != c).any()
    assert pickled.history_["loss"] == by_joblib.history_["loss"]
