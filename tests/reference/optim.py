"""What a step of each optimizer subtracts from the parameter, as the systems that define it write it.

Each is a function (gradient, state, step from 1 on, hyperparameters by name) with the defaults of its own system. One
with an argument p is given the parameters, one with an argument decay takes care of decoupled weight decay itself.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
State = dict[str, Any]
Betas = tuple[float, float]


def average(s: State, name: str, term: Array, decay: float) -> Any:
    s[name] = decay * s.get(name, 0) + (1 - decay) * term
    return s[name]


def adams(s: State, g: Array, betas: Betas) -> tuple[Any, Any]:
    return average(s, "m", g, betas[0]), average(s, "v", g * g, betas[1])


def correction(decay: float, t: int, corrected: bool) -> float:
    """What an average that began at zero is divided by."""
    return 1 - decay**t if corrected else 1.0


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


def variance(
    s: State, g: Array, t: int, alpha: float, centered: bool, bias_correction: bool
) -> Any:
    share = correction(alpha, t, bias_correction)
    v = average(s, "v", g * g, alpha) / share
    return v - (average(s, "m", g, alpha) / share) ** 2 if centered else v


def trace(s: State, d: Any, momentum: float, nesterov: bool) -> Any:
    s["b"] = momentum * s.get("b", 0) + d
    return d + momentum * s["b"] if nesterov else s["b"]


def rmsprop(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0,
    centered: bool = False,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> Any:
    d = g / (np.sqrt(variance(s, g, t, alpha, centered, bias_correction)) + eps)
    return lr * trace(s, d, momentum, nesterov)


def rmsprop_eps_inside(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-2,
    alpha: float = 0.9,
    eps: float = 1e-8,
    momentum: float = 0,
    centered: bool = False,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> Any:
    d = lr * g / np.sqrt(variance(s, g, t, alpha, centered, bias_correction) + eps)
    return trace(s, d, momentum, nesterov)


def adam(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    amsgrad: bool = False,
    bias_correction: bool = True,
    eps_root: float = 0,
) -> Any:
    m, v = adams(s, g, betas)
    v = largest(s, v) if amsgrad else v
    first, second = (correction(beta, t, bias_correction) for beta in betas)
    return lr * m / first / (np.sqrt(v / second + eps_root) + eps)


def keras_adam(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-7,
    amsgrad: bool = False,
    bias_correction: bool = True,
    eps_root: float = 0,
) -> Any:
    m, v = adams(s, g, betas)
    v = largest(s, v) if amsgrad else v
    first, second = (correction(beta, t, bias_correction) for beta in betas)
    alpha = lr * np.sqrt(second) / first
    return alpha * m / (np.sqrt(v + eps_root) + eps)


def optax_adam(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    amsgrad: bool = False,
    bias_correction: bool = True,
    eps_root: float = 0,
) -> Any:
    m, v = adams(s, g, betas)
    first, second = (correction(beta, t, bias_correction) for beta in betas)
    v_hat = v / second
    v_hat = largest(s, v_hat) if amsgrad else v_hat
    return lr * m / first / (np.sqrt(v_hat + eps_root) + eps)


def adamax(
    g: Array,
    s: State,
    t: int,
    lr: float = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    bias_correction: bool = True,
) -> Any:
    m = average(s, "m", g, betas[0])
    s["u"] = np.maximum(betas[1] * s.get("u", 0), np.abs(g) + eps)
    return lr / correction(betas[0], t, bias_correction) * m / s["u"]


def keras_adamax(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-7,
    bias_correction: bool = True,
) -> Any:
    m = average(s, "m", g, betas[0])
    s["u"] = np.maximum(betas[1] * s.get("u", 0), np.abs(g))
    return lr * m / (correction(betas[0], t, bias_correction) * (s["u"] + eps))


def nadam(
    g: Array,
    s: State,
    t: int,
    lr: float = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    momentum_decay: float = 4e-3,
    eps_root: float = 0,
) -> Any:
    m, v = adams(s, g, betas)
    mu = betas[0] * (1 - 0.96 ** (momentum_decay * np.arange(1, t + 2)) / 2)
    m_hat = mu[t] * m / (1 - mu.prod()) + (1 - mu[t - 1]) * g / (1 - mu[:t].prod())
    return lr * m_hat / (np.sqrt(v / (1 - betas[1] ** t) + eps_root) + eps)


def optax_nadam(
    g: Array,
    s: State,
    t: int,
    lr: float = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    eps_root: float = 0,
) -> Any:
    m, v = adams(s, g, betas)
    beta = betas[0]
    m_hat = beta * m / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t)
    return lr * m_hat / (np.sqrt(v / (1 - betas[1] ** t) + eps_root) + eps)


def rectification(t: int, beta: float, threshold: float = 5) -> tuple[float, float]:
    """ρ and r of step t."""
    limit = 2 / (1 - beta) - 1
    rho = limit - 2 * t * beta**t / (1 - beta**t)
    above, below = (rho - 4) * (rho - 2) * limit, (limit - 4) * (limit - 2) * rho
    return rho, np.sqrt(above / below) if rho >= threshold else 1.0


def radam(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    eps_root: float = 0,
    threshold: float = 5,
) -> Any:
    m, v = adams(s, g, betas)
    rho, r = rectification(t, betas[1], threshold)
    root = np.sqrt(v + eps_root)
    adaptive = np.sqrt(1 - betas[1] ** t) / (root + eps) if rho > threshold else 1.0
    return lr * r * m / (1 - betas[0] ** t) * adaptive


def optax_radam(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    eps_root: float = 0,
    threshold: float = 5,
) -> Any:
    m, v = adams(s, g, betas)
    rho, r = rectification(t, betas[1], threshold)
    root = np.sqrt(v / (1 - betas[1] ** t) + eps_root)
    adaptive = 1 / (root + eps) if rho >= threshold else 1.0
    return lr * r * m / (1 - betas[0] ** t) * adaptive


def lion(g: Array, s: State, t: int, lr: float = 1e-4, betas: Betas = (0.9, 0.99)) -> Any:
    direction = np.sign(betas[0] * s.get("m", 0) + (1 - betas[0]) * g)
    average(s, "m", g, betas[1])
    return lr * direction


def adabelief(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-16,
    eps_root: float = 1e-16,
) -> Any:
    m = average(s, "m", g, betas[0])
    s["s"] = average(s, "s", (g - m) ** 2, betas[1]) + eps_root
    return lr * m / (1 - betas[0] ** t) / (np.sqrt(s["s"] / (1 - betas[1] ** t)) + eps)


def yogi(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-2,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-3,
    initial_accumulator_value: float = 1e-6,
) -> Any:
    s.setdefault("m", initial_accumulator_value)
    m = average(s, "m", g, betas[0])
    v = s.get("v", initial_accumulator_value)
    v = s["v"] = v - (1 - betas[1]) * np.sign(v - g * g) * g * g
    return lr * m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def adan(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    betas: Betas = (0.98, 0.92),
    beta3: float = 0.99,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    share: Callable[[float], float] = lambda beta2: beta2,
) -> Any:
    """share(beta2): of the difference, in the look ahead."""
    d = g - s.get("last", g)
    s["last"] = g
    m, v = average(s, "m", g, betas[0]), average(s, "v", d, betas[1])
    ahead = share(betas[1])
    n = average(s, "n", (g + ahead * d) ** 2, beta3)
    u = m / (1 - betas[0] ** t) + ahead * v / (1 - betas[1] ** t)
    return lr * u / (np.sqrt(n / (1 - beta3**t) + eps_root) + eps)


def optax_adan(g: Array, s: State, t: int, lr: float = 1e-3, **settings: Any) -> Any:
    settings = {"eps_root": 1e-8, **settings}
    return adan(g, s, t, lr, share=lambda beta2: 1 - beta2, **settings)


def rprop(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-2,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50.0),
) -> Any:
    agreement = np.sign(g) * np.sign(s.get("last", np.zeros_like(g)))
    factor = np.where(agreement > 0, etas[1], np.where(agreement < 0, etas[0], 1.0))
    s["size"] = np.clip(s.get("size", lr) * factor, *step_sizes)
    s["last"] = np.where(agreement < 0, 0.0, g)
    return s["size"] * np.sign(s["last"])


def asgd(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    *,
    p: Array,
) -> Any:
    """Its average is seen in a test of its own."""
    eta = lr / (1 + lambd * lr * (t - 1)) ** alpha
    return lambd * eta * p + eta * g


def ftrl(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    initial_accumulator_value: float = 0.1,
    l1: float = 0.0,
    l2: float = 0.0,
    l2_shrinkage: float = 0.0,
    beta: float = 0.0,
    *,
    p: Array,
) -> Any:
    before = s.get("n", initial_accumulator_value)
    n = s["n"] = before + g * g
    sigma = (np.sqrt(n) - np.sqrt(before)) / lr
    z = s["z"] = s.get("z", 0.0) + g + 2 * l2_shrinkage * p - sigma * p
    quadratic = np.sqrt(n) / lr + 2 * (l2 + beta / (2 * lr))
    return p - (np.clip(z, -l1, l1) - z) / quadratic


def trust_ratio(p: Array, direction: Array, coefficient: float = 1.0, eps: float = 0.0) -> float:
    of_p, of_direction = np.linalg.norm(p), np.linalg.norm(direction)
    return float(coefficient * of_p / (of_direction + eps)) if of_p and of_direction else 1.0


def lamb(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-6,
    *,
    p: Array,
    decay: float = 0.0,
) -> Any:
    m, v = adams(s, g, betas)
    u = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps) + decay * p
    return lr * trust_ratio(p, u) * u


def keras_lamb(
    g: Array,
    s: State,
    t: int,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-7,
    *,
    p: Array,
) -> Any:
    """p: after the decay."""
    return lamb(g, s, t, lr, betas, eps, p=p)


def lars(
    g: Array,
    s: State,
    t: int,
    lr: float = 1.0,
    momentum: float = 0.9,
    nesterov: bool = False,
    trust_coefficient: float = 1e-3,
    eps: float = 0.0,
    *,
    p: Array,
) -> Any:
    step = lr * trust_ratio(p, g, trust_coefficient, eps) * g
    v = s["v"] = momentum * s.get("v", 0) + step
    return step + momentum * v if nesterov else v


# ---- clipping ----


def clip_factor(option: str, convention: str, norm: Any, limit: float) -> Any:
    """What the gradients of that norm are multiplied by, as each system computes it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if convention == "keras":
            if option == "clip_norm":
                return limit / np.maximum(norm, limit)
            return limit * np.minimum(1 / norm, 1 / limit) + (norm - norm)
        if convention == "optax":
            return np.where(norm < limit, 1.0, limit / norm)
        return np.minimum(limit / (norm + 1e-6), 1.0)


