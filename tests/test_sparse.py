"""Sparse X: the estimators and the layers learn as from a dense one, and nothing makes it dense."""

import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

import nnfast as nf
from estimator_data import assert_same_bits, params
from nnfast import _sparse
from nnfast.estimators import NNClassifier, NNRegressor
from nnfast.preprocessing import PCA, StandardScaler

Array = NDArray[Any]

FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"]


def table(n: int = 120, width: int = 30, seed: int = 0, dtype: Any = np.float64) -> Array:
    """A dense array most of which is 0, with an empty row and an empty column."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, width)) * (rng.random((n, width)) < 0.15)
    x[3], x[:, 4] = 0, 0
    return x.astype(dtype)


X = table()
CSR = scipy.sparse.csr_array(X)
SCORES = X @ np.random.default_rng(2).standard_normal(30)
Y = np.digitize(SCORES, np.quantile(SCORES, [0.3, 0.7]))
LABELS = np.stack([X[:, 0] > 0, X[:, 1] > 0.5], axis=1).astype(int)
Z = np.stack([X[:, 0] - X[:, 5], X[:, 1]], axis=1)
WEIGHTS = np.random.default_rng(1).uniform(0, 2, len(X))

DENSE_METHODS = [
    (kind, name)
    for kind in (
        scipy.sparse.csr_array,
        scipy.sparse.csr_matrix,
        scipy.sparse.csc_array,
        scipy.sparse.csc_matrix,
        scipy.sparse.coo_array,
        scipy.sparse.coo_matrix,
    )
    for name in ("toarray", "todense", "__array__")
]


@pytest.fixture
def kept_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever makes a sparse table dense is an error."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("made dense")

    for kind, name in DENSE_METHODS:
        monkeypatch.setattr(kind, name, refuse, raising=False)


# ---- the estimators ----

CASES: dict[str, tuple[Any, Array, dict[str, Any]]] = {
    "classes": (NNClassifier, Y, {}),
    "labels": (NNClassifier, LABELS, {}),
    "numbers": (NNRegressor, Z, {}),
    "linear": (NNClassifier, Y, {"hidden_layer_sizes": ()}),
    "BatchNorm": (NNClassifier, Y, {"batch_norm": True, "hidden_layer_sizes": (20, 10)}),
    "dropout": (NNClassifier, Y, {"dropout": 0.3}),
    "gelu": (NNRegressor, Z, {"activation": "gelu"}),
    "swiglu": (NNRegressor, Z, {"activation": "swiglu"}),
    "selu": (NNRegressor, Z, {"activation": "selu"}),
    "early stopping": (NNClassifier, Y, {"early_stopping": True, "validation_fraction": 0.3}),
    "balanced": (NNClassifier, Y, {"class_weight": "balanced"}),
    "no shuffle": (NNRegressor, Z, {"shuffle": False, "loss": "huber"}),
}
every_case = pytest.mark.parametrize(("make", "y", "options"), CASES.values(), ids=CASES)
OPTIONS = {"random_state": 3, "max_iter": 6, "batch_size": 50}


def assert_alike(sparse: Any, dense: Any, x: Any) -> None:
    for a, b in zip(params(sparse), params(dense), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    np.testing.assert_allclose(sparse.history_["loss"], dense.history_["loss"], atol=1e-5)
    np.testing.assert_allclose(sparse.predict(x), dense.predict(x.toarray()), atol=1e-5)


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sparse_x_learns_as_a_dense_one(
    make: Any, y: Array, options: dict[str, Any], dtype: Any
) -> None:
    x = CSR.astype(dtype)
    before = pickle.dumps(x)
    sparse = make(**OPTIONS, **options).fit(x, y)
    dense = make(**OPTIONS, **options).fit(x.toarray(), y)
    assert sparse.net_.params[0].dtype == dtype
    assert_alike(sparse, dense, x)
    assert abs(sparse.score(x, y) - dense.score(x.toarray(), y)) < 1e-5
    if make is NNClassifier:
        for method in ("predict_proba", "predict_log_proba", "decision_function"):
            ours, theirs = getattr(sparse, method)(x), getattr(dense, method)(x.toarray())
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert pickle.dumps(x) == before
    assert_same_bits(make(**OPTIONS, **options).fit(x, y), sparse)


@every_case
def test_weights_and_pieces(make: Any, y: Array, options: dict[str, Any]) -> None:
    if options.get("early_stopping") or "class_weight" in options:
        options = {}
    several = {"classes": np.unique(Y)} if y is Y else {}
    models = [make(**OPTIONS, **options) for _ in range(2)]
    for x, model in zip((CSR, X), models, strict=True):
        for part in (slice(0, 70), slice(70, None)):
            model.partial_fit(x[part], y[part], sample_weight=WEIGHTS[part], **several)
    assert_alike(*models, CSR)
    models = [make(**OPTIONS, **options).fit(x, y, WEIGHTS) for x in (CSR, X)]
    assert_alike(*models, CSR)


@every_case
def test_nothing_makes_it_dense(
    make: Any, y: Array, options: dict[str, Any], kept_sparse: None
) -> None:
    model = make(**OPTIONS, **options).fit(CSR, y)
    model.predict(CSR)
    model.score(CSR, y)
    if not options.get("early_stopping"):
        make(**OPTIONS).partial_fit(CSR, y, **({"classes": np.unique(y)} if y is Y else {}))


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("container", ["array", "matrix"])
def test_formats_are_converted(kind: str, container: str) -> None:
    given = getattr(scipy.sparse, f"{kind}_{container}")(X)
    model = NNClassifier(**OPTIONS).fit(given, Y)
    assert_same_bits(model, NNClassifier(**OPTIONS).fit(CSR, Y))
    np.testing.assert_array_equal(model.predict_proba(given), model.predict_proba(CSR))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.uint16])
def test_other_numbers_become_float64(dtype: Any) -> None:
    x = CSR.copy()
    x.data = np.ones(x.nnz)
    model = NNClassifier(**OPTIONS).fit(x.astype(dtype), Y)
    assert model.net_.params[0].dtype == np.float64
    assert_same_bits(model, NNClassifier(**OPTIONS).fit(x, Y))


def test_a_table_that_is_not_in_order_is_the_same() -> None:
    """Entries that are twice in it are added up; indices need not ascend, and zeros may be written out."""
    double = scipy.sparse.csr_array(
        (np.repeat(CSR.data / 2, 2), np.repeat(CSR.indices, 2), 2 * CSR.indptr), shape=X.shape
    )
    reversed_ = CSR.copy()
    for first, last in zip(CSR.indptr[:-1], CSR.indptr[1:], strict=True):
        for array in (reversed_.data, reversed_.indices):
            array[first:last] = array[first:last][::-1]
    reversed_.has_sorted_indices = False
    written = scipy.sparse.csr_array(
        (X.ravel(), np.tile(np.arange(30, dtype=np.int32), 120), np.arange(0, 3601, 30)),
        shape=X.shape,
    )
    dense = NNClassifier(**OPTIONS).fit(X, Y)
    for x in (double, reversed_, written):
        assert_alike(NNClassifier(**OPTIONS).fit(x, Y), dense, CSR)


def test_memory_follows_the_entries() -> None:
    """A table that would take 3.2 GB; weights, gradient and Adam's two averages take 6 MB."""
    rng = np.random.default_rng(0)
    n, entries = 20_000, 400_000
    x = scipy.sparse.csr_array(
        (rng.standard_normal(entries, np.float32), (rng.integers(0, n, (2, entries)))), (n, n)
    )
    y = rng.integers(0, 2, n)
    model = NNClassifier((20,), max_iter=1, random_state=0)
    tracemalloc.start()
    try:
        model.fit(x, y).predict(x)
        PCA(2).fit(x).transform(x)
        StandardScaler(with_mean=False).fit_transform(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6, peak


def test_a_dense_and_a_sparse_x_may_take_turns() -> None:
    turns = NNClassifier(**OPTIONS)
    dense = NNClassifier(**OPTIONS)
    for x in (CSR, X, CSR):
        turns.partial_fit(x, Y, classes=np.unique(Y))
        dense.partial_fit(X, Y, classes=np.unique(Y))
    assert_alike(turns, dense, CSR)
    again = clone(turns).set_params(warm_start=True).fit(CSR, Y).fit(X, Y)
    assert again.n_iter_ == 6


def test_copies_and_pipelines() -> None:
    net = NNClassifier(**OPTIONS)
    model = make_pipeline(StandardScaler(with_mean=False), net).fit(CSR, Y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(CSR), model.predict_proba(CSR))
    assert cross_val_score(model, CSR, Y, cv=3).shape == (3,)
    assert make_pipeline(PCA(3), net).fit(CSR, Y).predict(CSR).shape == Y.shape


def test_given_layers_that_begin_with_a_dense() -> None:
    def layers(rng: np.random.Generator) -> list[nf.nn.Layer]:
        return [
            nf.nn.Sequential(nf.nn.DropConnect(30, 8, 0.2, rng=rng), nf.nn.Tanh()),
            nf.nn.Dense(8, 3, rng=rng),
        ]

    sparse = NNClassifier(**OPTIONS, layers=layers).fit(CSR, Y)
    dense = NNClassifier(**OPTIONS, layers=layers).fit(X, Y)
    assert_alike(sparse, dense, CSR)


def test_other_layers_are_refused() -> None:
    model = NNClassifier(layers=[nf.nn.BatchNorm(30), nf.nn.Dense(30, 3)])
    with pytest.raises(
        ValueError, match=r"layers must begin with a Dense where X is sparse, got BatchNorm\(30\)"
    ):
        model.fit(CSR, Y)
    assert not hasattr(model, "net_")
    model.fit(X, Y)
    with pytest.raises(TypeError, match="x must be dense, as only .* got csr_array"):
        model.predict(CSR)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_entries_are_refused(value: float) -> None:
    bad = CSR.copy()
    bad.data[5] = value
    with pytest.raises(ValueError, match="Input X contains"):
        NNClassifier(**OPTIONS).fit(bad, Y)
    model = NNClassifier(**OPTIONS).fit(CSR, Y)
    with pytest.raises(ValueError, match="X has 29 features, but NNClassifier is expecting 30"):
        model.predict(CSR[:, 1:])


def test_a_loss_that_is_not_finite_is_explained() -> None:
    with pytest.raises(ValueError, match="X has values up to .*: standardise it"):
        NNClassifier((), optimizer="sgd", learning_rate_init=1e200, max_iter=4).fit(1e150 * CSR, Y)


# ---- the layers ----


def networks() -> Iterator[tuple[str, Callable[[], nf.nn.Layer]]]:
    def dense(**options: Any) -> nf.nn.Dense:
        return nf.nn.Dense(30, 6, dtype=np.float64, rng=0, **options)

    yield "Dense", dense
    yield "without bias", lambda: dense(bias=False)
    yield "DropConnect", lambda: nf.nn.DropConnect(30, 6, 0.3, dtype=np.float64, rng=0)
    for layer in (nf.nn.ReLU, nf.nn.GELU, nf.nn.SiLU, nf.nn.Tanh, nf.nn.ELU, nf.nn.GLU):
        yield layer.__name__, lambda layer=layer: nf.nn.Sequential(dense(), layer())
    yield (
        "ReLU, Dropout",
        lambda: nf.nn.Sequential(dense(), nf.nn.ReLU(), nf.nn.Dropout(0.4, rng=1)),
    )
    yield (
        "nested",
        lambda: nf.nn.Sequential(
            nf.nn.Sequential(dense(), nf.nn.ReLU()), nf.nn.LayerNorm(6, dtype=float)
        ),
    )


@pytest.mark.parametrize("make", [m for _, m in networks()], ids=[n for n, _ in networks()])
def test_layers_give_what_they_give_for_a_dense_x(make: Callable[[], nf.nn.Layer]) -> None:
    sparse, dense = make(), make()
    rng = np.random.default_rng(0)
    for x in (CSR, CSR[:7], CSR.tocsc(), CSR.astype(np.float32)):
        wide = x.toarray()
        np.testing.assert_allclose(sparse.forward(x), dense.forward(wide), atol=1e-12)
        y = sparse.forward(x, training=True)
        np.testing.assert_allclose(y, dense.forward(wide, training=True), atol=1e-12)
        dy = rng.standard_normal(y.shape)
        several = {"input_gradient": True} if isinstance(sparse, nf.nn.Sequential) else {}
        dx, expected = sparse.backward(dy, **several), dense.backward(dy, **several)
        np.testing.assert_allclose(dx, expected, atol=1e-12)
        for a, b in zip(sparse.grads, dense.grads, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_layers_that_do_not_multiply_refuse_it() -> None:
    for layer in (nf.nn.ReLU(), nf.nn.BatchNorm(30), nf.nn.Sequential(nf.nn.LayerNorm(30))):
        with pytest.raises(TypeError, match="x must be dense, as only Dense"):
            layer.forward(CSR)
    dense = nf.nn.Dense(29, 2)
    with pytest.raises(ValueError, match=r"x must have shape \(N, ..., 29\), got \(120, 30\)"):
        dense.forward(CSR)
    with pytest.raises(TypeError, match="x must be an array of real numbers, got dtype complex"):
        dense.forward(CSR * 1j)
    with pytest.raises(ValueError, match="x must have two axes where it is sparse, got shape"):
        dense.forward(scipy.sparse.coo_array(np.ones(29)))


def test_a_dense_of_ones_own_gets_it_as_any_layer_does() -> None:
    class Own(nf.nn.Dense):
        def forward(self, x: Any, training: bool = False) -> Array:
            return super().forward(x, training)

    with pytest.raises(TypeError, match="x must be dense"):
        nf.nn.Sequential(Own(30, 2), nf.nn.ReLU()).forward(CSR)
    assert Own(30, 2).forward(CSR).shape == (120, 2)


@settings(max_examples=40)
@given(
    rows=st.integers(0, 6),
    columns=st.integers(1, 9),
    density=st.sampled_from([0.0, 0.2, 1.0]),
    seed=st.integers(0, 99),
)
def test_the_transposed_product(rows: int, columns: int, density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, columns)) * (rng.random((rows, columns)) < density)
    dz, out = rng.standard_normal((rows, 3)), np.full((columns, 3), np.nan)
    for kind in (scipy.sparse.csr_array, scipy.sparse.csr_matrix):
        assert _sparse.transposed_product(kind(x), dz, out) is out
        np.testing.assert_allclose(out, x.T @ dz, atol=1e-14)
