// A matrix in memory.
#pragma once

#include <cstddef>

namespace nnfast {

// Byte strides between rows and within one.
struct Matrix {
  char* data;
  std::ptrdiff_t row_stride, stride;
};

}  // namespace nnfast
