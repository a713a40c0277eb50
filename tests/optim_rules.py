"""The optimizers' formulas as their systems have them, in float64, and a table of settings that tests iterate."""

import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import nnfast as nf
from layouts import assert_same_bits

Array = NDArray[Any]
State = dict[str, Any]
Betas = tuple[float, float]


# ---- formulas: what a step subtracts from the parameter, by names and defaults of their own system ----


def average(s: State, name: str, term: Array, decay: float) -> Any:
    s[name] = decay * s.get(name, 0) + (1 - decay) * term
    return s[name]


def adams(s: State, g: Array, betas: Betas) -> tuple[Any, Any]:
    return average(s, "m", g, betas[0]), average(s, "v", g * g, betas[1])


def largest(s: State, v: Any) -> Any:
    s["largest"] = np.maximum(s.get("largest", 0), v)
    return s["largest"]


def sgd(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    momentum: float = 0,
    dampening: float = 0,
    nesterov: bool = False,
) -> Any:
    if not momentum:
        return lr * g
    s["v"] = momentum * s["v"] + (1 - dampening) * g if t > 1 else g
    return lr * (g + momentum * s["v"] if nesterov else s["v"])


def sgd_of_velocity(
    g: Array, s: State, t: int, lr: float = 1e-2, momentum: float = 0, nesterov: bool = False
) -> Any:
    """The velocity is a step and not a gradient, as in Keras and in CS231n."""
    before = s.get("v", 0)
    v = s["v"] = momentum * before - lr * g
    return momentum * before - (1 + momentum) * v if nesterov else -v


def adagrad(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-2,
    lr_decay: float = 0,
    initial_accumulator_value: float = 0,
    eps: float = 1e-10,
) -> Any:
    s["sum"] = s.get("sum", initial_accumulator_value) + g * g
    return lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["sum"]) + eps)


def adagrad_eps_inside(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-2,
    initial_accumulator_value: float = 0.1,
    eps: float = 1e-7,
) -> Any:
    s["sum"] = s.get("sum", initial_accumulator_value) + g * g
    return lr * g / np.sqrt(s["sum"] + eps)


def adadelta(
    g: Array, s: State, t: int, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6
) -> Any:
    d = np.sqrt(s.get("u", 0) + eps) / np.sqrt(average(s, "v", g * g, rho) + eps) * g
    average(s, "u", d * d, rho)
    return lr * d


def variance(s: State, g: Array, alpha: float, centered: bool) -> Any:
    v = average(s, "v", g * g, alpha)
    return v - average(s, "m", g, alpha) ** 2 if centered else v


def rmsprop(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0,
    centered: bool = False,
) -> Any:
    s["b"] = momentum * s.get("b", 0) + g / (np.sqrt(variance(s, g, alpha, centered)) + eps)
    return lr * s["b"]


def rmsprop_eps_inside(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-2,
    alpha: float = 0.9,
    eps: float = 1e-8,
    momentum: float = 0,
    centered: bool = False,
) -> Any:
    s["b"] = momentum * s.get("b", 0) + lr * g / np.sqrt(variance(s, g, alpha, centered) + eps)
    return s["b"]


def adam(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    amsgrad: bool = False,
) -> Any:
    m, v = adams(s, g, betas)
    v = largest(s, v) if amsgrad else v
    return lr * m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def keras_adam(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-7,
    amsgrad: bool = False,
) -> Any:
    m, v = adams(s, g, betas)
    v = largest(s, v) if amsgrad else v
    alpha = lr * np.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
    return alpha * m / (np.sqrt(v) + eps)


def optax_adam(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    amsgrad: bool = False,
) -> Any:
    m, v = adams(s, g, betas)
    v_hat = v / (1 - betas[1] ** t)
    v_hat = largest(s, v_hat) if amsgrad else v_hat
    return lr * m / (1 - betas[0] ** t) / (np.sqrt(v_hat) + eps)


def adamax(
    g: Array, s: State, t: int, lr: float = 2e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8
) -> Any:
    m = average(s, "m", g, betas[0])
    s["u"] = np.maximum(betas[1] * s.get("u", 0), np.abs(g) + eps)
    return lr / (1 - betas[0] ** t) * m / s["u"]


