"""Checks of the data: the scale of features, and whether batches mix the classes."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnfast.checks.copies import Array
from nnfast.nn import Conv1d, Conv2d, Dense, Dropout, Layer, Sequential

# A feature above the first is too large: standardised it has 1, raw bytes 100. Features are too small if all are below
# the second and the samples as a whole below the third, which those of many rare features are not. Ranges may differ by
# the fourth: a pixel that is rarely lit still has one of 1/255.
_LARGE, _SMALL, _SMALL_SAMPLE, _APART = 10.0, 1e-2, 0.1, 1e3


class Scale(NamedTuple):
    """The scale of the features that are input to the first layer with weights."""

    size: float
    """The largest root mean square of a feature."""
    sample: float
    """The root mean square of the samples' norms."""
    apart: float
    """The ratio of the largest range of a feature to the smallest, constant features excepted."""

    def fault(self) -> str:
        """A description of what is wrong, or an empty string."""
        if self.size > _LARGE:
            return f"a feature has a root mean square of {self.size:.3g}"
        if self.size < _SMALL and self.sample < _SMALL_SAMPLE:
            return f"no feature has a root mean square above {self.size:.3g}"
        if self.apart > _APART:
            return f"features have ranges that differ by a factor of {self.apart:.2g}"
        return ""


def scale_of_input(net: Layer, x: Array) -> Scale | None:
    """The scale of the input; None for integers that a user-defined layer takes, as they may be indices."""
    layer, x = _first_weights(copy.deepcopy(net), x)
    if x.dtype.kind != "f" and not isinstance(layer, Dense | Conv2d | Conv1d):
        return None
    features = x.reshape(len(x), -1).astype(np.float64)
    squares, ranges = np.square(features).mean(axis=0), np.ptp(features, axis=0)
    varied = ranges[ranges > 1e-6 * np.sqrt(squares)]
    apart = float(varied.max() / varied.min()) if varied.size else 1.0
    return Scale(float(np.sqrt(squares.max(initial=0))), float(np.sqrt(squares.sum())), apart)


def _first_weights(net: Layer, x: Array) -> tuple[Layer, Array]:
    """The first layer with weights, and its input, which is normalized already if a BatchNorm precedes it."""
    if not isinstance(net, Sequential):
        return net, x
    for layer in net:
        if any(param.ndim > 1 for param in layer.params):
            return _first_weights(layer, x)
        if not isinstance(layer, Dropout):
            x = np.array(layer.forward(x, training=True))
    return net, x


class Mixture(NamedTuple):
    """The mixture of classes in batches."""

    found: float
    """The mean number of classes in a batch."""
    expected: float
    """The expected number in batches that are drawn at random."""
    deviations: float
    """The difference of the two, in standard deviations."""

    @property
    def mixed(self) -> bool:
        """Whether a batch has at least half as many classes besides the first as a random one, or fewer by chance."""
        return self.found - 1 >= 0.5 * (self.expected - 1) or self.deviations < 4


def mixture(labels: NDArray[np.intp], batches: list[NDArray[np.intp]]) -> Mixture:
    """The mixture of batches, given the labels of all rows and of each batch."""
    _, counts = np.unique(labels, return_counts=True)
    shares = counts / counts.sum()
    found, expected, variance = 0, 0.0, 0.0
    for batch in batches:
        present = 1 - (1 - shares) ** len(batch)
        found += len(np.unique(batch))
        expected += float(present.sum())
        # Classes crowd each other out of a batch: how many it has varies less than this.
        variance += float((present * (1 - present)).sum())
    deviations = (expected - found) / max(variance, 1e-12) ** 0.5
    return Mixture(found / len(batches), expected / len(batches), deviations)
