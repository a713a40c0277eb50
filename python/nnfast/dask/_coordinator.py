"""The coordinator of a training: it assigns rows and shards to workers, and replaces workers that are lost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any, TypeVar
from uuid import uuid4

import dask
import numpy as np
from dask import delayed
from numpy.typing import NDArray

from nnfast import nn
from nnfast.dask import _tree
from nnfast.dask._passes import Shard, norms_of
from nnfast.dask._trainer import Failed, Piece, Trainer, spooled
from nnfast.estimators.training import Loss

Array = NDArray[Any]
T = TypeVar("T")
Result = Callable[[], Any]
"""Waits for the result of a call, and returns it."""

# After so many attempts at one step that each lost a worker, the training itself is what kills them.
_MOST_ATTEMPTS = 5
# Seconds to wait for a worker where there is none.
_PATIENCE = 300
_POLL = 0.5


class WorkersLost(Exception):
    """Some workers do not answer any more."""

    def __init__(self, names: Iterable[str | None]) -> None:
        super().__init__("workers were lost")
        self.names = set(names)


class Worker:
    """A trainer, in this process or in another."""

    net: nn.Sequential | None = None
    """The network that it has a copy of."""

    def call(self, method: str, *args: Any) -> Result:
        """Start a method of the trainer; its error is raised by the result."""
        raise NotImplementedError


class LocalWorker(Worker):
    """A trainer in this process."""

    def __init__(self, run: str) -> None:
        self._trainer = Trainer(run)

    def call(self, method: str, *args: Any) -> Result:
        result = self._trainer.do(method, *args)
        return lambda: result


class RemoteWorker(Worker):
    """A trainer in a worker of Dask's, as an actor."""

    def __init__(self, future: Any) -> None:
        self._future = future  # while it exists, Dask keeps the actor
        self._actor = future.result()

    def call(self, method: str, *args: Any) -> Result:
        result: Result = self._actor.do(method, *args).result
        return result


