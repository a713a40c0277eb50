"""What a network runs: nnfast's layers by themselves or joined to their neighbours, and layers of the user's own.

A stage is what KernelLayer describes: _train, _backward, _infer, and what it says of itself.
"""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from typing import Any, Protocol

import numpy as np

from nnfast import _arrays
from nnfast.nn.layer import Array, KernelLayer, Layer


class Stage(Protocol):
    """See KernelLayer."""

    _keeps_output: bool
    _in_place: bool
    _is_view: bool
    _dtype: np.dtype[Any] | None

    def _train(self, x: Array, overwrite: bool) -> Array: ...
    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None: ...
    def _infer(self, x: Array, overwrite: bool) -> Array: ...


class ForeignStage:
    """A user-defined layer, called as a user calls it; it may keep its inputs and outputs."""

    _keeps_output = True
    _in_place = _is_view = False
    _dtype: np.dtype[Any] | None = None

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    def _train(self, x: Array, overwrite: bool) -> Array:
        return self._as(x, self._layer.forward(x, training=True), "y")

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        dx: Any = self._layer._input_gradient(dy)
        return self._as(dy, dx, "dx") if need_dx else None

    def _infer(self, x: Array, overwrite: bool) -> Array:
        return self._as(x, self._layer.forward(x), "y")

    def _as(self, given: Array, result: Any, name: str) -> Array:
        """The result of the layer, converted to the dtype of its input, unless these are indices."""
        name = f"{name} of {type(self._layer).__name__}"
        array = _arrays.floating(result, name, float16=True)
        return array if self._layer._takes_indices else array.astype(given.dtype, copy=False)


def stage_of(layer: Layer) -> Stage:
    """The layer, or a ForeignStage for one whose forward or backward is user-defined."""
    if isinstance(layer, KernelLayer) and runs_as_written(layer):
        return layer
    return ForeignStage(layer)


def runs_as_written(layer: Layer) -> bool:
    """Whether forward and backward are those of nnfast, not a user's."""
    calls = (type(layer).forward, type(layer).backward)
    return all(call.__module__.startswith("nnfast.nn.") for call in calls)
