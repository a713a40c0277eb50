// What windows give to the elements they lie over: sums for a row of x, of the means' gradients or of columns. An
// element's terms are added one after the other, in an order that depends on nothing else.
#pragma once

#include <utility>

#include "kernels/pooling.hpp"
#include "kernels/rows.hpp"
#include "simd/elements.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

// Element q * stride + r - padding of a row is sum q of phase r: what neighbouring windows give lies side by side
// there. Where strides are long it is sum q * stride + r of one phase: what a window gives lies side by side there.
constexpr std::ptrdiff_t kPhases = 8, kRun = 128, kLongRun = 1024, kAround = 16;
// Of all sums that are worked on together, several rows where these are short: a sum that is loaded just after it was
// stored as a part of other vectors has to wait for them.
template <class T>
constexpr std::ptrdiff_t kSums = 16384 / static_cast<std::ptrdiff_t>(sizeof(T));

// The sums [first, first + count) of each phase of the rows [row, end).
struct RowPart {
  std::ptrdiff_t first, count, row, end, stride;
  bool one_phase() const { return stride > kPhases; }
  std::ptrdiff_t phases() const { return one_phase() ? 1 : stride; }
  std::ptrdiff_t pitch() const { return count + kAround; }
  std::ptrdiff_t row_pitch() const { return pitch() * phases(); }
};

// a / b of what is not negative, where b is 1 or 2 more often than not.
NNFAST_INLINE std::ptrdiff_t over(std::ptrdiff_t a, std::ptrdiff_t b) { return b == 1 ? a : (b == 2 ? a >> 1 : a / b); }

constexpr std::ptrdiff_t larger(std::ptrdiff_t a, std::ptrdiff_t b) { return a > b ? a : b; }

// Where the sums of a row begin to which windows give their element at `place`, and those windows: sum o + shift is
// window o's.
struct Shifted {
  std::ptrdiff_t at, begin, end;
};
NNFAST_INLINE Shifted shifted(const RowPart& part, std::ptrdiff_t place, std::ptrdiff_t begin, std::ptrdiff_t end) {
  const std::ptrdiff_t q = over(place, part.stride), shift = q - part.first;
  return {(place - q * part.stride) * part.pitch() + shift, larger(begin, -shift), smaller(end, part.count - shift)};
}

// Adds what windows give to sums of a row. Those behind may get anything. Whole: whether there are zeros behind.
template <class S, bool Whole = false>
NNFAST_INLINE void add_windows(Computed<S>* sums, const Shifted& windows, const char* from, std::ptrdiff_t step) {
  using V = typename Stored<S>::V;
  Computed<S>* const to = sums + windows.at;
  for (std::ptrdiff_t o = windows.begin; o < windows.end; o += kLanes<V>)
    store(to + o,
          load<V>(to + o) + load_elements<S>(from, step, o, Whole ? kLanes<V> : smaller(kLanes<V>, windows.end - o)));
}

// Where the part has one phase. Cold, as other rare ones: compiled for size.
template <class S>
[[gnu::noinline, gnu::cold]] void add_windows_apart(const RowPart& part, Computed<S>* sums, std::ptrdiff_t place,
                                                    const char* from, std::ptrdiff_t step, std::ptrdiff_t end) {
  const std::ptrdiff_t stride = part.stride, first = larger(0, part.first - place + stride - 1) / stride;
  for (std::ptrdiff_t o = first, at = o * stride + place - part.first; o < end && at < part.count; ++o, at += stride)
    sums[at] += load_value<S>(from + o * step);
}

// Elements `at`, `at` + 1, ... of a row, those of `count` that it has.
template <class S>
NNFAST_INLINE void store_run(const PoolArray& x, char* row, std::ptrdiff_t at, std::ptrdiff_t n,
                             const Computed<S>* values, std::ptrdiff_t count) {
  using V = typename Stored<S>::V;
  const std::ptrdiff_t first = larger(0, -at), last = smaller(count, n - at);
  for (std::ptrdiff_t i = first; i < last; i += kLanes<V>)
    store_elements<S>(row + at * x.column, x.column, i, load<V>(values + i), smaller(kLanes<V>, last - i));
}

