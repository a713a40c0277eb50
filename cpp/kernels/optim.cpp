// Optimizers: each rule is a struct whose update() is the formula over vectors, with the numbers of the step as
// vectors too. The rules are PyTorch's; subnormals count as zero inside (see FlushSubnormalsScope).
#include "kernels/optim.hpp"

#include "simd/float_state.hpp"
#include "simd/vector.hpp"

namespace nnfast {
namespace {

// g, its sign turned when maximising, plus the L2 penalty's gradient.
template <class V, class Step>
struct Gradient {
  V sign, weight_decay;
  NNFAST_INLINE explicit Gradient(const Step& step)
      : sign(broadcast<V>(static_cast<Element<V>>(step.maximize ? -1 : 1))),
        weight_decay(broadcast<V>(static_cast<Element<V>>(step.weight_decay))) {}
  NNFAST_INLINE V operator()(V g, V p) const { return fma(weight_decay, p, sign * g); }
};

// p -= lr g
template <class V>
struct Sgd {
  using Vector = V;
  using Step = SgdStep;
  static constexpr int kState = 0;
  Gradient<V, Step> gradient;
  V lr;
  NNFAST_INLINE explicit Sgd(const Step& step) : gradient(step), lr(broadcast<V>(static_cast<Element<V>>(step.lr))) {}
  NNFAST_INLINE void update(V& p, V g, V*) const { p = fma(-lr, gradient(g, p), p); }
};

// v = momentum v + (1 - dampening) g, v = g at first;  p -= lr v, or lr (g + momentum v) with Nesterov's
template <class V>
struct SgdMomentum {
  using Vector = V;
  using Step = SgdStep;
  static constexpr int kState = 1;
  Gradient<V, Step> gradient;
  V lr, momentum, gain;
  bool nesterov;
  NNFAST_INLINE explicit SgdMomentum(const Step& step)
      : gradient(step),
        lr(broadcast<V>(static_cast<Element<V>>(step.lr))),
        momentum(broadcast<V>(static_cast<Element<V>>(step.momentum))),
        gain(broadcast<V>(static_cast<Element<V>>(step.first ? 1 : 1 - step.dampening))),
        nesterov(step.nesterov) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    g = gradient(g, p);
    V& v = state[0];  // zero before the first step
    v = fma(momentum, v, gain * g);
    p = fma(-lr, nesterov ? fma(momentum, v, g) : v, p);
  }
};

// m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
// p -= step_size m / (sqrt(v) inv_sqrt_correction + eps)                       (Kingma, Ba 2015)
template <class V>
struct Adam {
  using Vector = V;
  using Step = AdamStep;
  using T = Element<V>;
  static constexpr int kState = 2;
  Gradient<V, Step> gradient;
  V step_size, beta1, gain1, beta2, gain2, eps, inv_sqrt_correction;
  NNFAST_INLINE explicit Adam(const Step& step)
      : gradient(step),
        step_size(broadcast<V>(static_cast<T>(step.step_size))),
        beta1(broadcast<V>(static_cast<T>(step.beta1))),
        gain1(broadcast<V>(static_cast<T>(1 - step.beta1))),
        beta2(broadcast<V>(static_cast<T>(step.beta2))),
        gain2(broadcast<V>(static_cast<T>(1 - step.beta2))),
        eps(broadcast<V>(static_cast<T>(step.eps))),
        inv_sqrt_correction(broadcast<V>(static_cast<T>(step.inv_sqrt_correction))) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    g = gradient(g, p);
    V& m = state[0];
    V& v = state[1];
    m = fma(beta1, m, gain1 * g);
    v = fma(beta2, v, gain2 * g * g);
    p = fma(-step_size, m / fma(sqrt(v), inv_sqrt_correction, eps), p);
  }
};

// One vector of a rule's arrays: where it is read and written, `count` elements of it at byte strides. Where every
// array is contiguous and the vector full there is nothing to ask.
template <class Rule, bool Full>
struct Place {
  using V = typename Rule::Vector;
  using T = Element<V>;
  char* const* arrays;
  const std::ptrdiff_t* strides;
  std::ptrdiff_t at, count;
  NNFAST_INLINE char* array(int k) const {
    return arrays[k] + (Full ? at * static_cast<std::ptrdiff_t>(sizeof(T)) : at * strides[k]);
  }
  NNFAST_INLINE V read(int k) const {
    return Full ? load<V>(reinterpret_cast<const T*>(array(k))) : load_strided<V>(array(k), strides[k], count, T{0});
  }
  NNFAST_INLINE void write(int k, V v) const {
    Full ? store(reinterpret_cast<T*>(array(k)), v) : store_strided(array(k), strides[k], v, count);
  }
};

// Writes the state; returns the parameter.
template <class Rule, bool Full, class V = typename Rule::Vector>
NNFAST_INLINE V updated(const Rule& rule, const Place<Rule, Full>& place) {
  V p = place.read(0);
  V state[Rule::kState + 1];
  for (int k = 0; k < Rule::kState; ++k) state[k] = place.read(2 + k);
  rule.update(p, place.read(1), state);
  for (int k = 0; k < Rule::kState; ++k) place.write(2 + k, state[k]);
  return p;
}

// The cores of a matrix product all hold the parameters they have read, so that a store there waits until the others
// have let go of the line. The parameters of so many vectors are stored in a row: they wait together, and no other
// store between them.
constexpr int kTogether = 4;

template <template <class> class Rule, class T, class Step>
void step_run(const Step& step, char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n) {
  using V = Vec<T>;
  using R = Rule<V>;
  const FlushSubnormalsScope flushing;
  const R rule(step);
  bool contiguous = true;
  for (int k = 0; k < 2 + R::kState; ++k) contiguous &= strides[k] == static_cast<std::ptrdiff_t>(sizeof(T));
  std::ptrdiff_t i = 0;
  if (contiguous) {
    for (; i + kTogether * kLanes<V> <= n; i += kTogether * kLanes<V>) {
      V params[kTogether];
      const auto place = [&](int j) { return Place<R, true>{arrays, strides, i + j * kLanes<V>, kLanes<V>}; };
      for (int j = 0; j < kTogether; ++j) params[j] = updated(rule, place(j));
      for (int j = 0; j < kTogether; ++j) place(j).write(0, params[j]);
    }
  }
  for (; i < n; i += kLanes<V>) {
    const Place<R, false> place{arrays, strides, i, n - i < kLanes<V> ? n - i : kLanes<V>};
    place.write(0, updated(rule, place));
  }
}

}  // namespace

namespace NNFAST_ISA {

extern const OptimKernels optim;
const OptimKernels optim = {step_run<Sgd, float>,          step_run<Sgd, double>, step_run<SgdMomentum, float>,
                            step_run<SgdMomentum, double>, step_run<Adam, float>, step_run<Adam, double>};

}  // namespace NNFAST_ISA
}  // namespace nnfast
