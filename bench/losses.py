"""Cases of the losses, value and gradient; rows have 10 classes."""

from collections.abc import Callable

import numpy as np

import nnfast as nf
from bench.case import Array, Case, Forms, normal

CLASSES = 10


def labelled(name: str) -> Callable[..., dict[str, Array]]:
    """Rows of scores, and a class for each."""

    def make(n: int, rng: np.random.Generator) -> dict[str, Array]:
        rows = max(1, n // CLASSES)
        labels = rng.integers(0, CLASSES, rows)
        return {name: rng.standard_normal((rows, CLASSES)), "labels": labels}

    return make


def softmax_cross_entropy(z: Array, labels: Array) -> tuple[Array, Array]:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    rows = np.arange(len(z))
    loss = -np.log(p[rows, labels]).mean()
    p[rows, labels] -= 1
    p /= len(z)
    return loss, p


def probabilities(n: int, rng: np.random.Generator) -> dict[str, Array]:
    """Rows of probabilities, and a class for each."""
    rows = max(1, n // CLASSES)
    p = rng.dirichlet(np.ones(CLASSES), rows)
    return {"p": p, "labels": rng.integers(0, CLASSES, rows)}


def cross_entropy(p: Array, labels: Array) -> tuple[Array, Array]:
    rows = np.arange(len(p))
    chosen = p[rows, labels]
    slopes = np.zeros_like(p)
    slopes[rows, labels] = -1 / np.maximum(chosen, 1e-12) / len(p)
    return -np.log(chosen).mean(), slopes


def binary_probabilities(n: int, rng: np.random.Generator) -> dict[str, Array]:
    """Probabilities of two classes."""
    return {"p": rng.uniform(0.01, 0.99, n), "t": rng.integers(0, 2, n).astype(float)}


def binary_cross_entropy(p: Array, t: Array) -> tuple[Array, Array]:
    loss = -(t * np.log(p) + (1 - t) * np.log1p(-p)).mean()
    return loss, (p - t) / (p * (1 - p)) / p.size


def svm_loss(s: Array, labels: Array) -> tuple[Array, Array]:
    rows = np.arange(len(s))
    margins = np.maximum(0, s - s[rows, labels, np.newaxis] + 1)
    margins[rows, labels] = 0
    loss = margins.sum() / len(s)
    slopes = (margins > 0).astype(s.dtype)
    slopes[rows, labels] = -slopes.sum(axis=1)
    return loss, slopes / len(s)


def mse_loss(x: Array, t: Array) -> tuple[Array, Array]:
    d = x - t
    return (d * d).mean(), 2 / d.size * d


def l1_loss(x: Array, t: Array) -> tuple[Array, Array]:
    d = x - t
    return np.abs(d).mean(), np.sign(d) / d.size


def huber_loss(x: Array, t: Array) -> tuple[Array, Array]:
    d = x - t
    size = np.abs(d)
    return np.where(size <= 1, d * d / 2, size - 0.5).mean(), np.clip(d, -1, 1) / d.size


def binary_cross_entropy_with_logits(x: Array, t: Array) -> tuple[Array, Array]:
    loss = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
    return loss.mean(), (1 / (1 + np.exp(-x)) - t) / x.size


def log_cosh_loss(x: Array, t: Array) -> tuple[Array, Array]:
    d = x - t
    return np.log(np.cosh(d)).mean(), np.tanh(d) / d.size


def poisson_nll_loss(x: Array, t: Array) -> tuple[Array, Array]:
    rate = np.exp(x)
    return (rate - t * x).mean(), (rate - t) / x.size


def log_probabilities(n: int, rng: np.random.Generator) -> dict[str, Array]:
    """Logarithms of probabilities, and probabilities."""
    return {"x": np.log(rng.uniform(0.01, 1, n)), "t": rng.uniform(0.01, 1, n)}


def kl_div(x: Array, t: Array) -> tuple[Array, Array]:
    return (t * (np.log(t) - x)).mean(), -t / t.size


def forms_of(function: Callable[..., tuple[float, Array]]) -> Callable[..., Forms]:
    def forms(**arrays: Array) -> Forms:
        first, second = arrays.values()
        out = np.empty_like(first)
        return {
            "out": lambda: function(first, second, out=out),
            "allocating": lambda: function(first, second),
        }

    return forms


CASES = [
    Case(plain.__name__, inputs, plain, forms_of(getattr(nf, plain.__name__)))
    for plain, inputs in (
        (softmax_cross_entropy, labelled("z")),
        (svm_loss, labelled("s")),
        (mse_loss, normal("x", "t")),
        (l1_loss, normal("x", "t")),
        (huber_loss, normal("x", "t")),
        (binary_cross_entropy_with_logits, normal("x", "t")),
        (cross_entropy, probabilities),
        (binary_cross_entropy, binary_probabilities),
        (log_cosh_loss, normal("x", "t")),
        (poisson_nll_loss, normal("x", "t")),
        (kl_div, log_probabilities),
    )
]
