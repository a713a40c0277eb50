"""Masters: the float32 arrays that parameters of 16 bits are rounded from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnfast._state import kept_dtype


def needs_master(param: NDArray[Any]) -> bool:
    """Whether a parameter is of float16 or bfloat16, which steps round to from its float32 master."""
    return bool(kept_dtype(param) != param.dtype)


def master_of(param: NDArray[Any]) -> NDArray[Any] | None:
    """The master of a parameter that needs one before the first step, None of another one."""
    return param.astype(np.float32) if needs_master(param) else None


def refreshed(master: NDArray[Any], param: NDArray[Any]) -> NDArray[Any]:
    """The master, with the values of its parameter where that was written to since the last step, as in the kernel."""
    with np.errstate(over="ignore"):
        other = master.astype(param.dtype).view(np.uint16) != param.view(np.uint16)
    np.copyto(master, param, where=other)
    return master
