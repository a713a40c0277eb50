// The square root beside a quotient of the same element: both wait for the divider, but where vectors have 512 bits the
// root is made of products, in two thirds of the time of both.
#pragma once

#include "simd/vector.hpp"

namespace nnfast {
namespace {

// sqrt(v), correctly rounded as that is: an estimate right to 2^-14, squared in precision by Newton's step for the root
// and for half its reciprocal, and once more by the exact remainder of the root's square. tests/test_optim_rules.py
// tries all significands; other estimates of that precision give the same.
template <class V>
NNFAST_INLINE V quick_root(V v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64 && sizeof(Element<V>) == 4) {
    // From 2^-78 on no remainder is subnormal. Zeros, what is below, infinite, negative or NaN is left to the divider.
    constexpr int kLeast = 0x18800000, kInfinite = 0x7f800000;
    const __m512i above = _mm512_sub_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(kLeast));
    if (_mm512_cmpge_epu32_mask(above, _mm512_set1_epi32(kInfinite - kLeast))) [[unlikely]]
      return sqrt(v);
    const V half = broadcast<V>(0.5f), estimate = _mm512_rsqrt14_ps(v);
    V root = v * estimate, reciprocal = half * estimate;
    const V error = fma(-root, reciprocal, half);
    root = fma(root, error, root);
    reciprocal = fma(reciprocal, error, reciprocal);
    return fma(fma(-root, root, v), reciprocal, root);
  }
#endif
  return sqrt(v);
}

}  // namespace
}  // namespace nnfast
