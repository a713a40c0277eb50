// Cross-entropy. Of the softmax of logits z, with targets t:
//   loss = sum_j t_j (log sum_k e^(z_k - max z) - (z_j - max z)),   dz = softmax(z) sum t - t,
// where a label stands for a target of 1 there and 0 elsewhere. The product of a target of 0 is 0, also where the other
// factor is infinite or NaN.
#pragma once

#include "kernels/clipped_log.hpp"
#include "kernels/loss_rows.hpp"
#include "kernels/softmax_row.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

// Not inlined: rows are unrolled, and would each have its code.
[[gnu::noinline]] double log_or_nan(double sum) { return sum == sum ? log_of(broadcast<Vec<double>>(sum))[0] : sum; }

// Stores the exponentials of R rows to dz, and their sums to `totals`; calls with(r, i, part, count, z).
template <class T, int R, class ZRows, class DzRows, class With>
NNFAST_INLINE void exponentials(double (&totals)[R], const ZRows& z, const DzRows& dz, std::ptrdiff_t n,
                                const Vec<T> (&largest)[R], With with) {
  using V = Vec<T>;
  using Lanes = Along<T, R>;
  constexpr T lowering = 1 / kRaisedOne<T>;
  BlockSum<T> sums[R];
  RowScale<V, kPlain<Lanes>> scales[R];
  row_scales(Lanes{}, scales, largest, Constants<T>::exp_min);
  for_exponentials(Lanes{}, z, n, scales,
                   [&](int r, std::ptrdiff_t i, int part, std::ptrdiff_t count, V v, V e) NNFAST_INLINED {
                     with(r, i, part, count, v);
                     sums[r].add(e, part);
                     dz.store(r, i, e * lowering, count);
                   });
  unrolled<R>([&](int r) NNFAST_INLINED { totals[r] = sums[r].total() * static_cast<double>(lowering); });
}

// Targets of rows with a label. sum: of all classes.
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
  // Of the classes that are not the label.
  NNFAST_INLINE Vec<T> load(int, std::ptrdiff_t i, std::ptrdiff_t count) const {
    return spread ? load_partial<Vec<T>>(spread + i, count, T{0}) : Vec<T>{};
  }
};

// Targets of rows with a probability for each class; changed: by scale and spread.
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

// Whether the difference to the largest element of a row may overflow.
template <class T>
NNFAST_INLINE bool is_large(T largest) {
  return sizeof(T) == sizeof(float) && largest > static_cast<T>(1e30);
}

// Adds t_j (z_j - largest). In a row of large floats the difference is taken in double.
template <bool may_be_large, class T>
NNFAST_INLINE void add_shifted(BlockSum<T>& sum, Vec<T> target, Vec<T> z, Vec<T> largest, int part) {
  using V = Vec<T>;
  using D = Vec<double>;
  if (!may_be_large || !is_large(largest[0]))
    return sum.add_product(target, (target == 0) | (z == largest) ? V{} : z - largest, part);
  const Widened<V> wide_z = widen(z), factor = widen(target);
  const D shift = broadcast<D>(largest[0]);
  Widened<V> shifted;
  for (int k = 0; k < shifted.count; ++k)
    shifted.part[k] = (factor.part[k] == 0) | (wide_z.part[k] == shift) ? D{} : wide_z.part[k] - shift;
  sum.add_product(factor, shifted, part);
}

