// Rows of a table by their indices, and the gradient with respect to the table.
#pragma once

#include <cstdint>

#include "kernels/embedding.hpp"
#include "ops/row_arrays.hpp"

namespace nnfast {

// Row k of y is row indices[k] of the table.
void embedding(Dtype dtype, const Matrix& table, const std::int64_t* indices, const RowArrays<1>& y);

// Row k of y is row indices[k] of x, whatever its elements are: `bytes` contiguous bytes each, in x every `stride`.
void take_rows(const char* x, std::ptrdiff_t stride, std::ptrdiff_t bytes, const std::int64_t* indices,
               std::ptrdiff_t count, char* y);

// Row i of dtable becomes the sum of the rows of dy whose index is i, 0 where there is none. `rows`: of dtable.
// is_zero: dtable is 0, and memory that no index names is not touched. Returns what was raised.
unsigned embedding_backward(Dtype dtype, const RowArrays<1>& dy, const std::int64_t* indices, const Matrix& dtable,
                            std::ptrdiff_t rows, bool is_zero);

}  // namespace nnfast
