// Elements in memory as vectors: how they are stored, and as what they are computed with.
#pragma once

#include <type_traits>

#include "simd/float16.hpp"
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
struct Stored<Float16> {
  using V = Vec<float>;
  using Param = float;
  static constexpr bool streams = false;
  static constexpr unsigned raises = kRaisedOverflow;  // where the rounded result does
  NNFAST_INLINE static V load(const char* from) { return load_float16(reinterpret_cast<const Float16*>(from)); }
  NNFAST_INLINE static void store(char* to, V v) { store_float16(reinterpret_cast<Float16*>(to), v); }
  NNFAST_INLINE static V load(const char* from, std::ptrdiff_t stride, std::ptrdiff_t count) {
    return load_float16(from, stride, count);
  }
  NNFAST_INLINE static void store(char* to, std::ptrdiff_t stride, V v, std::ptrdiff_t count) {
    store_float16(to, stride, v, count);
  }
  [[gnu::noinline]] static V load_lanes(const char* from, std::ptrdiff_t stride, std::ptrdiff_t first,
                                        std::ptrdiff_t last, float fill) {
    V v = broadcast<V>(fill);
    for (std::ptrdiff_t i = first; i < last; ++i) v[i] = widen_float16(load_element<Float16>(from + i * stride));
    return v;
  }
};

// The stride of contiguous elements, known when the code is compiled.
template <class S>
using Contiguous = std::integral_constant<std::ptrdiff_t, static_cast<std::ptrdiff_t>(sizeof(S))>;

// Elements i, i + 1, ... of an array at a byte stride, std::ptrdiff_t or Contiguous: `count` of them, the other lanes
// `fill`. Only whole vectors of contiguous elements are inlined: the rest is much code, and a call takes all registers
// of vectors, so loops that are to be fast have none.
template <class S, class Stride>
NNFAST_INLINE typename Stored<S>::V load_elements(const char* data, Stride stride, std::ptrdiff_t i,
                                                  std::ptrdiff_t count, typename Stored<S>::Param fill = 0) {
  const char* from = data + i * stride;
  if (stride == static_cast<std::ptrdiff_t>(sizeof(S)) && count == kLanes<typename Stored<S>::V>)
    return Stored<S>::load(from);
  if constexpr (std::is_same_v<S, Float16>) {
    return count == kLanes<Vec<float>> ? Stored<S>::load(from, stride, count)
                                       : Stored<S>::load_lanes(from, stride, 0, count, fill);
  } else {
    return load_apart<typename Stored<S>::V>(from, stride, count, fill);
  }
}

template <class S, class Stride>
NNFAST_INLINE void store_elements(char* data, Stride stride, std::ptrdiff_t i, typename Stored<S>::V v,
                                  std::ptrdiff_t count) {
  char* to = data + i * stride;
  if (stride == static_cast<std::ptrdiff_t>(sizeof(S)) && count == kLanes<typename Stored<S>::V>)
    return Stored<S>::store(to, v);
  if constexpr (std::is_same_v<S, Float16>) {
    Stored<S>::store(to, stride, v, count);
  } else {
    store_apart(to, stride, v, count);
  }
}

}  // namespace
}  // namespace nnfast
