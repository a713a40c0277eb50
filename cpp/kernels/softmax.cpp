// Over rows, with d_i = x_i - max x:
//   softmax      y_i = e^d_i / sum_j e^d_j             dx = y (dy - sum_j dy_j y_j)
//   log_softmax  y_i = d_i - log sum_j e^d_j           dx = dy - e^y sum_j dy_j
//   logsumexp    y = max x + log sum_j e^d_j           dx = dy softmax(x)
// and softmax of scale x, over the elements that a mask selects; y is 0 elsewhere.
#include "kernels/softmax.hpp"

#include "kernels/softmax_row.hpp"
#include "simd/bits.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

// Calls body(Count<R>, row, rows of each matrix...) for all rows; returns what rounding to S raised.
template <class S, class Body, class... Matrices>
NNFAST_INLINE unsigned run_rows(std::ptrdiff_t rows, Body body, Matrices... matrices) {
  const ExceptionScope exceptions;
  for_rows<S>(0, rows, body, matrices...);
  if constexpr (Stored<S>::raises == kRaisedNothing) return kRaisedNothing;
  return exceptions.raised() & Stored<S>::raises;
}

// Stores finish(r, softmax) of R rows with these maxima; y may be x. The exponentials wait in y for their sum, unless S
// has too few digits for them: then they are computed twice. Gaps: where much of x is -inf, whose exponential
// underflows, and processors take a hundred cycles for that.
template <class S, int R, bool Gaps = false, class X, class Y, class Finish>
NNFAST_INLINE void softmax_rows(const Computed<S> (&largest)[R], const X& x, const Y& y, std::ptrdiff_t n,
                                Finish finish) {
  using T = Computed<S>;
  using V = Vec<T>;
  constexpr bool waiting = std::is_same_v<S, T>;
  const auto exponential = [](int, Pair<V> d) NNFAST_INLINED {
    if constexpr (!Gaps) return exp_shifted(d);
    const auto gap = d.hi == static_cast<T>(-kInfinity);
    const V e = exp_shifted(Pair<V>{gap ? V{} : d.hi, d.lo});
    return gap ? V{} : e;
  };
  BlockSum<T> sums[R];
  for_shifted<T, R>(x, n, largest, exponential,
                    [&](int r, std::ptrdiff_t i, int part, std::ptrdiff_t count, Pair<V>, V e) NNFAST_INLINED {
                      sums[r].add(e, part);
                      if constexpr (waiting) y.store(r, i, e, count);
                    });
  V scale[R];
  unrolled<R>([&](int r) NNFAST_INLINED {
    const double total = sums[r].total();
    // The reciprocal of a double is one rounding more, where the bound has no room for it.
    scale[r] = broadcast<V>(static_cast<T>(sizeof(T) == sizeof(double) ? total : 1 / total));
  });
  const auto store = [&](int r, std::ptrdiff_t i, std::ptrdiff_t count, V e) NNFAST_INLINED {
    y.store(r, i, finish(r, sizeof(T) == sizeof(double) ? e / scale[r] : e * scale[r]), count);
  };
  if constexpr (waiting) {
    for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
      unrolled<R>([&](int r) NNFAST_INLINED { store(r, i, count, y.load(r, i, count, T{0})); });
    });
  } else {
    for_shifted<T, R>(x, n, largest, exponential,
                      [&](int r, std::ptrdiff_t i, int, std::ptrdiff_t count, Pair<V>, V e)
                          NNFAST_INLINED { store(r, i, count, e); });
  }
}

template <class S>
unsigned softmax(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking&) {
  return run_rows<S>(
      rows,
      [n](auto count, std::ptrdiff_t, auto from, auto to) NNFAST_INLINED {
        Computed<S> largest[count];
        row_max(largest, from, n);
        softmax_rows<S, count>(largest, from, to, n, [](int, auto p) NNFAST_INLINED { return p; });
      },
      arrays[0], arrays[1]);
}

// Rows of x, scaled, of which what takes no part is the fill that is asked for. `from`: the masking of the first.
template <class S, class Stride>
struct MaskedRows {
  using V = typename Stored<S>::V;
  Rows<S, Stride> x;
  Masking from;
  V scale;

