// Gated linear units (Dauphin et al. 2017; Shazeer 2020): y = a act(b). The gradient with respect to a is dy act(b),
// the same formula; with respect to b it is dy a act'(b).
#include "kernels/gating.hpp"

#include "kernels/elementwise_loop.hpp"
#include "kernels/formulas.hpp"

namespace nnfast {
namespace {

template <class Formula>
struct Gated {
  static constexpr unsigned raises = kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V apply(V a, V b) {
    return a * Formula::forward(b);
  }
  static constexpr bool splits = requires { Formula::splits; } && kSplits;
  template <class V>
  NNFAST_INLINE static Mask<V> rare(V, V b) {
    return Formula::rare(b);
  }
  template <class V>
  NNFAST_INLINE static V common(V a, V b) {
    return a * Formula::common(b);
  }
};

template <class Formula>
struct GateBackward {
  static constexpr unsigned raises = kRaisedOverflow;
  static constexpr bool by_table = true;
  template <class V>
  NNFAST_INLINE static V apply(V dy, V a, V b) {
    return dy * a * slope(b);
  }
  // Sigmoid's gradient takes its output; here its input is what is saved.
  template <class V>
  NNFAST_INLINE static V slope(V b) {
    if constexpr (std::is_same_v<Formula, Sigmoid>) {
      return Sigmoid::slope(b);
    } else {
      return Formula::backward(broadcast<V>(1), b);
    }
  }
};

}  // namespace

namespace NNFAST_ISA {

extern const GatingKernels gating;
const GatingKernels gating = {
#define NNFAST_FORWARD(formula, name) elementwise_entry<Gated<formula>, 2, 0>,
    {NNFAST_GATES(NNFAST_FORWARD)},
#define NNFAST_BACKWARD(formula, name) elementwise_entry<GateBackward<formula>, 3, 0>,
    {NNFAST_GATES(NNFAST_BACKWARD)},
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
