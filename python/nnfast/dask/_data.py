"""Data on Dask as scikit-learn's methods take them: Dask arrays and data frames, or lists of delayed pieces."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from copy import copy, deepcopy
from functools import partial
from typing import Any
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
from dask import delayed
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from nnfast import nn
from nnfast._dask import is_dask_data, is_table
from nnfast.dask import _tree
from nnfast.dask._chunks import require_whole
from nnfast.dask._cluster import Cluster, client_in_use
from nnfast.dask._coordinator import Batch, Coordinator
from nnfast.dask._local import Local
from nnfast.dask._passes import check_network, take_results
from nnfast.estimators.training import Loss, bar
from nnfast.optim.optimizer import Optimizer

Array = NDArray[Any]


class Table:
    """X in chunks along the first axis, with a few rows that show its dtype and features."""

    def __init__(self, X: Any) -> None:
        if isinstance(X, da.Array):
            require_whole(X, tuple(range(1, X.ndim)), "X")
            self.chunks: list[Any] = list(X.to_delayed().ravel())
            self.head: Any = np.zeros((1, *X.shape[1:]), X.dtype)
            self.length: float = X.shape[0]
            return
        self.chunks = list(X.to_delayed() if is_table(X) else X)
        (self.head,) = dask.compute(delayed(_few_rows)(self.chunks[0]))
        self.length = float("nan")


def in_memory(y: Any) -> Any:
    """y as an array in the memory of this process."""
    if not is_dask_data(y):
        return y
    if isinstance(y, da.Array) or is_table(y):
        return np.asarray(y.compute())
    return np.concatenate([np.asarray(piece) for piece in dask.compute(*y)])


def checked_targets(estimator: Any, y: Any, numeric: bool) -> Array:
    """y, checked as validate_data checks it for an X in memory."""
    checked: Array = check_array(
        y,
        ensure_2d=False,
        dtype="numeric" if numeric else None,
        input_name="y",
        estimator=estimator,
    )
    return checked


class SpreadRows:
    """Rows on a Dask cluster, as Training takes them; a context, within which workers hold them."""

    def __init__(
        self,
        table: Table,
        length: int,
        like: Array,
        *,
        by_partition: bool = False,
        verbose: bool = False,
    ) -> None:
        if table.length == table.length and table.length != length:
            raise ValueError(f"X and y must have as many rows, got {table.length} and {length}")
        self.dtype, self.shape = like.dtype, (length, like.shape[1])
        self._index: Array | None = None
        self._verbose = verbose
        check = partial(check_array, dtype=like.dtype, order="C", input_name="X")
        self._coordinator = _coordinator(
            table.chunks, partial(_of_width, like.shape[1], check), like.shape[1], like.dtype
        )
        self._coordinator.local = by_partition

    def __len__(self) -> int:
        return self.shape[0]

    def __enter__(self) -> SpreadRows:
        try:
            with bar(self._verbose, "rows to disk", "chunk") as shown:
                self._coordinator.open(shown)
            if self._coordinator.length != len(self):
                raise ValueError(
                    f"X and y must have as many rows, got {self._coordinator.length} and {len(self)}"
                )
        except BaseException:
            self._coordinator.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._coordinator.close()

    def of(self, index: Array) -> SpreadRows:
        """Some of the rows."""
        some = copy(self)
        some._index = index if self._index is None else self._index[index]
        some.shape = len(index), self.shape[1]
        return some

    def largest(self) -> float:
        """The largest absolute value."""
        return self._coordinator.largest(0)

    def order(self, rng: np.random.Generator) -> Array:
        """An order of an epoch in which each partition is mixed in itself, and spread evenly over the batches."""
        return mixed_within(self._partitions(), rng)

    def batches(self, order: Array, parts: list[slice]) -> Iterator[Batch]:
        """A batch for each part of the order; the rows of the next one are fetched while this one is trained on."""
        self._coordinator.begin_epoch(max(part.stop - part.start for part in parts))
        with bar(self._verbose, "epoch", "batch") as shown:
            batch = Batch(self._rows(order[parts[0]]))
            for part in [*parts[1:], None]:
                if part is not None:
                    batch.next = Batch(self._rows(order[part]))
                yield batch
                shown(len(parts))
                if batch.next is not None:
                    batch = batch.next

    def gradients(
        self, net: nn.Sequential, loss: Loss, optimizer: Optimizer, batch: Batch, targets: Array
    ) -> float:
        """The loss of a batch, and its gradients in the network's own arrays, for the next step of the optimizer."""
        check_network(net)
        return take_results(net, self._coordinator.step(net, loss, optimizer, batch, targets))

    def outputs(self, net: nn.Sequential) -> Array:
        """The output of the network for all rows, computed where they are."""
        return self._coordinator.outputs(net, self._rows(np.arange(len(self))))

    def warn_of_one_class(self, classes: Array | SpreadTargets) -> None:
        """Warn where each partition holds rows of one class alone."""
        if isinstance(classes, SpreadTargets):
            one = self._coordinator.one_class_each()
        else:
            one = one_class_each(self._partitions(), classes)
        if one:
            warnings.warn(
                "each partition of X holds rows of one class alone, and shuffle='partitions' mixes rows within their "
                "partition: every batch has the classes in the same proportion, and every worker sees its own ones "
                "alone. Mix the rows before, or pass shuffle=True",
                UserWarning,
                stacklevel=6,
            )

    def _partitions(self) -> Array:
        return self._coordinator.partitions(self._rows(np.arange(len(self))))

    def _rows(self, rows: Array) -> Array:
        return rows if self._index is None else self._index[rows]


