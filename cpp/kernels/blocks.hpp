// Blocks: neighbouring rows of a matrix with a lane of a vector each, element by element, for rows whose elements are
// not contiguous and for short ones.
#pragma once

#include "kernels/rows.hpp"
#include "simd/transpose.hpp"

namespace nnfast {
namespace {

// Elements of an array whose rows are computed together. They lie on the stack: a loop of a ufunc must not allocate.
// Two arrays have room, in threads of 128 KiB of stack, as musl has them: half of it takes up to a fifth longer.
template <class T>
constexpr std::ptrdiff_t kBlockElements = (std::ptrdiff_t{1} << 15) / static_cast<std::ptrdiff_t>(sizeof(T));

// Vectors of rows, side by side: element i of all rows of one is a vector. Looks like Rows, a row being a vector of
// them.
template <class T>
struct Block {
  using V = Vec<T>;
  char* data;
  std::ptrdiff_t stride, next;  // bytes between elements, and between vectors of rows
  std::ptrdiff_t done = 0;      // the rows of so many lanes, which come first, have their results

  NNFAST_INLINE T* at(int r, std::ptrdiff_t i) const { return reinterpret_cast<T*>(data + r * next + i * stride); }
  NNFAST_INLINE V load(int r, std::ptrdiff_t i, std::ptrdiff_t, T) const { return nnfast::load<V>(at(r, i)); }
  NNFAST_INLINE void store(int r, std::ptrdiff_t i, V v, std::ptrdiff_t) const {
    std::ptrdiff_t kept = done;
    asm volatile("" : "+r"(kept));  // else the compiler makes two loops, for done == 0 and for others
    if (kept > 0) v = lanes_between<V>(kept, kLanes<V>) ? v : nnfast::load<V>(at(r, i));
    nnfast::store(at(r, i), v);
  }
  NNFAST_INLINE V get(int r) const { return nnfast::load<V>(at(r, 0)); }
  NNFAST_INLINE void put(int r, V v) const { store(r, 0, v, kLanes<V>); }
};

// A whole one that lies in the array. Where its elements lie further apart than the processor fetches by itself, it
// asks for lines before they are needed: for those it writes and, of a large array, for those the next block reads.
template <class T>
struct WideBlock : Block<T> {
  bool asks;
  std::ptrdiff_t ahead;  // bytes to the next block, or 0
};
template <class X>
constexpr bool kWide = false;
template <class T>
constexpr bool kWide<WideBlock<T>> = true;

template <class Lanes, class X>
NNFAST_INLINE void claim_lines(Lanes lanes, const X& x, std::ptrdiff_t i) {
  if constexpr (kWide<X>)
    if (x.asks) lanes.for_each([&](int r) NNFAST_INLINED { __builtin_prefetch(x.at(r, i), 1); });
}
template <class Lanes, class X>
NNFAST_INLINE void ask_for_next_block(Lanes lanes, const X& x, std::ptrdiff_t i) {
  if constexpr (kWide<X>)
    if (x.ahead != 0)
      lanes.for_each(
          [&](int r) NNFAST_INLINED { __builtin_prefetch(reinterpret_cast<const char*>(x.at(r, i)) + x.ahead, 0, 2); });
}

// n elements, fewer than a vector has: masked stores take long on some processors.
template <class T>
NNFAST_INLINE void copy_elements(T* to, const T* from, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t side = kSquare<T>;
  if (n >= side) {
    for (std::ptrdiff_t i = 0; i + side < n; i += side) store_bytes(to + i, load_bytes<Quarter>(from + i));
    store_bytes(to + n - side, load_bytes<Quarter>(from + n - side));
  } else {
    for (std::ptrdiff_t i = 0; i < n; ++i) to[i] = from[i];
  }
}

// `rows` rows of n elements become vectors of `block`, n for each kLanes rows; lanes of no row have any value. What
// lies `ahead` bytes further is asked for: the processor prefetches along memory, and a block may be narrow.
template <class T>
[[gnu::noinline]] void load_block(Matrix from, std::ptrdiff_t rows, std::ptrdiff_t n, T* block, std::ptrdiff_t ahead) {
  using V = Vec<T>;
  constexpr std::ptrdiff_t lanes = kLanes<V>, size = static_cast<std::ptrdiff_t>(sizeof(T)), side = kSquare<T>;
  const std::ptrdiff_t whole = from.row_stride == size ? rows / lanes * lanes : 0;
  if (whole > 0)
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      const char* at = from.data + i * from.stride;
      T* to = block + i * lanes;
      for (std::ptrdiff_t row = 0; row < whole; row += lanes, to += lanes * n, at += lanes * size) {
        __builtin_prefetch(at + ahead);
        store(to, load_bytes<V>(at));
      }
    }
  for (std::ptrdiff_t row = whole; row < rows; row += lanes) {
    T* to = block + row * n;
    const std::ptrdiff_t some = smaller(rows - row, lanes);
    const char *first = from.data + row * from.row_stride, *at[lanes];
    std::ptrdiff_t i = 0;
    if (from.stride == size) {
      for (std::ptrdiff_t r = 0; r < lanes; ++r) {
        at[r] = first + smaller(r, some - 1) * from.row_stride;
        for (std::ptrdiff_t byte = 0; byte < n * size; byte += 64) __builtin_prefetch(at[r] + ahead + byte);
      }
      for (; i + side <= n; i += side) {
        V columns[side];
        load_square<T>(columns, [&](int r) NNFAST_INLINED { return at[r] + i * size; });
        for (int k = 0; k < side; ++k) store(to + (i + k) * lanes, columns[k]);
      }
    }
    if (from.row_stride == size) {
      for (; i < n; ++i)
        store(to + i * lanes, load_partial<V>(reinterpret_cast<const T*>(first + i * from.stride), some, T{0}));
    } else {
      for (; i < n; ++i) store(to + i * lanes, load_apart<V>(first + i * from.stride, from.row_stride, some, T{0}));
    }
  }
}

// The inverse.
template <class T>
[[gnu::noinline]] void store_block(const T* block, Matrix to, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using V = Vec<T>;
  constexpr std::ptrdiff_t lanes = kLanes<V>, size = static_cast<std::ptrdiff_t>(sizeof(T)), side = kSquare<T>;
  const std::ptrdiff_t whole = to.row_stride == size ? rows / lanes * lanes : 0;
  if (whole > 0)
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      char* at = to.data + i * to.stride;
      const T* from = block + i * lanes;
      for (std::ptrdiff_t row = 0; row < whole; row += lanes, from += lanes * n, at += lanes * size)
        store_bytes(at, load<V>(from));
    }
  for (std::ptrdiff_t row = whole; row < rows; row += lanes) {
    const T* from = block + row * n;
    const std::ptrdiff_t some = smaller(rows - row, lanes);
    char *first = to.data + row * to.row_stride, *at[lanes];
    std::ptrdiff_t i = 0;
    if (to.stride == size && some == lanes) {
      for (std::ptrdiff_t r = 0; r < lanes; ++r) at[r] = first + r * to.row_stride;
      for (; i + side <= n; i += side) {
        V columns[side];
        for (int k = 0; k < side; ++k) columns[k] = load<V>(from + (i + k) * lanes);
        store_square<T>(columns, [&](int r) NNFAST_INLINED { return at[r] + i * size; });
      }
    }
    if (to.row_stride == size) {
      for (; i < n; ++i) copy_elements(reinterpret_cast<T*>(first + i * to.stride), from + i * lanes, some);
    } else {
      for (; i < n; ++i) store_apart(first + i * to.stride, to.row_stride, load<V>(from + i * lanes), some);
    }
  }
}

