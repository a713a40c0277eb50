#include "ops/softmax.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"
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

struct Signature {
  const char* name;
  int inputs, one_element;
};
constexpr Signature kSignatures[] = {
#define NNFAST_ROW(name, inputs, one_element, ...) {#name, inputs, one_element},
    NNFAST_SOFTMAX(NNFAST_ROW)
#undef NNFAST_ROW
};

bool usable(py::handle value) { return PyArray_CheckExact(value.ptr()); }

// Whether an array has x's dtype and its shape, or, of one element a row, that without the axis; with `keepdims` 1
// there.
bool fits(const Array& array, const Array& x, int axis, bool one_element, bool keepdims) {
  if (array.dtype() != x.dtype() || !PyArray_ISNOTSWAPPED(array.get())) return false;
  if (array.ndim() != x.ndim() - (one_element && !keepdims ? 1 : 0)) return false;
  for (int d = 0, at = 0; d < x.ndim(); ++d) {
    const bool reduced = one_element && d == axis;
    if (reduced && !keepdims) continue;
    if (array.shape(at++) != (reduced ? 1 : x.shape(d))) return false;
  }
  return true;
}

// A function of the family along an axis of plain arrays, or None: then the generalised ufunc must be called, which has
// NumPy's rules for all others. NumPy would hand it the rows of one axis at a time.
py::object along_axis(int index, const py::tuple& inputs, int axis, bool keepdims, py::handle out) {
  const auto& [name, count, one_element] = kSignatures[index];
  Array arrays[kSoftmaxArrays];
  for (int a = 0; a < count; ++a) {
    if (!usable(inputs[a])) return py::none();
    arrays[a] = any_array(inputs[a], "x");
  }
  const Array& x = arrays[count - 1];
  if (axis < 0) axis += x.ndim();
  const int dtype = x.dtype();
  // Of a row alone the result without its axis is a scalar.
  const int least = one_element == count && !keepdims ? 2 : 1;
  if (x.ndim() < least || axis < 0 || axis >= x.ndim() || x.size() == 0) return py::none();
  if (dtype != NPY_HALF && dtype != NPY_FLOAT32 && dtype != NPY_FLOAT64) return py::none();
  for (int a = 0; a < count; ++a)
    if (!fits(arrays[a], x, axis, a == one_element, keepdims)) return py::none();
  Array& y = arrays[count];
  if (out.is_none()) {
    std::vector<std::ptrdiff_t> shape;
    for (int d = 0; d < x.ndim(); ++d)
      if (d != axis || keepdims) shape.push_back(d == axis ? 1 : x.shape(d));
    y = one_element == count ? new_array(shape, dtype) : laid_as(x, dtype);
  } else {
    if (!usable(out)) return py::none();
    y = any_array(out, "out");
    if (!fits(y, x, axis, one_element == count, keepdims) || !PyArray_ISWRITEABLE(y.get())) return py::none();
    for (int a = 0; a < count; ++a)
      if (!same_elements(y, arrays[a]) && share_memory(y, arrays[a])) return py::none();
  }
  RowArrays<kSoftmaxArrays> rows{};
  rows.n = x.shape(axis);
  for (int a = 0; a <= count; ++a) {
    const bool reduced = a == one_element;
    rows.outer.data[a] = arrays[a].data();
    rows.strides[a] = reduced ? 0 : arrays[a].stride(axis);
    for (int d = 0, at = 0, to = 0; d < x.ndim(); ++d) {
      if (d == axis) {
        at += !reduced || keepdims;
      } else {
        rows.outer.strides[a][to++] = arrays[a].stride(at++);
      }
    }
  }
  for (int d = 0; d < x.ndim(); ++d)
    if (d != axis) rows.outer.shape[rows.outer.ndim++] = x.shape(d);
  unsigned raised = 0;
  {
    const ReleasedGil released(x.size());
    raised = softmax_rows(static_cast<Softmax>(index), x.floating(), rows);
  }
  report(name, raised);
  return y.object();
}

