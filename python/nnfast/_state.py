"""Named arrays in ``.npz`` files, without pickle, written at once and checked before they are taken back."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def save(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays to a temporary file that then takes the name.

    Raises
    ------
    OSError
        If it cannot be written; a file of that name is left as it was.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **dict(arrays))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """The arrays of a file.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no such file.
    """
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def check_names(given: Mapping[str, Any], wanted: set[str]) -> None:
    """A ValueError if names are missing or too many."""
    for kind, names in (("lacks", wanted - given.keys()), ("has", given.keys() - wanted)):
        if names:
            raise ValueError(f"state {kind} {', '.join(sorted(names))}")


def check_arrays(given: Mapping[str, NDArray[Any]], wanted: Mapping[str, NDArray[Any]]) -> None:
    """A ValueError or TypeError if an array has not the shape or dtype of the one that it is for."""
    for name, array in wanted.items():
        if given[name].shape != array.shape:
            raise ValueError(
                f"state[{name!r}] must have shape {array.shape}, got {given[name].shape}"
            )
        if given[name].dtype != array.dtype:
            raise TypeError(
                f"state[{name!r}] must have dtype {array.dtype}, got {given[name].dtype}"
            )
