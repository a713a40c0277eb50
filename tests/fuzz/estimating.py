"""Estimators and preprocessing, in any order of calls, with settings and data that fit or do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

import nnfast as nf
from fuzz.sequences import EXPECTED, Machine, bytes_of
from fuzz.source import Source
from nnfast import nn
from nnfast.estimators.training import Training

FEATURES = 3
JUNK: tuple[Any, ...] = (-1, 0, "x", None, 2.5, float("nan"), (), 1j)
SETTINGS: dict[str, tuple[Any, ...]] = {
    "hidden_layer_sizes": ((4,), 3, (), (3, 2)),
    "activation": ("relu", "prelu", "maxout", "identity", "gelu", "elu", nn.ReLU),
    "batch_norm": (False, True),
    "dropout": (0.0, 0.3, 1.0),
    "optimizer": ("adamw", "sgd", "nesterov", "lion", "nadam"),
    "learning_rate_init": (None, 0.01, 0.0),
    "schedule": (None, "cosine", "linear", "onecycle", nf.schedules.Constant(0.01)),
    "weight_decay": (None, 0.1),
    "batch_size": ("auto", 4, 1),
    "max_iter": (2, 1, 5),
    "shuffle": (True, False),
    "early_stopping": (False, True),
    "warm_start": (False, True),
    "random_state": (0, 1),
    "n_iter_no_change": (10, 1, float("inf")),
    "share_blas_threads": (False, True),
}


class Fitted(Machine):
    """An estimator of scikit-learn's kind."""

    estimator: Any
    settings: dict[str, tuple[Any, ...]]

    def objects(self) -> Any:
        return self.estimator

    def take(self, objects: Any) -> None:
        self.estimator = objects

    def x(self) -> Any:
        rows = self.source.pick((12, 8, 20, 2, 1, 0))
        columns = self.source.pick((FEATURES, FEATURES, FEATURES, FEATURES, 2))
        dtype = self.source.pick(
            (np.float64, np.float32, np.float64, np.float16, int, complex, object)
        )
        x = np.random.default_rng(rows).normal(1, 2, (rows, columns)).astype(dtype)
        if self.source.rarely(8) and x.size:
            x = x.astype(float)
            x[0, 0] = self.source.pick((np.nan, np.inf, 1e300))
        return x

    def do_set_params(self) -> None:
        name = self.source.pick(sorted(self.settings))
        value = self.source.pick((*self.settings[name], *self.settings[name], *JUNK))
        if name != "random_state" or value is not None:  # which differs from run to run
            self.estimator.set_params(**{name: value})

    def do_set_what_there_is_not(self) -> None:
        self.estimator.set_params(nothing=3)

    def do_clone(self) -> None:
        cloned = clone(self.estimator)
        assert not [name for name in vars(cloned) if name.endswith("_")]
        assert repr(cloned.get_params()) == repr(self.estimator.get_params())


def attributes(value: Any, prefix: str = "") -> dict[str, Any]:
    """All numbers and arrays that an object shows."""
    found: dict[str, Any] = {}
    for name, each in vars(value).items():
        if isinstance(each, np.ndarray | float | int | str | dict | list | tuple | np.generic):
            found[prefix + name] = each
    if "history_" in found:
        found["history_"] = {k: v for k, v in found["history_"].items() if k != "seconds"}
    return found


