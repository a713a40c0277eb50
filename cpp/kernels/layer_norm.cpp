// Layer normalisation (Ba, Kiros, Hinton 2016) and its form without a mean (Zhang, Sennrich 2019), along rows.
//
//   x^ = (x - mean) / sqrt(variance + eps),  y = x^ gamma + beta
//   dx = (gamma dy - mean of gamma dy - x^ mean of gamma dy x^) / sqrt(variance + eps)
//   dgamma = sum over rows of dy x^,  dbeta = sum over rows of dy
//
// Without a mean: mean = 0, variance = mean of x^2, and the mean of gamma dy is left out. Several rows are computed
// together, since a row is a chain of sum, root and product that wait for each other.
#include "kernels/layer_norm.hpp"

#include "kernels/normalization_along.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

// Calls body(runs, member) for the runs of several rows, which have the same members.
template <int R, class Body>
NNFAST_INLINE void for_runs_of_rows(const Normalization& norm, std::ptrdiff_t row, Body body) {
  for (std::ptrdiff_t member = 0; member < norm.member_count;) {
    Run runs[R];
    for (int r = 0; r < R; ++r) runs[r] = SetOfMembers(norm, row + r).run(member, norm.member_count);
    body(runs, member);
    member += runs[0].count;
  }
}

// Prefetches the rows after these while these are mapped: the processor prefetches along one row, and sums wait for the
// beginning of the next.
template <int R>
class RowsAhead {
 public:
  NNFAST_INLINE RowsAhead(const Normalization& norm, std::ptrdiff_t row, int array) {
    for (int r = 0; r < R; ++r) {
      const std::ptrdiff_t next = row + R + r;
      ahead_[r] = next < norm.set_count ? offset_of(norm.sets, array, next) - offset_of(norm.sets, array, row + r) : 0;
    }
  }
  NNFAST_INLINE void ask(int r, const char* at) const { __builtin_prefetch(at + ahead_[r], 0, 3); }

 private:
  std::ptrdiff_t ahead_[R];
};

// Tails of fewer rows than a pass come to the strided loop, contiguous or not.
template <class S, bool Dense>
NNFAST_INLINE auto place_stride(const Normalization& norm, int array) {
  return member_stride<S, Dense, false>(norm, array);
}

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
  // Before the terms of lane 0 of part 0 of a block: the members of a few begin at multiples of their number.
  NNFAST_INLINE void begin_block(std::ptrdiff_t member) {
    if (member % kFew == 0) add_few();
  }
  NNFAST_INLINE void add(int part, V term) { few_[part] += term; }
  NNFAST_INLINE void add(int part, V a, V b) { few_[part] = fma(a, b, few_[part]); }
  NNFAST_INLINE double total() {
    add_few();
    return sum_of_block(sums_);
  }

 private:
  V few_[kReduceParts<T>] = {};
  Vec<double> sums_[kReduceDoubles] = {};
  NNFAST_INLINE void add_few() {
    for (int part = 0; part < kReduceParts<T>; ++part) {
      const auto wide = widen(few_[part]);
      for (int k = 0; k < wide.count; ++k) sums_[part * wide.count + k] += wide.part[k];
      few_[part] = V{};
    }
  }
};

template <class S, bool Dense>
NNFAST_INLINE double sum_of_row(const Normalization& norm, std::ptrdiff_t row) {
  using T = typename Stored<S>::Param;
  const auto stride = place_stride<S, Dense>(norm, 0);
  SumOfFew<double> sum;
  SetOfMembers(norm, row).for_runs(0, norm.member_count, [&](const Run& run, std::ptrdiff_t member) NNFAST_INLINED {
    for_phased_vectors<T>(run.count, member % kReduceBlock,
                          [&](std::ptrdiff_t i, int part, std::ptrdiff_t from, std::ptrdiff_t to) NNFAST_INLINED {
                            const auto x = load_member_doubles<S>(run.at[0], stride, i, from, to, T{0});
                            for (int k = 0; k < x.count; ++k) sum.add(part * x.count + k, x.part[k]);
                          });
  });
  return sum.total();
}

// Of (x - origin)^2, in T or in double.
template <class S, bool Dense>
NNFAST_INLINE double squares_of_row(const Normalization& norm, std::ptrdiff_t row, typename Stored<S>::Param origin) {
  using T = typename Stored<S>::Param;
  const auto stride = place_stride<S, Dense>(norm, 0);
  SumOfFew<T> sum;
  SetOfMembers(norm, row).for_runs(0, norm.member_count, [&](const Run& run, std::ptrdiff_t member) NNFAST_INLINED {
    for_phased_vectors<T>(run.count, member % kReduceBlock,
                          [&](std::ptrdiff_t i, int part, std::ptrdiff_t from, std::ptrdiff_t to) NNFAST_INLINED {
                            if (part == 0 && from == 0) sum.begin_block(member + i);
                            const auto d = load_members<S>(run.at[0], stride, i, from, to, origin) - origin;
                            sum.add(part, d, d);
                          });
  });
  return sum.total();
}
template <class S>
[[gnu::noinline]] double squares_in_double(const Normalization& norm, std::ptrdiff_t row, double origin) {
  using T = typename Stored<S>::Param;
  SumOfFew<double> sum;
  SetOfMembers(norm, row).for_runs(0, norm.member_count, [&](const Run& run, std::ptrdiff_t member) {
    for_phased_vectors<T>(
        run.count, member % kReduceBlock, [&](std::ptrdiff_t i, int part, std::ptrdiff_t from, std::ptrdiff_t to) {
          const auto fill = static_cast<T>(origin);
          const auto x = load_member_doubles<S>(run.at[0], place_stride<S, false>(norm, 0), i, from, to, fill);
          for (int k = 0; k < x.count; ++k) {
            const Vec<double> d = x.part[k] - origin;
            sum.add(part * x.count + k, d, d);
          }
        });
  });
  return sum.total();
}

