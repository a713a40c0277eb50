// The part that softmax and its losses share: rows shifted by their maxima, exponentials and their sums.
#pragma once

#include "kernels/rows.hpp"
#include "simd/math.hpp"

namespace nnfast {
namespace {

// The two ways through rows. A vector's lanes lie along the elements of a row, of R rows together, and what comes to
// one number a row is in all of its lanes; or across neighbouring rows, an element of each. Both add in the order of
// BlockSum, so a row has the same bits both ways.
template <class T_, int R_>
struct Along {
  using T = T_;
  using V = Vec<T>;
  using Sum = BlockSum<T>;
  using Total = double;
  static constexpr int R = R_;

  template <class Body>
  NNFAST_INLINE static void for_parts(std::ptrdiff_t n, Body body) {
    for_blocks<T, !kShort>(n, body);
  }
  // Calls body(Count<U>, i, part, count) for U vectors that are computed together, of row(u) from the element i +
  // at(u). Rows by themselves may have any stride: what loads their vectors keeps the compiler from weaving them.
  template <class Body>
  NNFAST_INLINE static void for_several(std::ptrdiff_t n, Body body) {
    for_blocks<T, (R > 1) && kUnrolledSteps<T>>(
        n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED { body(Count<R>{}, i, part, count); });
  }
  NNFAST_INLINE static constexpr int row(int u) { return u; }
  NNFAST_INLINE static constexpr int at(int) { return 0; }
  template <class Body>
  NNFAST_INLINE static void for_all(std::ptrdiff_t n, Body body) {
    for_vectors<T>(n, body);
  }
  NNFAST_INLINE static V largest(V v) { return broadcast<V>(max_lane(v)); }
  NNFAST_INLINE static Total total(const Sum& sum, std::ptrdiff_t) { return sum.total(); }
};
template <class T_>
struct Across {
  using T = T_;
  using V = Vec<T>;
  using Sum = SumAcross<T>;
  using Total = Widened<V>;
  static constexpr int R = 1;

