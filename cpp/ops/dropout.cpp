#include "ops/dropout.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/channels.hpp"
#include "ops/blocked_sums.hpp"
#include "ops/costs.hpp"
#include "ops/raised.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

// Elements whose mask is made before it is applied: few, so that arithmetic and memory accesses overlap.
constexpr std::ptrdiff_t kChunk = 8 * kMaskBlock;
// Elements whose scales are laid out before they are applied, where no mask is made.
constexpr std::ptrdiff_t kScaledChunk = 4 * kChunk;
// From so many contiguous elements of a channel on they are a call of their own, with one scale.
constexpr std::ptrdiff_t kLongRun = 256;

// Rounded to the nearest multiple of 2^-32.
std::uint64_t threshold_of(double p) { return static_cast<std::uint64_t>(p * 4294967296.0 + 0.5); }

double mask_ns(const DropoutMask& make) {
  return (make.thresholds ? cost_of("dropout_mask_channels") : cost_of("dropout_mask")).ns;
}

// Applies a mask, chunk by chunk; before(walk, first, last) comes before the elements of a chunk.
template <class Before>
void apply_chunks(Dtype dtype, const StridedArrays<2>& walk, const std::uint8_t* mask, const Keeping& keeping,
                  const ChannelScales* scales, double ns_before, std::ptrdiff_t chunk, Before before) {
  const Cost cost = scales ? cost_of("apply_mask_channels") : cost_of("apply_mask");
  const DropoutKernels& kernel = *kernels().dropout;
  const DropoutApplyFn apply = kernel.apply[dtype];
  std::ptrdiff_t strides[2];
  walk.inner_strides(strides);
  const std::ptrdiff_t n = walk.size(), scale_size = size_of(parameter_dtype(dtype));
  const bool stream = walk.data[0] != walk.data[1] && streams(n * size_of(dtype), cost);
  const auto apply_range = [&](std::ptrdiff_t first, std::ptrdiff_t last) {
    alignas(64) double room[kScaledChunk + ByChannel<double>::kRoom];
    const bool long_runs = scales && scales->inner() >= kLongRun;
    if (scales && !long_runs) scales->fill(room, first, last - first);
    walk.for_runs(first, last, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
      const DropoutRun run{mask, position, at[0], at[1], strides[0], strides[1], count, stream, nullptr};
      if (!scales) return apply(keeping, run);
      DropoutRun scaled = run;
      if (!long_runs) {
        scaled.scales = reinterpret_cast<const char*>(room) + (position - first) * scale_size;
        return apply(keeping, scaled);
      }
      scales->for_runs(position, count, [&](std::ptrdiff_t i, std::ptrdiff_t length, double scale) {
        scaled.position = position + i;
        scaled.from = at[0] + i * strides[0];
        scaled.to = at[1] + i * strides[1];
        scaled.n = length;
        apply({scale, -0.0, 0}, scaled);
      });
    });
  };
  parallel_for(
      n, cost.ns + ns_before,
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (std::ptrdiff_t first = begin; first < end; first += chunk) {
          const std::ptrdiff_t last = std::min(first + chunk, end);
          before(first, last);
          apply_range(first, last);
        }
        if (stream) kernel.fence();
      },
      kMaskBlock);
}

}  // namespace

DropoutThresholds::DropoutThresholds(double p) : threshold_(threshold_of(p)) {}

DropoutThresholds::DropoutThresholds(std::span<const double> p, std::ptrdiff_t inner) : inner_(inner) {
  thresholds_.reserve(p.size());
  high_.reserve(p.size());
  for (const double each : p) {
    thresholds_.push_back(threshold_of(each));
    high_.push_back(static_cast<std::uint16_t>(std::min<std::uint64_t>(thresholds_.back() >> 16, 0xffff)));
  }
}

DropoutMask DropoutThresholds::mask(std::uint64_t seed, std::uint64_t offset) const {
  const auto channels = static_cast<std::ptrdiff_t>(thresholds_.size());
  return {seed, offset, threshold_, channels ? thresholds_.data() : nullptr, high_.data(), channels, inner_};
}

ChannelScales::ChannelScales(std::span<const double> keep, bool inverse, std::ptrdiff_t inner, Dtype dtype)
    : channels_(static_cast<std::ptrdiff_t>(keep.size())), inner_(inner) {
  dtype == Dtype::f64 ? f64_.reserve(keep.size()) : f32_.reserve(keep.size());
  for (const double each : keep) {
    const double scale = !inverse ? each : (each == 0 ? 1 : 1 / each);
    dtype == Dtype::f64 ? f64_.push_back(scale) : f32_.push_back(static_cast<float>(scale));
  }
}

