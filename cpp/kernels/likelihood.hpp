// The negative log-likelihood of labels under logarithms of probabilities: -z_label.
#pragma once

#include "kernels/loss_rows.hpp"

namespace nnfast {
namespace {

// The gradient is 0 but at the label: it is cleared first, all rows together where they lie end to end. dz may be z,
// so the losses come before.
template <class T>
void negative_log_likelihood(const LossRows& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  const std::ptrdiff_t n = loss.classes;
  const auto at = [&](const Matrix& m, std::ptrdiff_t row) {
    return m.data + row * m.row_stride + static_cast<std::ptrdiff_t>(loss.labels[row]) * m.stride;
  };
  for (std::ptrdiff_t row = row_begin; row < row_end; ++row) {
    const double weight = RowFactors<1>(loss, row).weight[0];
    loss.losses[row] = weight == 0 ? 0 : -static_cast<double>(load_element<T>(at(loss.scores, row))) * weight;
  }
  const Matrix& dz = loss.dscores;
  const bool flat = is_contiguous<T>(dz) && dz.row_stride == n * dz.stride;
  const std::ptrdiff_t length = flat ? n * (row_end - row_begin) : n;
  for (std::ptrdiff_t row = row_begin; row < row_end; row += flat ? row_end - row_begin : 1) {
    const auto cleared = strided_rows<T>(dz, row);
    for_vectors<T>(
        length, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED { cleared.store(0, i, Vec<T>{}, count); });
  }
  for (std::ptrdiff_t row = row_begin; row < row_end; ++row) {
    const RowFactors<1> factors(loss, row);
    if (factors.weight[0] == 0) continue;
    const double value = loss.losses[row];  // NaN is seen in the gradient, too
    store_element(at(dz, row), static_cast<T>(value == value ? -factors.gradient[0] : value));
  }
}

}  // namespace
}  // namespace nnfast
