// Batch normalisation (Ioffe, Szegedy 2015) of (rows, channels).
//
//   y = (x - mean) s + beta,  s = gamma / sqrt(variance + eps)
//   dgamma = sum dy (x - mean) / std,  dbeta = sum dy
//   dx = s (dy - dbeta / N - (x - mean) dgamma / (N std))          in training, s dy in inference
//
// A vector's lanes are channels and the rows are walked in order, in blocks, so that a channel's sums do not depend on
// the vector's width, the layout or the threads. Sums are taken in double of x - first row, which is exactly 0 for a
// constant channel; the variance is a second pass. The mean is used as a pair of T, so that a large mean costs no
// digits.
#include "kernels/normalization.hpp"

#include "simd/float_state.hpp"
#include "simd/math.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

constexpr std::ptrdiff_t kRowBlock = 256;

// Some neighbouring channels of a matrix: Vectors vectors of T. Dense ones lie next to each other in every matrix and
// fill their vectors; others may be fewer (count) and at any stride.
template <class T, int Vectors_, bool Dense>
struct Channels {
  using Type = T;
  using V = Vec<T>;
  static constexpr int Vectors = Vectors_;
  static constexpr int kWidth = Vectors * kLanes<V>;
  std::ptrdiff_t first, count;

  NNFAST_INLINE std::ptrdiff_t lanes(int v) const {
    if (Dense) return kLanes<V>;
    const std::ptrdiff_t left = count - v * kLanes<V>;
    return left < kLanes<V> ? left : kLanes<V>;
  }
  NNFAST_INLINE V load(const Matrix& m, std::ptrdiff_t row, int v) const {
    if (Dense) return nnfast::load<V>(reinterpret_cast<const T*>(at(m, row, v)));
    return load_strided<V>(at(m, row, v), m.stride, lanes(v), T{0});
  }
  NNFAST_INLINE void store(const Matrix& m, std::ptrdiff_t row, int v, V value) const {
    if (Dense) return nnfast::store(reinterpret_cast<T*>(at(m, row, v)), value);
    store_strided(at(m, row, v), m.stride, value, lanes(v));
  }
  // A vector of T from one double a channel.
  template <class F>
  NNFAST_INLINE V gather(int v, F value_of_channel) const {
    V result{};
    for (std::ptrdiff_t i = 0; i < lanes(v); ++i)
      result[i] = static_cast<T>(value_of_channel(first + v * kLanes<V> + i));
    return result;
  }

 private:
  NNFAST_INLINE char* at(const Matrix& m, std::ptrdiff_t row, int v) const {
    return m.data + row * m.row_stride +
           (first + v * kLanes<V>)*(Dense ? static_cast<std::ptrdiff_t>(sizeof(T)) : m.stride);
  }
};

// Sums over the rows of one or more terms a channel. body(row, add) calls add(term, v, wide) for its terms.
template <class T, int Vectors, int Terms>
struct ColumnSums {
  using W = Widened<Vec<T>>;
  static constexpr int kParts = Vectors * W::count;
  Vec<double> total[Terms][kParts] = {};

  template <class Body>
  NNFAST_INLINE void over_rows(std::ptrdiff_t rows, Body body) {
    for (std::ptrdiff_t begin = 0; begin < rows; begin += kRowBlock) {
      const std::ptrdiff_t end = begin + kRowBlock < rows ? begin + kRowBlock : rows;
      Vec<double> block[Terms][kParts] = {};
      for (std::ptrdiff_t row = begin; row < end; ++row) body(row, block);
      for (int term = 0; term < Terms; ++term)
        for (int k = 0; k < kParts; ++k) total[term][k] += block[term][k];
    }
  }
  NNFAST_INLINE void copy_to(double* to, int term, std::ptrdiff_t count) const {
    __builtin_memcpy(to, total[term], sizeof(double) * static_cast<std::size_t>(count));
  }
};

