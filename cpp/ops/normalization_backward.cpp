// The gradients of normalisation.
#include <algorithm>
#include <utility>

#include "kernels/sums.hpp"
#include "ops/normalization.hpp"
#include "ops/normalization_images.hpp"

namespace nnfast {

using namespace norms;

namespace {

// The sums over dy, for each set and segment; and those that dx takes of each set:
// dx = (gamma dy - offset - (x - mean) slope) inv_std.
class GradientSums {
 public:
  GradientSums(const SetKernels& kernels, const Normalization& norm)
      : kernels_(kernels),
        norm_(norm),
        offset_(one_per_set(norm)),
        slope_(one_per_set(norm)),
        dy_(static_cast<std::size_t>(norm.set_count * norm.segments)),
        dy_centred_(dy_.size()) {}

  const double* offset() const { return offset_.data(); }
  const double* slope() const { return slope_.data(); }

  void sum_unit(Index set, Index set_end) {
    for (Index segment = 0; segment < norm_.segments; ++segment) {
      const Index first = segment * norm_.segment;
      put(chunk_sums(kernels_.gradient_sums, norm_, set, set_end, first, first + norm_.segment), set, set_end, segment);
    }
  }
  // Of some groups.
  void sum_groups(const Normalization& part, Index set, Index set_end) {
    const SumsOfChannels sums(kernels_.gradient_sums, part, norm_.segments);
    for (Index segment = 0; segment < norm_.segments; ++segment) put(sums.of(segment), set, set_end, segment);
  }
  // Of all units, which threads share.
  void sum_all() {
    if (sets_suffice(norm_))
      return over_units(norm_, kGradientSums.ns, [&](Index set, Index set_end) { sum_unit(set, set_end); });
    with_shared_sums(kernels_.gradient_sums, norm_, kGradientSums.ns,
                     [&](Index set, Index set_end, const UnitSums& sums) { put(sums, set, set_end, 0); });
  }

  // Sums over the images of a batch, one for each parameter.
  ParameterGradients gradients() && {
    add_images(dy_centred_);
    add_images(dy_);
    return {std::move(dy_centred_), std::move(dy_)};
  }

 private:
  const SetKernels& kernels_;
  const Normalization& norm_;
  std::vector<double> offset_, slope_, dy_, dy_centred_;

  void put(const UnitSums& sums, Index set, Index set_end, Index segment) {
    const double share = 1 / static_cast<double>(norm_.member_count);
    Index group = set % norm_.groups;
    for (Index k = 0; k < set_end - set; ++k) {
      const auto s = static_cast<std::size_t>(set + k), at = s * norm_.segments + segment;
      const double gamma = norm_.gamma[group * norm_.segments + segment];
      if (++group == norm_.groups) group = 0;
      const double dy = sums[k], centred = sums[kSetTile + k];
      dy_[at] = dy;
      dy_centred_[at] = centred * norm_.inv_std[s];
      offset_[s] += gamma * dy * share;
      slope_[s] += gamma * centred * norm_.inv_std[s] * share * norm_.inv_std[s];
    }
  }

  void add_images(std::vector<double>& sums) const {
    const Index parameters = norm_.groups * norm_.segments;
    sums.resize(std::max(sums.size(), static_cast<std::size_t>(parameters)));  // there may be no images
    for (Index i = 0; i < parameters; ++i) sums[i] += 0.0;                     // no sum is -0
    for (auto i = static_cast<std::size_t>(parameters); i < sums.size(); i += parameters)
      kernels().sums->add_rows.f64(reinterpret_cast<const char*>(sums.data() + i), 0, sizeof(double), 1, parameters,
                                   sums.data());
  }
};

}  // namespace

ParameterGradients normalise_backward(Dtype dtype, Normalization norm, bool own) {
  const SetKernels& kernels = kernels_of(dtype);
  GradientSums sums(kernels, norm);
  if (empty(norm)) return std::move(sums).gradients();
  norm.offset = own ? sums.offset() : nullptr;
  norm.slope = own ? sums.slope() : nullptr;
  norm.stream = streams(norm, dtype, kInputGradient);
  constexpr double ns = kGradientSums.ns + kInputGradient.ns;
  // The sums of gradients are always those of channels.
  if (by_channels(norm, dtype) || sets_turned(norm, dtype) > 0) {
    set_prefetches(norm, dtype, groups_together(norm));
    over_groups(norm, ns, [&](Index set, Index set_end) {
      Normalization part = channels_of(norm, set, set_end);
      const auto of_channels = [&](const double* of_sets) { return for_channels(of_sets + set, part, norm.segments); };
      const std::vector<double> mean = of_channels(norm.mean), inv_std = of_channels(norm.inv_std);
      part.mean = mean.data();
      part.inv_std = inv_std.data();
      sums.sum_groups(part, set, set_end);
      const std::vector<double> offset = of_channels(sums.offset()), slope = of_channels(sums.slope());
      part.offset = offset.data();
      part.slope = slope.data();
      map_channels(kernels, kernels.backward_constants, kernels.gradient, part, part.data[2]);
    });
  } else if (sets_suffice(norm) && !norm.across) {
    set_prefetches(norm, dtype, multiple(norm));
    over_units(norm, scaled(ns, dtype), [&](Index set, Index set_end) {
      sums.sum_unit(set, set_end);
      kernels.gradient(norm, set, set_end, 0, norm.member_count);
    });
  } else {
    sums.sum_all();
    map_gradient(kernels, norm);
  }
  return std::move(sums).gradients();
}

ParameterGradients parameter_gradients(Dtype dtype, const Normalization& norm) {
  GradientSums sums(kernels_of(dtype), norm);
  if (!empty(norm)) sums.sum_all();
  return std::move(sums).gradients();
}

void input_gradient(Dtype dtype, Normalization norm, const double* dgamma, const double* dbeta, std::ptrdiff_t count) {
  if (empty(norm)) return;
  const double share = 1 / static_cast<double>(count);
  std::vector<double> offset = one_per_set(norm), slope = one_per_set(norm);
  for (Index c = 0; c < norm.set_count; ++c) {
    offset[c] = norm.gamma[c] * dbeta[c] * share;
    slope[c] = norm.gamma[c] * dgamma[c] * share * norm.inv_std[c];
  }
  norm.offset = offset.data();
  norm.slope = slope.data();
  norm.stream = streams(norm, dtype, kInputGradient);
  map_gradient(kernels_of(dtype), norm);
}

}  // namespace nnfast
