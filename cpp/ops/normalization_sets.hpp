// Sets of values as threads share them, and the sums over the members of each.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <vector>

#include "kernels/normalization.hpp"
#include "ops/costs.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"
#include "simd/vector.hpp"

namespace nnfast::norms {

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

inline const SetKernels& kernels_of(Dtype dtype) { return kernels().normalization->sets[dtype]; }

inline Index offset_in(const Axes& axes, int array, Index position) {
  Index offset = 0;
  for (int d = axes.count - 1; d >= 0; position /= axes.shape[d--])
    offset += position % axes.shape[d] * axes.strides[array][d];
  return offset;
}

inline bool empty(const Normalization& norm) { return norm.set_count == 0 || norm.member_count == 0; }
// Whether the sums of both halves of a dense batch are taken on their own: two threads then have a half of the rows
// each, in the maps too, and find them in their caches. It must follow from the shape alone, as the order of the sums
// does.
inline bool is_halved(const Normalization& norm) {
  return norm.halves && norm.member_count >= kFewestHalved && norm.member_count <= kMemberChunk &&
         norm.set_count * norm.member_count >= kHalvedElements;
}
inline bool stays_on_one_thread(const Normalization& norm) {
  return norm.across && !is_halved(norm) && norm.set_count * norm.member_count < kFewElements && forced_grain() == 0;
}
// Not where an array is written in place.
inline bool streams(const Normalization& norm, Dtype dtype, const Cost& cost) {
  bool apart = true;
  for (int a = 0; a < kNormalizedArrays; ++a)
    for (int b = 0; b < a; ++b) apart &= !norm.data[a] || norm.data[a] != norm.data[b];
  return apart && streams(norm.set_count * norm.member_count * size_of(dtype), cost);
}
// Members whose sums are taken on their own: what a thread of two is given of the rows, or a fixed number.
inline Index chunk_size(const Normalization& norm) {
  if (!is_halved(norm)) return kMemberChunk;
  const Index units = (norm.member_count + kRowsMultiple - 1) / kRowsMultiple;
  return (units - units / 2) * kRowsMultiple;
}
inline Index chunks_of(const Normalization& norm) {
  return (norm.member_count + chunk_size(norm) - 1) / chunk_size(norm);
}
// Sets that kernels take together, a unit: a tile of lanes; else as many small ones as stay in the first-level cache.
inline Index multiple(const Normalization& norm) {
  if (norm.across) return kSetTile;
  return std::clamp<Index>(kUnitElements / norm.member_count, 1, kSetTile);
}
inline Index unit_count(const Normalization& norm) { return (norm.set_count + multiple(norm) - 1) / multiple(norm); }

// Whether a set stays with one thread, whose cache then has it for the second pass: enough of them for all threads to
// be busy to the end. Else the members of a set are shared too.
inline bool sets_suffice(const Normalization& norm) {
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
void over_units(const Normalization& norm, double ns_per_element, Body body, double ns_per_set = kSet.ns) {
  if (stays_on_one_thread(norm)) return for_units(norm, 0, norm.set_count, body);
  over_units_of(norm, ns_per_element * static_cast<double>(norm.member_count) + ns_per_set, body);
}
// Of the moments of a set, whose sums of float64 are joined with what rounding takes from them.
inline double moments_of_set_ns(Dtype dtype) { return dtype == Dtype::f64 ? 7 * kSet.ns : kSet.ns; }

// Of passes that take some sets through sums and map, and then the next ones: what is read and written next is asked
// for in time, if it stays in the second-level cache until then.
inline void set_prefetches(Normalization& norm, Dtype dtype, Index together) {
  constexpr Index most = Index{1} << 19;  // bytes
  if (together * norm.member_count * size_of(dtype) > most) return;
  norm.claims = !norm.stream;
  if (together >= norm.set_count) return;
  for (const int a : {0, 1}) norm.ahead[a] = offset_in(norm.sets, a, together);
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

// ---- sums ----

// The sums of each set of a unit, kSums rows of kSetTile as a SetSumsFn gives them.
using UnitSums = std::array<double, kSums * kSetTile>;

// The sums over chunks, compensated. Some sets at a time, as the compiler does not do it by itself.
class Totals {
 public:
  explicit Totals(Index sets) : sets_(sets) {}
  void add(const double* sums) {
    for_sets([&](auto sets, Index k) {
      using D = decltype(sets);
      const D term = load<D>(sums + k), low = load<D>(sums + k + kLost);
      if (empty_) {  // what adding to 0 gives
        store(sums_ + k, term + 0.0);
        store(lost_ + k, low + 0.0);
        return;
      }
      const D before = load<D>(sums_ + k), sum = before + term, part = sum - before;
      store(lost_ + k, load<D>(lost_ + k) + ((before - (sum - part)) + (term - part) + low));
      store(sums_ + k, sum);
    });
    empty_ = false;
  }
  UnitSums result() const {
    UnitSums result;
    for_sets([&](auto sets, Index k) {
      using D = decltype(sets);
      const D sum = load<D>(sums_ + k), lost = load<D>(lost_ + k), total = sum + lost;
      const auto finite = sum - sum == 0;  // an infinite sum has lost NaN
      store(&result[k], finite ? total : sum);
      store(&result[k + kLost], finite ? lost - (total - sum) : D{});
    });
    return result;
  }

 private:
  static constexpr Index kLost = kTerms * kSetTile;
  Index sets_;
  bool empty_ = true;
  double sums_[kLost], lost_[kLost];

  // Calls body(a vector or a double, k) for the places of all terms of the sets.
  template <class Body>
  void for_sets(Body body) const {
    for (Index term = 0; term < kTerms; ++term) {
      Index k = term * kSetTile;
      const Index end = k + sets_;
      for (; k + kLanes<Vec<double>> <= end; k += kLanes<Vec<double>>) body(Vec<double>{}, k);
      for (; k < end; ++k) body(VecN<double, 1>{}, k);
    }
  }
};

// The sums over members [first, last) of a unit, chunk after chunk.
inline UnitSums chunk_sums(SetSumsFn sums_of, const Normalization& norm, Index set, Index set_end, Index first,
                           Index last) {
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

inline std::vector<double> one_per_set(const Normalization& norm) {
  return std::vector<double>(static_cast<std::size_t>(norm.set_count));
}

}  // namespace nnfast::norms
