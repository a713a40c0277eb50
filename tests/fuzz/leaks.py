"""Whether calls leave memory behind: that of Python's objects, and that of malloc."""

import ctypes
import gc
import sys
from collections.abc import Callable

# A leak of one block or byte in every round shows in a few; what grows for a while and then stays, as caches do, is
# told from it by many, and by as many again.
ROUNDS = (12, 400, 3000)
# What malloc gives is no smaller; below it is what its caches hold.
LEAST = 16


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
        if not any(grown):
            break
    return grown


def _growth(repeat: Callable[[], object], rounds: int) -> tuple[int, int]:
    """By round, after what is kept once is there."""
    for _ in range(3):
        repeat()
    gc.collect()
    before = sys.getallocatedblocks(), _malloc_bytes()
    for _ in range(rounds):
        repeat()
    gc.collect()
    grown = sys.getallocatedblocks() - before[0], _malloc_bytes() - before[1]
    blocks, used = max(0, grown[0]) // rounds, max(0, grown[1]) // rounds
    return blocks, used if used >= LEAST else 0
