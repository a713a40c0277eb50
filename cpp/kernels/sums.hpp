// The family of sums that are kept in double: columns of rows, and what was found block by block.
#pragma once

#include <cstddef>

namespace nnfast {

struct SumKernels {
  // Adds n values next to each other to as many doubles.
  void (*add_f32)(double* to, const float* values, std::ptrdiff_t n);
  void (*add_f64)(double* to, const double* values, std::ptrdiff_t n);
};

}  // namespace nnfast
