"""Statistics of a network by layer: a forward and a backward pass over a copy of it, each layer by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks, nn
from nnfast.losses import softmax_cross_entropy
from nnfast.monitor.arrays import Statistics, statistics
from nnfast.nn.layer import KernelLayer, Layer, Shape
from nnfast.nn.stages import runs_as_written, stage_of

Array = NDArray[Any]
Loss = Callable[[Array, Any], tuple[float, Array]]

SATURATED = 0.05
"""An element is saturated where its activation's slope is below this share of the steepest."""

# The steepest slopes of the activations that have a floor and a ceiling.
_STEEPEST: dict[type[Layer], float] = {
    nn.Tanh: 1.0,
    nn.Sigmoid: 1 / 4,
    nn.Softsign: 1.0,
    nn.Hardtanh: 1.0,
    nn.Hardsigmoid: 1 / 6,
}


@dataclass(frozen=True)
class NonFinite:
    """Where a NaN or an infinity was seen first.

    Parameters
    ----------
    step : int
        The steps that were recorded by then, this one among them.
    where : str
        "input", "parameter", "forward", "loss", "backward" or "gradient", which is of an activation or a
        parameter.
    name : str, default ""
        Of the layer ("3"), the parameter ("3.weight") or the activation; empty for input and loss.

    Examples
    --------
    >>> import nnfast as nf
    >>> print(nf.monitor.NonFinite(412, "forward", "3"))
    step 412: not finite: forward of layer 3
    """

    step: int
    where: str
    name: str = ""

    def __str__(self) -> str:
        kind = {"forward": " of layer", "backward": " of layer", "gradient": " with respect to"}
        return f"step {self.step}: not finite: {self.where}{kind.get(self.where, '')} {self.name}".rstrip()


@dataclass(frozen=True)
class LayerStatistics:
    """What a look saw of a layer.

    Parameters
    ----------
    name : str
        Its place in the network, as in ``named_params``: "3", "5.branch.0".
    layer : str
        What it is: "ReLU()".
    activation : Statistics
        Statistics of y, in training.
    gradient : Statistics or None
        Statistics of the gradient with respect to y; None without a loss, or where the backward pass does not
        reach.
    dead : float
        The share of units, in [0, 1], that are 0 for the whole batch. A unit is a place in a sample.
    saturated : float
        The share of elements, in [0, 1], where the slope is below 0.05 of the steepest; NaN but for Tanh,
        Sigmoid, Softsign, Hardtanh and Hardsigmoid. Of tanh it is where |y| > 0.975.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> net = nf.nn.Sequential(nf.nn.Dense(2, 2, rng=0), nf.nn.ReLU(), nf.nn.Dense(2, 2, rng=1))
    >>> net[0].weight[...] = np.eye(2)
    >>> net[0].bias[...] = [-100, 0]  # the first unit never fires
    >>> seen = nf.monitor.look(net, np.array([[1.0, 1.0], [0.5, 1.0]])).layers[1]
    >>> seen.name, seen.layer, seen.dead, seen.activation.zeros
    ('1', 'ReLU()', 0.5, 0.5)
    """

    name: str
    layer: str
    activation: Statistics
    gradient: Statistics | None
    dead: float
    saturated: float


