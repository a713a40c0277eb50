"""``python -m bench cluster``: what a training step costs on Dask's workers, from constants that are measured here.

The model follows a step of nnfast.dask: the calling process says who computes what; workers compute their rows; their
gradients come up a binomial tree, each level of which sends and adds them once; the first worker sends them to the
calling process, and down the tree again, where every level sends them once; each worker applies them. The wire counts
with its nominal rate, and what Dask does with a message is measured over the loopback, which has a cost of its own: so
the model errs on the dear side.
"""

import asyncio
import pickle
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from distributed import Client, LocalCluster, get_worker
from distributed.protocol import to_serialize

import nnfast as nf
from bench import readme
from bench.session import processor
from nnfast import nn
from nnfast.dask import _tree
from nnfast.dask._cluster import Cluster
from nnfast.dask._coordinator import Batch
from nnfast.dask._files import Piece
from nnfast.dask._passes import ends_of_shards, seeds_of, shards_of
from nnfast.dask._peer import Group
from nnfast.dask._trainer import State, Trainer

BATCHES = (8192, 65536)
GBIT = 10  # a second, of the network
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
    from threadpoolctl import threadpool_limits

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
    with nf.num_threads(1), threadpool_limits(1):
        compute = best(lambda: trainer.do("begin", [x], shards))
        merge = best(lambda: _tree.merged(net.grads, net.grads))
        apply = best(lambda: optimizer.step(net.grads))
    call, byte = _messages()
    return Costs(compute / rows / size, apply / size, merge / size / 4, call, byte, _plan())


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


def seconds(costs: Costs, parameters: float, batch: int, workers: int) -> float:
    """A step of a batch on so many machines."""
    size, wire = 4 * parameters, 8e-9 / GBIT
    levels = (workers - 1).bit_length()
    computed = costs.compute * parameters * batch / workers
    up = levels * (costs.call + size * (wire + costs.byte + costs.merge))
    down = levels * (costs.call + size * (wire + costs.byte))
    to_caller = costs.call + size * (wire + costs.byte)
    planned = costs.plan * workers + levels * costs.call
    return computed + up + down + to_caller + planned + costs.apply * parameters


def smallest(costs: Costs, batch: int, workers: int) -> float | None:
    """The parameters from which so many workers are faster than half of them; None where they never are."""
    for parameters in 10 ** np.arange(3, 9.01, 0.05):
        times = [seconds(costs, parameters, batch, n) for n in (workers, workers // 2)]
        if times[0] < times[1]:
            return float(parameters)
    return None


def table(costs: Costs, batch: int) -> list[str]:
    """The speed over one worker, and from what size a doubling pays, as Markdown."""
    lines = [
        f"| batch of {batch:,}, workers | " + " | ".join(map(str, WORKERS)) + " |",
        "|" + "---|" * (len(WORKERS) + 1),
    ]
    for parameters in PARAMETERS:
        alone = seconds(costs, parameters, batch, 1)
        speeds = [alone / seconds(costs, parameters, batch, n) for n in WORKERS]
        lines.append(
            f"| {parameters:.0e} parameters | " + " | ".join(f"{s:.1f}" for s in speeds) + " |"
        )
    sizes = [smallest(costs, batch, n) for n in WORKERS]
    shown = ["never" if size is None else f"{size:.0e}" for size in sizes]
    return [*lines, "| pay over half of them from | " + " | ".join(shown) + " |"]


def figures(costs: Costs, processor: str) -> str:
    """The tables, and the constants that they come from."""
    return "\n".join(
        [
            *(line for batch in BATCHES for line in (*table(costs, batch), "")),
            f"It is a model, and no measurement on {WORKERS[-1]} machines. Its constants are those of one core of an",
            f"{processor}: a row costs {1e9 * costs.compute:.2g} ns a parameter, forward and backward in shards of 32",
            f"rows; adding a byte of gradients {1e9 * costs.merge:.2g} ns; a call from worker to worker"
            f" {1e3 * costs.call:.2g} ms, and",
            f"{1e9 * costs.byte:.2g} ns a byte; a step of Adam {1e9 * costs.apply:.2g} ns a parameter; and the process"
            f" that calls fit {1e3 * costs.plan:.2g} ms a worker.",
        ]
    )


def filled(page: str, text: str) -> str:
    """docs/dask.md with the figures."""
    begin, end = "<!-- a cluster: python -m bench cluster -->", "<!-- end of a cluster -->"
    return readme.put(page, begin, end, text, "docs/dask.md")


def main() -> None:
    """Print the figures, and put them into docs/dask.md."""
    text = figures(measure(), processor())
    print(text)
    page = readme.ROOT / "docs/dask.md"
    page.write_text(filled(page.read_text(), text))