def keras_adamax(
    g: Array, s: State, t: int, lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-7
) -> Any:
    m = average(s, "m", g, betas[0])
    s["u"] = np.maximum(betas[1] * s.get("u", 0), np.abs(g))
    return lr * m / ((1 - betas[0] ** t) * (s["u"] + eps))


def nadam(
    g: Array,
    s: State,
    t: int,
    lr: float = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    momentum_decay: float = 4e-3,
) -> Any:
    m, v = adams(s, g, betas)
    mu = betas[0] * (1 - 0.96 ** (momentum_decay * np.arange(1, t + 2)) / 2)
    m_hat = mu[t] * m / (1 - mu.prod()) + (1 - mu[t - 1]) * g / (1 - mu[:t].prod())
    return lr * m_hat / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def optax_nadam(
    g: Array, s: State, t: int, lr: float = 2e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8
) -> Any:
    m, v = adams(s, g, betas)
    beta = betas[0]
    m_hat = beta * m / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t)
    return lr * m_hat / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def rectification(t: int, beta: float) -> tuple[float, float]:
    """ρ and r of step t."""
    limit = 2 / (1 - beta) - 1
    rho = limit - 2 * t * beta**t / (1 - beta**t)
    above, below = (rho - 4) * (rho - 2) * limit, (limit - 4) * (limit - 2) * rho
    return rho, np.sqrt(above / below) if rho >= 5 else 1.0


def radam(
    g: Array, s: State, t: int, lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8
) -> Any:
    m, v = adams(s, g, betas)
    rho, r = rectification(t, betas[1])
    adaptive = np.sqrt(1 - betas[1] ** t) / (np.sqrt(v) + eps) if rho > 5 else 1.0
    return lr * r * m / (1 - betas[0] ** t) * adaptive


def optax_radam(
    g: Array, s: State, t: int, lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8
) -> Any:
    m, v = adams(s, g, betas)
    rho, r = rectification(t, betas[1])
    adaptive = 1 / (np.sqrt(v / (1 - betas[1] ** t)) + eps) if rho >= 5 else 1.0
    return lr * r * m / (1 - betas[0] ** t) * adaptive


def lion(g: Array, s: State, t: int, lr: float = 1e-4, betas: Betas = (0.9, 0.99)) -> Any:
    direction = np.sign(betas[0] * s.get("m", 0) + (1 - betas[0]) * g)
    average(s, "m", g, betas[1])
    return lr * direction


# ---- the table ----


class Rule(NamedTuple):
    """A class, whose formula its convention means, and settings."""

    kind: str
    convention: str
    formula: Callable[..., Any]
    decay: float
    decoupled: bool
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.kind} {self.convention} {self.settings}"

    def optimizer(self, params: Any, **options: Any) -> Any:
        settings = {"convention": self.convention, **self.settings, **options}
        return getattr(nf.optim, self.kind)(params, **settings)

    def follow(self, p: Array, g: Array, state: State, t: int) -> Array:
        """The parameter after step t."""
        own = dict(self.settings)
        g = -g if own.pop("maximize", False) else g
        decay = own.pop("weight_decay", self.decay)
        if own.pop("decoupled_weight_decay", self.decoupled):
            lr = own.get("lr", inspect.signature(self.formula).parameters["lr"].default)
            return p - lr * decay * p - self.formula(g, state, t, **own)
        return p - self.formula(g + decay * p, state, t, **own)


