#include "ops/softmax.hpp"

#include <algorithm>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/ufuncs.hpp"

namespace nnfast {
namespace {

constexpr const char* kDoc = "The generalised ufunc under the function of this name in nnfast.softmax.";

template <Softmax index, int inputs, int one_element, Dtype dtype>
void loop(char** args, const npy_intp* dims, const npy_intp* steps, void*) {
  const npy_intp* inner = steps + inputs + 1;
  Matrix arrays[kSoftmaxArrays] = {};
  for (int k = 0; k <= inputs; ++k) arrays[k] = {args[k], steps[k], k == one_element ? 0 : *inner++};
  if (const unsigned raised = softmax_rows(index, dtype, arrays, dims[0], dims[1])) raise(raised);
}

// Bytes as a view of x's shape; or an empty Array for None.
Array read_mask(py::handle value, const Array& x) {
  if (value.is_none()) return {};
  const Array mask = any_array(value, "mask");
  if (mask.dtype() != NPY_BOOL)
    throw py::type_error("mask must be an array of bool, True where an element takes part, got dtype " +
                         dtype_name(mask) +
                         ": pass mask.astype(bool) for one of 1 and 0, mask == 0 for one of 0 and -inf that is added");
  return broadcast_to(mask, x, "mask", "x");
}

// How many queries there are, along the last axis but that of the keys.
std::ptrdiff_t query_count(const Array& x, int axis) {
  if (x.ndim() < 2)
    throw py::value_error("x must have an axis of queries beside that of the keys for causal=True, got shape " +
                          shape_text(x));
  return x.shape(axis == x.ndim() - 1 ? axis - 1 : x.ndim() - 1);
}

py::object masked_forward(py::handle x_in, py::handle mask_in, double scale, bool causal, int axis, py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Array mask = read_mask(mask_in, x);
  const std::ptrdiff_t queries = causal ? query_count(x, axis) : 0;
  const Array y = output(out, x, "out", "x");
  if (mask) require_disjoint(y, "out", mask, "mask");
  auto rows = row_arrays({x, y, mask ? mask : x}, x.shape(axis), axis);
  if (!mask) {
    rows.outer.data[2] = nullptr;
    std::fill_n(rows.outer.strides[2], rows.outer.ndim, 0);
  }
  unsigned raised = 0;
  {
    py::gil_scoped_release release;
    raised = masked_softmax(x.floating(), rows, scale, queries);
  }
  report("masked_softmax", raised);
  return y.object();
}

py::object masked_backward(py::handle dy_in, py::handle y_in, double scale, int axis, py::handle out) {
  const Array y = read_floats_or_float16(y_in, "y");
  const Array dy = read_as(dy_in, y.dtype(), "dy");
  require_shape(dy, y, "dy", "y");
  const Array dx = output(out, dy, "out", "dy");
  require_no_partial_overlap(dx, "out", y, "y");
  const auto rows = row_arrays({dy, y, dx}, y.shape(axis), axis);
  unsigned raised = 0;
  {
    py::gil_scoped_release release;
    raised = masked_softmax_backward(y.floating(), rows, scale);
  }
  report("masked_softmax_backward", raised);
  return dx.object();
}

}  // namespace

void bind_softmax(pybind11::module_& module) {
#define NNFAST_ADD(name, inputs, one_element, signature)                                                    \
  add_gufunc(module, {#name, kDoc, signature, inputs, loop<Softmax::name, inputs, one_element, Dtype::f16>, \
                      loop<Softmax::name, inputs, one_element, Dtype::f32>,                                 \
                      loop<Softmax::name, inputs, one_element, Dtype::f64>});
  NNFAST_SOFTMAX(NNFAST_ADD)
#undef NNFAST_ADD
  module.def("masked_softmax", &masked_forward);
  module.def("masked_softmax_backward", &masked_backward);
}

}  // namespace nnfast
