// Gated linear units (Dauphin et al. 2017; Shazeer 2020): y = a act(b). The gradient with respect to a is dy act(b),
// the same formula; with respect to b it is dy a act'(b).
#include "kernels/gating.hpp"

#include "kernels/elementwise_loop.hpp"
#include "kernels/formulas.hpp"

namespace nnfast {
namespace {

// The logistic function as Silu has it, by a table in float: its product with a is rounded once more anyway.
struct LogisticGate {
  static constexpr bool splits = kSplits;
  template <class V>
  NNFAST_INLINE static V forward(V x) {
    if constexpr (kPiecewise<V>) {
      const Mask<V> outside = rare(x);
      const V y = near(x, at_most(LogisticBelow::top, abs(x)));
      return any<V>(outside) ? (outside ? Sigmoid::forward(x) : y) : y;
    }
    return Sigmoid::forward(x);
  }
  template <class V>
  NNFAST_INLINE static V near(V x, V size) {
    const Line<V> f = piecewise_inside<LogisticBelow>(size);
    const V below = fma(f.slope, f.y, f.constant);
    return x < 0 ? below : 1 - below;
  }
  template <class V>
  NNFAST_INLINE static Mask<V> rare(V x) {
    if constexpr (kPiecewise<V>) return Silu::rare(x);
    return Sigmoid::rare(x);
  }
  template <class V>
  NNFAST_INLINE static V common(V x) {
    if constexpr (kPiecewise<V>) return near(x, abs(x));
    return Sigmoid::common(x);
  }
};

template <class Formula>
using GateOf = std::conditional_t<std::is_same_v<Formula, Sigmoid>, LogisticGate, Formula>;

template <class Formula>
struct Gated {
  using Gate = GateOf<Formula>;
  static constexpr unsigned raises = kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V apply(V a, V b) {
    return a * Gate::forward(b);
  }
  static constexpr bool splits = requires { Gate::splits; } && kSplits;
  template <class V>
  NNFAST_INLINE static Mask<V> rare(V, V b) {
    return Gate::rare(b);
  }
  template <class V>
  NNFAST_INLINE static V common(V a, V b) {
    return a * Gate::common(b);
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
