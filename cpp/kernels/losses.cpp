// Losses with their gradients from the same pass. Softmax cross-entropy of logits z and targets t:
//   loss = sum_j t_j (log sum_k e^(z_k - max z) - (z_j - max z)),   dz = softmax(z) sum t - t,
// where a class index stands for a target of 1 there and 0 elsewhere. A factor of 0 takes out what it multiplies, which
// may be infinite or NaN.
#include "kernels/losses.hpp"

#include "kernels/formulas.hpp"
#include "kernels/softmax_row.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

// A call: rows are several at a time.
[[gnu::noinline]] double log_or_nan(double sum) { return sum == sum ? log_of(broadcast<Vec<double>>(sum))[0] : sum; }

// The exponentials of R rows go to dz and their sums are returned; with(r, i, part, count, d) sees what they are of.
template <class T, int R, class ZRows, class DzRows, class With>
NNFAST_INLINE void exponentials(double (&totals)[R], const ZRows& z, const DzRows& dz, std::ptrdiff_t n,
                                const T (&largest)[R], With with) {
  using V = Vec<T>;
  BlockSum<T> sums[R];
  for_shifted<T, R>(
      z, n, largest, [](int, Pair<V> d) NNFAST_INLINED { return exp_shifted(d); },
      [&](int r, std::ptrdiff_t i, int part, std::ptrdiff_t count, Pair<V> d, V e) NNFAST_INLINED {
        with(r, i, part, count, d);
        sums[r].add(e, part);
        dz.store(r, i, e, count);
      });
  unrolled<R>([&](int r) NNFAST_INLINED { totals[r] = sums[r].total(); });
}

// What all rows of losses have: the factors of their losses and of their gradients.
template <int R>
struct RowFactors {
  double weight[R], gradient[R];
  NNFAST_INLINE RowFactors(const LossRows& loss, std::ptrdiff_t row) {
    for (int r = 0; r < R; ++r) {
      weight[r] = loss.row_weights ? loss.row_weights[row + r] : 1;
      gradient[r] = weight[r] * loss.gradient_scale;
    }
  }
};

// Targets of rows with a class index: `label`, `at_label` of it, and `spread` of every class.
template <class T, int R>
struct IndexTargets {
  std::ptrdiff_t label[R];
  double at_label[R], sum[R];
  bool none[R];
  const T* spread;
  NNFAST_INLINE IndexTargets(const CrossEntropy& loss, std::ptrdiff_t row, const RowFactors<R>& factors)
      : spread(static_cast<const T*>(loss.spread)) {
    for (int r = 0; r < R; ++r) {
      none[r] = loss.labels[row + r] == kNoLabel || factors.weight[r] == 0;
      label[r] = none[r] ? 0 : static_cast<std::ptrdiff_t>(loss.labels[row + r]);
      at_label[r] = loss.at_label ? loss.at_label[label[r]] : 1;
      sum[r] = at_label[r] + loss.spread_sum;
    }
  }
  // Of the other classes.
  NNFAST_INLINE Vec<T> load(int, std::ptrdiff_t i, std::ptrdiff_t count) const {
    return spread ? load_partial<Vec<T>>(spread + i, count, T{0}) : Vec<T>{};
  }
};

// Targets of rows with a probability for each class.
template <class T, class Rows, bool changed>
struct RowTargets {
  const Rows& rows;
  const T *scale, *spread;
  NNFAST_INLINE RowTargets(const CrossEntropy& loss, const Rows& targets)
      : rows(targets), scale(static_cast<const T*>(loss.target_scale)), spread(static_cast<const T*>(loss.spread)) {}
  NNFAST_INLINE Vec<T> load(int r, std::ptrdiff_t i, std::ptrdiff_t count) const {
    using V = Vec<T>;
    const V target = rows.load(r, i, count, T{0});
    if constexpr (!changed) return target;
    const V scaled = target * load_partial<V>(scale + i, count, T{0});
    return spread ? scaled + load_partial<V>(spread + i, count, T{0}) : scaled;
  }
};

// Whether a difference to the largest may overflow: where that is not small beside the largest float.
template <class T>
NNFAST_INLINE bool is_large(T largest) {
  return sizeof(T) == sizeof(float) && largest > static_cast<T>(1e30);
}