class Estimating(Fitted):
    """NNClassifier and NNRegressor."""

    settings = SETTINGS

    def __init__(self, source: Source, folder: Path) -> None:
        super().__init__(source, folder)
        self.kind = source.pick((nf.estimators.NNClassifier, nf.estimators.NNRegressor))
        self.estimator = self.kind(
            hidden_layer_sizes=(4,), max_iter=2, batch_size=6, random_state=0
        )
        for _ in range(source.below(4)):
            name = source.pick(sorted(SETTINGS))
            self.estimator.set_params(**{name: source.pick(SETTINGS[name])})

    def state(self) -> dict[str, bytes]:
        found = attributes(self.estimator) | {"params": repr(self.estimator.get_params())}
        if hasattr(self.estimator, "net_"):
            training = self.estimator._training
            found |= {
                f"net.{name}": value for name, value in self.estimator.net_.state_dict().items()
            }
            found |= {
                f"opt.{name}": value for name, value in training.optimizer.state_dict().items()
            }
            found["rng"] = str(training._rng.bit_generator.state)
        return {name: bytes_of(value) for name, value in found.items()}

    def y(self, rows: int) -> Any:
        y = (
            np.arange(rows) % 2
            if self.kind is nf.estimators.NNClassifier
            else np.linspace(-1, 1, rows)
        )
        match self.source.below(10):
            case 8:
                return y[: rows // 2]
            case 9:
                return self.source.pick(
                    (None, ["a"] * rows, np.full(rows, np.nan), np.ones((rows, 2)), y + 5)
                )
        return y

    def train(self) -> None:
        x = np.random.default_rng(5).normal(1, 2, (12, FEATURES))
        y = np.arange(12) % 2 if self.kind is nf.estimators.NNClassifier else np.linspace(-1, 1, 12)
        options = {"classes": [0, 1]} if self.kind is nf.estimators.NNClassifier else {}
        self.estimator.partial_fit(x, y, **options)
        self.estimator.predict(x)

    def do_fit(self) -> None:
        x = self.x()
        assert self.estimator.fit(x, self.y(len(x))) is self.estimator
        assert self.estimator.n_iter_ == len(self.estimator.history_["loss"])

    # Weights and statistics that are no numbers any more are lost, as the docstring says.
    def break_partial_fit(self) -> None:
        before = self.state()
        x = self.x()
        try:
            options = {"classes": [0, 1]} if self.kind is nf.estimators.NNClassifier else {}
            self.estimator.partial_fit(x, self.y(len(x)), **options)
        except EXPECTED as error:
            if "became" not in str(error):
                self._compare(before, self.state(), f"partial_fit raised {error!r}, but")
            raise

    def break_train(self) -> None:
        self.train()

    def do_predict(self) -> None:
        before = self.state()
        self.estimator.predict(self.x())
        self._compare(before, self.state(), "after predict")

    def do_interrupt(self) -> None:
        """Ctrl-C in one of the first steps."""
        step, left = Training._step, [self.source.below(5)]

        def counted(training: Any, *args: Any) -> float:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return step(training, *args)

        x = np.random.default_rng(5).normal(1, 2, (12, FEATURES))
        y = np.arange(12) % 2 if self.kind is nf.estimators.NNClassifier else np.linspace(-1, 1, 12)
        with patch.object(Training, "_step", counted):
            self.estimator.fit(x, y)
        assert self.estimator.n_iter_ == len(self.estimator.history_["loss"])
        assert np.isfinite(self.estimator.predict(x)).all()


class Preprocessing(Fitted):
    """Scalers, PCA and whitening."""

    def __init__(self, source: Source, folder: Path) -> None:
        super().__init__(source, folder)
        kinds = ("StandardScaler", "PCA", "Whitening", "ImageScaler")
        self.images = False
        self.estimator = getattr(nf.preprocessing, source.pick(kinds))()
        self.settings = {
            name: (value, True, False, "zca", "pixel", "NHWC", 2, 0.5, None, 1e-3)
            for name, value in self.estimator.get_params().items()
        }

    def x(self) -> Any:
        x = super().x()
        images = isinstance(self.estimator, nf.preprocessing.ImageScaler)
        return x.reshape(len(x), x.shape[1], 1, 1) if images and not self.source.rarely(8) else x

    def state(self) -> dict[str, bytes]:
        found = attributes(self.estimator) | {"params": repr(self.estimator.get_params())}
        return {name: bytes_of(value) for name, value in found.items() if name != "_lazy"}

    def train(self) -> None:
        x = np.random.default_rng(5).normal(1, 2, (12, FEATURES))
        if isinstance(self.estimator, nf.preprocessing.ImageScaler):
            x = x.reshape(12, FEATURES, 1, 1)
        self.estimator.partial_fit(x)
        self.estimator.transform(x)

    def do_fit(self) -> None:
        self.estimator.fit(self.x())

    def do_partial_fit(self) -> None:
        self.estimator.partial_fit(self.x())

    def do_transform(self) -> None:
        x = self.x()
        self.estimator.inverse_transform(self.estimator.transform(x))

    def do_ask(self) -> None:
        check_is_fitted(self.estimator)
        self.estimator.get_feature_names_out()
