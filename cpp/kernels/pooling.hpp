// The family of pooling: windows that slide over planes, each reduced to its largest value or its mean.
#pragma once

#include <cstddef>

#include "kernels/per_dtype.hpp"

namespace nnfast {

// One axis: n elements, `count` windows of `kernel` elements, `dilation` apart, a window every `stride` elements; the
// first begins `padding` elements before the first element.
struct PoolAxis {
  std::ptrdiff_t n, count, kernel, stride, padding, dilation;
};

// Partial sums of the mean of a plane, the same in every layout.
constexpr std::ptrdiff_t kPlanePartialSums = 64;

// Byte strides of one of the arrays: x or dx, y or dy, or the positions of the maxima, int32.
struct PoolArray {
  char* data;
  std::ptrdiff_t row, column, channel;

  // Inlined even where code is compiled for size: instruction sets would share it.
  __attribute__((always_inline)) char* at(std::ptrdiff_t r, std::ptrdiff_t c) const {
    return data + r * row + c * column;
  }
};

struct Pooling {
  PoolAxis rows, columns;
  std::ptrdiff_t channels;  // of a kernel across them
  bool counts_padding;      // in the divisor of a mean
  PoolArray x, y, which;
  // Where y are columns, from one element of a window to the next.
  std::ptrdiff_t tap_row, tap_column;
};

// Rows [first, last) of y, or of x backward. Returns what was raised (a set of Raised): overflow.
using PoolFn = unsigned (*)(const Pooling& pooling, std::ptrdiff_t first, std::ptrdiff_t last);

// The mean of n contiguous elements, as global_avg_pool sums them.
using PlaneMeanFn = double (*)(const float* x, std::ptrdiff_t n);

// Of float32 forward, along rows or across contiguous channels; rows and channels of any strides backward. `fold` sums
// columns for [first, last) rows of x, of all channels; so do those across.
struct PoolingKernels {
  PoolFn max_along, max_across, mean_along, mean_across;
  PerDtype<PoolFn> mean_backward_along, mean_backward_across, fold;
  PlaneMeanFn plane_mean;
};

namespace {

// The elements [first, last) of window o that lie in the axis.
struct PoolTaps {
  std::ptrdiff_t start, first, last;
  bool none() const { return first >= last; }
};

[[maybe_unused]] PoolTaps taps_of(const PoolAxis& axis, std::ptrdiff_t o) {
  const std::ptrdiff_t start = o * axis.stride - axis.padding, d = axis.dilation;
  std::ptrdiff_t first = start < 0 ? -start : 0, end = axis.n - start;
  if (d > 1) {
    first = (first + d - 1) / d;
    end = (end + d - 1) / d;
  }
  return {start, first, end < axis.kernel ? end : axis.kernel};
}

// What a window's mean is divided by, along this axis.
[[maybe_unused]] std::ptrdiff_t divisor_of(const PoolAxis& axis, std::ptrdiff_t o, bool counts_padding) {
  const PoolTaps taps = taps_of(axis, o);
  if (!counts_padding) return taps.last - taps.first;
  const std::ptrdiff_t room = axis.n + axis.padding - taps.start;
  return room < axis.kernel ? room : axis.kernel;
}

// The windows [first, last) that may hold element i.
struct PoolWindows {
  std::ptrdiff_t first, last;
};

[[maybe_unused]] PoolWindows windows_of(const PoolAxis& axis, std::ptrdiff_t i) {
  const std::ptrdiff_t end = i + axis.padding, begin = end - (axis.kernel - 1) * axis.dilation, s = axis.stride;
  const auto over = [s](std::ptrdiff_t a) { return s == 1 ? a : (s == 2 ? a >> 1 : a / s); };
  const std::ptrdiff_t last = over(end) + 1;
  return {begin > 0 ? over(begin + s - 1) : 0, last < axis.count ? last : axis.count};
}

}  // namespace
}  // namespace nnfast
