"""Functions along an axis of a Dask array, which must have one chunk along it: softmax, maxout, norms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import ArrayLike

import nnfast
from nnfast import _arrays
from nnfast._gradients import require_one
from nnfast.dask._chunks import floating, require_whole

_ALONG = """nnfast.{name} of a Dask array, lazily.

Parameters
----------
x : dask.array.Array, one chunk along the axis
axis : int, default -1

Returns
-------
dask.array.Array
    The bits are those of nnfast.{name}, whatever the chunks along other axes.

Raises
------
TypeError
    If an argument is no Dask array, or not of real numbers.
ValueError
    If there is no such axis, or it is cut into chunks.

Examples
--------
>>> import dask.array as da, nnfast as nf
>>> x = da.ones((6, 4), chunks=(2, 4))
>>> nf.dask.{name}({call}).shape
{shape}
"""

_DY_AND_Y = """dy : dask.array.Array, y's shape
y : dask.array.Array, one chunk along the axis
"""
_X = """x : dask.array.Array, optional
    What the forward function was given, by keyword in place of y, which is computed again.
"""


def _along(name: str, gradient: bool, shape: str = "(6, 4)") -> Callable[..., da.Array]:
    """The function of that name of nnfast, with the chunks checked.

    By map_blocks: of a generalised ufunc, which works too, Dask makes three tasks of a chunk in place of one.
    """
    whole: Callable[..., Any] = getattr(nnfast, name)
    drops = name == "logsumexp"

    def forward(x: da.Array, axis: int = -1) -> da.Array:
        x = floating(x, "x")
        along = _arrays.axis_of(axis, x, "x")
        require_whole(x, (along,), "x")
        if not drops:
            result: da.Array = x.map_blocks(whole, axis=along, dtype=x.dtype)
            return result
        indices = tuple(range(x.ndim))
        kept = indices[:along] + indices[along + 1 :]
        work = partial(_of_one, function=partial(whole, axis=along))
        result = da.blockwise(work, kept, x, indices, dtype=x.dtype, meta=x._meta.sum(axis=along))
        return result

    def backward(
        dy: da.Array, y: da.Array | None = None, axis: int = -1, *, x: da.Array | None = None
    ) -> da.Array:
        if y is None or x is not None:
            function = name.removesuffix("_backward")
            require_one(function, ("y", "x"), y=y, x=x)
            y = globals()[function](x, axis)
        dy, y = floating(dy, "dy"), floating(y, "y")
        if dy.shape != y.shape:
            raise ValueError(f"dy must have the shape of y, {y.shape}, got {dy.shape}")
        along = _arrays.axis_of(axis, y, "y")
        require_whole(y, (along,), "y")
        dtype = np.result_type(dy, y)
        result: da.Array = da.map_blocks(whole, dy.rechunk(y.chunks), y, axis=along, dtype=dtype)
        return result

    function = backward if gradient else forward
    function.__name__ = function.__qualname__ = name
    text = _ALONG.format(name=name, call="x, x" if gradient else "x", shape=shape)
    if gradient:
        text = text.replace("x : dask.array.Array, one chunk along the axis\n", _DY_AND_Y)
        text = text.replace("\n\nReturns", f"\n{_X}\nReturns")
        text = text.replace("If an", "If both or neither of x and y are given, or an")
    function.__doc__ = text
    return function


softmax = _along("softmax", False)
softmax_backward = _along("softmax_backward", True)
log_softmax = _along("log_softmax", False)
log_softmax_backward = _along("log_softmax_backward", True)
logsumexp = _along("logsumexp", False, "(6,)")
sparsemax = _along("sparsemax", False)
sparsemax_backward = _along("sparsemax_backward", True)


def maxout(x: da.Array, pieces: int, axis: int = -1) -> tuple[da.Array, da.Array]:
    """nnfast.maxout of a Dask array, lazily: the largest of every ``pieces`` neighbours along an axis.

    Parameters
    ----------
    x : dask.array.Array, one chunk along the axis
    pieces : int in [1, 256]
    axis : int, default -1

    Returns
    -------
    y : dask.array.Array
        An axis shorter by `pieces`.
    which : dask.array.Array of uint8
        The piece that held it.

    Raises
    ------
    TypeError
        If x is no Dask array, or not of real numbers.
    ValueError
        If the axis is cut into chunks, or pieces does not divide it.

    Examples
    --------
    >>> import dask.array as da, nnfast as nf
    >>> y, which = nf.dask.maxout(da.arange(8, chunks=8, dtype="f4").reshape(2, 4), 2)
    >>> y.compute()
    array([[1., 3.],
           [5., 7.]], dtype=float32)
    """
    x = floating(x, "x")
    axis = _arrays.axis_of(axis, x, "x")
    require_whole(x, (axis,), "x")
    # An empty row brings the errors of nnfast's own function, before anything is computed.
    y, _ = nnfast.maxout(np.empty((0, x.shape[axis]), x.dtype), pieces)
    chunks = (*x.chunks[:axis], (y.shape[1],), *x.chunks[axis + 1 :])
    # Two arrays from one pass would be three tasks a chunk; most want y alone.
    most, which = (
        x.map_blocks(_part(nnfast.maxout, i, pieces=pieces, axis=axis), dtype=dtype, chunks=chunks)
        for i, dtype in enumerate((x.dtype, np.dtype(np.uint8)))
    )
    return most, which


def layer_norm(
    x: da.Array,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
) -> da.Array:
    """nnfast.layer_norm of a Dask array, lazily; y alone.

    Parameters
    ----------
    x : dask.array.Array, one chunk along `axis`
    gamma, beta : array_like of the shape that x has along `axis`, optional
    axis : int or tuple of int, default -1
    eps : float, default 1e-5

    Returns
    -------
    y : dask.array.Array of x's shape and chunks

    Raises
    ------
    TypeError
        If x is no Dask array, or something is not of real numbers.
    ValueError
        If an axis to normalize along is cut into chunks, a shape does not match or eps is not positive.

    Examples
    --------
    >>> import dask.array as da, nnfast as nf
    >>> nf.dask.layer_norm(da.from_array([[1.0, 3.0]]), eps=1e-12).compute().round(6)
    array([[-1.,  1.]])
    """
    return _row_norm(nnfast.layer_norm, x, axis, gamma=gamma, beta=beta, eps=eps)


def rms_norm(
    x: da.Array,
    gamma: ArrayLike | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float | None = None,
) -> da.Array:
    """nnfast.rms_norm of a Dask array, lazily; y alone.

    Parameters
    ----------
    x : dask.array.Array, one chunk along `axis`
    gamma : array_like of the shape that x has along `axis`, optional
    axis : int or tuple of int, default -1
    eps : float, optional
        None: as of nnfast.rms_norm.

    Returns
    -------
    y : dask.array.Array of x's shape and chunks

    Raises
    ------
    TypeError, ValueError
        As layer_norm.

    Examples
    --------
    >>> import dask.array as da, nnfast as nf
    >>> nf.dask.rms_norm(da.from_array([[3.0, 3.0]]), eps=1e-12).compute().round(6)
    array([[1., 1.]])
    """
    return _row_norm(nnfast.rms_norm, x, axis, gamma=gamma, eps=eps)


def group_norm(
    x: da.Array,
    num_groups: int,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    axis: int = 1,
) -> da.Array:
    """nnfast.group_norm of a Dask array cut along its first axis alone, lazily; y alone.

    Parameters
    ----------
    x : dask.array.Array, shape (N, C, ...), one chunk along all axes but the first
    num_groups : int
        Divides C.
    gamma, beta : array_like, shape (C,), optional
    eps : float, default 1e-5
    axis : int, default 1
        That of the channels.

    Returns
    -------
    y : dask.array.Array of x's shape and chunks

    Raises
    ------
    TypeError
        If x is no Dask array, or something is not of real numbers.
    ValueError
        If another axis than the first is cut into chunks, or as nnfast.group_norm.

    Examples
    --------
    >>> import dask.array as da, nnfast as nf
    >>> x = da.random.default_rng(0).normal(size=(8, 6, 5), chunks=(2, 6, 5))
    >>> nf.dask.group_norm(x, 3).chunks[0]
    (2, 2, 2, 2)
    """
    settings = {"gamma": gamma, "beta": beta, "eps": eps, "axis": axis}
    return _sample_norm(nnfast.group_norm, x, num_groups=num_groups, **settings)


def instance_norm(
    x: da.Array,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    axis: int = 1,
) -> da.Array:
    """nnfast.instance_norm of a Dask array cut along its first axis alone, lazily; y alone.

    Parameters
    ----------
    x : dask.array.Array, shape (N, C, L), (N, C, H, W), ..., one chunk along all axes but the first
    gamma, beta : array_like, shape (C,), optional
    eps : float, default 1e-5
    axis : int, default 1
        That of the channels.

    Returns
    -------
    y : dask.array.Array of x's shape and chunks

    Raises
    ------
    TypeError, ValueError
        As group_norm.

    Examples
    --------
    >>> import dask.array as da, nnfast as nf
    >>> nf.dask.instance_norm(da.from_array([[[1.0, 3.0]]]), eps=1e-12).compute().round(6)
    array([[[-1.,  1.]]])
    """
    settings = {"gamma": gamma, "beta": beta, "eps": eps, "axis": axis}
    return _sample_norm(nnfast.instance_norm, x, **settings)


def _row_norm(
    norm: Callable[..., Any], x: da.Array, axis: int | tuple[int, ...], **settings: Any
) -> da.Array:
    x = floating(x, "x")
    axes = _arrays.axes_of(axis, x, "x")
    require_whole(x, axes, "x")
    norm(np.zeros([x.shape[a] for a in axes], x.dtype), axis=tuple(range(len(axes))), **settings)
    return x.map_blocks(_part(norm, 0, axis=axes, **settings), dtype=x.dtype, meta=x._meta)


def _sample_norm(norm: Callable[..., Any], x: da.Array, **settings: Any) -> da.Array:
    x = floating(x, "x")
    require_whole(x, tuple(range(1, x.ndim)), "x")
    norm(np.zeros((1, *x.shape[1:]), x.dtype), **settings)
    return x.map_blocks(_part(norm, 0, **settings), dtype=x.dtype, meta=x._meta)


def _of_one(chunks: list[Any], function: Callable[[Any], Any]) -> Any:
    """A function of the chunks along an axis, of which there is one."""
    return function(chunks[0])


def _part(function: Callable[..., Any], i: int, **settings: Any) -> Callable[[Any], Any]:
    """A function of a chunk that gives one of the things that a function gives; Dask looks through no settings then."""
    return partial(_item, function=partial(function, **settings), i=i)


def _item(x: Any, function: Callable[..., Any], i: int) -> Any:
    return function(x)[i]
