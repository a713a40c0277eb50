// Losses of single elements.
#pragma once

#include "kernels/clipped_log.hpp"
#include "kernels/formulas.hpp"
#include "kernels/losses.hpp"
#include "kernels/rows.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

// D: a vector, or a widened one.
template <class D>
struct LossOf {
  D value, slope;
};

// A block is computed by of(x, t, parameters), in the type of the elements; and where their sum overflows, is NaN, or
// its size is below `least`, again by careful(x, t, parameters, weight of the positive class), whose parts neither
// overflow nor underflow. The loss of the prediction `padding` of the target `target_padding` is 0.

constexpr double kLeastWeighted = 1e-30;

// The parameters of a loss, each in all lanes.
template <class D>
struct Parameters {
  D values[kLossParameters];
  NNFAST_INLINE explicit Parameters(const double (&from)[kLossParameters]) {
    for (int k = 0; k < kLossParameters; ++k) values[k] = broadcast<D>(static_cast<Element<D>>(from[k]));
  }
  NNFAST_INLINE D operator[](int k) const { return values[k]; }
};

// rare: in double, and with weights, only the careful way has code.
struct LossTraits {
  static constexpr double padding = 0, target_padding = 0;
  static constexpr bool rare = false;
};

// A loss whose parts may overflow in float is computed again in double.
template <class Formula>
struct InDouble : LossTraits {
  template <class V>
  NNFAST_INLINE static LossOf<V> of(V x, V t, const Parameters<V>& parameters) {
    return Formula::formula(x, t, parameters);
  }
  template <class V>
  NNFAST_INLINE static LossOf<Widened<V>> careful(V x, V t, const Parameters<Vec<double>>& parameters,
                                                  const Widened<V>&) {
    const Widened<V> wide_x = widen(x), wide_t = widen(t);
    LossOf<Widened<V>> loss;
    for (int k = 0; k < wide_x.count; ++k) {
      const auto [value, slope] = Formula::formula(wide_x.part[k], wide_t.part[k], parameters);
      loss.value.part[k] = value;
      loss.slope.part[k] = slope;
    }
    return loss;
  }
};

// A loss of the difference x - t, whose square may overflow or underflow in float.
template <class Formula>
struct OfDifference : InDouble<OfDifference<Formula>> {
  template <class D>
  NNFAST_INLINE static LossOf<D> formula(D x, D t, const Parameters<D>& parameters) {
    return Formula::of_difference(x - t, parameters[0]);
  }
};

// (x - t)^2
struct SquaredError : OfDifference<SquaredError> {
  static constexpr double least = 1e-30;
  template <class D>
  NNFAST_INLINE static LossOf<D> of_difference(D d, D) {
    return {d * d, d + d};
  }
};

// |x - t|; its slope at 0 is 0
struct AbsoluteError : OfDifference<AbsoluteError> {
  static constexpr double least = 0;
  template <class D>
  NNFAST_INLINE static LossOf<D> of_difference(D d, D) {
    const D one = broadcast<D>(1);
    return {abs(d), d > 0 ? one : (d < 0 ? -one : d)};
  }
};

// (x - t)^2 / 2 up to delta, delta (|x - t| - delta / 2) beyond                                   (Huber 1964)
struct Huber : OfDifference<Huber> {
  static constexpr double least = 1e-30;
  template <class D>
  NNFAST_INLINE static LossOf<D> of_difference(D d, D delta) {
    const D half = broadcast<D>(static_cast<Element<D>>(0.5)), size = abs(d);
    const auto beyond = size > delta;
    return {beyond ? delta * (size - half * delta) : half * d * d, beyond ? copysign(delta, d) : d};
  }
};