// The logarithms, NaN of negative sums, or with return_sign a tuple of those of their sizes and of their signs; None
// for other arrays than plain ones of one dtype, or where b does not broadcast to the shape of x.
py::object signed_logsumexp_of(py::handle x_in, py::handle b_in, int axis, bool keepdims, bool return_sign) {
  if (!usable(x_in) || !usable(b_in)) return py::none();
  const Array x = any_array(x_in, "x"), given = any_array(b_in, "b");
  const int dtype = x.dtype(), ndim = x.ndim(), missing = ndim - given.ndim();
  if (axis < 0) axis += ndim;
  if ((dtype != NPY_FLOAT32 && dtype != NPY_FLOAT64) || given.dtype() != dtype) return py::none();
  if (!PyArray_ISNOTSWAPPED(x.get()) || !PyArray_ISNOTSWAPPED(given.get())) return py::none();
  if (axis < 0 || axis >= ndim || missing < 0) return py::none();
  for (int d = 0; d < given.ndim(); ++d)
    if (given.shape(d) != 1 && given.shape(d) != x.shape(missing + d)) return py::none();
  const Array b = broadcast_to(given, x, "b", "x");
  std::vector<std::ptrdiff_t> shape;
  for (int d = 0; d < ndim; ++d)
    if (d != axis || keepdims) shape.push_back(d == axis ? 1 : x.shape(d));
  const Array logs = new_array(shape, NPY_FLOAT64), signs = new_array(shape, NPY_FLOAT64);
  const auto rows = row_arrays({x, b}, x.shape(axis), axis);
  {
    const ReleasedGil released(x.size());
    signed_logsumexp(x.floating(), rows, logs.as<double>(), signs.as<double>());
    if (!return_sign)
      for (std::ptrdiff_t i = 0; i < logs.size(); ++i)
        if (signs.as<double>()[i] < 0) logs.as<double>()[i] = std::numeric_limits<double>::quiet_NaN();
  }
  // Scalars where no axis is left.
  const auto result = [&](const Array& values) {
    Array rounded = values;
    if (dtype != NPY_FLOAT64) {
      rounded = new_array(shape, dtype);
      store_doubles(rounded, {values.as<double>(), static_cast<std::size_t>(values.size())});
    }
    return py::reinterpret_steal<py::object>(
        PyArray_Return(reinterpret_cast<PyArrayObject*>(py::object(rounded.object()).release().ptr())));
  };
  if (!return_sign) return result(logs);
  return py::make_tuple(result(logs), result(signs));
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
    const ReleasedGil released(x.size());
    raised = masked_softmax(x.floating(), rows, scale, queries);
  }
  report("masked_softmax", raised);
  return y.result();
}

py::object masked_backward(py::handle dy_in, py::handle y_in, double scale, int axis, py::handle out) {
  const Array y = read_floats_or_float16(y_in, "y");
  const Array dy = read_as(dy_in, y, "dy");
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
  return dx.result();
}

}  // namespace

void bind_softmax(pybind11::module_& module) {
#define NNFAST_ADD(name, inputs, one_element, signature)                                                  \
  add_gufunc(                                                                                             \
      module,                                                                                             \
      {#name, kDoc, signature, inputs, one_element, loop<Softmax::name, inputs, one_element, Dtype::f16>, \
       loop<Softmax::name, inputs, one_element, Dtype::f32>, loop<Softmax::name, inputs, one_element, Dtype::f64>});
  NNFAST_SOFTMAX(NNFAST_ADD)
#undef NNFAST_ADD
  py::tuple names(std::size(kSignatures));
  for (std::size_t index = 0; index < std::size(kSignatures); ++index) names[index] = kSignatures[index].name;
  module.attr("softmax_names") = names;
  def<&along_axis>(module, "softmax_along");
  def<&signed_logsumexp_of>(module, "signed_logsumexp");
  def<&masked_forward>(module, "masked_softmax");
  def<&masked_backward>(module, "masked_softmax_backward");
}

}  // namespace nnfast