  NNFAST_INLINE std::ptrdiff_t visible(int row) const { return from.visible + row * from.growth; }
  // v where an element takes part, else the fill.
  NNFAST_INLINE V select(int row, std::ptrdiff_t i, std::ptrdiff_t count, V v, Element<V> fill) const {
    const std::ptrdiff_t left = visible(row) - i;
    if (left < kLanes<V>) v = lanes_between<V>(0, left < 0 ? 0 : left) ? v : broadcast<V>(fill);
    if (!from.mask.data) return v;
    const char* mask = from.mask.data + row * from.mask.row_stride + i * from.mask.stride;
    return lanes_of_bytes<V>(mask, from.mask.stride, count) ? v : broadcast<V>(fill);
  }
  NNFAST_INLINE V load(int row, std::ptrdiff_t i, std::ptrdiff_t count, Element<V> fill) const {
    return select(row, i, count, x.load(row, i, count, 0) * scale, fill);
  }
};

// Rows of `from`, written to `to` as they are loaded.
template <class From, class To>
struct WrittenRows {
  using V = typename From::V;
  From from;
  To to;
  NNFAST_INLINE V load(int row, std::ptrdiff_t i, std::ptrdiff_t count, Element<V> fill) const {
    const V v = from.load(row, i, count, fill);
    to.store(row, i, v, count);
    return v;
  }
};
template <class From, class To>
WrittenRows(From, To) -> WrittenRows<From, To>;

// What takes part has the bits of softmax of a row that has -inf elsewhere.
template <class S>
unsigned masked_softmax(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking& masking) {
  using T = Computed<S>;
  using V = Vec<T>;
  const V scale = broadcast<V>(static_cast<T>(masking.scale));
  return run_rows<S>(
      rows,
      [&](auto group, std::ptrdiff_t row, auto from, auto to) NNFAST_INLINED {
        constexpr int R = group;
        const MaskedRows<S, decltype(from.stride)> x{from, rows_from(masking, row), scale};
        // No element beyond them is visible to any of the rows; whole vectors, since stores of less take long.
        const std::ptrdiff_t last = x.visible(R - 1), vectors = (last + kLanes<V> - 1) / kLanes<V>;
        const std::ptrdiff_t seen = last < 0 ? 0 : smaller(n, vectors * kLanes<V>);
        const auto same = [](int, auto p) NNFAST_INLINED { return p; };
        T largest[R];
        if constexpr (std::is_same_v<S, T>) {  // the mask is read once: what it leaves waits in y
          row_max(largest, WrittenRows{x, to}, seen);
          softmax_rows<S, R, true>(largest, to, to, seen, same);
        } else {
          row_max(largest, x, seen);
          softmax_rows<S, R, true>(largest, x, to, seen, same);
        }
        for (int r = 0; r < R; ++r) {
          for (std::ptrdiff_t i = seen; i < n; i += kLanes<V>) to.store(r, i, V{}, smaller(kLanes<V>, n - i));
          // A row that has NaN, or in which nothing takes part, is NaN by now, all of it.
          const T first = seen > 0 ? load_value<S>(to.at(r, 0)) : T{0};
          if (first != first)
            for_vectors<T>(seen, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
              to.store(r, i, x.select(r, i, count, to.load(r, i, count, T{0}), T{0}), count);
            });
        }
      },
      arrays[0], arrays[1]);
}

// The sum of lanes that each count up to 2^32.
template <class I>
NNFAST_INLINE double sum_of_counts(I counts, std::ptrdiff_t n) {
  using Count = std::make_unsigned_t<Element<I>>;
  if (n <= std::ptrdiff_t{0x7fffffff}) return static_cast<double>(sum_of_lanes(counts));
  double sum = 0;
  for (int i = 0; i < kLanes<I>; ++i) sum += static_cast<double>(static_cast<Count>(counts[i]));
  return sum;
}

// log sum_j e^(x_j - largest) of each row. The terms that are 1 are counted and the others summed apart: where one term
// is nearly all, the logarithm is that of 1 + the others' sum, which keeps its digits; they are summed 2^64 times too
// large, so that none is subnormal.
template <class T, int R, class S, class Stride>
NNFAST_INLINE void log_sums(double (&logs)[R], const Rows<S, Stride>& x, std::ptrdiff_t n, const T (&largest)[R]) {
  using V = Vec<T>;
  BlockSum<T> others[R];
  Mask<V> ones[R] = {};
  for_shifted<T, R>(
      x, n, largest, [](int, Pair<V> d) NNFAST_INLINED { return exp_shifted<64>(d); },
      [&](int r, std::ptrdiff_t, int part, std::ptrdiff_t, Pair<V> d, V e) NNFAST_INLINED {
        const Mask<V> one = d.hi == 0;
        ones[r] -= one;
        others[r].add(one ? V{} : e, part);
      });
  using Doubles = Vec<double>;
  static_assert(R <= kLanes<Doubles>);
  Doubles counts = broadcast<Doubles>(1), sums{};
  unrolled<R>([&](int r) NNFAST_INLINED {
    counts[r] = sum_of_counts(ones[r], n);
    sums[r] = others[r].total() * 0x1p-64;
  });
  const Doubles result = log_of_sum(counts, sums);
  unrolled<R>([&](int r) NNFAST_INLINED { logs[r] = result[r]; });
}

