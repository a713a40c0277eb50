// Gated linear units of the halves of an array.
#pragma once

#include "kernels/gating.hpp"
#include "ops/costs.hpp"
#include "ops/row_arrays.hpp"

namespace nnfast {

struct GateOp {
  const char *name, *gate_backward_name;
  Cost cost, gate_backward_cost;
};

constexpr GateOp kGates[] = {
#define NNFAST_ROW(formula, name) \
  {"_" name, "_" name "_gate_backward", listed_cost(name), listed_cost(name "_gate_backward")},
    NNFAST_GATES(NNFAST_ROW)
#undef NNFAST_ROW
};

// y = a act(b), of the halves a and b of x. Returns what was raised.
unsigned gate(Gate index, Dtype dtype, const RowArrays<3>& y_a_b);
// The gradients with respect to both.
unsigned gate_backward(Gate index, Dtype dtype, const RowArrays<5>& da_db_dy_a_b);

}  // namespace nnfast
