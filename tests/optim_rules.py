"""The table of optimizers and settings that tests iterate, and what a training by their reference gives."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import nnfast as nf
from layouts import assert_same_bits
from tests.reference.optim import ROWS, State

Array = NDArray[Any]


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
        takes = inspect.signature(self.formula).parameters
        if own.pop("decoupled_weight_decay", self.decoupled):
            if "decay" in takes:
                own["decay"] = decay
            else:
                p = p - own.get("lr", takes["lr"].default) * decay * p
        else:
            g = g + decay * p
        if "p" in takes:
            own["p"] = p
        return p - self.formula(g, state, t, **own)


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
        {"eps": 0.3, "momentum": 0.9, "nesterov": True, "bias_correction": True},
        {"lr": 0.01, "eps": 0.3, "bias_correction": True},
    ],
    "Adam": [
        {"lr": 0.1, "eps": 0.3, "weight_decay": 0.05},
        {"lr": 0.01, "eps": 0.3, "amsgrad": True, "betas": (0.8, 0.9)},
        {"lr": 0.01, "eps": 0.3, "bias_correction": False},
        {"lr": 0.1, "eps": 0.1, "eps_root": 0.3},
        {"lr": 0.1, "eps": 0.1, "eps_root": 0.3, "amsgrad": True, "betas": (0.8, 0.9)},
    ],
    "AdamW": [{"lr": 0.1, "eps": 0.3, "weight_decay": 0.3}, {"amsgrad": True, "betas": (0.8, 0.9)}],
    "Adamax": [
        {"lr": 0.01, "eps": 0.3, "betas": (0.8, 0.9), "weight_decay": 0.05},
        {"lr": 0.01, "eps": 0.3, "bias_correction": False},
    ],
    "NAdam": [
        {"lr": 0.01, "eps": 0.3, "betas": (0.8, 0.9), "weight_decay": 0.05},
        {"lr": 0.05, "eps": 0.1, "eps_root": 0.3},
    ],
    "RAdam": [
        {"lr": 0.01, "eps": 0.3, "betas": (0.8, 0.9), "weight_decay": 0.05},
        {"lr": 0.05, "eps": 0.1, "eps_root": 0.3, "betas": (0.8, 0.9), "threshold": 7.0},
        {"lr": 0.05, "eps": 0.1, "betas": (0.8, 0.9), "threshold": 4.0},
    ],
    "Lion": [{"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.3}],
    "AdaBelief": [
        {"lr": 0.01, "eps": 0.3, "eps_root": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.05}
    ],
    "Yogi": [
        {"lr": 0.01, "eps": 0.3, "betas": (0.8, 0.9), "weight_decay": 0.05},
        {"lr": 0.01, "initial_accumulator_value": 0.5},
    ],
    "Adan": [
        {"lr": 0.01, "eps": 0.3, "betas": (0.8, 0.7), "beta3": 0.9, "weight_decay": 0.3},
        {"lr": 0.01, "eps_root": 0.3},
    ],
    "Rprop": [
        {"lr": 0.01, "etas": (0.25, 1.5), "step_sizes": (0.005, 0.02)},
        {"lr": 0.01, "weight_decay": 0.05},
    ],
    "Ftrl": [
        {"lr": 0.1, "l1": 0.3, "l2": 0.2, "l2_shrinkage": 0.1, "beta": 0.5, "weight_decay": 0.05},
        {"lr": 0.1, "initial_accumulator_value": 1.0},
    ],
    "LAMB": [{"lr": 0.01, "eps": 0.3, "betas": (0.8, 0.9), "weight_decay": 0.3}],
    "LARS": [
        {"lr": 0.1, "trust_coefficient": 0.1, "eps": 0.5, "weight_decay": 0.05},
        {"lr": 0.1, "trust_coefficient": 0.1, "momentum": 0.5, "nesterov": True},
    ],
}
# Without an eps under the root the variance of equal gradients, of which roundings are left, has no stable root.
IN_OPTAX: dict[str, list[dict[str, Any]]] = {
    "RMSprop": [
        {"eps": 0.3, "centered": True, "bias_correction": True},
        {"eps": 0.3, "centered": True, "bias_correction": True, "momentum": 0.9, "nesterov": True},
    ],
}
# Settings that PyTorch has not.
NOT_PYTORCHS = {"bias_correction", "eps_root", "threshold"}
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
        {"lr": 0.01, "eps": 0.3, "amsgrad": True, "bias_correction": False},
    ],
    "AdamW": [{"maximize": True, "lr": 0.05}, {"bias_correction": False, "eps": 0.3}],
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
    "ASGD": [
        {"lr": 0.1, "lambd": 0.1, "alpha": 0.5, "t0": 10.0, "weight_decay": 0.05},
        {"lr": 0.1, "maximize": True},
    ],
    "LAMB": [{"lr": 0.01, "maximize": True, "decoupled_weight_decay": False, "weight_decay": 0.3}],
    "LARS": [{"lr": 0.1, "maximize": True, "decoupled_weight_decay": True, "weight_decay": 0.3}],
}


def settings_of(kind: str, convention: str) -> list[dict[str, Any]]:
    return [
        {},
        *EVERYWHERE.get(kind, []),
        *(IN_TORCH.get(kind, []) if convention == "torch" else []),
        *(IN_OPTAX.get(kind, []) if convention == "optax" else []),
    ]


TABLE = [Rule(*row, settings) for row in ROWS for settings in settings_of(row[0], row[1])]
# One of each kernel: what does not depend on numbers need not be seen with all of them.
KERNELS = [
    rule
    for rule in TABLE
    if rule.convention == "torch"
    and rule.settings in ({}, *EVERYWHERE.get(rule.kind, []))
    and not NOT_PYTORCHS & rule.settings.keys()
]


def label(rule: Rule) -> str:
    return rule.name


every_rule = pytest.mark.parametrize("rule", TABLE, ids=label)
every_kernel = pytest.mark.parametrize("rule", KERNELS, ids=label)
KINDS = list(dict.fromkeys(kind for kind, *_ in ROWS))
every_kind = pytest.mark.parametrize("kind", KINDS)
DTYPES = (np.float16, np.float32, np.float64)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


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


def assert_same_arrays(actual: dict[str, Array], expected: dict[str, Array]) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert_same_bits(actual[name], array)
