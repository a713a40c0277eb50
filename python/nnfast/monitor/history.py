"""The records of a Recorder, bounded in memory, and their form in a file."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnfast.monitor.arrays import Floats, Statistics
from nnfast.monitor.layers import LayerStatistics, Look, NonFinite
from nnfast.optim import StepStats

Arrays = dict[str, NDArray[Any]]

MOST_ROWS = 4096
"""Steps whose ratios and norms are kept; even."""

# The numbers of Statistics before the counts, and those of them that are ints.
_NUMBERS = [entry.name for entry in fields(Statistics)][:-1]
_INTS = ("size", "nans", "infinities")


class Rows:
    """Ratios and norms of every stride-th step: when there are MOST_ROWS, every second goes, and the stride doubles."""

    def __init__(self) -> None:
        self.count, self.stride = 0, 1
        self.steps: list[int] = []
        self.rows: list[Floats] = []

    def append(self, step: int, stats: StepStats) -> None:
        """Take in a step, or pass over it."""
        if self.count % self.stride == 0:
            if len(self.rows) == MOST_ROWS:
                self.steps, self.rows = self.steps[::2], self.rows[::2]
                self.stride *= 2
            self.steps.append(step)
            self.rows.append(np.stack((stats.ratio, stats.grad_norm)))
        self.count += 1


@dataclass
class History:
    """All that is recorded."""

    names: list[str]
    """Names of the parameters, in the order of StepStats; empty until they are known."""
    are_weights: list[bool]
    """Whether a parameter has two axes or more."""
    losses: array[float] = field(default_factory=lambda: array("d"))
    rows: Rows = field(default_factory=Rows)
    epoch_steps: list[int] = field(default_factory=list)
    epochs: dict[str, list[float]] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    first_nonfinite: NonFinite | None = None

    def add_epoch(self, numbers: dict[str, float]) -> None:
        """A place in each column, NaN where there is no number."""
        for name in numbers:
            self.epochs.setdefault(name, [math.nan] * len(self.epoch_steps))
        for name, column in self.epochs.items():
            column.append(numbers.get(name, math.nan))
        self.epoch_steps.append(len(self.losses))

    def ratios(self) -> Floats:
        """A row a kept step, a column a parameter."""
        return self._columns(0)

    def grad_norms(self) -> Floats:
        """The norms of the gradients, shape (steps, parameters)."""
        return self._columns(1)

    def watched(self) -> list[int]:
        """The places of the parameters whose ratios tell: weights, or all where there are none."""
        weights = [i for i, is_weight in enumerate(self.are_weights) if is_weight]
        return weights or list(range(len(self.names)))

    def _columns(self, which: int) -> Floats:
        found = [row[which] for row in self.rows.rows]
        return np.array(found).reshape(len(found), len(self.names))


# ---- as arrays, without pickle ----


def to_arrays(history: History) -> Arrays:
    """All of it by name."""
    rows = history.rows
    found = {
        "losses": np.array(history.losses),
        "names": np.array(history.names, np.str_),
        "are_weights": np.array(history.are_weights, np.bool_),
        "rows": np.array([rows.count, rows.stride]),
        "row_steps": np.array(rows.steps, np.int64),
        "ratios": history.ratios(),
        "grad_norms": history.grad_norms(),
        "epoch_steps": np.array(history.epoch_steps, np.int64),
        "first_nonfinite": _of_place(history.first_nonfinite),
        "looks": np.array(len(history.looks)),
    }
    found |= {f"epochs.{name}": np.array(column) for name, column in history.epochs.items()}
    for i, look in enumerate(history.looks):
        found |= {f"looks.{i}.{name}": value for name, value in _of_look(look).items()}
    return found


def from_arrays(arrays: Arrays) -> History:
    """What to_arrays took apart.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is something else.
    """
    history = History(arrays["names"].tolist(), arrays["are_weights"].tolist())
    history.losses.extend(arrays["losses"].tolist())
    rows = history.rows
    rows.count, rows.stride = arrays["rows"].tolist()
    rows.steps = arrays["row_steps"].tolist()
    rows.rows = list(np.stack((arrays["ratios"], arrays["grad_norms"]), axis=1))
    history.epoch_steps = arrays["epoch_steps"].tolist()
    for name, column in arrays.items():
        if name.startswith("epochs."):
            history.epochs[name.removeprefix("epochs.")] = column.tolist()
    history.first_nonfinite = _to_place(arrays["first_nonfinite"])
    history.looks = [_to_look(arrays, f"looks.{i}.") for i in range(int(arrays["looks"]))]
    return history


def _of_place(place: NonFinite | None) -> NDArray[np.str_]:
    return np.array([] if place is None else [str(place.step), place.where, place.name], np.str_)


def _to_place(words: NDArray[np.str_]) -> NonFinite | None:
    if not words.size:
        return None
    step, where, name = words.tolist()
    return NonFinite(int(step), where, name)


def _of_look(look: Look) -> Arrays:
    layers = look.layers
    return {
        "step": np.array(look.step),
        "loss": np.array(look.loss),
        "names": np.array([[seen.name, seen.layer] for seen in layers], np.str_),
        "shares": np.array([[seen.dead, seen.saturated] for seen in layers]),
        "activations": np.array([_of_statistics(seen.activation) for seen in layers]),
        "gradients": np.array([_of_statistics(seen.gradient) for seen in layers if seen.gradient]),
        "with_gradient": np.array([seen.gradient is not None for seen in layers]),
        "first_nonfinite": _of_place(look.first_nonfinite),
    }


def _to_look(arrays: Arrays, prefix: str) -> Look:
    of = {name: arrays[prefix + name] for name in _LOOK}
    gradients = map(_to_statistics, of["gradients"])
    layers = [
        LayerStatistics(
            name, layer, _to_statistics(row), next(gradients) if back else None, *shares
        )
        for (name, layer), row, back, shares in zip(
            of["names"].tolist(),
            of["activations"],
            of["with_gradient"].tolist(),
            of["shares"].tolist(),
            strict=True,
        )
    ]
    place = _to_place(of["first_nonfinite"])
    return Look(int(of["step"]), float(of["loss"]), tuple(layers), place)


_LOOK = tuple(_of_look(Look(0, math.nan, (), None)))


def _of_statistics(found: Statistics) -> Floats:
    return np.array([*(getattr(found, name) for name in _NUMBERS), *found.counts], np.float64)


def _to_statistics(row: Floats) -> Statistics:
    numbers: dict[str, Any] = dict(zip(_NUMBERS, row.tolist(), strict=False))
    numbers |= {name: int(numbers[name]) for name in _INTS}
    return Statistics(**numbers, counts=row[len(_NUMBERS) :].astype(np.int64))
