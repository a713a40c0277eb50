// The family of losses: values and their gradients from one pass.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/matrix.hpp"
#include "kernels/per_dtype.hpp"

// X(formula in elementwise_losses.hpp, name): losses of single elements, of predictions and targets
#define NNFAST_ELEMENTWISE_LOSSES(X)                                \
  X(SquaredError, "mse_loss")                                       \
  X(AbsoluteError, "l1_loss")                                       \
  X(Huber, "huber_loss")                                            \
  X(LogCosh, "log_cosh_loss")                                       \
  X(PoissonOfLog, "poisson_nll_loss")                               \
  X(PoissonOfRate, "poisson_nll_loss_of_rates")                     \
  X(KlDivergence, "kl_div")                                         \
  X(BinaryCrossEntropyOfLogits, "binary_cross_entropy_with_logits") \
  X(GaussianOfVariance, "gaussian_nll_loss")                        \
  X(HingeOfSign, "hinge_loss")                                      \
  X(SquaredHingeOfSign, "squared_hinge_loss")                       \
  X(SigmoidFocal, "sigmoid_focal_loss")                             \
  X(BinaryCrossEntropy, "binary_cross_entropy")

namespace nnfast {

// The label of a row that is ignored: it has no loss and no gradient.
constexpr std::int64_t kNoLabel = -1;

// Rows of scores, logits or probabilities, one score for each class, and of their gradients.
struct LossRows {
  Matrix scores, dscores;
  const std::int64_t* labels;  // class indices or kNoLabel
  std::ptrdiff_t classes;
  double gradient_scale;      // factor of dscores: 1 / (sum of the weights) for the mean
  const double* row_weights;  // factors of a row's loss and gradient (null: 1); a row of weight 0 may hold anything
  double* losses;             // of each row, times its weight
};

// The target of class c is labels ? (c == label ? at_label[c] : 0) + spread[c] : targets[c] * target_scale[c] +
// spread[c].
struct CrossEntropy : LossRows {
  Matrix targets;            // probabilities, of the scores' dtype
  const void* target_scale;  // factor of each class's target, of the scores' dtype (null: 1)
  const double* at_label;    // target of the true class (null: 1)
  const void* spread;        // target added to every class, of the scores' dtype (null: 0)
  double spread_sum;         // its total
};
using CrossEntropyFn = void (*)(const CrossEntropy& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end);

// sum over j != label of max(0, z_j - z_label + margin), or of its square
struct Hinge : LossRows {
  double margin;
  bool squared;
};
using HingeFn = void (*)(const Hinge& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end);

// -z_label, of logarithms of probabilities; kNoLabel may be among the labels of rows of weight 0.
using LikelihoodFn = void (*)(const LossRows& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end);

// Rows of x and y, and of a third array that takes factors[0] x + factors[1] y; it may be x or y.
struct RowPairs {
  Matrix x, y, to;
  std::ptrdiff_t n;
  const double* factors;  // two of each row
  double* sums;           // three of each row: of x y, x x and y y; of differences one
  double eps;             // added to differences
};
using RowPairsFn = void (*)(const RowPairs& pairs, std::ptrdiff_t row_begin, std::ptrdiff_t row_end);

enum class ElementwiseLoss : int {
#define NNFAST_ENUM(formula, name) formula,
  NNFAST_ELEMENTWISE_LOSSES(NNFAST_ENUM)
#undef NNFAST_ENUM
      Count
};

// Elements whose losses have a partial sum of their own.
constexpr std::ptrdiff_t kLossBlock = 2048;

// A loss has at most so many: delta; eps; or gamma and the weights of targets of 1 and of 0.
constexpr int kLossParameters = 3;

// n contiguous elements of predictions, targets and slopes. Slopes are the gradient with respect to predictions, times
// gradient_scale; they overlap neither input: a block whose sum overflows is computed again. Returns the sum of the
// losses.
struct LossRun {
  const void *predicted, *targets;
  void* slopes;
  std::ptrdiff_t n;
  double gradient_scale, parameters[kLossParameters];
  const double *weights, *positive_weights;  // of each element, and of its positive class (null: 1)
  double* losses;                            // of each element, times its weight, or null
  bool careful;                              // weights may be too large, or too small, for float
};
using LossRunFn = double (*)(const LossRun& run);

struct LossKernels {
  // There are none for float16.
  PerDtype<CrossEntropyFn> softmax_cross_entropy, cross_entropy;
  PerDtype<HingeFn> hinge;
  PerDtype<LikelihoodFn> negative_log_likelihood;
  PerDtype<RowPairsFn> pair_sums, mix_pairs, differences;
  PerDtype<LossRunFn> elementwise[static_cast<int>(ElementwiseLoss::Count)];
  // Whether all are finite and not negative; and their sum.
  bool (*weights_sum)(const double* weights, std::ptrdiff_t n, double* sum);
};

}  // namespace nnfast