template <class S, int R, class XStride, class YStride>
NNFAST_INLINE void log_softmax_rows(const Rows<S, XStride>& x, const Rows<S, YStride>& y, std::ptrdiff_t n) {
  using T = Computed<S>;
  using V = Vec<T>;
  T largest[R];
  double logs[R];
  row_max(largest, x, n);
  log_sums<T, R>(logs, x, n, largest);
  Pair<V> log[R];
  unrolled<R>([&](int r) NNFAST_INLINED {
    const T hi = static_cast<T>(logs[r]);
    log[r] = {broadcast<V>(hi), broadcast<V>(static_cast<T>(logs[r] - static_cast<double>(hi)))};
  });
  for_shifted<T, R>(
      x, n, largest,
      [&](int r, Pair<V> d) NNFAST_INLINED {
        const Pair<V> sum = two_sum(d.hi, -log[r].hi);
        return d.hi == static_cast<T>(-kInfinity) ? d.hi : sum.hi + (sum.lo + (d.lo - log[r].lo));
      },
      [&](int r, std::ptrdiff_t i, int, std::ptrdiff_t count, Pair<V>, V result)
          NNFAST_INLINED { y.store(r, i, result, count); });
}

template <class S>
unsigned log_softmax(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking&) {
  return run_rows<S>(
      rows,
      [n](auto count, std::ptrdiff_t, auto from, auto to) NNFAST_INLINED { log_softmax_rows<S, count>(from, to, n); },
      arrays[0], arrays[1]);
}

template <class S>
unsigned logsumexp(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking&) {
  using T = Computed<S>;
  return run_rows<S>(
      rows,
      [=](auto count, std::ptrdiff_t row, auto from) NNFAST_INLINED {
        constexpr int R = count;
        constexpr T bottom = static_cast<T>(-kInfinity);
        T largest[R], shift[R];
        double logs[R];
        row_max(largest, from, n, bottom);
        // A row of -inf is shifted by nothing: its terms are 0, unless there is a NaN among them.
        for (int r = 0; r < R; ++r) shift[r] = largest[r] == bottom ? T{0} : largest[r];
        log_sums<T, R>(logs, from, n, shift);
        for (int r = 0; r < R; ++r)
          store_value<S>(arrays[1].data + (row + r) * arrays[1].row_stride,
                         static_cast<T>(static_cast<double>(largest[r]) + logs[r]));
      },
      arrays[0]);
}

// Stores result(dy, y, total) for every element, where total is the sum of its row, to which add(sum, part, dy, y)
// adds; dy() and y() load.
template <class S, class Add, class Result>
NNFAST_INLINE unsigned gradient(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, Add add, Result result) {
  using T = Computed<S>;
  using V = Vec<T>;
  return run_rows<S>(
      rows,
      [=](auto group, std::ptrdiff_t, auto dy, auto y, auto dx) NNFAST_INLINED {
        constexpr int R = group;
        BlockSum<T> sums[R];
        for_blocks<T>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
          unrolled<R>([&](int r) NNFAST_INLINED {
            add(
                sums[r], part, [&]() NNFAST_INLINED { return dy.load(r, i, count, T{0}); },
                [&]() NNFAST_INLINED { return y.load(r, i, count, T{0}); });
          });
        });
        V total[R];
        unrolled<R>([&](int r) NNFAST_INLINED { total[r] = broadcast<V>(static_cast<T>(sums[r].total())); });
        for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
          V results[R];
          unrolled<R>([&](int r) NNFAST_INLINED {
            results[r] = result(dy.load(r, i, count, T{0}), y.load(r, i, count, T{0}), total[r]);
          });
          unrolled<R>([&](int r) NNFAST_INLINED { dx.store(r, i, results[r], count); });
        });
      },
      arrays[0], arrays[1], arrays[2]);
}

template <class S>
unsigned softmax_backward(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking&) {
  return gradient<S>(
      arrays, rows, n, [](auto& sum, int part, auto dy, auto y) NNFAST_INLINED { sum.add_product(dy(), y(), part); },
      [](auto dy, auto y, auto total) NNFAST_INLINED { return y * (dy - total); });
}

