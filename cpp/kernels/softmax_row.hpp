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
  // What is in all lanes, as an element.
  NNFAST_INLINE static V element(V v) { return first_lanes(v, 1); }
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
  NNFAST_INLINE static V element(V v) { return v; }
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

// e^d for d <= 0. What comes to 0 is not computed: processors take more than a hundred cycles for an underflow.
template <class V>
NNFAST_INLINE V exp_shifted(V d) {
  const auto none = d <= Constants<Element<V>>::exp_min;
  const Exponential<V> e = exp_unsummed<V>(none ? V{} : d);
  return none ? V{} : scale(e.m.hi + e.m.lo, e.n);
}

// What stands for 1 in sums of exponentials, so that none that has any weight is subnormal.
template <class T>
constexpr T kRaisedOne = sizeof(T) == sizeof(double) ? static_cast<T>(0x1p512) : static_cast<T>(0x1p64);

// How a row's exponentials are taken. Elements are reduced by multiples of ln2 as they are, the largest one too: what
// is left of both is small, so that its difference needs no second part, and is 0 where they are equal. Plain: of all
// rows but those whose maximum is very large, where the differences of elements are exact as far as they matter, or no
// number; without it, of any. Both have the same bits where both can be taken.
template <class V, bool Plain>
struct RowScale {
  using T = Element<V>;
  V largest, lowest;  // up to the latter, elements have no weight
  V shift, top;       // what is subtracted, and what is left of the largest element: unless Plain
  Reduced<V> reduced;
  T least;  // the logarithm of the least weight

  NNFAST_INLINE RowScale() = default;
  NNFAST_INLINE RowScale(V largest_, T least_) : largest(largest_), least(least_) {
    const auto plain = is_plain(largest);
    shift = Plain || plain ? V{} : largest;
    top = Plain || plain ? largest : V{};
    lowest = top + least;
    reduced = reduce_by_ln2(top);
  }
  // Differences to an element that is larger than this are exact, as far as they matter. Without fused operations the
  // multiples of ln2 have room for exact products up to here only.
  NNFAST_INLINE static Mask<V> is_plain(V largest) {
    constexpr T most = kFused ? 4096 : (sizeof(T) == sizeof(double) ? 1900 : 224);
    return (largest <= most) & (largest >= -most);
  }
  NNFAST_INLINE V shifted(V x) const {
    if constexpr (Plain) return x;
    return x == largest ? top : x - shift;  // of equal infinities, too
  }
  // The weight of a shifted element, e^(d - top), raised. What comes to 0 is not computed: processors take more than a
  // hundred cycles for an underflow.
  NNFAST_INLINE V exp(V d) const {
    using C = Constants<T>;
    constexpr int terms = sizeof(T) == sizeof(double) ? 10 : 4;  // as many as a step takes; C::exp_long_tail has more
    const Reduced<V> of_d = reduce_by_ln2(d);
    const V r = of_d.r.hi - reduced.r.hi;
    const Mask<V> steps = of_d.steps - reduced.steps;
    V tail = broadcast<V>(C::exp_long_tail[terms - 1]);
    unrolled<terms - 1>([&](int i)
                            NNFAST_INLINED { tail = fma(tail, r, broadcast<V>(C::exp_long_tail[terms - 2 - i])); });
    const V factor = step_factor<V>(steps), growth = r + fma(r * r, tail, step_rest<V>(steps));
    const Mask<V> exponent = (steps << (kDigits<V> - C::step_bits)) & (Mask<V>{} - (IntOf<T>{1} << kDigits<V>));
    const V power = bit_cast<V>(exponent + bit_cast<Mask<V>>(broadcast<V>(kRaisedOne<T>)));
    return d <= lowest ? V{} : fma(factor, growth, factor) * power;
  }
};

// log(1 + t) for t >= 0, as log_of of the sum, with what it loses; NaN where t is no finite number.
template <class V>
NNFAST_INLINE V log_beyond_one(V t) {
  using T = Element<V>;
  using I = Mask<V>;
  using C = Constants<T>;
  const auto usable = t < kInfinity;
  const Pair<V> sum = two_sum(broadcast<V>(1), usable ? t : V{});
  const I bits = bit_cast<I>(sum.hi);
  const I k = (bits - bit_cast<IntOf<T>>(static_cast<T>(0.70710678118654752440))) >> kDigits<V>;
  const V f = (bit_cast<V>(bits - (k << kDigits<V>)) - 1) + sum.lo * power_of_two<V>(-k);
  const V n = __builtin_convertvector(k, V);
  const V log = n * C::ln2_hi - ((log1p_rest(f) - n * C::ln2_lo) - f);
  return usable ? log : t - t;
}

// Calls use(r, i, part, count, x, e) for every vector of R rows, with the elements and their exponentials; where there
// is none, x is -inf and e 0. A use may overwrite its part of the row.
template <class Lanes, class X, bool Plain, class Use>
NNFAST_INLINE void for_exponentials(Lanes lanes, const X& x, std::ptrdiff_t n,
                                    const RowScale<typename Lanes::V, Plain> (&scales)[Lanes::R], Use use) {
  using T = typename Lanes::T;
  using V = typename Lanes::V;
  lanes.for_several(n, [&](auto several, int first, std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    constexpr int U = several;
    V values[U], e[U];
    unrolled<U>([&](int u) NNFAST_INLINED {
      values[u] = x.load(Lanes::row(first, u), i + Lanes::at(u), count, static_cast<T>(-kInfinity));
    });
    unrolled<U>([&](int u) NNFAST_INLINED {
      const auto& scale = scales[Lanes::row(first, u)];
      e[u] = scale.exp(scale.shifted(values[u]));
    });
    unrolled<U>([&](int u) NNFAST_INLINED {
      use(Lanes::row(first, u), i + Lanes::at(u), part + Lanes::at(u), count, values[u], e[u]);
    });
  });
}
template <class Lanes, class V, bool Plain>
NNFAST_INLINE void row_scales(Lanes lanes, RowScale<V, Plain> (&scales)[Lanes::R], const V (&largest)[Lanes::R],
                              double least) {
  lanes.for_each([&](int r)
                     NNFAST_INLINED { scales[r] = RowScale<V, Plain>(largest[r], static_cast<Element<V>>(least)); });
}

// Whether rows that are computed together, or across, can be so: they are plain. One by one they need not be.
template <class Lanes>
constexpr bool kPlain = !std::is_same_v<Lanes, Along<typename Lanes::T, 1>>;
template <class Lanes>
NNFAST_INLINE bool can_be_plain(Lanes lanes, const typename Lanes::V (&largest)[Lanes::R]) {
  using V = typename Lanes::V;
  if constexpr (!kPlain<Lanes>) return true;
  Mask<V> plain = Mask<V>{} - 1;
  lanes.for_each([&](int r) NNFAST_INLINED { plain &= RowScale<V, true>::is_plain(largest[r]); });
  return sum_of_lanes(plain) == -kLanes<V>;
}

}  // namespace
}  // namespace nnfast
