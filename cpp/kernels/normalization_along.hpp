// Normalisation with a vector's lanes along the members of one set.
#pragma once

#include "kernels/formulas.hpp"
#include "kernels/normalization_maps.hpp"
#include "kernels/rows.hpp"
#include "simd/bits.hpp"
#include "simd/elements.hpp"

namespace nnfast {
namespace {

// Consecutive members at one stride in every array, and where each array has them.
struct Run {
  char* at[kNormalizedArrays];
  std::ptrdiff_t count;
  const char* next[kNormalizedArrays];  // where the next run begins
  bool last;
};

// One set, seen from its first member.
class SetOfMembers {
 public:
  [[gnu::noinline]] SetOfMembers(const Normalization& norm, std::ptrdiff_t set) : axes_(norm.members) {
    for (int a = 0; a < kNormalizedArrays; ++a)
      if (norm.data[a]) first_[a] = norm.data[a] + offset_of(norm.sets, a, set);
  }
  NNFAST_INLINE Run run(std::ptrdiff_t member, std::ptrdiff_t last) const {
    if (axes_.count != 1) return run_of_axes(member, last);
    Run run;
    for (int a = 0; a < kNormalizedArrays; ++a) run.at[a] = first_[a] + member * axes_.strides[a][0];
    run.count = last - member;
    return run;
  }
  // Calls body(run, member) for the runs of members [first, last).
  template <class Body>
  NNFAST_INLINE void for_runs(std::ptrdiff_t first, std::ptrdiff_t last, Body body) const {
    Run now = run(first, last);
    for (std::ptrdiff_t member = first; member < last;) {
      const std::ptrdiff_t after = member + now.count;
      now.last = after >= last;
      Run next;
      if (!now.last) {  // mostly it is: then a walk along the axes would take as long as a short run
        next = run_of_axes(after, last);
        for (int a = 0; a < kNormalizedArrays; ++a) now.next[a] = next.at[a];
      }
      body(now, member);
      if (now.last) return;
      member = after;
      now = next;
    }
  }

 private:
  const Axes& axes_;
  char* first_[kNormalizedArrays] = {};

