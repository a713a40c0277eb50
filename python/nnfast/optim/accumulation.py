"""Gradients that wait for the next step of an optimizer: their sums, one for each parameter that had any."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnfast import _arrays
from nnfast._load import _core
from nnfast._state import kept_dtype
from nnfast.optim.masters import needs_master
from nnfast.optim.rows import Rows
from nnfast.optim.settings import SHARED_HYPERPARAMETERS

Array = NDArray[Any]

# What a saved state calls them, before the name of the parameter.
_SUM, _INDICES, _VALUES = "accumulated", "accumulated_indices", "accumulated_values"

# Of gradient ascent at a rate of 1: p += g.
_ASCENT = ((-1.0, inf, 0.0, 1.0, 0.0, 1.0),)


class Accumulated:
    """Sums in the dtypes of the state. Their memory stays for the next ones.

    Attributes
    ----------
    sums : list of ndarrays or None
        The memory of each parameter's sum.
    pending : list of ndarrays or None, or None
        The sums that wait for the next step; None where there is none.
    rows : list of Rows or None
        What waits of tables: written by put_rows.
    any_rows : bool
        Whether any does.
    """

    def __init__(self, count: int) -> None:
        self.sums: list[Array | None] = [None] * count
        self.pending: list[Array | None] | None = None
        self.rows: list[Rows | None] = [None] * count
        self.any_rows = False
        self._core: _core.Optimizer | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_core": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "_waiting" in state:  # of version 0.2
            self.sums, waiting = vars(self).pop("_sums"), vars(self).pop("_waiting")
            found = [of if waits else None for of, waits in zip(self.sums, waiting, strict=True)]
            self.pending = found if any(waiting) else None
            self.any_rows = any(rows is not None for rows in self.rows)

    def __bool__(self) -> bool:
        """Whether any waits."""
        return self.pending is not None or self.any_rows

    def put_rows(self, i: int, rows: Rows) -> None:
        """Let the gradient of a table wait."""
        self.rows[i] = rows
        self.any_rows = True

    def sum_of(self, i: int) -> Array | None:
        """The sum of a parameter's gradients."""
        return None if self.pending is None else self.pending[i]

    def add(self, params: list[Array], grads: Mapping[int, Any]) -> None:
        """Add gradients of the parameters at these places, which have been checked: in one pass, by all threads."""
        for i in grads:
            self.begin(i, params[i])
        sums = [self.sums[i] for i in grads]
        terms = [_widened(grad, params[i]) for i, grad in grads.items()]
        self._core = self._core or _core.Optimizer("sgd", [], [*SHARED_HYPERPARAMETERS, "lr"], ())
        options = (None, 0, inf, False, False, None, None, 1.0)
        self._core.step(sums, terms, {}, None, None, _ASCENT, *options)  # type: ignore[arg-type]

    def begin(self, i: int, param: Array) -> Array:
        """The sum of a parameter's gradients, begun if there is none: by -0.0, to which a gradient adds to itself."""
        found = self.sums[i]
        if found is None:
            found = np.empty_like(param, kept_dtype(param), subok=False)
        if not found.flags.writeable:  # of a pickle that is a memory map
            found = found.copy()
        if self.pending is None:
            self.pending = [None] * len(self.sums)
        if self.pending[i] is None:
            found.fill(-0.0)
        self.sums[i] = self.pending[i] = found
        return found

    def clear(self) -> None:
        """Forget what waits."""
        self.pending = None
        if self.any_rows:
            self.rows, self.any_rows = [None] * len(self.rows), False

    # ---- saved ----

    def arrays(self, labels: list[str]) -> dict[str, Array]:
        """What waits, by the names under which it is saved."""
        found = {}
        for i, label in enumerate(labels):
            total, rows = self.sum_of(i), self.rows[i]
            if total is not None:
                found[f"{_SUM}.{label}"] = total
            if rows is not None:
                found[f"{_INDICES}.{label}"] = rows.indices
                found[f"{_VALUES}.{label}"] = rows.values
        return found


def is_of(name: str) -> bool:
    """Whether a state has such an array under the name."""
    return name.partition(".")[0] in (_SUM, _INDICES, _VALUES)


def restored(given: Mapping[str, Array], labels: list[str], params: list[Array]) -> Accumulated:
    """What waits according to the arrays of a saved state, as copies.

    Raises
    ------
    IndexError, TypeError, ValueError
        If it is not of these parameters.
    """
    made = Accumulated(len(params))
    left = {name: array for name, array in given.items() if is_of(name)}
    for i, (label, param) in enumerate(zip(labels, params, strict=True)):
        total = left.pop(f"{_SUM}.{label}", None)
        if total is not None:
            _check(total, param, f"state['{_SUM}.{label}']")
            made.begin(i, param)[...] = total
        indices, values = (left.pop(f"{name}.{label}", None) for name in (_INDICES, _VALUES))
        if indices is None and values is None:
            continue
        if indices is None or values is None or total is not None:
            raise ValueError(
                f"state must have {_INDICES}.{label} and {_VALUES}.{label}, or {_SUM}.{label}"
            )
        rows = Rows(indices.copy(), values.copy())
        rows._check(param, f"state['{_VALUES}.{label}']")
        made.put_rows(i, rows)
    if left:
        raise ValueError(f"state has {', '.join(sorted(left))}")
    return made


def _check(total: Array, param: Array, name: str) -> None:
    if total.shape != param.shape:
        raise ValueError(f"{name} must have shape {param.shape}, got {total.shape}")
    dtype = np.dtype(kept_dtype(param))
    if total.dtype != dtype:
        advice = _arrays.source_of_float64(total, dtype)
        raise TypeError(f"{name} must have dtype {dtype}, got {total.dtype}{advice}")


def _widened(grad: Any, param: Array) -> Any:
    """A gradient in the dtype of the sums."""
    if not needs_master(param):
        return grad
    return np.asarray(np.asarray(grad, param.dtype), np.float32)
