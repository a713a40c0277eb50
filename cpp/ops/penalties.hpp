// Penalties on lists of arrays.
#pragma once

#include <vector>

#include "kernels/penalties.hpp"
#include "runtime/strided.hpp"

namespace nnfast {

// Weights and the gradients to which those of the penalty are added, or null.
struct PenalizedArray {
  Dtype dtype;
  StridedArrays<2> weights_gradients;
};

// l1 sum |w| + l2/2 sum w^2 over all arrays.
double elastic_net(const Penalty& penalty, const std::vector<PenalizedArray>& arrays);

}  // namespace nnfast
