"""The network of the estimators: hidden layers of Dense, BatchNorm, an activation, Dropout; a last Dense; or given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nnfast import _checks, init, nn
from nnfast.nn.activations import Activation

MakesLayer = Callable[[], nn.Layer]
Layers = nn.Layer | Sequence[nn.Layer]
HowToMakeLayers = Layers | Callable[[np.random.Generator], Layers] | None

# Their output is half as wide as their input.
_HALVING: dict[str, MakesLayer] = {
    "maxout": partial(nn.Maxout, 2),
    "glu": nn.GLU,
    "geglu": nn.GEGLU,
    "swiglu": nn.SwiGLU,
}
_LAYERS = (getattr(nn, name) for name in nn.__all__)
_ELEMENTWISE: dict[str, MakesLayer] = {
    layer._name: layer for layer in _LAYERS if issubclass(layer, Activation)
} | {"logistic": nn.Sigmoid, "gelu_tanh": partial(nn.GELU, "tanh")}
ACTIVATIONS = ("identity", *_ELEMENTWISE, *_HALVING, "rrelu")

# Activations with Xavier's initial weights; the others have He's, which allow for the half that ReLU cuts off.
_XAVIER = ("identity", "logistic", "sigmoid", "hardsigmoid", "tanh", "hardtanh", "softsign")


def network(
    sizes: list[int],
    *,
    activation: str | MakesLayer,
    batch_norm: bool,
    dropout: float,
    init: str | init.Initialiser,
    dtype: DTypeLike,
    rng: np.random.Generator,
) -> nn.Sequential:
    """The network for as many inputs, units of each hidden layer and outputs."""
    layers: list[nn.Layer] = []
    inner = _first_weights(activation) if init == "auto" else init
    wide = 2 if activation in _HALVING else 1
    for n_in, n_out in pairwise(sizes[:-1]):
        # BatchNorm takes a bias away again.
        layers.append(
            nn.Dense(n_in, wide * n_out, bias=not batch_norm, dtype=dtype, init=inner, rng=rng)
        )
        if batch_norm:
            layers.append(nn.BatchNorm(wide * n_out, dtype=dtype))
        layers += _activation(activation, n_out, dtype, rng)
        if dropout:
            layers.append(nn.Dropout(dropout, rng=rng))
    # All classes are equally likely at first: the loss is log(n_classes).
    last = "zeros" if init == "auto" else init
    layers.append(nn.Dense(*sizes[-2:], dtype=dtype, init=last, rng=rng))
    return nn.Sequential(*layers, dtype=dtype)  # layers that a function makes take it, too


def given_network(layers: Any, dtype: DTypeLike, rng: np.random.Generator) -> nn.Sequential:
    """The network of copies of the given layers, or of those that a function makes."""
    is_function = callable(layers) and not isinstance(layers, nn.Layer)
    made = layers(rng) if is_function else deepcopy(layers)
    return nn.Sequential(*([made] if isinstance(made, nn.Layer) else made), dtype=dtype)


def check_layers(layers: Any) -> None:
    """Check that they are layers, or a function."""
    if callable(layers):  # as layers are, too
        return
    if not isinstance(layers, list | tuple):
        raise TypeError(
            "layers must be layers of nnfast.nn or a function that makes them, "
            f"got {type(layers).__name__}"
        )
    for i, layer in enumerate(layers):
        if not isinstance(layer, nn.Layer):
            raise TypeError(f"layers[{i}] must be a Layer, got {type(layer).__name__}")


def check_activation(activation: Any) -> None:
    """Check a name, or a function."""
    if isinstance(activation, nn.Layer):
        raise TypeError(
            f"activation must be a name or a function that makes a layer, got {activation!r}"
        )
    if not callable(activation):
        _checks.one_of(activation, ACTIVATIONS, "activation")


def _activation(
    activation: str | MakesLayer, width: int, dtype: DTypeLike, rng: np.random.Generator
) -> list[nn.Layer]:
    """The layer by its name, or that a function makes; none for the identity."""
    if activation == "identity":
        return []
    if activation == "prelu":
        return [nn.PReLU(dtype=dtype)]
    if activation == "rrelu":
        return [nn.RReLU(rng=rng)]
    if isinstance(activation, str):
        return [(_ELEMENTWISE | _HALVING)[activation]()]
    layer = activation()
    if not isinstance(layer, nn.Layer):
        raise TypeError(f"activation must make a Layer, got {type(layer).__name__}")
    if layer.output_shape((2, width)) != (2, width):
        raise ValueError(f"activation must make a layer that keeps the shape of x, got {layer!r}")
    return [layer]


def _first_weights(activation: str | MakesLayer) -> str:
    if activation == "selu":
        return "lecun"
    return "xavier" if activation in _XAVIER else "he"
