#include "kernels/normalization.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/axes.hpp"
#include "bindings/families.hpp"
#include "kernels/sums.hpp"
#include "ops/costs.hpp"
#include "ops/normalization.hpp"
#include "runtime/kernel_table.hpp"

namespace nnfast {
namespace {

int channel_axis(const Array& x, int axis) {
  const int n = x.ndim();
  if (n < 2) throw py::value_error("x must have at least 2 axes, got shape " + shape_text(x));
  if (axis < -n || axis >= n)
    throw py::value_error("axis must be an axis of x with shape " + shape_text(x) + ", got " + std::to_string(axis));
  return (axis + n) % n;
}

bool streams_past_caches(const Normalization& norm, const Array& x) {
  bool apart = true;
  for (int a = 0; a < kNormalizedArrays; ++a)
    for (int b = 0; b < a; ++b) apart &= !norm.data[a] || norm.data[a] != norm.data[b];
  return apart && streams(PyArray_NBYTES(x.get()), Cost{"normalization", 0, kMemoryBound});
}

// Lanes go where the values of x lie closer together; with a mask, whose layout must be known from the shape alone,
// across the channels where nothing follows their axis.
bool goes_across(const Array& x, int channel, const Axes& members, bool masked) {
  if (masked) return product(x, channel + 1, x.ndim()) == 1;
  if (members.count == 0) return true;
  return std::abs(x.stride(channel)) < std::abs(members.strides[0][members.count - 1]);
}

// The channels of a batch as sets.
Normalization channels_of(const Arrays& arrays, int channel, bool masked) {
  const Array& x = *arrays[0];
  Normalization norm{};
  set_data(norm, arrays);
  for (int d = 0; d < x.ndim(); ++d)
    if (d != channel) add_axis(norm.members, arrays, d);
  norm.sets.count = 1;
  norm.sets.shape[0] = x.shape(channel);
  for (int a = 0; a < kNormalizedArrays; ++a) norm.sets.strides[a][0] = stride_of(arrays[a], channel);
  norm.set_count = norm.groups = x.shape(channel);
  norm.member_count = norm.segment = product(x, 0, channel) * product(x, channel + 1, x.ndim());
  norm.segments = 1;
  norm.across = goes_across(x, channel, norm.members, masked);
  norm.stream = streams_past_caches(norm, x);
  return norm;
}

// The groups of channels of every image of x, whose axes are (N, C, ...), as sets.
Normalization groups_of(const Arrays& arrays, std::ptrdiff_t groups) {
  const Array& x = *arrays[0];
  Normalization norm{};
  set_data(norm, arrays);
  const std::ptrdiff_t together = x.shape(1) / groups;
  std::array<std::ptrdiff_t, kNormalizedArrays> group, channel;
  for (int a = 0; a < kNormalizedArrays; ++a) {
    channel[a] = stride_of(arrays[a], 1);
    group[a] = together * channel[a];
  }
  add_axis(norm.sets, arrays, 0);
  add_axis(norm.sets, groups, group);
  add_axis(norm.members, together, channel);
  for (int d = 2; d < x.ndim(); ++d) add_axis(norm.members, arrays, d);
  norm.set_count = x.shape(0) * groups;
  norm.groups = groups;
  norm.segments = together;
  norm.segment = product(x, 2, x.ndim());
  norm.member_count = together * norm.segment;
  norm.stream = streams_past_caches(norm, x);
  return norm;
}

const SetKernels& kernels_of(int dtype) {
  const NormalizationKernels& all = *kernels().normalization;
  return dtype == NPY_HALF ? all.f16 : (dtype == NPY_FLOAT32 ? all.f32 : all.f64);
}

template <class T>
void copy_doubles(const Array& from, double* to) {
  const std::ptrdiff_t n = from.shape(0), stride = from.stride(0);
  for (std::ptrdiff_t c = 0; c < n; ++c) {
    T value;
    std::memcpy(&value, from.data() + c * stride, sizeof value);  // it may be unaligned
    to[c] = static_cast<double>(value);
  }
}

using Doubles = std::vector<double>;

// One double a channel: the given values, or `missing` everywhere.
Doubles per_channel(py::handle value, std::ptrdiff_t channels, double missing, const char* name) {
  Doubles values(static_cast<std::size_t>(channels), missing);
  if (value.is_none()) return values;
  const Array given = read_floats(value, name);
  require_shape(given, {channels}, name);
  given.is_float64() ? copy_doubles<double>(given, values.data()) : copy_doubles<float>(given, values.data());
  return values;
}

// What was given, to be kept apart from what is written; empty where it was no array.
Array given_array(py::handle value) {
  return PyArray_Check(value.ptr()) ? Array(py::reinterpret_borrow<py::object>(value)) : Array{};
}

// A running statistic that training updates, or an empty Array for None.
Array running(py::handle value, const Array& x, std::ptrdiff_t channels, const char* name) {
  if (value.is_none()) return {};
  const Array array = written(value, parameter_dtype(x), name);
  require_shape(array, {channels}, name);
  require_disjoint(array, name, x, "x");
  return array;
}

// Replaces every element of a vector by f(old, index), computed in double.
template <class T, class F>
void transform_as(const Array& array, F f) {
  const std::ptrdiff_t n = array.shape(0), stride = array.stride(0);
  if (stride == static_cast<std::ptrdiff_t>(sizeof(T)) && PyArray_ISALIGNED(array.get())) {
    T* values = array.as<T>();
    for (std::ptrdiff_t c = 0; c < n; ++c) values[c] = static_cast<T>(f(static_cast<double>(values[c]), c));
    return;
  }
  for (std::ptrdiff_t c = 0; c < n; ++c) {
    char* at = array.data() + c * stride;
    T value;
    std::memcpy(&value, at, sizeof value);
    value = static_cast<T>(f(static_cast<double>(value), c));
    std::memcpy(at, &value, sizeof value);
  }
}

template <class F>
void transform(const Array& array, F f) {
  array.is_float64() ? transform_as<double>(array, f) : transform_as<float>(array, f);
}

// Returns whether an element became infinite: finite values have overflowed, as infinite ones have NaN for a variance.
bool update_running(const Array& array, const double* batch, double momentum, double factor) {
  if (!array) return false;
  bool overflowed = false;
  transform(array, [&](double old, std::ptrdiff_t c) {
    const double updated = (1 - momentum) * old + momentum * factor * batch[c];
    const double limit = array.is_float64() ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();
    overflowed |= std::abs(updated) > limit && std::abs(old) <= limit;
    return updated;
  });
  return overflowed;
}

// What numpy.errstate(over=...) says to do about an overflow in the function of that name.
void report_overflow(const char* function) {
  if (PyUFunc_GiveFloatingpointErrors(function, NPY_FPE_OVERFLOW) != 0) throw py::error_already_set();
}

void store_doubles(const Array& array, const double* values) {
  transform(array, [=](double, std::ptrdiff_t c) { return values[c]; });
}

void require_statistics(const Doubles& variance) {
  bool right = true;
  for (const double value : variance) right &= value >= 0;  // in vectors, as find_if is not
  if (right) return;
  const auto wrong = std::find_if(variance.begin(), variance.end(), [](double value) { return !(value >= 0); });
  throw py::value_error("running_var must not be negative or NaN, got " + std::string(py::str(py::float_(*wrong))) +
                        " for channel " + std::to_string(wrong - variance.begin()));
}

// An array of this shape in the memory of one that nobody needs any more, if that is large enough; else in new memory.
Array reused(py::handle value, std::initializer_list<std::ptrdiff_t> shape, int dtype) {
  if (!PyArray_Check(value.ptr())) return new_array(shape, dtype);
  const Array array(py::reinterpret_borrow<py::object>(value));
  if (array.dtype() != dtype || !PyArray_ISCARRAY(array.get())) return new_array(shape, dtype);
  if (has_shape(array, shape)) return array;
  std::vector<npy_intp> dims(shape.begin(), shape.end());
  if (PyArray_MultiplyList(dims.data(), static_cast<int>(dims.size())) > array.size()) return new_array(shape, dtype);
  PyObject* view = PyArray_SimpleNewFromData(static_cast<int>(dims.size()), dims.data(), dtype, array.data());
  if (!view) throw py::error_already_set();
  const Array part(py::reinterpret_steal<py::object>(view));
  if (PyArray_SetBaseObject(part.get(), array.object().inc_ref().ptr()) != 0) throw py::error_already_set();
  return part;
}

// Rows of bits, a row a channel or, across, a row a member; a multiple of 64 bits each.
Array cleared_bits(const Normalization& norm, py::handle reuse) {
  const std::ptrdiff_t rows = norm.across ? norm.member_count : norm.set_count;
  const std::ptrdiff_t bits = norm.across ? norm.set_count : norm.member_count;
  const Array mask = reused(reuse, {rows, (bits + 63) / 64 * 8}, NPY_UINT8);
  std::fill_n(mask.as<char>(), mask.size(), char{0});
  return mask;
}

void use_bits(Normalization& norm, const Array& mask) {
  norm.bits = mask.as<std::uint8_t>();
  norm.bits_stride = mask.shape(1);
}

struct Result {
  Array y, mask, mean, inv_std;
  py::tuple tuple() const {
    return py::make_tuple(y.object(), mean.object(), inv_std.object(), mask ? mask.object() : py::none());
  }
};

void require_momentum(double momentum) {
  if (!(momentum >= 0 && momentum <= 1))
    throw py::value_error("momentum must be in [0, 1], got " + std::string(py::str(py::float_(momentum))));
}

std::ptrdiff_t require_rows(const Array& x, int channel, bool training) {
  const std::ptrdiff_t rows = x.shape(channel) ? x.size() / x.shape(channel) : 2;
  if (training && rows < 2)
    throw py::value_error("x must have at least 2 values a channel in training, got shape " + shape_text(x));
  return rows;
}

py::tuple batch_norm(py::handle x_in, py::handle gamma_in, py::handle beta_in, py::handle running_mean_in,
                     py::handle running_var_in, bool training, double momentum, double eps, int axis, int correction,
                     bool relu, py::handle add_in, py::handle out, py::handle reuse_mean, py::handle reuse_inv_std,
                     py::handle reuse_mask) {
  const Array x = read_floats_or_float16(x_in, "x");
  const int channel = channel_axis(x, axis);
  const std::ptrdiff_t channels = x.shape(channel), rows = require_rows(x, channel, training);
  require_eps(eps);
  require_momentum(momentum);
  const Doubles gamma = per_channel(gamma_in, channels, 1, "gamma"), beta = per_channel(beta_in, channels, 0, "beta");
  if (running_mean_in.is_none() != running_var_in.is_none())
    throw py::value_error("running_mean and running_var must be given together");
  if (!training && running_mean_in.is_none())
    throw py::value_error("running_mean and running_var must be given when training=False");
  Array add;
  if (!add_in.is_none()) {
    add = read_as(add_in, x.dtype(), "add");
    require_shape(add, x, "add", "x");
  }

  Array running_mean, running_var;
  Result result;
  const Doubles given_mean = per_channel(running_mean_in, channels, 0, "running_mean");
  Doubles variance = per_channel(running_var_in, channels, 1, "running_var");  // in training the batch's replaces it
  require_statistics(variance);
  if (training) {
    running_mean = running(running_mean_in, x, channels, "running_mean");
    running_var = running(running_var_in, x, channels, "running_var");
    if (running_mean) require_disjoint(running_mean, "running_mean", running_var, "running_var");
  }
  result.y = output(out, x, "out", "x");
  if (add) require_no_partial_overlap(result.y, "out", add, "add");
  for (const auto& [array, name] : {std::pair{&running_mean, "running_mean"}, {&running_var, "running_var"}}) {
    if (!*array) continue;
    require_disjoint(*array, name, result.y, "out");
    if (add) require_disjoint(*array, name, add, "add");
  }

  Normalization norm = channels_of({&x, &result.y, add ? &add : nullptr, nullptr}, channel, relu);
  norm.gamma = gamma.data();
  norm.beta = beta.data();
  norm.eps = eps;
  if (relu) use_bits(norm, result.mask = cleared_bits(norm, reuse_mask));
  result.mean = reused(reuse_mean, {channels}, NPY_FLOAT64);
  result.inv_std = reused(reuse_inv_std, {channels}, NPY_FLOAT64);
  const SetStatistics statistics{result.mean.as<double>(), variance.data(), result.inv_std.as<double>()};
  if (!training) std::copy(given_mean.begin(), given_mean.end(), statistics.mean);
  const SetKernels& kernel = kernels_of(x.dtype());
  {
    py::gil_scoped_release release;
    if (training) {
      normalise_by_own(kernel, norm, statistics);
    } else {
      kernels().normalization->invert(statistics.variance, eps, statistics.inv_std, channels);
      norm.mean = statistics.mean;
      norm.inv_std = statistics.inv_std;
      normalise_by_given(kernel, norm);
    }
  }
  if (training) {
    const double n = static_cast<double>(rows);
    update_running(running_mean, statistics.mean, momentum, 1);
    if (update_running(running_var, statistics.variance, momentum, n / (n - correction))) report_overflow("batch_norm");
  }
  return result.tuple();
}

Array checked_bits(py::handle mask_in, const Normalization& norm) {
  if (!PyArray_Check(mask_in.ptr())) throw py::type_error("saved.mask must be what batch_norm returned");
  const Array mask(py::reinterpret_borrow<py::object>(mask_in));
  const std::ptrdiff_t rows = norm.across ? norm.member_count : norm.set_count;
  const std::ptrdiff_t bits = norm.across ? norm.set_count : norm.member_count;
  if (mask.dtype() != NPY_UINT8 || !PyArray_IS_C_CONTIGUOUS(mask.get()))
    throw py::type_error("saved.mask must be what batch_norm returned");
  require_shape(mask, {rows, (bits + 63) / 64 * 8}, "saved.mask");
  return mask;
}

py::tuple batch_norm_backward(py::handle dy_in, py::handle x_in, py::handle gamma_in, py::handle mean_in,
                              py::handle inv_std_in, int axis, bool training, py::handle mask_in, bool add,
                              py::handle dx_out, py::handle dgamma_out, py::handle dbeta_out, py::handle dadd_out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Array dy = read_as(dy_in, x.dtype(), "dy");
  const int channel = channel_axis(x, axis);
  const std::ptrdiff_t channels = x.shape(channel);
  require_shape(dy, x, "dy", "x");
  const Doubles gamma = per_channel(gamma_in, channels, 1, "gamma");
  const Doubles mean = per_channel(mean_in, channels, 0, "saved.mean"),
                inv_std = per_channel(inv_std_in, channels, 1, "saved.inv_std");
  const Array dx = output(dx_out, x, "out[0]", "x"), given_gamma = given_array(gamma_in);
  require_no_partial_overlap(dx, "out[0]", dy, "dy");
  // Without an activation the gradient of what was added is dy.
  Array dadd;
  if (add && !(dadd_out.is_none() && mask_in.is_none())) {
    dadd = output(dadd_out, x, "out[3]", "x");
    require_no_partial_overlap(dadd, "out[3]", dy, "dy");
    require_disjoint(dadd, "out[3]", x, "x");
    require_disjoint(dadd, "out[3]", dx, "out[0]");
  }
  const auto parameter = [&](py::handle out, const char* name) {
    return output(out, {channels}, parameter_dtype(x), name,
                  {{&x, "x"}, {&dy, "dy"}, {&dx, "out[0]"}, {&dadd, "out[3]"}, {&given_gamma, "gamma"}});
  };
  const Array dgamma = parameter(dgamma_out, "out[1]"), dbeta = parameter(dbeta_out, "out[2]");
  require_disjoint(dgamma, "out[1]", dbeta, "out[2]");

  const bool masked = !mask_in.is_none();
  Normalization norm = channels_of({&dy, &x, &dx, dadd ? &dadd : nullptr}, channel, masked);
  norm.gamma = gamma.data();
  norm.mean = mean.data();
  norm.inv_std = inv_std.data();
  Array mask;
  if (masked) use_bits(norm, mask = checked_bits(mask_in, norm));
  GradientSums sums;
  {
    py::gil_scoped_release release;
    sums = normalise_backward(kernels_of(x.dtype()), norm, training);
  }
  transform(dgamma, [&](double, std::ptrdiff_t c) { return sums.dy_centred[c] * norm.inv_std[c]; });
  store_doubles(dbeta, sums.dy.data());
  if (!add) return py::make_tuple(dx.object(), dgamma.object(), dbeta.object());
  return py::make_tuple(dx.object(), dgamma.object(), dbeta.object(), dadd ? dadd.object() : dy.object());
}

// Count, mean and sum of squares about it, a channel each.
py::tuple batch_norm_stats(py::handle x_in, int axis) {
  const Array x = read_floats_or_float16(x_in, "x");
  const int channel = channel_axis(x, axis);
  const std::ptrdiff_t channels = x.shape(channel);
  const std::ptrdiff_t rows = channels ? x.size() / channels : 0;
  const Array mean = new_array({channels}, NPY_FLOAT64), m2 = new_array({channels}, NPY_FLOAT64);
  const SetStatistics statistics{mean.as<double>(), m2.as<double>(), nullptr};
  if (rows > 0) {
    const Normalization norm = channels_of({&x, nullptr, nullptr, nullptr}, channel, false);
    bool overflowed = false;
    {
      py::gil_scoped_release release;
      set_moments(kernels_of(x.dtype()), norm, statistics);
      for (std::ptrdiff_t c = 0; c < channels; ++c) {
        statistics.variance[c] *= static_cast<double>(rows);
        overflowed |= std::isinf(statistics.variance[c]);
      }
    }
    if (overflowed) report_overflow("batch_norm_stats");
  } else {
    std::fill_n(statistics.mean, channels, 0.0);
    std::fill_n(statistics.variance, channels, 0.0);
  }
  return py::make_tuple(rows, mean.object(), m2.object());
}

void require_groups(const Array& x, std::ptrdiff_t groups) {
  if (x.ndim() < 2) throw py::value_error("x must have at least 2 axes, got shape " + shape_text(x));
  if (groups < 1 || x.shape(1) % groups != 0)
    throw py::value_error("num_groups must divide the " + std::to_string(x.shape(1)) + " channels, got " +
                          std::to_string(groups));
}

// x: (N, C, ...).
py::tuple group_norm(py::handle x_in, std::ptrdiff_t groups, py::handle gamma_in, py::handle beta_in, double eps,
                     py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  require_groups(x, groups);
  require_eps(eps);
  const std::ptrdiff_t channels = x.shape(1);
  const Doubles gamma = per_channel(gamma_in, channels, 1, "gamma"), beta = per_channel(beta_in, channels, 0, "beta");
  const Array y = output(out, x, "out", "x");
  const Array mean = new_array({x.shape(0), groups}, NPY_FLOAT64), variance = new_array(mean, NPY_FLOAT64),
              inv_std = new_array(mean, NPY_FLOAT64);
  Normalization norm = groups_of({&x, &y, nullptr, nullptr}, groups);
  norm.gamma = gamma.data();
  norm.beta = beta.data();
  norm.eps = eps;
  if (norm.member_count > 0) {
    py::gil_scoped_release release;
    normalise_by_own(kernels_of(x.dtype()), norm, {mean.as<double>(), variance.as<double>(), inv_std.as<double>()});
  }
  return py::make_tuple(y.object(), mean.object(), inv_std.object());
}

// Adds the sums of all images, a parameter each, to those of the first: no memory is asked for once dx is written.
const double* over_images(Doubles& sums, std::ptrdiff_t channels) {
  const auto n = static_cast<std::size_t>(channels);
  if (sums.empty()) sums.resize(n);                    // no images
  for (std::size_t i = 0; i < n; ++i) sums[i] += 0.0;  // no sum is -0
  for (std::size_t i = n; i < sums.size(); i += n)
    kernels().sums->add_rows.f64(reinterpret_cast<const char*>(sums.data() + i), 0, sizeof(double), 1, channels,
                                 sums.data());
  return sums.data();
}

py::tuple group_norm_backward(py::handle dy_in, py::handle x_in, py::handle gamma_in, py::handle mean_in,
                              py::handle inv_std_in, std::ptrdiff_t groups, py::handle dx_out, py::handle dgamma_out,
                              py::handle dbeta_out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Array dy = read_as(dy_in, x.dtype(), "dy");
  require_groups(x, groups);
  require_shape(dy, x, "dy", "x");
  const std::ptrdiff_t channels = x.shape(1);
  const Doubles gamma = per_channel(gamma_in, channels, 1, "gamma");
  const Array mean = contiguous(read_as(mean_in, NPY_FLOAT64, "saved.mean")),
              inv_std = contiguous(read_as(inv_std_in, NPY_FLOAT64, "saved.inv_std"));
  require_shape(mean, {x.shape(0), groups}, "saved.mean");
  require_shape(inv_std, {x.shape(0), groups}, "saved.inv_std");
  const Array dx = output(dx_out, x, "out[0]", "x"), given_gamma = given_array(gamma_in);
  require_no_partial_overlap(dx, "out[0]", dy, "dy");
  require_disjoint(dx, "out[0]", mean, "saved.mean");
  require_disjoint(dx, "out[0]", inv_std, "saved.inv_std");
  const auto parameter = [&](py::handle out, const char* name) {
    return output(out, {channels}, parameter_dtype(x), name,
                  {{&x, "x"}, {&dy, "dy"}, {&dx, "out[0]"}, {&given_gamma, "gamma"}});
  };
  const Array dgamma = parameter(dgamma_out, "out[1]"), dbeta = parameter(dbeta_out, "out[2]");
  require_disjoint(dgamma, "out[1]", dbeta, "out[2]");

  Normalization norm = groups_of({&dy, &x, &dx, nullptr}, groups);
  norm.gamma = gamma.data();
  norm.mean = mean.as<const double>();
  norm.inv_std = inv_std.as<const double>();
  GradientSums sums;
  {
    py::gil_scoped_release release;
    sums = normalise_backward(kernels_of(x.dtype()), norm, true);
  }
  for (std::size_t i = 0; i < sums.dy_centred.size(); ++i)
    sums.dy_centred[i] *= norm.inv_std[i / static_cast<std::size_t>(norm.segments)];
  store_doubles(dgamma, over_images(sums.dy_centred, channels));
  store_doubles(dbeta, over_images(sums.dy, channels));
  return py::make_tuple(dx.object(), dgamma.object(), dbeta.object());
}

}  // namespace

void bind_normalization(py::module_& module) {
  module.def("batch_norm", &batch_norm);
  module.def("batch_norm_backward", &batch_norm_backward);
  module.def("batch_norm_stats", &batch_norm_stats);
  module.def("group_norm", &group_norm);
  module.def("group_norm_backward", &group_norm_backward);
}

}  // namespace nnfast