void ChannelScales::fill(void* to, std::ptrdiff_t first, std::ptrdiff_t count) const {
  if (f64_.empty()) {
    ByChannel<float>{f32_.data(), channels_, inner_}.fill(static_cast<float*>(to), first, count);
  } else {
    ByChannel<double>{f64_.data(), channels_, inner_}.fill(static_cast<double*>(to), first, count);
  }
}

void scale_by_channel(Dtype dtype, const StridedArrays<2>& x_y, const ChannelScales& scales) {
  constexpr Cost kCost = cost_of("apply_mask_channels");
  const ElementwiseFn fn = kernels().dropout->keep_scaled[dtype];
  std::ptrdiff_t inner[2];
  x_y.inner_strides(inner);
  const std::ptrdiff_t n = x_y.size(), scale_size = size_of(parameter_dtype(dtype));
  const bool stream = x_y.data[0] != x_y.data[1] && streams(n * size_of(dtype), kCost),
             long_runs = scales.inner() >= kLongRun;
  const std::ptrdiff_t strides[3] = {inner[0], long_runs ? 0 : scale_size, inner[1]};
  parallel_for(n, kCost.ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    alignas(64) double room[kScaledChunk + ByChannel<double>::kRoom];
    char* of_scales = reinterpret_cast<char*>(room);
    for (std::ptrdiff_t first = begin; first < end; first += kScaledChunk) {
      const std::ptrdiff_t last = std::min(first + kScaledChunk, end);
      if (!long_runs) scales.fill(room, first, last - first);
      x_y.for_runs(first, last, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
        if (!long_runs) {
          char* arrays[3] = {at[0], of_scales + (position - first) * scale_size, at[1]};
          fn(arrays, strides, count, stream);
          return;
        }
        scales.for_runs(position, count, [&](std::ptrdiff_t i, std::ptrdiff_t length, double) {
          scales.fill(room, position + i, 1);
          char* arrays[3] = {at[0] + i * inner[0], of_scales, at[1] + i * inner[1]};
          fn(arrays, strides, length, stream);
        });
      });
    }
  });
}

void dropout_mask(const DropoutMask& make, std::uint8_t* mask, std::ptrdiff_t n) {
  const DropoutMaskFn fn = kernels().dropout->mask;
  parallel_for(
      n, mask_ns(make), [&](std::ptrdiff_t begin, std::ptrdiff_t end) { fn(make, mask + begin / 8, begin, end); },
      kMaskBlock);
}

void apply_mask(Dtype dtype, const StridedArrays<2>& x_y, const std::uint8_t* mask, const Keeping& keeping,
                const ChannelScales* scales) {
  const std::ptrdiff_t chunk = scales ? kScaledChunk : x_y.size();
  apply_chunks(dtype, x_y, mask, keeping, scales, 0, chunk, [](std::ptrdiff_t, std::ptrdiff_t) {});
}

void dropout(Dtype dtype, const StridedArrays<2>& x_y, const DropoutMask& make, std::uint8_t* mask,
             const Keeping& keeping, const ChannelScales* scales) {
  const DropoutMaskFn fn = kernels().dropout->mask;
  const std::ptrdiff_t size = size_of(dtype);
  std::ptrdiff_t strides[2];
  x_y.inner_strides(strides);
  apply_chunks(dtype, x_y, mask, keeping, scales, mask_ns(make), kChunk,
               [&](std::ptrdiff_t first, std::ptrdiff_t last) {
                 // x is prefetched while its mask is made.
                 if (strides[0] == size)
                   x_y.for_runs(first, last, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
                     for (std::ptrdiff_t byte = 0; byte < count * size; byte += 64) __builtin_prefetch(at[0] + byte);
                   });
                 fn(make, mask + first / 8, first, last);
               });
}

