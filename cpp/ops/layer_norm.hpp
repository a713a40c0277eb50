// Layer normalisation of rows, with a mean or, as in rms_norm, without.
#pragma once

#include "kernels/layer_norm.hpp"

namespace nnfast {

// data[0] normalised into data[1]. layer.mean is null for rms_norm.
void layer_norm(Dtype dtype, const LayerNorm& layer);
// dx into data[2]. dgamma is added to sums, a double a column, and dbeta to as many after them; none of rms_norm.
void layer_norm_backward(Dtype dtype, const LayerNorm& layer, double* sums);

}  // namespace nnfast
