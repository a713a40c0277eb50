"""Statistics of channels over pieces of a batch, and how they merge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _checks, _moments
from nnfast._load import _core

__all__ = ["batch_norm_stats", "merge_stats"]


class BatchNormStats:
    """Statistics of each channel of a batch, or of a piece of one."""

    count: int
    """Values per channel."""
    mean: NDArray[np.float64]
    """Shape (C,)."""
    m2: NDArray[np.float64]
    """The sum of squared differences from the mean, shape (C,)."""
    mean_low: NDArray[np.float64] | float = 0.0
    """What rounding to float64 took from the mean, shape (C,); 0 where it is not known."""
    m2_low: NDArray[np.float64] | float = 0.0
    """What rounding to float64 took from m2, shape (C,); 0 where it is not known."""

    # No dataclass: to load and make one takes a tenth of the import of nnfast.
    def __init__(
        self,
        count: int,
        mean: NDArray[np.float64],
        m2: NDArray[np.float64],
        mean_low: NDArray[np.float64] | float = 0.0,
        m2_low: NDArray[np.float64] | float = 0.0,
    ) -> None:
        vars(self).update(count=count, mean=mean, m2=m2, mean_low=mean_low, m2_low=m2_low)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"cannot assign to {name!r} of BatchNormStats")

    def __repr__(self) -> str:
        return f"BatchNormStats(count={self.count!r}, mean={self.mean!r}, m2={self.m2!r})"

    @property
    def _channels(self) -> list[NDArray[np.float64]]:
        """The arrays of one value a channel, in the order of the constructor."""
        return np.broadcast_arrays(self.mean, self.m2, self.mean_low, self.m2_low)  # type: ignore[return-value]

    @property
    def var(self) -> NDArray[np.float64]:
        """The biased variance, shape (C,)."""
        return self.m2 / self.count


def batch_norm_stats(x: ArrayLike, *, axis: int = 1) -> BatchNormStats:
    """Count, mean and sum of squared differences from the mean, of every channel.

    Parameters
    ----------
    x : array_like of float16, float32 or float64, at least two axes
        A batch, or a piece of one.
    axis : int, default 1
        The axis of the channels.

    Returns
    -------
    BatchNormStats
        In float64; m2 is infinite, with NumPy's overflow warning, where float64 cannot hold it. Of a float64 x the
        variance is right to 2 ULP, also of merged pieces: they keep what rounding took from the mean.

    Raises
    ------
    TypeError
        If x is not of real numbers.
    ValueError
        If x has fewer than two axes, or axis is none of them.

    See Also
    --------
    batch_norm, merge_stats, fold_batch_norm

    Examples
    --------
    Pieces of a batch, perhaps on several machines, are normalized as the whole is:

    >>> import numpy as np, nnfast as nf
    >>> x = np.random.default_rng(0).normal(3, 2, (64, 8))
    >>> stats = nf.merge_stats(*(nf.batch_norm_stats(piece) for piece in (x[:40], x[40:])))
    >>> y, _ = nf.batch_norm(x[:40], None, None, stats.mean, stats.var, training=False)
    >>> np.allclose(y, nf.batch_norm(x, training=True)[0][:40])
    True
    """
    return BatchNormStats(*_core.batch_norm_stats(x, _checks.integer(axis, "axis")))


def merge_stats(*pieces: BatchNormStats) -> BatchNormStats:
    """Merge the statistics of pieces into those of the whole.

    Parameters
    ----------
    *pieces : BatchNormStats
        From batch_norm_stats, or from this function; of equally many channels. Their order affects rounding alone.

    Returns
    -------
    BatchNormStats
        Those of all values together.

    Raises
    ------
    TypeError
        If a piece is not a BatchNormStats.
    ValueError
        If there is no piece, or the channels differ.

    See Also
    --------
    batch_norm, batch_norm_stats, fold_batch_norm

    References
    ----------
    Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> a, b = np.array([[1.0], [2.0]]), np.array([[6.0]])
    >>> nf.merge_stats(nf.batch_norm_stats(a), nf.batch_norm_stats(b))
    BatchNormStats(count=3, mean=array([3.]), m2=array([14.]))
    """
    if not pieces:
        raise ValueError("pieces must hold at least one BatchNormStats, got none")
    for piece in pieces:
        if not isinstance(piece, BatchNormStats):
            raise TypeError(f"pieces must be BatchNormStats, got {type(piece).__name__}")
        if piece.mean.shape != pieces[0].mean.shape:
            raise ValueError(
                f"pieces must have equally many channels, got {pieces[0].mean.size} and {piece.mean.size}"
            )
    count = sum(piece.count for piece in pieces)
    if count == 0:
        return pieces[0]
    mean, m2 = _moments.merged(
        [float(piece.count) for piece in pieces],
        [(piece.mean, piece.mean_low) for piece in pieces],
        [(piece.m2, piece.m2_low) for piece in pieces],
    )
    return BatchNormStats(count, mean[0], m2[0], mean[1], m2[1])
