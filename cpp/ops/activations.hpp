// Activations that are more than one elementwise loop: prelu with a weight a channel, its weights' gradient, maxout.
#pragma once

#include "kernels/activations.hpp"
#include "runtime/strided.hpp"

namespace nnfast {

// An array as (outer, channels, inner) in C order, with a weight for each channel.
struct ChannelShape {
  std::ptrdiff_t outer = 1, channels = 1, inner = 1;
  std::ptrdiff_t size() const { return outer * channels * inner; }
};

// y = kernel(inputs..., weight) for contiguous arrays of one shape, `inputs` before y in `arrays`. Returns what was
// raised.
unsigned prelu_channels(const Elementwise& kernel, Dtype dtype, const ChannelShape& shape, char* const* arrays,
                        int inputs, char* weight);

// The gradient with respect to the weights, contiguous, of dy and x: `kept` has the axes of the weights, `summed` those
// that are summed.
void prelu_weight_gradient(Dtype dtype, const StridedArrays<2>& kept, const StridedArrays<2>& summed, char* dweight);

// y and which, and of x the first of the `pieces` elements of each of theirs, which lie at piece_stride.
void maxout(const PerDtype<MaxoutFn>& kernel, Dtype dtype, StridedArrays<3> y_which_x, std::ptrdiff_t pieces,
            std::ptrdiff_t piece_stride);

}  // namespace nnfast
