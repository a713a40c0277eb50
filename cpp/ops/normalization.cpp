#include "ops/normalization.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "kernels/sums.hpp"
#include "ops/costs.hpp"
#include "ops/row_tiles.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

using Index = std::ptrdiff_t;

constexpr Cost kMoments = cost_of("norm_moments"), kMap = cost_of("norm_map"),
               kGradientSums = cost_of("norm_gradient_sums"), kInputGradient = cost_of("norm_input_gradient"),
               kSet = cost_of("norm_set");
constexpr std::ptrdiff_t kLine = 64;  // bytes
// Elements of x that stay in a core's first-level cache from one pass to the next.
constexpr Index kUnitElements = Index{1} << 12;
// A thread takes a multiple of so many rows.
constexpr Index kRowsMultiple = 8;
// Members, and elements in all, from which on the halves of a batch are summed on their own.
constexpr Index kFewestHalved = 64, kHalvedElements = Index{1} << 15;
// Below so many elements two passes whose lanes are sets are quicker on one thread: the second would find half of them
// in another core's cache.
constexpr Index kFewElements = Index{1} << 17;

const SetKernels& kernels_of(Dtype dtype) { return kernels().normalization->sets[dtype]; }

Index offset_in(const Axes& axes, int array, Index position) {
  Index offset = 0;
  for (int d = axes.count - 1; d >= 0; position /= axes.shape[d--])
    offset += position % axes.shape[d] * axes.strides[array][d];
  return offset;
}

bool empty(const Normalization& norm) { return norm.set_count == 0 || norm.member_count == 0; }
// Whether the sums of both halves of a dense batch are taken on their own: two threads then have a half of the rows
// each, in the maps too, and find them in their caches. It must follow from the shape alone, as the order of the sums
// does.
bool is_halved(const Normalization& norm) {
  return norm.halves && norm.member_count >= kFewestHalved && norm.member_count <= kMemberChunk &&
         norm.set_count * norm.member_count >= kHalvedElements;
}
bool stays_on_one_thread(const Normalization& norm) {
  return norm.across && !is_halved(norm) && norm.set_count * norm.member_count < kFewElements && forced_grain() == 0;
}
// Not where an array is written in place.
bool streams(const Normalization& norm, Dtype dtype, const Cost& cost) {
  bool apart = true;
  for (int a = 0; a < kNormalizedArrays; ++a)
    for (int b = 0; b < a; ++b) apart &= !norm.data[a] || norm.data[a] != norm.data[b];
  return apart && streams(norm.set_count * norm.member_count * size_of(dtype), cost);
}
// Members whose sums are taken on their own: what a thread of two is given of the rows, or a fixed number.
Index chunk_size(const Normalization& norm) {
  if (!is_halved(norm)) return kMemberChunk;
  const Index units = (norm.member_count + kRowsMultiple - 1) / kRowsMultiple;
  return (units - units / 2) * kRowsMultiple;
}
Index chunks_of(const Normalization& norm) { return (norm.member_count + chunk_size(norm) - 1) / chunk_size(norm); }
// Sets that kernels take together, a unit: a tile of lanes; else as many small ones as stay in the first-level cache.
Index multiple(const Normalization& norm) {
  if (norm.across) return kSetTile;
  return std::clamp<Index>(kUnitElements / norm.member_count, 1, kSetTile);
}
Index unit_count(const Normalization& norm) { return (norm.set_count + multiple(norm) - 1) / multiple(norm); }

// Whether a set stays with one thread, whose cache then has it for the second pass: enough of them for all threads to
// be busy to the end. Else the members of a set are shared too.
bool sets_suffice(const Normalization& norm) {
  if (norm.across && is_halved(norm)) return false;
  return norm.segments > 1 || norm.member_count <= kMemberChunk || unit_count(norm) >= 4 * thread_limit();
}

// Calls body(set, set_end) for the units of some sets.
template <class Body>
void for_units(const Normalization& norm, Index set, Index set_end, Body body) {
  for (; set < set_end; set += multiple(norm)) body(set, std::min(set + multiple(norm), set_end));
}

// Calls body(set, set_end) for the units of sets, each of which takes so long, shared among threads.
template <class Body>
void over_units_of(const Normalization& norm, double ns_per_set, Body body) {
  parallel_for(
      norm.set_count, ns_per_set, [&](Index begin, Index end) { for_units(norm, begin, end, body); }, multiple(norm));
}
template <class Body>
void over_units(const Normalization& norm, double ns_per_element, Body body) {
  if (stays_on_one_thread(norm)) return for_units(norm, 0, norm.set_count, body);
  over_units_of(norm, ns_per_element * static_cast<double>(norm.member_count), body);
}

// Calls body(set, set_end, chunk) for all units of all chunks, shared among threads: neighbouring members go to one.
template <class Body>
void over_chunks(const Normalization& norm, double ns_per_element, Body body) {
  const Index units = unit_count(norm);
  const auto elements =
      static_cast<double>(std::min(multiple(norm), norm.set_count) * std::min(chunk_size(norm), norm.member_count));
  parallel_for(units * chunks_of(norm), ns_per_element * elements, [&](Index begin, Index end) {
    for (Index item = begin; item < end; ++item) {
      const Index set = item % units * multiple(norm);
      body(set, std::min(set + multiple(norm), norm.set_count), item / units);
    }
  });
}

