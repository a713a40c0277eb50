// What normalisation does to one value, in both directions.
//
//   y  = (x - mean) gamma inv_std + beta
//   dx = (gamma dy - offset - (x - mean) slope) inv_std
//
// The mean is a double: what T cannot hold of it goes into the constant term, which is known in double, so that a large
// mean costs no digits.
#pragma once

#include <cstdint>

#include "kernels/normalization.hpp"
#include "simd/elements.hpp"
#include "simd/pair.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

// Whether squares of T are added in short chains: the sums of float32 keep enough digits in a double without.
template <class T>
constexpr bool kChained = sizeof(T) == sizeof(double);
// Squares of a lane in a chain, and members between the ends of the sixteen lanes' chains.
constexpr std::ptrdiff_t kChain = 8, kChainMembers = kChain * kReduceBlock;

// Mean and biased variance, and what rounding took from them. `far`: the origin of the sums was so far off the mean
// that the variance has lost more digits than T shows, of those that the sums had.
template <class D>
struct Moments {
  Pair<D> mean, variance;
  decltype(D{} > D{}) far;
};

// a / n, for a whole number n.
template <class D>
NNFAST_INLINE Pair<D> divide(Pair<D> a, D n) {
  const D quotient = a.hi / n;
  const Pair<D> product = two_product(quotient, n);
  return fast_two_sum(quotient, ((a.hi - product.hi) - product.lo + a.lo) / n);
}

// Out of the sums of x - origin and of its square, over n values.
template <class T, class D>
NNFAST_INLINE Moments<D> moments_about(D origin, Pair<D> sum, Pair<D> squares, D n) {
  if constexpr (kChained<T>) {
    constexpr double lost = 0x1p2;
    const Pair<D> shift = divide(sum, n), square = divide(squares, n), of_shift = multiply(shift, shift);
    const Pair<D> difference = two_sum(square.hi, -of_shift.hi), moved = two_sum(origin, shift.hi);
    const Pair<D> variance = fast_two_sum(difference.hi, difference.lo + (square.lo - of_shift.lo));
    const Mask<D> none = variance.hi < 0;
    return {fast_two_sum(moved.hi, moved.lo + shift.lo), choose(none, Pair<D>{}, variance),
            none | (of_shift.hi > lost * variance.hi)};
  } else {
    constexpr double lost = 0x1p20;
    const D shift = sum.hi / n;
    const D square = squares.hi / n - shift * shift;
    const D variance = square < 0 ? D{} : square;
    return {{origin + shift, D{}}, {variance, D{}}, shift * shift > lost * variance};
  }
}

template <class V>
struct ForwardMap {
  V mean, scale, shift;
  NNFAST_INLINE V operator()(V x) const { return fma(x - mean, scale, shift); }
};

template <class V>
struct BackwardMap {
  V mean, gamma, offset, slope, inv_std;
  NNFAST_INLINE V operator()(V dy, V x) const { return fma(mean - x, slope, fma(dy, gamma, -offset)) * inv_std; }
};

// Doubles of sets and parameters as lanes: part k of those that belong to one V. `Sets` gives Vec<double> for an array
// of one double a set, `Parameters` for one a parameter.
template <class V, class Sets, class Parameters>
NNFAST_INLINE ForwardMap<V> forward_map(const Normalization& norm, Sets sets, Parameters parameters) {
  using W = Widened<V>;
  W mean, scale, shift;
  for (int k = 0; k < W::count; ++k) mean.part[k] = sets(norm.mean, k);
  const V rounded = narrow<V>(mean);
  const W held = widen(rounded);
  for (int k = 0; k < W::count; ++k) {
    scale.part[k] = parameters(norm.gamma, k) * sets(norm.inv_std, k);
    shift.part[k] = parameters(norm.beta, k) - (mean.part[k] - held.part[k]) * scale.part[k];
  }
  return {rounded, narrow<V>(scale), narrow<V>(shift)};
}

template <class V, class Sets, class Parameters>
NNFAST_INLINE BackwardMap<V> backward_map(const Normalization& norm, Sets sets, Parameters parameters) {
  using W = Widened<V>;
  W mean, gamma, offset, slope, inv_std;
  for (int k = 0; k < W::count; ++k) mean.part[k] = sets(norm.mean, k);
  const V rounded = narrow<V>(mean);
  const W held = widen(rounded);
  for (int k = 0; k < W::count; ++k) {
    slope.part[k] = sets(norm.slope, k);
    offset.part[k] = sets(norm.offset, k) - (mean.part[k] - held.part[k]) * slope.part[k];
    gamma.part[k] = parameters(norm.gamma, k);
    inv_std.part[k] = sets(norm.inv_std, k);
  }
  return {rounded, narrow<V>(gamma), narrow<V>(offset), narrow<V>(slope), narrow<V>(inv_std)};
}

// With constant statistics: dx = dy gamma inv_std, and x does not matter, not even an infinite one.
template <class V, class Sets, class Parameters>
NNFAST_INLINE V constant_map(const Normalization& norm, Sets sets, Parameters parameters) {
  Widened<V> scale;
  for (int k = 0; k < Widened<V>::count; ++k) scale.part[k] = parameters(norm.gamma, k) * sets(norm.inv_std, k);
  return narrow<V>(scale);
}

