#include "ops/losses.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <vector>

#include "kernels/channels.hpp"
#include "ops/blocked_sums.hpp"
#include "ops/row_tiles.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

ByChannel<double> by_channel(const LossWeights& weights) { return {weights.values, weights.channels, weights.inner}; }

double gradient_scale(Reduction reduction, double total_weight) {
  return reduction != Reduction::mean ? 1 : (total_weight == 0 ? 0 : 1 / total_weight);
}

double reduced(Reduction reduction, double sum, double total_weight) {
  return reduction != Reduction::mean ? sum : (total_weight == 0 ? 0 : sum / total_weight);
}

// n elements of T at byte strides.
template <class T>
void copy_elements(const char* from, std::ptrdiff_t from_stride, char* to, std::ptrdiff_t to_stride, std::ptrdiff_t n) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  if (from_stride == size && to_stride == size) {
    std::memcpy(to, from, static_cast<std::size_t>(n * size));
  } else {
    for (std::ptrdiff_t i = 0; i < n; ++i) std::memcpy(to + i * to_stride, from + i * from_stride, sizeof(T));
  }
}

// ---- of rows ----

std::vector<double> weights_of_rows(const LossWeights& weights, std::ptrdiff_t rows) {
  if (!weights.values) return {};
  std::vector<double> of_rows(static_cast<std::size_t>(rows) + ByChannel<double>::kRoom);
  by_channel(weights).fill(of_rows.data(), 0, rows);
  return of_rows;
}

// Times the class weights of the labels; 0 of rows that are ignored.
std::vector<double> weights_of_labels(const RowLossArguments& rows) {
  const std::ptrdiff_t n = rows.scores_dscores_targets.rows();
  std::vector<double> weights = weights_of_rows(rows.sample_weights, n);
  const bool ignored = std::find(rows.labels, rows.labels + n, kNoLabel) != rows.labels + n;
  if (!rows.class_weights && !ignored) return weights;
  if (weights.empty()) weights.assign(static_cast<std::size_t>(n), 1);
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const std::int64_t label = rows.labels[i];
    weights[static_cast<std::size_t>(i)] *= label == kNoLabel ? 0 : rows.class_weights ? rows.class_weights[label] : 1;
  }
  return weights;
}

// Of the rows that are not ignored, times the class weights of their labels.
double total_weight(const RowLossArguments& rows, const double* row_weights, std::ptrdiff_t n) {
  if (!row_weights && !rows.labels) return static_cast<double>(n);
  const double* of_class = rows.labels ? rows.class_weights : nullptr;
  if (!row_weights && !of_class) return static_cast<double>(n - std::count(rows.labels, rows.labels + n, kNoLabel));
  double total = 0;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    if (rows.labels && rows.labels[i] == kNoLabel) continue;
    total += (row_weights ? row_weights[i] : 1) * (of_class ? of_class[rows.labels[i]] : 1);
  }
  return total;
}

// Targets changed by label smoothing and class weights, as CrossEntropy takes them.
class TargetDistribution {
 public:
  TargetDistribution(const RowLossArguments& rows, double smoothing) {
    if (!rows.class_weights && smoothing == 0) return;
    const std::ptrdiff_t classes = rows.scores_dscores_targets.n;
    std::vector<double> spread;
    for (std::ptrdiff_t c = 0; c < classes; ++c) {
      const double weight = rows.class_weights ? rows.class_weights[c] : 1;
      at_label_.push_back((1 - smoothing) * weight);
      spread.push_back(smoothing / static_cast<double>(classes) * weight);
    }
    if (!rows.labels) scale_ = in_dtype(at_label_, rows.dtype);
    if (smoothing != 0) spread_ = in_dtype(spread, rows.dtype);
    spread_sum_ = std::accumulate(spread.begin(), spread.end(), 0.0);
  }

  void put_into(CrossEntropy& loss) const {
    loss.target_scale = scale_.empty() ? nullptr : scale_.data();
    loss.spread = spread_.empty() ? nullptr : spread_.data();
    loss.at_label = at_label_.empty() ? nullptr : at_label_.data();
    loss.spread_sum = spread_sum_;
  }

 private:
  static std::vector<char> in_dtype(const std::vector<double>& values, Dtype dtype) {
    std::vector<char> bytes(values.size() * static_cast<std::size_t>(size_of(dtype)));
    if (dtype == Dtype::f64) {
      std::memcpy(bytes.data(), values.data(), bytes.size());
    } else {
      std::copy(values.begin(), values.end(), reinterpret_cast<float*>(bytes.data()));
    }
    return bytes;
  }

