// The formulas of the activations: each struct holds one and, beside it, its gradient.
//
// forward(x, parameters...) and backward(dy, saved, parameters...) are written over a vector type V; the loops, the
// types and the instruction sets come from elementwise_loop.hpp. `raises` of each direction lists the floating-point
// exceptions a user would expect from it: everything else that vector code sets on the way stays hidden.
// rare(x, parameters...) and common(...), where a formula has them: which lanes are so far out that a result may be
// subnormal, and what gives the bits of forward() where none is. They are worth it if `splits` says so.
// `by_table` marks those whose every vector, of float with FMA, looks its coefficients up.
#pragma once

#include <cstdint>

#include "simd/math.hpp"
#include "simd/piecewise.hpp"
#include "simd/raised.hpp"

namespace nnfast {
namespace {

// ---- piecewise linear ----

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

// y = max(min(x, 6), 0)
struct Relu6 {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedNothing;
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    return min(broadcast<V>(6), max(V{}, x)) + V{};
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y) {
    return (y > 0) & (y < 6) ? dy : (y == y ? V{} : y);
  }
};

// y = max(min(x, high), low)
struct Hardtanh {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedNothing;
  template <class V>
  NNFAST_INLINE static V forward(V x, V low, V high) {
    return min(high, max(low, x));
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y, V low, V high) {
    return (y > low) & (y < high) ? dy : (y == y ? V{} : y);
  }
};

// y = x for x > 0, slope x elsewhere (Maas, Hannun, Ng 2013). The factor is chosen, not the product, so that the side
// not taken cannot overflow.
struct LeakyRelu {
  static constexpr unsigned forward_raises = kRaisedOverflow;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V forward(V x, V slope) {
    return x * selected(x > 0 ? broadcast<V>(1) : slope);
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y, V slope) {
    const V factor = y > 0 ? broadcast<V>(1) : slope;
    return dy * selected(y == y ? factor : y);
  }
};

// The same with a learned slope (He et al. 2015). What is saved is x: from y a negative slope could not be told.
struct PRelu : LeakyRelu {
  static constexpr bool varying_params = true;
};

// d slope = dy x where x is not positive.
struct PReluWeight {
  static constexpr unsigned raises = kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V apply(V dy, V x) {
    return dy * selected(x > 0 ? V{} : x);
  }
};

// y = x for x > limit, value elsewhere.
struct Threshold {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedNothing;
  template <class V>
  NNFAST_INLINE static V forward(V x, V limit, V value) {
    return x <= limit ? value : x;
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V x, V limit, V) {
    return x > limit ? dy : (x == x ? V{} : x);
  }
};

// y = x for |x| > lambda, 0 elsewhere (Donoho, Johnstone 1994). y is on the same side as x.
struct Hardshrink {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedNothing;
  template <class V>
  NNFAST_INLINE static V forward(V x, V lambda) {
    return abs(x) <= lambda ? V{} : x;
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y, V lambda) {
    return abs(y) > lambda ? dy : (y == y ? V{} : y);
  }
};

// y = x - lambda for x > lambda, x + lambda for x < -lambda, 0 between them (Donoho, Johnstone 1994). A difference of
// two floats is 0 only where they are equal, so y tells where x was.
struct Softshrink {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedNothing;
  template <class V>
  NNFAST_INLINE static V forward(V x, V lambda) {
    const V size = abs(x);
    return size <= lambda ? V{} : copysign(size - lambda, x);
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y, V) {
    return y == 0 ? V{} : (y == y ? dy : y);
  }
};

// y = max(x, 0)^2                                                                                 (So et al. 2021)
struct ReluSquared {
  static constexpr unsigned forward_raises = kRaisedOverflow;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    const V above = max(V{}, x);
    return above * above;
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V x) {
    const V half = dy * selected(max(V{}, x) + V{});
    return half + half;
  }
};

// 1/6 as a pair.
template <class V>
NNFAST_INLINE Pair<V> sixth() {
  using C = Constants<Element<V>>;
  return {broadcast<V>(C::sixth_hi), broadcast<V>(C::sixth_lo)};
}

// y = max(min(x + 3, 6), 0) / 6
struct Hardsigmoid {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedNothing;
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    const V sum = min(broadcast<V>(6), max(V{}, x + 3));
    return fma(sum, sixth<V>().hi, sum * sixth<V>().lo);
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V x) {
    return dy * selected(abs(x) < 3 ? sixth<V>().hi : (x == x ? V{} : x));
  }
};

// y = x max(min(x + 3, 6), 0) / 6                                                           (Howard et al. 2019)
struct Hardswish {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    const V three = broadcast<V>(3);
    const V inside = max(-three, x);
    const Pair<V> sum = fast_two_sum(three, inside);
    const V part = inside * sixth<V>().hi;
    return x >= three ? x : copysign(fma(sum.hi, part, sum.lo * part), x);
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V x) {
    const V half = broadcast<V>(static_cast<Element<V>>(0.5));
    const Pair<V> third = two_product(x, 2 * sixth<V>().hi);
    const V middle = (third.hi + half) + fma(x, 2 * sixth<V>().lo, third.lo);
    return dy * selected(x >= 3 ? broadcast<V>(1) : (x > -3 ? middle : (x == x ? V{} : x)));
  }
};

// ---- of exponentials below 0 ----

// y = x for x > 0, alpha (e^x - 1) elsewhere (Clevert, Unterthiner, Hochreiter 2015).
struct Elu {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V forward(V x, V alpha) {
    const Pair<V> t = expm1_unsummed(min(V{}, x));
    return x < 0 ? fma(alpha, t.lo, alpha * t.hi) : x;
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y, V alpha) {
    return dy * selected(y > 0 ? broadcast<V>(1) : y + alpha);
  }
};

