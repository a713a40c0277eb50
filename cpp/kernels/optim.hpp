// The family of optimizers: one update rule each, over one run of elements of every array it keeps.
#pragma once

#include <cstddef>

namespace nnfast {

// The numbers of a step, as the rules in optim.cpp use them. Bias corrections are made by the caller, in double.
struct SgdStep {
  double lr, momentum, dampening, weight_decay;
  bool nesterov, maximize, first;
};

struct AdamStep {
  double step_size;  // lr / (1 - beta1^t)
  double beta1, beta2, eps;
  double inv_sqrt_correction;  // 1 / sqrt(1 - beta2^t)
  double weight_decay;
  bool maximize;
};

// arrays: parameter, gradient, then the rule's state; n elements at byte strides.
template <class Step>
using OptimFn = void (*)(const Step& step, char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n);

struct OptimKernels {
  OptimFn<SgdStep> sgd_f32, sgd_f64;                    // no state
  OptimFn<SgdStep> sgd_momentum_f32, sgd_momentum_f64;  // momentum_buffer
  OptimFn<AdamStep> adam_f32, adam_f64;                 // exp_avg, exp_avg_sq
};

}  // namespace nnfast
