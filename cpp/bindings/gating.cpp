#include "ops/gating.hpp"

#include <algorithm>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"
#include "bindings/ufuncs.hpp"

namespace nnfast {
namespace {

const Elementwise& pick_forward(const KernelTable& table, int index) { return table.gating->forward[index]; }
const Elementwise& pick_gate_backward(const KernelTable& table, int index) {
  return table.gating->gate_backward[index];
}

// Where the second half of an array along an axis begins.
char* second_half(const Array& array, int axis) { return array.data() + array.shape(axis) / 2 * array.stride(axis); }

// Arrays of the first one's shape, as rows of neighbours in memory; data has where each begins.
template <int Arrays>
RowArrays<Arrays> halves(const Array (&arrays)[Arrays], char* const (&data)[Arrays], const Array& like) {
  StridedArrays<Arrays> all;
  all.ndim = like.ndim();
  for (int d = 0; d < all.ndim; ++d) {
    all.shape[d] = like.shape(d);
    for (int a = 0; a < Arrays; ++a) all.strides[a][d] = arrays[a].stride(d);
  }
  std::copy_n(data, Arrays, all.data);
  all.sort_axes();
  all.coalesce();
  RowArrays<Arrays> rows{};
  rows.n = all.ndim > 0 ? all.shape[all.ndim - 1] : 1;
  all.inner_strides(rows.strides);
  rows.outer = all;
  rows.outer.ndim = std::max(all.ndim - 1, 0);
  return rows;
}

// x: twice as long along the axis as y, the gates last.
void gate_halves(int index, py::handle x_in, py::handle y_in, int axis) {
  const Array x = read_floats_or_float16(x_in, "x"), y = written(y_in, x, "out");
  const auto rows = halves<3>({y, x, x}, {y.data(), x.data(), second_half(x, axis)}, y);
  unsigned raised = 0;
  {
    const ReleasedGil released(x.size());
    raised = gate(static_cast<Gate>(index), x.floating(), rows);
  }
  report(kGates[index].name + 1, raised);
  y.result();
}

// x and dx, which share no memory: twice as long along the axis as dy.
void gate_halves_backward(int index, py::handle dy_in, py::handle x_in, py::handle dx_in, int axis) {
  const Array x = read_floats_or_float16(x_in, "x"), dy = read_as(dy_in, x, "dy");
  const Array dx = written(dx_in, x, "out");
  const auto rows =
      halves<5>({dx, dx, dy, x, x}, {dx.data(), second_half(dx, axis), dy.data(), x.data(), second_half(x, axis)}, dy);
  unsigned raised = 0;
  {
    const ReleasedGil released(x.size());
    raised = gate_backward(static_cast<Gate>(index), x.floating(), rows);
  }
  report(kGates[index].name + 1, raised);
  dx.result();
}

// Ufuncs that take both halves as arrays of their own.
py::dict make_gates() {
  py::dict ufuncs;
  for (int index = 0; index < static_cast<int>(Gate::Count); ++index) {
    const GateOp& op = kGates[index];
    ufuncs[op.name] = make_ufunc({op.name, "a * act(b)", 2, 0, pick_forward, index, op.cost});
    ufuncs[op.gate_backward_name] =
        make_ufunc({op.gate_backward_name, "dy * a * act'(b)", 3, 0, pick_gate_backward, index, op.gate_backward_cost});
  }
  return ufuncs;
}

}  // namespace

void bind_gating(py::module_& module) {
  def<&make_gates>(module, "make_gates");
  def<&gate_halves>(module, "gate");
  def<&gate_halves_backward>(module, "gate_backward");
}

}  // namespace nnfast
