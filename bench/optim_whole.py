"""Cases of optimizers whose step is no formula of each element: of matrices, of the rows that a batch names, of several
gradients or steps, and of a function that is minimized."""

from collections.abc import Callable
from typing import Any

import numpy as np

import nnfast as nf
from bench.case import Array, Arrays, Case, Forms, Values
from bench.optim import B1, B2, BETAS, EPS, LR

SIDE = 128  # of a matrix
COEFFICIENTS, MUON_MOMENTUM = (3.4445, -4.7750, 2.0315), 0.95
COLUMNS = 64  # of a table
PARTS = 4  # of a batch
PERIOD, SHARE = 2, 0.5  # of Lookahead: steps, and how far the slow weights go
ITERATIONS, HISTORY, MOST = 20, 10, 10**4  # of L-BFGS, and elements at most: a call is many steps
NEAR = 1e-4  # to the lowest point of L-BFGS' function, of numbers from 1 to 2


def matrices(*states: str) -> Callable[..., dict[str, Array]]:
    """Square ones, and their gradients."""

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        side = min(SIDE, max(2, round(n**0.5)))
        shape = max(1, n // side**2), side, side
        arrays = {"param": rng.standard_normal(shape), "grad": rng.standard_normal(shape)}
        return arrays | {name: np.zeros(shape) for name in states}

    return inputs


def orthogonal(x: Array) -> Array:
    """Newton and Schulz' iteration as Muon has it."""
    a, b, c = COEFFICIENTS
    x = x / np.linalg.norm(x)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def muon(param: Array, grad: Array, v: Array) -> tuple[Array, ...]:
    for p, g, average in zip(param, grad, v, strict=True):
        average += (1 - MUON_MOMENTUM) * (g - average)
        p -= LR * orthogonal(g + MUON_MOMENTUM * (average - g))
    return param, v


def adafactor(param: Array, grad: Array) -> tuple[Array, ...]:
    """The first step, whose averages are the squares of this gradient."""
    for p, g in zip(param, grad, strict=True):
        squares = g * g
        rows, columns = squares.mean(axis=1, keepdims=True), squares.mean(axis=0)
        u = g / np.sqrt(rows * columns / rows.mean())
        size = max(1e-3, np.sqrt(np.square(p).mean()))
        p -= LR * size / max(1, np.sqrt(np.square(u).mean())) * u
    return (param,)


def of_list(rule: str, **settings: Any) -> Callable[..., Forms]:
    """Steps of an optimizer of the matrices."""

    def forms(param: Array, grad: Array, **states: Array) -> Forms:
        own, grads = param.copy(), list(grad)
        optimizer = getattr(nf.optim, rule)(list(own), **settings)

        def step() -> Array:
            optimizer.step(grads)
            return own

        return {"in place": step}

    return forms


# ---- rows of a table ----


def table(*states: str) -> Callable[..., dict[str, Array]]:
    """A table, and the gradients of as many rows as an eighth of it has, some of which come twice."""

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        rows = max(8, n // COLUMNS)
        arrays = {
            "param": rng.standard_normal((rows, COLUMNS)),
            "indices": rng.integers(0, rows, rows // 8),
            "grad": rng.standard_normal((rows // 8, COLUMNS)),
        }
        return arrays | {name: np.zeros((rows, COLUMNS)) for name in states}

    return inputs


def sgd_rows(param: Array, indices: Array, grad: Array) -> Array:
    np.subtract.at(param, indices, LR * grad)
    return param


def adam_rows(param: Array, indices: Array, grad: Array, m: Array, v: Array) -> tuple[Array, ...]:
    named, places = np.unique(indices, return_inverse=True)
    g = np.zeros((len(named), COLUMNS), grad.dtype)
    np.add.at(g, places, grad)
    m[named] = B1 * m[named] + (1 - B1) * g
    v[named] = B2 * v[named] + (1 - B2) * g * g
    param[named] -= LR * (m[named] / (1 - B1)) / (np.sqrt(v[named] / (1 - B2)) + EPS)
    return param, m, v


def of_rows(rule: str, **settings: Any) -> Callable[..., Forms]:
    def forms(param: Array, indices: Array, grad: Array, **states: Array) -> Forms:
        own = param.copy()
        optimizer = getattr(nf.optim, rule)([own], **settings)
        grads = [nf.optim.Rows(indices, grad)]

        def step() -> Array:
            optimizer.step(grads)
            return own

        return {"in place": step}

    return forms


# ---- several gradients, several steps, a function ----


def parts(n: int, rng: np.random.Generator) -> dict[str, Array]:
    return {"param": rng.standard_normal(n), "grad": rng.standard_normal((PARTS, n))}


def sgd_of_parts(param: Array, grad: Array) -> Array:
    total = np.zeros_like(param)
    for part in grad:
        total += part
    param -= LR / PARTS * total
    return param


def accumulating(param: Array, grad: Array) -> Forms:
    own = param.copy()
    optimizer = nf.optim.SGD([own], lr=LR)
    *first, last = [[part] for part in grad]

    def step() -> Array:
        for part in first:
            optimizer.accumulate(part)
        optimizer.step(last, grad_scale=1 / PARTS)
        return own

    return {"in place": step}


def pair(n: int, rng: np.random.Generator) -> dict[str, Array]:
    return {"param": rng.standard_normal(n), "grad": rng.standard_normal(n)}


def lookahead(param: Array, grad: Array) -> Array:
    slow = param.copy()
    for _ in range(PERIOD):
        param -= LR * grad
    slow += SHARE * (param - slow)
    param[...] = slow
    return param


def looking_ahead(param: Array, grad: Array) -> Forms:
    own = param.copy()
    optimizer = nf.optim.Lookahead(nf.optim.SGD([own], lr=LR), k=PERIOD, alpha=SHARE)

    def step() -> Array:
        for _ in range(PERIOD):
            optimizer.step([grad])
        return own

    return {"in place": step}


def bowl(n: int, rng: np.random.Generator) -> dict[str, Array]:
    """A quadratic function of its lowest point and its curvatures, and where to begin."""
    n = min(n, MOST)
    return {
        "param": np.zeros(n),
        "lowest": 1 + rng.random(n),
        "curvature": 1 + 3 * rng.random(n),
    }


def value_of(param: Array, lowest: Array, curvature: Array) -> tuple[float, Array]:
    """The function and its gradient."""
    distance = param - lowest
    slope = curvature * distance
    return 0.5 * float(slope @ distance), slope


def minimized(param: Array, lowest: Array, curvature: Array) -> Array:
    from scipy.optimize import minimize

    options = {"maxiter": ITERATIONS, "maxcor": HISTORY, "gtol": 1e-7, "ftol": 1e-9}
    arguments = lowest, curvature
    found = minimize(value_of, param, arguments, "L-BFGS-B", jac=True, options=options)
    return found.x.astype(param.dtype)  # type: ignore[no-any-return]


def minimizing(param: Array, lowest: Array, curvature: Array) -> Forms:
    own = param.copy()
    optimizer = nf.optim.LBFGS([own], max_iter=ITERATIONS, history_size=HISTORY)

    def closure() -> tuple[float, list[Array]]:
        value, slope = value_of(own, lowest, curvature)
        return value, [slope]

    def step() -> Array:
        own[...] = param
        optimizer.step(closure)
        return own

    return {"in place": step}


def accepts_lowest(arrays: Arrays, values: Values, found: Array) -> str | None:
    """Minimizers end where the function hardly sinks, each at another point."""
    error = float(np.max(np.abs(found - arrays["lowest"])))
    return None if error <= NEAR else f"off by {error:.3g}"


ADAM = {"lr": LR, "betas": BETAS, "eps": EPS}
CASES = [
    Case(
        "Muon",
        matrices("v"),
        muon,
        of_list("Muon", lr=LR, weight_decay=0.0),
        {"lr": LR, "weight_decay": 0.0},
        in_place=True,
    ),
    Case(
        "Adafactor",
        matrices(),
        adafactor,
        of_list("Adafactor", lr=LR),
        {"lr": LR},
        in_place=True,
    ),
    Case("SGD rows", table(), sgd_rows, of_rows("SGD", lr=LR), {"lr": LR}, in_place=True),
    Case("Adam rows", table("m", "v"), adam_rows, of_rows("Adam", **ADAM), ADAM, in_place=True),
    Case("SGD accumulate", parts, sgd_of_parts, accumulating, {"lr": LR}, in_place=True),
    Case("Lookahead", pair, lookahead, looking_ahead, {"lr": LR}, in_place=True),
    Case("LBFGS", bowl, minimized, minimizing, in_place=True, accepts=accepts_lowest),
]
