"""The workers of a training: who has which rows, who computes what, and what is done when one is lost."""

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
Answer = Callable[[], Any]
"""Waits for what was asked."""

# Losses of workers in a row, without a step between them, after which it is the training that kills them.
_MOST_LOSSES = 5
# Seconds for which a team without any worker waits for one.
_PATIENCE = 300
_POLL = 0.5


class Lost(Exception):
    """Members that do not answer any more."""

    def __init__(self, names: Iterable[str | None]) -> None:
        super().__init__("workers were lost")
        self.names = set(names)


class Member:
    """A trainer, somewhere."""

    taught: nn.Sequential | None = None
    """The network it knows."""

    def ask(self, what: str, *args: Any) -> Answer:
        """Have it done; an error of it raises when the answer is waited for."""
        raise NotImplementedError


class Here(Member):
    """A trainer in this process."""

    def __init__(self, run: str) -> None:
        self._trainer = Trainer(run)

    def ask(self, what: str, *args: Any) -> Answer:
        result = self._trainer.do(what, *args)
        return lambda: result


class Actor(Member):
    """A trainer in a worker."""

    def __init__(self, future: Any) -> None:
        self._future = future  # without it the worker would let the actor go
        self._actor = future.result()

    def ask(self, what: str, *args: Any) -> Answer:
        answer: Answer = self._actor.do(what, *args).result
        return answer


