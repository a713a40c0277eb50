// Layer normalisation (Ba, Kiros, Hinton 2016) and its form without a mean (Zhang, Sennrich 2019), along rows.
//
//   x^ = (x - mean) / sqrt(variance + eps),  y = x^ gamma + beta
//   dx = (gamma dy - mean of gamma dy - x^ mean of gamma dy x^) / sqrt(variance + eps)
//   dgamma = sum over rows of dy x^,  dbeta = sum over rows of dy
//
// Without a mean: mean = 0, variance = mean of x^2, and the mean of gamma dy is left out. Several rows are computed
// together, since a row is a chain of sum, root and product that wait for each other.
#include "kernels/layer_norm.hpp"

#include "kernels/from_avx2.hpp"
#include "kernels/normalization_along.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

// Vectors of a row that a step of a map takes, a line of the cache: what it needs of the row is loaded once for them.
constexpr int kVectorsInStep = kShort || kVectorBytes == 64 ? 1 : 2;

// Calls body(Count<C>, i, count) for C vectors of a run of n members each, where they are contiguous; others one by
// one, and `lead` members, fewer than a vector, by themselves.
template <class V, bool Dense, class Body>
NNFAST_INLINE void for_run_steps(std::ptrdiff_t n, std::ptrdiff_t lead, Body body) {
  constexpr std::ptrdiff_t lanes = kLanes<V>, step = kVectorsInStep * lanes;
  for (std::ptrdiff_t i = 0, count = lead;; i += count, count = smaller(n - i, lanes)) {
    if constexpr (Dense && kVectorsInStep > 1)
      if (i >= lead) {
        for (; i + step <= n; i += step) body(Count<kVectorsInStep>{}, i, lanes);
        count = smaller(n - i, lanes);
      }
    if (i >= n) return;
    if (count > 0) body(Count<1>{}, i, count);
  }
}

// Members before the first whose vector is aligned in the results of all rows.
template <class S, bool Dense, int R>
NNFAST_INLINE std::ptrdiff_t lead_of_runs(const Run (&runs)[R], int to) {
  if constexpr (!Dense) return 0;
  const std::ptrdiff_t lead = lead_of<S>(runs[0].at[to], runs[0].count);
  for (int r = 1; r < R; ++r)
    if (lead_of<S>(runs[r].at[to], runs[0].count) != lead) return 0;
  return lead;
}

// Prefetches the row that is so many further on while a row is mapped: the processor prefetches along one row, and sums
// wait for the beginning of the next.
class RowsAhead {
 public:
  NNFAST_INLINE RowsAhead(const Normalization& norm, std::ptrdiff_t row, std::ptrdiff_t rows, int array)
      : ahead_(row + rows < norm.set_count ? offset_of(norm.sets, array, row + rows) - offset_of(norm.sets, array, row)
                                           : 0) {}
  NNFAST_INLINE void ask(const char* at) const { __builtin_prefetch(at + ahead_, 0, 3); }

 private:
  std::ptrdiff_t ahead_;
};

// A vector of the scales or shifts of columns i, i + 1, ...
template <class T>
NNFAST_INLINE Vec<T> load_places(const void* values, std::ptrdiff_t i, std::ptrdiff_t count) {
  const T* at = static_cast<const T*>(values) + i;
  return count == kLanes<Vec<T>> ? load<Vec<T>>(at) : load_partial<Vec<T>>(at, count, T{0});
}

// Terms of which few are added as they are computed and the sums of those as doubles: half the work of doubles alone,
// and the error of the few, whose sum has 24 digits, is that of a term.
constexpr std::ptrdiff_t kFew = 8 * kReduceBlock;
template <class T>
class SumOfFew {
 public:
  using V = Vec<T>;
  NNFAST_INLINE SumOfFew() {  // not by a loop: the compiler would call memset
    unrolled<kReduceParts<T>>([&](int part) NNFAST_INLINED { few_[part] = V{}; });
    unrolled<kReduceDoubles>([&](int k) NNFAST_INLINED { sums_[k] = Vec<double>{}; });
  }
  // Before the terms of lane 0 of part 0 of a block: the members of a few begin at multiples of their number.
  NNFAST_INLINE void begin_block(std::ptrdiff_t member) {
    if (member % kFew == 0) [[unlikely]]
      add_few();
  }
  NNFAST_INLINE void add(int part, V term) { few_[part] += term; }
  NNFAST_INLINE void add(int part, V a, V b) { few_[part] = fma(a, b, few_[part]); }
  NNFAST_INLINE double total() {
    add_few();
    return sum_of_block(sums_);
  }

