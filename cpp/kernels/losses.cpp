// Softmax cross-entropy with its gradient from the same pass:
//   loss = log sum_j e^(z_j - max z) - (z_label - max z),   dz = softmax(z) - [j = label],
// and with target probabilities t: loss = sum_j t_j (log sum - (z_j - max z)), dz = softmax(z) sum t - t.
#include "kernels/losses.hpp"

#include "kernels/softmax_row.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

NNFAST_INLINE double log_of(double sum) { return sum == sum ? log_from_one(broadcast<Vec<double>>(sum))[0] : sum; }

// dz = e * factor, where the row of dz holds the exponentials.
template <class T>
NNFAST_INLINE void scale_row(char* dz, std::ptrdiff_t stride, std::ptrdiff_t n, double factor) {
  using V = Vec<T>;
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = n - i < kLanes<V> ? n - i : kLanes<V>;
    char* at = dz + i * stride;
    store_strided(at, stride, load_strided<V>(at, stride, count, T{0}) * broadcast<V>(static_cast<T>(factor)), count);
  }
}

template <class T>
double index_row(const CrossEntropy& loss, const char* z, char* dz, std::int64_t label) {
  using V = Vec<T>;
  const std::ptrdiff_t n = loss.classes, stride = loss.dlogits.stride;
  const T largest = row_max<T>(z, loss.logits.stride, n);
  // Read before dz, which may be z, is written.
  const T at_label = load_element<T>(z + label * loss.logits.stride);
  BlockSum<T> sum;
  for_shifted<T>(z, loss.logits.stride, n, largest, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count, Pair<V> d) {
    const V e = exp_shifted(d);
    sum.add(e, part);
    store_strided(dz + i * stride, stride, e, count);
  });
  const double total = sum.total();
  const double at_label_exp = load_element<T>(dz + label * stride);
  scale_row<T>(dz, stride, n, loss.gradient_scale / total);
  store_element(dz + label * stride, static_cast<T>((at_label_exp - total) / total * loss.gradient_scale));
  const double shifted = at_label == largest ? 0.0 : static_cast<double>(at_label) - static_cast<double>(largest);
  return log_of(total) - shifted;
}

template <class T>
double target_row(const CrossEntropy& loss, const char* z, char* dz, const char* t) {
  using V = Vec<T>;
  const std::ptrdiff_t n = loss.classes, stride = loss.dlogits.stride, t_stride = loss.targets.stride;
  const T largest = row_max<T>(z, loss.logits.stride, n);
  BlockSum<T> sum, target_sum, weighted;
  for_shifted<T>(z, loss.logits.stride, n, largest, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count, Pair<V> d) {
    const V target = load_strided<V>(t + i * t_stride, t_stride, count, T{0});
    const V e = exp_shifted(d);
    sum.add(e, part);
    target_sum.add(target, part);
    weighted.add_product(target, target == 0 ? V{} : d.hi, part);
    store_strided(dz + i * stride, stride, e, count);
  });
  const double total = sum.total(), targets = target_sum.total();
  const V softmax_scale = broadcast<V>(static_cast<T>(targets * loss.gradient_scale / total));
  const V target_scale = broadcast<V>(static_cast<T>(loss.gradient_scale));
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = n - i < kLanes<V> ? n - i : kLanes<V>;
    char* at = dz + i * stride;
    const V target = load_strided<V>(t + i * t_stride, t_stride, count, T{0});
    const V e = load_strided<V>(at, stride, count, T{0});
    store_strided(at, stride, e * softmax_scale - target * target_scale, count);
  }
  return log_of(total) * targets - weighted.total();
}

template <class T>
void softmax_cross_entropy(const CrossEntropy& loss, std::ptrdiff_t row_begin, std::ptrdiff_t row_end) {
  const ExceptionScope exceptions;
  for (std::ptrdiff_t r = row_begin; r < row_end; ++r) {
    const char* z = loss.logits.data + r * loss.logits.row_stride;
    char* dz = loss.dlogits.data + r * loss.dlogits.row_stride;
    loss.losses[r] = loss.labels ? index_row<T>(loss, z, dz, loss.labels[r])
                                 : target_row<T>(loss, z, dz, loss.targets.data + r * loss.targets.row_stride);
  }
}

}  // namespace

namespace NNFAST_ISA {

extern const LossKernels losses;
const LossKernels losses = {softmax_cross_entropy<float>, softmax_cross_entropy<double>};

}  // namespace NNFAST_ISA
}  // namespace nnfast
