#include "ops/layer_norm.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/axes.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"

namespace nnfast {
namespace {

std::vector<std::ptrdiff_t> parameter_shape(const Array& x, const std::vector<int>& which) {
  std::vector<std::ptrdiff_t> shape;
  for (const int axis : which) shape.push_back(x.shape(axis));
  return shape;
}

void require_parameter_shape(const Array& array, const Array& x, const std::vector<int>& which, const char* name) {
  if (has_shape(array, parameter_shape(x, which))) return;
  throw py::value_error(std::string(name) + " must have the shape of x along its axes, got " + shape_text(array) +
                        " for x with shape " + shape_text(x));
}

// One value a column, contiguous and of the dtype of computation; or an empty Array for None.
Array read_parameter(py::handle value, const Array& x, const std::vector<int>& which, const char* name) {
  if (value.is_none()) return {};
  const Array given = read_as(value, parameter_dtype(x), name);
  require_parameter_shape(given, x, which, name);
  return contiguous(given);
}

// Axes out of `saved`, which anybody can make.
void require_axes(const Array& x, const std::vector<int>& which, const char* name) {
  int before = -1;
  for (const int axis : which) {
    if (axis <= before || axis >= x.ndim())
      throw py::value_error(std::string(name) + " must be axes of x with shape " + shape_text(x) +
                            " in their order, got " + std::to_string(axis));
    before = axis;
  }
}

const void* data_or_null(const Array& array) { return array ? array.data() : nullptr; }

// Returns y and, as a `saved_type`, the mean of every row (not without one), 1 / sqrt(variance + eps), both flat, and
// the axes.
py::tuple forward(py::handle x_in, py::handle gamma_in, py::handle beta_in, const py::tuple& axes, double eps,
                  bool centred, py::handle out, py::handle saved_type) {
  const auto which = Argument<std::vector<int>>::of(axes);
  const Array x = read_floats_or_float16(x_in, "x");
  require_eps(eps);
  const Array gamma = read_parameter(gamma_in, x, which, "gamma"), beta = read_parameter(beta_in, x, which, "beta");
  const Array y = output(out, x, "out", "x");
  if (gamma) require_disjoint(y, "out", gamma, "gamma");
  if (beta) require_disjoint(y, "out", beta, "beta");
  LayerNorm layer{};
  layer.norm = sets_along({&x, &y, nullptr, nullptr}, which);
  layer.norm.eps = eps;
  const std::ptrdiff_t rows = layer.norm.set_count;
  if (layer.norm.member_count == 0 && rows > 0)
    throw py::value_error("x must have values along the axes that are normalised, got shape " + shape_text(x));
  const Array inv_std = new_array({rows}, NPY_FLOAT64);
  Array mean;
  if (centred) mean = new_array({rows}, NPY_FLOAT64);
  layer.gamma = data_or_null(gamma);
  layer.beta = data_or_null(beta);
  layer.mean = centred ? mean.as<double>() : nullptr;
  layer.inv_std = inv_std.as<double>();
  {
    const ReleasedGil released(x.size());
    layer_norm(x.floating(), layer);
  }
  return py::make_tuple(y.result(), centred ? named_tuple(saved_type, {mean.object(), inv_std.object(), axes})
                                            : named_tuple(saved_type, {inv_std.object(), axes}));
}

// Where the gradient with respect to a parameter goes: a new array, or `out`, which must share no memory with others.
Array parameter_gradient(py::handle out, const char* name, const Array& x, const std::vector<int>& which,
                         std::initializer_list<Apart> others) {
  if (out.is_none()) return new_array(parameter_shape(x, which), parameter_dtype(x));
  const Array array = written(out, parameter_dtype(x), name);
  require_parameter_shape(array, x, which, name);
  for (const auto& [other, other_name] : others)
    if (*other) require_disjoint(array, name, *other, other_name);
  return array;
}

py::tuple backward(py::handle dy_in, py::handle x_in, py::handle gamma_in, py::handle mean_in, py::handle inv_std_in,
                   const std::vector<int>& which, bool centred, py::handle dx_out, py::handle dgamma_out,
                   py::handle dbeta_out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Array dy = read_as(dy_in, x, "dy");
  require_shape(dy, x, "dy", "x");
  require_axes(x, which, "saved.axes");
  const Array gamma = read_parameter(gamma_in, x, which, "gamma");
  const Array dx = output(dx_out, x, "out[0]", "x");
  require_no_partial_overlap(dx, "out[0]", dy, "dy");
  const auto parameter = [&](py::handle out, const char* name) {
    return parameter_gradient(out, name, x, which, {{&x, "x"}, {&dy, "dy"}, {&dx, "out[0]"}, {&gamma, "gamma"}});
  };
  const Array dgamma = parameter(dgamma_out, "out[1]");
  Array dbeta;
  if (centred) {
    dbeta = parameter(dbeta_out, "out[2]");
    require_disjoint(dgamma, "out[1]", dbeta, "out[2]");
  }
  if (gamma) require_disjoint(dx, "out[0]", gamma, "gamma");

  LayerNorm layer{};
  layer.norm = sets_along({&dy, &x, &dx, nullptr}, which);
  const std::ptrdiff_t rows = layer.norm.set_count, n = layer.norm.member_count;
  const Array inv_std = contiguous(read_as(inv_std_in, NPY_FLOAT64, "saved.inv_std"));
  require_shape(inv_std, {rows}, "saved.inv_std");
  require_disjoint(dx, "out[0]", inv_std, "saved.inv_std");
  Array mean;
  if (centred) {
    mean = contiguous(read_as(mean_in, NPY_FLOAT64, "saved.mean"));
    require_shape(mean, {rows}, "saved.mean");
    require_disjoint(dx, "out[0]", mean, "saved.mean");
  }
  layer.gamma = data_or_null(gamma);
  layer.mean = centred ? mean.as<double>() : nullptr;
  layer.inv_std = inv_std.as<double>();
  std::vector<double> sums(static_cast<std::size_t>(2 * n));
  {
    const ReleasedGil released(x.size());
    layer_norm_backward(x.floating(), layer, sums.data());
  }
  const std::span<const double> both(sums);
  store_doubles(dgamma, both.first(n));
  if (!centred) return py::make_tuple(dx.result(), dgamma.object());
  store_doubles(dbeta, both.last(n));
  return py::make_tuple(dx.result(), dgamma.object(), dbeta.object());
}

}  // namespace

void bind_layer_norm(py::module_& module) {
  def<&forward>(module, "layer_norm");
  def<&backward>(module, "layer_norm_backward");
}

}  // namespace nnfast
