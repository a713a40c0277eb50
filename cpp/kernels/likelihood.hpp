// The negative log-likelihood of labels under logarithms of probabilities: -z_label.
#pragma once

#include "kernels/loss_rows.hpp"

namespace nnfast {
namespace {

// The gradient is 0 but at the label: it is cleared first. dz may be z, so the losses come before.
template <class T>
void negative_log_likelihood(const LossRows& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  const auto at = [&](const Matrix& m, std::ptrdiff_t row) {
    return m.data + row * m.row_stride + static_cast<std::ptrdiff_t>(loss.labels[row]) * m.stride;
  };
  for (std::ptrdiff_t row = row_begin; row < row_end; ++row) {
    const double weight = RowFactors<1>(loss, row).weight[0];
    loss.losses[row] = weight == 0 ? 0 : -static_cast<double>(load_element<T>(at(loss.scores, row))) * weight;
  }
  const Matrix& dz = loss.dscores;
  clear_rows<T>(dz, loss.classes, row_begin, row_end);
  for (std::ptrdiff_t row = row_begin; row < row_end; ++row) {
    const RowFactors<1> factors(loss, row);
    if (factors.weight[0] == 0) continue;
    const double value = loss.losses[row];  // NaN is seen in the gradient, too
    store_element(at(dz, row), static_cast<T>(value == value ? -factors.gradient[0] : value));
  }
}

}  // namespace
}  // namespace nnfast
