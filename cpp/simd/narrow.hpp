// Integers of 8 and 16 bits in memory, of 16 and 32 in registers, and the bits of bfloat16.
#pragma once

#include "simd/vector.hpp"

namespace nnfast {
namespace {

using Wide = Vec<std::int32_t>;
using Shorts = Vec<std::int16_t>;
using Words = Vec<std::uint32_t>;

// By intrinsics: the compiler would convert four lanes at a time. Bytes have copies of their uppermost bit above it.
NNFAST_INLINE Words widen_signed_bytes(const char* from) {
#if defined(__AVX512F__)
  return bit_cast<Words>(_mm512_cvtepi8_epi32(load_bytes<__m128i>(from)));
#elif defined(__AVX2__)
  return bit_cast<Words>(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
  return bit_cast<Words>(__builtin_convertvector(load_bytes<VecN<std::int8_t, kLanes<Words> > >(from), Wide));
#endif
}

NNFAST_INLINE Words widen_bytes(const char* from) {
#if defined(__AVX512F__)
  return bit_cast<Words>(_mm512_cvtepu8_epi32(load_bytes<__m128i>(from)));
#elif defined(__AVX2__)
  return bit_cast<Words>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
  return __builtin_convertvector(load_bytes<VecN<std::uint8_t, kLanes<Words> > >(from), Words);
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

// Four vectors become one of bytes in an order that store_narrowed() undoes: x86 packs within quarters of a register,
// so that each has four lanes of each vector.
using Bytes = Vec<std::uint8_t>;

// Values in [0, 32,768).
NNFAST_INLINE Shorts narrowed(Words first, Words second) {
#if defined(__AVX512BW__)
  return bit_cast<Shorts>(_mm512_packus_epi32(bit_cast<__m512i>(first), bit_cast<__m512i>(second)));
#elif defined(__AVX2__)
  return bit_cast<Shorts>(_mm256_packus_epi32(bit_cast<__m256i>(first), bit_cast<__m256i>(second)));
#else
  using Half = VecN<std::int16_t, kLanes<Words> >;
  const Half both[] = {__builtin_convertvector(first, Half), __builtin_convertvector(second, Half)};
  return load_bytes<Shorts>(both);
#endif
}

// Values up to 255; those below 0 become 0.
NNFAST_INLINE Bytes narrowed(Shorts first, Shorts second) {
#if defined(__AVX512BW__)
  return bit_cast<Bytes>(_mm512_packus_epi16(bit_cast<__m512i>(first), bit_cast<__m512i>(second)));
#elif defined(__AVX2__)
  return bit_cast<Bytes>(_mm256_packus_epi16(bit_cast<__m256i>(first), bit_cast<__m256i>(second)));
#else
  using Half = VecN<std::uint8_t, kLanes<Shorts> >;
  const Half both[] = {__builtin_convertvector(first > 0 ? first : Shorts{}, Half),
                       __builtin_convertvector(second > 0 ? second : Shorts{}, Half)};
  return load_bytes<Bytes>(both);
#endif
}

// 128 where the uppermost bit is set, and 0.
NNFAST_INLINE Bytes narrowed_signs(const Words (&of)[4]) {
  constexpr std::uint8_t sign = 128;
#if defined(__AVX512BW__)
  const auto halves = [&](int i) NNFAST_INLINED {
    return _mm512_packs_epi32(bit_cast<__m512i>(of[i]), bit_cast<__m512i>(of[i + 1]));
  };
  return bit_cast<Bytes>(_mm512_packs_epi16(halves(0), halves(2))) & sign;
#elif defined(__AVX2__)
  const auto halves = [&](int i) NNFAST_INLINED {
    return _mm256_packs_epi32(bit_cast<__m256i>(of[i]), bit_cast<__m256i>(of[i + 1]));
  };
  return bit_cast<Bytes>(_mm256_packs_epi16(halves(0), halves(2))) & sign;
#else
  const auto halves = [&](int i) NNFAST_INLINED { return narrowed(of[i] >> 24, of[i + 1] >> 24); };
  return narrowed(halves(0), halves(2)) & sign;
#endif
}

NNFAST_INLINE void store_narrowed(char* to, Bytes bytes) {
#if defined(__AVX512BW__)
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  store_bytes(to, _mm512_permutexvar_epi32(order, bit_cast<__m512i>(bytes)));
#elif defined(__AVX2__)
  store_bytes(to, _mm256_permutevar8x32_epi32(bit_cast<__m256i>(bytes), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
#else
  store_bytes(to, bytes);
#endif
}

// The largest lane.
NNFAST_INLINE std::uint32_t largest_lane(Words v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_epu32(bit_cast<__m512i>(v));
#elif defined(__AVX2__)
  const __m256i all = bit_cast<__m256i>(v);
  __m128i most = _mm_max_epu32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0x4e));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(most, _mm_shuffle_epi32(most, 0xb1))));
#else
  std::uint32_t largest = 0;
  for (int i = 0; i < kLanes<Words>; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
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
