// Masks of dropout, and their application.
#pragma once

#include <span>
#include <vector>

#include "kernels/dropout.hpp"
#include "ops/row_arrays.hpp"

namespace nnfast {

constexpr std::ptrdiff_t mask_bytes(std::ptrdiff_t elements) { return (elements + 7) / 8; }

// Probabilities of dropping an element as thresholds: one, or one a channel of `inner` contiguous elements.
class DropoutThresholds {
 public:
  explicit DropoutThresholds(double p);
  DropoutThresholds(std::span<const double> p, std::ptrdiff_t inner);
  // Refers to this object.
  DropoutMask mask(std::uint64_t seed, std::uint64_t offset) const;

 private:
  std::uint64_t threshold_ = 0;
  std::vector<std::uint64_t> thresholds_;
  std::vector<std::uint16_t> high_;
  std::ptrdiff_t inner_ = 0;
};

// One factor a channel of `inner` contiguous elements, in the dtype of computation.
class ChannelScales {
 public:
  // Probabilities of keeping an element, or their inverses (1 where it is 0).
  ChannelScales(std::span<const double> keep, bool inverse, std::ptrdiff_t inner, Dtype dtype);
  std::ptrdiff_t inner() const { return inner_; }
  // Those of the elements [first, first + count), to floats or doubles.
  void fill(void* to, std::ptrdiff_t first, std::ptrdiff_t count) const;
  // Calls body(i, length, scale) for the runs of one channel each that the elements [first, first + count) are.
  template <class Body>
  void for_runs(std::ptrdiff_t first, std::ptrdiff_t count, Body body) const {
    for (std::ptrdiff_t i = 0; i < count;) {
      const std::ptrdiff_t length = std::min(count - i, inner_ - (first + i) % inner_);
      body(i, length, scale((first + i) / inner_ % channels_));
      i += length;
    }
  }

 private:
  std::vector<double> f64_;
  std::vector<float> f32_;  // one of the two is empty
  std::ptrdiff_t channels_, inner_;

  double scale(std::ptrdiff_t channel) const {
    const auto c = static_cast<std::size_t>(channel);
    return f64_.empty() ? static_cast<double>(f32_[c]) : f64_[c];
  }
};

// y = x times the scale of its channel; 0 where that is 0, whatever x is.
void scale_by_channel(Dtype dtype, const StridedArrays<2>& x_y, const ChannelScales& scales);

// Writes the mask of n elements.
void dropout_mask(const DropoutMask& make, std::uint8_t* mask, std::ptrdiff_t n);
// y = x where the mask is 1, scaled as `keeping` says or, where it is given, by `scales`; else keeping.dropped.
void apply_mask(Dtype dtype, const StridedArrays<2>& x_y, const std::uint8_t* mask, const Keeping& keeping,
                const ChannelScales* scales);
// Both in one pass.
void dropout(Dtype dtype, const StridedArrays<2>& x_y, const DropoutMask& make, std::uint8_t* mask,
             const Keeping& keeping, const ChannelScales* scales);

// The bits of n slices as factors, `scale` or 0: doubles for float64, else floats in the same room.
std::vector<double> slice_scales(Dtype dtype, const std::uint8_t* bits, std::ptrdiff_t n, double scale);

// An array of these axes, a slice of which is what it has of a channel of a sample.
struct SliceShape {
  std::ptrdiff_t samples, between, channels, inner;
};
// The mask of the elements, in C order, by the bits of their slices.
std::vector<std::uint8_t> spread_bits(const SliceShape& shape, const std::uint8_t* bits);

// y = 0 where the scale is 0, else x times it; scales are float32 for float16. Returns what was raised.
unsigned keep_scaled(Dtype dtype, StridedArrays<3> y_x_scale);

// dropout(relu(x + bias)) by a mask that is made or, where `make` is null, given. bias: contiguous, of the rows' dtype.
// Bits of `mask` are 1 where x + bias is positive and kept.
void bias_relu_dropout(Dtype dtype, const RowArrays<2>& x_y, const char* bias, const DropoutMask* make,
                       const std::uint8_t* given, std::uint8_t* mask, double scale);
// The columns of dx are added to n doubles.
void bias_relu_dropout_backward(Dtype dtype, const RowArrays<2>& dy_dx, const std::uint8_t* mask, double scale,
                                double* dbias);

}  // namespace nnfast
