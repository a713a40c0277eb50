"""Batch normalization of a Dask array, chunked anywhere: statistics a chunk, merged in a tree."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import dask.array as da
import numpy as np
from dask import delayed
from numpy.typing import ArrayLike, DTypeLike, NDArray

from nnfast import _arrays
from nnfast.dask import _pieces, _tree
from nnfast.dask._chunks import by_place, floating, places_of
from nnfast.normalization import BatchNormStats, merge_stats
from nnfast.normalization import batch_norm as of_array
from nnfast.normalization import batch_norm_stats as stats_of_array
from nnfast.normalization.running import Convention, is_training, settings_of

Array = NDArray[Any]


def batch_norm(
    x: da.Array,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    *,
    training: bool | None = None,
    eps: float | None = None,
    axis: int = 1,
    convention: Convention = "torch",
) -> tuple[da.Array, Any]:
    """nnfast.batch_norm of a Dask array, lazily, by the statistics of the whole array.

    Parameters
    ----------
    x : dask.array.Array of float16, float32 or float64, at least two axes
        Chunked anywhere, along the channels too.
    gamma, beta : array_like, shape (C,) or as of nnfast.batch_norm, optional
        Scale and shift; ones and zeros if None.
    running_mean, running_var : array_like, shape (C,), optional
        What inference takes. Training takes none, as nothing lazy writes: the statistics that it returns say how they
        move.
    training : bool, optional
        Whether mean and variance are those of x; must be given where running statistics are.
    eps : float, optional
    axis : int, default 1
        That of the channels.
    convention : "torch", "keras" or "cs231n", default "torch"
        What eps defaults to: 1e-3 as in Keras, otherwise 1e-5.

    Returns
    -------
    y : dask.array.Array of x's shape and chunks
        Within 2 ULP of nnfast.batch_norm of the whole array.
    stats : Delayed, or None in inference
        Becomes the BatchNormStats of x; batch_norm_backward takes it as it is.

    Raises
    ------
    TypeError
        If x is no Dask array, or something is not of real numbers, or running statistics are given without training.
    ValueError
        If a shape does not match, eps is not positive, convention is unknown, or there are running statistics in
        training or none in inference, or fewer than two values a channel in training.

    Examples
    --------
    >>> import dask.array as da, numpy as np, nnfast as nf
    >>> x = da.from_array(np.array([[1.0, 5.0], [3.0, 5.0]]), chunks=1)
    >>> y, stats = nf.dask.batch_norm(x, training=True, eps=1e-12)
    >>> y.compute().round(6), stats.compute().mean
    (array([[-1.,  0.],
           [ 1.,  0.]]), array([2., 5.]))
    """
    x = floating(x, "x")
    axis = _channels(x, axis)
    channels = x.shape[axis]
    training = is_training(training, running_mean, running_var)
    _, eps, _ = settings_of(convention, None, eps, None)
    if training and (running_mean is not None or running_var is not None):
        raise ValueError("running_mean and running_var must be None in training, which is lazy")
    mean, var = (np.zeros(channels), np.ones(channels)) if training else (running_mean, running_var)
    _check_channels(x, axis, gamma, beta, mean, var, eps)
    gamma, beta, running_mean, running_var = map(_vector, (gamma, beta, running_mean, running_var))
    if not training:
        stats = BatchNormStats(1, np.asarray(running_mean, float), np.asarray(running_var, float))
        work = partial(_normalized, stats=stats, **_settings(x, axis, gamma, eps), beta=beta)
        return by_place(work, x, dtype=x.dtype, meta=x._meta), None
    if prod(x.shape) < 2 * channels:
        raise ValueError(f"x must have two values a channel or more in training, got {x.shape}")
    merged = batch_norm_stats(x, axis=axis)
    work = partial(_normalized, **_settings(x, axis, gamma, eps), beta=beta)
    return by_place(work, x, merged, dtype=x.dtype, meta=x._meta), merged


def batch_norm_backward(
    dy: da.Array,
    x: da.Array,
    gamma: ArrayLike | None,
    stats: Any,
    *,
    eps: float | None = None,
    axis: int = 1,
    convention: Convention = "torch",
) -> tuple[da.Array, da.Array, da.Array]:
    """Gradients of batch_norm in training, lazily.

    Parameters
    ----------
    dy : dask.array.Array, of x's shape
        Gradient of the loss with respect to y.
    x : dask.array.Array
    gamma : array_like or None
        As given to batch_norm.
    stats : Delayed or BatchNormStats
        From batch_norm.
    eps : float, optional
    axis : int, default 1
    convention : "torch", "keras" or "cs231n", default "torch"

    Returns
    -------
    dx : dask.array.Array of x's shape and chunks
    dgamma, dbeta : dask.array.Array of gamma's shape, or (C,) without gamma

    Raises
    ------
    TypeError
        If dy or x is no Dask array, or something is not of real numbers.
    ValueError
        If a shape does not match.

    Examples
    --------
    >>> import dask.array as da, nnfast as nf
    >>> x = da.random.default_rng(0).normal(size=(6, 4), chunks=(2, 3))
    >>> y, stats = nf.dask.batch_norm(x, training=True)
    >>> dx, dgamma, dbeta = nf.dask.batch_norm_backward(da.ones_like(x), x, None, stats)
    >>> dbeta.compute()
    array([6., 6., 6., 6.])
    """
    x, dy = floating(x, "x"), floating(dy, "dy")
    axis = _channels(x, axis)
    _, eps, _ = settings_of(convention, None, eps, None)
    channels = x.shape[axis]
    shape = (channels,) if gamma is None else np.shape(gamma)
    _check_channels(x, axis, gamma, None, np.zeros(channels), np.ones(channels), eps)
    gamma = _vector(gamma)
    if dy.shape != x.shape:
        raise ValueError(f"dy must have the shape of x, {x.shape}, got {dy.shape}")
    dy = dy.rechunk(x.chunks)
    step = delayed(_sums, pure=True)
    blocks = np.array([x.to_delayed().ravel(), dy.to_delayed().ravel()]).T
    places = _places(x, axis)
    parts = [
        step(a, b, place, stats, eps, axis) for (a, b), place in zip(blocks, places, strict=True)
    ]
    sums = _of_channels(parts, x, axis, _added)
    dtype = _arrays.parameter_dtype(x.dtype)
    dgamma, dbeta = (
        da.from_delayed(delayed(_item)(sums, i, dtype, shape), shape, dtype) for i in range(2)
    )
    work = partial(_input_gradient, **_settings(x, axis, gamma, eps))
    given = delayed(list)([stats, sums])
    return by_place(work, x, dy, given, dtype=x.dtype, meta=x._meta), dgamma, dbeta


def batch_norm_stats(x: da.Array, *, axis: int = 1) -> Any:
    """nnfast.batch_norm_stats of a Dask array, lazily.

    Parameters
    ----------
    x : dask.array.Array of float16, float32 or float64, at least two axes
    axis : int, default 1
        That of the channels.

    Returns
    -------
    Delayed
        Becomes a BatchNormStats. Which bits it has follows from the chunks alone, not from who computes them.

    Raises
    ------
    TypeError
        If x is no Dask array, or not of real numbers.
    ValueError
        If x has fewer than two axes, or none of that number.

    Examples
    --------
    >>> import dask.array as da, nnfast as nf
    >>> nf.dask.batch_norm_stats(da.arange(6, chunks=2).reshape(3, 2)).compute()
    BatchNormStats(count=3, mean=array([2., 3.]), m2=array([8., 8.]))
    """
    x = floating(x, "x")
    axis = _channels(x, axis)
    step = delayed(stats_of_array, pure=True)
    parts = [step(block, axis=axis) for block in x.to_delayed().ravel()]
    return _of_channels(parts, x, axis)


def _vector(value: ArrayLike | None) -> Array | None:
    """One value a channel, of any shape that nnfast.batch_norm takes, as a vector."""
    return None if value is None else np.ravel(value)


def _check_channels(
    x: da.Array, axis: int, gamma: Any, beta: Any, mean: Any, var: Any, eps: float
) -> None:
    """Raise the errors of nnfast's own function, though nothing is computed yet."""
    empty = np.empty([n if d == axis else 0 for d, n in enumerate(x.shape)], x.dtype)
    of_array(empty, gamma, beta, mean, var, training=False, eps=eps, axis=axis)


