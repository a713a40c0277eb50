// Where vectors of results begin within cache lines.
#pragma once

#include <cstdint>

#include "simd/vector.hpp"

namespace nnfast {
namespace {

// A vector that begins in one cache line and ends in the next is stored in two steps: in the caches that takes a memory
// bound kernel a fifth longer (AVX-512, Sapphire Rapids; where the inputs begin does not matter). NumPy's arrays begin
// 16 bytes past a line. From so many vectors on it pays to reach the next line first.
constexpr std::ptrdiff_t kAlignedVectors = 64;

// Elements before the first at which a vector of results can be stored within one line.
template <class T>
NNFAST_INLINE std::ptrdiff_t to_next_line(const char* out, std::ptrdiff_t n) {
  const auto past = reinterpret_cast<std::uintptr_t>(out) % kVectorBytes;
  if (past == 0 || past % sizeof(T) != 0 || n < kAlignedVectors * kLanes<Vec<T>>) return 0;
  return static_cast<std::ptrdiff_t>((kVectorBytes - past) / sizeof(T));
}

}  // namespace
}  // namespace nnfast
