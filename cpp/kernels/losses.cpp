// Losses with their gradients from the same pass. Softmax cross-entropy of logits z and targets t:
//   loss = sum_j t_j (log sum_k e^(z_k - max z) - (z_j - max z)),   dz = softmax(z) sum t - t,
// where a class index stands for a target of 1 there and 0 elsewhere.
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

// What rows with a class index want: `label` of their class, `spread` of every class.
template <class T, int R>
struct IndexTargets {
  std::ptrdiff_t label[R];
  double at_label[R], sum[R];
  bool none[R];
  const T* spread;
  NNFAST_INLINE IndexTargets(const CrossEntropy& loss, std::ptrdiff_t row)
      : spread(static_cast<const T*>(loss.spread)) {
    for (int r = 0; r < R; ++r) {
      none[r] = loss.labels[row + r] == kNoLabel;
      label[r] = none[r] ? 0 : static_cast<std::ptrdiff_t>(loss.labels[row + r]);
      at_label[r] = loss.at_label ? loss.at_label[label[r]] : 1;
      sum[r] = at_label[r] + loss.spread_sum;
    }
  }
};

template <class T, int R, class ZRows, class DzRows>
NNFAST_INLINE void index_rows(const CrossEntropy& loss, std::ptrdiff_t row, const ZRows& z, const DzRows& dz) {
  using V = Vec<T>;
  const std::ptrdiff_t n = loss.classes;
  const IndexTargets<T, R> targets(loss, row);
  T largest[R], at_label[R];
  row_max(largest, z, n);
  // Read before dz, which may be z, is written.
  for (int r = 0; r < R; ++r) at_label[r] = load_element<T>(z.at(r, targets.label[r]));
  double totals[R], at_label_exp[R];
  BlockSum<T> spread[R];
  exponentials<T, R>(totals, z, dz, n, largest,
                     [&](int r, std::ptrdiff_t i, int part, std::ptrdiff_t count, Pair<V> d) NNFAST_INLINED {
                       if (!targets.spread) return;
                       const V target = load_partial<V>(targets.spread + i, count, T{0});
                       spread[r].add_product(target, target == 0 ? V{} : d.hi, part);
                     });
  V factor[R];
  for (int r = 0; r < R; ++r) {
    at_label_exp[r] = load_element<T>(dz.at(r, targets.label[r]));
    factor[r] = broadcast<V>(static_cast<T>(targets.sum[r] * loss.gradient_scale / totals[r]));
  }
  const V spread_scale = broadcast<V>(static_cast<T>(-loss.gradient_scale));
  for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
    const V wanted = targets.spread ? load_partial<V>(targets.spread + i, count, T{0}) * spread_scale : V{};
    unrolled<R>([&](int r) NNFAST_INLINED {
      const V e = dz.load(r, i, count, T{0}) * factor[r];
      dz.store(r, i, targets.none[r] ? V{} : (targets.spread ? e + wanted : e), count);
    });
  });
  for (int r = 0; r < R; ++r) {
    loss.losses[row + r] = 0;
    if (targets.none[r]) continue;
    const double total = totals[r];
    const double by_spread = targets.spread ? static_cast<double>(targets.spread[targets.label[r]]) : 0;
    const double gradient =
        ((at_label_exp[r] * targets.sum[r] - targets.at_label[r] * total) / total - by_spread) * loss.gradient_scale;
    store_element(dz.at(r, targets.label[r]), static_cast<T>(gradient));
    const double shifted =
        at_label[r] == largest[r] ? 0.0 : static_cast<double>(at_label[r]) - static_cast<double>(largest[r]);
    const double of_label = targets.at_label[r] == 0 ? 0 : targets.at_label[r] * shifted;
    loss.losses[row + r] = log_or_nan(total) * targets.sum[r] - of_label - (targets.spread ? spread[r].total() : 0);
  }
}

