// Loops that are unrolled by hand.
#pragma once

#include <utility>

#include "simd/vector.hpp"

namespace nnfast {
namespace {

// The unroll factor of formulas. A formula is a chain of operations that wait for each other; the compiler interleaves
// four chains if all inputs are loaded before the first result is stored.
constexpr int kUnroll = kShort ? 1 : 4;

// body(0), ..., body(N - 1), each inlined with a constant, so that arrays it indexes are registers.
template <int N, class Body>
__attribute__((always_inline)) inline void unrolled(Body body) {
  [&]<int... u>(std::integer_sequence<int, u...>)
      NNFAST_INLINED { (body(u), ...); }(std::make_integer_sequence<int, N>{});
}

}  // namespace
}  // namespace nnfast