// Adds t_j (z_j - largest), where d is the difference rounded. In a row of large floats it is taken in double.
template <bool some_large, class T>
NNFAST_INLINE void add_shifted(BlockSum<T>& sum, Vec<T> target, Vec<T> d, Vec<T> z, T largest, int part) {
  using V = Vec<T>;
  using D = Vec<double>;
  if (!some_large || !is_large(largest)) return sum.add_product(target, target == 0 ? V{} : d, part);
  const Widened<V> wide_z = widen(z), factor = widen(target);
  const D shift = broadcast<D>(largest);
  Widened<V> shifted;
  for (int k = 0; k < shifted.count; ++k)
    shifted.part[k] = (factor.part[k] == 0) | (wide_z.part[k] == shift) ? D{} : wide_z.part[k] - shift;
  sum.add_product(factor, shifted, part);
}

// Calls body(std::bool_constant<whether one of the rows is of large numbers>).
template <class T, int R, class Body>
NNFAST_INLINE void if_large(const T (&largest)[R], Body body) {
  bool large = false;
  for (const T z : largest) large |= is_large(z);
  if (large) [[unlikely]]
    return body(std::true_type{});
  body(std::false_type{});
}

template <class T, int R, class ZRows, class DzRows>
NNFAST_INLINE void index_rows(const CrossEntropy& loss, std::ptrdiff_t row, const ZRows& z, const DzRows& dz) {
  using V = Vec<T>;
  const std::ptrdiff_t n = loss.classes;
  const RowFactors<R> factors(loss, row);
  const IndexTargets<T, R> targets(loss, row, factors);
  T largest[R], at_label[R];
  row_max(largest, z, n);
  // Read before dz, which may be z, is written.
  for (int r = 0; r < R; ++r) at_label[r] = load_element<T>(z.at(r, targets.label[r]));
  double totals[R], at_label_exp[R];
  BlockSum<T> spread[R];
  if (!targets.spread) {
    exponentials<T, R>(totals, z, dz, n, largest,
                       [](int, std::ptrdiff_t, int, std::ptrdiff_t, Pair<V>) NNFAST_INLINED {});
  } else {
    if_large(largest, [&](auto large) NNFAST_INLINED {
      constexpr bool wide = decltype(large)::value;
      exponentials<T, R>(totals, z, dz, n, largest,
                         [&](int r, std::ptrdiff_t i, int part, std::ptrdiff_t count, Pair<V> d) NNFAST_INLINED {
                           add_shifted<wide>(spread[r], targets.load(r, i, count), d.hi,
                                             wide ? z.load(r, i, count, T{0}) : V{}, largest[r], part);
                         });
    });
  }
  V factor[R], spread_scale[R];
  for (int r = 0; r < R; ++r) {
    at_label_exp[r] = load_element<T>(dz.at(r, targets.label[r]));
    factor[r] = broadcast<V>(static_cast<T>(targets.sum[r] * factors.gradient[r] / totals[r]));
    spread_scale[r] = broadcast<V>(static_cast<T>(-factors.gradient[r]));
  }
  for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
    const V spread_target = targets.load(0, i, count);
    unrolled<R>([&](int r) NNFAST_INLINED {
      const V e = dz.load(r, i, count, T{0}) * factor[r];
      dz.store(r, i, targets.none[r] ? V{} : (targets.spread ? e + spread_target * spread_scale[r] : e), count);
    });
  });
  for (int r = 0; r < R; ++r) {
    loss.losses[row + r] = 0;
    if (targets.none[r]) continue;
    const double total = totals[r];
    const double by_spread = targets.spread ? static_cast<double>(targets.spread[targets.label[r]]) : 0;
    const double gradient =
        ((at_label_exp[r] * targets.sum[r] - targets.at_label[r] * total) / total - by_spread) * factors.gradient[r];
    store_element(dz.at(r, targets.label[r]), static_cast<T>(gradient));
    const double shifted =
        at_label[r] == largest[r] ? 0.0 : static_cast<double>(at_label[r]) - static_cast<double>(largest[r]);
    const double of_label = targets.at_label[r] == 0 ? 0 : targets.at_label[r] * shifted;
    const double value = log_or_nan(total) * targets.sum[r] - of_label - (targets.spread ? spread[r].total() : 0);
    loss.losses[row + r] = value * factors.weight[r];
  }
}