template <class V>
NNFAST_INLINE void interleave(Element<V>* to, V a, V b) {
  constexpr int lanes = kLanes<V>;
  [&]<int... i>(std::integer_sequence<int, i...>) NNFAST_INLINED {
    store(to, __builtin_shufflevector(a, b, (i / 2 + i % 2 * lanes)...));
    store(to + lanes, __builtin_shufflevector(a, b, (lanes / 2 + i / 2 + i % 2 * lanes)...));
  }(std::make_integer_sequence<int, lanes>{});
}

template <class S>
[[gnu::noinline]] void store_part(const PoolAxis& axis, const PoolArray& x, char* row, const RowPart& part,
                                  const Computed<S>* sums) {
  using V = typename Stored<S>::V;
  const std::ptrdiff_t stride = part.phases();
  if (stride == 1) return store_run<S>(x, row, part.first - axis.padding, axis.n, sums, part.count);
  alignas(64) Computed<S> together[kPhases * (kRun + kAround)];
  std::ptrdiff_t filled = part.count * stride;
  if (stride == 2) {
    std::ptrdiff_t i = 0;
    for (; i < part.count; i += kLanes<V>)
      interleave(together + 2 * i, load<V>(sums + i), load<V>(sums + part.pitch() + i));
    filled = 2 * i;
  } else {
    for (std::ptrdiff_t r = 0; r < stride; ++r)
      for (std::ptrdiff_t i = 0; i < part.count; ++i) together[i * stride + r] = sums[r * part.pitch() + i];
  }
  store(together + filled, V{});  // the last vector reads behind them
  store_run<S>(x, row, part.first * stride - axis.padding, axis.n, together, part.count * stride);
}

// Calls add(part, sums) for parts of the rows [first, last) of a plane of x, and stores the sums.
template <class S, class Add>
NNFAST_INLINE void sum_rows(const PoolAxis& axis, const PoolArray& x, std::ptrdiff_t first, std::ptrdiff_t last,
                            Add add) {
  using V = typename Stored<S>::V;
  using T = Computed<S>;
  alignas(64) T sums[kSums<T> + kAround];
  RowPart part{0, 0, 0, 0, axis.stride};
  const std::ptrdiff_t stride = part.phases(), run = part.one_phase() ? kLongRun : kRun;
  // Some of the padding takes part, so that vectors are whole more often.
  const std::ptrdiff_t around = part.one_phase() ? 0 : smaller(axis.padding, kAround);
  const std::ptrdiff_t end = over(axis.n - 1 + axis.padding + around, stride) + 1;
  volatile T nothing = 0;  // GCC makes `rep stos` of zeros that it knows, which takes longer than a short row
  const V zeros = broadcast<V>(nothing);
  for (part.first = over(axis.padding - around, stride); part.first < end; part.first += run) {
    part.count = smaller(run, end - part.first);
    const std::ptrdiff_t row_pitch = part.row_pitch(), rows = kSums<T> / row_pitch;
    for (part.row = first; part.row < last; part.row = part.end) {
      part.end = smaller(last, part.row + rows);
      for (std::ptrdiff_t i = 0; i < (part.end - part.row) * row_pitch; i += kLanes<V>) store(sums + i, zeros);
      add(part, sums);
      for (std::ptrdiff_t row = part.row; row < part.end; ++row)
        store_part<S>(axis, x, x.at(row, 0), part, sums + (row - part.row) * row_pitch);
    }
  }
}

// ---- means ----

// What windows o, o + 1, ... of a row, `count` of them, are divided by, along the row. Not inlined: few lie at an edge.
template <class V>
[[gnu::noinline, gnu::cold]] V divisors_at_edge(const Pooling& pooling, std::ptrdiff_t o, std::ptrdiff_t count) {
  V divisors = broadcast<V>(1);
  for (std::ptrdiff_t i = 0; i < count; ++i)
    divisors[i] = static_cast<Element<V>>(divisor_of(pooling.columns, o + i, pooling.counts_padding));
  return divisors;
}

