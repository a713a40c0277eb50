"""Networks that tests share."""

from typing import Any

import numpy as np
import pytest

from gradients import Array
from nnfast import nn

F64 = np.float64


def numbers(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


class Doubled(nn.Layer):
    """A layer as a user writes it, with a parameter."""

    def __init__(self) -> None:
        self.factor, self.dfactor = np.full(1, 2.0), np.zeros(1)
        self.x = np.zeros(0)

    def forward(self, x: Any, training: bool = False) -> Array:
        if training:
            self.x = x
        return x * self.factor

    def backward(self, dy: Any) -> Array:
        self.dfactor[...] = (dy * self.x).sum()
        return dy * self.factor

    def named_params(self) -> dict[str, Array]:
        return {"factor": self.factor}

    def named_grads(self) -> dict[str, Array]:
        return {"factor": self.dfactor}


def everything() -> nn.Sequential:
    """A network with all layers that learn or draw, the same at every making."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Dense(6, 8, dtype=F64, rng=0),
        nn.BatchNorm(8, dtype=F64),
        nn.ReLU(),
        nn.Dropout(0.2, rng=1),
        nn.StochasticDepth(
            nn.Sequential(nn.Dense(8, 8, dtype=F64, rng=2), nn.SiLU(), nn.Dropout(0.2, rng=3)),
            0.3,
            rng=4,
        ),
        nn.Sequential(
            nn.DropConnect(8, 8, 0.3, dtype=F64, rng=5), nn.ELU(learn_alpha=True, dtype=F64)
        ),
        nn.Dense(8, 12, dtype=F64, rng=6),
        nn.Maxout(2),
        nn.PReLU(6, dtype=F64),
        Doubled(),
        nn.Dense(6, 4, dtype=F64, rng=7),
        nn.GELU(),
        nn.GLU(),
        nn.Dense(2, 3, dtype=F64, rng=8),
        nn.ReLU(),
        nn.Dropout(0.2, rng=9),
    )


def of_words() -> nn.Sequential:
    """A network of rows of three indices below 7, with the layers that version 0.1 did not have."""
    return nn.Sequential(
        nn.Embedding(7, 6, padding_idx=2, rng=0),
        nn.LayerNorm(6),
        nn.StochasticDepth(
            nn.Sequential(nn.RMSNorm(6), nn.Dense(6, 6, rng=1), nn.SiLU()), 0.3, rng=2
        ),
        nn.GroupNorm(2, 6, axis=-1),
        nn.Tanh(),
        nn.InstanceNorm(6, axis=2),
        nn.Flatten(),
        nn.Dense(18, 6, rng=3),
        nn.LayerNorm((6,)),
        nn.ReLU(),
        nn.Dropout(0.2, rng=4),
        nn.Dense(6, 3, rng=5),
        dtype=F64,
        output=nn.Softmax(),
    )


def of_images() -> nn.Sequential:
    """A small residual network of images of 6 x 5 with two channels, and of sequences within it."""
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False, rng=0),
        nn.BatchNorm(6),
        nn.ReLU(),
        nn.StochasticDepth(
            nn.Sequential(nn.Conv2d(6, 6, 3, padding="same", groups=2, rng=1), nn.BatchNorm(6)),
            0.3,
            rng=2,
        ),
        nn.MaxPool2d(2, padding=1),
        nn.AvgPool2d(2, 1),
        nn.Conv2d(6, 4, (3, 1), axis=1, rng=3),
        nn.SiLU(),
        nn.GlobalAvgPool2d(),
        nn.Dense(4, 3, rng=4),
        dtype=F64,
        output=nn.Softmax(),
    )


NETWORKS = {
    "everything": (everything, (2, 3)),
    "of words": (of_words, (3,)),
    "of images": (of_images, (2, 6, 5)),
}
"""How to make a network, and the shape of a sample."""
every_network = pytest.mark.parametrize(("make", "sample"), NETWORKS.values(), ids=NETWORKS)


def inputs(layer: nn.Layer, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Random numbers, or indices for a layer that takes these."""
    while isinstance(layer, nn.Sequential):
        layer = layer[0]
    if isinstance(layer, nn.Embedding):
        return np.random.default_rng(seed).integers(0, layer.n, shape)
    return numbers(shape, seed)


def leaves(layer: nn.Layer) -> list[nn.Layer]:
    """The layers of nested Sequentials, in sequence."""
    if isinstance(layer, nn.Sequential):
        return [leaf for child in layer for leaf in leaves(child)]
    return [layer]
