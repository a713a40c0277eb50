"""Dropout of a Dask array, whose mask is that of the array in one piece, whatever the chunks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from math import prod
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from nnfast import _checks, _seeds
from nnfast._seeds import Rng
from nnfast.dask._chunks import array_of, by_place, floating, places_of, require_known
from nnfast.dropout import Mode, dropout_mask
from nnfast.dropout import dropout as of_array
from nnfast.dropout import dropout_backward as gradient_of_array

Array = NDArray[Any]
Shape = tuple[int, ...]
Places = list[list[tuple[int, int]]]
"""Where chunks begin and end along every axis."""
Box = tuple[tuple[int, int], ...]
"""Where one chunk does."""


def dropout(
    x: da.Array,
    p: float = 0.5,
    *,
    training: bool = True,
    mode: Mode = "inverted",
    rng: Rng = None,
) -> tuple[da.Array, da.Array | None]:
    """nnfast.dropout of a Dask array, lazily.

    Parameters
    ----------
    x : dask.array.Array of float16, float32 or float64
        Chunked anywhere.
    p : float in [0, 1], default 0.5
        Probability of dropping an element.
    training : bool, default True
        In inference nothing is dropped.
    mode : "inverted" or "vanilla", default "inverted"
        As of nnfast.dropout.
    rng : int, numpy.random.Generator, BitGenerator, SeedSequence, RandomState, numpy.random or None
        Read when dropout is called: every computation of y has the same mask.

    Returns
    -------
    y : dask.array.Array of x's shape and chunks
        The bits are those of nnfast.dropout of the array in one piece.
    mask : dask.array.Array of bool, x's shape and chunks, or None in inference
        Where an element was kept. In one piece and packed, ``numpy.packbits(..., bitorder="little")``, it is
        nnfast.dropout's.

    Raises
    ------
    TypeError
        If x is no Dask array or not of real numbers, or rng of another type.
    ValueError
        If p or rng is out of range, mode is unknown, or the shape of x is not known.

    Examples
    --------
    >>> import dask.array as da, numpy as np, nnfast as nf
    >>> x = np.ones((6, 10))
    >>> y, mask = nf.dask.dropout(da.from_array(x, chunks=(4, 3)), p=0.5, rng=0)
    >>> np.array_equal(y.compute(), nf.dropout(x, p=0.5, rng=0)[0])
    True
    """
    x = floating(x, "x")
    require_known(x, "x")
    p = _checks.real_in(p, 0, 1, "p")
    _checks.one_of(mode, ("inverted", "vanilla"), "mode")
    if not training:
        return x.map_blocks(_undropped, p, mode, dtype=x.dtype, meta=x._meta), None
    seed = _seeds.seed_of(rng)
    settings = {"p": p, "seed": seed, "shape": x.shape, "places": places_of(x)}
    y = by_place(partial(_dropped, mode=mode, **settings), x, dtype=x.dtype, meta=x._meta)
    bits = np.empty((0,) * x.ndim, bool)
    return y, by_place(partial(_masked, **settings), x, dtype=bool, meta=bits)


def dropout_backward(
    dy: da.Array, mask: da.Array, p: float = 0.5, *, mode: Mode = "inverted"
) -> da.Array:
    """Gradient of dropout in training: dy where the element was kept, scaled as it was, else 0.

    Parameters
    ----------
    dy : dask.array.Array of float16, float32 or float64
        Gradient of the loss with respect to y.
    mask : dask.array.Array of bool, dy's shape
        From dropout.
    p : float in [0, 1], default 0.5
    mode : "inverted" or "vanilla", default "inverted"
        As given to dropout.

    Returns
    -------
    dx : dask.array.Array of dy's shape and chunks

    Raises
    ------
    TypeError
        If dy or mask is no Dask array, or of another dtype.
    ValueError
        If p is out of range, mode unknown, or the shapes differ.

    Examples
    --------
    >>> import dask.array as da, nnfast as nf
    >>> kept = da.from_array([True, False, True])
    >>> nf.dask.dropout_backward(da.ones(3), kept, p=0.5).compute()
    array([2., 0., 2.])
    """
    dy = floating(dy, "dy")
    p = _checks.real_in(p, 0, 1, "p")
    _checks.one_of(mode, ("inverted", "vanilla"), "mode")
    if array_of(mask, "mask").dtype != bool:
        raise TypeError(f"mask must have dtype bool, got {mask.dtype}")
    if mask.shape != dy.shape:
        raise ValueError(f"mask must have the shape of dy, {dy.shape}, got {mask.shape}")
    mask = mask.rechunk(dy.chunks)
    result: da.Array = da.map_blocks(_selected, dy, mask, p, mode, dtype=dy.dtype, meta=dy._meta)
    return result


# ---- of one chunk ----


def _dropped(
    x: Array, number: Shape, p: float, mode: Mode, seed: int, shape: Shape, places: Places
) -> Array:
    box = _box(places, number)
    length, offsets = _runs(box, shape)
    if length == x.size:  # one run, which dropout knows how to do in one pass
        return of_array(x, p, mode=mode, rng=seed, offset=next(offsets))[0]
    return _selected(x, _mask(box, shape, p, seed), p, mode)


def _masked(x: Array, number: Shape, p: float, seed: int, shape: Shape, places: Places) -> Array:
    return _mask(_box(places, number), shape, p, seed)


def _selected(x: Array, kept: Array, p: float, mode: Mode) -> Array:
    return gradient_of_array(x, kept, p, mode=mode)


def _undropped(x: Array, p: float, mode: Mode) -> Array:
    return of_array(x, p, training=False, mode=mode)[0]


# ---- where a chunk lies ----


def _box(places: Places, number: Shape) -> Box:
    return tuple(along[i] for along, i in zip(places, number, strict=True))


def _mask(box: Box, shape: Shape, p: float, seed: int) -> Array:
    """The mask of a box within an array of that shape, True where an element is kept.

    The mask is a function of the position: each run of the box has its own piece of it, by its offset.
    """
    kept = np.empty([last - first for first, last in box], bool)
    length, offsets = _runs(box, shape)
    packed = np.empty((length + 7) // 8, np.uint8)
    for run, offset in zip(kept.reshape(-1, max(length, 1)), offsets, strict=False):
        dropout_mask(length, p, rng=seed, offset=offset, out=packed)
        run[...] = np.unpackbits(packed, count=length, bitorder="little")
    return kept


def _runs(box: Box, shape: Shape) -> tuple[int, Iterator[int]]:
    """A box in C order as runs of the whole array's elements: how long they are, and where they begin."""
    sides = [last - first for first, last in box]
    strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    split = len(
        shape
    )  # the axes from here on are in the run: those that the box has whole, and one more
    while split > 0:
        split -= 1
        if sides[split] != shape[split]:
            break
    within = sum(
        first * stride for (first, _), stride in list(zip(box, strides, strict=True))[split:]
    )
    places = product(*(range(first, last) for first, last in box[:split]))
    offsets = (
        within + sum(i * stride for i, stride in zip(place, strides, strict=False))
        for place in places
    )
    return prod(sides[split:]), offsets
