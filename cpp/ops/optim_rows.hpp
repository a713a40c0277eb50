// A step of an optimizer by a gradient that only names some rows of a table, each of which is updated where it lies.
#pragma once

#include "ops/embedding.hpp"
#include "ops/optim.hpp"

namespace nnfast {

struct OptimTable {
  OptimParameter row;  // its elements are those of one row; its arrays are contiguous, and begin with row 0
  std::ptrdiff_t rows;
  RowArrays<1> values;          // of the gradient, in the dtype of the table
  const std::int64_t* indices;  // the row that each of them belongs to
};

// Shorter rows are better stepped together, of longer ones the sums do not fit a thread's stack.
constexpr std::ptrdiff_t kLeastRowBytes = 64, kMostRowBytes = 16384;

// Values of one row are summed in double, and rounded once. Returns what was raised by that.
unsigned optim_step_rows(OptimRule rule, const OptimTable& table);

}  // namespace nnfast
