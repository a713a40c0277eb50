"""Scores of an estimator on Dask, lazily: each chunk is predicted and compared where it is, and the sums are merged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from dask import delayed
from numpy.typing import NDArray

from nnfast._dask import is_dask, is_table
from nnfast.dask import _tree
from nnfast.dask._data import applied
from nnfast.normalization import batch_norm_stats

Array = NDArray[Any]


def score(estimator: Any, X: Any, y: Any, sample_weight: Any, kind: str) -> da.Array:
    """The accuracy, or R², as a lazy array without axes.

    Raises
    ------
    ValueError
        If there are weights, or X and y have not as many rows.
    """
    if sample_weight is not None:
        raise ValueError("sample_weight must be None where X is Dask's")
    compare, finish = _KINDS[kind]
    step = delayed(partial(_compared, compare), pure=False)
    run = uuid4().hex
    leaves = [
        step(truth, found, dask_key_name=f"score-{run}-{i}")
        for i, (truth, found) in enumerate(_pairs(y, applied(estimator, "predict", X)))
    ]
    merged = _tree.lazily(leaves, _merged)
    result: da.Array = da.from_delayed(delayed(finish, pure=False)(merged), (), np.float64)
    return result


def _pairs(y: Any, predicted: da.Array) -> list[tuple[Any, Any]]:
    """Pieces of y with what was predicted for them; all in one pair where their lengths are not known."""
    found = list(predicted.to_delayed().ravel())
    if is_table(y) or (is_dask(y) and not isinstance(y, da.Array)):
        return [(delayed(_all)(list(y.to_delayed() if is_table(y) else y)), delayed(_all)(found))]
    length, given = predicted.shape[0], da.asarray(y)
    if length == given.shape[0]:
        given = given.rechunk((predicted.chunks[0], *((n,) for n in given.shape[1:])))
        return list(zip(given.to_delayed().ravel(), found, strict=True))
    if not np.isnan([length, given.shape[0]]).any():
        raise ValueError(f"X and y must have as many rows, got {length} and {given.shape[0]}")
    return [(delayed(_all)(list(given.to_delayed().ravel())), delayed(_all)(found))]


def _compared(compare: Callable[[Array, Array], list[Any]], y: Any, predicted: Any) -> Any:
    truth, found = np.asarray(y), np.asarray(predicted)
    if len(truth) != len(found):
        raise ValueError(f"X and y must have as many rows, got {len(found)} and {len(truth)}")
    return compare(truth, found) if len(truth) else None


def _merged(*compared: Any) -> Any:
    return reduce(_tree.merged, compared)


def _right(y: Array, predicted: Array) -> list[Any]:
    """How many rows there are, and how many are right."""
    right = y == predicted.reshape(y.shape)
    return [len(y), int((right.all(axis=1) if right.ndim > 1 else right).sum())]


def _accuracy(compared: Any) -> float:
    return compared[1] / compared[0] if compared is not None else float("nan")


def _errors(y: Array, predicted: Array) -> list[Any]:
    """The statistics of each output, and the sum of its squared errors."""
    truth = y.reshape(len(y), -1).astype(np.float64)
    errors = truth - predicted.reshape(truth.shape)
    return [batch_norm_stats(truth, axis=1), np.square(errors).sum(axis=0)]


def _r2(compared: Any) -> float:
    if compared is None or compared[0].count < 2:
        return float("nan")
    spread, errors = compared[0].m2, compared[1]
    constant = spread == 0
    ratio = errors / np.where(constant, 1, spread)
    return float(np.where(constant, errors == 0, 1 - ratio).mean())


def _all(pieces: list[Any]) -> Array:
    return np.concatenate([np.asarray(piece) for piece in pieces])


_KINDS: dict[str, tuple[Callable[..., list[Any]], Callable[[Any], float]]] = {
    "accuracy": (_right, _accuracy),
    "r2": (_errors, _r2),
}