 private:
  V few_[kReduceParts<T>];
  Vec<double> sums_[kReduceDoubles];
  NNFAST_INLINE void add_few() {
    for (int part = 0; part < kReduceParts<T>; ++part) {
      const auto wide = widen(few_[part]);
      for (int k = 0; k < wide.count; ++k) sums_[part * wide.count + k] += wide.part[k];
      few_[part] = V{};
    }
  }
};

// The sums of x and of (x - origin)^2. In float64 the squares wait for the mean: the mean about an origin would have
// the rounding of the origin.
struct RowSums {
  double origin, sum, squares;
};
template <class T>
constexpr bool kSquaresWait = sizeof(T) == sizeof(double);
template <class S, bool Dense, bool Centred>
[[gnu::noinline]] RowSums sums_of_row(const Normalization& norm, std::ptrdiff_t row) {
  using T = typename Stored<S>::Param;
  using V = Vec<T>;
  constexpr bool squared = !Centred || !kSquaresWait<T>;
  const auto stride = place_stride<S, Dense>(norm, 0);
  T origin = 0;
  if constexpr (Centred && squared) origin = mean_of_first<S, Dense>(norm, row, kReduceBlock);
  SumOfFew<double> sum;
  SumOfFew<T> squares;
  for_runs_of_row(norm, row, norm.member_count, [&](const Run& run, std::ptrdiff_t member) NNFAST_INLINED {
    for_phased_vectors<T>(run.count, member % kReduceBlock,
                          [&](std::ptrdiff_t i, int part, std::ptrdiff_t from, std::ptrdiff_t to) NNFAST_INLINED {
                            if (Dense && squared) claim<T>(run, 1, i, part);
                            if constexpr (squared) {
                              if (part == 0 && from == 0) squares.begin_block(member + i);
                              const V d = load_members<S>(run.at[0], stride, i, from, to, origin) - origin;
                              squares.add(part, d, d);
                            }
                            if constexpr (Centred) {
                              const auto x = load_member_doubles<S>(run.at[0], stride, i, from, to, T{0});
                              for (int k = 0; k < x.count; ++k) sum.add(part * x.count + k, x.part[k]);
                            }
                          });
  });
  return {static_cast<double>(origin), Centred ? sum.total() : 0, squared ? squares.total() : 0};
}

// The sum of (x - origin)^2 by itself, in T or in double.
template <class S, bool Dense, class T>
[[gnu::noinline]] double squares_about(const Normalization& norm, std::ptrdiff_t row, T origin) {
  using P = typename Stored<S>::Param;
  const auto stride = place_stride<S, Dense>(norm, 0);
  SumOfFew<T> sum;
  for_runs_of_row(norm, row, norm.member_count, [&](const Run& run, std::ptrdiff_t member) NNFAST_INLINED {
    for_phased_vectors<P>(run.count, member % kReduceBlock,
                          [&](std::ptrdiff_t i, int part, std::ptrdiff_t from, std::ptrdiff_t to) NNFAST_INLINED {
                            if (Dense) claim<P>(run, 1, i, part);
                            const auto fill = static_cast<P>(origin);
                            if constexpr (std::is_same_v<T, P>) {
                              if (part == 0 && from == 0) sum.begin_block(member + i);
                              const Vec<T> d = load_members<S>(run.at[0], stride, i, from, to, fill) - origin;
                              sum.add(part, d, d);
                            } else {
                              const auto x = load_member_doubles<S>(run.at[0], stride, i, from, to, fill);
                              for (int k = 0; k < x.count; ++k) {
                                const Vec<double> d = x.part[k] - origin;
                                sum.add(part * x.count + k, d, d);
                              }
                            }
                          });
  });
  return sum.total();
}

