// Pooling of batches of planes, and its gradients.
#pragma once

#include "kernels/per_dtype.hpp"
#include "kernels/pooling.hpp"

namespace nnfast {

// The planes of a batch: that of the first channel of the first image, and byte strides between images.
struct PooledBatch {
  Dtype dtype;
  std::ptrdiff_t images;
  Pooling plane;
  std::ptrdiff_t x, y, which;
};

// Each returns what was raised (a set of Raised): overflow. dx is overwritten. That of the maxima follows from `which`
// alone, where a position outside of the plane, such as the -1 of a window without elements, takes part in nothing.
void max_pool(const PooledBatch& batch);
unsigned max_pool_backward(const PooledBatch& batch);
unsigned avg_pool(const PooledBatch& batch);
unsigned avg_pool_backward(const PooledBatch& batch);

// The means of whole planes, one for each image and channel of y, summed in double: element i is added to partial sum
// i mod 64, and these two and two, whatever the strides.
void global_avg_pool(const PooledBatch& batch);
// y, one for each image and channel, divided by the elements of a plane, for each of them.
void global_avg_pool_backward(const PooledBatch& batch);

// The windows of x as columns y: tap_row and tap_column say how they lie there.
void im2col(const PooledBatch& batch);
// The sum of the columns y that were taken from each element of x, which is overwritten.
unsigned col2im(const PooledBatch& batch);

}  // namespace nnfast
