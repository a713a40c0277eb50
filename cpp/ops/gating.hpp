// Gated linear units over arrays whose last axis holds both halves.
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

// Rows of y, of n elements, and of x, of 2n: the gates are the second half. Returns what was raised.
unsigned gate(Gate index, Dtype dtype, const RowArrays<2>& y_x);
// Rows of dy, of n elements, and of x and dx, of 2n.
unsigned gate_backward(Gate index, Dtype dtype, const RowArrays<3>& dy_x_dx);

}  // namespace nnfast
