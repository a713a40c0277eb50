// Optimizers: each rule is a struct whose update() is the formula over vectors, with the numbers of the step as
// vectors too. Forms and names are PyTorch's; where other systems put a number elsewhere, there is one more number.
// Bias corrections are made by the caller, in double. Subnormals count as zero inside (see FlushSubnormalsScope).
#include "kernels/optim.hpp"

#include "kernels/halves.hpp"
#include "kernels/unrolled.hpp"
#include "simd/bits.hpp"
#include "simd/float_state.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

// Hands out a rule's own numbers, one after the other.
template <class V>
class Numbers {
 public:
  NNFAST_INLINE explicit Numbers(const double* numbers) : next_(numbers + kRuleNumbers) {}
  NNFAST_INLINE V operator()() { return broadcast<V>(static_cast<Element<V>>(*next_++)); }
  NNFAST_INLINE bool flag() { return *next_++ != 0; }

 private:
  const double* next_;
};

// average = decay average + gain term
template <class V>
struct RunningAverage {
  V decay, gain;
  NNFAST_INLINE explicit RunningAverage(Numbers<V>& numbers) : decay(numbers()), gain(numbers()) {}
  NNFAST_INLINE void operator()(V& average, V term) const { average = fma(decay, average, gain * term); }
  NNFAST_INLINE void squares(V& average, V term) const { average = fma(decay, average, gain * term * term); }
};

// The larger, and NaN if either is.
template <class V>
NNFAST_INLINE V maximum(V a, V b) {
  return (a > b) | (a != a) ? a : b;
}

// p -= lr g
template <class V>
struct Sgd {
  V lr;
  NNFAST_INLINE explicit Sgd(Numbers<V> n) : lr(n()) {}
  NNFAST_INLINE void update(V& p, V g, V*) const { p = fma(-lr, g, p); }
};

// v = momentum v + gain g,  p -= outer v, or outer (momentum v + inner g) with Nesterov's
template <class V>
struct SgdMomentum {
  V outer, momentum, gain, inner;
  bool nesterov;
  NNFAST_INLINE explicit SgdMomentum(Numbers<V> n)
      : outer(n()), momentum(n()), gain(n()), inner(n()), nesterov(n.flag()) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V& v = state[0];  // zero before the first step
    v = fma(momentum, v, gain * g);
    p = fma(-outer, nesterov ? fma(momentum, v, inner * g) : v, p);
  }
};

// s += g^2,  p -= lr g / (sqrt(s + eps_inside) + eps)                          (Duchi, Hazan, Singer 2011)
template <class V>
struct Adagrad {
  V lr, eps, eps_inside;
  NNFAST_INLINE explicit Adagrad(Numbers<V> n) : lr(n()), eps(n()), eps_inside(n()) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V& s = state[0];
    s = fma(g, g, s);
    p = fma(-lr, g / (sqrt(s + eps_inside) + eps), p);
  }
};

// v: average of g^2,  d = g sqrt(u + eps) / sqrt(v + eps),  u: average of d^2,  p -= lr d      (Zeiler 2012)
template <class V>
struct Adadelta {
  V lr, eps;
  RunningAverage<V> average;
  NNFAST_INLINE explicit Adadelta(Numbers<V> n) : lr(n()), eps(n()), average(n) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &v = state[0], &u = state[1];
    average.squares(v, g);
    const V d = sqrt(u + eps) / sqrt(v + eps) * g;
    average.squares(u, d);
    p = fma(-lr, d, p);
  }
};

