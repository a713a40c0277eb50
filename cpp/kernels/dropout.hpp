// The family of dropout.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/elementwise.hpp"

namespace nnfast {

// Elements a step of the mask takes; a range of the mask begins at a multiple of it.
constexpr std::ptrdiff_t kMaskBlock = 128;

struct DropoutMask {
  std::uint8_t* bits;  // of the whole array: bit i (little order) is 1 where element i is kept
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

// n elements at byte strides, of which the first has the bit `position` of `bits`. `stream`: results go past the
// caches, and `fence` has to come. `scales`: contiguous factors in place of Keeping's, of the type that is computed
// with.
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

// Takes the bit of an element for 0 where x + bias is not positive, and keeps max(x + bias, 0) by what is left.
using BiasReluDropoutFn = void (*)(const Keeping& keeping, const DropoutRun& run, const char* bias, std::uint8_t* bits);
// Keeps, and adds a column of what is kept to each of `sums`.
using DropoutSumsFn = void (*)(const Keeping& keeping, const DropoutRun& run, double* sums);

template <class Fn>
struct DropoutFns {
  Fn f16, f32, f64;
};

struct DropoutKernels {
  DropoutMaskFn mask;
  DropoutFns<DropoutApplyFn> apply;
  DropoutFns<BiasReluDropoutFn> bias_relu;
  DropoutFns<DropoutSumsFn> apply_sums;
  void (*fence)();
  Elementwise keep_scaled;  // x, s -> s == 0 ? 0 : x s
};

}  // namespace nnfast
