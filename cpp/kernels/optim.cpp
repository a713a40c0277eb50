// Optimizers: each rule is a struct whose update() is the formula over vectors, with the hyperparameters of the step as
// vectors too. Forms and names are PyTorch's; where other systems put a number elsewhere, there is one hyperparameter
// more. Bias corrections are made by the caller, in double. Subnormals count as zero inside (see FlushSubnormalsScope).
#include "kernels/optim.hpp"

#include "kernels/block_codes.hpp"
#include "kernels/cache_lines.hpp"
#include "kernels/factored.hpp"
#include "kernels/from_avx2.hpp"
#include "kernels/optim_rare.hpp"
#include "kernels/optim_rule.hpp"
#include "kernels/quick_root.hpp"
#include "kernels/unrolled.hpp"
#include "simd/bits.hpp"
#include "simd/elements.hpp"
#include "simd/float_state.hpp"
#include "simd/narrow.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

// p -= lr g
template <class V>
struct Sgd {
  V lr;
  NNFAST_INLINE explicit Sgd(Hyperparameters<V, OptimRule::Sgd> h) : lr(h("lr")) {}
  NNFAST_INLINE void update(V& p, V g, V*) const { p = fma(-lr, g, p); }
};

// v = momentum v + gradient_gain g,  p -= lr v, or lr (momentum v + nesterov_gain g) with Nesterov's
template <class V>
struct SgdMomentum {
  V lr, momentum, gradient_gain, nesterov_gain;
  bool nesterov;
  NNFAST_INLINE explicit SgdMomentum(Hyperparameters<V, OptimRule::SgdMomentum> h)
      : lr(h("lr")),
        momentum(h("momentum")),
        gradient_gain(h("gradient_gain")),
        nesterov_gain(h("nesterov_gain")),
        nesterov(h.flag("nesterov")) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V& v = state[0];  // zero before the first step
    v = fma(momentum, v, gradient_gain * g);
    p = fma(-lr, nesterov ? fma(momentum, v, nesterov_gain * g) : v, p);
  }
};

// s += g^2,  p -= lr g / (sqrt(s + eps_inside) + eps)                          (Duchi, Hazan, Singer 2011)
template <class V>
struct Adagrad {
  V lr, eps, eps_inside;
  NNFAST_INLINE explicit Adagrad(Hyperparameters<V, OptimRule::Adagrad> h)
      : lr(h("lr")), eps(h("eps")), eps_inside(h("eps_inside")) {}
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
  NNFAST_INLINE explicit Adadelta(Hyperparameters<V, OptimRule::Adadelta> h)
      : lr(h("lr")), eps(h("eps")), average{h("decay"), h("gain")} {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &v = state[0], &u = state[1];
    average.squares(v, g);
    const V d = sqrt(u + eps) / sqrt(v + eps) * g;
    average.squares(u, d);
    p = fma(-lr, d, p);
  }
};

// v: average of g^2, less the square of g's average if centered;  d = g / (sqrt(v + eps_inside) + eps),
// p -= lr d, or b = momentum b + momentum_gain d and p -= lr b, or lr (momentum b + momentum_gain d) with Nesterov's.
// correction: 1 / (1 - decay^t) or 1, by which v is divided in eps, eps_inside and the gains (Hinton 2012; Graves 2013)
template <class V, OptimRule rule, bool Centered, bool Momentum>
struct RmsPropRule {
  V lr, eps, eps_inside;
  RunningAverage<V> average;
  V momentum{}, momentum_gain{}, nesterov{}, correction{};
  NNFAST_INLINE explicit RmsPropRule(Hyperparameters<V, rule> h)
      : lr(h("lr")), eps(h("eps")), eps_inside(h("eps_inside")), average{h("decay"), h("gain")} {
    if constexpr (Momentum) {
      momentum = h("momentum");
      momentum_gain = h("momentum_gain");
      nesterov = h("nesterov");
    }
    if constexpr (Centered) correction = h("correction");
  }
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V v = state[0];
    average.squares(v, g);
    state[0] = v;
    if (Centered) {
      average(state[1], g);
      // For a constant gradient both are the same but for their roundings.
      v = max(V{}, fma(-(correction * state[1]), state[1], v));
    }
    V d = g / (sqrt(v + eps_inside) + eps);
    if (Momentum) {
      V& b = state[Centered ? 2 : 1];
      const V term = momentum_gain * d;
      b = fma(momentum, b, term);
      d = nesterov != 0 ? fma(momentum, b, term) : b;
    }
    p = fma(-lr, d, p);
  }
};
template <class V>
struct RmsProp : RmsPropRule<V, OptimRule::RmsProp, false, false> {
  using RmsPropRule<V, OptimRule::RmsProp, false, false>::RmsPropRule;
};
template <class V>
struct RmsPropMomentum : RmsPropRule<V, OptimRule::RmsPropMomentum, false, true> {
  using RmsPropRule<V, OptimRule::RmsPropMomentum, false, true>::RmsPropRule;
};
template <class V>
struct RmsPropCentered : RmsPropRule<V, OptimRule::RmsPropCentered, true, false> {
  using RmsPropRule<V, OptimRule::RmsPropCentered, true, false>::RmsPropRule;
};
template <class V>
struct RmsPropCenteredMomentum : RmsPropRule<V, OptimRule::RmsPropCenteredMomentum, true, true> {
  using RmsPropRule<V, OptimRule::RmsPropCenteredMomentum, true, true>::RmsPropRule;
};