  // One division an axis but the outermost: they take as long as a short run.
  [[gnu::noinline]] Run run_of_axes(std::ptrdiff_t member, std::ptrdiff_t last) const {
    Run run;
    run.count = last - member;
    for (int a = 0; a < kNormalizedArrays; ++a) run.at[a] = first_[a];
    for (int d = axes_.count - 1; d >= 0; --d) {
      const std::ptrdiff_t shape = axes_.shape[d], outer = d > 0 ? member / shape : 0, index = member - outer * shape;
      if (d == axes_.count - 1) run.count = smaller(shape - index, run.count);
      for (int a = 0; a < kNormalizedArrays; ++a) run.at[a] += index * axes_.strides[a][d];
      member = outer;
    }
    return run;
  }
};

NNFAST_INLINE std::ptrdiff_t inner_stride(const Normalization& norm, int array) {
  return norm.members.count > 0 ? norm.members.strides[array][norm.members.count - 1] : 0;
}

// Whether contiguous members have loops of their own. Those of float16 have none: the code is long, and float16 is
// there to save memory.
template <class S>
constexpr bool kDenseLoops = !kShort && !std::is_same_v<S, Float16>;

// Whether the members of a run are contiguous in every array there is, and have such loops.
template <class S>
NNFAST_INLINE bool next_members(const Normalization& norm) {
  if (!kDenseLoops<S>) return false;
  for (int a = 0; a < kNormalizedArrays; ++a)
    if (norm.data[a] && inner_stride(norm, a) != static_cast<std::ptrdiff_t>(sizeof(S))) return false;
  return true;
}

// The stride of a run's members, known when the code is compiled where they are contiguous. Sorted: contiguous members
// have a loop of their own, and never come to the other.
template <class S, bool Dense, bool Sorted = kDenseLoops<S>>
NNFAST_INLINE auto member_stride(const Normalization& norm, int array) {
  if constexpr (Dense) {
    return Contiguous<S>{};
  } else if constexpr (Sorted) {
    return inner_stride(norm, array);
  } else {
    return AnyStride{inner_stride(norm, array)};
  }
}

// The same where the strided loop also takes contiguous members: tails of fewer rows than a pass come to it.
template <class S, bool Dense>
NNFAST_INLINE auto place_stride(const Normalization& norm, int array) {
  return member_stride<S, Dense, false>(norm, array);
}

// Calls body(runs, member) for the runs of the first `last` members of several rows, which have the same members.
// Mostly a row is one run: then the walk along its axes, which takes as long as a short row, is left out.
template <int R, class Body>
NNFAST_INLINE void for_runs_of_rows(const Normalization& norm, std::ptrdiff_t row, std::ptrdiff_t last, Body body) {
  for (std::ptrdiff_t member = 0; member < last;) {
    Run runs[R];
    for (int r = 0; r < R; ++r) {
      if (norm.members.count == 1) {
        for (int a = 0; a < 3; ++a)
          if (norm.data[a]) runs[r].at[a] = norm.data[a] + offset_of(norm.sets, a, row + r);
        runs[r].count = last;
      } else {
        runs[r] = SetOfMembers(norm, row + r).run(member, last);
      }
    }
    body(runs, member);
    member += runs[0].count;
  }
}
template <class Body>
NNFAST_INLINE void for_runs_of_row(const Normalization& norm, std::ptrdiff_t row, std::ptrdiff_t last, Body body) {
  for_runs_of_rows<1>(norm, row, last,
                      [&](const Run(&runs)[1], std::ptrdiff_t member) NNFAST_INLINED { body(runs[0], member); });
}

// One value for all lanes.
NNFAST_INLINE auto same_for_all(std::ptrdiff_t index) {
  return [=](const double* values, int) NNFAST_INLINED { return broadcast<Vec<double>>(values[index]); };
}

// ---- sums ----

// Sixteen sums of a value, and of a product, in double.
template <bool Chained>
class SumsAlong {
 public:
  NNFAST_INLINE void add(int k, Vec<double> value, Vec<double> a, Vec<double> b) { terms_[k].add(value, a, b); }
  NNFAST_INLINE void set(int k, int term, Vec<double> sum) { terms_[k].sum[term] = sum; }
  NNFAST_INLINE void end_chain() {
    for (auto& terms : terms_) terms.end_chain();
  }
  NNFAST_INLINE void store(double* to, std::ptrdiff_t stride) {
    end_chain();
    for (int half = kReduceDoubles / 2; half > 0; half /= 2)
      for (int k = 0; k < half; ++k) terms_[k].join(terms_[k + half]);
    const auto all = joined_lanes(terms_[0]);
    for (int t = 0; t < kTerms; ++t) {
      to[t * stride] = all.high(t)[0];
      to[(kTerms + t) * stride] = all.low(t)[0];
    }
  }

