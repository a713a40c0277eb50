// Checked views of the arrays a function is given. Errors name the argument, what it must be and what it got.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bindings/numpy_api.hpp"
#include "kernels/per_dtype.hpp"
#include "ops/row_arrays.hpp"
#include "runtime/strided.hpp"

namespace nnfast {

namespace py = pybind11;

// A NumPy array that is kept alive. For a bfloat16 array this holds a float32 copy of its values; for a result, the
// float32 array that result() rounds into the caller's.
class Array {
 public:
  Array() = default;
  explicit Array(py::object array) : object_(std::move(array)) {}
  Array(const Array& float32, py::object bfloat16, bool rounds)
      : object_(float32.object_), bfloat16_(std::move(bfloat16)), rounds_(rounds) {}

  bool is_bfloat16() const { return static_cast<bool>(bfloat16_); }
  // The array as Python has it.
  const py::object& given() const { return bfloat16_ ? bfloat16_ : object_; }
  // The same, once a result has been computed: rounds it to bfloat16.
  py::object result() const {
    if (rounds_) round();
    return given();
  }

  PyArrayObject* get() const { return reinterpret_cast<PyArrayObject*>(object_.ptr()); }
  const py::object& object() const { return object_; }
  explicit operator bool() const { return static_cast<bool>(object_); }
  int ndim() const { return PyArray_NDIM(get()); }
  std::ptrdiff_t shape(int axis) const { return PyArray_DIM(get(), axis); }
  std::ptrdiff_t stride(int axis) const { return PyArray_STRIDE(get(), axis); }
  std::ptrdiff_t size() const { return PyArray_SIZE(get()); }
  int dtype() const { return PyArray_TYPE(get()); }
  // Of an array of float16, float32 or float64.
  Dtype floating() const {
    return dtype() == NPY_HALF ? Dtype::f16 : (dtype() == NPY_FLOAT32 ? Dtype::f32 : Dtype::f64);
  }
  bool is_float64() const { return dtype() == NPY_FLOAT64; }
  char* data() const { return PyArray_BYTES(get()); }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data());
  }

 private:
  py::object object_, bfloat16_;
  bool rounds_ = false;

  void round() const;
};

std::string dtype_name(int dtype);
// Of an array whose dtype may have parameters, as strings have a length.
std::string dtype_name(const Array& array);
// Where a float64 array among narrower ones usually comes from, for the end of an error; else nothing.
std::string source_of_float64(const Array& array, int dtype);
std::string shape_text(const Array& array);
std::string shape_text(const std::vector<std::ptrdiff_t>& shape);

// TypeError for what cannot be read as an ndarray, masked and lazy arrays (nnfast._arrays.check_readable).
void require_readable(py::handle value, const char* name);
// An argument that is only read: an array itself, or NumPy's array of anything else.
Array any_array(py::handle value, const char* name);
// An argument that is only read: any array-like of real numbers. float32 and float64 arrays are not copied; float16 and
// short integers become float32, other integers float64, as in NumPy's functions.
Array read_floats(py::handle value, const char* name);
// As read_floats, for functions with a float16 kernel: float16 arrays are not converted, and those of bfloat16 are
// known as such.
Array read_floats_or_float16(py::handle value, const char* name);
// As read_floats_or_float16, converted to `dtype` where the array has another one.
Array read_as(py::handle value, int dtype, const char* name);
// The same with the dtype of `like`.
Array read_as(py::handle value, const Array& like, const char* name);
// The array, or a copy of it that is contiguous in C order.
Array contiguous(const Array& array);
// An argument that is written: an array of exactly this dtype, native, writeable. TypeError and ValueError otherwise.
Array written(py::handle value, int dtype, const char* name);
Array written(py::handle value, const Array& like, const char* name);
Array new_array(const Array& like, int dtype);
// With the axes in memory in the order of those of `like`, as NumPy's functions have it.
Array laid_as(const Array& like, int dtype);
Array new_array(std::initializer_list<std::ptrdiff_t> shape, int dtype);
Array new_array(const std::vector<std::ptrdiff_t>& shape, int dtype);

