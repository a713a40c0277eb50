#include "ops/normalization.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <memory>

#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

using Index = std::ptrdiff_t;

// Elements of x that stay in a core's first cache from one pass to the next.
constexpr Index kUnitElements = Index{1} << 12;
// Rows that a thread takes come in such numbers.
constexpr Index kRowsMultiple = 8;
// Two passes over so few elements, whose halves another core has after the first, are quicker on one.
constexpr Index kFewElements = Index{1} << 17;
// Nanoseconds an element on one core.
constexpr double kSumsNs = 0.12, kMapNs = 0.12, kGradientSumsNs = 0.2, kGradientNs = 0.15;

bool nothing(const Normalization& norm) { return norm.set_count == 0 || norm.member_count == 0; }
Index chunks_of(Index members) { return (members + kMemberChunk - 1) / kMemberChunk; }
// Sets that kernels take together: a tile of lanes; else as many small ones as stay in the first cache.
Index multiple(const Normalization& norm) {
  if (norm.across) return kSetTile;
  return std::clamp<Index>(kUnitElements / norm.member_count, 1, kSetTile);
}
Index unit_count(const Normalization& norm) { return (norm.set_count + multiple(norm) - 1) / multiple(norm); }

// Whether a set stays with one thread, whose cache then has it for the second pass: enough of them for all threads to
// be busy to the end. Else the members of a set are shared too.
bool sets_suffice(const Normalization& norm) {
  return norm.segments > 1 || norm.member_count <= kMemberChunk || unit_count(norm) >= 4 * thread_limit();
}

// Calls body(set, set_end) for the units of some sets.
template <class Body>
void for_units(const Normalization& norm, Index set, Index set_end, Body body) {
  for (; set < set_end; set += multiple(norm)) body(set, std::min(set + multiple(norm), set_end));
}

