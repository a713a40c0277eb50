"""Rows of a training in files: of a worker on its disk, or of this process where there is no cluster."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Rows = list[tuple[str, Array]]
"""Files, each with the numbers of the rows to read."""


class Kind(NamedTuple):
    """What there is a file of: X, or y."""

    suffix: str
    """Of the name of the file."""
    shape: tuple[int, ...]
    """Of a row."""
    dtype: Any


class Piece(NamedTuple):
    """A chunk of rows in files."""

    where: str | None
    """The address of the worker that has the files; None for this process."""
    path: str
    length: int
    largest: tuple[float, ...]
    """The largest absolute value, of each kind."""
    one_class: bool
    """Whether all values of y are the same; False where y is not in files."""


def spooled(
    rows: Any, targets: Any, prepare: Callable[[Any, Any], list[Array]], kinds: list[Kind], run: str
) -> Piece:
    """Prepare a chunk of rows and write it to a file for each kind, from which rows are read in any order.

    A file, as a worker may have more rows than its memory holds; read and not mapped, as mapped pages count as memory
    of the worker, and Dask pauses workers that use too much.
    """
    arrays = prepare(rows, targets) if len(rows) else [np.empty(0) for _ in kinds]
    where = folder(run)
    os.makedirs(where, exist_ok=True)
    path = os.path.join(where, uuid4().hex)
    for array, kind in zip(arrays, kinds, strict=True):
        np.ascontiguousarray(array).tofile(path + kind.suffix)
    worker = this_worker()
    largest = tuple(float(np.abs(array).max()) if array.size else 0.0 for array in arrays)
    y = arrays[1] if len(arrays) > 1 else None
    one_class = y is not None and bool((y == y[:1]).all())
    return Piece(worker.address if worker else None, path, len(arrays[0]), largest, one_class)


def read(files: Rows, kinds: list[Kind]) -> list[Array]:
    """Read rows of several files, of each kind."""
    length = sum(len(rows) for _, rows in files)
    arrays = [np.empty((length, *kind.shape), kind.dtype) for kind in kinds]
    first = 0
    for path, rows in files:
        for array, kind in zip(arrays, kinds, strict=True):
            _read(path + kind.suffix, rows, array[first : first + len(rows)])
        first += len(rows)
    return arrays


def folder(run: str) -> str:
    """The folder of this process for the rows of a training; Dask removes that of a worker that ends."""
    worker = this_worker()
    return os.path.join(
        worker.local_directory if worker else tempfile.gettempdir(), f"nnfast-{run}"
    )


def remove(folder: str) -> None:
    """Remove a folder."""
    shutil.rmtree(folder, ignore_errors=True)


def this_worker() -> Any:
    """The worker of Dask's that this process runs, or None."""
    try:
        from distributed import get_worker

        return get_worker()
    except (ImportError, ValueError):
        return None


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
