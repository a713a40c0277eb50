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

// Inputs: how many there are in all; Repeated: how many of the last are the same for every element.
template <class Kernel, class S, int Inputs, int Repeated>
NNFAST_INLINE void contiguous_loop(char* const* arrays, std::ptrdiff_t n, bool stream_results) {
  using V = typename Stored<S>::V;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(S));
  constexpr int varying = Inputs - Repeated;
  constexpr auto indices = std::make_index_sequence<Inputs>{};
  V inputs[Inputs];
  for (int k = varying; k < Inputs; ++k) inputs[k] = broadcast<V>(load_element<typename Stored<S>::Param>(arrays[k]));
  char* out = arrays[Inputs];
  const char* from[varying];
  for (int k = 0; k < varying; ++k) from[k] = arrays[k];

  std::ptrdiff_t i = 0;
  const auto one_vector = [&] NNFAST_INLINED {
    for (int k = 0; k < varying; ++k) inputs[k] = Stored<S>::load(from[k] + i * size);
    Stored<S>::store(out + i * size, apply<Kernel>(inputs, indices));
    i += kLanes<V>;
  };
  const auto several_vectors = [&](auto put) NNFAST_INLINED {
    V several[kAtOnce][Inputs];
    V results[kAtOnce];
    unrolled<kAtOnce>([&](int u) NNFAST_INLINED {
      for (int k = 0; k < Inputs; ++k)
        several[u][k] = k < varying ? Stored<S>::load(from[k] + (i + u * kLanes<V>)*size) : inputs[k];
    });
    unrolled<kAtOnce>([&](int u) NNFAST_INLINED { results[u] = apply<Kernel>(several[u], indices); });
    unrolled<kAtOnce>([&](int u) NNFAST_INLINED { put(out + (i + u * kLanes<V>)*size, results[u]); });
    i += kAtOnce * kLanes<V>;
  };
  if constexpr (Stored<S>::streams) {
    if (stream_results && can_stream<S, varying>(from, out, n)) {
      // Up to the next line, by elements that are computed again as part of a vector.
      const auto misaligned = static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(out) % sizeof(V));
      if (misaligned) {
        for (int k = 0; k < varying; ++k) inputs[k] = Stored<S>::load(from[k]);
        Stored<S>::store(out, apply<Kernel>(inputs, indices));
        i = kLanes<V> - misaligned / size;
      }
      while (i + kAtOnce * kLanes<V> <= n)
        several_vectors([](char* to, V v) NNFAST_INLINED { stream(reinterpret_cast<S*>(to), v); });
      fence();
    }
  }
  while (i + kAtOnce * kLanes<V> <= n) several_vectors([](char* to, V v) NNFAST_INLINED { Stored<S>::store(to, v); });
  while (i + kLanes<V> <= n) one_vector();
  if (i == n) return;
  for (int k = 0; k < varying; ++k) inputs[k] = Stored<S>::load(from[k] + i * size, size, n - i);
  Stored<S>::store(out + i * size, size, apply<Kernel>(inputs, indices), n - i);
}

template <class Kernel, class S, int Inputs, int Params>
NNFAST_INLINE void strided_loop(char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n) {
  using V = typename Stored<S>::V;
  using Param = Stored<typename Stored<S>::Param>;
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = n - i < kLanes<V> ? n - i : kLanes<V>;
    V inputs[Inputs];
    for (int k = 0; k < Inputs; ++k) {
      const char* from = arrays[k] + i * strides[k];
      inputs[k] = k < Inputs - Params ? Stored<S>::load(from, strides[k], count) : Param::load(from, strides[k], count);
    }
    const V result = apply<Kernel>(inputs, std::make_index_sequence<Inputs>{});
    Stored<S>::store(arrays[Inputs] + i * strides[Inputs], strides[Inputs], result, count);
  }
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
    contiguous_loop<Kernel, S, Inputs, one_type ? 0 : Params>(arrays, n, stream_results);
  } else if (Params > 0 && data_contiguous && all_equal<Params>(strides + Inputs - Params, 0)) {
    contiguous_loop<Kernel, S, Inputs, Params>(arrays, n, stream_results);
  } else {
    strided_loop<Kernel, S, Inputs, Params>(arrays, strides, n);
  }
  return exceptions.raised() & (Kernel::raises | Stored<S>::raises);
}

template <class Kernel, int Inputs, int Params>
constexpr Elementwise elementwise_entry = {elementwise<Kernel, Half, Inputs, Params>,
                                           elementwise<Kernel, float, Inputs, Params>,
                                           elementwise<Kernel, double, Inputs, Params>};

}  // namespace
}  // namespace nnfast