// log cosh d = |d| - log 2 + log(1 + e^(-2 |d|)), near 0 -log(1 - tanh(d)^2) / 2; the slope is tanh d.
struct LogCosh : OfDifference<LogCosh> {
  static constexpr double least = 1e-30;
  template <class D>
  NNFAST_INLINE static LossOf<D> of_difference(D d, D) {
    using C = Constants<Element<D>>;
    const D size = abs(d), slope = Tanh::forward(d), half = broadcast<D>(static_cast<Element<D>>(0.5));
    const auto near = size < static_cast<Element<D>>(0.6);
    const D square = near ? -slope * slope : D{};
    const D far = (size - C::ln2_hi) - C::ln2_lo + Softplus::of_negative(size + size);
    return {near ? half * (log1p_rest(square) - square) : far, slope};
  }
};

// a b, and 0 where a is 0.
template <class D>
NNFAST_INLINE D product_or_0(D a, D b) {
  return a == 0 ? D{} : a * b;
}

template <class D>
NNFAST_INLINE D exponential(D x) {
  const D most = broadcast<D>(-Constants<Element<D>>::exp_min);  // more than overflows
  const Exponential<D> e = exp_unsummed<D>(max(-most, min(most, x)));
  return scale(e.m.hi + e.m.lo, e.n);
}

// log x; NaN where x is not positive.
template <class D>
NNFAST_INLINE D log_or_nan_of(D x) {
  const D nan = broadcast<D>(static_cast<Element<D>>(__builtin_nan("")));
  return x > 0 ? (x < kInfinity ? log_of_positive(x) : x) : nan;
}

// e^x - t x, with the logarithm x of the rate; the slope is e^x - t.
struct PoissonOfLog : InDouble<PoissonOfLog> {
  static constexpr double least = 1e-30, padding = -1000;
  template <class D>
  NNFAST_INLINE static LossOf<D> formula(D x, D t, const Parameters<D>&) {
    const D rate = exponential(x);
    return {rate - product_or_0(t, x), rate - t};
  }
};

// x - t log(x + eps), with the rate x; the slope is 1 - t / (x + eps).
struct PoissonOfRate : InDouble<PoissonOfRate> {
  static constexpr double least = 1e-30;
  template <class D>
  NNFAST_INLINE static LossOf<D> formula(D x, D t, const Parameters<D>& eps) {
    const D above = x + eps[0];
    return {x - product_or_0(t, log_or_nan_of(above)), 1 - product_or_0(t, 1 / above)};
  }
};

// t (log t - x), with the logarithm x of a probability; the slope is -t.
struct KlDivergence : InDouble<KlDivergence> {
  static constexpr double least = 1e-30;
  template <class D>
  NNFAST_INLINE static LossOf<D> formula(D x, D t, const Parameters<D>&) {
    const D slope = x == x ? broadcast<D>(-1) : x;  // not of x, but NaN is to be seen
    return {product_or_0(t, log_or_nan_of(t) - x), product_or_0(t, slope)};
  }
};

// (log v + d^2 / v) / 2, with the variance v and the difference d of mean and target; the slope, with respect to v, is
// (1 - d^2 / v) / (2 v).
struct GaussianOfVariance : InDouble<GaussianOfVariance> {
  static constexpr bool rare = true;
  static constexpr double least = 1e-30, padding = 1;
  template <class D>
  NNFAST_INLINE static LossOf<D> formula(D v, D d, const Parameters<D>&) {
    const D half = broadcast<D>(static_cast<Element<D>>(0.5)), square = d * (d / v);
    return {half * (log_or_nan_of(v) + square), half * (1 - square) / v};
  }
};

// m = max(0, 1 - t x) of targets of 1 and -1, its slope -t; or m^2, its slope -2 t m.
template <bool squared>
struct MarginOfSign : InDouble<MarginOfSign<squared>> {
  static constexpr bool rare = true;
  static constexpr double least = squared ? 1e-30 : 0, padding = 2, target_padding = 1;
  template <class D>
  NNFAST_INLINE static LossOf<D> formula(D x, D t, const Parameters<D>&) {
    const D margin = 1 - t * x, over = margin <= 0 ? D{} : margin;
    if constexpr (squared) return {over * over, -2 * t * over};
    return {over, over > 0 ? -t : over};
  }
};
using HingeOfSign = MarginOfSign<false>;
using SquaredHingeOfSign = MarginOfSign<true>;

