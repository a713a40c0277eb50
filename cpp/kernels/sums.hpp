// The family of sums of columns, taken in double.
#pragma once

#include <cstddef>

#include "kernels/per_dtype.hpp"

namespace nnfast {

// Adds `rows` rows of n values, at byte strides, to n doubles.
using AddRowsFn = void (*)(const char* values, std::ptrdiff_t row_stride, std::ptrdiff_t stride, std::ptrdiff_t rows,
                           std::ptrdiff_t n, double* to);

struct SumKernels {
  PerDtype<AddRowsFn> add_rows;
};

}  // namespace nnfast