// y = x for x > 0, alpha (e^(x/alpha) - 1) elsewhere                                              (Barron 2017)
struct Celu {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V forward(V x, V alpha) {
    return Elu::forward(x < 0 ? x / alpha : x, alpha);
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y, V alpha) {
    return dy * selected(y > 0 ? broadcast<V>(1) : (y + alpha) / alpha);
  }
};

// y = lambda x for x > 0, lambda alpha (e^x - 1) elsewhere, with the constants that keep mean 0 and variance 1
// (Klambauer et al. 2017).
struct Selu {
  static constexpr unsigned forward_raises = kRaisedOverflow;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    using C = Constants<Element<V>>;
    const Pair<V> t = expm1_unsummed(min(V{}, x));
    const auto negative = x < 0;
    const V factor = broadcast<V>(C::selu_lambda_alpha_hi), factor_lo = broadcast<V>(C::selu_lambda_alpha_lo);
    const V below = fma(factor, t.hi, fma(factor, t.lo, factor_lo * t.hi));
    // Bounded, so that an infinite x meets no infinity of the other sign.
    const V bounded = min(broadcast<V>(C::largest), x);
    const V above = fma(x, broadcast<V>(C::selu_lambda_hi), bounded * broadcast<V>(C::selu_lambda_lo));
    return copysign(negative ? below : above, x);
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y) {
    using C = Constants<Element<V>>;
    const V below = y + C::selu_lambda_alpha_hi + C::selu_lambda_alpha_lo;
    return dy * selected(y > 0 ? broadcast<V>(C::selu_lambda_hi) : below);
  }
};

// ---- the logistic function and what is made of it ----

// numerator / denominator 2^n
template <class V>
struct Quotient {
  Pair<V> numerator, denominator;
  Mask<V> n;
};

// The exponential of -|x| as it is, and with its power of two put on: `power` where that is normal, which is enough to
// be added to 1.
template <class V>
struct Decay {
  Exponential<V> e;
  V power;
  Pair<V> one_plus;  // 1 + e^-|x|
};

template <class V>
NNFAST_INLINE V negated(V x) {
  return -x;
}
template <class V>
NNFAST_INLINE Pair<V> negated(Pair<V> x) {
  return {-x.hi, -x.lo};
}

// x 2^n, rounded once, for |x| up to 2^10 and n at least -220 in float, for |x| up to 2^11 in double. NaN stays NaN.
// There is no underflow, for which Intel's processors take more than a hundred cycles, in any lane: in double, none
// where n is so low that the result is 0, in float none at all.
template <class V>
NNFAST_INLINE V scale_or_zero(V x, Mask<V> n) {
  if constexpr (sizeof(Element<V>) == sizeof(float)) {
    // What is low comes out 2^96 times as large. A sum rounds it to the last place of subnormal numbers, and its last
    // digits are all that those have.
    constexpr float smallest = 0x1p-30f;  // normal number, times 2^96
    const auto low = n < -126;
    const V y = x * power_of_two<V>(low ? n + 96 : n);
    const auto subnormal = low & (abs(y) < smallest);
    const V sum = y + copysign(broadcast<V>(smallest), y);
    const V digits = bit_cast<V>(bit_cast<Mask<V>>(sum) - bit_cast<std::int32_t>(smallest));
    return subnormal ? digits : y * selected(low & ~subnormal ? broadcast<V>(0x1p-96f) : broadcast<V>(1));
  } else {
    const auto some = n > -1086;
    return scale(x, some ? n : Mask<V>{}) * (some ? broadcast<V>(1) : V{});
  }
}

// x f(x) of a function with f(x) + f(-x) = 1, by f(-|x|).
template <class V>
NNFAST_INLINE V gated(V x, V below) {
  const V product = x * below;
  return bit_cast<Mask<V>>(x) < 0 ? product : x - product;  // by the sign, which a zero keeps
}

// Whether a formula's common() saves enough for code of its own.
constexpr bool kSplits = !kShort;

// Where e^-size is normal.
template <class V>
constexpr auto kNormalDecay = static_cast<Element<V>>(sizeof(Element<V>) == sizeof(float) ? 87.25 : 708);

// 2^n, for every n below the smallest of which a significand's 0.95 is normal too.
template <class V>
NNFAST_INLINE V normal_power(Mask<V> n) {
  constexpr int min_exponent = sizeof(Element<V>) == 4 ? -125 : -1021;
  return power_of_two<V>(n > min_exponent ? n : broadcast<Mask<V>>(min_exponent));
}

// Of |x|, a vector or a pair, at most -2 exp_min.
template <class V, class X>
NNFAST_INLINE Decay<V> decay(X size) {
  const Exponential<V> e = exp_pair<V>(negated(size));
  const V power = normal_power<V>(e.n);
  const V one = broadcast<V>(1);
  const V sum = fma(e.m.hi, power, one);
  return {e, power, {sum, fma(e.m.lo, power, fma(e.m.hi, power, one - sum))}};
}

// e^-|x| = factor 2^n / grown, grown = e^r for what |x| is off from a step of the table. So 1 / (1 + e^|x|) is
// factor 2^n / sum(2^n).
template <class V>
struct LogisticParts {
  V factor;
  Pair<V> grown;
  Mask<V> n;
  NNFAST_INLINE Pair<V> sum(V power) const {
    const Pair<V> both = fast_two_sum(grown.hi, factor * power);
    return {both.hi, both.lo + grown.lo};
  }
};

