#include "kernels/bias.hpp"

#include <atomic>
#include <vector>

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

// Elements of a block of rows whose gradients are summed on their own; there are at most so many blocks, by the shape
// alone, so that the sums do not depend on the number of threads.
constexpr std::ptrdiff_t kBlockElements = 16384;
constexpr std::ptrdiff_t kMostBlocks = 16;

const Elementwise& pick_forward(const KernelTable& table, int index) { return table.bias->forward[index]; }

// The bias of rows of n elements, next to each other and of their dtype.
Array read_bias(py::handle value, const Array& x) {
  const Array bias = read_as(value, x.dtype(), "bias");
  require_shape(bias, {x.shape(x.ndim() - 1)}, "bias");
  if (PyArray_IS_C_CONTIGUOUS(bias.get())) return bias;
  return Array(py::reinterpret_steal<py::object>(PyArray_NewCopy(bias.get(), NPY_CORDER)));
}

void require_rows(const Array& x, const char* name) {
  if (x.ndim() == 0) throw py::value_error(std::string(name) + " must have at least one axis, got a scalar");
}

py::object bias_forward(int index, py::handle x_in, py::handle bias_in, py::handle out) {
  const Array x = read_floats_or_halves(x_in, "x");
  require_rows(x, "x");
  const Array bias = read_bias(bias_in, x), y = output(out, x, "out", "x");
  require_disjoint(y, "out", bias, "bias");
  const ElementwiseFn fn = loop_of(kernels().bias->forward[index], x.dtype());
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

BiasBackwardFn gradient_of(const BiasGradient& kernel, int dtype) {
  return dtype == NPY_HALF ? kernel.f16 : (dtype == NPY_FLOAT32 ? kernel.f32 : kernel.f64);
}

// The sums of the blocks, in their order, as an array of the gradient's dtype.
Array added_up(const std::vector<double>& sums, std::ptrdiff_t n, int dtype) {
  const Array total = new_array({n}, NPY_FLOAT64);
  double* to = total.as<double>();
  std::fill(to, to + n, 0.0);
  for (std::size_t i = 0; i < sums.size(); ++i) to[static_cast<std::ptrdiff_t>(i) % n] += sums[i];
  if (dtype == NPY_FLOAT64) return total;
  return Array(py::reinterpret_steal<py::object>(PyArray_Cast(total.get(), dtype)));
}

// saved: y, or x with its bias.
py::tuple bias_backward(int index, py::handle dy_in, py::handle saved_in, py::handle bias_in, py::handle out) {
  const char* saved_name = kBiased[index].by_y ? "y" : "x";
  const Array saved = read_floats_or_halves(saved_in, saved_name);
  require_rows(saved, saved_name);
  const Array dy = read_as(dy_in, saved.dtype(), "dy");
  require_shape(dy, saved, "dy", saved_name);
  Array bias;
  if (!kBiased[index].by_y) bias = read_bias(bias_in, saved);
  const Array dx = output(out, dy, "out", "dy");
  require_no_partial_overlap(dx, "out", saved, saved_name);
  if (bias) require_disjoint(dx, "out", bias, "bias");

  const BiasBackwardFn fn = gradient_of(kernels().bias->backward[index], saved.dtype());
  const auto arrays = row_arrays({dy, saved, dx}, saved.shape(saved.ndim() - 1));
  const std::ptrdiff_t n = arrays.n, rows = arrays.rows();
  const std::ptrdiff_t block = std::max(
      {std::ptrdiff_t{1}, kBlockElements / std::max<std::ptrdiff_t>(n, 1), (rows + kMostBlocks - 1) / kMostBlocks});
  const std::ptrdiff_t blocks = (rows + block - 1) / block;
  std::vector<double> sums(static_cast<std::size_t>(blocks * n));
  std::ptrdiff_t steps[3];
  arrays.outer.inner_strides(steps);
  std::atomic<unsigned> raised{0};
  {
    py::gil_scoped_release release;
    const double cost = kBiased[index].backward_cost * static_cast<double>(block * n);
    parallel_for(blocks, cost, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      for (std::ptrdiff_t b = begin; b < end; ++b) {
        arrays.outer.for_runs(b * block, std::min(rows, (b + 1) * block),
                              [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
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
                                                      sums.data() + b * n};
                                if (const unsigned flags = fn(of, count, n))
                                  raised.fetch_or(flags, std::memory_order_relaxed);
                              });
      }
    });
  }
  report(kBiased[index].name + 1, raised);
  return py::make_tuple(dx.object(), added_up(sums, n, saved.dtype()).object());
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
             py::arg("out"));
}

}  // namespace nnfast
