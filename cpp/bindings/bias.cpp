#include "ops/bias.hpp"

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"
#include "bindings/ufuncs.hpp"

namespace nnfast {
namespace {

const Elementwise& pick_forward(const KernelTable& table, int index) { return table.bias->forward[index]; }

py::object forward(int index, py::handle x_in, py::handle bias_in, py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  require_rows(x, "x");
  const Array bias = read_columns(bias_in, x, "bias"), y = output(out, x, "out", "x");
  require_disjoint(y, "out", bias, "bias");
  const auto rows = row_arrays({x, y}, x.shape(x.ndim() - 1));
  unsigned raised = 0;
  {
    const ReleasedGil released(x.size());
    raised = bias_forward(static_cast<Biased>(index), x.floating(), rows, bias.data());
  }
  report(kBiased[index].name + 1, raised);
  return y.result();
}

// saved: y, or x with its bias.
py::tuple backward(int index, py::handle dy_in, py::handle saved_in, py::handle bias_in, py::handle dx_out,
                   py::handle dbias_out) {
  const bool takes_y = kBiased[index].takes_y;
  const char* saved_name = takes_y ? "y" : "x";
  const Array saved = read_floats_or_float16(saved_in, saved_name);
  require_rows(saved, saved_name);
  const Array dy = read_as(dy_in, saved, "dy");
  require_shape(dy, saved, "dy", saved_name);
  Array bias;
  if (!takes_y) bias = read_columns(bias_in, saved, "bias");
  const Array dx = output(dx_out, dy, "out", "dy");
  require_no_partial_overlap(dx, "out", saved, saved_name);
  if (bias) require_disjoint(dx, "out", bias, "bias");
  const std::ptrdiff_t n = dy.shape(dy.ndim() - 1);
  const Array dbias =
      output(dbias_out, {n}, dy, "out[1]", {{&dx, "out[0]"}, {&dy, "dy"}, {&saved, saved_name}, {&bias, "bias"}});
  const auto rows = row_arrays({dy, saved, dx}, n);
  std::vector<double> sums(static_cast<std::size_t>(n));
  unsigned raised = 0;
  {
    const ReleasedGil released(dy.size());
    raised =
        bias_backward(static_cast<Biased>(index), saved.floating(), rows, bias ? bias.data() : nullptr, sums.data());
  }
  report(kBiased[index].name + 1, raised);
  store_doubles(dbias, sums);
  return py::make_tuple(dx.result(), dbias.result());
}

py::dict make_biased() {
  py::dict ufuncs;
  for (int index = 0; index < static_cast<int>(Biased::Count); ++index) {
    const BiasedOp& op = kBiased[index];
    ufuncs[op.name] = make_ufunc({op.name, "act(x + bias)", 2, 0, pick_forward, index, op.cost});
  }
  return ufuncs;
}

}  // namespace

void bind_bias(py::module_& module) {
  def<&make_biased>(module, "make_biased");
  def<&forward>(module, "bias_forward");
  def<&backward>(module, "bias_backward");
}

}  // namespace nnfast
