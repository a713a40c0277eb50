"""The statistics of a batch-normalized layer, computed again after its weights were averaged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnfast import _arrays, _checks
from nnfast._whole import Whole
from nnfast.normalization import BatchNormStats, batch_norm_stats, merge_stats
from nnfast.normalization.running import Convention, is_vector, settings_of


class BatchNormRecomputer(Whole):
    """The statistics of a batch-normalized layer over whole data, from one pass over its batches.

    After weights were averaged, or otherwise changed, the running statistics are another network's. Here they become
    those of all that the layer takes in, as if it were one batch. Each layer has one of these; in the pass every layer
    normalizes by the batch (``training=True``), so that the next one takes in what it did in training.

    Parameters
    ----------
    running_mean, running_var : ndarray of float32 or float64, shape (C,), (1, C), (C, 1) or (1, C, 1, 1)
        Written by ``finish``; may be used and changed until then.
    axis : int, default 1
        The axis of the channels in what update is given.
    running_var_correction : int, 0 or 1, optional
        running_var takes the variance over N - 1 (PyTorch) or, with 0, over N (Keras, CS231n, Flax, ONNX), as in
        batch_norm.
    convention : "torch", "keras" or "cs231n", default "torch"
        What running_var_correction defaults to: 1, 0 or 0.

    Raises
    ------
    TypeError
        If a running array is no such array, or axis not an integer.
    ValueError
        If their shapes differ or are no such shape, one is read-only, they share memory, running_var_correction is
        neither 0 nor 1, or convention is unknown.

    Notes
    -----
    The statistics of batches (batch_norm_stats) are merged in pairs, these in pairs, and so on: with k batches,
    log2(k) of them are kept, and rounding grows no faster. float32 arrays come out within 2 ULP of the statistics of
    all data at once. In float64 a batch's mean is itself rounded, which moves the variance by 2**-52 abs(mean) std.

    References
    ----------
    Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018, section 3.2; Chan,
    Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.

    Examples
    --------
    >>> import numpy as np, nnfast as nf
    >>> rng = np.random.default_rng(0)
    >>> x, w = rng.normal(3, 2, (100, 5)), rng.standard_normal((5, 4))
    >>> mean, var = np.zeros(4), np.ones(4)
    >>> layer = nf.averaging.BatchNormRecomputer(mean, var)
    >>> for batch in (x[:64], x[64:]):
    ...     h = batch @ w
    ...     layer.update(h)
    ...     y, _ = nf.batch_norm(h, training=True)  # for the layers behind
    >>> layer.finish()
    >>> np.allclose(mean, (x @ w).mean(axis=0)), np.allclose(var, (x @ w).var(axis=0, ddof=1))
    (True, True)
    """

    def __init__(
        self,
        running_mean: NDArray[Any],
        running_var: NDArray[Any],
        *,
        axis: int = 1,
        running_var_correction: int | None = None,
        convention: Convention = "torch",
    ) -> None:
        for name, array in (("running_mean", running_mean), ("running_var", running_var)):
            _arrays.check_floats(array, name)
            if not is_vector(array, running_mean.size):
                raise ValueError(
                    f"{name} must have shape ({running_mean.size},), got {array.shape}"
                )
            if array.shape != running_mean.shape:
                raise ValueError(
                    f"{name} must have the shape of running_mean, {running_mean.shape}, got {array.shape}"
                )
            _arrays.check_writeable(array, name)
        if np.may_share_memory(running_mean, running_var):
            raise ValueError("running_mean and running_var must not share memory")
        self._mean, self._var = running_mean, running_var
        self._axis = _checks.integer(axis, "axis")
        _, _, self._correction = settings_of(convention, None, None, running_var_correction)
        self._pieces: list[BatchNormStats] = []
        self._batches = 0

    def update(self, x: ArrayLike) -> None:
        """Add the statistics of a batch.

        Parameters
        ----------
        x : array_like of float16, float32 or float64, at least two axes
            What the layer is given to normalize.

        Raises
        ------
        TypeError
            If x is not of real numbers.
        ValueError
            If x has another number of channels, or no such axis. Nothing is changed then.
        """
        stats = batch_norm_stats(x, axis=self._axis)
        if stats.mean.size != self._mean.size:
            raise ValueError(f"x must have {self._mean.size} channels, got {stats.mean.size}")
        self._pieces.append(stats)
        self._batches += 1
        # As a binary counter carries: pieces of equally many batches become one.
        carries = self._batches
        while carries % 2 == 0:
            self._pieces[-2:] = [merge_stats(*self._pieces[-2:])]
            carries //= 2

    def finish(self) -> None:
        """Write the statistics of all batches so far into the running arrays.

        Raises
        ------
        ValueError
            If there were not enough values, one a channel and with the correction two, or an array has become
            read-only. Nothing is written then.
        """
        count = sum(piece.count for piece in self._pieces)
        if count <= self._correction:
            raise ValueError(
                f"batches must hold at least {self._correction + 1} values a channel, got {count}"
            )
        _arrays.check_writeable(self._mean, "running_mean")
        _arrays.check_writeable(self._var, "running_var")
        stats = merge_stats(*self._pieces)
        self._mean[...] = stats.mean.reshape(self._mean.shape)
        self._var[...] = (stats.m2 / (count - self._correction)).reshape(self._var.shape)


# Where it is public, and where pickles look for it.
BatchNormRecomputer.__module__ = "nnfast.averaging"
