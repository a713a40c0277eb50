// The family of normalisation.
#pragma once

#include <cstddef>

#include "kernels/softmax.hpp"

namespace nnfast {

// Batch normalisation of (rows, channels), statistics along the rows. Arrays of one value a channel are doubles for
// both types of x, so that the mean keeps its digits.
struct BatchNorm {
  Matrix x, y;
  std::ptrdiff_t rows;
  const double* gamma;  // never null: ones and zeros where the caller gave none
  const double* beta;
  double eps;
  double* mean;      // written in training, read in inference
  double* variance;  // biased; written in training, read in inference
  double* inv_std;   // written
};

struct BatchNormBackward {
  Matrix dy, x, dx;
  std::ptrdiff_t rows;
  const double* gamma;
  const double* mean;
  const double* inv_std;
  bool training;
  double* dgamma;
  double* dbeta;
};

// Each works on the channels [begin, end).
using BatchNormFn = void (*)(const BatchNorm& norm, std::ptrdiff_t begin, std::ptrdiff_t end);
using BatchNormBackwardFn = void (*)(const BatchNormBackward& norm, std::ptrdiff_t begin, std::ptrdiff_t end);

struct NormalizationKernels {
  BatchNormFn batch_norm_training_f32, batch_norm_training_f64;
  BatchNormFn batch_norm_inference_f32, batch_norm_inference_f64;
  BatchNormBackwardFn batch_norm_backward_f32, batch_norm_backward_f64;
};

}  // namespace nnfast
