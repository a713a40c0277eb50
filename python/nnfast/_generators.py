"""States of NumPy's generators as arrays of text, which files without pickle can hold."""

from __future__ import annotations  # numpy.random is not loaded before it is needed

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KNOWN = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


def is_text(array: NDArray[Any]) -> bool:
    """Whether the array may be such a state: nothing else in a saved network is text."""
    return array.dtype.kind == "U"


def text_of(rng: np.random.Generator) -> NDArray[np.str_]:
    """The state of a generator, without axes: JSON.

    Raises
    ------
    TypeError
        If it is of a bit generator that is not NumPy's own.
    """
    state = rng.bit_generator.state
    if state["bit_generator"] not in _KNOWN:
        raise TypeError(f"a generator must be one of NumPy's own, got {state['bit_generator']}")
    return np.array(json.dumps(state, default=_plain))


def state_of(text: NDArray[Any], name: str, expected: str | None = None) -> dict[str, Any]:
    """Read what text_of wrote, as ``bit_generator.state`` takes it; `expected` is its bit generator, if known.

    Raises
    ------
    ValueError
        If it is something else.
    """
    try:
        state = json.loads(str(text[()]))
        kind = state["bit_generator"]
        if kind not in _KNOWN:
            raise ValueError
        tried = getattr(np.random, kind)(0)
        tried.state = state
        found: dict[str, Any] = tried.state
    except Exception:  # NumPy raises what it finds
        raise ValueError(
            f"{name} must be the state of a generator, got {str(text)[:40]!r}"
        ) from None
    if expected is not None and kind != expected:
        raise ValueError(f"{name} must be the state of a {expected}, got that of a {kind}")
    return found


def _plain(value: Any) -> Any:
    """Arrays of a state as lists, and its numbers as Python's."""
    return value.tolist()
