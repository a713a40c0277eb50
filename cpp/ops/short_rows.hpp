// Elementwise work over rows: long rows in parts, short ones gathered into chunks that are contiguous.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>

#include "ops/row_arrays.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {

// Elements of a chunk, so that its arrays stay in the first-level cache; and rows that are worth a call of their own.
constexpr std::ptrdiff_t kChunk = 1024, kLongRow = 64, kAll = std::numeric_limits<std::ptrdiff_t>::max() / 2;

// Copies rows of n elements of T at byte strides within a row and between rows.
template <class T>
void copy_rows(const char* from, std::ptrdiff_t from_stride, std::ptrdiff_t from_row, char* to,
               std::ptrdiff_t to_stride, std::ptrdiff_t to_row, std::ptrdiff_t rows, std::ptrdiff_t n) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  // Whole pieces of a row, the last of which ends where the row does.
  const auto by_pieces = [&](auto piece) {
    constexpr auto step = static_cast<std::ptrdiff_t>(sizeof piece);
    const std::ptrdiff_t end = n * size - step;
    for (std::ptrdiff_t r = 0; r < rows; ++r, from += from_row, to += to_row) {
      for (std::ptrdiff_t at = 0; at < end; at += step) std::memcpy(to + at, from + at, sizeof piece);
      std::memcpy(to + end, from + end, sizeof piece);
    }
  };
  struct Sixteen {
    char bytes[16];
  };
  if (from_stride != size || to_stride != size) {
    for (std::ptrdiff_t r = 0; r < rows; ++r, from += from_row, to += to_row)
      for (std::ptrdiff_t i = 0; i < n; ++i) std::memcpy(to + i * to_stride, from + i * from_stride, sizeof(T));
  } else if (n * size >= 16) {
    by_pieces(Sixteen{});
  } else if (n * size >= 8) {
    by_pieces(double{});
  } else {
    by_pieces(T{});
  }
}

// Calls body(pointers, strides, count) for all elements, on as many threads as pay off, `most` of them at a time. The
// first `outputs` arrays are written.
template <int Arrays, class Body>
void for_chunks(const RowArrays<Arrays>& arrays, int outputs, std::ptrdiff_t most, Dtype dtype, double ns, Body body) {
  const std::ptrdiff_t n = arrays.n, size = size_of(dtype);
  if (n >= kLongRow || arrays.outer.ndim == 0) {
    return parallel_for(arrays.rows() * n, ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      for (std::ptrdiff_t chunk = begin; chunk < end; chunk += most)
        arrays.for_parts(
            chunk, std::min(end, chunk + most),
            [&](char* const* at, std::ptrdiff_t, std::ptrdiff_t count) { body(at, arrays.strides, count); });
    });
  }
  const auto copy = dtype == Dtype::f64 ? copy_rows<double> : dtype == Dtype::f32 ? copy_rows<float> : copy_rows<short>;
  std::ptrdiff_t row_strides[Arrays];
  arrays.outer.inner_strides(row_strides);
  const auto lies_apart = [&](int a) { return arrays.strides[a] != size || row_strides[a] != n * size; };
  parallel_for(arrays.rows(), ns * static_cast<double>(n), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    alignas(64) char room[Arrays][kChunk * sizeof(double)];
    arrays.outer.for_runs(begin, end, [&](char* const* run, std::ptrdiff_t rows, std::ptrdiff_t) {
      for (std::ptrdiff_t first = 0; first < rows; first += kChunk / n) {
        const std::ptrdiff_t some = std::min(rows - first, kChunk / n);
        char *rows_at[Arrays], *at[Arrays];
        std::ptrdiff_t strides[Arrays];
        for (int a = 0; a < Arrays; ++a) {
          rows_at[a] = run[a] + first * row_strides[a];
          at[a] = lies_apart(a) ? room[a] : rows_at[a];
          strides[a] = size;
          if (a >= outputs && lies_apart(a))
            copy(rows_at[a], arrays.strides[a], row_strides[a], room[a], size, n * size, some, n);
        }
        body(at, strides, some * n);
        for (int a = 0; a < outputs; ++a)
          if (lies_apart(a)) copy(room[a], size, n * size, rows_at[a], arrays.strides[a], row_strides[a], some, n);
      }
    });
  });
}

}  // namespace nnfast
