// What every elementwise kernel is called through.
#pragma once

#include <cstddef>

#include "kernels/per_dtype.hpp"
#include "simd/raised.hpp"

namespace nnfast {

// A loop over n elements: inputs, then the output, at byte strides of any size and sign; 0 repeats an input. The output
// may be exactly an input, but not overlap one otherwise. The floating-point state is left as found, but for the flags
// of rounding and of subnormal operands; what was raised, of the exceptions that belong to the kernel, is returned (a
// set of Raised). `stream`: non-temporal stores, for results that the caches cannot hold. Parameters of float16 arrays
// are float32.
using ElementwiseFn = unsigned (*)(char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n, bool stream);

using Elementwise = PerDtype<ElementwiseFn>;

}  // namespace nnfast
