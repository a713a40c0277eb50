// The family of optimizers: one update rule each, over one run of elements of every array of its state.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/packing.hpp"
#include "kernels/per_dtype.hpp"

// X(rule in optim.cpp, name, state arrays, its hyperparameters...): corrections and products that depend on the step
// alone are hyperparameters too, which the caller computes in double. Costs are in ops/costs.hpp.
#define NNFAST_OPTIM_RULES(X)                                                                                        \
  X(Sgd, "sgd", 0, "lr")                                                                                             \
  X(SgdMomentum, "sgd_momentum", 1, "lr", "momentum", "gradient_gain", "nesterov_gain", "nesterov")                  \
  X(Adagrad, "adagrad", 1, "lr", "eps", "eps_inside")                                                                \
  X(Adadelta, "adadelta", 2, "lr", "eps", "decay", "gain")                                                           \
  X(RmsProp, "rmsprop", 1, "lr", "eps", "eps_inside", "decay", "gain")                                               \
  X(RmsPropMomentum, "rmsprop_momentum", 2, "lr", "eps", "eps_inside", "decay", "gain", "momentum", "momentum_gain", \
    "nesterov")                                                                                                      \
  X(RmsPropCentered, "rmsprop_centered", 2, "lr", "eps", "eps_inside", "decay", "gain", "correction")                \
  X(RmsPropCenteredMomentum, "rmsprop_centered_momentum", 3, "lr", "eps", "eps_inside", "decay", "gain", "momentum", \
    "momentum_gain", "nesterov", "correction")                                                                       \
  X(Adam, "adam", 2, "lr", "eps", "eps_root", "correction", "decay1", "gain1", "decay2", "gain2")                    \
  X(AmsGrad, "amsgrad", 3, "lr", "eps", "eps_root", "correction", "decay1", "gain1", "decay2", "gain2",              \
    "max_correction")                                                                                                \
  X(Adamax, "adamax", 2, "lr", "eps", "eps_inside", "decay1", "gain1", "decay2")                                     \
  X(Nadam, "nadam", 2, "gradient_lr", "average_lr", "eps", "eps_root", "correction", "decay1", "gain1", "decay2",    \
    "gain2")                                                                                                         \
  X(Radam, "radam", 2, "lr", "eps", "eps_root", "correction", "decay1", "gain1", "decay2", "gain2", "rectified")     \
  X(Lion, "lion", 1, "lr", "step_decay", "step_gain", "decay", "gain")                                               \
  NNFAST_RARE_OPTIM_RULES(X)

// Rules that are seldom used have one short loop each, where the others have unrolled ones (optim_rare.hpp).
#define NNFAST_RARE_OPTIM_RULES(X)                                                                                     \
  X(AdaBelief, "adabelief", 2, "lr", "eps", "eps_root", "correction", "decay1", "gain1", "decay2", "gain2")            \
  X(Yogi, "yogi", 2, "lr", "eps", "correction", "decay1", "gain1", "gain2")                                            \
  X(Adan, "adan", 4, "lr", "difference_lr", "eps", "eps_root", "correction", "decay1", "gain1", "decay2", "gain2",     \
    "decay3", "gain3", "difference")                                                                                   \
  X(Rprop, "rprop", 2, "etaminus", "etaplus", "step_size_min", "step_size_max")                                        \
  X(Asgd, "asgd", 1, "eta", "decay", "mu")                                                                             \
  X(Ftrl, "ftrl", 2, "inverse_lr", "l1", "quadratic", "shrinkage")                                                     \
  X(Lamb, "lamb", 2, "trust", "trust_coefficient", "trust_eps", "lr", "scale", "decay", "eps", "correction", "decay1", \
    "gain1", "decay2", "gain2")                                                                                        \
  X(Lars, "lars", 1, "trust", "trust_coefficient", "trust_eps", "lr", "momentum", "nesterov")                          \
  X(ScheduleFreeSgd, "schedule_free_sgd", 1, "lr", "step_lr", "weight")                                                \
  X(ScheduleFreeAdam, "schedule_free_adam", 2, "lr", "step_lr", "weight", "eps", "correction", "decay2", "gain2",      \
    "decay")

