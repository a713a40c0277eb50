// Arrays of one shape as rows along their last axis.
#pragma once

#include <algorithm>

#include "runtime/strided.hpp"

namespace nnfast {

template <int Arrays>
struct RowArrays {
  StridedArrays<Arrays> outer;  // the other axes
  std::ptrdiff_t n;             // elements of a row
  std::ptrdiff_t strides[Arrays];

  std::ptrdiff_t rows() const { return outer.size(); }

  // Calls body(pointers, column, count) for the parts of rows that the elements [begin, end) are, in C order.
  template <class Body>
  void for_parts(std::ptrdiff_t begin, std::ptrdiff_t end, Body body) const {
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

}  // namespace nnfast
