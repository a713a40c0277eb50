"""A trainer: it has a network and its optimizer, computes shards of each step, and applies the steps."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnfast import nn
from nnfast.dask import _files, _tree
from nnfast.dask._passes import Replica, Shard, passes, take_results
from nnfast.estimators.training import Loss, grads_of
from nnfast.optim.optimizer import Optimizer
from nnfast.runtime import num_threads

Array = NDArray[Any]
Nodes = dict[_tree.Place, Any]

# Rows of a batch in prediction.
_ROWS = 4096


class Failed(NamedTuple):
    """An error of the trainer itself, as distinct from the errors of a worker that is lost."""

    error: Exception


class State:
    """A network, its loss and its optimizer after a number of steps.

    No tuple: Dask would send its parts separately, and the optimizer would no longer have the network's arrays.
    """

    def __init__(self, net: nn.Sequential, loss: Loss, optimizer: Optimizer, steps: int) -> None:
        self.net, self.loss, self.optimizer, self.steps = net, loss, optimizer, steps


class Trainer:
    """Trains shards of batches. No method raises: errors are returned as Failed."""

    _state: State | None = None
    _pass: Generator[list[Any], Any, None] | None = None

    def __init__(self, run: str) -> None:
        self._folder = _files.folder(run)
        worker = _files.this_worker()
        self._threads = worker.state.nthreads if worker else None
        self._replicas: list[Replica] = []

    def do(self, name: str, *args: Any) -> Any:
        """Call a method below and return its result, or Failed."""
        try:
            with self._limited(), np.errstate(over="ignore", invalid="ignore"):
                return getattr(self, f"_{name}")(*args)
        except Exception as error:
            return Failed(error)

    def _limited(self) -> AbstractContextManager[None]:
        """Limit the threads to those that Dask gives the worker, which runs one task of a training at a time."""
        return nullcontext() if self._threads is None else num_threads(self._threads)

    # ---- the network ----

    def _steps(self) -> int:
        """How many steps the network has made; -1 where there is none."""
        return -1 if self._state is None else self._state.steps

    def _take(self, state: State) -> None:
        """Take a copy of a state: what comes from a worker of this process is that worker's own."""
        self._share(deepcopy(state))

    def _share(self, state: State) -> None:
        """Compute with the network of a state, which somebody else steps."""
        self._state, self._replicas = state, []

    def _give(self) -> State:
        """The state, for another worker."""
        return self._own()

    def _apply(self, step: int, lr: float, results: list[Any]) -> None:
        """Make a step with what was merged over the whole batch; a step that was made before is left out."""
        state = self._own()
        if state.steps != step:
            return
        take_results(state.net, results)
        optimizer = state.optimizer
        if optimizer.lr != lr:
            optimizer.lr = lr
        optimizer.step(grads_of(state.net))
        state.steps += 1

    def _own(self) -> State:
        assert self._state is not None
        return self._state

    # ---- a step ----

    def _begin(self, arrays: list[Array], shards: dict[int, Shard]) -> Nodes:
        """Begin a step over numbered shards, whose rows are in X and y; a step that was not finished is dropped."""
        state = self._own()
        self._pass = None
        if not shards:
            return {}
        while len(self._replicas) < len(shards):
            self._replicas.append(Replica(state.net))
        self._numbers = list(shards)
        ends = np.cumsum([0, *(shard.length for shard in shards.values())]).tolist()
        parts = [[array[first:last] for array in arrays] for first, last in pairwise(ends)]
        replicas = self._replicas[: len(shards)]
        self._pass = passes(replicas, list(shards.values()), parts, state.loss)
        return self._reduced(next(self._pass))

    def _resume(self, merged: Any) -> Nodes:
        """Go on with the values merged over the whole batch, up to the next all-reduce."""
        return self._reduced(self._pass.send(merged)) if self._pass else {}

    def _merge(self, nodes: Nodes) -> Nodes:
        """Merge what several workers have merged."""
        return _tree.reduced(nodes)

    def _reduced(self, values: list[Any]) -> Nodes:
        leaves = zip(self._numbers, values, strict=True)
        return _tree.reduced({(0, number): value for number, value in leaves})

    # ---- predictions ----

    def _outputs(self, files: _files.Rows, kind: _files.Kind) -> Array:
        """The output of the network for rows of files, of which a few are in memory at a time."""
        net = self._own().net
        out = []
        for path, rows in files:
            for first in range(0, len(rows), _ROWS):
                (x,) = _files.read([(path, rows[first : first + _ROWS])], [kind])
                out.append(net.forward(x))
        return np.concatenate(out)

    def _close(self) -> None:
        _files.remove(self._folder)