@dataclass(frozen=True)
class Look:
    """A network as a batch shows it, layer by layer; printed, it is a table.

    Parameters
    ----------
    step : int
        The steps that were recorded by then.
    loss : float
        The loss of the batch; NaN without targets.
    layers : tuple of LayerStatistics
        In the order of the forward pass. The inside of a residual branch comes before the layer it belongs to.
    first_nonfinite : NonFinite or None
        The first NaN or infinity on the way forward and back, or None.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> net = nf.nn.Sequential(nf.nn.Dense(2, 2, rng=0), nf.nn.Tanh())
    >>> net[0].weight[...] = np.eye(2)
    >>> print(nf.monitor.look(net, np.array([[4.0, 0.0], [-4.0, 0.0]]), [0, 1]))
    0 steps, loss 0.313442
       layer        mean       std  zeros  dead  saturated  gradient norm
    0  Dense(2, 2)     0   2.82843    50%   50%          -       0.190264
    1  Tanh()          0  0.706633    50%   50%        50%       0.269073
    """

    step: int
    loss: float
    layers: tuple[LayerStatistics, ...]
    first_nonfinite: NonFinite | None

    def __str__(self) -> str:
        head = f"{self.step:,} steps, loss {self.loss:g}"
        rows = [_TITLES, *map(_row, self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
        return "\n".join([head, *lines, *filter(None, [str(self.first_nonfinite or "")])])


def look(
    net: Layer,
    x: ArrayLike,
    y: Any = None,
    *,
    loss: Loss = softmax_cross_entropy,
    step: int = 0,
) -> Look:
    """The activations and gradients of every layer for a batch, in training, of a network that is not changed.

    Parameters
    ----------
    net : nn.Sequential, or another Layer
        It is copied, with its parameters, statistics, generators and what it keeps for its backward pass; the passes
        are made over the copy, which draws the dropout masks that the network will draw next. What a layer of your own
        holds inside is not looked into.
    x : array_like
        A batch, as net takes it: a few hundred samples say enough.
    y : optional
        What loss takes besides net's output: labels, targets. Without it there is no loss and no backward pass.
    loss : function, default nnfast.softmax_cross_entropy
        ``loss(output, y)`` gives the loss and its gradient with respect to the output.
    step : int, default 0
        What the Look says of when it was.

    Returns
    -------
    Look
        The statistics of each layer; printed, a table.

    Raises
    ------
    TypeError
        If net is no Layer, or x is not of real numbers.
    ValueError
        If net does not take x in training, x is empty, or loss does not take y.

    Notes
    -----
    Memory: a copy of the network, its activations and a float64 copy of the largest of these. A Look itself takes about
    3 kB a layer.

    References
    ----------
    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010; CS231n, neural
    networks part 3, activation and gradient distributions.

    Examples
    --------
    Ten layers of tanh with weights of 0.01: what they give goes to 0 with depth.

    >>> import numpy as np, nnfast as nf
    >>> small = lambda shape, dtype, rng: nf.init.normal(shape, 0, 0.01, dtype=dtype, rng=rng)
    >>> layers = [[nf.nn.Dense(100, 100, init=small, rng=i), nf.nn.Tanh()] for i in range(10)]
    >>> net = nf.nn.Sequential(*sum(layers, []))
    >>> seen = nf.monitor.look(net, np.random.default_rng(0).standard_normal((50, 100)))
    >>> [f"{layer.activation.std:.0e}" for layer in seen.layers[1::8]]
    ['1e-01', '1e-05', '1e-09']
    """
    if not isinstance(net, Layer):
        raise TypeError(f"net must be a nnfast.nn.Layer, got {type(net).__name__}")
    x = _array(x, "x", net._takes_indices)
    net.output_shape(x.shape, True)
    found = _Found(_checks.integer_from(step, 0, "step"))
    found.check(x, "input")
    watched = _watched(deepcopy(net), "", found)
    value = math.nan
    with np.errstate(all="ignore"):
        output = watched.forward(x, training=True)
        if y is not None:
            given, dy = loss(output, y)
            value = _checks.real(given, "loss")
            found.check(value, "loss")
            found.check(dy, "loss")
            watched.backward(dy)
    layers = tuple(watch.statistics() for watch in found.watches)
    return Look(found.step, value, layers, found.first)


def look_at(
    activations: Mapping[str, ArrayLike], gradients: Mapping[str, ArrayLike], step: int
) -> Look:
    """The statistics of arrays by name, activations in the order of the forward pass."""
    if not activations:
        raise ValueError("activations must hold at least one array, got none")
    if unknown := gradients.keys() - activations.keys():
        raise ValueError(f"gradients must have names of activations, got {min(unknown)!r}")
    found = _Found(step)
    for name, value in activations.items():
        found.check(_array(value, f"activations[{name!r}]"), "forward", name)
    for name in reversed(list(activations)):
        if name in gradients:
            found.check(_array(gradients[name], f"gradients[{name!r}]"), "gradient", name)
    layers = [
        LayerStatistics(
            name,
            "",
            statistics(value),
            statistics(gradients[name]) if name in gradients else None,
            _dead(np.asarray(value)),
            math.nan,
        )
        for name, value in activations.items()
    ]
    return Look(step, math.nan, tuple(layers), found.first)


class _Found:
    """What the layers report during a look."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.watches: list[_Watch] = []
        self.first: NonFinite | None = None

    def check(self, values: ArrayLike, where: str, name: str = "") -> None:
        """Note these values if they are the first that are not finite."""
        if self.first is None and not np.isfinite(values).all():
            self.first = NonFinite(self.step, where, name)


class _Watch(KernelLayer):
    """A layer and what reports of it: a class of its own, so that it is fused with no neighbour.

    Whatever the network allows, it writes into nothing that it is given.
    """

    def __init__(self, layer: Layer, name: str, found: _Found) -> None:
        self._stage = stage_of(layer)
        super().__init__(self._stage._dtype)
        self._layer, self._name, self._found = layer, name, found
        self._takes_indices = layer._takes_indices
        self._of_y: Statistics
        self._of_dy: Statistics | None = None
        self._dead = self._saturated = math.nan

    def statistics(self) -> LayerStatistics:
        """The statistics of the layer in this look."""
        shares = self._dead, self._saturated
        layer = self._layer
        # Layers within this one have lines of their own.
        text = f"{type(layer).__name__}(...)" if layer._children() else repr(layer)
        return LayerStatistics(self._name, text, self._of_y, self._of_dy, *shares)

    def named_params(self) -> dict[str, Array]:
        return self._layer.named_params()

    def named_grads(self) -> dict[str, Array]:
        return self._layer.named_grads()

    def output_shape(self, input_shape: Shape, training: bool = False) -> Shape:
        return self._layer.output_shape(input_shape, training)

    def _train(self, x: Array, overwrite: bool) -> Array:
        for name, param in self._layer.named_params().items():
            self._found.check(param, "parameter", f"{self._name}.{name}")
        y = self._stage._train(x, False)
        self._found.check(y, "forward", self._name)
        self._of_y, self._dead = statistics(y), _dead(y)
        steepest = _STEEPEST.get(type(self._layer))
        if steepest is not None:
            slopes: Any = self._stage._backward(np.ones_like(y), False, True)
            self._saturated = float(np.mean(slopes < SATURATED * steepest))
        return y

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        self._of_dy = statistics(dy)
        dx = self._stage._backward(dy, False, need_dx)
        if dx is not None:
            self._found.check(dx, "backward", self._name)
        return dx


def _watched(layer: Layer, name: str, found: _Found) -> KernelLayer:
    """The layer with a watch around each that stands in it."""
    if runs_as_written(layer):
        if isinstance(layer, nn.Sequential):
            inside = f"{name}." if name else ""
            return nn.Sequential(
                *(_watched(child, f"{inside}{i}", found) for i, child in enumerate(layer))
            )
        if isinstance(layer, nn.StochasticDepth):
            layer._branch = _watched(layer.branch, f"{name}.branch".lstrip("."), found)
    watch = _Watch(layer, name or "net", found)
    found.watches.append(watch)
    return watch


def _dead(y: Array) -> float:
    """The share of places in a sample where all samples have 0."""
    rows = y.reshape(len(y), -1) if y.ndim > 1 else y.reshape(-1, 1)
    return float(np.mean(~rows.any(axis=0)))


def _array(value: ArrayLike, name: str, of_indices: bool = False) -> Array:
    array = (
        _arrays.plain(value, name) if of_indices else _arrays.floating(value, name, float16=True)
    )
    if not array.size:
        raise ValueError(f"{name} must hold at least one number, got none")
    return array


# ---- the table ----

_TITLES = ("", "layer", "mean", "std", "zeros", "dead", "saturated", "gradient norm")


def _row(seen: LayerStatistics) -> tuple[str, ...]:
    """A layer's line."""
    shares = (seen.activation.zeros, seen.dead, seen.saturated)
    norm = math.nan if seen.gradient is None else seen.gradient.norm
    return (
        seen.name,
        seen.layer,
        f"{seen.activation.mean:g}",
        f"{seen.activation.std:g}",
        *("-" if math.isnan(share) else f"{share:.0%}" for share in shares),
        "-" if math.isnan(norm) else f"{norm:g}",
    )


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    """Words to the left, numbers to the right."""
    return [
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
