"""Cases of softmax, its logarithm and logsumexp, over rows of 100."""

import numpy as np

import nnfast as nf
from bench.activations import ufunc_forms
from bench.case import Array, Case, Forms, normal

COLUMNS = 100


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def logsumexp(x: Array) -> Array:
    largest = x.max(axis=-1, keepdims=True)
    return (largest + np.log(np.exp(x - largest).sum(axis=-1, keepdims=True)))[:, 0]


def log_softmax(x: Array) -> Array:
    d = x - x.max(axis=-1, keepdims=True)
    return d - np.log(np.exp(d).sum(axis=-1, keepdims=True))


def factored_logsumexp(x: Array, b: Array) -> Array:
    largest = x.max(axis=-1, keepdims=True)
    total = (b * np.exp(x - largest)).sum(axis=-1, keepdims=True)
    return (largest + np.log(np.abs(total)))[:, 0]


def factored_forms(x: Array, b: Array) -> Forms:
    return {"allocating": lambda: nf.logsumexp(x, b=b, return_sign=True)}


def reducing_forms(x: Array) -> Forms:
    out = np.empty(len(x), x.dtype)
    return {"out": lambda: nf.logsumexp(x, out=out), "allocating": lambda: nf.logsumexp(x)}


def spreading_forms(dy: Array, x: Array) -> Forms:
    out = np.empty_like(x)
    return {
        "out": lambda: nf.logsumexp_backward(dy, x, out=out),
        "allocating": lambda: nf.logsumexp_backward(dy, x),
    }


def log_backward_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    arrays = normal("dy", "x", columns=COLUMNS)(n, rng)
    return {"dy": arrays["dy"], "y": log_softmax(arrays["x"])}


def spreading_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    x = normal("x", columns=COLUMNS)(n, rng)["x"]
    return {"dy": rng.standard_normal(len(x)), "x": x}


def backward_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    arrays = normal("dy", "x", columns=COLUMNS)(n, rng)
    return {"dy": arrays["dy"], "y": softmax(arrays["x"])}


def weighted_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    """Weights are positive: of sums near zero, float32 knows nothing, whoever computes them."""
    arrays = normal("x", "b", columns=COLUMNS)(n, rng)
    return {"x": arrays["x"], "b": np.abs(arrays["b"])}


# ---- attention: half of the keys take part, causal queries, rows of 64 ----

KEYS, SCALE = 64, 0.125


def attention(n: int, rng: np.random.Generator) -> dict[str, Array]:
    x = rng.standard_normal((max(1, n // KEYS**2), KEYS, KEYS))
    return {"x": x, "mask": rng.random((len(x), 1, KEYS)) < 0.5}


def masked_softmax(x: Array, mask: Array) -> Array:
    kept = mask & np.tri(KEYS, dtype=bool)
    scores = np.where(kept, SCALE * x, -np.inf)
    largest = scores.max(axis=-1, keepdims=True)
    e = np.exp(scores - np.where(np.isfinite(largest), largest, 0))
    return e / np.maximum(e.sum(axis=-1, keepdims=True), np.finfo(x.dtype).tiny)


def masked_forms(x: Array, mask: Array) -> Forms:
    out = np.empty_like(x)
    return {
        "out": lambda: nf.masked_softmax(x, mask, scale=SCALE, causal=True, out=out),
        "allocating": lambda: nf.masked_softmax(x, mask, scale=SCALE, causal=True),
    }


def masked_backward_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    y = masked_softmax(**attention(n, rng))
    return {"dy": rng.standard_normal(y.shape), "y": y}


def masked_backward_forms(dy: Array, y: Array) -> Forms:
    out = np.empty_like(y)
    return {
        "out": lambda: nf.masked_softmax_backward(dy, y, scale=SCALE, out=out),
        "allocating": lambda: nf.masked_softmax_backward(dy, y, scale=SCALE),
    }


def sparsemax(x: Array) -> Array:
    """By sorting, as the paper has it."""
    z = -np.sort(-x, axis=-1)
    total = z.cumsum(axis=-1) - 1
    k = np.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    support = (k * z > total).sum(axis=-1, keepdims=True)
    t = np.take_along_axis(total, support - 1, -1) / support.astype(x.dtype)
    return np.maximum(x - t, 0)


def sparse_backward_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    arrays = normal("dy", "x", columns=COLUMNS)(n, rng)
    return {"dy": arrays["dy"], "y": sparsemax(arrays["x"])}


def sparsemax_backward(dy: Array, y: Array) -> Array:
    support = (y > 0).astype(y.dtype)
    mean = (dy * support).sum(axis=-1, keepdims=True) / support.sum(axis=-1, keepdims=True)
    return support * (dy - mean)


CASES = [
    Case("softmax", normal("x", columns=COLUMNS), softmax, ufunc_forms(nf.softmax)),
    Case(
        "softmax_backward",
        backward_inputs,
        lambda dy, y: y * (dy - (dy * y).sum(axis=-1, keepdims=True)),
        ufunc_forms(nf.softmax_backward),
    ),
    Case("softmin", normal("x", columns=COLUMNS), lambda x: softmax(-x), ufunc_forms(nf.softmin)),
    Case(
        "softmin_backward",
        backward_inputs,
        lambda dy, y: -y * (dy - (dy * y).sum(axis=-1, keepdims=True)),
        ufunc_forms(nf.softmin_backward),
    ),
    Case("log_softmax", normal("x", columns=COLUMNS), log_softmax, ufunc_forms(nf.log_softmax)),
    Case(
        "log_softmax_backward",
        log_backward_inputs,
        lambda dy, y: dy - np.exp(y) * dy.sum(axis=-1, keepdims=True),
        ufunc_forms(nf.log_softmax_backward),
    ),
    Case("logsumexp", normal("x", columns=COLUMNS), logsumexp, reducing_forms),
    Case(
        "logsumexp of factors",
        weighted_inputs,
        factored_logsumexp,
        factored_forms,
    ),
    Case(
        "logsumexp_backward",
        spreading_inputs,
        lambda dy, x: dy[:, None] * softmax(x),
        spreading_forms,
    ),
    Case("sparsemax", normal("x", columns=COLUMNS), sparsemax, ufunc_forms(nf.sparsemax)),
    Case(
        "sparsemax_backward",
        sparse_backward_inputs,
        sparsemax_backward,
        ufunc_forms(nf.sparsemax_backward),
    ),
    Case("masked_softmax", attention, masked_softmax, masked_forms),
    Case(
        "masked_softmax_backward",
        masked_backward_inputs,
        lambda dy, y: SCALE * y * (dy - (dy * y).sum(axis=-1, keepdims=True)),
        masked_backward_forms,
    ),
]
