#include "kernels/normalization.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

// Channels a thread takes at a time: whole cache lines, and four vectors of the widest kind.
constexpr std::ptrdiff_t kChannelTile = 64;

struct Axes {
  int row, channel;
};

Axes axes(const Array& x, int axis) {
  if (x.ndim() != 2) throw py::value_error("x must have shape (N, C), got " + shape_text(x));
  if (axis < -2 || axis > 1)
    throw py::value_error("axis must be in [-2, 1] for x of 2 dimensions, got " + std::to_string(axis));
  const int channel = (axis + 2) % 2;
  return {1 - channel, channel};
}

// One double a channel: the given array, or `missing` everywhere.
Array per_channel(py::handle value, std::ptrdiff_t channels, double missing, const char* name) {
  if (!value.is_none()) {
    const Array given = read_floats(value, name);
    require_shape(given, {channels}, name);
    PyObject* array = PyArray_FromAny(given.object().ptr(), PyArray_DescrFromType(NPY_FLOAT64), 0, 0,
                                      NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED, nullptr);
    if (!array) throw py::error_already_set();
    return Array(py::reinterpret_steal<py::object>(array));
  }
  const Array array = new_array({channels}, NPY_FLOAT64);
  std::fill_n(array.as<double>(), channels, missing);
  return array;
}

// A running statistic that training updates, or an empty Array for None.
Array running(py::handle value, const Array& x, std::ptrdiff_t channels, const char* name) {
  if (value.is_none()) return {};
  const Array array = written(value, x.dtype(), name);
  require_shape(array, {channels}, name);
  require_disjoint(array, name, x, "x");
  return array;
}

