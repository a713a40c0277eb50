// Axes of arrays as kernels of normalisation walk them, and other checks that their bindings share.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "kernels/normalization.hpp"

namespace nnfast {

// Up to kNormalizedArrays arrays of one shape, or null; the first is never null.
using Arrays = std::array<const Array*, kNormalizedArrays>;

inline std::ptrdiff_t stride_of(const Array* array, int axis) { return array ? array->stride(axis) : 0; }

// Adds an axis inside the others, merged with the last one where it can be in every array.
inline void add_axis(Axes& axes, std::ptrdiff_t length, const std::array<std::ptrdiff_t, kNormalizedArrays>& strides) {
  if (length == 1) return;
  const int last = axes.count - 1;
  bool joins = last >= 0;
  for (int a = 0; joins && a < kNormalizedArrays; ++a) joins = axes.strides[a][last] == length * strides[a];
  const int at = joins ? last : axes.count++;
  axes.shape[at] = (joins ? axes.shape[at] : 1) * length;
  for (int a = 0; a < kNormalizedArrays; ++a) axes.strides[a][at] = strides[a];
}

inline void add_axis(Axes& axes, const Arrays& arrays, int axis) {
  std::array<std::ptrdiff_t, kNormalizedArrays> strides;
  for (int a = 0; a < kNormalizedArrays; ++a) strides[a] = stride_of(arrays[a], axis);
  add_axis(axes, arrays[0]->shape(axis), strides);
}

inline std::ptrdiff_t product(const Array& x, int begin, int end) {
  std::ptrdiff_t n = 1;
  for (int d = begin; d < end; ++d) n *= x.shape(d);
  return n;
}

inline void set_data(Normalization& norm, const Arrays& arrays) {
  for (int a = 0; a < kNormalizedArrays; ++a) norm.data[a] = arrays[a] ? arrays[a]->data() : nullptr;
}

// The axes `which` as those of the members, the other axes as those of the sets.
inline Normalization sets_along(const Arrays& arrays, const std::vector<int>& which) {
  const Array& x = *arrays[0];
  Normalization norm{};
  set_data(norm, arrays);
  norm.set_count = norm.member_count = 1;
  for (int d = 0; d < x.ndim(); ++d) {
    const bool member = std::find(which.begin(), which.end(), d) != which.end();
    add_axis(member ? norm.members : norm.sets, arrays, d);
    (member ? norm.member_count : norm.set_count) *= x.shape(d);
  }
  return norm;
}

// The dtype of parameters and their gradients: float32 for x of float16.
inline int parameter_dtype(const Array& x) { return x.dtype() == NPY_HALF ? NPY_FLOAT32 : x.dtype(); }

inline void require_eps(double eps) {
  if (!(eps > 0) || !std::isfinite(eps))
    throw py::value_error("eps must be positive, got " + std::string(py::str(py::float_(eps))));
}

}  // namespace nnfast
