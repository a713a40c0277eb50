"""Data on Dask as scikit-learn's methods take them: X and y as Dask arrays, or as lists of delayed pieces."""

from __future__ import annotations

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
from nnfast._dask import is_dask
from nnfast.dask import _tree
from nnfast.dask._chunks import require_whole
from nnfast.dask._coordinator import Coordinator
from nnfast.dask._passes import check_network, norms_of, shards_of
from nnfast.estimators.training import Loss

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
        self.chunks = list(X)
        (self.head,) = dask.compute(delayed(_few_rows)(self.chunks[0]))
        self.length = float("nan")


def in_memory(y: Any) -> Any:
    """y as an array in the memory of this process."""
    if not is_dask(y):
        return y
    if isinstance(y, da.Array):
        return y.compute()
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

    def __init__(self, table: Table, length: int, like: Array) -> None:
        if table.length == table.length and table.length != length:
            raise ValueError(f"X and y must have as many rows, got {table.length} and {length}")
        self.dtype, self.shape = like.dtype, (length, like.shape[1])
        self._index: Array | None = None
        check = partial(check_array, dtype=like.dtype, order="C", input_name="X")
        self._coordinator = Coordinator(table.chunks, partial(_of_width, like.shape[1], check))

    def __len__(self) -> int:
        return self.shape[0]

    def __enter__(self) -> SpreadRows:
        try:
            self._coordinator.open()
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

    def __getitem__(self, rows: slice) -> Array:
        return self._ask(np.arange(len(self))[rows])()

    def of(self, index: Array) -> SpreadRows:
        """Some of the rows."""
        some = copy(self)
        some._index = index if self._index is None else self._index[index]
        some.shape = len(index), self.shape[1]
        return some

    def largest(self) -> float:
        """The largest absolute value."""
        return self._coordinator.largest

    def batches(self, order: Array, parts: list[slice]) -> Iterator[Array]:
        """A batch for each part of the order; the next one is fetched while this one is trained on."""
        self._coordinator.add_workers()
        answer = self._ask(order[parts[0]])
        for part in [*parts[1:], None]:
            batch = answer()
            if part is not None:
                answer = self._ask(order[part])
            yield batch

    def gradients(self, net: nn.Sequential, loss: Loss, batch: Array, targets: Array) -> float:
        """The loss of a batch, and its gradients in the network's own arrays."""
        check_network(net)
        value, grads, stats = self._coordinator.step(
            net, loss, shards_of(net, loss, batch, targets)
        )
        for norm, of_batch in zip(norms_of(net), stats, strict=True):
            norm._move_running(of_batch)
        for own, grad in zip(net.grads, grads, strict=True):
            own[...] = grad
        return value

    def _ask(self, rows: Array) -> Callable[[], Array]:
        index = rows if self._index is None else self._index[rows]
        return self._coordinator.rows(index, self.shape[1], self.dtype)


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
    parts = [step(chunk, given, method) for chunk in table.chunks]
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
    leaves = [step(chunk) for chunk in table.chunks]
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