void bias_relu_dropout(Dtype dtype, const RowArrays<2>& x_y, const char* bias, const DropoutMask* make,
                       const std::uint8_t* given, std::uint8_t* mask, double scale) {
  constexpr Cost kCost = cost_of("bias_relu_dropout");
  const DropoutKernels& kernel = *kernels().dropout;
  const BiasReluDropoutFn fn = kernel.bias_relu[dtype];
  const std::ptrdiff_t size = size_of(dtype);
  parallel_for(
      x_y.rows() * x_y.n, kCost.ns,
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (std::ptrdiff_t first = begin; first < end; first += kChunk) {
          const std::ptrdiff_t last = std::min(first + kChunk, end);
          const auto bytes = static_cast<std::size_t>(mask_bytes(last - first));
          std::uint8_t bits[kChunk / 8 + 4];  // the kernel writes past the last
          if (make) {
            kernel.mask(*make, bits, first, last);
          } else {
            std::memcpy(bits, given + first / 8, bytes);
          }
          std::ptrdiff_t position = 0;
          x_y.for_parts(first, last, [&](char* const* at, std::ptrdiff_t column, std::ptrdiff_t count) {
            fn({scale, -0.0, 0}, {bits, position, at[0], at[1], x_y.strides[0], x_y.strides[1], count, false, nullptr},
               bias + column * size, bits);
            position += count;
          });
          std::memcpy(mask + first / 8, bits, bytes);
        }
      },
      kMaskBlock);
}

void bias_relu_dropout_backward(Dtype dtype, const RowArrays<2>& rows, const std::uint8_t* mask, double scale,
                                double* dbias) {
  constexpr Cost kCost = cost_of("bias_relu_dropout_backward");
  const DropoutSumsFn fn = kernels().dropout->apply_sums[dtype];
  std::ptrdiff_t steps[2];
  rows.outer.inner_strides(steps);
  BlockedSums blocks(rows.rows(), rows_in_block(rows.rows(), rows.n), rows.n);
  blocks.run(kCost.ns * static_cast<double>(rows.n), [&](std::ptrdiff_t begin, std::ptrdiff_t end, double* sums) {
    rows.outer.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t row) {
      for (std::ptrdiff_t r = 0; r < count; ++r)
        fn({scale, -0.0, 0},
           {mask, (row + r) * rows.n, at[0] + r * steps[0], at[1] + r * steps[1], rows.strides[0], rows.strides[1],
            rows.n, false, nullptr},
           sums);
    });
  });
  blocks.add_to(dbias);
}

namespace {

// Whether y and x are contiguous and their scales, too, one for so many elements or for those of each column.
bool by_channel(const StridedArrays<3>& y_x_scale, std::ptrdiff_t size, std::ptrdiff_t scale_size) {
  const int last = y_x_scale.ndim - 1;
  if (last < 1 || last > 2) return false;
  std::ptrdiff_t step = 1;
  for (int d = last; d >= 0; step *= y_x_scale.shape[d--])
    for (int a = 0; a < 2; ++a)
      if (y_x_scale.strides[a][d] != step * size) return false;
  const std::ptrdiff_t* of_scale = y_x_scale.strides[2];
  if (of_scale[last] == 0) return last == 1 && of_scale[0] == scale_size;
  return of_scale[last] == scale_size && of_scale[last - 1] == 0;
}

// The elements [begin, end) of such arrays, their scales laid out before they are applied.
template <class T>
unsigned keep_scaled_channels(ElementwiseFn fn, const StridedArrays<3>& y_x_scale, std::ptrdiff_t size,
                              std::ptrdiff_t begin, std::ptrdiff_t end) {
  T scales[kScaledChunk + ByChannel<T>::kRoom];
  const std::ptrdiff_t *shape = y_x_scale.shape, *of_scale = y_x_scale.strides[2], n = y_x_scale.size();
  const int last = y_x_scale.ndim - 1;
  const bool columns = of_scale[last] != 0;
  const std::ptrdiff_t sample = last == 2 ? shape[1] * shape[2] : n;  // that has scales of its own
  const std::ptrdiff_t most = columns ? kScaledChunk / shape[last] * shape[last] : kScaledChunk;
  const std::ptrdiff_t steps[3] = {size, static_cast<std::ptrdiff_t>(sizeof(T)), size};
  unsigned raised = 0;
  for (std::ptrdiff_t first = begin; first < end;) {
    const std::ptrdiff_t in_sample = first % sample;
    const std::ptrdiff_t count = std::min({most, end - first, sample - in_sample});
    const T* values = reinterpret_cast<const T*>(y_x_scale.data[2] + (last == 2 ? first / sample * of_scale[0] : 0));
    const ByChannel<T> channels =
        columns ? ByChannel<T>{values, shape[last], 1} : ByChannel<T>{values, shape[0], shape[1]};
    // Columns come round: what is laid out holds for all chunks of a sample.
    if (!columns || first == begin || in_sample == 0) channels.fill(scales, in_sample, columns ? most : count);
    char* arrays[3] = {y_x_scale.data[1] + first * size, reinterpret_cast<char*>(scales),
                       y_x_scale.data[0] + first * size};
    raised |= fn(arrays, steps, count, false);
    first += count;
  }
  return raised;
}

template <class T>
void fill_scales(const std::uint8_t* bits, std::ptrdiff_t n, double scale, T* scales) {
  for (std::ptrdiff_t i = 0; i < n; ++i) scales[i] = bits[i / 8] >> i % 8 & 1 ? static_cast<T>(scale) : T{0};
}

// Sets the bits [begin, begin + count).
void set_bits(std::uint8_t* bits, std::ptrdiff_t begin, std::ptrdiff_t count) {
  const std::ptrdiff_t end = begin + count, first = begin / 8, last = end / 8;
  const int head = 0xff << begin % 8 & 0xff, tail = (1 << end % 8) - 1;
  if (first == last) {
    bits[first] = static_cast<std::uint8_t>(bits[first] | (head & tail));
    return;
  }
  bits[first] = static_cast<std::uint8_t>(bits[first] | head);
  std::fill(bits + first + 1, bits + last, std::uint8_t{0xff});
  if (tail) bits[last] = static_cast<std::uint8_t>(bits[last] | tail);
}

}  // namespace

