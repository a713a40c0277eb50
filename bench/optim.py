"""Cases of the optimizers: one array, its state at zero when the timing begins; and lists of small ones."""

from collections.abc import Callable
from inspect import signature
from typing import Any, NamedTuple

import numpy as np

import nnfast as nf
from bench.case import Array, Case, Forms
from tests.reference import optim as reference

LR, MOMENTUM, BETAS, EPS = 1e-3, 0.9, (0.9, 0.999), 1e-8
B1, B2 = BETAS
DECAY = 1e-2
MANY = 30  # arrays of a list


# ---- the first step of each rule, as people write it; every step costs the same ----


def sgd(param: Array, grad: Array, v: Array) -> tuple[Array, ...]:
    v *= MOMENTUM
    v += grad
    param -= LR * v
    return param, v


def adagrad(param: Array, grad: Array, s: Array) -> tuple[Array, ...]:
    s += grad * grad
    param -= LR * grad / (np.sqrt(s) + EPS)
    return param, s


def adadelta(param: Array, grad: Array, v: Array, u: Array) -> tuple[Array, ...]:
    v += (1 - MOMENTUM) * (grad * grad - v)
    d = np.sqrt(u + EPS) / np.sqrt(v + EPS) * grad
    u += (1 - MOMENTUM) * (d * d - u)
    param -= LR * d
    return param, v, u


def rmsprop(param: Array, grad: Array, v: Array) -> tuple[Array, ...]:
    v += (1 - MOMENTUM) * (grad * grad - v)
    param -= LR * grad / (np.sqrt(v) + EPS)
    return param, v


def moments(grad: Array, m: Array, v: Array) -> None:
    m += (1 - B1) * (grad - m)
    v += (1 - B2) * (grad * grad - v)


def adam(param: Array, grad: Array, m: Array, v: Array) -> tuple[Array, ...]:
    moments(grad, m, v)
    param -= LR * (m / (1 - B1)) / (np.sqrt(v / (1 - B2)) + EPS)
    return param, m, v


def adamw(param: Array, grad: Array, m: Array, v: Array) -> tuple[Array, ...]:
    param *= 1 - LR * DECAY
    return adam(param, grad, m, v)


def adamax(param: Array, grad: Array, m: Array, u: Array) -> tuple[Array, ...]:
    m += (1 - B1) * (grad - m)
    np.maximum(B2 * u, np.abs(grad) + EPS, out=u)
    param -= LR / (1 - B1) * m / u
    return param, m, u


def nadam(param: Array, grad: Array, m: Array, v: Array) -> tuple[Array, ...]:
    moments(grad, m, v)
    mu, after = (B1 * (1 - 0.5 * 0.96 ** (k * 4e-3)) for k in (1, 2))
    step = (1 - mu) / (1 - mu) * grad + after / (1 - mu * after) * m
    param -= LR * step / (np.sqrt(v / (1 - B2)) + EPS)
    return param, m, v


def radam(param: Array, grad: Array, m: Array, v: Array) -> tuple[Array, ...]:
    """A step whose average of squares is not to be trusted yet."""
    moments(grad, m, v)
    param -= LR * m / (1 - B1)
    return param, m, v


def lion(param: Array, grad: Array, m: Array) -> tuple[Array, ...]:
    param -= LR * np.sign(B1 * m + (1 - B1) * grad)
    m += (1 - B2) * (grad - m)
    return param, m


def schedule_free_sgd(param: Array, grad: Array, z: Array) -> tuple[Array, ...]:
    np.subtract(param, LR * grad, out=z)  # z begins with the parameters
    x = z  # of the first step
    param[...] = MOMENTUM * x + (1 - MOMENTUM) * z
    return param, z


def schedule_free_adamw(param: Array, grad: Array, z: Array, v: Array) -> tuple[Array, ...]:
    v += (1 - B2) * (grad * grad - v)
    return *schedule_free_sgd(param, grad / (np.sqrt(v / (1 - B2)) + EPS), z), v


class Rule(NamedTuple):
    """An optimizer of the table."""

    name: str
    plain: Callable[..., tuple[Array, ...]]
    states: tuple[str, ...]
    settings: dict[str, Any]


