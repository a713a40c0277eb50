#include "ops/normalization.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/axes.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"

namespace nnfast {
namespace {

int channel_axis(const Array& x, int axis) {
  const int n = x.ndim();
  if (n < 2) throw py::value_error("x must have at least 2 axes, got shape " + shape_text(x));
  if (axis < -n || axis >= n)
    throw py::value_error("axis must be an axis of x with shape " + shape_text(x) + ", got " + std::to_string(axis));
  return (axis + n) % n;
}

// The channels of a batch as sets. The layout of a mask must follow from the shape alone: its rows are members where no
// axis follows the channels'.
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
  norm.halves = true;
  norm.across = masked ? product(x, channel + 1, x.ndim()) == 1 : sets_lie_closer(norm);
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
  return norm;
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

// A double a channel. Few of them need no memory, of which a call takes five such arrays.
class Doubles {
 public:
  Doubles() = default;
  explicit Doubles(std::ptrdiff_t size) : size_(size) {
    if (size > kFew) many_ = std::make_unique_for_overwrite<double[]>(static_cast<std::size_t>(size));
  }
  double* data() { return size_ > kFew ? many_.get() : few_; }
  const double* data() const { return size_ > kFew ? many_.get() : few_; }
  const double* begin() const { return data(); }
  const double* end() const { return data() + size_; }

 private:
  static constexpr std::ptrdiff_t kFew = 32;
  std::ptrdiff_t size_ = 0;
  double few_[kFew];
  std::unique_ptr<double[]> many_;
};

// A view with one axis of an array with one value a channel: of shape (C,), (1, C), or one that broadcasts to x, as
// (1, C, 1, 1) and, where the samples are columns, (C, 1).
Array vector_of(const Array& given, const Array& x, int channel, const char* name) {
  const npy_intp channels = x.shape(channel);
  const int last = given.ndim() - 1, broadcast = given.ndim() - (x.ndim() - channel);
  const auto lies_along = [&](int axis) { return axis >= 0 && given.shape(axis) == channels; };
  const int axis = given.ndim() <= 2 && lies_along(last) ? last : broadcast;
  if (last < 1 || given.size() != channels || !lies_along(axis)) {
    require_shape(given, {channels}, name);
    return given;
  }
  npy_intp stride = given.stride(axis);
  // A plain ndarray, as a matrix has two axes whatever it is asked for.
  PyObject* view = PyArray_New(&PyArray_Type, 1, &channels, given.dtype(), &stride, given.data(), 0,
                               PyArray_FLAGS(given.get()) & NPY_ARRAY_WRITEABLE, nullptr);
  if (!view) throw py::error_already_set();
  const Array vector(py::reinterpret_steal<py::object>(view));
  if (PyArray_SetBaseObject(vector.get(), given.object().inc_ref().ptr()) != 0) throw py::error_already_set();
  return vector;
}

// One double a channel: the given values, or `missing` everywhere. `shape` becomes that of an array with other axes.
Doubles read_channels(py::handle value, const Array& x, int channel, double missing, const char* name,
                      Shape* shape = nullptr) {
  Doubles values(x.shape(channel));
  if (value.is_none()) {
    std::fill_n(values.data(), x.shape(channel), missing);
    return values;
  }
  const Array given = read_floats(value, name), vector = vector_of(given, x, channel, name);
  if (shape && given.ndim() != 1) *shape = shape_of(given);
  given.is_float64() ? copy_doubles<double>(vector, values.data()) : copy_doubles<float>(vector, values.data());
  return values;
}

// Scale and shift. Their gradients have the shape of the scale, so the shift must have it, too.
struct Affine {
  Doubles gamma, beta;

  Affine(py::handle gamma_in, py::handle beta_in, const Array& x, int channel) {
    Shape shape, beta_shape;
    gamma = read_channels(gamma_in, x, channel, 1, "gamma", &shape);
    beta = read_channels(beta_in, x, channel, 0, "beta", &beta_shape);
    if (gamma_in.is_none() || beta_in.is_none() || beta_shape == shape) return;
    const Shape vector{x.shape(channel)};
    throw py::value_error("beta must have the shape of gamma, " + shape_text(shape.empty() ? vector : shape) +
                          ", got " + shape_text(beta_shape.empty() ? vector : beta_shape));
  }
};

// Where the gradient with respect to scale or shift goes: `out`, or a new array of the shape that read_channels found.
struct ParameterGradient {
  Array array, vector;

