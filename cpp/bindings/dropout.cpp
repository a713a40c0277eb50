#include "kernels/dropout.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

#include "bindings/block_sums.hpp"
#include "bindings/families.hpp"
#include "bindings/ufuncs.hpp"
#include "kernels/channels.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

// Nanoseconds an element on one core.
constexpr double kMaskNs = 0.14, kChannelMaskNs = 0.25, kApplyNs = 0.08, kSumsNs = 0.2, kScaledNs = 0.1;
// Elements whose mask is made before it is applied: few, so that the units that compute and the memory have both to do.
constexpr std::ptrdiff_t kChunk = 8 * kMaskBlock;
// Elements whose scales are laid out before they are applied, where no mask is made; and elements of a channel that
// follow each other, from which on they are a call of their own, with one scale.
constexpr std::ptrdiff_t kScaledChunk = 4 * kChunk, kLongRun = 256;

std::ptrdiff_t mask_bytes(std::ptrdiff_t elements) { return (elements + 7) / 8; }

Array checked_mask(py::handle value, std::ptrdiff_t elements, const char* name = "mask") {
  require_readable(value, name);
  const Array mask(py::reinterpret_borrow<py::object>(value));
  if (!PyArray_Check(value.ptr()) || mask.dtype() != NPY_UINT8)
    throw py::type_error(
        std::string(name) + " must be a uint8 array of packed bits, got " +
        (PyArray_Check(value.ptr()) ? "dtype " + dtype_name(mask) : std::string(Py_TYPE(value.ptr())->tp_name)));
  require_shape(mask, {mask_bytes(elements)}, name);
  if (elements > 8 && mask.stride(0) != 1) throw py::value_error(std::string(name) + " must be contiguous");
  return mask;
}

// Rounded to the nearest multiple of 2^-32.
std::uint64_t threshold_of(double p) { return static_cast<std::uint64_t>(p * 4294967296.0 + 0.5); }

// A seed, or what draws it: called when everything has been checked, since it advances a generator.
std::uint64_t drawn(py::handle seed) {
  if (!PyLong_Check(seed.ptr())) return drawn(seed());
  const std::uint64_t value = PyLong_AsUnsignedLongLong(seed.ptr());
  if (PyErr_Occurred()) throw py::error_already_set();
  return value;
}

DropoutMask one_threshold(double p, std::uint64_t seed, std::uint64_t offset) {
  DropoutMask make{};
  make.seed = seed;
  make.offset = offset;
  make.threshold = threshold_of(p);
  return make;
}

// A probability for each channel, which has `inner` elements that follow each other: thresholds, and what is kept is
// multiplied by.
struct ChannelProbabilities {
  std::vector<std::uint64_t> thresholds;
  std::vector<std::uint16_t> high;
  std::vector<double> scales;
  std::vector<float> scales_f32;  // of these two the one that is of the type that is computed with
  std::ptrdiff_t channels, inner;

  enum class Scales { none, inverse_of_kept, kept };

  ChannelProbabilities(py::handle p, std::ptrdiff_t inner_elements, bool with_thresholds, Scales kind, bool f64)
      : inner(inner_elements) {
    const Array each = contiguous(read_as(p, NPY_FLOAT64, "p"));
    const double* values = each.as<double>();
    channels = each.size();
    const auto size = static_cast<std::size_t>(channels);
    if (with_thresholds) {
      thresholds.resize(size);
      high.resize(size);
      for (std::size_t c = 0; c < size; ++c) {
        thresholds[c] = threshold_of(values[c]);
        high[c] = static_cast<std::uint16_t>(std::min<std::uint64_t>(thresholds[c] >> 16, 0xffff));
      }
    }
    if (kind == Scales::none) return;
    const auto scale = [&](std::size_t c) {
      const double kept = 1 - values[c];
      return kind == Scales::kept ? kept : (kept == 0 ? 1 : 1 / kept);
    };
    if (f64) {
      scales.resize(size);
      for (std::size_t c = 0; c < size; ++c) scales[c] = scale(c);
    } else {
      scales_f32.resize(size);
      for (std::size_t c = 0; c < size; ++c) scales_f32[c] = static_cast<float>(scale(c));
    }
  }
  double scale(std::ptrdiff_t channel) const {
    const auto c = static_cast<std::size_t>(channel);
    return scales.empty() ? static_cast<double>(scales_f32[c]) : scales[c];
  }
  // Clears the bits of the elements of channels whose scale is 0.
  void clear_zeros(std::uint8_t* bits, std::ptrdiff_t n) const {
    bool any = false;
    for (std::ptrdiff_t c = 0; c < channels; ++c) any |= scale(c) == 0;
    for (std::ptrdiff_t i = 0; any && i < n; ++i)
      if (scale(i / inner % channels) == 0) bits[i / 8] &= static_cast<std::uint8_t>(~(1u << (i % 8)));
  }
  DropoutMask mask(std::uint64_t seed, std::uint64_t offset) const {
    DropoutMask make = one_threshold(0, seed, offset);
    make.thresholds = thresholds.data();
    make.high_thresholds = high.data();
    make.channels = channels;
    make.inner = inner;
    return make;
  }
  // Calls body(i, length, scale) for the runs of one channel each that the elements [first, first + count) are.
  template <class Body>
  void for_runs(std::ptrdiff_t first, std::ptrdiff_t count, Body body) const {
    for (std::ptrdiff_t i = 0; i < count;) {
      const std::ptrdiff_t length = std::min(count - i, inner - (first + i) % inner);
      body(i, length, scale((first + i) / inner % channels));
      i += length;
    }
  }
  // Of the elements [first, first + count), in the type that is computed with.
  template <class T>
  void fill_scales(T* to, std::ptrdiff_t first, std::ptrdiff_t count) const {
    if constexpr (sizeof(T) == 8) {
      ByChannel<T>{scales.data(), channels, inner}.fill(to, first, count);
    } else {
      ByChannel<T>{scales_f32.data(), channels, inner}.fill(to, first, count);
    }
  }
};

