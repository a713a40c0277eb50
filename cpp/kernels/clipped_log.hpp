// Logarithms of probabilities, clipped so that losses stay finite.
#pragma once

#include "simd/math.hpp"

namespace nnfast {
namespace {

// As in PyTorch: logarithms are at least kLeastLog, and p at least kLeastProbability in their slope 1 / p.
constexpr double kLeastLog = -100, kLeastProbability = 1e-12;

// log p of positive numbers, subnormal ones too: log_of takes normal numbers, so smaller ones are scaled.
template <class V>
NNFAST_INLINE V log_of_positive(V p) {
  using T = Element<V>;
  const auto small = p < static_cast<T>(0x1p-64);
  return log_of(small ? p * static_cast<T>(0x1p64) : p) -
         (small ? broadcast<V>(static_cast<T>(64 * 0.69314718055994530942)) : V{});
}

// max(log p, kLeastLog), also for p = 0.
template <class V>
NNFAST_INLINE V clipped_log(V p) {
  const V least = broadcast<V>(static_cast<Element<V>>(kLeastLog));
  return p > 0 ? max(least, log_of_positive(p)) : (p == p ? least : p);
}

// max(log(1 - p), kLeastLog), accurate relative to its size where p is small.
template <class V>
NNFAST_INLINE V clipped_log_of_complement(V p) {
  const auto small = p < static_cast<Element<V>>(0.25);
  const V t = small ? -p : V{};
  return small ? t - log1p_rest(t) : clipped_log(1 - p);
}

}  // namespace
}  // namespace nnfast