  ParameterGradient(py::handle out, const Array& x, int channel, const Shape& shape, const char* name,
                    std::initializer_list<Apart> others)
      : array(!out.is_none()  ? written(out, parameter_dtype(x), name)
              : shape.empty() ? new_array({x.shape(channel)}, parameter_dtype(x))
                              : new_array(shape, parameter_dtype(x))),
        vector(vector_of(array, x, channel, name)) {
    if (out.is_none()) return;
    for (const auto& [other, other_name] : others)
      if (*other) require_disjoint(array, name, *other, other_name);
  }
};

// An argument that no output may overlap; empty where it was no array.
Array given_array(py::handle value) {
  return PyArray_Check(value.ptr()) ? Array(py::reinterpret_borrow<py::object>(value)) : Array{};
}

// A running statistic that training updates, or an empty Array for None.
Array running(py::handle value, const Array& x, int channel, const char* name) {
  if (value.is_none()) return {};
  const Array array = vector_of(written(value, parameter_dtype(x), name), x, channel, name);
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

void store(const Array& array, const std::vector<double>& values) {
  transform(array, [&](double, std::ptrdiff_t c) { return values[static_cast<std::size_t>(c)]; });
}

// Returns whether an element became infinite: finite values have overflowed, as infinite ones have NaN for a variance.
bool update_running(const Array& array, const double* batch, double momentum, double factor) {
  if (!array) return false;
  const double limit = array.is_float64() ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();
  const double kept = 1 - momentum, taken = momentum * factor;
  bool overflowed = false;
  transform(array, [&](double old, std::ptrdiff_t c) {
    const double updated = kept * old + taken * batch[c];
    overflowed |= (std::abs(updated) > limit) & (std::abs(old) <= limit);
    return updated;
  });
  return overflowed;
}

// What numpy.errstate(over=...) says to do about an overflow in the function of that name.
void report_overflow(const char* function) {
  if (PyUFunc_GiveFloatingpointErrors(function, NPY_FPE_OVERFLOW) != 0) throw py::error_already_set();
}

void require_statistics(const Doubles& variance) {
  bool right = true;
  for (const double value : variance) right &= value >= 0;  // in vectors, as find_if is not
  if (right) return;
  const auto* wrong = std::find_if(variance.begin(), variance.end(), [](double value) { return !(value >= 0); });
  throw py::value_error("running_var must not be negative or NaN, got " + std::string(py::str(py::float_(*wrong))) +
                        " for channel " + std::to_string(wrong - variance.begin()));
}

// An array of this shape in the memory of one that is no longer needed, if that is large enough; else in new memory.
Array reused(py::handle value, const std::vector<std::ptrdiff_t>& shape, int dtype) {
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

// The shape of a mask: a row of bits a channel or, across, a member; a multiple of 64 bits each.
std::vector<std::ptrdiff_t> mask_shape(const Normalization& norm) {
  const std::ptrdiff_t rows = norm.across ? norm.member_count : norm.set_count;
  const std::ptrdiff_t bits = norm.across ? norm.set_count : norm.member_count;
  return {rows, (bits + 63) / 64 * 8};
}

void use_bits(Normalization& norm, const Array& mask) {
  norm.bits = mask.as<std::uint8_t>();
  norm.bits_stride = mask.shape(1);
}

void require_momentum(double momentum) {
  if (!(momentum >= 0 && momentum <= 1))
    throw py::value_error("momentum must be in [0, 1], got " + std::string(py::str(py::float_(momentum))));
}

// Values a channel.
std::ptrdiff_t count_values(const Array& x, int channel) { return x.shape(channel) ? x.size() / x.shape(channel) : 0; }

py::tuple batch_norm(py::handle x_in, py::handle gamma_in, py::handle beta_in, py::handle running_mean_in,
                     py::handle running_var_in, bool training, double momentum, double eps, int axis, int correction,
                     bool relu, py::handle add_in, py::handle out, py::handle reuse_mean, py::handle reuse_inv_std,
                     py::handle reuse_mask, py::handle saved_type) {
  const Array x = read_floats_or_float16(x_in, "x");
  const int channel = channel_axis(x, axis);
  const std::ptrdiff_t channels = x.shape(channel), count = count_values(x, channel);
  if (training && channels && count < 2)
    throw py::value_error("x must have at least 2 values a channel in training, got shape " + shape_text(x));
  require_eps(eps);
  require_momentum(momentum);
  const auto [gamma, beta] = Affine(gamma_in, beta_in, x, channel);
  if (running_mean_in.is_none() != running_var_in.is_none())
    throw py::value_error("running_mean and running_var must be given together");
  if (!training && running_mean_in.is_none())
    throw py::value_error("running_mean and running_var must be given when training=False");
  Array add;
  if (!add_in.is_none()) {
    add = read_as(add_in, x, "add");
    require_shape(add, x, "add", "x");
  }

  Array running_mean, running_var;
  const Doubles given_mean = read_channels(running_mean_in, x, channel, 0, "running_mean");
  Doubles variance =
      read_channels(running_var_in, x, channel, 1, "running_var");  // in training the batch's replaces it
  require_statistics(variance);
  if (training) {
    running_mean = running(running_mean_in, x, channel, "running_mean");
    running_var = running(running_var_in, x, channel, "running_var");
    if (running_mean) require_disjoint(running_mean, "running_mean", running_var, "running_var");
  }
  const Array y = output(out, x, "out", "x");
  if (add) require_no_partial_overlap(y, "out", add, "add");
  for (const auto& [array, name] : {std::pair{&running_mean, "running_mean"}, {&running_var, "running_var"}}) {
    if (!*array) continue;
    require_disjoint(*array, name, y, "out");
    if (add) require_disjoint(*array, name, add, "add");
  }

  Normalization norm = channels_of({&x, &y, add ? &add : nullptr, nullptr}, channel, relu);
  norm.gamma = gamma.data();
  norm.beta = beta.data();
  norm.eps = eps;
  Array mask;
  if (relu) {
    use_bits(norm, mask = reused(reuse_mask, mask_shape(norm), NPY_UINT8));
    std::fill_n(mask.as<char>(), mask.size(), char{0});
  }
  const Array mean = reused(reuse_mean, {channels}, NPY_FLOAT64);
  const Array inv_std = reused(reuse_inv_std, {channels}, NPY_FLOAT64);
  const SetStatistics statistics{mean.as<double>(), variance.data(), inv_std.as<double>()};
  if (!training) std::copy(given_mean.begin(), given_mean.end(), statistics.mean);
  {
    const ReleasedGil released(x.size());
    (training ? normalise_by_own : normalise_by_given)(x.floating(), norm, statistics);
  }
  if (training) {
    const double n = static_cast<double>(count);
    update_running(running_mean, statistics.mean, momentum, 1);
    if (update_running(running_var, statistics.variance, momentum, n / (n - correction))) report_overflow("batch_norm");
  }
  return py::make_tuple(y.result(),
                        named_tuple(saved_type, {mean.object(), inv_std.object(), py::int_(axis), py::bool_(training),
                                                 mask ? mask.object() : py::none(), py::bool_(!add_in.is_none())}));
}

// What the gradients of batch_norm are computed from.
struct GradientInputs {
  Array x, dy;
  int channel;
  std::ptrdiff_t channels;
  Shape parameter_shape;
  Doubles gamma, mean, inv_std;

  GradientInputs(py::handle dy_in, py::handle x_in, py::handle gamma_in, py::handle mean_in, py::handle inv_std_in,
                 int axis)
      : x(read_floats_or_float16(x_in, "x")),
        dy(read_as(dy_in, x, "dy")),
        channel(channel_axis(x, axis)),
        channels(x.shape(channel)),
        gamma(read_channels(gamma_in, x, channel, 1, "gamma", &parameter_shape)),
        mean(read_channels(mean_in, x, channel, 0, "saved.mean")),
        inv_std(read_channels(inv_std_in, x, channel, 1, "saved.inv_std")) {
    require_shape(dy, x, "dy", "x");
  }

  Normalization problem(const Array* dx, const Array* dadd = nullptr, bool masked = false) const {
    Normalization norm = channels_of({&dy, &x, dx, dadd}, channel, masked);
    norm.gamma = gamma.data();
    norm.mean = mean.data();
    norm.inv_std = inv_std.data();
    return norm;
  }
};

Array checked_bits(py::handle mask_in, const Normalization& norm) {
  if (!PyArray_Check(mask_in.ptr())) throw py::type_error("saved.mask must be what batch_norm returned");
  const Array mask(py::reinterpret_borrow<py::object>(mask_in));
  if (mask.dtype() != NPY_UINT8 || !PyArray_IS_C_CONTIGUOUS(mask.get()))
    throw py::type_error("saved.mask must be what batch_norm returned");
  require_shape(mask, mask_shape(norm), "saved.mask");
  return mask;
}

py::tuple batch_norm_backward(py::handle dy_in, py::handle x_in, py::handle gamma_in, py::handle mean_in,
                              py::handle inv_std_in, int axis, bool training, py::handle mask_in, bool add,
                              py::handle dx_out, py::handle dgamma_out, py::handle dbeta_out, py::handle dadd_out) {
  const GradientInputs inputs(dy_in, x_in, gamma_in, mean_in, inv_std_in, axis);
  const Array &x = inputs.x, &dy = inputs.dy;
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
    return ParameterGradient(out, x, inputs.channel, inputs.parameter_shape, name,
                             {{&x, "x"}, {&dy, "dy"}, {&dx, "out[0]"}, {&dadd, "out[3]"}, {&given_gamma, "gamma"}});
  };
  const ParameterGradient dgamma = parameter(dgamma_out, "out[1]"), dbeta = parameter(dbeta_out, "out[2]");
  require_disjoint(dgamma.array, "out[1]", dbeta.array, "out[2]");

  const bool masked = !mask_in.is_none();
  Normalization norm = inputs.problem(&dx, dadd ? &dadd : nullptr, masked);
  Array mask;
  if (masked) use_bits(norm, mask = checked_bits(mask_in, norm));
  ParameterGradients gradients;
  {
    const ReleasedGil released(x.size());
    gradients = normalise_backward(x.floating(), norm, training);
  }
  store(dgamma.vector, gradients.dgamma);
  store(dbeta.vector, gradients.dbeta);
  if (!add) return py::make_tuple(dx.result(), dgamma.array.object(), dbeta.array.object());
  return py::make_tuple(dx.result(), dgamma.array.object(), dbeta.array.object(), (dadd ? dadd : dy).result());
}

// Count, mean and sum of squares about it, and what rounding took from these, a channel each.
py::tuple batch_norm_stats(py::handle x_in, int axis) {
  const Array x = read_floats_or_float16(x_in, "x");
  const int channel = channel_axis(x, axis);
  const std::ptrdiff_t channels = x.shape(channel), count = count_values(x, channel);
  const auto per_channel = [&] { return new_array({channels}, NPY_FLOAT64); };
  const Array mean = per_channel(), m2 = per_channel(), mean_low = per_channel(), m2_low = per_channel();
  const SetStatistics statistics{mean.as<double>(), m2.as<double>(), nullptr, mean_low.as<double>(),
                                 m2_low.as<double>()};
  if (count > 0) {
    const Normalization norm = channels_of({&x, nullptr, nullptr, nullptr}, channel, false);
    bool overflowed = false;
    {
      const ReleasedGil released(x.size());
      set_moments(x.floating(), norm, statistics);
      for (std::ptrdiff_t c = 0; c < channels; ++c) {
        double &high = statistics.variance[c], &low = statistics.variance_low[c];
        const double n = static_cast<double>(count), product = high * n;
        low = std::isfinite(product) ? std::fma(high, n, -product) + low * n : 0;
        high = product;
        overflowed |= std::isinf(product);
      }
    }
    if (overflowed) report_overflow("batch_norm_stats");
  } else {
    for (double* values : {statistics.mean, statistics.variance, statistics.mean_low, statistics.variance_low})
      std::fill_n(values, channels, 0.0);
  }
  return py::make_tuple(count, mean.object(), m2.object(), mean_low.object(), m2_low.object());
}

// What a part of a batch adds to dgamma and dbeta, in double.
py::tuple batch_norm_parameter_gradients(py::handle dy_in, py::handle x_in, py::handle mean_in, py::handle inv_std_in,
                                         int axis) {
  const GradientInputs inputs(dy_in, x_in, py::none(), mean_in, inv_std_in, axis);
  const Array dgamma = new_array({inputs.channels}, NPY_FLOAT64), dbeta = new_array(dgamma, NPY_FLOAT64);
  ParameterGradients gradients;
  {
    const ReleasedGil released(inputs.x.size());
    gradients = parameter_gradients(inputs.x.floating(), inputs.problem(nullptr));
  }
  store(dgamma, gradients.dgamma);
  store(dbeta, gradients.dbeta);
  return py::make_tuple(dgamma.object(), dbeta.object());
}

// dx of a part, by dgamma and dbeta of the whole batch, which has `count` values a channel.
py::object batch_norm_input_gradient(py::handle dy_in, py::handle x_in, py::handle gamma_in, py::handle mean_in,
                                     py::handle inv_std_in, py::handle dgamma_in, py::handle dbeta_in,
                                     std::ptrdiff_t count, int axis) {
  const GradientInputs inputs(dy_in, x_in, gamma_in, mean_in, inv_std_in, axis);
  const Doubles dgamma = read_channels(dgamma_in, inputs.x, inputs.channel, 0, "dgamma"),
                dbeta = read_channels(dbeta_in, inputs.x, inputs.channel, 0, "dbeta");
  const Array dx = output(py::none(), inputs.x, "out", "x");
  {
    const ReleasedGil released(inputs.x.size());
    input_gradient(inputs.x.floating(), inputs.problem(&dx), dgamma.data(), dbeta.data(), count);
  }
  return dx.result();
}

void require_groups(const Array& x, std::ptrdiff_t groups) {
  if (x.ndim() < 2) throw py::value_error("x must have at least 2 axes, got shape " + shape_text(x));
  if (groups < 1 || x.shape(1) % groups != 0)
    throw py::value_error("num_groups must divide the " + std::to_string(x.shape(1)) + " channels, got " +
                          std::to_string(groups));
}

// x: (N, C, ...). `axis` is where the caller has the channels, for `saved_type`.
py::tuple group_norm(py::handle x_in, std::ptrdiff_t groups, py::handle gamma_in, py::handle beta_in, double eps,
                     int axis, py::handle out, py::handle saved_type) {
  const Array x = read_floats_or_float16(x_in, "x");
  require_groups(x, groups);
  require_eps(eps);
  const auto [gamma, beta] = Affine(gamma_in, beta_in, x, 1);
  const Array y = output(out, x, "out", "x");
  const Array mean = new_array({x.shape(0), groups}, NPY_FLOAT64), inv_std = new_array(mean, NPY_FLOAT64);
  Doubles variance(mean.size());
  Normalization norm = groups_of({&x, &y, nullptr, nullptr}, groups);
  norm.gamma = gamma.data();
  norm.beta = beta.data();
  norm.eps = eps;
  if (norm.member_count > 0) {
    const ReleasedGil released(x.size());
    normalise_by_own(x.floating(), norm, {mean.as<double>(), variance.data(), inv_std.as<double>()});
  }
  return py::make_tuple(y.result(), named_tuple(saved_type, {mean.object(), inv_std.object(), py::int_(axis)}));
}

py::tuple group_norm_backward(py::handle dy_in, py::handle x_in, py::handle gamma_in, py::handle mean_in,
                              py::handle inv_std_in, std::ptrdiff_t groups, py::handle dx_out, py::handle dgamma_out,
                              py::handle dbeta_out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Array dy = read_as(dy_in, x, "dy");
  require_groups(x, groups);
  require_shape(dy, x, "dy", "x");
  Shape parameter_shape;
  const Doubles gamma = read_channels(gamma_in, x, 1, 1, "gamma", &parameter_shape);
  const Array mean = contiguous(read_as(mean_in, NPY_FLOAT64, "saved.mean")),
              inv_std = contiguous(read_as(inv_std_in, NPY_FLOAT64, "saved.inv_std"));
  require_shape(mean, {x.shape(0), groups}, "saved.mean");
  require_shape(inv_std, {x.shape(0), groups}, "saved.inv_std");
  const Array dx = output(dx_out, x, "out[0]", "x"), given_gamma = given_array(gamma_in);
  require_no_partial_overlap(dx, "out[0]", dy, "dy");
  require_disjoint(dx, "out[0]", mean, "saved.mean");
  require_disjoint(dx, "out[0]", inv_std, "saved.inv_std");
  const auto parameter = [&](py::handle out, const char* name) {
    return ParameterGradient(out, x, 1, parameter_shape, name,
                             {{&x, "x"}, {&dy, "dy"}, {&dx, "out[0]"}, {&given_gamma, "gamma"}});
  };
  const ParameterGradient dgamma = parameter(dgamma_out, "out[1]"), dbeta = parameter(dbeta_out, "out[2]");
  require_disjoint(dgamma.array, "out[1]", dbeta.array, "out[2]");

  Normalization norm = groups_of({&dy, &x, &dx, nullptr}, groups);
  norm.gamma = gamma.data();
  norm.mean = mean.as<const double>();
  norm.inv_std = inv_std.as<const double>();
  ParameterGradients gradients;
  {
    const ReleasedGil released(x.size());
    gradients = normalise_backward(x.floating(), norm, true);
  }
  store(dgamma.vector, gradients.dgamma);
  store(dbeta.vector, gradients.dbeta);
  return py::make_tuple(dx.result(), dgamma.array.object(), dbeta.array.object());
}

}  // namespace

void bind_normalization(py::module_& module) {
  def<&batch_norm>(module, "batch_norm");
  def<&batch_norm_backward>(module, "batch_norm_backward");
  def<&batch_norm_stats>(module, "batch_norm_stats");
  def<&batch_norm_parameter_gradients>(module, "batch_norm_parameter_gradients");
  def<&batch_norm_input_gradient>(module, "batch_norm_input_gradient");
  def<&group_norm>(module, "group_norm");
  def<&group_norm_backward>(module, "group_norm_backward");
}

}  // namespace nnfast