 private:
  Terms<Chained, Vec<double>> terms_[kReduceDoubles] = {};
};

// So much of the next run is prefetched, a line for each that is read: the processor prefetches within a run by itself,
// but starts anew with each.
constexpr std::ptrdiff_t kAheadBytes = 4096;

NNFAST_INLINE void ask_ahead(const Run& run, int array, std::ptrdiff_t byte) {
  if (!run.last && byte < kAheadBytes) __builtin_prefetch(run.next[array] + byte, 0, 2);
}

// Prefetches the line of an array that will be written, one for all vectors of a block that share it: sums do not wait
// for stores, and maps do.
template <class T>
NNFAST_INLINE void claim(const Run& run, int array, std::ptrdiff_t i, int part) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  if (part * sizeof(Vec<T>) % 64 == 0) __builtin_prefetch(run.at[array] + i * size, 1, 3);
}

// Calls body(i, part, from, to) for the vectors of a run of n members, the first of which has place `phase` of a block
// of 16: the lanes [from, to) of part `part` of the block are the members from i + from on. Whole vectors are known to
// be whole when the code is compiled.
template <class T, class Body>
NNFAST_INLINE void for_phased_vectors(std::ptrdiff_t n, std::ptrdiff_t phase, Body body) {
  constexpr std::ptrdiff_t lanes = kLanes<Vec<T>>;
  const auto some = [&](std::ptrdiff_t i, std::ptrdiff_t from, std::ptrdiff_t to) NNFAST_INLINED {
    for (int part = 0; part < kReduceParts<T>; ++part) {
      const std::ptrdiff_t low = from - part * lanes > 0 ? from - part * lanes : 0;
      const std::ptrdiff_t high = smaller(to - part * lanes, lanes);
      if (low < high) body(i + part * lanes, part, low, high);
    }
  };
  std::ptrdiff_t i = 0;
  if (phase) {
    some(-phase, phase, smaller(kReduceBlock, phase + n));
    i = kReduceBlock - phase;
  }
  if constexpr (kShort) {
    for (; i < n; i += kReduceBlock) some(i, 0, smaller(kReduceBlock, n - i));
  } else {
    for (; i + kReduceBlock <= n; i += kReduceBlock)
      unrolled<kReduceParts<T>>([&](int part) NNFAST_INLINED { body(i + part * lanes, part, 0, lanes); });
    if (i < n) some(i, 0, n - i);
  }
}

// The lanes [from, to) of the vector of members i, i + 1, ... of a run.
template <class S, class Stride>
NNFAST_INLINE typename Stored<S>::V load_members(const char* run, Stride stride, std::ptrdiff_t i, std::ptrdiff_t from,
                                                 std::ptrdiff_t to, typename Stored<S>::Param fill) {
  const char* at = run + i * stride;
  if (whole<S>(stride, to - from)) return Stored<S>::load(at);
  return load_some<S>(at, stride, from, to, fill);
}

// The same as doubles.
template <class S, class Stride>
NNFAST_INLINE Widened<typename Stored<S>::V> load_member_doubles(const char* run, Stride stride, std::ptrdiff_t i,
                                                                 std::ptrdiff_t from, std::ptrdiff_t to,
                                                                 typename Stored<S>::Param fill) {
  const char* at = run + i * stride;
  if (whole<S>(stride, to - from)) return load_doubles<S>(at);
  return widen(load_some<S>(at, stride, from, to, fill));
}

// The mean of the first `most` members of a set, or of all. Computed as the first of them and the mean difference from
// that, it is exact where all are equal.
template <class S, bool Dense>
NNFAST_INLINE typename Stored<S>::Param mean_of_first(const Normalization& norm, std::ptrdiff_t set,
                                                      std::ptrdiff_t most) {
  using T = typename Stored<S>::Param;
  const auto stride = place_stride<S, Dense>(norm, 0);
  const std::ptrdiff_t count = smaller(norm.member_count, most);
  const T first = load_value<S>(norm.data[0] + offset_of(norm.sets, 0, set));
  Vec<T> differences[kReduceParts<T>] = {};
  for_runs_of_row(norm, set, count, [&](const Run& run, std::ptrdiff_t member) NNFAST_INLINED {
    for_phased_vectors<T>(run.count, member % kReduceBlock,
                          [&](std::ptrdiff_t i, int part, std::ptrdiff_t from, std::ptrdiff_t to) NNFAST_INLINED {
                            differences[part] += load_members<S>(run.at[0], stride, i, from, to, first) - first;
                          });
  });
  for (int half = kReduceParts<T> / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) differences[k] += differences[k + half];
  return first + sum_of_lanes(differences[0]) / static_cast<T>(count);
}

// Whether a chain ends before a member.
NNFAST_INLINE bool begins_chain(std::ptrdiff_t member) { return member > 0 && member % kChainMembers == 0; }

template <class S, bool Dense>
void moments_along(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t first, std::ptrdiff_t last,
                   double* sums, std::ptrdiff_t sums_stride) {
  using T = typename Stored<S>::Param;
  using W = Widened<Vec<T>>;
  const Vec<double> origin = broadcast<Vec<double>>(norm.origin[set]);
  const auto fill = static_cast<T>(norm.origin[set]);  // adds nothing
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(S));
  const auto stride = member_stride<S, Dense>(norm, 0);
  const bool claims = norm.claims;
  SumsAlong<kChained<T>> total;
  SetOfMembers(norm, set).for_runs(first, last, [&](const Run& run, std::ptrdiff_t member) NNFAST_INLINED {
    for_phased_vectors<T>(run.count, (member - first) % kReduceBlock,
                          [&](std::ptrdiff_t i, int part, std::ptrdiff_t from, std::ptrdiff_t to) NNFAST_INLINED {
                            if (Dense) ask_ahead(run, 0, i * size);
                            if (Dense && claims) claim<T>(run, 1, i, part);
                            if (kChained<T> && part == 0 && from == 0 && begins_chain(member - first + i)) [[unlikely]]
                              total.end_chain();
                            const W x = load_member_doubles<S>(run.at[0], stride, i, from, to, fill);
                            for (int k = 0; k < W::count; ++k) {
                              const Vec<double> d = x.part[k] - origin;
                              total.add(part * W::count + k, d, d, d);
                            }
                          });
  });
  total.store(sums, sums_stride);
}

