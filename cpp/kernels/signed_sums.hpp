// Sums of exponentials with factors of either sign, and their logarithms: logsumexp with b, in double for any dtype.
#pragma once

#include "kernels/rows.hpp"
#include "kernels/softmax.hpp"
#include "kernels/softmax_row.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

// sum_j b_j e^x_j of a row with an infinite x, which outweighs all that are finite; NaN where infinities cancel.
template <class T, class X>
NNFAST_INLINE double infinite_sum(const X& x, const X& b, std::ptrdiff_t n) {
  double sum = 0;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const auto value = static_cast<double>(load_element<T>(x.at(0, i)));
    const auto factor = static_cast<double>(load_element<T>(b.at(0, i)));
    if (factor != 0) sum += factor * (value < kInfinity ? 1 : value);
  }
  return sum;
}

// sum_j b_j e^(x_j - shift). The terms that are b are summed apart from the others: where they are nearly all, the
// logarithm keeps the others' digits.
template <class T, class X>
NNFAST_INLINE Pair<double> signed_sum(const X& x, const X& b, std::ptrdiff_t n, double shift) {
  using V = Vec<T>;
  using D = Vec<double>;
  BlockSum<T> most, others;
  for_blocks<T, !kShort>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    if (count == 0) return;
    const V factor = b.load(0, i, count, T{0});
    const V some = x.load(0, i, count, T{0});
    const Widened<V> wide = widen(factor == 0 ? broadcast<V>(static_cast<T>(-kInfinity)) : some);
    Widened<V> factors = widen(factor), top, e;
    for (int k = 0; k < wide.count; ++k) {
      const D d = wide.part[k] - shift;
      top.part[k] = d == 0 ? factors.part[k] : D{};
      factors.part[k] = d == 0 ? D{} : factors.part[k];
      e.part[k] = exp_shifted(d);
    }
    most.add(top, part);
    others.add_product(e, factors, part);
  });
  const double a = most.total(), c = others.total(), hi = a + c, rest = hi - a;
  return {hi, (a - (hi - rest)) + (c - rest)};
}

// log |sum| + shift; -inf of 0.
template <class D>
NNFAST_INLINE D log_of_size(Pair<D> sum, D shift) {
  const D size = sum.hi < 0 ? -sum.hi : sum.hi;
  const auto little = size < 0x1p-1000;  // also where factors are subnormal
  const auto usable = (size > 0) & (size < kInfinity);
  const D m = usable ? (little ? size * 0x1p200 : size) : broadcast<D>(1);
  const D log = log_of(m) - (little ? broadcast<D>(138.62943611198906188) : D{});
  const D corrected = log + (usable ? sum.lo / sum.hi : D{});
  return usable ? corrected + shift : (size == 0 ? broadcast<D>(-kInfinity) : size);
}

template <class T>
void signed_logsumexp(const Matrix& x_rows, const Matrix& b_rows, std::ptrdiff_t rows, std::ptrdiff_t n, double* logs,
                      double* signs) {
  using V = Vec<T>;
  using D = Vec<double>;
  constexpr auto bottom = static_cast<T>(-kInfinity);
  const ExceptionScope exceptions;
  for (std::ptrdiff_t first = 0; first < rows; first += kLanes<D>) {
    const std::ptrdiff_t some = smaller(kLanes<D>, rows - first);
    D hi{}, lo{}, shifts{};
    for (std::ptrdiff_t r = 0; r < some; ++r) {
      const auto x = strided_rows<T>(x_rows, first + r), b = strided_rows<T>(b_rows, first + r);
      V top = broadcast<V>(bottom);
      for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
        const V v = x.load(0, i, count, bottom);
        top = max(top, b.load(0, i, count, T{0}) == 0 ? broadcast<V>(bottom) : v);
      });
      const auto largest = static_cast<double>(max_lane(top));
      if (largest == kInfinity) {
        hi[r] = infinite_sum<T>(x, b, n);
      } else {
        shifts[r] = largest > -kInfinity ? largest : 0;  // 0 of NaN, too
        const Pair<double> sum = signed_sum<T>(x, b, n, shifts[r]);
        hi[r] = sum.hi;
        lo[r] = sum.lo;
      }
    }
    store_partial(logs + first, log_of_size<D>({hi, lo}, shifts), some);
    store_partial(signs + first, hi > 0 ? broadcast<D>(1) : (hi < 0 ? broadcast<D>(-1) : (hi == 0 ? D{} : hi)), some);
  }
}

}  // namespace
}  // namespace nnfast
