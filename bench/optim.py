"""Cases of the optimizers: one array, its state at zero when the timing begins."""

import numpy as np

import nnfast as nf
from bench.case import Array, Case, Forms

LR, MOMENTUM, BETAS, EPS = 1e-3, 0.9, (0.9, 0.999), 1e-8


def inputs(*states: str) -> object:
    """A parameter, its gradient, and the state that a step reads and writes."""

    def make(n: int, rng: np.random.Generator) -> dict[str, Array]:
        arrays = {"param": rng.standard_normal(n), "grad": rng.standard_normal(n)}
        return arrays | {name: np.zeros(n) for name in states}

    return make


def sgd(param: Array, grad: Array, v: Array) -> tuple[Array, ...]:
    v *= MOMENTUM
    v += grad
    param -= LR * v
    return param, v


def adam(param: Array, grad: Array, m: Array, v: Array) -> tuple[Array, ...]:
    """The first step; every step costs the same."""
    m += (1 - BETAS[0]) * (grad - m)
    v += (1 - BETAS[1]) * (grad * grad - v)
    param -= LR * (m / (1 - BETAS[0])) / (np.sqrt(v / (1 - BETAS[1])) + EPS)
    return param, m, v


def stepping(optimizer: nf.optim.SGD | nf.optim.Adam, params: list[Array], grad: Array) -> Forms:
    def step() -> Array:
        optimizer.step([grad])
        return params[0]

    return {"in place": step}


def sgd_forms(param: Array, grad: Array, v: Array) -> Forms:
    params = [param.copy()]
    return stepping(nf.optim.SGD(params, LR, momentum=MOMENTUM), params, grad)


def adam_forms(param: Array, grad: Array, m: Array, v: Array) -> Forms:
    params = [param.copy()]
    return stepping(nf.optim.Adam(params, LR, betas=BETAS, eps=EPS), params, grad)


CASES = [
    Case("SGD", inputs("v"), sgd, sgd_forms, {"lr": LR, "momentum": MOMENTUM}, in_place=True),
    Case("Adam", inputs("m", "v"), adam, adam_forms, {"lr": LR, "eps": EPS}, in_place=True),
]
