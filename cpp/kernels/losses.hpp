// The family of losses: values and their gradients from one pass.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/matrix.hpp"

// X(formula in losses.cpp, name, ns an element on one core): losses of single numbers, of what is predicted and wanted
#define NNFAST_ELEMENTWISE_LOSSES(X) \
  X(SquaredError, "mse_loss", 0.25)  \
  X(AbsoluteError, "l1_loss", 0.25)  \
  X(Huber, "huber_loss", 0.3)        \
  X(BinaryCrossEntropy, "binary_cross_entropy_with_logits", 1.5)

namespace nnfast {

// A label that is none: its row has no loss and no gradient.
constexpr std::int64_t kNoLabel = -1;

struct CrossEntropy {
  Matrix logits, dlogits;
  const std::int64_t* labels;  // class indices or kNoLabel, or
  Matrix targets;              // probabilities (labels == nullptr), of the logits' type
  std::ptrdiff_t classes;
  double gradient_scale;  // what dlogits is multiplied by: 1 / rows for the mean
  double* losses;         // one a row, not scaled
  // Of class indices: what the label's class is wanted to have, by class, or null for 1; and what every class is, of
  // the logits' type, or null for nothing, with its sum.
  const double* at_label;
  const void* spread;
  double spread_sum;
};
using CrossEntropyFn = void (*)(const CrossEntropy& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end);

// sum over j != label of max(0, z_j - z_label + margin)
struct Hinge {
  Matrix scores, dscores;
  const std::int64_t* labels;
  std::ptrdiff_t classes;
  double margin, gradient_scale;
  double* losses;
};
using HingeFn = void (*)(const Hinge& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end);

enum class ElementwiseLoss : int {
#define NNFAST_ENUM(formula, name, cost) formula,
  NNFAST_ELEMENTWISE_LOSSES(NNFAST_ENUM)
#undef NNFAST_ENUM
      Count
};

// Elements whose losses are added on their own.
constexpr std::ptrdiff_t kLossBlock = 4096;

// n elements at byte strides. The gradient by `predicted`, times gradient_scale, goes to `slopes`. Returns the sum.
struct LossRun {
  const char *predicted, *wanted;
  char* slopes;
  std::ptrdiff_t predicted_stride, wanted_stride, slope_stride, n;
  double gradient_scale, parameter;
};
using LossRunFn = double (*)(const LossRun& run);

struct LossKernels {
  CrossEntropyFn softmax_cross_entropy_f32, softmax_cross_entropy_f64;
  HingeFn hinge_f32, hinge_f64;
  LossRunFn elementwise_f32[static_cast<int>(ElementwiseLoss::Count)],
      elementwise_f64[static_cast<int>(ElementwiseLoss::Count)];
};

}  // namespace nnfast
