// Reductions whose order does not depend on the vector width: 16 partial sums in double, element i goes to sum i mod
// 16, and the sums are added as a binary tree. For float64 the rounding errors are summed too.
#pragma once

#include "simd/pair.hpp"
#include "simd/vector.hpp"

namespace nnfast {
namespace {

// Elements that one step of a reduction takes, on every instruction set.
constexpr int kReduceBlock = 16;
// Vectors of T in such a step.
template <class T>
constexpr int kReduceParts = kReduceBlock / kLanes<Vec<T>>;

// The lanes of part `part` that exist when `left` elements are left in the block.
template <class T>
NNFAST_INLINE std::ptrdiff_t part_count(std::ptrdiff_t left, int part) {
  const std::ptrdiff_t count = left - part * kLanes<Vec<T>>;
  return count < 0 ? 0 : (count < kLanes<Vec<T>> ? count : kLanes<Vec<T>>);
}

// The lower and the upper lanes of a vector.
template <class V>
struct Halves {
  VecN<Element<V>, kLanes<V> / 2> low, high;
};

// By an intrinsic where there is one: a cast makes GCC go through memory.
template <class V>
NNFAST_INLINE Halves<V> halves(V v) {
#if defined(__AVX512DQ__)
  if constexpr (std::is_same_v<V, VecN<float, 16>>) return {_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)};
#endif
#if defined(__AVX2__)
  if constexpr (std::is_same_v<V, VecN<float, 8>>) return {_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)};
#endif
  return bit_cast<Halves<V>>(v);
}

template <class V>
NNFAST_INLINE V joined(Halves<V> half) {
#if defined(__AVX512DQ__)
  if constexpr (std::is_same_v<V, VecN<float, 16>>)
    return _mm512_insertf32x8(_mm512_castps256_ps512(half.low), half.high, 1);
#endif
#if defined(__AVX2__)
  if constexpr (std::is_same_v<V, VecN<float, 8>>)
    return _mm256_insertf128_ps(_mm256_castps128_ps256(half.low), half.high, 1);
#endif
  return bit_cast<V>(half);
}

// By an intrinsic: the compiler would convert four lanes at a time.
NNFAST_INLINE Vec<double> to_double(VecN<float, kLanes<Vec<double>>> v) {
#if defined(__AVX512F__)
  return _mm512_cvtps_pd(v);
#elif defined(__AVX2__)
  return _mm256_cvtps_pd(v);
#else
  return __builtin_convertvector(v, Vec<double>);
#endif
}

// The lanes of V as vectors of double.
template <class V>
struct Widened {
  static constexpr int count = static_cast<int>(sizeof(double) / sizeof(Element<V>));
  Vec<double> part[count];
};

template <class V>
NNFAST_INLINE Widened<V> widen(V v) {
  if constexpr (sizeof(Element<V>) == sizeof(double)) {
    return {{v}};
  } else {
    const Halves<V> half = halves(v);
    return {{to_double(half.low), to_double(half.high)}};
  }
}

// The inverse of widen, each lane rounded.
template <class V>
NNFAST_INLINE V narrow(Widened<V> wide) {
  if constexpr (sizeof(Element<V>) == sizeof(double)) {
    return wide.part[0];
  } else {
#if defined(__AVX512F__)
    return joined(Halves<V>{_mm512_cvtpd_ps(wide.part[0]), _mm512_cvtpd_ps(wide.part[1])});
#elif defined(__AVX2__)
    return joined(Halves<V>{_mm256_cvtpd_ps(wide.part[0]), _mm256_cvtpd_ps(wide.part[1])});
#else
    using Half = VecN<float, kLanes<Vec<double>>>;
    return joined(Halves<V>{__builtin_convertvector(wide.part[0], Half), __builtin_convertvector(wide.part[1], Half)});
#endif
  }
}

template <class V>
NNFAST_INLINE Element<V> sum_of_lanes(V v);

// The sum of 16 doubles in their order: i and i + half, for half = 8, 4, 2, 1.
constexpr int kReduceDoubles = kReduceBlock / kLanes<Vec<double>>;
NNFAST_INLINE double sum_of_block(const Vec<double> (&block)[kReduceDoubles]) {
  Vec<double> sums[kReduceDoubles];
  for (int k = 0; k < kReduceDoubles; ++k) sums[k] = block[k];
  for (int half = kReduceDoubles / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) sums[k] += sums[k + half];
  return sum_of_lanes(sums[0]);
}

