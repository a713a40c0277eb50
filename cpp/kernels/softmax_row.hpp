// The part that softmax and its losses share: one row shifted by its maximum, exponentials and their sum.
#pragma once

#include "simd/math.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

constexpr double kInfinity = __builtin_inf();

// The largest element of a row; one of -inf gives `lowest`, NaN unless told otherwise, so that what follows is NaN. A
// NaN in the row may or may not be returned: it reaches every result through the sum.
template <class T>
NNFAST_INLINE T row_max(const char* x, std::ptrdiff_t stride, std::ptrdiff_t n,
                        T lowest = static_cast<T>(__builtin_nan(""))) {
  using V = Vec<T>;
  V largest = broadcast<V>(static_cast<T>(-kInfinity));
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = n - i < kLanes<V> ? n - i : kLanes<V>;
    largest = max(largest, load_strided<V>(x + i * stride, stride, count, static_cast<T>(-kInfinity)));
  }
  const T value = max_lane(largest);
  return value == static_cast<T>(-kInfinity) ? lowest : value;
}

// x - largest, exact as hi + lo where it matters; 0 where they are equal, infinities included.
template <class V>
NNFAST_INLINE Pair<V> shifted_by(V x, V largest) {
  const V hi = x - largest;
  const V back = hi - x;
  const V lo = (x - (hi - back)) - (largest + back);
  const auto equal = x == largest;
  const auto finite = hi > Constants<Element<V>>::exp_min;
  return {equal ? V{} : hi, finite ? (equal ? V{} : lo) : V{}};
}

// e^(d.hi + d.lo) 2^Raise for d.hi <= 0; 0 where d.hi is -inf.
template <int Raise = 0, class V>
NNFAST_INLINE V exp_shifted(Pair<V> d) {
  using T = Element<V>;
  constexpr T ln2 = static_cast<T>(0.69314718055994530942);
  const V lowest = broadcast<V>(Constants<T>::exp_min - static_cast<T>(Raise) * ln2);
  const Exponential<V> e = exp_unsummed(Pair<V>{max(lowest, d.hi), d.lo});
  return scale(e.m.hi + e.m.lo, e.n + Raise);
}

// log(count + others) for a whole number of ones and what comes to them.
NNFAST_INLINE double log_of_sum(double count, double others) {
  using V = Vec<double>;
  if (!(others < kInfinity) || count < 1) return others - others;  // NaN, or 0 where there is no one
  const bool nearly_one = count == 1 && others < 0.41421356237309504880;
  return nearly_one ? others - log1p_rest(broadcast<V>(others))[0] : log_from_one(broadcast<V>(count + others))[0];
}

// Calls body(i, part, count, d) for every vector of the row; d is the shifted element, -inf where there is none.
template <class T, class Body>
NNFAST_INLINE void for_shifted(const char* x, std::ptrdiff_t stride, std::ptrdiff_t n, T largest, Body body) {
  using V = Vec<T>;
  for (std::ptrdiff_t block = 0; block < n; block += kReduceBlock) {
    for (int part = 0; part < kReduceParts<T>; ++part) {
      const std::ptrdiff_t i = block + part * kLanes<V>;
      const std::ptrdiff_t count = part_count<T>(n - block, part);
      const V v = load_strided<V>(x + i * stride, stride, count, static_cast<T>(-kInfinity));
      body(i, part, count, shifted_by(v, broadcast<V>(largest)));
    }
  }
}

}  // namespace
}  // namespace nnfast
