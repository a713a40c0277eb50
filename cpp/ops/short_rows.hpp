// Elementwise work over rows: long rows in parts, short ones gathered into chunks that are contiguous.
#pragma once

#include <algorithm>
#include <limits>

#include "ops/row_arrays.hpp"
#include "ops/row_tiles.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {

// Elements of a chunk, so that its arrays stay in the first-level cache; and rows that are worth a call of their own.
constexpr std::ptrdiff_t kChunk = 1024, kLongRow = 64, kAll = std::numeric_limits<std::ptrdiff_t>::max() / 2;

// Calls body(pointers, strides, count) for all elements, on as many threads as pay off, `most` of them at a time. The
// first `outputs` arrays are written.
template <int Arrays, class Body>
void for_chunks(const RowArrays<Arrays>& arrays, int outputs, std::ptrdiff_t most, Dtype dtype, double ns, Body body) {
  const std::ptrdiff_t n = arrays.n, size = size_of(dtype);
  if (n == 0) return;
  if (n >= kLongRow || arrays.outer.ndim == 0) {
    return parallel_for(arrays.rows() * n, ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      for (std::ptrdiff_t chunk = begin; chunk < end; chunk += most)
        arrays.for_parts(
            chunk, std::min(end, chunk + most),
            [&](char* const* at, std::ptrdiff_t, std::ptrdiff_t count) { body(at, arrays.strides, count); });
    });
  }
  std::ptrdiff_t row_strides[Arrays];
  arrays.outer.inner_strides(row_strides);
  const auto lies_apart = [&](int a) { return arrays.strides[a] != size || row_strides[a] != n * size; };
  parallel_for(arrays.rows(), ns * static_cast<double>(n), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    alignas(64) char room[Arrays][kChunk * sizeof(double)];
    arrays.outer.for_runs(begin, end, [&](char* const* run, std::ptrdiff_t rows, std::ptrdiff_t) {
      for (std::ptrdiff_t first = 0; first < rows; first += kChunk / n) {
        const std::ptrdiff_t some = std::min(rows - first, kChunk / n);
        Matrix lying[Arrays], gathered[Arrays];
        char* at[Arrays];
        std::ptrdiff_t strides[Arrays];
        for (int a = 0; a < Arrays; ++a) {
          lying[a] = {run[a] + first * row_strides[a], row_strides[a], arrays.strides[a]};
          gathered[a] = {room[a], n * size, size};
          at[a] = (lies_apart(a) ? gathered : lying)[a].data;
          strides[a] = size;
          if (a >= outputs && lies_apart(a)) copy_rows(dtype, lying[a], gathered[a], some, n);
        }
        body(at, strides, some * n);
        for (int a = 0; a < outputs; ++a)
          if (lies_apart(a)) copy_rows(dtype, gathered[a], lying[a], some, n);
      }
    });
  });
}

}  // namespace nnfast
