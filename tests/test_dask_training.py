"""Estimators on Dask: the loss curve of one process on any number of workers, lost ones and small ones included."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from dask import delayed
from distributed import Client
from numpy.typing import NDArray

import nnfast as nf
from dask_cluster import cluster, kill, pids
from estimator_data import assert_same_bits
from nnfast.estimators import NNClassifier, NNRegressor
from nnfast.preprocessing import StandardScaler

Array = NDArray[Any]


def data(n: int = 1000, dtype: Any = np.float64) -> tuple[Array, Array]:
    x = np.random.default_rng(0).normal(size=(n, 20)).astype(dtype)
    return x, np.array(["a", "b", "c"])[(x[:, 0] > 0).astype(int) + (x[:, 1] > 0.5)]


def spread(x: Array, rows: int = 130) -> da.Array:
    return da.from_array(x, chunks=(rows, *x.shape[1:]))


def classifier(**settings: Any) -> NNClassifier:
    """Batches of 4 shards, BatchNorm and dropout, in 5 epochs."""
    given: dict[str, Any] = {
        "hidden_layer_sizes": (32, 16),
        "batch_norm": True,
        "dropout": 0.3,
        "batch_size": 150,
        "max_iter": 5,
        "learning_rate_init": 0.01,
        "random_state": 0,
    }
    return NNClassifier(**given | settings)


def assert_same_curve(net: Any, expected: Any) -> None:
    assert len(net.history_["loss"]) == len(expected.history_["loss"])
    np.testing.assert_allclose(net.history_["loss"], expected.history_["loss"], rtol=0, atol=1e-5)


# ---- in this process, where there is no client ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_norm": False, "shuffle": False},
        {"dropout": 0.0, "hidden_layer_sizes": (), "batch_norm": False},
        {"class_weight": "balanced", "label_smoothing": 0.1},
        {"class_weight": {"a": 0.0, "b": 2.0}},
        {"early_stopping": True, "schedule": "cosine"},
        {"activation": "prelu", "batch_norm": False, "optimizer": "momentum"},
        {"activation": "swiglu", "batch_size": 47},
    ],
    ids=str,
)
def test_the_curve_is_that_of_an_array_in_memory(settings: dict[str, Any], dtype: Any) -> None:
    x, y = data(dtype=dtype)
    expected = classifier(**settings).fit(x, y)
    net = classifier(**settings).fit(spread(x), da.from_array(y, chunks=300))
    assert_same_curve(net, expected)
    assert net.net_.params[0].dtype == dtype
    if "early_stopping" in settings:
        assert net.history_["validation_score"] == expected.history_["validation_score"]
    for name, value in net.net_.state_dict().items():
        np.testing.assert_allclose(value, expected.net_.state_dict()[name], rtol=0, atol=1e-4)


def test_bits_follow_from_the_batches_alone() -> None:
    x, y = data(dtype=np.float32)
    nets = [classifier().fit(spread(x, rows), y) for rows in (1000, 130, 7)]
    assert_same_bits(nets[0], nets[1])
    assert_same_bits(nets[0], nets[2])


def test_many_labels_and_numbers() -> None:
    x, _ = data()
    labels = np.stack([x[:, 0] > 0, x[:, 1] > 0.5], axis=1).astype(int)
    net = classifier().fit(spread(x), spread(labels))
    assert_same_curve(net, classifier().fit(x, labels))
    assert net.predict(spread(x)).compute().shape == (1000, 2)
    for z in (x[:, 0], x[:, :2]):
        regressor = NNRegressor((16,), batch_norm=True, max_iter=3, random_state=0)
        expected = copy.deepcopy(regressor).fit(x, z)
        assert_same_curve(regressor.fit(spread(x), spread(z)), expected)
        got = regressor.predict(spread(x)).compute()
        np.testing.assert_allclose(got, expected.predict(x), atol=1e-5)


def test_more_of_it() -> None:
    """partial_fit and warm starts, by Dask and by NumPy in turns."""
    x, y = data()
    one, other = (classifier().partial_fit(x, y, classes=["a", "b", "c"]) for _ in range(2))
    one.partial_fit(spread(x), y).partial_fit(x, y)
    other.partial_fit(x, y).partial_fit(x, y)
    assert_same_curve(one, other)
    warm = classifier(warm_start=True).fit(spread(x), y).fit(spread(x), y)
    assert_same_curve(warm, classifier(warm_start=True).fit(x, y).fit(x, y))


def test_pieces_of_unknown_length() -> None:
    import pandas as pd

    x, y = data(400)
    expected = classifier().fit(x, y)
    frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(20)])
    parts = [delayed(frame[a:b]) for a, b in ((0, 150), (150, 400))]
    labels = [delayed(y[:50]), delayed(y[50:])]
    net = classifier().fit(parts, labels)
    assert_same_curve(net, expected)
    assert list(net.feature_names_in_) == list(frame.columns)
    assert (net.predict(parts).compute() == expected.predict(x)).all()
    lazy_x = spread(x)
    some = x[:, 0] > 0
    net = classifier().fit(lazy_x[lazy_x[:, 0] > 0], y[some])
    assert_same_curve(net, classifier().fit(x[some], y[some]))


def test_predictions_are_lazy_and_of_the_net_as_it_was() -> None:
    x, y = data()
    net = classifier().fit(x, y)
    for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        expected = getattr(net, name)(x)
        lazy = getattr(net, name)(spread(x))
        assert isinstance(lazy, da.Array)
        assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
        later = copy.deepcopy(net)
        lazy = getattr(later, name)(spread(x))
        later.partial_fit(x, y)
        got = lazy.compute()
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(got, expected, atol=1e-12)
        else:
            assert (got == expected).all()


def test_errors_change_nothing() -> None:
    x, y = data()
    net = classifier().fit(x, y)
    before = dict(vars(net))
    lazy = spread(x)
    for X, Y, error, message in [
        (lazy.rechunk((130, 10)), y, ValueError, "X must have one chunk along axis 1, got 2"),
        (lazy, y[:10], ValueError, "X and y must have as many rows, got 1000 and 10"),
        (lazy[lazy[:, 0] > 0], y, ValueError, "X and y must have as many rows"),
        (da.where(lazy > 3, np.nan, lazy), y, ValueError, "Input X contains NaN"),
        (lazy, np.full(1000, "a"), ValueError, "two classes or more"),
        (lazy * 3e307, y, ValueError, "X has values up to .*: standardise it"),
    ]:
        with pytest.raises(error, match=message):
            net.fit(X, Y)
        assert vars(net).keys() == before.keys()
        assert all(vars(net)[name] is before[name] for name in before)


class Skipping(nf.nn.StochasticDepth):
    def __init__(self) -> None:
        super().__init__(nf.nn.ReLU(), 0.5)


def test_layers_that_need_other_rows_are_refused() -> None:
    x, y = data()
    for activation in (Skipping, lambda: nf.nn.Sequential(nf.nn.StochasticDepth(nf.nn.ReLU()))):
        with pytest.raises(
            ValueError, match="activation must make a layer that needs no other rows"
        ):
            classifier(activation=activation).fit(spread(x), y)


# ---- on workers ----


def test_any_number_of_workers_gives_the_curve_and_the_bits_of_one() -> None:
    sets = [data(dtype=dtype) for dtype in (np.float32, np.float64)]
    expected = [classifier().fit(*each) for each in sets]
    here = [classifier().fit(spread(x), y) for x, y in sets]
    for workers in (1, 2, 4):
        with cluster(workers):
            nets = [classifier().fit(spread(x), da.from_array(y, chunks=300)) for x, y in sets]
            found = [
                net.predict_proba(spread(x)).compute()
                for net, (x, _) in zip(nets, sets, strict=True)
            ]
        for i, net in enumerate(nets):
            assert_same_curve(net, expected[i])
            assert_same_bits(net, here[i])
            np.testing.assert_allclose(found[i], expected[i].predict_proba(sets[i][0]), atol=1e-4)


class Killing:
    """A constant rate; at some steps something happens."""

    def __init__(self, at: dict[int, Callable[[], None]]) -> None:
        self.at = at
        self.steps: list[int] = []

    def __call__(self, step: int) -> float:
        self.steps.append(step)
        if step in self.at:
            self.at.pop(step)()
        return 0.01

    def __deepcopy__(self, memo: Any) -> "Killing":
        return self


def test_lost_workers_cost_a_step_and_not_the_run() -> None:
    x, y = data(dtype=np.float32)
    settings = {"learning_rate_init": None, "max_iter": 8}
    expected = classifier(**settings | {"schedule": Killing({})}).fit(spread(x), y)
    with cluster(2) as client:
        first = pids(client)

        def one() -> None:
            kill(next(iter(pids(client).values())))

        def all_of_them() -> None:
            for pid in pids(client).values():
                kill(pid)

        schedule = Killing({9: one, 30: all_of_them})
        net = classifier(**settings | {"schedule": schedule}).fit(spread(x), y)
        assert not schedule.at
        # Every step was made once, in order, as far as the optimizer knows.
        assert schedule.steps == list(range(8 * 7))
        client.wait_for_workers(2, timeout=60)
        assert not set(first.values()) & set(pids(client).values())
    assert_same_bits(net, expected)
    assert net.history_["loss"] == expected.history_["loss"]


def test_an_error_in_a_worker_does_not_count_as_a_lost_worker() -> None:
    """It is raised immediately by fit, and the files of the rows are removed."""

    def odd() -> nf.nn.Layer:
        return Odd()

    x, y = data()
    with cluster(2) as client:
        with pytest.raises(ZeroDivisionError, match="of the user's own"):
            classifier(activation=odd).fit(spread(x), y)
        assert left_over(client) == []
        classifier().fit(spread(x), y)
        assert left_over(client) == []


class Odd(nf.nn.Layer):
    def forward(self, x: Any, training: bool = False) -> Array:
        if training:
            raise ZeroDivisionError("of the user's own")
        return np.asarray(x)


def left_over(client: Client) -> list[str]:
    """Files that workers still hold."""

    def look(dask_worker: Any) -> list[str]:
        from pathlib import Path

        return [str(path) for path in Path(dask_worker.local_directory).glob("nnfast-*")]

    return [path for paths in client.run(look).values() for path in paths]


LIMIT, ROWS, WIDTH = 400 * 2**20, 1_200_000, 100


def large(block_id: Any = None) -> Array:
    rng = np.random.default_rng(block_id[0])
    return rng.random((ROWS // 60, WIDTH), np.float32) * 3 + 5


def test_data_larger_than_the_memory_of_a_worker() -> None:
    """480 MB a pass through workers of 400 MiB each: standardised, trained on and predicted, and no worker gives up."""
    x = da.map_blocks(large, chunks=((ROWS // 60,) * 60, (WIDTH,)), dtype=np.float32)
    assert x.nbytes > LIMIT
    with cluster(2, memory_limit=LIMIT) as client:
        before = pids(client)
        y = (x[:, 0] + x[:, 1] > 13).astype(np.int8)
        scaler = StandardScaler().fit(x)
        np.testing.assert_allclose(scaler.mean_, 6.5, atol=0.02)
        z = scaler.transform(x)
        net = NNClassifier(
            (16,), batch_size=20_000, max_iter=1, learning_rate_init=0.05, random_state=0
        )
        net.fit(z, y)
        right = (net.predict(z) == y).mean().compute()
        assert right > 0.9
        assert pids(client) == before


def test_the_page_runs() -> None:
    page = (Path(__file__).parents[1] / "docs/dask.md").read_text()
    names: dict[str, Any] = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", page, re.S):
            exec(block, names)
    finally:
        names["client"].close()
    assert names["accuracy"] > 0.8


# ---- threads ----


def test_workers_and_kernels_agree_about_threads() -> None:
    with cluster(2) as client:
        assert set(client.run(nf.get_num_threads).values()) == {1}
    with cluster(1, threads_per_worker=3) as client:

        def of_actor() -> int:
            from nnfast.dask._trainer import Trainer

            trainer = Trainer("run")
            trainer._learn = lambda: nf.get_num_threads()  # type: ignore[method-assign]
            found: int = trainer.do("learn")
            return found

        assert client.submit(of_actor).result() == 3