// v: average of g^2, less the square of g's average if centred;  d = g / (sqrt(v + eps_inside) + eps),
// p -= outer d, or b = momentum b + gain d and p -= outer b                    (Hinton 2012; Graves 2013)
template <class V, bool Centered, bool Momentum>
struct RmsPropRule {
  V outer, eps, eps_inside;
  RunningAverage<V> average;
  V momentum, gain;
  NNFAST_INLINE explicit RmsPropRule(Numbers<V> n)
      : outer(n()), eps(n()), eps_inside(n()), average(n), momentum(n()), gain(n()) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V v = state[0];
    average.squares(v, g);
    state[0] = v;
    if (Centered) {
      average(state[1], g);
      // Of a constant gradient both are the same but for their roundings.
      v = max(V{}, fma(-state[1], state[1], v));
    }
    V d = g / (sqrt(v + eps_inside) + eps);
    if (Momentum) {
      V& b = state[Centered ? 2 : 1];
      d = b = fma(momentum, b, gain * d);
    }
    p = fma(-outer, d, p);
  }
};
template <class V>
struct RmsProp : RmsPropRule<V, false, false> {
  using RmsPropRule<V, false, false>::RmsPropRule;
};
template <class V>
struct RmsPropMomentum : RmsPropRule<V, false, true> {
  using RmsPropRule<V, false, true>::RmsPropRule;
};
template <class V>
struct RmsPropCentered : RmsPropRule<V, true, false> {
  using RmsPropRule<V, true, false>::RmsPropRule;
};
template <class V>
struct RmsPropCenteredMomentum : RmsPropRule<V, true, true> {
  using RmsPropRule<V, true, true>::RmsPropRule;
};

// m, v: averages of g and g^2,  p -= lr m / (sqrt(v) correction + eps)          (Kingma, Ba 2015)
template <class V>
struct Adam {
  V lr, eps, correction;
  RunningAverage<V> first, second;
  NNFAST_INLINE explicit Adam(Numbers<V> n) : lr(n()), eps(n()), correction(n()), first(n), second(n) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &m = state[0], &v = state[1];
    first(m, g);
    second.squares(v, g);
    p = fma(-lr, m / fma(sqrt(v), correction, eps), p);
  }
};

// The same with the largest v so far, before the correction or after its own    (Reddi, Kale, Kumar 2018)
template <class V>
struct AmsGrad {
  V lr, eps, correction;
  RunningAverage<V> first, second;
  V own_correction;
  NNFAST_INLINE explicit AmsGrad(Numbers<V> n)
      : lr(n()), eps(n()), correction(n()), first(n), second(n), own_correction(n()) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &m = state[0], &v = state[1], &largest = state[2];
    first(m, g);
    second.squares(v, g);
    largest = maximum(largest, v * own_correction);
    p = fma(-lr, m / fma(sqrt(largest), correction, eps), p);
  }
};

// m: average of g,  u = max(decay u, |g| + eps_inside),  p -= lr m / (u + eps)  (Kingma, Ba 2015)
template <class V>
struct Adamax {
  V lr, eps, eps_inside;
  RunningAverage<V> first;
  V decay;
  NNFAST_INLINE explicit Adamax(Numbers<V> n) : lr(n()), eps(n()), eps_inside(n()), first(n), decay(n()) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &m = state[0], &u = state[1];
    first(m, g);
    u = maximum(decay * u, abs(g) + eps_inside);
    p = fma(-lr, m / (u + eps), p);
  }
};

// m, v as Adam,  p -= (by_gradient g + by_average m) / (sqrt(v) correction + eps)            (Dozat 2016)
template <class V>
struct Nadam {
  V by_gradient, by_average, eps, correction;
  RunningAverage<V> first, second;
  NNFAST_INLINE explicit Nadam(Numbers<V> n)
      : by_gradient(n()), by_average(n()), eps(n()), correction(n()), first(n), second(n) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &m = state[0], &v = state[1];
    first(m, g);
    second.squares(v, g);
    p -= fma(by_gradient, g, by_average * m) / fma(sqrt(v), correction, eps);
  }
};

// m, v as Adam,  p -= lr m / (sqrt(v) correction + eps), or lr m while v is not to be trusted (Liu et al. 2020)
template <class V>
struct Radam {
  V lr, eps, correction;
  RunningAverage<V> first, second;
  bool rectified;
  NNFAST_INLINE explicit Radam(Numbers<V> n)
      : lr(n()), eps(n()), correction(n()), first(n), second(n), rectified(n.flag()) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &m = state[0], &v = state[1];
    first(m, g);
    second.squares(v, g);
    p = fma(-lr, rectified ? m / fma(sqrt(v), correction, eps) : m, p);
  }
};