class Team:
    """Rows on the disks of workers, and steps over batches of them; without a client, all in this process.

    All that a training learns is held here, by who asks: the network and the optimizer. So a worker that is lost costs
    the step that it was in, which is done again by the others, and its rows, which are computed again.
    """

    def __init__(self, chunks: list[Any], check: Callable[[Any], Array]) -> None:
        self._chunks, self._check = chunks, check
        self._run = uuid4().hex
        self._client = _client()
        self._members: dict[str | None, Member] = {}
        self._pieces: list[Piece] = []
        self._ends = np.zeros(0, np.intp)

    # ---- who is there ----

    def open(self) -> None:
        """Spread the rows."""
        self.recruit()
        self._pieces = self._spool(range(len(self._chunks)))
        self._ends = np.cumsum([piece.length for piece in self._pieces])

    def close(self) -> None:
        """Have all files removed."""
        answers = self._ask("close", dict.fromkeys(self._members, ()))
        for answer in answers.values():
            with suppress(Exception):  # who is gone has no files any more
                answer()
        self._members.clear()

    def recruit(self) -> None:
        """Take in workers that are not in the team yet."""
        if self._client is None:
            self._members.setdefault(None, Here(self._run))
            return
        for _ in range(_MOST_LOSSES):
            self._client.wait_for_workers(1, timeout=_PATIENCE)
            new = [name for name in self._client.nthreads() if name not in self._members]
            self._members |= self._actors(new)
            if self._members:
                return
        raise RuntimeError(f"no worker lived long enough, {_MOST_LOSSES} times, to begin with")

    def _actors(self, names: list[str]) -> dict[str | None, Member]:
        """Trainers in workers, in those of them that do not go away meanwhile."""
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
        found: dict[str | None, Member] = {}
        while waiting:
            with suppress(TimeoutError):
                wait(list(waiting.values()), timeout=_POLL)
            there = set(client.nthreads())
            for name, future in list(waiting.items()):
                if future.status == "finished":
                    with suppress(Exception):  # it went away this moment
                        found[name] = Actor(future)
                if future.status != "pending" or name not in there:
                    del waiting[name]
        return found

    def _lasting(self, action: Callable[[], T]) -> T:
        """What an action gives, begun again whenever a worker was lost in it."""
        for _ in range(_MOST_LOSSES):
            try:
                return action()
            except Lost as loss:
                self._do_without(loss.names)
        raise RuntimeError(f"a step was given up, as workers were lost {_MOST_LOSSES} times in it")

    def _do_without(self, names: set[str | None]) -> None:
        for name in names:
            self._members.pop(name, None)
        self.recruit()
        gone = [i for i, piece in enumerate(self._pieces) if piece.where not in self._members]
        gone += [i for i, piece in enumerate(self._pieces) if piece.where in names]
        for i, piece in zip(sorted(set(gone)), self._spool(sorted(set(gone))), strict=True):
            self._pieces[i] = piece

    def _spool(self, numbers: Iterable[int]) -> list[Piece]:
        """Chunks written to files, wherever Dask computes them."""
        step = delayed(spooled, pure=False)
        tasks = [step(self._chunks[i], self._check, self._run) for i in numbers]
        if self._client is None:
            return list(dask.compute(*tasks))
        pieces: list[Piece] = self._client.gather(self._client.compute(tasks))
        if any(piece.where not in self._members for piece in pieces):
            self.recruit()  # a worker that came meanwhile
        return pieces

    # ---- what they do ----

    @property
    def length(self) -> int:
        """Rows of all."""
        return int(self._ends[-1])

    @property
    def largest(self) -> float:
        """The largest absolute value of all rows."""
        return max(piece.largest for piece in self._pieces)

    def rows(self, index: Array, width: int, dtype: Any) -> Answer:
        """Ask for rows by their numbers."""
        asked = self._ask_rows(index, width, dtype)

        def answer() -> Array:
            nonlocal asked
            try:
                rows: Array = asked()
                return rows
            except Lost as loss:
                self._do_without(loss.names)
                return self._lasting(lambda: self._ask_rows(index, width, dtype)())

        return answer

    def step(
        self, net: nn.Sequential, loss: Loss, shards: list[Shard]
    ) -> tuple[float, list[Array], list[Any]]:
        """The loss of a batch, its gradients, and the statistics of each BatchNorm."""
        results = self._lasting(lambda: self._step(net, loss, shards))
        value, *grads = results[-1]
        return float(value), grads, results[: len(norms_of(net))]

    def _step(self, net: nn.Sequential, loss: Loss, shards: list[Shard]) -> list[Any]:
        """What comes back from each wait of a step, merged."""
        names = list(self._members)[: len(shards)]
        pupils = [name for name in names if self._members[name].taught is not net]
        self._all("learn", dict.fromkeys(pupils, (net, loss)))
        for name in pupils:
            self._members[name].taught = net
        ends = [len(shards) * i // len(names) for i in range(len(names) + 1)]
        parts = {
            name: (net.params, {i: shards[i] for i in range(first, last)})
            for name, (first, last) in zip(names, pairwise(ends), strict=True)
        }
        results = [_tree.root(self._all("begin", parts))]
        for _ in range(2 * len(norms_of(net))):
            results.append(_tree.root(self._all("go_on", dict.fromkeys(names, (results[-1],)))))
        return results

    def _ask_rows(self, index: Array, width: int, dtype: Any) -> Answer:
        """Every row from who has it, put together in order."""
        pieces = np.searchsorted(self._ends, index, side="right")
        wanted: dict[str | None, list[tuple[str, Array]]] = {}
        places: dict[str | None, list[Array]] = {}
        for i in np.unique(pieces):
            piece, place = self._pieces[i], np.flatnonzero(pieces == i)
            rows = index[place] - (self._ends[i] - piece.length)
            wanted.setdefault(piece.where, []).append((piece.path, rows))
            places.setdefault(piece.where, []).append(place)
        answers = self._ask("rows", {name: (what, width, dtype) for name, what in wanted.items()})

        def answer() -> Array:
            out = np.empty((len(index), width), dtype)
            for name, rows in zip(wanted, _collected(answers), strict=True):
                out[np.concatenate(places[name])] = rows
            return out

        return answer

    def _all(self, what: str, arguments: dict[str | None, tuple[Any, ...]]) -> list[Any]:
        return _collected(self._ask(what, arguments))

    def _ask(
        self, what: str, arguments: dict[str | None, tuple[Any, ...]]
    ) -> dict[str | None, Answer]:
        answers: dict[str | None, Answer] = {}
        for name, args in arguments.items():
            try:
                answers[name] = self._members[name].ask(what, *args)
            except Exception:
                answers[name] = _gone
        return answers


def _gone() -> Any:
    raise OSError("the worker is gone")


def _collected(answers: dict[str | None, Answer]) -> list[Any]:
    """All answers, when all are there; Lost with the names of those that gave none."""
    results, lost = [], []
    for name, answer in answers.items():
        try:
            results.append(answer())
        except Exception:  # a trainer's own errors do not raise here
            lost.append(name)
    if lost:
        raise Lost(lost)
    for result in results:
        if isinstance(result, Failed):
            raise result.error
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
