// The part that softmax and its losses share: rows shifted by their maxima, exponentials and their sums.
#pragma once

#include "kernels/rows.hpp"
#include "simd/math.hpp"

namespace nnfast {
namespace {

// The largest element of each row; for one of -inf `lowest`, NaN unless told otherwise, so that what follows is NaN. A
// NaN in the row may or may not be returned: it reaches every result through the sum.
template <class T, int R, class X>
NNFAST_INLINE void row_max(T (&largest)[R], const X& x, std::ptrdiff_t n,
                           T lowest = static_cast<T>(__builtin_nan(""))) {
  using V = Vec<T>;
  constexpr T bottom = static_cast<T>(-kInfinity);
  V vector[R];
  unrolled<R>([&](int r) NNFAST_INLINED { vector[r] = broadcast<V>(bottom); });
  for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
    unrolled<R>([&](int r) NNFAST_INLINED { vector[r] = max(vector[r], x.load(r, i, count, bottom)); });
  });
  unrolled<R>([&](int r) NNFAST_INLINED { largest[r] = max_lane(vector[r]); });
  unrolled<R>([&](int r) NNFAST_INLINED { largest[r] = largest[r] == bottom ? lowest : largest[r]; });
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
  const Exponential<V> e = exp_unsummed<V>(Pair<V>{max(lowest, d.hi), d.lo});
  return scale(e.m.hi + e.m.lo, e.n + Raise);
}

// log(count + others) for a whole number of ones and what comes to them; 0 where there is no one, NaN where others is
// no finite number.
template <class V>
NNFAST_INLINE V log_of_sum(V count, V others) {
  const V one = broadcast<V>(1);
  const auto usable = (others < kInfinity) & (count >= one);
  const auto nearly_one = usable & (count == one) & (others < 0.41421356237309504880);
  const V little = nearly_one ? others : V{};
  // What the addition loses is as much as two ulps of a small logarithm.
  const Pair<V> much = choose(nearly_one | ~usable, Pair<V>{one, V{}}, two_sum(count, others));
  const V logarithm = log_of(much.hi) + much.lo / much.hi;
  return usable ? (nearly_one ? little - log1p_rest(little) : logarithm) : others - others;
}

// Calls use(r, i, part, count, d, map(r, d)) for every vector of R rows; d is the shifted element, -inf where there is
// none. A use may overwrite its part of the row.
template <class T, int R, class X, class Map, class Use>
NNFAST_INLINE void for_shifted(const X& x, std::ptrdiff_t n, const T (&largest)[R], Map map, Use use) {
  using V = Vec<T>;
  V shift[R];
  unrolled<R>([&](int r) NNFAST_INLINED { shift[r] = broadcast<V>(largest[r]); });
  for_blocks<T>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    Pair<V> d[R];
    V mapped[R];
    unrolled<R>([&](int r)
                    NNFAST_INLINED { d[r] = shifted_by(x.load(r, i, count, static_cast<T>(-kInfinity)), shift[r]); });
    unrolled<R>([&](int r) NNFAST_INLINED { mapped[r] = map(r, d[r]); });
    unrolled<R>([&](int r) NNFAST_INLINED { use(r, i, part, count, d[r], mapped[r]); });
  });
}

}  // namespace
}  // namespace nnfast
