#include "kernels/losses.hpp"

#include "kernels/cross_entropy.hpp"
#include "kernels/elementwise_losses.hpp"
#include "kernels/hinge.hpp"
#include "kernels/likelihood.hpp"
#include "kernels/row_pairs.hpp"

namespace nnfast {
namespace {

bool weights_sum(const double* weights, std::ptrdiff_t n, double* sum) {
  using D = Vec<double>;
  const ExceptionScope exceptions;
  Mask<D> valid = ~Mask<D>{};
  D sums[kReduceDoubles] = {};
  for_blocks<double>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    const D v = count == kLanes<D> ? load<D>(weights + i) : load_partial<D>(weights + i, count, 0.0);
    valid &= (v >= 0) & (v < kInfinity);
    sums[part] += v;
  });
  *sum = sum_of_block(sums);
  for (int k = 0; k < kLanes<D>; ++k)
    if (!valid[k]) return false;
  return true;
}

}  // namespace

namespace NNFAST_ISA {

extern const LossKernels losses;
const LossKernels losses = {
    {nullptr, softmax_cross_entropy<float>, softmax_cross_entropy<double>},
    {nullptr, cross_entropy<float>, cross_entropy<double>},
    {nullptr, hinge<float>, hinge<double>},
    {nullptr, negative_log_likelihood<float>, negative_log_likelihood<double>},
    {nullptr, pair_sums<float>, pair_sums<double>},
    {nullptr, mix_pairs<float>, mix_pairs<double>},
#define NNFAST_ENTRY(formula, name) {nullptr, elementwise_loss<formula, float>, elementwise_loss<formula, double>},
    {NNFAST_ELEMENTWISE_LOSSES(NNFAST_ENTRY)},
#undef NNFAST_ENTRY
    weights_sum,
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
