// Unevaluated sums: a result and what its rounding lost.
#pragma once

#include "simd/vector.hpp"

namespace nnfast {
namespace {

// The unevaluated sum hi + lo, |lo| at most half an ulp of hi or a little more.
template <class V>
struct Pair {
  V hi, lo;
};

// a + b without error, for |a| >= |b| or a = 0 (Dekker).
template <class V>
NNFAST_INLINE Pair<V> fast_two_sum(V a, V b) {
  const V hi = a + b;
  return {hi, b - (hi - a)};
}

// a + b without error (Knuth).
template <class V>
NNFAST_INLINE Pair<V> two_sum(V a, V b) {
  const V hi = a + b;
  const V part = hi - a;
  return {hi, (a - (hi - part)) + (b - part)};
}

// a * b without error: by the machine's fma, else by halves (Dekker), for |a|, |b| up to a 2^-13th of the largest
// number.
template <class V>
NNFAST_INLINE Pair<V> two_product(V a, V b) {
  const V hi = a * b;
  if constexpr (kFused) {
    return {hi, fma(a, b, -hi)};
  } else {
    const V split = broadcast<V>(static_cast<Element<V>>(sizeof(Element<V>) == 4 ? 4097.0 : 134217729.0));
    const V a_hi = split * a - (split * a - a), b_hi = split * b - (split * b - b);
    const V a_lo = a - a_hi, b_lo = b - b_hi;
    return {hi, ((a_hi * b_hi - hi) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo};
  }
}

}  // namespace
}  // namespace nnfast
