// The family of penalties on parameters.
#pragma once

#include <cstddef>

namespace nnfast {

struct Penalty {
  double l1, l2;
};

// Elements whose sums are taken on their own: a sum of such sums does not depend on who took them.
constexpr std::ptrdiff_t kPenaltyBlock = 4096;

// For n weights at byte strides: sums of |w| and of w^2 go to `sums`; to gradients, unless null, the slopes are added.
using PenaltyFn = void (*)(const Penalty& penalty, const char* weights, std::ptrdiff_t weight_stride, char* gradients,
                           std::ptrdiff_t gradient_stride, std::ptrdiff_t n, double (&sums)[2]);

struct PenaltyKernels {
  PenaltyFn f32, f64;
};

}  // namespace nnfast