Row = tuple[str, str, Callable[..., Any], float, bool]
ROWS: list[Row] = [
    ("SGD", "torch", sgd, 0, False),
    ("SGD", "keras", sgd_of_velocity, 0, True),
    ("SGD", "optax", sgd, 0, False),
    ("SGD", "cs231n", partial(sgd_of_velocity, momentum=0.9), 0, False),
    ("Adagrad", "torch", adagrad, 0, False),
    ("Adagrad", "keras", partial(adagrad_eps_inside, lr=1e-3), 0, True),
    ("Adagrad", "optax", adagrad_eps_inside, 0, False),
    ("Adagrad", "cs231n", partial(adagrad, eps=1e-8), 0, False),
    ("Adadelta", "torch", adadelta, 0, False),
    ("Adadelta", "keras", partial(adadelta, lr=1e-3, rho=0.95, eps=1e-7), 0, True),
    ("Adadelta", "optax", adadelta, 0, False),
    ("RMSprop", "torch", rmsprop, 0, False),
    ("RMSprop", "keras", partial(rmsprop_eps_inside, lr=1e-3, eps=1e-7), 0, True),
    ("RMSprop", "optax", rmsprop_eps_inside, 0, False),
    ("RMSprop", "cs231n", rmsprop, 0, False),
    ("Adam", "torch", adam, 0, False),
    ("Adam", "keras", keras_adam, 0, True),
    ("Adam", "optax", optax_adam, 0, False),
    ("Adam", "cs231n", adam, 0, False),
    ("AdamW", "torch", adam, 1e-2, True),
    ("AdamW", "keras", keras_adam, 4e-3, True),
    ("AdamW", "optax", optax_adam, 1e-4, True),
    ("Adamax", "torch", adamax, 0, False),
    ("Adamax", "keras", keras_adamax, 0, True),
    ("Adamax", "optax", adamax, 0, False),
    ("NAdam", "torch", nadam, 0, False),
    ("NAdam", "keras", partial(nadam, lr=1e-3, eps=1e-7, momentum_decay=1.0), 0, True),
    ("NAdam", "optax", optax_nadam, 0, False),
    ("RAdam", "torch", radam, 0, False),
    ("RAdam", "optax", optax_radam, 0, False),
    ("Lion", "torch", lion, 0, True),
    ("Lion", "keras", partial(lion, lr=1e-3), 0, True),
    ("Lion", "optax", lion, 1e-3, True),
]
# What each rule is tried with in every convention, besides its defaults. An eps is large where its place is to be seen.
EVERYWHERE: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {"lr": 0.1, "weight_decay": 0.01},
        {"lr": 0.05, "momentum": 0.9},
        {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    ],
    "Adagrad": [{"lr": 0.1, "eps": 0.3, "initial_accumulator_value": 0.5, "weight_decay": 0.05}],
    "Adadelta": [{"lr": 0.5, "rho": 0.7, "eps": 0.01, "weight_decay": 0.05}],
    "RMSprop": [
        {"lr": 0.01, "eps": 0.3, "weight_decay": 0.05},
        {"lr": 0.01, "eps": 0.3, "momentum": 0.9},
        {"eps": 0.1, "centered": True},
        {"eps": 0.1, "centered": True, "momentum": 0.5, "weight_decay": 0.05},
    ],
    "Adam": [
        {"lr": 0.1, "eps": 0.3, "weight_decay": 0.05},
        {"lr": 0.01, "eps": 0.3, "amsgrad": True, "betas": (0.8, 0.9)},
    ],
    "AdamW": [{"lr": 0.1, "eps": 0.3, "weight_decay": 0.3}, {"amsgrad": True, "betas": (0.8, 0.9)}],
    "Adamax": [{"lr": 0.01, "eps": 0.3, "betas": (0.8, 0.9), "weight_decay": 0.05}],
    "NAdam": [{"lr": 0.01, "eps": 0.3, "betas": (0.8, 0.9), "weight_decay": 0.05}],
    "RAdam": [{"lr": 0.01, "eps": 0.3, "betas": (0.8, 0.9), "weight_decay": 0.05}],
    "Lion": [{"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.3}],
}
# And where the convention is PyTorch's: what other systems lack, and what all rules share.
IN_TORCH: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {"lr": 0.05, "momentum": 0.9, "dampening": 0.5},
        {"lr": 0.05, "momentum": 0.9, "maximize": True, "weight_decay": 0.01},
    ],
    "Adagrad": [{"lr": 0.1, "lr_decay": 0.1, "maximize": True}],
    "Adadelta": [{"lr": 0.1, "maximize": True}],
    "RMSprop": [{"lr": 0.1, "maximize": True, "alpha": 0.5}],
    "Adam": [
        {"lr": 0.01, "betas": (0.0, 0.5)},
        {"lr": 0.01, "maximize": True, "weight_decay": 0.05},
        {"lr": 0.01, "decoupled_weight_decay": True, "weight_decay": 0.3, "amsgrad": True},
    ],
    "AdamW": [{"maximize": True, "lr": 0.05}],
    "Adamax": [{"maximize": True, "lr": 0.05}],
    "NAdam": [
        {"maximize": True, "lr": 0.05, "momentum_decay": 0.1},
        {"lr": 0.05, "decoupled_weight_decay": True, "weight_decay": 0.3},
    ],
    "RAdam": [
        {"maximize": True, "lr": 0.05},
        {"lr": 0.05, "decoupled_weight_decay": True, "weight_decay": 0.3},
    ],
    "Lion": [{"maximize": True, "decoupled_weight_decay": False, "weight_decay": 0.3}],
}


