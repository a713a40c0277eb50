"""How gradients are clipped: what each option and convention means, and what is done to units of a layer by NumPy."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnfast.optim.accumulation import Accumulated

# The options, of which one at most is given.
OPTIONS = ("clip_value", "clip_norm", "clip_global_norm", "clip_block_rms", "clip_adaptive")


class Clip(IntEnum):
    """What is limited, in the order of ClipNorm in cpp/ops/optim.hpp."""

    NONE = 0  # or values, which the kernel clips in any case
    EACH = 1
    GLOBAL = 2
    BLOCK = 3
    EACH_TORCH = 4
    GLOBAL_TORCH = 5
    GLOBAL_KERAS = 6
    ADAPTIVE = 7


def kind_of(option: str | None, convention: str) -> int:
    """What an option means under a convention. CS231n has no clipping: it is PyTorch's."""
    torch = convention in ("torch", "cs231n")
    match option:
        case "clip_norm":
            return int(Clip.EACH_TORCH if torch else Clip.EACH)
        case "clip_global_norm":
            if convention == "keras":
                return int(Clip.GLOBAL_KERAS)
            return int(Clip.GLOBAL_TORCH if torch else Clip.GLOBAL)
        case "clip_block_rms":
            return int(Clip.BLOCK)
        case "clip_adaptive":
            return int(Clip.ADAPTIVE)
    return int(Clip.NONE)


# ---- adaptive clipping (Brock et al. 2021) ----


def unit_axes(shape: tuple[int, ...], convention: str) -> tuple[int, ...] | None:
    """The axes of the weights of one unit: None for all of them, as a vector has.

    Raises
    ------
    ValueError
        If optax has no rule for as many axes.
    """
    if sum(side != 1 for side in shape) <= 1:
        return None
    if convention != "optax":
        return (0,) if len(shape) == 2 else tuple(range(1, len(shape)))
    if len(shape) > 5:
        raise ValueError(f"clip_adaptive of optax takes arrays of up to 5 axes, got shape {shape}")
    return {2: (0,), 3: (0,), 4: (0, 1, 2), 5: (0, 1, 2, 3)}[len(shape)]


def unit_norms(array: NDArray[Any], axes: tuple[int, ...] | None) -> NDArray[np.float64]:
    """The norm of each unit, with axes of length 1 for those of its weights; the same bits for any layout."""
    wide = np.ascontiguousarray(array, np.float64).reshape(array.shape)
    with np.errstate(over="ignore"):
        norms = np.sqrt(np.square(wide).sum(axis=axes, keepdims=True))
    overflows = np.isinf(norms)
    if overflows.any():  # or is infinite
        largest = np.abs(wide).max(axis=axes, keepdims=True, initial=0)
        with np.errstate(invalid="ignore"):
            scaled = np.square(wide / largest).sum(axis=axes, keepdims=True)
        norms = np.where(overflows & np.isfinite(largest), largest * np.sqrt(scaled), norms)
    return np.asarray(norms)


def clipped_units(
    params: list[NDArray[Any]],
    grads: list[Any],
    totals: list[NDArray[Any] | None],
    limit: float,
    eps: float,
    grad_scale: float,
    convention: str,
) -> tuple[list[NDArray[Any] | None], NDArray[np.float64]]:
    """The sums of gradients and what was accumulated, clipped; before that the norm of each, NaNs and infinities.

    The gradients have been checked. They are to be multiplied by grad_scale yet.
    """
    found = Accumulated(len(params))
    stats = np.zeros((len(params), 3))
    for i, (param, grad, total) in enumerate(zip(params, grads, totals, strict=True)):
        if total is not None:
            found.begin(i, param)[...] = total
        if grad is not None:
            found.add(params, {i: grad})
        whole = found.sum_of(i)
        if whole is None:
            continue
        counts = np.isnan(whole).sum(), np.isinf(whole).sum()
        axes = unit_axes(param.shape, convention)
        norms = unit_norms(whole, axes) * grad_scale
        stats[i] = unit_norms(norms, None).max(initial=0), *counts
        most = limit * np.maximum(unit_norms(param, axes), eps)
        factors = np.where(norms < most, 1.0, most / np.maximum(norms, 1e-6))
        with np.errstate(invalid="ignore"):
            np.multiply(whole, factors.astype(whole.dtype), out=whole)
    return [found.sum_of(i) for i in range(len(params))], stats
