"""For nnfast's own tests: force what is otherwise chosen automatically."""

from collections.abc import Iterator
from contextlib import contextmanager

from nnfast._load import _core


@contextmanager
def forced(
    isa: str | None = None,
    threads: int | None = None,
    grain: int | None = None,
    threading: str | None = None,
) -> Iterator[None]:
    """Run with an instruction set, a number of threads, a grain, and a threading runtime.

    ``grain`` is the least number of items a thread gets, in place of the cost model: with 1, arrays of any size are
    shared among all threads, and all take part. The number of threads holds for this thread, the rest for the process.
    """
    isa_before = _core.cpu_info()["chosen"]
    if isa is not None:
        _core._force_isa(isa)
        if _core.cpu_info()["chosen"] != isa:
            _core._force_isa(isa_before)
            raise RuntimeError(f"this machine does not run {isa}")
    threading_before = _core.threading()
    if threading is not None:
        _core._force_threading(threading)
    threads_before = _core._set_thread_override(threads) if threads is not None else None
    grain_before = _core._force_grain(grain) if grain is not None else None
    try:
        yield
    finally:
        _core._force_isa(isa_before)
        _core._force_threading(threading_before)
        if threads_before is not None:
            _core._set_thread_override(threads_before)
        if grain_before is not None:
            _core._force_grain(grain_before)
