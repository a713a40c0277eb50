"""A training step over shards of a batch, with the statistics and the dropout masks of the whole batch."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from copy import deepcopy
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnfast import nn
from nnfast.dask import _pieces
from nnfast.estimators.training import Loss
from nnfast.nn.layer import Part, RandomLayer
from nnfast.nn.sequential import _leaves
from nnfast.normalization import BatchNormStats, batch_norm_stats

Array = NDArray[Any]

# Rows below which a shard is not halved: the matrix products of fewer are slow.
ROWS = 32


class Shard(NamedTuple):
    """A part of a batch, but for what is read where the rows are: x, and the targets where they are there, too."""

    length: int
    targets: Array | None
    share: float
    """The weight of its mean loss in that of the batch."""
    rows_before: int
    seeds: list[int]
    """Seeds of the layers that draw random numbers."""


def ends_of_shards(length: int) -> list[int]:
    """Where the shards of a batch end, a power of two of them: it depends on the batch alone, not on the workers."""
    count = 1 << (max(1, length // ROWS).bit_length() - 1)
    return [length * (i + 1) // count for i in range(count)]


def seeds_of(net: nn.Sequential) -> list[int]:
    """Draw the seeds of a step."""
    return [layer._draw() for layer in _leaves(net) if isinstance(layer, RandomLayer)]


def shards_of(loss: Loss, targets: Any, ends: list[int], seeds: list[int]) -> list[Shard]:
    """The shards of a batch that end there."""
    weights = _weights(loss, targets)
    total = weights.sum()
    shards = []
    for first, last in pairwise([0, *ends]):
        own = slice(first, last)
        share = float(weights[own].sum() / total) if total else 0.0
        known = targets[own] if isinstance(targets, np.ndarray) else None
        shards.append(Shard(last - first, known, share, first, seeds))
    return shards


def take_results(net: nn.Sequential, results: list[Any]) -> float:
    """Take what was merged over a batch, and return the loss: BatchNorm's statistics, and the gradients."""
    for norm, stats in zip(norms_of(net), results, strict=False):
        norm._move_running(stats)
    loss, *grads = results[-1]
    for own, grad in zip(net.grads, grads, strict=True):
        own[...] = grad
    return float(loss)


def norms_of(net: nn.Sequential) -> list[nn.BatchNorm]:
    """The layers at which a step needs statistics of the whole batch."""
    return [layer for layer in _leaves(net) if isinstance(layer, nn.BatchNorm)]


def check_network(net: nn.Sequential) -> None:
    """Refuse layers that need rows of other shards, or random numbers, inside of a layer that _passes cannot cut.

    Raises
    ------
    ValueError
        If there is one.
    """
    for layer in _leaves(net):
        inner = list(_within(layer))
        odd: list[nn.Layer] = [
            each for each in inner if isinstance(each, nn.BatchNorm | RandomLayer)
        ]
        odd += [
            each
            for each in (layer, *inner)
            if isinstance(each, nn.DropConnect | nn.StochasticDepth)
        ]
        if odd:
            raise ValueError(
                f"activation must make a layer that needs no other rows and no random numbers to train on Dask, "
                f"got {odd[0]!r}"
            )


def passes(
    replicas: list[Replica], shards: list[Shard], parts: list[list[Array]], loss: Loss
) -> Generator[list[Any], Any, None]:
    """Forward and backward over shards, each in a replica of its own; parts has x, and maybe the targets, of each.

    Each yield is an all-reduce: a value for each shard goes out, and the value merged over the whole batch comes back.
    These are BatchNorm's statistics in the forward pass, its sums in the backward pass, and at the end the loss and all
    gradients.
    """
    for replica, shard in zip(replicas, shards, strict=True):
        replica.begin(shard)
    norms = range(len(replicas[0].norms))
    values = [x for x, *_ in parts]
    targets = [
        part[1] if shard.targets is None else shard.targets
        for part, shard in zip(parts, shards, strict=True)
    ]
    for k in norms:
        values = [r.forward(k, x) for r, x in zip(replicas, values, strict=True)]
        stats = yield [r.statistics(k, x) for r, x in zip(replicas, values, strict=True)]
        values = [r.normalized(k, stats) for r in replicas]
    values = [r.forward(len(norms), x) for r, x in zip(replicas, values, strict=True)]
    each = zip(values, targets, shards, strict=True)
    pairs = [_loss(loss, z, truth, shard) for z, truth, shard in each]
    values = [dz for _, dz in pairs]
    for k in reversed(norms):
        values = [r.backward(k + 1, dy) for r, dy in zip(replicas, values, strict=True)]
        sums = yield [r.sums(k, dy) for r, dy in zip(replicas, values, strict=True)]
        values = [r.input_gradient(k, sums) for r in replicas]
    for replica, dy in zip(replicas, values, strict=True):
        replica.backward(0, dy)
    yield [[value, *r.grads] for (value, _), r in zip(pairs, replicas, strict=True)]


