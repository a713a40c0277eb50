"""Files of named arrays: ``.npz`` without pickle, written whole or not at all, looked at before memory is taken."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from io import TextIOBase
from math import prod
from pathlib import Path
from secrets import token_hex
from typing import IO, Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
Check = Callable[[Arrays], object]
File = str | os.PathLike[str] | IO[bytes]

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# Bytes of a member that are read to look at it, as names and numbers are; and of an element: text is one.
_SMALL, _ELEMENT = 4096, 1 << 20
# How much larger than the file its arrays may be, without a check: weights do not compress as the zeros of a bomb do.
_MOST_COMPRESSED = 16


def save(path: File, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays: to a temporary file that then takes the name, or into a binary file that is open.

    Raises
    ------
    OSError
        If it cannot be written; a file of that name is left as it was.
    TypeError
        If it is neither a path nor a binary file.
    """
    named: dict[str, Any] = dict(arrays)
    if not isinstance(path, str | os.PathLike):
        np.savez(_binary(path, "write"), **named)
        return
    path = Path(path)
    # Not tempfile's, whose permissions exclude other users.
    temporary = path.with_name(f"{path.name}.{token_hex(4)}.part")
    file = open(temporary, "xb")  # noqa: SIM115 -- what follows removes what this makes
    try:
        with file:
            np.savez(file, **named)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path: File, check: Check | None = None) -> Arrays:
    """The arrays of a file.

    Parameters
    ----------
    path : path-like, or binary file that can be sought
    check : function, optional
        Is given all arrays first, of which only the smallest have been read: the others have their shapes and dtypes,
        but no memory. What it raises ends it. Without it the arrays may not be much larger than the file.

    Raises
    ------
    OSError
        If it cannot be read.
    TypeError
        If it is neither a path nor a binary file.
    ValueError
        If it is no such file.
    """
    try:
        # Whoever opens a file closes it, also where it is no archive.
        with _opened(path) as opened, ZipFile(opened) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            outlines = {name: _outline(archive, info) for name, info in members.items()}
            if check is None:
                _check_size(outlines, opened.seek(0, os.SEEK_END))
            else:
                _checked(check, outlines)
            return {name: _array(archive, info) for name, info in members.items()}
    except _Refused as refused:
        raise refused.error from None
    except (BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} is no .npz file of arrays without pickle: {error}"
        ) from error


def _opened(path: File) -> AbstractContextManager[IO[bytes]]:
    if isinstance(path, str | os.PathLike):
        return open(path, "rb")
    return nullcontext(_binary(path, "read"))


def _binary(file: Any, method: str) -> IO[bytes]:
    """The file, if it is a binary one."""
    if not hasattr(file, method) or isinstance(file, TextIOBase):
        raise TypeError(f"path must be a path or a binary file, got {type(file).__name__}")
    opened: IO[bytes] = file
    return opened


class _Refused(Exception):
    """Wraps an error of the caller's check, as distinct from errors of the file."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _checked(check: Check, outlines: Arrays) -> None:
    try:
        check(outlines)
    except Exception as error:
        raise _Refused(error) from error


def _check_size(outlines: Arrays, size: int) -> None:
    total = sum(outline.size * outline.itemsize for outline in outlines.values())
    if total > _MOST_COMPRESSED * size:
        raise ValueError(f"its {size} bytes stand for {total}")


def _outline(archive: ZipFile, info: ZipInfo) -> NDArray[Any]:
    """The array, if it is small; else one of its shape and dtype that has no memory."""
    with archive.open(info) as file:
        version = npy.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{info.filename} is of version {version}")
        shape, _, dtype = _HEADERS[version](file)
        header = file.tell()
    if dtype.hasobject or dtype.itemsize > _ELEMENT:
        raise ValueError(f"{info.filename} has elements of dtype {dtype}")
    if info.file_size != header + prod(shape) * dtype.itemsize:
        raise ValueError(f"{info.filename} has {info.file_size} bytes, which is not what it says")
    if info.file_size <= _SMALL:
        return _array(archive, info)
    return np.broadcast_to(np.zeros((), dtype), shape)


def _array(archive: ZipFile, info: ZipInfo) -> NDArray[Any]:
    with archive.open(info) as file:
        found: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        return found