// Mean and 1 / sqrt(variance + eps) of rows: the mean as a double. The variance is taken about the origin unless that
// lies further off than the deviation.
template <class S, bool Dense, bool Centred>
[[gnu::noinline]] void finish_rows(const LayerNorm& layer, std::ptrdiff_t row, const RowSums* sums, int rows) {
  using T = typename Stored<S>::Param;
  constexpr bool dense_again = Dense && kSquaresWait<T>;  // where it is no exception
  const Normalization& norm = layer.norm;
  const auto n = static_cast<double>(norm.member_count);
  for (int r = 0; r < rows; ++r) {
    const double mean = sums[r].sum / n;
    const T held = static_cast<T>(mean);
    double off = Centred ? mean - sums[r].origin : 0, variance = sums[r].squares / n - off * off;
    const auto about = [&](auto origin) {
      off = mean - static_cast<double>(held);
      variance = squares_about<S, dense_again>(norm, row + r, origin) / n - off * off;
    };
    if (Centred && (kSquaresWait<T> || !(off * off <= variance))) about(held);
    if constexpr (sizeof(T) < sizeof(double)) {
      // Squares that T has no exponents for.
      constexpr double least = 0x1p-90, most = 0x1p120;
      if (!(variance + norm.eps > least && variance < most)) [[unlikely]]
        about(static_cast<double>(held));
    } else if (!is_finite(variance)) [[unlikely]] {
      store_downscaled_moments(norm, row + r, Centred, Centred ? &layer.mean[row + r] : nullptr, nullptr,
                               &layer.inv_std[row + r]);
      continue;
    }
    if (Centred) layer.mean[row + r] = mean;
    layer.inv_std[row + r] = 1 / __builtin_sqrt((variance < 0 ? 0 : variance) + norm.eps);
  }
}

// What the second pass takes of a row.
template <class V>
struct RowConstants {
  V mean, shift, inv_std;
  NNFAST_INLINE V normalised(V x, bool centred) const { return centred ? fma(x - mean, inv_std, shift) : x * inv_std; }
};
template <class V, bool Centred>
NNFAST_INLINE RowConstants<V> row_constants(const LayerNorm& layer, std::ptrdiff_t row) {
  using T = Element<V>;
  const double mean = Centred ? layer.mean[row] : 0;
  const T held = static_cast<T>(mean);
  const double inv_std = layer.inv_std[row];
  return {broadcast<V>(held), broadcast<V>(static_cast<T>((static_cast<double>(held) - mean) * inv_std)),
          broadcast<V>(static_cast<T>(inv_std))};
}

// `rows` rows, kRowsInPass at most.
template <class S, bool Dense, bool Centred>
NNFAST_INLINE void forward_rows(const LayerNorm& layer, std::ptrdiff_t row, int rows) {
  using V = typename Stored<S>::V;
  using T = typename Stored<S>::Param;
  const Normalization& norm = layer.norm;
  RowSums sums[kRowsInPass];
  for (int r = 0; r < rows; ++r) sums[r] = sums_of_row<S, Dense, Centred>(norm, row + r);
  finish_rows<S, Dense, Centred>(layer, row, sums, rows);
  const auto x_stride = place_stride<S, Dense>(norm, 0);
  const auto y_stride = place_stride<S, Dense>(norm, 1);
  const void *const gammas = layer.gamma, *const betas = layer.beta;
  for (int r = 0; r < rows; ++r) {
    const RowConstants<V> constants = row_constants<V, Centred>(layer, row + r);
    const RowsAhead x_ahead(norm, row + r, rows, 0);
    for_runs_of_row(norm, row + r, norm.member_count, [&](const Run& run, std::ptrdiff_t member) NNFAST_INLINED {
      const char* const x = run.at[0];
      char* const y = run.at[1];
      const std::ptrdiff_t lead = Dense ? lead_of<S>(y, run.count) : 0;
      for_run_steps<V, Dense>(
          run.count, lead, [&](auto vectors, std::ptrdiff_t first, std::ptrdiff_t count) NNFAST_INLINED {
            x_ahead.ask(x + first * x_stride);
            unrolled<vectors>([&](int v) NNFAST_INLINED {
              const std::ptrdiff_t i = first + v * kLanes<V>;
              const V gamma = gammas ? load_places<T>(gammas, member + i, count) : broadcast<V>(1);
              const V beta = betas ? load_places<T>(betas, member + i, count) : broadcast<V>(static_cast<T>(-0.0));
              const V normalised = constants.normalised(load_count<S>(x, x_stride, i, count), Centred);
              store_count<S, false>(y, y_stride, i, fma(normalised, gamma, beta), count);
            });
          });
    });
  }
}