// m, v: averages of g and g^2,  p -= lr m / (sqrt(v + eps_root) correction + eps)  (Kingma, Ba 2015)
template <class V>
struct Adam {
  V lr, eps, eps_root, correction;
  RunningAverage<V> first, second;
  NNFAST_INLINE explicit Adam(Hyperparameters<V, OptimRule::Adam> h)
      : lr(h("lr")),
        eps(h("eps")),
        eps_root(h("eps_root")),
        correction(h("correction")),
        first{h("decay1"), h("gain1")},
        second{h("decay2"), h("gain2")} {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &m = state[0], &v = state[1];
    first(m, g);
    second.squares(v, g);
    p = fma(-lr, m / fma(quick_root(v + eps_root), correction, eps), p);
  }
};

// As Adam, with the largest v so far, before the correction or after its own     (Reddi, Kale, Kumar 2018)
template <class V>
struct AmsGrad {
  V lr, eps, eps_root, correction;
  RunningAverage<V> first, second;
  V max_correction;
  NNFAST_INLINE explicit AmsGrad(Hyperparameters<V, OptimRule::AmsGrad> h)
      : lr(h("lr")),
        eps(h("eps")),
        eps_root(h("eps_root")),
        correction(h("correction")),
        first{h("decay1"), h("gain1")},
        second{h("decay2"), h("gain2")},
        max_correction(h("max_correction")) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &m = state[0], &v = state[1], &largest = state[2];
    first(m, g);
    second.squares(v, g);
    largest = maximum(largest, v * max_correction);
    p = fma(-lr, m / fma(sqrt(largest + eps_root), correction, eps), p);
  }
};

// m: average of g,  u = max(decay2 u, |g| + eps_inside),  p -= lr m / (u + eps)  (Kingma, Ba 2015)
template <class V>
struct Adamax {
  V lr, eps, eps_inside;
  RunningAverage<V> first;
  V decay2;
  NNFAST_INLINE explicit Adamax(Hyperparameters<V, OptimRule::Adamax> h)
      : lr(h("lr")), eps(h("eps")), eps_inside(h("eps_inside")), first{h("decay1"), h("gain1")}, decay2(h("decay2")) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &m = state[0], &u = state[1];
    first(m, g);
    u = maximum(decay2 * u, abs(g) + eps_inside);
    p = fma(-lr, m / (u + eps), p);
  }
};

// m, v as Adam,  p -= (gradient_lr g + average_lr m) / (sqrt(v + eps_root) correction + eps) (Dozat 2016)
template <class V>
struct Nadam {
  V gradient_lr, average_lr, eps, eps_root, correction;
  RunningAverage<V> first, second;
  NNFAST_INLINE explicit Nadam(Hyperparameters<V, OptimRule::Nadam> h)
      : gradient_lr(h("gradient_lr")),
        average_lr(h("average_lr")),
        eps(h("eps")),
        eps_root(h("eps_root")),
        correction(h("correction")),
        first{h("decay1"), h("gain1")},
        second{h("decay2"), h("gain2")} {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &m = state[0], &v = state[1];
    first(m, g);
    second.squares(v, g);
    p -= fma(gradient_lr, g, average_lr * m) / fma(sqrt(v + eps_root), correction, eps);
  }
};

// m, v as Adam,  p -= lr m / (sqrt(v + eps_root) correction + eps), or lr m until v is reliable (Liu et al. 2020)
template <class V>
struct Radam {
  V lr, eps, eps_root, correction;
  RunningAverage<V> first, second;
  bool rectified;
  NNFAST_INLINE explicit Radam(Hyperparameters<V, OptimRule::Radam> h)
      : lr(h("lr")),
        eps(h("eps")),
        eps_root(h("eps_root")),
        correction(h("correction")),
        first{h("decay1"), h("gain1")},
        second{h("decay2"), h("gain2")},
        rectified(h.flag("rectified")) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &m = state[0], &v = state[1];
    first(m, g);
    second.squares(v, g);
    p = fma(-lr, rectified ? m / fma(sqrt(v + eps_root), correction, eps) : m, p);
  }
};

// p -= lr sign(beta1 m + (1 - beta1) g),  m: average of g                       (Chen et al. 2023)
template <class V>
struct Lion {
  V lr;
  RunningAverage<V> step, average;
  NNFAST_INLINE explicit Lion(Hyperparameters<V, OptimRule::Lion> h)
      : lr(h("lr")), step{h("step_decay"), h("step_gain")}, average{h("decay"), h("gain")} {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V direction = state[0];
    step(direction, g);
    p = fma(-lr, sign_of(direction), p);
    average(state[0], g);
  }
};

