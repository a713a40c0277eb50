// Convolutions and their gradients, of images at any strides.
//
// A call asks for its workspace before it writes anything: at most kSharedBytes for weights or partial sums, and
// kThreadBytes a thread.
#pragma once

#include <cstddef>

#include "kernels/convolution.hpp"

namespace nnfast {

// One of the two axes that a kernel slides along.
struct ConvolutionAxis {
  std::ptrdiff_t input, output, kernel, stride, padding, dilation;  // padding: before the first element
};

// Channels are those of a group.
struct ConvolutionShape {
  Dtype dtype;  // of images
  std::ptrdiff_t batch, groups, in_channels, out_channels;
  ConvolutionAxis rows, columns;
};

struct Images {
  ImageView first;
  std::ptrdiff_t stride;  // from one image to the next, in bytes
};

// (groups * out_channels, in_channels, rows, columns) at byte strides; of float16 images float16 or float32.
struct ConvolutionWeights {
  char* data;
  std::ptrdiff_t strides[4];
  Dtype dtype;
};

// bias: contiguous, of parameter_dtype(dtype), or null.
void convolution(const ConvolutionShape& shape, const Images& x, const ConvolutionWeights& w, const void* bias,
                 const Images& y);
// Where gradients go, null for those that are not needed. db, the sums of dy over all but the channels, is contiguous.
struct ConvolutionGradients {
  const Images* dx;
  const ConvolutionWeights* dw;
  double* db;
};
void convolution_backward(const ConvolutionShape& shape, const Images& dy, const Images& x, const ConvolutionWeights& w,
                          const ConvolutionGradients& to);

}  // namespace nnfast
