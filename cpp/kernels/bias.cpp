// y = act(x + b) and, from one pass, dx = dy act'(x + b) with its sums by columns, the gradient by b.
#include "kernels/bias.hpp"

#include "kernels/elementwise_loop.hpp"
#include "kernels/formulas.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

template <class Formula>
struct BiasForward {
  static constexpr unsigned raises = Formula::forward_raises;
  template <class V>
  NNFAST_INLINE static V apply(V x, V bias) {
    return Formula::forward(x + bias);
  }
};

// A row whose elements lie next to each other, as far as it fills several vectors; returns how far.
template <class Formula, class T>
NNFAST_INLINE std::ptrdiff_t contiguous_row(const BiasBackward& a, const char* dy, const char* saved, char* dx,
                                            std::ptrdiff_t n) {
  using V = Vec<T>;
  const auto at = [](const char* row, std::ptrdiff_t i) NNFAST_INLINED { return reinterpret_cast<const T*>(row) + i; };
  std::ptrdiff_t i = 0;
  for (; i + kAtOnce * kLanes<V> <= n; i += kAtOnce * kLanes<V>) {
    V gradients[kAtOnce], of[kAtOnce];
    unrolled<kAtOnce>([&](int u) NNFAST_INLINED {
      const std::ptrdiff_t j = i + u * kLanes<V>;
      gradients[u] = load<V>(at(dy, j));
      of[u] = load<V>(at(saved, j));
      if (a.bias) of[u] += load<V>(at(a.bias, j));
    });
    unrolled<kAtOnce>([&](int u) NNFAST_INLINED { gradients[u] = Formula::backward(gradients[u], of[u]); });
    unrolled<kAtOnce>([&](int u) NNFAST_INLINED {
      const std::ptrdiff_t j = i + u * kLanes<V>;
      store(reinterpret_cast<T*>(dx) + j, gradients[u]);
      add_doubles(a.sums + j, gradients[u], kLanes<V>);
    });
  }
  return i;
}

template <class Formula, class T>
unsigned bias_backward(const BiasBackward& a, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using V = Vec<T>;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  const ExceptionScope exceptions;
  const bool contiguous = a.dy_stride == size && a.saved_stride == size && a.dx_stride == size;
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    const char* dy = a.dy + r * a.dy_row;
    const char* saved = a.saved + r * a.saved_row;
    char* dx = a.dx + r * a.dx_row;
    for (std::ptrdiff_t i = contiguous ? contiguous_row<Formula, T>(a, dy, saved, dx, n) : 0; i < n; i += kLanes<V>) {
      const std::ptrdiff_t count = smaller(n - i, kLanes<V>);
      V of = load_strided<V>(saved + i * a.saved_stride, a.saved_stride, count, T{0});
      if (a.bias) of += load_strided<V>(a.bias + i * size, size, count, T{0});
      const V gradient = Formula::backward(load_strided<V>(dy + i * a.dy_stride, a.dy_stride, count, T{0}), of);
      store_strided(dx + i * a.dx_stride, a.dx_stride, gradient, count);
      add_doubles(a.sums + i, gradient, count);
    }
  }
  return exceptions.raised() & Formula::backward_raises;
}

// The same of float16, by that of float32: some rows or, of a long one, some columns at a time.
[[gnu::noinline, maybe_unused]] unsigned by_floats(BiasBackwardFn of_floats, const BiasBackward& a, std::ptrdiff_t rows,
                                                   std::ptrdiff_t n) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(float)), half = static_cast<std::ptrdiff_t>(sizeof(Half));
  const ExceptionScope exceptions;  // of the rounded gradients
  unsigned raised = 0;
  float dy[kWidenedAtOnce], saved[kWidenedAtOnce], bias[kWidenedAtOnce];
  for (std::ptrdiff_t first = 0; first < n; first += kWidenedAtOnce) {
    const std::ptrdiff_t width = smaller(n - first, kWidenedAtOnce), most = kWidenedAtOnce / width;
    if (a.bias) widen_halves(a.bias + first * half, half, bias, width);
    const auto bytes = [](float* floats) { return reinterpret_cast<char*>(floats); };
    const BiasBackward part{bytes(dy),    bytes(saved),  a.bias ? bytes(bias) : nullptr,
                            bytes(dy),    width * size,  size,
                            width * size, size,          width * size,
                            size,         a.sums + first};
    for (std::ptrdiff_t row = 0; row < rows; row += most) {
      const std::ptrdiff_t count = smaller(rows - row, most);
      for (std::ptrdiff_t r = 0; r < count; ++r) {
        widen_halves(a.dy + (row + r) * a.dy_row + first * a.dy_stride, a.dy_stride, dy + r * width, width);
        widen_halves(a.saved + (row + r) * a.saved_row + first * a.saved_stride, a.saved_stride, saved + r * width,
                     width);
      }
      raised |= of_floats(part, count, width);
      for (std::ptrdiff_t r = 0; r < count; ++r)
        narrow_floats(bytes(dy + r * width), size, a.dx + (row + r) * a.dx_row + first * a.dx_stride, a.dx_stride,
                      width);
    }
  }
  return raised | (exceptions.raised() & kRaisedOverflow);
}

template <class Formula>
unsigned bias_backward_of_halves(const BiasBackward& a, std::ptrdiff_t rows, std::ptrdiff_t n) {
  return by_floats(bias_backward<Formula, float>, a, rows, n) & Formula::backward_raises;
}

}  // namespace

namespace NNFAST_ISA {

extern const BiasKernels bias;
const BiasKernels bias = {
#define NNFAST_FORWARD(formula, name, by_y, cost, backward_cost) elementwise_entry<BiasForward<formula>, 2, 0>,
    {NNFAST_BIASED(NNFAST_FORWARD)},
#define NNFAST_BACKWARD(formula, name, by_y, cost, backward_cost) \
  {bias_backward_of_halves<formula>, bias_backward<formula, float>, bias_backward<formula, double>},
    {NNFAST_BIASED(NNFAST_BACKWARD)},
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
