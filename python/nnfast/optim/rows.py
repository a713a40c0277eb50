"""Gradients of tables by their rows: those that a batch names, and none of the others."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays
from nnfast._load import _core
from nnfast.embedding import embedding_backward

__all__ = ["Rows"]

Array = NDArray[Any]


class Rows:
    """The gradient of a table of which a batch names few rows, as an embedding's does.

    ``opt.step([Rows(indices, dy)])`` updates the rows that indices name, and costs as much as these do, whatever the
    length of the table.

    Parameters
    ----------
    indices : array_like of integers, any shape
        The row of the table that each value belongs to, in [0, n). A row may be named many times.
    values : array_like of float16, float32 or float64, shape (*indices.shape, ...)
        The gradient with respect to each of these rows: the gradient with respect to y of ``y = embedding(indices,
        table)``. Not copied.

    Attributes
    ----------
    indices, values : ndarray

    Raises
    ------
    TypeError
        If indices is not of integers, or values not of real numbers.
    ValueError
        If values has not the axes of indices first.

    See Also
    --------
    nnfast.embedding_backward : The same gradient as an array of the table's shape.
    nnfast.nn.Embedding : Has it as its gradient with ``sparse=True``.

    Notes
    -----
    SGD, Adagrad, Adam and AdamW take it. Values of one row are summed in float64 in the order of the indices, and
    rounded once, as embedding_backward sums them. Whatever a step does to a parameter it does to the rows that are
    named alone: weight decay, momentum, averages of squares and ``ema_decay``'s average stay what they were in the
    others (which PyTorch's SparseAdam has so, too; its SGD goes on moving the others by their momentum). So a step by
    Rows that name all rows is that by the array, to the bit. The step count is one for all rows, and so are the
    corrections that follow from it. Norms, of clipping and statistics, are those of the whole gradient.

    Adam adds eps to √v̂ and not, as SparseAdam does, to √v: that is ``convention="keras"``.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> table = np.ones((5, 2))
    >>> opt = nf.optim.SGD([table], lr=0.5)
    >>> opt.step([nf.optim.Rows([3, 1, 3], np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))])
    >>> table
    array([[1. , 1. ],
           [1. , 0.5],
           [1. , 1. ],
           [0. , 1. ],
           [1. , 1. ]])
    """

    __slots__ = ("indices", "values")

    def __init__(self, indices: ArrayLike, values: ArrayLike) -> None:
        found = _arrays.plain(indices, "indices")
        if found.dtype.kind not in "iu":
            if found.size:  # an empty list has no dtype of its own
                raise TypeError(f"indices must be an array of integers, got dtype {found.dtype}")
            found = found.astype(np.int64)
        array = _arrays.floating(values, "values", float16=True)
        if array.shape[: found.ndim] != found.shape:
            raise ValueError(
                f"values must have the axes of indices first, {found.shape}, got {array.shape}"
            )
        self.indices, self.values = found, array

    def __len__(self) -> int:
        """How many values there are."""
        return self.indices.size

    def __add__(self, other: Rows) -> Rows:
        """The sum of two gradients: the values of the first, then those of the second."""
        if not isinstance(other, Rows):
            return NotImplemented
        if self.row_shape != other.row_shape or self.dtype != other.dtype:
            raise ValueError(
                f"both must have rows of one shape and dtype, got {self.row_shape} of {self.dtype} "
                f"and {other.row_shape} of {other.dtype}"
            )
        places = np.concatenate([self.indices.reshape(-1), other.indices.reshape(-1)])
        return Rows(places, np.concatenate([self._flat(), other._flat()]))

    def __repr__(self) -> str:
        return f"Rows({len(self)} of shape {self.row_shape}, {self.dtype})"

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a row."""
        return self.values.shape[self.indices.ndim :]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self.values.dtype

    def astype(self, dtype: Any, copy: bool = True) -> Rows:
        """Convert the values to another dtype.

        Parameters
        ----------
        dtype : float16, float32 or float64
            Of the new values.
        copy : bool, default True
            Whether values are copied that have the dtype.

        Returns
        -------
        rows : Rows
            Of the same indices.

        Raises
        ------
        TypeError
            If dtype is not of real numbers.
        """
        return Rows(self.indices, self.values.astype(dtype, copy=copy))

    def to_array(self, n: int) -> Array:
        """Sum the values in an array of the table's shape.

        Parameters
        ----------
        n : int
            Rows of the table; at least 0.

        Returns
        -------
        gradient : ndarray of shape (n, ...)
            0 in the rows that are not named.

        Raises
        ------
        TypeError
            If n is not an int.
        ValueError
            If n is negative.
        IndexError
            If an index is not in [0, n).
        """
        sums = embedding_backward(self._matrix(), self.indices.reshape(-1), n)
        return sums.reshape(n, *self.row_shape)

    # ---- for optimizers and layers ----

    def _take(self, indices: Array, values: Array) -> None:
        """Become another gradient: that of a layer's next batch."""
        self.indices, self.values = indices, values

    def _flat(self) -> Array:
        return self.values.reshape(len(self), *self.row_shape)

    def _matrix(self) -> Array:
        return self.values.reshape(len(self), prod(self.row_shape))

    def _check(self, table: Array, name: str) -> None:
        """An error if it is no gradient of the table."""
        if self.dtype != table.dtype:
            advice = _arrays.source_of_float64(self.values, table.dtype)
            raise TypeError(
                f"{name}.values must have dtype {table.dtype}, got {self.dtype}{advice}"
            )
        if table.ndim == 0 or self.row_shape != table.shape[1:]:
            raise ValueError(
                f"{name} must have rows of shape {table.shape[1:]}, got {self.row_shape}"
            )
        n, indices = len(table), self.indices
        if len(self) and not (indices.min() >= 0 and indices.max() < n):
            wrong = indices[(indices < 0) | (indices >= n)][0]
            raise IndexError(f"{name}.indices must be in [0, {n}), got {wrong}")

    def _summed(self, n: int) -> tuple[Array, Array]:
        """The rows of a table of n that are named, once each and in ascending order, and the sum of each."""
        named, sums = _core.row_sums(self._matrix(), self.indices.reshape(-1), n)
        return named, sums.reshape(len(named), *self.row_shape)


Written = list[tuple[Array, Array, Array]]


def taken(named: Array, lists: Sequence[list[Any]], place: int) -> Written:
    """Put some rows of a parameter and of its state, as arrays of their own, in the place of the whole ones in lists.

    What a step made of them _core.write_rows writes back.
    """
    found = []
    for arrays in lists:
        whole = arrays[place]
        if whole is not None:
            part = np.empty((len(named), *whole.shape[1:]), whole.dtype)
            if not _core.take_rows(whole, named, part):
                whole.take(named, axis=0, out=part)
            arrays[place] = part
            found.append((whole, named, part))
    return found
