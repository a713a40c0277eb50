// The family of what arrays of all families need: sums of columns, taken in double, and float16 widened to float32.
#pragma once

#include <cstddef>

#include "kernels/per_dtype.hpp"

namespace nnfast {

// Adds `rows` rows of n values, at byte strides, to n doubles.
using AddRowsFn = void (*)(const char* values, std::ptrdiff_t row_stride, std::ptrdiff_t stride, std::ptrdiff_t rows,
                           std::ptrdiff_t n, double* to);

struct SumKernels {
  PerDtype<AddRowsFn> add_rows;
  // n elements of float16 at a byte stride, as contiguous float32.
  void (*widen)(const char* from, std::ptrdiff_t stride, float* to, std::ptrdiff_t n);
};

}  // namespace nnfast