// p -= lr sign(beta1 m + (1 - beta1) g),  m: average of g                       (Chen et al. 2023)
template <class V>
struct Lion {
  V lr;
  RunningAverage<V> step, kept;
  NNFAST_INLINE explicit Lion(Numbers<V> n) : lr(n()), step(n), kept(n) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V direction = state[0];
    step(direction, g);
    const V one = broadcast<V>(1);
    p = fma(-lr, direction > 0 ? one : (direction < 0 ? -one : direction), p);
    kept(state[0], g);
  }
};

// ---- what comes before and after every rule ----

template <class V>
struct Common {
  V scale, weight_decay, shrink, clip, ema_gain;
  NNFAST_INLINE Common(const double* numbers, double grad_scale)
      : scale(number(numbers[kSign] * grad_scale)),
        weight_decay(number(numbers[kWeightDecay])),
        shrink(number(numbers[kShrink])),
        clip(number(numbers[kClip])),
        ema_gain(number(1 - numbers[kEmaDecay])) {}
  // An average of what does not change stays what it is.
  NNFAST_INLINE V averaged(V average, V p) const { return fma(ema_gain, p - average, average); }
  NNFAST_INLINE V clipped(V g) const { return min(clip, max(-clip, g)); }

 private:
  NNFAST_INLINE static V number(double value) { return broadcast<V>(static_cast<Element<V>>(value)); }
};

// One vector of the arrays of a parameter: where it is read and written, `count` elements of it at byte strides. Where
// every array is contiguous and the vector full there is nothing to ask.
template <class T, bool Full>
struct Place {
  using V = Vec<T>;
  char* const* arrays;
  const std::ptrdiff_t* strides;
  std::ptrdiff_t at, count;

  NNFAST_INLINE V read(int k) const {
    if (Full) return load<V>(reinterpret_cast<const T*>(arrays[k]) + at);
    return load_strided<V>(arrays[k] + at * strides[k], strides[k], count, T{0});
  }
  NNFAST_INLINE void write(int k, V v) const {
    if (Full) return store(reinterpret_cast<T*>(arrays[k]) + at, v);
    store_strided(arrays[k] + at * strides[k], strides[k], v, count);
  }
};

// Writes the state; returns the parameter. g: its gradient, scaled and clipped.
template <int States, class Rule, class T, bool Full, class V>
NNFAST_INLINE V updated(const Rule& rule, const Common<V>& common, const Place<T, Full>& place, V p, V g) {
  V state[States + 1];
  for (int k = 0; k < States; ++k) state[k] = place.read(kState0 + k);
  g = fma(common.weight_decay, p, g);
  p *= common.shrink;
  rule.update(p, g, state);
  for (int k = 0; k < States; ++k) place.write(kState0 + k, state[k]);
  return p;
}

// The cores of a matrix product all hold the parameters they have read, so that a store there waits until the others
// have let go of the line. The parameters of so many vectors are stored in a row: they wait together, and no other
// store between them.
constexpr int kTogether = 4;

template <class T, int States>
NNFAST_INLINE bool contiguous(const std::ptrdiff_t* strides) {
  bool all = strides[kParam] == sizeof(T) && strides[kGrad] == sizeof(T);
  for (int k = 0; k < States; ++k) all &= strides[kState0 + k] == sizeof(T);
  return all;
}

// A vector at a time, at any strides.
template <template <class> class RuleOf, int States, class T>
[[gnu::noinline]] void step_strided(const double* numbers, double grad_scale, char* const* arrays,
                                    const std::ptrdiff_t* strides, std::ptrdiff_t first, std::ptrdiff_t last) {
  using V = Vec<T>;
  const RuleOf<V> rule{Numbers<V>(numbers)};
  const Common<V> common(numbers, grad_scale);
  for (std::ptrdiff_t i = first; i < last; i += kLanes<V>) {
    const Place<T, false> place{arrays, strides, i, smaller(last - i, kLanes<V>)};
    place.write(kParam, updated<States>(rule, common, place, place.read(kParam), common.scale * place.read(kGrad)));
  }
}

