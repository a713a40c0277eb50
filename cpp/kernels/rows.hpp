// Walking the rows of matrices, several rows at a time.
#pragma once

#include <type_traits>

#include "kernels/matrix.hpp"
#include "kernels/unrolled.hpp"
#include "simd/elements.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

// Rows that go through the passes together: a row is a chain of maximum, exponentials, sum and quotient that wait for
// each other, and between the rows nothing waits.
constexpr int kRowsAtOnce = kShort ? 1 : kVectorBytes == 64 ? 4 : 2;

// The stride of elements that lie next to each other, known when the code is compiled.
template <class S>
using Next = std::integral_constant<std::ptrdiff_t, static_cast<std::ptrdiff_t>(sizeof(S))>;

// What elements stored as S are computed with.
template <class S>
using Computed = Element<typename Stored<S>::V>;

// Some rows of a matrix of S; Stride is std::ptrdiff_t or Next.
template <class S, class Stride>
struct Rows {
  using V = typename Stored<S>::V;
  static constexpr bool plain = std::is_same_v<S, Element<V>>;
  static constexpr bool next = std::is_same_v<Stride, Next<S>>;
  char* data;
  std::ptrdiff_t row_stride;
  Stride stride;

  NNFAST_INLINE char* at(int row, std::ptrdiff_t i) const { return data + row * row_stride + i * stride; }
  NNFAST_INLINE V load(int row, std::ptrdiff_t i, std::ptrdiff_t count, Element<V> fill) const {
    const char* from = at(row, i);
    if constexpr (!plain) {
      if (count < kLanes<V>) return Stored<S>::load_lanes(from, stride, 0, count, fill);
      return stride == Next<S>{} ? Stored<S>::load(from) : Stored<S>::load(from, stride, count);
    } else if constexpr (next) {
      const S* values = reinterpret_cast<const S*>(from);
      return count == kLanes<V> ? nnfast::load<V>(values) : load_partial<V>(values, count, fill);
    } else {
      return load_strided<V>(from, stride, count, fill);
    }
  }
  NNFAST_INLINE void store(int row, std::ptrdiff_t i, V v, std::ptrdiff_t count) const {
    char* to = at(row, i);
    if constexpr (!plain) {
      if (count == kLanes<V> && stride == Next<S>{}) return Stored<S>::store(to, v);
      Stored<S>::store(to, stride, v, count);
    } else if constexpr (next) {
      S* values = reinterpret_cast<S*>(to);
      count == kLanes<V> ? nnfast::store(values, v) : store_partial(values, v, count);
    } else {
      store_strided(to, stride, v, count);
    }
  }
};

template <class S>
NNFAST_INLINE Rows<S, Next<S>> next_to_each_other(const Matrix& m, std::ptrdiff_t row) {
  return {m.data + row * m.row_stride, m.row_stride, {}};
}
template <class S>
NNFAST_INLINE Rows<S, std::ptrdiff_t> apart(const Matrix& m, std::ptrdiff_t row) {
  return {m.data + row * m.row_stride, m.row_stride, m.stride};
}

// A single element, as it is computed with.
template <class S>
NNFAST_INLINE Computed<S> load_value(const char* from) {
  if constexpr (std::is_same_v<S, Computed<S>>) return load_element<S>(from);
  return Stored<S>::load(from, 0, 1)[0];
}
template <class S>
NNFAST_INLINE void store_value(char* to, Computed<S> value) {
  if constexpr (std::is_same_v<S, Computed<S>>) return store_element(to, value);
  Stored<S>::store(to, 0, broadcast<typename Stored<S>::V>(value), 1);
}

template <int N>
using Count = std::integral_constant<int, N>;

// Calls body(Count<R>, rows of each matrix...) for all rows from `begin` to `end`, R at a time where their elements lie
// next to each other. Rows of float16 that come here are long: one at a time is as quick, and less code.
template <class S, class Body, class... Matrices>
NNFAST_INLINE void for_rows(std::ptrdiff_t begin, std::ptrdiff_t end, Body body, const Matrices&... matrices) {
  [[maybe_unused]] constexpr Next<S> next;
  std::ptrdiff_t r = begin;
  if constexpr (kRowsAtOnce > 1 && std::is_same_v<S, Computed<S>>) {
    if (((matrices.stride == next) && ...))
      for (; r + kRowsAtOnce <= end; r += kRowsAtOnce)
        body(Count<kRowsAtOnce>{}, r, next_to_each_other<S>(matrices, r)...);
  }
  for (; r < end; ++r) body(Count<1>{}, r, apart<S>(matrices, r)...);
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