// How arrays of rows, of n elements or of one, are taken into blocks.
template <class T>
NNFAST_INLINE void load_block(const EachRow& from, std::ptrdiff_t rows, std::ptrdiff_t, T* block, std::ptrdiff_t) {
  load_block(Matrix{from.data, from.row_stride, 0}, rows, 1, block, 0);
}
template <class T>
NNFAST_INLINE void store_block(const T* block, const EachRow& to, std::ptrdiff_t rows, std::ptrdiff_t) {
  store_block(block, Matrix{to.data, to.row_stride, 0}, rows, 1);
}
NNFAST_INLINE std::ptrdiff_t length_of(const Matrix&, std::ptrdiff_t n) { return n; }
NNFAST_INLINE std::ptrdiff_t length_of(const EachRow&, std::ptrdiff_t) { return 1; }
NNFAST_INLINE std::ptrdiff_t ahead_of(const Matrix& m, std::ptrdiff_t rows) { return rows * m.row_stride; }
NNFAST_INLINE std::ptrdiff_t ahead_of(const EachRow&, std::ptrdiff_t) { return 0; }
NNFAST_INLINE EachRow rows_from(const EachRow& values, std::ptrdiff_t first) {
  return {values.data + first * values.row_stride, values.row_stride};
}

// Rows too long for a block: all of them are computed where they lie, the last that fill no vector with some before
// them.
template <class T>
NNFAST_INLINE bool too_long(std::ptrdiff_t n) {
  return n > kBlockElements<T> / kLanes<Vec<T>>;
}

