"""Networks and data that the tests of nnfast.checks share."""

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from gradients import Array
from nnfast import nn


@cache
def digits() -> tuple[Array, Array]:
    """Handwritten digits, standardised, in float32, and their labels."""
    x, labels = load_digits(return_X_y=True)
    deviation = x.std(axis=0)
    return ((x - x.mean(axis=0)) / np.where(deviation, deviation, 1)).astype(np.float32), labels


def dense(*sides: int, activation: Any = nn.ReLU, **options: Any) -> nn.Sequential:
    """Dense layers with an activation between them, the same at every making."""
    rng = np.random.default_rng(0)
    layers: list[nn.Layer] = []
    for n_in, n_out in pairwise(sides):
        layers += [nn.Dense(n_in, n_out, rng=rng, **options), activation()]
    return nn.Sequential(*layers[:-1])


class Own(nn.Layer):
    """A layer of a user's, out of two functions of x and, backward, of dy and x."""

    def __init__(self, forward: Any, backward: Any) -> None:
        self.functions = forward, backward
        self.x: Any = None

    def forward(self, x: Any, training: bool = False) -> Array:
        self.x = x
        y: Array = self.functions[0](x)
        return y

    def backward(self, dy: Any) -> Array:
        dx: Array = self.functions[1](dy, self.x)
        return dx


class State:
    """What a check must leave as it is: bits of all arrays, streams of random numbers, settings."""

    def __init__(self, net: nn.Layer, *arrays: Array) -> None:
        self._net, self._arrays = net, arrays
        self._before = self._now()

    def _now(self) -> list[Any]:
        layers, streams = [self._net], []
        while layers:
            layer = layers.pop()
            layers += layer._children()
            if hasattr(layer, "_rng"):
                streams.append(str(layer._rng.bit_generator.state))
        named = self._net.named_params() | self._net.named_statistics()
        arrays = [*named.values(), *self._net.grads, *self._arrays]
        return [*(array.tobytes() for array in arrays), *streams, repr(self._net)]

    def assert_same(self) -> None:
        assert self._now() == self._before