// A whole vector as doubles, half by half from memory: extracting the upper half of a register costs more.
template <class S>
NNFAST_INLINE Widened<typename Stored<S>::V> load_doubles(const char* from) {
  using V = typename Stored<S>::V;
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<S, float>) {
    const float* at = reinterpret_cast<const float*>(from);
    return {{_mm512_cvtps_pd(_mm256_loadu_ps(at)), _mm512_cvtps_pd(_mm256_loadu_ps(at + 8))}};
  }
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<S, float>) {
    const float* at = reinterpret_cast<const float*>(from);
    return {{_mm256_cvtps_pd(_mm_loadu_ps(at)), _mm256_cvtps_pd(_mm_loadu_ps(at + 4))}};
  }
#endif
  return widen<V>(Stored<S>::load(from));
}

// sum += term, by the units that multiply: those that add are busy with differences and conversions.
NNFAST_INLINE void add_up(Vec<double>& sum, Vec<double> term) {
  if constexpr (kFused) {
    sum = fma(term, broadcast<Vec<double>>(1), sum);
  } else {
    sum += term;
  }
}

// The sums of a value and of a product, lane by lane. Chained: end_chain() after every kChain products, and at last.
template <bool Chained, class D>
struct Terms {
  D sum[kTerms];  // of products: of those since the last chain ended

  NNFAST_INLINE void add(D value, D a, D b) {
    add_up(sum[0], value);
    sum[1] = fma(a, b, sum[1]);
  }
  NNFAST_INLINE void end_chain() {}
  NNFAST_INLINE void join(const Terms& other) {
    for (int t = 0; t < kTerms; ++t) sum[t] += other.sum[t];
  }
  NNFAST_INLINE D high(int term) const { return sum[term]; }
  NNFAST_INLINE D low(int) const { return D{}; }
};
template <class D>
struct Terms<true, D> : Terms<false, D> {
  Pair<D> chains;

  NNFAST_INLINE void end_chain() {
    add_term(chains.hi, chains.lo, {this->sum[1], D{}});
    this->sum[1] = D{};
  }
  NNFAST_INLINE void join(const Terms& other) {
    this->sum[0] += other.sum[0];
    nnfast::join<true>(chains.hi, chains.lo, other.chains.hi, other.chains.lo);
  }
  NNFAST_INLINE D high(int term) const { return term == 0 ? this->sum[0] : chains.hi; }
  NNFAST_INLINE D low(int term) const { return term == 0 ? D{} : chains.lo; }
};

// What the sums of gradients take of x: the normalised value, of which few products can be added in float32 whatever
// the scale of x; of float64 x - mean, as its products need no scale.
template <class V>
struct ForGradient {
  V mean, inv_std, shift;
  NNFAST_INLINE V operator()(V x) const { return fma(x - mean, inv_std, shift); }
  // What the sum of products has to be divided by.
  NNFAST_INLINE static Vec<double> restored(Vec<double> sum, Vec<double> inv_std) { return sum / inv_std; }
};
template <>
struct ForGradient<Vec<double>> {
  Vec<double> mean;
  NNFAST_INLINE Vec<double> operator()(Vec<double> x) const { return x - mean; }
  NNFAST_INLINE static Vec<double> restored(Vec<double> sum, Vec<double>) { return sum; }
};
template <class V, class Sets>
NNFAST_INLINE ForGradient<V> for_gradient(const Normalization& norm, Sets sets) {
  if constexpr (std::is_same_v<V, Vec<double>>) {
    return {sets(norm.mean, 0)};
  } else {
    using W = Widened<V>;
    W mean, inv_std, shift;
    for (int k = 0; k < W::count; ++k) mean.part[k] = sets(norm.mean, k);
    const V rounded = narrow<V>(mean);
    const W held = widen(rounded);
    for (int k = 0; k < W::count; ++k) {
      inv_std.part[k] = sets(norm.inv_std, k);
      shift.part[k] = (held.part[k] - mean.part[k]) * inv_std.part[k];
    }
    return {rounded, narrow<V>(inv_std), narrow<V>(shift)};
  }
}

// The sums of dy and of dy times what ForGradient gives, lane by lane. Of float32 those of a chain are added as they
// are, and the sums of chains as doubles: end_chain() as for Terms.
template <class V>
struct GradientTerms {
  V few[kTerms];
  Widened<V> sum[kTerms];