namespace nnfast {

enum class OptimRule : int {
#define NNFAST_ENUM(rule, name, states, ...) rule,
  NNFAST_OPTIM_RULES(NNFAST_ENUM)
#undef NNFAST_ENUM
      Count
};

// The arrays of one parameter: those that a rule or a call does not use are null. For float16 parameters and gradients
// `master` is the parameter in float32, as is the state, and the parameter is its rounding. `accumulated`, of the
// state's dtype, is added to the gradient; of float16 there may be no gradient beside it.
enum OptimArray : int { kParam, kGrad, kState0, kState1, kState2, kState3, kEma, kMaster, kAccumulated, kOptimArrays };

// The hyperparameters that all rules share come first; those of the rule follow.
enum SharedHyperparameter : int {
  kSign,         // -1 to maximize
  kClip,         // gradients are clipped to [-clip, clip]
  kWeightDecay,  // times the parameter is added to the gradient
  kShrink,       // the parameter is multiplied by it first
  kEmaDecay,     // of the running average of the parameter
  kSharedHyperparameters
};
constexpr int kMaxRuleHyperparameters = 12, kMaxHyperparameters = kSharedHyperparameters + kMaxRuleHyperparameters;

struct OptimRuleInfo {
  const char* name;
  int states;
  const char* hyperparameters[kMaxRuleHyperparameters];  // null after the last
};
constexpr const char* kSharedHyperparameterNames[] = {"sign", "clip_value", "weight_decay", "shrink", "ema_decay"};
constexpr OptimRuleInfo kOptimRules[] = {
#define NNFAST_ROW(rule, name, states, ...) {name, states, {__VA_ARGS__}},
    NNFAST_OPTIM_RULES(NNFAST_ROW)
#undef NNFAST_ROW
};

constexpr bool rare(OptimRule rule) {
  switch (rule) {
#define NNFAST_CASE(rule, ...) case OptimRule::rule:
    NNFAST_RARE_OPTIM_RULES(NNFAST_CASE)
#undef NNFAST_CASE
    return true;
    default:
      return false;
  }
}

constexpr int kMostStates = kEma - kState0;

// Whether the states of a rule may be packed, and how in 8 bits.
struct PackableStates {
  bool any;
  Packing codes[kMostStates];
};
constexpr PackableStates packable_states(OptimRule rule) {
  using enum Packing;
  switch (rule) {
    case OptimRule::SgdMomentum:
      return {true, {momentum8}};
    case OptimRule::Lion:
      return {true, {average8}};
    case OptimRule::RmsProp:
      return {true, {squares8}};
    case OptimRule::RmsPropMomentum:
      return {true, {squares8, momentum8}};
    case OptimRule::Adam:
      return {true, {average8, squares8}};
    case OptimRule::AmsGrad:
      return {true, {average8, squares8, squares8}};
    default:
      return {false, {}};
  }
}

// Layerwise rules scale the step of each parameter by trust = trust_coefficient |p| / (|direction| + trust_eps), or 1
// where a norm is 0, which takes a pass over the arrays of its own. The caller's trust is not looked at.
enum LayerwiseHyperparameter : int { kTrust = kSharedHyperparameters, kTrustCoefficient, kTrustEps };
constexpr bool layerwise(OptimRule rule) { return rule == OptimRule::Lamb || rule == OptimRule::Lars; }

// Elements that a call for the norms of a layerwise rule takes at most, so that sums do not depend on the layout.
constexpr std::ptrdiff_t kNormsBlock = 1024;

// Sums over a run of elements, in double: squares of the gradient as it was given, of the change of the parameter, and
// of the parameter; and how many gradients are NaN and infinite.
enum OptimSum : int { kGradSquares, kUpdateSquares, kParamSquares, kNaNs, kInfinities, kOptimSums };

// Elements of a block of the sums.
constexpr std::ptrdiff_t kOptimBlock = 4096;

// n elements at byte strides. grad_scale multiplies the gradients. Adds to `sums`, or null. The plain form has no sums
// and no average.
using OptimFn = void (*)(const double* hyperparameters, double grad_scale, char* const* arrays,
                         const std::ptrdiff_t* strides, std::ptrdiff_t n, double* sums);

// Calls a kernel with the sums of `accumulated` and the gradients, some elements at a time, for gradients.
using WithAccumulatedFn = void (*)(OptimFn kernel, const double* hyperparameters, double grad_scale,
                                   char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n, double* sums);

// The plain step of n elements, at most a chunk and a multiple of packed_step(), of contiguous arrays of float32 whose
// states are packed, in blocks of finite numbers if in 8 bits: other blocks are for the kernels of packing.hpp. Rounds
// by the words and keys of packing.hpp.
using PackedOptimFn = void (*)(const double* hyperparameters, double grad_scale, char* const* arrays, std::ptrdiff_t n,
                               const PackingKernels& packing, const std::uint32_t* words, const RoundingKeys& keys);
constexpr std::ptrdiff_t packed_step(bool bfloat16) { return bfloat16 ? 32 : kPackedBlock; }

// Of contiguous rows: writes the sum of the squares of each, and adds those of the columns.
using SquareSumsFn = void (*)(const char* matrix, std::ptrdiff_t rows, std::ptrdiff_t columns, double* of_rows,
                              double* of_columns);

// Divides each element by the root of the product of its row's factor and its column's, or of `least` where that is
// more. Returns the sum of the squares of the quotients.
using FactoredQuotientsFn = double (*)(char* matrix, std::ptrdiff_t rows, std::ptrdiff_t columns,
                                       const char* row_factors, const char* column_factors, double least);

struct OptimKernels {
  PerDtype<OptimFn> plain[static_cast<int>(OptimRule::Count)], full[static_cast<int>(OptimRule::Count)];
  PerDtype<OptimFn> norms[static_cast<int>(OptimRule::Count)];  // sums of layerwise rules: of p and of the direction
  PerDtype<OptimFn> gradients;                                  // only the sums of gradients
  PerDtype<WithAccumulatedFn> with_accumulated;
  PackedOptimFn bfloat16[static_cast<int>(OptimRule::Count)], blocks[static_cast<int>(OptimRule::Count)];  // or null
  PerDtype<SquareSumsFn> square_sums;                // none of float16
  PerDtype<FactoredQuotientsFn> factored_quotients;  // none of float16
};

}  // namespace nnfast