  std::vector<double> at_label_;
  std::vector<char> scale_, spread_;
  double spread_sum_ = 0;
};

void put_targets(CrossEntropy& loss, const Matrix& targets) { loss.targets = targets; }
void put_targets(LossRows&, const Matrix&) {}

// The loss of rows whose labels, weights and losses begin at `position` of those of all.
template <class Loss>
Loss at_rows(const Loss& all, const Matrix (&arrays)[3], std::ptrdiff_t position) {
  Loss loss = all;
  loss.scores = arrays[0];
  loss.dscores = arrays[1];
  put_targets(loss, arrays[2]);
  if (loss.labels) loss.labels += position;
  if (loss.row_weights) loss.row_weights += position;
  loss.losses += position;
  return loss;
}

// Strided rows go through tiles, if so many have room in one.
constexpr std::ptrdiff_t kLeastTile = 4;
// But not those of which one element is read.
template <class Loss>
constexpr bool kTiled = !std::is_same_v<Loss, LossRows>;

template <class Loss, class Fn>
void run_tiles(const Loss& loss, Fn fn, Dtype dtype, const Matrix (&arrays)[3], std::ptrdiff_t count,
               std::ptrdiff_t position) {
  const std::ptrdiff_t size = size_of(dtype), row_size = loss.classes * size, tile = kTileBytes / row_size;
  alignas(64) char scores[kTileBytes], targets[kTileBytes];
  const Matrix tiles[3] = {{scores, row_size, size}, {scores, row_size, size}, {targets, row_size, size}};
  for (std::ptrdiff_t first = 0; first < count; first += tile) {
    const std::ptrdiff_t rows = std::min(tile, count - first);
    copy_rows(dtype, rows_from(arrays[0], first), tiles[0], rows, loss.classes);
    if (!loss.labels) copy_rows(dtype, rows_from(arrays[2], first), tiles[2], rows, loss.classes);
    fn(at_rows(loss, tiles, position + first), 0, rows);
    copy_rows(dtype, tiles[1], rows_from(arrays[1], first), rows, loss.classes);
  }
}

template <class Loss, class Fn>
void run_rows(const Loss& loss, Fn fn, const RowLossArguments& rows, double ns_per_row) {
  constexpr Cost kTiles = cost_of("score_tiles");
  const RowArrays<3>& arrays = rows.scores_dscores_targets;
  const std::ptrdiff_t size = size_of(rows.dtype);
  const bool contiguous = std::all_of(arrays.strides, arrays.strides + 3, [&](auto stride) { return stride == size; });
  const bool tiled = kTiled<Loss> && !contiguous && loss.classes * size * kLeastTile <= kTileBytes;
  if (tiled) ns_per_row += kTiles.ns * static_cast<double>(loss.classes);
  std::ptrdiff_t row_strides[3];
  arrays.outer.inner_strides(row_strides);
  parallel_for(arrays.rows(), ns_per_row, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    arrays.outer.for_runs(begin, end, [&](char* const* data, std::ptrdiff_t count, std::ptrdiff_t position) {
      Matrix at[3];
      for (int k = 0; k < 3; ++k) at[k] = {data[k], row_strides[k], arrays.strides[k]};
      if (!tiled) return fn(at_rows(loss, at, position), 0, count);
      run_tiles(loss, fn, rows.dtype, at, count, position);
    });
  });
}

// row_weights: factors of the losses of rows, or none; the mean divides by total_weight.
template <class Loss, class Fn>
double loss_of_rows(Loss loss, const PerDtype<Fn>& kernel, const RowLossArguments& rows,
                    const std::vector<double>& row_weights, double weight, const Cost& cost, const Cost& row_cost) {
  const std::ptrdiff_t n = rows.scores_dscores_targets.rows();
  std::vector<double> losses(static_cast<std::size_t>(rows.result.each ? 0 : n));
  loss.labels = rows.labels;
  loss.classes = rows.scores_dscores_targets.n;
  loss.row_weights = row_weights.empty() ? nullptr : row_weights.data();
  loss.losses = rows.result.each ? rows.result.each : losses.data();
  loss.gradient_scale = gradient_scale(rows.result.reduction, weight);
  run_rows(loss, kernel[rows.dtype], rows, row_cost.ns + cost.ns * static_cast<double>(loss.classes));
  return reduced(rows.result.reduction, std::accumulate(losses.begin(), losses.end(), 0.0), weight);
}

