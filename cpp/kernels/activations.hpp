// The family of activations: which there are, and how they are called.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/elementwise.hpp"

// X(struct of the formula in formulas.hpp, name of the ufunc, parameters after x). A name with an underscore has a
// Python function over it, which supplies defaults. Documentation, bounds and exact points are in
// python/nnfast/_table.py, costs in ops/costs.hpp.
#define NNFAST_ACTIVATIONS(X)       \
  X(Relu, "relu", 0)                \
  X(Relu6, "relu6", 0)              \
  X(Hardtanh, "_hardtanh", 2)       \
  X(LeakyRelu, "_leaky_relu", 1)    \
  X(PRelu, "_prelu", 1)             \
  X(Threshold, "_threshold", 2)     \
  X(Hardshrink, "_hardshrink", 1)   \
  X(Softshrink, "_softshrink", 1)   \
  X(ReluSquared, "relu_squared", 0) \
  X(Hardsigmoid, "hardsigmoid", 0)  \
  X(Hardswish, "hardswish", 0)      \
  X(Elu, "_elu", 1)                 \
  X(Celu, "_celu", 1)               \
  X(Selu, "selu", 0)                \
  X(Sigmoid, "sigmoid", 0)          \
  X(Logsigmoid, "logsigmoid", 0)    \
  X(Softplus, "_softplus", 2)       \
  X(Tanh, "tanh", 0)                \
  X(Tanhshrink, "tanhshrink", 0)    \
  X(Silu, "silu", 0)                \
  X(Mish, "mish", 0)                \
  X(Softsign, "softsign", 0)        \
  X(Squareplus, "_squareplus", 1)   \
  X(Gelu, "_gelu", 0)               \
  X(GeluTanh, "_gelu_tanh", 0)

namespace nnfast {

enum class Activation : int {
#define NNFAST_ENUM(formula, name, params) formula,
  NNFAST_ACTIVATIONS(NNFAST_ENUM)
#undef NNFAST_ENUM
      Count
};

// Groups of `pieces` elements to a maximum each; `which` is the piece that it is, the first of equals. x_stride is that
// between the pieces of a group.
struct MaxoutRow {
  char* x;
  char* y;
  char* which;
  std::ptrdiff_t x_stride, y_stride, which_stride, group_stride;
};
using MaxoutFn = void (*)(const MaxoutRow& row, std::ptrdiff_t groups, std::ptrdiff_t pieces);

struct ActivationKernels {
  Elementwise forward[static_cast<int>(Activation::Count)];   // x, parameters -> y
  Elementwise backward[static_cast<int>(Activation::Count)];  // dy, saved, parameters -> dx
  Elementwise prelu_weight_grad;                              // dy, x -> what the element adds to dweight
  PerDtype<MaxoutFn> maxout;
  PerDtype<MaxoutFn> maxout_backward;  // reads y (as dy) and which, writes x (as dx)
};

}  // namespace nnfast