// ---- what all rules share ----

// Whether gradients are clipped, or weights decay through them. Most steps do neither, and in the caches the rule alone
// takes two to three quarters of the time.
inline bool changes_gradients(const double* hyperparameters) {
  return hyperparameters[kClip] != kInfinity || hyperparameters[kWeightDecay] != 0;
}

template <class V>
struct Common {
  V scale, weight_decay, shrink, clip, ema_gain;
  bool changes;  // see changes_gradients; loops have it as a constant
  NNFAST_INLINE Common(const double* hyperparameters, double grad_scale, bool changing)
      : scale(number(hyperparameters[kSign] * grad_scale)),
        weight_decay(number(hyperparameters[kWeightDecay])),
        shrink(number(hyperparameters[kShrink])),
        clip(number(hyperparameters[kClip])),
        ema_gain(number(1 - hyperparameters[kEmaDecay])),
        changes(changing) {}
  // The average of a constant stays exactly that.
  NNFAST_INLINE V averaged(V average, V p) const { return fma(ema_gain, p - average, average); }
  NNFAST_INLINE V scaled(V g) const { return changes ? min(clip, max(-clip, scale * g)) : scale * g; }
  NNFAST_INLINE V with_decay(V g, V p) const { return changes ? fma(weight_decay, p, g) : g; }

 private:
  NNFAST_INLINE static V number(double value) { return broadcast<V>(static_cast<Element<V>>(value)); }
};

// Elements at, at + 1, ... of a parameter's arrays: a whole vector where Whole, of contiguous arrays, or `count`.
template <class T, bool Whole>
struct ParameterElements {
  using V = Vec<T>;
  char* const* arrays;
  const std::ptrdiff_t* strides;
  std::ptrdiff_t at, count;

  NNFAST_INLINE V load(int k) const {
    if (Whole) return load_elements<T>(arrays[k], Contiguous<T>{}, at, kLanes<V>);
    return load_elements<T>(arrays[k], strides[k], at, count);
  }
  NNFAST_INLINE void store(int k, V v) const {
    if (Whole) return store_elements<T>(arrays[k], Contiguous<T>{}, at, v, kLanes<V>);
    store_elements<T>(arrays[k], strides[k], at, v, count);
  }
};

// Writes the state; returns the parameter. g: its gradient, scaled and clipped.
template <int States, class Rule, class T, bool Whole, class V>
NNFAST_INLINE V updated(const Rule& rule, const Common<V>& common, const ParameterElements<T, Whole>& elements, V p,
                        V g) {
  V state[States + 1];
  for (int k = 0; k < States; ++k) state[k] = elements.load(kState0 + k);
  g = common.with_decay(g, p);
  p *= common.shrink;
  rule.update(p, g, state);
  for (int k = 0; k < States; ++k) elements.store(kState0 + k, state[k]);
  return p;
}

// Unroll factor; the parameters of so many vectors are stored together. After a matrix product the caches of all cores
// hold them, so that a store waits for the other cores: these wait at the same time, with no other store in between.
constexpr int kUnrolledSteps = 4;

template <class T, int States>
NNFAST_INLINE bool contiguous(const std::ptrdiff_t* strides) {
  bool all = strides[kParam] == sizeof(T) && strides[kGrad] == sizeof(T);
  for (int k = 0; k < States; ++k) all &= strides[kState0 + k] == sizeof(T);
  return all;
}

// A vector at a time, at any strides.
template <template <class> class RuleOf, int States, class T>
[[gnu::noinline]] void step_strided(const double* hyperparameters, double grad_scale, char* const* arrays,
                                    const std::ptrdiff_t* strides, std::ptrdiff_t first, std::ptrdiff_t last) {
  using V = Vec<T>;
  const RuleOf<V> rule(hyperparameters);
  const Common<V> common(hyperparameters, grad_scale, changes_gradients(hyperparameters));
  for (std::ptrdiff_t i = first; i < last; i += kLanes<V>) {
    const ParameterElements<T, false> elements{arrays, strides, i, smaller(last - i, kLanes<V>)};
    elements.store(kParam,
                   updated<States>(rule, common, elements, elements.load(kParam), common.scaled(elements.load(kGrad))));
  }
}

// From element i on; returns up to which one it has updated them: whole steps of the unrolled loop.
template <template <class> class RuleOf, int States, class T, int Unrolled>
NNFAST_INLINE std::ptrdiff_t step_contiguous(const double* hyperparameters, double grad_scale, char* const* arrays,
                                             std::ptrdiff_t i, std::ptrdiff_t n, bool changes) {
  using V = Vec<T>;
  constexpr std::ptrdiff_t step = Unrolled * kLanes<V>;
  const RuleOf<V> rule(hyperparameters);
  const Common<V> common(hyperparameters, grad_scale, changes);
  // Copies that no store can change: the pointers in `arrays` would be read again after each.
  char* at[kState0 + States];
  for (int k = 0; k < kState0 + States; ++k) at[k] = arrays[k];
  for (; i + step <= n; i += step) {
    V params[Unrolled];
    const auto elements = [&](int j) NNFAST_INLINED {
      return ParameterElements<T, true>{at, nullptr, i + j * kLanes<V>, kLanes<V>};
    };
    unrolled<Unrolled>([&](int j) NNFAST_INLINED {
      params[j] =
          updated<States>(rule, common, elements(j), elements(j).load(kParam), common.scaled(elements(j).load(kGrad)));
    });
    unrolled<Unrolled>([&](int j) NNFAST_INLINED { elements(j).store(kParam, params[j]); });
  }
  return i;
}

