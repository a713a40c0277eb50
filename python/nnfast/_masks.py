"""Masks of dropout in the forms that people have them: packed bits, bool, and 0 and 1 of uint8."""

from __future__ import annotations

from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnfast import _arrays, _checks

AnyMask = NDArray[np.uint8] | NDArray[np.bool]
MaskAs = Literal["bits", "bool"]


def check_form(mask_as: str) -> None:
    """Refuse an unknown form of a mask.

    Raises
    ------
    ValueError
        If it is one.
    """
    _checks.one_of(mask_as, ("bits", "bool"), "mask_as")


def packed(mask: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The mask of an array of that shape as packed bits, contiguous: itself if it is.

    Raises
    ------
    TypeError
        If it is no array, masked, lazy, or of a dtype that is no mask's.
    ValueError
        If it has another shape, holds what is neither 0 nor 1, or its bits are not contiguous.
    """
    _arrays.check_readable(mask, "mask")
    dtype = getattr(mask, "dtype", None)
    if not isinstance(mask, np.ndarray) or dtype not in (np.bool, np.uint8):
        raise TypeError(
            "mask must be an array of bool or of 0 and 1 in uint8, or a uint8 array of packed bits, "
            f"got {_kind(mask)}"
        )
    bits = (-(-prod(shape) // 8),)
    # For one element a mask of 0 and 1 may have that shape, too: as a bit, it means the same.
    if dtype == np.uint8 and mask.shape == bits:
        if not mask.flags.c_contiguous:
            raise ValueError("mask must be contiguous")
        return mask
    if mask.shape != shape:
        or_packed = f", or {bits} as packed bits" if dtype == np.uint8 else ""
        raise ValueError(f"mask must have shape {shape}{or_packed}, got {mask.shape}")
    if dtype == np.uint8 and mask.max(initial=0) > 1:
        raise ValueError(f"mask of shape {shape} must be of 0 and 1, got {mask.max()}")
    return np.packbits(mask.reshape(-1), bitorder="little")


def unpacked(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool]:
    """Packed bits as an array of bool of that shape."""
    flat = np.unpackbits(bits, count=prod(shape), bitorder="little")
    return flat.view(np.bool).reshape(shape)


def delivered(
    bits: NDArray[np.uint8], shape: tuple[int, ...], out: NDArray[Any] | None
) -> NDArray[np.bool]:
    """Packed bits as an array of bool, written to `out` if there is one."""
    kept = unpacked(bits, shape)
    if out is None:
        return kept
    out[...] = kept
    return out


def in_form(mask: Any, shape: tuple[int, ...], mask_as: MaskAs) -> AnyMask:
    """A mask that was checked, in one form: itself if it has that."""
    if mask_as == "bits":
        return packed(mask, shape)
    return mask if mask.dtype == np.bool else unpacked(packed(mask, shape), shape)


def _kind(mask: Any) -> str:
    """What was given in place of a mask, and what to do about it."""
    if not isinstance(mask, np.ndarray):
        return type(mask).__name__
    advice = ": pass mask != 0" if mask.dtype.kind in "fiu" else ""
    if mask.dtype.kind == "f":
        advice += ", without the scale, which follows from p and mode"
    return f"dtype {mask.dtype}{advice}"