// `to` = keeping of `from`, after making the mask where `make` is given. One pass: a chunk's bits are still in cache.
// By the scales of `channels` where they are given.
void run(const Array& from, const Array& to, const Array& mask, const DropoutMask* make, const Keeping& keeping,
         const ChannelProbabilities* channels = nullptr) {
  const Array arrays[2] = {from, to};
  const StridedArrays<2> walk = strided(arrays);
  std::ptrdiff_t strides[2];
  walk.inner_strides(strides);
  const DropoutKernels& kernel = *kernels().dropout;
  const DropoutApplyFn apply = by_dtype(kernel.apply, from.dtype());
  const double cost = kApplyNs + (make ? (make->thresholds ? kChannelMaskNs : kMaskNs) : 0) + (channels ? kApplyNs : 0);
  const bool stream =
      from.data() != to.data() && streams(PyArray_NBYTES(to.get()), Cost{"dropout", cost, kMemoryBound});
  auto* bits = mask.as<std::uint8_t>();
  const bool dense = strides[0] == PyArray_ITEMSIZE(from.get());
  const std::ptrdiff_t chunk = make ? kChunk : (channels ? kScaledChunk : from.size());
  const bool f64 = from.is_float64();
  py::gil_scoped_release release;
  parallel_for(
      from.size(), cost,
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (std::ptrdiff_t first = begin; first < end; first += chunk) {
          const std::ptrdiff_t last = std::min(first + chunk, end);
          if (make) {
            // While the bits are made the memory brings what they are for.
            if (dense)
              walk.for_runs(first, last, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
                for (std::ptrdiff_t byte = 0; byte < count * strides[0]; byte += 64) __builtin_prefetch(at[0] + byte);
              });
            kernel.mask(*make, bits + first / 8, first, last);
          }
          if (channels && channels->inner >= kLongRun) {
            walk.for_runs(first, last, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
              channels->for_runs(position, count, [&](std::ptrdiff_t from_first, std::ptrdiff_t length, double scale) {
                apply({scale, -0.0, 0},
                      {bits, position + from_first, at[0] + from_first * strides[0], at[1] + from_first * strides[1],
                       strides[0], strides[1], length, stream, nullptr});
              });
            });
            continue;
          }
          alignas(64) double room[kScaledChunk + ByChannel<double>::kRoom];
          if (channels && f64) channels->fill_scales(room, first, last - first);
          if (channels && !f64) channels->fill_scales(reinterpret_cast<float*>(room), first, last - first);
          walk.for_runs(first, last, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
            const char* scales = reinterpret_cast<const char*>(room) + (position - first) * (f64 ? 8 : 4);
            apply(keeping,
                  {bits, position, at[0], at[1], strides[0], strides[1], count, stream, channels ? scales : nullptr});
          });
        }
        if (stream) kernel.fence();
      },
      kMaskBlock);
}

// x is masked with new bits, or with `mask`. Returns y and the mask.
py::tuple dropout(py::handle x_in, double p, double scale, double shift, double dropped, py::handle seed,
                  std::uint64_t offset, py::handle mask_in, py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const bool make = mask_in.is_none();
  const Array mask = make ? new_array({mask_bytes(x.size())}, NPY_UINT8) : checked_mask(mask_in, x.size());
  const Array y = output(out, x, "out", "x");
  if (!make) require_disjoint(y, "out", mask, "mask");
  const DropoutMask maker = one_threshold(p, drawn(seed), offset);
  run(x, y, mask, make ? &maker : nullptr, {scale, shift, dropped});
  return py::make_tuple(y.object(), mask.object());
}

