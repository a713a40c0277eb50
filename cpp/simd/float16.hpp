// float16 in memory, float32 in registers: each value is widened exactly, and a result is rounded once, to nearest
// even. Elementwise kernels, gradients of biases and optimizers have no loops over float16: those of float32 are given
// some elements at a time, which stay in the first-level cache.
#pragma once

#include <cstdint>

#include "simd/vector.hpp"

namespace nnfast {
namespace {

// IEEE binary16, as NumPy's float16.
struct Float16 {
  std::uint16_t bits;
};

// Not inlined, nor are whole vectors where no instruction does it: it is much code, and would be in every loop.
[[gnu::noinline, maybe_unused]] float widen_float16(Float16 value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x400u) return bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
  // A subnormal, by its integer: as float32 it is normal, and not flushed to 0.
  return bit_cast<float>(sign | bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-24f));
}

NNFAST_INLINE Float16 narrow_float16(float value) {
  const std::uint32_t bits = bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const auto with_sign = [&](std::uint32_t rest) { return Float16{static_cast<std::uint16_t>(sign | rest)}; };
  if (magnitude > 0x7f800000u) return with_sign(0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x477ff000u) {  // rounds past 65504
    // The product overflows exactly there, which sets the flag. A comparison of floats would set another one in
    // vectors, where all lanes take this branch, NaN too.
    const float product = bit_cast<float>(magnitude) * (0x1.fffffep127f / 65519.9f);
    return with_sign(bit_cast<std::uint32_t>(product) > 0x3f800000u ? 0x7c00u : 0u);
  }
  // Below 2^-14 adding 1/2 leaves the rounded subnormal in the low bits.
  if (magnitude < 0x38800000u)
    return with_sign(bit_cast<std::uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u);
  return with_sign((magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}

#if defined(__AVX512F__)
NNFAST_INLINE Vec<float> load_float16(const Float16* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

NNFAST_INLINE void store_float16(Float16* to, Vec<float> v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__)
NNFAST_INLINE Vec<float> load_float16(const Float16* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

NNFAST_INLINE void store_float16(Float16* to, Vec<float> v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
#else
[[gnu::noinline, maybe_unused]] Vec<float> load_float16(const Float16* from) {
  Vec<float> v;
  for (int i = 0; i < kLanes<Vec<float>>; ++i) v[i] = widen_float16(from[i]);
  return v;
}

[[gnu::noinline, maybe_unused]] void store_float16(Float16* to, Vec<float> v) {
  for (int i = 0; i < kLanes<Vec<float>>; ++i) to[i] = narrow_float16(v[i]);
}
#endif

// `count` elements at a byte stride, the other lanes 0.
[[gnu::noinline, maybe_unused]] Vec<float> load_float16(const char* from, std::ptrdiff_t stride, std::ptrdiff_t count) {
  Float16 values[kLanes<Vec<float>>] = {};
  for (std::ptrdiff_t i = 0; i < count; ++i) values[i] = load_element<Float16>(from + i * stride);
  return load_float16(values);
}

[[gnu::noinline, maybe_unused]] void store_float16(char* to, std::ptrdiff_t stride, Vec<float> v,
                                                   std::ptrdiff_t count) {
  Float16 values[kLanes<Vec<float>>];
  store_float16(values, v);
  for (std::ptrdiff_t i = 0; i < count; ++i) store_element(to + i * stride, values[i]);
}

// ---- runs of n elements ----

// Elements that are widened at a time.
constexpr std::ptrdiff_t kWidenedChunk = 1024;

[[gnu::noinline, maybe_unused]] void widen_run(const char* from, std::ptrdiff_t stride, float* to, std::ptrdiff_t n) {
  using V = Vec<float>;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(Float16));
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = smaller(n - i, kLanes<V>);
    const char* at = from + i * stride;
    const V v = stride == size && count == kLanes<V> ? load_float16(reinterpret_cast<const Float16*>(at))
                                                     : load_float16(at, stride, count);
    store_strided(reinterpret_cast<char*>(to + i), sizeof(float), v, count);
  }
}

// May overflow.
[[gnu::noinline, maybe_unused]] void narrow_run(const char* from, std::ptrdiff_t from_stride, char* to,
                                                std::ptrdiff_t stride, std::ptrdiff_t n) {
  using V = Vec<float>;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(Float16));
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = smaller(n - i, kLanes<V>);
    const V v = load_strided<V>(from + i * from_stride, from_stride, count, 0.0f);
    char* at = to + i * stride;
    if (stride == size && count == kLanes<V>) {
      store_float16(reinterpret_cast<Float16*>(at), v);
    } else {
      store_float16(at, stride, v, count);
    }
  }
}

}  // namespace
}  // namespace nnfast
