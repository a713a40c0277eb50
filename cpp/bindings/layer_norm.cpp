#include "kernels/layer_norm.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/axes.hpp"
#include "bindings/families.hpp"
#include "kernels/sums.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

constexpr double kForwardNs = 0.25, kBackwardNs = 0.6;
// Elements of a block of rows whose gradients with respect to the parameters are summed on their own; there are at most
// so many blocks, by the shape alone, so that the sums do not depend on the number of threads.
constexpr std::ptrdiff_t kBlockElements = 16384;
constexpr std::ptrdiff_t kMostBlocks = 32;

const RowKernels& kernels_of(int dtype) {
  const LayerNormKernels& all = *kernels().layer_norm;
  return dtype == NPY_HALF ? all.f16 : (dtype == NPY_FLOAT32 ? all.f32 : all.f64);
}

// The values along the axes `which` of every place along the others, as rows.
Normalization rows_of(const Arrays& arrays, const std::vector<int>& which) {
  const Array& x = *arrays[0];
  Normalization norm{};
  set_data(norm, arrays);
  norm.set_count = norm.member_count = 1;
  for (int d = 0; d < x.ndim(); ++d) {
    const bool member = std::find(which.begin(), which.end(), d) != which.end();
    add_axis(member ? norm.members : norm.sets, arrays, d);
    (member ? norm.member_count : norm.set_count) *= x.shape(d);
  }
  return norm;
}

// One value a place of a row, next to each other and of the type that is computed in; or an empty Array for None.
Array per_place(py::handle value, const Array& x, const std::vector<int>& which, const char* name) {
  if (value.is_none()) return {};
  const Array given = read_as(value, parameter_dtype(x), name);
  bool right = given.ndim() == static_cast<int>(which.size());
  for (int d = 0; right && d < given.ndim(); ++d) right = given.shape(d) == x.shape(which[static_cast<std::size_t>(d)]);
  if (!right)
    throw py::value_error(std::string(name) + " must have the shape of x along its axes, got " + shape_text(given) +
                          " for x with shape " + shape_text(x));
  return contiguous(given);
}

// Axes that come out of a record, which anybody can make.
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

// Returns y, the mean of every row (None without) and 1 / sqrt(variance + eps), both flat.
py::tuple layer_norm(py::handle x_in, py::handle gamma_in, py::handle beta_in, const std::vector<int>& which,
                     double eps, bool centred, py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  require_eps(eps);
  const Array gamma = per_place(gamma_in, x, which, "gamma"), beta = per_place(beta_in, x, which, "beta");
  const Array y = output(out, x, "out", "x");
  if (gamma) require_disjoint(y, "out", gamma, "gamma");
  if (beta) require_disjoint(y, "out", beta, "beta");
  LayerNorm layer{};
  layer.norm = rows_of({&x, &y, nullptr, nullptr}, which);
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
  const RowKernels& kernel = kernels_of(x.dtype());
  const LayerNormFn fn = centred ? kernel.layer_norm : kernel.rms_norm;
  {
    py::gil_scoped_release release;
    parallel_for(
        rows, kForwardNs * static_cast<double>(layer.norm.member_count),
        [&](std::ptrdiff_t begin, std::ptrdiff_t end) { fn(layer, begin, end); }, kRowsInPass);
  }
  return py::make_tuple(y.object(), centred ? mean.object() : py::none(), inv_std.object());
}

// Where the gradient with respect to a parameter goes: new, or checked against what is read.
Array place_gradient(py::handle out, const char* name, const Array& x, const std::vector<int>& which,
                     std::initializer_list<std::pair<const Array*, const char*>> read) {
  std::vector<npy_intp> shape;
  for (const int axis : which) shape.push_back(x.shape(axis));
  if (out.is_none()) {
    PyObject* made = PyArray_SimpleNew(static_cast<int>(shape.size()), shape.data(), parameter_dtype(x));
    if (!made) throw py::error_already_set();
    return Array(py::reinterpret_steal<py::object>(made));
  }
  const Array array = written(out, parameter_dtype(x), name);
  if (array.ndim() != static_cast<int>(shape.size()) ||
      !PyArray_CompareLists(PyArray_DIMS(array.get()), shape.data(), array.ndim()))
    throw py::value_error(std::string(name) + " must have the shape of x along its axes, got " + shape_text(array) +
                          " for x with shape " + shape_text(x));
  for (const auto& [other, other_name] : read)
    if (*other) require_disjoint(array, name, *other, other_name);
  return array;
}

