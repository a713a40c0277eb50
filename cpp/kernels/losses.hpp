// The family of losses: values and their gradients from one pass.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/matrix.hpp"

// X(formula in losses.cpp, name, ns an element on one core): losses of single elements, of predictions and targets
#define NNFAST_ELEMENTWISE_LOSSES(X)                                     \
  X(SquaredError, "mse_loss", 0.25)                                      \
  X(AbsoluteError, "l1_loss", 0.25)                                      \
  X(Huber, "huber_loss", 0.3)                                            \
  X(BinaryCrossEntropyOfLogits, "binary_cross_entropy_with_logits", 1.5) \
  X(BinaryCrossEntropy, "binary_cross_entropy", 2)

namespace nnfast {

// A label that is none: its row has no loss and no gradient.
constexpr std::int64_t kNoLabel = -1;

// Rows of scores, logits or probabilities, one score for each class, and of their gradients.
struct LossRows {
  Matrix scores, dscores;
  const std::int64_t* labels;  // class indices or kNoLabel
  std::ptrdiff_t classes;
  double gradient_scale;      // factor of dscores: 1 / (sum of the weights) for the mean
  const double* row_weights;  // factors of a row's loss and gradient, or null for 1; rows of weight 0 are not looked at
  double* losses;             // one a row, times its weight
};

// Class r of the target distribution of a row is labels == nullptr ? targets[r] * target_scale[r] + spread[r]
//                                                                  : (r == label) * at_label[r] + spread[r].
struct CrossEntropy : LossRows {
  Matrix targets;            // probabilities, of the scores' type
  const void* target_scale;  // of the scores' type, or null for 1
  const double* at_label;    // or null for 1
  const void* spread;        // of the scores' type, or null for 0
  double spread_sum;
};
using CrossEntropyFn = void (*)(const CrossEntropy& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end);

// sum over j != label of max(0, z_j - z_label + margin)
struct Hinge : LossRows {
  double margin;
};
using HingeFn = void (*)(const Hinge& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end);

enum class ElementwiseLoss : int {
#define NNFAST_ENUM(formula, name, cost) formula,
  NNFAST_ELEMENTWISE_LOSSES(NNFAST_ENUM)
#undef NNFAST_ENUM
      Count
};

// Elements whose losses have a partial sum of their own.
constexpr std::ptrdiff_t kLossBlock = 2048;

// n elements at byte strides. The gradient with respect to `predicted`, times gradient_scale, goes to `slopes`, which
// overlaps neither: a block whose sum overflows is computed again. Returns the sum.
struct LossRun {
  const char *predicted, *targets;
  char* slopes;
  std::ptrdiff_t predicted_stride, target_stride, slope_stride, n;
  double gradient_scale, parameter;
  // Of elements, and of their positive class, or null for 1; and where the loss of each element, times its weight,
  // goes, or null.
  const double *weights, *positive_weights;
  double* losses;
  bool careful;  // weights may be too large, or too small, for float
};
using LossRunFn = double (*)(const LossRun& run);

struct LossKernels {
  CrossEntropyFn softmax_cross_entropy_f32, softmax_cross_entropy_f64;
  CrossEntropyFn cross_entropy_f32, cross_entropy_f64;  // of probabilities
  HingeFn hinge_f32, hinge_f64;
  LossRunFn elementwise_f32[static_cast<int>(ElementwiseLoss::Count)],
      elementwise_f64[static_cast<int>(ElementwiseLoss::Count)];
  // Whether all are finite and not negative, and their sum.
  bool (*weights_sum)(const double* weights, std::ptrdiff_t n, double* sum);
};

}  // namespace nnfast