// Replaces every element of a vector by f(old, index), computed in double.
template <class T, class F>
void transform_as(const Array& array, F f) {
  for (std::ptrdiff_t c = 0; c < array.shape(0); ++c) {
    char* at = array.data() + c * array.stride(0);
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

void update_running(const Array& array, const double* batch, double momentum, double factor) {
  if (array)
    transform(array, [=](double old, std::ptrdiff_t c) { return (1 - momentum) * old + momentum * factor * batch[c]; });
}

void store_doubles(const Array& array, const double* values) {
  transform(array, [=](double, std::ptrdiff_t c) { return values[c]; });
}

void require_eps(double eps) {
  if (!(eps > 0) || !std::isfinite(eps))
    throw py::value_error("eps must be positive, got " + std::string(py::str(py::float_(eps))));
}

void require_statistics(const Array& variance) {
  const auto* v = variance.as<const double>();
  for (std::ptrdiff_t c = 0; c < variance.size(); ++c)
    if (!(v[c] >= 0))
      throw py::value_error("running_var must not be negative or NaN, got " + std::string(py::str(py::float_(v[c]))) +
                            " for channel " + std::to_string(c));
}

template <class Fn, class Norm>
void over_channels(Fn fn, const Norm& norm, std::ptrdiff_t channels, double ns_per_element) {
  py::gil_scoped_release release;
  parallel_for(
      channels, ns_per_element * static_cast<double>(norm.rows),
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) { fn(norm, begin, end); }, kChannelTile);
}

py::tuple batch_norm(py::handle x_in, py::handle gamma_in, py::handle beta_in, py::handle running_mean_in,
                     py::handle running_var_in, bool training, double momentum, double eps, int axis, py::handle out) {
  const Array x = read_floats(x_in, "x");
  const auto [row_axis, channel_axis] = axes(x, axis);
  const std::ptrdiff_t rows = x.shape(row_axis), channels = x.shape(channel_axis);
  require_eps(eps);
  if (!(momentum >= 0 && momentum <= 1))
    throw py::value_error("momentum must be in [0, 1], got " + std::string(py::str(py::float_(momentum))));
  if (training && rows < 2) throw py::value_error("x must have at least 2 rows in training, got " + shape_text(x));
  const Array gamma = per_channel(gamma_in, channels, 1, "gamma"), beta = per_channel(beta_in, channels, 0, "beta");
  if (running_mean_in.is_none() != running_var_in.is_none())
    throw py::value_error("running_mean and running_var must be given together");
  if (!training && running_mean_in.is_none())
    throw py::value_error("running_mean and running_var must be given when training=False");

  Array mean, variance, running_mean, running_var;
  if (training) {
    running_mean = running(running_mean_in, x, channels, "running_mean");
    running_var = running(running_var_in, x, channels, "running_var");
    if (running_mean) require_disjoint(running_mean, "running_mean", running_var, "running_var");
    if (running_var) require_statistics(per_channel(running_var_in, channels, 0, "running_var"));
    mean = new_array({channels}, NPY_FLOAT64);
    variance = new_array({channels}, NPY_FLOAT64);
  } else {
    mean = Array(per_channel(running_mean_in, channels, 0, "running_mean").object().attr("copy")());
    variance = per_channel(running_var_in, channels, 1, "running_var");
    require_statistics(variance);
  }
  const Array inv_std = new_array({channels}, NPY_FLOAT64);
  const Array y = output(out, x, "out", "x");
  if (running_mean) {
    require_disjoint(running_mean, "running_mean", y, "out");
    require_disjoint(running_var, "running_var", y, "out");
  }

  BatchNorm norm{matrix(x, row_axis, channel_axis),
                 matrix(y, row_axis, channel_axis),
                 rows,
                 gamma.as<double>(),
                 beta.as<double>(),
                 eps,
                 mean.as<double>(),
                 variance.as<double>(),
                 inv_std.as<double>()};
  const NormalizationKernels& kernel = *kernels().normalization;
  if (training) {
    over_channels(x.is_float64() ? kernel.batch_norm_training_f64 : kernel.batch_norm_training_f32, norm, channels,
                  0.5);
    const double n = static_cast<double>(rows);
    update_running(running_mean, norm.mean, momentum, 1);
    update_running(running_var, norm.variance, momentum, n / (n - 1));
  } else {
    over_channels(x.is_float64() ? kernel.batch_norm_inference_f64 : kernel.batch_norm_inference_f32, norm, channels,
                  0.15);
  }
  return py::make_tuple(y.object(), mean.object(), inv_std.object());
}

py::tuple batch_norm_backward(py::handle dy_in, py::handle x_in, py::handle gamma_in, py::handle mean_in,
                              py::handle inv_std_in, int axis, bool training, py::handle dx_out, py::handle dgamma_out,
                              py::handle dbeta_out) {
  const Array x = read_floats(x_in, "x");
  const Array dy = read_as(dy_in, x.dtype(), "dy");
  const auto [row_axis, channel_axis] = axes(x, axis);
  const std::ptrdiff_t rows = x.shape(row_axis), channels = x.shape(channel_axis);
  require_shape(dy, x, "dy", "x");
  const Array gamma = per_channel(gamma_in, channels, 1, "gamma");
  const Array mean = per_channel(mean_in, channels, 0, "saved.mean");
  const Array inv_std = per_channel(inv_std_in, channels, 1, "saved.inv_std");
  const Array dx = output(dx_out, x, "out[0]", "x");
  require_no_partial_overlap(dx, "out[0]", dy, "dy");
  const auto parameter = [&](py::handle out, const char* name) {
    if (out.is_none()) return new_array({channels}, x.dtype());
    const Array array = written(out, x.dtype(), name);
    require_shape(array, {channels}, name);
    for (const auto& [other, other_name] : {std::pair{&x, "x"}, {&dy, "dy"}, {&dx, "out[0]"}, {&gamma, "gamma"}})
      require_disjoint(array, name, *other, other_name);
    return array;
  };
  const Array dgamma = parameter(dgamma_out, "out[1]"), dbeta = parameter(dbeta_out, "out[2]");
  require_disjoint(dgamma, "out[1]", dbeta, "out[2]");

  std::vector<double> sums(2 * static_cast<std::size_t>(channels));
  BatchNormBackward norm{matrix(dy, row_axis, channel_axis),
                         matrix(x, row_axis, channel_axis),
                         matrix(dx, row_axis, channel_axis),
                         rows,
                         gamma.as<double>(),
                         mean.as<double>(),
                         inv_std.as<double>(),
                         training,
                         sums.data(),
                         sums.data() + channels};
  const NormalizationKernels& kernel = *kernels().normalization;
  over_channels(x.is_float64() ? kernel.batch_norm_backward_f64 : kernel.batch_norm_backward_f32, norm, channels, 0.5);
  store_doubles(dgamma, norm.dgamma);
  store_doubles(dbeta, norm.dbeta);
  return py::make_tuple(dx.object(), dgamma.object(), dbeta.object());
}

}  // namespace

void bind_normalization(py::module_& module) {
  module.def("batch_norm", &batch_norm);
  module.def("batch_norm_backward", &batch_norm_backward);
}

}  // namespace nnfast