template <template <class> class RuleOf, int States, class T>
void step_plain(const double* numbers, double grad_scale, char* const* arrays, const std::ptrdiff_t* strides,
                std::ptrdiff_t n, double*) {
  using V = Vec<T>;
  constexpr std::ptrdiff_t step = kTogether * kLanes<V>;
  const FlushSubnormalsScope flushing;
  std::ptrdiff_t i = 0;
  if (n >= step && contiguous<T, States>(strides)) {
    const RuleOf<V> rule{Numbers<V>(numbers)};
    const Common<V> common(numbers, grad_scale);
    for (; i + step <= n; i += step) {
      V params[kTogether];
      const auto place = [&](int j)
                             NNFAST_INLINED { return Place<T, true>{arrays, strides, i + j * kLanes<V>, kLanes<V>}; };
      unrolled<kTogether>([&](int j) NNFAST_INLINED {
        params[j] = updated<States>(rule, common, place(j), place(j).read(kParam), common.scale * place(j).read(kGrad));
      });
      unrolled<kTogether>([&](int j) NNFAST_INLINED { place(j).write(kParam, params[j]); });
    }
  }
  if (i < n) step_strided<RuleOf, States, T>(numbers, grad_scale, arrays, strides, i, n);
}

// ---- with sums, clipping and the running average ----

// What is summed of gradients.
template <class T>
class GradientSums {
 public:
  using V = Vec<T>;
  NNFAST_INLINE void add(V g, int part) {
    squares_.add_product(g, g, part);
    // Of g - g only what is not finite is not 0.
    const std::uint32_t none = bits_of<V>(g != g), not_finite = bits_of<V>(g - g != V{});
    if (not_finite) [[unlikely]] {
      nans_ += __builtin_popcount(none);
      infinities_ += __builtin_popcount(not_finite & ~none);
    }
  }
  NNFAST_INLINE void add_to(double* sums) const {
    sums[kGradSquares] += squares_.total();
    sums[kNaNs] += nans_;
    sums[kInfinities] += infinities_;
  }

 private:
  BlockSum<T> squares_;
  int nans_ = 0, infinities_ = 0;
};

// Calls body(i, part, count) for the vectors of n elements, by the blocks that sums are taken in.
template <class T, class Body>
NNFAST_INLINE void for_parts(std::ptrdiff_t n, Body body) {
  for (std::ptrdiff_t i = 0; i < n; i += kReduceBlock)
    for (int part = 0; part < kReduceParts<T>; ++part)
      if (const std::ptrdiff_t count = part_count<T>(n - i, part)) body(i + part * kLanes<Vec<T>>, part, count);
}

// The arrays from an element on; one of them may be exchanged for another.
struct Window {
  char* at[kOptimArrays];
  std::ptrdiff_t strides[kOptimArrays];
  Window(char* const* arrays, const std::ptrdiff_t* of, std::ptrdiff_t begin) {
    for (int k = 0; k < kOptimArrays; ++k) {
      at[k] = arrays[k] ? arrays[k] + begin * of[k] : nullptr;
      strides[k] = of[k];
    }
  }
  template <class T>
  void set(int k, T* values) {
    at[k] = reinterpret_cast<char*>(values);
    strides[k] = sizeof(T);
  }
};

