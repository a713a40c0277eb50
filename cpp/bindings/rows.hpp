// Arrays of one shape as rows along their last axis.
#pragma once

#include "bindings/arrays.hpp"

namespace nnfast {

template <int Arrays>
struct RowArrays {
  StridedArrays<Arrays> outer;  // the other axes
  std::ptrdiff_t n;             // elements of a row
  std::ptrdiff_t strides[Arrays];

  std::ptrdiff_t rows() const { return outer.size(); }

  // Calls body(pointers, column, count) for the pieces of rows that the elements [begin, end) are, in C order.
  template <class Body>
  void for_pieces(std::ptrdiff_t begin, std::ptrdiff_t end, Body body) const {
    for (std::ptrdiff_t position = begin; position < end;) {
      const std::ptrdiff_t column = position % n;
      const std::ptrdiff_t count = std::min(n - column, end - position);
      outer.for_runs(position / n, position / n + 1, [&](char* const* row, std::ptrdiff_t, std::ptrdiff_t) {
        char* at[Arrays];
        for (int a = 0; a < Arrays; ++a) at[a] = row[a] + column * strides[a];
        body(at, column, count);
      });
      position += count;
    }
  }
};

// The axes of the first array but the last; n elements of each row.
template <int Arrays>
RowArrays<Arrays> row_arrays(const Array (&arrays)[Arrays], std::ptrdiff_t n) {
  RowArrays<Arrays> result;
  const int last = arrays[0].ndim() - 1;
  result.n = n;
  result.outer.ndim = last;
  for (int a = 0; a < Arrays; ++a) {
    result.outer.data[a] = arrays[a].data();
    result.strides[a] = arrays[a].stride(last);
    for (int d = 0; d < last; ++d) result.outer.strides[a][d] = arrays[a].stride(d);
  }
  for (int d = 0; d < last; ++d) result.outer.shape[d] = arrays[0].shape(d);
  result.outer.coalesce();
  return result;
}

inline void require_rows(const Array& x, const char* name) {
  if (x.ndim() == 0) throw py::value_error(std::string(name) + " must have at least one axis, got a scalar");
}

// One value for each column of x's rows, next to each other and of x's dtype.
inline Array read_columns(py::handle value, const Array& x, const char* name) {
  const Array columns = read_as(value, x.dtype(), name);
  require_shape(columns, {x.shape(x.ndim() - 1)}, name);
  return dense(columns);
}

}  // namespace nnfast
