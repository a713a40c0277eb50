// Layer normalisation (Ba, Kiros, Hinton 2016) and its form without a mean (Zhang, Sennrich 2019), along rows.
//
//   x^ = (x - mean) / sqrt(variance + eps),  y = x^ gamma + beta
//   dx = (gamma dy - mean of gamma dy - x^ mean of gamma dy x^) / sqrt(variance + eps)
//   dgamma = sum over rows of dy x^,  dbeta = sum over rows of dy
//
// Without a mean: mean = 0, variance = mean of x^2, and the mean of gamma dy falls away. Several rows go together,
// since a row is a chain of sum, root and product that wait for each other.
#include "kernels/layer_norm.hpp"

#include "kernels/normalization_along.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

// Places of several rows that lie next to each other in a row: runs of the same members.
template <int R, class Body>
NNFAST_INLINE void for_runs_of_rows(const Normalization& norm, std::ptrdiff_t row, Body body) {
  for (std::ptrdiff_t member = 0; member < norm.member_count;) {
    Run runs[R];
    for (int r = 0; r < R; ++r) runs[r] = SetOfMembers(norm, row + r).run(member, norm.member_count);
    body(runs, member);
    member += runs[0].count;
  }
}

// A vector of the scales or shifts of places i, i + 1, ...
template <class T>
NNFAST_INLINE Vec<T> load_places(const void* values, std::ptrdiff_t i, std::ptrdiff_t count) {
  const T* at = static_cast<const T*>(values) + i;
  return count == kLanes<Vec<T>> ? load<Vec<T>>(at) : load_partial<Vec<T>>(at, count, T{0});
}

// Mean and 1 / sqrt(variance + eps) of a row. Sums are taken about its first value, and again about the mean where that
// lies too far off.
template <class S, bool Dense, bool Centred>
NNFAST_INLINE void statistics(const LayerNorm& layer, std::ptrdiff_t row) {
  using T = typename Stored<S>::Param;
  const Normalization& norm = layer.norm;
  const auto n = static_cast<double>(norm.member_count);
  double sums[2];
  const auto moments = [&] {
    moments_along<S, Dense>(norm, row, 0, norm.member_count, sums, 1);
    return moments_about<T>(layer.origin[row], sums[0], sums[1], n);
  };
  Moments<double> row_moments = moments();
  double variance = sums[1] / n;
  if constexpr (Centred) {
    if (row_moments.far) [[unlikely]] {
      layer.origin[row] = static_cast<double>(static_cast<T>(row_moments.mean));
      row_moments = moments();
    }
    layer.mean[row] = row_moments.mean;
    variance = row_moments.variance;
  }
  layer.inv_std[row] = 1 / __builtin_sqrt(variance + norm.eps);
}

// What is known of a row before its second pass.
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
  for (int r = 0; r < R; ++r) {
    const char* first = norm.data[0] + offset_of(norm.sets, 0, row + r);
    layer.origin[row + r] = Centred ? static_cast<double>(Stored<S>::load_lanes(first, 0, 0, 1, 0)[0]) : 0;
  }
  for (int r = 0; r < R; ++r) statistics<S, Dense, Centred>(layer, row + r);
  RowConstants<V> constants[R];
  for (int r = 0; r < R; ++r) constants[r] = row_constants<V, Centred>(layer, row + r);
  const auto x_stride = member_stride<S, Dense>(norm, 0);
  const auto y_stride = member_stride<S, Dense>(norm, 1);
  const bool scaled = layer.gamma, shifted = layer.beta;
  for_runs_of_rows<R>(norm, row, [&](const Run(&runs)[R], std::ptrdiff_t member) NNFAST_INLINED {
    for_run_vectors<V>(runs[0].count, 0, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
      const V gamma = scaled ? load_places<T>(layer.gamma, member + i, count) : broadcast<V>(1);
      const V beta = shifted ? load_places<T>(layer.beta, member + i, count) : broadcast<V>(static_cast<T>(-0.0));
      V y[R];
      unrolled<R>([&](int r) NNFAST_INLINED {
        y[r] = fma(constants[r].normalised(load_count<S>(runs[r].at[0], x_stride, i, count), Centred), gamma, beta);
      });
      unrolled<R>([&](int r) NNFAST_INLINED { store_count<S, false>(runs[r].at[1], y_stride, i, y[r], count); });
    });
  });
}

