#include "ops/embedding.hpp"

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"
#include "bindings/ufuncs.hpp"

namespace nnfast {
namespace {

// Where the element at `position`, in C order, is.
Shape place_of(std::ptrdiff_t position, Shape shape) {
  for (std::size_t d = shape.size(); d-- > 0;) {
    const std::ptrdiff_t side = shape[d];
    shape[d] = position % side;
    position /= side;
  }
  return shape;
}

Array read_indices(py::handle value) {
  const Array indices = any_array(value, "indices");
  // An empty list has no dtype of its own.
  if (!PyTypeNum_ISINTEGER(indices.dtype()) && (PyArray_Check(value.ptr()) || indices.size() > 0))
    throw py::type_error("indices must be an array of integers, got dtype " + dtype_name(indices));
  return indices;
}

// The indices as contiguous int64, each in [0, n).
Array checked_indices(const Array& given, std::ptrdiff_t n) {
  const Array indices(py::reinterpret_steal<py::object>(
      PyArray_FromArray(given.get(), PyArray_DescrFromType(NPY_INT64),
                        NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_FORCECAST)));
  if (!indices) throw py::error_already_set();
  const auto* index = indices.as<const std::int64_t>();
  for (std::ptrdiff_t k = 0; k < indices.size(); ++k) {
    if (index[k] >= 0 && index[k] < n) continue;
    throw py::index_error("indices must be in [0, " + std::to_string(n) + "), got " +
                          std::string(py::str(given.object().attr("item")(k))) + " at position " +
                          shape_text(place_of(k, shape_of(given))));
  }
  return indices;
}

Matrix matrix_of(const Array& table) { return {table.data(), table.stride(0), table.stride(1)}; }

py::object forward(py::handle indices_in, py::handle weight_in, py::handle out) {
  const Array weight = read_floats_or_float16(weight_in, "weight");
  if (weight.ndim() != 2) throw py::value_error("weight must have shape (n, d), got " + shape_text(weight));
  const Array given = read_indices(indices_in);
  Shape shape = shape_of(given);
  shape.push_back(weight.shape(1));
  const Array y = output(out, shape, weight, "out", {{&weight, "weight"}, {&given, "indices"}});
  const Array indices = checked_indices(given, weight.shape(0));
  const auto rows = row_arrays({y}, weight.shape(1));
  {
    py::gil_scoped_release release;
    embedding(weight.floating(), matrix_of(weight), indices.as<std::int64_t>(), rows);
  }
  return y.result();
}

py::object backward(py::handle dy_in, py::handle indices_in, std::ptrdiff_t n, py::handle out) {
  const Array dy = read_floats_or_float16(dy_in, "dy");
  const Array given = read_indices(indices_in);
  Shape shape = shape_of(dy);
  if (shape.empty() || Shape(shape.begin(), shape.end() - 1) != shape_of(given))
    throw py::value_error("dy must have the shape of indices, " + shape_text(given) +
                          ", and a last axis of its own, got " + shape_text(dy));
  const std::ptrdiff_t d = shape.back();
  const bool zeros = out.is_none() && !dy.is_bfloat16();
  Array dweight;
  if (zeros) {
    npy_intp dims[2] = {n, d};
    dweight = Array(py::reinterpret_steal<py::object>(PyArray_ZEROS(2, dims, dy.dtype(), 0)));
    if (!dweight) throw py::error_already_set();
  } else {
    dweight = output(out, Shape{n, d}, dy, "out", {{&dy, "dy"}, {&given, "indices"}});
  }
  const Array indices = checked_indices(given, n);
  const auto rows = row_arrays({dy}, d);
  unsigned raised = 0;
  {
    py::gil_scoped_release release;
    raised = embedding_backward(dy.floating(), rows, indices.as<std::int64_t>(), matrix_of(dweight), n, zeros);
  }
  report("embedding_backward", raised);
  return dweight.result();
}

// The rows of a table of n that indices name, once each in ascending order, and the sums of the rows of dy for each:
// of a matrix and as many indices.
py::tuple row_sums(py::handle dy_in, py::handle indices_in, std::ptrdiff_t n) {
  const Array dy = read_floats_or_float16(dy_in, "dy");
  const Array indices = checked_indices(read_indices(indices_in), n);
  require_shape(dy, {indices.size(), dy.ndim() == 2 ? dy.shape(1) : 0}, "dy");
  const auto rows = row_arrays({dy}, dy.shape(1));
  RowGroups groups(rows, indices.as<std::int64_t>(), n);
  const Array named = new_array({groups.count()}, NPY_INT64);
  const Array sums = output(py::none(), Shape{groups.count(), rows.n}, dy, "sums", {});
  unsigned raised = 0;
  {
    py::gil_scoped_release release;
    groups.number(named.as<std::int64_t>());
    raised = groups.sum(dy.floating(), rows, matrix_of(sums));
  }
  report("embedding_backward", raised);
  return py::make_tuple(named.object(), sums.result());
}

// Whether the elements of each row, along all axes but the first, are contiguous in C order.
bool has_contiguous_rows(const Array& array) {
  std::ptrdiff_t step = PyArray_ITEMSIZE(array.get());
  for (int axis = array.ndim() - 1; axis > 0; --axis) {
    if (array.shape(axis) != 1 && array.stride(axis) != step) return false;
    step *= array.shape(axis);
  }
  return true;
}

// Writes x[indices] to y, of x's dtype; False where they have to be copied element by element: nothing is written then.
bool take_rows_of(py::handle x_in, py::handle indices_in, py::handle y_in) {
  const Array x = any_array(x_in, "x"), y = any_array(y_in, "y");
  if (x.ndim() == 0 || PyDataType_REFCHK(PyArray_DESCR(x.get())) || !has_contiguous_rows(x)) return false;
  const Array indices = checked_indices(read_indices(indices_in), x.shape(0));
  Shape shape = shape_of(x);
  shape[0] = indices.size();
  require_shape(y, shape, "y");
  if (!PyArray_EquivTypes(PyArray_DESCR(x.get()), PyArray_DESCR(y.get())) ||
      !PyArray_CHKFLAGS(y.get(), NPY_ARRAY_CARRAY))
    throw py::value_error("y must be contiguous and writeable, and have x's dtype");
  const std::ptrdiff_t bytes = indices.size() == 0 ? 0 : PyArray_NBYTES(y.get()) / indices.size();
  py::gil_scoped_release release;
  take_rows(x.data(), x.stride(0), bytes, indices.as<std::int64_t>(), indices.size(), y.data());
  return true;
}

// whole[rows] = part for tuples of (whole, rows, part): in one call, within which nobody is interrupted. Rows: int64,
// none twice; part: contiguous and of the dtype of the whole.
void write_rows(const py::list& parts) {
  for (const py::handle part : parts) {
    PyObject *whole = PyTuple_GET_ITEM(part.ptr(), 0), *rows = PyTuple_GET_ITEM(part.ptr(), 1),
             *values = PyTuple_GET_ITEM(part.ptr(), 2);
    const Array to = any_array(whole, "whole"), from = any_array(values, "part");
    const Array indices = checked_indices(any_array(rows, "rows"), to.shape(0));
    if (!has_contiguous_rows(to) || !PyArray_IS_C_CONTIGUOUS(from.get())) {
      if (PyObject_SetItem(whole, rows, values) != 0) throw py::error_already_set();
      continue;
    }
    const std::ptrdiff_t count = indices.size(), bytes = count == 0 ? 0 : PyArray_NBYTES(from.get()) / count;
    put_rows(to.data(), to.stride(0), bytes, indices.as<std::int64_t>(), count, from.data());
  }
}

}  // namespace

void bind_embedding(py::module_& module) {
  def<&forward>(module, "embedding");
  def<&backward>(module, "embedding_backward");
  def<&take_rows_of>(module, "take_rows");
  def<&row_sums>(module, "row_sums");
  def<&write_rows>(module, "write_rows");
}

}  // namespace nnfast
