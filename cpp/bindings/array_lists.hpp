// Lists of arrays, an array of each list at a time: parameters, gradients and state.
#pragma once

#include <string>

#include "bindings/arrays.hpp"

namespace nnfast {

inline std::string indexed(const char* list, std::ptrdiff_t i) {
  return std::string(list) + "[" + std::to_string(i) + "]";
}

// An array of a list, with its name for errors: made into text only when there is one.
struct Named {
  const char* list;
  std::ptrdiff_t index;
  Array array;
  std::string name() const { return indexed(list, index); }
};

inline Named element(PyObject* list, const char* name, std::ptrdiff_t i) {
  const py::handle value = PyList_GET_ITEM(list, i);
  if (!PyArray_Check(value.ptr()))
    throw py::type_error(indexed(name, i) + " must be a numpy.ndarray, got " + Py_TYPE(value.ptr())->tp_name);
  return {name, i, Array(py::reinterpret_borrow<py::object>(value))};
}

inline void require_count(std::size_t arrays, const char* name, std::size_t params) {
  if (arrays != params)
    throw py::value_error(std::string(name) + " must have one array for each of the " + std::to_string(params) +
                          " parameters, got " + std::to_string(arrays));
}

inline void require_floats(const Named& given) {
  const int dtype = given.array.dtype();
  if (dtype != NPY_FLOAT32 && dtype != NPY_FLOAT64)
    throw py::type_error(given.name() + " must have dtype float32 or float64, got " + dtype_name(dtype));
}

// Of the parameter's shape and dtype, or another dtype.
inline void require_like(const Named& given, const Array& param, int dtype) {
  const Array& array = given.array;
  if (array.dtype() != dtype || !PyArray_ISNOTSWAPPED(array.get()))
    throw py::type_error(given.name() + " must have dtype " + dtype_name(dtype) + ", got " +
                         std::string(py::str(array.object().attr("dtype"))));
  if (!PyArray_SAMESHAPE(array.get(), param.get()))
    throw py::value_error(given.name() + " must have shape " + shape_text(param) + ", got " + shape_text(array));
}

inline void require_like(const Named& given, const Array& param) { require_like(given, param, param.dtype()); }

inline void require_writeable(const Named& given) {
  if (!PyArray_ISWRITEABLE(given.array.get()))
    throw py::value_error(given.name() + " must be writeable, but is read-only");
}

}  // namespace nnfast