// Sums over a row of gamma dy and gamma dy (x - mean), as BackwardMap wants them.
template <class S, bool Dense, bool Centred>
NNFAST_INLINE BackwardMap<typename Stored<S>::V> gradient_constants(const LayerNorm& layer, std::ptrdiff_t row) {
  using T = typename Stored<S>::Param;
  using V = Vec<T>;
  using W = Widened<V>;
  const Normalization& norm = layer.norm;
  const double mean = Centred ? layer.mean[row] : 0, inv_std = layer.inv_std[row];
  const Vec<double> means = broadcast<Vec<double>>(mean);
  const auto dy_stride = member_stride<S, Dense>(norm, 0);
  const auto x_stride = member_stride<S, Dense>(norm, 1);
  TwoSums total;
  SetOfMembers(norm, row).for_runs(0, norm.member_count, [&](const Run& run, std::ptrdiff_t member) NNFAST_INLINED {
    for_phased_vectors<T>(run.count, member % kReduceBlock,
                          [&](std::ptrdiff_t i, int part, std::ptrdiff_t from, std::ptrdiff_t to) NNFAST_INLINED {
                            const W dy = load_member_doubles<S>(run.at[0], dy_stride, i, from, to, T{0});
                            const W x = load_member_doubles<S>(run.at[1], x_stride, i, from, to, T{0});
                            const T* gammas = static_cast<const T*>(layer.gamma) + member + i;
                            const W gamma = widen(!layer.gamma             ? broadcast<V>(1)
                                                  : to - from == kLanes<V> ? load<V>(gammas)
                                                                           : load_lanes<V>(gammas, from, to, T{0}));
                            for (int k = 0; k < W::count; ++k) {
                              const Vec<double> g = dy.part[k] * gamma.part[k];
                              total.add(part * W::count + k, g, g, x.part[k] - means);
                            }
                          });
  });
  double sums[2];
  total.store(sums, 1);
  const auto n = static_cast<double>(norm.member_count);
  const double slope = sums[1] / n * inv_std * inv_std;
  const T held = static_cast<T>(mean);
  const double offset = (Centred ? sums[0] / n : 0) - (mean - static_cast<double>(held)) * slope;
  return {broadcast<V>(held), V{}, broadcast<V>(static_cast<T>(offset)), broadcast<V>(static_cast<T>(slope)),
          broadcast<V>(static_cast<T>(inv_std))};
}

template <class V>
NNFAST_INLINE void add_doubles(double* to, Widened<V> sums, std::ptrdiff_t count) {
  for (int k = 0; k < Widened<V>::count; ++k) {
    constexpr std::ptrdiff_t lanes = kLanes<Vec<double>>;
    const std::ptrdiff_t left = smaller(count - k * lanes, lanes);
    if (left == lanes) {
      store(to + k * lanes, load<Vec<double>>(to + k * lanes) + sums.part[k]);
    } else if (left > 0) {
      store_partial(to + k * lanes, load_partial<Vec<double>>(to + k * lanes, left, 0) + sums.part[k], left);
    }
  }
}

template <class S, bool Dense, bool Centred, int R>
NNFAST_INLINE void backward_rows(const LayerNorm& layer, std::ptrdiff_t row) {
  using V = typename Stored<S>::V;
  using T = typename Stored<S>::Param;
  using W = Widened<V>;
  const Normalization& norm = layer.norm;
  BackwardMap<V> map[R];
  RowConstants<V> constants[R];
  for (int r = 0; r < R; ++r) {
    map[r] = gradient_constants<S, Dense, Centred>(layer, row + r);
    constants[r] = row_constants<V, Centred>(layer, row + r);
  }
  const auto dy_stride = member_stride<S, Dense>(norm, 0);
  const auto x_stride = member_stride<S, Dense>(norm, 1);
  const auto dx_stride = member_stride<S, Dense>(norm, 2);
  for_runs_of_rows<R>(norm, row, [&](const Run(&runs)[R], std::ptrdiff_t member) NNFAST_INLINED {
    for_run_vectors<V>(runs[0].count, 0, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
      const V gamma = layer.gamma ? load_places<T>(layer.gamma, member + i, count) : broadcast<V>(1);
      W dgamma{}, dbeta{};
      V dx[R];
      unrolled<R>([&](int r) NNFAST_INLINED {
        const V dy = load_count<S>(runs[r].at[0], dy_stride, i, count);
        const V x = load_count<S>(runs[r].at[1], x_stride, i, count);
        map[r].gamma = gamma;
        dx[r] = map[r](dy, x);
        const W wide = widen(dy), normalised = widen(constants[r].normalised(x, Centred));
        for (int k = 0; k < W::count; ++k) {
          dgamma.part[k] = fma(wide.part[k], normalised.part[k], dgamma.part[k]);
          dbeta.part[k] += wide.part[k];
        }
      });
      unrolled<R>([&](int r) NNFAST_INLINED { store_count<S, false>(runs[r].at[2], dx_stride, i, dx[r], count); });
      add_doubles<V>(layer.dgamma + member + i, dgamma, count);
      if (layer.dbeta) add_doubles<V>(layer.dbeta + member + i, dbeta, count);
    });
  });
}

// Calls rows(dense, R, row) for all rows, several at a time whatever their strides: sums over rows go by such groups.
template <class S, class Rows>
NNFAST_INLINE void over_rows(const LayerNorm& layer, std::ptrdiff_t row, std::ptrdiff_t row_end, Rows rows) {
  const ExceptionScope exceptions;
  const auto all = [&](auto dense) {
    for (; row + kRowsInPass <= row_end; row += kRowsInPass) rows(dense, Count<kRowsInPass>{}, row);
    for (; row < row_end; ++row) rows(dense, Count<1>{}, row);
  };
  next_members<S>(layer.norm) ? all(std::true_type{}) : all(std::false_type{});
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

template <class S>
constexpr RowKernels row_kernels = {forward<S, true>, forward<S, false>, backward<S, true>, backward<S, false>};

}  // namespace

namespace NNFAST_ISA {

extern const LayerNormKernels layer_norm;
const LayerNormKernels layer_norm = {row_kernels<Half>, row_kernels<float>, row_kernels<double>};

}  // namespace NNFAST_ISA
}  // namespace nnfast
