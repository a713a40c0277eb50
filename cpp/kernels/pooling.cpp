// Pooling of float32. Lanes are neighbouring windows, or neighbouring channels where these come last.
#include "kernels/pooling.hpp"

#include <cstdint>
#include <utility>

#include "kernels/from_avx2.hpp"
#include "kernels/largest.hpp"
#include "kernels/pooling_gradients.hpp"
#include "simd/elements.hpp"
#include "simd/float_state.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

using Index = std::ptrdiff_t;
using V = Vec<float>;
using I = Mask<V>;

constexpr Index kWidth = kLanes<V>;

NNFAST_INLINE I integers(Index value) { return broadcast<I>(static_cast<std::int32_t>(value)); }

NNFAST_INLINE I lane_numbers() {
  I lane;
  for (int i = 0; i < kWidth; ++i) lane[i] = i;
  return lane;
}

// ---- rows ----

// Whether the elements [at, at + lanes) of a row of n are all there.
NNFAST_INLINE bool inside(Index at, Index n) { return at >= 0 && at + kWidth <= n; }

// The elements [at, at + lanes) of a row, `fill` where there are none. Not inlined: few vectors lie at an edge.
[[gnu::noinline]] V load_edge(const char* row, Index at, Index n, float fill) {
  const Index first = at < 0 ? smaller(-at, kWidth) : 0, last = n - at < first ? first : smaller(n - at, kWidth);
  return load_lanes<V>(reinterpret_cast<const float*>(row) + at, first, last, fill);
}

NNFAST_INLINE V load_row(const char* row, Index at, Index n, float fill) {
  return inside(at, n) ? load<V>(reinterpret_cast<const float*>(row) + at) : load_edge(row, at, n, fill);
}

// The lanes [first, last) of what lies `step` bytes apart, the others `fill`.
NNFAST_INLINE V load_apart_lanes(const char* from, Index step, Index first, Index last, float fill) {
#if defined(__AVX2__)
  if (step < INT32_MAX / kWidth && step > INT32_MIN / kWidth) {
    const I offsets = lane_numbers() * static_cast<std::int32_t>(step);
#if defined(__AVX512F__)
    const auto there = static_cast<__mmask16>(((1u << last) - 1) & ~((1u << first) - 1));
    return bit_cast<V>(
        _mm512_mask_i32gather_ps(bit_cast<__m512>(broadcast<V>(fill)), there, bit_cast<__m512i>(offsets), from, 1));
#else
    const I there = lanes_between<V>(first, last);
    return _mm256_mask_i32gather_ps(broadcast<V>(fill), reinterpret_cast<const float*>(from),
                                    bit_cast<__m256i>(offsets), bit_cast<__m256>(there), 1);
#endif
  }
#endif
  return Stored<float>::load_lanes(from, step, first, last, fill);
}

// Every `stride`-th element from `at` on, of those that a row has. Not inlined: the rare case.
[[gnu::noinline]] V load_every(const char* row, const PoolArray& x, Index at, Index stride, Index n, float fill) {
  const Index first = at < 0 ? smaller(over(-at + stride - 1, stride), kWidth) : 0;
  const Index last = at < n ? smaller(over(n - at + stride - 1, stride), kWidth) : 0;
  return load_apart_lanes(row + at * x.column, stride * x.column, first, larger(first, last), fill);
}

NNFAST_INLINE void store_row(const PoolArray& array, Index row, Index at, Index n, V values) {
  store_elements<float>(array.at(row, 0), array.column, at, values, smaller(kWidth, n - at));
}

// Calls body(i) for vectors of n elements, the last of which overlaps the one before where it can.
template <class Body>
NNFAST_INLINE void over_row(Index n, Body body) {
  for (Index i = 0; i < n; i += kWidth) body(i + kWidth > n && n >= kWidth ? n - kWidth : i);
}

// Of a and b together the elements First, First + 2, ... up to the last of a, and on from Second of b. By intrinsics
// where GCC takes more instructions.
template <int First, int Second>
NNFAST_INLINE V every_second(V a, V b) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  const __m256 halves = _mm256_shuffle_ps(a, b, First | (First + 2) << 2 | Second << 4 | (Second + 2) << 6);
  return bit_cast<V>(_mm256_permute4x64_pd(bit_cast<__m256d>(halves), 0b11011000));
#else
  return [&]<int... i>(std::integer_sequence<int, i...>) NNFAST_INLINED {
    return __builtin_shufflevector(a, b, (2 * i < kWidth ? First + 2 * i : Second + 2 * i)...);
  }(std::make_integer_sequence<int, kWidth>{});
#endif
}

// ---- what windows are reduced to ----

// The largest value and its position in the plane. Padding is -inf, which is larger than nothing: where all values are
// -inf, the position stays that of the first.
struct Largest {
  static constexpr float kFill = -static_cast<float>(kInfinity);
  static constexpr bool kHasPosition = true;
  V best = broadcast<V>(kFill);
  I which;

  NNFAST_INLINE explicit Largest(I first) : which(first) {}
  NNFAST_INLINE void add(V value, I position) { keep_better(best, which, value, position); }
};

