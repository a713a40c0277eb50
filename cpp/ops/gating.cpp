#include "ops/gating.hpp"

#include "ops/raised.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {

unsigned gate(Gate index, Dtype dtype, const RowArrays<2>& y_x) {
  const auto i = static_cast<int>(index);
  const ElementwiseFn fn = kernels().gating->forward[i][dtype];
  const Cost& cost = kGates[i].cost;
  const std::ptrdiff_t half = y_x.n * y_x.strides[1], elements = y_x.rows() * y_x.n;
  const std::ptrdiff_t strides[3] = {y_x.strides[1], y_x.strides[1], y_x.strides[0]};
  const bool stream = streams(elements * size_of(dtype), cost);
  SharedRaised raised;
  parallel_for(elements, cost.ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    y_x.for_parts(begin, end, [&](char* const* at, std::ptrdiff_t, std::ptrdiff_t count) {
      char* arrays[3] = {at[1], at[1] + half, at[0]};
      raised.add(fn(arrays, strides, count, stream));
    });
  });
  return raised.all();
}

unsigned gate_backward(Gate index, Dtype dtype, const RowArrays<3>& rows) {
  const auto i = static_cast<int>(index);
  const ElementwiseFn a_fn = kernels().gating->forward[i][dtype], gate_fn = kernels().gating->gate_backward[i][dtype];
  const std::ptrdiff_t half = rows.n * rows.strides[1], dx_half = rows.n * rows.strides[2];
  const std::ptrdiff_t gate_strides[4] = {rows.strides[0], rows.strides[1], rows.strides[1], rows.strides[2]};
  const std::ptrdiff_t a_strides[3] = {rows.strides[0], rows.strides[1], rows.strides[2]};
  constexpr std::ptrdiff_t kChunk = 1024;  // both halves of it stay in the first-level cache
  SharedRaised raised;
  const double ns = kGates[i].cost.ns + kGates[i].gate_backward_cost.ns;
  parallel_for(rows.rows() * rows.n, ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t chunk = begin; chunk < end; chunk += kChunk) {
      rows.for_parts(chunk, std::min(end, chunk + kChunk), [&](char* const* at, std::ptrdiff_t, std::ptrdiff_t n) {
        char* gate_arrays[4] = {at[0], at[1], at[1] + half, at[2] + dx_half};
        char* a_arrays[3] = {at[0], at[1] + half, at[2]};
        raised.add(a_fn(a_arrays, a_strides, n, false) | gate_fn(gate_arrays, gate_strides, n, false));
      });
    }
  });
  return raised.all();
}

}  // namespace nnfast
