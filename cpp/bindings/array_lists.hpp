// Lists of arrays that are walked together, an array of each list at a time: parameters, gradients and state.
#pragma once

#include <array>
#include <string>
#include <vector>

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
    throw py::type_error(given.name() + " must have dtype float32 or float64, got " + dtype_name(given.array));
}

// Of the parameter's shape and dtype, or another dtype.
inline void require_like(const Named& given, const Array& param, int dtype) {
  const Array& array = given.array;
  if (array.dtype() != dtype || !PyArray_ISNOTSWAPPED(array.get()))
    throw py::type_error(given.name() + " must have dtype " + dtype_name(dtype) + ", got " + dtype_name(array));
  if (!PyArray_SAMESHAPE(array.get(), param.get()))
    throw py::value_error(given.name() + " must have shape " + shape_text(param) + ", got " + shape_text(array));
}

inline void require_like(const Named& given, const Array& param) { require_like(given, param, param.dtype()); }

inline void require_writeable(const Named& given) {
  if (!PyArray_ISWRITEABLE(given.array.get()))
    throw py::value_error(given.name() + " must be writeable, but is read-only");
}

struct NamedList {
  const char* name;
  const py::list& arrays;
  bool written;
};

// The arrays of one place in the lists.
template <int Arrays>
struct Item {
  StridedArrays<Arrays> walk;
  std::ptrdiff_t strides[Arrays];
  bool f64;
  std::array<Array, Arrays> held;  // another thread may drop them from the lists meanwhile
};

// Checks everything before anything is written. Arrays of one place have the first one's shape and dtype.
template <int Arrays>
std::vector<Item<Arrays>> checked_items(const std::array<NamedList, Arrays>& lists) {
  const std::size_t count = lists[0].arrays.size();
  for (const NamedList& list : lists) require_count(list.arrays.size(), list.name, count);
  std::vector<Item<Arrays>> items;
  items.reserve(count);
  for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(count); ++i) {
    Array arrays[Arrays];
    for (int k = 0; k < Arrays; ++k) {
      const Named given = element(lists[k].arrays.ptr(), lists[k].name, i);
      if (k == 0) require_floats(given);
      require_like(given, k > 0 ? arrays[0] : given.array);  // the first is of native byte order
      if (lists[k].written) require_writeable(given);
      for (int other = 0; other < k; ++other)
        if (share_memory(given.array, arrays[other]))
          throw py::value_error(given.name() + " and " + indexed(lists[other].name, i) + " must not share memory");
      arrays[k] = given.array;
    }
    Item<Arrays> item{strided(arrays), {}, arrays[0].is_float64(), std::to_array(arrays)};
    item.walk.sort_axes();
    item.walk.coalesce();
    item.walk.inner_strides(item.strides);
    if (arrays[0].size() > 0) items.push_back(std::move(item));
  }
  return items;
}

}  // namespace nnfast
