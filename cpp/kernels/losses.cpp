#include "kernels/losses.hpp"

#include "kernels/cross_entropy.hpp"
#include "kernels/elementwise_losses.hpp"
#include "kernels/from_avx2.hpp"
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
  for_blocks<double, !kShort>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    const D v = count == kLanes<D> ? load<D>(weights + i) : load_partial<D>(weights + i, count, 0.0);
    valid &= (v >= 0) & (v < kInfinity);
    sums[part] += v;
  });
  *sum = sum_of_block(sums);
  for (int k = 0; k < kLanes<D>; ++k)
    if (!valid[k]) return false;
  return true;
}

template <class Loss, class... Others>
constexpr bool kIsOneOf = (std::is_same_v<Loss, Others> || ...);

// AVX-512 has those that networks are mostly trained with.
template <class Loss, class T>
consteval LossRunFn loss_fn() {
  if constexpr (kIsOneOf<Loss, SquaredError, AbsoluteError, Huber, BinaryCrossEntropyOfLogits, BinaryCrossEntropy>)
    return elementwise_loss<Loss, T>;
  else
    return NNFAST_FROM_AVX2((elementwise_loss<Loss, T>));
}

}  // namespace

namespace NNFAST_ISA {

extern const LossKernels losses;
const LossKernels losses = {
    {nullptr, softmax_cross_entropy<float>, softmax_cross_entropy<double>},
    {nullptr, NNFAST_FROM_AVX2(cross_entropy<float>), NNFAST_FROM_AVX2(cross_entropy<double>)},
    {nullptr, hinge<float>, NNFAST_FROM_AVX2(hinge<double>)},
    {nullptr, NNFAST_FROM_AVX2(negative_log_likelihood<float>), NNFAST_FROM_AVX2(negative_log_likelihood<double>)},
    {nullptr, NNFAST_FROM_AVX2(pair_sums<float>), NNFAST_FROM_AVX2(pair_sums<double>)},
    {nullptr, NNFAST_FROM_AVX2(mix_pairs<float>), NNFAST_FROM_AVX2(mix_pairs<double>)},
    {nullptr, NNFAST_FROM_AVX2(differences<float>), NNFAST_FROM_AVX2(differences<double>)},
#define NNFAST_ENTRY(formula, name) {nullptr, loss_fn<formula, float>(), loss_fn<formula, double>()},
    {NNFAST_ELEMENTWISE_LOSSES(NNFAST_ENTRY)},
#undef NNFAST_ENTRY
    weights_sum,
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
