// Losses over arrays, with their gradients.
#pragma once

#include "kernels/losses.hpp"
#include "ops/costs.hpp"
#include "ops/row_arrays.hpp"

namespace nnfast {

enum class Reduction : int { mean, sum, none };

// Item i has the weight values[i / inner % channels].
struct LossWeights {
  const double* values = nullptr;  // null: 1
  std::ptrdiff_t channels = 1, inner = 1;
};

// Where the values of a loss go. The mean divides by the sum of the weights; it is 0 where that is.
struct LossResult {
  Reduction reduction;
  double* each;  // of each row or element, for Reduction::none
};

// ---- of rows ----

struct RowLossArguments {
  Dtype dtype;
  const RowArrays<3>& scores_dscores_targets;  // targets are read where there are no labels
  const std::int64_t* labels;                  // of each row, class indices or kNoLabel, or null
  LossWeights sample_weights;                  // of rows
  const double* class_weights;                 // null: 1; without labels of cross_entropy alone
  LossResult result;
};

// Of logits or of probabilities. They return the loss, unless the reduction is none.
double cross_entropy(const RowLossArguments& rows, bool of_logits, double label_smoothing);
double svm_loss(const RowLossArguments& rows, double margin, bool squared);
// Of logarithms of probabilities.
double nll_loss(const RowLossArguments& rows);

// Of each pair of rows the sums of x y, x x and y y, one after the other.
void pair_sums(Dtype dtype, const RowArrays<2>& x_y, double* sums);
// factors[0] x + factors[1] y, with two factors of each row; the result may be x or y.
void mix_pairs(Dtype dtype, const RowArrays<3>& x_y_result, const double* factors);
// x - y + eps, and the length of each row of it.
void differences(Dtype dtype, const RowArrays<3>& x_y_result, double eps, double* lengths);

// Losses of pairs by their cosines, from what pair_sums has of them; alike: 1 or -1 of each. And two factors of each,
// of which mix_pairs makes the gradient with respect to x (own 0) or y (own 1) of that and the other; slopes: of the
// loss with respect to that of each pair.
void cosine_losses(const double* sums, const double* alike, std::ptrdiff_t pairs, double margin, double* losses);
void cosine_factors(const double* sums, const double* alike, const double* slopes, std::ptrdiff_t pairs, int own,
                    double* factors);

// Losses of triplets by the lengths of anchor - positive and anchor - negative; and two factors of each, of which
// mix_pairs makes the gradient with respect to the anchor of both differences.
void triplet_losses(const double* near, const double* far, std::ptrdiff_t triplets, double margin, double* losses);
void triplet_factors(const double* near, const double* far, const double* slopes, std::ptrdiff_t triplets,
                     double* factors);

// ---- of elements ----

struct ElementwiseLossOp {
  const char* name;
  Cost cost;
};

constexpr ElementwiseLossOp kElementwiseLosses[] = {
#define NNFAST_ROW(formula, name) {name, listed_cost(name)},
    NNFAST_ELEMENTWISE_LOSSES(NNFAST_ROW)
#undef NNFAST_ROW
};

struct ElementLossArguments {
  Dtype dtype;
  const StridedArrays<3>& predicted_targets_slopes;
  double parameters[kLossParameters];
  LossWeights sample_weights, positive_weights;
  double weights_sum;  // of sample_weights.values
  LossResult result;
};

// Returns the loss, unless the reduction is none.
double elementwise_loss(ElementwiseLoss index, const ElementLossArguments& elements);

// The position in C order of the first element below 0 or above 1, or x.size().
std::ptrdiff_t first_outside_unit_interval(Dtype dtype, const StridedArrays<1>& x);

}  // namespace nnfast
