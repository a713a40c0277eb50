// Several vectors at a time.
#pragma once

#include <utility>

#include "simd/vector.hpp"

namespace nnfast {
namespace {

// Vectors that go through a formula together. A formula is a chain of operations that wait for each other; of four
// chains the compiler weaves one stream, if all inputs are loaded before the first result is stored.
constexpr int kAtOnce = kShort ? 1 : 4;

// body(0), ..., body(N - 1), each with its number known before anything else is decided, so that arrays it indexes are
// registers.
template <int N, class Body>
NNFAST_INLINE void unrolled(Body body) {
  [&]<int... u>(std::integer_sequence<int, u...>)
      NNFAST_INLINED { (body(u), ...); }(std::make_integer_sequence<int, N>{});
}

}  // namespace
}  // namespace nnfast