template <class C>
void statistics(const BatchNorm& norm, C channels) {
  using T = typename C::Type;
  constexpr int Vectors = C::Vectors;
  using W = Widened<Vec<T>>;
  const double rows = static_cast<double>(norm.rows);
  double* mean = norm.mean + channels.first;
  double* variance = norm.variance + channels.first;
  Vec<double> shift[Vectors * W::count];
  for (int v = 0; v < Vectors; ++v) {
    const W wide = widen(channels.load(norm.x, 0, v));
    for (int k = 0; k < W::count; ++k) shift[v * W::count + k] = wide.part[k];
  }

  ColumnSums<T, Vectors, 1> sums;
  sums.over_rows(norm.rows, [&](std::ptrdiff_t row, auto& block) {
    for (int v = 0; v < Vectors; ++v) {
      const W x = widen(channels.load(norm.x, row, v));
      for (int k = 0; k < W::count; ++k) block[0][v * W::count + k] += x.part[k] - shift[v * W::count + k];
    }
  });
  Vec<double> means[Vectors * W::count];
  for (int k = 0; k < Vectors * W::count; ++k) means[k] = shift[k] + sums.total[0][k] / rows;
  __builtin_memcpy(mean, means, sizeof(double) * static_cast<std::size_t>(channels.count));

  ColumnSums<T, Vectors, 1> squares;
  squares.over_rows(norm.rows, [&](std::ptrdiff_t row, auto& block) {
    for (int v = 0; v < Vectors; ++v) {
      const W x = widen(channels.load(norm.x, row, v));
      for (int k = 0; k < W::count; ++k) {
        const Vec<double> d = x.part[k] - means[v * W::count + k];
        auto& sum = block[0][v * W::count + k];
        sum = fma(d, d, sum);
      }
    }
  });
  squares.copy_to(variance, 0, channels.count);
  for (std::ptrdiff_t c = 0; c < channels.count; ++c) variance[c] /= rows;
}

// One double a channel as a vector of T, and the vector of what that rounding lost.
template <class C, class F>
NNFAST_INLINE Pair<typename C::V> gather_pair(C channels, int v, F value_of_channel) {
  using T = typename C::Type;
  const auto lost = [&](std::ptrdiff_t c) {
    return value_of_channel(c) - static_cast<double>(static_cast<T>(value_of_channel(c)));
  };
  return {channels.gather(v, value_of_channel), channels.gather(v, lost)};
}

// (x - mean) scale + beta for one vector of channels. What T cannot hold of the mean goes into the shift, as it is
// known in double here; what it cannot hold of the scale is a term of its own.
template <class V>
struct Affine {
  V mean, shift;
  Pair<V> scale;
  NNFAST_INLINE V operator()(V x) const {
    const V centred = x - mean;
    return fma(centred, scale.hi, fma(centred, scale.lo, shift));
  }
};

template <class C>
NNFAST_INLINE Affine<typename C::V> affine(C channels, int v, const BatchNorm& norm) {
  const auto scale = [&](std::ptrdiff_t c) { return norm.gamma[c] * norm.inv_std[c]; };
  const auto shift = [&](std::ptrdiff_t c) {
    return norm.beta[c] - (norm.mean[c] - static_cast<double>(static_cast<typename C::Type>(norm.mean[c]))) * scale(c);
  };
  return {channels.gather(v, [&](std::ptrdiff_t c) { return norm.mean[c]; }), channels.gather(v, shift),
          gather_pair(channels, v, scale)};
}

template <class C>
void normalise(const BatchNorm& norm, C channels) {
  using T = typename C::Type;
  constexpr int Vectors = C::Vectors;
  for (std::ptrdiff_t c = channels.first; c < channels.first + channels.count; ++c)
    norm.inv_std[c] = 1 / __builtin_sqrt(norm.variance[c] + norm.eps);
  Affine<Vec<T>> map[Vectors];
  for (int v = 0; v < Vectors; ++v) map[v] = affine(channels, v, norm);
  for (std::ptrdiff_t row = 0; row < norm.rows; ++row)
    for (int v = 0; v < Vectors; ++v) channels.store(norm.y, row, v, map[v](channels.load(norm.x, row, v)));
}

