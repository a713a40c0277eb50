"""The part of a training that runs in a worker: it holds rows on its disk, and computes shards of each step."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from nnfast import nn
from nnfast.dask import _tree
from nnfast.dask._passes import Replica, Shard, passes
from nnfast.estimators.training import Loss
from nnfast.runtime import num_threads

Array = NDArray[Any]
Nodes = dict[_tree.Place, Any]


class Piece(NamedTuple):
    """Rows in a file."""

    where: str | None
    """The address of the worker that has the file; None for this process."""
    path: str
    length: int
    largest: float


class Failed(NamedTuple):
    """An error of the trainer itself, as distinct from the errors of a worker that is lost."""

    error: Exception


def spooled(rows: Any, check: Callable[[Any], Array], run: str) -> Piece:
    """Check a chunk of rows and write it to a file, from which rows are read in any order.

    A file, as a worker may have more rows than its memory holds; read and not mapped, as mapped pages count as memory
    of the worker, and Dask pauses workers that use too much.
    """
    x = np.ascontiguousarray(check(rows)) if len(rows) else np.empty((0, 1))
    folder = _folder(run)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, uuid4().hex)
    x.tofile(path)
    worker = _worker()
    largest = float(np.abs(x).max()) if x.size else 0.0
    return Piece(worker.address if worker else None, path, len(x), largest)


class Trainer:
    """Trains shards of batches, as an actor of Dask's. No method raises: errors are returned as Failed."""

    def __init__(self, run: str) -> None:
        self._run = run
        worker = _worker()
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

    def _set_network(self, net: nn.Sequential, loss: Loss) -> None:
        """Take a copy of the network, and its loss."""
        self._net, self._loss = net, loss
        self._replicas = []

    def _begin(self, params: list[Array], shards: dict[int, Shard]) -> Nodes:
        """Begin a step over numbered shards of a batch; a step that was not finished is dropped."""
        for param, value in zip(self._net.params, params, strict=True):
            param[...] = value
        while len(self._replicas) < len(shards):
            self._replicas.append(Replica(self._net))
        self._numbers = list(shards)
        self._pass = passes(self._replicas[: len(shards)], list(shards.values()), self._loss)
        return self._reduced(next(self._pass))

    def _resume(self, merged: Any) -> Nodes:
        """Go on with the values merged over the whole batch, up to the next all-reduce."""
        return self._reduced(self._pass.send(merged))

    def _reduced(self, values: list[Any]) -> Nodes:
        leaves = zip(self._numbers, values, strict=True)
        return _tree.reduced({(0, number): value for number, value in leaves})

    def _rows(self, requests: list[tuple[str, Array]], width: int, dtype: Any) -> Array:
        """Read rows of several files."""
        out = np.empty((sum(len(rows) for _, rows in requests), width), dtype)
        first = 0
        for path, rows in requests:
            _read(path, rows, out[first : first + len(rows)])
            first += len(rows)
        return out

    def _close(self) -> None:
        shutil.rmtree(_folder(self._run), ignore_errors=True)


def _read(path: str, rows: Array, out: Array) -> None:
    """Read rows of a file; consecutive rows together."""
    begins = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
    size = out.strides[0]
    with open(path, "rb", buffering=0) as file:
        for first, last in pairwise(begins):
            file.seek(int(rows[first]) * size)
            memory = out[first:last].data.cast("B")
            while memory:
                memory = memory[_read_some(file, memory, path) :]


def _read_some(file: Any, memory: memoryview, path: str) -> int:
    count: int = file.readinto(memory)
    if not count:
        raise OSError(f"{path} ended too early")
    return count


def _folder(run: str) -> str:
    """The folder of this process for the rows of a training; Dask removes that of a worker that ends."""
    worker = _worker()
    return os.path.join(
        worker.local_directory if worker else tempfile.gettempdir(), f"nnfast-{run}"
    )


def _worker() -> Any:
    """The worker of Dask's that this process runs, or None."""
    try:
        from distributed import get_worker

        return get_worker()
    except (ImportError, ValueError):
        return None
