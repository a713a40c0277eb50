// l1 sum |w| + l2/2 sum w^2, and its gradient: l1 sign(w) + l2 w.
#include "kernels/penalties.hpp"

#include "simd/elements.hpp"
#include "simd/float_state.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

template <class T>
void penalty(const Penalty& penalty, const char* weights, std::ptrdiff_t weight_stride, char* gradients,
             std::ptrdiff_t gradient_stride, std::ptrdiff_t n, double (&sums)[2]) {
  using V = Vec<T>;
  const ExceptionScope exceptions;
  const V l1 = broadcast<V>(static_cast<T>(penalty.l1)), l2 = broadcast<V>(static_cast<T>(penalty.l2));
  const bool has_l2 = penalty.l2 != 0;
  BlockSum<T> magnitudes, squares;
  for (std::ptrdiff_t i = 0; i < n; i += kReduceBlock) {
    for (int part = 0; part < kReduceParts<T>; ++part) {
      const std::ptrdiff_t at = i + part * kLanes<V>, count = part_count<T>(n - i, part);
      const V w = load_elements<T>(weights, weight_stride, at, count);
      magnitudes.add(abs(w), part);
      squares.add_product(w, w, part);
      if (!gradients) continue;
      const V g = load_elements<T>(gradients, gradient_stride, at, count);
      const V sign = w > 0 ? l1 : (w < 0 ? -l1 : w);  // w is 0 there, or NaN
      // With l2 = 0 an infinite weight would be multiplied by 0.
      store_elements<T>(gradients, gradient_stride, at, g + (has_l2 ? fma(l2, w, sign) : sign), count);
    }
  }
  sums[0] = magnitudes.total();
  sums[1] = squares.total();
}

}  // namespace

namespace NNFAST_ISA {

extern const PenaltyKernels penalties;
const PenaltyKernels penalties = {{nullptr, penalty<float>, penalty<double>}};

}  // namespace NNFAST_ISA
}  // namespace nnfast
