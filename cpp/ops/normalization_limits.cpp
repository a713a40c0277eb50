// Sets scaled down to a Euclidean norm, by the sums and the map of normalisation.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/normalization.hpp"
#include "ops/normalization_maps.hpp"

namespace nnfast {

using namespace norms;

namespace {

// The second of the sums that `sums_of` takes of each set.
std::vector<double> second_sums(SetSumsFn sums_of, const Normalization& norm, double ns) {
  std::vector<double> second = one_per_set(norm);
  const auto put = [&](const UnitSums& sums, Index set, Index set_end) {
    std::copy_n(&sums[kSetTile], set_end - set, &second[static_cast<std::size_t>(set)]);
  };
  if (sets_suffice(norm)) {
    over_units(norm, ns, [&](Index set, Index set_end) {
      put(chunk_sums(sums_of, norm, set, set_end, 0, norm.member_count), set, set_end);
    });
  } else {
    with_shared_sums(sums_of, norm, ns,
                     [&](Index set, Index set_end, const UnitSums& sums) { put(sums, set, set_end); });
  }
  return second;
}

// limit / norm of a set of doubles whose squares overflow: by quotients by the largest. 1 where one is no number.
double factor_of_large(const Normalization& norm, Index set, double limit) {
  const char* first = norm.data[0] + offset_in(norm.sets, 0, set);
  const auto value = [&](Index i) {
    double v;
    std::memcpy(&v, first + offset_in(norm.members, 0, i), sizeof v);
    return v;
  };
  double largest = 0, squares = 0;
  for (Index i = 0; i < norm.member_count; ++i) largest = std::max(largest, std::abs(value(i)));
  for (Index i = 0; i < norm.member_count; ++i) squares += value(i) / largest * (value(i) / largest);
  return squares > 0 ? std::min(1.0, limit / largest / std::sqrt(squares)) : 1;
}

}  // namespace

void limit_norms(Dtype dtype, Normalization norm, double limit) {
  if (empty(norm)) return;
  const SetKernels& kernels = kernels_of(dtype);
  const std::vector<double> zeros = one_per_set(norm), ones(zeros.size(), 1.0);
  norm.origin = zeros.data();
  std::vector<double> factors = second_sums(kernels.moments, norm, kMoments.ns);  // squares, so far
  bool any = false;
  for (std::size_t s = 0; s < factors.size(); ++s) {
    const double size = std::sqrt(factors[s]);
    if (dtype == Dtype::f64 && !std::isfinite(size)) {
      factors[s] = factor_of_large(norm, static_cast<Index>(s), limit);
    } else {
      factors[s] = size > limit ? limit / size : 1;
    }
    any |= factors[s] != 1;
  }
  if (!any) return;
  norm.data[2] = norm.data[0];
  norm.gamma = ones.data();
  norm.inv_std = factors.data();
  map_gradient(kernels, norm);
}

}  // namespace nnfast