template <template <class> class RuleOf, int States, class T>
void step_plain(const double* hyperparameters, double grad_scale, char* const* arrays, const std::ptrdiff_t* strides,
                std::ptrdiff_t n, double*) {
  const FlushSubnormalsScope flushing;
  std::ptrdiff_t i = 0;
  if (n >= kUnrolledSteps * kLanes<Vec<T>> && contiguous<T, States>(strides)) {
    i = to_next_line<T>(arrays[kParam], n);
    if (i > 0) step_strided<RuleOf, States, T>(hyperparameters, grad_scale, arrays, strides, 0, i);
    i = changes_gradients(hyperparameters)
            ? step_contiguous<RuleOf, States, T, kUnrolledSteps>(hyperparameters, grad_scale, arrays, i, n, true)
            : step_contiguous<RuleOf, States, T, kUnrolledSteps>(hyperparameters, grad_scale, arrays, i, n, false);
  }
  if (i < n) step_strided<RuleOf, States, T>(hyperparameters, grad_scale, arrays, strides, i, n);
}

// ---- packed states ----

// Two vectors together, which fill one of bfloat16. Loads come earlier than what the processor sees: it waits longer
// for memory than where states are float32, whose steps have fewer instructions.
template <template <class> class RuleOf, int States>
void step_bfloat16(const double* hyperparameters, double grad_scale, char* const* arrays, std::ptrdiff_t n,
                   const PackingKernels&, const std::uint32_t* words, const RoundingKeys& keys) {
  using V = Vec<float>;
  constexpr std::ptrdiff_t lanes = kLanes<V>, line = 64, ahead = 2048;  // bytes
  const FlushSubnormalsScope flushing;
  const RuleOf<V> rule(hyperparameters);
  const Common<V> common(hyperparameters, grad_scale, changes_gradients(hyperparameters));
  // Copies that no store can change.
  char* at[kState0 + States];
  for (int k = 0; k < kState0 + States; ++k) at[k] = arrays[k];
  for (std::ptrdiff_t i = 0; i < n; i += 2 * lanes) {
    for (std::ptrdiff_t k = 0; k < 8 * lanes; k += line) {
      __builtin_prefetch(at[kParam] + 4 * i + k + ahead);
      __builtin_prefetch(at[kGrad] + 4 * i + k + ahead);
    }
    for (int k = 0; k < States; ++k) __builtin_prefetch(at[kState0 + k] + 2 * i + ahead / 2);
    Wide rounded[States][2];
    unrolled<2>([&](int j) NNFAST_INLINED {
      const std::ptrdiff_t here = i + j * lanes;
      const ParameterElements<float, true> elements{at, nullptr, here, lanes};
      V p = elements.load(kParam), state[States];
      for (int k = 0; k < States; ++k) state[k] = bit_cast<V>(widen_halves(at[kState0 + k] + 2 * here) << 16);
      const V g = common.with_decay(common.scaled(elements.load(kGrad)), p);
      p *= common.shrink;
      rule.update(p, g, state);
      elements.store(kParam, p);
      const Words random = load_bytes<Words>(words + here);
      for (int k = 0; k < States; ++k)
        rounded[k][j] = rounded_to_bfloat16(bit_cast<Wide>(state[k]), random_half(random + keys.of_pair[k / 2], k % 2));
    });
    for (int k = 0; k < States; ++k) store_as_halves(at[kState0 + k] + 2 * i, rounded[k][0], rounded[k][1]);
  }
}

template <OptimRule kind>
NNFAST_INLINE BlockCodes block_codes(int state) {
  return BlockCodes(packable_states(kind).codes[state]);
}

