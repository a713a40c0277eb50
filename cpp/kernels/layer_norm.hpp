// The family of layer normalisation: each row is normalised by itself, with a scale and a shift for each column.
#pragma once

#include <cstddef>

#include "kernels/normalization.hpp"

namespace nnfast {

// A row is a set, its columns are the members.
struct LayerNorm {
  Normalization norm;
  const void *gamma, *beta;  // contiguous, of the dtype of computation (float32 for float16), a column each; or null
  double *mean, *inv_std;    // a row each; forward writes them, rms_norm has no mean
  double *dgamma, *dbeta;    // backward: partial sums that are added to, a column each
};

// Rows of one pass, whose gradients with respect to the parameters are summed in the dtype of computation.
constexpr int kRowsInPass = 4;

// Rows [row, row_end).
using LayerNormFn = void (*)(const LayerNorm& layer, std::ptrdiff_t row, std::ptrdiff_t row_end);

struct LayerNormKernels {
  PerDtype<LayerNormFn> layer_norm, rms_norm, layer_norm_backward, rms_norm_backward;
};

}  // namespace nnfast
