#include "bindings/arrays.hpp"

#include <algorithm>

#include "bindings/bfloat16.hpp"
#include "ops/sums.hpp"

namespace nnfast {
namespace {

Array owned(PyObject* object) {
  if (!object) throw py::error_already_set();
  return Array(py::reinterpret_steal<py::object>(object));
}

Array made_of(const std::ptrdiff_t* shape, std::size_t ndim, int dtype) {
  npy_intp dims[kMaxDims];
  std::copy_n(shape, std::min<std::size_t>(ndim, kMaxDims), dims);  // NumPy refuses more axes
  return owned(PyArray_SimpleNew(static_cast<int>(ndim), dims, dtype));
}

Array widened(const Array& float16) {
  const Array made = new_array(float16, NPY_FLOAT32);
  widen(strided({float16}), made.as<float>());
  return made;
}

// The array itself where it has this dtype in native byte order, else a converted copy.
Array converted(const Array& array, int dtype) {
  if (array.dtype() == dtype && PyArray_ISNOTSWAPPED(array.get())) return array;
  if (array.dtype() == NPY_HALF && dtype == NPY_FLOAT32 && PyArray_ISNOTSWAPPED(array.get())) return widened(array);
  return owned(
      PyArray_FromArray(array.get(), PyArray_DescrFromType(dtype), NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_FORCECAST));
}

// What to pass in place of an array of a dtype that is no number's.
std::string advice(const Array& array, const char* name) {
  return py::module_::import("nnfast._arrays").attr("advice")(array.object(), name).cast<std::string>();
}

Array floats(const Array& array, const char* name) {
  const int dtype = array.dtype();
  for (const int to : {NPY_FLOAT32, NPY_FLOAT64})
    if (PyArray_CanCastSafely(dtype, to)) return converted(array, to);
  throw py::type_error(std::string(name) + " must be an array of real numbers, got dtype " + dtype_name(array) +
                       advice(array, name));
}

std::string shape_text(const npy_intp* shape, int ndim) {
  std::string text = "(";
  for (int d = 0; d < ndim; ++d) text += std::to_string(shape[d]) + (d + 1 < ndim ? ", " : "");
  return text + (ndim == 1 ? ",)" : ")");
}

// A result of bfloat16, computed in float32.
Array rounded_to(const Array& bfloat16) { return {laid_as(bfloat16, NPY_FLOAT32), bfloat16.object(), true}; }

Array as_given(const Array& array) { return Array(array.given()); }

}  // namespace

void Array::round() const { round_to_bfloat16(Array(bfloat16_), Array(object_)); }

bool same_elements(const Array& a, const Array& b) {
  if (a.is_bfloat16() || b.is_bfloat16()) return same_elements(as_given(a), as_given(b));
  if (a.data() != b.data() || a.ndim() != b.ndim() || a.dtype() != b.dtype()) return false;
  for (int d = 0; d < a.ndim(); ++d)
    if (a.shape(d) != b.shape(d) || (a.shape(d) > 1 && a.stride(d) != b.stride(d))) return false;
  return true;
}

Extent extent(const Array& array) {
  Extent e{array.data(), array.data()};
  for (int d = 0; d < array.ndim(); ++d) {
    if (array.shape(d) == 0) return {array.data(), array.data()};
    const std::ptrdiff_t reach = (array.shape(d) - 1) * array.stride(d);
    (reach < 0 ? e.low : e.high) += reach;
  }
  e.high += PyArray_ITEMSIZE(array.get());
  return e;
}

std::string dtype_name(int dtype) {
  const py::object descr = py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(PyArray_DescrFromType(dtype)));
  return py::str(descr);
}

std::string dtype_name(const Array& array) { return py::str(array.object().attr("dtype")); }

std::string source_of_float64(const Array& array, int dtype) {
  if (array.dtype() != NPY_FLOAT64 || (dtype != NPY_FLOAT32 && !is_16_bits(dtype))) return "";
  return py::module_::import("nnfast._arrays").attr("SOURCE_OF_FLOAT64").cast<std::string>();
}

std::string shape_text(const std::vector<std::ptrdiff_t>& shape) {
  const std::vector<npy_intp> dims(shape.begin(), shape.end());
  return shape_text(dims.data(), static_cast<int>(dims.size()));
}

std::string shape_text(const Array& array) { return shape_text(PyArray_DIMS(array.get()), array.ndim()); }

