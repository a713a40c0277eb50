#include "runtime/normalize.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

using Index = std::ptrdiff_t;

// Elements of x that stay in a core's second cache from one pass to the next.
constexpr Index kHeldElements = Index{1} << 16;
// Nanoseconds an element on one core.
constexpr double kSumsNs = 0.12, kMapNs = 0.12, kGradientSumsNs = 0.2, kGradientNs = 0.15;
bool nothing(const Normalization& norm) { return norm.set_count == 0 || norm.member_count == 0; }
Index chunks_of(Index members) { return (members + kMemberChunk - 1) / kMemberChunk; }
Index multiple(const Normalization& norm) { return norm.across ? kSetTile : 1; }
Index unit_count(const Normalization& norm) { return (norm.set_count + multiple(norm) - 1) / multiple(norm); }

// Whether a set stays with one thread, whose cache then has it for the second pass: enough of them for all threads to
// be busy to the end. Else the members of a set are shared too.
bool sets_suffice(const Normalization& norm) {
  return norm.segments > 1 || norm.member_count <= kMemberChunk || unit_count(norm) >= 4 * thread_limit();
}

// Sets that a thread takes at a time where lanes are sets: as many as its second cache holds beside the results, for
// whole rows are faster than pieces of them, but enough for all threads to have some.
Index sets_together(const Normalization& norm) {
  if (!norm.across) return 1;
  const Index held = kHeldElements / std::max<Index>(norm.member_count, 1),
              fair = norm.set_count / (2 * thread_limit());
  return std::max<Index>(1, std::min(held, fair) / kSetTile) * kSetTile;
}

// Sets by which groups begin earlier, so that they begin where a line of the results does, and no line is written by
// two threads: where lines can be whole sets, and no byte of a mask is two groups' business.
Index early(const Normalization& norm, int results, Index size) {
  constexpr Index line = 64;
  const auto past = static_cast<Index>(reinterpret_cast<std::uintptr_t>(norm.data[results]) % line);
  if (!norm.across || norm.bits || norm.sets.strides[results][0] != size || past % size != 0) return 0;
  return past / size;
}

// Calls body(set, set_end) for groups of sets, on all threads. Borders of groups lie `early` sets before multiples; the
// last group has what is left too.
template <class Body>
void over_sets(const Normalization& norm, double ns_per_element, Index early, Body body) {
  const Index together = sets_together(norm), groups = std::max<Index>(1, norm.set_count / together);
  const auto elements =
      static_cast<double>(norm.set_count) / static_cast<double>(groups) * static_cast<double>(norm.member_count);
  parallel_for(groups, ns_per_element * elements, [&](Index begin, Index end) {
    for (Index group = begin; group < end; ++group) {
      const Index set = group == 0 ? 0 : group * together - early;
      body(set, group + 1 == groups ? norm.set_count : (group + 1) * together - early);
    }
  });
}

// Calls body(set, set_end) for the units of some sets.
template <class Body>
void for_units(const Normalization& norm, Index set, Index set_end, Body body) {
  for (; set < set_end; set += multiple(norm)) body(set, std::min(set + multiple(norm), set_end));
}

// Calls body(set, set_end, chunk) for all chunks of all units, on all threads.
template <class Body>
void over_chunks(const Normalization& norm, double ns_per_element, Body body) {
  const Index chunks = chunks_of(norm.member_count);
  const auto elements = static_cast<double>(std::min(multiple(norm), norm.set_count) * kMemberChunk);
  parallel_for(unit_count(norm) * chunks, ns_per_element * elements, [&](Index begin, Index end) {
    for (Index item = begin; item < end; ++item) {
      const Index set = item / chunks * multiple(norm);
      body(set, std::min(set + multiple(norm), norm.set_count), item % chunks);
    }
  });
}

// Two sums of up to kSetTile sets: the first of each set, and kSetTile further on the second.
using TwoSums = std::array<double, 2 * kSetTile>;

