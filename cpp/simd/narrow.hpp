// Integers of 8 and 16 bits in memory, of 16 and 32 in registers, and the bits of bfloat16.
#pragma once

#include "simd/vector.hpp"

namespace nnfast {
namespace {

using Wide = Vec<std::int32_t>;
using Shorts = Vec<std::int16_t>;
using Words = Vec<std::uint32_t>;

// By intrinsics: the compiler would convert four lanes at a time.
NNFAST_INLINE Shorts widen_bytes(const char* from) {
#if defined(__AVX512BW__)
  return bit_cast<Shorts>(_mm512_cvtepu8_epi16(load_bytes<__m256i>(from)));
#elif defined(__AVX2__)
  return bit_cast<Shorts>(_mm256_cvtepu8_epi16(load_bytes<__m128i>(from)));
#else
  return __builtin_convertvector(load_bytes<VecN<std::uint8_t, kLanes<Shorts> > >(from), Shorts);
#endif
}

NNFAST_INLINE Wide widen_halves(const char* from) {
#if defined(__AVX512F__)
  return bit_cast<Wide>(_mm512_cvtepu16_epi32(load_bytes<__m256i>(from)));
#elif defined(__AVX2__)
  return bit_cast<Wide>(_mm256_cvtepu16_epi32(load_bytes<__m128i>(from)));
#else
  return __builtin_convertvector(load_bytes<VecN<std::uint16_t, kLanes<Wide> > >(from), Wide);
#endif
}

// Two vectors of values below 256.
NNFAST_INLINE void store_as_bytes(char* to, Shorts first, Shorts second) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  // It works within halves of a register.
  const __m256i bytes = _mm256_packus_epi16(bit_cast<__m256i>(first), bit_cast<__m256i>(second));
  store_bytes(to, _mm256_permute4x64_epi64(bytes, 0xd8));
#else
  using Bytes = VecN<std::uint8_t, kLanes<Shorts> >;
  store_bytes(to, __builtin_convertvector(first, Bytes));
  store_bytes(to + kLanes<Shorts>, __builtin_convertvector(second, Bytes));
#endif
}

// Two vectors of values below 65,536.
NNFAST_INLINE void store_as_halves(char* to, Wide first, Wide second) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  const __m256i halves = _mm256_packus_epi32(bit_cast<__m256i>(first), bit_cast<__m256i>(second));
  store_bytes(to, _mm256_permute4x64_epi64(halves, 0xd8));
#else
  using Narrow = VecN<std::uint16_t, kLanes<Wide> >;
  store_bytes(to, __builtin_convertvector(first, Narrow));
  store_bytes(to + 2 * kLanes<Wide>, __builtin_convertvector(second, Narrow));
#endif
}

// The bits of float32 rounded to bfloat16, by 16 random bits a lane: up with the probability of what is cut off. What
// is finite stays finite, and what has no neighbour above is cut off, infinity and NaN with it.
NNFAST_INLINE Wide rounded_to_bfloat16(Wide bits, Wide random) {
  constexpr std::int32_t magnitude = 0x7fffffff, largest = 0x7f7f0000;
  random = (bits & magnitude) >= largest ? Wide{} : random;
  return bit_cast<Wide>(bit_cast<Words>(bits + random) >> 16);
}

// The lower or the upper 16 bits of each word.
NNFAST_INLINE Wide random_half(Words words, bool upper) {
  return bit_cast<Wide>(upper ? words >> 16 : words & 0xffffu);
}

}  // namespace
}  // namespace nnfast