// ---- sets that are turned ----

// How many neighbouring sets are turned together: those of images whose channels come last, the members of which lie
// apart while the channels are neighbours, a line of the cache of them. 0: the sets are taken as they lie.
Index sets_turned(const Normalization& norm, Dtype dtype) {
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

// The sums of each set of a unit, kSums rows of kSetTile as a SetSumsFn gives them.
using UnitSums = std::array<double, kSums * kSetTile>;

// The sums over chunks, compensated.
class Totals {
 public:
  explicit Totals(Index sets) : sets_(sets) {
    for (double* terms : {sums_, lost_})
      for (Index term = 0; term < kTerms; ++term) std::fill_n(terms + term * kSetTile, sets, 0.0);
  }
  void add(const double* sums) {
    for (Index term = 0; term < kTerms; ++term)
      for (Index k = term * kSetTile; k < term * kSetTile + sets_; ++k) {
        const double sum = sums_[k] + sums[k], part = sum - sums_[k];
        lost_[k] += (sums_[k] - (sum - part)) + (sums[k] - part) + sums[k + kLost];
        sums_[k] = sum;
      }
  }
  UnitSums result() const {
    UnitSums result;
    for (Index term = 0; term < kTerms; ++term)
      for (Index k = term * kSetTile; k < term * kSetTile + sets_; ++k) {
        const bool finite = std::isfinite(sums_[k]);  // an infinite sum has lost NaN
        result[k] = finite ? sums_[k] + lost_[k] : sums_[k];
        result[k + kLost] = finite ? lost_[k] - (result[k] - sums_[k]) : 0;
      }
    return result;
  }

 private:
  static constexpr Index kLost = kTerms * kSetTile;
  Index sets_;
  double sums_[kLost], lost_[kLost];
};

// The sums over members [first, last) of a unit, chunk after chunk.
UnitSums chunk_sums(SetSumsFn sums_of, const Normalization& norm, Index set, Index set_end, Index first, Index last) {
  const Index chunk = chunk_size(norm);
  UnitSums sums;
  if (last - first <= chunk) {
    sums_of(norm, set, set_end, first, last, sums.data(), kSetTile);
    return sums;
  }
  Totals totals(set_end - set);
  for (Index begin = first; begin < last; begin += chunk) {
    sums_of(norm, set, set_end, begin, std::min(begin + chunk, last), sums.data(), kSetTile);
    totals.add(sums.data());
  }
  return totals.result();
}

// Calls use(set, set_end, sums) with the sums over all members of every unit, whose chunks threads share; on any
// thread.
template <class Use>
void with_shared_sums(SetSumsFn sums_of, const Normalization& norm, double ns_per_element, Use use) {
  const Index chunks = chunks_of(norm), size = chunk_size(norm);
  const auto sums = std::make_unique_for_overwrite<UnitSums[]>(static_cast<std::size_t>(unit_count(norm) * chunks));
  const auto of = [&](Index set, Index chunk) { return sums[set / multiple(norm) * chunks + chunk].data(); };
  over_chunks(norm, ns_per_element, [&](Index set, Index set_end, Index chunk) {
    const Index first = chunk * size;
    sums_of(norm, set, set_end, first, std::min(first + size, norm.member_count), of(set, chunk), kSetTile);
  });
  over_units_of(norm, kSet.ns, [&](Index set, Index set_end) {
    Totals totals(set_end - set);
    for (Index chunk = 0; chunk < chunks; ++chunk) totals.add(of(set, chunk));
    use(set, set_end, totals.result());
  });
}

void find_origins(const SetKernels& kernels, const Normalization& norm, Index set, Index set_end, double* origin) {
  kernels.origins(norm, set, set_end, origin + set);
  const Index members = std::min(kernels.origin_members, norm.member_count);
  if (members == 1) return;
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

// The problem with room for the constants of sets, where sets are lanes.
class WithConstants {
 public:
  // They lie in lines of the cache as the results `to` do: a vector that crosses a line is loaded twice. Zeros, as
  // lanes past the last set are computed with too, and a subnormal would take long.
  WithConstants(const SetKernels& kernels, const Normalization& norm, const char* to)
      : norm_(norm),
        bytes_(std::make_unique<char[]>(
            static_cast<std::size_t>(kConstants * constants_row(norm.set_count) * kernels.computed_size + kLine))) {
    const auto past = [](const char* at) { return reinterpret_cast<std::uintptr_t>(at) % kLine; };
    norm_.constants_row = constants_row(norm.set_count);
    norm_.constants = bytes_.get() + (past(to) - past(bytes_.get())) % kLine;
  }
  const Normalization& operator*() const { return norm_; }

 private:
  Normalization norm_;
  std::unique_ptr<char[]> bytes_;
};

// A map of all members of all sets. Where lanes are sets, threads take whole rows of memory: tiles of sets would find x
// in the cache, but a core that prefetches past its tile takes the next one's lines from the other core, and the two
// are then slower than one.
void map_all(const SetKernels& kernels, void (*constants)(const Normalization&), SetMapFn map,
             const Normalization& norm, const char* to, const Cost& cost) {
  if (norm.across) {
    const WithConstants with(kernels, norm, to);
    constants(*with);
    const auto rows = [&](Index first, Index last) { map(*with, 0, norm.set_count, first, last); };
    if (stays_on_one_thread(norm)) return rows(0, norm.member_count);
    return parallel_for(norm.member_count, cost.ns * static_cast<double>(norm.set_count), rows, kRowsMultiple);
  }
  if (sets_suffice(norm))
    return over_units(norm, cost.ns, [&](Index set, Index set_end) { map(norm, set, set_end, 0, norm.member_count); });
  over_chunks(norm, cost.ns, [&](Index set, Index set_end, Index chunk) {
    const Index first = chunk * chunk_size(norm);
    map(norm, set, set_end, first, std::min(first + chunk_size(norm), norm.member_count));
  });
}
// ---- groups whose channels are summed one by one ----

// Members of a channel from which on the channels of a group are summed by themselves: the lanes of a vector may then
// be channels or members, whichever lie closer. For fewer the sums of every channel would take longer than the channel.
constexpr Index kOwnSums = 512;

// Whether a set's channels are walked as sets of their own. Of several channels it must follow from the shape alone, as
// the order of the sums does.
bool by_channels(const Normalization& norm, Dtype dtype) {
  if (norm.across || norm.bits) return false;
  return norm.segments > 1 ? norm.segment >= kOwnSums : sets_turned(norm, dtype) > 0;
}

void remove_axis(Axes& axes, int axis) {
  --axes.count;
  for (int d = axis; d < axes.count; ++d) {
    axes.shape[d] = axes.shape[d + 1];
    for (auto& strides : axes.strides) strides[d] = strides[d + 1];
  }
}

// The channels of the sets [set, set_end), which are groups of one image, as sets.
Normalization channels_of(const Normalization& norm, Index set, Index set_end) {
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
std::vector<double> for_channels(const double* of_groups, const Normalization& part, Index together) {
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
void map_channels(const SetKernels& kernels, void (*constants)(const Normalization&), SetMapFn map,
                  const Normalization& part, const char* to) {
  if (!part.across) return map(part, 0, part.set_count, 0, part.member_count);
  const WithConstants with(kernels, part, to);
  constants(*with);
  map(*with, 0, part.set_count, 0, part.member_count);
}

// Calls body(set, set_end) for groups of one image each, whose channels fill the lanes or, at least, stay in the
// first-level cache.
template <class Body>
void over_groups(const Normalization& norm, double ns_per_element, Body body) {
  const Index closer = channels_of(norm, 0, 1).across ? kSetTile / norm.segments : kUnitElements / norm.member_count;
  const Index together = std::clamp<Index>(closer, 1, std::min<Index>(norm.groups, kSetTile));
  const Index per_image = (norm.groups + together - 1) / together, units = norm.set_count / norm.groups * per_image;
  const Index elements = together * norm.member_count;
  parallel_for(units, ns_per_element * static_cast<double>(elements), [&](Index begin, Index end) {
    for (Index unit = begin; unit < end; ++unit) {
      const Index group = unit % per_image * together, image = unit / per_image * norm.groups;
      body(image + group, image + std::min(group + together, norm.groups));
    }
  });
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

void normalise(const SetKernels& kernels, const Normalization& norm) {
  map_all(kernels, kernels.forward_constants, kernels.normalise, norm, norm.data[1], kMap);
}
void map_gradient(const SetKernels& kernels, const Normalization& norm) {
  map_all(kernels, kernels.backward_constants, kernels.gradient, norm, norm.data[2], kInputGradient);
}

std::vector<double> one_per_set(const Normalization& norm) {
  return std::vector<double>(static_cast<std::size_t>(norm.set_count));
}

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
  if (by_channels(norm, dtype)) return normalise_groups(kernels, norm, origin.data(), statistics);
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
  over_units(norm, kMoments.ns + kMap.ns, [&](Index set, Index set_end) {
    moments_of_unit(kernels, norm, set, set_end, origin.data(), statistics);
    kernels.normalise(norm, set, set_end, 0, norm.member_count);
  });
}

void normalise_by_given(Dtype dtype, Normalization norm, const SetStatistics& statistics) {
  kernels().normalization->invert(statistics.variance, norm.eps, statistics.inv_std, norm.set_count);
  if (empty(norm)) return;
  norm.mean = statistics.mean;
  norm.inv_std = statistics.inv_std;
  norm.stream = streams(norm, dtype, kMap);
  normalise(kernels_of(dtype), norm);
}

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
    over_units(norm, ns, [&](Index set, Index set_end) {
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
