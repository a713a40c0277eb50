// The family of activations of x + bias, the step after a matrix product.
#pragma once

#include <cstddef>

#include "kernels/elementwise.hpp"

// X(formula in formulas.hpp, name, whether its gradient is by y, ns an element on one core, the same of its gradient)
#define NNFAST_BIASED(X)                \
  X(Relu, "bias_relu", true, 0.12, 0.2) \
  X(Gelu, "bias_gelu", false, 1.2, 1.4) \
  X(Silu, "bias_silu", false, 0.6, 0.9) \
  X(Tanh, "bias_tanh", true, 0.5, 0.2)

namespace nnfast {

enum class Biased : int {
#define NNFAST_ENUM(formula, name, by_y, cost, backward_cost) formula,
  NNFAST_BIASED(NNFAST_ENUM)
#undef NNFAST_ENUM
      Count
};

// Rows of dy and of what is saved, and where dx goes: byte strides between rows and within them. `bias`, next to each
// other and of the rows' type, is added to what is saved, or null.
struct BiasBackward {
  const char *dy, *saved, *bias;
  char* dx;
  std::ptrdiff_t dy_row, dy_stride, saved_row, saved_stride, dx_row, dx_stride;
  double* sums;  // a column of dx is added to each
};
// `rows` rows of n elements.
using BiasBackwardFn = unsigned (*)(const BiasBackward& arrays, std::ptrdiff_t rows, std::ptrdiff_t n);

struct BiasGradient {
  BiasBackwardFn f16, f32, f64;
};

struct BiasKernels {
  Elementwise forward[static_cast<int>(Biased::Count)];  // x, bias -> act(x + bias)
  BiasGradient backward[static_cast<int>(Biased::Count)];
};

}  // namespace nnfast
