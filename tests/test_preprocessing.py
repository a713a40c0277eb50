"""Preprocessing: against NumPy in long double and scikit-learn, in pieces, inverses, dtypes, errors, other citizens."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn
import sklearn.decomposition
import sklearn.preprocessing
import sklearn.utils
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

from layouts import layouts
from nnfast.preprocessing import PCA, ImageScaler, StandardScaler, Whitening

Array = NDArray[Any]
Estimator = Any

TABULAR = [
    StandardScaler(),
    StandardScaler(with_std=False),
    StandardScaler(with_mean=False),
    PCA(),
    PCA(2),
    PCA(0.9),
    PCA(2, whiten=True),
    Whitening(),
    Whitening("zca"),
    Whitening("pca", eps=0),
    Whitening("zca", eps=0),
]
IMAGES = [
    ImageScaler(),
    ImageScaler(with_std=False),
    ImageScaler(with_mean=False, layout="NHWC"),
    ImageScaler(layout="NHWC"),
    ImageScaler(per="pixel"),
    ImageScaler(per="pixel", with_std=False),
]
EVERY = TABULAR + IMAGES
SCALERS = [estimator for estimator in EVERY if hasattr(estimator, "copy")]
ROTATIONS = [estimator for estimator in TABULAR if isinstance(estimator, PCA | Whitening)]


def over(estimators: list[Estimator]) -> Any:
    """The test for a clone of each of them."""
    return pytest.mark.parametrize("estimator", estimators, ids=repr, indirect=True)


@pytest.fixture
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return clone(request.param)


def table(n: int = 300, features: int = 4, dtype: Any = np.float64, seed: int = 0) -> Array:
    """Correlated features about means other than 0, whose variances along their axes are well apart."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((features, features)))[0]
    x = rng.standard_normal((n, features)) * 2.0 ** np.arange(features)
    return (x @ rotation + np.arange(1, features + 1)).astype(dtype)


def images(n: int = 40, dtype: Any = np.float64, seed: int = 0) -> Array:
    """Images whose pixels and channels differ in mean and deviation, of a shape whose axes are told apart."""
    rng = np.random.default_rng(seed)
    shape = (3, 4, 5)
    return (
        rng.normal(size=(n, *shape)) * rng.uniform(1, 3, shape) + rng.normal(0, 9, shape)
    ).astype(dtype)


def data(estimator: Estimator, n: int = 300, dtype: Any = np.float64, seed: int = 0) -> Array:
    """What the estimator takes."""
    return (images if isinstance(estimator, ImageScaler) else table)(n, dtype=dtype, seed=seed)


def learned(estimator: Estimator) -> dict[str, Array]:
    """Everything that was learned, by name."""
    names = [name for name in dir(type(estimator)) + list(vars(estimator)) if name.endswith("_")]
    names = [name for name in names if not name.startswith("_")]
    return {name: np.asarray(getattr(estimator, name)) for name in names}


def assert_close(actual: Array, expected: Array, *, tolerance: float) -> None:
    """To that share of the largest number."""
    assert actual.shape == expected.shape
    difference = np.abs(np.asarray(actual, np.longdouble) - expected).max()
    assert difference <= tolerance * np.abs(expected).max()


