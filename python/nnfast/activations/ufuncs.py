"""The ufuncs of the activations and of their gradients, and how one is called with parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnfast import _arrays, _docs
from nnfast._load import _core
from nnfast._table import TABLE
from nnfast.activations.examples import EXAMPLES


def _doc(name: str) -> str:
    """The docstring of an activation, or of the gradient of one."""
    forward = name.removesuffix("_backward")
    write = _docs.activation if name == forward else _docs.activation_backward
    code, result = EXAMPLES[name]
    return write(TABLE[forward], (code if "nf." in code else f"nf.{name}({code})", result))


UFUNCS: dict[str, np.ufunc] = _core.make_activations(
    {row.ufunc: _doc(row.name) for row in TABLE.values()}
    | {f"{row.ufunc}_backward": _docs.backward_ufunc(row) for row in TABLE.values()}
)

documented = _docs.documented(_doc)


def call(name: str, arrays: tuple[Any, ...], params: tuple[float, ...], keywords: Any) -> Any:
    """Call the ufunc with parameters that do not promote the dtype of the arrays."""
    ufunc = UFUNCS[name]
    result = _core.call_with_parameters(ufunc, arrays, params, keywords)
    if result is not None:
        return result
    for array in arrays:
        if type(array) is not np.ndarray and _arrays.is_foreign(array):  # the type is soon known
            params = tuple(_arrays.scalar_for(value, array) for value in params)
            break
    return ufunc(*arrays, *params, **keywords)
