// The family of layer normalisation: rows that are normalised by themselves, with a scale and a shift for each place in
// a row.
#pragma once

#include <cstddef>

#include "kernels/normalization.hpp"

namespace nnfast {

// A row is a set, its places are the members.
struct LayerNorm {
  Normalization norm;
  const void *gamma, *beta;  // of the type that is computed in (float for float16), a place each; or null
  double *mean, *inv_std;    // a row each; forward writes them, rms_norm has no mean
  double *dgamma, *dbeta;    // backward: sums that are added to, a place each
};

// Rows that go together, and whose gradients with respect to the parameters are added before they join the others'.
constexpr int kRowsInPass = 4;

// Rows [row, row_end).
using LayerNormFn = void (*)(const LayerNorm& layer, std::ptrdiff_t row, std::ptrdiff_t row_end);

struct RowKernels {
  LayerNormFn layer_norm, rms_norm, layer_norm_backward, rms_norm_backward;
};

struct LayerNormKernels {
  RowKernels f16, f32, f64;
};

}  // namespace nnfast