// The sums of the blocks, in their order, into an array of any strides, by way of one of doubles.
void store_sums(const std::vector<double>& sums, std::ptrdiff_t blocks, std::ptrdiff_t n, std::ptrdiff_t first,
                const Array& total, const Array& to) {
  double* values = total.as<double>();
  std::fill_n(values, n, 0.0);
  for (std::ptrdiff_t b = 0; b < blocks; ++b)
    kernels().sums->add_rows.f64(reinterpret_cast<const char*>(sums.data() + (2 * b + first) * n), 0, sizeof(double), 1,
                                 n, values);
  if (PyArray_CopyInto(to.get(), total.get()) != 0) throw py::error_already_set();
}

py::tuple layer_norm_backward(py::handle dy_in, py::handle x_in, py::handle gamma_in, py::handle mean_in,
                              py::handle inv_std_in, const std::vector<int>& which, bool centred, py::handle dx_out,
                              py::handle dgamma_out, py::handle dbeta_out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Array dy = read_as(dy_in, x.dtype(), "dy");
  require_shape(dy, x, "dy", "x");
  require_axes(x, which, "saved.axes");
  const Array gamma = per_place(gamma_in, x, which, "gamma");
  const Array dx = output(dx_out, x, "out[0]", "x");
  require_no_partial_overlap(dx, "out[0]", dy, "dy");
  const auto parameter = [&](py::handle out, const char* name) {
    return place_gradient(out, name, x, which, {{&x, "x"}, {&dy, "dy"}, {&dx, "out[0]"}, {&gamma, "gamma"}});
  };
  const Array dgamma = parameter(dgamma_out, "out[1]");
  Array dbeta;
  if (centred) {
    dbeta = parameter(dbeta_out, "out[2]");
    require_disjoint(dgamma, "out[1]", dbeta, "out[2]");
  }
  if (gamma) require_disjoint(dx, "out[0]", gamma, "gamma");

  LayerNorm layer{};
  layer.norm = rows_of({&dy, &x, &dx, nullptr}, which);
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
  const std::ptrdiff_t fewest = std::max(kBlockElements / std::max<std::ptrdiff_t>(n, 1), rows / kMostBlocks);
  const std::ptrdiff_t block = (fewest + kRowsInPass) / kRowsInPass * kRowsInPass;
  const std::ptrdiff_t blocks = (rows + block - 1) / block;
  std::vector<double> sums(static_cast<std::size_t>(2 * blocks * n));
  const Array total = new_array(dgamma, NPY_FLOAT64);
  const RowKernels& kernel = kernels_of(x.dtype());
  const LayerNormFn fn = centred ? kernel.layer_norm_backward : kernel.rms_norm_backward;
  {
    py::gil_scoped_release release;
    parallel_for(blocks, kBackwardNs * static_cast<double>(block * n), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      for (std::ptrdiff_t b = begin; b < end; ++b) {
        LayerNorm part = layer;
        part.dgamma = sums.data() + 2 * b * n;
        part.dbeta = centred ? part.dgamma + n : nullptr;
        fn(part, b * block, std::min(rows, (b + 1) * block));
      }
    });
  }
  store_sums(sums, blocks, n, 0, total, dgamma);
  if (!centred) return py::make_tuple(dx.object(), dgamma.object());
  store_sums(sums, blocks, n, 1, total, dbeta);
  return py::make_tuple(dx.object(), dgamma.object(), dbeta.object());
}

}  // namespace

void bind_layer_norm(py::module_& module) {
  module.def("layer_norm", &layer_norm);
  module.def("layer_norm_backward", &layer_norm_backward);
}

}  // namespace nnfast
