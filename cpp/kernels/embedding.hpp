// The family of embeddings: sums of rows that indices choose.
#pragma once

#include <cstddef>

#include "kernels/matrix.hpp"
#include "kernels/per_dtype.hpp"

namespace nnfast {

// A row, and the index of the one that it is added to.
struct IndexedRow {
  std::ptrdiff_t index;
  const char* row;
};

// Sum k is that of the rows [begins[k], begins[k + 1]), which have one index; it goes to that row of `to`. Of each row
// the n elements from `offset` on, in bytes, are summed.
struct RowSums {
  const IndexedRow* rows;
  const std::ptrdiff_t* begins;
  std::ptrdiff_t offset, stride, n;
  Matrix to;
};

// Writes the sums [first, last): each in the order of its rows, taken in double and rounded, float16 by way of float32.
// Returns what was raised (a set of Raised): overflow.
using SumRowsFn = unsigned (*)(const RowSums& sums, std::ptrdiff_t first, std::ptrdiff_t last);

// Writes zeros by non-temporal stores.
using ClearFn = void (*)(char* to, std::ptrdiff_t bytes);

struct EmbeddingKernels {
  PerDtype<SumRowsFn> sum_rows;
  ClearFn clear;
};

}  // namespace nnfast