// Rows of large elements are computed one by one: only there is the code for them.
template <int R>
constexpr bool kMayBeLarge = R == 1;
// False: nothing was done, since a row has to be computed alone.
template <class T, int R, class ZRows, class DzRows>
NNFAST_INLINE bool index_rows(const CrossEntropy& loss, std::ptrdiff_t row, const ZRows& z, const DzRows& dz) {
  using V = Vec<T>;
  const std::ptrdiff_t n = loss.classes;
  const RowFactors<R> factors(loss, row);
  const IndexTargets<T, R> targets(loss, row, factors);
  T at_label[R];
  V largest[R];
  row_max(Along<T, R>{}, largest, z, n);
  if (!can_be_plain(Along<T, R>{}, largest)) return false;
  // Read before dz, which may be z, is written.
  for (int r = 0; r < R; ++r) at_label[r] = load_element<T>(z.at(r, targets.label[r]));
  double totals[R], at_label_exp[R];
  BlockSum<T> spread[R];
  if (!targets.spread) {
    exponentials<T, R>(totals, z, dz, n, largest, [](int, std::ptrdiff_t, int, std::ptrdiff_t, V) NNFAST_INLINED {});
  } else {
    exponentials<T, R>(totals, z, dz, n, largest,
                       [&](int r, std::ptrdiff_t i, int part, std::ptrdiff_t count, V v) NNFAST_INLINED {
                         add_shifted<kMayBeLarge<R>>(spread[r], targets.load(r, i, count), v, largest[r], part);
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
    const double from_spread = targets.spread ? static_cast<double>(targets.spread[targets.label[r]]) : 0;
    const double gradient =
        ((at_label_exp[r] * targets.sum[r] - targets.at_label[r] * total) / total - from_spread) * factors.gradient[r];
    store_element(dz.at(r, targets.label[r]), static_cast<T>(gradient));
    const double shifted =
        at_label[r] == largest[r][0] ? 0.0 : static_cast<double>(at_label[r]) - static_cast<double>(largest[r][0]);
    const double label_term = targets.at_label[r] == 0 ? 0 : targets.at_label[r] * shifted;
    const double value = log_or_nan(total) * targets.sum[r] - label_term - (targets.spread ? spread[r].total() : 0);
    loss.losses[row + r] = value * factors.weight[r];
  }
  return true;
}

template <class T, int R, bool changed, class ZRows, class DzRows, class Rows>
NNFAST_INLINE bool target_rows(const CrossEntropy& loss, std::ptrdiff_t row, const ZRows& z, const DzRows& dz,
                               const Rows& t) {
  using V = Vec<T>;
  const std::ptrdiff_t n = loss.classes;
  const RowFactors<R> factors(loss, row);
  const RowTargets<T, Rows, changed> targets(loss, t);
  V largest[R];
  row_max(Along<T, R>{}, largest, z, n);
  if (!can_be_plain(Along<T, R>{}, largest)) return false;
  BlockSum<T> target_sums[R];
  BlockSum<T> weighted[R];
  double totals[R];
  exponentials<T, R>(totals, z, dz, n, largest,
                     [&](int r, std::ptrdiff_t i, int part, std::ptrdiff_t count, V v) NNFAST_INLINED {
                       const V target = targets.load(r, i, count);
                       target_sums[r].add(target, part);
                       add_shifted<kMayBeLarge<R>>(weighted[r], target, v, largest[r], part);
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
  return true;
}

template <class T>
[[gnu::noinline]] void softmax_cross_entropy_row(const CrossEntropy& loss, std::ptrdiff_t row) {
  const auto z = strided_rows<T>(loss.scores, row), dz = strided_rows<T>(loss.dscores, row);
  if (loss.labels) {
    index_rows<T, 1>(loss, row, z, dz);
    return;
  }
  const auto t = strided_rows<T>(loss.targets, row);
  loss.target_scale ? target_rows<T, 1, true>(loss, row, z, dz, t) : target_rows<T, 1, false>(loss, row, z, dz, t);
}

// Calls body(Count<R>, row, rows of each matrix...) for R contiguous rows at a time, as for_rows does. The rows that
// are left, and those for which it returned false, are taken one by one.
template <class T, class Body, class... Matrices>
NNFAST_INLINE void cross_entropy_rows(const CrossEntropy& loss, std::ptrdiff_t begin, std::ptrdiff_t end, Body body,
                                      const Matrices&... matrices) {
  for_rows<T>(
      begin, end,
      [&](auto count, std::ptrdiff_t row, auto... rows) NNFAST_INLINED {
        if constexpr (count > 1) {
          if (body(count, row, rows...)) [[likely]]
            return;
        }
        for (int r = 0; r < count; ++r) softmax_cross_entropy_row<T>(loss, row + r);
      },
      matrices...);
}

// Targets that are changed have no code for several rows: they are rare.
template <class T>
void softmax_cross_entropy(const CrossEntropy& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  const ExceptionScope exceptions;
  if (loss.labels) {
    cross_entropy_rows<T>(
        loss, row_begin, row_end,
        [&](auto count, std::ptrdiff_t row, auto z, auto dz)
            NNFAST_INLINED { return index_rows<T, count>(loss, row, z, dz); },
        loss.scores, loss.dscores);
  } else if (!loss.target_scale) {
    cross_entropy_rows<T>(
        loss, row_begin, row_end,
        [&](auto count, std::ptrdiff_t row, auto z, auto dz, auto t)
            NNFAST_INLINED { return target_rows<T, count, false>(loss, row, z, dz, t); },
        loss.scores, loss.dscores, loss.targets);
  } else {
    for (std::ptrdiff_t row = row_begin; row < row_end; ++row) softmax_cross_entropy_row<T>(loss, row);
  }
}

// ---- of probabilities ----

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

// The loss of a row with a label, to which `value` comes from the other classes; sets the gradient there.
template <class T>
NNFAST_INLINE void finish_label(const CrossEntropy& loss, std::ptrdiff_t row, const IndexTargets<T, 1>& targets,
                                const RowFactors<1>& factors, T at_label, T log, double value) {
  loss.losses[row] = 0;
  if (targets.none[0]) return;
  if (targets.at_label[0] != 0) value -= targets.at_label[0] * static_cast<double>(log);
  loss.losses[row] = value * factors.weight[0];
  const double target = targets.at_label[0] + (targets.spread ? targets.spread[targets.label[0]] : 0);
  const double least = static_cast<T>(kLeastProbability), base = at_label < least ? least : at_label;
  store_element(strided_rows<T>(loss.dscores, row).at(0, targets.label[0]),
                static_cast<T>(target == 0 ? 0 : -target / base * factors.gradient[0]));
}

// Rows with a label and nothing for the other classes: their gradient is 0 elsewhere, and as many logarithms are taken
// together as a vector has lanes. The predictions are read before the gradient, which may be they, is written.
template <class T>
void labelled_probabilities(const CrossEntropy& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  using V = Vec<T>;
  for (std::ptrdiff_t first = row_begin; first < row_end; first += kLanes<V>) {
    const std::ptrdiff_t count = smaller(row_end - first, kLanes<V>);
    T at_label[kLanes<V>], logs[kLanes<V>];
    for (std::ptrdiff_t r = 0; r < count; ++r) {
      const std::ptrdiff_t label = loss.labels[first + r];
      at_label[r] = load_element<T>(strided_rows<T>(loss.scores, first + r).at(0, label == kNoLabel ? 0 : label));
    }
    store(logs, clipped_log(load_partial<V>(at_label, count, T{1})));
    clear_rows<T>(loss.dscores, loss.classes, first, first + count);
    for (std::ptrdiff_t r = 0; r < count; ++r) {
      const RowFactors<1> factors(loss, first + r);
      finish_label<T>(loss, first + r, IndexTargets<T, 1>(loss, first + r, factors), factors, at_label[r], logs[r], 0);
    }
  }
}

template <class T>
NNFAST_INLINE double probability_targets(const CrossEntropy& loss, std::ptrdiff_t row, double gradient_scale) {
  const auto p = strided_rows<T>(loss.scores, row), dp = strided_rows<T>(loss.dscores, row),
             t = strided_rows<T>(loss.targets, row);
  using Targets = Rows<T, std::ptrdiff_t>;
  return loss.target_scale
             ? probability_row(p, dp, loss.classes, gradient_scale, RowTargets<T, Targets, true>(loss, t))
             : probability_row(p, dp, loss.classes, gradient_scale, RowTargets<T, Targets, false>(loss, t));
}

template <class T>
void cross_entropy(const CrossEntropy& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  const ExceptionScope exceptions;
  if (loss.labels && !loss.spread) return labelled_probabilities<T>(loss, row_begin, row_end);
  for (std::ptrdiff_t row = row_begin; row < row_end; ++row) {
    const RowFactors<1> factors(loss, row);
    const bool none = factors.weight[0] == 0 || (loss.labels && loss.labels[row] == kNoLabel);
    if (none) {
      clear_rows<T>(loss.dscores, loss.classes, row, row + 1);
      loss.losses[row] = 0;
    } else if (!loss.labels) {
      loss.losses[row] = probability_targets<T>(loss, row, factors.gradient[0]) * factors.weight[0];
    } else {
      const IndexTargets<T, 1> targets(loss, row, factors);
      const auto p = strided_rows<T>(loss.scores, row), dp = strided_rows<T>(loss.dscores, row);
      const T at_label = load_element<T>(p.at(0, targets.label[0]));
      const double value = probability_row(p, dp, loss.classes, factors.gradient[0], targets);
      finish_label<T>(loss, row, targets, factors, at_label, clipped_log(broadcast<Vec<T>>(at_label))[0], value);
    }
  }
}

}  // namespace
}  // namespace nnfast