// s = 1 / (1 + e^-x), a = -log s = max(-x, 0) + log(1 + e^-|x|), b = -log(1 - s) = max(x, 0) + log(1 + e^-|x|): nothing
// cancels. rest = 1 - s.
template <class V>
struct SigmoidParts {
  V a, b, s, rest;
  NNFAST_INLINE explicit SigmoidParts(V x) {
    const V size = abs(x), common = Softplus::of_negative(size), below = Sigmoid::of_negative(size);
    const auto negative = x < 0;
    a = max(V{}, -x) + common;
    b = max(V{}, x) + common;
    s = negative ? below : 1 - below;
    rest = negative ? 1 - below : below;
  }
};

// w t a + (1 - t) b with the weight w of the positive class; the slope is (1 - t) s - w t (1 - s).
struct BinaryCrossEntropyOfLogits : LossTraits {
  static constexpr double least = 0, padding = -1000;
  template <class D>
  NNFAST_INLINE static LossOf<D> joined(D positive, D negative, D a, D b, D s, D rest) {
    return {positive * a + negative * b, negative * s - positive * rest};
  }
  template <class V>
  NNFAST_INLINE static LossOf<V> of(V x, V t, const Parameters<V>&) {
    const SigmoidParts<V> p(x);
    return joined<V>(t, 1 - t, p.a, p.b, p.s, p.rest);
  }
  // Products with weights may overflow in float; and a or b may be infinite where its factor is 0.
  template <class V>
  NNFAST_INLINE static LossOf<Widened<V>> careful(V x, V t, const Parameters<Vec<double>>&,
                                                  const Widened<V>& positive_weight) {
    using D = Vec<double>;
    const SigmoidParts<V> p(x);
    const Widened<V> wide_t = widen(t), a = widen(p.a), b = widen(p.b), s = widen(p.s), rest = widen(p.rest);
    LossOf<Widened<V>> loss;
    for (int k = 0; k < wide_t.count; ++k) {
      const D positive = wide_t.part[k] * positive_weight.part[k], negative = 1 - wide_t.part[k];
      const auto [value, slope] = joined<D>(positive, negative, positive == 0 ? D{} : a.part[k],
                                            negative == 0 ? D{} : b.part[k], s.part[k], rest.part[k]);
      loss.value.part[k] = value;
      loss.slope.part[k] = slope;
    }
    return loss;
  }
};

// q^gamma for q in [0, 1]; of gamma = 2, the usual one, exact but for a rounding.
template <class D>
NNFAST_INLINE D power(D q, D gamma) {
  const D of_zero = q == q ? (gamma == 0 ? broadcast<D>(1) : D{}) : q;
  return gamma == 2 ? q * q : (q > 0 ? exponential(gamma * log_of_positive(q)) : of_zero);
}

// w q^gamma c, with the cross-entropy c = t a + (1 - t) b, the probability q = t (1 - s) + (1 - t) s of what t is not,
// and the weight w = alpha t + beta (1 - t). As dq/dx = (1 - 2 t) s (1 - s), the slope is
// w q^gamma (gamma (dq/dx) c / q + (1 - t) s - t (1 - s)).                                            (Lin et al. 2017)
struct SigmoidFocal : InDouble<SigmoidFocal> {
  static constexpr bool rare = true;
  static constexpr double least = 1e-30, padding = -1000;
  template <class D>
  NNFAST_INLINE static LossOf<D> formula(D x, D t, const Parameters<D>& gamma_alpha_beta) {
    const SigmoidParts<D> p(x);
    const D gamma = gamma_alpha_beta[0], alpha = gamma_alpha_beta[1], beta = gamma_alpha_beta[2], other = 1 - t;
    const D entropy = product_or_0(t, p.a) + product_or_0(other, p.b);
    const D q = t * p.rest + other * p.s;
    const D weight = (t * alpha + other * beta) * power(q, gamma);
    const D growth = q == 0 ? D{} : gamma * (1 - 2 * t) * p.s * p.rest / q;
    return {product_or_0(weight, entropy), weight * (product_or_0(growth, entropy) + other * p.s - t * p.rest)};
  }
};

