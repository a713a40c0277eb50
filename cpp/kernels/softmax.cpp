// Over rows, with d_i = x_i - max x:
//   softmax      y_i = e^d_i / sum_j e^d_j             dx = y (dy - sum_j dy_j y_j)
//   log_softmax  y_i = d_i - log sum_j e^d_j           dx = dy - e^y sum_j dy_j
//   logsumexp    y = max x + log sum_j e^d_j           dx = dy softmax(x)
#include "kernels/softmax.hpp"

#include "kernels/softmax_row.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

template <class T>
void softmax_row(const char* x, std::ptrdiff_t x_stride, char* y, std::ptrdiff_t y_stride, std::ptrdiff_t n) {
  using V = Vec<T>;
  const T largest = row_max<T>(x, x_stride, n);
  BlockSum<T> sum;
  for_shifted<T>(x, x_stride, n, largest, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count, Pair<V> d) {
    const V e = exp_shifted(d);
    sum.add(e, part);
    store_strided(y + i * y_stride, y_stride, e, count);
  });
  const double total = sum.total();
  const V factor = broadcast<V>(static_cast<T>(1 / total)), divisor = broadcast<V>(static_cast<T>(total));
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = n - i < kLanes<V> ? n - i : kLanes<V>;
    char* at = y + i * y_stride;
    const V e = load_strided<V>(at, y_stride, count, T{0});
    // The reciprocal of a double is one rounding more, where the bound has no room for it.
    store_strided(at, y_stride, sizeof(T) == sizeof(double) ? e / divisor : e * factor, count);
  }
}

template <class T>
void softmax(Matrix x, Matrix y, std::ptrdiff_t rows, std::ptrdiff_t n) {
  const ExceptionScope exceptions;
  for (std::ptrdiff_t r = 0; r < rows; ++r)
    softmax_row<T>(x.data + r * x.row_stride, x.stride, y.data + r * y.row_stride, y.stride, n);
}

// log sum_j e^(x_j - largest). The terms that are 1 are counted and the others summed apart: where one term is nearly
// all, the logarithm is that of 1 + the others' sum, which keeps its digits; they are summed 2^64 times too large, so
// that none is subnormal.
template <class T>
double log_sum(const char* x, std::ptrdiff_t stride, std::ptrdiff_t n, T largest) {
  using V = Vec<T>;
  BlockSum<T> others;
  Mask<V> ones{};
  for_shifted<T>(x, stride, n, largest, [&](std::ptrdiff_t, int part, std::ptrdiff_t, Pair<V> d) {
    const Mask<V> one = d.hi == 0;
    ones -= one;
    others.add(one ? V{} : exp_shifted<64>(d), part);
  });
  double count = 0;
  for (int i = 0; i < kLanes<V>; ++i) count += static_cast<double>(ones[i]);
  return log_of_sum(count, others.total() * 0x1p-64);
}

template <class T>
void log_softmax(Matrix x, Matrix y, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using V = Vec<T>;
  const ExceptionScope exceptions;
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    const char* row = x.data + r * x.row_stride;
    char* out = y.data + r * y.row_stride;
    const T largest = row_max<T>(row, x.stride, n);
    const double log = log_sum<T>(row, x.stride, n, largest);
    const V hi = broadcast<V>(static_cast<T>(log));
    const V lo = broadcast<V>(static_cast<T>(log - static_cast<double>(static_cast<T>(log))));
    for_shifted<T>(row, x.stride, n, largest, [&](std::ptrdiff_t i, int, std::ptrdiff_t count, Pair<V> d) {
      const Pair<V> sum = two_sum(d.hi, -hi);
      const V finite = sum.hi + (sum.lo + (d.lo - lo));
      store_strided(out + i * y.stride, y.stride, d.hi == static_cast<T>(-kInfinity) ? d.hi : finite, count);
    });
  }
}