// What the sums of windows o, o + 1, ... of row oy are divided by; a lane behind `count` by anything but 0.
template <class V>
NNFAST_INLINE V divisors(const Pooling& pooling, Element<V> rows, std::ptrdiff_t o, std::ptrdiff_t count) {
  const PoolAxis& axis = pooling.columns;
  const std::ptrdiff_t around = pooling.counts_padding ? axis.padding : 0, begin = o * axis.stride - axis.padding;
  if (begin < -around || begin + (count - 1) * axis.stride + axis.kernel > axis.n + around)
    return divisors_at_edge<V>(pooling, o, count) * broadcast<V>(rows);
  return broadcast<V>(static_cast<Element<V>>(axis.kernel) * rows);
}

template <class T>
NNFAST_INLINE T rows_divisor(const Pooling& pooling, std::ptrdiff_t oy) {
  return static_cast<T>(divisor_of(pooling.rows, oy, pooling.counts_padding));
}

// What the windows of row oy give to a part of one phase, one after the other.
template <class S>
[[gnu::noinline, gnu::cold]] void add_long_windows(const Pooling& pooling, const RowPart& part, std::ptrdiff_t oy,
                                                   Computed<S>* sums) {
  using V = typename Stored<S>::V;
  const PoolAxis& axis = pooling.columns;
  const std::ptrdiff_t end = part.first + part.count, stride = axis.stride;
  const std::ptrdiff_t first = larger(0, part.first - axis.kernel + stride) / stride;
  for (std::ptrdiff_t o = first; o < axis.count && o * stride < end; ++o) {
    const V share = broadcast<V>(load_value<S>(pooling.y.at(oy, o))) /
                    divisors<V>(pooling, rows_divisor<Computed<S>>(pooling, oy), o, 1)[0];
    const std::ptrdiff_t last = smaller(o * stride + axis.kernel, end);
    for (std::ptrdiff_t t = larger(o * stride, part.first); t < last; t += kLanes<V>) {
      Computed<S>* const to = sums + t - part.first;
      store(to, load<V>(to) + (t + kLanes<V> <= last ? share : (lanes_between<V>(0, last - t) ? share : V{})));
    }
  }
}

// Rows [first, last) of dx: windows ascend where their elements descend.
template <class S>
NNFAST_INLINE void sum_shares(const Pooling& pooling, std::ptrdiff_t first_row, std::ptrdiff_t last_row) {
  using V = typename Stored<S>::V;
  using T = Computed<S>;
  const PoolAxis &down = pooling.rows, &axis = pooling.columns;
  sum_rows<S>(axis, pooling.x, first_row, last_row, [&](const RowPart& part, T* sums) NNFAST_INLINED {
    const std::ptrdiff_t first = larger(0, part.first - over(axis.kernel - 1, axis.stride));
    const std::ptrdiff_t end = smaller(axis.count, part.first + part.count), row_pitch = part.row_pitch();
    const std::ptrdiff_t bottom = windows_of(down, part.end - 1).last;
    alignas(64) T shares[kRun + 2 * kAround];
    for (std::ptrdiff_t oy = windows_of(down, part.row).first; oy < bottom; ++oy) {
      const std::ptrdiff_t top = oy * down.stride - down.padding;
      T* const low_row = sums + (larger(part.row, top) - part.row) * row_pitch;
      T* const end_row = sums + (smaller(part.end, top + down.kernel) - part.row) * row_pitch;
      if (part.one_phase()) {
        for (T* row = low_row; row < end_row; row += row_pitch) add_long_windows<S>(pooling, part, oy, row);
        continue;
      }
      const T of_rows = rows_divisor<T>(pooling, oy);
      const char* const dy = pooling.y.at(oy, 0);
      for (std::ptrdiff_t o = first; o < end; o += kRun) {
        const std::ptrdiff_t count = smaller(kRun, end - o);
        std::ptrdiff_t i = 0;
        for (; i < count; i += kLanes<V>) {
          const std::ptrdiff_t there = smaller(kLanes<V>, count - i);
          store(shares + i,
                load_elements<S>(dy, pooling.y.column, o + i, there) / divisors<V>(pooling, of_rows, o + i, there));
        }
        store(shares + i, V{});
        const char* const from = reinterpret_cast<const char*>(shares) - o * static_cast<std::ptrdiff_t>(sizeof(T));
        const std::ptrdiff_t low = larger(0, (part.first - o - count + 1) * axis.stride);
        for (std::ptrdiff_t k = smaller(axis.kernel, (part.first + part.count - o) * axis.stride) - 1; k >= low; --k) {
          const Shifted windows = shifted(part, k, o, o + count);
          for (T* row = low_row; row < end_row; row += row_pitch)
            add_windows<T, true>(row, windows, from, Contiguous<T>{});
        }
      }
    }
  });
}

