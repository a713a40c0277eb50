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

template <class V>
NNFAST_INLINE Pair<V> multiply(Pair<V> a, V b) {
  const Pair<V> p = two_product(a.hi, b);
  return {p.hi, fma(a.lo, b, p.lo)};
}

template <class V>
NNFAST_INLINE Pair<V> multiply(Pair<V> a, Pair<V> b) {
  const Pair<V> p = two_product(a.hi, b.hi);
  return {p.hi, p.lo + fma(a.hi, b.lo, a.lo * b.hi)};
}

// a + b where |a.hi| >= |b.hi|.
template <class V>
NNFAST_INLINE Pair<V> add(Pair<V> a, Pair<V> b) {
  const Pair<V> sum = fast_two_sum(a.hi, b.hi);
  return {sum.hi, sum.lo + (a.lo + b.lo)};
}

template <class V>
NNFAST_INLINE Pair<V> choose(Mask<V> which, Pair<V> a, Pair<V> b) {
  return {which ? a.hi : b.hi, which ? a.lo : b.lo};
}

}  // namespace
}  // namespace nnfast
