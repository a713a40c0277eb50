// Elements as they are stored and as they are computed with.
#pragma once

#include "simd/half.hpp"
#include "simd/raised.hpp"
#include "simd/vector.hpp"

namespace nnfast {
namespace {

// How elements of type S, in memory, become vectors. Parameters of a float16 kernel are float32: 0.01 has few digits in
// float16.
template <class S>
struct Stored {
  using V = Vec<S>;
  using Param = S;
  static constexpr bool streams = kCanStream;
  static constexpr unsigned raises = kRaisedNothing;
  NNFAST_INLINE static V load(const char* from) { return nnfast::load<V>(reinterpret_cast<const S*>(from)); }
  NNFAST_INLINE static void store(char* to, V v) { nnfast::store(reinterpret_cast<S*>(to), v); }
  NNFAST_INLINE static V load(const char* from, std::ptrdiff_t stride, std::ptrdiff_t count) {
    return load_strided<V>(from, stride, count, S{0});
  }
  NNFAST_INLINE static void store(char* to, std::ptrdiff_t stride, V v, std::ptrdiff_t count) {
    store_strided(to, stride, v, count);
  }
  // The lanes [first, last) of the vector whose lane 0 would lie at `from`, the others `fill`.
  NNFAST_INLINE static V load_lanes(const char* from, std::ptrdiff_t stride, std::ptrdiff_t first, std::ptrdiff_t last,
                                    S fill) {
    if (stride == static_cast<std::ptrdiff_t>(sizeof(S)))
      return nnfast::load_lanes<V>(reinterpret_cast<const S*>(from), first, last, fill);
    V v = broadcast<V>(fill);
    for (std::ptrdiff_t i = first; i < last; ++i) v[i] = load_element<S>(from + i * stride);
    return v;
  }
};

template <>
struct Stored<Half> {
  using V = Vec<float>;
  using Param = float;
  static constexpr bool streams = false;
  static constexpr unsigned raises = kRaisedOverflow;  // where the rounded result does
  NNFAST_INLINE static V load(const char* from) { return load_halves(reinterpret_cast<const Half*>(from)); }
  NNFAST_INLINE static void store(char* to, V v) { store_halves(reinterpret_cast<Half*>(to), v); }
  [[gnu::noinline]] static V load(const char* from, std::ptrdiff_t stride, std::ptrdiff_t count) {
    Half halves[kLanes<V>] = {};
    for (std::ptrdiff_t i = 0; i < count; ++i) halves[i] = load_element<Half>(from + i * stride);
    return load_halves(halves);
  }
  [[gnu::noinline]] static void store(char* to, std::ptrdiff_t stride, V v, std::ptrdiff_t count) {
    Half halves[kLanes<V>];
    store_halves(halves, v);
    for (std::ptrdiff_t i = 0; i < count; ++i) store_element(to + i * stride, halves[i]);
  }
  [[gnu::noinline]] static V load_lanes(const char* from, std::ptrdiff_t stride, std::ptrdiff_t first,
                                        std::ptrdiff_t last, float fill) {
    V v = broadcast<V>(fill);
    for (std::ptrdiff_t i = first; i < last; ++i) v[i] = widen_half(load_element<Half>(from + i * stride));
    return v;
  }
};

}  // namespace
}  // namespace nnfast