struct Sum {
  static constexpr float kFill = 0;
  static constexpr bool kHasPosition = false;
  V sum{};

  NNFAST_INLINE explicit Sum(I) {}
  NNFAST_INLINE void add(V value, I) { sum += value; }
};

// ---- along rows ----

// Positions of the first elements of windows o, o + 1, ... of a row of them; -1 for a window without elements.
[[gnu::noinline, gnu::cold]] I first_positions(const Pooling& pooling, const PoolTaps& rows, Index o) {
  const PoolAxis& axis = pooling.columns;
  I positions = integers(-1);
  for (Index i = 0; i < smaller(kWidth, axis.count - o); ++i) {
    const PoolTaps taps = taps_of(axis, o + i);
    if (taps.none() || rows.none()) continue;
    const Index row = rows.start + rows.first * pooling.rows.dilation, column = taps.start + taps.first * axis.dilation;
    positions[i] = static_cast<std::int32_t>(row * axis.n + column);
  }
  return positions;
}

// Calls end(row, window, reduction) for vectors of windows. Stride: 1 or 2, of contiguous columns without dilation; or
// 0, of any.
template <int Stride, class Reduction, class End>
NNFAST_INLINE void reduce_rows(const Pooling& pooling, Index first, Index last, End end) {
  const PoolAxis& axis = pooling.columns;
  const Index stride = Stride ? Stride : axis.stride, down = Stride ? 1 : pooling.rows.dilation;
  const I steps = lane_numbers() * static_cast<std::int32_t>(stride);
  for (Index oy = first; oy < last; ++oy) {
    const PoolTaps rows = taps_of(pooling.rows, oy);
    over_row(axis.count, [&](Index o) NNFAST_INLINED {
      const Index begin = o * stride - axis.padding;
      const I column = integers(begin) + steps;
      const bool inner = begin >= 0 && begin + (kWidth - 1) * stride < axis.n && !rows.none();
      Reduction found(Stride || inner || !Reduction::kHasPosition
                          ? (column > 0 ? column : I{}) + integers((rows.start + rows.first * down) * axis.n)
                          : first_positions(pooling, rows, o));
      for (Index ky = rows.first; ky < rows.last; ++ky) {
        const Index row = rows.start + ky * down;
        I position = column + integers(row * axis.n);
        const char* const from = pooling.x.at(row, 0);
        const auto part = [&](Index at) NNFAST_INLINED { return load_row(from, begin + at, axis.n, Reduction::kFill); };
        for (Index k = 0; k < axis.kernel; ++k, position += 1) {
          if constexpr (Stride == 0) {
            found.add(load_every(from, pooling.x, begin + k * axis.dilation, stride, axis.n, Reduction::kFill),
                      integers(row * axis.n + begin + k * axis.dilation) + steps);
          } else if constexpr (Stride == 1) {
            found.add(part(k), position);
          } else if (k + 1 < axis.kernel) {
            const V a = part(k), b = part(k + kWidth);
            found.add(every_second<0, 0>(a, b), position);
            ++k, position += 1;
            found.add(every_second<1, 1>(a, b), position);
          } else {  // reads no further than the last element
            found.add(every_second<0, 1>(part(k), part(k + kWidth - 1)), position);
          }
        }
      }
      end(oy, o, found);
    });
  }
}

// Calls run<Stride>() with the stride that reduce_rows takes.
template <class Run>
NNFAST_INLINE void by_stride(const Pooling& pooling, Run run) {
  constexpr Index size = sizeof(float);
  const PoolAxis& axis = pooling.columns;
  const bool plain = pooling.x.column == size && axis.dilation == 1 && pooling.rows.dilation == 1;
  if (plain && axis.stride == 1) return run(std::integral_constant<int, 1>());
  if (plain && axis.stride == 2) return run(std::integral_constant<int, 2>());
  run(std::integral_constant<int, 0>());
}

template <int Stride>
void max_rows(const Pooling& pooling, Index first, Index last) {
  const Index count = pooling.columns.count;
  reduce_rows<Stride, Largest>(pooling, first, last, [&](Index oy, Index o, const Largest& found) NNFAST_INLINED {
    store_row(pooling.y, oy, o, count, found.best);
    store_row(pooling.which, oy, o, count, bit_cast<V>(found.which));
  });
}

unsigned max_along(const Pooling& pooling, Index first, Index last) {
  const ExceptionScope exceptions;
  by_stride(pooling, [&](auto stride) { max_rows<stride>(pooling, first, last); });
  return kRaisedNothing;
}

template <int Stride>
void mean_rows(const Pooling& pooling, Index first, Index last) {
  reduce_rows<Stride, Sum>(pooling, first, last, [&](Index oy, Index o, const Sum& found) NNFAST_INLINED {
    const Index count = pooling.columns.count;
    store_row(pooling.y, oy, o, count,
              found.sum / divisors<V>(pooling, rows_divisor<float>(pooling, oy), o, smaller(kWidth, count - o)));
  });
}

