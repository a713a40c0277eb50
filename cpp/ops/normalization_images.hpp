// Images: those whose channels come last are turned, and groups of channels summed channel by channel.
#pragma once

#include "kernels/matrix.hpp"
#include "ops/normalization.hpp"
#include "ops/normalization_maps.hpp"
#include "ops/row_tiles.hpp"

namespace nnfast::norms {

// ---- sets that are turned ----

// How many neighbouring sets are turned together: those of images whose channels come last, the members of which lie
// apart while the channels are neighbours, a line of the cache of them. 0: the sets are taken as they lie.
inline Index sets_turned(const Normalization& norm, Dtype dtype) {
  const Index size = size_of(dtype);
  const bool channels_inside = norm.segments > 1;  // a set, and so the outer of its axes
  const int last = norm.members.count - 1, last_of_sets = norm.sets.count - 1;
  if (norm.across || norm.bits || norm.segment == 1 || last != (channels_inside ? 1 : 0)) return 0;
  if (!channels_inside && (last_of_sets < 0 || norm.sets.shape[last_of_sets] != norm.groups)) return 0;
  for (int a = 0; a < kNormalizedArrays; ++a) {
    if (!norm.data[a]) continue;
    const Index channel = channels_inside ? norm.members.strides[a][0] : norm.sets.strides[a][last_of_sets];
    if (channel != size || norm.members.strides[a][last] == size) return 0;
  }
  return std::clamp<Index>(kLine / (norm.segments * size), 1, norm.groups);
}

// Pixels of an image, whose channels are neighbours, to or from contiguous rows of the channels: some at a time, whose
// lines stay in the first-level cache, while those of the next are asked for.
template <class Copy>
void for_pixels(const Matrix& lying, const Matrix& turned, Index pixels, Copy copy) {
  constexpr Index kTogether = 32;
  for (Index first = 0; first < pixels; first += kTogether) {
    const Index count = std::min(kTogether, pixels - first);
    const char* ahead = lying.data + (first + count) * lying.stride;
    for (Index p = 0; p < std::min(kTogether, pixels - first - count); ++p)
      __builtin_prefetch(ahead + p * lying.stride);
    copy(Matrix{lying.data + first * lying.stride, lying.row_stride, lying.stride},
         Matrix{turned.data + first * turned.stride, turned.row_stride, turned.stride}, count);
  }
}

// Calls body(part, set) for all sets, `together` of them turned: the sets of `part` are those from `set` on. The
// result takes the place of the input.
template <class Body>
void over_turned(const Normalization& norm, Dtype dtype, Index together, double ns_per_element, Body body) {
  const Index size = size_of(dtype), pixels = norm.segment, n = norm.member_count;
  const Index per_image = (norm.groups + together - 1) / together, units = norm.set_count / norm.groups * per_image;
  const Index shares = std::min<Index>(units, 2 * thread_limit());
  const Index bytes = together * n * size + kLine;  // buffers a power of two apart would share sets of the cache
  const auto room = std::make_unique_for_overwrite<char[]>(static_cast<std::size_t>(shares * bytes));
  const auto of_unit = [&](Index unit, char* buffer) {
    const Index group = unit % per_image * together, set = unit / per_image * norm.groups + group;
    Normalization part = norm;
    part.set_count = part.groups = part.sets.shape[0] = std::min(together, norm.groups - group);
    part.sets.count = part.members.count = 1;
    part.members.shape[0] = n;
    part.gamma += group * norm.segments;
    for (const double** of_sets : {&part.beta, &part.origin, &part.mean, &part.inv_std, &part.offset, &part.slope})
      if (*of_sets) *of_sets += of_sets == &part.beta ? group * norm.segments : set;
    Matrix lying[kNormalizedArrays], turned[kNormalizedArrays];
    for (const int a : {0, 1}) {
      lying[a] = {norm.data[a] + offset_in(norm.sets, a, set), size, norm.members.strides[a][norm.members.count - 1]};
      turned[a] = {buffer, pixels * size, size};
      part.data[a] = turned[a].data;
      part.sets.strides[a][0] = n * size;
      part.members.strides[a][0] = size;
    }
    const Index channels = part.set_count * norm.segments;
    for_pixels(lying[0], turned[0], pixels,
               [&](const Matrix& from, const Matrix& to, Index count) { copy_rows(dtype, from, to, channels, count); });
    body(static_cast<const Normalization&>(part), set);
    for_pixels(lying[1], turned[1], pixels,
               [&](const Matrix& to, const Matrix& from, Index count) { copy_rows(dtype, from, to, channels, count); });
  };
  const double elements = static_cast<double>(norm.set_count * n) / static_cast<double>(shares);
  parallel_for(shares, ns_per_element * elements, [&](Index begin, Index end) {
    for (Index share = begin; share < end; ++share)
      for (Index unit = share * units / shares; unit < (share + 1) * units / shares; ++unit)
        of_unit(unit, &room[static_cast<std::size_t>(share * bytes)]);
  });
}

// ---- groups whose channels are summed one by one ----

// Members of a channel from which on the channels of a group are summed by themselves: the lanes of a vector may then
// be channels or members, whichever lie closer. For fewer the sums of every channel would take longer than the channel.
constexpr Index kOwnSums = 512;

// Whether a set's channels are walked as sets of their own. Of several channels it must follow from the shape alone, as
// the order of the sums does.
inline bool by_channels(const Normalization& norm, Dtype dtype) {
  if (norm.across || norm.bits) return false;
  return norm.segments > 1 ? norm.segment >= kOwnSums : sets_turned(norm, dtype) > 0;
}

inline void remove_axis(Axes& axes, int axis) {
  --axes.count;
  for (int d = axis; d < axes.count; ++d) {
    axes.shape[d] = axes.shape[d + 1];
    for (auto& strides : axes.strides) strides[d] = strides[d + 1];
  }
}

// The channels of the sets [set, set_end), which are groups of one image, as sets.
inline Normalization channels_of(const Normalization& norm, Index set, Index set_end) {
  const Index together = norm.segments, first = set % norm.groups * together;
  Normalization part = norm;
  part.set_count = part.groups = part.sets.shape[0] = (set_end - set) * together;
  part.member_count = part.segment = norm.segment;
  part.segments = part.sets.count = 1;
  part.halves = false;
  part.gamma += first;
  if (norm.beta) part.beta += first;
  // Of several channels the outermost axis of the members is theirs, perhaps merged with others.
  const bool inside = together > 1;
  const Axes& outer = inside ? norm.members : norm.sets;
  const int axis = inside ? 0 : norm.sets.count - 1;
  const Index merged = inside ? norm.members.shape[0] / together : 1;
  for (int a = 0; a < kNormalizedArrays; ++a) {
    if (norm.data[a]) part.data[a] += offset_in(norm.sets, a, set);
    part.sets.strides[a][0] = merged * outer.strides[a][axis];
  }
  if (inside) part.members.shape[0] = merged;
  if (inside && merged == 1) remove_axis(part.members, 0);
  part.across = sets_lie_closer(part);
  return part;
}

// Values of groups, once for each channel.
inline std::vector<double> for_channels(const double* of_groups, const Normalization& part, Index together) {
  std::vector<double> values(static_cast<std::size_t>(part.set_count));
  for (Index c = 0; c < part.set_count; ++c) values[c] = of_groups[c / together];
  return values;
}

// The sums of every channel of some groups.
class SumsOfChannels {
 public:
  SumsOfChannels(SetSumsFn sums_of, const Normalization& part, Index together)
      : together_(together), count_(part.set_count), sums_(static_cast<std::size_t>(kSums * count_)) {
    for (Index c = 0; c < count_; c += kSetTile) {
      const Index end = std::min(c + kSetTile, count_);
      const UnitSums some = chunk_sums(sums_of, part, c, end, 0, part.member_count);
      for (Index term = 0; term < kSums; ++term)
        std::copy_n(&some[term * kSetTile], end - c, &sums_[term * count_ + c]);
    }
  }
  // Of one channel of each group.
  UnitSums of(Index channel) const {
    UnitSums sums;
    for (Index term = 0; term < kSums; ++term)
      for (Index k = 0; k < count_ / together_; ++k)
        sums[term * kSetTile + k] = sums_[term * count_ + k * together_ + channel];
    return sums;
  }
  // Of all channels of each group.
  UnitSums of_groups() const {
    Totals totals(count_ / together_);
    for (Index channel = 0; channel < together_; ++channel) totals.add(of(channel).data());
    return totals.result();
  }

