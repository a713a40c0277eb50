// Softmax over rows: y_i = e^(x_i - max x) / sum_j e^(x_j - max x), and dx = y (dy - sum_j dy_j y_j).
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

}  // namespace

namespace NNFAST_ISA {

extern const SoftmaxKernels softmax;
const SoftmaxKernels softmax = {nnfast::softmax<float>, nnfast::softmax<double>, softmax_backward<float>,
                                softmax_backward<double>};

}  // namespace NNFAST_ISA
}  // namespace nnfast
