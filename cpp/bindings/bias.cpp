#include "kernels/bias.hpp"

#include <atomic>

#include "bindings/block_sums.hpp"
#include "bindings/families.hpp"
#include "bindings/rows.hpp"
#include "bindings/ufuncs.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

struct BiasedRow {
  const char* name;
  bool by_y;
  double cost, backward_cost;
};

constexpr BiasedRow kBiased[] = {
#define NNFAST_ROW(formula, name, by_y, cost, backward_cost) {"_" name, by_y, cost, backward_cost},
    NNFAST_BIASED(NNFAST_ROW)
#undef NNFAST_ROW
};

const Elementwise& pick_forward(const KernelTable& table, int index) { return table.bias->forward[index]; }

py::object bias_forward(int index, py::handle x_in, py::handle bias_in, py::handle out) {
  const Array x = read_floats_or_halves(x_in, "x");
  require_rows(x, "x");
  const Array bias = read_columns(bias_in, x, "bias"), y = output(out, x, "out", "x");
  require_disjoint(y, "out", bias, "bias");
  const ElementwiseFn fn = by_dtype(kernels().bias->forward[index], x.dtype());
  const auto rows = row_arrays({x, y}, x.shape(x.ndim() - 1));
  const std::ptrdiff_t size = PyArray_ITEMSIZE(x.get());
  const std::ptrdiff_t strides[3] = {rows.strides[0], size, rows.strides[1]};
  const bool stream = streams(PyArray_NBYTES(y.get()), kBiased[index].cost);
  std::atomic<unsigned> raised{0};
  {
    py::gil_scoped_release release;
    parallel_for(rows.rows() * rows.n, kBiased[index].cost, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      rows.for_pieces(begin, end, [&](char* const* at, std::ptrdiff_t column, std::ptrdiff_t count) {
        char* arrays[3] = {at[0], bias.data() + column * size, at[1]};
        if (const unsigned flags = fn(arrays, strides, count, stream))
          raised.fetch_or(flags, std::memory_order_relaxed);
      });
    });
  }
  report(kBiased[index].name + 1, raised);
  return y.object();
}

// saved: y, or x with its bias.
py::tuple bias_backward(int index, py::handle dy_in, py::handle saved_in, py::handle bias_in, py::handle dx_out,
                        py::handle dbias_out) {
  const char* saved_name = kBiased[index].by_y ? "y" : "x";
  const Array saved = read_floats_or_halves(saved_in, saved_name);
  require_rows(saved, saved_name);
  const Array dy = read_as(dy_in, saved.dtype(), "dy");
  require_shape(dy, saved, "dy", saved_name);
  Array bias;
  if (!kBiased[index].by_y) bias = read_columns(bias_in, saved, "bias");
  const Array dx = output(dx_out, dy, "out", "dy");
  require_no_partial_overlap(dx, "out", saved, saved_name);
  if (bias) require_disjoint(dx, "out", bias, "bias");
  const std::ptrdiff_t n = dy.shape(dy.ndim() - 1);
  const Array dbias = output(dbias_out, {n}, dy.dtype(), "out[1]",
                             {{&dx, "out[0]"}, {&dy, "dy"}, {&saved, saved_name}, {&bias, "bias"}});

  const BiasBackwardFn fn = by_dtype(kernels().bias->backward[index], saved.dtype());
  const auto arrays = row_arrays({dy, saved, dx}, n);
  BlockSums sums(arrays.rows(), n);
  std::ptrdiff_t steps[3];
  arrays.outer.inner_strides(steps);
  std::atomic<unsigned> raised{0};
  {
    py::gil_scoped_release release;
    const double cost = kBiased[index].backward_cost * static_cast<double>(sums.elements());
    parallel_for(sums.blocks(), cost, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      for (std::ptrdiff_t b = begin; b < end; ++b) {
        arrays.outer.for_runs(sums.begin(b), sums.end(b), [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
          const BiasBackward of{at[0],
                                at[1],
                                bias ? bias.data() : nullptr,
                                at[2],
                                steps[0],
                                arrays.strides[0],
                                steps[1],
                                arrays.strides[1],
                                steps[2],
                                arrays.strides[2],
                                sums.of(b)};
          if (const unsigned flags = fn(of, count, n)) raised.fetch_or(flags, std::memory_order_relaxed);
        });
      }
    });
  }
  report(kBiased[index].name + 1, raised);
  sums.total(dbias);
  return py::make_tuple(dx.object(), dbias.object());
}

py::dict make_biased() {
  py::dict ufuncs;
  for (int index = 0; index < static_cast<int>(Biased::Count); ++index) {
    const BiasedRow& row = kBiased[index];
    ufuncs[row.name] = make_ufunc({row.name, "act(x + bias)", 2, 0, pick_forward, index, row.cost});
  }
  return ufuncs;
}

}  // namespace

void bind_bias(py::module_& module) {
  module.def("make_biased", &make_biased);
  module.def("bias_forward", &bias_forward, py::arg("index"), py::arg("x"), py::arg("bias"), py::arg("out"));
  module.def("bias_backward", &bias_backward, py::arg("index"), py::arg("dy"), py::arg("saved"), py::arg("bias"),
             py::arg("dx"), py::arg("dbias"));
}

}  // namespace nnfast
