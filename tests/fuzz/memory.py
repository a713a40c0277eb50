"""The memory of a call's arrays: every byte that should stay as it was is compared, and what lies next to it traps."""

import ctypes
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 32768


def _contents() -> list[bytes]:
    """What the memory may hold before a call."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 4, SIZE)
    special = [0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-40, 3e38, -3e38, 88, -104]
    return [
        rng.standard_normal(SIZE // 4).astype(np.float32).tobytes(),
        rng.standard_normal(SIZE // 8).tobytes(),
        rng.standard_normal(SIZE // 2).astype(np.float16).tobytes(),
        rng.choice(special, SIZE // 4).astype(np.float32).tobytes(),
        rng.choice(special, SIZE // 8).tobytes(),
        bytes(SIZE),
        b"\xff" * SIZE,
        rng.bytes(SIZE),
        small[: SIZE // 8].astype(np.int64).tobytes(),
        small.astype(np.uint8).tobytes(),
    ]


class Memory:
    """SIZE bytes between two pages that nobody may touch."""

    def __init__(self) -> None:
        page = mmap.PAGESIZE
        self._map = mmap.mmap(-1, SIZE + 2 * page)
        whole = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for address in (whole, whole + page + SIZE):
            if protect(ctypes.c_void_p(address), ctypes.c_size_t(page), 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.buffer = memoryview(self._map)[page : page + SIZE]
        self._written = np.zeros(SIZE, np.uint8)
        self._contents = _contents()
        self._before = b""

    def fill(self, kind: int) -> None:
        """Begin anew."""
        self.buffer[:] = self._contents[kind % len(self._contents)]
        self._written[:] = 0

    def array(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int, strides: tuple[int, ...]
    ) -> NDArray[Any]:
        """An array of this memory."""
        return np.ndarray(shape, dtype, self.buffer, offset, strides)

    def allow(
        self, shape: tuple[int, ...], itemsize: int, offset: int, strides: tuple[int, ...]
    ) -> None:
        """The bytes of an array's elements may change; those between them may not."""
        np.ndarray((*shape, itemsize), np.uint8, self._written, offset, (*strides, 1))[...] = 1

    def remember(self) -> None:
        """What is there before the call."""
        self._before = bytes(self.buffer)

    def changed(self, *, failed: bool) -> list[int]:
        """Where a byte changed that should not have; after an error none should."""
        after = bytes(self.buffer)
        if after == self._before:
            return []
        changed = np.frombuffer(after, np.uint8) != np.frombuffer(self._before, np.uint8)
        if not failed:
            changed &= self._written == 0
        return [int(at) for at in np.flatnonzero(changed)]