// Windows of two by two that do not overlap: no sums. 0 is added as it is to sums, where -0 becomes 0.
template <class S>
NNFAST_INLINE void share_between_two(const Pooling& pooling, std::ptrdiff_t oy, char* row) {
  using V = typename Stored<S>::V;
  const PoolAxis& axis = pooling.columns;
  const bool there = oy < pooling.rows.count;
  const auto of_rows = there ? rows_divisor<Computed<S>>(pooling, oy) : 0;
  for (std::ptrdiff_t o = 0; 2 * o < axis.n; o += kLanes<V>) {
    const std::ptrdiff_t count = there ? smaller(kLanes<V>, axis.count - o) : 0;
    alignas(64) Computed<S> both[2 * kLanes<V>] = {};
    if (count > 0) {
      const V share =
          load_elements<S>(pooling.y.at(oy, 0), pooling.y.column, o, count) / divisors<V>(pooling, of_rows, o, count);
      interleave(both, share + V{}, share + V{});
    }
    store_run<S>(pooling.x, row, 2 * o, axis.n, both, 2 * kLanes<V>);
  }
}

// Where the windows of a row are few, vectors of them do not pay: element by element, in the same order. Of float32
// alone, as most are.
[[maybe_unused, gnu::noinline]] void sum_by_element(const Pooling& pooling, std::ptrdiff_t first_row,
                                                    std::ptrdiff_t last_row) {
  using T = float;
  const PoolAxis &down = pooling.rows, &axis = pooling.columns;
  const PoolArray& x = pooling.x;
  for (std::ptrdiff_t iy = first_row; iy < last_row; ++iy)
    for (std::ptrdiff_t ix = 0; ix < axis.n; ++ix) store_element(x.at(iy, ix), T{0});
  for (std::ptrdiff_t oy = windows_of(down, first_row).first; oy < windows_of(down, last_row - 1).last; ++oy) {
    const std::ptrdiff_t top = oy * down.stride - down.padding;
    const std::ptrdiff_t low = larger(top, first_row), high = smaller(top + down.kernel, last_row);
    const T of_rows = rows_divisor<T>(pooling, oy);
    for (std::ptrdiff_t o = 0; o < axis.count; ++o) {
      const T share = load_element<T>(pooling.y.at(oy, o)) /
                      (static_cast<T>(divisor_of(axis, o, pooling.counts_padding)) * of_rows);
      const std::ptrdiff_t begin = o * axis.stride - axis.padding;
      const std::ptrdiff_t left = larger(begin, 0), right = smaller(begin + axis.kernel, axis.n);
      for (std::ptrdiff_t iy = low; iy < high; ++iy) {
        char* to = x.at(iy, left);
        for (std::ptrdiff_t ix = left; ix < right; ++ix, to += x.column) store_element(to, load_element<T>(to) + share);
      }
    }
  }
}

template <class S>
unsigned mean_backward_along(const Pooling& pooling, std::ptrdiff_t first, std::ptrdiff_t last) {
  const ExceptionScope exceptions;
  const PoolAxis &down = pooling.rows, &axis = pooling.columns;
  if (axis.stride == 2 && axis.kernel == 2 && axis.padding == 0 && down.kernel == down.stride && down.padding == 0) {
    for (std::ptrdiff_t iy = first; iy < last; ++iy)
      share_between_two<S>(pooling, over(iy, down.stride), pooling.x.at(iy, 0));
  } else {
    constexpr std::ptrdiff_t kFew = 4;
    if constexpr (!kShort && std::is_same_v<S, float>)
      if (axis.count <= kFew && axis.kernel <= kAround && first < last) {
        sum_by_element(pooling, first, last);
        return exceptions.raised() & kRaisedOverflow;
      }
    sum_shares<S>(pooling, first, last);
  }
  return exceptions.raised() & kRaisedOverflow;
}