// Of |x|, at most -2 exp_min.
template <class V>
NNFAST_INLINE LogisticParts<V> logistic_parts(V size) {
  using C = Constants<Element<V>>;
  const ReducedDown<V> down = reduce_down(size);
  const V r = down.r;
  const V rest = fma(r * r, polynomial(r, C::exp_tail), -step_rest<V>(down.steps));
  return {step_factor<V>(down.steps), fast_two_sum(broadcast<V>(1), r + rest), doublings<V>(down.steps)};
}

template <class V>
NNFAST_INLINE V at_most(Element<V> bound, V x) {
  return min(broadcast<V>(bound), x);
}

// e^x and 1 + e^x for x <= 0, for gradients and what is added to 1: from -64 on 0 and 1.
template <class V>
struct ShortDecay {
  Pair<V> e;
  Pair<V> one_plus;  // of e.hi
};

// Of a vector or a pair.
template <class V, class X>
NNFAST_INLINE ShortDecay<V> short_decay(X x) {
  constexpr auto far = static_cast<Element<V>>(-64);
  const Halved<V> halved = halve(max(broadcast<V>(far), high_part(x)));
  V r = halved.r.hi;
  if constexpr (std::is_same_v<X, Pair<V>>) r += x.lo;
  const V one = broadcast<V>(1);
  const Pair<V> m = fast_two_sum(one, fma(r * r, polynomial(r, Constants<Element<V>>::exp_long_tail), r));
  const V power = high_part(x) < far ? V{} : halved.power;
  const Pair<V> e{m.hi * power, m.lo * power};
  return {e, fast_two_sum(one, e.hi)};
}

// 1 / (1 + e^-x) and 1 / (1 + e^x), of the same kind.
template <class V>
struct BothLogistics {
  Pair<V> below, above;
};

template <class V, class X>
NNFAST_INLINE BothLogistics<V> both_logistics(X x) {
  const ShortDecay<V> d = short_decay<V>(x);
  const V s = 1 / d.one_plus.hi;
  const Pair<V> above{s, s * fma(-s, d.one_plus.lo, fma(-s, d.one_plus.hi, broadcast<V>(1)))};
  return {multiply(above, d.e.hi), above};
}

// dy f(x) of a function with f(x) + f(-x) = 1, by f(-|x|): that times dy, or dy less that.
template <class V>
NNFAST_INLINE V times_either(V dy, Pair<V> below, V x) {
  using I = Mask<V>;
  const V base = bit_cast<I>(x) < 0 ? V{} : dy;
  const V factor = bit_cast<V>(bit_cast<I>(dy) ^ (~bit_cast<I>(x) & bit_cast<I>(broadcast<V>(-0.0))));
  return fma(factor, below.lo, fma(factor, below.hi, base));
}

// dy (s + u s (1 - s)) with s = 1 / (1 + e^-x), by -|x| and -|u|: for x < 0 the sum is s (1 - |u| (1 - s)).
template <class V, class X>
NNFAST_INLINE V times_logistic_slope(V dy, X minus, X minus_u, V x) {
  const BothLogistics<V> s = both_logistics<V>(minus);
  const Pair<V> product = multiply(s.above, minus_u);
  const Pair<V> rest = fast_two_sum(broadcast<V>(1), product.hi);
  return times_either(dy, multiply(s.below, Pair<V>{rest.hi, rest.lo + product.lo}), x);
}

// x times a quotient. Beyond `same` the quotient is 1 and y = x, which takes the infinite out as well.
template <class V>
NNFAST_INLINE V times(V x, const Quotient<V>& q) {
  const V y = scale_or_zero(divide(multiply(q.numerator, x), q.denominator), q.n);
  return x > Constants<Element<V>>::logistic_one ? x : copysign(y, x);
}

// Not so far down that e^x x could be anything but 0.
template <class V>
NNFAST_INLINE V from_bottom(V x) {
  return max(broadcast<V>(Constants<Element<V>>::product_min), x);
}
// A size, at most that of product_min.
template <class V>
NNFAST_INLINE V bounded_size(V size) {
  return min(broadcast<V>(-Constants<Element<V>>::product_min), size);
}
template <class V>
NNFAST_INLINE V size_of_product(V x) {
  return bounded_size(abs(x));
}

// y = 1 / (1 + e^-x); for x >= 0 as 1 less that of -x.
struct Sigmoid {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedInvalid | kRaisedOverflow;
  static constexpr bool splits = kSplits;
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    const V below = of_negative(abs(x));
    return x < 0 ? below : 1 - below;
  }
  template <class V>
  NNFAST_INLINE static Mask<V> rare(V x) {
    return abs(x) > kNormalDecay<V>;
  }
  template <class V>
  NNFAST_INLINE static V common(V x) {
    const V below = of_normal_negative(abs(x));
    return x < 0 ? below : 1 - below;
  }
  // Of -size, where size is not negative.
  template <class V>
  NNFAST_INLINE static V of_negative(V size) {
    const LogisticParts<V> p = logistic_parts<V>(bounded_size(size));
    return scale_or_zero(divide(p.factor, p.sum(normal_power<V>(p.n))), p.n);
  }
  template <class V>
  NNFAST_INLINE static V of_normal_negative(V size) {
    const LogisticParts<V> p = logistic_parts<V>(size);
    const V power = power_of_two<V>(p.n);
    return divide(p.factor, p.sum(power)) * power;
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y) {
    return dy * (kFused ? fma(-y, y, y) : y * (1 - y));
  }
  // By x: e / (1 + e)^2 with e = e^-|x|.
  template <class V>
  NNFAST_INLINE static V slope(V x) {
    if constexpr (kPiecewise<V>) return piecewise<SigmoidSlope>(abs(x));
    const BothLogistics<V> s = both_logistics<V>(-abs(x));
    return fma(s.below.hi, s.above.hi, fma(s.below.hi, s.above.lo, s.below.lo * s.above.hi));
  }
};

