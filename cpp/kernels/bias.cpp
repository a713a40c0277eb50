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

// One vector of a row: the gradient is stored, as it is in memory, and that is what is summed.
template <class Formula, class S, class V>
NNFAST_INLINE void backward_vector(V dy, V saved, char* dx, std::ptrdiff_t stride, std::ptrdiff_t count, double* sums) {
  const V gradient = Formula::backward(dy, saved);
  if (stride == static_cast<std::ptrdiff_t>(sizeof(S)) && count == kLanes<V>) {
    Stored<S>::store(dx, gradient);
    const Widened<V> wide = widen(gradient);
    for (int k = 0; k < Widened<V>::count; ++k) {
      double* at = sums + k * kLanes<Vec<double>>;
      store(at, load<Vec<double>>(at) + wide.part[k]);
    }
  } else {
    Stored<S>::store(dx, stride, gradient, count);
    for (std::ptrdiff_t i = 0; i < count; ++i) sums[i] += static_cast<double>(gradient[i]);
  }
}

template <class Formula, class S>
unsigned bias_backward(const BiasBackward& a, std::ptrdiff_t rows, std::ptrdiff_t n) {
  using V = typename Stored<S>::V;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(S));
  const ExceptionScope exceptions;
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    const char* dy = a.dy + r * a.dy_row;
    const char* saved = a.saved + r * a.saved_row;
    char* dx = a.dx + r * a.dx_row;
    for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
      const std::ptrdiff_t count = n - i < kLanes<V> ? n - i : kLanes<V>;
      const auto read = [count](const char* from, std::ptrdiff_t stride) NNFAST_INLINED {
        return stride == size && count == kLanes<V> ? Stored<S>::load(from) : Stored<S>::load(from, stride, count);
      };
      V s = read(saved + i * a.saved_stride, a.saved_stride);
      if (a.bias) s += read(a.bias + i * size, size);
      backward_vector<Formula, S>(read(dy + i * a.dy_stride, a.dy_stride), s, dx + i * a.dx_stride, a.dx_stride, count,
                                  a.sums + i);
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
