"""Training on Dask's arrays without a cluster: one trainer in this process, and the rows on its disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import numpy as np
from dask import delayed
from numpy.typing import NDArray

from nnfast import nn
from nnfast.dask import _files, _tree
from nnfast.dask._coordinator import Batch, Coordinator
from nnfast.dask._passes import ends_of_shards, norms_of, seeds_of, shards_of
from nnfast.dask._trainer import Failed, State, Trainer
from nnfast.estimators.training import Loss
from nnfast.optim.optimizer import Optimizer

Array = NDArray[Any]


class Local(Coordinator):
    """Everything in this process."""

    _net: nn.Sequential | None = None

    def open(self, shown: Callable[[int], None]) -> None:
        self._trainer = Trainer(self._run)
        step = delayed(_files.spooled, pure=False)
        tasks = [step(*self._spooling(i)) for i in range(len(self._chunks))]
        self._spooled(list(dask.compute(*tasks)))

    def close(self) -> None:
        self._trainer.do("close")

    def step(
        self, net: nn.Sequential, loss: Loss, optimizer: Optimizer, batch: Batch, targets: Array
    ) -> list[Any]:
        if self._net is not net:
            self._net = net
            self._do("share", State(net, loss, optimizer, 0))
        ends = ends_of_shards(len(targets))
        shards = dict(enumerate(shards_of(loss, targets, ends, seeds_of(net))))
        (located,) = self._located(batch.index).values()
        files, places = located
        arrays = [_put(places, rows) for rows in _files.read(files, self._kinds)]
        results = [_tree.root([self._do("begin", arrays, shards)])]
        norms = len(norms_of(net))
        for _ in range(2 * norms):
            results.append(_tree.root([self._do("resume", results[-1])]))
        return [*results[:norms], results[-1]]

    def outputs(self, net: nn.Sequential, index: Array) -> Array:
        ((files, places),) = self._located(index).values()
        return _put(places, self._do("outputs", files, self._kinds[0]))

    def _do(self, name: str, *args: Any) -> Any:
        result = self._trainer.do(name, *args)
        if isinstance(result, Failed):
            raise result.error
        return result


def _put(places: Array, rows: Array) -> Array:
    out = np.empty_like(rows)
    out[places] = rows
    return out