// e = e^-|x| far from 0: |x| e = product 2^n, and e itself, never subnormal.
template <class V>
struct FarDecay {
  V size, product, power;
  Mask<V> n;
};
template <class V>
NNFAST_INLINE FarDecay<V> far_decay(V x) {
  const V size = size_of_product(x);
  const Exponential<V> e = exp_unsummed<V>(-size);
  return {size, fma(size, e.m.hi, size * e.m.lo), (e.m.hi + e.m.lo) * normal_power<V>(e.n), e.n};
}

// y = x / (1 + e^-x)                                                                  (Elfwing, Uchibe, Doya 2017)
struct Silu {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr bool splits = kSplits;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  static constexpr bool backward_by_table = true;
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    if constexpr (kPiecewise<V>) {
      const Mask<V> outside = rare(x);
      V y = x;
      if (any<V>(~outside)) y = near(x, at_most(LogisticBelow::top, abs(x)));
      if (__builtin_expect(any<V>(outside), 0)) y = outside ? tail(outside ? x : broadcast<V>(-LogisticBelow::top)) : y;
      return y;
    }
    const LogisticParts<V> p = logistic_parts<V>(size_of_product(x));
    const V quotient = divide(p.factor, p.sum(normal_power<V>(p.n)));
    const V product = scale_or_zero(from_bottom(x) * quotient, p.n);
    const V y = bit_cast<Mask<V>>(x) < 0 ? product : x - product;
    return x > Constants<Element<V>>::logistic_one ? x : y;
  }
  template <class V>
  NNFAST_INLINE static Mask<V> rare(V x) {
    if constexpr (kPiecewise<V>) return abs(x) > LogisticBelow::top;
    return abs(x) > kNormalDecay<V>;
  }
  // By a table of the logistic function below 0, size = |x|.
  template <class V>
  NNFAST_INLINE static V near(V x, V size) {
    const Line<V> f = piecewise_inside<LogisticBelow>(size);
    return gated(x, fma(f.slope, f.y, f.constant));
  }
  template <class V>
  NNFAST_INLINE static V common(V x) {
    if constexpr (kPiecewise<V>) return near(x, abs(x));
    return gated(x, Sigmoid::of_normal_negative(abs(x)));
  }
  // Of |x| > 8, where 1 / (1 + e) = 1 - e (1 - e), e = e^-|x|.
  template <class V>
  [[gnu::noinline]] static V tail(V x) {
    const FarDecay<V> e = far_decay(x);
    const V step = e.power * (1 - e.power);  // a square would be subnormal, and slow
    return x < 0 ? -scale_or_zero(fma(-e.product, step, e.product), e.n) : fma(-e.size, step, x);
  }
  // s + x s (1 - s)
  template <class V>
  NNFAST_INLINE static V backward(V dy, V x) {
    if constexpr (kPiecewise<V>) return times_step<SiluSlope>(dy, x);
    return times_logistic_slope(dy, -abs(x), max(broadcast<V>(-64), -abs(x)), x);
  }
};

// y = -t / (2 + t) with t = e^(-2|x|) - 1, and the sign of x. In float by a table; without FMA, as the series is short
// there, x - x^3 (1/3 + ...) near 0 and 1 - 2 e / (1 + e) with e = e^(-2|x|) beyond.
struct Tanh {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedInvalid | kRaisedOverflow;
  static constexpr bool forward_by_table = true;
  template <class V>
  struct Fraction {
    Pair<V> numerator, denominator;
  };
  // -tanh |x|
  template <class V>
  NNFAST_INLINE static Fraction<V> minus(V size) {
    // Bounded before doubling, so that no x overflows.
    const Pair<V> e = expm1_unsummed(-2 * min(broadcast<V>(-Constants<Element<V>>::expm1_min), size));
    const Pair<V> t = fast_two_sum(e.hi, e.lo);
    const V two = broadcast<V>(2);
    const V sum = t.hi + two;
    return {t, {sum, t.hi - (sum - two) + t.lo}};
  }
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    const V size = abs(x);
    if constexpr (kPiecewise<V>) {
      const Line<V> f = piecewise_line<TanhParts>(size);
      const V start = f.constant == 0 ? f.y : f.constant;  // next to 0 the polynomial is of tanh a - a
      return copysign(fma(f.slope, f.y, start), x);
    } else if constexpr (sizeof(Element<V>) == sizeof(float)) {
      return copysign(size < Constants<float>::tanh_near ? near(size) : far(size), x);
    } else {
      const Fraction<V> t = minus(size);
      return copysign(divide(t.numerator, t.denominator), x);
    }
  }
  template <class V>
  NNFAST_INLINE static V near(V size) {
    using C = Constants<Element<V>>;
    const Pair<V> square = two_product(size, size);
    const V series = polynomial(square.hi, C::tanh_series);
    return fma(-size, fma(square.hi, series, square.lo * series), size);
  }
  template <class V>
  NNFAST_INLINE static V far(V size) {
    const Exponential<V> e = exp_unsummed<V>(-2 * min(broadcast<V>(-Constants<Element<V>>::expm1_min), size));
    const V decay = (e.m.hi + e.m.lo) * power_of_two<V>(e.n);
    return 1 - (decay + decay) / (1 + decay);
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y) {
    return dy * (kFused ? fma(-y, y, broadcast<V>(1)) : (1 - y) * (1 + y));
  }
};