// Whether vectors of rows can be computed where they lie: their lines stay in the first-level cache, also of large
// strides, unless they share a set there; and in the second-level one where the neighbours read the rest of a line.
// Without exponentials, where many vectors lie side by side, those passed over again come from the second-level cache.
template <class T>
NNFAST_INLINE bool lies_across(const Matrix& m, std::ptrdiff_t n, bool exponentials) {
  constexpr std::ptrdiff_t most = std::ptrdiff_t{1} << (kVectorBytes == 64 ? 23 : 22), page = 4096;
  if (m.row_stride != static_cast<std::ptrdiff_t>(sizeof(T))) return false;
  const bool cached = m.stride % page != 0 && m.stride * n <= most;
  return (m.stride > 0 && (!exponentials || cached)) || too_long<T>(n);
}
template <class T>
NNFAST_INLINE bool lies_across(const EachRow& values, std::ptrdiff_t, bool) {
  return values.row_stride == static_cast<std::ptrdiff_t>(sizeof(T));
}
template <class T>
NNFAST_INLINE Block<T> lying_at(const Matrix& m, std::ptrdiff_t row, std::ptrdiff_t done) {
  return {m.data + row * m.row_stride, m.stride, sizeof(Vec<T>), done};
}
template <class T>
NNFAST_INLINE Block<T> lying_at(const EachRow& values, std::ptrdiff_t row, std::ptrdiff_t done) {
  return {values.data + row * values.row_stride, 0, sizeof(Vec<T>), done};
}

// How many of the rows are computed across; the others follow. Contiguous ones are, too, if they are shorter than two
// blocks and do not fill theirs: their sums and tails take longer than turning them; but not beside a few operations.
template <class T, class... Arrays>
NNFAST_INLINE std::ptrdiff_t rows_across(bool exponentials, std::ptrdiff_t rows, std::ptrdiff_t n,
                                         const Arrays&... arrays) {
  constexpr std::ptrdiff_t lanes = kLanes<Vec<T>>;
  if (kShort || n == 0) return 0;
  if (too_long<T>(n)) return rows >= lanes && (lies_across<T>(arrays, n, exponentials) && ...) ? rows : 0;
  if ((is_contiguous<T>(arrays) && ...))
    return exponentials && rows >= lanes / 2 && n < 2 * kReduceBlock && n % kReduceBlock != 0 ? rows : 0;
  // Strided ones are loaded an element at a time, which takes the longer the more lanes there are.
  return rows >= (lanes > 8 ? 3 : lanes / 2) ? rows : 0;
}

// Elements a multiple of a page apart share sets of the caches, from which what is asked for drives what is needed.
inline bool lies_far(const Matrix& m) {
  constexpr std::ptrdiff_t page = 4096;
  return m.stride > page && m.stride % page != 0;
}
inline bool lies_far(const EachRow&) { return false; }
template <class T>
NNFAST_INLINE WideBlock<T> wide_at(const Matrix& m, std::ptrdiff_t row, std::ptrdiff_t n, std::ptrdiff_t width) {
  constexpr std::ptrdiff_t past_caches = std::ptrdiff_t{1} << 24;
  const bool asks = lies_far(m);
  return {lying_at<T>(m, row, 0), asks, asks && m.stride * n > past_caches ? width * m.row_stride : 0};
}

