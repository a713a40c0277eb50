"""Cases of activations of x + bias, over rows of 512."""

import numpy as np

import nnfast as nf
from bench.activations import PLAIN, PLAIN_SLOPES
from bench.case import Array, Case, Forms, normal

COLUMNS = 512
NAMES = {"relu": "y", "gelu": "x", "silu": "x", "tanh": "y"}


def inputs(*names: str):
    """Rows, and a bias for every column."""

    def make(n: int, rng: np.random.Generator) -> dict[str, Array]:
        arrays = normal(*names, columns=min(n, COLUMNS))(n, rng)
        return arrays | {"bias": rng.standard_normal(min(n, COLUMNS))}

    return make


def forward_case(name: str) -> Case:
    """bias_<name>."""
    plain, function = PLAIN[name], getattr(nf, f"bias_{name}")

    def forms(x: Array, bias: Array) -> Forms:
        out = np.empty_like(x)
        return {
            "out": lambda: function(x, bias, out=out),
            "allocating": lambda: function(x, bias),
        }

    return Case(f"bias_{name}", inputs("x"), lambda x, bias: plain(x + bias), forms)


def backward_case(name: str, saves: str) -> Case:
    """Its gradients."""
    plain, slope = PLAIN[name], PLAIN_SLOPES[name]
    function = getattr(nf, f"bias_{name}_backward")

    def by_y(n: int, rng: np.random.Generator) -> dict[str, Array]:
        arrays = inputs("dy", "x")(n, rng)
        return {"dy": arrays["dy"], "y": plain(arrays["x"])}

    def gradients(dy: Array, saved: Array, *bias: Array) -> tuple[Array, Array]:
        dx = dy * slope(saved + bias[0] if bias else saved)
        return dx, dx.sum(axis=0)

    def forms(**arrays: Array) -> Forms:
        given = tuple(arrays.values())
        out = np.empty_like(given[0])
        return {
            "out": lambda: function(*given, out=out),
            "allocating": lambda: function(*given),
        }

    make = by_y if saves == "y" else inputs("dy", "x")
    return Case(f"bias_{name}_backward", make, lambda **arrays: gradients(*arrays.values()), forms)


CASES = [
    case
    for name, saves in NAMES.items()
    for case in (forward_case(name), backward_case(name, saves))
]