// Of a row, the means of gamma dy and of gamma dy x^.
template <class V>
struct GradientMeans {
  V gradient, gradient_normalised;
};
template <class S, bool Dense, bool Centred>
[[gnu::noinline]] GradientMeans<typename Stored<S>::V> gradient_means(
    const LayerNorm& layer, std::ptrdiff_t row, const RowConstants<typename Stored<S>::V>& constants) {
  using T = typename Stored<S>::Param;
  using V = Vec<T>;
  const Normalization& norm = layer.norm;
  const auto dy_stride = place_stride<S, Dense>(norm, 0);
  const auto x_stride = place_stride<S, Dense>(norm, 1);
  SumOfFew<T> sum, sum_normalised;
  for_runs_of_row(norm, row, norm.member_count, [&](const Run& run, std::ptrdiff_t member) NNFAST_INLINED {
    for_phased_vectors<T>(run.count, member % kReduceBlock,
                          [&](std::ptrdiff_t i, int part, std::ptrdiff_t from, std::ptrdiff_t to) NNFAST_INLINED {
                            if (Dense) claim<T>(run, 2, i, part);
                            if (part == 0 && from == 0) {
                              if (Centred) sum.begin_block(member + i);
                              sum_normalised.begin_block(member + i);
                            }
                            const V dy = load_members<S>(run.at[0], dy_stride, i, from, to, T{0});
                            const V x = load_members<S>(run.at[1], x_stride, i, from, to, T{0});
                            const T* gammas = layer.gamma ? static_cast<const T*>(layer.gamma) + member + i : nullptr;
                            const V g = !layer.gamma             ? dy
                                        : to - from == kLanes<V> ? dy * load<V>(gammas)
                                                                 : dy * load_lanes<V>(gammas, from, to, T{0});
                            if (Centred) sum.add(part, g);
                            sum_normalised.add(part, g, constants.normalised(x, Centred));
                          });
  });
  const auto n = static_cast<double>(norm.member_count);
  return {broadcast<V>(static_cast<T>(Centred ? sum.total() / n : 0)),
          broadcast<V>(static_cast<T>(sum_normalised.total() / n))};
}