template <class T, int R, bool changed, class ZRows, class DzRows, class Rows>
NNFAST_INLINE void target_rows(const CrossEntropy& loss, std::ptrdiff_t row, const ZRows& z, const DzRows& dz,
                               const Rows& t) {
  using V = Vec<T>;
  const std::ptrdiff_t n = loss.classes;
  const RowFactors<R> factors(loss, row);
  const RowTargets<T, Rows, changed> targets(loss, t);
  T largest[R];
  row_max(largest, z, n);
  BlockSum<T> target_sums[R];
  BlockSum<T> weighted[R];
  double totals[R];
  if_large(largest, [&](auto large) NNFAST_INLINED {
    constexpr bool wide = decltype(large)::value;
    exponentials<T, R>(totals, z, dz, n, largest,
                       [&](int r, std::ptrdiff_t i, int part, std::ptrdiff_t count, Pair<V> d) NNFAST_INLINED {
                         const V target = targets.load(r, i, count);
                         target_sums[r].add(target, part);
                         add_shifted<wide>(weighted[r], target, d.hi, wide ? z.load(r, i, count, T{0}) : V{},
                                           largest[r], part);
                       });
  });
  V softmax_scale[R], target_scale[R];
  bool none[R];
  for (int r = 0; r < R; ++r) {
    const double sum = target_sums[r].total();
    none[r] = factors.weight[r] == 0;
    softmax_scale[r] = broadcast<V>(static_cast<T>(sum * factors.gradient[r] / totals[r]));
    target_scale[r] = broadcast<V>(static_cast<T>(factors.gradient[r]));
    loss.losses[row + r] = none[r] ? 0 : (log_or_nan(totals[r]) * sum - weighted[r].total()) * factors.weight[r];
  }
  for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
    unrolled<R>([&](int r) NNFAST_INLINED {
      const V e = dz.load(r, i, count, T{0});
      const V slope = e * softmax_scale[r] - targets.load(r, i, count) * target_scale[r];
      dz.store(r, i, none[r] ? V{} : slope, count);
    });
  });
}

template <class T>
void softmax_cross_entropy(const CrossEntropy& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  const ExceptionScope exceptions;
  if (loss.labels) {
    for_rows<T>(
        row_begin, row_end,
        [&](auto count, std::ptrdiff_t row, auto z, auto dz) NNFAST_INLINED { index_rows<T, count>(loss, row, z, dz); },
        loss.scores, loss.dscores);
  } else if (!loss.target_scale) {
    for_rows<T>(
        row_begin, row_end,
        [&](auto count, std::ptrdiff_t row, auto z, auto dz, auto t)
            NNFAST_INLINED { target_rows<T, count, false>(loss, row, z, dz, t); },
        loss.scores, loss.dscores, loss.targets);
  } else {
    for_rows<T>(
        row_begin, row_end,
        [&](auto count, std::ptrdiff_t row, auto z, auto dz, auto t)
            NNFAST_INLINED { target_rows<T, count, true>(loss, row, z, dz, t); },
        loss.scores, loss.dscores, loss.targets);
  }
}

// ---- from probabilities ----

// Logarithms are at least this, as PyTorch has them, and the p of their slope 1 / p at least that.
constexpr double kLeastLog = -100, kLeastProbability = 1e-12;

// max(log p, kLeastLog), 0 included. log_of is of normal numbers: smaller ones are scaled.
template <class V>
NNFAST_INLINE V clipped_log(V p) {
  using T = Element<V>;
  const V least = broadcast<V>(static_cast<T>(kLeastLog));
  const auto small = p < static_cast<T>(0x1p-64);
  const V log = log_of(small ? p * static_cast<T>(0x1p64) : p) -
                (small ? broadcast<V>(static_cast<T>(64 * 0.69314718055994530942)) : V{});
  return p > 0 ? max(least, log) : (p == p ? least : p);
}

// The same of 1 - p, relative to its size where p is small.
template <class V>
NNFAST_INLINE V clipped_log_of_rest(V p) {
  const auto small = p < static_cast<Element<V>>(0.25);
  const V t = small ? -p : V{};
  return small ? t - log1p_rest(t) : clipped_log(1 - p);
}

