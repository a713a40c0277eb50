"""What is called: every public function of the package, found, not listed."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

import nnfast as nf

# Modules of kernels; the others are Python over these functions.
MODULES = ("augmentation", "averaging", "init", "monitor", "optim", "penalties", "random")
# They set what holds for the process, write files, or draw.
LEFT_OUT = {
    "set_num_threads",
    "num_threads",
    "share_blas_threads",
    "BlasSharing",
    "cpu_info",
    "get_num_threads",
    "Recorder",
    "look",
}
METHODS_LEFT_OUT = {"save", "load", "count", "index"}
# They take time in proportion to their input, but not memory: what never ends is no fault of theirs.
REDUCE = {
    "batch_norm_stats",
    "logsumexp",
    "logsumexp_backward",
    "prelu_weight_backward",
    "dropout_mask",
    "merge_stats",
}
WAYS = ("__call__", "__call__", "__call__", "__call__", "reduce", "accumulate", "outer", "at")


class Target(NamedTuple):
    """A function or class, its parameters, and its public methods."""

    name: str
    function: Callable[..., Any]
    parameters: tuple[inspect.Parameter, ...]
    methods: tuple[str, ...] = ()

    @property
    def huge(self) -> bool:
        """Whether it is a kernel that refuses more elements than there is memory for."""
        return not self.methods and "." not in self.name and self.name not in REDUCE


def signature(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    """The parameters, with the options that are declared by a TypedDict as parameters of their own."""
    try:
        found = inspect.signature(function, eval_str=True)
    except (NameError, TypeError):
        found = inspect.signature(function)
    parameters: list[inspect.Parameter] = []
    for parameter in found.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            parameters += _options(parameter)
        else:
            parameters.append(parameter)
    return tuple(parameters)


def _named(*names: str) -> list[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(name, kind, default=None) for name in names]


def _options(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """What a ufunc takes, or the keys of the TypedDict that is unpacked."""
    for kind in getattr(parameter.annotation, "__args__", ()):
        annotations = getattr(kind, "__annotations__", {})
        return [
            option.replace(annotation=annotations[option.name]) for option in _named(*annotations)
        ]
    return _named("out", "where", "dtype", "casting", "order")


def _of_ufunc(ufunc: np.ufunc) -> tuple[inspect.Parameter, ...]:
    """Its inputs, and what NumPy lets every ufunc take."""
    kind = inspect.Parameter.POSITIONAL_ONLY
    names = ("dy", "x", "y")[-ufunc.nin :] if ufunc.nin < 3 else ("dy", "x", "y")
    inputs = [inspect.Parameter(name, kind) for name in names]
    extra = ("axis", "axes") if ufunc.signature else ("where",)
    return (*inputs, *_named("out", *extra, "dtype", "casting", "order"))


def _target(name: str, function: Any) -> Target:
    if isinstance(function, np.ufunc):
        methods = () if function.signature or function.nin != 2 else WAYS
        return Target(name, function, _of_ufunc(function), methods)
    if not inspect.isclass(function):
        return Target(name, function, signature(function))
    methods = tuple(
        key
        for key, value in inspect.getmembers(function, callable)
        if not key.startswith("_") and key not in METHODS_LEFT_OUT
    )
    return Target(name, function, signature(function), methods)


@cache
def targets() -> dict[str, Target]:
    """All of them, by name."""
    found: dict[str, Any] = {
        name: value
        for name in nf.__all__
        if callable(value := getattr(nf, name)) and name not in LEFT_OUT
    }
    for name in MODULES:
        module = getattr(nf, name)
        for key in module.__all__:
            value = getattr(module, key)
            is_record = inspect.isclass(value) and (
                hasattr(value, "_fields") or hasattr(value, "__dataclass_fields__")
            )
            if callable(value) and not is_record and key not in LEFT_OUT:
                found[f"{name}.{key}"] = value
    below = {name: value.ufunc for name, value in found.items() if hasattr(value, "ufunc")}
    found |= {f"{name}.ufunc": ufunc for name, ufunc in below.items() if ufunc.__name__ == name}
    return {name: _target(name, found[name]) for name in sorted(found)}