template <class T>
void logsumexp(Matrix x, Matrix y, std::ptrdiff_t rows, std::ptrdiff_t n) {
  const ExceptionScope exceptions;
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    const char* row = x.data + r * x.row_stride;
    const T largest = row_max<T>(row, x.stride, n, static_cast<T>(-kInfinity));
    // A row of -inf is shifted by nothing: its terms are 0, unless there is a NaN among them.
    const double log = log_sum<T>(row, x.stride, n, largest == static_cast<T>(-kInfinity) ? T{0} : largest);
    const double sum = static_cast<double>(largest) + log;
    store_element(y.data + r * y.row_stride, static_cast<T>(sum));
  }
}

template <class T>
void softmax_backward(Matrix dy, Matrix y, Matrix dx, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using V = Vec<T>;
  const ExceptionScope exceptions;
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    const char* dy_row = dy.data + r * dy.row_stride;
    const char* y_row = y.data + r * y.row_stride;
    BlockSum<T> sum;
    for (std::ptrdiff_t block = 0; block < n; block += kReduceBlock) {
      for (int part = 0; part < kReduceParts<T>; ++part) {
        const std::ptrdiff_t i = block + part * kLanes<V>;
        const std::ptrdiff_t count = part_count<T>(n - block, part);
        sum.add_product(load_strided<V>(dy_row + i * dy.stride, dy.stride, count, T{0}),
                        load_strided<V>(y_row + i * y.stride, y.stride, count, T{0}), part);
      }
    }
    const V total = broadcast<V>(static_cast<T>(sum.total()));
    for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
      const std::ptrdiff_t count = n - i < kLanes<V> ? n - i : kLanes<V>;
      const V g = load_strided<V>(dy_row + i * dy.stride, dy.stride, count, T{0});
      const V p = load_strided<V>(y_row + i * y.stride, y.stride, count, T{0});
      store_strided(dx.data + r * dx.row_stride + i * dx.stride, dx.stride, p * (g - total), count);
    }
  }
}

template <class T>
void log_softmax_backward(Matrix dy, Matrix y, Matrix dx, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using V = Vec<T>;
  const ExceptionScope exceptions;
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    const char* dy_row = dy.data + r * dy.row_stride;
    BlockSum<T> sum;
    for (std::ptrdiff_t block = 0; block < n; block += kReduceBlock) {
      for (int part = 0; part < kReduceParts<T>; ++part) {
        const std::ptrdiff_t i = block + part * kLanes<V>;
        sum.add(load_strided<V>(dy_row + i * dy.stride, dy.stride, part_count<T>(n - block, part), T{0}), part);
      }
    }
    const V total = broadcast<V>(static_cast<T>(sum.total()));
    for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
      const std::ptrdiff_t count = n - i < kLanes<V> ? n - i : kLanes<V>;
      const V g = load_strided<V>(dy_row + i * dy.stride, dy.stride, count, T{0});
      const V log_p = load_strided<V>(y.data + r * y.row_stride + i * y.stride, y.stride, count, T{0});
      store_strided(dx.data + r * dx.row_stride + i * dx.stride, dx.stride,
                    fma(-total, exp_shifted(Pair<V>{log_p, V{}}), g), count);
    }
  }
}

template <class T>
void logsumexp_backward(Matrix dy, Matrix x, Matrix dx, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using V = Vec<T>;
  const ExceptionScope exceptions;
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    char* out = dx.data + r * dx.row_stride;
    const V g = broadcast<V>(load_element<T>(dy.data + r * dy.row_stride));
    softmax_row<T>(x.data + r * x.row_stride, x.stride, out, dx.stride, n);
    for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
      const std::ptrdiff_t count = n - i < kLanes<V> ? n - i : kLanes<V>;
      char* at = out + i * dx.stride;
      store_strided(at, dx.stride, g * load_strided<V>(at, dx.stride, count, T{0}), count);
    }
  }
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
