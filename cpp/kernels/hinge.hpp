// The multiclass hinge loss: sum over j != label of max(0, z_j - z_label + margin), or of its square.
#pragma once

#include "kernels/loss_rows.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

// The true class is left out of both sums; its gradient is minus the sum of the others'.
template <class T, int R, bool squared, class ZRows, class DzRows>
NNFAST_INLINE void hinge_rows(const Hinge& loss, std::ptrdiff_t row, const ZRows& z, const DzRows& dz) {
  using V = Vec<T>;
  const RowFactors<R> factors(loss, row);
  V offset[R];
  T margin_at_label[R], slope[R];
  for (int r = 0; r < R; ++r) {
    const T label = load_element<T>(z.at(r, loss.labels[row + r]));
    offset[r] = broadcast<V>(static_cast<T>(loss.margin) - label);
    margin_at_label[r] = label + (static_cast<T>(loss.margin) - label);
    slope[r] = static_cast<T>((squared ? 2 : 1) * factors.gradient[r]);
  }
  BlockSum<T> sums[R], above[R];
  for_blocks<T>(loss.classes, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    unrolled<R>([&](int r) NNFAST_INLINED {
      const V m = first_lanes(z.load(r, i, count, T{0}) + offset[r], count);
      const V over = max(V{}, m);
      const V active = squared ? over : (m <= 0 ? V{} : broadcast<V>(1));
      if constexpr (squared) {
        sums[r].add_product(over, over, part);
      } else {
        sums[r].add(over, part);
      }
      above[r].add(active, part);
      dz.store(r, i, active * slope[r], count);
    });
  });
  for (int r = 0; r < R; ++r) {
    const double margin = margin_at_label[r] > 0 ? static_cast<double>(margin_at_label[r]) : 0;
    loss.losses[row + r] = (sums[r].total() - (squared ? margin * margin : margin)) * factors.weight[r];
    const double others = squared ? 2 * (above[r].total() - margin) : above[r].total() - (margin > 0 ? 1 : 0);
    store_element(dz.at(r, loss.labels[row + r]), static_cast<T>(-others * factors.gradient[r]));
  }
}

// A row of weight 0, or one with a score, or a margin in float, that is not finite.
template <class T>
[[gnu::noinline]] void special_hinge_row(const Hinge& loss, std::ptrdiff_t row) {
  const auto z = strided_rows<T>(loss.scores, row), dz = strided_rows<T>(loss.dscores, row);
  const RowFactors<1> factors(loss, row);
  const std::int64_t label = loss.labels[row];
  const bool none = factors.weight[0] == 0;
  const double at_label = load_element<T>(z.at(0, label));
  double sum = 0, others = 0;
  for (std::ptrdiff_t j = 0; j < loss.classes; ++j) {
    if (j == label) continue;
    const double m = none ? 0 : static_cast<double>(load_element<T>(z.at(0, j))) - at_label + loss.margin;
    const double active = m <= 0 ? 0 : (loss.squared ? 2 * m : (m > 0 ? 1 : m));
    if (active != 0) sum += loss.squared ? m * m : m;
    others += active;
    store_element(dz.at(0, j), static_cast<T>(active * factors.gradient[0]));
  }
  loss.losses[row] = none ? 0 : sum * factors.weight[0];
  store_element(dz.at(0, label), static_cast<T>(others == 0 ? 0 : -others * factors.gradient[0]));
}

// Whether the sum of a row is not finite, before the row is overwritten.
template <class T>
NNFAST_INLINE bool overflows(const Hinge& loss, std::ptrdiff_t row) {
  using V = Vec<T>;
  const auto z = strided_rows<T>(loss.scores, row);
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

template <class T, bool squared>
[[gnu::noinline]] void checked_hinge_row(const Hinge& loss, std::ptrdiff_t row) {
  if ((loss.row_weights && loss.row_weights[row] == 0) || overflows<T>(loss, row))
    return special_hinge_row<T>(loss, row);
  hinge_rows<T, 1, squared>(loss, row, strided_rows<T>(loss.scores, row), strided_rows<T>(loss.dscores, row));
}

// The sum of a row tells whether it is special; in place, that comes too late. Squares are taken one row at a time:
// they are rare.
template <class T>
void hinge(const Hinge& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  const ExceptionScope exceptions;
  if (loss.squared) {
    for (std::ptrdiff_t row = row_begin; row < row_end; ++row) checked_hinge_row<T, true>(loss, row);
    return;
  }
  const bool in_place = loss.scores.data == loss.dscores.data, checked = in_place || loss.row_weights;
  for_rows<T>(
      row_begin, row_end,
      [&](auto count, std::ptrdiff_t row, auto z, auto dz) NNFAST_INLINED {
        bool special = false;
        for (int r = 0; checked && r < count; ++r)
          special |= (loss.row_weights && loss.row_weights[row + r] == 0) || (in_place && overflows<T>(loss, row + r));
        if (special) [[unlikely]] {
          for (int r = 0; r < count; ++r) checked_hinge_row<T, false>(loss, row + r);
          return;
        }
        hinge_rows<T, count, false>(loss, row, z, dz);
        for (int r = 0; r < count; ++r)
          if (!(loss.losses[row + r] < kInfinity)) [[unlikely]]
            special_hinge_row<T>(loss, row + r);
      },
      loss.scores, loss.dscores);
}

}  // namespace
}  // namespace nnfast
