// Elementwise kernels on as many threads as pay off.
#pragma once

#include "kernels/elementwise.hpp"
#include "ops/costs.hpp"

namespace nnfast {

// Whether an element of the output is the next one's first input, as NumPy's reduce and accumulate pass them.
bool feeds_itself(char* const* arrays, const std::ptrdiff_t* strides, int inputs);

// One loop of a ufunc: n elements of `inputs` arrays and of the output, the last of `arrays`, at byte strides. Returns
// what was raised.
unsigned run_elementwise(ElementwiseFn fn, int inputs, char* const* arrays, const std::ptrdiff_t* strides,
                         std::ptrdiff_t n, const Cost& cost);

constexpr int kMaxElementwiseArrays = 5;

}  // namespace nnfast
