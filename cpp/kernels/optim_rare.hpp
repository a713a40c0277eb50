// Rules of optimizers that are seldom used: each has one short loop (see rare() in optim.hpp).
#pragma once

#include "kernels/optim_rule.hpp"

namespace nnfast {
namespace {

// m: average of g,  s: average of (g - m)^2, plus eps_root at each step,  p -= lr m / (sqrt(s) correction + eps)
//                                                                              (Zhuang et al. 2020)
template <class V>
struct AdaBelief {
  V lr, eps, eps_root, correction;
  RunningAverage<V> first, second;
  NNFAST_INLINE explicit AdaBelief(Hyperparameters<V, OptimRule::AdaBelief> h)
      : lr(h("lr")),
        eps(h("eps")),
        eps_root(h("eps_root")),
        correction(h("correction")),
        first{h("decay1"), h("gain1")},
        second{h("decay2"), h("gain2")} {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &m = state[0], &s = state[1];
    first(m, g);
    second.squares(s, g - m);
    s += eps_root;
    p = fma(-lr, m / fma(sqrt(s), correction, eps), p);
  }
};

// m: average of g,  v -= gain2 sign(v - g^2) g^2,  p -= lr m / (sqrt(v) correction + eps)     (Zaheer et al. 2018)
template <class V>
struct Yogi {
  V lr, eps, correction;
  RunningAverage<V> first;
  V gain2;
  NNFAST_INLINE explicit Yogi(Hyperparameters<V, OptimRule::Yogi> h)
      : lr(h("lr")), eps(h("eps")), correction(h("correction")), first{h("decay1"), h("gain1")}, gain2(h("gain2")) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &m = state[0], &v = state[1];
    first(m, g);
    const V square = g * g;
    v = fma(-gain2, sign_of(v - square) * square, v);
    p = fma(-lr, m / fma(sqrt(v), correction, eps), p);
  }
};

// d = g - last g, 0 at the first step, where the caller's gain2 and difference are 0.
// m, v: averages of g and d,  n: average of (g + difference d)^2,
// p -= (lr m + difference_lr v) / (sqrt(n correction + eps_root) + eps)                         (Xie et al. 2022)
template <class V>
struct Adan {
  V lr, difference_lr, eps, eps_root, correction;
  RunningAverage<V> first, second, third;
  V difference;
  NNFAST_INLINE explicit Adan(Hyperparameters<V, OptimRule::Adan> h)
      : lr(h("lr")),
        difference_lr(h("difference_lr")),
        eps(h("eps")),
        eps_root(h("eps_root")),
        correction(h("correction")),
        first{h("decay1"), h("gain1")},
        second{h("decay2"), h("gain2")},
        third{h("decay3"), h("gain3")},
        difference(h("difference")) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &m = state[0], &v = state[1], &n = state[2], &last = state[3];
    const V d = g - last;
    last = g;
    first(m, g);
    second(v, d);
    third.squares(n, fma(difference, d, g));
    p -= fma(lr, m, difference_lr * v) / (sqrt(fma(n, correction, eps_root)) + eps);
  }
};

// s grows by etaplus where g has the sign of the last one, and shrinks by etaminus where it has the other, in which
// case g counts as 0;  p -= s sign(g)                                              (Riedmiller, Braun 1993)
template <class V>
struct Rprop {
  V etaminus, etaplus, least, most;
  NNFAST_INLINE explicit Rprop(Hyperparameters<V, OptimRule::Rprop> h)
      : etaminus(h("etaminus")), etaplus(h("etaplus")), least(h("step_size_min")), most(h("step_size_max")) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &last = state[0], &s = state[1];
    const V agreement = sign_of(g) * sign_of(last);
    s = min(most, max(least, s * (agreement > 0 ? etaplus : (agreement < 0 ? etaminus : broadcast<V>(1)))));
    last = agreement < 0 ? V{} : g;
    p = fma(-s, sign_of(last), p);
  }
};

// p = decay p - eta g,  a: average of p, with weight mu for the last                    (Polyak, Juditsky 1992)
template <class V>
struct Asgd {
  V eta, decay, mu;
  NNFAST_INLINE explicit Asgd(Hyperparameters<V, OptimRule::Asgd> h) : eta(h("eta")), decay(h("decay")), mu(h("mu")) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V& a = state[0];
    p = fma(-eta, g, p * decay);
    a = mu == 1 ? p : fma(mu, p - a, a);
  }
};