// sum_j -t_j log p_j, with the slope -t_j / p_j.
template <class T, class Stride, class Targets>
NNFAST_INLINE double probability_row(const Rows<T, Stride>& p, const Rows<T, Stride>& dp, std::ptrdiff_t n,
                                     double gradient_scale, const Targets& targets) {
  using V = Vec<T>;
  const V scale = broadcast<V>(static_cast<T>(-gradient_scale));
  BlockSum<T> sum;
  for_blocks<T>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    if (count == 0) return;
    const V v = p.load(0, i, count, T{1}), target = targets.load(0, i, count);
    const auto none = target == 0;
    sum.add_product(target, none ? V{} : clipped_log(v), part);
    dp.store(0, i, none ? V{} : target / max(broadcast<V>(static_cast<T>(kLeastProbability)), v) * scale, count);
  });
  return -sum.total();
}

template <class T, class Stride>
NNFAST_INLINE void clear_row(const Rows<T, Stride>& row, std::ptrdiff_t n) {
  for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED { row.store(0, i, Vec<T>{}, count); });
}

template <class T>
void cross_entropy(const CrossEntropy& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  const ExceptionScope exceptions;
  const std::ptrdiff_t n = loss.classes;
  for (std::ptrdiff_t row = row_begin; row < row_end; ++row) {
    const auto p = apart<T>(loss.scores, row), dp = apart<T>(loss.dscores, row);
    const RowFactors<1> factors(loss, row);
    double& value = loss.losses[row];
    if (!loss.labels) {
      const auto t = apart<T>(loss.targets, row);
      if (factors.weight[0] == 0) {
        value = 0;
        clear_row(dp, n);
      } else {
        using TargetRow = Rows<T, std::ptrdiff_t>;
        const double scale = factors.gradient[0];
        value = loss.target_scale ? probability_row(p, dp, n, scale, RowTargets<T, TargetRow, true>(loss, t))
                                  : probability_row(p, dp, n, scale, RowTargets<T, TargetRow, false>(loss, t));
        value *= factors.weight[0];
      }
      continue;
    }
    const IndexTargets<T, 1> targets(loss, row, factors);
    const T at_label = load_element<T>(p.at(0, targets.label[0]));
    value = 0;
    if (!targets.spread || targets.none[0]) {
      clear_row(dp, n);
    } else {
      value = probability_row(p, dp, n, factors.gradient[0], targets);
    }
    if (targets.none[0]) continue;
    if (targets.at_label[0] != 0)
      value -= targets.at_label[0] * static_cast<double>(clipped_log(broadcast<Vec<T>>(at_label))[0]);
    value *= factors.weight[0];
    const double target = targets.at_label[0] + (targets.spread ? targets.spread[targets.label[0]] : 0);
    const double least = static_cast<T>(kLeastProbability), base = at_label < least ? least : at_label;
    store_element(dp.at(0, targets.label[0]), static_cast<T>(target == 0 ? 0 : -target / base * factors.gradient[0]));
  }
}

// 0 in the lanes from `count` on.
template <class V>
NNFAST_INLINE V first_lanes(V v, std::ptrdiff_t count) {
  if (count < kLanes<V>)
    for (std::ptrdiff_t k = count < 0 ? 0 : count; k < kLanes<V>; ++k) v[k] = 0;
  return v;
}

// ---- multiclass hinge ----

