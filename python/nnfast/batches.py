"""Batches of rows: shuffled, augmented, and made while the one before is trained on."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, _seeds
from nnfast._dask import is_dask
from nnfast._load import _core
from nnfast._seeds import Rng

Array = NDArray[Any]
Transform = Callable[[Array, "np.random.Generator"], Any]


def batches(
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    batch_size: int,
    rng: Rng = None,
    shuffle: bool = True,
    drop_last: bool = False,
    transform: Transform | None = None,
    copy: bool = False,
) -> Batches:
    """Iterate over the rows of X, and of y, in batches of random order.

    Each iteration is an epoch, in which every row appears once. Rows are copied by all threads into arrays that are
    reused. With a transform, a memory map or a Dask array, a thread makes the next batch while this one is used;
    from arrays in memory, a batch is copied in less time than a thread needs to wake.

    Parameters
    ----------
    X : array_like of any dtype, shape (n, ...), or Dask array
        Memory maps are read batch by batch. A Dask array computes the chunks that have rows of a batch, for each batch:
        persist() it first where it fits into memory.
    y : array_like of any dtype, shape (n, ...), or Dask array, optional
        What belongs to the rows of X, such as labels.
    batch_size : int
        Rows of a batch; the last one has what remains.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Source of the order and of what transform draws. It is drawn from once, when an iteration starts: a Generator is
        advanced by one raw draw of its bit generator. As in layers, an int or a SeedSequence makes a Generator of its
        own: two calls give the same epochs, which differ from each other. None is fresh entropy.
    shuffle : bool, default True
        Whether each epoch has an order of its own; otherwise it is that of X.
    drop_last : bool, default False
        Whether to leave out a last batch that has fewer rows.
    transform : function, optional
        ``transform(xb, rng)`` returns what is yielded in place of xb: ``lambda xb, rng: random_crop(xb, 28, padding=2,
        rng=rng)``, with any function of nnfast.augmentation. It may write to xb. rng is a Generator for each batch, so
        that its draws depend on the seed and the place of the batch alone. It is called by the thread that makes
        batches, under the caller's np.errstate and nnfast.num_threads.
    copy : bool, default False
        Whether each batch has new arrays. Otherwise one is valid until the second next is asked for, which may
        overwrite it.

    Returns
    -------
    batches : iterable
        ``len(batches)`` is the number of batches. It yields (xb, yb), or xb without y: contiguous arrays of the dtypes
        of X and y, the same for any number of threads.

    Raises
    ------
    TypeError
        If X or y is masked, or lazy and no Dask array, transform cannot be called, or an argument has another type.
    ValueError
        If X has no axis or y another number of rows, a Dask array has an unknown shape, or batch_size or rng is out of
        range. What transform or Dask raises appears at its batch, and ends the iteration.

    See Also
    --------
    torch.utils.data.DataLoader : PyTorch's.
    nnfast.augmentation.random_crop

    Notes
    -----
    An iterator belongs to one thread; others iterate for themselves, at the same time if they like. Its own thread ends
    with it: with the last batch, ``close()``, an error, or when nothing refers to it. In a forked child it goes on with
    the same batches.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x, labels = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> epochs = nf.batches(x, labels, batch_size=2, rng=0)
    >>> for xb, yb in epochs:
    ...     print(xb.shape, np.array_equal(xb, x[yb]))
    (2, 2) True
    (2, 2) True
    (1, 2) True

    >>> images = np.ones((256, 1, 28, 28), np.float32)
    >>> def shifted(xb, rng):
    ...     return nf.augmentation.random_crop(xb, 28, padding=2, rng=rng)
    >>> [xb.shape for xb in nf.batches(images, batch_size=128, transform=shifted)]
    [(128, 1, 28, 28), (128, 1, 28, 28)]
    """
    if transform is not None and not callable(transform):
        raise TypeError(f"transform must be a function or None, got {type(transform).__name__}")
    arrays = [_with_rows(X, "X")]
    if y is not None:
        arrays.append(_with_rows(y, "y"))
        if len(arrays[1]) != len(arrays[0]):
            raise ValueError(f"y must have {len(arrays[0])} rows, as X, got {len(arrays[1])}")
    size = _checks.integer_from(batch_size, 1, "batch_size")
    slow = any(is_dask(given) or isinstance(given, np.memmap) for given in (X, y))
    ahead = slow or transform is not None
    return Batches(
        arrays, size, _seeds.lasting(rng), shuffle, drop_last, transform, copy, ahead=ahead
    )


class Batches:
    """What ``batches`` returns: each iteration is an epoch."""

    def __init__(
        self,
        arrays: list[Any],
        size: int,
        rng: Rng,
        shuffle: bool,
        drop_last: bool,
        transform: Transform | None,
        copy: bool,
        *,
        ahead: bool,
    ) -> None:
        self._arrays, self._size, self._rng = arrays, size, rng
        self._shuffle, self._drop_last = shuffle, drop_last
        self._transform, self._copy, self._ahead = transform, copy, ahead
        self._idle: list[list[_Reader]] = []  # of epochs that are over

    def __len__(self) -> int:
        full, remaining = divmod(len(self._arrays[0]), self._size)
        return full + (remaining > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[Any]:
        seed = _seeds.seed_of(self._rng)
        n, size, transform = len(self._arrays[0]), self._size, self._transform
        order = np.arange(n) if not self._shuffle else np.empty(n, np.int64)
        if self._shuffle:
            _core.permutation(order, seed)
        readers = self._readers()

        def make(k: int) -> Any:
            rows = order[k * size : (k + 1) * size]
            parts = [reader.read(rows) for reader in readers]
            if transform is not None:
                parts[0] = _transformed(transform, parts[0], seed, k)
            return tuple(parts) if len(parts) > 1 else parts[0]

        def epoch() -> Iterator[Any]:
            yield from self._made(make)
            self._idle.append(readers)

        return epoch()

    def _readers(self) -> list[_Reader]:
        """A reader for each array, from an epoch that is over where there is one: memory of the system costs time."""
        try:
            return self._idle.pop()
        except IndexError:
            pass
        # The last two batches stay valid, and a thread makes a third.
        buffers = 0 if self._copy else 3 if self._ahead else 2
        size = min(self._size, len(self._arrays[0]))
        return [_Reader(array, size, buffers) for array in self._arrays]

    def _made(self, make: Callable[[int], Any]) -> Iterator[Any]:
        """Make every batch in turn."""
        if not self._ahead:
            return map(make, range(len(self)))
        made: Iterator[Any] = import_module("nnfast._ahead").made_ahead(make, len(self))
        return made


class _Reader:
    """Copies rows of an array into each of its buffers in turn, or into new arrays."""

    def __init__(self, array: Any, size: int, buffers: int) -> None:
        self._array, self._read = array, _compute if is_dask(array) else _gather
        self._buffers = [np.empty((size, *array.shape[1:]), array.dtype) for _ in range(buffers)]
        self._turn = 0

    def read(self, rows: Array) -> Array:
        """The rows, contiguous."""
        if self._buffers:
            self._turn = (self._turn + 1) % len(self._buffers)
            out: Array = self._buffers[self._turn]
            if len(rows) < len(out):
                out = out[: len(rows)]
        else:
            out = np.empty((len(rows), *self._array.shape[1:]), self._array.dtype)
        self._read(self._array, rows, out)
        return out


def _gather(x: Array, rows: Array, out: Array) -> None:
    if not _core.take_rows(x, rows, out):
        out[...] = x[rows]


def _compute(x: Any, rows: Array, out: Array) -> None:
    # Dask takes rows in ascending order at the least cost.
    places = np.argsort(rows)
    out[places] = x[rows[places]].compute()


def _transformed(transform: Transform, xb: Array, seed: int, k: int) -> Any:
    """What transform makes of batch k, by a stream of random numbers of its own."""
    made = transform(xb, np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k,))))
    if made is None:
        raise TypeError("transform must return the batch, got None")
    return made


def _with_rows(value: Any, name: str) -> Any:
    """The argument as an ndarray, or as a Dask array of a known shape, with an axis of rows."""
    if is_dask(value):
        chunks = import_module("nnfast.dask._chunks")
        array = chunks.array_of(value, name)
        chunks.require_known(array, name)
    else:
        array = _arrays.plain(value, name)
    if array.ndim == 0:
        raise ValueError(f"{name} must have an axis of rows, got an array of shape ()")
    return array