// y = x - tanh x. Below 1, where the difference would lose its digits, x^3 (1/3 + bend x^2): the bend is a series in
// float, and in double a quotient that shares the division of the other side, x - 1 + 2 e / (1 + e), e = e^(-2 x).
struct Tanhshrink {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  static constexpr bool forward_by_table = true;
  static constexpr bool backward_by_table = true;
  template <class V>
  NNFAST_INLINE static Pair<V> minus_tanh(V size) {
    const Tanh::Fraction<V> t = Tanh::minus(size);
    return divide_unsummed(t.numerator, t.denominator);
  }
  // size - tanh size, where that loses no digits
  template <class V>
  NNFAST_INLINE static V less_tanh(V size) {
    if constexpr (kPiecewise<V>) {
      const Line<V> f = piecewise_line<TanhParts>(size);
      return fma(-f.slope, f.y, size - f.constant);
    }
    const Pair<V> t = minus_tanh(size);
    return (size + t.hi) + t.lo;
  }
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    using C = Constants<Element<V>>;
    const V size = abs(x);
    const auto is_near = size < 1;
    const Pair<V> square = two_product(at_most(1, size), at_most(1, size));
    V bend, far;
    if constexpr (sizeof(Element<V>) == sizeof(double)) {
      const ShortDecay<V> d = short_decay<V>(-2 * size);
      const Pair<V> top = choose(is_near, Pair<V>{polynomial(square.hi, C::tanh_bend_top), V{}}, d.e);
      const Pair<V> bottom = choose(is_near, Pair<V>{polynomial(square.hi, C::tanh_bend_bottom), V{}}, d.one_plus);
      bend = divide(top, bottom);
      far = fma(broadcast<V>(2), bend, size - 1);
    } else {
      bend = polynomial(square.hi, C::tanh_bend);
      far = less_tanh(size);
    }
    return copysign(is_near ? cubic(at_most(1, size), square, bend) : far, x);
  }
  // x^3 (1/3 + bend x^2)
  template <class V>
  NNFAST_INLINE static V cubic(V x, Pair<V> square, V bend) {
    using C = Constants<Element<V>>;
    const Pair<V> cube = multiply(square, x);
    const Pair<V> sum = fast_two_sum(broadcast<V>(C::third_hi), square.hi * bend);
    return fma(cube.hi, sum.hi, fma(cube.hi, sum.lo + C::third_lo, cube.lo * sum.hi));
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V x) {
    if constexpr (kPiecewise<V>) return times(dy, piecewise_line<TanhshrinkSlope>(abs(x)));
    const Pair<V> t = minus_tanh(abs(x));
    return dy * fma(t.hi, t.hi, 2 * t.hi * t.lo);
  }
};

// y = log(1 + e^(beta x)) / beta, as max(beta x, 0) + log(1 + e^-|beta x|); x itself where beta x is above a limit.
struct Softplus {
  static constexpr unsigned forward_raises = kRaisedOverflow;
  static constexpr bool splits = kSplits;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  static constexpr bool backward_by_table = true;
  // log(1 + e^x)
  template <class V>
  NNFAST_INLINE static V of(V x) {
    return max(V{}, x) + of_negative(abs(x));
  }
  // Of -size, where size is not negative.
  template <class V>
  NNFAST_INLINE static V of_negative(V size) {
    if constexpr (kPiecewise<V>) {
      const Exponential<V> e = exp_unsummed<V>(-bounded_size(size));
      return scale_or_zero(times_factor(size, e.m), e.n);
    }
    const Exponential<V> e = exp_pair<V>(-bounded_size(size));
    const auto tiny = e.n < -kDigits<V>;  // log(1 + t) = t
    const V power = power_of_two<V>(tiny ? Mask<V>{} - kDigits<V> : e.n);
    const V rest = log1p_unit(Pair<V>{e.m.hi * power, e.m.lo * power});
    return tiny ? scale_or_zero(e.m.hi + e.m.lo, e.n) : rest;
  }
  // m log(1 + e^-size) e^size
  template <class V>
  NNFAST_INLINE static V times_factor(V size, Pair<V> m) {
    const V factor = piecewise<Log1pFactor>(size);
    return fma(factor, m.hi, factor * m.lo);
  }
  template <class V>
  NNFAST_INLINE static Mask<V> rare_of(V x) {
    if constexpr (!kPiecewise<V>) return Mask<V>{};
    return abs(x) > kNormalDecay<V>;
  }
  template <class V>
  NNFAST_INLINE static V common_of(V x) {
    if constexpr (kPiecewise<V>) {
      const V size = abs(x);
      const Exponential<V> e = exp_unsummed<V>(-size);
      return max(V{}, x) + times_factor(size, e.m) * power_of_two<V>(e.n);
    }
    return of(x);
  }
  template <class V>
  NNFAST_INLINE static Mask<V> rare(V x, V beta, V) {
    return rare_of(beta * x);
  }
  template <class V>
  NNFAST_INLINE static V common(V x, V beta, V limit) {
    const V steep = beta * x;
    return steep > limit ? x : common_of(steep) / beta;
  }
  template <class V>
  NNFAST_INLINE static V forward(V x, V beta, V limit) {
    const V steep = beta * x;
    const V y = of(steep);  // subnormal perhaps, and a division of such a number slow
    const V quotient = (beta == 1 ? V{} : y) / beta;
    return steep > limit ? x : (beta == 1 ? y : quotient);
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V x, V beta, V limit) {
    const V steep = beta * x;
    return steep > limit ? dy : times_logistic(dy, steep);
  }
  // dy / (1 + e^-x)
  template <class V>
  NNFAST_INLINE static V times_logistic(V dy, V x) {
    if constexpr (kPiecewise<V>) return times_step<LogisticStep>(dy, x);
    const ShortDecay<V> d = short_decay<V>(-abs(x));
    const V top = x < 0 ? d.e.hi : broadcast<V>(1), reciprocal = 1 / d.one_plus.hi, q = top * reciprocal;
    const V rest = reciprocal * fma(-q, d.one_plus.lo, fma(-q, d.one_plus.hi, top));
    return fma(dy, q, dy * rest);
  }
};

