#include "ops/convolution.hpp"

#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"

namespace nnfast {
namespace {

using Sizes = std::vector<std::ptrdiff_t>;

// As nnfast.convolution has checked them: numbers from 0 or 1 on, below 2^31, one for each axis that the kernel slides
// along, which are one or two. An empty padding is "same".
struct Options {
  Sizes stride, padding, dilation;
  std::ptrdiff_t groups;
  bool channels_last;

  int spatial() const { return static_cast<int>(stride.size()); }
  int channel_axis() const { return channels_last ? spatial() + 1 : 1; }
  int first_axis() const { return channels_last ? 1 : 2; }
};

const char* shape_of_images(const Options& options) {
  if (options.spatial() == 1) return options.channels_last ? "(N, L, C)" : "(N, C, L)";
  return options.channels_last ? "(N, H, W, C)" : "(N, C, H, W)";
}

void require_axes(const Array& x, const Options& options, const char* name) {
  if (x.ndim() == options.spatial() + 2) return;
  throw py::value_error(std::string(name) + " must have shape " + shape_of_images(options) + ", got " + shape_text(x));
}

// w as it is used with float16 or bfloat16 images may be float32.
Array read_weights(py::handle w_in, const Array& x) {
  const Array w = read_floats_or_float16(w_in, "w");
  if (w.is_bfloat16() && x.is_bfloat16()) return w;
  return x.dtype() == NPY_HALF && w.dtype() == NPY_FLOAT32 ? w : read_as(w.object(), x.dtype(), "w");
}

// The axis of x that d counts among those that the kernel slides along.
ConvolutionAxis axis_of(const Array& x, const Array& w, const Options& options, int d) {
  const auto at = static_cast<std::size_t>(d);
  ConvolutionAxis axis{
      x.shape(options.first_axis() + d), 0, w.shape(2 + d), options.stride[at], 0, options.dilation[at]};
  const auto too_large = [&](const std::string& most) {
    return py::value_error("w must have a kernel that fits into x: at most " + most + " along axis " +
                           std::to_string(2 + d) + " with dilation " + std::to_string(axis.dilation) + ", got shape " +
                           shape_text(w));
  };
  constexpr std::ptrdiff_t kMost = std::ptrdiff_t{1} << 31;
  if (axis.kernel > kMost) throw too_large("2**31");
  const std::ptrdiff_t reach = axis.dilation * (axis.kernel - 1);
  if (options.padding.empty()) {
    axis.padding = reach / 2;
    axis.output = axis.input;
    return axis;
  }
  axis.padding = options.padding[at];
  const std::ptrdiff_t padded = axis.input + 2 * axis.padding;
  if (reach >= padded) throw too_large(std::to_string(padded > 0 ? (padded - 1) / axis.dilation + 1 : 0));
  axis.output = (padded - reach - 1) / axis.stride + 1;
  return axis;
}

ConvolutionShape shape_of(const Array& x, const Array& w, const Options& options) {
  require_axes(x, options, "x");
  const int spatial = options.spatial();
  const std::ptrdiff_t channels = x.shape(options.channel_axis()), groups = options.groups;
  if (channels % groups != 0)
    throw py::value_error("groups must divide the channels of x, " + std::to_string(channels) + ", got " +
                          std::to_string(groups));
  const bool fits = w.ndim() == spatial + 2 && w.shape(1) == channels / groups;
  if (!fits || w.shape(2) == 0 || w.shape(spatial + 1) == 0)
    throw py::value_error("w must have shape (out, " + std::to_string(channels / groups) +
                          (spatial == 1 ? ", k)" : ", kh, kw)") + " with a kernel of at least 1, got " + shape_text(w));
  if (w.shape(0) % groups != 0)
    throw py::value_error("groups must divide the output channels of w, " + std::to_string(w.shape(0)) + ", got " +
                          std::to_string(groups));
  constexpr ConvolutionAxis kNoAxis{1, 1, 1, 1, 0, 1};
  return {x.floating(),
          x.shape(0),
          groups,
          channels / groups,
          w.shape(0) / groups,
          spatial == 2 ? axis_of(x, w, options, 0) : kNoAxis,
          axis_of(x, w, options, spatial - 1)};
}

Sizes shape_of_y(const ConvolutionShape& shape, const Options& options) {
  Sizes sizes{shape.batch, shape.columns.output};
  if (options.spatial() == 2) sizes.insert(sizes.begin() + 1, shape.rows.output);
  sizes.insert(options.channels_last ? sizes.end() : sizes.begin() + 1, shape.groups * shape.out_channels);
  return sizes;
}

Images images_of(const Array& x, const Options& options) {
  const int spatial = options.spatial(), first = options.first_axis();
  return {
      {x.data(), x.stride(options.channel_axis()), spatial == 2 ? x.stride(first) : 0, x.stride(first + spatial - 1)},
      x.stride(0)};
}

ConvolutionWeights weights_of(const Array& w, const Options& options) {
  const int spatial = options.spatial();
  return {w.data(), {w.stride(0), w.stride(1), spatial == 2 ? w.stride(2) : 0, w.stride(spatial + 1)}, w.floating()};
}

py::object forward(py::handle x_in, py::handle w_in, py::handle b_in, const Sizes& stride, const Sizes& padding,
                   const Sizes& dilation, std::ptrdiff_t groups, bool channels_last, py::handle out) {
  const Options options{stride, padding, dilation, groups, channels_last};
  const Array x = read_floats_or_float16(x_in, "x"), w = read_weights(w_in, x);
  const ConvolutionShape shape = shape_of(x, w, options);
  Array b;
  if (!b_in.is_none()) {
    b = read_as(b_in, x.dtype() == NPY_HALF ? NPY_FLOAT32 : x.dtype(), "b");
    require_shape(b, {w.shape(0)}, "b");
  }
  const Array y = output(out, shape_of_y(shape, options), x, "out", {{&x, "x"}, {&w, "w"}});
  if (b) {
    require_disjoint(y, "out", b, "b");
    b = contiguous(b);
  }
  const Images from = images_of(x, options), to = images_of(y, options);
  {
    py::gil_scoped_release release;
    convolution(shape, from, weights_of(w, options), b ? b.data() : nullptr, to);
  }
  return y.result();
}

py::tuple backward(py::handle dy_in, py::handle x_in, py::handle w_in, const Sizes& stride, const Sizes& padding,
                   const Sizes& dilation, std::ptrdiff_t groups, bool channels_last, bool need_dx, bool need_dw,
                   bool need_db, py::handle dx_out, py::handle dw_out, py::handle db_out) {
  const Options options{stride, padding, dilation, groups, channels_last};
  const Array x = read_floats_or_float16(x_in, "x"), w = read_weights(w_in, x);
  const ConvolutionShape shape = shape_of(x, w, options);
  const Array dy = read_as(dy_in, x, "dy");
  require_shape(dy, shape_of_y(shape, options), "dy");
  const auto sizes = [](const Array& array) {
    const npy_intp* dims = PyArray_DIMS(array.get());
    return Sizes(dims, dims + array.ndim());
  };
  const Array none;
  const auto gradient = [&](bool need, py::handle out, const Sizes& of, const Array& like, const char* name,
                            const Array& before, const char* before_name, const Array& first) {
    return need ? output(out, of, like, name,
                         {{&dy, "dy"}, {&x, "x"}, {&w, "w"}, {&before, before_name}, {&first, "out[0]"}})
                : Array();
  };
  const Array dx = gradient(need_dx, dx_out, sizes(x), x, "out[0]", none, "", none);
  const Array dw = gradient(need_dw, dw_out, sizes(w), w, "out[1]", none, "", dx);
  const Array db = gradient(need_db, db_out, {w.shape(0)}, w, "out[2]", dw, "out[1]", dx);

  const Images from = images_of(x, options), gradients = images_of(dy, options);
  const Images to_dx = dx ? images_of(dx, options) : Images{};
  const ConvolutionWeights to_dw = dw ? weights_of(dw, options) : ConvolutionWeights{};
  std::vector<double> sums(static_cast<std::size_t>(need_db ? w.shape(0) : 0));
  {
    py::gil_scoped_release release;
    convolution_backward(shape, gradients, from, weights_of(w, options),
                         {dx ? &to_dx : nullptr, dw ? &to_dw : nullptr, need_db ? sums.data() : nullptr});
  }
  if (db) store_doubles(db, sums);
  const auto result = [](const Array& array) { return array ? array.result() : py::none(); };
  return py::make_tuple(result(dx), result(dw), result(db));
}

}  // namespace

void bind_convolution(py::module_& module) {
  def<&forward>(module, "convolution");
  def<&backward>(module, "convolution_backward");
}

}  // namespace nnfast
