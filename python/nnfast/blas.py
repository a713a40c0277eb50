"""One pool of threads for nnfast's kernels and NumPy's matrix products."""

from __future__ import annotations

import os
import sys
import warnings
from types import TracebackType

from nnfast._load import _core

__all__ = ["BlasSharing", "share_blas_threads"]


class BlasSharing:
    """Whether NumPy's BLAS runs on nnfast's threads, and until when: what share_blas_threads() returns.

    True where it does. In a ``with`` statement it ends with the block, else with ``close()``, or never: the BLAS gets
    its own threads back when everything that asked for sharing has ended.

    Attributes
    ----------
    reason : str
        Why the BLAS does not run on nnfast's threads; empty where it does.

    See Also
    --------
    share_blas_threads, cpu_info

    Examples
    --------
    >>> import nnfast as nf
    >>> with nf.share_blas_threads() as sharing:
    ...     bool(sharing) == (sharing.reason == "")
    True
    """

    def __init__(self) -> None:
        self._held = 0
        self._hold()
        self._entered = False

    def _hold(self) -> None:
        _core.share_blas()
        self._held += 1

    @property
    def reason(self) -> str:
        """Why the BLAS does not run on nnfast's threads; empty where it does."""
        if not self._held:
            return "sharing has ended"
        # Calls the BLAS that NumPy calls, which need not be the only one of the process.
        caller = sys.modules["numpy.linalg._umath_linalg"].__file__
        return _core.blas_reason(str(caller))

    def close(self) -> None:
        """End what is held. More than once does no harm."""
        while self._held:
            self._release()

    def _release(self) -> None:
        if self._held:
            self._held -= 1
            _core.unshare_blas()

    def __bool__(self) -> bool:
        return not self.reason

    def __enter__(self) -> BlasSharing:
        # The first entry is what the call of share_blas_threads() began.
        if self._entered or not self._held:
            self._hold()
        self._entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._release()

    def __reduce__(self) -> str:
        raise TypeError("a BlasSharing cannot be copied: it holds a setting of the process")

    def __repr__(self) -> str:
        return f"<BlasSharing: {self.reason or 'on'}>"


def share_blas_threads() -> BlasSharing:
    """Let NumPy's BLAS run its matrix products on nnfast's threads, in place of threads of its own.

    In a training loop products and kernels alternate. With a pool each, the threads of one take the cores of the other,
    so nnfast's kernels run on one core between products; with one pool they run on all. Products keep their bits and
    the number of their threads (``num_threads`` does not change it).

    This is a setting of the process, for every OpenBLAS that is loaded: NumPy's, SciPy's; one that is loaded later
    takes part from the next call on. The environment variable ``NNFAST_SHARE_BLAS=1`` asks for it when nnfast is
    imported.

    Returns
    -------
    sharing : BlasSharing
        True if NumPy's BLAS now runs on nnfast's threads; else its ``reason`` says why not, and nothing has changed. It
        can be used in a ``with`` statement.

    See Also
    --------
    BlasSharing, cpu_info

    Notes
    -----
    Possible with OpenBLAS from version 0.3.28 on over threads of its own, as NumPy's wheels for Linux have it, with at
    most half of the threads it was built for (32 in those wheels). Not with MKL, Accelerate or OpenBLAS over OpenMP.

    Products that several Python threads start at once run one after another, each on all threads. Sharing may be turned
    on and off at any time; a product that is under way stays where it began. LU factorizations (``inv``, ``solve``) go
    on using OpenBLAS's own threads. A fork waits for the product that is under way. A child that is forked while
    another thread multiplies or factorizes should not do so itself: it may have inherited a lock of OpenBLAS.

    References
    ----------
    openblas_set_threads_callback_function, in OpenBLAS's cblas.h.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> x, w = np.ones((64, 32), np.float32), np.ones((32, 16), np.float32)
    >>> with nf.share_blas_threads():
    ...     y = nf.relu(x @ w)
    >>> y[0, 0]
    np.float32(32.0)
    """
    return BlasSharing()


def _share_as_asked() -> None:
    """Does what NNFAST_SHARE_BLAS says."""
    asked = os.environ.get("NNFAST_SHARE_BLAS", "0").strip() or "0"
    if asked not in ("0", "1"):
        raise ValueError(f"NNFAST_SHARE_BLAS must be 0 or 1, got {asked!r}")
    if asked == "1" and not (sharing := share_blas_threads()):
        warnings.warn(
            f"NNFAST_SHARE_BLAS is set, but NumPy's BLAS keeps its own threads: {sharing.reason}",
            RuntimeWarning,
            stacklevel=2,
        )


_share_as_asked()