def _channels(x: da.Array, axis: int) -> int:
    if x.ndim < 2:
        raise ValueError(f"x must have at least two axes, got shape {x.shape}")
    return _arrays.axis_of(axis, x, "x")


# ---- values for each channel, of blocks of an array in C order ----


def _places(x: da.Array, axis: int) -> list[slice]:
    """The channels that each block has."""
    slices = [slice(*place) for place in places_of(x)[axis]]
    return [slices[block[axis]] for block in np.ndindex(*x.numblocks)]


def _of_channels(
    parts: list[Any], x: da.Array, axis: int, merge: Callable[..., Any] = merge_stats
) -> Any:
    """Values per block, merged over the blocks of the same channels, and concatenated along the channels."""
    grid = np.empty(len(parts), object)
    grid[:] = parts
    grid = np.moveaxis(grid.reshape(x.numblocks), axis, 0)
    columns = [_tree.lazily(list(same.ravel()), merge) for same in grid]
    return columns[0] if len(columns) == 1 else delayed(_joined, pure=True)(columns)


def _added(*sums: list[Array]) -> list[Array]:
    return [np.sum(parts, axis=0) for parts in zip(*sums, strict=True)]


def _joined(columns: list[Any]) -> Any:
    if isinstance(columns[0], BatchNormStats):
        channels = zip(*(column._channels for column in columns), strict=True)
        return BatchNormStats(columns[0].count, *(np.concatenate(values) for values in channels))
    return [np.concatenate(values) for values in zip(*columns, strict=True)]


