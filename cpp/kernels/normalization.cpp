// Normalisation of sets of values (Ioffe, Szegedy 2015; Wu, He 2018; Ulyanov et al. 2016).
//
//   y = (x - mean) gamma / sqrt(variance + eps) + beta
//   dx = (gamma dy - offset - (x - mean) slope) / sqrt(variance + eps), with the sums over the set
//   offset = sum gamma dy / n,  slope = sum gamma dy (x - mean) / (n (variance + eps))
//
// Sums are taken in double of x less an origin out of the set's own values, which is exactly 0 where all are the same,
// and loses nothing that matters: sum (x - origin)^2 is at most n times the sum about the mean. Where that is too much,
// the caller takes them again about the mean. For the variance of float64 to be right to 2 ULP, its squares are added
// in short chains, and the chains with what rounding takes from them; sets of few members are computed with twice the
// digits. The order depends on the number of members alone. Of gradients of float32 eight terms of a lane are added as
// they are, and the sums of those as doubles: each has the error of a float32 anyway.
#include "kernels/normalization.hpp"

#include "kernels/from_avx2.hpp"
#include "kernels/normalization_across.hpp"
#include "kernels/normalization_along.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

// The nearer the origin is to the mean, the fewer digits the variance loses to cancellation: for float64 it is the mean
// of so many first members.
constexpr std::ptrdiff_t kOriginMembers = 32;

// Calls body with true or false known when the code is compiled.
template <class Body>
NNFAST_INLINE void with(bool flag, Body body) {
  flag ? body(std::true_type{}) : body(std::false_type{});
}

// Of sets that are lanes, the first members: their mean is taken as moments are.
template <class S>
void origins(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t set_end, double* values) {
  const ExceptionScope exceptions;
  if constexpr (kChained<typename Stored<S>::Param>)
    if (!norm.across)
      return with(next_members<S>(norm), [&](auto dense) {
        for (std::ptrdiff_t s = set; s < set_end; ++s)
          values[s - set] = mean_of_first<S, dense>(norm, s, kOriginMembers);
      });
  for (std::ptrdiff_t s = set; s < set_end; ++s)
    values[s - set] = static_cast<double>(load_value<S>(norm.data[0] + offset_of(norm.sets, 0, s)));
}

template <class S>
void moments(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t set_end, std::ptrdiff_t first,
             std::ptrdiff_t last, double* sums, std::ptrdiff_t stride) {
  const ExceptionScope exceptions;
  if (norm.across)
    return for_sets<S, kVectorsAcross>(
        norm, set, set_end, [&](auto sets) { moments_across(sets, first, last, sums + sets.first - set, stride); });
  with(next_members<S>(norm), [&](auto dense) {
    for (std::ptrdiff_t s = set; s < set_end; ++s)
      moments_along<S, dense>(norm, s, first, last, sums + s - set, stride);
  });
}

template <class S>
void gradient_sums(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t set_end, std::ptrdiff_t first,
                   std::ptrdiff_t last, double* sums, std::ptrdiff_t stride) {
  const ExceptionScope exceptions;
  const auto along = [&](auto dense, auto masked) {
    for (std::ptrdiff_t s = set; s < set_end; ++s)
      gradient_sums_along<S, dense>(norm, s, first, last, sums + s - set, stride, masked);
  };
  const bool masked = norm.bits != nullptr;
  if (norm.across)
    return with(masked, [&](auto known) {
      for_sets<S, kGradientsAcross<S>>(norm, set, set_end, [&](auto sets) {
        gradient_sums_across<known>(sets, first, last, sums + sets.first - set, stride);
      });
    });
  if (next_members<S>(norm)) return with(masked, [&](auto known) { along(std::true_type{}, known); });
  along(std::false_type{}, masked);
}

template <class S>
void normalise(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t set_end, std::ptrdiff_t first,
               std::ptrdiff_t last) {
  const ExceptionScope exceptions;
  const auto along = [&](auto dense, auto stream, auto relued) {
    for (std::ptrdiff_t s = set_end; s-- > set;) normalise_along<S, dense, stream>(norm, s, first, last, relued);
  };
  const bool relued = norm.bits != nullptr;
  if (norm.across)
    return with(relued, [&](auto known) {
      with(norm.data[2] != nullptr,
           [&](auto add) { normalise_across<S, known, add>(norm, set, set_end - set, first, last); });
    });
  if (next_members<S>(norm))
    return with(relued,
                [&](auto known) { with(norm.stream, [&](auto stream) { along(std::true_type{}, stream, known); }); });
  along(std::false_type{}, std::false_type{}, relued);
}

template <class S>
void gradient(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t set_end, std::ptrdiff_t first,
              std::ptrdiff_t last) {
  const ExceptionScope exceptions;
  const auto along = [&](auto dense, auto stream, auto masked) {
    for (std::ptrdiff_t s = set_end; s-- > set;) gradient_along<S, dense, stream>(norm, s, first, last, masked);
  };
  const bool masked = norm.bits != nullptr;
  if (norm.across)
    return with(masked, [&](auto known) {
      with(norm.slope != nullptr,
           [&](auto own) { gradient_across<S, known, own>(norm, set, set_end - set, first, last); });
    });
  if (next_members<S>(norm))
    return with(masked,
                [&](auto known) { with(norm.stream, [&](auto stream) { along(std::true_type{}, stream, known); }); });
  along(std::false_type{}, std::false_type{}, masked);
}

// Fewer members than this do not average what rounding does to each.
constexpr std::ptrdiff_t kFewMembers = kReduceBlock;

