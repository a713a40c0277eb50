// The family of activations of x + bias, the step after a matrix product.
#pragma once

#include <cstddef>

#include "kernels/elementwise.hpp"

// X(formula in formulas.hpp, name, whether its gradient takes y instead of x)
#define NNFAST_BIASED(X)               \
  X(Relu, "bias_relu", true)           \
  X(Gelu, "bias_gelu", false)          \
  X(GeluTanh, "bias_gelu_tanh", false) \
  X(Silu, "bias_silu", false)          \
  X(Tanh, "bias_tanh", true)

namespace nnfast {

enum class Biased : int {
#define NNFAST_ENUM(formula, name, takes_y) formula,
  NNFAST_BIASED(NNFAST_ENUM)
#undef NNFAST_ENUM
      Count
};

// Rows of dy, of what was saved, and of dx: byte strides between rows and within them. `bias`, contiguous and of the
// rows' dtype, is added to what was saved, or null.
struct BiasBackward {
  const char *dy, *saved, *bias;
  char* dx;
  std::ptrdiff_t dy_row, dy_stride, saved_row, saved_stride, dx_row, dx_stride;
  double* sums;  // to each, a column of dx is added
  bool stream;   // dx by non-temporal stores
};
// `rows` rows of n elements.
using BiasBackwardFn = unsigned (*)(const BiasBackward& arrays, std::ptrdiff_t rows, std::ptrdiff_t n);

struct BiasKernels {
  Elementwise forward[static_cast<int>(Biased::Count)];  // x, bias -> act(x + bias)
  PerDtype<BiasBackwardFn> backward[static_cast<int>(Biased::Count)];
};

}  // namespace nnfast