class Coordinator:
    """Rows on the disks of workers, and steps over batches of them; without a client, all in this process.

    The network and the optimizer are held by the coordinator alone. When a worker is lost, the others repeat the step
    that it took part in, and Dask computes its rows again.
    """

    def __init__(self, chunks: list[Any], check: Callable[[Any], Array]) -> None:
        self._chunks, self._check = chunks, check
        self._run = uuid4().hex
        self._client = _client()
        self._workers: dict[str | None, Worker] = {}
        self._pieces: list[Piece] = []
        self._ends = np.zeros(0, np.intp)

    # ---- workers ----

    def open(self) -> None:
        """Distribute the rows."""
        self.add_workers()
        self._pieces = self._spool(range(len(self._chunks)))
        self._ends = np.cumsum([piece.length for piece in self._pieces])

    def close(self) -> None:
        """Remove the files of all workers."""
        for result in self._call("close", dict.fromkeys(self._workers, ())).values():
            with suppress(Exception):  # the files of a lost worker are gone with it
                result()
        self._workers.clear()

    def add_workers(self) -> None:
        """Start trainers in the workers that have none yet."""
        if self._client is None:
            self._workers.setdefault(None, LocalWorker(self._run))
            return
        for _ in range(_MOST_ATTEMPTS):
            self._client.wait_for_workers(1, timeout=_PATIENCE)
            new = [name for name in self._client.nthreads() if name not in self._workers]
            self._workers |= self._started(new)
            if self._workers:
                return
        raise RuntimeError(
            f"no worker lived long enough to start a trainer in it, in {_MOST_ATTEMPTS} attempts"
        )

    def _started(self, names: list[str]) -> dict[str | None, Worker]:
        """Trainers in these workers, without those that are lost meanwhile."""
        from distributed import wait

        client: Any = self._client
        waiting = {
            name: client.submit(
                Trainer,
                self._run,
                workers=[name],
                allow_other_workers=False,
                actor=True,
                pure=False,
            )
            for name in names
        }
        found: dict[str | None, Worker] = {}
        while waiting:
            with suppress(TimeoutError):
                wait(list(waiting.values()), timeout=_POLL)
            alive = set(client.nthreads())
            for name, future in list(waiting.items()):
                if future.status == "finished":
                    with suppress(Exception):  # it was lost this moment
                        found[name] = RemoteWorker(future)
                if future.status != "pending" or name not in alive:
                    del waiting[name]
        return found

    def _retried(self, action: Callable[[], T]) -> T:
        """The result of an action, which is repeated whenever a worker was lost in it."""
        for _ in range(_MOST_ATTEMPTS):
            try:
                return action()
            except WorkersLost as error:
                self._replace(error.names)
        raise RuntimeError(f"a step was given up: workers were lost in it {_MOST_ATTEMPTS} times")

    def _replace(self, names: set[str | None]) -> None:
        for name in names:
            self._workers.pop(name, None)
        self.add_workers()
        gone = [i for i, piece in enumerate(self._pieces) if piece.where not in self._workers]
        gone += [i for i, piece in enumerate(self._pieces) if piece.where in names]
        for i, piece in zip(sorted(set(gone)), self._spool(sorted(set(gone))), strict=True):
            self._pieces[i] = piece

    def _spool(self, numbers: Iterable[int]) -> list[Piece]:
        """Write chunks to files, on the workers that compute them."""
        step = delayed(spooled, pure=False)
        tasks = [step(self._chunks[i], self._check, self._run) for i in numbers]
        if self._client is None:
            return list(dask.compute(*tasks))
        pieces: list[Piece] = self._client.gather(self._client.compute(tasks))
        if any(piece.where not in self._workers for piece in pieces):
            self.add_workers()  # one has joined meanwhile
        return pieces

    # ---- calls ----

    @property
    def length(self) -> int:
        """The number of all rows."""
        return int(self._ends[-1])

    @property
    def largest(self) -> float:
        """The largest absolute value of all rows."""
        return max(piece.largest for piece in self._pieces)

    def rows(self, index: Array, width: int, dtype: Any) -> Result:
        """Start to read rows, by their numbers."""
        pending = self._read(index, width, dtype)

        def result() -> Array:
            try:
                rows: Array = pending()
                return rows
            except WorkersLost as error:
                self._replace(error.names)
                return self._retried(lambda: self._read(index, width, dtype)())

        return result

    def step(
        self, net: nn.Sequential, loss: Loss, shards: list[Shard]
    ) -> tuple[float, list[Array], list[Any]]:
        """The loss of a batch, its gradients, and the statistics of each BatchNorm."""
        results = self._retried(lambda: self._step(net, loss, shards))
        value, *grads = results[-1]
        return float(value), grads, results[: len(norms_of(net))]

    def _step(self, net: nn.Sequential, loss: Loss, shards: list[Shard]) -> list[Any]:
        """The merged values of each all-reduce of a step."""
        names = list(self._workers)[: len(shards)]
        outdated = [name for name in names if self._workers[name].net is not net]
        self._results("set_network", dict.fromkeys(outdated, (net, loss)))
        for name in outdated:
            self._workers[name].net = net
        ends = [len(shards) * i // len(names) for i in range(len(names) + 1)]
        parts = {
            name: (net.params, {i: shards[i] for i in range(first, last)})
            for name, (first, last) in zip(names, pairwise(ends), strict=True)
        }
        results = [_tree.root(self._results("begin", parts))]
        for _ in range(2 * len(norms_of(net))):
            merged = dict.fromkeys(names, (results[-1],))
            results.append(_tree.root(self._results("resume", merged)))
        return results

    def _read(self, index: Array, width: int, dtype: Any) -> Result:
        """Read every row where it lies; the result has them in order."""
        pieces = np.searchsorted(self._ends, index, side="right")
        requests: dict[str | None, list[tuple[str, Array]]] = {}
        places: dict[str | None, list[Array]] = {}
        for i in np.unique(pieces):
            piece, place = self._pieces[i], np.flatnonzero(pieces == i)
            rows = index[place] - (self._ends[i] - piece.length)
            requests.setdefault(piece.where, []).append((piece.path, rows))
            places.setdefault(piece.where, []).append(place)
        arguments = {name: (files, width, dtype) for name, files in requests.items()}
        results = self._call("rows", arguments)

        def result() -> Array:
            out = np.empty((len(index), width), dtype)
            for name, rows in zip(requests, _collected(results), strict=True):
                out[np.concatenate(places[name])] = rows
            return out

        return result

    def _results(self, method: str, arguments: dict[str | None, tuple[Any, ...]]) -> list[Any]:
        return _collected(self._call(method, arguments))

    def _call(
        self, method: str, arguments: dict[str | None, tuple[Any, ...]]
    ) -> dict[str | None, Result]:
        results: dict[str | None, Result] = {}
        for name, args in arguments.items():
            try:
                results[name] = self._workers[name].call(method, *args)
            except Exception:
                results[name] = _lost
        return results


def _lost() -> Any:
    raise OSError("the worker is lost")


def _collected(pending: dict[str | None, Result]) -> list[Any]:
    """All results, when all are there; WorkersLost with the names of the workers that gave none."""
    results, lost = [], []
    for name, result in pending.items():
        try:
            results.append(result())
        except Exception:  # a trainer's own errors do not raise here
            lost.append(name)
    if lost:
        raise WorkersLost(lost)
    for value in results:
        if isinstance(value, Failed):
            raise value.error
    return results


def _client() -> Any:
    """The client in use, if there is one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None