// The moments of float64 sets with few members, a set a lane, with twice the digits throughout.
[[gnu::noinline]] Moments<Vec<double>> moments_of_few(const Normalization& norm, std::ptrdiff_t set,
                                                      std::ptrdiff_t count) {
  using D = Vec<double>;
  const D n = broadcast<D>(static_cast<double>(norm.member_count));
  const auto for_members = [&](auto body) {
    for (std::ptrdiff_t i = 0; i < norm.member_count; ++i) {
      const char* member = norm.data[0] + offset_of(norm.members, 0, i);
      D x{};
      for (std::ptrdiff_t k = 0; k < count; ++k) x[k] = load_element<double>(member + offset_of(norm.sets, 0, set + k));
      body(x);
    }
  };
  const auto plus = [](Pair<D> sum, Pair<D> term) {
    const Pair<D> both = two_sum(sum.hi, term.hi);
    return fast_two_sum(both.hi, both.lo + (sum.lo + term.lo));
  };
  Pair<D> sum{}, squares{};
  for_members([&](D x) { sum = plus(sum, {x, D{}}); });
  const Pair<D> mean = divide(sum, n);
  for_members([&](D x) {
    const Pair<D> d = plus({x, D{}}, {-mean.hi, -mean.lo});
    squares = plus(squares, multiply(d, d));
  });
  Moments<D> moments{};
  moments.mean = mean;
  moments.variance = divide(squares, n);
  return moments;
}

// Sets [set, set_end): mean, variance and 1 / sqrt(variance + eps) out of the sums of x - origin and of its square. An
// origin too far off the mean, for the digits of the sums, becomes the mean; whether one did.
template <class S>
bool finish_moments(const Normalization& norm, const double* sums, std::ptrdiff_t stride, double* origin,
                    const SetStatistics& to, std::ptrdiff_t set, std::ptrdiff_t set_end) {
  using D = Vec<double>;
  using T = typename Stored<S>::Param;
  const ExceptionScope exceptions;
  const D n = broadcast<D>(static_cast<double>(norm.member_count));
  Mask<D> moved{};
  for (std::ptrdiff_t s = set; s < set_end; s += kLanes<D>) {
    const std::ptrdiff_t count = smaller(set_end - s, kLanes<D>);
    const D from = load_partial<D>(origin + s, count, 0);
    const auto sum_of = [&](int term) {
      const double* at = sums + term * stride + s - set;
      return Pair<D>{load_partial<D>(at, count, 0), load_partial<D>(at + kTerms * stride, count, 0)};
    };
    Moments<D> moments;
    if (kChained<T> && norm.member_count < kFewMembers) {
      moments = moments_of_few(norm, s, count);
    } else {
      moments = moments_about<T>(from, sum_of(0), sum_of(1), n);
    }
    const D mean = moments.mean.hi, variance = moments.variance.hi;
    store_partial(to.mean + s, mean, count);
    store_partial(to.variance + s, variance, count);
    if (to.inv_std) store_partial(to.inv_std + s, 1 / sqrt(variance + norm.eps), count);
    if (to.mean_low) store_partial(to.mean_low + s, moments.mean.lo, count);
    if (to.variance_low) store_partial(to.variance_low + s, moments.variance.lo, count);
    D nearer;
    for (int i = 0; i < kLanes<D>; ++i) nearer[i] = static_cast<double>(static_cast<T>(mean[i]));
    const Mask<D> moves = moments.far & (nearer != from);
    store_partial(origin + s, moves ? nearer : from, count);
    moved |= moves;
    if constexpr (sizeof(T) == sizeof(double)) {
      for (std::ptrdiff_t i = 0; i < count; ++i)
        if (!is_finite(variance[i])) [[unlikely]] {
          store_downscaled_moments(norm, s + i, true, &to.mean[s + i], &to.variance[s + i],
                                   to.inv_std ? &to.inv_std[s + i] : nullptr);
          if (to.mean_low) to.mean_low[s + i] = 0;
          if (to.variance_low) to.variance_low[s + i] = 0;
        }
    }
  }
  bool any = false;
  for (int i = 0; i < kLanes<D>; ++i) any |= moved[i] != 0;
  return any;
}

void invert(const double* variance, double eps, double* inv_std, std::ptrdiff_t n) {
  using D = Vec<double>;
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<D>) {
    const std::ptrdiff_t count = smaller(n - i, kLanes<D>);
    store_partial(inv_std + i, 1 / sqrt(load_partial<D>(variance + i, count, 1) + eps), count);
  }
}

template <class S>
constexpr SetKernels set_kernels = {sizeof(typename Stored<S>::Param),
                                    kChained<typename Stored<S>::Param> ? kOriginMembers : 1,
                                    origins<S>,
                                    moments<S>,
                                    finish_moments<S>,
                                    forward_constants<S>,
                                    normalise<S>,
                                    gradient_sums<S>,
                                    backward_constants<S>,
                                    gradient<S>};

// Of float64, AVX-512 has the gradient alone: the other passes take as long on AVX2.
consteval SetKernels float64_kernels() {
  if constexpr (kVectorBytes < 64) {
    return set_kernels<double>;
  } else {
    SetKernels own{};
    own.gradient_sums = gradient_sums<double>;
    own.gradient = gradient<double>;
    return own;
  }
}

}  // namespace

namespace NNFAST_ISA {

extern const NormalizationKernels normalization;
const NormalizationKernels normalization = {
    {NNFAST_FROM_AVX2(set_kernels<Float16>), set_kernels<float>, float64_kernels()}, invert};

}  // namespace NNFAST_ISA
}  // namespace nnfast