// Adds the first `count` lanes of v to as many doubles.
template <class V>
NNFAST_INLINE void add_doubles(double* to, V v, std::ptrdiff_t count) {
  constexpr std::ptrdiff_t lanes = kLanes<Vec<double>>;
  const Widened<V> terms = widen(v);
  for (int k = 0; k < terms.count; ++k) {
    const std::ptrdiff_t left = count - k * lanes;
    if (left >= lanes) {
      store(to + k * lanes, load<Vec<double>>(to + k * lanes) + terms.part[k]);
    } else if (left > 0) {
      store_partial(to + k * lanes, load_partial<Vec<double>>(to + k * lanes, left, 0) + terms.part[k], left);
    }
  }
}

// Adds a term to a compensated sum.
template <class D>
NNFAST_INLINE void add_term(D& sum, D& lost, Pair<D> term) {
  const Pair<D> both = two_sum(sum, term.hi);
  sum = both.hi;
  lost += both.lo + term.lo;
}

// a + b, and what is lost.
template <bool Compensated, class D>
NNFAST_INLINE void join(D& a, D& a_lost, D b, D b_lost) {
  if constexpr (Compensated) {
    const Pair<D> sum = two_sum(a, b);
    a_lost += b_lost + sum.lo;
    a = sum.hi;
  } else {
    a += b;
  }
}

template <class T>
class BlockSum {
  using V = Vec<T>;
  static constexpr int kDoubles = kReduceBlock / kLanes<Vec<double>>;
  static constexpr bool kCompensated = sizeof(T) == sizeof(double);
  Vec<double> sums_[kDoubles] = {};
  Vec<double> lost_[kDoubles] = {};

 public:
  // Adds the vector that is part `part` of a block.
  NNFAST_INLINE void add(V v, int part) { add(widen(v), part); }
  NNFAST_INLINE void add(const Widened<V>& wide, int part) {
    for (int k = 0; k < Widened<V>::count; ++k) {
      if constexpr (kCompensated) {
        add_term(sums_[part], lost_[part], {wide.part[k], Vec<double>{}});
      } else {
        sums_[part * Widened<V>::count + k] += wide.part[k];
      }
    }
  }
  NNFAST_INLINE void add_product(V a, V b, int part) { add_product(widen(a), widen(b), part); }
  NNFAST_INLINE void add_product(const Widened<V>& wide_a, const Widened<V>& wide_b, int part) {
    for (int k = 0; k < Widened<V>::count; ++k) {
      if constexpr (kCompensated) {
        add_term(sums_[part], lost_[part], two_product(wide_a.part[k], wide_b.part[k]));
      } else {
        auto& sum = sums_[part * Widened<V>::count + k];
        sum = fma(wide_a.part[k], wide_b.part[k], sum);
      }
    }
  }
  // Element i and element i + half are added, for half = 8, 4, 2, 1.
  NNFAST_INLINE double total() const {
    Vec<double> sums[kDoubles], lost[kDoubles];
    for (int k = 0; k < kDoubles; ++k) {
      sums[k] = sums_[k];
      lost[k] = lost_[k];
    }
    for (int half = kDoubles / 2; half > 0; half /= 2) {
      for (int k = 0; k < half; ++k) join<kCompensated>(sums[k], lost[k], sums[k + half], lost[k + half]);
    }
    return total_of_lanes(sums[0], lost[0]);
  }

 private:
  template <class D>
  NNFAST_INLINE static double total_of_lanes(D sums, D lost) {
    if constexpr (kLanes<D> > 1) {
      Halves<D> sum = halves(sums), rest = halves(lost);
      join<kCompensated>(sum.low, rest.low, sum.high, rest.high);
      return total_of_lanes(sum.low, rest.low);
    } else {
      // An infinite sum has lost NaN.
      return kCompensated && lost[0] == lost[0] ? sums[0] + lost[0] : sums[0];
    }
  }
};

// The sum of all lanes, as a binary tree: i and i + half.
template <class V>
NNFAST_INLINE Element<V> sum_of_lanes(V v) {
  if constexpr (kLanes<V> == 1) {
    return v[0];
  } else {
    const Halves<V> half = halves(v);
    return sum_of_lanes(half.low + half.high);
  }
}

// The largest lane; a NaN may or may not be returned.
template <class V>
NNFAST_INLINE Element<V> max_lane(V v) {
  if constexpr (kLanes<V> == 1) {
    return v[0];
  } else {
    const Halves<V> half = halves(v);
    return max_lane(half.high > half.low ? half.high : half.low);
  }
}

}  // namespace
}  // namespace nnfast