class Replica:
    """A network with the parameters of another and gradients of its own, in parts that end at a BatchNorm."""

    def __init__(self, net: nn.Sequential) -> None:
        copy = deepcopy(net, {id(param): param for param in net.params})
        leaves = _leaves(copy)
        cuts = [i for i, layer in enumerate(leaves) if isinstance(layer, nn.BatchNorm)]
        between = zip([-1, *cuts], [*cuts, len(leaves)], strict=True)
        self._parts = [_sequence(leaves[first + 1 : last]) for first, last in between]
        self._random = [layer for layer in leaves if isinstance(layer, RandomLayer)]
        self.norms = norms_of(copy)
        self.grads = copy.grads
        self._saved: list[_Saved] = [_Saved() for _ in self.norms]

    def begin(self, shard: Shard) -> None:
        """Set the random numbers of a shard."""
        for layer, seed in zip(self._random, shard.seeds, strict=True):
            layer._part = Part(seed, shard.rows_before)

    def forward(self, part: int, x: Array) -> Array:
        """The output of a part."""
        layers = self._parts[part]
        return x if layers is None else layers.forward(x, training=True)

    def backward(self, part: int, dy: Array) -> Array:
        """The gradient with respect to the input of a part; not computed for the first, whose input is the data."""
        layers = self._parts[part]
        if layers is None:
            return dy
        dx = layers.backward(dy, input_gradient=part > 0)
        return dy if dx is None else dx

    def statistics(self, k: int, x: Array) -> BatchNormStats:
        """The statistics of a shard, before BatchNorm k."""
        self._saved[k].x = x
        return batch_norm_stats(x, axis=self.norms[k].axis)

    def normalized(self, k: int, stats: BatchNormStats) -> Array:
        """The output of BatchNorm k, with the statistics of the batch."""
        norm, saved = self.norms[k], self._saved[k]
        saved.stats = stats
        return _pieces.normalized(saved.x, norm.gamma, norm.beta, stats, norm.eps, norm.axis)

    def sums(self, k: int, dy: Array) -> list[Array]:
        """A shard's gradients with respect to gamma and beta."""
        norm, saved = self.norms[k], self._saved[k]
        saved.dy = dy
        dgamma, dbeta = _pieces.sums(dy, saved.x, saved.stats, norm.eps, norm.axis)
        grads = norm.named_grads()
        grads["gamma"][...], grads["beta"][...] = dgamma, dbeta
        return [dgamma, dbeta]

    def input_gradient(self, k: int, sums: list[Array]) -> Array:
        """The gradient with respect to the input of BatchNorm k, from the sums over the batch."""
        norm, saved = self.norms[k], self._saved[k]
        return _pieces.input_gradient(
            saved.dy, saved.x, norm.gamma, saved.stats, sums[0], sums[1], norm.eps, norm.axis
        )


class _Saved:
    """What the backward pass of a BatchNorm needs of a shard."""

    x: Array
    dy: Array
    stats: BatchNormStats


def _loss(loss: Loss, z: Array, targets: Array, shard: Shard) -> tuple[float, Array]:
    """The part of the loss of the batch that a shard has, and of its gradient."""
    if not shard.share:  # all its classes have weight 0
        return 0.0, np.zeros_like(z)
    value, dz = loss(z, targets, out=z)
    return value * shard.share, np.multiply(dz, shard.share, out=dz)


def _weights(loss: Loss, targets: Any) -> Array:
    """The weight of each row."""
    classes = getattr(loss, "keywords", {}).get("class_weight")
    return np.ones(len(targets)) if classes is None else np.asarray(classes)[targets]


def _sequence(layers: list[nn.Layer]) -> nn.Sequential | None:
    return nn.Sequential(*layers) if layers else None


def _within(layer: nn.Layer) -> Iterator[nn.Layer]:
    for child in layer._children():
        yield child
        yield from _within(child)
