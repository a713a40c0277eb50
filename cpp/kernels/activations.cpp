// Activations: each struct holds the formula and, beside it, its gradient.
//
// forward(x, parameters...) and backward(dy, saved, parameters...) are written over a vector type V; the loops, the
// types and the instruction sets come from elementwise_loop.hpp. `raises` of each direction lists the floating-point
// exceptions a user would expect from it: everything else that vector code sets on the way stays hidden.
#include "kernels/activations.hpp"

#include "kernels/elementwise_loop.hpp"
#include "simd/math.hpp"

namespace nnfast {
namespace {

// y = max(x, 0). Adding 0 turns -0 into 0; NaN passes both operations.
struct Relu {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedNothing;
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    return max(V{}, x) + V{};
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y) {
    return y > 0 ? dy : (y == y ? V{} : y);  // where y is NaN so is the gradient
  }
};

// y = x for x > 0, slope x elsewhere (Maas, Hannun, Ng 2013). The factor is chosen, not the product, so that the side
// not taken cannot overflow.
struct LeakyRelu {
  static constexpr unsigned forward_raises = kRaisedOverflow;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V forward(V x, V slope) {
    return x * (x > 0 ? broadcast<V>(1) : slope);
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y, V slope) {
    const V factor = y > 0 ? broadcast<V>(1) : slope;
    return dy * (y == y ? factor : y);
  }
};

// The same with a learned slope (He et al. 2015). What is saved is x: from y a negative slope could not be told.
struct PRelu : LeakyRelu {};

// d slope = dy x where x is not positive.
struct PReluWeight {
  static constexpr unsigned raises = kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V apply(V dy, V x) {
    return dy * (x > 0 ? V{} : x);
  }
};

// y = x for x > 0, alpha (e^x - 1) elsewhere (Clevert, Unterthiner, Hochreiter 2015).
struct Elu {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V forward(V x, V alpha) {
    const Pair<V> t = expm1_nonpositive(min(V{}, x));
    return x < 0 ? fma(alpha, t.lo, alpha * t.hi) : x;
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y, V alpha) {
    return dy * (y > 0 ? broadcast<V>(1) : y + alpha);
  }
};

// y = 1 / (1 + e^-x). With e = e^-|x| it is 1 / (1 + e) for x >= 0 and e / (1 + e) for x < 0; in the second the power
// of two is put on at the end, so that a subnormal result is rounded once.
struct Sigmoid {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedInvalid | kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    using I = Mask<V>;
    using C = Constants<Element<V>>;
    constexpr int min_exponent = sizeof(Element<V>) == 4 ? -126 : -1022;
    const Exponential<V> e = exp_pair(max(broadcast<V>(C::exp_min), -abs(x)));
    const I n = e.n > min_exponent ? e.n : broadcast<I>(min_exponent);  // further down, 1 + e is 1 all the same
    const V power = power_of_two<V>(n);
    const V one = broadcast<V>(1);
    const V sum = fma(e.m.hi, power, one);
    const V sum_lo = fma(e.m.lo, power, fma(e.m.hi, power, one - sum));
    const auto negative = x < 0;
    const V y = divide(Pair<V>{negative ? e.m.hi : one, negative ? e.m.lo : V{}}, Pair<V>{sum, sum_lo});
    return scale(y, negative ? e.n : I{});
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y) {
    return dy * (y * (1 - y));
  }
};

// y = -t / (2 + t) with t = e^(-2|x|) - 1, and the sign of x.
struct Tanh {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedInvalid | kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    // Bounded before doubling, so that no x overflows.
    const Pair<V> t = expm1_nonpositive(-2 * min(broadcast<V>(-Constants<Element<V>>::expm1_min), abs(x)));
    const V two = broadcast<V>(2);
    const V sum = t.hi + two;
    return copysign(divide(t, Pair<V>{sum, t.hi - (sum - two) + t.lo}), x);
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y) {
    return dy * fma(-y, y, broadcast<V>(1));
  }
};

template <class Formula>
struct Forward {
  static constexpr unsigned raises = Formula::forward_raises;
  template <class... V>
  NNFAST_INLINE static auto apply(V... v) {
    return Formula::forward(v...);
  }
};

template <class Formula>
struct Backward {
  static constexpr unsigned raises = Formula::backward_raises;
  template <class... V>
  NNFAST_INLINE static auto apply(V... v) {
    return Formula::backward(v...);
  }
};

// ---- maxout (Goodfellow et al. 2013): the largest of every `pieces` neighbours ----

template <class T>
void maxout(const MaxoutRow& row, std::ptrdiff_t groups, std::ptrdiff_t pieces) {
  using V = Vec<T>;
  using I = Mask<V>;
  for (std::ptrdiff_t j = 0; j < groups; j += kLanes<V>) {
    const std::ptrdiff_t count = groups - j < kLanes<V> ? groups - j : kLanes<V>;
    const char* x = row.x + j * pieces * row.x_stride;
    V best = load_strided<V>(x, pieces * row.x_stride, count, T{0});
    I which{};
    for (std::ptrdiff_t piece = 1; piece < pieces; ++piece) {
      const V candidate = load_strided<V>(x + piece * row.x_stride, pieces * row.x_stride, count, T{0});
      const I better = (candidate > best) | ((candidate != candidate) & (best == best));
      best = better ? candidate : best;
      which = better ? broadcast<I>(static_cast<IntOf<T>>(piece)) : which;
    }
    store_strided(row.y + j * row.y_stride, row.y_stride, best, count);
    for (std::ptrdiff_t i = 0; i < count; ++i)
      store_element(row.which + (j + i) * row.which_stride, static_cast<std::uint8_t>(which[i]));
  }
}

template <class T>
void maxout_backward(const MaxoutRow& row, std::ptrdiff_t groups, std::ptrdiff_t pieces) {
  for (std::ptrdiff_t j = 0; j < groups; ++j) {
    const T dy = load_element<T>(row.y + j * row.y_stride);
    const auto which = load_element<std::uint8_t>(row.which + j * row.which_stride);
    char* dx = row.x + j * pieces * row.x_stride;
    for (std::ptrdiff_t piece = 0; piece < pieces; ++piece)
      store_element<T>(dx + piece * row.x_stride, piece == which ? dy : T{0});
  }
}

}  // namespace

namespace NNFAST_ISA {

extern const ActivationKernels activations;
const ActivationKernels activations = {
#define NNFAST_FORWARD(formula, name, params, cost) elementwise_entry<Forward<formula>, 1 + params, params>,
    {NNFAST_ACTIVATIONS(NNFAST_FORWARD)},
#define NNFAST_BACKWARD(formula, name, params, cost) elementwise_entry<Backward<formula>, 2 + params, params>,
    {NNFAST_ACTIVATIONS(NNFAST_BACKWARD)}, elementwise_entry<PReluWeight, 2, 0>,
    {maxout<float>, maxout<double>},       {maxout_backward<float>, maxout_backward<double>},
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
