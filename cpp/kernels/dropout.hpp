// The family of dropout.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/elementwise.hpp"
#include "kernels/per_dtype.hpp"

namespace nnfast {

// Elements a step of the mask takes; a range of the mask begins at a multiple of it.
constexpr std::ptrdiff_t kMaskBlock = 128;

// What decides on the mask of an array: bit i (little order) is 1 where element i is kept.
struct DropoutMask {
  std::uint64_t seed;
  std::uint64_t offset;     // element i takes the random bits of element offset + i
  std::uint64_t threshold;  // element i is dropped where its 32 random bits are below this; at most 2^32

  // One threshold a channel instead, or null, and its high 16 bits, at most 2^16 - 1: element i is of channel
  // i / inner mod channels.
  const std::uint64_t* thresholds;
  const std::uint16_t* high_thresholds;
  std::ptrdiff_t channels, inner;
};

// Writes the mask of elements [begin, end) to `bits`, where that of `begin` is the first bit of a byte; bits past `end`
// in its last byte become 0.
using DropoutMaskFn = void (*)(const DropoutMask& mask, std::uint8_t* bits, std::ptrdiff_t begin, std::ptrdiff_t end);

// kept ? x * scale + shift : dropped. A shift of -0 changes nothing.
struct Keeping {
  double scale, shift, dropped;
};

// n elements at byte strides, of which the first has the bit `position` of `bits`. `stream`: by non-temporal stores,
// after which `fence` must be called. `scales`: contiguous factors in place of Keeping's, of the dtype of computation.
struct DropoutRun {
  const std::uint8_t* bits;
  std::ptrdiff_t position;
  const char* from;
  char* to;
  std::ptrdiff_t from_stride, to_stride, n;
  bool stream;
  const void* scales;  // or null
};
using DropoutApplyFn = void (*)(const Keeping& keeping, const DropoutRun& run);

// Clears the bit of an element where x + bias is not positive, and keeps x + bias by the bits that are left.
using BiasReluDropoutFn = void (*)(const Keeping& keeping, const DropoutRun& run, const char* bias, std::uint8_t* bits);
// Keeps, and adds element i of the result to sums[i].
using DropoutSumsFn = void (*)(const Keeping& keeping, const DropoutRun& run, double* sums);

struct DropoutKernels {
  DropoutMaskFn mask;
  PerDtype<DropoutApplyFn> apply;
  PerDtype<BiasReluDropoutFn> bias_relu;
  PerDtype<DropoutSumsFn> apply_sums;
  void (*fence)();
  Elementwise keep_scaled;  // x, s -> s == 0 ? 0 : x s
};

}  // namespace nnfast
