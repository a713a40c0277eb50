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


def hinge_loss(x: Array, t: Array) -> tuple[Array, Array]:
    over = np.maximum(0, 1 - t * x)
    return over.mean(), np.where(over > 0, -t, 0) / x.size


def squared_hinge_loss(x: Array, t: Array) -> tuple[Array, Array]:
    over = np.maximum(0, 1 - t * x)
    return (over * over).mean(), -2 / x.size * t * over


def of_two_classes(n: int, rng: np.random.Generator) -> dict[str, Array]:
    """Logits, and classes that are 0 or 1."""
    return {"x": rng.standard_normal(n), "t": rng.integers(0, 2, n).astype(float)}


def sigmoid_focal_loss(x: Array, t: Array) -> tuple[Array, Array]:
    """With the defaults alpha=0.25 and gamma=2."""
    p = 1 / (1 + np.exp(-x))
    entropy = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
    wrong = t * (1 - p) + (1 - t) * p
    weight = (0.75 - 0.5 * t) * wrong
    slope = weight * (2 * (1 - 2 * t) * p * (1 - p) * entropy + wrong * (p - t))
    return (weight * wrong * entropy).mean(), slope / x.size


def likelihoods(n: int, rng: np.random.Generator) -> dict[str, Array]:
    """Rows of logarithms of probabilities, and a class for each."""
    rows = max(1, n // CLASSES)
    p = rng.dirichlet(np.ones(CLASSES), rows) + 1e-6
    return {"log_p": np.log(p), "labels": rng.integers(0, CLASSES, rows)}


def nll_loss(log_p: Array, labels: Array) -> tuple[Array, Array]:
    rows = np.arange(len(log_p))
    slopes = np.zeros_like(log_p)
    slopes[rows, labels] = -1 / len(log_p)
    return -log_p[rows, labels].mean(), slopes


def softmax_focal_loss(z: Array, labels: Array) -> tuple[Array, Array]:
    """With the default gamma=2."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    rows = np.arange(len(z))
    right = p[rows, labels]
    wrong, log = 1 - right, np.log(right)
    p[rows, labels] -= 1
    p *= ((wrong * wrong - 2 * wrong * right * log) / len(z))[:, np.newaxis]
    return -(wrong * wrong * log).mean(), p


EMBEDDING = 64


def embeddings(*names: str) -> Callable[..., dict[str, Array]]:
    """Rows of embeddings; `targets` are 1 or -1 for each."""

    def make(n: int, rng: np.random.Generator) -> dict[str, Array]:
        rows = max(1, n // EMBEDDING)
        made = {name: rng.standard_normal((rows, EMBEDDING)) for name in names if name != "targets"}
        return made | ({"targets": rng.choice([-1, 1], rows)} if "targets" in names else {})

    return make


def cosine_embedding_loss(x1: Array, x2: Array, targets: Array) -> tuple[Array, Array, Array]:
    first = np.sqrt((x1 * x1).sum(axis=1, keepdims=True) + 1e-12)
    second = np.sqrt((x2 * x2).sum(axis=1, keepdims=True) + 1e-12)
    y1, y2 = x1 / first, x2 / second
    cosine = (y1 * y2).sum(axis=1)
    alike = targets == 1
    loss = np.where(alike, 1 - cosine, np.maximum(0, cosine)).mean()
    slope = (np.where(alike, -1, cosine > 0) / len(x1)).astype(x1.dtype)[:, np.newaxis]
    cosine = cosine[:, np.newaxis]
    return loss, slope * (y2 - cosine * y1) / first, slope * (y1 - cosine * y2) / second


def triplet_margin_loss(a: Array, p: Array, n: Array) -> tuple[Array, ...]:
    near, far = a - p + 1e-6, a - n + 1e-6
    of_near = np.sqrt((near * near).sum(axis=1, keepdims=True))
    of_far = np.sqrt((far * far).sum(axis=1, keepdims=True))
    over = np.maximum(0, of_near - of_far + 1)
    slope = (over > 0) / len(a)
    near *= slope / of_near
    far *= slope / of_far
    return over.mean(), near - far, -near, far


def gaussian_nll_loss(x: Array, t: Array, v: Array) -> tuple[Array, Array, Array]:
    v = np.maximum(v, 1e-6)
    d = x - t
    scaled = d / v
    square = d * scaled
    return (np.log(v) + square).mean() / 2, scaled / x.size, (1 - square) / v / (2 * x.size)


def with_variances(n: int, rng: np.random.Generator) -> dict[str, Array]:
    """Means, targets and variances."""
    x, t = rng.standard_normal((2, n))
    return {"x": x, "t": t, "v": rng.uniform(0.1, 2, n)}


def several(function: Callable[..., tuple[float, ...]]) -> Callable[..., Forms]:
    """Losses of several gradients, which have no out."""

    def forms(**arrays: Array) -> Forms:
        return {"allocating": lambda: function(*arrays.values())}

    return forms


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
        (hinge_loss, normal("x", "t")),
        (squared_hinge_loss, normal("x", "t")),
        (sigmoid_focal_loss, of_two_classes),
        (nll_loss, likelihoods),
        (softmax_focal_loss, labelled("z")),
    )
]
CASES += [
    Case(plain.__name__, inputs, plain, several(getattr(nf, plain.__name__)))
    for plain, inputs in (
        (gaussian_nll_loss, with_variances),
        (cosine_embedding_loss, embeddings("x1", "x2", "targets")),
        (triplet_margin_loss, embeddings("a", "p", "n")),
    )
]