// One whose class weights and ignored labels are factors of its rows.
template <class Loss, class Fn>
double loss_of_labels(const Loss& loss, const PerDtype<Fn>& kernel, const RowLossArguments& rows, const Cost& cost,
                      const Cost& row_cost) {
  const std::vector<double> weights = weights_of_labels(rows);
  const auto n = static_cast<std::size_t>(rows.scores_dscores_targets.rows());
  const double total =
      weights.empty() ? static_cast<double>(n) : std::accumulate(weights.begin(), weights.begin() + n, 0.0);
  return loss_of_rows(loss, kernel, rows, weights, total, cost, row_cost);
}

}  // namespace

double cross_entropy(const RowLossArguments& rows, bool of_logits, double label_smoothing) {
  const TargetDistribution distribution(rows, label_smoothing);
  CrossEntropy loss{};
  distribution.put_into(loss);
  const LossKernels& kernel = *kernels().losses;
  const std::ptrdiff_t n = rows.scores_dscores_targets.rows();
  const std::vector<double> weights = weights_of_rows(rows.sample_weights, n);
  // Of probabilities whose targets are labels, only those at the labels are looked at.
  const bool at_labels = !of_logits && rows.labels && !loss.spread;
  return loss_of_rows(loss, of_logits ? kernel.softmax_cross_entropy : kernel.cross_entropy, rows, weights,
                      total_weight(rows, weights.empty() ? nullptr : weights.data(), n),
                      at_labels ? cost_of("probabilities_at_labels") : cost_of("cross_entropy"),
                      at_labels ? cost_of("probabilities_at_labels_row") : cost_of("cross_entropy_row"));
}

double svm_loss(const RowLossArguments& rows, double margin, bool squared) {
  Hinge loss{};
  loss.margin = margin;
  loss.squared = squared;
  return loss_of_labels(loss, kernels().losses->hinge, rows, cost_of("svm_loss"), cost_of("svm_loss_row"));
}

double nll_loss(const RowLossArguments& rows) {
  return loss_of_labels(LossRows{}, kernels().losses->negative_log_likelihood, rows, cost_of("nll_loss"),
                        cost_of("nll_loss_row"));
}

namespace {

// sums: so many of each row.
template <int Arrays>
void run_pairs(PerDtype<RowPairsFn> kernel, Dtype dtype, const RowArrays<Arrays>& arrays, const double* factors,
               double* sums, int sums_of_row = 3, double eps = 0) {
  constexpr Cost kCost = cost_of("row_pairs"), kRowCost = cost_of("row_pairs_row");
  std::ptrdiff_t row_strides[Arrays];
  arrays.outer.inner_strides(row_strides);
  parallel_for(arrays.rows(), kRowCost.ns + kCost.ns * static_cast<double>(arrays.n),
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 arrays.outer.for_runs(begin, end,
                                       [&](char* const* data, std::ptrdiff_t count, std::ptrdiff_t position) {
                                         Matrix at[3] = {};
                                         for (int k = 0; k < Arrays; ++k)
                                           at[k] = {data[k], row_strides[k], arrays.strides[k]};
                                         const RowPairs pairs{at[0],
                                                              at[1],
                                                              at[2],
                                                              arrays.n,
                                                              factors ? factors + 2 * position : nullptr,
                                                              sums ? sums + sums_of_row * position : nullptr,
                                                              eps};
                                         kernel[dtype](pairs, 0, count);
                                       });
               });
}

// 0 where there is no slope, whatever the factor.
double times(double slope, double factor) { return slope == 0 ? 0 : slope * factor; }

struct Cosine {
  double shrink[2], value;  // the reciprocal lengths
  explicit Cosine(const double* sums) {
    // As in PyTorch: squares of lengths are larger by so much.
    for (int k = 0; k < 2; ++k) shrink[k] = 1 / std::sqrt(sums[1 + k] + 1e-12);
    value = sums[0] * (shrink[0] * shrink[1]);
  }
};

// Calls body(i) for each of n pairs.
template <class Body>
void for_pairs(std::ptrdiff_t n, Body body) {
  constexpr Cost kRowCost = cost_of("row_pairs_row");
  parallel_for(n, kRowCost.ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t i = begin; i < end; ++i) body(i);
  });
}

}  // namespace

