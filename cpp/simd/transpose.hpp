// Squares of elements turned within the 16 bytes of a register's lane, so that rows in memory become vectors whose
// lanes are rows, and back.
#pragma once

#include "simd/reduce.hpp"

namespace nnfast {
namespace {

// Elements of T in 16 bytes: the side of a square.
template <class T>
constexpr int kSquare = static_cast<int>(16 / sizeof(T));

// Of each 16 bytes of a and b, the lower or the upper elements, those of a and of b in turn.
template <bool Upper, class V>
NNFAST_INLINE V interleaved(V a, V b) {
  constexpr int n = kLanes<V>, square = kSquare<Element<V>>;
  return [&]<int... i>(std::integer_sequence<int, i...>) NNFAST_INLINED {
    return __builtin_shufflevector(
        a, b, (i / square * square + (Upper ? square / 2 : 0) + i % square / 2 + (i % 2 ? n : 0))...);
  }(std::make_integer_sequence<int, n>{});
}

// Of a and b, one after the other, every other element, from the first or the second on.
template <bool Odd, class V>
NNFAST_INLINE V alternate(V a, V b) {
  return [&]<int... i>(std::integer_sequence<int, i...>) NNFAST_INLINED {
    return __builtin_shufflevector(a, b, (2 * i + Odd)...);
  }(std::make_integer_sequence<int, kLanes<V>>{});
}

// Element j of each 16 bytes of v[i] becomes element i of v[j].
template <class V>
NNFAST_INLINE void transpose_squares(V (&v)[kSquare<Element<V>>]) {
  using D = Vec<double>;
  if constexpr (sizeof(Element<V>) == sizeof(double)) {
    const V low = interleaved<false>(v[0], v[1]);
    v[1] = interleaved<true>(v[0], v[1]);
    v[0] = low;
  } else {
    const D low[2] = {bit_cast<D>(interleaved<false>(v[0], v[1])), bit_cast<D>(interleaved<false>(v[2], v[3]))};
    const D high[2] = {bit_cast<D>(interleaved<true>(v[0], v[1])), bit_cast<D>(interleaved<true>(v[2], v[3]))};
    v[0] = bit_cast<V>(interleaved<false>(low[0], low[1]));
    v[1] = bit_cast<V>(interleaved<true>(low[0], low[1]));
    v[2] = bit_cast<V>(interleaved<false>(high[0], high[1]));
    v[3] = bit_cast<V>(interleaved<true>(high[0], high[1]));
  }
}

using Quarter = VecN<float, 4>;  // 16 bytes

// A vector of pieces of 16 bytes: piece(k), piece(k + 1), ...
template <class F, class Piece>
NNFAST_INLINE F of_pieces(Piece piece, int k = 0) {
  if constexpr (kLanes<F> == 4) {
    return piece(k);
  } else {
    using Half = VecN<float, kLanes<F> / 2>;
    return joined(Halves<F>{of_pieces<Half>(piece, k), of_pieces<Half>(piece, k + kLanes<F> / 8)});
  }
}
// use(k, piece) for the pieces of v.
template <class F, class Use>
NNFAST_INLINE void for_pieces(F v, Use use, int k = 0) {
  if constexpr (kLanes<F> == 4) {
    use(k, v);
  } else {
    const Halves<F> half = halves(v);
    for_pieces(half.low, use, k);
    for_pieces(half.high, use, k + kLanes<F> / 8);
  }
}

// Elements of rows in memory, kSquare of each, as vectors with a lane a row; at(row) points to the first of a row.
template <class T, class At>
NNFAST_INLINE void load_square(Vec<T> (&columns)[kSquare<T>], At at) {
  constexpr int side = kSquare<T>;
  for (int i = 0; i < side; ++i)
    columns[i] = bit_cast<Vec<T>>(
        of_pieces<Vec<float>>([&](int k) NNFAST_INLINED { return load_bytes<Quarter>(at(k * side + i)); }));
  transpose_squares(columns);
}
template <class T, class At>
NNFAST_INLINE void store_square(Vec<T> (&columns)[kSquare<T>], At at) {
  constexpr int side = kSquare<T>;
  transpose_squares(columns);
  for (int i = 0; i < side; ++i)
    for_pieces(bit_cast<Vec<float>>(columns[i]),
               [&](int k, Quarter piece) NNFAST_INLINED { store_bytes(at(k * side + i), piece); });
}

}  // namespace
}  // namespace nnfast