def settings_of(kind: str, convention: str) -> list[dict[str, Any]]:
    return [{}, *EVERYWHERE[kind], *(IN_TORCH[kind] if convention == "torch" else [])]


TABLE = [Rule(*row, settings) for row in ROWS for settings in settings_of(row[0], row[1])]
# One of each kernel: what does not depend on numbers need not be seen with all of them.
KERNELS = [
    rule
    for rule in TABLE
    if rule.convention == "torch" and rule.settings in ({}, *EVERYWHERE[rule.kind])
]


def label(rule: Rule) -> str:
    return rule.name


every_rule = pytest.mark.parametrize("rule", TABLE, ids=label)
every_kernel = pytest.mark.parametrize("rule", KERNELS, ids=label)
KINDS = list(EVERYWHERE)
every_kind = pytest.mark.parametrize("kind", KINDS)
every_dtype = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])


# ---- data ----

SHAPES = [(7, 33), (), (130,), (0, 4), (3, 5, 2)]


@cache
def draw(dtype: type, seed: int) -> list[Array]:
    """Gradients of step `seed`; nobody writes them."""
    rng = np.random.default_rng(seed)
    drawn = [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]
    for array in drawn:
        array.flags.writeable = False
    return drawn


def copies(arrays: list[Array]) -> list[Array]:
    return [array.copy() for array in arrays]


def start(dtype: type) -> list[Array]:
    """Parameters."""
    return copies(draw(dtype, 1000))


def train(optimizer: Any, steps: range, dtype: type, **options: Any) -> None:
    for step in steps:
        optimizer.step(draw(dtype, step), **options)


class Followed(NamedTuple):
    """Where a rule ends, and what the roundings of the way there come to."""

    params: list[Array]
    roundings: float
    changes: float

    def bound(self, dtype: type) -> float:
        kept = np.float32 if dtype is np.float16 else dtype
        return float(np.finfo(kept).eps * self.roundings)


def largest_change(before: list[Array], after: list[Array]) -> float:
    return float(max(np.abs(a - b).max(initial=0) for a, b in zip(after, before, strict=True)))


def rounding_of_step(before: list[Array], after: list[Array], t: int) -> float:
    """In epsilons. Each step rounds the parameter at most twice, by half of one. The change is wrong by the roundings
    of its averages, one a step for the term and a half for the decay, and by those of its own few operations."""
    largest = max(np.abs(p).max(initial=0) for p in after)
    return float(largest + (1.5 * t + 8) * largest_change(before, after))


@cache
def followed(index: int, dtype: type, steps: int = 100) -> Followed:
    """A row of the table, in float64, from the same numbers as training in dtype."""
    rule = TABLE[index]
    params = [p.astype(np.float64) for p in draw(dtype, 1000)]
    states: list[State] = [{} for _ in params]
    changes = roundings = 0.0
    for t in range(1, steps + 1):
        grads = [g.astype(np.float64) for g in draw(dtype, t)]
        after = [rule.follow(p, g, s, t) for p, g, s in zip(params, grads, states, strict=True)]
        roundings += rounding_of_step(params, after, t)
        changes += largest_change(params, after)
        params = after
    return Followed(params, roundings, changes)


def kept_params(optimizer: Any) -> list[Array]:
    """The parameters in the precision that the steps add up in."""
    state = optimizer.state_dict()
    return [state.get(f"master.{i}", p) for i, p in enumerate(optimizer.params)]


# ---- what a step writes ----


def everything(optimizer: Any) -> dict[str, Array]:
    """All arrays and numbers that a step changes, as copies."""
    params = {f"params.{i}": p.copy() for i, p in enumerate(optimizer.params)}
    state = optimizer.state_dict()
    del state["settings"]  # which no step changes
    return {**params, **state}


def assert_same_arrays(actual: dict[str, Array], wanted: dict[str, Array]) -> None:
    assert actual.keys() == wanted.keys()
    for name, array in wanted.items():
        assert_same_bits(actual[name], array)