template <class T, int R, class ZRows, class DzRows, class TargetRows>
NNFAST_INLINE void target_rows(const CrossEntropy& loss, std::ptrdiff_t row, const ZRows& z, const DzRows& dz,
                               const TargetRows& t) {
  using V = Vec<T>;
  const std::ptrdiff_t n = loss.classes;
  T largest[R];
  row_max(largest, z, n);
  BlockSum<T> target_sums[R], weighted[R];
  double totals[R];
  exponentials<T, R>(totals, z, dz, n, largest,
                     [&](int r, std::ptrdiff_t i, int part, std::ptrdiff_t count, Pair<V> d) NNFAST_INLINED {
                       const V target = t.load(r, i, count, T{0});
                       target_sums[r].add(target, part);
                       weighted[r].add_product(target, target == 0 ? V{} : d.hi, part);
                     });
  const V target_scale = broadcast<V>(static_cast<T>(loss.gradient_scale));
  V softmax_scale[R];
  for (int r = 0; r < R; ++r) {
    const double targets = target_sums[r].total();
    softmax_scale[r] = broadcast<V>(static_cast<T>(targets * loss.gradient_scale / totals[r]));
    loss.losses[row + r] = log_or_nan(totals[r]) * targets - weighted[r].total();
  }
  for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
    unrolled<R>([&](int r) NNFAST_INLINED {
      const V e = dz.load(r, i, count, T{0});
      dz.store(r, i, e * softmax_scale[r] - t.load(r, i, count, T{0}) * target_scale, count);
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
        loss.logits, loss.dlogits);
  } else {
    for_rows<T>(
        row_begin, row_end,
        [&](auto count, std::ptrdiff_t row, auto z, auto dz, auto t)
            NNFAST_INLINED { target_rows<T, count>(loss, row, z, dz, t); },
        loss.logits, loss.dlogits, loss.targets);
  }
}

// 0 in the lanes from `count` on.
template <class V>
NNFAST_INLINE V first_lanes(V v, std::ptrdiff_t count) {
  if (count < kLanes<V>)
    for (std::ptrdiff_t k = count; k < kLanes<V>; ++k) v[k] = 0;
  return v;
}

// ---- multiclass hinge ----

// A row's label class is left out of both sums, and its own gradient is minus what the others have.
template <class T, int R, class ZRows, class DzRows>
NNFAST_INLINE void hinge_rows(const Hinge& loss, std::ptrdiff_t row, const ZRows& z, const DzRows& dz) {
  using V = Vec<T>;
  const T slope = static_cast<T>(loss.gradient_scale);
  V offset[R];
  T margin_at_label[R];
  for (int r = 0; r < R; ++r) {
    const T label = load_element<T>(z.at(r, loss.labels[row + r]));
    offset[r] = broadcast<V>(static_cast<T>(loss.margin) - label);
    margin_at_label[r] = label + (static_cast<T>(loss.margin) - label);
  }
  BlockSum<T> sums[R], above[R];
  for_blocks<T>(loss.classes, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    unrolled<R>([&](int r) NNFAST_INLINED {
      const V m = first_lanes(z.load(r, i, count, T{0}) + offset[r], count);
      const V over = max(V{}, m);
      const V active = m <= 0 ? V{} : broadcast<V>(1);
      sums[r].add(over, part);
      above[r].add(active, part);
      dz.store(r, i, active * slope, count);
    });
  });
  for (int r = 0; r < R; ++r) {
    const T own = margin_at_label[r];
    const double counted = own > 0 ? static_cast<double>(own) : 0;
    loss.losses[row + r] = sums[r].total() - counted;
    const double others = above[r].total() - (own > 0 ? 1 : 0);
    store_element(dz.at(r, loss.labels[row + r]), static_cast<T>(-others * loss.gradient_scale));
  }
}

