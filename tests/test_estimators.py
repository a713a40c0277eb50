"""Estimators: scikit-learn's checks, dtypes, threads, copies, predictions, searches, progress."""

import copy
import os
import pickle
import re
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator

import nnfast as nf
from estimator_data import (
    LABELS,
    Array,
    Estimator,
    X,
    Y,
    Z,
    assert_same_bits,
    both,
    data,
    differ,
    params,
)
from nnfast import estimators
from nnfast._testing import forced
from nnfast.estimators import NNClassifier, NNRegressor
from nnfast.estimators import estimator as estimator_module
from test_examples import examples

ROOT = Path(__file__).parents[1]


def run(code: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Code in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


# ---- scikit-learn's own checks ----


def checks() -> list[Any]:
    """All but that of other libraries' arrays, which is skipped where SciPy was not told of them before its import.

    The next test makes up for that.
    """
    small = {"hidden_layer_sizes": (20,), "batch_norm": True, "dropout": 0.1, "batch_size": 16}
    return [
        pytest.param(instance, check, id=f"{type(instance).__name__}-{kind}-{number}")
        for make in (NNClassifier, NNRegressor)
        for kind, estimator in (("default", make()), ("batch_norm", make(**small)))
        for number, (instance, check) in enumerate(estimator_checks_generator(estimator))
        if "check_array_api_input" not in str(check)
        # In batches, and with a mask for each row, rows of weight 0 are not the same as none.
        and not (kind == "batch_norm" and "check_sample_weight_equivalence" in str(check))
    ]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("instance", "check"), checks())
def test_scikit_learns_checks(instance: Estimator, check: Callable[[Estimator], None]) -> None:
    check(instance)


def test_scikit_learns_checks_where_arrays_of_other_libraries_are_allowed() -> None:
    code = """
import warnings
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator
from nnfast.estimators import NNClassifier, NNRegressor
warnings.simplefilter("ignore", ConvergenceWarning)
for estimator in (NNClassifier(), NNRegressor()):
    check_estimator(estimator, on_skip="warn")
"""
    result = run(code, "-W", "error", SCIPY_ARRAY_API="1")
    assert result.returncode == 0, result.stderr


# ---- learning ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "settings",
    [{}, {"batch_norm": True, "dropout": 0.2, "hidden_layer_sizes": (64, 32), "batch_size": 50}],
)
def test_digits(dtype: Any, settings: dict[str, Any]) -> None:
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x.astype(dtype), y, stratify=y, random_state=0)
    net = make_pipeline(StandardScaler(), NNClassifier(random_state=0, **settings)).fit(x, y)
    assert net.score(x_test, y_test) > 0.97
    assert net[-1].loss_ < 0.05


# ---- dtypes, memory, threads, copies ----


@pytest.mark.parametrize(
    ("given", "computed"),
    [("f4", "f4"), ("f8", "f8"), ("i4", "f8"), ("f2", "f8")],
)
def test_dtypes(given: str, computed: str) -> None:
    x = np.round(X * 8).astype(given)
    net = NNClassifier(batch_norm=True, max_iter=2).fit(x, Y)
    assert {array.dtype for array in params(net)} == {np.dtype(computed)}
    for predict in (net.predict_proba, net.predict_log_proba, net.decision_function):
        assert predict(x).dtype == computed
    # A layer that a function makes takes the dtype of the data, too.
    for activation in ("relu", nf.nn.PReLU):
        regressor = NNRegressor(activation=activation, max_iter=2).fit(x, Z)
        assert regressor.predict(x).dtype == computed


def test_labels_keep_their_dtype_and_order() -> None:
    names = np.array(["b", "c", "a"])
    net = NNClassifier(random_state=0).fit(X, names[Y])
    assert net.classes_.tolist() == ["a", "b", "c"]
    assert net.predict(X).dtype == names.dtype
    assert net.score(X, names[Y]) > 0.9


def test_the_arrays_of_the_caller_are_not_kept() -> None:
    x = X.copy()
    net = NNClassifier(max_iter=1, shuffle=False, batch_size=90).fit(x, Y)
    alive = weakref.ref(x)
    del x
    assert alive() is None
    np.testing.assert_array_equal(net.predict(X), net.predict(X.copy(order="F")))