class SpreadTargets:
    """The targets of rows on Dask, which are written beside them, so that this process knows their number alone."""

    def __init__(self, rows: SpreadRows, X: da.Array, y: da.Array) -> None:
        self._coordinator = rows._coordinator
        self._y = y.rechunk((X.chunks[0], *((n,) for n in y.shape[1:])))
        self._length = len(rows)
        self.shape: tuple[int, ...] = y.shape

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, rows: Any) -> SpreadTargets:
        some = copy(self)
        some._length = len(range(self._length)[rows] if isinstance(rows, slice) else rows)
        return some

    def classes(self) -> Array:
        """All values that there are, in order."""
        run = uuid4().hex
        step = delayed(np.unique, pure=False)
        found = [
            step(chunk, dask_key_name=f"classes-{run}-{i}")
            for i, chunk in enumerate(self._chunks())
        ]
        return np.unique(np.concatenate(dask.compute(*found)))

    def write(self, encode: Callable[[Any], Array], shape: tuple[int, ...], dtype: Any) -> None:
        """Have them written in a way; shape and dtype are those of a row then."""
        self.dtype = np.dtype(dtype)
        self._coordinator.add_targets(self._chunks(), encode, shape, dtype)

    def largest(self) -> float:
        """The largest absolute value."""
        return self._coordinator.largest(1)

    def _chunks(self) -> list[Any]:
        return list(self._y.to_delayed().ravel())


def stays(X: Any, y: Any, axes: int) -> bool:
    """Whether y may stay on the cluster: an array with X's rows, all lengths known, and so many axes at most."""
    return (
        isinstance(X, da.Array)
        and isinstance(y, da.Array)
        and X.shape[:1] == y.shape[:1]  # no length that is not known equals itself
        and y.ndim <= axes
    )


def one_class_each(partitions: Array, classes: Array) -> bool:
    """Whether there are several partitions, and each has rows of one class alone."""
    order = np.lexsort((classes, partitions))
    of, classes = partitions[order], classes[order]
    mixed = ((of[1:] == of[:-1]) & (classes[1:] != classes[:-1])).any()
    return bool(of[0] != of[-1] and not mixed)


def mixed_within(partitions: Array, rng: np.random.Generator) -> Array:
    """An order of rows, by the number of the partition that each is in.

    The rows of a partition come in a random order, at equal distances, from a random start on: so batches have rows of
    all partitions in proportion to their lengths, whichever worker has them.
    """
    shuffled = rng.permutation(len(partitions))
    grouped = shuffled[np.argsort(partitions[shuffled], kind="stable")]
    counts = np.bincount(partitions)
    begins = np.cumsum(counts) - counts
    of = partitions[grouped]
    time = (np.arange(len(of)) - begins[of] + rng.random(len(counts))[of]) / counts[of]
    order: Array = grouped[np.argsort(time, kind="stable")]
    return order


def _coordinator(*settings: Any) -> Coordinator:
    client = client_in_use()
    return Local(*settings) if client is None else Cluster(client, *settings)


def applied(estimator: Any, method: str, X: Any) -> da.Array:
    """A method of a fitted estimator, lazily, on every chunk of X; the estimator is copied as it is now."""
    table = Table(X)
    like = np.asarray(getattr(estimator, method)(table.head))[:0]
    frozen = copy(estimator)
    frozen.__dict__.pop("_training", None)
    given = delayed(deepcopy(frozen), pure=False)
    if isinstance(X, da.Array):
        return _mapped(X, given, method, like)
    step = delayed(_call, pure=False)
    run = uuid4().hex
    parts = [
        step(chunk, given, method, dask_key_name=f"{method}-{run}-{i}")
        for i, chunk in enumerate(table.chunks)
    ]
    shape = (np.nan, *like.shape[1:])
    result: da.Array = da.concatenate([da.from_delayed(each, shape, meta=like) for each in parts])
    return result


def _mapped(x: da.Array, estimator: Any, method: str, like: Array) -> da.Array:
    result: da.Array = da.map_blocks(
        _call,
        x,
        estimator,
        method,
        name=f"{method}-{uuid4().hex}",
        meta=like,
        chunks=(x.chunks[0], *((n,) for n in like.shape[1:])),
        drop_axis=list(range(like.ndim, x.ndim)),
    )
    return result


def learned(seen: Callable[[Any], Any], merge: Callable[..., Any], table: Table) -> Any:
    """The merged results of `seen` for all chunks, in one pass over them; chunks without rows are left out.

    Raises
    ------
    ValueError
        If there is no row.
    """
    step = delayed(partial(_of_some, seen), pure=False)
    run = uuid4().hex
    leaves = [step(chunk, dask_key_name=f"learn-{run}-{i}") for i, chunk in enumerate(table.chunks)]
    (result,) = dask.compute(_tree.lazily(leaves, partial(_all_of_some, merge)))
    if result is None:
        raise ValueError("X must have at least one row")
    return result


def _of_some(seen: Callable[[Any], Any], piece: Any) -> Any:
    return seen(piece) if len(piece) else None


def _all_of_some(merge: Callable[..., Any], *seen: Any) -> Any:
    some = [each for each in seen if each is not None]
    return merge(*some) if some else None


def _call(x: Any, estimator: Any, method: str) -> Array:
    if not len(x):  # scikit-learn refuses empty arrays
        like = np.asarray(x)
        row = np.zeros((1, *like.shape[1:]), like.dtype)
        return np.asarray(getattr(estimator, method)(row))[:0]
    return np.asarray(getattr(estimator, method)(x))


def _of_width(width: int, check: Callable[[Any], Array], rows: Any) -> Array:
    x = check(rows)
    if x.shape[1] != width:
        raise ValueError(f"X must have {width} features in all pieces, got {x.shape[1]}")
    return x


def _few_rows(piece: Any) -> Any:
    return piece[:1]
