// Softmax, its logarithm and logsumexp over rows, and their gradients.
#pragma once

#include "kernels/softmax.hpp"

namespace nnfast {

// Rows of n elements, as the kernel takes them. Returns what was raised.
unsigned softmax_rows(Softmax index, Dtype dtype, const Matrix (&arrays)[kSoftmaxArrays], std::ptrdiff_t rows,
                      std::ptrdiff_t n);

}  // namespace nnfast
