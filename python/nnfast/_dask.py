"""Whether data are Dask's, found out without importing Dask."""

from __future__ import annotations

import sys
from typing import Any


def is_table(value: Any) -> bool:
    """Whether it is a DataFrame or a Series of Dask's."""
    frames = sys.modules.get("dask.dataframe")
    return frames is not None and isinstance(value, frames.DataFrame | frames.Series)


def is_dask_data(value: Any) -> bool:
    """Whether it is rows on Dask: an array, a list of delayed pieces of one, or a table."""
    return is_dask(value) or is_table(value)


def is_dask(value: Any) -> bool:
    """Whether it is a Dask array, or a list of delayed pieces of one."""
    if isinstance(value, (list, tuple)):
        delayed = sys.modules.get("dask.delayed")
        return bool(delayed and value) and isinstance(value[0], delayed.Delayed)  # type: ignore[union-attr]
    array = sys.modules.get("dask.array")
    return array is not None and isinstance(value, array.Array)
