"""The instruction set in use and the number of threads."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

from nnfast import _checks
from nnfast._load import _core

__all__ = [
    "cpu_info",
    "get_num_threads",
    "num_threads",
    "set_num_threads",
]


def cpu_info() -> dict[str, Any]:
    """The instruction sets of this build, of this machine, and the one in use; and what BLAS there is.

    Returns
    -------
    info : dict
        ``built`` and ``supported``: tuples of names, the narrowest first; ``chosen``: the widest of both, up to the
        environment variable ``NNFAST_ISA`` as read when nnfast was imported. ``blas``: a dict for every OpenBLAS that
        is loaded, with ``path``, ``version`` (its own words), ``kernels`` (which ones it chose for this machine),
        ``threads``, and ``shares_threads`` (whether they are nnfast's, see ``share_blas_threads``).

    See Also
    --------
    get_num_threads, set_num_threads, num_threads, share_blas_threads, BlasSharing

    Examples
    --------
    >>> import nnfast as nf
    >>> nf.cpu_info()["chosen"] in nf.cpu_info()["built"]
    True
    """
    return {**_core.cpu_info(), "blas": _core.blas_libraries()}


def set_num_threads(n: int) -> None:
    """Set how many threads a kernel may use, in this process.

    Parameters
    ----------
    n : int, at least 1
        Results do not depend on it.

    Raises
    ------
    TypeError
        If n is not an int.
    ValueError
        If n is less than 1.

    See Also
    --------
    torch.set_num_threads : PyTorch's.
    get_num_threads, num_threads, cpu_info

    Examples
    --------
    >>> import nnfast as nf
    >>> before = nf.get_num_threads()
    >>> nf.set_num_threads(1)
    >>> nf.get_num_threads()
    1
    >>> nf.set_num_threads(before)
    """
    _core.set_num_threads(_capped(_checks.integer_from(n, 1, "n")))


def get_num_threads() -> int:
    """How many threads a kernel called from this thread may use.

    At import: ``NNFAST_NUM_THREADS``, else the first number of ``OMP_NUM_THREADS``, else the processors this process
    may run on, at most its cgroup's quota. Not more than threadpoolctl allows OpenMP in this thread.

    Returns
    -------
    n : int
        At least 1.

    See Also
    --------
    torch.get_num_threads : PyTorch's.
    set_num_threads, num_threads, cpu_info

    Examples
    --------
    >>> import nnfast as nf
    >>> with nf.num_threads(1):
    ...     nf.get_num_threads()
    1
    """
    return _core.get_num_threads()


class num_threads:
    """Context manager: kernels called from this thread use at most n threads inside.

    Parameters
    ----------
    n : int, at least 1
        The most threads of a call.

    Raises
    ------
    TypeError
        If n is not an int.
    ValueError
        If n is less than 1.

    See Also
    --------
    threadpoolctl.threadpool_limits : Of the BLAS and of OpenMP.
    get_num_threads, set_num_threads, cpu_info

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> with nf.num_threads(1):
    ...     y = nf.relu(np.zeros(10))
    """

    def __init__(self, n: int) -> None:
        self._n = _capped(_checks.integer_from(n, 1, "n"))
        self._outer: list[int] = []

    def __enter__(self) -> None:
        self._outer.append(_core._set_thread_override(self._n))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _core._set_thread_override(self._outer.pop())


def _capped(n: int) -> int:
    """n, or more than any kernel will ever start, which fits into a C int."""
    return min(n, 2**16)


def _positive(text: str) -> int | None:
    """The positive integer that the text is, capped; None if it is something else."""
    digits = text.strip().lstrip("0")
    if not (digits.isascii() and digits.isdecimal()):
        return None
    # int() refuses numbers of thousands of digits.
    return _capped(int(digits[:10]))


def _from_variable(value: str, name: str) -> int:
    number = _positive(value)
    if number is None:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return number


def _cgroup_quota(root: str = "/") -> int | None:
    """Processors of time that the cgroup of this process may use, rounded up; None without a limit."""
    quotas = []
    for line in (_read(root, "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, quota_of = "sys/fs/cgroup", _quota_v2
        elif "cpu" in controllers.split(","):
            base, quota_of = "sys/fs/cgroup/cpu", _quota_v1
        else:
            continue
        # A limit of any enclosing group holds too. In a container the path may not be visible, but the base is.
        names = [name for name in path.split("/") if name]
        quotas += [
            quota_of(root, "/".join([base, *names[:depth]])) for depth in range(len(names) + 1)
        ]
    limits = [quota for quota in quotas if quota is not None]
    return max(1, min(limits)) if limits else None


def _quota_v2(root: str, folder: str) -> int | None:
    quota, _, period = (_read(root, f"{folder}/cpu.max") or "max").partition(" ")
    return None if quota.strip() == "max" else -(-int(quota) // int(period))


def _quota_v1(root: str, folder: str) -> int | None:
    quota = int(_read(root, f"{folder}/cpu.cfs_quota_us") or -1)
    period = int(_read(root, f"{folder}/cpu.cfs_period_us") or 0)
    return -(-quota // period) if quota > 0 and period > 0 else None


def _read(root: str, path: str) -> str | None:
    try:
        with open(os.path.join(root, path)) as file:
            return file.read()
    except OSError:
        return None


def _default_threads() -> int:
    if own := os.environ.get("NNFAST_NUM_THREADS"):
        return _from_variable(own, "NNFAST_NUM_THREADS")
    if first := _positive(os.environ.get("OMP_NUM_THREADS", "").split(",")[0]):
        return first
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        processors = os.cpu_count() or 1
    quota = _cgroup_quota()
    return _capped(min(processors, quota) if quota else processors)


_core.set_num_threads(_default_threads())
