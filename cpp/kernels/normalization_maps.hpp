// What normalisation does to one value, in both directions.
//
//   y  = (x - mean) gamma inv_std + beta
//   dx = (gamma dy - offset - (x - mean) slope) inv_std
//
// The mean is a double: what T cannot hold of it goes into the constant term, which is known in double, so that a large
// mean costs no digits.
#pragma once

#include "kernels/normalization.hpp"
#include "simd/elements.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

// Mean and biased variance out of the sums of x - origin and of its square, over n values. `far`: the origin is so far
// off the mean that the variance has lost more digits than T shows, of those that a double has.
template <class D>
struct Moments {
  D mean, variance;
  decltype(D{} > D{}) far;
};
template <class T, class D>
NNFAST_INLINE Moments<D> moments_about(D origin, D sum, D squares, D n) {
  constexpr double lost = sizeof(T) == sizeof(double) ? 0x1p4 : 0x1p20;
  const D shift = sum / n;
  const D square = squares / n - shift * shift;
  const D variance = square < 0 ? D{} : square;
  return {origin + shift, variance, shift * shift > lost * variance};
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
