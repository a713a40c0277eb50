"""Neighbours that share a pass over memory: a bias and its activation, BatchNorm and ReLU.

They give the same bits as one by one; the layers stay what the user wrote, and keep the parameters.
"""

from __future__ import annotations  # numpy.random is not loaded before it is needed

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from nnfast import bias
from nnfast.dropout import Mask, bias_relu_dropout, bias_relu_dropout_backward
from nnfast.nn import activations
from nnfast.nn.dense import Dense
from nnfast.nn.layer import Array, Buffer, Layer
from nnfast.nn.regular import BatchNorm, Dropout
from nnfast.nn.stages import Stage, runs_as_written, stage_of

_Function = Callable[..., Any]
_BIASED: dict[type[activations.Activation], tuple[_Function, _Function]] = {
    activations.ReLU: (bias.bias_relu, bias.bias_relu_backward),
    activations.Tanh: (bias.bias_tanh, bias.bias_tanh_backward),
    activations.GELU: (bias.bias_gelu, bias.bias_gelu_backward),
    activations.SiLU: (bias.bias_silu, bias.bias_silu_backward),
}


class _AfterProduct:
    """The base of stages that add the bias of a dense layer in the pass of the activation that follows."""

    _in_place = _is_view = False

    def __init__(self, dense: Dense) -> None:
        assert dense.bias is not None
        self._dense, self._bias, self._dtype = dense, dense.bias, dense._dtype
        self._dz = Buffer()  # only for a dy that may not be written

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        dz = dy if overwrite else self._dz.take(dy.shape, dy.dtype)
        self._gradients(dy, (dz, self._dense._own_grads["bias"]))
        return self._dense._product_backward(dz, need_dx)

    def _gradients(self, dy: Array, out: tuple[Array, Array]) -> None:
        """Write the gradients with respect to the product and to the bias."""
        raise NotImplementedError


class BiasedActivation(_AfterProduct):
    """Dense with a bias, then relu, gelu, silu or tanh, in one stage."""

    def __init__(self, dense: Dense, activation: activations.Activation) -> None:
        super().__init__(dense)
        options = (
            {"approximate": activation._args[0]} if type(activation) is activations.GELU else {}
        )
        self._forward, self._derivative = (
            partial(function, **options) for function in _BIASED[type(activation)]
        )
        self._keeps_output = activation._keeps_output
        self._y = Buffer()
        self._saved: tuple[Array, ...] = ()

    def _train(self, x: Array, overwrite: bool) -> Array:
        z = self._dense._product(x)
        if self._keeps_output:
            y: Array = self._forward(z, self._bias, out=z)
            self._saved = (y,)
        else:
            y = self._forward(z, self._bias, out=self._y.take(z.shape, z.dtype))
            self._saved = z, self._bias
        return y

    def _gradients(self, dy: Array, out: tuple[Array, Array]) -> None:
        self._derivative(dy, *self._saved, out=out)

    def _infer(self, x: Array, overwrite: bool) -> Array:
        z = self._dense._inferred_product(x)
        y: Array = self._forward(z, self._bias, out=z)
        return y


class BiasedReLUDropout(_AfterProduct):
    """Dense with a bias, ReLU, and inverted dropout: a bit an element is all that the gradient needs."""

    _keeps_output = False

    def __init__(self, dense: Dense, dropout: Dropout) -> None:
        super().__init__(dense)
        self._dropout = dropout
        self._bits = Buffer()
        self._mask: Mask = np.empty(0, np.uint8)

    def _train(self, x: Array, overwrite: bool) -> Array:
        z = self._dense._product(x)
        drop = self._dropout
        self._mask = self._bits.take(((z.size + 7) // 8,), np.uint8)
        seed, offset = drop._place(z)
        self._p = drop.p  # backward takes the same, whatever becomes of it
        bias_relu_dropout(z, self._bias, self._p, rng=seed, offset=offset, out=(z, self._mask))
        return z

    def _gradients(self, dy: Array, out: tuple[Array, Array]) -> None:
        bias_relu_dropout_backward(dy, self._mask, self._p, out=out)

    def _infer(self, x: Array, overwrite: bool) -> Array:
        z = self._dense._inferred_product(x)
        y: Array = bias.bias_relu(z, self._bias, out=z)
        return y


class NormalisedReLU:
    """BatchNorm and ReLU in one stage."""

    _keeps_output = _in_place = _is_view = False

    def __init__(self, norm: BatchNorm) -> None:
        self._norm, self._dtype = norm, norm._dtype

    def _train(self, x: Array, overwrite: bool) -> Array:
        return self._norm._normalized(x, "relu")

    def _backward(self, dy: Array, overwrite: bool, need_dx: bool) -> Array | None:
        return self._norm._backward(dy, overwrite, need_dx)

    def _infer(self, x: Array, overwrite: bool) -> Array:
        return self._norm._inferred(x, overwrite, "relu")


# ---- which layers are fused ----


def _relu_dropout(layers: Sequence[Layer]) -> Stage | None:
    match layers:
        case [
            Dense(bias=np.ndarray()) as dense,
            activations.ReLU(),
            Dropout(mode="inverted") as d,
            *_,
        ]:
            return BiasedReLUDropout(dense, d)
    return None


def _biased(layers: Sequence[Layer]) -> Stage | None:
    match layers:
        case [Dense(bias=np.ndarray()) as dense, activations.Activation() as activation, *_]:
            if type(activation) in _BIASED:
                return BiasedActivation(dense, activation)
    return None


def _normalized(layers: Sequence[Layer]) -> Stage | None:
    match layers:
        case [BatchNorm() as norm, activations.ReLU(), *_]:
            return NormalisedReLU(norm)
    return None


# How many layers each takes, longest first.
JOINS: list[tuple[int, Callable[[Sequence[Layer]], Stage | None]]] = [
    (3, _relu_dropout),
    (2, _biased),
    (2, _normalized),
]


def stages_of(layers: list[Layer]) -> list[tuple[Stage, list[Layer]]]:
    """The stages that run these layers, each with the layers that it stands for."""
    found: list[tuple[Stage, list[Layer]]] = []
    while layers:
        stage, count = _next_stage(layers)
        found.append((stage, layers[:count]))
        layers = layers[count:]
    return found


def _next_stage(layers: list[Layer]) -> tuple[Stage, int]:
    for count, join in JOINS:
        # A layer with user-defined methods runs in a ForeignStage, and is not fused.
        if all(runs_as_written(layer) for layer in layers[:count]):
            joined = join(layers)
            if joined is not None:
                return joined, count
    return stage_of(layers[0]), 1
