// The loops that carry a formula over arrays: contiguous, with repeated parameters, and at any strides. All of them put
// the same vectors through the same formula, so the bits of an element do not depend on which loop met it.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/elementwise.hpp"
#include "kernels/unrolled.hpp"
#include "simd/float_state.hpp"
#include "simd/stored.hpp"

namespace nnfast {
namespace {

template <class Kernel, class V, std::size_t... I>
NNFAST_INLINE V apply(const V* inputs, std::index_sequence<I...>) {
  return Kernel::apply(inputs[I]...);
}

// A result that is no input, whose lines are at hand, and can be aligned.
template <class S, int Varying>
NNFAST_INLINE bool can_stream(const char* const* from, const char* out, std::ptrdiff_t n) {
  if (n < 2 * kLanes<Vec<S>> || reinterpret_cast<std::uintptr_t>(out) % sizeof(S) != 0) return false;
  for (int k = 0; k < Varying; ++k)
    if (from[k] == out) return false;
  return true;
}

// Any elements at any strides, a vector at a time: the ends of what lies next to each other too, at the cost of a call
// instead of the formula's code at each of them.
template <class Kernel, class S, int Inputs, int Params>
[[gnu::noinline]] void strided_loop(char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t begin,
                                    std::ptrdiff_t end) {
  using V = typename Stored<S>::V;
  using Param = Stored<typename Stored<S>::Param>;
  for (std::ptrdiff_t i = begin; i < end; i += kLanes<V>) {
    const std::ptrdiff_t count = smaller(end - i, kLanes<V>);
    V inputs[Inputs];
    for (int k = 0; k < Inputs; ++k) {
      const char* from = arrays[k] + i * strides[k];
      inputs[k] = k < Inputs - Params ? Stored<S>::load(from, strides[k], count) : Param::load(from, strides[k], count);
    }
    const V result = apply<Kernel>(inputs, std::make_index_sequence<Inputs>{});
    Stored<S>::store(arrays[Inputs] + i * strides[Inputs], strides[Inputs], result, count);
  }
}

// Elements that lie next to each other. Inputs: how many there are in all; Repeated: how many of the last, which are
// parameters, are the same for every element.
template <class Kernel, class S, int Inputs, int Repeated, int Params>
NNFAST_INLINE void contiguous_loop(char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n,
                                   bool stream_results) {
  using V = typename Stored<S>::V;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(S));
  constexpr int varying = Inputs - Repeated;
  constexpr std::ptrdiff_t step = kAtOnce * kLanes<V>;
  const auto some = [&](std::ptrdiff_t begin, std::ptrdiff_t end)
                        NNFAST_INLINED { strided_loop<Kernel, S, Inputs, Params>(arrays, strides, begin, end); };
  std::ptrdiff_t i = 0;
  if (n >= step) {
    V repeated[Inputs];
    for (int k = varying; k < Inputs; ++k)
      repeated[k] = broadcast<V>(load_element<typename Stored<S>::Param>(arrays[k]));
    char* out = arrays[Inputs];
    const char* from[varying];
    for (int k = 0; k < varying; ++k) from[k] = arrays[k];
    bool streaming = false;
    if constexpr (Stored<S>::streams) streaming = stream_results && can_stream<S, varying>(from, out, n);
    if (streaming) {
      // Up to the next line.
      const auto past = static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(out) % sizeof(V));
      if (past) some(0, i = (static_cast<std::ptrdiff_t>(sizeof(V)) - past) / size);
    }
    for (; i + step <= n; i += step) {
      V several[kAtOnce][Inputs];
      V results[kAtOnce];
      unrolled<kAtOnce>([&](int u) NNFAST_INLINED {
        for (int k = 0; k < Inputs; ++k)
          several[u][k] = k < varying ? Stored<S>::load(from[k] + (i + u * kLanes<V>)*size) : repeated[k];
      });
      unrolled<kAtOnce>(
          [&](int u) NNFAST_INLINED { results[u] = apply<Kernel>(several[u], std::make_index_sequence<Inputs>{}); });
      if constexpr (Stored<S>::streams) {
        if (streaming) {
          unrolled<kAtOnce>(
              [&](int u) NNFAST_INLINED { stream(reinterpret_cast<S*>(out + (i + u * kLanes<V>)*size), results[u]); });
          continue;
        }
      }
      unrolled<kAtOnce>([&](int u) NNFAST_INLINED { Stored<S>::store(out + (i + u * kLanes<V>)*size, results[u]); });
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

// Params of the inputs come last and are usually one value for the whole array.
template <class Kernel, class S, int Inputs, int Params>
unsigned elementwise(char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n, bool stream_results) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(S));
  constexpr bool one_type = sizeof(typename Stored<S>::Param) == sizeof(S);
  const ExceptionScope exceptions;
  const bool data_contiguous = all_equal<Inputs - Params>(strides, size) && strides[Inputs] == size;
  if (data_contiguous && (one_type || Params == 0) && all_equal<Params>(strides + Inputs - Params, size)) {
    contiguous_loop<Kernel, S, Inputs, one_type ? 0 : Params, Params>(arrays, strides, n, stream_results);
  } else if (Params > 0 && data_contiguous && all_equal<Params>(strides + Inputs - Params, 0)) {
    contiguous_loop<Kernel, S, Inputs, Params, Params>(arrays, strides, n, stream_results);
  } else {
    strided_loop<Kernel, S, Inputs, Params>(arrays, strides, 0, n);
  }
  return exceptions.raised() & (Kernel::raises | Stored<S>::raises);
}

template <class Kernel, int Inputs, int Params>
constexpr Elementwise elementwise_entry = {elementwise<Kernel, Half, Inputs, Params>,
                                           elementwise<Kernel, float, Inputs, Params>,
                                           elementwise<Kernel, double, Inputs, Params>};

}  // namespace
}  // namespace nnfast
