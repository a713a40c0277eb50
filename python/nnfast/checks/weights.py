"""Checks of the initial weights: units that stay alike, and values that are not finite."""

import copy
from typing import Any

import numpy as np

from nnfast.checks.copies import Array, Loss, Probe, input_gradient, place
from nnfast.nn import Layer, Sequential


def alike(probe: Probe) -> list[str]:
    """The names of weights whose units are equal and stay so, as their gradients are equal, too.

    Weights of zeros are no fault in a last layer, whose units have different gradients.
    """
    gradients = probe.gradients()
    rounding = 1e-12 * max(np.abs(gradient).max(initial=0) for gradient in gradients.values())
    return [
        name
        for name, weight in probe.params.items()
        if any(_alike(weight, gradients[name], axis, rounding) for axis in (0, -1))
    ]


def _alike(weight: Array, gradient: Array, axis: int, rounding: float) -> bool:
    """Whether slices across an axis are equal, and those of the gradient are to rounding."""
    # An array that is longer than 1 along one axis alone is a bias or a scale, whose gradient may be 0.
    if sum(side > 1 for side in weight.shape) < 2 or weight.shape[axis] < 2:
        return False
    if np.ptp(weight, axis=axis).any():
        return False
    return bool(np.ptp(gradient, axis=axis).max() <= 1e-6 * np.abs(gradient).max() + rounding)


def not_finite(net: Layer, x: Array, y: Any, loss: Loss) -> str:
    """Where the first number comes up that is infinite or NaN, in a training step; or nothing."""
    if not np.isfinite(x).all():
        return "X"
    for name, param in net.named_params().items():
        if not np.isfinite(param).all():
            return f"the parameter {name}"
    copied = copy.deepcopy(net)
    layers = list(copied) if isinstance(copied, Sequential) else [copied]
    with np.errstate(all="ignore"):
        for i, layer in enumerate(layers):
            x = np.array(layer.forward(x, training=True))
            if not np.isfinite(x).all():
                return f"what comes out of {place(net, i)}"
        value, dy = loss(x, y)
        if not (np.isfinite(value) and np.isfinite(dy).all()):
            return "the loss or its gradient"
        for i, layer in reversed(list(enumerate(layers))):
            dx = input_gradient(layer, dy)
            if not all(
                np.isfinite(grad).all() for grad in [*layer.grads, 0.0 if dx is None else dx]
            ):
                return f"a gradient of {place(net, i)}"
            if dx is None:
                break
            dy = np.array(dx)
    return ""