def test_predictions_go_through_the_network_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    net = NNClassifier(max_iter=3).fit(X, Y)
    whole = net.predict_proba(X)
    seen = []
    forward = nf.nn.Sequential.forward
    monkeypatch.setattr(
        nf.nn.Sequential, "forward", lambda self, x: seen.append(len(x)) or forward(self, x)
    )
    monkeypatch.setattr(estimator_module, "ROWS", 40)
    np.testing.assert_allclose(net.predict_proba(X), whole, rtol=1e-12)
    assert seen == [40, 40, 10]


@both
def test_the_same_bits_for_any_number_of_threads(make: Any) -> None:
    x, y = data(make)
    made = []
    for threads in (1, 2, 7):
        with forced(threads=threads, grain=1):
            net = make(batch_norm=True, dropout=0.3, early_stopping=True, max_iter=4)
            made.append(net.set_params(random_state=0).fit(x, y))
            assert_same_bits(made[0], made[-1])
            np.testing.assert_array_equal(made[0].predict(x), made[-1].predict(x))


def blas_is_shared() -> bool:
    return any(library["shares_threads"] for library in nf.cpu_info()["blas"])


@both
def test_blas_threads_are_shared_while_it_learns(make: Any) -> None:
    before = blas_is_shared()
    with nf.share_blas_threads():
        possible = blas_is_shared()
    x, y = data(make)
    seen: list[bool] = []

    def rate(step: int) -> float:
        seen.append(blas_is_shared())
        return 1e-2

    settings = {"hidden_layer_sizes": (300,), "max_iter": 2, "schedule": rate, "random_state": 0}
    own = make(**settings).fit(x, y)
    assert set(seen) == {before}
    seen.clear()
    net = clone(make(share_blas_threads=True, **settings))
    net.fit(x, y).partial_fit(x, y)
    assert set(seen) == {possible}
    assert blas_is_shared() == before
    assert_same_bits(own.partial_fit(x, y), net)


@both
def test_sharing_ends_where_learning_fails(make: Any) -> None:
    before = blas_is_shared()
    with pytest.raises(ValueError, match="max_iter must be at least 1, got 0"):
        make(share_blas_threads=True, max_iter=0).fit(*data(make))
    assert blas_is_shared() == before


@both
def test_random_state(make: Any) -> None:
    x, y = data(make)

    def fitted(state: Any) -> Estimator:
        return make(dropout=0.5, max_iter=2, random_state=state).fit(x, y)

    assert_same_bits(fitted(1), fitted(1))
    assert_same_bits(fitted(1), fitted(np.random.RandomState(1)))
    assert differ(fitted(1), fitted(2))
    assert differ(fitted(None), fitted(None))
    state = np.random.RandomState(1)
    assert differ(fitted(state), fitted(state))


def test_numpys_own_random_numbers_are_left_alone() -> None:
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    NNClassifier(max_iter=1, random_state=0, early_stopping=True).fit(X, Y)
    assert np.random.random() == expected  # noqa: NPY002


COPIES = {
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "deepcopy": copy.deepcopy,
}