// Calls body(Count<Most>, Most, wide block of each array...) for whole ones; returns how many rows they have. Not
// inlined, as the loop beside it would take longer.
template <class T, int Most, class Body, class... Arrays>
[[gnu::noinline]] std::ptrdiff_t for_wide_blocks(std::ptrdiff_t rows, std::ptrdiff_t n, Body body,
                                                 const Arrays&... arrays) {
  constexpr std::ptrdiff_t width = Most * kLanes<Vec<T>>;
  std::ptrdiff_t first = 0;
  for (; first + width <= rows; first += width) body(Count<Most>{}, Most, wide_at<T>(arrays, first, n, width)...);
  return first;
}

// Calls body(Count<Most>, some, block of each array...) for all rows, of some vectors of them, at most Most, where they
// are computed where they lie. The results, which are the last array, go through the block of one of the others that
// has n elements a row, or there is one of them a row.
template <class T, int Most, bool Wide, class Body, class... Arrays>
NNFAST_INLINE void for_blocks_of_rows(bool exponentials, std::ptrdiff_t rows, std::ptrdiff_t n, Body body,
                                      const Arrays&... arrays) {
  constexpr std::ptrdiff_t lanes = kLanes<Vec<T>>, size = static_cast<std::ptrdiff_t>(sizeof(T));
  constexpr int count = sizeof...(arrays), last = count - 1;
  constexpr std::ptrdiff_t most = 4;  // vectors of rows in a block
  // Where they lie, they are passed over twice: bytes of an array that stay in the second-level cache.
  constexpr std::ptrdiff_t near = std::ptrdiff_t{1} << 17;
  alignas(64) T room[last][kBlockElements<T> + 64 / size], values[most * lanes];
  const std::ptrdiff_t lengths[count] = {length_of(arrays, n)...};
  T* place[count];
  place[last] = values;
  for (int k = 0; k < last; ++k) {
    place[k] = room[k];
    if (lengths[k] == n && lengths[last] == n) place[last] = room[k];
  }
  const bool direct = (lies_across<T>(arrays, n, exponentials) && ...);
  const std::ptrdiff_t vectors = smaller(kBlockElements<T> / lanes / n, most),
                       width = (vectors < 1 ? 1 : vectors) * lanes, fitting = near / lanes / size / n,
                       lying = fitting < 1 ? 1 : smaller(fitting, Most);
  [&]<int... k>(std::integer_sequence<int, k...>) NNFAST_INLINED {
    std::ptrdiff_t first = 0;
    if constexpr (Wide)
      if (direct && lying == Most) first = for_wide_blocks<T, Most>(rows, n, body, arrays...);
    while (first < rows) {
      const bool here = direct && (too_long<T>(n) || first + lanes <= rows);
      const std::ptrdiff_t whole = smaller(lying, (rows - first) / lanes) * lanes;
      const std::ptrdiff_t some = here && whole > 0 ? whole : smaller(here ? lanes : width, rows - first);
      const auto load = [&](int a, const auto& array) NNFAST_INLINED {
        if (a < last) load_block(rows_from(array, first), some, n, place[a], ahead_of(array, width));
      };
      const auto save = [&](int a, const auto& array) NNFAST_INLINED {
        if (a == last) store_block(place[a], rows_from(array, first), some, n);
      };
      if (!here) (load(k, arrays), ...);
      const std::ptrdiff_t step = whole > 0 && here ? whole : lanes;
      const std::ptrdiff_t lie = smaller(first, rows - lanes);  // the last with some that are done
      for (std::ptrdiff_t row = 0; row < some; row += step)
        body(Count<Most>{}, static_cast<int>(step / lanes),
             (here ? lying_at<T>(arrays, lie, first - lie)
                   : Block<T>{reinterpret_cast<char*>(place[k] + row * lengths[k]), lanes * size, 0})...);
      if (!here) (save(k, arrays), ...);
      first += some;
    }
  }(std::make_integer_sequence<int, count>{});
}

}  // namespace
}  // namespace nnfast