py::object dropout_backward(py::handle dy_in, py::handle mask_in, double scale, py::handle out) {
  const Array dy = read_floats_or_float16(dy_in, "dy");
  const Array mask = checked_mask(mask_in, dy.size());
  const Array dx = output(out, dy, "out", "dy");
  require_disjoint(dx, "out", mask, "mask");
  run(dy, dx, mask, nullptr, {scale, -0.0, 0});
  return dx.object();
}

// The same with a probability for each channel; `scaled`: what is kept is multiplied by 1 / (1 - p).
py::tuple dropout_by_channel(py::handle x_in, const char* name, py::handle p, std::ptrdiff_t inner, bool scaled,
                             py::handle seed, std::uint64_t offset, py::handle mask_in, py::handle out) {
  const Array x = read_floats_or_float16(x_in, name);
  const bool make = mask_in.is_none();
  const Array mask = make ? new_array({mask_bytes(x.size())}, NPY_UINT8) : checked_mask(mask_in, x.size());
  const Array y = output(out, x, "out", name);
  if (!make) require_disjoint(y, "out", mask, "mask");
  using Scales = ChannelProbabilities::Scales;
  const ChannelProbabilities channels(p, inner, make, scaled ? Scales::inverse_of_kept : Scales::none, x.is_float64());
  const DropoutMask maker = channels.mask(make ? drawn(seed) : 0, offset);
  run(x, y, mask, make ? &maker : nullptr, {1, -0.0, 0}, scaled ? &channels : nullptr);
  return py::make_tuple(y.object(), mask.object());
}

// x times 1 - p, with a probability for each channel; 0 where p is 1, whatever x is.
py::object scale_by_channel(py::handle x_in, py::handle p, std::ptrdiff_t inner, py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Array y = output(out, x, "out", "x");
  const ChannelProbabilities channels(p, inner, false, ChannelProbabilities::Scales::kept, x.is_float64());
  const Array mask = new_array({mask_bytes(x.size()) + 4}, NPY_UINT8);
  std::memset(mask.as<void>(), 0xff, static_cast<std::size_t>(mask.size()));
  channels.clear_zeros(mask.as<std::uint8_t>(), x.size());
  run(x, y, mask, nullptr, {1, -0.0, 0}, &channels);
  return y.object();
}

// The mask of n elements alone; `p`: one probability, or an array of one for each channel, which has `inner` elements
// that follow each other.
py::object dropout_mask(std::ptrdiff_t n, py::handle p, std::ptrdiff_t inner, py::handle seed, std::uint64_t offset,
                        py::handle out) {
  Array mask;
  if (out.is_none()) {
    mask = new_array({mask_bytes(n)}, NPY_UINT8);
  } else {
    written(out, NPY_UINT8, "out");
    mask = checked_mask(out, n, "out");
  }
  std::optional<ChannelProbabilities> channels;
  if (PyArray_Check(p.ptr())) channels.emplace(p, inner, true, ChannelProbabilities::Scales::none, false);
  const DropoutMask make =
      channels ? channels->mask(drawn(seed), offset) : one_threshold(p.cast<double>(), drawn(seed), offset);
  auto* bits = mask.as<std::uint8_t>();
  const DropoutMaskFn fn = kernels().dropout->mask;
  {
    py::gil_scoped_release release;
    parallel_for(
        n, make.thresholds ? kChannelMaskNs : kMaskNs,
        [&](std::ptrdiff_t begin, std::ptrdiff_t end) { fn(make, bits + begin / 8, begin, end); }, kMaskBlock);
  }
  return mask.object();
}

