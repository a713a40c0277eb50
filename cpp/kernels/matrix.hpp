// A matrix in memory.
#pragma once

#include <cstddef>

namespace nnfast {

// Byte strides between rows and within one.
struct Matrix {
  char* data;
  std::ptrdiff_t row_stride, stride;
};

namespace {

// The rows `first` and following; of null, null.
inline Matrix rows_from(const Matrix& m, std::ptrdiff_t first) {
  return {m.data ? m.data + first * m.row_stride : nullptr, m.row_stride, m.stride};
}

}  // namespace

}  // namespace nnfast
