"""Numbers in 16 and 8 bits as cpp/kernels/packing.hpp defines them, in NumPy: the bits that round, and the codes."""

from typing import Any, NamedTuple

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


class Bits(NamedTuple):
    """A word for each number, of which a state takes the lower or the upper bits."""

    words: Array
    upper: bool

    def taken(self, count: int) -> Array:
        return self.words >> np.uint64(32 - count) if self.upper else self.words % 2**count


def random(n: int, seed: int, step: int, place: int, state: int) -> Bits:
    """What rounds n elements of the parameter at this place, of its state of this number.

    A word of the table of the parameter and step, plus a key of the chunk and of two states.
    """
    key = mixed(mixed(mixed(seed) ^ step) ^ place)
    table = words(key)
    keys = [mixed(key ^ (chunk + 1)) >> 32 * (state // 2) & WORD for chunk in range(-(-n // CHUNK))]
    sums = np.concatenate([(table + np.uint64(each)) & np.uint64(WORD) for each in keys])
    return Bits(sums[:n], state % 2 == 1)


# ---- bfloat16 ----


def to_bfloat16(x: Array, bits: Array) -> Array:
    """The upper halves of float32, one more with the probability of the lower half over 65,536."""
    whole = x.view(np.uint32).astype(np.uint64)
    has_neighbour = np.abs(x) < np.array(0x7F7F0000, np.uint32).view(np.float32)
    return ((whole + np.where(has_neighbour, bits, 0)) >> np.uint64(16)).astype(np.uint16)


def from_bfloat16(codes: Array) -> Array:
    return (codes.astype(np.uint32) << 16).view(np.float32)


# ---- blocks of 8 bits ----

# What a state holds: numbers of an octave, octaves, whether there is a sign.
FORMATS = {"average": (8, 16, True), "momentum": (32, 4, True), "squares": (8, 32, False)}


def lowest(base: int) -> float:
    return 2.0 ** (base - 127) if base else 0.0


def levels(base: int, held: str) -> Array:
    """The numbers that codes stand for, but for the sign, plus lowest(base) where there is one."""
    each, octaves, _ = FORMATS[held]
    codes = np.arange(each * octaves)
    return np.asarray(lowest(base) * 2.0 ** (codes // each) * (1 + codes % each / each))


def numbers(base: int, held: str, flagged: bool = False) -> Array:
    """The numbers that codes stand for, but for the sign; of a flagged block the last are infinity and NaN."""
    found = levels(base, held) - FORMATS[held][2] * lowest(base)
    if flagged:
        found[-2:] = np.inf, np.nan
    return found


def base_of(block: Array, held: str) -> int:
    """The least for which the largest finite number, rounded up, has a code; one more beside what is not finite."""
    each, octaves, signed = FORMATS[held]
    finite = np.isfinite(block)
    largest = float(np.abs(block[finite]).max(initial=0))
    if largest == 0:
        return 0 if finite.all() else 1
    exponent = int(np.floor(np.log2(largest)))
    room = 1 / each + signed * 2.0 ** (1 - octaves)
    exponent += largest / 2.0**exponent + room >= 2
    least = (int(np.log2(each)) + 1) if signed else 1
    base = max(exponent + 127 - (octaves - 1), least) + (not finite.all())
    return min(base, 255 - octaves)


def to_blocks(x: Array, bits: Bits, held: str) -> Array:
    """Rows of 128 codes, the base, and whether a number is not finite."""
    each, octaves, signed = FORMATS[held]
    dropped = 23 - int(np.log2(each))
    rows = []
    for first in range(0, x.size, BLOCK):
        block = np.zeros(BLOCK, np.float32)
        block[: x.size - first] = x[first : first + BLOCK]
        share_up = np.zeros(BLOCK)
        share_up[: x.size - first] = bits.taken(dropped)[first : first + BLOCK] / 2.0**dropped
        base, finite = base_of(block, held), np.isfinite(block)
        steps = np.append(levels(base, held), np.inf)
        size = np.abs(np.where(finite, block, 0))
        with np.errstate(over="ignore"):
            raised = (size + signed * np.float32(lowest(base))).astype(float)
        low = np.clip(np.searchsorted(steps, raised, side="right") - 1, 0, len(steps) - 2)
        with np.errstate(invalid="ignore"):
            share = (raised - steps[low]) / (
                steps[low] * 2.0 ** -np.log2(each) / (1 + low % each / each)
            )
            code = low + (share + share_up >= 1)
        code = np.minimum(
            np.where(raised > 0, code, 0), each * octaves - 1 - 2 * (not finite.all())
        )
        code = np.where(np.isinf(block), each * octaves - 2, code)
        code = np.where(np.isnan(block), each * octaves - 1, code)
        if signed:
            code |= np.signbit(block) * 128
        rows.append(np.array([*code, base, not finite.all()], np.uint8))
    return np.array(rows, np.uint8).reshape(-1, BLOCK + 2)


def from_blocks(rows: Array, n: int, held: str) -> Array:
    found = []
    for row in rows:
        table = numbers(int(row[BLOCK]), held, bool(row[BLOCK + 1]))
        codes = row[:BLOCK].astype(int)
        signed = FORMATS[held][2]
        values = table[codes & 127] if signed else table[codes]
        found.append(np.where(signed & (codes >= 128), 0 - values, values))
    return np.concatenate(found)[:n].astype(np.float32)


# ---- either ----


def pack(x: Array, dtype: str, held: str, bits: Bits) -> Array:
    """As the state of an optimizer whose state_dtype it is."""
    flat = np.ascontiguousarray(x, np.float32).reshape(-1)
    if dtype == "bfloat16":
        return to_bfloat16(flat, bits.taken(16)).reshape(x.shape)
    return to_blocks(flat, bits, held)


def unpack(codes: Array, shape: tuple[int, ...], held: str) -> Array:
    if codes.dtype == np.uint16:
        return from_bfloat16(codes).reshape(shape)
    return from_blocks(codes, int(np.prod(shape)), held).reshape(shape)
