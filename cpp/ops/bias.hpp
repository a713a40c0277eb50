// Activations of rows x + bias.
#pragma once

#include "kernels/bias.hpp"
#include "ops/costs.hpp"
#include "ops/row_arrays.hpp"

namespace nnfast {

struct BiasedOp {
  const char* name;
  bool takes_y;  // its gradient is computed from y instead of x
  Cost cost, backward_cost;
};

constexpr BiasedOp kBiased[] = {
#define NNFAST_ROW(formula, name, takes_y) {"_" name, takes_y, listed_cost(name), listed_cost(name "_backward")},
    NNFAST_BIASED(NNFAST_ROW)
#undef NNFAST_ROW
};

// bias: contiguous, of the rows' dtype. Returns what was raised.
unsigned bias_forward(Biased index, Dtype dtype, const RowArrays<2>& x_y, const char* bias);
// bias: null where the gradient takes y. The columns of dx are added to n doubles.
unsigned bias_backward(Biased index, Dtype dtype, const RowArrays<3>& dy_saved_dx, const char* bias, double* dbias);

}  // namespace nnfast