// y = log(1 / (1 + e^-x))
struct Logsigmoid {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr bool splits = kSplits;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  static constexpr bool backward_by_table = true;
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    return -Softplus::of(-x);
  }
  template <class V>
  NNFAST_INLINE static Mask<V> rare(V x) {
    return Softplus::rare_of(x);
  }
  template <class V>
  NNFAST_INLINE static V common(V x) {
    return -Softplus::common_of(-x);
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V x) {
    return Softplus::times_logistic(dy, -x);
  }
};

// y = x tanh(log(1 + e^x)) (Misra 2019). With u = 1 + e, e = e^-|x|, and w = 1 for x < 0, e elsewhere, the tanh is
// (u + w) / (u^2 + w^2), times e for x < 0.
struct Mish {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  template <class V>
  struct Parts {
    Pair<V> w, sum, squares;  // w, u + w, u^2 + w^2
  };
  template <class V>
  NNFAST_INLINE static Parts<V> parts(const Decay<V>& d, Mask<V> negative) {
    const Pair<V> w = choose(negative, Pair<V>{broadcast<V>(1), V{}}, Pair<V>{d.e.m.hi * d.power, d.e.m.lo * d.power});
    return {w, add(d.one_plus, w), add(multiply(d.one_plus, d.one_plus), multiply(w, w))};
  }
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    if constexpr (kPiecewise<V>) {
      const Mask<V> outside = x < -MishGate::top;
      V y = x;
      if (any<V>(~outside)) y = x * piecewise<MishGate>(abs(x), x);  // from its top on exactly x
      if (__builtin_expect(any<V>(outside), 0)) y = outside ? tail(outside ? x : broadcast<V>(-MishGate::top)) : y;
      return y;
    }
    const auto negative = x < 0;
    const Decay<V> d = decay<V>(size_of_product(x));
    const Parts<V> p = parts(d, negative);
    const Pair<V> numerator = choose(negative, multiply(p.sum, d.e.m), p.sum);
    return times(from_bottom(x), Quotient<V>{numerator, p.squares, negative ? d.e.n : Mask<V>{}});
  }
  // Of x < -9, where the tanh is e (1 - e / 2), e = e^x.
  template <class V>
  [[gnu::noinline]] static V tail(V x) {
    const FarDecay<V> e = far_decay(x);
    return -scale_or_zero(fma(-0.5f * e.product, e.power, e.product), e.n);
  }
  // tanh + x s (1 - tanh^2), with 1 - tanh^2 = 4 (u w)^2 / (u^2 + w^2)^2 and s = 1 / u, or e / u for x < 0. Over one
  // denominator, and e taken out for x < 0, that is ((u + w) (u^2 + w^2) + 4 x w^2 u) / (u^2 + w^2)^2.
  template <class V>
  NNFAST_INLINE static V backward(V dy, V x) {
    if constexpr (kPiecewise<V>) return times(dy, piecewise_line<MishSlope>(abs(x), x));
    const V size = size_of_product(x);
    const auto negative = x < 0;
    const Decay<V> d = decay<V>(size);
    const Parts<V> p = parts(d, negative);
    const Pair<V> flat = multiply(p.sum, p.squares);
    const Pair<V> steep = multiply(multiply(multiply(p.w, p.w), d.one_plus), 4 * copysign(size, x));
    const Pair<V> sum = two_sum(flat.hi, steep.hi);
    const Pair<V> both{sum.hi, sum.lo + (flat.lo + steep.lo)};
    const V slope = divide(choose(negative, multiply(both, d.e.m), both), multiply(p.squares, p.squares));
    return dy * scale_or_zero(slope, negative ? d.e.n : Mask<V>{});
  }
};

// y = x / (1 + |x|); from 2^(digits + 2) on that is the sign, and from half of that on the number before it.
struct Softsign {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    constexpr auto far = static_cast<Element<V>>(std::int64_t{2} << kDigits<V>);
    const V one = broadcast<V>(1);
    const V size = abs(x);
    const V bounded = at_most(far, size);
    const V y = divide(bounded, fast_two_sum(one, bounded));
    return copysign(size >= 2 * far ? one : y, x);
  }
  template <class V>
  NNFAST_INLINE static V backward(V dy, V x) {
    // Further out the square is no number, and the slope 0 beside anything.
    constexpr auto far = static_cast<Element<V>>(sizeof(Element<V>) == 4 ? 0x1p60 : 0x1p500);
    const V size = abs(x);
    const Pair<V> sum = fast_two_sum(broadcast<V>(1), at_most(far, size));  // exact up to 2^(digits + 1)
    const Pair<V> square = multiply(sum, sum);
    const V f = size > far ? V{} : 1 / square.hi;
    const V rest = f * fma(-f, square.lo, fma(-f, square.hi, broadcast<V>(1)));
    return fma(dy, f, dy * rest);
  }
};

