// What losses of rows share: the weights of the rows, gradients that are 0.
#pragma once

#include "kernels/losses.hpp"
#include "kernels/rows.hpp"

namespace nnfast {
namespace {

// The factors of the losses and the gradients of R rows.
template <int R>
struct RowFactors {
  double weight[R], gradient[R];
  NNFAST_INLINE RowFactors(const LossRows& loss, std::ptrdiff_t row) {
    for (int r = 0; r < R; ++r) {
      weight[r] = loss.row_weights ? loss.row_weights[row + r] : 1;
      gradient[r] = weight[r] * loss.gradient_scale;
    }
  }
};

// Zeros in rows of n elements, all rows together where they lie end to end.
template <class T>
NNFAST_INLINE void clear_rows(const Matrix& m, std::ptrdiff_t n, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  const bool flat = is_contiguous<T>(m) && m.row_stride == n * m.stride;
  const std::ptrdiff_t rows = flat ? row_end - row_begin : 1;
  for (std::ptrdiff_t row = row_begin; row < row_end; row += rows) {
    const auto cleared = strided_rows<T>(m, row);
    for_vectors<T>(
        n * rows, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED { cleared.store(0, i, Vec<T>{}, count); });
  }
}

}  // namespace
}  // namespace nnfast