// A row's label class is left out of both sums, and its own gradient is minus what the others have.
template <class T, int R, class ZRows, class DzRows>
NNFAST_INLINE void hinge_rows(const Hinge& loss, std::ptrdiff_t row, const ZRows& z, const DzRows& dz) {
  using V = Vec<T>;
  const RowFactors<R> factors(loss, row);
  V offset[R];
  T margin_at_label[R], slope[R];
  for (int r = 0; r < R; ++r) {
    const T label = load_element<T>(z.at(r, loss.labels[row + r]));
    offset[r] = broadcast<V>(static_cast<T>(loss.margin) - label);
    margin_at_label[r] = label + (static_cast<T>(loss.margin) - label);
    slope[r] = static_cast<T>(factors.gradient[r]);
  }
  BlockSum<T> sums[R], above[R];
  for_blocks<T>(loss.classes, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    unrolled<R>([&](int r) NNFAST_INLINED {
      const V m = first_lanes(z.load(r, i, count, T{0}) + offset[r], count);
      const V over = max(V{}, m);
      const V active = m <= 0 ? V{} : broadcast<V>(1);
      sums[r].add(over, part);
      above[r].add(active, part);
      dz.store(r, i, active * slope[r], count);
    });
  });
  for (int r = 0; r < R; ++r) {
    const T own = margin_at_label[r];
    const double counted = own > 0 ? static_cast<double>(own) : 0;
    loss.losses[row + r] = (sums[r].total() - counted) * factors.weight[r];
    const double others = above[r].total() - (own > 0 ? 1 : 0);
    store_element(dz.at(r, loss.labels[row + r]), static_cast<T>(-others * factors.gradient[r]));
  }
}

// A row of weight 0, or one of which a score, or a margin in float, is not finite.
template <class T>
[[gnu::noinline]] void special_hinge_row(const Hinge& loss, std::ptrdiff_t row) {
  const auto z = apart<T>(loss.scores, row), dz = apart<T>(loss.dscores, row);
  const RowFactors<1> factors(loss, row);
  const std::int64_t label = loss.labels[row];
  const bool none = factors.weight[0] == 0;
  const double at_label = load_element<T>(z.at(0, label));
  double sum = 0, others = 0;
  for (std::ptrdiff_t j = 0; j < loss.classes; ++j) {
    if (j == label) continue;
    const double m = none ? 0 : static_cast<double>(load_element<T>(z.at(0, j))) - at_label + loss.margin;
    const double active = m <= 0 ? 0 : (m > 0 ? 1 : m);
    if (active != 0) sum += m;
    others += active;
    store_element(dz.at(0, j), static_cast<T>(active * factors.gradient[0]));
  }
  loss.losses[row] = none ? 0 : sum * factors.weight[0];
  store_element(dz.at(0, label), static_cast<T>(others == 0 ? 0 : -others * factors.gradient[0]));
}

// Whether the sum of a row is not finite: known before the row is overwritten.
template <class T>
NNFAST_INLINE bool overflows(const Hinge& loss, std::ptrdiff_t row) {
  using V = Vec<T>;
  const auto z = apart<T>(loss.scores, row);
  const T label = load_element<T>(z.at(0, loss.labels[row]));
  const V offset = broadcast<V>(static_cast<T>(loss.margin) - label);
  Mask<V> finite = ~Mask<V>{};
  for_vectors<T>(loss.classes, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
    finite &= z.load(0, i, count, label) + offset < static_cast<T>(kInfinity);
  });
  for (int k = 0; k < kLanes<V>; ++k)
    if (!finite[k]) return true;
  return false;
}

template <class T>
[[gnu::noinline]] void checked_hinge_row(const Hinge& loss, std::ptrdiff_t row) {
  if ((loss.row_weights && loss.row_weights[row] == 0) || overflows<T>(loss, row))
    return special_hinge_row<T>(loss, row);
  hinge_rows<T, 1>(loss, row, apart<T>(loss.scores, row), apart<T>(loss.dscores, row));
}

// The sum of a row tells whether it is a special one; in place, that comes too late.
template <class T>
void hinge(const Hinge& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  const ExceptionScope exceptions;
  const bool in_place = loss.scores.data == loss.dscores.data, checked = in_place || loss.row_weights;
  for_rows<T>(
      row_begin, row_end,
      [&](auto count, std::ptrdiff_t row, auto z, auto dz) NNFAST_INLINED {
        bool special = false;
        for (int r = 0; checked && r < count; ++r)
          special |= (loss.row_weights && loss.row_weights[row + r] == 0) || (in_place && overflows<T>(loss, row + r));
        if (special) [[unlikely]] {
          for (int r = 0; r < count; ++r) checked_hinge_row<T>(loss, row + r);
          return;
        }
        hinge_rows<T, count>(loss, row, z, dz);
        for (int r = 0; r < count; ++r)
          if (!(loss.losses[row + r] < kInfinity)) [[unlikely]]
            special_hinge_row<T>(loss, row + r);
      },
      loss.scores, loss.dscores);
}