// y = (x + s) / 2, s = sqrt(x^2 + b) (Barron 2021). Where x is negative that is a difference of nearly equal numbers:
// there y = b / (2 (s + |x|)), corrected by a step of Newton's for the root of y (y - x) = b / 4, whose slope is s.
struct Squareplus {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr unsigned backward_raises = kRaisedNothing;
  // From here on s = |x|, and the squares of larger numbers may overflow.
  template <class V>
  static constexpr auto far = static_cast<Element<V>>(sizeof(Element<V>) == 4 ? 0x1p45 : 0x1p400);
  template <class V>
  NNFAST_INLINE static V forward(V x, V b) {
    const V quarter = b * static_cast<Element<V>>(0.25), size = abs(x);
    const auto outside = size > far<V>;
    const V bounded = min(broadcast<V>(far<V>), size);
    const V s = sqrt(fma(bounded, bounded, b));
    const V sum = s + bounded;
    // The reciprocal of both s and the sum.
    const V quotient = (outside ? quarter : broadcast<V>(1)) / (outside ? size : s * sum);
    const V guess = 2 * quarter * (quotient * s);
    const V excess = fma(guess, guess + bounded, -quarter);
    const V below = outside ? quotient : fma(-excess * quotient, sum, guess);
    const V above = outside ? x : sum * static_cast<Element<V>>(0.5);
    return x < 0 ? below : above;
  }
  // y^2 / (y^2 + b / 4)
  template <class V>
  NNFAST_INLINE static V backward(V dy, V y, V b) {
    const Pair<V> square = two_product(min(broadcast<V>(far<V>), y), min(broadcast<V>(far<V>), y));
    const Pair<V> sum = two_sum(square.hi, b * static_cast<Element<V>>(0.25));
    return dy * divide(square, Pair<V>{sum.hi, sum.lo + square.lo});
  }
};

// ---- the Gaussian error linear unit (Hendrycks, Gimpel 2016) ----

// y = x Phi(x), with Phi(-a) = e^(-a^2/2) g(a), g(a) = erfcx(a / sqrt(2)) / 2, for x < 0, and x - x Phi(-x) for x >= 0.
struct Gelu {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr bool splits = kSplits;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  static constexpr bool backward_by_table = true;
  // Phi(-a) = m 2^n g, with g Mills' ratio over sqrt(2 pi)
  template <class V>
  struct Mills {
    Exponential<V> e;
    Pair<V> g;
  };
  // `exact` to far less than an ulp. a in [0, gauss_max]. With r = 1 / (a + k) and q = (a - k) r, g = r h(q) with a
  // polynomial h that hardly bends.
  template <bool exact, class V>
  NNFAST_INLINE static Mills<V> mills(V a) {
    using C = Constants<Element<V>>;
    const Pair<V> square = two_product(a, a);
    const V half = broadcast<V>(static_cast<Element<V>>(-0.5));
    const V middle = broadcast<V>(C::gauss_middle);
    // Exact, as ulps of a divide the middle.
    const Pair<V> sum = fast_two_sum(middle, a), difference = fast_two_sum(-middle, a);
    const V r = 1 / sum.hi;
    const V r_lo = r * (fma(-r, sum.hi, broadcast<V>(1)) - r * sum.lo);
    const V q_hi = difference.hi * r;
    const Pair<V> q{q_hi, r * (fma(-q_hi, sum.hi, difference.hi) + fma(-q_hi, sum.lo, difference.lo))};
    // The last step of the polynomial with what it loses, or the last two.
    const V bend = polynomial(q_hi, C::gauss_bend), steep = broadcast<V>(C::gauss_slope_hi);
    Pair<V> rise;
    if constexpr (exact) {
      const Pair<V> bent = multiply(q, bend), slope = fast_two_sum(steep, bent.hi);  // of one binade
      rise = multiply(Pair<V>{slope.hi, slope.lo + (bent.lo + C::gauss_slope_lo)}, q);
    } else {
      rise = multiply(q, fma(q_hi, bend, steep));
    }
    const Pair<V> level = two_sum(broadcast<V>(C::gauss_level_hi), rise.hi);
    const Pair<V> h{level.hi, level.lo + (rise.lo + C::gauss_level_lo)};
    return {exp_unsummed<V>(Pair<V>{square.hi * half, square.lo * half}), multiply(h, Pair<V>{r, r_lo})};
  }
  // a Phi(-a) = product 2^n
  template <class V>
  struct Lost {
    V product;
    Mask<V> n;
  };
  template <class V>
  NNFAST_INLINE static Lost<V> lost(V a) {
    if constexpr (kPiecewise<V>) {
      const V half = a * -0.5f, square = half * a;
      const Exponential<V> e = exp_unsummed<V>(Pair<V>{square, fma(half, a, -square)});
      const Pair<V> p = two_product(a, piecewise<GaussTail>(a));
      return {fma(p.hi, e.m.hi, fma(p.hi, e.m.lo, p.lo * e.m.hi)), e.n};
    } else {
      const Mills<V> t = mills<false>(a);
      const Pair<V> p = two_product(a, t.e.m.hi);
      return {fma(p.hi, t.g.hi, fma(p.hi, t.g.lo, fma(a, t.e.m.lo, p.lo) * t.g.hi)), t.e.n};
    }
  }
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    if constexpr (kPiecewise<V>) {
      const Mask<V> outside = x < -GaussBelow::top;
      const V y = near(x, at_most(GaussBelow::top, abs(x)));
      return any<V>(outside) ? (outside ? far(x) : y) : y;
    }
    return far(x);
  }
  // By a table of Phi(-a), a = |x|, or at the end of the table where x is larger: there a Phi(-a) is far below half an
  // ulp of x.
  template <class V, class... More>
  NNFAST_INLINE static V near(V x, V a, More... more) {
    const Line<V> f = piecewise_inside<GaussBelow>(a, more...);
    return fma(-a, fma(f.slope, f.y, f.constant), max(V{}, x));
  }
  template <class V>
  NNFAST_INLINE static V far(V x) {
    const V a = at_most(Constants<Element<V>>::gauss_max, abs(x));
    const Lost<V> below = lost(a);
    return x > Constants<Element<V>>::gauss_one ? x : of_lost(x, a, scale_or_zero(below.product, below.n));
  }
  template <class V>
  NNFAST_INLINE static Mask<V> rare(V x) {
    if constexpr (kPiecewise<V>) return abs(x) > (kShortTables ? GaussBelow::first_top : GaussBelow::top);
    return abs(x) > static_cast<Element<V>>(sizeof(Element<V>) == sizeof(float) ? 13 : 37.5);
  }
  template <class V>
  NNFAST_INLINE static V common(V x) {
    if constexpr (kPiecewise<V> && kShortTables) return near(x, abs(x), AllInFirst{});
    if constexpr (kPiecewise<V>) return near(x, abs(x));
    const Lost<V> below = lost(abs(x));
    return of_lost(x, abs(x), below.product * power_of_two<V>(below.n));
  }
  template <class V>
  NNFAST_INLINE static V of_lost(V x, V a, V below) {
    return copysign(x < 0 ? below : a - below, x);
  }
  // Phi(x) + x phi(x): h = e^(-a^2/2) (g(a) - a / sqrt(2 pi)) for x < 0, 1 - h for x >= 0
  template <class V>
  NNFAST_INLINE static V backward(V dy, V x) {
    if constexpr (kPiecewise<V>) return times_step<GeluSlope>(dy, x);
    using C = Constants<Element<V>>;
    constexpr auto far = static_cast<Element<V>>(12);  // and h 0, for a gradient
    const V a = at_most(far, abs(x));
    const Mills<V> t = mills<true>(a);
    const Pair<V> m = fast_two_sum(t.e.m.hi, t.e.m.lo);
    const Pair<V> density{broadcast<V>(C::inv_sqrt_two_pi_hi), broadcast<V>(C::inv_sqrt_two_pi_lo)};
    const Pair<V> line = multiply(density, a);
    const Pair<V> difference = two_sum(t.g.hi, -line.hi);
    const Pair<V> h = multiply(Pair<V>{difference.hi, difference.lo + (t.g.lo - line.lo)}, m);
    const V power = abs(x) > far ? V{} : power_of_two<V>(t.e.n);
    return times_either(dy, Pair<V>{h.hi * power, h.lo * power}, x);
  }
};

