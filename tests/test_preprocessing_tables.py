"""Tables with gaps, weights of samples, and few entries; the Gaussian model of PCA: against scikit-learn and NumPy."""

import math
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
import sklearn.decomposition
import sklearn.preprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from nnfast.preprocessing import PCA, ImageScaler, StandardScaler, Whitening, _principal

Array = NDArray[Any]

N, WIDTH = 200, 6
CONTAINERS = [
    np.asarray,
    scipy.sparse.csr_array,
    scipy.sparse.csr_matrix,
    scipy.sparse.csc_array,
    scipy.sparse.coo_matrix,
]
every_container = pytest.mark.parametrize("container", CONTAINERS, ids=lambda c: c.__name__)
sparse_containers = pytest.mark.parametrize("container", CONTAINERS[1:], ids=lambda c: c.__name__)


def table(seed: int = 0, gaps: float = 0.0, zeros: float = 0.5, dtype: Any = np.float64) -> Array:
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, (N, WIDTH)) * (rng.random((N, WIDTH)) >= zeros)
    x[rng.random(x.shape) < gaps] = np.nan
    return x.astype(dtype)


WEIGHTS = np.random.default_rng(1).uniform(0, 3, N)
WEIGHTS[::7] = 0


def contents(x: Any) -> bytes:
    names = ("data", "indices", "indptr") if hasattr(x, "indptr") else ("data",)
    return b"".join(np.asarray(getattr(x, name)).tobytes() for name in names)


def theirs(x: Any, weights: Any = None, **options: Any) -> Any:
    return sklearn.preprocessing.StandardScaler(**options).fit(x, sample_weight=weights)


def assert_learned(ours: Any, expected: Any, *, rtol: float = 1e-12) -> None:
    for name in ("mean_", "var_", "scale_", "n_samples_seen_"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(expected, name), rtol=rtol, atol=1e-13
        )


# ---- StandardScaler ----