bool share_memory(const Array& a, const Array& b) {
  if (a.is_bfloat16() || b.is_bfloat16()) return share_memory(as_given(a), as_given(b));
  const Extent x = extent(a), y = extent(b);
  if (x.high <= y.low || y.high <= x.low) return false;
  // Interleaved views: NumPy's solver decides, and a problem too hard for it counts as sharing.
  return py::module_::import("numpy").attr("may_share_memory")(a.object(), b.object(), 1000).cast<bool>();
}

void require_readable(py::handle value, const char* name) {
  PyObject* object = value.ptr();
  if (PyArray_CheckExact(object) || PyList_CheckExact(object) || PyTuple_CheckExact(object)) return;
  py::module_::import("nnfast._arrays").attr("check_readable")(value, name);
}

Array any_array(py::handle value, const char* name) {
  require_readable(value, name);
  if (PyArray_Check(value.ptr())) return Array(py::reinterpret_borrow<py::object>(value));
  return owned(PyArray_FromAny(value.ptr(), nullptr, 0, 0, 0, nullptr));
}

Array read_floats(py::handle value, const char* name) { return floats(any_array(value, name), name); }

Array read_floats_or_float16(py::handle value, const char* name) {
  const Array array = any_array(value, name);
  if (is_bfloat16(array)) return {widened_bfloat16(array), array.object(), false};
  return array.dtype() == NPY_HALF ? converted(array, NPY_HALF) : floats(array, name);
}

Array read_as(py::handle value, int dtype, const char* name) {
  return Array(converted(read_floats_or_float16(value, name), dtype).object());
}

Array read_as(py::handle value, const Array& like, const char* name) {
  if (!like.is_bfloat16()) return read_as(value, like.dtype(), name);
  const Array array = read_floats_or_float16(value, name);
  if (array.is_bfloat16()) return array;
  const Array wide = converted(array, NPY_FLOAT32);  // what is more precise is not rounded
  return {wide, new_array(wide, bfloat16_dtype()).object(), true};
}

Array contiguous(const Array& array) {
  if (PyArray_IS_C_CONTIGUOUS(array.get()) && PyArray_ISALIGNED(array.get())) return array;
  return owned(PyArray_NewCopy(array.get(), NPY_CORDER));
}

Array written(py::handle value, int dtype, const char* name) {
  if (!PyArray_Check(value.ptr()))
    throw py::type_error(std::string(name) + " must be a numpy.ndarray, got " + Py_TYPE(value.ptr())->tp_name);
  require_readable(value, name);
  Array array(py::reinterpret_borrow<py::object>(value));
  if (array.dtype() != dtype || !PyArray_ISNOTSWAPPED(array.get()))
    throw py::type_error(std::string(name) + " must have dtype " + dtype_name(dtype) + ", got " + dtype_name(array) +
                         source_of_float64(array, dtype));
  if (!PyArray_ISWRITEABLE(array.get()))
    throw py::value_error(std::string(name) + " must be writeable, but is read-only");
  return array;
}

Array written(py::handle value, const Array& like, const char* name) {
  return like.is_bfloat16() ? rounded_to(written(value, bfloat16_dtype(), name)) : written(value, like.dtype(), name);
}

Array new_array(const Array& like, int dtype) {
  return owned(PyArray_SimpleNew(like.ndim(), PyArray_DIMS(like.get()), dtype));
}

Array laid_as(const Array& like, int dtype) {
  if (PyArray_IS_C_CONTIGUOUS(like.get())) return new_array(like, dtype);
  return owned(PyArray_NewLikeArray(like.get(), NPY_KEEPORDER, PyArray_DescrFromType(dtype), 0));
}

Array new_array(std::initializer_list<std::ptrdiff_t> shape, int dtype) {
  return made_of(shape.begin(), shape.size(), dtype);
}

Array new_array(const std::vector<std::ptrdiff_t>& shape, int dtype) {
  return made_of(shape.data(), shape.size(), dtype);
}

