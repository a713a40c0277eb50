"""Training on Dask among the workers themselves: what passes the calling process, and who takes what from whom."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import dask.array as da
import numpy as np
import pytest
from distributed import Client
from distributed.comm import tcp

from dask_cluster import cluster, kill, pids
from estimator_data import assert_same_bits
from nnfast.dask import _tree
from nnfast.dask._cluster import Cluster
from nnfast.dask._peer import _below
from nnfast.estimators import NNClassifier
from test_dask_training import Killing, classifier, data, spread


@pytest.mark.parametrize("length", range(1, 20))
def test_a_chain_calls_every_worker_once(length: int) -> None:
    called: dict[str, int] = defaultdict(int)

    def call(chain: list[str], depth: int) -> int:
        called[chain[0]] += 1
        return max([depth, *(call(below, depth + 1) for below in _below(chain))])

    depth = call([str(i) for i in range(length)], 0)
    assert dict(called) == {str(i): 1 for i in range(length)}
    assert depth <= (length - 1).bit_length()


@pytest.mark.parametrize("count", range(1, 20))
def test_a_tree_is_padded_to_a_power_of_two(count: int) -> None:
    leaves = {(0, i): np.float64(i) for i in range(count)}
    assert _tree.root([leaves, _tree.padding(count)]) == count * (count - 1) / 2


# ---- any workers ----


@pytest.fixture
def threads() -> Iterator[Callable[[int], Client]]:
    """Clients of workers that are threads of this process, which hand objects to each other as they are."""
    clients: list[Client] = []

    def make(workers: int) -> Client:
        clients.append(
            Client(processes=False, n_workers=workers, threads_per_worker=1, dashboard_address=None)
        )
        return clients[-1]

    yield make
    for client in clients:
        client.cluster.close()
        client.close()


@pytest.mark.parametrize("workers", [3, 6])
@pytest.mark.parametrize("settings", [{}, {"batch_size": 330, "optimizer": "nadam"}], ids=str)
def test_workers_in_threads(
    workers: int, settings: dict[str, Any], threads: Callable[[int], Client]
) -> None:
    """Odd numbers of them, and more than there are shards; y in memory and on the cluster."""
    x, y = data(dtype=np.float32)
    expected = classifier(**settings).fit(spread(x), y)
    threads(workers)
    for labels in (y, da.from_array(y, chunks=300)):
        net = classifier(**settings).fit(spread(x), labels)
        assert_same_bits(net, expected)
        assert net.history_["loss"] == expected.history_["loss"]


def test_validation_on_the_workers(threads: Callable[[int], Client]) -> None:
    x, y = data(dtype=np.float32)
    settings = {"early_stopping": True, "max_iter": 3}
    expected = classifier(**settings).fit(spread(x), y)
    threads(5)
    net = classifier(**settings).fit(spread(x), y)
    assert_same_bits(net, expected)
    assert net.history_["validation_score"] == expected.history_["validation_score"]


# ---- what passes the calling process ----


class Counted:
    """Bytes that the connections of a client have read and written."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self._client = client
        self._read: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        read = tcp.read_bytes_rw

        async def counted(stream: Any, n: int) -> Any:
            self._read[stream] = self._read.get(stream, 0) + n
            return await read(stream, n)

        monkeypatch.setattr(tcp, "read_bytes_rw", counted)

    def total(self) -> int:
        pool = self._client.rpc
        comms = {
            comm for some in (pool.available, pool.occupied) for c in some.values() for comm in c
        }
        comms.add(self._client.scheduler_comm.comm)
        streams = [comm.stream for comm in comms if comm.stream is not None]
        return sum(s._total_write_index + self._read.get(s, 0) for s in streams)


class Marking:
    """A constant rate; it notes what was counted before each step."""

    def __init__(self, count: Callable[[], int]) -> None:
        self.count = count
        self.seen: list[int] = []

    def __call__(self, step: int) -> float:
        self.seen.append(self.count())
        return 0.01

    def __deepcopy__(self, memo: Any) -> "Marking":
        return self


def test_a_step_costs_the_calling_process_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 1.2 times the bytes of the parameters for all workers together, and none of the rows."""
    rows, width, batch = 2048, 1500, 512
    x = da.random.default_rng(0).normal(size=(rows, width), chunks=(rows // 16, width))
    x = x.astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    nets = []
    with cluster(1) as first:
        for workers in (1, 2, 4, 8):
            first.cluster.scale(workers)
            first.wait_for_workers(workers, timeout=300)
            for direct in (False, True):
                with (
                    Client(first.cluster, direct_to_workers=direct) as client,
                    monkeypatch.context() as patched,
                ):
                    marking = Marking(Counted(client, patched).total)
                    settings = {"learning_rate_init": None, "schedule": marking, "max_iter": 2}
                    net = NNClassifier(
                        (256,), batch_norm=True, batch_size=batch, random_state=0, **settings
                    )
                    nets.append(net.fit(x, y))
                size = sum(param.nbytes for param in net.net_.params)
                assert batch * width * 4 > 1.5 * size  # the rows of a batch would be seen
                # The first step of all brings the network to the workers.
                steps = np.diff(marking.seen)[1:] / size
                print(f"{workers} workers: {steps.mean():.3f} B a step, {steps.max():.3f} at most")
                assert steps.max() < 1.2
    for net in nets[1:]:
        assert_same_bits(net, nets[0])


# ---- lost and new workers ----


def test_a_worker_that_is_behind_takes_the_state_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not of this process, as long as there is another; one is killed, and one joins."""
    x, y = data(dtype=np.float32)
    expected = classifier(
        learning_rate_init=None, schedule=Killing({}), dropout=0.0, batch_norm=False
    ).fit(spread(x), y)
    sources: list[str | None] = []
    call = Cluster._bring

    def noted(self: Cluster, *args: Any) -> None:
        workers = self._workers
        original = workers.call

        def see(method: str, arguments: dict[str, tuple[Any, ...]]) -> Any:
            if method == "take":
                sources.extend(source for _, source, _ in arguments.values())
            return original(method, arguments)

        workers.call = see  # type: ignore[method-assign]
        call(self, *args)
        workers.call = original  # type: ignore[method-assign]

    monkeypatch.setattr(Cluster, "_bring", noted)
    with cluster(2) as client:

        def one() -> None:
            kill(pids(client)[list(client.nthreads())[-1]])

        def more() -> None:
            client.cluster.scale(3)
            client.wait_for_workers(3, timeout=300)

        net = classifier(
            learning_rate_init=None,
            schedule=Killing({9: one, 16: more}),
            dropout=0.0,
            batch_norm=False,
        ).fit(spread(x), y)
    assert_same_bits(net, expected)
    assert sources[0] is None
    assert None not in sources[1:]
    assert len(sources) > 2