// ---- float64 values whose squares overflow ----

// Their moments are taken of the values times this power of two: squares of the largest can then be summed, and what
// underflows does not count beside them. One loop for all layouts and instruction sets, as such sets are rare.
constexpr double kDownscale = 0x1p-560;

struct Moment {
  double mean, variance;  // biased
};
[[gnu::noinline]] Moment downscaled_moments(const Normalization& norm, std::ptrdiff_t set) {
  const auto n = static_cast<double>(norm.member_count);
  // About the first member, then about the mean: about 0, the mean of values near the largest number may round past it.
  Moment moment{load_element<double>(SetOfMembers(norm, set).run(0, 1).at[0]) * kDownscale, 0};
  for (int round = 0; round < 2; ++round) {
    Pair<double> sum{}, squares{};
    SetOfMembers(norm, set).for_runs(0, norm.member_count, [&](const Run& run, std::ptrdiff_t) {
      for (std::ptrdiff_t i = 0; i < run.count; ++i) {
        const double d = load_element<double>(run.at[0] + i * inner_stride(norm, 0)) * kDownscale - moment.mean;
        sum = two_sum(sum.hi, d + sum.lo);
        squares = two_sum(squares.hi, d * d + squares.lo);
      }
    });
    const double shift = sum.hi / n, variance = squares.hi / n - shift * shift;
    moment = {moment.mean + shift, variance < 0 ? 0 : variance};
  }
  return moment;
}

// Whether it is neither infinite nor NaN.
NNFAST_INLINE bool is_finite(double value) { return value - value == 0; }

// Mean, variance and 1 / sqrt(variance + eps) of such a set into what is not null. The variance is infinite where a
// double cannot hold it; its inverse root is right all the same. Without a mean (rms_norm) it is about 0. Where a value
// is infinite or NaN they are NaN.
[[gnu::noinline]] void store_downscaled_moments(const Normalization& norm, std::ptrdiff_t set, bool centred,
                                                double* mean, double* variance, double* inv_std) {
  Moment moment = downscaled_moments(norm, set);
  if (!centred) moment.variance += moment.mean * moment.mean;
  const double unscaled = moment.variance / kDownscale / kDownscale;
  if (mean) *mean = moment.mean / kDownscale;
  if (variance) *variance = unscaled;
  if (inv_std)  // beside an infinite variance eps is nothing
    *inv_std =
        is_finite(unscaled) ? 1 / __builtin_sqrt(unscaled + norm.eps) : kDownscale / __builtin_sqrt(moment.variance);
}

// masked, and relued below: std::bool_constant, or a bool where a loop of its own for each is not worth its code.
template <class S, bool Dense, class Masked>
void gradient_sums_along(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t first, std::ptrdiff_t last,
                         double* sums, std::ptrdiff_t sums_stride, Masked masked) {
  using T = typename Stored<S>::Param;
  using V = Vec<T>;
  using W = Widened<V>;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(S));
  const auto dy_stride = member_stride<S, Dense>(norm, 0);
  const auto x_stride = member_stride<S, Dense>(norm, 1);
  const auto normalised = for_gradient<V>(norm, same_for_all(set));
  const bool claims = norm.claims;
  BitReader bits(masked ? norm.bits + set * norm.bits_stride + first / 8 : nullptr);
  GradientTerms<V> terms[kReduceParts<T>] = {};
  const auto end_chain = [&]() NNFAST_INLINED {
    for (auto& each : terms) each.end_chain();
  };
  SetOfMembers(norm, set).for_runs(first, last, [&](const Run& run, std::ptrdiff_t member) NNFAST_INLINED {
    for_phased_vectors<T>(run.count, (member - first) % kReduceBlock,
                          [&](std::ptrdiff_t i, int part, std::ptrdiff_t from, std::ptrdiff_t to) NNFAST_INLINED {
                            if (Dense) {
                              ask_ahead(run, 0, i * size);
                              ask_ahead(run, 1, i * size);
                              if (claims) claim<T>(run, 2, i, part);
                            }
                            if (kFewGradients<V> && part == 0 && from == 0 && begins_chain(member - first + i))
                                [[unlikely]]
                              end_chain();
                            V dy = load_members<S>(run.at[0], dy_stride, i, from, to, T{0});
                            if (masked) dy = lanes_of<V>(bits.take(to - from) << from) ? dy : V{};
                            terms[part].add(dy, normalised(load_members<S>(run.at[1], x_stride, i, from, to, T{0})));
                          });
  });
  end_chain();
  SumsAlong<false> total;
  for (int k = 0; k < kReduceDoubles; ++k)
    for (int t = 0; t < kTerms; ++t) total.set(k, t, terms[k / W::count].part(t, k % W::count));
  total.store(sums, sums_stride);
  double& products = sums[sums_stride];
  products = ForGradient<V>::restored(broadcast<Vec<double>>(products), broadcast<Vec<double>>(norm.inv_std[set]))[0];
}