template <class S, bool Dense, bool Centred, int R>
NNFAST_INLINE void backward_rows(const LayerNorm& layer, std::ptrdiff_t row) {
  using V = typename Stored<S>::V;
  using T = typename Stored<S>::Param;
  const Normalization& norm = layer.norm;
  RowConstants<V> constants[R];
  GradientMeans<V> means[R];
  for (int r = 0; r < R; ++r) {
    constants[r] = row_constants<V, Centred>(layer, row + r);
    means[r] = gradient_means<S, Dense, Centred>(layer, row + r, constants[r]);
  }
  const auto dy_stride = place_stride<S, Dense>(norm, 0);
  const auto x_stride = place_stride<S, Dense>(norm, 1);
  const auto dx_stride = place_stride<S, Dense>(norm, 2);
  const RowsAhead dy_ahead(norm, row, R, 0), x_ahead(norm, row, R, 1);
  const void* const gammas = layer.gamma;
  double *const dgammas = layer.dgamma, *const dbetas = layer.dbeta;
  for_runs_of_rows<R>(norm, row, norm.member_count, [&](const Run(&runs)[R], std::ptrdiff_t member) NNFAST_INLINED {
    for_run_steps<V, Dense>(
        runs[0].count, lead_of_runs<S, Dense>(runs, 2),
        [&](auto vectors, std::ptrdiff_t first, std::ptrdiff_t count) NNFAST_INLINED {
          constexpr int C = vectors;
          V gamma[C], dgamma[C] = {}, dbeta[C] = {};
          unrolled<C>([&](int v) NNFAST_INLINED {
            gamma[v] = gammas ? load_places<T>(gammas, member + first + v * kLanes<V>, count) : broadcast<V>(1);
          });
          unrolled<R>([&](int r) NNFAST_INLINED {
            dy_ahead.ask(runs[r].at[0] + first * dy_stride);
            x_ahead.ask(runs[r].at[1] + first * x_stride);
            unrolled<C>([&](int v) NNFAST_INLINED {
              const std::ptrdiff_t i = first + v * kLanes<V>;
              const V dy = load_count<S>(runs[r].at[0], dy_stride, i, count);
              const V normalised = constants[r].normalised(load_count<S>(runs[r].at[1], x_stride, i, count), Centred);
              const V g = Centred ? fma(dy, gamma[v], -means[r].gradient) : dy * gamma[v];
              dgamma[v] = fma(dy, normalised, dgamma[v]);
              dbeta[v] += dy;
              const V dx = fma(normalised, -means[r].gradient_normalised, g) * constants[r].inv_std;
              store_count<S, false>(runs[r].at[2], dx_stride, i, dx, count);
            });
          });
          unrolled<C>([&](int v) NNFAST_INLINED {
            const std::ptrdiff_t at = member + first + v * kLanes<V>;
            add_doubles(dgammas + at, dgamma[v], count);
            if (Centred) add_doubles(dbetas + at, dbeta[v], count);
          });
        });
  });
}

// Calls rows(dense, R, row) for all rows, several at a time whatever their strides: sums over rows go by such groups.
template <class S, class Rows>
NNFAST_INLINE void over_rows(const LayerNorm& layer, std::ptrdiff_t row, std::ptrdiff_t row_end, Rows rows) {
  const ExceptionScope exceptions;
  const auto several = [&](auto dense) {
    for (; row + kRowsInPass <= row_end; row += kRowsInPass) rows(dense, Count<kRowsInPass>{}, row);
  };
  next_members<S>(layer.norm) ? several(std::true_type{}) : several(std::false_type{});
  for (; row < row_end; ++row) rows(std::false_type{}, Count<1>{}, row);
}

// So many rows of x and y at a time as stay in the first-level cache with those that are asked for.
template <class S, bool Centred>
void forward(const LayerNorm& layer, std::ptrdiff_t row, std::ptrdiff_t row_end) {
  constexpr std::ptrdiff_t most = 8192;  // bytes of x
  const ExceptionScope exceptions;
  const std::ptrdiff_t bytes = layer.norm.member_count * static_cast<std::ptrdiff_t>(sizeof(S));
  const auto some = [&](auto dense) {
    const int together = bytes * kRowsInPass <= most ? kRowsInPass : 1;
    for (; row < row_end; row += together)
      forward_rows<S, dense, Centred>(layer, row, static_cast<int>(smaller(together, row_end - row)));
  };
  next_members<S>(layer.norm) ? some(std::true_type{}) : some(std::false_type{});
}

template <class S, bool Centred>
void backward(const LayerNorm& layer, std::ptrdiff_t row, std::ptrdiff_t row_end) {
  over_rows<S>(layer, row, row_end, [&](auto dense, auto together, std::ptrdiff_t first) {
    backward_rows<S, dense, Centred, together>(layer, first);
  });
}

}  // namespace

namespace NNFAST_ISA {

extern const LayerNormKernels layer_norm;
const LayerNormKernels layer_norm = {
    NNFAST_FROM_AVX2({forward<Float16, true>, forward<float, true>, forward<double, true>}),
    NNFAST_FROM_AVX2({forward<Float16, false>, forward<float, false>, forward<double, false>}),
    {NNFAST_FROM_AVX2((backward<Float16, true>)), backward<float, true>, NNFAST_FROM_AVX2((backward<double, true>))},
    {NNFAST_FROM_AVX2((backward<Float16, false>)), backward<float, false>, NNFAST_FROM_AVX2((backward<double, false>))},
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
