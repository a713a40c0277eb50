#include "ops/normalization.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <utility>

#include "kernels/sums.hpp"
#include "ops/costs.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

using Index = std::ptrdiff_t;

constexpr Cost kMoments = cost_of("norm_moments"), kMap = cost_of("norm_map"),
               kGradientSums = cost_of("norm_gradient_sums"), kInputGradient = cost_of("norm_input_gradient");
// Elements of x that stay in a core's first-level cache from one pass to the next.
constexpr Index kUnitElements = Index{1} << 12;
// A thread takes a multiple of so many rows.
constexpr Index kRowsMultiple = 8;
// Below so many elements two passes whose lanes are sets are quicker on one thread: the second would find half of them
// in another core's cache.
constexpr Index kFewElements = Index{1} << 17;

const SetKernels& kernels_of(Dtype dtype) { return kernels().normalization->sets[dtype]; }

bool empty(const Normalization& norm) { return norm.set_count == 0 || norm.member_count == 0; }
bool stays_on_one_thread(const Normalization& norm) {
  return norm.across && norm.set_count * norm.member_count < kFewElements && forced_grain() == 0;
}
// Not where an array is written in place.
bool streams(const Normalization& norm, Dtype dtype, const Cost& cost) {
  bool apart = true;
  for (int a = 0; a < kNormalizedArrays; ++a)
    for (int b = 0; b < a; ++b) apart &= !norm.data[a] || norm.data[a] != norm.data[b];
  return apart && streams(norm.set_count * norm.member_count * size_of(dtype), cost);
}
Index chunks_of(Index members) { return (members + kMemberChunk - 1) / kMemberChunk; }
// Sets that kernels take together, a unit: a tile of lanes; else as many small ones as stay in the first-level cache.
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

// Calls body(set, set_end) for the units of sets, shared among threads.
template <class Body>
void over_units(const Normalization& norm, double ns_per_element, Body body) {
  const auto units = [&](Index begin, Index end) { for_units(norm, begin, end, body); };
  if (stays_on_one_thread(norm)) return units(0, norm.set_count);
  parallel_for(norm.set_count, ns_per_element * static_cast<double>(norm.member_count), units, multiple(norm));
}

// Calls body(set, set_end, chunk) for all chunks of all units, shared among threads.
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

// Two sums for each set of a unit: the first ones, and kSetTile further on the second ones.
using UnitSums = std::array<double, 2 * kSetTile>;

// The sums over chunks, compensated.
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
  UnitSums result() const {
    UnitSums result;
    // An infinite sum has lost NaN.
    for (Index k = 0; k < 2 * kSetTile; ++k) result[k] = std::isfinite(sums_[k]) ? sums_[k] + lost_[k] : sums_[k];
    return result;
  }

 private:
  Index sets_;
  double sums_[2 * kSetTile] = {}, lost_[2 * kSetTile] = {};
};

// The sums over members [first, last) of a unit, chunk after chunk.
UnitSums chunk_sums(SetSumsFn sums_of, const Normalization& norm, Index set, Index set_end, Index first, Index last) {
  UnitSums sums;
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

// The sums over all members of every unit, whose chunks threads share.
std::vector<UnitSums> shared_sums(SetSumsFn sums_of, const Normalization& norm, double ns_per_element) {
  const Index chunks = chunks_of(norm.member_count);
  std::vector<UnitSums> sums(static_cast<std::size_t>(unit_count(norm) * chunks));
  const auto of = [&](Index set, Index chunk) {
    return sums[static_cast<std::size_t>(set / multiple(norm) * chunks + chunk)].data();
  };
  over_chunks(norm, ns_per_element, [&](Index set, Index set_end, Index chunk) {
    const Index first = chunk * kMemberChunk;
    sums_of(norm, set, set_end, first, std::min(first + kMemberChunk, norm.member_count), of(set, chunk), kSetTile);
  });
  std::vector<UnitSums> results;
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
    const UnitSums sums = chunk_sums(kernels.moments, norm, set, set_end, 0, norm.member_count);
    if (!kernels.finish_moments(norm, &sums[0], &sums[kSetTile], origin, to, set, set_end)) break;
  }
}

