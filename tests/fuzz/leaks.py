"""Whether calls leave memory behind: that of Python's objects, and that of malloc."""

import ctypes
import gc
import sys
from collections.abc import Callable

# A leak shows in every one of some windows; caches grow in one and stay, or shrink in the next. What shows in few
# rounds is looked at again in more.
WINDOWS = 4
ROUNDS = (1, 4, 60, 400)


class _Mallinfo2(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _malloc_bytes() -> int:
    """In use, by glibc's count; 0 with another C library."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return 0
    library.mallinfo2.restype = _Mallinfo2
    info = library.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def left_behind(repeat: Callable[[], object]) -> tuple[int, int]:
    """Python's blocks and malloc's bytes that every repetition leaves."""
    grown = (0, 0)
    for rounds in ROUNDS:
        grown = _growth(repeat, rounds)
        for _ in range(WINDOWS - 1):
            if max(grown) <= 0:
                return (0, 0)
            blocks, used = _growth(repeat, rounds)
            grown = min(grown[0], blocks), min(grown[1], used)
        if max(grown) <= 0:
            break
    return max(grown[0], 0), max(grown[1], 0)


def _growth(repeat: Callable[[], object], rounds: int) -> tuple[int, int]:
    """By round, in one window."""
    gc.collect()
    blocks, used = sys.getallocatedblocks(), _malloc_bytes()
    for _ in range(rounds):
        repeat()
    gc.collect()
    return (sys.getallocatedblocks() - blocks) // rounds, (_malloc_bytes() - used) // rounds
