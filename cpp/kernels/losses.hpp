// The family of losses.
#pragma once

#include <cstdint>

#include "kernels/matrix.hpp"

namespace nnfast {

struct CrossEntropy {
  Matrix logits, dlogits;
  const std::int64_t* labels;  // class indices, or
  Matrix targets;              // probabilities (labels == nullptr), of the logits' type
  std::ptrdiff_t classes;
  double gradient_scale;  // what dlogits is multiplied by: 1 / rows for the mean
  double* losses;         // one a row, not scaled
};
using CrossEntropyFn = void (*)(const CrossEntropy& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end);

struct LossKernels {
  CrossEntropyFn softmax_cross_entropy_f32, softmax_cross_entropy_f64;
};

}  // namespace nnfast
