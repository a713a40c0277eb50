// The family of penalties on parameters.
#pragma once

#include <cstddef>

#include "kernels/per_dtype.hpp"

namespace nnfast {

struct Penalty {
  double l1, l2;
};

// Elements of a block of the sums.
constexpr std::ptrdiff_t kPenaltyBlock = 4096;

// For n weights at byte strides: sums of |w| and of w^2 go to `sums`; the gradients of the penalty are added to
// `gradients`, unless null.
using PenaltyFn = void (*)(const Penalty& penalty, const char* weights, std::ptrdiff_t weight_stride, char* gradients,
                           std::ptrdiff_t gradient_stride, std::ptrdiff_t n, double (&sums)[2]);

struct PenaltyKernels : PerDtype<PenaltyFn> {};

}  // namespace nnfast