// ---- maps ----

// Calls body(parameter, begin, end) for the segments of members [first, last).
template <class Body>
NNFAST_INLINE void for_segments(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t first,
                                std::ptrdiff_t last, Body body) {
  const std::ptrdiff_t parameter = set % norm.groups * norm.segments;
  for (std::ptrdiff_t begin = first; begin < last;) {
    const std::ptrdiff_t segment = norm.segments == 1 ? 0 : begin / norm.segment;
    const std::ptrdiff_t end = smaller((segment + 1) * norm.segment, last);
    body(parameter + segment, begin, end);
    begin = end;
  }
}

// Calls body(i, count) for the vectors of a run of n members; `lead` of them, fewer than a vector, come by themselves.
template <class V, class Body>
NNFAST_INLINE void for_run_vectors(std::ptrdiff_t n, std::ptrdiff_t lead, Body body) {
  std::ptrdiff_t i = smaller(lead, n);
  if (i > 0) body(std::ptrdiff_t{0}, i);
  for (; i + kLanes<V> <= n; i += kLanes<V>) body(i, std::ptrdiff_t{kLanes<V>});
  if (i < n) body(i, n - i);
}

template <class S, class Stride>
NNFAST_INLINE typename Stored<S>::V load_count(const char* run, Stride stride, std::ptrdiff_t i, std::ptrdiff_t count) {
  const char* at = run + i * stride;
  return whole<S>(stride, count) ? Stored<S>::load(at) : load_some<S>(at, stride, 0, count, 0);
}

template <class S, bool Stream, class Stride>
NNFAST_INLINE void store_count(char* run, Stride stride, std::ptrdiff_t i, typename Stored<S>::V v,
                               std::ptrdiff_t count) {
  char* at = run + i * stride;
  if (!whole<S>(stride, count)) return store_some<S>(at, stride, v, count);
  if constexpr (Stream && Stored<S>::streams) return stream(reinterpret_cast<S*>(at), v);
  Stored<S>::store(at, v);
}

// Members before the first one whose vector is aligned, which it has to be where it is streamed.
template <class S, bool Dense, bool Stream>
NNFAST_INLINE std::ptrdiff_t lead_of_run(const char* run, std::ptrdiff_t count) {
  if constexpr (Stream && Stored<S>::streams) {
    const std::uintptr_t past = reinterpret_cast<std::uintptr_t>(run) % sizeof(Vec<S>);
    return static_cast<std::ptrdiff_t>((sizeof(Vec<S>) - past) % sizeof(Vec<S>) / sizeof(S));
  } else if constexpr (Dense) {
    return lead_of<S>(run, count);
  } else {
    return 0;
  }
}

