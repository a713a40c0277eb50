// The part that softmax and its losses share: rows shifted by their maxima, exponentials and their sums.
#pragma once

#include "kernels/rows.hpp"
#include "simd/math.hpp"

namespace nnfast {
namespace {

// The two ways through rows. A vector's lanes lie along the elements of a row, of R rows together, and what comes to
// one number a row is in all of its lanes; or across neighbouring rows, an element of each, of up to R vectors side
// by side. Both add in the order of BlockSum, so a row has the same bits both ways. What either calls a row r is one in
// the first case, a vector of them in the other.
template <class T_, int R_>
struct Along {
  using T = T_;
  using V = Vec<T>;
  using Total = double;
  static constexpr int R = R_;

  class Sums {
    BlockSum<T> of_[R];

   public:
    NNFAST_INLINE explicit Sums(Along, std::ptrdiff_t) {}
    NNFAST_INLINE void add(int r, V v, int part) { of_[r].add(v, part); }
    NNFAST_INLINE void add_product(int r, V a, V b, int part) { of_[r].add_product(a, b, part); }
    NNFAST_INLINE Total total(int r) const { return of_[r].total(); }
  };

  // Calls body(r) for each row.
  template <class Body>
  NNFAST_INLINE void for_each(Body body) const {
    unrolled<R>(body);
  }
  // Calls body(Count<U>, first) for U rows that are computed together.
  template <class Body>
  NNFAST_INLINE void for_together(Body body) const {
    body(Count<R>{}, 0);
  }
  template <class Body>
  NNFAST_INLINE void for_parts(std::ptrdiff_t n, Body body) const {
    for_blocks<T, (R > 1 && !kShort) || kUnrolledSteps<T>>(n, body);
  }
  // Calls body(Count<U>, r, i, part, count) for U vectors that are computed together, of row(r, u) from the element i +
  // at(u). Rows by themselves may have any stride: what loads their vectors keeps the compiler from weaving them.
  template <class Body>
  NNFAST_INLINE void for_several(std::ptrdiff_t n, Body body) const {
    for_blocks<T, (R > 1) && kUnrolledSteps<T>>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count)
                                                       NNFAST_INLINED { body(Count<R>{}, 0, i, part, count); });
  }
  NNFAST_INLINE static constexpr int row(int, int u) { return u; }
  NNFAST_INLINE static constexpr int at(int) { return 0; }
  template <class Body>
  NNFAST_INLINE void for_all(std::ptrdiff_t n, Body body) const {
    for_vectors<T>(n, body);
  }
  NNFAST_INLINE static V largest(V v) { return broadcast<V>(max_lane(v)); }
};
template <class T_, int R_>
struct Across {
  using T = T_;
  using V = Vec<T>;
  using Total = Widened<V>;
  static constexpr int R = R_;
  int some;

  NNFAST_INLINE int width() const { return R == 1 ? 1 : some; }

  // The bits of BlockSum, of rows that have a lane each.
  class Sums {
    static constexpr bool kCompensated = sizeof(T) == sizeof(double);
    Total sums_[kReduceBlock][R], lost_[kCompensated ? kReduceBlock : 1][kCompensated ? R : 1];
    int parts_;  // of which there are terms

   public:
    NNFAST_INLINE Sums(Across lanes, std::ptrdiff_t n) : parts_(static_cast<int>(smaller(kReduceBlock, n))) {
      for (int i = 0; i < parts_; ++i)
        for (int r = 0; r < lanes.width(); ++r) {
          for (auto& part : sums_[i][r].part) part = Vec<double>{};
          if constexpr (kCompensated)
            for (auto& part : lost_[i][r].part) part = Vec<double>{};
        }
    }
    // Adds element i of each row, i = part mod 16.
    NNFAST_INLINE void add(int r, V v, int part) {
      const Total wide = widen(v);
      for (int k = 0; k < Total::count; ++k) {
        if constexpr (kCompensated) {
          add_term(sums_[part][r].part[k], lost_[part][r].part[k], {wide.part[k], Vec<double>{}});
        } else {
          sums_[part][r].part[k] += wide.part[k];
        }
      }
    }
    NNFAST_INLINE void add_product(int r, V a, V b, int part) {
      const Total wide_a = widen(a), wide_b = widen(b);
      for (int k = 0; k < Total::count; ++k) {
        Vec<double>& sum = sums_[part][r].part[k];
        if constexpr (kCompensated) {
          add_term(sum, lost_[part][r].part[k], two_product(wide_a.part[k], wide_b.part[k]));
        } else {
          sum = fma(wide_a.part[k], wide_b.part[k], sum);
        }
      }
    }
    // Once a vector of rows: not inlined, as it is much code.
    [[gnu::noinline]] Total total(int r) {
      constexpr int kept = kCompensated;
      for (int half = kReduceBlock / 2; half > 0; half /= 2)
        for (int i = 0; i < half && i + half < parts_; ++i)
          for (int k = 0; k < Total::count; ++k)
            join<kCompensated>(sums_[i][r].part[k], lost_[kept * i][kept * r].part[k], sums_[i + half][r].part[k],
                               lost_[kept * (i + half)][kept * r].part[k]);
      Total sum = sums_[0][r];
      if constexpr (kCompensated)
        for (int k = 0; k < Total::count; ++k) {
          const Vec<double> lost = lost_[0][r].part[k];
          sum.part[k] = lost == lost ? sum.part[k] + lost : sum.part[k];
        }
      return sum;
    }
  };