  NNFAST_INLINE void add(V dy, V x) {
    few[0] += dy;
    few[1] = fma(dy, x, few[1]);
  }
  NNFAST_INLINE void end_chain() {
    for (int t = 0; t < kTerms; ++t) {
      const Widened<V> wide = widen(few[t]);
      for (int k = 0; k < wide.count; ++k) sum[t].part[k] += wide.part[k];
      few[t] = V{};
    }
  }
  NNFAST_INLINE Vec<double> part(int t, int k) const { return sum[t].part[k]; }
};
template <>
struct GradientTerms<Vec<double>> {
  Vec<double> sum[kTerms];
  NNFAST_INLINE void add(Vec<double> dy, Vec<double> x) {
    add_up(sum[0], dy);
    sum[1] = fma(dy, x, sum[1]);
  }
  NNFAST_INLINE void end_chain() {}
  NNFAST_INLINE Vec<double> part(int t, int) const { return sum[t]; }
};
template <class V>
constexpr bool kFewGradients = !std::is_same_v<V, Vec<double>>;

// The lower or the upper lanes.
template <bool Upper, class D>
NNFAST_INLINE auto half_of(D v) {
  const Halves<D> half = halves(v);
  return Upper ? half.high : half.low;
}
template <bool Upper, class D>
NNFAST_INLINE auto half_of(const Terms<false, D>& terms) {
  return Terms<false, decltype(Halves<D>{}.low)>{{half_of<Upper>(terms.sum[0]), half_of<Upper>(terms.sum[1])}};
}
template <bool Upper, class D>
NNFAST_INLINE auto half_of(const Terms<true, D>& terms) {
  using Half = decltype(Halves<D>{}.low);
  return Terms<true, Half>{{{half_of<Upper>(terms.sum[0]), half_of<Upper>(terms.sum[1])}},
                           {half_of<Upper>(terms.chains.hi), half_of<Upper>(terms.chains.lo)}};
}

// All lanes as a binary tree: i and i + half.
template <bool Chained, class D>
NNFAST_INLINE auto joined_lanes(const Terms<Chained, D>& terms) {
  if constexpr (kLanes<D> == 1) {
    return terms;
  } else {
    auto low = half_of<false>(terms);
    low.join(half_of<true>(terms));
    return joined_lanes(low);
  }
}

[[gnu::noinline]] std::ptrdiff_t offset_along(const Axes& axes, int array, std::ptrdiff_t position) {
  std::ptrdiff_t offset = 0;
  for (int d = axes.count - 1; d >= 0; --d) {
    offset += position % axes.shape[d] * axes.strides[array][d];
    position /= axes.shape[d];
  }
  return offset;
}
NNFAST_INLINE std::ptrdiff_t offset_of(const Axes& axes, int array, std::ptrdiff_t position) {
  return axes.count == 1 ? position * axes.strides[array][0] : offset_along(axes, array, position);
}

// Prefetches what is summed next. Past the last set there may be no memory: no more than a number, which may be
// prefetched all the same.
NNFAST_INLINE void ask_for_next(const char* at, std::ptrdiff_t ahead) {
  if (ahead == 0) return;
  const auto there = reinterpret_cast<std::uintptr_t>(at) + static_cast<std::uintptr_t>(ahead);
  __builtin_prefetch(reinterpret_cast<const void*>(there), 0, 2);
}

// A stride of elements that may be contiguous, which is asked for every vector.
struct AnyStride {
  std::ptrdiff_t bytes;
  NNFAST_INLINE operator std::ptrdiff_t() const { return bytes; }
};

// Whether a vector is whole and its lanes are contiguous; not asked of a stride that is known to be another. Stride is
// Contiguous, AnyStride or std::ptrdiff_t.
template <class S, class Stride>
NNFAST_INLINE bool whole(Stride stride, std::ptrdiff_t count) {
  if (count != kLanes<typename Stored<S>::V> || std::is_same_v<Stride, std::ptrdiff_t>) return false;
  return static_cast<std::ptrdiff_t>(stride) == static_cast<std::ptrdiff_t>(sizeof(S));
}

// Elements before the first whose vector is aligned, if there are so many elements that it pays: a store across two
// lines of the cache takes several times as long as another, and NumPy's arrays begin 16 bytes after a line.
template <class S>
NNFAST_INLINE std::ptrdiff_t lead_of(const char* to, std::ptrdiff_t count) {
  if constexpr (kShort || std::is_same_v<S, Float16>) {
    return 0;
  } else {
    constexpr std::ptrdiff_t fewest = 16 * kLanes<Vec<S>>;
    const std::uintptr_t past = reinterpret_cast<std::uintptr_t>(to) % sizeof(Vec<S>);
    if (count < fewest || past % sizeof(S) != 0) return 0;
    return static_cast<std::ptrdiff_t>((sizeof(Vec<S>) - past) % sizeof(Vec<S>) / sizeof(S));
  }
}

// Partial and strided vectors. Not inlined: rare, and much code.
template <class S>
[[gnu::noinline]] typename Stored<S>::V load_some(const char* from, std::ptrdiff_t stride, std::ptrdiff_t first,
                                                  std::ptrdiff_t last, typename Stored<S>::Param fill) {
  return Stored<S>::load_lanes(from, stride, first, last, fill);
}
template <class S>
[[gnu::noinline]] void store_some(char* to, std::ptrdiff_t stride, typename Stored<S>::V v, std::ptrdiff_t count) {
  Stored<S>::store(to, stride, v, count);
}

}  // namespace
}  // namespace nnfast