template <class T>
void hinge(const Hinge& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  const ExceptionScope exceptions;
  for_rows<T>(
      row_begin, row_end,
      [&](auto count, std::ptrdiff_t row, auto z, auto dz) NNFAST_INLINED { hinge_rows<T, count>(loss, row, z, dz); },
      loss.scores, loss.dscores);
}

// ---- losses of single numbers ----

template <class V>
struct LossOf {
  V value, slope;
};

// (x - t)^2
struct SquaredError {
  template <class V>
  NNFAST_INLINE static LossOf<V> of(V x, V t, V) {
    const V d = x - t;
    return {d * d, d + d};
  }
};

// |x - t|; the slope at 0 is 0
struct AbsoluteError {
  template <class V>
  NNFAST_INLINE static LossOf<V> of(V x, V t, V) {
    const V d = x - t, one = broadcast<V>(1);
    return {abs(d), d > 0 ? one : (d < 0 ? -one : d)};
  }
};

// (x - t)^2 / 2 up to delta, delta (|x - t| - delta / 2) beyond                                   (Huber 1964)
struct Huber {
  template <class V>
  NNFAST_INLINE static LossOf<V> of(V x, V t, V delta) {
    const V d = x - t, size = abs(d);
    const auto beyond = size > delta;
    const V half = broadcast<V>(static_cast<Element<V>>(0.5));
    return {beyond ? delta * (size - half * delta) : half * d * d, beyond ? copysign(delta, d) : d};
  }
};

// -t log s - (1 - t) log(1 - s) with s = 1 / (1 + e^-x), as max(x, 0) - x t + log(1 + e^-|x|): nothing cancels
struct BinaryCrossEntropy {
  template <class V>
  NNFAST_INLINE static LossOf<V> of(V x, V t, V) {
    return {max(V{}, x) - x * t + Softplus::of(-abs(x)), Sigmoid::forward(x) - t};
  }
};

// Strides of std::ptrdiff_t or, of arrays whose elements lie next to each other, of Next.
template <class Loss, class T, class Stride>
[[gnu::noinline]] double elementwise_loss_at(const LossRun& run, Stride predicted_stride, Stride wanted_stride,
                                             Stride slope_stride) {
  using V = Vec<T>;
  using Run = Rows<T, Stride>;
  const V scale = broadcast<V>(static_cast<T>(run.gradient_scale));
  const V parameter = broadcast<V>(static_cast<T>(run.parameter));
  const Run predicted{const_cast<char*>(run.predicted), 0, predicted_stride};
  const Run wanted{const_cast<char*>(run.wanted), 0, wanted_stride};
  const Run slopes{run.slopes, 0, slope_stride};
  BlockSum<T> sum;
  for_blocks<T>(run.n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    const LossOf<V> loss = Loss::of(predicted.load(0, i, count, T{0}), wanted.load(0, i, count, T{0}), parameter);
    slopes.store(0, i, loss.slope * scale, count);
    sum.add(first_lanes(loss.value, count), part);
  });
  return sum.total();
}

template <class Loss, class T>
double elementwise_loss(const LossRun& run) {
  const ExceptionScope exceptions;
  constexpr Next<T> next;
  if (run.predicted_stride == next && run.wanted_stride == next && run.slope_stride == next)
    return elementwise_loss_at<Loss, T>(run, next, next, next);
  return elementwise_loss_at<Loss, T>(run, run.predicted_stride, run.wanted_stride, run.slope_stride);
}

}  // namespace

namespace NNFAST_ISA {

extern const LossKernels losses;
const LossKernels losses = {
    softmax_cross_entropy<float>,
    softmax_cross_entropy<double>,
    hinge<float>,
    hinge<double>,
#define NNFAST_F32(formula, name, cost) elementwise_loss<formula, float>,
    {NNFAST_ELEMENTWISE_LOSSES(NNFAST_F32)},
#define NNFAST_F64(formula, name, cost) elementwise_loss<formula, double>,
    {NNFAST_ELEMENTWISE_LOSSES(NNFAST_F64)},
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
