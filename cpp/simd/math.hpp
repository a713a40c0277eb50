// Elementary functions on the vector types, built for results within one unit in the last place.
//
// Where a formula goes on from an exponential, it takes it as an unevaluated sum hi + lo (Pair), so that the rounding
// of the exponential does not reach the result. Reduction, table and polynomials: x = (n + k/8) ln2 + r, so that
// e^x = 2^n 2^(k/8) e^r with e^r = 1 + r + r^2 tail(r), as in Tang, "Table-driven implementation of the exponential
// function in IEEE floating-point arithmetic", 1989; the constants come from minimax.py.
#pragma once

#include "simd/coefficients.hpp"
#include "simd/pair.hpp"
#include "simd/vector.hpp"

namespace nnfast {
namespace {

template <class V, int N>
NNFAST_INLINE V polynomial(V x, const Element<V> (&coefficients)[N]) {
  V sum = broadcast<V>(coefficients[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) sum = fma(sum, x, broadcast<V>(coefficients[i]));
  return sum;
}

// x = steps ln2 / 8 + r (/ 4 in double), |r| at most half of such a step.
template <class V>
struct Reduced {
  Mask<V> steps;
  Pair<V> r;
};

// x finite or NaN, |x| below the exponent range times ln2.
template <class V>
NNFAST_INLINE Reduced<V> reduce_by_ln2(V x) {
  using C = Constants<Element<V>>;
  const V magic = broadcast<V>(C::step_magic);
  const V shifted = fma(x, broadcast<V>(C::log2e), magic);  // the number of steps sits in the low bits
  const V n = shifted - magic;
  const V t = fma(n, broadcast<V>(-C::ln2_short), x);  // exact
  const V hi = fma(n, broadcast<V>(-C::ln2_rest), t);
  const V lo = fma(n, broadcast<V>(-C::ln2_rest), t - hi);
  return {bit_cast<Mask<V>>(shifted) - bit_cast<Mask<V>>(magic), {hi, lo}};
}

// x = r - steps ln2 / 8 (/ 4 in double), so that e^-x is 2^(steps/8) e^-r.
template <class V>
struct ReducedDown {
  Mask<V> steps;
  V r;
};

template <class V>
NNFAST_INLINE ReducedDown<V> reduce_down(V x) {
  using C = Constants<Element<V>>;
  const V magic = broadcast<V>(C::step_magic);
  const V shifted = fma(x, broadcast<V>(-C::log2e), magic);
  const V n = shifted - magic;
  const V t = fma(n, broadcast<V>(C::ln2_short), x);
  return {bit_cast<Mask<V>>(shifted) - bit_cast<Mask<V>>(magic), fma(n, broadcast<V>(C::ln2_rest), t)};
}

// Steps that make a factor of 2.
template <class V>
NNFAST_INLINE Mask<V> doublings(Mask<V> steps) {
  return steps >> Constants<Element<V>>::step_bits;
}

// 2^(k/8) for the steps beyond a factor of 2, rounded, and what it lacks relative to its size.
template <class V>
NNFAST_INLINE V step_factor(Mask<V> steps) {
  return lookup<V>(Constants<Element<V>>::exp_steps, steps);
}
template <class V>
NNFAST_INLINE V step_rest(Mask<V> steps) {
  return lookup<V>(Constants<Element<V>>::exp_rests, steps);
}

// e^x = (m.hi + m.lo) 2^n with m in [0.95, 1.92].
template <class V>
struct Exponential {
  Mask<V> n;
  Pair<V> m;
};

template <class V>
NNFAST_INLINE V high_part(V x) {
  return x;
}
template <class V>
NNFAST_INLINE V high_part(Pair<V> x) {
  return x.hi;
}

// x, a vector or a pair, at least 2 exp_min, at most -exp_min, or NaN; its lo may be many ulps of 1. m.lo is not small:
// the caller adds hi and lo.
template <class V, class X>
NNFAST_INLINE Exponential<V> exp_unsummed(X x) {
  const Reduced<V> reduced = reduce_by_ln2(high_part(x));
  V r = reduced.r.hi;
  if constexpr (std::is_same_v<X, Pair<V>>) r += x.lo;
  const V factor = step_factor<V>(reduced.steps);
  const V rest = fma(r * r, polynomial(r, Constants<Element<V>>::exp_tail), step_rest<V>(reduced.steps));
  return {doublings<V>(reduced.steps), {factor, factor * (r + rest)}};
}

// As exp_unsummed, with m.lo below half an ulp of m.hi. x: a vector or a pair.
template <class V, class X>
NNFAST_INLINE Exponential<V> exp_pair(X x) {
  const Exponential<V> e = exp_unsummed<V>(x);
  return {e.n, fast_two_sum(e.m.hi, e.m.lo)};
}

// x = n ln2 + r, |r| at most ln2 / 2, and 2^n.
template <class V>
struct Halved {
  V power;
  Pair<V> r;
};

// x finite or NaN, |x| below that of the smallest normal power of two. Longer polynomials follow than where there is a
// table of steps, whose look-up takes AVX2 longer in double.
template <class V>
NNFAST_INLINE Halved<V> halve(V x) {
  using C = Constants<Element<V>>;
  const V magic = broadcast<V>(C::integer_magic);
  const V shifted = fma(x, broadcast<V>(C::log2e), magic);  // n sits in the low bits
  const V n = shifted - magic;
  const V t = fma(n, broadcast<V>(-C::ln2_short), x);  // exact
  const V hi = fma(n, broadcast<V>(-C::ln2_rest), t);
  const V lo = fma(n, broadcast<V>(-C::ln2_rest), t - hi);
  return {bit_cast<V>((bit_cast<Mask<V>>(shifted) << kDigits<V>)+bit_cast<Mask<V>>(broadcast<V>(1))), {hi, lo}};
}

// e^x - 1 for x <= 0; NaN stays NaN. lo may be a fifth of hi: the caller adds them.
template <class V>
NNFAST_INLINE Pair<V> expm1_unsummed(V x) {
  const Halved<V> halved = halve(max(broadcast<V>(Constants<Element<V>>::expm1_min), x));
  const V r = halved.r.hi, s = halved.power;
  const V rest = fma(r * r, polynomial(r, Constants<Element<V>>::exp_long_tail), halved.r.lo);
  const V s_minus_1 = s - 1;
  const V lost = s - (s_minus_1 + 1);
  const V hi = fma(s, r, s_minus_1);
  return {hi, fma(s, rest, fma(s, r, s_minus_1 - hi)) + lost};
}

// a / b in one rounding and a little: the quotient by a reciprocal, corrected by its remainder.
template <class V>
NNFAST_INLINE V divide(Pair<V> a, Pair<V> b) {
  const V reciprocal = 1 / b.hi;
  const V q = a.hi * reciprocal;
  const V remainder = fma(-q, b.hi, a.hi) + fma(-q, b.lo, a.lo);
  return fma(remainder, reciprocal, q);
}

template <class V>
NNFAST_INLINE V divide(V a, Pair<V> b) {
  const V reciprocal = 1 / b.hi;
  const V q = a * reciprocal;
  return fma(fma(-q, b.lo, fma(-q, b.hi, a)), reciprocal, q);
}

// The quotient as an unevaluated sum.
template <class V>
NNFAST_INLINE Pair<V> divide_unsummed(Pair<V> a, Pair<V> b) {
  const V reciprocal = 1 / b.hi;
  const V q = a.hi * reciprocal;
  return {q, (fma(-q, b.hi, a.hi) + fma(-q, b.lo, a.lo)) * reciprocal};
}

// t - log(1 + t) for sqrt(1/2) - 1 <= t < sqrt(2) - 1, fdlibm's arrangement: with s = t / (2 + t) it is
// t^2/2 - s (t^2/2 + s^2 tail(s^2)).
template <class V>
NNFAST_INLINE V log1p_rest(V t) {
  const V s = t / (t + 2);
  const V z = s * s;
  const V half_square = t * t * static_cast<Element<V>>(0.5);
  return half_square - s * (half_square + z * polynomial(z, Constants<Element<V>>::log_tail));
}

// log(1 + t) for 0 <= t <= 1, relative to its size; t as a pair.
template <class V>
NNFAST_INLINE V log1p_unit(Pair<V> t) {
  using T = Element<V>;
  using C = Constants<T>;
  // Above sqrt(2) - 1 of (1 + t) / 2 = 1 + (t - 1) / 2.
  const auto upper = t.hi > static_cast<T>(0.41421356237309504880);
  const V half = broadcast<V>(static_cast<T>(0.5));
  const V f = upper ? (t.hi - 1) * half : t.hi;
  const V f_lo = upper ? t.lo * half : t.lo;
  const V one_plus = 1 + f;
  const V rest = log1p_rest(f) - f_lo * (2 - one_plus);  // 1 / (1 + f), as far as it matters to f_lo
  const V zero{};
  return (upper ? broadcast<V>(C::ln2_hi) : zero) + (f - (rest - (upper ? broadcast<V>(C::ln2_lo) : zero)));
}

// log(x) for finite normal x > 0, as k ln2 + log(m) with m = x / 2^k in [sqrt(1/2), sqrt(2)).
template <class V>
NNFAST_INLINE V log_of(V x) {
  using T = Element<V>;
  using I = Mask<V>;
  using C = Constants<T>;
  const auto half_bits = bit_cast<IntOf<T>>(static_cast<T>(0.70710678118654752440));
  const I shifted = bit_cast<I>(x) - half_bits;
  const I k = shifted >> kDigits<V>;
  const V m = bit_cast<V>(bit_cast<I>(x) - (k << kDigits<V>));
  const V n = __builtin_convertvector(k, V);
  const V f = m - 1;
  return n * C::ln2_hi - ((log1p_rest(f) - n * C::ln2_lo) - f);
}

template <class V>
struct SinCos {
  V sin, cos;
};

// Of 2 pi t, 0 <= t <= 1: by the angle to the nearest axis, which is known exactly.
template <class V>
NNFAST_INLINE SinCos<V> sin_cos_turns(V t) {
  using T = Element<V>;
  using I = Mask<V>;
  using C = Constants<T>;
  const V magic = broadcast<V>(C::integer_magic);
  const V quarters = t * 4;
  const V shifted = quarters + magic;  // the number of the axis sits in the low bits
  const I axis = bit_cast<I>(shifted);
  const V a = (quarters - (shifted - magic)) * C::half_pi;
  const V z = a * a;
  const V s = fma(a * z, polynomial(z, C::sin_tail), a);
  const V c = fma(z * z, polynomial(z, C::cos_tail), fma(z, broadcast<V>(static_cast<T>(-0.5)), broadcast<V>(1)));
  const auto across = (axis & 1) != 0;
  constexpr int to_sign = sizeof(T) * 8 - 2;
  const I sin_sign = (axis & 2) << to_sign, cos_sign = ((axis + 1) & 2) << to_sign;
  return {bit_cast<V>(bit_cast<I>(across ? c : s) ^ sin_sign), bit_cast<V>(bit_cast<I>(across ? s : c) ^ cos_sign)};
}

}  // namespace
}  // namespace nnfast