// The codes of a block of each state. most: lanes whose largest is that of the magnitudes.
template <OptimRule kind, int States>
NNFAST_INLINE void pack_states(const float (&values)[States][kPackedBlock], const Words (&most)[States],
                               char* const (&blocks)[States], const PackingKernels& packing, const std::uint32_t* words,
                               std::uint32_t key) {
  static_assert(States <= 2, "a word rounds two");
  constexpr std::ptrdiff_t lanes = kLanes<Words>;
  int base[States];
  bool unusual = false;
  unrolled<States>([&](int k) NNFAST_INLINED {
    const std::uint32_t largest = largest_lane(most[k]);
    unusual |= block_codes<kind>(k).unusual(largest);
    base[k] = block_codes<kind>(k).base_for(largest);
    blocks[k][kPackedBlock] = static_cast<char>(base[k]);
  });
#pragma GCC unroll 1
  for (std::ptrdiff_t i = 0; i < kPackedBlock; i += 4 * lanes) {
    Words random[4];
    unrolled<4>([&](int j) NNFAST_INLINED { random[j] = load_bytes<Words>(words + i + j * lanes) + key; });
    unrolled<States>([&](int k) NNFAST_INLINED {
      __builtin_prefetch(blocks[k] + i + 512);
      block_codes<kind>(k).pack(values[k] + i, blocks[k] + i, base[k], random, k != 0);
    });
  }
  if (!unusual) [[likely]]
    return;
  for (int k = 0; k < States; ++k)
    packing.pack_blocks(packable_states(kind).codes[k], values[k], blocks[k], kPackedBlock, words, key, k != 0);
}

// A block at a time: its new states wait in the first-level cache until the largest of each is known. While codes are
// made of them, the processor divides for the next block.
template <OptimRule kind, template <class> class RuleOf, int States>
void step_blocks(const double* hyperparameters, double grad_scale, char* const* arrays, std::ptrdiff_t n,
                 const PackingKernels& packing, const std::uint32_t* words, const RoundingKeys& keys) {
  using V = Vec<float>;
  constexpr std::ptrdiff_t lanes = kLanes<V>, line = 16;  // of a cache, in floats
  constexpr std::ptrdiff_t ahead = 2048;                  // bytes
  const FlushSubnormalsScope flushing;
  const RuleOf<V> rule(hyperparameters);
  const Common<V> common(hyperparameters, grad_scale, changes_gradients(hyperparameters));
  char *param = arrays[kParam], *grad = arrays[kGrad], *blocks[States];
  for (int k = 0; k < States; ++k) blocks[k] = arrays[kState0 + k];
  for (std::ptrdiff_t begin = 0; begin < n; begin += kPackedBlock) {
    alignas(64) float values[States][kPackedBlock];
    Words lowest[States], most[States]{};
    unrolled<States>([&](int k)
                         NNFAST_INLINED { lowest[k] = broadcast<Words>(block_codes<kind>(k).lowest(blocks[k])); });
#pragma GCC unroll 1
    for (std::ptrdiff_t i = 0; i < kPackedBlock; i += line) {
      __builtin_prefetch(param + 4 * i + ahead);
      __builtin_prefetch(grad + 4 * i + ahead);
      unrolled<line / lanes>([&](int j) NNFAST_INLINED {
        const std::ptrdiff_t at = i + j * lanes;
        V p = load_bytes<V>(param + 4 * at), state[States];
        unrolled<States>([&](int k)
                             NNFAST_INLINED { state[k] = block_codes<kind>(k).unpacked(blocks[k] + at, lowest[k]); });
        const V g = common.with_decay(common.scaled(load_bytes<V>(grad + 4 * at)), p);
        p *= common.shrink;
        rule.update(p, g, state);
        store_bytes(param + 4 * at, p);
        unrolled<States>([&](int k) NNFAST_INLINED {
          const Words magnitude = block_codes<kind>(k).magnitude(state[k]);
          most[k] = magnitude > most[k] ? magnitude : most[k];
          store(values[k] + at, state[k]);
        });
      });
    }
    pack_states<kind>(values, most, blocks, packing, words + begin, keys.of_pair[0]);
    for (char*& block : blocks) block += kPackedBlockBytes;
    param += 4 * kPackedBlock;
    grad += 4 * kPackedBlock;
  }
}

template <OptimRule rule, template <class> class RuleOf, int States>
consteval PackedOptimFn bfloat16_fn() {
  if constexpr (packable_states(rule).any)
    return step_bfloat16<RuleOf, States>;
  else
    return nullptr;
}

// Of rules that few people use the states are unpacked for the kernel of float32.
template <OptimRule rule, template <class> class RuleOf, int States>
consteval PackedOptimFn blocks_fn() {
  if constexpr (rule == OptimRule::Adam)
    return step_blocks<rule, RuleOf, States>;
  else if constexpr (rule == OptimRule::SgdMomentum || rule == OptimRule::Lion || rule == OptimRule::RmsProp)
    return NNFAST_FROM_AVX2((step_blocks<rule, RuleOf, States>));
  else
    return nullptr;
}

// ---- with sums and the running average ----

