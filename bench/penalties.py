"""Cases of penalties: a matrix of weights and its gradient, to which the penalty's is added."""

from collections.abc import Callable

import numpy as np

import nnfast as nf
from bench.case import Array, Case, Forms, square

L1, L2, MAX_NORM = 1e-4, 1e-3, 3.0


def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
    return {name: rng.standard_normal(square(n)) for name in ("weight", "grad")}


def l1(weight: Array, grad: Array) -> Array:
    grad += L1 * np.sign(weight)
    return np.array(L1 * np.abs(weight).sum())


def l2(weight: Array, grad: Array) -> Array:
    grad += L2 * weight
    return np.array(L2 / 2 * np.square(weight).sum())


def elastic_net(weight: Array, grad: Array) -> Array:
    return l1(weight, grad) + l2(weight, grad)


def adding(penalty: Callable[..., float], *strengths: float) -> Callable[..., Forms]:
    def forms(weight: Array, grad: Array) -> Forms:
        weights, grads = [weight], [grad.copy()]
        return {"in place": lambda: np.array(penalty(weights, *strengths, grads))}

    return forms


def one_matrix(n: int, rng: np.random.Generator) -> dict[str, Array]:
    return {"weight": 4 * rng.standard_normal(square(n))}


def max_norm(weight: Array) -> Array:
    norms = np.sqrt(np.square(weight).sum(axis=0))
    weight *= np.minimum(1, MAX_NORM / norms)
    return weight


def max_norm_forms(weight: Array) -> Forms:
    own = weight.copy()
    return {"in place": lambda: nf.penalties.max_norm_(own, MAX_NORM)}


CASES = [
    Case("penalties.l1", inputs, l1, adding(nf.penalties.l1, L1), in_place=True),
    Case("penalties.l2", inputs, l2, adding(nf.penalties.l2, L2), in_place=True),
    Case(
        "penalties.elastic_net",
        inputs,
        elastic_net,
        adding(nf.penalties.elastic_net, L1, L2),
        in_place=True,
    ),
    Case("penalties.max_norm_", one_matrix, max_norm, max_norm_forms, in_place=True),
]