// ---- losses of single elements ----

// 0 in the lanes from `count` on.
template <class V>
NNFAST_INLINE Widened<V> first_lanes(Widened<V> v, std::ptrdiff_t count) {
  if (count < kLanes<V>)
    for (int k = 0; k < v.count; ++k)
      v.part[k] = first_lanes(v.part[k], count - k * static_cast<std::ptrdiff_t>(kLanes<Vec<double>>));
  return v;
}

// D: a vector, or a widened one.
template <class D>
struct LossOf {
  D value, slope;
};

// A loss is computed twice: as of(x, t, parameter), in the type of the elements; and where the sum of those overflows,
// is NaN, or is below `least`, again with what cannot, as careful(x, t, parameter, weight of the positive class).

constexpr double kLeastWeighted = 1e-30;

// Of a difference, whose square overflows, or vanishes, in float.
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

// |x - t|; the slope at 0 is 0
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
  // Products with weights may overflow in float; and a or b without a share may be infinite.
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
    return {-(t * clipped_log(p) + (1 - t) * clipped_log_of_rest(p)), (p - t) / max(smallest, p * (1 - p))};
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

// The doubles of the first `count` lanes of a V, 1 where there are none.
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

// Strides of std::ptrdiff_t or, of arrays whose elements are contiguous, of Next. `weighted`: with weights, or the loss
// of each element.
template <class Loss, class T, bool weighted, class Stride>
[[gnu::noinline]] double elementwise_loss_at(const LossRun& run, Stride predicted_stride, Stride target_stride,
                                             Stride slope_stride) {
  using V = Vec<T>;
  using Run = Rows<T, Stride>;
  const V scale = broadcast<V>(static_cast<T>(run.gradient_scale));
  const V parameter = broadcast<V>(static_cast<T>(run.parameter));
  const Run predicted{const_cast<char*>(run.predicted), 0, predicted_stride};
  const Run targets{const_cast<char*>(run.targets), 0, target_stride};
  const Run slopes{run.slopes, 0, slope_stride};
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
  constexpr Next<T> next;
  if (run.predicted_stride == next && run.target_stride == next && run.slope_stride == next)
    return elementwise_loss_at<Loss, T, weighted>(run, next, next, next);
  return elementwise_loss_at<Loss, T, weighted>(run, run.predicted_stride, run.target_stride, run.slope_stride);
}

// The careful way, with weights or without. An element of weight 0 may hold anything.
template <class Loss, class T>
[[gnu::noinline]] double careful_loss(const LossRun& run) {
  using V = Vec<T>;
  using D = Vec<double>;
  using Run = Rows<T, std::ptrdiff_t>;
  const Run predicted{const_cast<char*>(run.predicted), 0, run.predicted_stride};
  const Run targets{const_cast<char*>(run.targets), 0, run.target_stride};
  const Run slopes{run.slopes, 0, run.slope_stride};
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

bool weights_sum(const double* weights, std::ptrdiff_t n, double* sum) {
  using D = Vec<double>;
  const ExceptionScope exceptions;
  Mask<D> valid = ~Mask<D>{};
  D sums[kReduceDoubles] = {};
  for_blocks<double>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    const D v = count == kLanes<D> ? load<D>(weights + i) : load_partial<D>(weights + i, count, 0.0);
    valid &= (v >= 0) & (v < kInfinity);
    sums[part] += v;
  });
  *sum = sum_of_block(sums);
  for (int k = 0; k < kLanes<D>; ++k)
    if (!valid[k]) return false;
  return true;
}

}  // namespace

namespace NNFAST_ISA {

extern const LossKernels losses;
const LossKernels losses = {
    softmax_cross_entropy<float>,
    softmax_cross_entropy<double>,
    cross_entropy<float>,
    cross_entropy<double>,
    hinge<float>,
    hinge<double>,
#define NNFAST_F32(formula, name, cost) elementwise_loss<formula, float>,
    {NNFAST_ELEMENTWISE_LOSSES(NNFAST_F32)},
#define NNFAST_F64(formula, name, cost) elementwise_loss<formula, double>,
    {NNFAST_ELEMENTWISE_LOSSES(NNFAST_F64)},
    weights_sum,
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
