#include "ops/factored.hpp"

#include <cmath>
#include <vector>

#include "kernels/optim.hpp"
#include "ops/blocked_sums.hpp"
#include "ops/costs.hpp"
#include "runtime/kernel_table.hpp"

namespace nnfast {
namespace {

// average += share (mean - average) for means of sums of so many.
template <class T>
void average(T* averages, const double* sums, std::ptrdiff_t n, std::ptrdiff_t of, double share) {
  for (std::ptrdiff_t i = 0; i < n; ++i)
    averages[i] += static_cast<T>(share) * (static_cast<T>(sums[i] / static_cast<double>(of)) - averages[i]);
}

// What each row of the squares is scaled by: its average over the mean of all, or eps where that is less.
template <class T>
std::vector<T> row_factors(const T* averages, std::ptrdiff_t rows, double eps) {
  double sum = 0;
  for (std::ptrdiff_t i = 0; i < rows; ++i) sum += averages[i];
  const double mean = sum / static_cast<double>(rows);
  const T divisor = static_cast<T>(mean < eps ? eps : mean);  // NaN stays
  std::vector<T> factors(averages, averages + rows);
  for (T& factor : factors) factor /= divisor;
  return factors;
}

// Returns the sum of the squares of the quotients of one matrix.
template <class T>
double divide(const FactoredMatrices& of, std::ptrdiff_t matrix, double share, double eps) {
  constexpr Cost kSums = cost_of("step_sums"), kQuotients = cost_of("adagrad");
  const std::ptrdiff_t rows = of.rows, columns = of.columns, block = rows_in_block(rows, columns);
  char* const g = of.g + matrix * rows * columns * static_cast<std::ptrdiff_t>(sizeof(T));
  T *const row_var = reinterpret_cast<T*>(of.row_var) + matrix * rows, *const col_var =
                                                                           reinterpret_cast<T*>(of.col_var) +
                                                                           matrix * columns;
  const auto row = [&](std::ptrdiff_t i) { return g + i * columns * static_cast<std::ptrdiff_t>(sizeof(T)); };
  const OptimKernels& kernel = *kernels().optim;

  std::vector<double> of_rows(static_cast<std::size_t>(rows)), of_columns(static_cast<std::size_t>(columns));
  BlockedSums squares(rows, block, columns);
  squares.run(kSums.ns * static_cast<double>(columns), [&](std::ptrdiff_t begin, std::ptrdiff_t end, double* sums) {
    kernel.square_sums[of.dtype](row(begin), end - begin, columns, of_rows.data() + begin, sums);
  });
  squares.add_to(of_columns.data());
  average(row_var, of_rows.data(), rows, columns, share);
  average(col_var, of_columns.data(), columns, rows, share);

  const std::vector<T> factors = row_factors(row_var, rows, eps);
  BlockedSums quotients(rows, block, 1);
  quotients.run(kQuotients.ns * static_cast<double>(columns),
                [&](std::ptrdiff_t begin, std::ptrdiff_t end, double* sum) {
                  *sum += kernel.factored_quotients[of.dtype](row(begin), end - begin, columns,
                                                              reinterpret_cast<const char*>(factors.data() + begin),
                                                              reinterpret_cast<const char*>(col_var), eps * eps);
                });
  double total = 0;
  quotients.add_to(&total);
  return total;
}

}  // namespace

double factored(const FactoredMatrices& of, double share, double eps) {
  double sum = 0;
  for (std::ptrdiff_t k = 0; k < of.matrices; ++k)
    sum += of.dtype == Dtype::f64 ? divide<double>(of, k, share, eps) : divide<float>(of, k, share, eps);
  return std::sqrt(sum);
}

}  // namespace nnfast
