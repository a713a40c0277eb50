"""Settings of rules and options of all: what each may be, and which a convention has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from nnfast import _checks
from nnfast.optim.packed import StateDtype

# The values that precede a rule's own in _group_hyperparameters, in the order of cpp/kernels/optim.hpp.
SHARED_HYPERPARAMETERS = ("sign", "clip_value", "weight_decay", "shrink", "ema_decay")

Convention = Literal["torch", "keras", "optax", "cs231n"]

# Defaults that conventions share: no weight decay, and of which kind it is where a user sets it.
L2 = {"weight_decay": 0.0, "decoupled_weight_decay": False}
DECOUPLED = {"decoupled_weight_decay": True}


class Options(TypedDict, total=False):
    """Options that all rules take; see the docstring of nnfast.optim."""

    maximize: bool
    decoupled_weight_decay: bool | None
    clip_value: float | None
    clip_norm: float | None
    clip_global_norm: float | None
    clip_block_rms: float | None
    clip_adaptive: float | None
    clip_adaptive_eps: float
    skip_nonfinite: bool
    ema_decay: float | None
    ema_bias_correction: bool | None
    ema_overwrite_frequency: int | None
    state_dtype: StateDtype
    rounding_seed: int
    convention: Convention


# ---- what a setting may be ----


def two_betas(betas: Any, name: str = "betas") -> tuple[float, float]:
    """Two floats in [0, 1)."""
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise TypeError(f"{name} must be two numbers, got {betas!r}")
    first, second = (_checks.unit_interval(beta, f"{name}[{i}]") for i, beta in enumerate(betas))
    if type(betas) is tuple and betas[0] is first and betas[1] is second:
        same: tuple[float, float] = betas
        return same
    return first, second


def _two_numbers(value: Any, name: str) -> tuple[float, float]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise TypeError(f"{name} must be two numbers, got {value!r}")
    if type(value) is tuple and set(map(type, value)) == {float}:
        return value  # the very object that was given, which a step looks for
    first, second = (_checks.real(number, f"{name}[{i}]") for i, number in enumerate(value))
    return first, second


def _etas(value: Any, name: str) -> tuple[float, float]:
    etas = _two_numbers(value, name)
    if not 0 < etas[0] < 1 < etas[1]:
        raise ValueError(f"{name} must be one number in (0, 1) and one above 1, got {etas}")
    return etas


def _step_sizes(value: Any, name: str) -> tuple[float, float]:
    sizes = _two_numbers(value, name)
    if not 0 <= sizes[0] <= sizes[1]:
        raise ValueError(f"{name} must be two numbers that do not fall, from 0 on, got {sizes}")
    return sizes


def _three_numbers(value: Any, name: str) -> tuple[float, float, float]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3:
        raise TypeError(f"{name} must be three numbers, got {value!r}")
    first, second, third = (_checks.real(n, f"{name}[{i}]") for i, n in enumerate(value))
    return first, second, third


def _not_positive(value: Any, name: str) -> float:
    number = _checks.real(value, name)
    if not number <= 0:
        raise ValueError(f"{name} must not be positive, got {number!r}")
    return number


def _few(value: Any, name: str) -> int:
    number = _checks.integer_from(value, 0, name)
    if number >= 100:
        raise ValueError(f"{name} must be below 100, got {number}")
    return number


# Settings of Muon and Adafactor.
_OF_MATRICES: dict[str, Callable[[Any, str], Any]] = {
    "ns_coefficients": _three_numbers,
    "ns_steps": _few,
    "adjust_lr_fn": lambda value, name: _checks.one_of(
        value, ("original", "match_rms_adamw"), name
    ),
    "beta2_decay": _not_positive,
    "eps1": lambda value, name: None if value is None else _checks.not_negative(value, name),
    "d": _checks.positive,
}


_SWITCHES = ("nesterov", "centered", "amsgrad", "decoupled_weight_decay", "bias_correction")
_SHARES = ("alpha", "rho", "beta3")


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a rule, each checked by its name."""
    return {name: check_setting(name, value) for name, value in settings.items()}


def check_setting(name: str, value: Any, within: str | None = None) -> Any:
    label = name if within is None else f"{within}[{name!r}]"
    if name == "betas":
        return two_betas(value, label)
    if name == "etas":
        return _etas(value, label)
    if name == "step_sizes":
        return _step_sizes(value, label)
    if name in _OF_MATRICES:
        return _OF_MATRICES[name](value, label)
    if name in _SWITCHES:
        return bool(value)
    if name in _SHARES:
        return _checks.unit_interval(value, label)
    if name == "dampening":
        return _checks.real(value, label)
    if name == "threshold":
        return _at_least_four(value, label)
    return _checks.not_negative(value, label)


def _at_least_four(value: Any, label: str) -> float:
    """RAdam's threshold: below 4 the rectification is the root of a negative number."""
    number = _checks.real(value, label)
    if not number >= 4:
        raise ValueError(f"{label} must be at least 4, got {number!r}")
    return number


def settings_of(rule: Any, convention: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings, with the convention's defaults for the others."""
    if convention not in ("torch", "keras", "optax", "cs231n"):
        raise ValueError(
            f"convention must be 'torch', 'keras', 'optax' or 'cs231n', got {convention!r}"
        )
    if convention not in rule.defaults:
        raise ValueError(f"convention {convention!r} has no {rule.__name__}")
    defaults = {**rule.defaults["torch"], **rule.defaults[convention]}
    chosen = {name: value for name, value in given.items() if value is not None}
    return check_settings({**defaults, **chosen})


# ---- saved ----

SWITCHES_OF_ALL = ("maximize", "skip_nonfinite", "ema_bias_correction")
OPTIONS_WITH_VALUES = (
    "ema_decay",
    "ema_overwrite_frequency",
    "clip_adaptive_eps",
    "rounding_seed",
)
OPTIONS_SAVED = (*SWITCHES_OF_ALL, "convention", *OPTIONS_WITH_VALUES)


def check_saved(name: str, value: Any) -> Any:
    """Check a setting of a saved state."""
    if name in _SWITCHES or name in SWITCHES_OF_ALL:
        if not isinstance(value, bool):
            raise TypeError(f"state['settings']: {name} must be a bool, got {value!r}")
        return value
    return check_setting(name, value, "state['settings']")
