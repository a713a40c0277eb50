"""Cases of batch normalisation, with as many rows as channels."""

import numpy as np

import nnfast as nf
from bench.case import Array, Case, Forms, square

EPS, MOMENTUM = 1e-5, 0.1


def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    rows, channels = square(n)
    return {
        "x": rng.normal(1, 2, (rows, channels)),
        "gamma": rng.uniform(0.5, 2, channels),
        "beta": rng.standard_normal(channels),
        "running_mean": rng.normal(1, 0.1, channels),
        "running_var": rng.uniform(3, 5, channels),
    }


def backward_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    arrays = inputs(n, rng)
    return {
        "dy": rng.standard_normal(arrays["x"].shape),
        "x": arrays["x"],
        "gamma": arrays["gamma"],
    }


def batch_norm(
    x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array
) -> Array:
    mean, var, n = x.mean(axis=0), x.var(axis=0), len(x)
    running_mean += MOMENTUM * (mean - running_mean)
    running_var += MOMENTUM * (var * (n / (n - 1)) - running_var)
    return gamma * (x - mean) / np.sqrt(var + EPS) + beta


def inference(
    x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array
) -> Array:
    return gamma * (x - running_mean) / np.sqrt(running_var + EPS) + beta


def batch_norm_backward(dy: Array, x: Array, gamma: Array) -> tuple[Array, Array, Array]:
    n, mean, inv_std = len(x), x.mean(axis=0), 1 / np.sqrt(x.var(axis=0) + EPS)
    normalised = (x - mean) * inv_std
    dgamma, dbeta = (dy * normalised).sum(axis=0), dy.sum(axis=0)
    return gamma * inv_std / n * (n * dy - dbeta - normalised * dgamma), dgamma, dbeta


def forms(training: bool) -> object:
    """The calls in training, which move running statistics of their own, or in inference."""

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


CASES = [
    Case("batch_norm", inputs, batch_norm, forms(training=True)),
    Case("batch_norm inference", inputs, inference, forms(training=False)),
    Case("batch_norm_backward", backward_inputs, batch_norm_backward, backward_forms),
]
