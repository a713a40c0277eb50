#include "kernels/gating.hpp"

#include <atomic>
#include <string>

#include "bindings/families.hpp"
#include "bindings/rows.hpp"
#include "bindings/ufuncs.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

struct GateRow {
  const char *name, *gate_backward;
  double cost, backward_cost;
};

constexpr GateRow kGates[] = {
#define NNFAST_ROW(formula, name, cost, backward_cost) {"_" name, "_" name "_gate_backward", cost, backward_cost},
    NNFAST_GATES(NNFAST_ROW)
#undef NNFAST_ROW
};

const Elementwise& pick_forward(const KernelTable& table, int index) { return table.gating->forward[index]; }
const Elementwise& pick_gate_backward(const KernelTable& table, int index) {
  return table.gating->gate_backward[index];
}

// x: rows of 2n elements, the gates last; y: rows of n.
void gate(int index, py::handle x_in, py::handle y_in) {
  const Array x = read_floats_or_halves(x_in, "x"), y = written(y_in, x.dtype(), "out");
  const ElementwiseFn fn = by_dtype(kernels().gating->forward[index], x.dtype());
  const auto rows = row_arrays({y, x}, y.shape(y.ndim() - 1));
  const std::ptrdiff_t half = rows.n * rows.strides[1];
  const std::ptrdiff_t strides[3] = {rows.strides[1], rows.strides[1], rows.strides[0]};
  const bool stream = streams(PyArray_NBYTES(y.get()), kGates[index].cost);
  std::atomic<unsigned> raised{0};
  {
    py::gil_scoped_release release;
    parallel_for(rows.rows() * rows.n, kGates[index].cost, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      rows.for_pieces(begin, end, [&](char* const* at, std::ptrdiff_t, std::ptrdiff_t count) {
        char* arrays[3] = {at[1], at[1] + half, at[0]};
        raised.fetch_or(fn(arrays, strides, count, stream), std::memory_order_relaxed);
      });
    });
  }
  report(kGates[index].name + 1, raised);
}

// dy: rows of n; x and dx: rows of 2n, which share no memory.
void gate_backward(int index, py::handle dy_in, py::handle x_in, py::handle dx_in) {
  const Array x = read_floats_or_halves(x_in, "x"), dy = read_as(dy_in, x.dtype(), "dy");
  const Array dx = written(dx_in, x.dtype(), "out");
  const ElementwiseFn by_a = by_dtype(kernels().gating->forward[index], x.dtype());
  const ElementwiseFn by_gate = by_dtype(kernels().gating->gate_backward[index], x.dtype());
  const auto rows = row_arrays({dy, x, dx}, dy.shape(dy.ndim() - 1));
  const std::ptrdiff_t half = rows.n * rows.strides[1], dx_half = rows.n * rows.strides[2];
  const std::ptrdiff_t gate_strides[4] = {rows.strides[0], rows.strides[1], rows.strides[1], rows.strides[2]};
  const std::ptrdiff_t a_strides[3] = {rows.strides[0], rows.strides[1], rows.strides[2]};
  constexpr std::ptrdiff_t kPiece = 1024;  // both halves of it stay in the first-level cache
  std::atomic<unsigned> raised{0};
  {
    py::gil_scoped_release release;
    const double cost = kGates[index].cost + kGates[index].backward_cost;
    parallel_for(rows.rows() * rows.n, cost, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      for (std::ptrdiff_t piece = begin; piece < end; piece += kPiece) {
        rows.for_pieces(piece, std::min(end, piece + kPiece), [&](char* const* at, std::ptrdiff_t, std::ptrdiff_t n) {
          char* of_gate[4] = {at[0], at[1], at[1] + half, at[2] + dx_half};
          char* of_a[3] = {at[0], at[1] + half, at[2]};
          const unsigned flags = by_a(of_a, a_strides, n, false) | by_gate(of_gate, gate_strides, n, false);
          raised.fetch_or(flags, std::memory_order_relaxed);
        });
      }
    });
  }
  report(kGates[index].name + 1, raised);
}

// The same by two arrays, as ufuncs.
py::dict make_gates() {
  py::dict ufuncs;
  for (int index = 0; index < static_cast<int>(Gate::Count); ++index) {
    const GateRow& row = kGates[index];
    ufuncs[row.name] = make_ufunc({row.name, "a * act(b)", 2, 0, pick_forward, index, row.cost});
    ufuncs[row.gate_backward] =
        make_ufunc({row.gate_backward, "dy * a * act'(b)", 3, 0, pick_gate_backward, index, row.backward_cost});
  }
  return ufuncs;
}

}  // namespace

void bind_gating(py::module_& module) {
  module.def("make_gates", &make_gates);
  module.def("gate", &gate, py::arg("index"), py::arg("x"), py::arg("out"));
  module.def("gate_backward", &gate_backward, py::arg("index"), py::arg("dy"), py::arg("x"), py::arg("out"));
}

}  // namespace nnfast
