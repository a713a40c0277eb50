// bfloat16 arrays: widened to float32 for the kernels, whose results are rounded once.
#pragma once

#include "kernels/elementwise.hpp"
#include "ops/costs.hpp"
#include "runtime/strided.hpp"

namespace nnfast {

// The arrays of bfloat16 and of float32, of one shape and any strides.
using Bfloat16AndFloat = StridedArrays<2>;

// float32 <- bfloat16, which is exact.
void widen_bfloat16(Bfloat16AndFloat arrays);
// bfloat16 <- float32: to the nearest, ties to even; NaN stays NaN, with its sign.
void round_to_bfloat16(Bfloat16AndFloat arrays);
// float32 <- bfloat16 where the float32 number is not one that rounds to it.
void refresh_from_bfloat16(Bfloat16AndFloat arrays);

// As run_elementwise, of bfloat16 arrays by the kernel of float32; the last `params` inputs are float32 themselves.
unsigned run_elementwise_bfloat16(ElementwiseFn fn, int inputs, int params, char* const* arrays,
                                  const std::ptrdiff_t* strides, std::ptrdiff_t n, const Cost& cost);

}  // namespace nnfast
