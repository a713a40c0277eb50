// The family of dropout.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nnfast {

// Elements a step of the mask takes; a range of the mask begins at a multiple of it.
constexpr std::ptrdiff_t kMaskBlock = 128;

struct DropoutMask {
  std::uint8_t* bits;  // of the whole array: bit i (little order) is 1 where element i is kept
  std::uint64_t seed;
  std::uint64_t threshold;  // element i is dropped where its 32 random bits are below this; at most 2^32
};

// Writes the mask of elements [begin, end); bits past `end` in its last byte become 0.
using DropoutMaskFn = void (*)(const DropoutMask& mask, std::ptrdiff_t begin, std::ptrdiff_t end);

// to = kept ? from * scale : 0 for n elements at byte strides, the first of which is element `position` of the mask.
using DropoutApplyFn = void (*)(const std::uint8_t* bits, std::ptrdiff_t position, const char* from,
                                std::ptrdiff_t from_stride, char* to, std::ptrdiff_t to_stride, std::ptrdiff_t n,
                                double scale);

// The four words of each of the counters first, first + 1, ... (counter's third word: stream).
using PhiloxFn = void (*)(std::uint64_t key, std::uint64_t first, std::uint32_t stream, std::uint32_t* words,
                          std::ptrdiff_t blocks);

struct DropoutKernels {
  DropoutMaskFn mask;
  DropoutApplyFn apply_f32, apply_f64;
  PhiloxFn philox;
};

}  // namespace nnfast
