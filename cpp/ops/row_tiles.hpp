// Strided rows, copied some at a time to contiguous memory and back: kernels would load them an element at a time in
// each of their passes.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/matrix.hpp"
#include "kernels/per_dtype.hpp"
#include "kernels/unrolled.hpp"
#include "simd/transpose.hpp"

namespace nnfast {

// Bytes of a tile. It lies on the stack.
constexpr std::ptrdiff_t kTileBytes = 16384;

// Element (r, c) of `rows` contiguous rows becomes element (c, r), by squares; elements of 16 bits go one by one. Along
// the lines of the array outside the tile, which are far from each other, one after another: they may share a set of
// the first-level cache.
template <class T>
void transpose(const char* from, std::ptrdiff_t from_row, char* to, std::ptrdiff_t to_row, std::ptrdiff_t rows,
               std::ptrdiff_t columns) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  std::ptrdiff_t turned_rows = 0, turned_columns = 0;
  if constexpr (sizeof(T) > sizeof(short)) {
    using V = Vec<T>;
    constexpr std::ptrdiff_t lanes = kLanes<V>, side = kSquare<T>;
    turned_rows = rows / lanes * lanes;
    turned_columns = columns / side * side;
    static_assert(lanes == side);
    const auto turn = [&](std::ptrdiff_t r, std::ptrdiff_t c) NNFAST_INLINED {
      V square[side];  // in registers: the compiler would leave it in memory for a loop
      unrolled<side>([&](int k) NNFAST_INLINED { square[k] = load_bytes<V>(from + (r + k) * from_row + c * size); });
      transpose_squares(square);
      unrolled<side>([&](int k) NNFAST_INLINED { store_bytes(to + (c + k) * to_row + r * size, square[k]); });
    };
    if (from_row > to_row) {
      for (std::ptrdiff_t r = 0; r < turned_rows; r += lanes) {
        // Where the next tile lies.
        for (std::ptrdiff_t k = 0; k < lanes; ++k)
          for (std::ptrdiff_t byte = 0; byte < columns * size; byte += 64)
            __builtin_prefetch(from + (r + k) * from_row + columns * size + byte);
        for (std::ptrdiff_t c = 0; c < turned_columns; c += side) turn(r, c);
      }
    } else {
      for (std::ptrdiff_t c = 0; c < turned_columns; c += side)
        for (std::ptrdiff_t r = 0; r < turned_rows; r += lanes) turn(r, c);
    }
  }
  // Two columns, or two rows that become columns, are pairs of neighbours, too few for a square.
  if constexpr (sizeof(T) == sizeof(float)) {
    constexpr std::ptrdiff_t lanes = kLanes<Vec<T>>, pair = 2 * size;
    const auto load = [&](std::ptrdiff_t r) NNFAST_INLINED { return load_bytes<Vec<T>>(from + r * size); };
    if (columns == 2 && from_row == pair) {
      for (std::ptrdiff_t r = 0; r < turned_rows; r += lanes) {
        store_bytes(to + r * size, alternate<false>(load(2 * r), load(2 * r + lanes)));
        store_bytes(to + to_row + r * size, alternate<true>(load(2 * r), load(2 * r + lanes)));
      }
      turned_columns = 2;
    } else if (rows == 2 && to_row == pair) {
      turned_columns = columns / lanes * lanes;
      for (std::ptrdiff_t c = 0; c < turned_columns; c += lanes) {
        const auto first = load_bytes<Vec<T>>(from + c * size), second = load_bytes<Vec<T>>(from + from_row + c * size);
        store_bytes(to + c * pair, interleaved<false>(first, second));
        store_bytes(to + c * pair + lanes * size, interleaved<true>(first, second));
      }
      turned_rows = 2;
    }
  }
  for (std::ptrdiff_t r = 0; r < rows; ++r)
    for (std::ptrdiff_t c = r < turned_rows ? turned_columns : 0; c < columns; ++c)
      std::memcpy(to + c * to_row + r * size, from + r * from_row + c * size, sizeof(T));
}

struct CacheLine {
  char bytes[64];
};

// Rows of n contiguous elements, which may be few, by whole pieces, the last of which ends where the row does.
template <class Piece>
void copy_by_pieces(const Matrix& from, const Matrix& to, std::ptrdiff_t rows, std::ptrdiff_t bytes) {
  constexpr auto step = static_cast<std::ptrdiff_t>(sizeof(Piece));
  const char* source = from.data;
  char* target = to.data;
  for (std::ptrdiff_t r = 0; r < rows; ++r, source += from.row_stride, target += to.row_stride) {
    for (std::ptrdiff_t at = 0; at < bytes - step; at += step) std::memcpy(target + at, source + at, sizeof(Piece));
    std::memcpy(target + bytes - step, source + bytes - step, sizeof(Piece));
  }
}

template <class T>
void copy_rows(const Matrix& from, const Matrix& to, std::ptrdiff_t rows, std::ptrdiff_t n) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  if (n == 0) return;
  if (from.stride == size && to.stride == size) {
    if (n * size >= static_cast<std::ptrdiff_t>(sizeof(CacheLine)))
      return copy_by_pieces<CacheLine>(from, to, rows, n * size);
    if (n * size >= static_cast<std::ptrdiff_t>(sizeof(Quarter)))
      return copy_by_pieces<Quarter>(from, to, rows, n * size);
    if (n * size >= static_cast<std::ptrdiff_t>(sizeof(double)))
      return copy_by_pieces<double>(from, to, rows, n * size);
    copy_by_pieces<T>(from, to, rows, n * size);
  } else if (from.row_stride == size && to.stride == size) {
    transpose<T>(from.data, from.stride, to.data, to.row_stride, n, rows);
  } else if (from.stride == size && to.row_stride == size) {
    transpose<T>(from.data, from.row_stride, to.data, to.stride, rows, n);
  } else {
    for (std::ptrdiff_t i = 0; i < n; ++i)
      for (std::ptrdiff_t r = 0; r < rows; ++r)
        std::memcpy(to.data + r * to.row_stride + i * to.stride, from.data + r * from.row_stride + i * from.stride,
                    sizeof(T));
  }
}

inline void copy_rows(Dtype dtype, const Matrix& from, const Matrix& to, std::ptrdiff_t rows, std::ptrdiff_t n) {
  if (dtype == Dtype::f64) return copy_rows<double>(from, to, rows, n);
  if (dtype == Dtype::f32) return copy_rows<float>(from, to, rows, n);
  copy_rows<short>(from, to, rows, n);
}

}  // namespace nnfast
