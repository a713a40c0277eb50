#include "ops/bias.hpp"

#include "ops/blocked_sums.hpp"
#include "ops/raised.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {

unsigned bias_forward(Biased index, Dtype dtype, const RowArrays<2>& x_y, const char* bias) {
  const auto i = static_cast<int>(index);
  const ElementwiseFn fn = kernels().bias->forward[i][dtype];
  const Cost& cost = kBiased[i].cost;
  const std::ptrdiff_t size = size_of(dtype), elements = x_y.rows() * x_y.n;
  const std::ptrdiff_t strides[3] = {x_y.strides[0], size, x_y.strides[1]};
  const bool stream = streams(elements * size, cost);
  SharedRaised raised;
  parallel_for(elements, scaled(cost.ns, dtype), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    x_y.for_parts(begin, end, [&](char* const* at, std::ptrdiff_t column, std::ptrdiff_t count) {
      char* arrays[3] = {at[0], const_cast<char*>(bias) + column * size, at[1]};
      raised.add(fn(arrays, strides, count, stream));
    });
  });
  return raised.all();
}

unsigned bias_backward(Biased index, Dtype dtype, const RowArrays<3>& rows, const char* bias, double* dbias) {
  const auto i = static_cast<int>(index);
  const BiasBackwardFn fn = kernels().bias->backward[i][dtype];
  std::ptrdiff_t steps[3];
  rows.outer.inner_strides(steps);
  const bool in_place = rows.outer.data[2] == rows.outer.data[0] || rows.outer.data[2] == rows.outer.data[1];
  const bool stream = !in_place && streams(rows.rows() * rows.n * size_of(dtype), kBiased[i].backward_cost);
  SharedRaised raised;
  BlockedSums blocks(rows.rows(), rows_in_block(rows.rows(), rows.n), rows.n);
  const double ns = scaled(kBiased[i].backward_cost.ns, dtype) * static_cast<double>(rows.n);
  blocks.run(ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end, double* sums) {
    rows.outer.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
      raised.add(fn({at[0], at[1], bias, at[2], steps[0], rows.strides[0], steps[1], rows.strides[1], steps[2],
                     rows.strides[2], sums, stream},
                    count, rows.n));
    });
  });
  blocks.add_to(dbias);
  return raised.all();
}

}  // namespace nnfast
