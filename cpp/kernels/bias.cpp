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

// A row whose elements lie next to each other, as far as whole vectors go; returns how far.
template <class Formula, class S>
NNFAST_INLINE std::ptrdiff_t contiguous_row(const BiasBackward& a, const char* dy, const char* saved, char* dx,
                                            std::ptrdiff_t n) {
  using V = typename Stored<S>::V;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(S));
  std::ptrdiff_t i = 0;
  const auto vectors = [&](auto count) NNFAST_INLINED {
    V gradients[count], of[count];
    unrolled<count>([&](int u) NNFAST_INLINED {
      const std::ptrdiff_t at = (i + u * kLanes<V>)*size;
      gradients[u] = Stored<S>::load(dy + at);
      of[u] = Stored<S>::load(saved + at);
      if (a.bias) of[u] += Stored<S>::load(a.bias + at);
    });
    unrolled<count>([&](int u) NNFAST_INLINED { gradients[u] = Formula::backward(gradients[u], of[u]); });
    unrolled<count>([&](int u) NNFAST_INLINED {
      Stored<S>::store(dx + (i + u * kLanes<V>)*size, gradients[u]);
      add_doubles(a.sums + i + u * kLanes<V>, gradients[u], kLanes<V>);
    });
    i += count * kLanes<V>;
  };
  while (i + kAtOnce * kLanes<V> <= n) vectors(std::integral_constant<int, kAtOnce>{});
  while (i + kLanes<V> <= n) vectors(std::integral_constant<int, 1>{});
  return i;
}

template <class Formula, class S>
unsigned bias_backward(const BiasBackward& a, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using V = typename Stored<S>::V;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(S));
  const ExceptionScope exceptions;
  const bool contiguous = a.dy_stride == size && a.saved_stride == size && a.dx_stride == size;
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    const char* dy = a.dy + r * a.dy_row;
    const char* saved = a.saved + r * a.saved_row;
    char* dx = a.dx + r * a.dx_row;
    for (std::ptrdiff_t i = contiguous ? contiguous_row<Formula, S>(a, dy, saved, dx, n) : 0; i < n; i += kLanes<V>) {
      const std::ptrdiff_t count = n - i < kLanes<V> ? n - i : kLanes<V>;
      V of = Stored<S>::load(saved + i * a.saved_stride, a.saved_stride, count);
      if (a.bias) of += Stored<S>::load(a.bias + i * size, size, count);
      const V gradient = Formula::backward(Stored<S>::load(dy + i * a.dy_stride, a.dy_stride, count), of);
      Stored<S>::store(dx + i * a.dx_stride, a.dx_stride, gradient, count);
      add_doubles(a.sums + i, gradient, count);
    }
  }
  return exceptions.raised() & Formula::backward_raises;
}

}  // namespace

namespace NNFAST_ISA {

extern const BiasKernels bias;
const BiasKernels bias = {
#define NNFAST_FORWARD(formula, name, by_y, cost, backward_cost) elementwise_entry<BiasForward<formula>, 2, 0>,
    {NNFAST_BIASED(NNFAST_FORWARD)},
#define NNFAST_BACKWARD(formula, name, by_y, cost, backward_cost) \
  {bias_backward<formula, Half>, bias_backward<formula, float>, bias_backward<formula, double>},
    {NNFAST_BIASED(NNFAST_BACKWARD)},
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
