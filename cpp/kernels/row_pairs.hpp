// Sums of products of pairs of rows, and their linear combinations: what losses of embeddings are made of.
#pragma once

#include "kernels/losses.hpp"
#include "kernels/rows.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

template <class T>
void pair_sums(const RowPairs& pairs, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  using V = Vec<T>;
  const ExceptionScope exceptions;
  for (std::ptrdiff_t row = row_begin; row < row_end; ++row) {
    const auto x = strided_rows<T>(pairs.x, row), y = strided_rows<T>(pairs.y, row);
    BlockSum<T> xy, xx, yy;
    for_blocks<T>(pairs.n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
      if (count == 0) return;
      const V a = x.load(0, i, count, T{0}), b = y.load(0, i, count, T{0});
      xy.add_product(a, b, part);
      xx.add_product(a, a, part);
      yy.add_product(b, b, part);
    });
    double* const sums = pairs.sums + 3 * row;
    sums[0] = xy.total();
    sums[1] = xx.total();
    sums[2] = yy.total();
  }
}

// x - y + eps, and the sum of its squares.
template <class T>
void differences(const RowPairs& pairs, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  using V = Vec<T>;
  const ExceptionScope exceptions;
  const V eps = broadcast<V>(static_cast<T>(pairs.eps));
  for (std::ptrdiff_t row = row_begin; row < row_end; ++row) {
    const auto x = strided_rows<T>(pairs.x, row), y = strided_rows<T>(pairs.y, row),
               to = strided_rows<T>(pairs.to, row);
    BlockSum<T> squares;
    for_blocks<T>(pairs.n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
      if (count == 0) return;
      const V d = x.load(0, i, count, T{0}) - y.load(0, i, count, T{0}) + eps;
      to.store(0, i, d, count);
      const V there = first_lanes(d, count);
      squares.add_product(there, there, part);
    });
    pairs.sums[row] = squares.total();
  }
}

// In double: factors such as the reciprocal of a length may be no float. A factor of 0 leaves its row out.
template <class T>
void mix_pairs(const RowPairs& pairs, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  using D = Vec<double>;
  const ExceptionScope exceptions;
  for (std::ptrdiff_t row = row_begin; row < row_end; ++row) {
    const auto x = strided_rows<T>(pairs.x, row), y = strided_rows<T>(pairs.y, row),
               to = strided_rows<T>(pairs.to, row);
    const D of_x = broadcast<D>(pairs.factors[2 * row]), of_y = broadcast<D>(pairs.factors[2 * row + 1]);
    for_vectors<T>(pairs.n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
      Widened<Vec<T>> a = widen(x.load(0, i, count, T{0}));
      const Widened<Vec<T>> b = widen(y.load(0, i, count, T{0}));
      for (int k = 0; k < a.count; ++k)
        a.part[k] = (of_x == 0 ? D{} : of_x * a.part[k]) + (of_y == 0 ? D{} : of_y * b.part[k]);
      to.store(0, i, narrow(a), count);
    });
  }
}

}  // namespace
}  // namespace nnfast