// Where y is 0, no element took part, or none that weighs anything.
template <class S>
unsigned masked_softmax_backward(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking& masking) {
  using V = Vec<Computed<S>>;
  const V scale = broadcast<V>(static_cast<Computed<S>>(masking.scale));
  return gradient<S>(
      arrays, rows, n,
      [](auto& sum, int part, auto dy, auto y) NNFAST_INLINED {
        const V p = y();
        sum.add_product(p == 0 ? V{} : dy(), p, part);
      },
      [scale](auto dy, auto y, auto total) NNFAST_INLINED { return y == 0 ? V{} : y * (dy - total) * scale; });
}

template <class S>
unsigned log_softmax_backward(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking&) {
  return gradient<S>(
      arrays, rows, n, [](auto& sum, int part, auto dy, auto) NNFAST_INLINED { sum.add(dy(), part); },
      [](auto dy, auto y, auto total)
          NNFAST_INLINED { return fma(-total, exp_shifted(Pair<decltype(y)>{y, {}}), dy); });
}

template <class S>
unsigned logsumexp_backward(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking&) {
  using V = Vec<Computed<S>>;
  return run_rows<S>(
      rows,
      [=](auto group, std::ptrdiff_t row, auto x_rows, auto dx_rows) NNFAST_INLINED {
        constexpr int R = group;
        V g[R];
        unrolled<R>([&](int r) NNFAST_INLINED {
          g[r] = broadcast<V>(load_value<S>(arrays[0].data + (row + r) * arrays[0].row_stride));
        });
        Computed<S> largest[R];
        row_max(largest, x_rows, n);
        softmax_rows<S, R>(largest, x_rows, dx_rows, n, [&](int r, V p) NNFAST_INLINED { return g[r] * p; });
      },
      arrays[1], arrays[2]);
}

// Elements of each array that are widened together. They lie on the stack: a loop of a ufunc must not allocate.
constexpr std::ptrdiff_t kWidenedElements = 4096;

// Rows of float16 of at most kWidenedElements, widened to float32 for the kernel, the results rounded once.
[[gnu::noinline]] unsigned in_float32(SoftmaxFn of_float32, int inputs, const Matrix* arrays, std::ptrdiff_t rows,
                                      std::ptrdiff_t n, const Masking& masking) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(float));
  const ExceptionScope exceptions;  // of the rounded results
  alignas(64) float values[kSoftmaxArrays][kWidenedElements];
  const Matrix& result = arrays[inputs];
  const std::ptrdiff_t most = kWidenedElements / (n > 1 ? n : 1);
  for (std::ptrdiff_t first = 0; first < rows; first += most) {
    const std::ptrdiff_t count = smaller(most, rows - first);
    Matrix wide[kSoftmaxArrays];
    for (int k = 0; k <= inputs; ++k) {
      const std::ptrdiff_t stride = arrays[k].stride, length = stride ? n : 1;
      wide[k] = {reinterpret_cast<char*>(values[k]), length * size, stride ? size : 0};
      for (std::ptrdiff_t r = 0; k < inputs && r < count; ++r)
        widen_run(arrays[k].data + (first + r) * arrays[k].row_stride, stride, values[k] + r * length, length);
    }
    of_float32(wide, count, n, rows_from(masking, first));
    for (std::ptrdiff_t r = 0; r < count; ++r)
      narrow_run(wide[inputs].data + r * wide[inputs].row_stride, size, result.data + (first + r) * result.row_stride,
                 result.stride, result.stride ? n : 1);
  }
  return exceptions.raised() & kRaisedOverflow;
}

// The float16 variant; longer rows are widened a vector at a time, in each pass.
template <SoftmaxFn of_float32, SoftmaxFn of_long_rows, int inputs, int one_element>
unsigned of_float16(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking& masking) {
  // Strides of arrays without elements are 0, as that of one element a row.
  if (n == 0 && one_element != inputs) return kRaisedNothing;
  if (n == 0 || n > kWidenedElements) return of_long_rows(arrays, rows, n, masking);
  return in_float32(of_float32, inputs, arrays, rows, n, masking);
}

}  // namespace

namespace NNFAST_ISA {

extern const SoftmaxKernels softmax;
const SoftmaxKernels softmax = {{
#define NNFAST_ENTRY(name, inputs, one_element, ...)                                                 \
  {of_float16<nnfast::name<float>, nnfast::name<Float16>, inputs, one_element>, nnfast::name<float>, \
   nnfast::name<double>},
    NNFAST_SOFTMAX(NNFAST_ENTRY) NNFAST_MASKED_SOFTMAX(NNFAST_ENTRY)
#undef NNFAST_ENTRY
}};

}  // namespace NNFAST_ISA
}  // namespace nnfast
