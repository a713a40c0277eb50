#include "ops/penalties.hpp"

#include "ops/blocked_sums.hpp"
#include "ops/costs.hpp"
#include "runtime/kernel_table.hpp"

namespace nnfast {

double elastic_net(const Penalty& penalty, const std::vector<PenalizedArray>& arrays) {
  constexpr Cost kCost = cost_of("elastic_net");
  const std::vector<ListBlock> blocks =
      blocks_of(arrays, kPenaltyBlock, [](const PenalizedArray& array) { return array.weights_gradients.size(); });
  const PenaltyKernels& kernel = *kernels().penalties;
  BlockedSums sums(static_cast<std::ptrdiff_t>(blocks.size()), 1, 2);
  sums.run(kCost.ns * kPenaltyBlock, [&](std::ptrdiff_t b, std::ptrdiff_t, double* of_block) {
    const ListBlock& block = blocks[static_cast<std::size_t>(b)];
    const PenalizedArray& array = arrays[block.array];
    const StridedArrays<2>& walk = array.weights_gradients;
    std::ptrdiff_t strides[2];
    walk.inner_strides(strides);
    walk.for_runs(block.first, block.last, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
      double of_run[2];
      kernel[array.dtype](penalty, at[0], strides[0], at[1], strides[1], count, of_run);
      for (int k = 0; k < 2; ++k) of_block[k] += of_run[k];
    });
  });
  double totals[2] = {};
  sums.add_to(totals);
  const auto [magnitudes, squares] = totals;
  return (penalty.l1 != 0 ? penalty.l1 * magnitudes : 0) + (penalty.l2 != 0 ? penalty.l2 / 2 * squares : 0);
}

}  // namespace nnfast
