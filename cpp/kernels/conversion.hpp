// The family of conversions between float16 in memory and float32, for kernels that compute in float32.
#pragma once

#include <cstddef>

namespace nnfast {

struct ConversionKernels {
  // n elements; byte strides of the halves, floats next to each other.
  void (*widen)(const char* halves, std::ptrdiff_t stride, float* to, std::ptrdiff_t n);
  // Rounds to nearest even; returns what was raised (a set of Raised): overflow, where a number is out of range.
  unsigned (*narrow)(const float* from, char* halves, std::ptrdiff_t stride, std::ptrdiff_t n);
};

}  // namespace nnfast
