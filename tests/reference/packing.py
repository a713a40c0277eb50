"""Numbers in 16 and 8 bits as cpp/kernels/packing.hpp defines them, in NumPy: the bits that round, and the codes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
CHUNK, BLOCK = 1024, 128
WORD, LONG = 2**32 - 1, 2**64 - 1


def mixed(bits: int) -> int:
    """SplitMix64's finalizer."""
    bits = (bits + 0x9E3779B97F4A7C15) & LONG
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & LONG
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & LONG
    return bits ^ (bits >> 31)


def words(key: int) -> Array:
    """The words of a chunk."""
    x = (np.arange(CHUNK, dtype=np.uint64) + np.uint64(key & WORD)) & np.uint64(WORD)
    x ^= x >> np.uint64(16)
    x = x * np.uint64(0x7FEB352D) & np.uint64(WORD)
    x ^= np.uint64(key >> 32)
    x ^= x >> np.uint64(15)
    x = x * np.uint64(0x846CA68B) & np.uint64(WORD)
    return x ^ (x >> np.uint64(16))


def random(n: int, seed: int, step: int, place: int, state: int) -> tuple[Array, Array]:
    """16 random bits for each of n elements, of the parameter at this place and its state of this number; and 4 more.

    A word of the table of the parameter and step, plus a key of the chunk and state.
    """
    key = mixed(mixed(mixed(seed) ^ step) ^ place)
    table = words(key)
    halves = table.astype("<u4").view("<u2").astype(np.uint64)
    first, second = [], []
    for chunk in range(-(-n // CHUNK)):
        of_chunk = mixed(key ^ (chunk + 1))
        sums = (table + np.uint64(of_chunk >> 32 * (state // 2) & WORD)) & np.uint64(WORD)
        first.append((sums >> np.uint64(16 * (state % 2))) & np.uint64(0xFFFF))
        of_codes = mixed(of_chunk) >> 16 * state & 0xFFFF
        second.append(((halves[:CHUNK] + np.uint64(of_codes)) & np.uint64(0xFFFF)) >> np.uint64(12))
    return np.concatenate(first)[:n], np.concatenate(second)[:n]


# ---- bfloat16 ----


def to_bfloat16(x: Array, bits: Array) -> Array:
    """The upper halves of float32, one more with the probability of the lower half over 65,536."""
    whole = x.view(np.uint32).astype(np.uint64)
    has_neighbour = np.abs(x) < np.array(0x7F7F0000, np.uint32).view(np.float32)
    return ((whole + np.where(has_neighbour, bits, 0)) >> np.uint64(16)).astype(np.uint16)


def from_bfloat16(codes: Array) -> Array:
    return (codes.astype(np.uint32) << 16).view(np.float32)


# ---- blocks of 8 bits ----


def levels(exponent: int, signed: bool) -> Array:
    """The numbers that codes stand for, but for the sign; the last are infinity and NaN."""
    count, top = (128, 15) if signed else (256, 31)
    codes = np.arange(count)
    found = 2.0 ** (codes // 8 - top + exponent - 127) * (1 + codes % 8 / 8)
    found[0] = 0
    found[-2:] = np.inf, np.nan
    return found


def exponent_of(block: Array, signed: bool) -> int:
    """The least for which the largest finite number has a code."""
    largest = float(np.abs(block[np.isfinite(block)]).max(initial=0))
    digits, power = np.frexp(largest or 1e-45)  # in [1/2, 1)
    exponent = int(power) - 1 + 127 + (2 * digits > 1.625)
    return int(np.clip(exponent, 16 if signed else 32, 254))


def to_blocks(x: Array, bits: Array, signed: bool) -> Array:
    """Rows of 128 codes of bfloat16 numbers, the exponent, and whether a number is not finite."""
    rows = []
    for first in range(0, x.size, BLOCK):
        block = np.zeros(BLOCK, np.float32)
        block[: x.size - first] = x[first : first + BLOCK]
        of_block = np.zeros(BLOCK)
        of_block[: x.size - first] = bits[first : first + BLOCK]
        exponent = exponent_of(block, signed)
        table = levels(exponent, signed)[:-2]
        # Code 0 takes the place of the level below code 1: between the two nothing but zero is smaller.
        steps = table.copy()
        steps[0] = steps[1] / 1.125
        size = np.abs(block.astype(np.float64))
        low = np.clip(np.searchsorted(steps, size, side="right") - 1, 0, len(steps) - 1)
        high = np.minimum(low + 1, len(steps) - 1)
        share = (size - steps[low]) / np.where(high > low, steps[high] - steps[low], 1)
        code = np.where((size >= steps[0]) & (share + of_block / 16 >= 1), high, low)
        if not signed:
            code = np.where((code == 0) & (size > 0), 1, code)
        code = np.where(np.isinf(block), len(table), code)
        code = np.where(np.isnan(block), len(table) + 1, code)
        if signed:
            code |= np.signbit(block) * 128
        flag = not np.isfinite(block).all()
        rows.append(np.array([*code, exponent, flag], np.uint8))
    return np.array(rows, np.uint8).reshape(-1, BLOCK + 2)


def from_blocks(rows: Array, n: int, signed: bool) -> Array:
    found = []
    for row in rows:
        exponent = max(int(row[BLOCK]), 16 if signed else 32)
        table = levels(exponent, signed)
        codes = row[:BLOCK].astype(int)
        values = table[codes & 127] if signed else table[codes]
        found.append(np.where(signed & (codes >= 128), -values, values))
    return np.concatenate(found)[:n].astype(np.float32)


# ---- either ----


def pack(x: Array, dtype: str, squares: bool, bits: tuple[Array, Array]) -> Array:
    """As the state of an optimizer whose state_dtype it is: 8 bits are made of bfloat16."""
    flat = np.ascontiguousarray(x, np.float32).reshape(-1)
    halves = to_bfloat16(flat, bits[0])
    if dtype == "bfloat16":
        return halves.reshape(x.shape)
    return to_blocks(from_bfloat16(halves), bits[1], not squares)


def unpack(codes: Array, shape: tuple[int, ...], squares: bool) -> Array:
    if codes.dtype == np.uint16:
        return from_bfloat16(codes).reshape(shape)
    return from_blocks(codes, int(np.prod(shape)), not squares).reshape(shape)
