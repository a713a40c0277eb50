"""Cases of layer normalisation, over rows of 768."""

from collections.abc import Callable
from typing import Any

import numpy as np

import nnfast as nf
from bench.case import Array, Case, Forms

EPS = 1e-5
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


def layer_norm(x: Array, gamma: Array, beta: Array) -> Array:
    mean, var = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return gamma * (x - mean) / np.sqrt(var + EPS) + beta


def layer_norm_backward(dy: Array, x: Array, gamma: Array) -> tuple[Array, Array, Array]:
    inv_std = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + EPS)
    normalised = (x - x.mean(axis=-1, keepdims=True)) * inv_std
    scaled = gamma * dy
    means = (
        scaled.mean(axis=-1, keepdims=True),
        (scaled * normalised).mean(axis=-1, keepdims=True),
    )
    dx = inv_std * (scaled - means[0] - normalised * means[1])
    return dx, (dy * normalised).sum(axis=0), dy.sum(axis=0)


def rms_norm(x: Array, gamma: Array) -> Array:
    return gamma * x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPS)


def rms_norm_backward(dy: Array, x: Array, gamma: Array) -> tuple[Array, Array]:
    inv_rms = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPS)
    normalised, scaled = x * inv_rms, gamma * dy
    dx = inv_rms * (scaled - normalised * (scaled * normalised).mean(axis=-1, keepdims=True))
    return dx, (dy * normalised).sum(axis=0)


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
