// float16 in memory, float32 in registers: each value is widened exactly, and a result is rounded once, to nearest
// even.
#pragma once

#include <cstdint>

#include "simd/vector.hpp"

namespace nnfast {
namespace {

// IEEE binary16, as NumPy's float16.
struct Half {
  std::uint16_t bits;
};

// Calls, as are those of whole vectors where no instruction does it: there is much of it, and it would stand in every
// loop.
[[gnu::noinline, maybe_unused]] float widen_half(Half half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = half.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x400u) return bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
  // A subnormal, as a whole number: no float32 of it is one, which might count as 0.
  return bit_cast<float>(sign | bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-24f));
}

NNFAST_INLINE Half narrow_half(float value) {
  const std::uint32_t bits = bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const auto with_sign = [&](std::uint32_t half) { return Half{static_cast<std::uint16_t>(sign | half)}; };
  if (magnitude > 0x7f800000u) return with_sign(0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x477ff000u) {  // rounds past 65504
    // The product overflows just there, which is what sets the flag. A comparison of floats would set another one in
    // vectors, where all lanes come by here, NaN too.
    const float product = bit_cast<float>(magnitude) * (0x1.fffffep127f / 65519.9f);
    return with_sign(bit_cast<std::uint32_t>(product) > 0x3f800000u ? 0x7c00u : 0u);
  }
  // Below 2^-14 adding 1/2 leaves the rounded subnormal in the low bits.
  if (magnitude < 0x38800000u)
    return with_sign(bit_cast<std::uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u);
  return with_sign((magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}

#if defined(__AVX512F__)
NNFAST_INLINE Vec<float> load_halves(const Half* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

NNFAST_INLINE void store_halves(Half* to, Vec<float> v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__)
NNFAST_INLINE Vec<float> load_halves(const Half* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

NNFAST_INLINE void store_halves(Half* to, Vec<float> v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
#else
[[gnu::noinline, maybe_unused]] Vec<float> load_halves(const Half* from) {
  Vec<float> v;
  for (int i = 0; i < kLanes<Vec<float> >; ++i) v[i] = widen_half(from[i]);
  return v;
}

[[gnu::noinline, maybe_unused]] void store_halves(Half* to, Vec<float> v) {
  for (int i = 0; i < kLanes<Vec<float> >; ++i) to[i] = narrow_half(v[i]);
}
#endif

}  // namespace
}  // namespace nnfast
