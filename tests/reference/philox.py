"""Philox4x32-10 in plain Python, its streams as simd/philox.hpp defines them, and what dropout makes of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnfast import _core

Array = NDArray[Any]
WORD = 0xFFFFFFFF
WORDS_IN_BLOCK = 64


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10, as its authors define it."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high = c[0] * 0xD2511F53 >> 32, c[2] * 0xCD9E8D57 >> 32
        low = c[0] * 0xD2511F53 & WORD, c[2] * 0xCD9E8D57 & WORD
        c = [high[1] ^ c[1] ^ k[0], low[1], high[0] ^ c[3] ^ k[1], low[0]]
        k = [(k[0] + 0x9E3779B9) & WORD, (k[1] + 0xBB67AE85) & WORD]
    return c


def philox_of(seed: int, at: int, stream: int = 0) -> list[int]:
    """The words of counter `at` of a stream."""
    return philox([at & WORD, at >> 32, stream, 0], [seed & WORD, seed >> 32])


def stream_word(seed: int, at: int, stream: int = 0) -> int:
    """Word 64 b + 16 j + c of a stream is word j of counter 16 b + c."""
    block, within = divmod(at, WORDS_IN_BLOCK)
    return philox_of(seed, 16 * block + within % 16, stream)[within // 16]


def stream_words(seed: int, first: int, n: int, stream: int = 0) -> Array:
    """n words, fast: by the kernel's counters, which test_dropout compares with philox()."""
    block = first // WORDS_IN_BLOCK
    blocks = -(-(first + n) // WORDS_IN_BLOCK) - block
    counters = _core._philox4x32(seed, 16 * block, stream, 16 * blocks).reshape(blocks, 16, 4)
    words = counters.transpose(0, 2, 1).reshape(-1)
    return words[first - WORDS_IN_BLOCK * block :][:n]


def halves(seed: int, first: int, n: int, stream: int) -> Array:
    """16 random bits for each of n elements: the halves of the words in turn, the lower first."""
    words = stream_words(seed, first // 2, n // 2 + 2, stream)
    return np.stack([words & 0xFFFF, words >> 16], axis=-1).reshape(-1)[first % 2 :][:n]


def kept_reference(seed: int, n: int, p: float | Array, first: int = 0) -> Array:
    """Which elements are kept: those whose 32 bits are not below p 2^32; p may be one for each element."""
    bits = halves(seed, first, n, 1).astype(np.uint64) << 16 | halves(seed, first, n, 2)
    return bits >= (np.float64(p) * 2**32 + 0.5).astype(np.uint64)


def pack(kept: Array) -> Array:
    return np.packbits(kept, bitorder="little")


def unpack(mask: Array, n: int) -> Array:
    return np.unpackbits(mask, count=n, bitorder="little").astype(bool)


def scaled(x: Array, scale: Any) -> Array:
    """x scale in float64 or float32; of float16 the float32 product, rounded."""
    wide = np.float64 if x.dtype == np.float64 else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        return (x * wide(scale)).astype(x.dtype)


def keep(x: Array, kept: Array, scale: Any) -> Array:
    """x scale where it is kept, else 0."""
    return np.where(kept, scaled(x, scale), x.dtype.type(0))


def inverted_scale(p: Any) -> Any:
    """1 / (1 - p); where nothing is kept it does not matter."""
    return 1 / (1 - np.where(p == 1, 0, p))
