"""Which arrays of a network are float64 among float32 ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nnfast._arrays import is_bfloat16
from nnfast._state import by_name
from nnfast.nn import Layer
from nnfast.optim.optimizer import Optimizer


@dataclass(frozen=True)
class DtypeReport:
    """What check_dtypes found. Printed it is a list of the arrays that are of another dtype.

    Parameters
    ----------
    dtypes : dict of str by str
        The dtype of each array of floats, by the array's name.
    expected : str
        What they should be.
    float16_too : bool, default False
        Whether float16 and bfloat16 are as good: their optimizers' state is float32.

    Examples
    --------
    >>> import nnfast as nf
    >>> report = nf.checks.DtypeReport({"w": "float32", "mask": "float64"}, "float32")
    >>> report.passed, report.others
    (False, {'mask': 'float64'})
    >>> print(report)
    1 array of float32, 1 other
    FAILED   mask               float64
             try                dtype=np.float32 in np.zeros, rng.random and the like, or astype(np.float32)
    """

    dtypes: dict[str, str]
    expected: str
    float16_too: bool = False

    @property
    def others(self) -> dict[str, str]:
        """Those of another dtype."""
        right = (self.expected, "float16", "bfloat16") if self.float16_too else (self.expected,)
        return {name: dtype for name, dtype in self.dtypes.items() if dtype not in right}

    @property
    def passed(self) -> bool:
        """Whether there are none."""
        return not self.others

    def __str__(self) -> str:
        others = self.others
        count = len(self.dtypes) - len(others)
        lines = [f"{count} array{'s' * (count != 1)} of {self.expected}"]
        if others:
            lines[0] += f", {len(others)} other{'s' * (len(others) != 1)}"
            lines += [f"FAILED   {name:<18} {dtype}" for name, dtype in others.items()]
            advice = f"dtype=np.{self.expected} in np.zeros, rng.random and the like, or astype(np.{self.expected})"
            lines.append(f"         {'try':<18} {advice}")
        return "\n".join(lines)


def check_dtypes(net_or_arrays: Any, dtype: DTypeLike | None = None) -> DtypeReport:
    """Find the arrays that turn a float32 network into a float64 one, and name them.

    One float64 array, such as a mask of ``rng.random`` or a bias of ``np.zeros``, makes every product it takes part in
    float64, and so all that follows, at half the speed.

    Parameters
    ----------
    net_or_arrays : Layer, optimizer, array, or object, mapping or sequence that holds some, nested in any way
        Of a Layer parameters, gradients and statistics; of an optimizer parameters and state; of a network of your own
        its attributes. What to look at beside the network goes into a dict: ``{"net": net, "x": x, "dy": dy}``.
        Integers and Python's floats, which change no dtype, are left out; NumPy's scalars are not.
    dtype : dtype, optional
        What all arrays should be. If None, float32 where any array is float32, float16 or bfloat16, which go
        together.

    Returns
    -------
    report : DtypeReport

    Raises
    ------
    TypeError
        If it is none of these, or dtype no dtype of floats.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> net = nf.nn.Sequential(nf.nn.Dense(4, 2, rng=0))
    >>> mask = (np.random.default_rng(0).random((3, 4)) < 0.5) / 0.5
    >>> print(nf.checks.check_dtypes({"net": net, "mask": mask}))
    4 arrays of float32, 1 other
    FAILED   mask               float64
             try                dtype=np.float32 in np.zeros, rng.random and the like, or astype(np.float32)
    """
    if dtype is not None and not _is_float(np.dtype(dtype)):
        raise TypeError(f"dtype must be a dtype of floats, got {np.dtype(dtype)}")
    if not hasattr(net_or_arrays, "__dict__") and not isinstance(net_or_arrays, _HOLDERS):
        kind = type(net_or_arrays).__name__
        raise TypeError(f"net_or_arrays must be a network, array, mapping or sequence, got {kind}")
    found = _floats(net_or_arrays)
    if dtype is not None:
        return DtypeReport(found, np.dtype(dtype).name)
    narrow = {"float16", "bfloat16", "float32"} & set(found.values())
    return DtypeReport(found, "float32" if narrow else "float64", True)


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or is_bfloat16(dtype)


_HOLDERS = (np.ndarray, np.generic, Mapping, list, tuple)


def _floats(value: Any) -> dict[str, str]:
    """The dtypes of the arrays of floats in it, by name."""
    found: dict[str, str] = {}
    todo, seen = [("", value)], set()
    while todo:
        name, value = todo.pop()
        if isinstance(value, np.ndarray | np.generic):
            if _is_float(value.dtype):
                name = name or "array"
                while name in found:  # {"a": {"b": x}, "a.b": y}
                    name += "'"
                found[name] = value.dtype.name
            elif value.dtype.kind == "O":
                todo.append((name, list(value.flat)))
        elif id(value) not in seen:
            seen.add(id(value))
            parts = [(f"{name}.{key}" if name else str(key), v) for key, v in _parts(value).items()]
            todo += reversed(parts)
    return found


def _parts(value: Any) -> Mapping[Any, Any]:
    """What may hold arrays in it."""
    if isinstance(value, Layer):
        return {
            **value.named_params(),
            **{f"{name}.grad": grad for name, grad in value.named_grads().items()},
            **value.named_statistics(),
        }
    if isinstance(value, Optimizer):
        # The state of parameters of 16 bits is float32, and a packed one has a dtype of its own.
        other = value.state_dtype != "float32" or any(p.dtype.itemsize == 2 for p in value.params)
        state = {} if other else value.state
        return by_name({"params": value.params, **state}, value._names)
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple | deque | set | frozenset):
        return dict(enumerate(value))
    if isinstance(value, type | ModuleType):
        return {}
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    of_slots = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return of_slots | getattr(value, "__dict__", {})