// Squares of gradients, and how many are not finite.
template <class T>
class GradientStatistics {
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

// The arrays from an element on; one of them may be replaced by another.
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

// The plain step, some elements at a time, between a pass over its inputs and one over its results.
template <class T>
[[gnu::noinline]] void step_with_sums(OptimFn plain, const double* hyperparameters, double grad_scale,
                                      char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n,
                                      double* sums) {
  using V = Vec<T>;
  constexpr std::ptrdiff_t most = 1024;  // all arrays of it stay in the first-level cache
  T grads[most], before[most];
  GradientStatistics<T> gradients;
  BlockSum<T> updates, params;
  const FlushSubnormalsScope flushing;
  const Common<V> common(hyperparameters, grad_scale, changes_gradients(hyperparameters));
  for (std::ptrdiff_t begin = 0; begin < n; begin += most) {
    const std::ptrdiff_t count = smaller(n - begin, most);
    Window window(arrays, strides, begin);
    const auto elements = [&](std::ptrdiff_t i, std::ptrdiff_t some) NNFAST_INLINED {
      return ParameterElements<T, false>{window.at, window.strides, i, some};
    };
    for_parts<T>(count, [&](std::ptrdiff_t i, int part, std::ptrdiff_t some) NNFAST_INLINED {
      const V g = elements(i, some).load(kGrad), p = elements(i, some).load(kParam);
      store_elements<T>(reinterpret_cast<char*>(grads), Contiguous<T>{}, i, common.scaled(g), some);
      store_elements<T>(reinterpret_cast<char*>(before), Contiguous<T>{}, i, p, some);
      if (sums) gradients.add(g, part);
    });
    window.set(kGrad, grads);
    plain(hyperparameters, hyperparameters[kSign], window.at, window.strides, count,
          nullptr);  // grads have the sign already, and times it again they do not
    for_parts<T>(count, [&](std::ptrdiff_t i, int part, std::ptrdiff_t some) NNFAST_INLINED {
      const V p = elements(i, some).load(kParam);
      if (window.at[kEma]) elements(i, some).store(kEma, common.averaged(elements(i, some).load(kEma), p));
      if (!sums) return;
      const V change = p - load_elements<T>(reinterpret_cast<char*>(before), Contiguous<T>{}, i, some);
      updates.add_product(change, change, part);
      params.add_product(p, p, part);
    });
  }
  if (!sums) return;
  gradients.add_to(sums);
  sums[kUpdateSquares] += updates.total();
  sums[kParamSquares] += params.total();
}

// ---- rare rules: one short loop each ----

// Whole vectors of contiguous arrays.
template <template <class> class RuleOf, int States, class T>
[[gnu::noinline]] void step_vectors(const double* hyperparameters, double grad_scale, char* const* arrays,
                                    const std::ptrdiff_t*, std::ptrdiff_t n, double*) {
  step_contiguous<RuleOf, States, T, 1>(hyperparameters, grad_scale, arrays, 0, n, changes_gradients(hyperparameters));
}

// What is no whole vector, or not contiguous, in copies that are.
template <class T>
[[gnu::noinline]] void step_copies(OptimFn of_vectors, const double* hyperparameters, double grad_scale,
                                   char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t first,
                                   std::ptrdiff_t last) {
  constexpr std::ptrdiff_t most = 256, lanes = kLanes<Vec<T>>;
  T copies[kEma][most];
  char* at[kEma];
  for (int k = 0; k < kEma; ++k) at[k] = reinterpret_cast<char*>(copies[k]);
  for (std::ptrdiff_t begin = first; begin < last; begin += most) {
    const std::ptrdiff_t count = smaller(last - begin, most);
    const auto for_vectors = [&](auto body) NNFAST_INLINED {
      for (int k = 0; k < kEma; ++k)
        for (std::ptrdiff_t i = 0; arrays[k] && i < count; i += lanes) body(k, i, smaller(count - i, lanes));
    };
    for_vectors([&](int k, std::ptrdiff_t i, std::ptrdiff_t some) NNFAST_INLINED {
      store_elements<T>(at[k], Contiguous<T>{}, i, load_elements<T>(arrays[k], strides[k], begin + i, some), lanes);
    });
    of_vectors(hyperparameters, grad_scale, at, nullptr, (count + lanes - 1) / lanes * lanes, nullptr);
    for_vectors([&](int k, std::ptrdiff_t i, std::ptrdiff_t some) NNFAST_INLINED {
      if (k != kGrad)
        store_elements<T>(arrays[k], strides[k], begin + i, load_elements<T>(at[k], Contiguous<T>{}, i, lanes), some);
    });
  }
}

// One body for all rules.
template <class T>
[[gnu::noinline]] void step_short(OptimFn of_vectors, const double* hyperparameters, double grad_scale,
                                  char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n) {
  const FlushSubnormalsScope flushing;
  bool all_contiguous = true;
  for (int k = 0; k < kEma; ++k) all_contiguous &= !arrays[k] || strides[k] == sizeof(T);
  const std::ptrdiff_t whole = all_contiguous ? n - n % kLanes<Vec<T>> : 0;
  if (whole > 0) of_vectors(hyperparameters, grad_scale, arrays, nullptr, whole, nullptr);
  if (whole < n) step_copies<T>(of_vectors, hyperparameters, grad_scale, arrays, strides, whole, n);
}
template <template <class> class RuleOf, int States, class T>
void step_rare(const double* hyperparameters, double grad_scale, char* const* arrays, const std::ptrdiff_t* strides,
               std::ptrdiff_t n, double*) {
  step_short<T>(step_vectors<RuleOf, States, T>, hyperparameters, grad_scale, arrays, strides, n);
}

template <OptimRule rule, template <class> class RuleOf, int States, class T>
consteval OptimFn plain_fn() {
  if constexpr (rare(rule))
    return step_rare<RuleOf, States, T>;
  else
    return step_plain<RuleOf, States, T>;
}

// AVX-512 has the rules that are not bound by roots and quotients, whose units are no wider there, and Adam, whose root
// is made without that unit.
template <OptimRule rule, template <class> class RuleOf, int States>
consteval OptimFn plain_float32_fn() {
  if constexpr (rule == OptimRule::Sgd || rule == OptimRule::SgdMomentum || rule == OptimRule::Lion ||
                rule == OptimRule::Adam)
    return plain_fn<rule, RuleOf, States, float>();
  else
    return NNFAST_FROM_AVX2((plain_fn<rule, RuleOf, States, float>()));
}

template <OptimRule rule, template <class> class RuleOf, int States, class T>
void step_full(const double* hyperparameters, double grad_scale, char* const* arrays, const std::ptrdiff_t* strides,
               std::ptrdiff_t n, double* sums) {
  step_with_sums<T>(plain_fn<rule, RuleOf, States, T>(), hyperparameters, grad_scale, arrays, strides, n, sums);
}

// Squares of the parameter and of the rule's direction: only sums, nothing is written.
template <template <class> class RuleOf, int States, class T>
void direction_sums(const double* hyperparameters, double grad_scale, char* const* arrays,
                    const std::ptrdiff_t* strides, std::ptrdiff_t n, double* sums) {
  using V = Vec<T>;
  const FlushSubnormalsScope flushing;
  const RuleOf<V> rule(hyperparameters);
  const Common<V> common(hyperparameters, grad_scale, changes_gradients(hyperparameters));
  BlockSum<T> directions, params;
  for_parts<T>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    const ParameterElements<T, false> elements{arrays, strides, i, count};
    V p = elements.load(kParam), state[States];
    for (int k = 0; k < States; ++k) state[k] = elements.load(kState0 + k);
    const V g = common.with_decay(common.scaled(elements.load(kGrad)), p);
    p *= common.shrink;
    // Lanes of no element may have 0 / 0.
    const V direction = lanes_between<V>(0, count) ? rule.direction(p, g, state) : V{};
    params.add_product(p, p, part);
    directions.add_product(direction, direction, part);
  });
  sums[kUpdateSquares] += directions.total();
  sums[kParamSquares] += params.total();
}

