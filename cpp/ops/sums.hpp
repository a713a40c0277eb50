// Sums of columns, and float16 as float32.
#pragma once

#include "kernels/per_dtype.hpp"
#include "ops/row_arrays.hpp"

namespace nnfast {

// Adds the columns of x to x.n doubles.
void column_sums(Dtype dtype, const RowArrays<1>& x, double* sums);

// Contiguous, in C order. For functions that compute in float32; NumPy's cast takes up to twenty times as long.
void widen(const StridedArrays<1>& float16, float* to);

}  // namespace nnfast
