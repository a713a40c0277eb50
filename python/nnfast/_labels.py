"""Labelled arrays, those of pandas and xarray, recognised without importing either."""

from __future__ import annotations

import sys
from typing import Any


def is_pandas(value: Any) -> bool:
    """Whether it is a Series or a DataFrame of pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, (pandas.Series, pandas.DataFrame))


def is_xarray(value: Any) -> bool:
    """Whether it is a DataArray of xarray, whose values may be Dask's."""
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(value, xarray.DataArray)


def values_of(value: Any) -> Any:
    """The values of a labelled array by their position, lazy where they are Dask's; any other value as it is."""
    if is_pandas(value):
        return value.to_numpy()
    return value.data if is_xarray(value) else value


def labelled_like(value: Any, like: Any) -> Any:
    """An array of `like`'s shape under its labels; as it is where `like` has none."""
    if is_pandas(like):
        if like.ndim == 1:
            return type(like)(value, index=like.index, name=like.name)
        return type(like)(value, index=like.index, columns=like.columns)
    return like.copy(data=value) if is_xarray(like) else value