  template <class Body>
  NNFAST_INLINE static void for_parts(std::ptrdiff_t n, Body body) {
    for (std::ptrdiff_t i = 0; i < n; ++i) body(i, static_cast<int>(i % kReduceBlock), kLanes<V>);
  }
  template <class Body>
  NNFAST_INLINE static void for_several(std::ptrdiff_t n, Body body) {
    std::ptrdiff_t i = 0;
    if constexpr (kUnrolledSteps<T>)
      for (; i + kUnroll <= n; i += kUnroll) body(Count<kUnroll>{}, i, static_cast<int>(i % kReduceBlock), kLanes<V>);
    for (; i < n; ++i) body(Count<1>{}, i, static_cast<int>(i % kReduceBlock), kLanes<V>);
  }
  NNFAST_INLINE static constexpr int row(int) { return 0; }
  NNFAST_INLINE static constexpr int at(int u) { return u; }
  template <class Body>
  NNFAST_INLINE static void for_all(std::ptrdiff_t n, Body body) {
    for (std::ptrdiff_t i = 0; i < n; ++i) body(i, kLanes<V>);
  }
  NNFAST_INLINE static V largest(V v) { return v; }
  NNFAST_INLINE static Total total(Sum& sum, std::ptrdiff_t n) { return sum.total(n); }
};

// Totals of rows, as numbers in all lanes or a lane each.
template <class V>
NNFAST_INLINE V rounded(double total) {
  return broadcast<V>(static_cast<Element<V>>(total));
}
template <class V>
NNFAST_INLINE V rounded(Widened<V> total) {
  return narrow<V>(total);
}
NNFAST_INLINE double reciprocal(double total) { return 1 / total; }
template <class W>
NNFAST_INLINE W reciprocal(W total) {
  for (auto& part : total.part) part = 1 / part;
  return total;
}
// v + total.
template <class V>
NNFAST_INLINE double plus(double total, V v) {
  return static_cast<double>(v[0]) + total;
}
template <class V>
NNFAST_INLINE Widened<V> plus(Widened<V> total, V v) {
  const Widened<V> wide = widen(v);
  for (int k = 0; k < wide.count; ++k) total.part[k] = wide.part[k] + total.part[k];
  return total;
}

// The largest element of each row; for one of -inf `lowest`, NaN unless told otherwise, so that what follows is NaN. A
// NaN in the row may or may not be returned: it reaches every result through the sum.
template <class Lanes, class X>
NNFAST_INLINE void row_max(typename Lanes::V (&largest)[Lanes::R], const X& x, std::ptrdiff_t n,
                           typename Lanes::T lowest = static_cast<typename Lanes::T>(__builtin_nan(""))) {
  using T = typename Lanes::T;
  using V = typename Lanes::V;
  constexpr T bottom = static_cast<T>(-kInfinity);
  constexpr int R = Lanes::R;
  unrolled<R>([&](int r) NNFAST_INLINED { largest[r] = broadcast<V>(bottom); });
  Lanes::for_all(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
    unrolled<R>([&](int r) NNFAST_INLINED {
      prefetch_next_rows<R>(x, r, i);
      largest[r] = max(largest[r], x.load(r, i, count, bottom));
    });
  });
  unrolled<R>([&](int r) NNFAST_INLINED { largest[r] = Lanes::largest(largest[r]); });
  unrolled<R>([&](int r) NNFAST_INLINED { largest[r] = largest[r] == bottom ? broadcast<V>(lowest) : largest[r]; });
}
template <class T, int R, class X>
NNFAST_INLINE void row_max(T (&largest)[R], const X& x, std::ptrdiff_t n) {
  Vec<T> all[R];
  row_max<Along<T, R>>(all, x, n);
  unrolled<R>([&](int r) NNFAST_INLINED { largest[r] = all[r][0]; });
}

// x - largest, exact as hi + lo where it matters; 0 where they are equal, infinities included.
template <class V>
NNFAST_INLINE Pair<V> shifted_by(V x, V largest) {
  const V hi = x - largest;
  const V back = hi - x;
  const V lo = (x - (hi - back)) - (largest + back);
  const auto equal = x == largest;
  const auto finite = hi > Constants<Element<V>>::exp_min;
  return {equal ? V{} : hi, finite ? lo : V{}};  // of equal infinities hi was NaN
}

// e^(d.hi + d.lo) for d.hi <= 0; 0 where d.hi is -inf. What comes to 0 is not computed: processors take more than a
// hundred cycles for an underflow, and there is one wherever the last vector of a row is not whole.
template <class V>
NNFAST_INLINE V exp_shifted(Pair<V> d) {
  const auto none = d.hi <= Constants<Element<V>>::exp_min;
  const Exponential<V> e = exp_unsummed<V>(Pair<V>{none ? V{} : d.hi, d.lo});
  return none ? V{} : scale(e.m.hi + e.m.lo, e.n);
}

// The same 2^kRaised times larger, and so never subnormal: an element of no weight has a quarter of the least one.
template <class T>
constexpr int kRaised = sizeof(T) == sizeof(double) ? 512 : 64;
template <class V>
NNFAST_INLINE V exp_raised(Pair<V> d) {
  using T = Element<V>;
  constexpr T lowest = Constants<T>::exp_min * static_cast<T>(1.25);
  const Exponential<V> e = exp_unsummed<V>(Pair<V>{max(broadcast<V>(lowest), d.hi), d.lo});
  return (e.m.hi + e.m.lo) * power_of_two<V>(e.n + kRaised<T>);
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
template <class Lanes, class X, class Map, class Use>
NNFAST_INLINE void for_shifted(const X& x, std::ptrdiff_t n, const typename Lanes::V (&largest)[Lanes::R], Map map,
                               Use use) {
  using T = typename Lanes::T;
  using V = typename Lanes::V;
  Lanes::for_several(n, [&](auto several, std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    constexpr int U = several;
    Pair<V> d[U];
    V mapped[U];
    unrolled<U>([&](int u) NNFAST_INLINED {
      const int r = Lanes::row(u);
      d[u] = shifted_by(x.load(r, i + Lanes::at(u), count, static_cast<T>(-kInfinity)), largest[r]);
    });
    unrolled<U>([&](int u) NNFAST_INLINED { mapped[u] = map(Lanes::row(u), d[u]); });
    unrolled<U>([&](int u) NNFAST_INLINED {
      use(Lanes::row(u), i + Lanes::at(u), part + Lanes::at(u), count, d[u], mapped[u]);
    });
  });
}
template <class T, int R, class X, class Map, class Use>
NNFAST_INLINE void for_shifted(const X& x, std::ptrdiff_t n, const T (&largest)[R], Map map, Use use) {
  Vec<T> shift[R];
  unrolled<R>([&](int r) NNFAST_INLINED { shift[r] = broadcast<Vec<T>>(largest[r]); });
  for_shifted<Along<T, R>>(x, n, shift, map, use);
}

}  // namespace
}  // namespace nnfast