// A step by the plain form, some elements at a time, between the passes over what it is given and what it leaves.
template <class T>
[[gnu::noinline]] void step_with_sums(OptimFn plain, const double* numbers, double grad_scale, char* const* arrays,
                                      const std::ptrdiff_t* strides, std::ptrdiff_t n, double* sums) {
  using V = Vec<T>;
  constexpr std::ptrdiff_t most = 1024;  // of which the first cache keeps all arrays
  T grads[most], before[most];
  GradientSums<T> gradients;
  BlockSum<T> updates, params;
  const FlushSubnormalsScope flushing;
  const Common<V> common(numbers, grad_scale);
  for (std::ptrdiff_t begin = 0; begin < n; begin += most) {
    const std::ptrdiff_t count = smaller(n - begin, most);
    Window window(arrays, strides, begin);
    const auto place = [&](std::ptrdiff_t i, std::ptrdiff_t some)
                           NNFAST_INLINED { return Place<T, false>{window.at, window.strides, i, some}; };
    for_parts<T>(count, [&](std::ptrdiff_t i, int part, std::ptrdiff_t some) NNFAST_INLINED {
      const V g = place(i, some).read(kGrad), p = place(i, some).read(kParam);
      store_strided(reinterpret_cast<char*>(grads + i), sizeof(T), common.clipped(common.scale * g), some);
      store_strided(reinterpret_cast<char*>(before + i), sizeof(T), p, some);
      if (sums) gradients.add(g, part);
    });
    window.set(kGrad, grads);
    plain(numbers, numbers[kSign], window.at, window.strides, count, nullptr);  // the sign is in grads: twice is none
    for_parts<T>(count, [&](std::ptrdiff_t i, int part, std::ptrdiff_t some) NNFAST_INLINED {
      const V p = place(i, some).read(kParam);
      if (window.at[kEma]) place(i, some).write(kEma, common.averaged(place(i, some).read(kEma), p));
      if (!sums) return;
      const V change = p - load_strided<V>(reinterpret_cast<char*>(before + i), sizeof(T), some, T{0});
      updates.add_product(change, change, part);
      params.add_product(p, p, part);
    });
  }
  if (!sums) return;
  gradients.add_to(sums);
  sums[kUpdateSquares] += updates.total();
  sums[kParamSquares] += params.total();
}

template <template <class> class RuleOf, int States, class T>
void step_full(const double* numbers, double grad_scale, char* const* arrays, const std::ptrdiff_t* strides,
               std::ptrdiff_t n, double* sums) {
  step_with_sums<T>(step_plain<RuleOf, States, T>, numbers, grad_scale, arrays, strides, n, sums);
}

template <class T>
void gradient_sums(const double*, double, char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n,
                   double* sums) {
  const ExceptionScope exceptions;
  GradientSums<T> gradients;
  for_parts<T>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count)
                      NNFAST_INLINED { gradients.add(Place<T, false>{arrays, strides, i, count}.read(kGrad), part); });
  gradients.add_to(sums);
}

// float16 gradients go to float32, the master is what the kernel of float32 updates, and the parameter its rounding.
template <OptimFn of_floats>
void of_halves(const double* numbers, double grad_scale, char* const* arrays, const std::ptrdiff_t* strides,
               std::ptrdiff_t n, double* sums) {
  const ExceptionScope exceptions;
  float grads[kOptimBlock];  // as many as sums are taken of
  for (std::ptrdiff_t begin = 0; begin < n; begin += kOptimBlock) {
    const std::ptrdiff_t count = smaller(n - begin, kOptimBlock);
    Window window(arrays, strides, begin);
    widen_halves(window.at[kGrad], strides[kGrad], grads, count);
    window.set(kGrad, grads);
    char* const param = window.at[kParam];
    window.at[kParam] = window.at[kMaster];
    window.strides[kParam] = strides[kMaster];
    of_floats(numbers, grad_scale, window.at, window.strides, count, sums);
    if (param) narrow_floats(window.at[kMaster], strides[kMaster], param, strides[kParam], count);
  }
}

}  // namespace

namespace NNFAST_ISA {

extern const OptimKernels optim;
const OptimKernels optim = {
#define NNFAST_PLAIN(rule, name, states, cost) \
  {of_halves<step_plain<rule, states, float>>, step_plain<rule, states, float>, step_plain<rule, states, double>},
    {NNFAST_OPTIM_RULES(NNFAST_PLAIN)},
#define NNFAST_FULL(rule, name, states, cost) \
  {of_halves<step_full<rule, states, float>>, step_full<rule, states, float>, step_full<rule, states, double>},
    {NNFAST_OPTIM_RULES(NNFAST_FULL)},
    {of_halves<gradient_sums<float>>, gradient_sums<float>, gradient_sums<double>},
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