  template <class Body>
  NNFAST_INLINE void for_each(Body body) const {
    for (int r = 0; r < width(); ++r) body(r);
  }
  template <class Body>
  NNFAST_INLINE void for_together(Body body) const {
    for (int r = 0; r < width(); ++r) body(Count<1>{}, r);
  }
  template <class Body>
  NNFAST_INLINE void for_parts(std::ptrdiff_t n, Body body) const {
    for (std::ptrdiff_t i = 0; i < n; ++i) body(i, static_cast<int>(i % kReduceBlock), kLanes<V>);
  }
  template <class Body>
  NNFAST_INLINE void for_several(std::ptrdiff_t n, Body body) const {
    std::ptrdiff_t i = 0;
    const auto each = [&](auto several) NNFAST_INLINED {
      for (int r = 0; r < width(); ++r) body(several, r, i, static_cast<int>(i % kReduceBlock), kLanes<V>);
    };
    if constexpr (kUnrolledSteps<T>)
      for (; i + kUnroll <= n; i += kUnroll) each(Count<kUnroll>{});
    for (; i < n; ++i) each(Count<1>{});
  }
  NNFAST_INLINE static constexpr int row(int r, int) { return r; }
  NNFAST_INLINE static constexpr int at(int u) { return u; }
  template <class Body>
  NNFAST_INLINE void for_all(std::ptrdiff_t n, Body body) const {
    for (std::ptrdiff_t i = 0; i < n; ++i) body(i, kLanes<V>);
  }
  NNFAST_INLINE static V largest(V v) { return v; }
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
NNFAST_INLINE void row_max(Lanes lanes, typename Lanes::V (&largest)[Lanes::R], const X& x, std::ptrdiff_t n,
                           typename Lanes::T lowest = static_cast<typename Lanes::T>(__builtin_nan(""))) {
  using T = typename Lanes::T;
  using V = typename Lanes::V;
  constexpr T bottom = static_cast<T>(-kInfinity);
  constexpr int R = Lanes::R;
  lanes.for_each([&](int r) NNFAST_INLINED { largest[r] = broadcast<V>(bottom); });
  lanes.for_all(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
    lanes.for_each([&](int r) NNFAST_INLINED {
      prefetch_next_rows<R>(x, r, i);
      largest[r] = max(largest[r], x.load(r, i, count, bottom));
    });
  });
  lanes.for_each([&](int r) NNFAST_INLINED { largest[r] = Lanes::largest(largest[r]); });
  lanes.for_each([&](int r) NNFAST_INLINED { largest[r] = largest[r] == bottom ? broadcast<V>(lowest) : largest[r]; });
}
template <class T, int R, class X>
NNFAST_INLINE void row_max(T (&largest)[R], const X& x, std::ptrdiff_t n) {
  Vec<T> all[R];
  row_max(Along<T, R>{}, all, x, n);
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
NNFAST_INLINE void for_shifted(Lanes lanes, const X& x, std::ptrdiff_t n, const typename Lanes::V (&largest)[Lanes::R],
                               Map map, Use use) {
  using T = typename Lanes::T;
  using V = typename Lanes::V;
  lanes.for_several(n, [&](auto several, int first, std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    constexpr int U = several;
    Pair<V> d[U];
    V mapped[U];
    unrolled<U>([&](int u) NNFAST_INLINED {
      const int r = Lanes::row(first, u);
      d[u] = shifted_by(x.load(r, i + Lanes::at(u), count, static_cast<T>(-kInfinity)), largest[r]);
    });
    unrolled<U>([&](int u) NNFAST_INLINED { mapped[u] = map(Lanes::row(first, u), d[u]); });
    unrolled<U>([&](int u) NNFAST_INLINED {
      use(Lanes::row(first, u), i + Lanes::at(u), part + Lanes::at(u), count, d[u], mapped[u]);
    });
  });
}
template <class T, int R, class X, class Map, class Use>
NNFAST_INLINE void for_shifted(const X& x, std::ptrdiff_t n, const T (&largest)[R], Map map, Use use) {
  Vec<T> shift[R];
  unrolled<R>([&](int r) NNFAST_INLINED { shift[r] = broadcast<Vec<T>>(largest[r]); });
  for_shifted(Along<T, R>{}, x, n, shift, map, use);
}

}  // namespace
}  // namespace nnfast
