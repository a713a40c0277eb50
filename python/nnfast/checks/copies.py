"""Copies of networks for checks, and the loss of a network from the same state every time."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from io import BytesIO
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays
from nnfast.nn import DropConnect, Dropout, Layer, Sequential, StochasticDepth
from nnfast.nn.foreign import Held

Array = NDArray[Any]
Loss = Callable[[Any, Any], tuple[float, Any]]

INPUT = "X"
"""The name of the input among the arrays of a probe."""


def data_of(net: Layer, X: ArrayLike, y: ArrayLike, loss: Loss) -> tuple[Array, Array]:
    """X and y as arrays of as many rows, if all four are what they should be.

    Raises
    ------
    TypeError
        If net is no Layer, loss no function, or X not of real numbers.
    ValueError
        If there is no row, or X and y have not as many.
    """
    if not isinstance(net, Layer):
        raise TypeError(f"net must be a Layer, got {type(net).__name__}")
    if not callable(loss):
        raise TypeError(f"loss must be a function, got {type(loss).__name__}")
    x, targets = _arrays.plain(X, "X"), _arrays.plain(y, "y")
    if x.dtype.kind not in "biuf":
        raise TypeError(
            f"X must be an array of real numbers, got dtype {x.dtype}{_arrays.advice(x, 'X')}"
        )
    if not x.ndim or not targets.ndim or len(x) != len(targets) or not len(x):
        raise ValueError(
            "X and y must have as many rows as each other, one at least, "
            f"got shapes {x.shape} and {targets.shape}"
        )
    return x, targets


def some_rows(x: Array, y: Array, most: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """At most so many rows, drawn at random."""
    rows = rng.permutation(len(x))[:most]
    return x[rows], y[rows]


def place(net: Layer, i: int) -> str:
    """The name of a layer in messages: its index, if there are several, and its type."""
    return f"layer {i}, {net[i]!r}" if isinstance(net, Sequential) else repr(net)


def input_gradient(layer: Layer, dy: Array) -> Array | None:
    """The gradient with respect to the input; a Sequential computes it only on request."""
    if isinstance(layer, Sequential):
        return layer.backward(dy, input_gradient=True)
    return layer.backward(dy)


def without_dropout(net: Layer) -> Layer:
    """A copy in which nnfast's own layers drop nothing in training."""
    copied = copy.deepcopy(net)
    todo = [copied]
    while todo:
        layer = todo.pop()
        todo += layer._children()
        if isinstance(layer, Dropout):
            # Vanilla dropout keeps the scale that it has when it drops nothing, in inference.
            layer._fixed_scale = 1 - layer.p if layer.mode == "vanilla" else 1.0
        if isinstance(layer, Dropout | DropConnect | StochasticDepth):
            layer.p = 0.0
    return copied