// Rows x, y and a bias for each of their columns. Bits are 1 where x + bias is positive and kept.
py::tuple bias_relu_dropout(py::handle x_in, py::handle bias_in, double p, double scale, py::handle seed,
                            std::uint64_t offset, py::handle mask_in, py::handle out, py::handle mask_out) {
  const Array x = read_floats_or_float16(x_in, "x");
  require_rows(x, "x");
  const Array bias = read_columns(bias_in, x, "bias");
  const bool make = mask_in.is_none();
  Array given;
  if (!make) given = checked_mask(mask_in, x.size());
  const Array y = output(out, x, "out", "x");
  require_disjoint(y, "out", bias, "bias");
  if (!make) require_disjoint(y, "out", given, "mask");
  const Array mask = output(mask_out, {mask_bytes(x.size())}, NPY_UINT8, "out[1]",
                            {{&y, "out[0]"}, {&x, "x"}, {&bias, "bias"}, {&given, "mask"}});
  if (!PyArray_IS_C_CONTIGUOUS(mask.get())) throw py::value_error("out[1] must be contiguous");
  const DropoutMask maker = one_threshold(p, drawn(seed), offset);
  const auto rows = row_arrays({x, y}, x.shape(x.ndim() - 1));
  const std::ptrdiff_t size = PyArray_ITEMSIZE(x.get());
  const DropoutKernels& kernel = *kernels().dropout;
  const BiasReluDropoutFn fn = by_dtype(kernel.bias_relu, x.dtype());
  {
    py::gil_scoped_release release;
    parallel_for(
        x.size(), kMaskNs + kApplyNs,
        [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
          for (std::ptrdiff_t first = begin; first < end; first += kChunk) {
            const std::ptrdiff_t last = std::min(first + kChunk, end);
            const auto bytes = static_cast<std::size_t>(mask_bytes(last - first));
            std::uint8_t bits[kChunk / 8 + 4];  // the kernel writes past the last
            if (make) {
              kernel.mask(maker, bits, first, last);
            } else {
              std::memcpy(bits, given.as<std::uint8_t>() + first / 8, bytes);
            }
            std::ptrdiff_t position = 0;
            rows.for_parts(first, last, [&](char* const* at, std::ptrdiff_t column, std::ptrdiff_t count) {
              fn({scale, -0.0, 0},
                 {bits, position, at[0], at[1], rows.strides[0], rows.strides[1], count, false, nullptr},
                 bias.data() + column * size, bits);
              position += count;
            });
            std::memcpy(mask.as<std::uint8_t>() + first / 8, bits, bytes);
          }
        },
        kMaskBlock);
  }
  return py::make_tuple(y.object(), mask.object());
}

py::tuple bias_relu_dropout_backward(py::handle dy_in, py::handle mask_in, double scale, py::handle dx_out,
                                     py::handle dbias_out) {
  const Array dy = read_floats_or_float16(dy_in, "dy");
  require_rows(dy, "dy");
  const Array mask = checked_mask(mask_in, dy.size());
  const Array dx = output(dx_out, dy, "out", "dy");
  require_disjoint(dx, "out", mask, "mask");
  const std::ptrdiff_t n = dy.shape(dy.ndim() - 1);
  const Array dbias = output(dbias_out, {n}, dy.dtype(), "out[1]", {{&dx, "out[0]"}, {&dy, "dy"}, {&mask, "mask"}});
  const auto arrays = row_arrays({dy, dx}, n);
  BlockSums sums(arrays.rows(), n);
  std::ptrdiff_t steps[2];
  arrays.outer.inner_strides(steps);
  const DropoutSumsFn fn = by_dtype(kernels().dropout->apply_sums, dy.dtype());
  const auto* bits = mask.as<const std::uint8_t>();
  {
    py::gil_scoped_release release;
    parallel_for(sums.blocks(), kSumsNs * static_cast<double>(sums.elements()),
                 [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                   for (std::ptrdiff_t b = begin; b < end; ++b) {
                     arrays.outer.for_runs(sums.begin(b), sums.end(b),
                                           [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t row) {
                                             for (std::ptrdiff_t r = 0; r < count; ++r)
                                               fn({scale, -0.0, 0},
                                                  {bits, (row + r) * n, at[0] + r * steps[0], at[1] + r * steps[1],
                                                   arrays.strides[0], arrays.strides[1], n, false, nullptr},
                                                  sums.of(b));
                                           });
                   }
                 });
  }
  sums.total(dbias);
  return py::make_tuple(dx.object(), dbias.object());
}

// x as a float array, and `out` checked against it or a new array: what inference multiplies by NumPy's own means.
py::tuple checked_output(py::handle x_in, py::handle out, const char* name) {
  const Array x = read_floats_or_float16(x_in, name);
  return py::make_tuple(x.object(), output(out, x, "out", name).object());
}

const Elementwise& pick_keep_scaled(const KernelTable& table, int) { return table.dropout->keep_scaled; }

}  // namespace

void bind_dropout(py::module_& module) {
  module.def("dropout", &dropout);
  module.def("dropout_backward", &dropout_backward);
  module.def("dropout_by_channel", &dropout_by_channel);
  module.def("scale_by_channel", &scale_by_channel);
  module.def("dropout_mask", &dropout_mask);
  module.def("bias_relu_dropout", &bias_relu_dropout);
  module.def("bias_relu_dropout_backward", &bias_relu_dropout_backward);
  module.def("checked_output", &checked_output, py::arg("x"), py::arg("out"), py::arg("name") = "x");
  module.def("check_mask", [](py::handle mask, std::ptrdiff_t elements) { checked_mask(mask, elements); });
  module.attr("_keep_scaled") = make_ufunc({"_keep_scaled", "0 where s is 0, else x s", 2, 1, pick_keep_scaled, 0,
                                            Cost{"keep_scaled", kScaledNs, kMemoryBound}});
}

}  // namespace nnfast