def moments(x: Array, axis: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and biased variance in long double."""
    wide = x.astype(np.longdouble)
    return wide.mean(axis=axis), wide.var(axis=axis)


def assert_moments(estimator: Estimator, x: Array, axis: tuple[int, ...]) -> None:
    mean, var = moments(x, axis)
    assert estimator.mean_.dtype == estimator.var_.dtype == estimator.scale_.dtype == np.float64
    np.testing.assert_allclose(estimator.mean_, mean.astype(float), rtol=1e-14)
    np.testing.assert_allclose(estimator.var_, var.astype(float), rtol=1e-14)
    np.testing.assert_allclose(estimator.scale_, np.sqrt(var).astype(float), rtol=1e-14)


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
    return [
        pytest.param(instance, check, id=f"{instance!r}-{number}")
        for estimator in TABULAR
        if estimator.get_params().get("n_components") != 2  # some have a single feature
        for number, (instance, check) in enumerate(estimator_checks_generator(clone(estimator)))
        if "check_array_api_input" not in str(check)
    ]


@pytest.mark.parametrize(("instance", "check"), checks())
def test_scikit_learns_checks(instance: Estimator, check: Callable[[Estimator], None]) -> None:
    check(instance)


def test_scikit_learns_checks_where_arrays_of_other_libraries_are_allowed() -> None:
    code = """
from sklearn.utils.estimator_checks import check_estimator
from nnfast.preprocessing import PCA, StandardScaler, Whitening
for estimator in (StandardScaler(), PCA(), PCA(0.9, whiten=True), Whitening(), Whitening("zca")):
    check_estimator(estimator, on_skip="warn")
"""
    result = run(code, "-W", "error", SCIPY_ARRAY_API="1")
    assert result.returncode == 0, result.stderr


# ---- tables: standardising ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("with_std", [True, False])
def test_standardising_is_its_formula(dtype: Any, with_mean: bool, with_std: bool) -> None:
    x, test = table(500, dtype=dtype), table(100, dtype=dtype, seed=1)
    scaler = StandardScaler(with_mean=with_mean, with_std=with_std).fit(x)
    assert_moments(scaler, x, (0,))
    mean, var = moments(x, (0,))
    expected = (test - mean * with_mean) / (np.sqrt(var) if with_std else 1)
    assert_close(scaler.transform(test), expected, tolerance=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("keywords", [{}, {"with_mean": False}, {"with_std": False}])
def test_standardising_is_scikit_learns(keywords: dict[str, bool]) -> None:
    x, test = table(), table(seed=1)
    x[:, 2] = 0.1
    ours = StandardScaler(**keywords).fit(x)
    theirs = sklearn.preprocessing.StandardScaler(**keywords).fit(x)
    np.testing.assert_allclose(ours.transform(test), theirs.transform(test), rtol=1e-12)
    np.testing.assert_allclose(
        ours.inverse_transform(test), theirs.inverse_transform(test), rtol=1e-12
    )
    np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-12)
    if ours.with_std:
        np.testing.assert_allclose(ours.scale_, theirs.scale_, rtol=1e-12)
    assert ours.n_samples_seen_ == theirs.n_samples_seen_


def test_a_large_mean_costs_no_digits() -> None:
    x = (1e6 + np.random.default_rng(0).standard_normal((20_000, 3))).astype(np.float32)
    pieces = StandardScaler()
    for piece in np.array_split(x, 7):
        pieces.partial_fit(piece)
    mean, var = moments(x, (0,))
    for scaler in (StandardScaler().fit(x), pieces):
        np.testing.assert_allclose(scaler.mean_, mean.astype(float), rtol=1e-15)
        np.testing.assert_allclose(scaler.var_, var.astype(float), rtol=1e-12)
        y = scaler.transform(x)
        assert y.dtype == np.float32
        assert_close(y, (x - mean) / np.sqrt(var), tolerance=2 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e30, 1e-30])
def test_a_constant_feature_has_scale_1(dtype: Any, value: float) -> None:
    x = table(1000, dtype=dtype)
    x[:, 1] = value
    pieces = StandardScaler()
    for piece in np.array_split(x, 9):
        pieces.partial_fit(piece)
    for scaler in (StandardScaler().fit(x), pieces):
        assert (scaler.var_[1], scaler.scale_[1]) == (0, 1)
        assert (scaler.scale_[[0, 2, 3]] > 1.01).all()
        assert (scaler.transform(x)[:, 1] == 0).all()
        assert (scaler.inverse_transform(scaler.transform(x))[:, 1] == x[0, 1]).all()


def test_constant_is_what_differs_by_rounding_alone() -> None:
    x = np.array([[0.3, 1e15, 1e-20], [0.1 + 0.2, 1e15 + 1, 3e-20]])
    assert x[0, 0] != x[1, 0]
    np.testing.assert_allclose(StandardScaler().fit(x).scale_, [1, 0.5, 1e-20])


def test_a_deviation_whose_inverse_float32_does_not_hold() -> None:
    x = np.array([[1e-40, 1.0], [3e-40, 3.0], [1e-40, 1.0], [3e-40, 3.0]], np.float32)
    for copy in (True, False):
        given = x.copy()
        scaler = StandardScaler(copy=copy).fit(given)
        y = scaler.transform(given)
        assert y.dtype == np.float32
        assert np.may_share_memory(y, given) == (not copy)
        np.testing.assert_allclose(y, [[-1, -1], [1, 1]] * 2, rtol=1e-5)
        np.testing.assert_allclose(scaler.inverse_transform(y), x, rtol=1e-4)


# ---- tables: PCA ----


def reference_axes(x: Array) -> tuple[Array, Array]:
    """Eigenvectors as rows and eigenvalues of the biased covariance, from the singular vectors of the data."""
    centred = x - x.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    return axes, singular**2 / len(x)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("n_components", [None, 1, 3, np.int64(6), 0.5, np.float64(0.9), 0.99999])
def test_pca_is_scikit_learns(n_components: Any, whiten: bool) -> None:
    x, test = table(400, 6), table(50, 6, seed=1)
    ours = PCA(n_components, whiten=whiten).fit(x)
    theirs = sklearn.decomposition.PCA(n_components, whiten=whiten, svd_solver="full").fit(x)
    assert ours.n_components_ == theirs.n_components_
    for name in ("components_", "explained_variance_", "explained_variance_ratio_", "mean_"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-12
        )
    y = theirs.transform(test)
    assert_close(ours.transform(test), y, tolerance=1e-12)
    assert_close(ours.inverse_transform(y), theirs.inverse_transform(y), tolerance=1e-12)


def test_pca_of_fewer_samples_than_features() -> None:
    x = table(4, 9)
    ours, theirs = PCA().fit(x), sklearn.decomposition.PCA().fit(x)
    assert ours.components_.shape == theirs.components_.shape == (4, 9)
    np.testing.assert_allclose(ours.components_[:3], theirs.components_[:3], atol=1e-12)
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(x)), x)


def test_a_share_of_the_variance_is_exceeded() -> None:
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert [PCA(share).fit(x).n_components_ for share in (0.49, 0.5, 0.51)] == [1, 2, 2]


def test_rounding_leaves_no_negative_variance() -> None:
    x = table(20, 40)
    assert np.linalg.eigvalsh(np.cov(x.T)).min() < 0
    assert (Whitening().fit(x).eigenvalues_ >= 0).all()


@pytest.mark.parametrize("n", [2, 5])
def test_pca_of_data_without_variance(n: int) -> None:
    x = np.full((n, 3), 0.1)
    for n_components, count in ((None, min(n, 3)), (0.5, min(n, 3)), (2, 2)):
        pca = PCA(n_components, whiten=True).fit(x)
        assert pca.n_components_ == count
        assert (pca.explained_variance_ratio_ == 0).all()
        assert (pca.transform(x) == 0).all()
        assert (pca.inverse_transform(pca.transform(x)) == x).all()


@over([PCA(whiten=True), Whitening("pca", eps=0), Whitening("zca", eps=0)])
def test_directions_without_variance_are_0_and_not_noise(estimator: Estimator) -> None:
    x = table()
    x = np.column_stack([x, x @ [1.0, -1.0, 0.5, 2.0], np.full(len(x), 0.1)])
    y = estimator.fit(x).transform(x)
    covariance = np.cov(y.T, ddof=isinstance(estimator, PCA))
    rank = np.diag([1.0, 1, 1, 1, 0, 0])
    np.testing.assert_allclose(np.linalg.eigvalsh(covariance)[::-1], np.diag(rank), atol=1e-6)
    np.testing.assert_allclose(estimator.inverse_transform(y), x, rtol=1e-10, atol=1e-10)


# ---- tables: whitening ----


@pytest.mark.parametrize("kind", ["pca", "zca"])
@pytest.mark.parametrize("eps", [0.0, 1e-12])
@pytest.mark.parametrize("features", [1, 5, 40])
def test_whitened_covariance_is_the_identity(kind: Any, eps: float, features: int) -> None:
    rng = np.random.default_rng(0)
    # Deviations from 1 to 10,000 along the axes, the worst that 1e-6 stands for.
    x = rng.standard_normal((3000, features)) * np.geomspace(1, 1e4, features)
    x = x @ np.linalg.qr(rng.standard_normal((features, features)))[0] + 100
    y = Whitening(kind, eps=eps).fit(x).transform(x)
    assert np.abs(y.mean(axis=0)).max() < 1e-9
    assert np.abs(y.T @ y / len(y) - np.eye(features)).max() < 1e-6


@pytest.mark.parametrize("eps", [0.0, 1e-5, 2.5])
def test_whitening_is_its_formula(eps: float) -> None:
    x, test = table(), table(seed=1)
    axes, variances = reference_axes(x)
    pca = (test - x.mean(axis=0)) @ axes.T / np.sqrt(variances + eps)
    whitening = Whitening(eps=eps).fit(x)
    np.testing.assert_allclose(whitening.eigenvalues_, variances, rtol=1e-12)
    signs = np.sign((whitening.components_ * axes).sum(axis=1))
    assert_close(whitening.transform(test), pca * signs, tolerance=1e-12)
    assert_close(Whitening("zca", eps=eps).fit(x).transform(test), pca @ axes, tolerance=1e-12)


def test_the_default_is_pca_whitening_with_an_eps() -> None:
    assert Whitening().get_params() == {"kind": "pca", "eps": 1e-5}


def test_zca_changes_the_data_least() -> None:
    x = table()
    standard = StandardScaler().fit_transform(x)
    y = Whitening("zca", eps=0).fit_transform(standard)
    least = np.linalg.norm(y - standard)
    assert np.linalg.norm(Whitening(eps=0).fit_transform(standard) - standard) > 1.5 * least
    for rotation in np.linalg.qr(np.random.default_rng(0).standard_normal((50, 4, 4)))[0]:
        assert np.linalg.norm(y @ rotation - standard) > 1.01 * least


# ---- images ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@over(IMAGES)
def test_images_are_scaled_by_their_formula(estimator: ImageScaler, dtype: Any) -> None:
    x, test = images(dtype=dtype), images(dtype=dtype, seed=1)
    channel = estimator.layout.index("C")
    axes = (0,) if estimator.per == "pixel" else tuple(a for a in range(4) if a != channel)
    assert_moments(estimator.fit(x), x, axes)
    assert estimator.n_samples_seen_ == len(x)
    assert estimator.mean_.shape == (
        x.shape[1:] if estimator.per == "pixel" else x.shape[channel:][:1]
    )
    wide = x.astype(np.longdouble)
    mean = wide.mean(axis=axes, keepdims=True) * estimator.with_mean
    std = wide.std(axis=axes, keepdims=True) if estimator.with_std else 1
    assert_close(estimator.transform(test), (test - mean) / std, tolerance=2 * np.finfo(dtype).eps)
    assert_close(
        estimator.inverse_transform(test), test * std + mean, tolerance=3 * np.finfo(dtype).eps
    )


@pytest.mark.parametrize("per", ["channel", "pixel"])
def test_layouts_of_images_agree(per: Any) -> None:
    x = images()
    first = ImageScaler(per=per).fit_transform(x)
    last = ImageScaler(per=per, layout="NHWC").fit_transform(np.moveaxis(x, 1, 3))
    np.testing.assert_allclose(np.moveaxis(last, 3, 1), first, rtol=1e-12, atol=1e-14)


def test_per_channel_images_may_differ_in_size() -> None:
    x = images()
    scaler = ImageScaler().fit(x[..., :2]).partial_fit(x[..., 2:])
    np.testing.assert_allclose(scaler.mean_, x.mean(axis=(0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(scaler.var_, x.var(axis=(0, 2, 3)), rtol=1e-13)
    assert scaler.n_samples_seen_ == 2 * len(x)
    assert scaler.transform(x[:, :, :1]).shape == x[:, :, :1].shape


@over(IMAGES)
def test_pipelines_and_output_settings_leave_images_alone(estimator: Estimator) -> None:
    x = images()
    expected = estimator.fit_transform(x)
    with sklearn.config_context(transform_output="pandas"):
        actual = make_pipeline(estimator).fit(x).transform(x)
    assert isinstance(actual, np.ndarray)
    np.testing.assert_array_equal(actual, expected)
    assert not hasattr(estimator, "set_output")
    assert not sklearn.utils.get_tags(estimator).input_tags.two_d_array


# ---- learning ----


@given(cuts=st.lists(st.integers(1, 59), max_size=12), index=st.integers(0, len(EVERY) - 1))
@settings(max_examples=200)
def test_pieces_of_any_size_are_learned_from_as_the_whole(cuts: list[int], index: int) -> None:
    whole, pieces = clone(EVERY[index]), clone(EVERY[index])
    x = data(whole, 60)
    whole.fit(x)
    for piece in np.split(x, sorted({0, *cuts} - {0})):
        pieces.partial_fit(piece)
    expected, actual = learned(whole), learned(pieces)
    assert actual.keys() == expected.keys() >= {"mean_", "n_samples_seen_"}
    for name in expected:
        assert_close(actual[name], expected[name], tolerance=1e-12)
    assert_close(pieces.transform(x), whole.transform(x), tolerance=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_covariance_is_exact_over_many_blocks(dtype: Any) -> None:
    x = (table(5000, dtype=np.float64) + 1e4).astype(dtype)
    centred = x.astype(np.longdouble) - x.astype(np.longdouble).mean(axis=0)
    covariance = (centred.T @ centred / len(x)).astype(float)
    whitening = Whitening(eps=0).fit(x)
    v, values = whitening.components_, whitening.eigenvalues_
    np.testing.assert_allclose(v.T * values @ v, covariance, rtol=1e-12, atol=1e-11)


@over(EVERY)
def test_fit_forgets_and_partial_fit_does_not(estimator: Estimator) -> None:
    first, second = data(estimator), 3 * data(estimator, seed=1)
    fresh = clone(estimator).fit(second)
    estimator.fit(first).fit(second)
    np.testing.assert_equal(learned(estimator), learned(fresh))
    estimator.fit(first).partial_fit(second)
    assert estimator.n_samples_seen_ == len(first) + len(second)
    assert (estimator.mean_ != fresh.mean_).any()


@over(EVERY)
def test_application_learns_nothing(estimator: Estimator) -> None:
    train, test = data(estimator), 5 * data(estimator, seed=1)
    estimator.fit(train)
    before = pickle.dumps(estimator)
    y = estimator.transform(test)
    estimator.inverse_transform(y)
    assert pickle.dumps(estimator) == before
    # A sample by itself becomes what it becomes among others.
    np.testing.assert_allclose(estimator.transform(test[3:4]), y[3:4], rtol=1e-12, atol=1e-12)


@over(ROTATIONS)
def test_eigenvectors_are_computed_once(
    estimator: Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: calls.append(1) or eigh(matrix))
    x = table()
    estimator.fit(x)
    assert len(calls) == 1
    for piece in np.split(x, 10):
        estimator.partial_fit(piece)
    assert len(calls) == 1
    (
        estimator.transform(x),
        estimator.components_,
        estimator.inverse_transform(estimator.transform(x)),
    )
    assert len(calls) == 2


# ---- inverses ----


@over(EVERY)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 3e-6)])
def test_round_trips(estimator: Estimator, dtype: Any, tolerance: float) -> None:
    x, test = data(estimator, dtype=dtype), data(estimator, dtype=dtype, seed=1)
    y = estimator.fit(x).transform(test)
    back = estimator.inverse_transform(y)
    assert back.dtype == dtype
    if y.shape == test.shape:
        assert_close(back, test, tolerance=tolerance)
    else:  # what was kept is the same
        assert_close(estimator.transform(back), y, tolerance=tolerance)


# ---- dtypes, layouts, memory ----


@over(EVERY)
def test_float32_stays_and_learns_in_float64(estimator: Estimator) -> None:
    narrow, wide = clone(estimator), clone(estimator)
    x = data(estimator, dtype=np.float32)
    y = narrow.fit(x).transform(x)
    assert y.dtype == np.float32
    assert narrow.inverse_transform(y).dtype == np.float32
    assert_close(y, wide.fit(x.astype(np.float64)).transform(x.astype(np.float64)), tolerance=1e-5)
    expected = learned(wide)
    for name, value in learned(narrow).items():
        assert value.dtype == expected[name].dtype
        assert_close(value, expected[name], tolerance=1e-14)


@over(EVERY)
@pytest.mark.parametrize("code", ["?", "u1", "i8", "f2", ">f4", ">f8", "g", "O"])
def test_other_dtypes_become_float64(estimator: Estimator, code: str) -> None:
    x = (np.abs(data(estimator)) * 3).astype(np.int64).astype(code)
    wide = x.astype(np.float64)
    y = estimator.fit(x).transform(x)
    assert y.dtype == np.float64
    assert y.dtype.isnative
    np.testing.assert_array_equal(y, clone(estimator).fit(wide).transform(wide))
    assert estimator.inverse_transform(y.astype(code) if code == "f2" else y).dtype == np.float64


@over(EVERY)
def test_layouts_in_memory_do_not_matter(estimator: Estimator) -> None:
    x = data(estimator, 50)
    expected = estimator.fit(x).transform(x)
    for name, other in layouts(x).items():
        before = other.copy()
        other.flags.writeable = False
        actual = clone(estimator).fit(other).transform(other)
        np.testing.assert_array_equal(other, before, err_msg=name)
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12, err_msg=name)


@over(SCALERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_a_copy_the_input_takes_the_result(estimator: Estimator, dtype: Any) -> None:
    x = data(estimator, dtype=dtype)
    y = estimator.fit(x).transform(x)
    back = estimator.inverse_transform(y)
    assert not np.may_share_memory(x, y)
    assert not np.may_share_memory(y, back)
    in_place = clone(estimator).set_params(copy=False).fit(x)
    result = in_place.transform(x)
    assert np.may_share_memory(result, x)
    np.testing.assert_array_equal(x, y)
    assert np.may_share_memory(in_place.inverse_transform(result), x)
    np.testing.assert_array_equal(x, back)


@over(SCALERS)
def test_without_a_copy_a_read_only_input_is_not_written(estimator: Estimator) -> None:
    x = data(estimator)
    expected = estimator.fit(x).transform(x)
    before = x.copy()
    x.flags.writeable = False
    np.testing.assert_array_equal(estimator.set_params(copy=False).transform(x), expected)
    np.testing.assert_array_equal(x, before)


@over(ROTATIONS)
def test_inverses_of_rotations_leave_their_input(estimator: Estimator) -> None:
    x = table()
    y = estimator.fit(x).transform(x)
    before = y.copy()
    assert not np.may_share_memory(estimator.inverse_transform(y), y)
    np.testing.assert_array_equal(y, before)


# ---- small batches ----


@over(SCALERS)
def test_one_sample_has_no_deviation(estimator: Estimator) -> None:
    x = data(estimator, 1)
    estimator.fit(x)
    if x.ndim == 2 or estimator.per == "pixel":
        assert (estimator.scale_ == 1).all()
        np.testing.assert_array_equal(estimator.transform(x), x * (not estimator.with_mean))
    np.testing.assert_allclose(estimator.inverse_transform(estimator.transform(x)), x)


@over(ROTATIONS)
def test_rotations_need_two_samples(estimator: Estimator) -> None:
    x = table()
    with pytest.raises(ValueError, match=r"Found array with 1 sample\(s\)"):
        estimator.fit(x[:1])
    estimator.partial_fit(x[:1])
    for use in (
        lambda: estimator.transform(x),
        lambda: estimator.inverse_transform(x),
        lambda: estimator.components_,
    ):
        with pytest.raises(ValueError, match="has seen 1 sample and needs at least 2"):
            use()
    estimator.partial_fit(x[1:])
    assert_close(estimator.transform(x), clone(estimator).fit(x).transform(x), tolerance=1e-12)


# ---- errors ----


def spoiled(x: Array, value: float) -> Array:
    x = x.copy()
    x.flat[7] = value
    return x


BAD_DATA: dict[str, tuple[Callable[[Array], Array], str]] = {
    "nan": (lambda x: spoiled(x, np.nan), "Input X contains NaN"),
    "inf": (lambda x: spoiled(x, -np.inf), "Input X contains infinity"),
    "no samples": (lambda x: x[:0], r"Found array with 0 sample\(s\)"),
    "an axis less": (lambda x: x[0], r"Expected 2D array|X must be images of shape \(N, ., ., .\)"),
    "no numbers": (lambda x: np.full(x.shape, "word"), "could not convert string"),
    "complex": (lambda x: x * 1j, "Complex data not supported"),
}


@over(IMAGES)
def test_images_without_pixels_are_refused(estimator: Estimator) -> None:
    estimator.fit(images(5))
    for method in ("fit", "partial_fit", "transform"):
        assert_refused(
            estimator, method, np.empty((5, 3, 0, 5)), r"X must be images of shape \(N, "
        )


def test_sparse_images_are_refused() -> None:
    with pytest.raises(TypeError, match="Sparse data was passed for X"):
        ImageScaler().fit(scipy.sparse.csr_array((3, 3)))


def other_features(x: Array) -> Array:
    return x[(slice(None), *[slice(1, None)] * (x.ndim - 1))]


METHODS = ["fit", "partial_fit", "transform", "inverse_transform"]


def assert_refused(estimator: Estimator, method: str, x: Any, message: str) -> None:
    before = pickle.dumps(vars(estimator))
    with pytest.raises(ValueError, match=message):
        getattr(estimator, method)(x)
    assert pickle.dumps(vars(estimator)) == before


@pytest.mark.parametrize(
    ("estimator", "bad"),
    [
        pytest.param(estimator, bad, id=f"{estimator!r}-{bad}")
        for estimator in EVERY
        for bad in BAD_DATA
        if bad != "nan" or not isinstance(estimator, StandardScaler)  # NaN is a gap there
    ],
    indirect=["estimator"],
)
@pytest.mark.parametrize("method", METHODS)
def test_bad_data_is_refused_and_changes_nothing(
    estimator: Estimator, bad: str, method: str
) -> None:
    spoil, message = BAD_DATA[bad]
    x = data(estimator, 20)
    y = estimator.fit(x).transform(x)
    assert_refused(estimator, method, spoil(y if method == "inverse_transform" else x), message)


@over(EVERY)
@pytest.mark.parametrize("method", METHODS[1:])
def test_other_features_are_refused(estimator: Estimator, method: str) -> None:
    x = data(estimator, 20)
    y = estimator.fit(x).transform(x)
    has = r"X has 3 features, but \w+ is expecting 4"
    if isinstance(estimator, ImageScaler):
        has = r"X must have (channels|images) of \(.*\), got shape \(20, 2, 3, 4\)"
    elif method == "inverse_transform":
        has = rf"X must have {y.shape[1]} columns, as \w+ returns them, got {y.shape[1] - 1}"
    if y.shape[1] == 1:
        has = r"Found array with 0 feature\(s\)"
    bad = other_features(y if method == "inverse_transform" else x)
    assert_refused(estimator, method, bad, has)


@over(TABULAR)
def test_a_table_refused_leaves_the_names_of_the_one_before(estimator: Estimator) -> None:
    """scikit-learn's own check takes over the names before it looks at the numbers."""
    names = list("abcd")
    estimator.fit(pd.DataFrame(table(), columns=names))
    infinite = spoiled(table(), np.inf)
    for bad in (pd.DataFrame(infinite, columns=list("efgh")), infinite):
        assert_refused(estimator, "fit", bad, "Input X contains infinity")
        assert list(estimator.feature_names_in_) == names


@over(EVERY)
def test_a_failed_fit_does_not_count_as_fitted(estimator: Estimator) -> None:
    x = data(estimator)
    for method in ("fit", "partial_fit"):
        assert_refused(estimator, method, np.full_like(x, np.inf), "Input X contains infinity")
    assert vars(estimator) == estimator.get_params()
    for method in ("transform", "inverse_transform"):
        with pytest.raises(
            NotFittedError, match=f"This {type(estimator).__name__} instance is not fitted"
        ):
            getattr(estimator, method)(x)
    assert not hasattr(estimator, "components_")


@over(EVERY)
def test_a_variance_beyond_float64_is_refused(estimator: Estimator) -> None:
    x = data(estimator, 20)
    estimator.fit(x)
    for method in ("fit", "partial_fit"):
        assert_refused(estimator, method, 1e200 * x, "X must have a variance that float64 can hold")


BAD_PARAMETERS = [
    (PCA(-1), ValueError, "n_components must be at least 0, got -1"),
    (PCA(5), ValueError, "n_components must not exceed the 4 features, got 5"),
    (PCA(1.0), ValueError, r"n_components must be in \(0, 1\) as a float, got 1.0"),
    (PCA(0.0), ValueError, r"n_components must be in \(0, 1\) as a float, got 0.0"),
    (PCA(np.nan), ValueError, r"n_components must be in \(0, 1\) as a float, got nan"),
    (
        PCA("most"),
        ValueError,
        r"n_components must be an int, a float in \(0, 1\), 'mle' or None, got 'm",
    ),
    (Whitening("ZCA"), ValueError, "kind must be 'pca' or 'zca', got 'ZCA'"),
    (Whitening(eps=-1e-9), ValueError, "eps must not be negative, got -1e-09"),
    (Whitening(eps=np.nan), ValueError, "eps must be finite, got nan"),
    (Whitening(eps=np.inf), ValueError, "eps must be finite, got inf"),
    (Whitening(eps="1"), TypeError, "eps must be a real number, got str"),
    (ImageScaler(per="image"), ValueError, "per must be 'channel' or 'pixel', got 'image'"),
    (ImageScaler(layout="CHWN"), ValueError, "layout must be 'NCHW' or 'NHWC', got 'CHWN'"),
]


@pytest.mark.parametrize(
    ("bad", "error", "message"), BAD_PARAMETERS, ids=[str(row[0]) for row in BAD_PARAMETERS]
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_bad_parameters_are_named(
    bad: Estimator, error: type[Exception], message: str, method: str
) -> None:
    x = data(bad)
    estimator = type(bad)().fit(x).set_params(**bad.get_params())
    before = pickle.dumps(vars(estimator))
    with pytest.raises(error, match=message):
        getattr(estimator, method)(x)
    assert pickle.dumps(vars(estimator)) == before


def test_more_components_than_samples_are_refused() -> None:
    x = table()
    with pytest.raises(ValueError, match="n_components must not exceed the 3 samples, got 4"):
        PCA(4).fit(x[:3])
    pca = PCA(4).partial_fit(x[:3])
    with pytest.raises(ValueError, match="n_components must not exceed the 3 samples, got 4"):
        pca.transform(x)
    assert pca.partial_fit(x[3:4]).transform(x).shape == x.shape


# ---- scikit-learn's protocol ----


@over(EVERY)
def test_parameters_clones_and_pickles(estimator: Estimator) -> None:
    x = data(estimator)
    parameters = estimator.get_params()
    y = estimator.fit(x).transform(x)
    assert estimator.get_params() == parameters
    again = clone(estimator)
    assert vars(again) == parameters
    assert vars(type(estimator)().set_params(**parameters)) == parameters
    with pytest.raises(ValueError, match="Invalid parameter 'nothing'"):
        estimator.set_params(nothing=1)
    loaded = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(loaded.transform(x), y)
    np.testing.assert_array_equal(again.fit_transform(x), y)
    # Learning goes on where it was left.
    np.testing.assert_equal(
        learned(loaded.partial_fit(2 * x)), learned(estimator.partial_fit(2 * x))
    )


@over(TABULAR)
def test_names_of_features(estimator: Estimator) -> None:
    frame = pd.DataFrame(table(), columns=list("abcd"), index=np.arange(300) + 7)
    estimator.fit(frame)
    y = estimator.set_output(transform="pandas").transform(frame)
    one_to_one = isinstance(estimator, StandardScaler) or getattr(estimator, "kind", "") == "zca"
    prefix = type(estimator).__name__.lower()
    expected = list("abcd") if one_to_one else [f"{prefix}{k}" for k in range(y.shape[1])]
    assert list(y.columns) == list(estimator.get_feature_names_out()) == expected
    assert list(y.index) == list(frame.index)
    np.testing.assert_array_equal(y, clone(estimator).fit(table()).transform(table()))
    assert isinstance(estimator.inverse_transform(y), np.ndarray)
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.transform(frame[list("badc")])


def test_search_over_parameters() -> None:
    x = table()
    labels = x[:, 0] > x[:, 0].mean()
    pipeline = make_pipeline(StandardScaler(), Whitening(), KNeighborsClassifier())
    grid = {"whitening__kind": ["pca", "zca"], "standardscaler__with_std": [True, False]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(x, labels)
    assert search.best_score_ > 0.9
    assert len(search.cv_results_["params"]) == 4


# ---- without scikit-learn ----

ABSENT = "import sys; sys.modules['sklearn'] = None\n"


def test_the_package_does_not_need_scikit_learn() -> None:
    assert run(ABSENT + "from nnfast import *; import nnfast; nnfast.relu(1.0)").returncode == 0
    assert (
        run("import sys, nnfast, nnfast.optim; sys.exit('sklearn' in sys.modules)").returncode == 0
    )


def test_without_scikit_learn_the_error_says_what_to_install() -> None:
    for code in ("import nnfast.preprocessing", "import nnfast; nnfast.preprocessing"):
        result = run(ABSENT + code)
        assert result.returncode != 0
        last = result.stderr.strip().splitlines()[-1]
        assert last == (
            "ImportError: nnfast.preprocessing needs scikit-learn 1.6 or newer: "
            "pip install 'nnfast[sklearn]'"
        )
