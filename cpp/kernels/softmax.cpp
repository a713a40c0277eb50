// Over rows, with d_i = x_i - max x:
//   softmax      y_i = e^d_i / sum_j e^d_j             dx = y (dy - sum_j dy_j y_j)
//   log_softmax  y_i = d_i - log sum_j e^d_j           dx = dy - e^y sum_j dy_j
//   logsumexp    y = max x + log sum_j e^d_j           dx = dy softmax(x)
#include "kernels/softmax.hpp"

#include "kernels/softmax_row.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

// What a kernel for elements stored as S reports: where it rounds them, an overflow.
template <class S>
NNFAST_INLINE unsigned reported(const ExceptionScope& exceptions) {
  if constexpr (Stored<S>::raises == kRaisedNothing) return kRaisedNothing;
  return exceptions.raised() & Stored<S>::raises;
}

// finish(r, softmax) of rows. The exponentials wait in y for their sum, unless it has too few digits for them.
template <class S, int R, class XStride, class YStride, class Finish>
NNFAST_INLINE void softmax_rows(const Rows<S, XStride>& x, const Rows<S, YStride>& y, std::ptrdiff_t n, Finish finish) {
  using T = Computed<S>;
  using V = Vec<T>;
  constexpr bool waiting = std::is_same_v<S, T>;
  const auto exponential = [](int, Pair<V> d) NNFAST_INLINED { return exp_shifted(d); };
  T largest[R];
  row_max(largest, x, n);
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
unsigned softmax(Matrix x, Matrix y, std::ptrdiff_t rows, std::ptrdiff_t n) {
  const ExceptionScope exceptions;
  for_rows<S>(
      0, rows,
      [n](auto count, std::ptrdiff_t, auto from, auto to)
          NNFAST_INLINED { softmax_rows<S, count>(from, to, n, [](int, auto p) NNFAST_INLINED { return p; }); },
      x, y);
  return reported<S>(exceptions);
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
unsigned log_softmax(Matrix x, Matrix y, std::ptrdiff_t rows, std::ptrdiff_t n) {
  const ExceptionScope exceptions;
  for_rows<S>(
      0, rows,
      [n](auto count, std::ptrdiff_t, auto from, auto to) NNFAST_INLINED { log_softmax_rows<S, count>(from, to, n); },
      x, y);
  return reported<S>(exceptions);
}

template <class S>
unsigned logsumexp(Matrix x, Matrix y, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using T = Computed<S>;
  const ExceptionScope exceptions;
  for_rows<S>(
      0, rows,
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
          store_value<S>(y.data + (row + r) * y.row_stride, static_cast<T>(static_cast<double>(largest[r]) + logs[r]));
      },
      x);
  return reported<S>(exceptions);
}

template <class S>
unsigned softmax_backward(Matrix dy, Matrix y, Matrix dx, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using T = Computed<S>;
  using V = Vec<T>;
  const ExceptionScope exceptions;
  for_rows<S>(
      0, rows,
      [n](auto group, std::ptrdiff_t, auto dy_rows, auto y_rows, auto dx_rows) NNFAST_INLINED {
        constexpr int R = group;
        BlockSum<T> sums[R];
        for_blocks<T>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
          unrolled<R>([&](int r) NNFAST_INLINED {
            sums[r].add_product(dy_rows.load(r, i, count, T{0}), y_rows.load(r, i, count, T{0}), part);
          });
        });
        V total[R];
        unrolled<R>([&](int r) NNFAST_INLINED { total[r] = broadcast<V>(static_cast<T>(sums[r].total())); });
        for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
          unrolled<R>([&](int r) NNFAST_INLINED {
            const V p = y_rows.load(r, i, count, T{0});
            dx_rows.store(r, i, p * (dy_rows.load(r, i, count, T{0}) - total[r]), count);
          });
        });
      },
      dy, y, dx);
  return reported<S>(exceptions);
}

template <class S>
unsigned log_softmax_backward(Matrix dy, Matrix y, Matrix dx, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using T = Computed<S>;
  using V = Vec<T>;
  const ExceptionScope exceptions;
  for_rows<S>(
      0, rows,
      [n](auto group, std::ptrdiff_t, auto dy_rows, auto y_rows, auto dx_rows) NNFAST_INLINED {
        constexpr int R = group;
        BlockSum<T> sums[R];
        for_blocks<T>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
          unrolled<R>([&](int r) NNFAST_INLINED { sums[r].add(dy_rows.load(r, i, count, T{0}), part); });
        });
        V total[R];
        unrolled<R>([&](int r) NNFAST_INLINED { total[r] = broadcast<V>(static_cast<T>(sums[r].total())); });
        for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
          V result[R];
          unrolled<R>([&](int r) NNFAST_INLINED {
            const V p = exp_shifted(Pair<V>{y_rows.load(r, i, count, T{0}), V{}});
            result[r] = fma(-total[r], p, dy_rows.load(r, i, count, T{0}));
          });
          unrolled<R>([&](int r) NNFAST_INLINED { dx_rows.store(r, i, result[r], count); });
        });
      },
      dy, y, dx);
  return reported<S>(exceptions);
}

template <class S>
unsigned logsumexp_backward(Matrix dy, Matrix x, Matrix dx, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using V = Vec<Computed<S>>;
  const ExceptionScope exceptions;
  for_rows<S>(
      0, rows,
      [=](auto group, std::ptrdiff_t row, auto x_rows, auto dx_rows) NNFAST_INLINED {
        constexpr int R = group;
        V g[R];
        unrolled<R>([&](int r)
                        NNFAST_INLINED { g[r] = broadcast<V>(load_value<S>(dy.data + (row + r) * dy.row_stride)); });
        softmax_rows<S, R>(x_rows, dx_rows, n, [&](int r, V p) NNFAST_INLINED { return g[r] * p; });
      },
      x, dx);
  return reported<S>(exceptions);
}

}  // namespace

namespace NNFAST_ISA {

extern const SoftmaxKernels softmax;
const SoftmaxKernels softmax = {
    {nnfast::softmax<Float16>, nnfast::softmax<float>, nnfast::softmax<double>},
    {log_softmax<Float16>, log_softmax<float>, log_softmax<double>},
    {logsumexp<Float16>, logsumexp<float>, logsumexp<double>},
    {softmax_backward<Float16>, softmax_backward<float>, softmax_backward<double>},
    {log_softmax_backward<Float16>, log_softmax_backward<float>, log_softmax_backward<double>},
    {logsumexp_backward<Float16>, logsumexp_backward<float>, logsumexp_backward<double>},
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
