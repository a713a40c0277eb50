"""Cases of gated linear units, over rows of 512 pairs."""

import numpy as np

import nnfast as nf
from bench.activations import PLAIN, PLAIN_SLOPES, sigmoid
from bench.case import Array, Case, Forms

HALF = 512
GATES = {"glu": "sigmoid", "geglu": "gelu", "swiglu": "silu"}


def shape_of(n: int) -> tuple[int, int]:
    """Rows and pairs in one, about n elements in all."""
    half = max(1, min(n // 2, HALF))
    return max(1, n // (2 * half)), half


def forward_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    rows, half = shape_of(n)
    return {"x": rng.standard_normal((rows, 2 * half))}


def backward_inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    return {"dy": rng.standard_normal(shape_of(n))} | forward_inputs(n, rng)


def halves(x: Array) -> tuple[Array, Array]:
    half = x.shape[-1] // 2
    return x[:, :half], x[:, half:]


def sigmoid_slope(x: Array) -> Array:
    s = sigmoid(x)
    return s * (1 - s)


def cases_of(name: str, act_name: str) -> list[Case]:
    """Both directions."""
    act = PLAIN[act_name]
    slope = sigmoid_slope if name == "glu" else PLAIN_SLOPES[act_name]
    function, gradient = getattr(nf, name), getattr(nf, f"{name}_backward")

    def plain(x: Array) -> Array:
        a, b = halves(x)
        return a * act(b)

    def plain_gradient(dy: Array, x: Array) -> Array:
        a, b = halves(x)
        return np.concatenate([dy * act(b), dy * a * slope(b)], axis=-1)

    def forms(x: Array) -> Forms:
        out = np.empty((len(x), x.shape[1] // 2), x.dtype)
        return {"out": lambda: function(x, out=out), "allocating": lambda: function(x)}

    def gradient_forms(dy: Array, x: Array) -> Forms:
        out = np.empty_like(x)
        return {"out": lambda: gradient(dy, x, out=out), "allocating": lambda: gradient(dy, x)}

    return [
        Case(name, forward_inputs, plain, forms),
        Case(f"{name}_backward", backward_inputs, plain_gradient, gradient_forms),
    ]


CASES = [case for name, act in GATES.items() for case in cases_of(name, act)]