// The sums of chunks added up, with what the additions lose.
class Totals {
 public:
  explicit Totals(Index sets) : sets_(sets) {}
  void add(const double* sums) {
    for (Index term = 0; term < 2; ++term)
      for (Index k = term * kSetTile; k < term * kSetTile + sets_; ++k) {
        const double sum = sums_[k] + sums[k], part = sum - sums_[k];
        lost_[k] += (sums_[k] - (sum - part)) + (sums[k] - part);
        sums_[k] = sum;
      }
  }
  TwoSums result() const {
    TwoSums result;
    // An infinite sum has lost NaN.
    for (Index k = 0; k < 2 * kSetTile; ++k) result[k] = std::isfinite(sums_[k]) ? sums_[k] + lost_[k] : sums_[k];
    return result;
  }

 private:
  Index sets_;
  double sums_[2 * kSetTile] = {}, lost_[2 * kSetTile] = {};
};

// Two sums over members [first, last) of each of up to kSetTile sets, chunk after chunk.
TwoSums chunk_sums(SetSumsFn sums_of, const Normalization& norm, Index set, Index set_end, Index first, Index last) {
  TwoSums sums;
  if (last - first <= kMemberChunk) {
    sums_of(norm, set, set_end, first, last, sums.data(), kSetTile);
    return sums;
  }
  Totals totals(set_end - set);
  for (Index begin = first; begin < last; begin += kMemberChunk) {
    sums_of(norm, set, set_end, begin, std::min(begin + kMemberChunk, last), sums.data(), kSetTile);
    totals.add(sums.data());
  }
  return totals.result();
}

// The same of all members of all sets, chunks shared among the threads: one for each unit.
std::vector<TwoSums> shared_sums(SetSumsFn sums_of, const Normalization& norm, double ns_per_element) {
  const Index chunks = chunks_of(norm.member_count);
  std::vector<TwoSums> sums(static_cast<std::size_t>(unit_count(norm) * chunks));
  const auto of = [&](Index set, Index chunk) {
    return sums[static_cast<std::size_t>(set / multiple(norm) * chunks + chunk)].data();
  };
  over_chunks(norm, ns_per_element, [&](Index set, Index set_end, Index chunk) {
    const Index first = chunk * kMemberChunk;
    sums_of(norm, set, set_end, first, std::min(first + kMemberChunk, norm.member_count), of(set, chunk), kSetTile);
  });
  std::vector<TwoSums> results;
  for (Index set = 0; set < norm.set_count; set += multiple(norm)) {
    Totals totals(std::min(multiple(norm), norm.set_count - set));
    for (Index chunk = 0; chunk < chunks; ++chunk) totals.add(of(set, chunk));
    results.push_back(totals.result());
  }
  return results;
}

// Moments about the first member, and, where that turns out to lie too far off, once more about the mean.
void moments_of_unit(const SetKernels& kernels, const Normalization& norm, Index set, Index set_end, double* origin,
                     const SetStatistics& to) {
  kernels.first_members(norm, set, set_end, origin + set);
  for (int round = 0; round < 2; ++round) {
    const TwoSums sums = chunk_sums(kernels.moments, norm, set, set_end, 0, norm.member_count);
    if (!kernels.finish_moments(norm, &sums[0], &sums[kSetTile], origin, to, set, set_end)) break;
  }
}

void shared_moments(const SetKernels& kernels, const Normalization& norm, double* origin, const SetStatistics& to) {
  kernels.first_members(norm, 0, norm.set_count, origin);
  for (int round = 0; round < 2; ++round) {
    const std::vector<TwoSums> all = shared_sums(kernels.moments, norm, kSumsNs);
    bool moved = false;
    Index set = 0;
    for (const TwoSums& sums : all) {
      const Index set_end = std::min(set + multiple(norm), norm.set_count);
      moved |= kernels.finish_moments(norm, &sums[0], &sums[kSetTile], origin, to, set, set_end);
      set = set_end;
    }
    if (!moved) break;
  }
}

// The map of all members of all sets, chunks shared among the threads.
void shared_map(SetMapFn map, const Normalization& norm, double ns_per_element) {
  over_chunks(norm, ns_per_element, [&](Index set, Index set_end, Index chunk) {
    const Index first = chunk * kMemberChunk;
    map(norm, set, set_end, first, std::min(first + kMemberChunk, norm.member_count));
  });
}

// What a set's gradient needs of the sums over its segments: dx = (gamma dy - offset - (x - mean) slope) inv_std.
struct SetGradient {
  std::vector<double> offset, slope;
};

