// The family of activations: which there are, and how they are called.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/elementwise.hpp"

// X(struct of the formula in activations.cpp, name of the ufunc, parameters after x, ns an element on one core, the
// same of its gradient). A name with an underscore has a Python function over it, which supplies defaults. What a user
// is told about each, its bounds and its exact points stand in python/nnfast/_table.py.
#define NNFAST_ACTIVATIONS(X)                  \
  X(Relu, "relu", 0, 0.09, 0.14)               \
  X(Relu6, "relu6", 0, 0.09, 0.14)             \
  X(Hardtanh, "_hardtanh", 2, 0.09, 0.14)      \
  X(LeakyRelu, "_leaky_relu", 1, 0.09, 0.14)   \
  X(PRelu, "_prelu", 1, 0.09, 0.14)            \
  X(Hardsigmoid, "hardsigmoid", 0, 0.09, 0.14) \
  X(Hardswish, "hardswish", 0, 0.22, 0.14)     \
  X(Elu, "_elu", 1, 0.4, 0.1)                  \
  X(Celu, "_celu", 1, 0.4, 0.1)                \
  X(Selu, "selu", 0, 0.4, 0.1)                 \
  X(Sigmoid, "sigmoid", 0, 0.4, 0.1)           \
  X(Logsigmoid, "logsigmoid", 0, 0.7, 0.4)     \
  X(Softplus, "_softplus", 1, 0.7, 0.4)        \
  X(Tanh, "tanh", 0, 0.4, 0.1)                 \
  X(Tanhshrink, "tanhshrink", 0, 0.6, 0.4)     \
  X(Silu, "silu", 0, 0.4, 0.4)                 \
  X(Mish, "mish", 0, 0.7, 0.7)                 \
  X(Softsign, "softsign", 0, 0.25, 0.25)       \
  X(Gelu, "_gelu", 0, 0.8, 0.8)                \
  X(GeluTanh, "_gelu_tanh", 0, 0.7, 0.7)

namespace nnfast {

enum class Activation : int {
#define NNFAST_ENUM(formula, name, params, cost, backward_cost) formula,
  NNFAST_ACTIVATIONS(NNFAST_ENUM)
#undef NNFAST_ENUM
      Count
};

// One row of `groups * pieces` elements to `groups` maxima; `which` tells the piece that held each, the first of
// equals.
struct MaxoutRow {
  char* x;
  char* y;
  char* which;
  std::ptrdiff_t x_stride, y_stride, which_stride;
};
using MaxoutFn = void (*)(const MaxoutRow& row, std::ptrdiff_t groups, std::ptrdiff_t pieces);

struct Maxout {
  MaxoutFn f32, f64;
};

struct ActivationKernels {
  Elementwise forward[static_cast<int>(Activation::Count)];   // x, parameters -> y
  Elementwise backward[static_cast<int>(Activation::Count)];  // dy, saved, parameters -> dx
  Elementwise prelu_weight_grad;                              // dy, x -> the element's share of the slope's gradient
  Maxout maxout;
  Maxout maxout_backward;  // reads y (as dy) and which, writes x (as dx)
};

}  // namespace nnfast