// Mean and 1 / sqrt(variance + eps) of a row: the mean as a double, and then the variance about what T holds of it.
template <class S, bool Dense, bool Centred>
[[gnu::noinline]] void statistics(const LayerNorm& layer, std::ptrdiff_t row) {
  using T = typename Stored<S>::Param;
  const Normalization& norm = layer.norm;
  const auto n = static_cast<double>(norm.member_count);
  const double mean = Centred ? sum_of_row<S, Dense>(norm, row) / n : 0;
  const T held = static_cast<T>(mean);
  const double off = mean - static_cast<double>(held);
  double variance = squares_of_row<S, Dense>(norm, row, held) / n - off * off;
  if constexpr (sizeof(T) < sizeof(double)) {
    // Squares that T has no exponents for.
    constexpr double least = 0x1p-90, most = 0x1p120;
    if (!(variance + norm.eps > least && variance < most)) [[unlikely]]
      variance = squares_in_double<S>(norm, row, static_cast<double>(held)) / n - off * off;
  } else if (!is_finite(variance)) [[unlikely]] {
    return store_downscaled_moments(norm, row, Centred, Centred ? layer.mean + row : nullptr, nullptr,
                                    layer.inv_std + row);
  }
  if (Centred) layer.mean[row] = mean;
  layer.inv_std[row] = 1 / __builtin_sqrt((variance < 0 ? 0 : variance) + norm.eps);
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

template <class S, bool Dense, bool Centred, int R>
NNFAST_INLINE void forward_rows(const LayerNorm& layer, std::ptrdiff_t row) {
  using V = typename Stored<S>::V;
  using T = typename Stored<S>::Param;
  const Normalization& norm = layer.norm;
  for (int r = 0; r < R; ++r) statistics<S, Dense, Centred>(layer, row + r);
  RowConstants<V> constants[R];
  for (int r = 0; r < R; ++r) constants[r] = row_constants<V, Centred>(layer, row + r);
  const auto x_stride = place_stride<S, Dense>(norm, 0);
  const auto y_stride = place_stride<S, Dense>(norm, 1);
  const bool scaled = layer.gamma, shifted = layer.beta;
  const RowsAhead<R> x_ahead(norm, row, 0);
  for_runs_of_rows<R>(norm, row, [&](const Run(&runs)[R], std::ptrdiff_t member) NNFAST_INLINED {
    for_run_vectors<V>(runs[0].count, 0, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
      const V gamma = scaled ? load_places<T>(layer.gamma, member + i, count) : broadcast<V>(1);
      const V beta = shifted ? load_places<T>(layer.beta, member + i, count) : broadcast<V>(static_cast<T>(-0.0));
      V y[R];
      unrolled<R>([&](int r) NNFAST_INLINED {
        x_ahead.ask(r, runs[r].at[0] + i * x_stride);
        y[r] = fma(constants[r].normalised(load_count<S>(runs[r].at[0], x_stride, i, count), Centred), gamma, beta);
      });
      unrolled<R>([&](int r) NNFAST_INLINED { store_count<S, false>(runs[r].at[1], y_stride, i, y[r], count); });
    });
  });
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
  SetOfMembers(norm, row).for_runs(0, norm.member_count, [&](const Run& run, std::ptrdiff_t member) NNFAST_INLINED {
    for_phased_vectors<T>(run.count, member % kReduceBlock,
                          [&](std::ptrdiff_t i, int part, std::ptrdiff_t from, std::ptrdiff_t to) NNFAST_INLINED {
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
  const RowsAhead<R> dy_ahead(norm, row, 0), x_ahead(norm, row, 1);
  for_runs_of_rows<R>(norm, row, [&](const Run(&runs)[R], std::ptrdiff_t member) NNFAST_INLINED {
    for_run_vectors<V>(runs[0].count, 0, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
      const V gamma = layer.gamma ? load_places<T>(layer.gamma, member + i, count) : broadcast<V>(1);
      V dgamma{}, dbeta{}, dx[R];
      unrolled<R>([&](int r) NNFAST_INLINED {
        dy_ahead.ask(r, runs[r].at[0] + i * dy_stride);
        x_ahead.ask(r, runs[r].at[1] + i * x_stride);
        const V dy = load_count<S>(runs[r].at[0], dy_stride, i, count);
        const V normalised = constants[r].normalised(load_count<S>(runs[r].at[1], x_stride, i, count), Centred);
        const V g = Centred ? fma(dy, gamma, -means[r].gradient) : dy * gamma;
        dx[r] = fma(normalised, -means[r].gradient_normalised, g) * constants[r].inv_std;
        dgamma = fma(dy, normalised, dgamma);
        dbeta += dy;
      });
      unrolled<R>([&](int r) NNFAST_INLINED { store_count<S, false>(runs[r].at[2], dx_stride, i, dx[r], count); });
      add_doubles(layer.dgamma + member + i, dgamma, count);
      if (Centred) add_doubles(layer.dbeta + member + i, dbeta, count);
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

template <class S, bool Centred>
void forward(const LayerNorm& layer, std::ptrdiff_t row, std::ptrdiff_t row_end) {
  over_rows<S>(layer, row, row_end, [&](auto dense, auto together, std::ptrdiff_t first) {
    forward_rows<S, dense, Centred, together>(layer, first);
  });
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
    {forward<Float16, true>, forward<float, true>, forward<double, true>},
    {forward<Float16, false>, forward<float, false>, forward<double, false>},
    {backward<Float16, true>, backward<float, true>, backward<double, true>},
    {backward<Float16, false>, backward<float, false>, backward<double, false>},
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
