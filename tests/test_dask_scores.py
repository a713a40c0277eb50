"""Scores, labels and tables on Dask."""

from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import pytest
from dask import delayed
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, r2_score

from estimator_data import assert_same_bits
from nnfast.dask._data import SpreadTargets
from nnfast.estimators import NNClassifier, NNRegressor
from nnfast.preprocessing import StandardScaler
from test_dask_training import classifier, data, spread

Array = NDArray[Any]


def lazy_score(net: Any, *args: Any) -> float:
    found = net.score(*args)
    assert isinstance(found, da.Array)
    assert found.shape == ()
    return float(found.compute())


def in_pieces(values: Array, *cuts: int) -> list[Any]:
    ends = [0, *cuts, len(values)]
    return [delayed(values[a:b]) for a, b in pairwise(ends)]


# ---- scores ----


def test_the_score_of_a_classifier_is_lazy() -> None:
    x, y = data()
    lazy_x = spread(x)
    net = classifier().fit(x, y)
    expected = net.score(x, y)
    for labels in (
        y,
        da.from_array(y, chunks=300),
        in_pieces(y, 500),
    ):
        assert lazy_score(net, lazy_x, labels) == expected
    some = x[:, 0] > 0
    unknown = lazy_x[lazy_x[:, 0] > 0]
    for labels in (y[some], da.from_array(y, chunks=130)[lazy_x[:, 0] > 0]):
        assert lazy_score(net, unknown, labels) == accuracy_score(y[some], net.predict(x[some]))
    many = np.stack([x[:, 0] > 0, x[:, 1] > 0.5], axis=1).astype(int)
    net = classifier().fit(x, many)
    assert lazy_score(net, lazy_x, spread(many, 400)) == net.score(x, many)


@pytest.mark.parametrize("width", [1, 3])
def test_the_score_of_a_regressor_is_lazy(width: int) -> None:
    x, _ = data()
    y = x[:, :width] * [3, 1e-3, 1][:width] + [1e4, 0, 0][:width]
    y = y[:, 0] if width == 1 else y
    net = NNRegressor((16,), max_iter=3, random_state=0).fit(x, y)
    for labels in (y, spread(y, 300), in_pieces(y, 500)):
        assert abs(lazy_score(net, spread(x), labels) - net.score(x, y)) < 1e-9 * abs(
            net.score(x, y)
        )
    constant = np.zeros_like(y)
    assert lazy_score(net, spread(x), constant) == r2_score(constant, net.predict(x))


def test_errors_of_scores() -> None:
    x, y = data()
    net = classifier(max_iter=1).fit(x, y)
    with pytest.raises(ValueError, match="sample_weight must be None where X is Dask's"):
        net.score(spread(x), y, np.ones(1000))
    with pytest.raises(ValueError, match="X and y must have as many rows, got 1000 and 10"):
        net.score(spread(x), y[:10])
    with pytest.raises(ValueError, match="X and y must have as many rows"):
        net.score(in_pieces(x, 500), in_pieces(y[1:], 400)).compute()


# ---- labels that stay on the cluster ----


def test_labels_stay_where_the_rows_are(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data(dtype=np.float32)
    numbers = x[:, :2].astype(float)
    regressor: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
    expected = [
        classifier().fit(spread(x), y),
        NNRegressor(**regressor).fit(spread(x), numbers),
        NNRegressor(**regressor).fit(spread(x), numbers[:, 0]),
    ]
    written: list[Any] = []
    write = SpreadTargets.write

    def noted(self: SpreadTargets, *args: Any) -> None:
        written.append(self)
        write(self, *args)

    monkeypatch.setattr(SpreadTargets, "write", noted)
    lazy = [da.from_array(y, chunks=300), spread(numbers, 400), spread(numbers[:, 0], 400)]
    nets = [classifier(), NNRegressor(**regressor), NNRegressor(**regressor)]
    for net, labels, other in zip(nets, lazy, expected, strict=True):
        net.fit(spread(x), labels)
        assert_same_bits(net, other)
        assert net.history_["loss"] == other.history_["loss"]
        assert net.n_outputs_ == other.n_outputs_
        assert net.predict(x).shape == other.predict(x).shape
    assert len(written) == 3
    first = classifier().partial_fit(spread(x), lazy[0], classes=["a", "b", "c"])
    assert first.history_["loss"] == expected[0].history_["loss"][:1]


def test_errors_of_labels_that_stay() -> None:
    x, y = data()
    lazy = da.from_array(y, chunks=300)
    net, warm = (classifier(warm_start=warm).fit(spread(x), lazy) for warm in (False, True))
    before = dict(vars(net))
    numbers = da.from_array(np.where(np.arange(1000) == 700, np.nan, 1.0), chunks=300)
    for make, labels, message in [
        (net, da.from_array(np.full(1000, "a"), chunks=300), "two classes or more"),
        (net, da.from_array(x[:, 0], chunks=300), "Unknown label type: continuous"),
        (net, numbers, "Input y contains NaN"),
        (NNRegressor(), numbers, "Input y contains NaN"),
        (net, lazy[lazy != "c"], "as many rows"),
        (warm, da.where(lazy == "c", "d", lazy), "y must be of classes_"),
        (warm, da.where(lazy == "c", "a", lazy), "y must have all of classes_"),
    ]:
        with pytest.raises(ValueError, match=message):
            make.fit(spread(x), labels)
    assert vars(net).keys() == before.keys()
    assert all(vars(net)[name] is before[name] for name in before)


# ---- tables ----


def test_data_frames() -> None:
    import dask.dataframe as dd
    import pandas as pd

    x, y = data(400)
    frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(20)])
    table = dd.from_pandas(frame, npartitions=3)
    labels = dd.from_pandas(pd.Series(y), npartitions=3)
    expected = classifier().fit(spread(x), y)
    net = classifier().fit(table, labels)
    assert_same_bits(net, expected)
    assert list(net.feature_names_in_) == list(frame.columns)
    assert (net.predict(table).compute() == expected.predict(x)).all()
    assert lazy_score(net, table, labels) == expected.score(x, y)
    scaler = StandardScaler().fit(table)
    np.testing.assert_allclose(scaler.mean_, x.mean(axis=0), atol=1e-12)
    assert scaler.transform(table).compute().shape == x.shape
    assert type(NNClassifier(max_iter=1).fit(table, y).score(frame, y)) is float
