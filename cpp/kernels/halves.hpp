// Runs of float16 as runs of float32 and back. Elementwise kernels, biases' gradients and optimizers have no loops over
// float16: those of float32 are given some elements at a time, which stay in the first cache.
#pragma once

#include "simd/stored.hpp"

namespace nnfast {
namespace {

constexpr std::ptrdiff_t kWidenedAtOnce = 1024;

[[gnu::noinline, maybe_unused]] void widen_halves(const char* halves, std::ptrdiff_t stride, float* to,
                                                  std::ptrdiff_t n) {
  using V = Vec<float>;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(Half));
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = smaller(n - i, kLanes<V>);
    const char* from = halves + i * stride;
    const V v =
        stride == size && count == kLanes<V> ? Stored<Half>::load(from) : Stored<Half>::load(from, stride, count);
    store_strided(reinterpret_cast<char*>(to + i), sizeof(float), v, count);
  }
}

// May overflow.
[[gnu::noinline, maybe_unused]] void narrow_floats(const char* from, std::ptrdiff_t from_stride, char* halves,
                                                   std::ptrdiff_t stride, std::ptrdiff_t n) {
  using V = Vec<float>;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(Half));
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = smaller(n - i, kLanes<V>);
    const V v = load_strided<V>(from + i * from_stride, from_stride, count, 0.0f);
    char* to = halves + i * stride;
    stride == size&& count == kLanes<V> ? Stored<Half>::store(to, v) : Stored<Half>::store(to, stride, v, count);
  }
}

}  // namespace
}  // namespace nnfast