Array broadcast_to(const Array& array, const Array& like, const char* name, const char* like_name) {
  npy_intp strides[kMaxDims] = {};
  const int missing = like.ndim() - array.ndim();
  bool fits = missing >= 0;
  for (int d = 0; fits && d < array.ndim(); ++d) {
    if (array.shape(d) == 1) continue;
    strides[missing + d] = array.stride(d);
    fits = array.shape(d) == like.shape(missing + d);
  }
  if (!fits)
    throw py::value_error(std::string(name) + " must broadcast to the shape of " + like_name + ", " + shape_text(like) +
                          ", got " + shape_text(array));
  PyArray_Descr* dtype = PyArray_DESCR(array.get());
  Py_INCREF(dtype);
  const Array view = owned(PyArray_NewFromDescr(&PyArray_Type, dtype, like.ndim(), PyArray_DIMS(like.get()), strides,
                                                array.data(), 0, nullptr));
  if (PyArray_SetBaseObject(view.get(), array.object().inc_ref().ptr()) != 0) throw py::error_already_set();
  return view;
}

void require_shape(const Array& array, const Array& like, const char* name, const char* like_name) {
  if (PyArray_SAMESHAPE(array.get(), like.get())) return;
  throw py::value_error(std::string(name) + " must have the shape of " + like_name + ", " + shape_text(like) +
                        ", got " + shape_text(array));
}

Shape shape_of(const Array& array) { return {PyArray_DIMS(array.get()), PyArray_DIMS(array.get()) + array.ndim()}; }

bool has_shape(const Array& array, std::initializer_list<std::ptrdiff_t> shape) {
  const npy_intp* dims = PyArray_DIMS(array.get());
  return std::equal(shape.begin(), shape.end(), dims, dims + array.ndim());
}

bool has_shape(const Array& array, const std::vector<std::ptrdiff_t>& shape) {
  const npy_intp* dims = PyArray_DIMS(array.get());
  return std::equal(shape.begin(), shape.end(), dims, dims + array.ndim());
}

void require_shape(const Array& array, std::initializer_list<std::ptrdiff_t> shape, const char* name) {
  if (!has_shape(array, shape)) require_shape(array, std::vector<std::ptrdiff_t>(shape), name);
}

void require_shape(const Array& array, const std::vector<std::ptrdiff_t>& shape, const char* name) {
  if (has_shape(array, shape)) return;
  throw py::value_error(std::string(name) + " must have shape " + shape_text(shape) + ", got " + shape_text(array));
}

void require_no_partial_overlap(const Array& out, const char* out_name, const Array& other, const char* other_name) {
  if (same_elements(out, other) || !share_memory(out, other)) return;
  throw py::value_error(std::string(out_name) + " must be " + other_name +
                        " itself or share no memory with it, but overlaps it");
}

void require_disjoint(const Array& a, const char* a_name, const Array& b, const char* b_name) {
  if (!share_memory(a, b)) return;
  throw py::value_error(std::string(a_name) + " and " + b_name + " must not share memory");
}

Array output(py::handle out, const Array& like, const char* name, const char* like_name) {
  if (out.is_none())
    return like.is_bfloat16() ? rounded_to(laid_as(like, bfloat16_dtype())) : laid_as(like, like.dtype());
  Array array = written(out, like, name);
  require_shape(array, like, name, like_name);
  require_no_partial_overlap(array, name, like, like_name);
  return array;
}

Array output(py::handle out, const std::vector<std::ptrdiff_t>& shape, int dtype, const char* name,
             std::initializer_list<Apart> others) {
  if (out.is_none()) return new_array(shape, dtype);
  const Array array = written(out, dtype, name);
  require_shape(array, shape, name);
  for (const auto& [other, other_name] : others)
    if (*other) require_disjoint(array, name, *other, other_name);
  return array;
}

Array output(py::handle out, const std::vector<std::ptrdiff_t>& shape, const Array& like, const char* name,
             std::initializer_list<Apart> others) {
  const Array array = output(out, shape, like.is_bfloat16() ? bfloat16_dtype() : like.dtype(), name, others);
  return like.is_bfloat16() ? rounded_to(array) : array;
}

void require_rows(const Array& x, const char* name) {
  if (x.ndim() == 0) throw py::value_error(std::string(name) + " must have at least one axis, got a scalar");
}

Array read_columns(py::handle value, const Array& x, const char* name) {
  const Array columns = read_as(value, x.dtype(), name);
  require_shape(columns, {x.shape(x.ndim() - 1)}, name);
  return contiguous(columns);
}

void store_doubles(const Array& to, std::span<const double> values) {
  const Array from = owned(
      PyArray_SimpleNewFromData(to.ndim(), PyArray_DIMS(to.get()), NPY_FLOAT64, const_cast<double*>(values.data())));
  if (PyArray_CopyInto(to.get(), from.get()) != 0) throw py::error_already_set();
}

}  // namespace nnfast