class Probe:
    """The loss of a copy of a network in training, and its gradients.

    Every evaluation begins with the same running statistics, random streams and whatever else the layers keep. The copy
    is in float64, unless a layer takes nothing but float32.

    Parameters
    ----------
    net : Layer
    x : ndarray, shape (N, ...)
    y : what loss takes
    loss : function of scores and y

    Attributes
    ----------
    params : dict of ndarrays
        The copy's. What is written to them holds for the next evaluation.
    arrays : dict of ndarrays
        These and, if it is of floats, x.
    first : float
        The loss before anything is written.
    """

    def __init__(self, net: Layer, x: Array, y: Any, loss: Loss) -> None:
        self.y, self.loss = y, loss
        try:
            wide = x.astype(np.float64) if x.dtype.kind == "f" else x
            self._take(_Written(net, wide=True).read(), wide)
            self.gradients()
        except Exception:  # whatever a layer raises that takes float32 alone
            self._take(_Written(net).read(), x.copy())

    def _take(self, net: Layer, x: Array) -> None:
        self.x, self.params = x, net.named_params()
        self._written = _Written(net, shared=[*net.params, *net.grads])
        self.arrays = dict(self.params)
        if x.dtype.kind == "f":
            self.arrays[INPUT] = x
        self.first = self.value()

    def replica(self) -> Layer:
        """A copy of the network to be used once, which shares the parameters with the others."""
        return self._written.read()

    def scores(self) -> Array:
        """The output of the network."""
        with np.errstate(all="ignore"):
            return np.array(self.replica().forward(self.x, training=True))

    def value(self) -> float:
        """The loss."""
        with np.errstate(all="ignore"):
            return float(self.loss(self.scores(), self.y)[0])

    def repeats(self) -> bool:
        """Whether the loss is the same when it is computed again, as differences need it to be."""
        return self.value() == self.first

    def take_params(self, net: Layer) -> None:
        """Take over the parameters of another copy for the evaluations that follow."""
        for name, param in net.named_params().items():
            self.params[name][...] = param

    def gradients(self) -> dict[str, Array]:
        """The gradients with respect to each array, from backward; with respect to x only if backward returns it.

        Raises
        ------
        ValueError
            If one is missing or has another shape, or a layer of the user's own assigns new arrays to its parameters
            or gradients.
        """
        net = self.replica()
        held = Held(net, type(net).__name__)
        with np.errstate(all="ignore"):
            _, dscores = self.loss(net.forward(self.x, training=True), self.y)
            dx = input_gradient(net, dscores)
        found = dict(net.named_grads())
        if dx is not None:
            found[INPUT] = dx
        names = [name for name in self.arrays if name in found or name != INPUT]
        gradients = {name: _like(self.arrays[name], name, found) for name in names}
        held.check()
        return gradients


def _like(array: Array, name: str, found: dict[str, Array]) -> Array:
    """A copy of the gradient with respect to an array."""
    if name not in found:
        raise ValueError(f"net must have a gradient for each parameter, but has none for {name!r}")
    gradient = np.array(found[name])
    if gradient.shape != array.shape:
        raise ValueError(
            f"net must have a gradient of shape {array.shape} for {name!r}, got {gradient.shape}"
        )
    return gradient


# ---- written once, read at every evaluation ----


class _Written:
    """A network as bytes, to be read often: an evaluation takes a fraction of the time that copy.deepcopy does.

    Parameters
    ----------
    net : Layer
    wide : bool, default False
        Whether its copies have float64 wherever it has float32: parameters, statistics, dtypes that it keeps.
    shared : sequence of ndarrays
        What is not copied.
    """

    def __init__(self, net: Layer, *, wide: bool = False, shared: Sequence[Array] = ()) -> None:
        file = BytesIO()
        self._shared: list[Any] = []
        with np.errstate(invalid="ignore"):  # uninitialised memory may hold anything
            _Writing(file, self._shared, {id(array) for array in shared}, wide).dump(net)
        self._bytes = file.getvalue()

    def read(self) -> Layer:
        """A copy."""
        net: Layer = _Reading(BytesIO(self._bytes), self._shared).load()
        return net


class _Writing(pickle.Pickler):
    """Classes, functions and modules are not written but shared, as deepcopy does."""

    def __init__(self, file: BytesIO, shared: list[Any], shared_ids: set[int], wide: bool) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._shared, self._shared_ids, self._wide = shared, shared_ids, wide

    def persistent_id(self, obj: Any) -> int | None:
        if (
            not isinstance(obj, type | FunctionType | ModuleType)
            and id(obj) not in self._shared_ids
        ):
            return None
        self._shared.append(np.float64 if self._wide and obj is np.float32 else obj)
        return len(self._shared) - 1

    def reducer_override(self, obj: Any) -> Any:
        if self._wide and isinstance(obj, np.ndarray | np.float32) and obj.dtype == np.float32:
            return obj.astype(np.float64).__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        if self._wide and isinstance(obj, np.dtype) and obj == np.float32:
            return np.dtype, ("float64",)
        return NotImplemented


class _Reading(pickle.Unpickler):
    """Reads what _Writing wrote."""

    def __init__(self, file: BytesIO, shared: list[Any]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, pid: Any) -> Any:
        return self._shared[pid]
