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
    std::ptrdiff_t row_strides[Arrays];
    outer.inner_strides(row_strides);
    for (std::ptrdiff_t position = begin; position < end;) {
      const std::ptrdiff_t row = position / n, column = position % n;
      const std::ptrdiff_t whole = column == 0 ? (end - position) / n : 0;
      const std::ptrdiff_t count = whole > 0 ? n : std::min(n - column, end - position);
      outer.for_runs(row, row + std::max<std::ptrdiff_t>(whole, 1),
                     [&](char* const* run, std::ptrdiff_t rows, std::ptrdiff_t) {
                       for (std::ptrdiff_t r = 0; r < rows; ++r) {
                         char* at[Arrays];
                         for (int a = 0; a < Arrays; ++a) at[a] = run[a] + r * row_strides[a] + column * strides[a];
                         body(at, column, count);
                       }
                     });
      position += std::max(whole * n, count);
    }
  }
};

}  // namespace nnfast