// Of all channels, whose neighbours are lanes.
template <class S>
unsigned mean_backward_across(const Pooling& pooling, std::ptrdiff_t first, std::ptrdiff_t last) {
  using V = typename Stored<S>::V;
  using T = Computed<S>;
  const ExceptionScope exceptions;
  for (std::ptrdiff_t iy = first; iy < last; ++iy) {
    const PoolWindows rows = windows_of(pooling.rows, iy);
    for (std::ptrdiff_t ix = 0; ix < pooling.columns.n; ++ix) {
      const PoolWindows columns = windows_of(pooling.columns, ix);
      for (std::ptrdiff_t c = 0; c < pooling.channels; c += kLanes<V>) {
        const std::ptrdiff_t count = smaller(kLanes<V>, pooling.channels - c);
        V sum{};
        for (std::ptrdiff_t oy = rows.first; oy < rows.last; ++oy)
          for (std::ptrdiff_t ox = columns.first; ox < columns.last; ++ox) {
            const T of_columns = static_cast<T>(divisor_of(pooling.columns, ox, pooling.counts_padding));
            sum += load_elements<S>(pooling.y.at(oy, ox), pooling.y.channel, c, count) /
                   broadcast<V>(of_columns * rows_divisor<T>(pooling, oy));
          }
        store_elements<S>(pooling.x.at(iy, ix), pooling.x.channel, c, sum, count);
      }
    }
  }
  return exceptions.raised() & kRaisedOverflow;
}

// ---- columns ----

// The sums of columns: the elements of a window ascend.
template <class S>
void fold_channel(const Pooling& pooling, std::ptrdiff_t c, std::ptrdiff_t first, std::ptrdiff_t last) {
  using T = Computed<S>;
  const PoolAxis &down = pooling.rows, &right = pooling.columns;
  PoolArray x = pooling.x;
  x.data += c * x.channel;
  sum_rows<S>(right, x, first, last, [&](const RowPart& part, T* sums) NNFAST_INLINED {
    const std::ptrdiff_t step = part.phases(), of_window = right.stride / step;
    const std::ptrdiff_t low = (part.first - (right.count - 1) * of_window) * step;
    const std::ptrdiff_t high = (part.first + part.count) * step - 1;
    const std::ptrdiff_t first_kx = over(larger(0, low), right.dilation);
    const std::ptrdiff_t last_kx = smaller(right.kernel - 1, over(high, right.dilation));
    for (std::ptrdiff_t ky = 0; ky < down.kernel; ++ky) {
      const std::ptrdiff_t up = down.padding - ky * down.dilation;
      const std::ptrdiff_t oy_first = over(larger(0, part.row + up) + down.stride - 1, down.stride);
      for (std::ptrdiff_t kx = first_kx; kx <= last_kx; ++kx) {
        const std::ptrdiff_t place = kx * right.dilation;
        const Shifted windows = part.one_phase() ? Shifted{} : shifted(part, place, 0, right.count);
        const char* const of_tap =
            pooling.y.data + c * pooling.y.channel + ky * pooling.tap_row + kx * pooling.tap_column;
        std::ptrdiff_t iy = oy_first * down.stride - up;
        for (std::ptrdiff_t oy = oy_first; oy < down.count && iy < part.end; ++oy, iy += down.stride) {
          T* const row = sums + (iy - part.row) * part.row_pitch();
          const char* const from = of_tap + oy * pooling.y.row;
          if (part.one_phase()) {
            add_windows_apart<S>(part, row, place, from, pooling.y.column, right.count);
          } else {
            add_windows<S>(row, windows, from, pooling.y.column);
          }
        }
      }
    }
  });
}

template <class S>
unsigned fold(const Pooling& pooling, std::ptrdiff_t first, std::ptrdiff_t last) {
  constexpr std::ptrdiff_t kRows = 8;  // of all channels, which may lie side by side
  const ExceptionScope exceptions;
  const std::ptrdiff_t rows = pooling.channels > 1 ? kRows : last - first;
  for (; first < last; first += rows)
    for (std::ptrdiff_t c = 0; c < pooling.channels; ++c)
      fold_channel<S>(pooling, c, first, smaller(first + rows, last));
  return exceptions.raised() & kRaisedOverflow;
}

}  // namespace
}  // namespace nnfast
