// Softmax cross-entropy with its gradient from the same pass:
//   loss = log sum_j e^(z_j - max z) - (z_label - max z),   dz = softmax(z) - [j = label],
// and with target probabilities t: loss = sum_j t_j (log sum - (z_j - max z)), dz = softmax(z) sum t - t.
#include "kernels/losses.hpp"

#include "kernels/softmax_row.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

NNFAST_INLINE double log_or_nan(double sum) { return sum == sum ? log_of(broadcast<Vec<double>>(sum))[0] : sum; }

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

template <class T, int R, class ZRows, class DzRows>
NNFAST_INLINE void index_rows(const CrossEntropy& loss, std::ptrdiff_t row, const ZRows& z, const DzRows& dz) {
  using V = Vec<T>;
  const std::ptrdiff_t n = loss.classes;
  T largest[R], at_label[R];
  row_max(largest, z, n);
  // Read before dz, which may be z, is written.
  for (int r = 0; r < R; ++r) at_label[r] = load_element<T>(z.at(r, loss.labels[row + r]));
  double totals[R], at_label_exp[R];
  exponentials<T, R>(totals, z, dz, n, largest, [](auto...) NNFAST_INLINED {});
  V factor[R];
  for (int r = 0; r < R; ++r) {
    at_label_exp[r] = load_element<T>(dz.at(r, loss.labels[row + r]));
    factor[r] = broadcast<V>(static_cast<T>(loss.gradient_scale / totals[r]));
  }
  for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
    unrolled<R>([&](int r) NNFAST_INLINED { dz.store(r, i, dz.load(r, i, count, T{0}) * factor[r], count); });
  });
  for (int r = 0; r < R; ++r) {
    const double total = totals[r];
    const double gradient = (at_label_exp[r] - total) / total * loss.gradient_scale;
    store_element(dz.at(r, loss.labels[row + r]), static_cast<T>(gradient));
    const double shifted =
        at_label[r] == largest[r] ? 0.0 : static_cast<double>(at_label[r]) - static_cast<double>(largest[r]);
    loss.losses[row + r] = log_or_nan(total) - shifted;
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

}  // namespace

namespace NNFAST_ISA {

extern const LossKernels losses;
const LossKernels losses = {softmax_cross_entropy<float>, softmax_cross_entropy<double>};

}  // namespace NNFAST_ISA
}  // namespace nnfast