// n += g^2,  z += g + shrinkage p - (change of sqrt(n)) p / lr,
// p = (clip(z, -l1, l1) - z) / (sqrt(n) / lr + quadratic)                              (McMahan et al. 2013)
template <class V>
struct Ftrl {
  V inverse_lr, l1, quadratic, shrinkage;
  NNFAST_INLINE explicit Ftrl(Hyperparameters<V, OptimRule::Ftrl> h)
      : inverse_lr(h("inverse_lr")), l1(h("l1")), quadratic(h("quadratic")), shrinkage(h("shrinkage")) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &n = state[0], &z = state[1];
    const V before = sqrt(n);
    n = fma(g, g, n);
    const V root = sqrt(n);
    z += fma(fma(-inverse_lr, root - before, shrinkage), p, g);
    const V over = min(l1, max(-l1, z)) - z;
    // Where there was no gradient yet it may be 0 / 0.
    p = over == 0 ? over : over / fma(inverse_lr, root, quadratic);
  }
};

// m, v as Adam,  direction = scale m / (sqrt(v) correction + eps) + decay p,  p -= lr trust direction
//                                                                                         (You et al. 2020)
template <class V>
struct Lamb {
  V rate, scale, decay, eps, correction;
  RunningAverage<V> first, second;
  NNFAST_INLINE explicit Lamb(Hyperparameters<V, OptimRule::Lamb> h)
      : rate(h("lr") * h("trust")),
        scale(h("scale")),
        decay(h("decay")),
        eps(h("eps")),
        correction(h("correction")),
        first{h("decay1"), h("gain1")},
        second{h("decay2"), h("gain2")} {}
  NNFAST_INLINE V direction(V p, V g, V* state) const {
    V &m = state[0], &v = state[1];
    first(m, g);
    second.squares(v, g);
    return fma(decay, p, scale * m / fma(sqrt(v), correction, eps));
  }
  NNFAST_INLINE void update(V& p, V g, V* state) const { p = fma(-rate, direction(p, g, state), p); }
};

// v = momentum v + lr trust g,  p -= v, or lr trust g + momentum v with Nesterov's      (You, Gitman, Ginsburg 2017)
template <class V>
struct Lars {
  V rate, momentum;
  bool nesterov;
  NNFAST_INLINE explicit Lars(Hyperparameters<V, OptimRule::Lars> h)
      : rate(h("lr") * h("trust")), momentum(h("momentum")), nesterov(h.flag("nesterov")) {}
  NNFAST_INLINE V direction(V, V g, V*) const { return g; }
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V& v = state[0];
    const V step = rate * g;
    v = fma(momentum, v, step);
    p -= nesterov ? fma(momentum, v, step) : v;
  }
};

// p is where gradients are taken, between z, which descends, and its average, whose weight for this step is `weight`:
// p += weight (z - p) - step_lr g,  z -= lr g                                             (Defazio et al. 2024)
template <class V>
struct ScheduleFreeSgd {
  V lr, step_lr, weight;
  NNFAST_INLINE explicit ScheduleFreeSgd(Hyperparameters<V, OptimRule::ScheduleFreeSgd> h)
      : lr(h("lr")), step_lr(h("step_lr")), weight(h("weight")) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const { step(p, g, state[0]); }
  NNFAST_INLINE void step(V& p, V direction, V& z) const {
    p = fma(-step_lr, direction, fma(weight, z - p, p));
    z = fma(-lr, direction, z);
  }

 protected:
  NNFAST_INLINE ScheduleFreeSgd(V of_z, V of_p, V of_average) : lr(of_z), step_lr(of_p), weight(of_average) {}
};

// The same with g / (sqrt(v) correction + eps) + decay p in place of g,  v: average of g^2
template <class V>
struct ScheduleFreeAdam : ScheduleFreeSgd<V> {
  V eps, correction;
  RunningAverage<V> second;
  V decay;
  NNFAST_INLINE explicit ScheduleFreeAdam(Hyperparameters<V, OptimRule::ScheduleFreeAdam> h)
      : ScheduleFreeSgd<V>(h("lr"), h("step_lr"), h("weight")),
        eps(h("eps")),
        correction(h("correction")),
        second{h("decay2"), h("gain2")},
        decay(h("decay")) {}
  NNFAST_INLINE void update(V& p, V g, V* state) const {
    V &z = state[0], &v = state[1];
    second.squares(v, g);
    this->step(p, fma(decay, p, g / fma(sqrt(v), correction, eps)), z);
  }
};

}  // namespace
}  // namespace nnfast
