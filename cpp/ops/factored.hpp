// Second moments of matrices in two factors, as Adafactor has them: one number for each row and one for each column.
#pragma once

#include <cstddef>

#include "kernels/per_dtype.hpp"

namespace nnfast {

// Contiguous, one matrix after the other; of float32 or float64.
struct FactoredMatrices {
  Dtype dtype;
  char *g, *row_var, *col_var;
  std::ptrdiff_t matrices, rows, columns;
};

// row_var and col_var become (1 - share) of what they are and the share of the means of g^2; g is divided by the root
// of their product over the mean of row_var, with eps the least mean, and eps^2 the least that has its root taken.
// Returns the norm of the quotients. Squares are summed in double.
double factored(const FactoredMatrices& of, double share, double eps);

}  // namespace nnfast