template <class T>
void gradient_sums(const double*, double grad_scale, char* const* arrays, const std::ptrdiff_t* strides,
                   std::ptrdiff_t n, double* sums) {
  const ExceptionScope exceptions;
  const Vec<T> scale = broadcast<Vec<T>>(static_cast<T>(grad_scale));
  GradientStatistics<T> gradients;
  for_parts<T>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    gradients.add(scale * ParameterElements<T, false>{arrays, strides, i, count}.load(kGrad), part);
  });
  gradients.add_to(sums);
}

// ---- accumulated gradients ----

// to = accumulated + grads, or accumulated alone where grads is null.
template <class S>
[[gnu::noinline]] void add_accumulated(const char* accumulated, std::ptrdiff_t accumulated_stride, const char* grads,
                                       std::ptrdiff_t stride, typename Stored<S>::Param* to, std::ptrdiff_t n) {
  using V = typename Stored<S>::V;
  using T = typename Stored<S>::Param;
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = smaller(n - i, kLanes<V>);
    V sum = load_elements<T>(accumulated, accumulated_stride, i, count);
    if (grads) sum += load_elements<S>(grads, stride, i, count);
    store_elements<T>(reinterpret_cast<char*>(to), Contiguous<T>{}, i, sum, count);
  }
}

template <class T>
void with_accumulated(OptimFn kernel, const double* hyperparameters, double grad_scale, char* const* arrays,
                      const std::ptrdiff_t* strides, std::ptrdiff_t n, double* sums) {
  constexpr std::ptrdiff_t most = 1024;  // they stay in the first-level cache
  T grads[most];
  const FlushSubnormalsScope flushing;
  for (std::ptrdiff_t begin = 0; begin < n; begin += most) {
    const std::ptrdiff_t count = smaller(n - begin, most);
    Window window(arrays, strides, begin);
    add_accumulated<T>(window.at[kAccumulated], strides[kAccumulated], window.at[kGrad], strides[kGrad], grads, count);
    window.set(kGrad, grads);
    kernel(hyperparameters, grad_scale, window.at, window.strides, count, sums);
  }
}

// Kernels of float16 add them where they widen the gradients.
void pass_accumulated(OptimFn kernel, const double* hyperparameters, double grad_scale, char* const* arrays,
                      const std::ptrdiff_t* strides, std::ptrdiff_t n, double* sums) {
  kernel(hyperparameters, grad_scale, arrays, strides, n, sums);
}

// ---- float16 ----

