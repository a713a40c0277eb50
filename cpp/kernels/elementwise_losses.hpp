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

// A block is computed by of(x, t, parameter), in the type of the elements; and where their sum overflows, is NaN, or is
// below `least`, again by careful(x, t, parameter, weight of the positive class), whose parts neither overflow nor
// underflow.

constexpr double kLeastWeighted = 1e-30;

// A loss of the difference x - t, whose square may overflow or underflow in float.
template <class Formula>
struct OfDifference {
  template <class V>
  NNFAST_INLINE static LossOf<V> of(V x, V t, V parameter) {
    return Formula::of_difference(x - t, parameter);
  }
  template <class V>
  NNFAST_INLINE static LossOf<Widened<V>> careful(V x, V t, double parameter, const Widened<V>&) {
    const Widened<V> wide_x = widen(x), wide_t = widen(t);
    LossOf<Widened<V>> loss;
    for (int k = 0; k < wide_x.count; ++k) {
      const auto [value, slope] =
          Formula::of_difference(wide_x.part[k] - wide_t.part[k], broadcast<Vec<double>>(parameter));
      loss.value.part[k] = value;
      loss.slope.part[k] = slope;
    }
    return loss;
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

// s = 1 / (1 + e^-x), a = -log s = max(-x, 0) + log(1 + e^-|x|), b = -log(1 - s) = max(x, 0) + log(1 + e^-|x|): nothing
// cancels. The loss is w t a + (1 - t) b with the weight w of the positive class, its slope (1 - t) s - w t (1 - s).
struct BinaryCrossEntropyOfLogits {
  static constexpr double least = 0;
  template <class D>
  NNFAST_INLINE static LossOf<D> joined(D positive, D negative, D a, D b, D s, D rest) {
    return {positive * a + negative * b, negative * s - positive * rest};
  }
  template <class V>
  struct Parts {
    V a, b, s, rest;
    NNFAST_INLINE explicit Parts(V x) {
      const V size = abs(x), common = Softplus::of_negative(size), below = Sigmoid::of_negative(size);
      const auto negative = x < 0;
      a = max(V{}, -x) + common;
      b = max(V{}, x) + common;
      s = negative ? below : 1 - below;
      rest = negative ? 1 - below : below;
    }
  };
  template <class V>
  NNFAST_INLINE static LossOf<V> of(V x, V t, V) {
    const Parts<V> p(x);
    return joined<V>(t, 1 - t, p.a, p.b, p.s, p.rest);
  }
  // Products with weights may overflow in float; and a or b may be infinite where its factor is 0.
  template <class V>
  NNFAST_INLINE static LossOf<Widened<V>> careful(V x, V t, double, const Widened<V>& positive_weight) {
    using D = Vec<double>;
    const Parts<V> p(x);
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

// -t log p - (1 - t) log(1 - p), both logarithms clipped; the slope is (p - t) / (p (1 - p)).
struct BinaryCrossEntropy {
  static constexpr double least = 0;
  template <class V>
  NNFAST_INLINE static LossOf<V> of(V p, V t, V) {
    const V smallest = broadcast<V>(static_cast<Element<V>>(kLeastProbability));
    return {-(t * clipped_log(p) + (1 - t) * clipped_log_of_complement(p)), (p - t) / max(smallest, p * (1 - p))};
  }
  template <class V>
  NNFAST_INLINE static LossOf<V> careful(V p, V t, double, const Widened<V>&) {
    return of(p, t, V{});
  }
};

template <class V>
NNFAST_INLINE Widened<V> widen(const Widened<V>& v) {
  return v;
}

// The weights of the first `count` lanes of a V (null: 1).
template <class V>
NNFAST_INLINE Widened<V> load_weights(const double* weights, std::ptrdiff_t i, std::ptrdiff_t count) {
  using D = Vec<double>;
  Widened<V> v;
  for (int k = 0; k < v.count; ++k) {
    const std::ptrdiff_t left = count - k * kLanes<D>;
    const double* from = weights + i + k * kLanes<D>;
    v.part[k] = broadcast<D>(1);
    if (weights && left >= kLanes<D>) {
      v.part[k] = load<D>(from);
    } else if (weights && left > 0) {
      v.part[k] = load_partial<D>(from, left, 1.0);
    }
  }
  return v;
}

template <class V>
NNFAST_INLINE void store_doubles(double* to, const Widened<V>& v, std::ptrdiff_t count) {
  using D = Vec<double>;
  for (int k = 0; k < v.count; ++k) {
    const std::ptrdiff_t left = count - k * kLanes<D>;
    if (left >= kLanes<D>) {
      store(to + k * kLanes<D>, v.part[k]);
    } else if (left > 0) {
      store_partial(to + k * kLanes<D>, v.part[k], left);
    }
  }
}

template <class T, class Stride>
NNFAST_INLINE Rows<T, Stride> elements_of(const LossRun& run, int array) {
  if constexpr (std::is_same_v<Stride, Contiguous<T>>)
    return {run.arrays[array], 0, {}};
  else
    return {run.arrays[array], 0, run.strides[array]};
}

// Stride: std::ptrdiff_t or Contiguous. weighted: by weights, or with the loss of each element.
template <class Loss, class T, bool weighted, class Stride>
[[gnu::noinline]] double elementwise_loss_at(const LossRun& run) {
  using V = Vec<T>;
  const V scale = broadcast<V>(static_cast<T>(run.gradient_scale));
  const V parameter = broadcast<V>(static_cast<T>(run.parameter));
  const auto predicted = elements_of<T, Stride>(run, 0), targets = elements_of<T, Stride>(run, 1),
             slopes = elements_of<T, Stride>(run, 2);
  const double* weights = run.weights;
  double* losses = run.losses;
  BlockSum<T> sum;
  for_blocks<T>(run.n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    const LossOf<V> loss = Loss::of(predicted.load(0, i, count, T{0}), targets.load(0, i, count, T{0}), parameter);
    const V value = first_lanes(loss.value, count), slope = loss.slope * scale;
    if constexpr (!weighted) {
      slopes.store(0, i, slope, count);
      sum.add(value, part);
    } else {
      const Widened<V> weight = load_weights<V>(weights, i, count);
      const V factor = narrow(weight);
      const auto none = factor == 0;
      slopes.store(0, i, none ? V{} : slope * factor, count);
      Widened<V> each = widen(none ? V{} : value);
      for (int k = 0; k < each.count; ++k) each.part[k] *= weight.part[k];
      if (losses) store_doubles(losses + i, each, count);
      sum.add(each, part);
    }
  });
  return sum.total();
}

template <class Loss, class T, bool weighted>
double quick_loss(const LossRun& run) {
  bool contiguous = true;
  for (const std::ptrdiff_t stride : run.strides) contiguous &= stride == Contiguous<T>{};
  if (contiguous) return elementwise_loss_at<Loss, T, weighted, Contiguous<T>>(run);
  return elementwise_loss_at<Loss, T, weighted, std::ptrdiff_t>(run);
}

// In double, with weights or without. An element of weight 0 may hold anything.
template <class Loss, class T>
[[gnu::noinline]] double careful_loss(const LossRun& run) {
  using V = Vec<T>;
  using D = Vec<double>;
  using Stride = std::ptrdiff_t;
  const auto predicted = elements_of<T, Stride>(run, 0), targets = elements_of<T, Stride>(run, 1),
             slopes = elements_of<T, Stride>(run, 2);
  const D scale = broadcast<D>(run.gradient_scale);
  BlockSum<T> sum;
  for_blocks<T>(run.n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    if (count == 0) return;
    const auto loss = Loss::careful(predicted.load(0, i, count, T{0}), targets.load(0, i, count, T{0}), run.parameter,
                                    load_weights<V>(run.positive_weights, i, count));
    Widened<V> value = first_lanes(widen(loss.value), count), slope = widen(loss.slope);
    if (run.weights) {
      const Widened<V> weight = load_weights<V>(run.weights, i, count);
      for (int k = 0; k < value.count; ++k) {
        const auto none = weight.part[k] == 0;
        value.part[k] = none ? D{} : value.part[k] * weight.part[k];
        slope.part[k] = none ? D{} : slope.part[k] * weight.part[k];
      }
    }
    if (run.losses) store_doubles(run.losses + i, value, count);
    for (auto& part : slope.part) part *= scale;
    slopes.store(0, i, narrow(slope), count);
    sum.add(value, part);
  });
  return sum.total();
}

template <class Loss, class T>
double elementwise_loss(const LossRun& run) {
  const ExceptionScope exceptions;
  const bool weighted = run.weights || run.losses;
  if (run.careful || run.positive_weights) return careful_loss<Loss, T>(run);
  const double sum = weighted ? quick_loss<Loss, T, true>(run) : quick_loss<Loss, T, false>(run);
  const double least = run.weights ? kLeastWeighted : Loss::least;
  return sum >= least && sum < kInfinity ? sum : careful_loss<Loss, T>(run);
}

}  // namespace
}  // namespace nnfast