template <class C>
void backward(const BatchNormBackward& norm, C channels) {
  using T = typename C::Type;
  constexpr int Vectors = C::Vectors;
  using V = Vec<T>;
  using W = Widened<V>;
  Vec<double> means[Vectors * W::count] = {};
  __builtin_memcpy(means, norm.mean + channels.first, sizeof(double) * static_cast<std::size_t>(channels.count));
  ColumnSums<T, Vectors, 2> sums;
  sums.over_rows(norm.rows, [&](std::ptrdiff_t row, auto& block) {
    for (int v = 0; v < Vectors; ++v) {
      const W dy = widen(channels.load(norm.dy, row, v));
      const W x = widen(channels.load(norm.x, row, v));
      for (int k = 0; k < W::count; ++k) {
        const int p = v * W::count + k;
        block[0][p] += dy.part[k];
        block[1][p] = fma(dy.part[k], x.part[k] - means[p], block[1][p]);
      }
    }
  });
  double* dgamma = norm.dgamma + channels.first;
  sums.copy_to(norm.dbeta + channels.first, 0, channels.count);
  sums.copy_to(dgamma, 1, channels.count);
  for (std::ptrdiff_t c = 0; c < channels.count; ++c) dgamma[c] *= norm.inv_std[channels.first + c];

  const double share = norm.training ? 1 / static_cast<double>(norm.rows) : 0;
  Pair<V> mean[Vectors];
  V scale[Vectors], dy_mean[Vectors], slope[Vectors];
  for (int v = 0; v < Vectors; ++v) {
    mean[v] = gather_pair(channels, v, [&](std::ptrdiff_t c) { return norm.mean[c]; });
    scale[v] = channels.gather(v, [&](std::ptrdiff_t c) { return norm.gamma[c] * norm.inv_std[c]; });
    dy_mean[v] = channels.gather(v, [&](std::ptrdiff_t c) { return norm.dbeta[c] * share; });
    slope[v] = channels.gather(v, [&](std::ptrdiff_t c) { return norm.dgamma[c] * norm.inv_std[c] * share; });
  }
  for (std::ptrdiff_t row = 0; row < norm.rows; ++row) {
    for (int v = 0; v < Vectors; ++v) {
      const V dy = channels.load(norm.dy, row, v);
      const V centred = (channels.load(norm.x, row, v) - mean[v].hi) - mean[v].lo;
      // In inference x does not matter, not even an infinite one.
      const V inner = norm.training ? fma(-centred, slope[v], dy - dy_mean[v]) : dy;
      channels.store(norm.dx, row, v, inner * scale[v]);
    }
  }
}

// Hands the channels to body: dense ones in groups of four vectors, others a vector at a time.
template <class T, class Body>
NNFAST_INLINE void for_channels(std::ptrdiff_t begin, std::ptrdiff_t end, bool dense, Body body) {
  using Four = Channels<T, 4, true>;
  using One = Channels<T, 1, false>;
  std::ptrdiff_t c = begin;
  if (dense)
    for (; c + Four::kWidth <= end; c += Four::kWidth) body(Four{c, Four::kWidth});
  for (; c < end; c += One::kWidth) body(One{c, end - c < One::kWidth ? end - c : One::kWidth});
}

template <class T>
bool dense(const Matrix& m) {
  return m.stride == static_cast<std::ptrdiff_t>(sizeof(T));
}

template <class T>
void batch_norm_training(const BatchNorm& norm, std::ptrdiff_t begin, std::ptrdiff_t end) {
  const ExceptionScope exceptions;
  for_channels<T>(begin, end, dense<T>(norm.x) && dense<T>(norm.y), [&](auto channels) {
    statistics(norm, channels);
    normalise(norm, channels);
  });
}

template <class T>
void batch_norm_inference(const BatchNorm& norm, std::ptrdiff_t begin, std::ptrdiff_t end) {
  const ExceptionScope exceptions;
  for_channels<T>(begin, end, dense<T>(norm.x) && dense<T>(norm.y), [&](auto channels) { normalise(norm, channels); });
}

template <class T>
void batch_norm_backward(const BatchNormBackward& norm, std::ptrdiff_t begin, std::ptrdiff_t end) {
  const ExceptionScope exceptions;
  const bool all_dense = dense<T>(norm.x) && dense<T>(norm.dy) && dense<T>(norm.dx);
  for_channels<T>(begin, end, all_dense, [&](auto channels) { backward(norm, channels); });
}

}  // namespace

namespace NNFAST_ISA {

extern const NormalizationKernels normalization;
const NormalizationKernels normalization = {batch_norm_training<float>,  batch_norm_training<double>,
                                            batch_norm_inference<float>, batch_norm_inference<double>,
                                            batch_norm_backward<float>,  batch_norm_backward<double>};

}  // namespace NNFAST_ISA
}  // namespace nnfast
