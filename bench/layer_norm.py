"""Cases of layer normalization, over rows of 768."""

from collections.abc import Callable
from typing import Any

import numpy as np

import nnfast as nf
from bench.case import Array, Case, Forms
from tests.reference.normalization import (
    EPS,
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)

WIDTH = 768


def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    width = min(n, WIDTH)
    return {
        "x": rng.normal(1, 2, (max(1, n // width), width)),
        "gamma": rng.uniform(0.5, 2, width),
        "beta": rng.standard_normal(width),
    }


def rms_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    arrays = inputs(n, rng)
    return {"x": arrays["x"], "gamma": arrays["gamma"]}


def backward_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    arrays = rms_inputs(n, rng)
    return {"dy": rng.standard_normal(arrays["x"].shape)} | arrays


def forms(function: Callable[..., Any]) -> Callable[..., Forms]:
    """function(x, parameters, eps=, out=)."""

    def make(x: Array, **parameters: Array) -> Forms:
        out = np.empty_like(x)
        return {
            "out": lambda: function(x, **parameters, eps=EPS, out=out)[0],
            "allocating": lambda: function(x, **parameters, eps=EPS)[0],
        }

    return make


def backward_forms(
    forward: Callable[..., Any], backward: Callable[..., Any], gradients: int
) -> Callable[..., Forms]:
    """backward(dy, x, gamma, saved, out=), which returns dx and so many gradients of parameters."""

    def make(dy: Array, x: Array, gamma: Array) -> Forms:
        _, saved = forward(x, gamma, eps=EPS)
        out = (np.empty_like(x), *(np.empty_like(gamma) for _ in range(gradients)))
        return {
            "out": lambda: backward(dy, x, gamma, saved, out=out),
            "allocating": lambda: backward(dy, x, gamma, saved),
        }

    return make


CASES = [
    Case("layer_norm", inputs, layer_norm, forms(nf.layer_norm)),
    Case(
        "layer_norm_backward",
        backward_inputs,
        layer_norm_backward,
        backward_forms(nf.layer_norm, nf.layer_norm_backward, 2),
    ),
    Case("rms_norm", rms_inputs, rms_norm, forms(nf.rms_norm)),
    Case(
        "rms_norm_backward",
        backward_inputs,
        rms_norm_backward,
        backward_forms(nf.rms_norm, nf.rms_norm_backward, 1),
    ),
]
