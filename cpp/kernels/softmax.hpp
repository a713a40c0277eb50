// The family of softmax over the rows of a matrix.
#pragma once

#include "kernels/matrix.hpp"

namespace nnfast {

// Where a row has one value, as that of logsumexp, its matrix has no stride.
// They return what was raised (a set of Raised): overflow, where a float16 is out of range.
using SoftmaxFn = unsigned (*)(Matrix x, Matrix y, std::ptrdiff_t rows, std::ptrdiff_t n);
using SoftmaxBackwardFn = unsigned (*)(Matrix dy, Matrix saved, Matrix dx, std::ptrdiff_t rows, std::ptrdiff_t n);

// f16 is for rows too long to be widened in memory: it computes the exponentials twice, as f32 of the widened row
// would.
struct SoftmaxForward {
  SoftmaxFn f16, f32, f64;
};
struct SoftmaxBackward {
  SoftmaxBackwardFn f16, f32, f64;
};

struct SoftmaxKernels {
  SoftmaxForward softmax, log_softmax, logsumexp;
  SoftmaxBackward softmax_backward, log_softmax_backward;  // by y
  SoftmaxBackward logsumexp_backward;                      // by x
};

}  // namespace nnfast
