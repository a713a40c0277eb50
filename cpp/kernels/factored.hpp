// Second moments of a matrix in two factors, a number for each row and one for each column (Shazeer, Stern 2018).
#pragma once

#include "kernels/optim_rule.hpp"
#include "kernels/unrolled.hpp"
#include "simd/elements.hpp"
#include "simd/float_state.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

// Adds the squares of the first `count` lanes, in double, to as many doubles.
template <class V>
NNFAST_INLINE void add_squares(double* to, const Widened<V>& terms, std::ptrdiff_t count) {
  constexpr std::ptrdiff_t lanes = kLanes<Vec<double>>;
  for (int k = 0; k < terms.count; ++k) {
    const Vec<double> term = terms.part[k];
    const std::ptrdiff_t left = count - k * lanes;
    if (left >= lanes) {
      store(to + k * lanes, fma(term, term, load<Vec<double>>(to + k * lanes)));
    } else if (left > 0) {
      store_partial(to + k * lanes, fma(term, term, load_partial<Vec<double>>(to + k * lanes, left, 0)), left);
    }
  }
}

template <class T>
void square_sums(const char* matrix, std::ptrdiff_t rows, std::ptrdiff_t columns, double* of_rows, double* of_columns) {
  const FlushSubnormalsScope flushing;
  for (std::ptrdiff_t r = 0; r < rows; ++r, matrix += columns * static_cast<std::ptrdiff_t>(sizeof(T))) {
    BlockSum<T> sum;
    for_parts<T>(columns, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
      const auto terms = widen(load_elements<T>(matrix, Contiguous<T>{}, i, count));
      sum.add_product(terms, terms, part);
      add_squares<Vec<T>>(of_columns + i, terms, count);
    });
    of_rows[r] = sum.total();
  }
}

template <class T>
double factored_quotients(char* matrix, std::ptrdiff_t rows, std::ptrdiff_t columns, const char* row_factors,
                          const char* column_factors, double least) {
  using V = Vec<T>;
  const FlushSubnormalsScope flushing;
  const V least_square = broadcast<V>(static_cast<T>(least));
  BlockSum<T> squares;
  for (std::ptrdiff_t r = 0; r < rows; ++r, matrix += columns * static_cast<std::ptrdiff_t>(sizeof(T))) {
    const V factor = broadcast<V>(reinterpret_cast<const T*>(row_factors)[r]);
    for_parts<T>(columns, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
      const V second = maximum(factor * load_elements<T>(column_factors, Contiguous<T>{}, i, count), least_square);
      const V quotient = load_elements<T>(matrix, Contiguous<T>{}, i, count) / sqrt(second);
      store_elements<T>(matrix, Contiguous<T>{}, i, quotient, count);
      const V there = lanes_between<V>(0, count) ? quotient : V{};  // others may have 0 / 0
      squares.add_product(there, there, part);
    });
  }
  return squares.total();
}

}  // namespace
}  // namespace nnfast
