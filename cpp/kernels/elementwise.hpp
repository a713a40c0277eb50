// What every elementwise kernel is called through; no vector type in sight, so that bindings may include it.
#pragma once

#include <cstddef>

#include "simd/raised.hpp"

namespace nnfast {

// A loop over n elements: inputs, then the output, at byte strides of any size and sign; 0 repeats an input. The output
// may be exactly an input, but not overlap one otherwise. The floating-point state is left as found; what was raised,
// of the exceptions that belong to the kernel, is returned (a set of Raised).
using ElementwiseFn = unsigned (*)(char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n);

// Of float16 arrays the parameters are float32.
struct Elementwise {
  ElementwiseFn f16, f32, f64;
};

}  // namespace nnfast
