"""Rows of a table by their indices, and the gradient with respect to the table."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from nnfast import _checks
from nnfast._load import _core


def embedding(
    indices: ArrayLike, weight: ArrayLike, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Look up rows of a table: ``weight[indices]``, by all threads.

    Parameters
    ----------
    indices : array_like of integers, any shape
        In [0, n): a negative index does not count from the end.
    weight : array_like of float16, float32 or float64, shape (n, d)
        The table.
    out : ndarray of weight's dtype, shape (*indices.shape, d), optional
        Takes y; shares no memory with weight or indices.

    Returns
    -------
    y : ndarray of weight's dtype, shape (*indices.shape, d)
        A row of the table for each index.

    Raises
    ------
    IndexError
        If an index is below 0, or from n on. Nothing is written then.
    TypeError
        If indices is not of integers, weight not of real numbers, or out has another dtype.
    ValueError
        If weight has no two axes, or out has another shape, is read-only or overlaps.

    See Also
    --------
    embedding_backward : Its gradient.
    nnfast.nn.Embedding : The layer.
    torch.nn.functional.embedding : PyTorch's.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.embedding([2, 0, 2], np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
    array([[4., 5.],
           [0., 1.],
           [4., 5.]])
    """
    return _core.embedding(indices, weight, out)


def embedding_backward(
    dy: ArrayLike, indices: ArrayLike, n: int, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Gradient of embedding with respect to the table: row i is the sum of dy over all places with index i.

    In place of ``np.add.at(dweight, indices, dy)``, by all threads, with the same bits for any number of them.

    Parameters
    ----------
    dy : array_like of float16, float32 or float64, shape (*indices.shape, d)
        Gradient of the loss with respect to y.
    indices : array_like of integers, any shape
        As given to embedding.
    n : int
        How many rows the table has.
    out : ndarray of dy's dtype, shape (n, d), optional
        Takes dweight and is overwritten: nothing is added to what it holds. Shares no memory with dy or indices.

    Returns
    -------
    dweight : ndarray of dy's dtype, shape (n, d)
        Each sum is taken in float64, in the order of the indices, and rounded once (float16: to float32, then to
        float16). Rows without an index are 0; without `out` they cost nothing, since the system gives memory of zeros.

    Raises
    ------
    IndexError
        If an index is below 0, or from n on. Nothing is written then.
    TypeError
        If indices is not of integers, dy not of real numbers, n no int, or out has another dtype.
    ValueError
        If n is negative, shapes do not match, or out is read-only or overlaps.

    See Also
    --------
    embedding : The function.

    Notes
    -----
    The indices are sorted, for which a call holds 40 bytes for each of them.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> nf.embedding_backward(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), [2, 0, 2], 3)
    array([[3., 4.],
           [0., 0.],
           [6., 8.]])
    """
    n = _checks.integer_from(n, 0, "n")
    if n >= 2**63:
        raise ValueError(f"n must be below 2**63, got {n}")
    return _core.embedding_backward(dy, indices, n, out)
