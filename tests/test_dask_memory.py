"""A training on more rows than the memory of all workers together."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray

from dask_cluster import cluster, pids
from nnfast.estimators import NNClassifier

LIMIT, WORKERS, CHUNKS, ROWS, WIDTH = 400 * 2**20, 2, 160, 11_000, 500


def made(block_id: Any = None) -> NDArray[Any]:
    return np.random.default_rng(block_id[0]).random((ROWS, WIDTH), np.float32) - np.float32(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [True, "partitions"])
def test_four_times_the_memory_of_all_workers(shuffle: Any) -> None:
    """Two epochs over 3.5 GB on two workers of 400 MiB; none is lost or restarted for its memory."""
    x = da.map_blocks(made, chunks=((ROWS,) * CHUNKS, (WIDTH,)), dtype=np.float32)
    assert x.nbytes >= 4 * WORKERS * LIMIT
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int8)
    with cluster(WORKERS, memory_limit=LIMIT) as client:
        before = pids(client)
        net = NNClassifier(
            (16,),
            batch_size=10_000,
            max_iter=2,
            learning_rate_init=0.01,
            shuffle=shuffle,
            random_state=0,
        )
        net.fit(x, y)
        assert net.score(x, y).compute() > 0.9
        assert pids(client) == before
