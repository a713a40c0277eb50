#include "ops/sums.hpp"

#include "kernels/sums.hpp"
#include "ops/blocked_sums.hpp"
#include "ops/costs.hpp"
#include "runtime/kernel_table.hpp"

namespace nnfast {

void BlockedSums::add_block(std::ptrdiff_t b, double* to) const {
  const double* sums = sums_.data() + b * width_;
  constexpr std::ptrdiff_t kFew = 16;  // cost less than a call of the kernel
  if (width_ >= kFew)
    return kernels().sums->add_rows.f64(reinterpret_cast<const char*>(sums), 0, sizeof(double), 1, width_, to);
  for (std::ptrdiff_t i = 0; i < width_; ++i) to[i] += sums[i];
}

void column_sums(Dtype dtype, const RowArrays<1>& x, double* sums) {
  constexpr Cost kCost = cost_of("column_sums");
  const AddRowsFn add_rows = kernels().sums->add_rows[dtype];
  std::ptrdiff_t row_stride[1];
  x.outer.inner_strides(row_stride);
  BlockedSums blocks(x.rows(), rows_in_block(x.rows(), x.n), x.n);
  blocks.run(kCost.ns * static_cast<double>(x.n), [&](std::ptrdiff_t begin, std::ptrdiff_t end, double* to) {
    x.outer.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t rows, std::ptrdiff_t) {
      add_rows(at[0], row_stride[0], x.strides[0], rows, x.n, to);
    });
  });
  blocks.add_to(sums);
}

void widen(const StridedArrays<1>& float16, float* to) {
  std::ptrdiff_t stride[1];
  float16.inner_strides(stride);
  float16.for_runs(0, float16.size(), [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
    kernels().sums->widen(at[0], stride[0], to + position, count);
  });
}

}  // namespace nnfast
