"""Training on a Dask cluster: who computes which shards, with rows from where, and which workers know the last step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import numpy as np
from dask import delayed
from numpy.typing import NDArray

from nnfast import nn
from nnfast.dask._coordinator import Batch, Coordinator
from nnfast.dask._files import Piece, spooled
from nnfast.dask._passes import ROWS, ends_of_shards, norms_of, seeds_of, shards_of
from nnfast.dask._peer import Group, Order, Request, Work
from nnfast.dask._trainer import State
from nnfast.dask._workers import MOST_ATTEMPTS, Workers, WorkersLost
from nnfast.estimators.training import Loss
from nnfast.optim.optimizer import Optimizer

Array = NDArray[Any]
T = TypeVar("T")


class Layout(NamedTuple):
    """How a batch is cut."""

    order: Array
    """The rows of the batch, in the order of the shards."""
    ends: list[int]
    """Where the shards end."""
    shards: dict[str, range]
    """The shards of each worker."""

    def rows(self, name: str) -> Array:
        """The places in the batch of the rows of a worker."""
        own = self.shards[name]
        return self.order[self.ends[own.start - 1] if own.start else 0 : self.ends[own.stop - 1]]


class Cluster(Coordinator):
    """Rows on the disks of workers, which train by themselves: this process hears the gradients of the whole batch.

    All workers of a group have the same network and make the same steps, and so does this process. Where a worker is
    lost, the others repeat the step that it took part in, and Dask computes its rows again; a worker that has made
    another number of steps than this process takes the state of one that has made as many.
    """

    def __init__(self, client: Any, *settings: Any) -> None:
        super().__init__(*settings)
        self._client = client
        self._workers = Workers(client, self._run)
        self._group: Group | None = None
        self._groups = self._steps = self._longest = 0
        self._told: set[int] = set()
        self._state: State | None = None

    # ---- workers ----

    def open(self, shown: Callable[[int], None]) -> None:
        self._workers.add()
        self._spooled(self._spool(range(len(self._chunks)), shown))

    def close(self) -> None:
        self._workers.close()

    def begin_epoch(self, longest: int) -> None:
        if self._workers.add() or longest > self._longest:
            self._group = None
        self._longest = longest

    def _retried(self, action: Callable[[], T]) -> T:
        """The result of an action, which is repeated whenever a worker was lost in it."""
        for _ in range(MOST_ATTEMPTS):
            try:
                return action()
            except WorkersLost as error:
                self._group = None
                self._replace(error.names)
        raise RuntimeError(f"a step was given up: workers were lost in it {MOST_ATTEMPTS} times")

    def _replace(self, names: set[str]) -> None:
        """Take in new workers for those that are lost, and compute their rows again."""
        self._workers.drop(names)
        self._workers.add()
        gone = [
            i
            for i, piece in enumerate(self._pieces)
            if piece.where not in self._workers or piece.where in names
        ]
        for i, piece in zip(gone, self._spool(gone), strict=True):
            self._pieces[i] = piece

    def _spool(
        self, numbers: Sequence[int], shown: Callable[[int], None] = lambda total: None
    ) -> list[Piece]:
        """Write chunks to files, on the workers that compute them."""
        from distributed import as_completed

        step = delayed(spooled, pure=False)
        tasks = [
            step(*self._spooling(i), dask_key_name=f"rows-to-disk-{uuid4().hex}") for i in numbers
        ]
        futures = self._client.compute(tasks)
        for _ in as_completed(futures):
            shown(len(futures))
        pieces: list[Piece] = self._client.gather(futures)
        if any(piece.where not in self._workers for piece in pieces):
            self._workers.add()  # one has joined meanwhile
            self._group = None
        return pieces

    # ---- the state of the network ----

    def _joined(self) -> Group:
        """The group of all workers, whose members know the last step."""
        if self._group is None:
            self._groups += 1
            self._told.clear()
            group = Group(self._groups, self._workers.keys)
            self._workers.call("join", dict.fromkeys(group.keys, (group,)))
            self._bring(group, self._members(group))
            self._group = group
        return self._group

    def _members(self, group: Group) -> list[str]:
        """The workers that take part in the longest batch."""
        names = list(group.keys)
        return names if self.local else names[: len(ends_of_shards(self._longest))]

    def _bring(self, group: Group, names: list[str]) -> None:
        """Bring workers to the last step: the first by this process if none is there, the others by each other."""
        steps = self._workers.call("steps", dict.fromkeys(names, (group.number,)))
        there = [name for name, made in zip(names, steps, strict=True) if made == self._steps]
        behind = [name for name in names if name not in there]
        if behind and not there:
            assert self._state is not None
            self._state.steps = self._steps
            self._workers.call("take", {behind[0]: (group.number, None, self._state)})
            there.append(behind.pop(0))
        while behind:
            sources = dict(zip(behind, there, strict=False))
            arguments = {name: (group.number, source, None) for name, source in sources.items()}
            self._workers.call("take", arguments)
            there += sources
            behind = behind[len(sources) :]

    # ---- steps ----

    def step(
        self, net: nn.Sequential, loss: Loss, optimizer: Optimizer, batch: Batch, targets: Array
    ) -> list[Any]:
        if self._state is not None and self._state.net is not net:
            self._steps += 1  # what workers have is of another network
            self._group = None
        self._state = State(net, loss, optimizer, self._steps)
        seeds = seeds_of(net)
        results = self._retried(lambda: self._step(batch, targets, seeds))
        self._steps += 1
        return results

    def _step(self, batch: Batch, targets: Array, seeds: list[int]) -> list[Any]:
        assert self._state is not None
        group = self._joined()
        chain = self._members(group)
        layout = self._layout(group, batch)
        numbered = dict(
            enumerate(shards_of(self._state.loss, targets[layout.order], layout.ends, seeds))
        )
        work = Work(
            batch.number,
            {each.number: self._requests(group, each) for each in self._untold(batch)},
            {name: {i: numbered[i] for i in own} for name, own in layout.shards.items()},
        )
        order = Order(
            self._steps,
            self._state.optimizer.lr,
            chain,
            len(layout.ends),
            len(norms_of(self._state.net)),
            work,
        )
        results: list[Any]
        (results,) = self._workers.call("step", {chain[0]: (group.number, order)})
        self._told.update(work.requests)
        return results

    def _untold(self, batch: Batch) -> list[Batch]:
        """Of a batch and the next one those whose rows no worker was told of."""
        both = [batch] if batch.next is None else [batch, batch.next]
        return [each for each in both if each.number not in self._told]

    def _layout(self, group: Group, batch: Batch) -> Layout:
        length = len(batch.index)
        if self.local:
            return self._layout_of_partitions(group, batch)
        ends = ends_of_shards(length)
        names = list(group.keys)[: len(ends)]
        cuts = [len(ends) * i // len(names) for i in range(len(names) + 1)]
        shards = {name: range(*cut) for name, cut in zip(names, pairwise(cuts), strict=True)}
        return Layout(np.arange(length), ends, shards)

    def _layout_of_partitions(self, group: Group, batch: Batch) -> Layout:
        """Shards of rows that one worker has."""
        numbers = {name: i for i, name in enumerate(group.keys)}
        of_piece = np.array([numbers[str(piece.where)] for piece in self._pieces])
        owners = of_piece[self.partitions(batch.index)]
        ends: list[int] = []
        shards: dict[str, range] = {}
        for name, i in numbers.items():
            count, before = int((owners == i).sum()), ends[-1] if ends else 0
            if count:
                parts = max(1, count // ROWS)
                shards[name] = range(len(ends), len(ends) + parts)
                ends += [before + count * (j + 1) // parts for j in range(parts)]
        return Layout(np.argsort(owners, kind="stable"), ends, shards)

    def _requests(self, group: Group, batch: Batch) -> dict[str, Request]:
        """The rows of a batch that each worker needs."""
        layout = self._layout(group, batch)
        requests = {}
        for name in layout.shards:
            located = self._located(batch.index[layout.rows(name)])
            files = {str(where): files for where, (files, _) in located.items()}
            places = {str(where): places for where, (_, places) in located.items()}
            requests[name] = Request(self._kinds, files, places)
        return requests

    # ---- predictions ----

    def outputs(self, net: nn.Sequential, index: Array) -> Array:
        return self._retried(lambda: self._outputs(index))

    def _outputs(self, index: Array) -> Array:
        group = self._joined()
        chain = self._members(group)
        self._workers.call("settled", {chain[0]: (group.number, chain)})
        located = {str(where): parts for where, parts in self._located(index).items()}
        self._bring(group, list(located))
        arguments = {
            name: (group.number, files, self._kinds[0]) for name, (files, _) in located.items()
        }
        results = self._workers.call("outputs", arguments)
        out = np.empty((len(index), *results[0].shape[1:]), results[0].dtype)
        for z, (_, places) in zip(results, located.values(), strict=True):
            out[places] = z
        return out


def client_in_use() -> Any:
    """The client in use, if there is one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None
