"""Cases of batch normalization, of square matrices and of images; of groups and single channels of images."""

from collections.abc import Callable
from typing import Any

import numpy as np

import nnfast as nf
from bench.case import Array, Case, Forms, square
from tests.reference import normalization as reference

MOMENTUM = 0.1
Inputs = Callable[[int, np.random.Generator], dict[str, Array]]


GROUPS = 8


def matrix(n: int) -> tuple[int, ...]:
    """As many rows as channels."""
    return square(n)


def images(n: int) -> tuple[int, ...]:
    """A batch of images of a hidden layer."""
    channels, side = (16, 8) if n < 1e5 else (64, 32)
    return max(2, n // (channels * side**2)), channels, side, side


def inputs(shape: Callable[[int], tuple[int, ...]]) -> Inputs:
    """x, parameters and running statistics."""

    def make(n: int, rng: np.random.Generator) -> dict[str, Array]:
        size = shape(n)
        return {
            "x": rng.normal(1, 2, size),
            "gamma": rng.uniform(0.5, 2, size[1]),
            "beta": rng.standard_normal(size[1]),
            "running_mean": rng.normal(1, 0.1, size[1]),
            "running_var": rng.uniform(3, 5, size[1]),
        }

    return make


def without_running(make: Inputs) -> Inputs:
    """The same without running statistics."""
    kept = "x", "gamma", "beta"
    return lambda n, rng: {name: array for name, array in make(n, rng).items() if name in kept}


def channels_last(make: Inputs) -> Inputs:
    """The same, an image's channels next to each other in memory."""

    def last(a: Array) -> Array:
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)

    return lambda n, rng: {
        name: last(array) if array.ndim > 1 else array for name, array in make(n, rng).items()
    }


def backward_inputs(make: Inputs) -> Inputs:
    """dy, x, gamma."""

    def backward(n: int, rng: np.random.Generator) -> dict[str, Array]:
        arrays = make(n, rng)
        dy = rng.standard_normal(arrays["x"].shape)
        return {"dy": dy, "x": arrays["x"], "gamma": arrays["gamma"]}

    return backward


def batch_norm(
    x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array
) -> Array:
    """As it is usually written, running statistics included."""
    axes, _ = reference.per_channel(x)
    mean, var, n = x.mean(axis=axes), x.var(axis=axes), x.size // x.shape[1]
    running_mean += MOMENTUM * (mean - running_mean)
    running_var += MOMENTUM * (var * (n / (n - 1)) - running_var)
    return reference.batch_norm_inference(x, gamma, beta, mean, var)


def inference(
    x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array
) -> Array:
    return reference.batch_norm_inference(x, gamma, beta, running_mean, running_var)


def group_norm(x: Array, gamma: Array, beta: Array) -> Array:
    return reference.group_norm(x, GROUPS, gamma, beta)


def group_norm_backward(dy: Array, x: Array, gamma: Array) -> tuple[Array, Array, Array]:
    return reference.group_norm_backward(dy, x, GROUPS, gamma)


def instance_norm(x: Array, gamma: Array, beta: Array) -> Array:
    return reference.group_norm(x, x.shape[1], gamma, beta)


def instance_norm_backward(dy: Array, x: Array, gamma: Array) -> tuple[Array, Array, Array]:
    return reference.group_norm_backward(dy, x, x.shape[1], gamma)


def forms(training: bool) -> object:
    """The calls in training, which update copies of the running statistics, or in inference."""

    def make(x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array) -> Forms:
        arguments = x, gamma, beta, running_mean.copy(), running_var.copy()
        out = np.empty_like(x)
        return {
            "out": lambda: nf.batch_norm(*arguments, training=training, out=out)[0],
            "allocating": lambda: nf.batch_norm(*arguments, training=training)[0],
        }

    return make


def backward_forms(dy: Array, x: Array, gamma: Array) -> Forms:
    _, saved = nf.batch_norm(x, gamma, training=True)
    out = np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)
    return {
        "out": lambda: nf.batch_norm_backward(dy, x, gamma, saved, out=out),
        "allocating": lambda: nf.batch_norm_backward(dy, x, gamma, saved),
    }


def stats_forms(x: Array) -> Forms:
    """Mean and sum of squares of a batch."""

    def call() -> tuple[Array, Array]:
        stats = nf.batch_norm_stats(x)
        return stats.mean, stats.m2

    return {"allocating": call}


def group_forms(function: Callable[..., Any]) -> Callable[..., Forms]:
    """function(x, gamma, beta, out=)."""

    def make(x: Array, gamma: Array, beta: Array) -> Forms:
        out = np.empty_like(x)
        return {
            "out": lambda: function(x, gamma, beta, out=out)[0],
            "allocating": lambda: function(x, gamma, beta)[0],
        }

    return make


def group_backward_forms(
    forward: Callable[..., Any], backward: Callable[..., Any]
) -> Callable[..., Forms]:
    """backward(dy, x, gamma, saved, out=)."""

    def make(dy: Array, x: Array, gamma: Array) -> Forms:
        _, saved = forward(x, gamma, None)
        out = np.empty_like(x), np.empty_like(gamma), np.empty_like(gamma)
        return {
            "out": lambda: backward(dy, x, gamma, saved, out=out),
            "allocating": lambda: backward(dy, x, gamma, saved),
        }

    return make


def in_groups(x: Array, gamma: Array, beta: Array | None, out: Array | None = None) -> Any:
    """group_norm with the suite's number of groups."""
    return nf.group_norm(x, GROUPS, gamma, beta, out=out)


OF_MATRIX, OF_IMAGES = inputs(matrix), inputs(images)
OF_GROUPS = without_running(OF_IMAGES)

CASES = [
    Case("batch_norm", OF_MATRIX, batch_norm, forms(training=True)),
    Case("batch_norm images", OF_IMAGES, batch_norm, forms(training=True)),
    Case("batch_norm inference", OF_MATRIX, inference, forms(training=False)),
    Case(
        "batch_norm_backward",
        backward_inputs(OF_MATRIX),
        reference.batch_norm_backward,
        backward_forms,
    ),
    Case(
        "batch_norm_backward images",
        backward_inputs(OF_IMAGES),
        reference.batch_norm_backward,
        backward_forms,
    ),
    Case(
        "batch_norm_stats",
        lambda n, rng: {"x": OF_MATRIX(n, rng)["x"]},
        reference.batch_norm_stats,
        stats_forms,
    ),
    Case("group_norm", OF_GROUPS, group_norm, group_forms(in_groups)),
    Case(
        "group_norm_backward",
        backward_inputs(OF_IMAGES),
        group_norm_backward,
        group_backward_forms(in_groups, nf.group_norm_backward),
    ),
    Case("group_norm last", channels_last(OF_GROUPS), group_norm, group_forms(in_groups)),
    Case(
        "group_norm_backward last",
        channels_last(backward_inputs(OF_IMAGES)),
        group_norm_backward,
        group_backward_forms(in_groups, nf.group_norm_backward),
    ),
    Case("instance_norm", OF_GROUPS, instance_norm, group_forms(nf.instance_norm)),
    Case(
        "instance_norm_backward",
        backward_inputs(OF_IMAGES),
        instance_norm_backward,
        group_backward_forms(nf.instance_norm, nf.instance_norm_backward),
    ),
]
