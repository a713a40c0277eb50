// Results of rows that go past the caches. A kernel reads what it wrote into a row again, so its results lie in a tile
// first, which is copied by non-temporal stores.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/matrix.hpp"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace nnfast {

// Bytes of gradients from which on streaming was seen to pay, which is sooner than for the maps of streams() in
// costs.hpp; and bytes of a tile, which lies on the stack.
constexpr std::ptrdiff_t kStreamedBytes = std::ptrdiff_t{4} << 20, kStreamedTile = 16384;

// Copies bytes past the caches. Both begin at the same place within a cache line.
inline void stream_bytes(const char* from, char* to, std::ptrdiff_t bytes) {
#if defined(__x86_64__)
  constexpr std::ptrdiff_t line = 64, step = sizeof(__m128i);
  const std::ptrdiff_t past = static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(to) % line);
  std::ptrdiff_t at = std::min(past ? line - past : 0, bytes);
  std::memcpy(to, from, static_cast<std::size_t>(at));
  for (; at + line <= bytes; at += line)
    for (std::ptrdiff_t k = 0; k < line; k += step)
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + at + k),
                       _mm_load_si128(reinterpret_cast<const __m128i*>(from + at + k)));
  std::memcpy(to + at, from + at, static_cast<std::size_t>(bytes - at));
#else
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
#endif
}

// Before another thread reads what was streamed.
inline void end_stream() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Whether `rows` rows of y, of n elements, are streamed: they are more than the caches hold, lie end to end, and some
// have room in a tile.
inline bool streams_rows(const Matrix& y, std::ptrdiff_t rows, std::ptrdiff_t n, std::ptrdiff_t size) {
#if defined(__x86_64__)
  constexpr std::ptrdiff_t least = 4;
  return n > 0 && y.stride == size && y.row_stride == n * size && rows * n * size >= kStreamedBytes &&
         n * size * least <= kStreamedTile;
#else
  return static_cast<void>(y), static_cast<void>(rows), static_cast<void>(n), static_cast<void>(size), false;
#endif
}

// Calls run(tile, first, count) for some rows of y after the other, whose results it leaves in the tile.
template <class Run>
unsigned stream_rows(const Matrix& y, std::ptrdiff_t rows, std::ptrdiff_t n, std::ptrdiff_t size, Run run) {
  constexpr std::ptrdiff_t together = 4, line = 64;
  alignas(64) char room[kStreamedTile + line];
  const std::ptrdiff_t most = kStreamedTile / (n * size) / together * together;
  unsigned raised = 0;
  for (std::ptrdiff_t first = 0; first < rows; first += most) {
    const std::ptrdiff_t count = std::min(most, rows - first);
    char* const to = y.data + first * y.row_stride;
    char* const tile = room + static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(to) % line);
    raised |= run(Matrix{tile, y.row_stride, y.stride}, first, count);
    stream_bytes(tile, to, count * y.row_stride);
  }
  end_stream();
  return raised;
}

}  // namespace nnfast