// -t log p - (1 - t) log(1 - p), both logarithms clipped; the slope is (p - t) / (p (1 - p)).
struct BinaryCrossEntropy : LossTraits {
  static constexpr double least = 0;
  template <class V>
  NNFAST_INLINE static LossOf<V> of(V p, V t, const Parameters<V>&) {
    const V smallest = broadcast<V>(static_cast<Element<V>>(kLeastProbability));
    return {-(t * clipped_log(p) + (1 - t) * clipped_log_of_complement(p)), (p - t) / max(smallest, p * (1 - p))};
  }
  template <class V>
  NNFAST_INLINE static LossOf<V> careful(V p, V t, const Parameters<Vec<double>>&, const Widened<V>&) {
    return of(p, t, Parameters<V>({}));
  }
};

template <class V>
NNFAST_INLINE Widened<V> widen(const Widened<V>& v) {
  return v;
}

// Doubles that belong to the lanes of a V.
template <class V>
NNFAST_INLINE Widened<V> load_doubles(const double* from) {
  Widened<V> v;
  for (int k = 0; k < v.count; ++k) v.part[k] = load<Vec<double>>(from + k * kLanes<Vec<double>>);
  return v;
}
template <class V>
NNFAST_INLINE void store_doubles(double* to, const Widened<V>& v) {
  for (int k = 0; k < v.count; ++k) store(to + k * kLanes<Vec<double>>, v.part[k]);
}

// The arrays of a run, a vector at a time.
template <class T>
struct LossVectors {
  using V = Vec<T>;
  const T *predicted, *targets;
  T* slopes;
  NNFAST_INLINE explicit LossVectors(const LossRun& run)
      : predicted(static_cast<const T*>(run.predicted)),
        targets(static_cast<const T*>(run.targets)),
        slopes(static_cast<T*>(run.slopes)) {}
};

// Adds the losses of whole steps of a reduction. weighted: by weights, or with the loss of each element.
template <class Loss, class T, bool weighted>
[[gnu::noinline]] void add_losses(const LossRun& run, BlockSum<T>& total) {
  using V = Vec<T>;
  const V scale = broadcast<V>(static_cast<T>(run.gradient_scale));
  const Parameters<V> parameters(run.parameters);
  const LossVectors<T> at(run);
  const double* weights = run.weights;
  double* losses = run.losses;
  BlockSum<T> sum = total;
  for_steps<T>(run.n, [&](std::ptrdiff_t i, int part) NNFAST_INLINED {
    const LossOf<V> loss = Loss::of(load<V>(at.predicted + i), load<V>(at.targets + i), parameters);
    const V slope = loss.slope * scale;
    if constexpr (!weighted) {
      store(at.slopes + i, slope);
      sum.add(loss.value, part);
    } else {
      Widened<V> weight = widen(broadcast<V>(1));
      if (weights) weight = load_doubles<V>(weights + i);
      const V factor = narrow(weight);
      const auto none = factor == 0;
      store(at.slopes + i, none ? V{} : slope * factor);
      Widened<V> each = widen(none ? V{} : loss.value);
      for (int k = 0; k < each.count; ++k) each.part[k] *= weight.part[k];
      if (losses) store_doubles(losses + i, each);
      sum.add(each, part);
    }
  });
  total = sum;
}