// y = x / (1 + e^-z), z = x (c0 + c1 x^2) = 2 sqrt(2/pi) (x + 0.044715 x^3), which is the tanh approximation.
struct GeluTanh {
  static constexpr unsigned forward_raises = kRaisedNothing;
  static constexpr bool splits = kSplits;
  static constexpr unsigned backward_raises = kRaisedOverflow;
  static constexpr bool backward_by_table = true;
  template <class V>
  NNFAST_INLINE static Pair<V> argument(V x) {
    using C = Constants<Element<V>>;
    const Pair<V> square = two_product(x, x);
    const Pair<V> cubic = multiply(square, Pair<V>{broadcast<V>(C::gelu_cubic_hi), broadcast<V>(C::gelu_cubic_lo)});
    const Pair<V> linear{broadcast<V>(C::gelu_linear_hi), broadcast<V>(C::gelu_linear_lo)};
    const Pair<V> sum = two_sum(cubic.hi, linear.hi);
    return multiply(Pair<V>{sum.hi, sum.lo + (cubic.lo + linear.lo)}, x);
  }
  template <class V>
  NNFAST_INLINE static Pair<V> size(Pair<V> z) {
    return choose(z.hi < 0, negated(z), z);
  }
  template <class V>
  NNFAST_INLINE static V bounded(V x) {
    using C = Constants<Element<V>>;
    return min(broadcast<V>(C::gelu_max), max(broadcast<V>(-C::gelu_max), x));
  }
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    const V near = bounded(x);
    const Decay<V> d = decay<V>(size(argument(near)));
    const V product = scale_or_zero(near * divide(d.e.m, d.one_plus), d.e.n);
    const V y = bit_cast<Mask<V>>(x) < 0 ? product : x - product;
    return x > Constants<Element<V>>::gelu_one ? x : y;
  }
  template <class V>
  NNFAST_INLINE static Mask<V> rare(V x) {
    return abs(x) > static_cast<Element<V>>(sizeof(Element<V>) == sizeof(float) ? 9.75 : 21);
  }
  template <class V>
  NNFAST_INLINE static V common(V x) {
    const Decay<V> d = decay<V>(size(argument(x)));
    return gated(x, divide(d.e.m, d.one_plus) * d.power);
  }
  // s + x z' s (1 - s), x z' = z + 2 c1 x^3
  template <class V>
  NNFAST_INLINE static V backward(V dy, V x) {
    if constexpr (kPiecewise<V>) return times_step<GeluTanhSlope>(dy, x);
    const V near = bounded(x);
    const Pair<V> z = argument(near);
    const V cubic = near * near * near * (2 * Constants<Element<V>>::gelu_cubic_hi);
    const Pair<V> u = fast_two_sum(z.hi, cubic);  // where |cubic| is larger the slope is 0 or 1 but for few digits
    return times_logistic_slope(dy, negated(size(z)), negated(size(Pair<V>{u.hi, u.lo + z.lo})), x);
  }
};

}  // namespace
}  // namespace nnfast
