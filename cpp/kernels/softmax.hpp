// The family of softmax over the rows of a matrix.
#pragma once

#include <cstddef>

namespace nnfast {

// A matrix in memory: byte strides between rows and within one.
struct Matrix {
  char* data;
  std::ptrdiff_t row_stride, stride;
};

using SoftmaxFn = void (*)(Matrix x, Matrix y, std::ptrdiff_t rows, std::ptrdiff_t n);
using SoftmaxBackwardFn = void (*)(Matrix dy, Matrix y, Matrix dx, std::ptrdiff_t rows, std::ptrdiff_t n);

struct SoftmaxKernels {
  SoftmaxFn f32, f64;
  SoftmaxBackwardFn backward_f32, backward_f64;
};

}  // namespace nnfast
