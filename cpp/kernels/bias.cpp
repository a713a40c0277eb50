// y = act(x + b) and, from one pass, dx = dy act'(x + b) and its sums of columns, the gradient with respect to b.
#include "kernels/bias.hpp"

#include "kernels/cache_lines.hpp"
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
  static constexpr bool splits = requires { Formula::splits; } && kSplits;
  template <class V>
  NNFAST_INLINE static Mask<V> rare(V x, V bias) {
    return Formula::rare(x + bias);
  }
  template <class V>
  NNFAST_INLINE static V common(V x, V bias) {
    return Formula::common(x + bias);
  }
};

struct BiasRow {
  const char *dy, *saved;
  char* dx;
};

// Elements [begin, end) of a row, a vector at a time.
template <class Formula, class T>
[[gnu::noinline]] void some_of_row(const BiasBackward& a, BiasRow row, std::ptrdiff_t begin, std::ptrdiff_t end) {
  using V = Vec<T>;
  for (std::ptrdiff_t i = begin; i < end; i += kLanes<V>) {
    const std::ptrdiff_t count = smaller(end - i, kLanes<V>);
    V of = load_elements<T>(row.saved, a.saved_stride, i, count);
    if (a.bias) of += load_elements<T>(a.bias, Contiguous<T>{}, i, count);
    const V gradient = Formula::backward(load_elements<T>(row.dy, a.dy_stride, i, count), of);
    store_elements<T>(row.dx, a.dx_stride, i, gradient, count);
    add_doubles(a.sums + i, gradient, count);
  }
}

// The elements of a contiguous row from `i` on that fill unrolled vectors; returns where they end.
template <class Formula, class T>
NNFAST_INLINE std::ptrdiff_t contiguous_part(const BiasBackward& a, BiasRow row, std::ptrdiff_t i, std::ptrdiff_t n) {
  using V = Vec<T>;
  const auto at = [](const char* row, std::ptrdiff_t i) NNFAST_INLINED { return reinterpret_cast<const T*>(row) + i; };
  const bool streaming = kCanStream && a.stream && reinterpret_cast<std::uintptr_t>(at(row.dx, i)) % kVectorBytes == 0;
  for (; i + kUnroll * kLanes<V> <= n; i += kUnroll * kLanes<V>) {
    V gradients[kUnroll], of[kUnroll];
    unrolled<kUnroll>([&](int u) NNFAST_INLINED {
      const std::ptrdiff_t j = i + u * kLanes<V>;
      gradients[u] = load<V>(at(row.dy, j));
      of[u] = load<V>(at(row.saved, j));
      if (a.bias) of[u] += load<V>(at(a.bias, j));
    });
    unrolled<kUnroll>([&](int u) NNFAST_INLINED { gradients[u] = Formula::backward(gradients[u], of[u]); });
    T* const to = reinterpret_cast<T*>(row.dx) + i;
    if (streaming) {
      unrolled<kUnroll>([&](int u) NNFAST_INLINED { stream(to + u * kLanes<V>, gradients[u]); });
    } else {
      unrolled<kUnroll>([&](int u) NNFAST_INLINED { store(to + u * kLanes<V>, gradients[u]); });
    }
    unrolled<kUnroll>([&](int u) NNFAST_INLINED { add_doubles(a.sums + i + u * kLanes<V>, gradients[u], kLanes<V>); });
  }
  return i;
}

template <class Formula, class T>
unsigned bias_backward(const BiasBackward& a, std::ptrdiff_t rows, std::ptrdiff_t n) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  const ExceptionScope exceptions;
  const bool contiguous = a.dy_stride == size && a.saved_stride == size && a.dx_stride == size;
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    const BiasRow row{a.dy + r * a.dy_row, a.saved + r * a.saved_row, a.dx + r * a.dx_row};
    std::ptrdiff_t done = 0;
    if (contiguous) {
      const std::ptrdiff_t lead = to_next_line<T>(row.dx, n);
      if (lead > 0) some_of_row<Formula, T>(a, row, 0, lead);
      done = contiguous_part<Formula, T>(a, row, lead, n);
    }
    if (done < n) some_of_row<Formula, T>(a, row, done, n);
  }
  if (a.stream) fence();
  return exceptions.raised() & Formula::backward_raises;
}

// The float16 variant: widens to float32, rounds once; some rows or, of a long one, some columns at a time.
[[gnu::noinline, maybe_unused]] unsigned in_float32(BiasBackwardFn of_float32, const BiasBackward& a,
                                                    std::ptrdiff_t rows, std::ptrdiff_t n) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(float)),
                 narrow = static_cast<std::ptrdiff_t>(sizeof(Float16));
  const ExceptionScope exceptions;  // of the rounded gradients
  unsigned raised = 0;
  float dy[kWidenedChunk], saved[kWidenedChunk], bias[kWidenedChunk];
  for (std::ptrdiff_t first = 0; first < n; first += kWidenedChunk) {
    const std::ptrdiff_t width = smaller(n - first, kWidenedChunk), most = kWidenedChunk / width;
    if (a.bias) widen_run(a.bias + first * narrow, narrow, bias, width);
    const auto bytes = [](float* floats) { return reinterpret_cast<char*>(floats); };
    const BiasBackward part{bytes(dy),    bytes(saved),   a.bias ? bytes(bias) : nullptr,
                            bytes(dy),    width * size,   size,
                            width * size, size,           width * size,
                            size,         a.sums + first, false};
    for (std::ptrdiff_t row = 0; row < rows; row += most) {
      const std::ptrdiff_t count = smaller(rows - row, most);
      for (std::ptrdiff_t r = 0; r < count; ++r) {
        widen_run(a.dy + (row + r) * a.dy_row + first * a.dy_stride, a.dy_stride, dy + r * width, width);
        widen_run(a.saved + (row + r) * a.saved_row + first * a.saved_stride, a.saved_stride, saved + r * width, width);
      }
      raised |= of_float32(part, count, width);
      for (std::ptrdiff_t r = 0; r < count; ++r)
        narrow_run(bytes(dy + r * width), size, a.dx + (row + r) * a.dx_row + first * a.dx_stride, a.dx_stride, width);
    }
  }
  return raised | (exceptions.raised() & kRaisedOverflow);
}

template <class Formula>
unsigned bias_backward_float16(const BiasBackward& a, std::ptrdiff_t rows, std::ptrdiff_t n) {
  return in_float32(bias_backward<Formula, float>, a, rows, n) & Formula::backward_raises;
}

}  // namespace

namespace NNFAST_ISA {

extern const BiasKernels bias;
const BiasKernels bias = {
#define NNFAST_FORWARD(formula, name, takes_y) elementwise_entry<BiasForward<formula>, 2, 0>,
    {NNFAST_BIASED(NNFAST_FORWARD)},
#define NNFAST_BACKWARD(formula, name, takes_y) \
  {bias_backward_float16<formula>, bias_backward<formula, float>, bias_backward<formula, double>},
    {NNFAST_BIASED(NNFAST_BACKWARD)},
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