// The sums of one segment of sets go where they belong and into the sums of the sets.
void take_gradient_sums(const Normalization& norm, const TwoSums& totals, Index set, Index set_end, Index segment,
                        GradientSums& sums, SetGradient& gradient) {
  const double share = 1 / static_cast<double>(norm.member_count);
  const double* gamma = norm.gamma + set % norm.groups * norm.segments + segment;
  for (Index k = 0; k < set_end - set; ++k) {
    const Index s = set + k, at = s * norm.segments + segment;
    const double dy = totals[k], centred = totals[kSetTile + k];
    sums.dy[at] = dy;
    sums.dy_centred[at] = centred;
    gradient.offset[s] += gamma[k] * dy * share;
    gradient.slope[s] += gamma[k] * centred * norm.inv_std[s] * share * norm.inv_std[s];
  }
}

}  // namespace

void set_moments(const SetKernels& kernels, Normalization norm, const SetStatistics& statistics) {
  if (nothing(norm)) return;
  std::vector<double> origin(static_cast<std::size_t>(norm.set_count));
  norm.origin = origin.data();
  if (!sets_suffice(norm)) return shared_moments(kernels, norm, origin.data(), statistics);
  over_sets(norm, kSumsNs, 0, [&](Index begin, Index end) {
    for_units(norm, begin, end, [&](Index set, Index set_end) {
      moments_of_unit(kernels, norm, set, set_end, origin.data(), statistics);
    });
  });
}

void normalise_by_own(const SetKernels& kernels, Normalization norm, const SetStatistics& statistics) {
  if (nothing(norm)) return;
  std::vector<double> origin(static_cast<std::size_t>(norm.set_count));
  norm.origin = origin.data();
  norm.mean = statistics.mean;
  norm.inv_std = statistics.inv_std;
  if (!sets_suffice(norm)) {
    shared_moments(kernels, norm, origin.data(), statistics);
    return shared_map(kernels.normalise, norm, kMapNs);
  }
  over_sets(norm, kSumsNs + kMapNs, early(norm, 1, kernels.size), [&](Index begin, Index end) {
    for_units(norm, begin, end, [&](Index set, Index set_end) {
      moments_of_unit(kernels, norm, set, set_end, origin.data(), statistics);
    });
    kernels.normalise(norm, begin, end, 0, norm.member_count);
  });
}

void normalise_by_given(const SetKernels& kernels, const Normalization& norm) {
  if (nothing(norm)) return;
  if (!sets_suffice(norm)) return shared_map(kernels.normalise, norm, kMapNs);
  over_sets(norm, kMapNs, early(norm, 1, kernels.size),
            [&](Index begin, Index end) { kernels.normalise(norm, begin, end, 0, norm.member_count); });
}

GradientSums normalise_backward(const SetKernels& kernels, Normalization norm, bool own) {
  const auto sets = static_cast<std::size_t>(norm.set_count);
  const std::size_t columns = sets * static_cast<std::size_t>(norm.segments);
  GradientSums sums{std::vector<double>(columns), std::vector<double>(columns)};
  if (nothing(norm)) return sums;
  SetGradient gradient{std::vector<double>(sets), std::vector<double>(sets)};
  norm.offset = own ? gradient.offset.data() : nullptr;
  norm.slope = own ? gradient.slope.data() : nullptr;
  if (!sets_suffice(norm)) {
    const std::vector<TwoSums> all = shared_sums(kernels.gradient_sums, norm, kGradientSumsNs);
    Index set = 0;
    for (const TwoSums& totals : all) {
      const Index set_end = std::min(set + multiple(norm), norm.set_count);
      take_gradient_sums(norm, totals, set, set_end, 0, sums, gradient);
      set = set_end;
    }
    shared_map(kernels.gradient, norm, kGradientNs);
    return sums;
  }
  over_sets(norm, kGradientSumsNs + kGradientNs, early(norm, 2, kernels.size), [&](Index begin, Index end) {
    for_units(norm, begin, end, [&](Index set, Index set_end) {
      for (Index segment = 0; segment < norm.segments; ++segment) {
        const Index first = segment * norm.segment;
        const TwoSums totals = chunk_sums(kernels.gradient_sums, norm, set, set_end, first, first + norm.segment);
        take_gradient_sums(norm, totals, set, set_end, segment, sums, gradient);
      }
    });
    kernels.gradient(norm, begin, end, 0, norm.member_count);
  });
  return sums;
}

}  // namespace nnfast