void shared_moments(const SetKernels& kernels, const Normalization& norm, double* origin, const SetStatistics& to) {
  kernels.origins(norm, 0, norm.set_count, origin);
  for (int round = 0; round < 2; ++round) {
    const std::vector<UnitSums> all = shared_sums(kernels.moments, norm, kMoments.ns);
    bool moved = false;
    Index set = 0;
    for (const UnitSums& sums : all) {
      const Index set_end = std::min(set + multiple(norm), norm.set_count);
      moved |= kernels.finish_moments(norm, &sums[0], &sums[kSetTile], origin, to, set, set_end);
      set = set_end;
    }
    if (!moved) break;
  }
}

// The problem with room for the constants of sets, where sets are lanes.
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

// A map of all members of all sets. Where lanes are sets, threads take whole rows of memory: tiles of sets would find x
// in the cache, but a core that prefetches past its tile takes the next one's lines from the other core, and the two
// are then slower than one.
void map_all(const SetKernels& kernels, void (*constants)(const Normalization&), SetMapFn map,
             const Normalization& norm, const Cost& cost) {
  if (norm.across) {
    const WithConstants with(kernels, norm);
    constants(*with);
    const auto rows = [&](Index first, Index last) { map(*with, 0, norm.set_count, first, last); };
    if (stays_on_one_thread(norm)) return rows(0, norm.member_count);
    return parallel_for(norm.member_count, cost.ns * static_cast<double>(norm.set_count), rows, kRowsMultiple);
  }
  if (sets_suffice(norm))
    return over_units(norm, cost.ns, [&](Index set, Index set_end) { map(norm, set, set_end, 0, norm.member_count); });
  over_chunks(norm, cost.ns, [&](Index set, Index set_end, Index chunk) {
    const Index first = chunk * kMemberChunk;
    map(norm, set, set_end, first, std::min(first + kMemberChunk, norm.member_count));
  });
}
void normalise(const SetKernels& kernels, const Normalization& norm) {
  map_all(kernels, kernels.forward_constants, kernels.normalise, norm, kMap);
}
void map_gradient(const SetKernels& kernels, const Normalization& norm) {
  map_all(kernels, kernels.backward_constants, kernels.gradient, norm, kInputGradient);
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

  // Of one unit.
  void sum_unit(Index set, Index set_end) {
    for (Index segment = 0; segment < norm_.segments; ++segment) {
      const Index first = segment * norm_.segment;
      put(chunk_sums(kernels_.gradient_sums, norm_, set, set_end, first, first + norm_.segment), set, set_end, segment);
    }
  }
  // Of all units, which threads share.
  void sum_all() {
    if (sets_suffice(norm_))
      return over_units(norm_, kGradientSums.ns, [&](Index set, Index set_end) { sum_unit(set, set_end); });
    const std::vector<UnitSums> all = shared_sums(kernels_.gradient_sums, norm_, kGradientSums.ns);
    for_units(norm_, 0, norm_.set_count, [&](Index set, Index set_end) {
      put(all[static_cast<std::size_t>(set / multiple(norm_))], set, set_end, 0);
    });
  }

  // Sums over the images of a batch, one for each parameter.
  ParameterGradients gradients() && {
    for (std::size_t i = 0; i < dy_centred_.size(); ++i)
      dy_centred_[i] *= norm_.inv_std[i / static_cast<std::size_t>(norm_.segments)];
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
      dy_centred_[at] = centred;
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
  if (norm.across || !sets_suffice(norm)) {
    set_moments(dtype, norm, statistics);
    return normalise(kernels, norm);
  }
  std::vector<double> origin = one_per_set(norm);
  norm.origin = origin.data();
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
  if (sets_suffice(norm) && !norm.across) {
    over_units(norm, kGradientSums.ns + kInputGradient.ns, [&](Index set, Index set_end) {
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
