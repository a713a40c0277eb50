// The maps of normalisation over all members of all sets, and what they take of each set.
#pragma once

#include <cstdint>
#include <memory>

#include "ops/normalization_sets.hpp"

namespace nnfast::norms {

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
// in the cache, but take longer for it than rows do without, on one thread too; and a core that prefetches past its
// tile takes the next one's lines from the other core.
inline void map_all(const SetKernels& kernels, void (*constants)(const Normalization&), SetMapFn map,
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

inline void normalise(const SetKernels& kernels, const Normalization& norm) {
  map_all(kernels, kernels.forward_constants, kernels.normalise, norm, norm.data[1], kMap);
}
inline void map_gradient(const SetKernels& kernels, const Normalization& norm) {
  map_all(kernels, kernels.backward_constants, kernels.gradient, norm, norm.data[2], kInputGradient);
}

}  // namespace nnfast::norms
