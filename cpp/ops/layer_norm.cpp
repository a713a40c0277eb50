#include "ops/layer_norm.hpp"

#include <algorithm>

#include "ops/blocked_sums.hpp"
#include "ops/costs.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

// Rows of a block, whose partial sums are taken on their own: whole passes of the kernel.
std::ptrdiff_t rows_in_norm_block(std::ptrdiff_t rows, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t kElements = 16384, kMostBlocks = 32;
  const std::ptrdiff_t fewest = std::max(kElements / std::max<std::ptrdiff_t>(n, 1), rows / kMostBlocks);
  return (fewest + kRowsInPass) / kRowsInPass * kRowsInPass;
}

}  // namespace

void layer_norm(Dtype dtype, const LayerNorm& layer) {
  constexpr Cost kCost = cost_of("layer_norm");
  const LayerNormKernels& kernel = *kernels().layer_norm;
  const LayerNormFn fn = (layer.mean ? kernel.layer_norm : kernel.rms_norm)[dtype];
  parallel_for(
      layer.norm.set_count, kCost.ns * static_cast<double>(layer.norm.member_count),
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) { fn(layer, begin, end); }, kRowsInPass);
}

void layer_norm_backward(Dtype dtype, const LayerNorm& layer, double* sums) {
  constexpr Cost kCost = cost_of("layer_norm_backward");
  const LayerNormKernels& kernel = *kernels().layer_norm;
  const LayerNormFn fn = (layer.mean ? kernel.layer_norm_backward : kernel.rms_norm_backward)[dtype];
  const std::ptrdiff_t rows = layer.norm.set_count, n = layer.norm.member_count;
  BlockedSums blocks(rows, rows_in_norm_block(rows, n), layer.mean ? 2 * n : n);
  blocks.run(kCost.ns * static_cast<double>(n), [&](std::ptrdiff_t begin, std::ptrdiff_t end, double* of_block) {
    LayerNorm block = layer;
    block.dgamma = of_block;
    block.dbeta = of_block + n;
    fn(block, begin, end);
  });
  blocks.add_to(sums);
}

}  // namespace nnfast
