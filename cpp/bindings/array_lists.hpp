// Lists of arrays, an array of each list at a time: parameters, gradients and state.
#pragma once

#include <string>

#include "bindings/arrays.hpp"

namespace nnfast {

// What errors call the arrays of a list: by the keys that the user's have, a list, or else (null) by their positions.
struct ListName {
  const char* name;
  PyObject* keys = nullptr;
  bool alone = false;     // the only array, which has no key
  bool in_state = false;  // of the flat dict that is the state of a function
  std::string of(std::ptrdiff_t i) const {
    const py::object key = keys ? py::reinterpret_borrow<py::object>(PyList_GET_ITEM(keys, i)) : py::int_(i);
    if (in_state) return "state['" + std::string(name) + (alone ? "" : "." + std::string(py::str(key))) + "']";
    return alone ? name : std::string(name) + "[" + std::string(py::repr(key)) + "]";
  }
};

// The keys in a list of as many, or null for None.
inline PyObject* keys_or_null(py::handle keys, std::size_t count) {
  return PyList_Check(keys.ptr()) && PyList_GET_SIZE(keys.ptr()) == static_cast<Py_ssize_t>(count) ? keys.ptr()
                                                                                                   : nullptr;
}

// An array of a list, with its name for errors: made into text only when there is one.
struct Named {
  ListName list;
  std::ptrdiff_t index;
  Array array;
  std::string name() const { return list.of(index); }
};

inline Named element(PyObject* list, const ListName& name, std::ptrdiff_t i) {
  const py::handle value = PyList_GET_ITEM(list, i);
  if (!PyArray_Check(value.ptr()))
    throw py::type_error(name.of(i) + " must be a numpy.ndarray, got " + Py_TYPE(value.ptr())->tp_name);
  if (!PyArray_CheckExact(value.ptr())) require_readable(value, name.of(i).c_str());
  return {name, i, Array(py::reinterpret_borrow<py::object>(value))};
}

// As element, of arrays that are only read, which may be any array-like: numbers and sequences, which have no dtype,
// take this one.
inline Named read_element(PyObject* list, const ListName& name, std::ptrdiff_t i, int dtype) {
  const py::handle value = PyList_GET_ITEM(list, i);
  PyObject* object = value.ptr();
  if (PyArray_Check(object)) return element(list, name, i);
  if (PyArray_IsScalar(object, Generic) || py::hasattr(value, "__array__"))
    return {name, i, any_array(value, name.of(i).c_str())};
  if (!PyList_Check(object) && !PyTuple_Check(object) && !PyFloat_Check(object) && !PyLong_Check(object))
    return element(list, name, i);  // which says what it must be
  PyObject* array = PyArray_FromAny(object, PyArray_DescrFromType(dtype), 0, 0, NPY_ARRAY_FORCECAST, nullptr);
  if (!array) {
    PyErr_Clear();
    throw py::type_error(name.of(i) + " must be an array of real numbers, got " + std::string(py::repr(value)));
  }
  return {name, i, Array(py::reinterpret_steal<py::object>(array))};
}

inline void require_count(std::size_t arrays, const char* name, std::size_t params) {
  if (arrays != params)
    throw py::value_error(std::string(name) + " must have one array for each of the " + std::to_string(params) +
                          " parameters, got " + std::to_string(arrays));
}

inline void require_floats(const Named& given) {
  const int dtype = given.array.dtype();
  if (dtype != NPY_FLOAT32 && dtype != NPY_FLOAT64)
    throw py::type_error(given.name() + " must have dtype float32 or float64, got " + dtype_name(given.array));
}

// Of the parameter's shape and dtype, or another dtype.
inline void require_like(const Named& given, const Array& param, int dtype) {
  const Array& array = given.array;
  if (array.dtype() != dtype || !PyArray_ISNOTSWAPPED(array.get()))
    throw py::type_error(given.name() + " must have dtype " + dtype_name(dtype) + ", got " + dtype_name(array) +
                         source_of_float64(array, dtype));
  if (!PyArray_SAMESHAPE(array.get(), param.get()))
    throw py::value_error(given.name() + " must have shape " + shape_text(param) + ", got " + shape_text(array));
}

inline void require_like(const Named& given, const Array& param) { require_like(given, param, param.dtype()); }

inline void require_writeable(const Named& given) {
  if (!PyArray_ISWRITEABLE(given.array.get()))
    throw py::value_error(given.name() + " must be writeable, but is read-only");
}

}  // namespace nnfast