void pair_sums(Dtype dtype, const RowArrays<2>& x_y, double* sums) {
  run_pairs(kernels().losses->pair_sums, dtype, x_y, nullptr, sums);
}

void mix_pairs(Dtype dtype, const RowArrays<3>& x_y_result, const double* factors) {
  run_pairs(kernels().losses->mix_pairs, dtype, x_y_result, factors, nullptr);
}

void differences(Dtype dtype, const RowArrays<3>& x_y_result, double eps, double* lengths) {
  run_pairs(kernels().losses->differences, dtype, x_y_result, nullptr, lengths, 1, eps);
  for_pairs(x_y_result.rows(), [&](std::ptrdiff_t i) { lengths[i] = std::sqrt(lengths[i]); });
}

void cosine_losses(const double* sums, const double* alike, std::ptrdiff_t pairs, double margin, double* losses) {
  for_pairs(pairs, [&](std::ptrdiff_t i) {
    const double cosine = Cosine(sums + 3 * i).value, loss = alike[i] == 1 ? 1 - cosine : cosine - margin;
    // Of what is alike, rounding may take the cosine beyond 1.
    losses[i] = loss <= 0 ? 0 : loss;
  });
}

void cosine_factors(const double* sums, const double* alike, const double* slopes, std::ptrdiff_t pairs, int own,
                    double* factors) {
  for_pairs(pairs, [&](std::ptrdiff_t i) {
    const Cosine cosine(sums + 3 * i);
    const double slope = slopes[i] * -alike[i];
    factors[2 * i] = -times(slope, cosine.value * (cosine.shrink[own] * cosine.shrink[own]));
    factors[2 * i + 1] = times(slope, cosine.shrink[0] * cosine.shrink[1]);
  });
}

void triplet_losses(const double* near, const double* far, std::ptrdiff_t triplets, double margin, double* losses) {
  for_pairs(triplets, [&](std::ptrdiff_t i) {
    const double over = margin + near[i] - far[i];
    losses[i] = over <= 0 ? 0 : over;
  });
}

void triplet_factors(const double* near, const double* far, const double* slopes, std::ptrdiff_t triplets,
                     double* factors) {
  const auto factor = [](double length) { return length != 0 ? 1 / length : 0; };
  for_pairs(triplets, [&](std::ptrdiff_t i) {
    factors[2 * i] = times(slopes[i], factor(near[i]));
    factors[2 * i + 1] = -times(slopes[i], factor(far[i]));
  });
}

// ---- of elements ----