RULES = [
    Rule("SGD", sgd, ("v",), {"lr": LR, "momentum": MOMENTUM}),
    Rule("Adagrad", adagrad, ("s",), {"lr": LR, "eps": EPS}),
    Rule("Adadelta", adadelta, ("v", "u"), {"lr": LR, "rho": MOMENTUM, "eps": EPS}),
    Rule("RMSprop", rmsprop, ("v",), {"lr": LR, "alpha": MOMENTUM, "eps": EPS}),
    Rule("Adam", adam, ("m", "v"), {"lr": LR, "betas": BETAS, "eps": EPS}),
    Rule(
        "AdamW",
        adamw,
        ("m", "v"),
        {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY},
    ),
    Rule("Adamax", adamax, ("m", "u"), {"lr": LR, "betas": BETAS, "eps": EPS}),
    Rule("NAdam", nadam, ("m", "v"), {"lr": LR, "betas": BETAS, "eps": EPS}),
    Rule("RAdam", radam, ("m", "v"), {"lr": LR, "betas": BETAS, "eps": EPS}),
    Rule("Lion", lion, ("m",), {"lr": LR, "betas": BETAS}),
    Rule("ScheduleFreeSGD", schedule_free_sgd, ("z",), {"lr": LR, "momentum": MOMENTUM}),
    Rule(
        "ScheduleFreeAdamW", schedule_free_adamw, ("z", "v"), {"lr": LR, "betas": BETAS, "eps": EPS}
    ),
]


def of_reference(name: str) -> Rule:
    """A rule without a row above: its first step by the tests' reference, with the defaults."""
    formula = next(row[2] for row in reference.ROWS if row[:2] == (name, "torch"))
    of_params = "p" in signature(formula).parameters

    def plain(param: Array, grad: Array) -> tuple[Array, ...]:
        param -= formula(grad, {}, 1, **({"p": param} if of_params else {}))
        return (param,)

    decays = getattr(nf.optim, name).defaults["torch"]["weight_decay"]
    return Rule(name, plain, (), {"weight_decay": 0.0} if decays else {})


RULES += map(of_reference, sorted(set(nf.optim.rules.__all__) - {rule.name for rule in RULES}))


def case_of(rule: Rule) -> Case:
    """One array."""

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        arrays = {"param": rng.standard_normal(n), "grad": rng.standard_normal(n)}
        return arrays | {name: np.zeros(n) for name in rule.states}

    def forms(param: Array, grad: Array, **states: Array) -> Forms:
        params, grads = [param.copy()], [grad]
        optimizer = getattr(nf.optim, rule.name)(params, **rule.settings)

        def step() -> Array:
            optimizer.step(grads)
            return params[0]

        return {"in place": step}

    return Case(rule.name, inputs, rule.plain, forms, rule.settings, in_place=True)


def list_case(rule: Rule) -> Case:
    """A list of small arrays, which are rows of what the case is given."""

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        shape = MANY, max(1, n // MANY)
        arrays = {"param": rng.standard_normal(shape), "grad": rng.standard_normal(shape)}
        return arrays | {name: np.zeros(shape) for name in rule.states}

    def plain(param: Array, grad: Array, **states: Array) -> tuple[Array, ...]:
        for i in range(MANY):
            rule.plain(param[i], grad[i], *(state[i] for state in states.values()))
        return param, *states.values()

    def forms(param: Array, grad: Array, **states: Array) -> Forms:
        own = param.copy()
        grads = list(grad)
        optimizer = getattr(nf.optim, rule.name)(list(own), **rule.settings)

        def step() -> Array:
            optimizer.step(grads)
            return own

        return {"in place": step}

    return Case(f"{rule.name} list", inputs, plain, forms, rule.settings, in_place=True)


def packed_case(state_dtype: str) -> Case:
    """Adam, its state in 16 or 8 bits, which is no array of the case; with float64 it has none of these."""

    def inputs(n: int, rng: np.random.Generator) -> dict[str, Array]:
        return {"param": rng.standard_normal(n), "grad": rng.standard_normal(n)}

    def plain(param: Array, grad: Array) -> tuple[Array, ...]:
        return adam(param, grad, np.zeros_like(param), np.zeros_like(param))[:1]

    def forms(param: Array, grad: Array) -> Forms:
        params, grads = [param.copy()], [grad]
        options: Any = {} if param.dtype == np.float64 else {"state_dtype": state_dtype}
        optimizer = nf.optim.Adam(params, lr=LR, betas=BETAS, eps=EPS, **options)

        def step() -> Array:
            optimizer.step(grads)
            return params[0]

        return {"in place": step}

    return Case(f"Adam {state_dtype}", inputs, plain, forms, in_place=True)


CASES = [
    *(case_of(rule) for rule in RULES),
    *(packed_case(state_dtype) for state_dtype in ("bfloat16", "uint8")),
    *(list_case(rule) for rule in RULES if rule.name in ("SGD", "Adam")),
]
