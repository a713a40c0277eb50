"""A plain function of arrays, in the form that gradient_check evaluates."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nnfast import _arrays
from nnfast.checks.copies import Array

Function = Callable[[Any], Any]


class FunctionProbe:
    """A function, its value and the gradients that are claimed for it.

    It is evaluated at copies of the arrays in float64, in the form that they were given in.

    Parameters
    ----------
    function : function of x that gives a number
    x : array_like of floats, or a sequence or mapping of them
    gradient : what x is, or a function of x that gives it

    Attributes
    ----------
    arrays : dict of ndarrays
        What is written to them holds for the next evaluation.
    first : float
        The value before anything is written.
    """

    def __init__(self, function: Function, x: Any, gradient: Any) -> None:
        self._function = function
        self._keys = _keys_of(x)
        self.arrays = {
            name: _wide(value, name) for name, value in _named(x, self._keys, "x").items()
        }
        claimed = gradient(self._given()) if callable(gradient) else gradient
        self._gradients = self._checked(claimed)
        self.first = self.value()

    def value(self) -> float:
        """The function's value."""
        with np.errstate(all="ignore"):
            result = np.asarray(self._function(self._given()))
        if result.size != 1 or result.dtype.kind not in "biuf":
            raise ValueError(
                "the function must give a number, such as (f(x) * dy).sum() for an array f(x) and a fixed dy, "
                f"got an array of dtype {result.dtype} and shape {result.shape}"
            )
        return float(result.item())

    def repeats(self) -> bool:
        """Whether the value is the same when it is computed again, as differences need it to be."""
        return self.value() == self.first

    def gradients(self) -> dict[str, Array]:
        """The gradients that the caller claims."""
        return self._gradients

    def is_single(self) -> bool:
        """Whether the function computes in float32 even for float64 input."""
        before = {name: array.copy() for name, array in self.arrays.items()}
        for array in self.arrays.values():
            array *= 1 + 1e-9
        value = self.value()
        for name, array in self.arrays.items():
            array[...] = before[name]
        return value == float(np.float32(value)) and value != round(value)

    def _given(self) -> Any:
        """The arrays as x was given."""
        arrays = list(self.arrays.values())
        if self._keys is None:
            return arrays[0]
        return arrays if self._keys is list else dict(zip(self._keys, arrays, strict=True))

    def _checked(self, claimed: Any) -> dict[str, Array]:
        if _keys_of(claimed) != self._keys:
            raise TypeError(
                "gradient must have the form of x: an array, a list or a dict of arrays"
            )
        found = _named(claimed, self._keys, "x")
        if found.keys() != self.arrays.keys():
            raise ValueError(f"gradient must have {list(self.arrays)}, as x has, got {list(found)}")
        made = {}
        for name, array in self.arrays.items():
            gradient = _arrays.floating(found[name], f"gradient of {name}", float16=True)
            if gradient.shape != array.shape:
                raise ValueError(
                    f"gradient of {name} must have shape {array.shape}, got {gradient.shape}"
                )
            made[name] = gradient.astype(np.float64)
        return made


def _keys_of(value: Any) -> Any:
    """The keys of a mapping, `list` for a sequence of arrays, None for one array."""
    if isinstance(value, Mapping):
        return tuple(value)
    many = isinstance(value, Sequence) and any(isinstance(part, np.ndarray) for part in value)
    return list if many else None


def _named(value: Any, keys: Any, name: str) -> dict[str, Any]:
    if keys is None:
        return {name: value}
    if keys is list:
        return {f"{name}[{i}]": part for i, part in enumerate(value)}
    return {f"{name}[{key!r}]": value[key] for key in value}


def _wide(value: Any, name: str) -> Array:
    """A copy in float64, contiguous."""
    array = _arrays.plain(value, name)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must be an array of real numbers, got dtype {array.dtype}"
            f"{_arrays.advice(array, name)}"
        )
    if not array.size:
        raise ValueError(f"{name} must have an element, got shape {array.shape}")
    return array.astype(np.float64, order="C")