unsigned mean_along(const Pooling& pooling, Index first, Index last) {
  const ExceptionScope exceptions;
  by_stride(pooling, [&](auto stride) { mean_rows<stride>(pooling, first, last); });
  return exceptions.raised() & kRaisedOverflow;
}

// ---- across channels ----

NNFAST_INLINE V load_channels(const PoolArray& array, const char* at, Index channel, Index count) {
  return load_elements<float>(at, array.channel, channel, count);
}
NNFAST_INLINE void store_channels(const PoolArray& array, char* at, Index channel, V values, Index count) {
  store_elements<float>(at, array.channel, channel, values, count);
}

// Calls end(oy, ox, channel, reduction, count) for vectors of channels of each window.
template <class Reduction, class End>
NNFAST_INLINE unsigned reduce_channels(const Pooling& pooling, Index first, Index last, End end) {
  const ExceptionScope exceptions;
  const Index width = pooling.columns.n;
  for (Index oy = first; oy < last; ++oy) {
    const PoolTaps rows = taps_of(pooling.rows, oy);
    for (Index ox = 0; ox < pooling.columns.count; ++ox) {
      const PoolTaps columns = taps_of(pooling.columns, ox);
      const auto row = [&](Index k) NNFAST_INLINED { return rows.start + k * pooling.rows.dilation; };
      const auto column = [&](Index k) NNFAST_INLINED { return columns.start + k * pooling.columns.dilation; };
      const bool none = rows.none() || columns.none();
      const I begin = integers(none ? -1 : row(rows.first) * width + column(columns.first));
      for (Index c = 0; c < pooling.channels; c += kWidth) {
        const Index count = smaller(kWidth, pooling.channels - c);
        Reduction reduction(begin);
        for (Index ky = rows.first; ky < rows.last; ++ky)
          for (Index kx = columns.first; kx < columns.last; ++kx)
            reduction.add(load_channels(pooling.x, pooling.x.at(row(ky), column(kx)), c, count),
                          integers(row(ky) * width + column(kx)));
        end(oy, ox, c, reduction, count);
      }
    }
  }
  return exceptions.raised() & kRaisedOverflow;
}

unsigned max_across(const Pooling& pooling, Index first, Index last) {
  const PoolArray &y = pooling.y, &which = pooling.which;
  return reduce_channels<Largest>(pooling, first, last,
                                  [&](Index oy, Index ox, Index c, const Largest& found, Index count) NNFAST_INLINED {
                                    store_channels(y, y.at(oy, ox), c, found.best, count);
                                    store_channels(which, which.at(oy, ox), c, bit_cast<V>(found.which), count);
                                  });
}

NNFAST_INLINE V divisor(const Pooling& pooling, Index oy, Index ox) {
  return broadcast<V>(static_cast<float>(divisor_of(pooling.columns, ox, pooling.counts_padding)) *
                      static_cast<float>(divisor_of(pooling.rows, oy, pooling.counts_padding)));
}

unsigned mean_across(const Pooling& pooling, Index first, Index last) {
  const PoolArray& y = pooling.y;
  return reduce_channels<Sum>(pooling, first, last,
                              [&](Index oy, Index ox, Index c, const Sum& found, Index count) NNFAST_INLINED {
                                store_channels(y, y.at(oy, ox), c, found.sum / divisor(pooling, oy, ox), count);
                              });
}

// ---- whole planes ----

// Element i is added to partial sum i mod 64, and these two and two: in registers, where add_rows of sums.hpp has
// memory.
double plane_mean(const float* x, Index n) {
  constexpr Index kPartial = kPlanePartialSums;
  constexpr int vectors = kPartial / kLanes<Vec<double>>, per_load = Widened<V>::count;
  const ExceptionScope exceptions;
  Vec<double> sums[vectors] = {};
  const auto add = [&](const float* from) NNFAST_INLINED {
    for (int k = 0; k < vectors / per_load; ++k) {
      const Widened<V> wide = widen(load<V>(from + k * kWidth));
      for (int part = 0; part < per_load; ++part) sums[k * per_load + part] += wide.part[part];
    }
  };
  Index i = 0;
  for (; i + kPartial <= n; i += kPartial) add(x + i);
  if (i < n) {
    float rest[kPartial] = {};
    for (Index k = 0; i + k < n; ++k) rest[k] = load_element<float>(reinterpret_cast<const char*>(x + i + k));
    add(rest);
  }
  for (int half = vectors / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) sums[k] += sums[k + half];
  return sum_of_lanes(sums[0]) / static_cast<double>(n);
}

}  // namespace

namespace NNFAST_ISA {

extern const PoolingKernels pooling;
const PoolingKernels pooling = {
    max_along,
    max_across,
    mean_along,
    mean_across,
    NNFAST_FROM_AVX2({mean_backward_along<Float16>, mean_backward_along<float>, mean_backward_along<double>}),
    NNFAST_FROM_AVX2({mean_backward_across<Float16>, mean_backward_across<float>, mean_backward_across<double>}),
    NNFAST_FROM_AVX2({fold<Float16>, fold<float>, fold<double>}),
    plane_mean,
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
