// Over rows, with d_i = x_i - max x:
//   softmax      y_i = e^d_i / sum_j e^d_j             dx = y (dy - sum_j dy_j y_j)
//   log_softmax  y_i = d_i - log sum_j e^d_j           dx = dy - e^y sum_j dy_j
//   logsumexp    y = max x + log sum_j e^d_j           dx = dy softmax(x)
#include "kernels/softmax.hpp"

#include "kernels/softmax_row.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

template <class T, int R, class XStride, class YStride>
NNFAST_INLINE void softmax_rows(const Rows<T, XStride>& x, const Rows<T, YStride>& y, std::ptrdiff_t n) {
  using V = Vec<T>;
  T largest[R];
  row_max(largest, x, n);
  BlockSum<T> sums[R];
  for_shifted<T, R>(
      x, n, largest, [](int, Pair<V> d) NNFAST_INLINED { return exp_shifted(d); },
      [&](int r, std::ptrdiff_t i, int part, std::ptrdiff_t count, Pair<V>, V e) NNFAST_INLINED {
        sums[r].add(e, part);
        y.store(r, i, e, count);
      });
  V scale[R];
  unrolled<R>([&](int r) NNFAST_INLINED {
    const double total = sums[r].total();
    // The reciprocal of a double is one rounding more, where the bound has no room for it.
    scale[r] = broadcast<V>(static_cast<T>(sizeof(T) == sizeof(double) ? total : 1 / total));
  });
  for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
    unrolled<R>([&](int r) NNFAST_INLINED {
      const V e = y.load(r, i, count, T{0});
      y.store(r, i, sizeof(T) == sizeof(double) ? e / scale[r] : e * scale[r], count);
    });
  });
}

template <class T>
void softmax(Matrix x, Matrix y, std::ptrdiff_t rows, std::ptrdiff_t n) {
  const ExceptionScope exceptions;
  for_rows<T>(
      0, rows,
      [n](auto count, std::ptrdiff_t, auto from, auto to) NNFAST_INLINED { softmax_rows<T, count>(from, to, n); }, x,
      y);
}

// log sum_j e^(x_j - largest) of each row. The terms that are 1 are counted and the others summed apart: where one term
// is nearly all, the logarithm is that of 1 + the others' sum, which keeps its digits; they are summed 2^64 times too
// large, so that none is subnormal.
template <class T, int R, class Stride>
NNFAST_INLINE void log_sums(double (&logs)[R], const Rows<T, Stride>& x, std::ptrdiff_t n, const T (&largest)[R]) {
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
    counts[r] = static_cast<double>(sum_of_lanes(ones[r]));
    sums[r] = others[r].total() * 0x1p-64;
  });
  const Doubles result = log_of_sum(counts, sums);
  unrolled<R>([&](int r) NNFAST_INLINED { logs[r] = result[r]; });
}

template <class T, int R, class XStride, class YStride>
NNFAST_INLINE void log_softmax_rows(const Rows<T, XStride>& x, const Rows<T, YStride>& y, std::ptrdiff_t n) {
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

template <class T>
void log_softmax(Matrix x, Matrix y, std::ptrdiff_t rows, std::ptrdiff_t n) {
  const ExceptionScope exceptions;
  for_rows<T>(
      0, rows,
      [n](auto count, std::ptrdiff_t, auto from, auto to) NNFAST_INLINED { log_softmax_rows<T, count>(from, to, n); },
      x, y);
}

template <class T>
void logsumexp(Matrix x, Matrix y, std::ptrdiff_t rows, std::ptrdiff_t n) {
  const ExceptionScope exceptions;
  for_rows<T>(
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
          store_element(y.data + (row + r) * y.row_stride, static_cast<T>(static_cast<double>(largest[r]) + logs[r]));
      },
      x);
}

template <class T>
void softmax_backward(Matrix dy, Matrix y, Matrix dx, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using V = Vec<T>;
  const ExceptionScope exceptions;
  for_rows<T>(
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
}

template <class T>
void log_softmax_backward(Matrix dy, Matrix y, Matrix dx, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using V = Vec<T>;
  const ExceptionScope exceptions;
  for_rows<T>(
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
}

template <class T>
void logsumexp_backward(Matrix dy, Matrix x, Matrix dx, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using V = Vec<T>;
  const ExceptionScope exceptions;
  for_rows<T>(
      0, rows,
      [=](auto group, std::ptrdiff_t row, auto x_rows, auto dx_rows) NNFAST_INLINED {
        constexpr int R = group;
        V g[R];
        unrolled<R>([&](int r)
                        NNFAST_INLINED { g[r] = broadcast<V>(load_element<T>(dy.data + (row + r) * dy.row_stride)); });
        softmax_rows<T, R>(x_rows, dx_rows, n);
        for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
          unrolled<R>([&](int r)
                          NNFAST_INLINED { dx_rows.store(r, i, g[r] * dx_rows.load(r, i, count, T{0}), count); });
        });
      },
      x, dx);
}

}  // namespace

namespace NNFAST_ISA {

extern const SoftmaxKernels softmax;
const SoftmaxKernels softmax = {
    {nnfast::softmax<float>, nnfast::softmax<double>},
    {log_softmax<float>, log_softmax<double>},
    {logsumexp<float>, logsumexp<double>},
    {softmax_backward<float>, softmax_backward<double>},
    {log_softmax_backward<float>, log_softmax_backward<double>},
    {logsumexp_backward<float>, logsumexp_backward<double>},
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
