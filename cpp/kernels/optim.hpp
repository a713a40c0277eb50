// The family of optimizers: one update rule each, over one run of elements of every array it keeps.
#pragma once

#include <cstddef>

// X(rule in optim.cpp, name, arrays of state, ns an element on one core)
#define NNFAST_OPTIM_RULES(X)                                     \
  X(Sgd, "sgd", 0, 0.1)                                           \
  X(SgdMomentum, "sgd_momentum", 1, 0.15)                         \
  X(Adagrad, "adagrad", 1, 0.3)                                   \
  X(Adadelta, "adadelta", 2, 0.5)                                 \
  X(RmsProp, "rmsprop", 1, 0.3)                                   \
  X(RmsPropMomentum, "rmsprop_momentum", 2, 0.35)                 \
  X(RmsPropCentered, "rmsprop_centered", 2, 0.35)                 \
  X(RmsPropCenteredMomentum, "rmsprop_centered_momentum", 3, 0.4) \
  X(Adam, "adam", 2, 0.35)                                        \
  X(AmsGrad, "amsgrad", 3, 0.4)                                   \
  X(Adamax, "adamax", 2, 0.3)                                     \
  X(Nadam, "nadam", 2, 0.35)                                      \
  X(Radam, "radam", 2, 0.35)                                      \
  X(Lion, "lion", 1, 0.15)

namespace nnfast {

enum class OptimRule : int {
#define NNFAST_ENUM(rule, name, states, cost) rule,
  NNFAST_OPTIM_RULES(NNFAST_ENUM)
#undef NNFAST_ENUM
      Count
};

// The arrays of one parameter: those a rule or a call has no use for are null. Of float16 parameters and gradients
// `master` is the parameter, in float32 as is the state, and the parameter is its rounding.
enum OptimArray : int { kParam, kGrad, kState0, kState1, kState2, kEma, kMaster, kOptimArrays };

// The numbers of a step that all rules share; a rule's own follow, in the order of its constructor in optim.cpp.
enum OptimNumber : int {
  kSign,         // -1 to climb
  kClip,         // gradients are cut to [-clip, clip]
  kWeightDecay,  // times the parameter is added to the gradient
  kShrink,       // the parameter is multiplied by it first
  kEmaDecay,     // of the running average of the parameter
  kRuleNumbers,
  kOptimNumbers = 16
};

// Sums over a run of elements that are added to, each with what lies in a double: of squares of the gradient as it was
// given, of the change of the parameter, and of the parameter; and how many gradients are NaN and infinite.
enum OptimSum : int { kGradSquares, kUpdateSquares, kParamSquares, kNaNs, kInfinities, kOptimSums };

// Elements whose sums are taken on their own.
constexpr std::ptrdiff_t kOptimBlock = 4096;

// n elements at byte strides. grad_scale multiplies the gradients. The plain form knows neither clipping nor `sums` (or
// null), nor the average.
using OptimFn = void (*)(const double* numbers, double grad_scale, char* const* arrays, const std::ptrdiff_t* strides,
                         std::ptrdiff_t n, double* sums);

struct OptimFns {
  OptimFn f16, f32, f64;
};

struct OptimKernels {
  OptimFns plain[static_cast<int>(OptimRule::Count)], full[static_cast<int>(OptimRule::Count)];
  OptimFns gradients;  // only the sums that are of gradients; arrays: as above
};

}  // namespace nnfast