// Where the parameter is not its master rounded, somebody has written to it since the last step: the master takes that.
[[gnu::noinline]] void refresh_master(char* master, std::ptrdiff_t master_stride, const char* param,
                                      std::ptrdiff_t stride, std::ptrdiff_t n) {
  using V = Vec<float>;
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = smaller(n - i, kLanes<V>);
    const V before = load_elements<float>(master, master_stride, i, count);
    const V value = load_elements<Float16>(param, stride, i, count);
    Float16 rounded[kLanes<V>];
    store_float16(rounded, before);
    const auto other = bit_cast<Mask<V>>(load_float16(rounded)) != bit_cast<Mask<V>>(value);  // bits: NaN is itself
    if (bits_of<V>(other)) [[unlikely]]
      store_elements<float>(master, master_stride, i, other ? value : before, count);
  }
}

// The float16 variant: widens the gradients, updates the master in float32, and rounds it to the parameter. Sums of
// gradients alone write neither. One body for all rules: a call for a block costs nothing, a copy of it for each a lot.
[[gnu::noinline]] void step_float16(OptimFn of_float32, bool updates, const double* hyperparameters, double grad_scale,
                                    char* const* arrays, const std::ptrdiff_t* strides, std::ptrdiff_t n,
                                    double* sums) {
  const ExceptionScope exceptions;
  float grads[kOptimBlock];
  for (std::ptrdiff_t begin = 0; begin < n; begin += kOptimBlock) {
    const std::ptrdiff_t count = smaller(n - begin, kOptimBlock);
    Window window(arrays, strides, begin);
    if (window.at[kAccumulated])
      add_accumulated<Float16>(window.at[kAccumulated], strides[kAccumulated], window.at[kGrad], strides[kGrad], grads,
                               count);
    else
      widen_run(window.at[kGrad], strides[kGrad], grads, count);
    window.set(kGrad, grads);
    char* const param = window.at[kParam];
    if (updates) refresh_master(window.at[kMaster], strides[kMaster], param, strides[kParam], count);
    window.at[kParam] = window.at[kMaster];
    window.strides[kParam] = strides[kMaster];
    of_float32(hyperparameters, grad_scale, window.at, window.strides, count, sums);
    if (updates) narrow_run(window.at[kMaster], strides[kMaster], param, strides[kParam], count);
  }
}
template <OptimFn of_float32, bool Updates = true>
void of_float16(const double* hyperparameters, double grad_scale, char* const* arrays, const std::ptrdiff_t* strides,
                std::ptrdiff_t n, double* sums) {
  step_float16(of_float32, Updates, hyperparameters, grad_scale, arrays, strides, n, sums);
}

// Of float16: the master takes what was written to the parameter, as in the step that follows.
template <OptimRule rule, template <class> class RuleOf, int States>
constexpr PerDtype<OptimFn> norms_of() {
  if constexpr (layerwise(rule)) {
    return {of_float16<direction_sums<RuleOf, States, float>>, direction_sums<RuleOf, States, float>,
            direction_sums<RuleOf, States, double>};
  } else {
    return {};
  }
}

}  // namespace

namespace NNFAST_ISA {

extern const OptimKernels optim;
const OptimKernels optim = {
#define NNFAST_PLAIN(rule, name, states, ...)                                        \
  {NNFAST_FROM_AVX2((of_float16<plain_fn<OptimRule::rule, rule, states, float>()>)), \
   plain_float32_fn<OptimRule::rule, rule, states>(),                                \
   NNFAST_FROM_AVX2((plain_fn<OptimRule::rule, rule, states, double>()))},
    {NNFAST_OPTIM_RULES(NNFAST_PLAIN)},
#define NNFAST_FULL(rule, name, states, ...)                                     \
  NNFAST_FROM_AVX2({of_float16<step_full<OptimRule::rule, rule, states, float>>, \
                    step_full<OptimRule::rule, rule, states, float>,             \
                    step_full<OptimRule::rule, rule, states, double>}),
    {NNFAST_OPTIM_RULES(NNFAST_FULL)},
#define NNFAST_NORMS(rule, name, states, ...) NNFAST_FROM_AVX2((norms_of<OptimRule::rule, rule, states>())),
    {NNFAST_OPTIM_RULES(NNFAST_NORMS)},
    {of_float16<gradient_sums<float>, false>, gradient_sums<float>, gradient_sums<double>},
    {pass_accumulated, with_accumulated<float>, with_accumulated<double>},
#define NNFAST_BFLOAT16(rule, name, states, ...) bfloat16_fn<OptimRule::rule, rule, states>(),
    {NNFAST_OPTIM_RULES(NNFAST_BFLOAT16)},
#define NNFAST_BLOCKS(rule, name, states, ...) blocks_fn<OptimRule::rule, rule, states>(),
    {NNFAST_OPTIM_RULES(NNFAST_BLOCKS)},
    NNFAST_FROM_AVX2({nullptr, square_sums<float>, square_sums<double>}),
    NNFAST_FROM_AVX2({nullptr, factored_quotients<float>, factored_quotients<double>}),
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
