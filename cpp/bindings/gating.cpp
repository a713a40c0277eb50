#include "ops/gating.hpp"

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/ufuncs.hpp"

namespace nnfast {
namespace {

const Elementwise& pick_forward(const KernelTable& table, int index) { return table.gating->forward[index]; }
const Elementwise& pick_gate_backward(const KernelTable& table, int index) {
  return table.gating->gate_backward[index];
}

// x: rows of 2n elements, the gates last; y: rows of n.
void gate_rows(int index, py::handle x_in, py::handle y_in) {
  const Array x = read_floats_or_float16(x_in, "x"), y = written(y_in, x.dtype(), "out");
  const auto rows = row_arrays({y, x}, y.shape(y.ndim() - 1));
  unsigned raised = 0;
  {
    py::gil_scoped_release release;
    raised = gate(static_cast<Gate>(index), x.floating(), rows);
  }
  report(kGates[index].name + 1, raised);
}

// dy: rows of n; x and dx: rows of 2n, which share no memory.
void gate_rows_backward(int index, py::handle dy_in, py::handle x_in, py::handle dx_in) {
  const Array x = read_floats_or_float16(x_in, "x"), dy = read_as(dy_in, x.dtype(), "dy");
  const Array dx = written(dx_in, x.dtype(), "out");
  const auto rows = row_arrays({dy, x, dx}, dy.shape(dy.ndim() - 1));
  unsigned raised = 0;
  {
    py::gil_scoped_release release;
    raised = gate_backward(static_cast<Gate>(index), x.floating(), rows);
  }
  report(kGates[index].name + 1, raised);
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
  module.def("make_gates", &make_gates);
  module.def("gate", &gate_rows, py::arg("index"), py::arg("x"), py::arg("out"));
  module.def("gate_backward", &gate_rows_backward, py::arg("index"), py::arg("dy"), py::arg("x"), py::arg("out"));
}

}  // namespace nnfast
