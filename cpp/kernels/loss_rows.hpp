// What losses of rows share: the weights of the rows.
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

}  // namespace
}  // namespace nnfast