template <class S, bool Dense, bool Stream, class Relued>
void normalise_along(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t first, std::ptrdiff_t last,
                     Relued relued) {
  using V = typename Stored<S>::V;
  const auto x_stride = member_stride<S, Dense>(norm, 0);
  const auto y_stride = member_stride<S, Dense>(norm, 1);
  const auto add_stride = member_stride<S, Dense>(norm, 2);
  const bool add = norm.data[2] != nullptr;
  const std::ptrdiff_t ahead = norm.ahead[0];
  BitWriter bits(relued ? norm.bits + set * norm.bits_stride + first / 8 : nullptr);
  for_segments(norm, set, first, last,
               [&](std::ptrdiff_t parameter, std::ptrdiff_t begin, std::ptrdiff_t end) NNFAST_INLINED {
                 const auto map = forward_map<V>(norm, same_for_all(set), same_for_all(parameter));
                 const auto run_of = [&](const Run& run, auto adding) NNFAST_INLINED {
                   for_run_vectors<V>(run.count, lead_of_run<S, Dense, Stream>(run.at[1], run.count),
                                      [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
                                        if (Dense) ask_for_next(run.at[0] + i * x_stride, ahead);
                                        V y = map(load_count<S>(run.at[0], x_stride, i, count));
                                        if (adding) y += load_count<S>(run.at[2], add_stride, i, count);
                                        if (relued) {
                                          bits.put(bits_of<V>(~(y <= 0)) & ((1u << count) - 1), count);
                                          y = Relu::forward(y);
                                        }
                                        store_count<S, Stream>(run.at[1], y_stride, i, y, count);
                                      });
                 };
                 SetOfMembers(norm, set).for_runs(begin, end, [&](const Run& run, std::ptrdiff_t) NNFAST_INLINED {
                   if constexpr (!Dense) {
                     run_of(run, add);
                   } else {
                     add ? run_of(run, std::true_type{}) : run_of(run, std::false_type{});
                   }
                 });
               });
  if (relued) bits.finish();
  if (Stream) fence();
}

template <class S, bool Dense, bool Stream, class Masked>
void gradient_along(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t first, std::ptrdiff_t last,
                    Masked masked) {
  using V = typename Stored<S>::V;
  const auto dy_stride = member_stride<S, Dense>(norm, 0);
  const auto x_stride = member_stride<S, Dense>(norm, 1);
  const auto dx_stride = member_stride<S, Dense>(norm, 2);
  const auto dadd_stride = member_stride<S, Dense>(norm, 3);
  const bool dadd = norm.data[3] != nullptr;
  const std::ptrdiff_t dy_ahead = norm.ahead[0], x_ahead = norm.ahead[1];
  BitReader bits(masked ? norm.bits + set * norm.bits_stride + first / 8 : nullptr);
  for_segments(norm, set, first, last,
               [&](std::ptrdiff_t parameter, std::ptrdiff_t begin, std::ptrdiff_t end) NNFAST_INLINED {
                 const auto run_of = [&](const Run& run, auto map) NNFAST_INLINED {
                   for_run_vectors<V>(run.count, lead_of_run<S, Dense, Stream>(run.at[2], run.count),
                                      [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
                                        V dy = load_count<S>(run.at[0], dy_stride, i, count);
                                        if (masked) dy = lanes_of<V>(bits.take(count)) ? dy : V{};
                                        const V dx = map(dy, i, count);
                                        if (dadd) store_count<S, false>(run.at[3], dadd_stride, i, dy, count);
                                        store_count<S, Stream>(run.at[2], dx_stride, i, dx, count);
                                      });
                 };
                 if (norm.slope) {
                   const auto map = backward_map<V>(norm, same_for_all(set), same_for_all(parameter));
                   SetOfMembers(norm, set).for_runs(begin, end, [&](const Run& run, std::ptrdiff_t) NNFAST_INLINED {
                     run_of(run, [&](V dy, std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
                       if (Dense) {
                         ask_for_next(run.at[0] + i * dy_stride, dy_ahead);
                         ask_for_next(run.at[1] + i * x_stride, x_ahead);
                       }
                       return map(dy, load_count<S>(run.at[1], x_stride, i, count));
                     });
                   });
                 } else {
                   const V scale = constant_map<V>(norm, same_for_all(set), same_for_all(parameter));
                   SetOfMembers(norm, set).for_runs(begin, end, [&](const Run& run, std::ptrdiff_t) NNFAST_INLINED {
                     run_of(run, [&](V dy, std::ptrdiff_t, std::ptrdiff_t) NNFAST_INLINED { return dy * scale; });
                   });
                 }
               });
  if (Stream) fence();
}

}  // namespace
}  // namespace nnfast