std::vector<double> slice_scales(Dtype dtype, const std::uint8_t* bits, std::ptrdiff_t n, double scale) {
  std::vector<double> scales(static_cast<std::size_t>(n));
  if (dtype == Dtype::f64) {
    fill_scales(bits, n, scale, scales.data());
  } else {
    fill_scales(bits, n, scale, reinterpret_cast<float*>(scales.data()));
  }
  return scales;
}

std::vector<std::uint8_t> spread_bits(const SliceShape& shape, const std::uint8_t* bits) {
  const auto [samples, between, channels, inner] = shape;
  const std::ptrdiff_t elements = samples * between * channels * inner;
  std::vector<std::uint8_t> spread(static_cast<std::size_t>(mask_bytes(elements)));
  if (elements == 0) return spread;
  std::ptrdiff_t position = 0;
  for (std::ptrdiff_t sample = 0; sample < samples; ++sample)
    for (std::ptrdiff_t repeat = 0; repeat < between; ++repeat)
      for (std::ptrdiff_t slice = sample * channels; slice < (sample + 1) * channels; ++slice, position += inner)
        if (bits[slice / 8] >> slice % 8 & 1) set_bits(spread.data(), position, inner);
  return spread;
}

unsigned keep_scaled(Dtype dtype, StridedArrays<3> y_x_scale) {
  constexpr Cost kCost = cost_of("keep_scaled");
  const ElementwiseFn fn = kernels().dropout->keep_scaled[dtype];
  y_x_scale.sort_axes();
  y_x_scale.coalesce();
  std::ptrdiff_t strides[3];
  y_x_scale.inner_strides(strides);
  const std::ptrdiff_t n = y_x_scale.size(), size = size_of(dtype);
  const std::ptrdiff_t scale_size = size_of(dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32);
  const bool stream = streams(n * size, kCost);
  const bool channels = by_channel(y_x_scale, size, scale_size) && y_x_scale.shape[y_x_scale.ndim - 1] < kLongRun;
  const auto of_channels = dtype == Dtype::f64 ? keep_scaled_channels<double> : keep_scaled_channels<float>;
  SharedRaised raised;
  parallel_for(n, kCost.ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    if (channels) return raised.add(of_channels(fn, y_x_scale, size, begin, end));
    y_x_scale.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
      constexpr char zero[sizeof(double)] = {};
      const bool dropped = strides[2] == 0 && std::memcmp(at[2], zero, static_cast<std::size_t>(scale_size)) == 0;
      if (dropped && strides[0] == size) {  // x need not be read
        std::memset(at[0], 0, static_cast<std::size_t>(count * size));
        return;
      }
      char* arrays[3] = {at[1], at[2], at[0]};
      const std::ptrdiff_t steps[3] = {strides[1], strides[2], strides[0]};
      raised.add(fn(arrays, steps, count, stream));
    });
  });
  return raised.all();
}

}  // namespace nnfast