 private:
  Index together_, count_;
  std::vector<double> sums_;
};

// A map of the channels of some groups, with what it takes of each.
inline void map_channels(const SetKernels& kernels, void (*constants)(const Normalization&), SetMapFn map,
                         const Normalization& part, const char* to) {
  if (!part.across) return map(part, 0, part.set_count, 0, part.member_count);
  const WithConstants with(kernels, part, to);
  constants(*with);
  map(*with, 0, part.set_count, 0, part.member_count);
}

// How many groups of an image are taken together: their channels fill the lanes or, at least, stay in the first-level
// cache.
inline Index groups_together(const Normalization& norm) {
  const Index closer = channels_of(norm, 0, 1).across ? kSetTile / norm.segments : kUnitElements / norm.member_count;
  return std::clamp<Index>(closer, 1, std::min<Index>(norm.groups, kSetTile));
}

// Calls body(set, set_end) for groups of one image each.
template <class Body>
void over_groups(const Normalization& norm, double ns_per_element, Body body) {
  const Index together = groups_together(norm);
  const Index per_image = (norm.groups + together - 1) / together, units = norm.set_count / norm.groups * per_image;
  const Index elements = together * norm.member_count;
  parallel_for(units, ns_per_element * static_cast<double>(elements), [&](Index begin, Index end) {
    for (Index unit = begin; unit < end; ++unit) {
      const Index group = unit % per_image * together, image = unit / per_image * norm.groups;
      body(image + group, image + std::min(group + together, norm.groups));
    }
  });
}

}  // namespace nnfast::norms
