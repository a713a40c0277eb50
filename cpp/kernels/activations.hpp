// The family of activations: which there are, and how they are called.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/elementwise.hpp"

// X(struct of the formula in activations.cpp, name of the ufunc, parameters after x, ns an element on one core)
// A name with an underscore has a Python function of the same name without it in front, which supplies defaults.
#define NNFAST_ACTIVATIONS(X)          \
  X(Relu, "relu", 0, 0.06)             \
  X(LeakyRelu, "_leaky_relu", 1, 0.06) \
  X(PRelu, "prelu", 1, 0.06)           \
  X(Elu, "_elu", 1, 0.5)               \
  X(Sigmoid, "sigmoid", 0, 0.5)        \
  X(Tanh, "tanh", 0, 0.5)

namespace nnfast {

enum class Activation : int {
#define NNFAST_ENUM(formula, name, params, cost) formula,
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