def _settings(x: da.Array, axis: int, gamma: ArrayLike | None, eps: float) -> dict[str, Any]:
    """The arguments of the work on a block besides the block."""
    places = [slice(*place) for place in places_of(x)[axis]]
    return {"places": places, "axis": axis, "gamma": gamma, "eps": eps}


def _of_place(value: Any, own: slice) -> Any:
    if isinstance(value, BatchNormStats):
        return BatchNormStats(value.count, *(values[own] for values in value._channels))
    if isinstance(value, list):
        return [_of_place(each, own) for each in value]
    return None if value is None else np.asarray(value)[own]


def _normalized(
    x: Array,
    number: tuple[int, ...],
    stats: BatchNormStats,
    *,
    places: list[slice],
    axis: int,
    gamma: Any,
    beta: Any,
    eps: float,
) -> Array:
    if len(places) > 1:
        gamma, beta, stats = (_of_place(v, places[number[axis]]) for v in (gamma, beta, stats))
    return _pieces.normalized(x, gamma, beta, stats, eps, axis)


def _sums(
    x: Array, dy: Array, own: slice, stats: BatchNormStats, eps: float, axis: int
) -> list[Array]:
    return _pieces.sums(dy, x, _of_place(stats, own), eps, axis)


def _input_gradient(
    x: Array,
    number: tuple[int, ...],
    dy: Array,
    given: list[Any],
    *,
    places: list[slice],
    axis: int,
    gamma: Any,
    eps: float,
) -> Array:
    gamma, stats, sums = (_of_place(v, places[number[axis]]) for v in (gamma, *given))
    dgamma, dbeta = sums
    return _pieces.input_gradient(dy, x, gamma, stats, dgamma, dbeta, eps, axis)


def _item(values: Any, i: int, dtype: DTypeLike, shape: tuple[int, ...]) -> Any:
    return values[i].astype(dtype).reshape(shape)
