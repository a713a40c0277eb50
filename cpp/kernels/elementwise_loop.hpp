// The loops that apply a formula to arrays: contiguous, with repeated parameters, and at any strides. All of them put
// the same vectors through the same formula, so the bits of an element do not depend on the loop. Arrays of float16 go
// through the loops of float32.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/cache_lines.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/unrolled.hpp"
#include "simd/elements.hpp"
#include "simd/float_state.hpp"
#include "simd/piecewise.hpp"

namespace nnfast {
namespace {

template <class Kernel, class V, std::size_t... I>
NNFAST_INLINE V apply(const V* inputs, std::index_sequence<I...>) {
  return Kernel::apply(inputs[I]...);
}

// The same, out of the way of a fast loop.
template <class Kernel, int Inputs, class V>
[[gnu::noinline]] V apply_apart(const V* inputs) {
  return apply<Kernel>(inputs, std::make_index_sequence<Inputs>{});
}

// Whether a kernel has a shorter formula, common(), for vectors without lanes that are rare().
template <class Kernel>
consteval bool splits() {
  if constexpr (requires { Kernel::splits; }) return Kernel::splits;
  return false;
}
template <class Kernel, class V, std::size_t... I>
NNFAST_INLINE Mask<V> rare(const V* inputs, std::index_sequence<I...>) {
  return Kernel::rare(inputs[I]...);
}
template <class Kernel, class V, std::size_t... I>
NNFAST_INLINE V common(const V* inputs, std::index_sequence<I...>) {
  if constexpr (splits<Kernel>()) {
    return Kernel::common(inputs[I]...);
  } else {
    return Kernel::apply(inputs[I]...);
  }
}

// Whether the result is no input, whose lines are in the cache, and is aligned.
template <class T, int Varying>
NNFAST_INLINE bool can_stream(const char* const* from, const char* out, std::ptrdiff_t first) {
  if (reinterpret_cast<std::uintptr_t>(out + first * static_cast<std::ptrdiff_t>(sizeof(T))) % kVectorBytes != 0)
    return false;
  for (int k = 0; k < Varying; ++k)
    if (from[k] == out) return false;
  return true;
}

// Any elements at any strides, a vector at a time; the tails of contiguous elements too, at the cost of a call instead
// of the formula's code at each of them.
template <class Kernel, class T, int Inputs>
[[gnu::noinline]] void strided_loop(char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t begin,
                                    std::ptrdiff_t end) {
  using V = Vec<T>;
  for (std::ptrdiff_t i = begin; i < end; i += kLanes<V>) {
    const std::ptrdiff_t count = smaller(end - i, kLanes<V>);
    V inputs[Inputs];
    for (int k = 0; k < Inputs; ++k) inputs[k] = load_elements<T>(arrays[k], strides[k], i, count);
    const V result = apply<Kernel>(inputs, std::make_index_sequence<Inputs>{});
    store_elements<T>(arrays[Inputs], strides[Inputs], i, result, count);
  }
}

// How many vectors are computed together. The coefficients of a table fill the registers of AVX2 where there are four.
template <class Kernel, class T>
consteval int vectors_together() {
  if constexpr (requires { requires Kernel::by_table; })
    if (kVectorBytes == 32 && sizeof(T) == sizeof(float)) return 2;
  return kUnroll;
}

// Contiguous elements. Inputs: how many there are in all; Repeated: how many of the last, which are parameters, are the
// same for every element.
template <class Kernel, class T, int Inputs, int Repeated>
NNFAST_INLINE void contiguous_loop(char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n,
                                   bool stream_results) {
  using V = Vec<T>;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  constexpr int varying = Inputs - Repeated;
  constexpr int together = vectors_together<Kernel, T>();
  constexpr std::ptrdiff_t step = together * kLanes<V>;
  const auto some = [&](std::ptrdiff_t begin, std::ptrdiff_t end)
                        NNFAST_INLINED { strided_loop<Kernel, T, Inputs>(arrays, strides, begin, end); };
  std::ptrdiff_t i = 0;
  if (n >= step) {
    V repeated[Inputs];
    for (int k = varying; k < Inputs; ++k) repeated[k] = broadcast<V>(load_element<T>(arrays[k]));
    char* out = arrays[Inputs];
    const char* from[varying];
    for (int k = 0; k < varying; ++k) from[k] = arrays[k];
    i = to_next_line<T>(out, n);
    if (i > 0) some(0, i);
    const bool streaming = kCanStream && stream_results && can_stream<T, varying>(from, out, i);
    for (; i + step <= n; i += step) {
      V several[together][Inputs];
      V results[together];
      unrolled<together>([&](int u) NNFAST_INLINED {
        for (int k = 0; k < Inputs; ++k)
          several[u][k] =
              k < varying ? load<V>(reinterpret_cast<const T*>(from[k] + (i + u * kLanes<V>)*size)) : repeated[k];
      });
      if constexpr (splits<Kernel>()) {
        Mask<V> apart{};
        unrolled<together>(
            [&](int u) NNFAST_INLINED { apart |= rare<Kernel>(several[u], std::make_index_sequence<Inputs>{}); });
        if (__builtin_expect(any<V>(apart), 0)) {
          for (int u = 0; u < together; ++u) {
            V inputs[Inputs];
            for (int k = 0; k < Inputs; ++k) inputs[k] = several[u][k];
            store(reinterpret_cast<T*>(out + (i + u * kLanes<V>)*size), apply_apart<Kernel, Inputs>(inputs));
          }
          continue;
        }
      }
      unrolled<together>(
          [&](int u) NNFAST_INLINED { results[u] = common<Kernel>(several[u], std::make_index_sequence<Inputs>{}); });
      const auto to = [&](int u) NNFAST_INLINED { return reinterpret_cast<T*>(out + (i + u * kLanes<V>)*size); };
      if (streaming) {
        unrolled<together>([&](int u) NNFAST_INLINED { stream(to(u), results[u]); });
      } else {
        unrolled<together>([&](int u) NNFAST_INLINED { store(to(u), results[u]); });
      }
    }
    if (streaming) fence();
  }
  if (i < n) some(i, n);
}

template <int Count>
bool all_equal(const std::ptrdiff_t* strides, std::ptrdiff_t value) {
  for (int k = 0; k < Count; ++k)
    if (strides[k] != value) return false;
  return true;
}

// Whether there is a loop for parameters that differ from element to element, as the slopes of prelu do; for others
// that is rare enough for the loop of strides.
template <class Kernel, int Params>
constexpr bool kVaryingParams = Params == 0 || requires { requires Kernel::varying_params; };

// Params of the inputs come last and are usually one value for the whole array.
template <class Kernel, class T, int Inputs, int Params>
unsigned elementwise(char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n, bool stream_results) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  const ExceptionScope exceptions;
  const bool data_contiguous = all_equal<Inputs - Params>(strides, size) && strides[Inputs] == size;
  if (kVaryingParams<Kernel, Params> && data_contiguous && all_equal<Params>(strides + Inputs - Params, size)) {
    if constexpr (kVaryingParams<Kernel, Params>)
      contiguous_loop<Kernel, T, Inputs, 0>(arrays, strides, n, stream_results);
  } else if (Params > 0 && data_contiguous && all_equal<Params>(strides + Inputs - Params, 0)) {
    contiguous_loop<Kernel, T, Inputs, Params>(arrays, strides, n, stream_results);
  } else {
    strided_loop<Kernel, T, Inputs>(arrays, strides, 0, n);
  }
  return exceptions.raised() & Kernel::raises;
}

// The float16 variant, with parameters of float32: widens to float32, rounds once. `data`: the inputs that are no
// parameters.
[[gnu::noinline, maybe_unused]] unsigned in_float32(ElementwiseFn of_float32, int inputs, int data, char* const* arrays,
                                                    const std::ptrdiff_t* strides, std::ptrdiff_t n) {
  constexpr int most = 4;
  const ExceptionScope exceptions;  // of the rounded results
  unsigned raised = 0;
  float values[most][kWidenedChunk];
  for (std::ptrdiff_t begin = 0; begin < n; begin += kWidenedChunk) {
    const std::ptrdiff_t count = smaller(n - begin, kWidenedChunk);
    char* at[most + 1];
    std::ptrdiff_t steps[most + 1];
    for (int k = 0; k < inputs; ++k) {
      at[k] = arrays[k] + begin * strides[k];
      steps[k] = strides[k];
      if (k >= data) continue;
      widen_run(at[k], strides[k], values[k], count);
      at[k] = reinterpret_cast<char*>(values[k]);
      steps[k] = sizeof(float);
    }
    at[inputs] = at[0];
    steps[inputs] = sizeof(float);
    raised |= of_float32(at, steps, count, false);
    narrow_run(at[0], sizeof(float), arrays[inputs] + begin * strides[inputs], strides[inputs], count);
  }
  return raised | (exceptions.raised() & kRaisedOverflow);
}

template <class Kernel, int Inputs, int Params>
unsigned elementwise_float16(char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n, bool) {
  return in_float32(elementwise<Kernel, float, Inputs, Params>, Inputs, Inputs - Params, arrays, strides, n);
}

template <class Kernel, int Inputs, int Params>
constexpr Elementwise elementwise_entry = {elementwise_float16<Kernel, Inputs, Params>,
                                           elementwise<Kernel, float, Inputs, Params>,
                                           elementwise<Kernel, double, Inputs, Params>};

}  // namespace
}  // namespace nnfast
