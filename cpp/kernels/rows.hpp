// Loops over the rows of matrices, unrolled over rows.
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
constexpr int kUnrolledRows = kShort ? 1 : kVectorBytes == 64 ? 4 : 2;

// What elements stored as S are computed with.
template <class S>
using Computed = Element<typename Stored<S>::V>;

// Some rows of a matrix of S; Stride is std::ptrdiff_t or Contiguous.
template <class S, class Stride>
struct Rows {
  using V = typename Stored<S>::V;
  static constexpr bool kContiguous = std::is_same_v<Stride, Contiguous<S>>;
  char* data;
  std::ptrdiff_t row_stride;
  Stride stride;

  NNFAST_INLINE char* at(int row, std::ptrdiff_t i) const { return data + row * row_stride + i * stride; }
  // Tails of contiguous rows are inlined: rows may be short.
  NNFAST_INLINE V load(int row, std::ptrdiff_t i, std::ptrdiff_t count, Element<V> fill) const {
    if constexpr (kContiguous) {
      const S* from = reinterpret_cast<const S*>(at(row, i));
      return count == kLanes<V> ? nnfast::load<V>(from) : load_partial<V>(from, count, fill);
    } else {
      return load_elements<S>(at(row, 0), stride, i, count, fill);
    }
  }
  NNFAST_INLINE void store(int row, std::ptrdiff_t i, V v, std::ptrdiff_t count) const {
    if constexpr (kContiguous) {
      S* to = reinterpret_cast<S*>(at(row, i));
      count == kLanes<V> ? nnfast::store(to, v) : store_partial(to, v, count);
    } else {
      store_elements<S>(at(row, 0), stride, i, v, count);
    }
  }
};

template <class S>
NNFAST_INLINE Rows<S, Contiguous<S>> contiguous_rows(const Matrix& m, std::ptrdiff_t row) {
  return {m.data + row * m.row_stride, m.row_stride, {}};
}
template <class S>
NNFAST_INLINE Rows<S, std::ptrdiff_t> strided_rows(const Matrix& m, std::ptrdiff_t row) {
  return {m.data + row * m.row_stride, m.row_stride, m.stride};
}

