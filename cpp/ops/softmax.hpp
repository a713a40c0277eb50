// Softmax, its logarithm and logsumexp over rows, and their gradients.
#pragma once

#include "kernels/softmax.hpp"
#include "ops/row_arrays.hpp"

namespace nnfast {

// Rows of n elements, as the kernel takes them. Returns what was raised.
unsigned softmax_rows(Softmax index, Dtype dtype, const Matrix (&arrays)[kSoftmaxArrays], std::ptrdiff_t rows,
                      std::ptrdiff_t n);

// Rows along any axis, in any order; an array of one element a row has stride 0.
unsigned softmax_rows(Softmax index, Dtype dtype, RowArrays<kSoftmaxArrays> rows);

// Masked softmax of `scale` times x: x, y and the mask, which may be null; or its gradient: dy, y and dx. queries:
// where it is causal, how many rows see the columns one after the other, the last of them all columns; else 0. Returns
// what was raised.
unsigned masked_softmax(Dtype dtype, const RowArrays<3>& x_y_mask, double scale, std::ptrdiff_t queries);
unsigned masked_softmax_backward(Dtype dtype, const RowArrays<3>& dy_y_dx, double scale);

// log |sum_j b_j e^x_j| and the sign of the sum, of each row in C order, of float32 or float64.
void signed_logsumexp(Dtype dtype, const RowArrays<2>& x_b, double* logs, double* signs);

}  // namespace nnfast
