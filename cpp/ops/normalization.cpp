#include "ops/normalization.hpp"

#include <atomic>
#include <cstdlib>

#include "ops/normalization_images.hpp"

namespace nnfast {

using namespace norms;

namespace {

void find_origins(const SetKernels& kernels, const Normalization& norm, Index set, Index set_end, double* origin) {
  kernels.origins(norm, set, set_end, origin + set);
  const Index members = std::min(kernels.origin_members, norm.member_count);
  if (members == 1 || !norm.across) return;
  for_units(norm, set, set_end, [&](Index first, Index last) {
    UnitSums sums;
    kernels.moments(norm, first, last, 0, members, sums.data(), kSetTile);
    for (Index s = first; s < last; ++s)
      origin[s] += sums[static_cast<std::size_t>(s - first)] / static_cast<double>(members);
  });
}

// Moments about the origin that a few members give, and, where that turns out to lie too far off, once more about the
// mean.
void moments_of_unit(const SetKernels& kernels, const Normalization& norm, Index set, Index set_end, double* origin,
                     const SetStatistics& to) {
  find_origins(kernels, norm, set, set_end, origin);
  for (int round = 0; round < 2; ++round) {
    const UnitSums sums = chunk_sums(kernels.moments, norm, set, set_end, 0, norm.member_count);
    if (!kernels.finish_moments(norm, sums.data(), kSetTile, origin, to, set, set_end)) break;
  }
}

void shared_moments(const SetKernels& kernels, const Normalization& norm, double* origin, const SetStatistics& to) {
  over_units_of(norm, kMoments.ns * static_cast<double>(kernels.origin_members),
                [&](Index set, Index set_end) { find_origins(kernels, norm, set, set_end, origin); });
  for (int round = 0; round < 2; ++round) {
    std::atomic<bool> moved = false;
    with_shared_sums(kernels.moments, norm, kMoments.ns, [&](Index set, Index set_end, const UnitSums& sums) {
      if (kernels.finish_moments(norm, sums.data(), kSetTile, origin, to, set, set_end)) moved = true;
    });
    if (!moved) break;
  }
}

void normalise_groups(const SetKernels& kernels, const Normalization& norm, double* origin,
                      const SetStatistics& statistics) {
  over_groups(norm, kMoments.ns + kMap.ns, [&](Index set, Index set_end) {
    Normalization part = channels_of(norm, set, set_end);
    find_origins(kernels, norm, set, set_end, origin);
    for (int round = 0; round < 2; ++round) {
      const std::vector<double> origins = for_channels(origin + set, part, norm.segments);
      part.origin = origins.data();
      const UnitSums sums = SumsOfChannels(kernels.moments, part, norm.segments).of_groups();
      if (!kernels.finish_moments(norm, sums.data(), kSetTile, origin, statistics, set, set_end)) break;
    }
    const std::vector<double> mean = for_channels(statistics.mean + set, part, norm.segments);
    const std::vector<double> inv_std = for_channels(statistics.inv_std + set, part, norm.segments);
    part.mean = mean.data();
    part.inv_std = inv_std.data();
    map_channels(kernels, kernels.forward_constants, kernels.normalise, part, part.data[1]);
  });
}

}  // namespace

bool sets_lie_closer(const Normalization& norm) {
  if (norm.members.count == 0) return true;
  return std::abs(norm.sets.strides[0][0]) < std::abs(norm.members.strides[0][norm.members.count - 1]);
}

void set_moments(Dtype dtype, Normalization norm, const SetStatistics& statistics) {
  if (empty(norm)) return;
  const SetKernels& kernels = kernels_of(dtype);
  std::vector<double> origin = one_per_set(norm);
  norm.origin = origin.data();
  if (!sets_suffice(norm)) return shared_moments(kernels, norm, origin.data(), statistics);
  over_units(norm, kMoments.ns, [&](Index set, Index set_end) {
    moments_of_unit(kernels, norm, set, set_end, origin.data(), statistics);
  });
}

void normalise_by_own(Dtype dtype, Normalization norm, const SetStatistics& statistics) {
  if (empty(norm)) return;
  const SetKernels& kernels = kernels_of(dtype);
  norm.mean = statistics.mean;
  norm.inv_std = statistics.inv_std;
  norm.stream = streams(norm, dtype, kMap);
  const Index turned = sets_turned(norm, dtype);
  if (turned == 0 && (norm.across || !sets_suffice(norm))) {
    set_moments(dtype, norm, statistics);
    return normalise(kernels, norm);
  }
  std::vector<double> origin = one_per_set(norm);
  norm.origin = origin.data();
  if (by_channels(norm, dtype)) {
    set_prefetches(norm, dtype, groups_together(norm));
    return normalise_groups(kernels, norm, origin.data(), statistics);
  }
  if (turned > 0) {
    norm.stream = false;
    return over_turned(norm, dtype, turned, kMoments.ns + kMap.ns, [&](const Normalization& part, Index first) {
      const SetStatistics of_part{statistics.mean + first, statistics.variance + first, statistics.inv_std + first};
      for_units(part, 0, part.set_count, [&](Index set, Index set_end) {
        moments_of_unit(kernels, part, set, set_end, origin.data() + first, of_part);
        kernels.normalise(part, set, set_end, 0, part.member_count);
      });
    });
  }
  // Unit after unit: the second pass finds it in the cache.
  set_prefetches(norm, dtype, multiple(norm));
  over_units(
      norm, scaled(kMoments.ns + kMap.ns, dtype),
      [&](Index set, Index set_end) {
        moments_of_unit(kernels, norm, set, set_end, origin.data(), statistics);
        kernels.normalise(norm, set, set_end, 0, norm.member_count);
      },
      moments_of_set_ns(dtype));
}

void normalise_by_given(Dtype dtype, Normalization norm, const SetStatistics& statistics) {
  kernels().normalization->invert(statistics.variance, norm.eps, statistics.inv_std, norm.set_count);
  if (empty(norm)) return;
  norm.mean = statistics.mean;
  norm.inv_std = statistics.inv_std;
  norm.stream = streams(norm, dtype, kMap);
  normalise(kernels_of(dtype), norm);
}

}  // namespace nnfast
