// The loops that carry a formula over arrays: contiguous, with repeated parameters, and at any strides. All of them put
// the same vectors through the same formula, so the bits of an element do not depend on which loop met it.
#pragma once

#include <utility>

#include "kernels/elementwise.hpp"
#include "simd/float_state.hpp"
#include "simd/vector.hpp"

namespace nnfast {
namespace {

template <class Kernel, class V, std::size_t... I>
NNFAST_INLINE V apply(const V* inputs, std::index_sequence<I...>) {
  return Kernel::apply(inputs[I]...);
}

// Inputs: how many there are in all; Repeated: how many of the last are the same for every element.
template <class Kernel, class T, int Inputs, int Repeated>
NNFAST_INLINE void contiguous_loop(char* const* arrays, std::ptrdiff_t n) {
  using V = Vec<T>;
  constexpr int varying = Inputs - Repeated;
  constexpr auto indices = std::make_index_sequence<Inputs>{};
  V inputs[Inputs];
  for (int k = varying; k < Inputs; ++k) inputs[k] = broadcast<V>(load_element<T>(arrays[k]));
  T* out = reinterpret_cast<T*>(arrays[Inputs]);
  const T* from[varying];
  for (int k = 0; k < varying; ++k) from[k] = reinterpret_cast<const T*>(arrays[k]);

  std::ptrdiff_t i = 0;
#pragma GCC unroll 2
  for (; i + kLanes<V> <= n; i += kLanes<V>) {
    for (int k = 0; k < varying; ++k) inputs[k] = load<V>(from[k] + i);
    store(out + i, apply<Kernel>(inputs, indices));
  }
  if (i == n) return;
  for (int k = 0; k < varying; ++k) inputs[k] = load_partial<V>(from[k] + i, n - i, T{0});
  store_partial(out + i, apply<Kernel>(inputs, indices), n - i);
}

template <class Kernel, class T, int Inputs>
NNFAST_INLINE void strided_loop(char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n) {
  using V = Vec<T>;
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = n - i < kLanes<V> ? n - i : kLanes<V>;
    V inputs[Inputs];
    for (int k = 0; k < Inputs; ++k) inputs[k] = load_strided<V>(arrays[k] + i * strides[k], strides[k], count, T{0});
    const V result = apply<Kernel>(inputs, std::make_index_sequence<Inputs>{});
    store_strided(arrays[Inputs] + i * strides[Inputs], strides[Inputs], result, count);
  }
}

template <int Count>
bool all_equal(const std::ptrdiff_t* strides, std::ptrdiff_t value) {
  for (int k = 0; k < Count; ++k)
    if (strides[k] != value) return false;
  return true;
}

// Params of the inputs come last and are usually one value for the whole array.
template <class Kernel, class T, int Inputs, int Params>
unsigned elementwise(char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  const ExceptionScope exceptions;
  const bool data_contiguous = all_equal<Inputs - Params>(strides, size) && strides[Inputs] == size;
  if (data_contiguous && all_equal<Params>(strides + Inputs - Params, size)) {
    contiguous_loop<Kernel, T, Inputs, 0>(arrays, n);
  } else if (Params > 0 && data_contiguous && all_equal<Params>(strides + Inputs - Params, 0)) {
    contiguous_loop<Kernel, T, Inputs, Params>(arrays, n);
  } else {
    strided_loop<Kernel, T, Inputs>(arrays, strides, n);
  }
  return exceptions.raised() & Kernel::raises;
}

template <class Kernel, int Inputs, int Params>
constexpr Elementwise elementwise_entry = {elementwise<Kernel, float, Inputs, Params>,
                                           elementwise<Kernel, double, Inputs, Params>};

}  // namespace
}  // namespace nnfast