@both
@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("optimizer", ["adam", "radam", "nesterov"])
def test_copies_predict_and_go_on_alike(make: Any, how: str, optimizer: str) -> None:
    x, y = data(make)
    settings = {"schedule": "cosine", "optimizer": optimizer, "max_iter": 5, "random_state": 0}
    net = make(batch_norm=True, dropout=0.2, **settings).fit(x, y)
    other = COPIES[how](net)
    np.testing.assert_array_equal(other.predict(x), net.predict(x))
    before = copy.deepcopy(params(other))
    net.partial_fit(x, y)
    for a, b in zip(params(other), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert_same_bits(other.partial_fit(x, y), net)
    assert other.history_["loss"] == net.history_["loss"]


# ---- classes ----


def test_balanced_weights() -> None:
    y = (np.arange(90) % 9 == 0).astype(int)
    settings = {"max_iter": 3, "random_state": 0}
    balanced = NNClassifier(class_weight="balanced", **settings).fit(X, y)
    weights = {0: 90 / (2 * 80), 1: 90 / (2 * 10)}
    assert_same_bits(balanced, NNClassifier(class_weight=weights, **settings).fit(X, y))
    assert differ(balanced, NNClassifier(**settings).fit(X, y))


def test_a_class_that_does_not_count_is_not_predicted() -> None:
    y = np.array(["a", "b"])[(X[:, 0] > 0).astype(int)]
    net = NNClassifier(class_weight={"a": 0.0}, random_state=0).fit(X, y)
    assert set(net.predict(X)) == {"b"}


@pytest.mark.parametrize("y", [Y, Y > 0, LABELS], ids=["three", "two", "labels"])
def test_predictions_agree(y: Array) -> None:
    net = NNClassifier(random_state=0).fit(X, y)
    p, scores = net.predict_proba(X), net.decision_function(X)
    np.testing.assert_allclose(np.exp(net.predict_log_proba(X)), p, rtol=1e-12)
    if y.ndim == 2:
        assert net.classes_.tolist() == [0, 1]
        np.testing.assert_allclose(p, 1 / (1 + np.exp(-scores)), rtol=1e-12)
        expected = (p > 0.5).astype(int)
    else:
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
        two = len(net.classes_) == 2
        assert scores.shape == ((90,) if two else (90, 3))
        logits = np.log(p[:, 1] / p[:, 0]) if two else np.log(p) - np.log(p[:, :1])
        given = scores if two else scores - scores[:, :1]
        np.testing.assert_allclose(given, logits, rtol=1e-9, atol=1e-12)
        expected = net.classes_[p.argmax(axis=1)]
    np.testing.assert_array_equal(net.predict(X), expected)
    assert net.score(X, y) > 0.85


def test_log_probabilities_where_probabilities_are_0() -> None:
    for y in (Y > 0, LABELS):
        net = NNClassifier(random_state=0).fit(X, y)
        assert net.predict_proba(X * 1e5).min() == 0
        assert np.isfinite(net.predict_log_proba(X * 1e5)).all()


def test_scikit_learn_is_told_of_many_labels() -> None:
    assert get_tags(NNClassifier()).classifier_tags.multi_label
    assert get_tags(NNRegressor()).target_tags.multi_output


def test_smoothing_of_many_labels() -> None:
    settings = {"learning_rate_init": 0, "max_iter": 1, "init": "he", "random_state": 0}
    net = NNClassifier(label_smoothing=0.2, **settings).fit(X, LABELS)
    targets = np.where(LABELS, 0.9, 0.1)
    loss, _ = nf.binary_cross_entropy_with_logits(net.net_.forward(X), targets)
    assert net.loss_ == pytest.approx(loss)
    # What searches draw are NumPy's numbers.
    y = net.set_params(label_smoothing=np.float64(0.2))._read(X.astype("f4"), LABELS, first=True)[1]
    assert y.dtype == np.float32


def test_sparse_labels() -> None:
    settings = {"max_iter": 2, "random_state": 0}
    net = NNClassifier(**settings).fit(X, scipy.sparse.csr_array(LABELS))
    assert_same_bits(net, NNClassifier(**settings).fit(X, LABELS))


# ---- numbers ----


def test_shapes_of_predictions() -> None:
    for y in (Z, Z[:, None], X[:, :3]):
        net = NNRegressor(max_iter=1).fit(X, y)
        assert net.predict(X).shape == y.shape
        assert net.n_outputs_ == (y.shape[1] if y.ndim == 2 else 1)


def test_losses_of_the_regressor() -> None:
    """Without features that say anything, a constant: the mean, the median, something between."""
    x, y = np.zeros((101, 1)), np.concatenate([np.zeros(60), np.full(41, 3.0)])
    found = {
        loss: NNRegressor((), loss=loss, learning_rate_init=0.1, tol=0, random_state=0)
        .set_params(schedule="linear", max_iter=150, n_iter_no_change=150)
        .fit(x, y)
        .predict(x[:1])[0]
        for loss in ("mse", "l1", "huber")
    }
    assert found["mse"] == pytest.approx(123 / 101, abs=1e-2)
    assert found["l1"] == pytest.approx(0, abs=1e-2)
    # 60 x = 41 where the far ones pull with 1 each
    assert found["huber"] == pytest.approx(41 / 60, abs=1e-2)


def test_a_single_sample() -> None:
    assert NNRegressor(max_iter=2).fit(X[:1], Z[:1]).n_iter_ == 2
    with pytest.raises(ValueError, match="batch_norm needs batches of two .*, got n_samples = 1 "):
        NNRegressor(batch_norm=True).fit(X[:1], Z[:1])


# ---- searches ----


def test_random_search_over_orders_of_magnitude() -> None:
    search = RandomizedSearchCV(
        make_pipeline(StandardScaler(), NNClassifier(max_iter=15, random_state=0)),
        {
            "nnclassifier__learning_rate_init": loguniform(1e-5, 1e-1),
            "nnclassifier__weight_decay": loguniform(1e-6, 1e-2),
            "nnclassifier__hidden_layer_sizes": [(8,), (16, 8)],
            "nnclassifier__batch_norm": [False, True],
        },
        n_iter=6,
        cv=3,
        random_state=0,
        error_score="raise",
        n_jobs=1,
    ).fit(*load_iris(return_X_y=True))
    assert search.best_score_ > 0.9
    assert np.ptp(search.cv_results_["mean_test_score"]) > 0


def test_a_search_goes_on_when_a_candidate_diverges() -> None:
    net = NNRegressor(optimizer="sgd", max_iter=20)
    search = GridSearchCV(net, {"learning_rate_init": [1e-2, 1e6]}, cv=2)
    with (
        pytest.warns(FitFailedWarning, match=r"the learning rate, 1e\+06, may be too high"),
        pytest.warns(UserWarning, match="scores are non-finite"),
    ):
        search.fit(X, Z)
    assert search.best_params_ == {"learning_rate_init": 1e-2}


def test_the_page_about_searches() -> None:
    page = (ROOT / "docs/estimators.md").read_text()
    names: dict[str, Any] = {"print": lambda *words: None}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(block, names)
    assert names["coarse"].best_score_ > names["scores"].mean()
    assert names["fine"].best_score_ >= names["coarse"].best_score_
    assert names["fine"].score(names["x_test"], names["y_test"]) > 0.97


# ---- progress ----


def test_history() -> None:
    net = NNClassifier(max_iter=3, learning_rate_init=np.float64(0.1)).fit(X, Y)
    assert list(net.history_) == ["loss", "learning_rate", "seconds"]
    assert {len(values) for values in net.history_.values()} == {net.n_iter_} == {3}
    assert net.loss_ == net.history_["loss"][-1]
    assert min(net.history_["seconds"]) > 0
    net.set_params(early_stopping=True).fit(X, Y)
    assert list(net.history_) == ["loss", "learning_rate", "seconds", "validation_score"]
    assert {type(value) for values in net.history_.values() for value in values} == {float}


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    NNClassifier(max_iter=3, early_stopping=True).fit(X, Y)
    assert capsys.readouterr().err == ""
    NNClassifier(max_iter=3, verbose=True, early_stopping=True).fit(X, Y)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "loss=" in shown
    assert "validation_score=" in shown


def test_tqdm_is_needed_by_the_bar_alone() -> None:
    code = """
import sys; sys.modules["tqdm"] = None
from nnfast.estimators import NNRegressor
NNRegressor(max_iter=1).fit([[1.0], [2.0]], [1.0, 2.0])
NNRegressor(max_iter=1, verbose=True).fit([[1.0], [2.0]], [1.0, 2.0])
"""
    last = run(code).stderr.strip().splitlines()[-1]
    assert last == "ImportError: verbose=True needs tqdm: pip install 'nnfast[sklearn]'"


# ---- the module ----


def test_every_public_name_has_an_example() -> None:
    names = {test.name.rsplit(".", 1)[-1] for test in examples()}
    assert {*estimators.__all__, "estimators"} <= names


def test_clones_have_the_settings_alone() -> None:
    net = NNClassifier((5,), "gelu", schedule=nf.schedules.Constant(0.1), max_iter=1).fit(X, Y)
    twin = clone(net)
    assert twin.get_params() == net.get_params()
    assert not hasattr(twin, "net_")


def test_without_scikit_learn_the_error_says_what_to_install() -> None:
    absent = "import sys; sys.modules['sklearn'] = None\n"
    assert run(absent + "from nnfast import *").returncode == 0
    last = run(absent + "import nnfast; nnfast.estimators").stderr.strip().splitlines()[-1]
    assert last == (
        "ImportError: nnfast.estimators needs scikit-learn 1.6 or newer: "
        "pip install 'nnfast[sklearn]'"
    )
