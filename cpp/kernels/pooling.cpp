// Pooling of float32. Lanes are neighbouring windows, or neighbouring channels where these come last.
#include "kernels/pooling.hpp"

#include <cstdint>
#include <utility>

#include "kernels/largest.hpp"
#include "simd/elements.hpp"
#include "simd/float_state.hpp"

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

[[gnu::noinline]] void store_edge(float* to, V values, Index count) {
  for (Index i = 0; i < count; ++i) to[i] = values[i];
}

NNFAST_INLINE void store_row(char* row, Index at, Index n, V values) {
  float* to = reinterpret_cast<float*>(row) + at;
  at + kWidth <= n ? store(to, values) : store_edge(to, values, n - at);
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
  V best = broadcast<V>(kFill);
  I which;

  NNFAST_INLINE explicit Largest(I first) : which(first) {}
  NNFAST_INLINE void add(V value, I position) { keep_better(best, which, value, position); }
};

struct Sum {
  static constexpr float kFill = 0;
  V sum{};

  NNFAST_INLINE explicit Sum(I) {}
  NNFAST_INLINE void add(V value, I) { sum += value; }
};

// ---- along rows ----

// Calls end(row, window, reduction) for vectors of windows.
template <int Stride, class Reduction, class End>
NNFAST_INLINE void reduce_rows(const Pooling& pooling, Index first, Index last, End end) {
  const PoolAxis& axis = pooling.columns;
  const I steps = lane_numbers() * Stride;
  for (Index oy = first; oy < last; ++oy) {
    const PoolTaps rows = taps_of(pooling.rows, oy);
    over_row(axis.count, [&](Index o) NNFAST_INLINED {
      const Index begin = o * Stride - axis.padding;
      const I column = integers(begin) + steps;
      Reduction found((column > 0 ? column : I{}) + integers((rows.start + rows.first) * axis.n));
      for (Index ky = rows.first; ky < rows.last; ++ky) {
        const Index row = rows.start + ky;
        I position = column + integers(row * axis.n);
        const auto part = [&](Index at) NNFAST_INLINED {
          return load_row(pooling.x.at(row, 0), begin + at, axis.n, Reduction::kFill);
        };
        for (Index k = 0; k < axis.kernel; ++k, position += 1) {
          if constexpr (Stride == 1) {
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

template <int Stride>
void max_rows(const Pooling& pooling, Index first, Index last) {
  const Index count = pooling.columns.count;
  reduce_rows<Stride, Largest>(pooling, first, last, [&](Index oy, Index o, const Largest& found) NNFAST_INLINED {
    store_row(pooling.y.at(oy, 0), o, count, found.best);
    store_row(pooling.which.at(oy, 0), o, count, bit_cast<V>(found.which));
  });
}

unsigned max_along(const Pooling& pooling, Index first, Index last) {
  const ExceptionScope exceptions;
  pooling.columns.stride == 1 ? max_rows<1>(pooling, first, last) : max_rows<2>(pooling, first, last);
  return kRaisedNothing;
}

// What the sums of windows o, o + 1, ... of a row are divided by. Not inlined: few lie at an edge.
[[gnu::noinline]] V divisors_at_edge(const Pooling& pooling, Index o, float rows) {
  const PoolAxis& axis = pooling.columns;
  V divisors = broadcast<V>(1);
  for (Index i = 0; i < smaller(kWidth, axis.count - o); ++i)
    divisors[i] = static_cast<float>(divisor_of(axis, o + i, pooling.counts_padding)) * rows;
  return divisors;
}

NNFAST_INLINE V divisors(const Pooling& pooling, Index oy, Index o) {
  const PoolAxis& axis = pooling.columns;
  const auto rows = static_cast<float>(divisor_of(pooling.rows, oy, pooling.counts_padding));
  const Index around = pooling.counts_padding ? axis.padding : 0, begin = o * axis.stride - axis.padding;
  if (begin < -around || begin + (kWidth - 1) * axis.stride + axis.kernel > axis.n + around)
    return divisors_at_edge(pooling, o, rows);
  return broadcast<V>(static_cast<float>(axis.kernel) * rows);
}

template <int Stride>
void mean_rows(const Pooling& pooling, Index first, Index last) {
  reduce_rows<Stride, Sum>(pooling, first, last, [&](Index oy, Index o, const Sum& found) NNFAST_INLINED {
    store_row(pooling.y.at(oy, 0), o, pooling.columns.count, found.sum / divisors(pooling, oy, o));
  });
}

unsigned mean_along(const Pooling& pooling, Index first, Index last) {
  const ExceptionScope exceptions;
  pooling.columns.stride == 1 ? mean_rows<1>(pooling, first, last) : mean_rows<2>(pooling, first, last);
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

}  // namespace

namespace NNFAST_ISA {

extern const PoolingKernels pooling;
const PoolingKernels pooling = {max_along, max_across, mean_along, mean_across};

}  // namespace NNFAST_ISA
}  // namespace nnfast