@every_container
@pytest.mark.parametrize("gaps", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_are_those_of_scikit_learn(
    container: Any, gaps: float, weights: Any, dtype: Any
) -> None:
    x = table(gaps=gaps, dtype=dtype)
    expected = theirs(x.astype(np.float64), weights)
    before = contents(container(x))
    scaler = StandardScaler(with_mean=container is np.asarray)
    given = container(x)
    assert_learned(scaler.fit(given, sample_weight=weights), expected)
    pieces = StandardScaler(with_mean=container is np.asarray)
    for part in (slice(0, 1), slice(1, 90), slice(90, N)):
        some = None if weights is None else weights[part] + 0.0
        if some is not None and not some.any():
            some = some + 1e-300
        piece = given[part] if container in CONTAINERS[:3] else container(x[part])
        pieces.partial_fit(piece, sample_weight=some)
    assert_learned(pieces, expected)
    assert contents(given) == before


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
def test_kinds_of_counts(weights: Any) -> None:
    whole = StandardScaler().fit(table(), sample_weight=weights)
    assert type(whole.n_samples_seen_) is (int if weights is None else float)
    some = StandardScaler().fit(table(gaps=0.1), sample_weight=weights).n_samples_seen_
    assert some.dtype == (np.int64 if weights is None else np.float64)
    assert some.shape == (WIDTH,)


def test_a_weight_is_a_number_of_repetitions() -> None:
    x, counts = table(gaps=0.2), np.random.default_rng(0).integers(0, 4, N)
    repeated = StandardScaler().fit(np.repeat(x, counts, axis=0))
    weighted = StandardScaler().fit(x, sample_weight=counts)
    assert_learned(weighted, repeated)


def test_gaps_stay_gaps() -> None:
    x = table(gaps=0.2)
    scaler = StandardScaler().fit(x)
    y = scaler.transform(x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    np.testing.assert_allclose(np.nanmean(y, axis=0), 0, atol=1e-13)
    np.testing.assert_allclose(np.nanstd(y, axis=0), 1, atol=1e-13)
    np.testing.assert_allclose(scaler.inverse_transform(y), x, rtol=1e-13, atol=1e-13)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in (np.float32, np.float64):
            empty = x.astype(dtype)
            empty[:, 2] = np.nan
            scaler.fit(empty)
            assert np.isnan([scaler.mean_[2], scaler.var_[2], scaler.scale_[2]]).all()
            assert scaler.n_samples_seen_[2] == 0
            y = scaler.transform(empty)
            assert y.dtype == dtype
            assert np.isnan(y[:, 2]).all()
            assert np.isfinite(y[:, [0, 1]]).any(axis=0).all()
            scaler.partial_fit(x.astype(dtype))
            assert np.isfinite(scaler.scale_).all()


def test_gaps_in_one_piece_of_several() -> None:
    x, y = table(), table(1, gaps=0.3)
    expected = theirs(np.vstack([x, y]))
    for first, second in ((x, y), (y, x)):
        assert_learned(StandardScaler().partial_fit(first).partial_fit(second), expected)
    lazy = da.from_array(np.vstack([x, y]), chunks=(70, WIDTH))
    assert_learned(StandardScaler().fit(lazy), expected)
    with pytest.raises(ValueError, match="sample_weight must be None where X is Dask's"):
        StandardScaler().fit(lazy, sample_weight=np.ones(2 * N))


@sparse_containers
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("with_std", [True, False])
def test_scaling_keeps_a_table_sparse(container: Any, dtype: Any, with_std: bool) -> None:
    x = table(gaps=0.1, dtype=dtype)
    scaler = StandardScaler(with_mean=False, with_std=with_std).fit(container(x))
    y = scaler.transform(container(x))
    assert y.format == "csr"
    assert y.dtype == dtype
    expected = scaler.transform(x)
    np.testing.assert_allclose(y.toarray(), expected, rtol=1e-6)
    back = scaler.inverse_transform(y)
    assert back.format == "csr"
    np.testing.assert_allclose(back.toarray(), x, rtol=1e-6)


def test_a_copy_or_the_memory_of_the_input() -> None:
    x = scipy.sparse.csr_array(table())
    scaler = StandardScaler(with_mean=False).fit(x)
    y = scaler.transform(x)
    assert not np.may_share_memory(y.data, x.data)
    same = scaler.transform(x, copy=False)
    assert same is x
    np.testing.assert_array_equal(x.data, y.data)
    assert scaler.set_params(copy=False).inverse_transform(x) is x
    dense = table()
    assert scaler.transform(dense, copy=True) is not dense
    assert np.shares_memory(scaler.transform(dense), dense)


def test_constant_columns_of_every_kind() -> None:
    rng = np.random.default_rng(0)
    for constant in (0.0, 1.0, 100.0, 1 / 3):
        x = np.full((N, 1), constant)
        for container in CONTAINERS:
            for weights in (None, rng.random(N)):
                scaler = StandardScaler(with_mean=False)
                assert scaler.fit(container(x), sample_weight=weights).scale_ == 1
                assert scaler.var_ < 1e-25


def test_a_large_mean_costs_no_digits() -> None:
    x = 1e9 + np.random.default_rng(0).standard_normal((N, 3))
    exact = x.astype(np.longdouble).var(axis=0).astype(float)
    ones = np.ones(N)
    for lain in (x, scipy.sparse.csr_array(x)):
        scaler = StandardScaler(with_mean=False)
        np.testing.assert_allclose(scaler.fit(lain, sample_weight=ones).var_, exact, rtol=1e-12)
        np.testing.assert_allclose(scaler.fit(lain).var_, exact, rtol=1e-12)


@settings(max_examples=60)
@given(data=st.data())
def test_statistics_by_hand(data: Any) -> None:
    n, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    seed = data.draw(st.integers(0, 999))
    rng = np.random.default_rng(seed)
    x = rng.normal(1, 1, (n, width)) * (rng.random((n, width)) < 0.6)
    x[rng.random(x.shape) < data.draw(st.sampled_from([0, 0.3, 1]))] = np.nan
    weights = data.draw(st.sampled_from([None, rng.integers(0, 3, n) + (np.arange(n) == 0)]))
    w = np.where(np.isnan(x), 0.0, np.ones(n)[:, None] if weights is None else weights[:, None])
    with np.errstate(invalid="ignore"):
        mean = np.nansum(x * w, axis=0) / w.sum(axis=0)
        var = np.nansum((x - mean) ** 2 * w, axis=0) / w.sum(axis=0)
    for lain in (x, scipy.sparse.csr_array(x)):
        scaler = StandardScaler(with_mean=False).fit(lain, sample_weight=weights)
        np.testing.assert_allclose(scaler.mean_, mean, atol=1e-14)
        np.testing.assert_allclose(scaler.var_, var, atol=1e-14)
        np.testing.assert_array_equal(np.broadcast_to(scaler.n_samples_seen_, width), w.sum(axis=0))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (-np.ones(N), "sample_weight must not be negative or all 0"),
        (np.zeros(N), "sample_weight must not be negative or all 0|at least one non-zero number"),
        (np.ones(N - 1), "sample_weight.shape == "),
        (np.full(N, np.nan), "Input sample_weight contains NaN"),
        (np.ones((N, 1)), "must be 1D array or scalar"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_bad_weights(weights: Array, message: str, method: str) -> None:
    scaler = StandardScaler().fit(table())
    before = pickle.dumps(vars(scaler))
    with pytest.raises(ValueError, match=message):
        getattr(scaler, method)(table(), sample_weight=weights)
    assert pickle.dumps(vars(scaler)) == before


def test_centring_a_sparse_table_is_refused() -> None:
    x = scipy.sparse.csr_array(table())
    message = "with_mean must be False where X is sparse, as zero-centring would make it dense, got"
    scaler = StandardScaler().fit(table())
    before = pickle.dumps(vars(scaler))
    for method in ("fit", "partial_fit", "transform", "inverse_transform"):
        with pytest.raises(ValueError, match=message):
            getattr(scaler, method)(x)
        assert pickle.dumps(vars(scaler)) == before
    x.data[3] = np.inf
    with pytest.raises(ValueError, match="Input X contains infinity"):
        StandardScaler(with_mean=False).fit(x)
    with pytest.raises(ValueError, match="X must have a variance that float64 can hold"):
        StandardScaler(with_mean=False).fit(1e200 * scipy.sparse.csr_array(table()))
    for other in (ImageScaler(), Whitening()):
        with pytest.raises(TypeError, match="Sparse data was passed for X"):
            other.fit(scipy.sparse.csr_array(table()))


# ---- PCA of sparse tables ----


def wide(n: int = 150, width: int = 60, seed: int = 0, dtype: Any = np.float64) -> Array:
    rng = np.random.default_rng(seed)
    x = rng.normal(1, 1, (n, width)) * (rng.random((n, width)) < 0.1) * np.linspace(1, 3, width)
    return x.astype(dtype)


ATTRIBUTES = (
    *("components_", "explained_variance_", "explained_variance_ratio_", "singular_values_"),
    *("noise_variance_", "mean_", "n_samples_seen_", "n_components_"),
)


@sparse_containers
@pytest.mark.parametrize("shape", [(150, 60), (60, 150)])
@pytest.mark.parametrize("whiten", [False, True])
def test_a_sparse_table_has_the_components_of_a_dense_one(
    container: Any, shape: tuple[int, int], whiten: bool
) -> None:
    x = wide(*shape)
    sparse, dense = PCA(4, whiten=whiten).fit(container(x)), PCA(4, whiten=whiten).fit(x)
    for name in ATTRIBUTES:
        np.testing.assert_allclose(
            getattr(sparse, name), getattr(dense, name), rtol=1e-9, atol=1e-11
        )
    np.testing.assert_allclose(sparse.transform(container(x)), dense.transform(x), atol=1e-10)
    np.testing.assert_allclose(sparse.transform(x), dense.transform(x), atol=1e-10)
    y = sparse.transform(x)
    np.testing.assert_allclose(sparse.inverse_transform(y), dense.inverse_transform(y), atol=1e-10)
    np.testing.assert_allclose(
        sparse.score_samples(container(x)), dense.score_samples(x), rtol=1e-9
    )


def test_every_fit_of_a_sparse_table_has_the_same_bits() -> None:
    x = scipy.sparse.csr_array(wide())
    first, second = PCA(3).fit(x), PCA(3).fit(x)
    assert first.components_.tobytes() == second.components_.tobytes()
    again = pickle.loads(pickle.dumps(first))
    assert again.transform(x).tobytes() == first.transform(x).tobytes()
    assert first.transform(x.astype(np.float32)).dtype == np.float32
    assert PCA().fit(x).n_components_ == 59


def test_a_sparse_table_without_variance() -> None:
    pca = PCA(2).fit(scipy.sparse.csr_array((9, 5)))
    assert not pca.explained_variance_.any()
    assert not pca.transform(np.zeros((3, 5))).any()


@pytest.mark.parametrize(
    ("n_components", "error", "message"),
    [
        (0.9, ValueError, "n_components must be an int or None where X is sparse, got 0.9"),
        ("mle", ValueError, "n_components must be an int or None where X is sparse, got 'mle'"),
        (60, ValueError, "n_components must be below both samples and features .* got 60 of 60"),
        (0, ValueError, "n_components must be at least 1, got 0"),
        ([2], TypeError, "n_components must be an int, got list"),
    ],
)
def test_numbers_of_components_of_a_sparse_table(
    n_components: Any, error: type[Exception], message: str
) -> None:
    pca = PCA(n_components)
    with pytest.raises(error, match=message):
        pca.fit(scipy.sparse.csr_array(wide()))
    assert vars(pca) == pca.get_params()


def test_a_sparse_table_is_learned_from_whole() -> None:
    x = scipy.sparse.csr_array(wide())
    with pytest.raises(TypeError, match="Sparse data was passed for X"):
        PCA(2).partial_fit(x)
    pca = PCA(2).fit(x)
    with pytest.raises(ValueError, match="partial_fit must not follow fit on a sparse X"):
        pca.partial_fit(wide())
    pca.fit(wide()).partial_fit(wide(seed=1))
    with pytest.raises(ValueError, match="X must have two features or more where it is sparse"):
        PCA(1).fit(x[:, :1])


# ---- the Gaussian model of PCA ----


@pytest.mark.parametrize("n_components", [1, 3, 5, None, 0.7])
@pytest.mark.parametrize("whiten", [False, True])
def test_the_model_is_scikit_learns(n_components: Any, whiten: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 5)) @ rng.standard_normal((5, 5)) + 7
    ours = PCA(n_components, whiten=whiten).fit(x)
    expected = sklearn.decomposition.PCA(n_components, svd_solver="full").fit(x)
    assert ours.noise_variance_ == pytest.approx(expected.noise_variance_, rel=1e-10)
    np.testing.assert_allclose(ours.singular_values_, expected.singular_values_, rtol=1e-10)
    np.testing.assert_allclose(ours.get_covariance(), expected.get_covariance(), atol=1e-10)
    np.testing.assert_allclose(ours.get_precision(), expected.get_precision(), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours.score_samples(x), expected.score_samples(x), rtol=1e-8)
    assert ours.score(x) == pytest.approx(expected.score(x), rel=1e-10)


def test_a_model_of_noise_alone() -> None:
    x = np.random.default_rng(0).standard_normal((40, 3))
    pca = PCA(0).fit(x)
    assert pca.transform(x).shape == (40, 0)
    assert pca.noise_variance_ == pytest.approx(x.var(axis=0, ddof=1).mean())
    np.testing.assert_allclose(pca.get_covariance(), pca.noise_variance_ * np.eye(3))
    assert pca.score(x) < PCA(1).fit(x).score(x)


def test_whitening_does_not_change_the_model() -> None:
    x = np.random.default_rng(0).standard_normal((40, 3))
    assert PCA(2, whiten=True).fit(x).score(x) == PCA(2).fit(x).score(x)


def test_the_density_is_that_of_scipy() -> None:
    from scipy.stats import multivariate_normal

    x = np.random.default_rng(0).standard_normal((50, 4)) * (3, 2, 1, 0.5)
    pca = PCA(2).fit(x)
    normal = multivariate_normal(pca.mean_, pca.get_covariance())
    np.testing.assert_allclose(pca.score_samples(x), normal.logpdf(x), rtol=1e-12)
    np.testing.assert_allclose(pca.get_precision() @ pca.get_covariance(), np.eye(4), atol=1e-13)


def test_directions_without_variance_are_left_out() -> None:
    x = np.random.default_rng(0).standard_normal((50, 2)) * (3, 1)
    flat = np.column_stack([x, np.zeros(50), x[:, 0]])
    pca = PCA().fit(flat)
    # Within its plane, whose coordinates keep every length.
    plane = np.column_stack([math.sqrt(2) * x[:, 0], x[:, 1]])
    np.testing.assert_allclose(pca.score_samples(flat), PCA().fit(plane).score_samples(plane))
    np.testing.assert_allclose(pca.get_precision(), np.linalg.pinv(pca.get_covariance()), atol=1e-9)
    few = PCA().fit(wide(5, 20))
    assert few.noise_variance_ == 0
    assert np.isfinite(few.score(wide(5, 20)))


def test_the_model_needs_something_learned() -> None:
    for use in (
        lambda p: p.get_covariance(),
        lambda p: p.get_precision(),
        lambda p: p.score([[1]]),
    ):
        with pytest.raises(NotFittedError):
            use(PCA())
    x = np.random.default_rng(0).standard_normal((30, 4))
    pieces, whole = PCA(2), PCA(2).fit(x)
    for part in np.split(x, 3):
        pieces.partial_fit(part)
    assert pieces.score(x) == pytest.approx(whole.score(x), rel=1e-12)
    lazy = PCA(2).fit(da.from_array(x, chunks=(10, 4)))
    assert lazy.noise_variance_ == pytest.approx(whole.noise_variance_, rel=1e-12)


# ---- the number of components ----


def spectra() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    one = rng.standard_normal((400, 8)) * 0.1 + rng.standard_normal((400, 1)) * np.arange(1, 9)
    three = rng.standard_normal((600, 3)) @ rng.standard_normal((3, 9)) * 4
    flat = rng.standard_normal((500, 6))
    flat[:, -1] = flat[:, :-1].mean(axis=1)
    return {
        "one": one,
        "three": three + rng.standard_normal((600, 9)) * 0.3,
        "noise": rng.standard_normal((600, 10)),
        "one less": flat,
        "square": rng.standard_normal((12, 12)) * np.arange(1, 13),
        "two features": rng.standard_normal((40, 2)) * (5, 1),
    }


@pytest.mark.parametrize("name", spectra())
def test_minkas_estimate_is_scikit_learns(name: str) -> None:
    x = spectra()[name]
    expected = sklearn.decomposition.PCA("mle", svd_solver="full").fit(x)
    ours = PCA("mle").fit(x)
    assert ours.n_components_ == expected.n_components_
    assert ours.noise_variance_ == pytest.approx(expected.noise_variance_, rel=1e-9, abs=1e-14)


def test_minkas_estimate_finds_what_was_put_in() -> None:
    assert PCA("mle").fit(spectra()["three"]).n_components_ == 3
    assert PCA("mle").fit(np.random.default_rng(0).random((9, 1))).n_components_ == 1
    variances = np.array([1, 1e-30, 1e-30, 1e-30])
    assert _principal.likeliest_count(variances, 10) == 1
    assert _principal.likeliest_count(np.ones(4), 10) in (1, 2, 3)


def test_minkas_estimate_needs_samples() -> None:
    message = "n_components='mle' is only supported if n_samples >= n_features, got 5 of 6"
    with pytest.raises(ValueError, match=message):
        PCA("mle").fit(table()[:5])


# ---- scikit-learn's own tests ----

OF_SCALER = [
    "test_raises_value_error_if_sample_weights_greater_than_1d",
    "test_standard_scaler_sample_weight",
    "test_standard_scaler_constant_features",
    "test_standard_scaler_partial_fit_numerical_stability",
    "test_partial_fit_sparse_input",
    "test_standard_scaler_transform_with_partial_fit",
    "test_scaler_without_centering",
    "test_scaler_n_samples_seen_with_nan",
    "test_scaler_int",
    "test_scaler_without_copy",
    "test_scale_sparse_with_mean_raise_exception",
    "test_standard_scaler_sparse_partial_fit_finite_variance",
]
OF_PCA = [
    "test_pca_sparse_fit_transform",
    "test_sparse_pca_auto_arpack_singular_values_consistency",
    "test_pca_singular_values",
    "test_n_components_mle",
    "test_pca_dim",
    "test_infer_dim_by_explained_variance",
    "test_pca_score3",
    "test_pca_sanity_noise_variance",
    "test_pca_score_consistency_solvers",
    "test_pca_zero_noise_variance_edge_cases",
    "test_mle_redundant_data",
    "test_mle_simple_case",
    "test_fit_mle_too_few_samples",
]


@pytest.mark.parametrize(
    ("module", "names"),
    [("preprocessing.tests.test_data", OF_SCALER), ("decomposition.tests.test_pca", OF_PCA)],
    ids=["StandardScaler", "PCA"],
)
def test_scikit_learns_own_tests(module: str, names: list[str], tmp_path: Any) -> None:
    """Those of the two that are about sparse tables, gaps, weights and the Gaussian model."""
    code = f"""
import importlib.util, sys, pytest
path = importlib.util.find_spec("sklearn.{module}").origin
named = "({" or ".join(names)}) and not mle_error"
options = ["-q", "-p", "no:cacheprovider", "-p", "sklearns_own", "-W", "ignore", "--rootdir=."]
sys.exit(pytest.main([*options, path, "-k", named]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stdout