// A view of the array that repeats it along the axes of `like`, by NumPy's rules of broadcasting.
Array broadcast_to(const Array& array, const Array& like, const char* name, const char* like_name);

using Shape = std::vector<std::ptrdiff_t>;
Shape shape_of(const Array& array);
bool has_shape(const Array& array, std::initializer_list<std::ptrdiff_t> shape);
bool has_shape(const Array& array, const std::vector<std::ptrdiff_t>& shape);
void require_shape(const Array& array, const Array& like, const char* name, const char* like_name);
void require_shape(const Array& array, std::initializer_list<std::ptrdiff_t> shape, const char* name);
void require_shape(const Array& array, const std::vector<std::ptrdiff_t>& shape, const char* name);
// The memory from the first to past the last byte of an array.
struct Extent {
  const char *low, *high;
};
Extent extent(const Array& array);
// Whether any element lies in both; a problem too hard to decide quickly counts as yes.
bool share_memory(const Array& a, const Array& b);
// Whether they are the very same elements.
bool same_elements(const Array& a, const Array& b);
// ValueError if the two share memory and are not the very same elements.
void require_no_partial_overlap(const Array& out, const char* out_name, const Array& other, const char* other_name);
// ValueError if the two share any memory.
void require_disjoint(const Array& a, const char* a_name, const Array& b, const char* b_name);

// `out` if it is not None, checked against `like` (dtype and shape), else a new array.
Array output(py::handle out, const Array& like, const char* name, const char* like_name);
// As above, for a result of a shape of its own, which must not share memory with any of `others`.
using Apart = std::pair<const Array*, const char*>;
Array output(py::handle out, const std::vector<std::ptrdiff_t>& shape, int dtype, const char* name,
             std::initializer_list<Apart> others);
Array output(py::handle out, const std::vector<std::ptrdiff_t>& shape, const Array& like, const char* name,
             std::initializer_list<Apart> others);

template <int Arrays>
StridedArrays<Arrays> strided(const Array (&arrays)[Arrays]) {
  StridedArrays<Arrays> result;
  result.ndim = arrays[0].ndim();
  for (int d = 0; d < result.ndim; ++d) {
    result.shape[d] = arrays[0].shape(d);
    for (int a = 0; a < Arrays; ++a) result.strides[a][d] = arrays[a].stride(d);
  }
  for (int a = 0; a < Arrays; ++a) result.data[a] = arrays[a].data();
  result.coalesce();
  return result;
}

// Arrays of the first one's axes, but for one, as rows along it; n elements of each row.
template <int Arrays>
RowArrays<Arrays> row_arrays(const Array (&arrays)[Arrays], std::ptrdiff_t n, int axis) {
  RowArrays<Arrays> result;
  StridedArrays<Arrays>& outer = result.outer;
  result.n = n;
  for (int a = 0; a < Arrays; ++a) {
    outer.data[a] = arrays[a].data();
    result.strides[a] = arrays[a].stride(axis);
  }
  for (int d = 0; d < arrays[0].ndim(); ++d) {
    if (d == axis) continue;
    outer.shape[outer.ndim] = arrays[0].shape(d);
    for (int a = 0; a < Arrays; ++a) outer.strides[a][outer.ndim] = arrays[a].stride(d);
    ++outer.ndim;
  }
  outer.coalesce();
  return result;
}

// Along the last axis.
template <int Arrays>
RowArrays<Arrays> row_arrays(const Array (&arrays)[Arrays], std::ptrdiff_t n) {
  return row_arrays(arrays, n, arrays[0].ndim() - 1);
}

void require_rows(const Array& x, const char* name);
// One value for each column of x's rows, contiguous and of x's dtype.
Array read_columns(py::handle value, const Array& x, const char* name);
// Values in C order into an array of any strides and floating dtype, which may warn of an overflow.
void store_doubles(const Array& to, std::span<const double> values);

}  // namespace nnfast