def block_clipped(g: Array, limit: float) -> Array:
    """optax.clip_by_block_rms."""
    return g / np.maximum(1.0, np.sqrt(np.mean(g * g)) / limit)


def unit_clipped(
    g: Array, p: Array, axes: tuple[int, ...] | None, limit: float, eps: float
) -> Array:
    """optax.adaptive_grad_clip."""
    size, weight = (np.sqrt(np.sum(x * x, axis=axes, keepdims=True)) for x in (g, p))
    most = limit * np.maximum(weight, eps)
    return np.where(size < most, g, g * (most / np.maximum(size, 1e-6)))


# Class, convention, formula, weight decay by default, and whether that is decoupled.
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
    ("AdaBelief", "torch", adabelief, 0, False),
    ("AdaBelief", "optax", adabelief, 0, False),
    ("Yogi", "torch", yogi, 0, False),
    ("Yogi", "optax", yogi, 0, False),
    ("Adan", "torch", adan, 0, True),
    ("Adan", "optax", optax_adan, 0, True),
    ("Rprop", "torch", rprop, 0, False),
    ("ASGD", "torch", asgd, 0, False),
    ("Ftrl", "torch", ftrl, 0, False),
    ("Ftrl", "keras", ftrl, 0, True),
    ("LAMB", "torch", lamb, 1e-2, True),
    ("LAMB", "keras", keras_lamb, 0, True),
    ("LAMB", "optax", lamb, 0, True),
    ("LARS", "torch", lars, 0, False),
    ("LARS", "optax", lars, 0, False),
]
