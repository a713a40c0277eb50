// The family of softmax over the rows of a matrix.
#pragma once

#include "kernels/matrix.hpp"

namespace nnfast {

// Where a row has one value, as that of logsumexp, its matrix has no stride.
using SoftmaxFn = void (*)(Matrix x, Matrix y, std::ptrdiff_t rows, std::ptrdiff_t n);
using SoftmaxBackwardFn = void (*)(Matrix dy, Matrix saved, Matrix dx, std::ptrdiff_t rows, std::ptrdiff_t n);

struct SoftmaxForward {
  SoftmaxFn f32, f64;
};
struct SoftmaxBackward {
  SoftmaxBackwardFn f32, f64;
};

struct SoftmaxKernels {
  SoftmaxForward softmax, log_softmax, logsumexp;
  SoftmaxBackward softmax_backward, log_softmax_backward;  // by y
  SoftmaxBackward logsumexp_backward;                      // by x
};

}  // namespace nnfast