// Calls body(set, set_end) for the units of sets, on all threads.
template <class Body>
void over_units(const Normalization& norm, double ns_per_element, Body body) {
  parallel_for(
      norm.set_count, ns_per_element * static_cast<double>(norm.member_count),
      [&](Index begin, Index end) { for_units(norm, begin, end, body); }, multiple(norm));
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

// Moments about the origin that a few members give, and, where that turns out to lie too far off, once more about the
// mean.
void moments_of_unit(const SetKernels& kernels, const Normalization& norm, Index set, Index set_end, double* origin,
                     const SetStatistics& to) {
  kernels.origins(norm, set, set_end, origin + set);
  for (int round = 0; round < 2; ++round) {
    const TwoSums sums = chunk_sums(kernels.moments, norm, set, set_end, 0, norm.member_count);
    if (!kernels.finish_moments(norm, &sums[0], &sums[kSetTile], origin, to, set, set_end)) break;
  }
}

void shared_moments(const SetKernels& kernels, const Normalization& norm, double* origin, const SetStatistics& to) {
  kernels.origins(norm, 0, norm.set_count, origin);
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

// The map of all members of all sets, chunks of sets shared among the threads.
void map_chunks(SetMapFn map, const Normalization& norm, double ns_per_element) {
  over_chunks(norm, ns_per_element, [&](Index set, Index set_end, Index chunk) {
    const Index first = chunk * kMemberChunk;
    map(norm, set, set_end, first, std::min(first + kMemberChunk, norm.member_count));
  });
}

// The problem with room for what the maps want of sets, where sets are lanes.
class WithConstants {
 public:
  WithConstants(const SetKernels& kernels, const Normalization& norm) : norm_(norm) {
    norm_.constants_row = constants_row(norm.set_count);
    // A vector that crosses a line is loaded twice.
    constexpr std::size_t line = 64;
    const auto size = static_cast<std::size_t>(kConstants * norm_.constants_row * kernels.computed_size);
    std::size_t room = size + line;
    bytes_.resize(room);
    norm_.constants = bytes_.data();
    std::align(line, size, norm_.constants, room);
  }
  const Normalization& operator*() const { return norm_; }

 private:
  Normalization norm_;
  std::vector<char> bytes_;
};

// What passes that share rows say they cost.
double rows_ns(const Normalization& norm, double ns_per_element) {
  return norm.set_count * norm.member_count < kFewElements ? 0 : ns_per_element;
}

// The map of all members of all sets where lanes are sets: whole rows of memory a thread. Tiles of sets would find x in
// the cache, but a core that looks ahead of its tile takes the next one's lines from the other core, and the two are
// then slower than one.
void map_rows(SetMapFn map, const Normalization& norm, double ns_per_element) {
  parallel_for(
      norm.member_count, ns_per_element * static_cast<double>(norm.set_count),
      [&](Index first, Index last) { map(norm, 0, norm.set_count, first, last); }, kRowsMultiple);
}

// What a set's gradient needs of the sums over its segments: dx = (gamma dy - offset - (x - mean) slope) inv_std.
struct SetGradient {
  std::vector<double> offset, slope;
};

// The sums of one segment of sets go where they belong and into the sums of the sets.
void take_gradient_sums(const Normalization& norm, const TwoSums& totals, Index set, Index set_end, Index segment,
                        GradientSums& sums, SetGradient& gradient) {
  const double share = 1 / static_cast<double>(norm.member_count);
  Index group = set % norm.groups;
  for (Index k = 0; k < set_end - set; ++k) {
    const Index s = set + k, at = s * norm.segments + segment;
    const double gamma = norm.gamma[group * norm.segments + segment];
    if (++group == norm.groups) group = 0;
    const double dy = totals[k], centred = totals[kSetTile + k];
    sums.dy[at] = dy;
    sums.dy_centred[at] = centred;
    gradient.offset[s] += gamma * dy * share;
    gradient.slope[s] += gamma * centred * norm.inv_std[s] * share * norm.inv_std[s];
  }
}

}  // namespace

void set_moments(const SetKernels& kernels, Normalization norm, const SetStatistics& statistics) {
  if (nothing(norm)) return;
  std::vector<double> origin(static_cast<std::size_t>(norm.set_count));
  norm.origin = origin.data();
  if (!sets_suffice(norm)) return shared_moments(kernels, norm, origin.data(), statistics);
  over_units(norm, norm.across ? rows_ns(norm, kSumsNs) : kSumsNs, [&](Index set, Index set_end) {
    moments_of_unit(kernels, norm, set, set_end, origin.data(), statistics);
  });
}

void normalise_by_own(const SetKernels& kernels, Normalization norm, const SetStatistics& statistics) {
  if (nothing(norm)) return;
  norm.mean = statistics.mean;
  norm.inv_std = statistics.inv_std;
  if (norm.across || !sets_suffice(norm)) {
    set_moments(kernels, norm, statistics);
    return normalise_by_given(kernels, norm);
  }
  std::vector<double> origin(static_cast<std::size_t>(norm.set_count));
  norm.origin = origin.data();
  // Some sets after the others: the second pass finds them in the cache.
  over_units(norm, kSumsNs + kMapNs, [&](Index set, Index set_end) {
    moments_of_unit(kernels, norm, set, set_end, origin.data(), statistics);
    kernels.normalise(norm, set, set_end, 0, norm.member_count);
  });
}

void normalise_by_given(const SetKernels& kernels, const Normalization& norm) {
  if (nothing(norm)) return;
  if (norm.across) {
    const WithConstants with(kernels, norm);
    kernels.forward_constants(*with);
    return map_rows(kernels.normalise, *with, rows_ns(norm, kMapNs));
  }
  if (!sets_suffice(norm)) return map_chunks(kernels.normalise, norm, kMapNs);
  over_units(norm, kMapNs,
             [&](Index set, Index set_end) { kernels.normalise(norm, set, set_end, 0, norm.member_count); });
}

GradientSums normalise_backward(const SetKernels& kernels, Normalization norm, bool own) {
  const auto sets = static_cast<std::size_t>(norm.set_count);
  const std::size_t columns = sets * static_cast<std::size_t>(norm.segments);
  GradientSums sums{std::vector<double>(columns), std::vector<double>(columns)};
  if (nothing(norm)) return sums;
  SetGradient gradient{std::vector<double>(sets), std::vector<double>(sets)};
  norm.offset = own ? gradient.offset.data() : nullptr;
  norm.slope = own ? gradient.slope.data() : nullptr;
  const auto sums_of_unit = [&](Index set, Index set_end) {
    for (Index segment = 0; segment < norm.segments; ++segment) {
      const Index first = segment * norm.segment;
      const TwoSums totals = chunk_sums(kernels.gradient_sums, norm, set, set_end, first, first + norm.segment);
      take_gradient_sums(norm, totals, set, set_end, segment, sums, gradient);
    }
  };
  if (sets_suffice(norm) && !norm.across) {
    over_units(norm, kGradientSumsNs + kGradientNs, [&](Index set, Index set_end) {
      sums_of_unit(set, set_end);
      kernels.gradient(norm, set, set_end, 0, norm.member_count);
    });
    return sums;
  }
  if (sets_suffice(norm)) {
    over_units(norm, rows_ns(norm, kGradientSumsNs), sums_of_unit);
  } else {
    const std::vector<TwoSums> all = shared_sums(kernels.gradient_sums, norm, kGradientSumsNs);
    for_units(norm, 0, norm.set_count, [&](Index set, Index set_end) {
      take_gradient_sums(norm, all[static_cast<std::size_t>(set / multiple(norm))], set, set_end, 0, sums, gradient);
    });
  }
  if (norm.across) {
    const WithConstants with(kernels, norm);
    kernels.backward_constants(*with);
    map_rows(kernels.gradient, *with, rows_ns(norm, kGradientNs));
  } else {
    map_chunks(kernels.gradient, norm, kGradientNs);
  }
  return sums;
}

}  // namespace nnfast