// Adds the losses computed in double, with weights or without. An element of weight 0 may hold anything.
template <class Loss, class T>
[[gnu::noinline]] void add_losses_carefully(const LossRun& run, BlockSum<T>& total) {
  using V = Vec<T>;
  using D = Vec<double>;
  const LossVectors<T> at(run);
  const D scale = broadcast<D>(run.gradient_scale);
  const Parameters<D> parameters(run.parameters);
  for (std::ptrdiff_t i = 0; i < run.n; i += kLanes<V>) {
    Widened<V> positive_weight = widen(broadcast<V>(1));
    if (run.positive_weights) positive_weight = load_doubles<V>(run.positive_weights + i);
    const auto loss = Loss::careful(load<V>(at.predicted + i), load<V>(at.targets + i), parameters, positive_weight);
    Widened<V> value = widen(loss.value), slope = widen(loss.slope);
    if (run.weights) {
      const Widened<V> weight = load_doubles<V>(run.weights + i);
      for (int k = 0; k < value.count; ++k) {
        const auto none = weight.part[k] == 0;
        value.part[k] = none ? D{} : value.part[k] * weight.part[k];
        slope.part[k] = none ? D{} : slope.part[k] * weight.part[k];
      }
    }
    if (run.losses) store_doubles(run.losses + i, value);
    for (auto& part : slope.part) part *= scale;
    store(at.slopes + i, narrow(slope));
    total.add(value, static_cast<int>(i % kReduceBlock / kLanes<V>));
  }
}

// `count` elements in a whole step of a reduction, the others `fill`.
template <class T>
struct PaddedStep {
  T values[kReduceBlock];
  explicit PaddedStep(T fill) {
    for (T& value : values) value = fill;
  }
  // `from` may be null. It is not read then: a masked load of what is not there takes a hundred cycles.
  PaddedStep(const T* from, std::ptrdiff_t count, T fill) : PaddedStep(fill) {
    if (from)
      for (std::ptrdiff_t i = 0; i < count; ++i) values[i] = from[i];
  }
  void copy_to(T* to, std::ptrdiff_t count) const {
    for (std::ptrdiff_t i = 0; i < count; ++i) to[i] = values[i];
  }
};

// A prediction and its target whose loss is 0.
struct Padding {
  double predicted, target;
};

// The sum of the losses of a run, whose end is padded to a whole step. One function for all losses.
template <class T>
[[gnu::noinline]] double sum_of_losses(const LossRun& run, const Padding& padding,
                                       void (*add)(const LossRun&, BlockSum<T>&)) {
  BlockSum<T> sum;
  LossRun part = run;
  const std::ptrdiff_t rest = run.n % kReduceBlock, whole = run.n - rest;
  part.n = whole;
  if (whole) add(part, sum);
  if (!rest) return sum.total();
  const LossVectors<T> at(run);
  const auto doubles = [&](const double* from) { return PaddedStep<double>(from ? from + whole : from, rest, 1.0); };
  PaddedStep<T> predicted(at.predicted + whole, rest, static_cast<T>(padding.predicted)),
      targets(at.targets + whole, rest, static_cast<T>(padding.target)), slopes(T{0});
  PaddedStep<double> weights = doubles(run.weights), positive_weights = doubles(run.positive_weights), losses(0.0);
  part.predicted = predicted.values;
  part.targets = targets.values;
  part.slopes = slopes.values;
  part.n = kReduceBlock;
  part.weights = run.weights ? weights.values : nullptr;
  part.positive_weights = run.positive_weights ? positive_weights.values : nullptr;
  part.losses = run.losses ? losses.values : nullptr;
  add(part, sum);
  slopes.copy_to(at.slopes + whole, rest);
  if (run.losses) losses.copy_to(run.losses + whole, rest);
  return sum.total();
}

template <class Loss, class T>
double elementwise_loss(const LossRun& run) {
  const ExceptionScope exceptions;
  const Padding padding{Loss::padding, Loss::target_padding};
  const auto carefully = [&] { return sum_of_losses<T>(run, padding, add_losses_carefully<Loss, T>); };
  const bool weighted = run.weights || run.losses;
  if (run.careful || run.positive_weights || (Loss::rare && weighted)) return carefully();
  if constexpr (Loss::rare && sizeof(T) == sizeof(double)) {
    return carefully();
  } else {
    constexpr auto with_weights = add_losses<Loss, T, !Loss::rare>;
    const double sum = sum_of_losses<T>(run, padding, weighted ? with_weights : add_losses<Loss, T, false>);
    const double least = run.weights ? kLeastWeighted : Loss::least, size = sum < 0 ? -sum : sum;
    return size >= least && size < kInfinity ? sum : carefully();
  }
}

}  // namespace
}  // namespace nnfast
