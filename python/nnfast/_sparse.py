"""Sparse tables of SciPy's: recognised without importing SciPy, and multiplied without making them dense."""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def is_sparse(value: Any) -> bool:
    """Whether it is a sparse array or matrix of SciPy's."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(value))


def csr_of(value: Any, dtype: np.dtype[Any], name: str) -> Any:
    """A sparse table in CSR and in a dtype: itself if it has both.

    Raises
    ------
    TypeError
        If it is not of real numbers.
    ValueError
        If it has not two axes.
    """
    if value.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of real numbers, got dtype {value.dtype}")
    if value.ndim != 2:
        raise ValueError(f"{name} must have two axes where it is sparse, got shape {value.shape}")
    return value.tocsr().astype(dtype, copy=False)


def product(x: Any, weight: Array, out: Array | None = None) -> Array:
    """``x @ weight`` for x in CSR."""
    y: Array = x @ weight
    if out is None:
        return y
    out[...] = y
    return out


def transposed_product(x: Any, dz: Array, out: Array) -> Array:
    """``x.T @ dz`` for x in CSR: of the rows of `out`, which are x's columns, most stay 0.

    SciPy's product alone would zero an array as large as `out` and have it copied. It gets x without its empty columns.
    """
    columns, compact = without_empty_columns(x)
    out.fill(0)
    out[columns] = compact.T @ dz
    return out


def without_empty_columns(x: Any) -> tuple[Array, Any]:
    """The columns in which x has entries, in ascending order, and x with these alone."""
    filled = np.zeros(x.shape[1], bool)
    filled[x.indices] = True
    columns = np.flatnonzero(filled)
    place = np.zeros(x.shape[1], x.indices.dtype)
    place[columns] = np.arange(len(columns))
    parts = x.data, place[x.indices], x.indptr
    return columns, type(x)(parts, shape=(x.shape[0], len(columns)))
