"""What the public gradients share: the ufunc below each, and a clear error where they are given the wrong array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, cast

import numpy as np

P = ParamSpec("P")

_HOW = {"x": "was given", "y": "returned"}


class Backward(Protocol[P]):
    """A gradient, with the ufunc that computes it from what it takes by position."""

    __name__: str
    ufunc: np.ufunc

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...


def over(ufunc: np.ufunc) -> Callable[[Callable[P, Any]], Backward[P]]:
    """A decorator that gives a function its ufunc as an attribute, which pickle finds in this module by its name."""
    globals()[ufunc.__name__] = ufunc

    def give(function: Callable[P, Any]) -> Backward[P]:
        vars(function)["ufunc"] = ufunc
        return cast(Backward[P], function)

    return give


def require_one(forward: str, takes: tuple[str, ...], **given: Any) -> None:
    """Check that the gradient of a function is given one array that it follows from.

    Raises
    ------
    TypeError
        If it is given none, several, or one that does not determine the gradient.
    """
    names = [name for name, value in given.items() if value is not None]
    if len(names) == 1 and names[0] in takes:
        return
    wanted = " or ".join(f"{name} (what {forward} {_HOW[name]})" for name in takes)
    got = " and ".join(names) or "neither"
    raise TypeError(f"{forward}_backward must be given {wanted}, got {got}")
