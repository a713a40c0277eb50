"""The coordinator of a training: it knows where the rows are, and what is done with each batch of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from nnfast import nn
from nnfast.dask._files import Kind, Piece, Rows
from nnfast.estimators.training import Loss
from nnfast.optim.optimizer import Optimizer

Array = NDArray[Any]

_numbers = count()


class Batch:
    """The rows of a batch by their numbers, and the batch after it, whose rows may be fetched before it is there."""

    def __init__(self, index: Array) -> None:
        self.number = next(_numbers)
        self.index = index
        self.next: Batch | None = None


class Coordinator:
    """Rows in files, and steps over batches of them; subclasses say where.

    The network and the optimizer are those of this process: a step takes what they need, and changes neither.
    """

    local = False
    """Whether shards have the rows of one worker each."""

    def __init__(
        self, chunks: list[Any], check: Callable[[Any], Array], width: int, dtype: Any
    ) -> None:
        self._chunks, self._check = chunks, check
        self._kinds = [Kind("", (width,), dtype)]
        self._targets: list[Any] = [None] * len(chunks)
        self._encode: Callable[[Any], Array] | None = None
        self._run = uuid4().hex
        self._pieces: list[Piece] = []
        self._ends = np.zeros(0, np.intp)

    def add_targets(
        self, chunks: list[Any], encode: Callable[[Any], Array], shape: tuple[int, ...], dtype: Any
    ) -> None:
        """Write chunks of y beside those of X, encoded: shape and dtype are those of a row then."""
        self._targets, self._encode = chunks, encode
        self._kinds.append(Kind(".y", shape, dtype))

    def open(self, shown: Callable[[int], None]) -> None:
        """Write the rows to files; after each chunk shown is called with their number."""
        raise NotImplementedError

    def close(self) -> None:
        """Remove the files."""
        raise NotImplementedError

    def begin_epoch(self, longest: int) -> None:
        """Prepare for batches of so many rows at most."""

    def step(
        self, net: nn.Sequential, loss: Loss, optimizer: Optimizer, batch: Batch, targets: Array
    ) -> list[Any]:
        """The statistics of each BatchNorm, and at the end the loss of a batch with its gradients."""
        raise NotImplementedError

    def outputs(self, net: nn.Sequential, index: Array) -> Array:
        """The output of the network for rows by their numbers."""
        raise NotImplementedError

    @property
    def length(self) -> int:
        """The number of all rows."""
        return int(self._ends[-1])

    def largest(self, kind: int) -> float:
        """The largest absolute value of X, which is kind 0, or of y."""
        return max(piece.largest[kind] for piece in self._pieces)

    def one_class_each(self) -> bool:
        """Whether there are partitions, and each has rows of one class alone."""
        return sum(piece.length > 0 for piece in self._pieces) > 1 and all(
            piece.one_class for piece in self._pieces if piece.length
        )

    def partitions(self, index: Array) -> Array:
        """The number of the partition that each row is in."""
        return np.searchsorted(self._ends, index, side="right")

    def _spooling(self, i: int) -> tuple[Any, ...]:
        """What writes chunk i, and its arguments."""
        prepare = partial(_prepared, self._check, self._encode)
        return self._chunks[i], self._targets[i], prepare, self._kinds, self._run

    def _spooled(self, pieces: list[Piece]) -> None:
        self._pieces = pieces
        self._ends = np.cumsum([piece.length for piece in pieces])

    def _located(self, index: Array) -> dict[str | None, tuple[Rows, Array]]:
        """For each process that has some of the rows: where they are in its files, and their places in the index."""
        partitions = self.partitions(index)
        files: dict[str | None, Rows] = {}
        places: dict[str | None, list[Array]] = {}
        for i in np.unique(partitions):
            piece, place = self._pieces[i], np.flatnonzero(partitions == i)
            rows = index[place] - (self._ends[i] - piece.length)
            files.setdefault(piece.where, []).append((piece.path, rows.astype(np.int32)))
            places.setdefault(piece.where, []).append(place.astype(np.int32))
        return {where: (files[where], np.concatenate(places[where])) for where in files}


def _prepared(
    check: Callable[[Any], Array], encode: Callable[[Any], Array] | None, rows: Any, targets: Any
) -> list[Array]:
    """A chunk of X, and of y where that is written to files, too."""
    x = check(rows)
    if encode is None:
        return [x]
    y = encode(targets)
    if len(y) != len(x):
        raise ValueError(f"X and y must have as many rows, got {len(x)} and {len(y)} in a chunk")
    return [x, y]
