// Sums whose order does not depend on the width of a vector: 16 running sums in double, element i goes to sum i mod 16,
// and the sums are added as a binary tree. Of doubles what the roundings lose is summed too.
#pragma once

#include "simd/pair.hpp"
#include "simd/vector.hpp"

namespace nnfast {
namespace {

// Elements that one step of a reduction takes, on every instruction set.
constexpr int kReduceBlock = 16;
// Vectors of T in such a step.
template <class T>
constexpr int kReduceParts = kReduceBlock / kLanes<Vec<T>>;

// The lanes of part `part` that exist when `left` elements are left in the block.
template <class T>
NNFAST_INLINE std::ptrdiff_t part_count(std::ptrdiff_t left, int part) {
  const std::ptrdiff_t count = left - part * kLanes<Vec<T>>;
  return count < 0 ? 0 : (count < kLanes<Vec<T>> ? count : kLanes<Vec<T>>);
}

// The lanes of V as vectors of double.
template <class V>
struct Widened {
  static constexpr int count = static_cast<int>(sizeof(double) / sizeof(Element<V>));
  Vec<double> part[count];
};

template <class V>
NNFAST_INLINE Widened<V> widen(V v) {
  if constexpr (sizeof(Element<V>) == sizeof(double)) {
    return {{v}};
  } else {
    struct Halves {
      VecN<float, kLanes<V> / 2> low, high;
    };
    const auto halves = bit_cast<Halves>(v);
    return {{__builtin_convertvector(halves.low, Vec<double>), __builtin_convertvector(halves.high, Vec<double>)}};
  }
}

template <class T>
class BlockSum {
  using V = Vec<T>;
  static constexpr int kDoubles = kReduceBlock / kLanes<Vec<double>>;
  static constexpr bool kCompensated = sizeof(T) == sizeof(double);
  Vec<double> sums_[kDoubles] = {};
  Vec<double> lost_[kDoubles] = {};

  NNFAST_INLINE void add_to(int k, Pair<Vec<double>> term) {
    const Pair<Vec<double>> sum = two_sum(sums_[k], term.hi);
    sums_[k] = sum.hi;
    lost_[k] += sum.lo + term.lo;
  }

 public:
  // Adds the vector that is part `part` of a block.
  NNFAST_INLINE void add(V v, int part) {
    const Widened<V> wide = widen(v);
    for (int k = 0; k < Widened<V>::count; ++k) {
      if constexpr (kCompensated) {
        add_to(part, {wide.part[k], Vec<double>{}});
      } else {
        sums_[part * Widened<V>::count + k] += wide.part[k];
      }
    }
  }
  NNFAST_INLINE void add_product(V a, V b, int part) {
    const Widened<V> wide_a = widen(a), wide_b = widen(b);
    for (int k = 0; k < Widened<V>::count; ++k) {
      if constexpr (kCompensated) {
        add_to(part, two_product(wide_a.part[k], wide_b.part[k]));
      } else {
        auto& sum = sums_[part * Widened<V>::count + k];
        sum = fma(wide_a.part[k], wide_b.part[k], sum);
      }
    }
  }
  NNFAST_INLINE double total() const {
    double lanes[kReduceBlock], lost[kReduceBlock];
    __builtin_memcpy(lanes, sums_, sizeof lanes);
    __builtin_memcpy(lost, lost_, sizeof lost);
    for (int half = kReduceBlock / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) {
        const double sum = lanes[i] + lanes[i + half];
        if constexpr (kCompensated) {
          const double part = sum - lanes[i];
          lost[i] += lost[i + half] + ((lanes[i] - (sum - part)) + (lanes[i + half] - part));
        }
        lanes[i] = sum;
      }
    }
    // An infinite sum has lost NaN.
    return kCompensated && lost[0] == lost[0] ? lanes[0] + lost[0] : lanes[0];
  }
};

template <class V>
NNFAST_INLINE Element<V> max_lane(V v) {
  Element<V> largest = v[0];
  for (int i = 1; i < kLanes<V>; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
}

}  // namespace
}  // namespace nnfast
