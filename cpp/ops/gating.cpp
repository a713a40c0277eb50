#include "ops/gating.hpp"

#include "ops/raised.hpp"
#include "ops/short_rows.hpp"
#include "runtime/kernel_table.hpp"

namespace nnfast {

unsigned gate(Gate index, Dtype dtype, const RowArrays<3>& y_a_b) {
  const auto i = static_cast<int>(index);
  const ElementwiseFn fn = kernels().gating->forward[i][dtype];
  SharedRaised raised;
  for_chunks(y_a_b, 1, kAll, dtype, scaled(kGates[i].cost.ns, dtype),
             [&](char* const* at, const std::ptrdiff_t* strides, std::ptrdiff_t count) {
               char* arrays[3] = {at[1], at[2], at[0]};
               const std::ptrdiff_t steps[3] = {strides[1], strides[2], strides[0]};
               raised.add(fn(arrays, steps, count, false));
             });
  return raised.all();
}

unsigned gate_backward(Gate index, Dtype dtype, const RowArrays<5>& da_db_dy_a_b) {
  const auto i = static_cast<int>(index);
  const ElementwiseFn a_fn = kernels().gating->forward[i][dtype], gate_fn = kernels().gating->gate_backward[i][dtype];
  SharedRaised raised;
  const double ns = scaled(kGates[i].cost.ns + kGates[i].gate_backward_cost.ns, dtype);
  for_chunks(da_db_dy_a_b, 2, kChunk, dtype, ns,
             [&](char* const* at, const std::ptrdiff_t* strides, std::ptrdiff_t count) {
               char *a_arrays[3] = {at[2], at[4], at[0]}, *gate_arrays[4] = {at[2], at[3], at[4], at[1]};
               const std::ptrdiff_t a_steps[3] = {strides[2], strides[4], strides[0]};
               const std::ptrdiff_t gate_steps[4] = {strides[2], strides[3], strides[4], strides[1]};
               raised.add(a_fn(a_arrays, a_steps, count, false) | gate_fn(gate_arrays, gate_steps, count, false));
             });
  return raised.all();
}

}  // namespace nnfast