namespace {

// The weights of the elements [first, first + count) of n, in `room` where they are not contiguous.
const double* weights_of_block(const LossWeights& weights, std::ptrdiff_t first, std::ptrdiff_t count, std::ptrdiff_t n,
                               double* room) {
  if (!weights.values) return nullptr;
  if (weights.inner == 1 && weights.channels == n) return weights.values + first;
  by_channel(weights).fill(room, first, count);
  return room;
}

// Copies the elements [first, first + count) of an array to contiguous memory (`gather`), or from it.
template <class T, bool gather>
void copy_block(const StridedArrays<3>& arrays, int array, std::ptrdiff_t first, std::ptrdiff_t count, T* block) {
  std::ptrdiff_t strides[3];
  arrays.inner_strides(strides);
  arrays.for_runs(first, first + count, [&](char* const* at, std::ptrdiff_t length, std::ptrdiff_t position) {
    char* contiguous = reinterpret_cast<char*>(block + (position - first));
    gather ? copy_elements<T>(at[array], strides[array], contiguous, sizeof(T), length)
           : copy_elements<T>(contiguous, sizeof(T), at[array], strides[array], length);
  });
}

// The sum of the losses of a block.
template <class T>
double loss_of_block(LossRunFn fn, const ElementLossArguments& elements, double scale, std::ptrdiff_t first,
                     std::ptrdiff_t count) {
  const StridedArrays<3>& arrays = elements.predicted_targets_slopes;
  const std::ptrdiff_t n = arrays.size();
  std::ptrdiff_t strides[3];
  arrays.inner_strides(strides);
  double weights[kLossBlock + ByChannel<double>::kRoom], positive[kLossBlock + ByChannel<double>::kRoom];
  LossRun run{};
  run.n = count;
  run.gradient_scale = scale;
  std::copy_n(elements.parameters, kLossParameters, run.parameters);
  run.weights = weights_of_block(elements.sample_weights, first, count, n, weights);
  run.positive_weights = weights_of_block(elements.positive_weights, first, count, n, positive);
  if (elements.result.each) run.losses = elements.result.each + first;
  run.careful = run.weights && !(elements.weights_sum > 1e-30 && elements.weights_sum < 1e30);
  T blocks[3][kLossBlock];
  void* contiguous[3];
  for (int k = 0; k < 3; ++k) {
    const bool in_place = k == 2 && (arrays.data[2] == arrays.data[0] || arrays.data[2] == arrays.data[1]);
    const bool direct = arrays.ndim <= 1 && strides[k] == sizeof(T) && !in_place;
    contiguous[k] = direct ? arrays.data[k] + first * strides[k] : reinterpret_cast<char*>(blocks[k]);
    // Gathered, so that the order of the sum does not depend on the layout.
    if (k < 2 && !direct) copy_block<T, true>(arrays, k, first, count, blocks[k]);
  }
  run.predicted = contiguous[0];
  run.targets = contiguous[1];
  run.slopes = contiguous[2];
  const double sum = fn(run);
  if (run.slopes == blocks[2]) copy_block<T, false>(arrays, 2, first, count, blocks[2]);
  return sum;
}

template <class T>
bool is_outside(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value < 0 || value > 1;
}
template <class T>
std::ptrdiff_t first_outside(const char* at, std::ptrdiff_t stride, std::ptrdiff_t count) {
  std::ptrdiff_t i = 0;
  if (stride == sizeof(T)) {
    // A look at so many at once: one by one they take ten times as long. Minima and maxima wait for each other, so that
    // there are several; NaN enters none of them.
    using V [[gnu::vector_size(16)]] = T;
    constexpr std::ptrdiff_t lanes = sizeof(V) / sizeof(T), together = 4, block = 16 * together * lanes;
    for (; i + block <= count; i += block) {
      V least[together] = {}, most[together] = {};
      for (std::ptrdiff_t k = i; k < i + block; k += together * lanes)
        for (std::ptrdiff_t u = 0; u < together; ++u) {
          V values;
          std::memcpy(&values, at + (k + u * lanes) * stride, sizeof values);
          least[u] = values < least[u] ? values : least[u];
          most[u] = values > most[u] ? values : most[u];
        }
      decltype(V{} < V{}) outside{};
      for (std::ptrdiff_t u = 0; u < together; ++u) outside |= (least[u] < 0) | (most[u] > 1);
      std::int64_t halves[2];
      std::memcpy(halves, &outside, sizeof halves);
      if (halves[0] | halves[1]) break;
    }
  }
  while (i < count && !is_outside<T>(at + i * stride)) ++i;
  return i;
}

}  // namespace

double elementwise_loss(ElementwiseLoss index, const ElementLossArguments& elements) {
  const auto i = static_cast<int>(index);
  const LossRunFn fn = kernels().losses->elementwise[i][elements.dtype];
  const auto loss_of = elements.dtype == Dtype::f64 ? loss_of_block<double> : loss_of_block<float>;
  const LossWeights& weights = elements.sample_weights;
  const std::ptrdiff_t n = elements.predicted_targets_slopes.size();
  const double weight =
      weights.values ? elements.weights_sum * static_cast<double>(weights.inner) : static_cast<double>(n);
  const double scale = gradient_scale(elements.result.reduction, weight);
  BlockedSums sums(n, kLossBlock, 1);
  sums.run(kElementwiseLosses[i].cost.ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end, double* sum) {
    *sum = loss_of(fn, elements, scale, begin, end - begin);
  });
  double total = 0;
  sums.add_to(&total);
  return reduced(elements.result.reduction, total, weight);
}

std::ptrdiff_t first_outside_unit_interval(Dtype dtype, const StridedArrays<1>& x) {
  constexpr Cost kCost = cost_of("probabilities");
  const auto first_of_run = dtype == Dtype::f64 ? first_outside<double> : first_outside<float>;
  std::ptrdiff_t stride[1];
  x.inner_strides(stride);
  std::atomic<std::ptrdiff_t> first{x.size()};
  parallel_for(x.size(), kCost.ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    x.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
      const std::ptrdiff_t found = first_of_run(at[0], stride[0], count);
      if (found == count) return;
      std::ptrdiff_t before = first.load();
      while (position + found < before && !first.compare_exchange_weak(before, position + found)) {
      }
    });
  });
  return first;
}

}  // namespace nnfast
