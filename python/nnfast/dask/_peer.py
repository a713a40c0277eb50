"""The actor of a worker: its trainer, and what the workers of a training say to each other.

A step goes down a tree of workers and comes up again: each worker asks those below it, computes its own shards
meanwhile, and answers with all that is merged. So the calls carry what was merged last downwards and the new values
upwards, and a worker that is lost shows itself to the one that waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnfast.dask import _files, _tree
from nnfast.dask._passes import Shard
from nnfast.dask._trainer import Failed, Nodes, State, Trainer

Array = NDArray[Any]


class Group(NamedTuple):
    """Workers that train together, until one of them is lost or another joins."""

    number: int
    keys: dict[str, str]
    """The actor of each worker, by its address."""


class Lost(NamedTuple):
    """The addresses of workers that do not answer; none where a call belongs to a group of before."""

    names: frozenset[str]


class Request(NamedTuple):
    """The rows of a batch that a worker needs."""

    kinds: list[_files.Kind]
    files: dict[str, _files.Rows]
    """By the worker that has them."""
    places: dict[str, Array]
    """Where the rows of each worker belong."""


class Work(NamedTuple):
    """A step for the workers of a chain, the first of which hands on what is of the others."""

    batch: int
    requests: dict[int, dict[str, Request]]
    """The rows of batches that are told of for the first time, by worker: of this one and of the next."""
    shards: dict[str, dict[int, Shard]]
    """The numbered shards of each worker."""

    def of(self, names: list[str]) -> Work:
        """The part of some workers."""
        requests = {
            batch: {name: every[name] for name in names if name in every}
            for batch, every in self.requests.items()
        }
        shards = {name: self.shards[name] for name in names if name in self.shards}
        return Work(self.batch, requests, shards)


class Order(NamedTuple):
    """What the coordinator tells the first worker about a step."""

    step: int
    lr: float
    chain: list[str]
    """The workers that make the step, the first of all first."""
    shards: int
    """How many there are."""
    norms: int
    work: Work


class Peer:
    """A trainer that others call. Its methods wait in the worker's event loop, where waiting blocks nobody.

    What computes or reads runs in a thread of its own. No method raises: an answer may be Lost or Failed.
    """

    def __init__(self, run: str) -> None:
        self._worker = _files.this_worker()
        self._name: str = self._worker.address
        self._trainer = Trainer(run)
        self._computing, self._reading = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._group = Group(-1, {})
        self._running: set[asyncio.Task[Any]] = set()
        self._fetched: dict[int, asyncio.Task[Any]] = {}
        self._committed: asyncio.Task[Any] | None = None

    # ---- of the coordinator ----

    async def join(self, group: Group) -> None:
        """Belong to a group; what was begun in another is dropped."""
        self._leave(group)

    async def steps(self, group: int) -> Any:
        """How many steps were applied."""
        return await self._compute(group, "steps")

    async def take(self, group: int, source: str | None, state: State | None) -> Any:
        """Take the state of another worker, or the given one."""
        if source is not None:
            state = await self._call(source, "give", group)
            if isinstance(state, Lost | Failed):
                return state
        return await self._compute(group, "take", state)

    async def step(self, group: int, order: Order) -> Any:
        """Make a step: returns BatchNorm's statistics, and at the end the loss and the gradients of the batch.

        The answer does not wait for the workers to apply the step; the next step does.
        """
        nodes = await self.begin(group, order.chain, order.work)
        results: list[Any] = []
        for _ in range(2 * order.norms + 1):
            if results:
                nodes = await self.resume(group, order.chain, results[-1])
            if isinstance(nodes, Lost | Failed):
                return nodes
            results.append(_tree.root([nodes, _tree.padding(order.shards)]))
        if group != self._group.number:
            return Lost(frozenset())
        results = [*results[: order.norms], results[-1]]
        broken = await self.commit(group, order.chain, order.step, order.lr, results)
        return results if broken is None else broken

    async def settled(self, group: int, chain: list[str]) -> Any:
        """Wait until the workers of a chain have applied the last step."""
        below = {tuple(names): () for names in _below(chain)}
        return await self._merged(group, "settled", below, self._settled(group))

    async def outputs(self, group: int, files: _files.Rows, kind: _files.Kind) -> Any:
        """The output of the network for rows of this worker."""
        return await self._compute(group, "outputs", files, kind)

    async def close(self) -> None:
        """Remove the files."""
        self._leave(Group(-1, {}))
        await self._compute(-1, "close")
        self._computing.shutdown(wait=False)
        self._reading.shutdown(wait=False)

    # ---- of other workers ----

    async def rows(self, files: _files.Rows, kinds: list[_files.Kind]) -> Any:
        """Read rows that this worker has."""
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._reading, _files.read, files, kinds
            )
        except Exception as error:
            return Failed(error)

    async def give(self, group: int) -> Any:
        """The state of this worker."""
        return await self._compute(group, "give")

    async def begin(self, group: int, chain: list[str], work: Work) -> Any:
        """Begin a step in the workers of a chain, this one first; returns what they have merged."""
        if (broken := await self._settled(group)) is not None:
            return broken
        for batch, requests in work.requests.items():
            if self._name in requests:
                fetch = self._fetch(group, requests[self._name])
                self._fetched[batch] = self._started(fetch)
        below = {tuple(names): (work.of(names),) for names in _below(chain)}
        own = self._begun(group, work.batch, work.shards.get(self._name, {}))
        return await self._merged(group, "begin", below, own)

    async def resume(self, group: int, chain: list[str], merged: Any) -> Any:
        """Go on with what was merged over the whole batch; returns what they have merged next."""
        below = {tuple(names): (merged,) for names in _below(chain)}
        return await self._merged(group, "resume", below, self._compute(group, "resume", merged))

    async def commit(
        self, group: int, chain: list[str], step: int, lr: float, results: list[Any]
    ) -> Lost | None:
        """Take in a step. It is applied, and handed on to the workers of the chain, after the answer."""
        if group != self._group.number:
            return Lost(frozenset())
        self._committed = self._started(self._applied(group, chain, step, lr, results))
        return None

    # ---- within ----

    async def _applied(self, group: int, chain: list[str], *step: Any) -> Any:
        """Apply a step, and hand it on: to one worker after another, so that the first ones hand it on early."""
        own = self._started(self._compute(group, "apply", *step))
        for names in _below(chain):
            broken = await self._call(names[0], "commit", group, names, *step)
            if broken is not None:
                return broken
        return await own

    async def _settled(self, group: int) -> Any:
        """Wait until this worker has applied the last step and handed it on; None, or why not."""
        if group != self._group.number:
            return Lost(frozenset())
        return await self._committed if self._committed is not None else None

    async def _begun(self, group: int, batch: int, shards: dict[int, Shard]) -> Any:
        fetched = self._fetched.pop(batch, None)
        arrays = await fetched if fetched is not None else []
        if isinstance(arrays, Lost | Failed):
            return arrays
        return await self._compute(group, "begin", arrays, shards)

    async def _fetch(self, group: int, request: Request) -> Any:
        """Rows from the workers that have them."""
        answers = await asyncio.gather(
            *(
                self.rows(files, request.kinds)
                if name == self._name
                else self._call(name, "rows", files, request.kinds)
                for name, files in request.files.items()
            )
        )
        if (broken := _broken(answers)) is not None:
            return broken
        length = sum(map(len, request.places.values()))
        arrays = [np.empty((length, *kind.shape), kind.dtype) for kind in request.kinds]
        for name, answer in zip(request.files, answers, strict=True):
            for array, rows in zip(arrays, answer, strict=True):
                array[request.places[name]] = rows
        return arrays

    async def _merged(
        self,
        group: int,
        method: str,
        below: dict[tuple[str, ...], tuple[Any, ...]],
        own: Coroutine[Any, Any, Any],
    ) -> Any:
        """The nodes of this worker and of chains below it, all of which compute at the same time."""
        calls: list[Awaitable[Any]] = [
            self._call(names[0], method, group, list(names), *arguments)
            for names, arguments in below.items()
        ]
        answers = await asyncio.gather(*calls, own)
        if (broken := _broken(answers)) is not None:
            return broken
        if not calls:
            return answers[0]
        nodes: Nodes = {}
        for some in answers:
            nodes |= some or {}
        return await self._compute(group, "merge", nodes)

    async def _call(self, name: str, method: str, *args: Any) -> Any:
        """Call another worker's actor directly, as Dask's own handle of an actor would."""
        from distributed.protocol import to_serialize

        try:
            answer = await self._worker.rpc(name).actor_execute(
                function=method,
                actor=self._group.keys[name],
                args=[to_serialize(value) for value in args],
                kwargs={},
            )
        except Exception:
            return Lost(frozenset([name]))
        return answer["result"] if answer["status"] == "OK" else Failed(answer["exception"])

    async def _compute(self, group: int, method: str, *args: Any) -> Any:
        """Call the trainer in its thread, if the group is still there when it is its turn."""

        def call() -> Any:
            if group != self._group.number:
                return Lost(frozenset())
            return self._trainer.do(method, *args)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._computing, call)
        except RuntimeError:  # the training has ended
            return Lost(frozenset())

    def _started(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task, which asyncio alone would not keep alive."""
        task = asyncio.create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _leave(self, group: Group) -> None:
        """Go over to another group. Tasks of the one before find that out by themselves."""
        self._group, self._committed = group, None
        self._fetched.clear()


def _below(chain: list[str]) -> list[list[str]]:
    """The chains that the first of a chain calls: the later half of what is left, time and again."""
    found = []
    while len(chain) > 1:
        half = (len(chain) + 1) // 2
        found.append(chain[half:])
        chain = chain[:half]
    return found


def _broken(answers: list[Any]) -> Lost | Failed | None:
    """An error among the answers, or all workers that are lost; None where there is neither."""
    for answer in answers:
        if isinstance(answer, Failed):
            return answer
    lost = [answer.names for answer in answers if isinstance(answer, Lost)]
    return Lost(frozenset().union(*lost)) if lost else None
