// What the formulas of optimizers' rules are written with: hyperparameters by name, running averages.
#pragma once

#include "kernels/optim.hpp"
#include "simd/reduce.hpp"
#include "simd/vector.hpp"

namespace nnfast {
namespace {

// Where a rule's hyperparameter is, by its name in NNFAST_OPTIM_RULES: another name does not compile.
template <OptimRule rule>
struct HyperparameterIndex {
  int index;
  consteval HyperparameterIndex(const char* name) : index(kSharedHyperparameters) {
    for (const char* candidate : kOptimRules[static_cast<int>(rule)].hyperparameters) {
      if (!candidate) break;
      if (equal(name, candidate)) return;
      ++index;
    }
    __builtin_unreachable();  // is no constant: the rule has no hyperparameter of this name
  }

 private:
  static consteval bool equal(const char* a, const char* b) {
    for (; *a && *a == *b; ++a) ++b;
    return *a == *b;
  }
};

// The hyperparameters of a rule, each in all lanes of a vector.
template <class V, OptimRule rule>
class Hyperparameters {
 public:
  NNFAST_INLINE Hyperparameters(const double* values) : values_(values) {}
  NNFAST_INLINE V operator()(HyperparameterIndex<rule> at) const {
    return broadcast<V>(static_cast<Element<V>>(values_[at.index]));
  }
  NNFAST_INLINE bool flag(HyperparameterIndex<rule> at) const { return values_[at.index] != 0; }

 private:
  const double* values_;
};

// average = decay average + gain term
template <class V>
struct RunningAverage {
  V decay, gain;
  NNFAST_INLINE void operator()(V& average, V term) const { average = fma(decay, average, gain * term); }
  NNFAST_INLINE void squares(V& average, V term) const { average = fma(decay, average, gain * term * term); }
};

// The larger, and NaN if either is.
template <class V>
NNFAST_INLINE V maximum(V a, V b) {
  return (a > b) | (a != a) ? a : b;
}

// 1, 0 or -1; NaN of NaN.
template <class V>
NNFAST_INLINE V sign_of(V x) {
  const V one = broadcast<V>(1);
  return x > 0 ? one : (x < 0 ? -one : x);
}

// Calls body(i, part, count) for the vectors of n elements, by the blocks of the reductions.
template <class T, class Body>
NNFAST_INLINE void for_parts(std::ptrdiff_t n, Body body) {
  for (std::ptrdiff_t i = 0; i < n; i += kReduceBlock)
    for (int part = 0; part < kReduceParts<T>; ++part)
      if (const std::ptrdiff_t count = part_count<T>(n - i, part)) body(i + part * kLanes<Vec<T>>, part, count);
}

}  // namespace
}  // namespace nnfast
