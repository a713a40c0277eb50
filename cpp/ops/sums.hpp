// Sums of columns.
#pragma once

#include "kernels/per_dtype.hpp"
#include "ops/row_arrays.hpp"

namespace nnfast {

// Adds the columns of x to x.n doubles.
void column_sums(Dtype dtype, const RowArrays<1>& x, double* sums);

}  // namespace nnfast
