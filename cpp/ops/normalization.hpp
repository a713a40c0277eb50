// The passes of normalisation over sets of values, and how threads share them.
#pragma once

#include <vector>

#include "kernels/normalization.hpp"

namespace nnfast {

// Whether neighbouring sets lie closer together in memory than the members of one, and so belong into the lanes.
bool sets_lie_closer(const Normalization& norm);

// Moments of every set: mean and biased variance.
void set_moments(Dtype dtype, Normalization norm, const SetStatistics& statistics);
// Moments, 1 / sqrt(variance + eps), and data[0] normalised into data[1].
void normalise_by_own(Dtype dtype, Normalization norm, const SetStatistics& statistics);
// data[0] normalised into data[1] by given mean and variance; inv_std is written.
void normalise_by_given(Dtype dtype, Normalization norm, const SetStatistics& statistics);

// One value a parameter.
struct ParameterGradients {
  std::vector<double> dgamma, dbeta;
};

// dx into data[2]; `own`: whether the statistics were those of the sets, and so depend on x.
ParameterGradients normalise_backward(Dtype dtype, Normalization norm, bool own);

// Of a part of a batch whose statistics are those of the whole: what the part adds to the gradients with respect to the
// parameters, and, from those of the whole batch and its values a channel, dx into data[2].
ParameterGradients parameter_gradients(Dtype dtype, const Normalization& norm);
void input_gradient(Dtype dtype, Normalization norm, const double* dgamma, const double* dbeta, std::ptrdiff_t count);

// Scales data[0], in place: sets whose Euclidean norm is above `limit` down to it.
void limit_norms(Dtype dtype, Normalization norm, double limit);

}  // namespace nnfast
