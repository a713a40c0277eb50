#include "ops/dropout.hpp"

#include <cstring>
#include <optional>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/axes.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"
#include "bindings/ufuncs.hpp"
#include "ops/costs.hpp"

namespace nnfast {
namespace {

bool is_contiguous(const Array& bits) { return bits.size() < 2 || bits.stride(0) == 1; }

// A mask of n elements as packed bits: itself, or made of a mask in another form, of an array of the shape that
// shape() gives. It must not share memory with out, nor must what it is made of.
template <class Shape>
Array read_bits(py::handle value, std::ptrdiff_t n, Shape shape, const Array& out) {
  require_readable(value, "mask");
  const Array mask(py::reinterpret_borrow<py::object>(value));
  const bool is_array = PyArray_Check(value.ptr());
  if (is_array) require_disjoint(out, "out", mask, "mask");
  if (is_array && mask.dtype() == NPY_UINT8 && has_shape(mask, {mask_bytes(n)}) && is_contiguous(mask)) return mask;
  return Array(py::module_::import("nnfast._masks").attr("packed")(value, shape()));
}

Array read_mask(py::handle value, const Array& x, const Array& out) {
  return read_bits(value, x.size(), [&] { return x.object().attr("shape"); }, out);
}

// A seed, as an int or the bytes of one, or a callable that draws it: called when everything has been checked, since it
// advances a generator.
std::uint64_t drawn(py::handle seed) {
  std::uint64_t value = 0;
  if (PyBytes_Check(seed.ptr()) && PyBytes_GET_SIZE(seed.ptr()) == sizeof(value)) {
    std::memcpy(&value, PyBytes_AS_STRING(seed.ptr()), sizeof(value));
  } else if (PyLong_Check(seed.ptr())) {
    value = PyLong_AsUnsignedLongLong(seed.ptr());
    if (PyErr_Occurred()) throw py::error_already_set();
  } else {
    const auto result = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(seed.ptr()));
    if (!result) throw py::error_already_set();
    return drawn(result);
  }
  return value;
}

// One value for each channel, of an array.
std::span<const double> values_of(const Array& array) {
  return {array.as<double>(), static_cast<std::size_t>(array.size())};
}

// p: one probability, or an array of one for each channel.
DropoutThresholds thresholds_of(py::handle p, std::ptrdiff_t inner) {
  if (!PyArray_Check(p.ptr())) return DropoutThresholds(p.cast<double>());
  return {values_of(contiguous(read_as(p, NPY_FLOAT64, "p"))), inner};
}

// What is kept is scaled: by one factor, or, for an array of probabilities of keeping it, one a channel, by their
// inverses.
struct Scaling {
  Keeping keeping{1, -0.0, 0};
  std::optional<ChannelScales> channels;

