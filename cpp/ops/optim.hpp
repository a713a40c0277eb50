// A step of an optimizer over a list of parameters.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "kernels/optim.hpp"
#include "ops/packing.hpp"
#include "runtime/strided.hpp"

namespace nnfast {

// The rule of a name of NNFAST_OPTIM_RULES, if it is one.
std::optional<OptimRule> optim_rule(std::string_view name);

// One parameter in a step: where its arrays lie, and what is done to them.
struct OptimParameter {
  char* data[kOptimArrays];
  std::ptrdiff_t begin, n;  // its first element's position in the whole list, and how many elements it has
  // Null where all arrays are contiguous; else with axes in the order of the parameter's memory, and in C order.
  const StridedArrays<kOptimArrays>*in_memory_order, *in_c_order;
  Dtype dtype;
  Packing packings[kMostStates];  // of its states: packed ones are contiguous, in C order
  std::uint64_t rounding_key;     // of the step and the parameter, for the states that are packed
  const std::uint32_t* words;     // made of it by optim_step
  const double* hyperparameters;
  double grad_scale;  // which clipping makes smaller
};

// What a norm of gradients is limited to, and how: of each parameter's or of all of them, as the paper has it, as
// PyTorch and as Keras do; the root mean square of each (block); or nothing that is done here (adaptive).
enum class ClipNorm : int { none, each, global, block, each_torch, global_torch, global_keras, adaptive };

struct OptimOptions {
  ClipNorm clip_norm;
  double max_norm;
  double grad_scale;  // multiplies the gradients before they are clipped
  bool skip_nonfinite, sums, ema;
};

// Of each parameter.
using OptimSumsList = std::vector<std::array<double, kOptimSums>>;

// Returns whether the step was made, and in `sums`, if options ask for them, norms in place of the sums of squares.
bool optim_step(OptimRule rule, std::vector<OptimParameter>& parameters, const OptimOptions& options,
                OptimSumsList& sums);

// Gradients for a later step: of `begun` each gradient is copied to the parameter's place, of `added` it is added to
// what is there. All arrays are contiguous.
void optim_accumulate(const std::vector<OptimParameter>& begun, std::vector<OptimParameter>& added);

}  // namespace nnfast
