// What every elementwise kernel is called through; no vector type in sight, so that bindings may include it.
#pragma once

#include <cstddef>

#include "simd/raised.hpp"

namespace nnfast {

// A loop over n elements: inputs, then the output, at byte strides of any size and sign; 0 repeats an input. The output
// may be exactly an input, but not overlap one otherwise. The floating-point state is left as found; what was raised,
// of the exceptions that belong to the kernel, is returned (a set of Raised). `stream`: all results of the call that
// this loop is a part of are more than caches hold, and may go past them.
using ElementwiseFn = unsigned (*)(char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n, bool stream);

// Whether so many bytes of results are, from a kernel that waits for memory: one that does not gains nothing.
constexpr bool streams(std::ptrdiff_t bytes, double ns_per_element) {
  return bytes >= std::ptrdiff_t{16} << 20 && ns_per_element < 0.3;
}

// Of float16 arrays the parameters are float32.
struct Elementwise {
  ElementwiseFn f16, f32, f64;
};

}  // namespace nnfast