  Scaling(py::handle scale, double shift, double dropped, std::ptrdiff_t inner, Dtype dtype) {
    if (PyArray_Check(scale.ptr())) {
      channels.emplace(values_of(contiguous(read_as(scale, NPY_FLOAT64, "p"))), true, inner, dtype);
    } else {
      keeping = {scale.cast<double>(), shift, dropped};
    }
  }
  const ChannelScales* scales() const { return channels ? &*channels : nullptr; }
};

py::object masked(py::handle x_in, py::handle mask_in, py::handle scale, py::handle out,
                  std::optional<const char*> name_in, std::optional<double> shift, std::optional<double> dropped,
                  std::optional<std::ptrdiff_t> inner) {
  const char* name = name_in.value_or("x");
  const Array x = read_floats_or_float16(x_in, name);
  const Array y = output(out, x, "out", name);  // first: without memory for it, a mask need not be read
  const Array mask = read_mask(mask_in, x, y);
  const Scaling scaling(scale, shift.value_or(-0.0), dropped.value_or(0), inner.value_or(1), x.floating());
  const auto x_y = strided({x, y});
  {
    const ReleasedGil released(x.size());
    apply_mask(x.floating(), x_y, mask.as<std::uint8_t>(), scaling.keeping, scaling.scales());
  }
  return y.result();
}

py::object scaled_by_channel(py::handle x_in, py::handle keep, std::ptrdiff_t inner, py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Array y = output(out, x, "out", "x");
  const ChannelScales scales(values_of(contiguous(read_as(keep, NPY_FLOAT64, "p"))), false, inner, x.floating());
  const auto x_y = strided({x, y});
  {
    const ReleasedGil released(x.size());
    scale_by_channel(x.floating(), x_y, scales);
  }
  return y.result();
}

// Returns y and the mask.
py::tuple dropped(py::handle x_in, py::handle p, py::handle scale, double shift, double dropped_value,
                  std::ptrdiff_t inner, py::handle seed, std::uint64_t offset, py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Array mask = new_array({mask_bytes(x.size())}, NPY_UINT8), y = output(out, x, "out", "x");
  const DropoutThresholds thresholds = thresholds_of(p, inner);
  const Scaling scaling(scale, shift, dropped_value, inner, x.floating());
  const DropoutMask make = thresholds.mask(drawn(seed), offset);
  const auto x_y = strided({x, y});
  {
    const ReleasedGil released(x.size());
    dropout(x.floating(), x_y, make, mask.as<std::uint8_t>(), scaling.keeping, scaling.scales());
  }
  return py::make_tuple(y.result(), mask.object());
}

// The mask of n elements alone.
py::object mask_of(std::ptrdiff_t n, py::handle p, std::ptrdiff_t inner, py::handle seed, std::uint64_t offset,
                   py::handle out) {
  Array mask;
  if (out.is_none()) {
    mask = new_array({mask_bytes(n)}, NPY_UINT8);
  } else {
    mask = written(out, NPY_UINT8, "out");
    require_shape(mask, {mask_bytes(n)}, "out");
    if (!is_contiguous(mask)) throw py::value_error("out must be contiguous");
  }
  const DropoutThresholds thresholds = thresholds_of(p, inner);
  const DropoutMask make = thresholds.mask(drawn(seed), offset);
  {
    const ReleasedGil released(n);
    dropout_mask(make, mask.as<std::uint8_t>(), n);
  }
  return mask.object();
}

py::tuple bias_relu_forward(py::handle x_in, py::handle bias_in, double p, double scale, py::handle seed,
                            std::uint64_t offset, py::handle mask_in, py::handle out, py::handle mask_out) {
  const Array x = read_floats_or_float16(x_in, "x");
  require_rows(x, "x");
  const Array bias = read_columns(bias_in, x, "bias");
  const bool make = mask_in.is_none();
  const Array y = output(out, x, "out", "x");
  require_disjoint(y, "out", bias, "bias");
  Array given, as_given;
  if (!make) {
    given = read_mask(mask_in, x, y);
    if (PyArray_Check(mask_in.ptr())) as_given = Array(py::reinterpret_borrow<py::object>(mask_in));
  }
  const Array mask = output(mask_out, {mask_bytes(x.size())}, NPY_UINT8, "out[1]",
                            {{&y, "out[0]"}, {&x, "x"}, {&bias, "bias"}, {&as_given, "mask"}});
  if (!PyArray_IS_C_CONTIGUOUS(mask.get())) throw py::value_error("out[1] must be contiguous");
  const DropoutMask maker = DropoutThresholds(p).mask(drawn(seed), offset);
  const auto rows = row_arrays({x, y}, x.shape(x.ndim() - 1));
  {
    const ReleasedGil released(x.size());
    bias_relu_dropout(x.floating(), rows, bias.data(), make ? &maker : nullptr,
                      make ? nullptr : given.as<std::uint8_t>(), mask.as<std::uint8_t>(), scale);
  }
  return py::make_tuple(y.result(), mask.object());
}

py::tuple bias_relu_backward(py::handle dy_in, py::handle mask_in, double scale, py::handle dx_out,
                             py::handle dbias_out) {
  const Array dy = read_floats_or_float16(dy_in, "dy");
  require_rows(dy, "dy");
  const Array dx = output(dx_out, dy, "out", "dy");
  const Array mask = read_mask(mask_in, dy, dx);
  const std::ptrdiff_t n = dy.shape(dy.ndim() - 1);
  const Array dbias = output(dbias_out, {n}, dy, "out[1]", {{&dx, "out[0]"}, {&dy, "dy"}, {&mask, "mask"}});
  const auto rows = row_arrays({dy, dx}, n);
  std::vector<double> sums(static_cast<std::size_t>(n));
  {
    const ReleasedGil released(dy.size());
    bias_relu_dropout_backward(dy.floating(), rows, mask.as<std::uint8_t>(), scale, sums.data());
  }
  store_doubles(dbias, sums);
  return py::make_tuple(dx.result(), dbias.result());
}

// x as a float array, and `out` checked against it or a new array.
py::tuple checked_output(py::handle x_in, py::handle out, std::optional<const char*> name_in) {
  const char* name = name_in.value_or("x");
  const Array x = read_floats_or_float16(x_in, name);
  return py::make_tuple(x.given(), output(out, x, "out", name).given());
}

// ---- whole slices: the elements of x that have the same places along some axes ----

std::ptrdiff_t slice_count(const Array& x, const std::vector<int>& axes) {
  std::ptrdiff_t count = 1;
  for (const int axis : axes) count *= x.shape(axis);
  return count;
}

// A bit for each slice.
Array read_slice_mask(py::handle value, const Array& x, const std::vector<int>& axes, const Array& out) {
  const auto shape = [&] {
    py::tuple sides(std::max<std::size_t>(axes.size(), 1));
    sides[0] = py::int_(1);
    for (std::size_t i = 0; i < axes.size(); ++i) sides[i] = py::int_(x.shape(axes[i]));
    return sides;
  };
  return read_bits(value, slice_count(x, axes), shape, out);
}

// y, x and an element for each slice, contiguous; axes in ascending order.
StridedArrays<3> beside_slices(const Array& y, const Array& x, const std::vector<int>& axes, void* of_slices) {
  StridedArrays<3> arrays;
  arrays.ndim = x.ndim();
  for (int d = 0; d < x.ndim(); ++d) {
    arrays.shape[d] = x.shape(d);
    arrays.strides[0][d] = y.stride(d);
    arrays.strides[1][d] = x.stride(d);
    arrays.strides[2][d] = 0;
  }
  std::ptrdiff_t step = size_of(parameter_dtype(x.floating()));
  for (auto axis = axes.rbegin(); axis != axes.rend(); step *= x.shape(*axis++)) arrays.strides[2][*axis] = step;
  arrays.data[0] = y.data();
  arrays.data[1] = x.data();
  arrays.data[2] = static_cast<char*>(of_slices);
  arrays.coalesce();
  return arrays;
}

// y = x times the scale where the bit of a slice is 1, else 0.
void scale_slices(const Array& y, const Array& x, const std::vector<int>& axes, const std::uint8_t* bits,
                  double scale) {
  std::vector<double> scales = slice_scales(x.floating(), bits, slice_count(x, axes), scale);
  const StridedArrays<3> arrays = beside_slices(y, x, axes, scales.data());
  unsigned raised = 0;
  {
    const ReleasedGil released(x.size());
    raised = keep_scaled(x.floating(), arrays);
  }
  report("dropout", raised);
}

// The shape of x, whose slices are along the first axis and another.
SliceShape slice_shape(const Array& x, const std::vector<int>& axes) {
  const int axis = axes[1];
  return {x.shape(0), product(x, 1, axis), x.shape(axis), product(x, axis + 1, x.ndim())};
}

// Alpha dropout of whole slices: y = x scaled and shifted where the bit of a slice is 1, else `dropped`. Returns y and
// the mask, which is random where it is None.
py::tuple alpha_slices(py::handle x_in, py::handle mask_in, const std::vector<int>& axes, double p, double scale,
                       double shift, double dropped_value, py::handle seed, py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Array y = output(out, x, "out", "x");
  Array mask;
  if (mask_in.is_none()) {
    const std::ptrdiff_t count = slice_count(x, axes);
    mask = new_array({mask_bytes(count)}, NPY_UINT8);
    dropout_mask(DropoutThresholds(p).mask(drawn(seed), 0), mask.as<std::uint8_t>(), count);
  } else {
    mask = read_slice_mask(mask_in, x, axes, y);
  }
  const std::vector<std::uint8_t> bits = spread_bits(slice_shape(x, axes), mask.as<std::uint8_t>());
  const auto x_y = strided({x, y});
  {
    const ReleasedGil released(x.size());
    apply_mask(x.floating(), x_y, bits.data(), {scale, shift, dropped_value}, nullptr);
  }
  return py::make_tuple(y.result(), mask.object());
}

// By a mask in any form, of an element a slice.
py::object keep_slices(py::handle x_in, py::handle mask, const std::vector<int>& axes, double scale, py::handle out,
                       const char* name) {
  const Array x = read_floats_or_float16(x_in, name);
  const Array y = output(out, x, "out", name);
  scale_slices(y, x, axes, read_slice_mask(mask, x, axes, y).as<std::uint8_t>(), scale);
  return y.result();
}

// By a random mask, which is returned, too.
py::tuple drop_slices(py::handle x_in, const std::vector<int>& axes, double p, double scale, py::handle seed,
                      py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Array y = output(out, x, "out", "x");
  const std::ptrdiff_t count = slice_count(x, axes);
  const Array mask = new_array({mask_bytes(count)}, NPY_UINT8);
  dropout_mask(DropoutThresholds(p).mask(drawn(seed), 0), mask.as<std::uint8_t>(), count);
  scale_slices(y, x, axes, mask.as<std::uint8_t>(), scale);
  return py::make_tuple(y.result(), mask.object());
}

const Elementwise& pick_keep_scaled(const KernelTable& table, int) { return table.dropout->keep_scaled; }

}  // namespace

void bind_dropout(py::module_& module) {
  def<&dropped>(module, "dropout");
  def<&masked>(module, "apply_mask");
  def<&scaled_by_channel>(module, "scale_by_channel");
  def<&mask_of>(module, "dropout_mask");
  def<&bias_relu_forward>(module, "bias_relu_dropout");
  def<&bias_relu_backward>(module, "bias_relu_dropout_backward");
  def<&checked_output>(module, "checked_output");
  def<&keep_slices>(module, "keep_slices");
  def<&drop_slices>(module, "drop_slices");
  def<&alpha_slices>(module, "alpha_slices");
  module.attr("_keep_scaled") =
      make_ufunc({"_keep_scaled", "0 where s is 0, else x s", 2, 1, pick_keep_scaled, 0, cost_of("keep_scaled")});
}

}  // namespace nnfast
