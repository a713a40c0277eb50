// The passes of normalisation over sets of values, and how threads share them.
#pragma once

#include <vector>

#include "kernels/normalization.hpp"

namespace nnfast {

// Sums of dy and of dy (x - mean), one a set and segment: the gradients with respect to the parameters.
struct GradientSums {
  std::vector<double> dy, dy_centred;
};

// Moments of every set: mean and biased variance.
void set_moments(const SetKernels& kernels, Normalization norm, const SetStatistics& statistics);
// Moments, 1 / sqrt(variance + eps), and data[0] normalised into data[1].
void normalise_by_own(const SetKernels& kernels, Normalization norm, const SetStatistics& statistics);
// data[0] normalised into data[1] by given norm.mean and norm.inv_std.
void normalise_by_given(const SetKernels& kernels, const Normalization& norm);
// dx into data[2]; `own`: whether the statistics were those of the sets, which then have gradients too.
GradientSums normalise_backward(const SetKernels& kernels, Normalization norm, bool own);

}  // namespace nnfast
