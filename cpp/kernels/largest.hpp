// The largest of several values, and which it was.
#pragma once

#include "simd/vector.hpp"

namespace nnfast {
namespace {

// The larger of both, a NaN before any number, the first of equals; `which` becomes `index` where the candidate is
// larger.
template <class V>
NNFAST_INLINE void keep_better(V& best, Mask<V>& which, V candidate, Mask<V> index) {
  const Mask<V> better = ~(candidate <= best) & (best == best);
  best = better ? candidate : best;
  which = better ? index : which;
}

}  // namespace
}  // namespace nnfast
