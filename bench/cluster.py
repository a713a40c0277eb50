"""``python -m bench.cluster``: what a training step costs on Dask's workers, from constants that are measured here.

The model follows a step of nnfast.dask: the calling process says who computes what; workers compute their rows; their
gradients come up a binomial tree, each level of which sends and adds them once; the first worker sends them to the
calling process, and down the tree again, where every level sends them once; each worker applies them. The wire counts
with its nominal rate, and what Dask does with a message is measured over the loopback, which has a cost of its own: so
the model errs on the dear side.
"""

import argparse
import asyncio
import pickle
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from distributed import Client, LocalCluster, get_worker
from distributed.protocol import to_serialize

import nnfast as nf
from nnfast import nn
from nnfast.dask import _tree
from nnfast.dask._cluster import Cluster
from nnfast.dask._coordinator import Batch
from nnfast.dask._files import Piece
from nnfast.dask._passes import ends_of_shards, seeds_of, shards_of
from nnfast.dask._peer import Group
from nnfast.dask._trainer import State, Trainer

WORKERS = (8, 16, 32, 64, 128, 256)
PARAMETERS = (10**5, 10**6, 10**7, 10**8)


class Costs(NamedTuple):
    """Seconds."""

    compute: float
    """Of a row and a parameter, forward and backward in shards of 32 rows, on one thread."""
    apply: float
    """Of a parameter, in a step of Adam."""
    merge: float
    """Of a byte of gradients that is added to another."""
    call: float
    """Of a call from a worker to a worker, and its answer."""
    byte: float
    """Of a byte of such a call, over the loopback."""
    plan: float
    """In the calling process, of a worker in a step."""


class Echo:
    """An actor that times its calls of another."""

    async def echo(self, value: Any) -> int:
        return len(value)

    async def ask(self, name: str, key: str, length: int, count: int) -> float:
        value = np.zeros(length, np.uint8)
        rpc = get_worker().rpc(name)
        best = float("inf")
        for _ in range(count):
            begin = time.perf_counter()
            await rpc.actor_execute(
                function="echo", actor=key, args=[to_serialize(value)], kwargs={}
            )
            best = min(best, time.perf_counter() - begin)
            await asyncio.sleep(0)
        return best


def best(function: Callable[[], Any], count: int = 7) -> float:
    """The shortest of some runs."""
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


def measure() -> Costs:
    """The costs on this machine."""
    rows = 512
    net = nn.Sequential(
        nn.Dense(784, 1024), nn.ReLU(), nn.Dense(1024, 1024), nn.ReLU(), nn.Dense(1024, 10)
    )
    optimizer = nf.optim.Adam(net.params)
    size = sum(param.size for param in net.params)
    trainer = Trainer("bench")
    trainer.do("share", State(net, nf.softmax_cross_entropy, optimizer, 0))
    x = np.random.default_rng(0).normal(size=(rows, 784)).astype(np.float32)
    ends, targets = ends_of_shards(rows), np.zeros(rows, np.int64)
    shards = dict(enumerate(shards_of(nf.softmax_cross_entropy, targets, ends, seeds_of(net))))
    with nf.num_threads(1), _one_thread_of_blas():
        compute = best(lambda: trainer.do("begin", [x], shards))
        merge = best(lambda: _tree.merged(net.grads, net.grads))
        apply = best(lambda: optimizer.step(net.grads))
    call, byte = _messages()
    return Costs(
        compute / rows / size, apply / size, merge / size / 4, call, byte, _plan()
    )  # fmt: skip


def _one_thread_of_blas() -> Any:
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


def _messages() -> tuple[float, float]:
    length = 1 << 26
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local,
        Client(local) as client,
    ):
        first, second = client.nthreads()
        made = [
            client.submit(Echo, actor=True, workers=[name], pure=False) for name in (first, second)
        ]
        actor = made[0].result()
        made[1].result()
        call = actor.ask(second, made[1].key, 1, 200).result()
        return call, (actor.ask(second, made[1].key, length, 10).result() - call) / length


def _plan(workers: int = 64) -> float:
    """What the calling process does for each worker, with batches of 32 rows a worker."""
    names = [f"tcp://10.0.0.{i}:40000" for i in range(workers)]
    cluster = Cluster(None, [], None, 20, np.float32)
    cluster._spooled([Piece(name, f"/tmp/dask/{name}/rows", 1000, (1.0,), False) for name in names])
    index = np.random.default_rng(0).permutation(1000 * workers)[: 32 * workers]
    group = Group(0, dict.fromkeys(names, "trainer"))
    targets = np.zeros(len(index), np.int64)

    def step() -> None:
        requests = cluster._requests(group, Batch(index))
        shards = shards_of(nf.softmax_cross_entropy, targets, ends_of_shards(len(index)), [])
        pickle.loads(pickle.dumps((requests, shards), 5))

    return best(step) / workers


# ---- the model ----


def seconds(
    costs: Costs, parameters: float, batch: int, workers: int, cores: int, gbit: float
) -> float:
    """A step of a batch on so many machines with so many cores."""
    size, wire = 4 * parameters, 8e-9 / gbit
    levels = (workers - 1).bit_length()
    computed = costs.compute * parameters * batch / workers / cores
    up = levels * (costs.call + size * (wire + costs.byte + costs.merge))
    down = levels * (costs.call + size * (wire + costs.byte))
    to_caller = costs.call + size * (wire + costs.byte)
    planned = costs.plan * workers + levels * costs.call
    return computed + up + down + to_caller + planned + costs.apply * parameters


def smallest(costs: Costs, batch: int, workers: int, cores: int, gbit: float) -> float | None:
    """The parameters from which so many workers are faster than half of them; None where they never are."""
    for parameters in 10 ** np.arange(3, 9.01, 0.05):
        if seconds(costs, parameters, batch, workers, cores, gbit) < seconds(
            costs, parameters, batch, workers // 2, cores, gbit
        ):
            return float(parameters)
    return None


def table(costs: Costs, batch: int, cores: int, gbit: float) -> str:
    """The speed over one worker, and from what size a doubling pays, as Markdown."""
    lines = [
        f"| batch of {batch:,}, workers | " + " | ".join(map(str, WORKERS)) + " |",
        "|" + "---|" * (len(WORKERS) + 1),
    ]
    for parameters in PARAMETERS:
        alone = seconds(costs, parameters, batch, 1, cores, gbit)
        speeds = [alone / seconds(costs, parameters, batch, n, cores, gbit) for n in WORKERS]
        lines.append(
            f"| {parameters:.0e} parameters | " + " | ".join(f"{s:.1f}" for s in speeds) + " |"
        )
    sizes = [smallest(costs, batch, n, cores, gbit) for n in WORKERS]
    shown = ["never" if size is None else f"{size:.0e}" for size in sizes]
    lines.append("| pay over half of them from | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the constants, and a table for each batch."""
    given = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    given.add_argument("--batches", type=int, nargs="+", default=[8192, 65536])
    given.add_argument("--cores", type=int, default=1, help="of a worker")
    given.add_argument("--gbit", type=float, default=10, help="a second, of the network")
    options = given.parse_args()
    costs = measure()
    for name, value in costs._asdict().items():
        print(f"{name:8} {value:.3g} s")
    for batch in options.batches:
        print("\n" + table(costs, batch, options.cores, options.gbit))


if __name__ == "__main__":
    main()