// Asks for the elements that lie where these do in the rows after some R: the processor does not see where the next
// rows begin, and without that softmax of rows of 100 that are not in the second-level cache takes a quarter longer.
// Not where R rows are much of the first-level cache.
template <int R, class X>
NNFAST_INLINE void prefetch_next_rows(const X& x, int row, std::ptrdiff_t i, int writes = 0) {
  if constexpr (requires { requires X::kContiguous; }) {
    constexpr std::ptrdiff_t most = 4096;
    const std::ptrdiff_t ahead = x.row_stride < most ? R * x.row_stride : 0;
    writes ? __builtin_prefetch(x.at(row, i) + ahead, 1) : __builtin_prefetch(x.at(row, i) + ahead);
  }
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

// One element a row, at a byte stride.
struct EachRow {
  char* data;
  std::ptrdiff_t row_stride;
};
template <class S>
struct RowValues {
  EachRow values;
  NNFAST_INLINE char* at(int row) const { return values.data + row * values.row_stride; }
  NNFAST_INLINE typename Stored<S>::V get(int row) const {
    return broadcast<typename Stored<S>::V>(load_value<S>(at(row)));
  }
  NNFAST_INLINE void put(int row, typename Stored<S>::V v) const { store_value<S>(at(row), v[0]); }
};
template <class S>
NNFAST_INLINE RowValues<S> strided_rows(const EachRow& values, std::ptrdiff_t row) {
  return {{values.data + row * values.row_stride, values.row_stride}};
}
template <class S>
NNFAST_INLINE RowValues<S> contiguous_rows(const EachRow& values, std::ptrdiff_t row) {
  return strided_rows<S>(values, row);
}

template <class S>
NNFAST_INLINE bool is_contiguous(const Matrix& m) {
  return m.stride == Contiguous<S>{};
}
template <class S>
NNFAST_INLINE bool is_contiguous(const EachRow&) {
  return true;
}

// Zero in the lanes past `count`, so that they do not enter a sum.
template <class V>
NNFAST_INLINE V first_lanes(V v, std::ptrdiff_t count) {
  if (count < kLanes<V>)
    for (std::ptrdiff_t k = count < 0 ? 0 : count; k < kLanes<V>; ++k) v[k] = 0;
  return v;
}
template <class V>
NNFAST_INLINE Widened<V> first_lanes(Widened<V> v, std::ptrdiff_t count) {
  if (count < kLanes<V>)
    for (int k = 0; k < v.count; ++k)
      v.part[k] = first_lanes(v.part[k], count - k * static_cast<std::ptrdiff_t>(kLanes<Vec<double>>));
  return v;
}

template <int N>
using Count = std::integral_constant<int, N>;

// Calls body(Count<R>, row, rows of each matrix...) for the rows [begin, end), Together of them where their elements
// are contiguous. Rows of float16 that come here are long: one by one is as quick, and less code.
template <class S, int Together = kUnrolledRows, class Body, class... Matrices>
NNFAST_INLINE void for_rows(std::ptrdiff_t begin, std::ptrdiff_t end, Body body, const Matrices&... matrices) {
  std::ptrdiff_t r = begin;
  if constexpr (Together > 1 && std::is_same_v<S, Computed<S>>) {
    if ((is_contiguous<S>(matrices) && ...))
      for (; r + Together <= end; r += Together) body(Count<Together>{}, r, contiguous_rows<S>(matrices, r)...);
  }
  for (; r < end; ++r) body(Count<1>{}, r, strided_rows<S>(matrices, r)...);
}

// Whether the vectors of a step of a reduction are unrolled. Those of double are not: each is much code, and computes
// so long that the processor finds the next ones by itself, whose sums have no room in registers anyway.
template <class T>
constexpr bool kUnrolledSteps = !kShort && sizeof(T) < sizeof(double);

// Calls body(i, part, count) for every vector of n elements, in the order of the reductions.
template <class T, bool Unrolled = kUnrolledSteps<T>, class Body>
NNFAST_INLINE void for_blocks(std::ptrdiff_t n, Body body) {
  constexpr std::ptrdiff_t lanes = kLanes<Vec<T>>;
  if constexpr (Unrolled) {
    const auto block = [&](std::ptrdiff_t i, std::ptrdiff_t left) NNFAST_INLINED {
      unrolled<kReduceParts<T>>([&](int part)
                                    NNFAST_INLINED { body(i + part * lanes, part, part_count<T>(left, part)); });
    };
    std::ptrdiff_t i = 0;
    for (; i + kReduceBlock <= n; i += kReduceBlock) block(i, kReduceBlock);
    if (i < n) block(i, n - i);
  } else {
    for (std::ptrdiff_t i = 0; i < n; i += lanes)
      body(i, static_cast<int>(i % kReduceBlock / lanes), smaller(lanes, n - i));
  }
}

// Calls body(i, part) for every vector of whole steps of a reduction.
template <class T, class Body>
NNFAST_INLINE void for_steps(std::ptrdiff_t n, Body body) {
  constexpr int together = kShort ? 1 : (kUnrolledSteps<T> ? kReduceParts<T> : 2);
  for (std::ptrdiff_t i = 0; i < n; i += kReduceBlock)
    for (int part = 0; part < kReduceParts<T>; part += together)
      unrolled<together>([&](int u) NNFAST_INLINED { body(i + (part + u) * kLanes<Vec<T>>, part + u); });
}

// Calls body(i, count) for every vector of n elements.
template <class T, class Body>
NNFAST_INLINE void for_vectors(std::ptrdiff_t n, Body body) {
  std::ptrdiff_t i = 0;
  for (; i + kLanes<Vec<T>> <= n; i += kLanes<Vec<T>>) body(i, kLanes<Vec<T>>);
  if (i < n) body(i, n - i);
}

}  // namespace
}  // namespace nnfast
