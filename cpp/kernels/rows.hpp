// Walking the rows of matrices, several rows at a time.
#pragma once

#include <type_traits>

#include "kernels/matrix.hpp"
#include "kernels/unrolled.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

// Rows that go through the passes together: a row is a chain of maximum, exponentials, sum and quotient that wait for
// each other, and between the rows nothing waits.
constexpr int kRowsAtOnce = kShort ? 1 : kVectorBytes == 64 ? 4 : 2;

// The stride of elements that lie next to each other, known when the code is compiled.
template <class T>
using Next = std::integral_constant<std::ptrdiff_t, static_cast<std::ptrdiff_t>(sizeof(T))>;

// Some rows of a matrix; Stride is std::ptrdiff_t or Next.
template <class T, class Stride>
struct Rows {
  using V = Vec<T>;
  char* data;
  std::ptrdiff_t row_stride;
  Stride stride;

  NNFAST_INLINE char* at(int row, std::ptrdiff_t i) const { return data + row * row_stride + i * stride; }
  NNFAST_INLINE V load(int row, std::ptrdiff_t i, std::ptrdiff_t count, T fill) const {
    if constexpr (std::is_same_v<Stride, Next<T>>) {
      const T* from = reinterpret_cast<const T*>(at(row, i));
      return count == kLanes<V> ? nnfast::load<V>(from) : load_partial<V>(from, count, fill);
    } else {
      return load_strided<V>(at(row, i), stride, count, fill);
    }
  }
  NNFAST_INLINE void store(int row, std::ptrdiff_t i, V v, std::ptrdiff_t count) const {
    if constexpr (std::is_same_v<Stride, Next<T>>) {
      T* to = reinterpret_cast<T*>(at(row, i));
      count == kLanes<V> ? nnfast::store(to, v) : store_partial(to, v, count);
    } else {
      store_strided(at(row, i), stride, v, count);
    }
  }
};

template <class T>
NNFAST_INLINE Rows<T, Next<T>> next_to_each_other(const Matrix& m, std::ptrdiff_t row) {
  return {m.data + row * m.row_stride, m.row_stride, {}};
}
template <class T>
NNFAST_INLINE Rows<T, std::ptrdiff_t> apart(const Matrix& m, std::ptrdiff_t row) {
  return {m.data + row * m.row_stride, m.row_stride, m.stride};
}

template <int N>
using Count = std::integral_constant<int, N>;

// Calls body(Count<R>, rows of each matrix...) for all rows from `begin` to `end`, R at a time where their elements lie
// next to each other.
template <class T, class Body, class... Matrices>
NNFAST_INLINE void for_rows(std::ptrdiff_t begin, std::ptrdiff_t end, Body body, const Matrices&... matrices) {
  constexpr Next<T> next;
  std::ptrdiff_t r = begin;
  if constexpr (kRowsAtOnce > 1) {
    if (((matrices.stride == next) && ...))
      for (; r + kRowsAtOnce <= end; r += kRowsAtOnce)
        body(Count<kRowsAtOnce>{}, r, next_to_each_other<T>(matrices, r)...);
  }
  for (; r < end; ++r) body(Count<1>{}, r, apart<T>(matrices, r)...);
}

// Calls body(i, part, count) for every vector of rows of n elements, in the order of the reductions.
template <class T, class Body>
NNFAST_INLINE void for_blocks(std::ptrdiff_t n, Body body) {
  const auto vector = [&](std::ptrdiff_t i, std::ptrdiff_t left, int part)
                          NNFAST_INLINED { body(i + part * kLanes<Vec<T>>, part, part_count<T>(left, part)); };
  if constexpr (kShort) {
    for (std::ptrdiff_t i = 0; i < n; i += kReduceBlock)
      for (int part = 0; part < kReduceParts<T>; ++part) vector(i, n - i, part);
  } else {
    const auto block = [&](std::ptrdiff_t i, std::ptrdiff_t left) NNFAST_INLINED {
      unrolled<kReduceParts<T>>([&](int part) NNFAST_INLINED { vector(i, left, part); });
    };
    std::ptrdiff_t i = 0;
    for (; i + kReduceBlock <= n; i += kReduceBlock) block(i, kReduceBlock);
    if (i < n) block(i, n - i);
  }
}

// Calls body(i, count) for every vector of rows of n elements.
template <class T, class Body>
NNFAST_INLINE void for_vectors(std::ptrdiff_t n, Body body) {
  std::ptrdiff_t i = 0;
  for (; i + kLanes<Vec<T>> <= n; i += kLanes<Vec<T>>) body(i, kLanes<Vec<T>>);
  if (i < n) body(i, n - i);
}

}  // namespace
}  // namespace nnfast
