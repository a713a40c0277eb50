#include "ops/activations.hpp"

#include <array>
#include <cmath>
#include <string>

#include "bindings/arrays.hpp"
#include "bindings/bfloat16.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"
#include "bindings/ufuncs.hpp"

namespace nnfast {
namespace {

const Elementwise& pick_forward(const KernelTable& table, int index) { return table.activations->forward[index]; }
const Elementwise& pick_backward(const KernelTable& table, int index) { return table.activations->backward[index]; }

// A parameter as an array without axes, of the dtype that the loop takes; none where that has no such number, as then
// NumPy decides whether to warn.
Array parameter_of(double number, int dtype) {
  const auto narrow = static_cast<float>(number);
  if (dtype == NPY_FLOAT32 && std::isinf(narrow) && !std::isinf(number)) return {};
  const Array parameter = new_array({}, dtype);
  dtype == NPY_FLOAT64 ? *parameter.as<double>() = number : *parameter.as<float>() = narrow;
  return parameter;
}

// The ufunc of arrays and parameters as NumPy calls it.
py::object call_by_numpy(py::handle ufunc, std::span<const py::handle> arrays, std::span<const double> parameters,
                         int dtype, const py::dict& keywords) {
  std::array<PyObject*, kMaxElementwiseArrays> arguments;
  std::array<Array, kMaxElementwiseArrays> made;
  std::size_t count = 0;
  for (const py::handle array : arrays) arguments[count++] = array.ptr();
  for (const double parameter : parameters) {
    if (!(made[count] = parameter_of(parameter, dtype))) return py::none();
    arguments[count] = made[count].object().ptr();
    ++count;
  }
  const auto result = py::reinterpret_steal<py::object>(
      PyObject_VectorcallDict(ufunc.ptr(), arguments.data(), count, keywords.size() > 0 ? keywords.ptr() : nullptr));
  if (!result) throw py::error_already_set();
  return result;
}

// The ufunc of plain arrays and parameters that are Python's floats, or None: then it must be called with those, which
// NumPy converts in 0.4 microseconds each. keywords: of the ufunc; `out` alone decides on no dtype.
py::object call_with_parameters(py::handle ufunc, const py::tuple& arrays_in, const py::tuple& parameters_in,
                                const py::dict& keywords) {
  std::array<py::handle, kMaxElementwiseArrays> arrays;
  std::array<double, kMaxElementwiseArrays> parameters;
  std::size_t count = 0, numbers = 0;
  int dtype = NPY_FLOAT32;
  for (const py::handle array : arrays_in) {
    if (!PyArray_CheckExact(array.ptr())) return py::none();
    const int given = PyArray_TYPE(reinterpret_cast<PyArrayObject*>(array.ptr()));
    if (given != NPY_HALF && given != NPY_FLOAT32 && given != NPY_FLOAT64 &&
        !is_bfloat16(reinterpret_cast<PyArrayObject*>(array.ptr())))
      return py::none();
    if (given == NPY_FLOAT64) dtype = given;
    arrays[count++] = array;
  }
  py::handle out = Py_None;
  if (keywords.size() > 0) {
    out = PyDict_GetItemString(keywords.ptr(), "out");
    if (keywords.size() > 1 || !out || !PyArray_CheckExact(out.ptr())) return py::none();
  }
  for (const py::handle parameter : parameters_in) {
    if (!PyFloat_CheckExact(parameter.ptr())) return py::none();
    parameters[numbers++] = PyFloat_AS_DOUBLE(parameter.ptr());
  }
  const std::span<const py::handle> given(arrays.data(), count);
  const std::span<const double> values(parameters.data(), numbers);
  if (py::object result = call_plainly(ufunc, given, values, out)) return result;
  return call_by_numpy(ufunc, given, values, dtype, keywords);
}

// Whether weight broadcasts to x along neighbouring axes and nowhere else, or is one for all of x.
bool find_channels(const Array& x, const Array& weight, ChannelShape& found) {
  const int missing = x.ndim() - weight.ndim();
  if (missing < 0) return false;
  bool before = true, after = false;
  for (int d = 0; d < x.ndim(); ++d) {
    const std::ptrdiff_t n = x.shape(d), w = d < missing ? 1 : weight.shape(d - missing);
    if (w == 1) {
      after = after || !before;
      (before ? found.outer : found.inner) *= n;
    } else {
      if (w != n || after) return false;
      before = false;
      found.channels *= n;
    }
  }
  if (before) std::swap(found.outer, found.inner);
  return true;
}

bool is_contiguous(const Array& array, int dtype) {
  return PyArray_CheckExact(array.object().ptr()) && array.dtype() == dtype && PyArray_ISCARRAY_RO(array.get());
}

// prelu(x, weight) or prelu_backward(dy, x, weight) of contiguous arrays with a weight a channel, or None: then the
// ufunc must be called. NumPy hands a ufunc one row after another: slow where they are short, and too little for a
// second thread.
py::object prelu_by_channel(bool backward, const py::list& inputs, py::handle weight_in, py::handle out) {
  constexpr int kIndex = static_cast<int>(Activation::PRelu);
  const int count = static_cast<int>(inputs.size());
  const auto usable = [](py::handle value) { return PyArray_CheckExact(value.ptr()); };
  Array arrays[3];
  for (int a = 0; a < count; ++a) {
    if (!usable(inputs[a])) return py::none();
    arrays[a] = any_array(inputs[a], "x");
  }
  const Array& x = arrays[0];
  const int dtype = x.dtype();
  if (x.size() == 0 || (dtype != NPY_FLOAT32 && dtype != NPY_FLOAT64) || !usable(weight_in)) return py::none();
  const Array weight = any_array(weight_in, "weight");
  ChannelShape shape;
  if (!is_contiguous(weight, dtype) || !find_channels(x, weight, shape)) return py::none();
  for (int a = 0; a < count; ++a)
    if (!is_contiguous(arrays[a], dtype) || !PyArray_SAMESHAPE(arrays[a].get(), x.get())) return py::none();
  if (!out.is_none()) {
    if (!usable(out)) return py::none();
    const Array y = any_array(out, "out");
    if (!is_contiguous(y, dtype) || !PyArray_ISWRITEABLE(y.get()) || !PyArray_SAMESHAPE(y.get(), x.get()))
      return py::none();
    if (share_memory(y, weight)) return py::none();
    for (int a = 0; a < count; ++a)
      if (y.data() != arrays[a].data() && share_memory(y, arrays[a])) return py::none();
    arrays[count] = y;
  } else {
    arrays[count] = new_array(x, dtype);
  }
  const KernelTable& table = kernels();
  const Elementwise& kernel = backward ? table.activations->backward[kIndex] : table.activations->forward[kIndex];
  char* const data[3] = {arrays[0].data(), arrays[1].data(), count > 1 ? arrays[2].data() : nullptr};
  unsigned raised = 0;
  {
    const ReleasedGil released(x.size());
    raised = prelu_channels(kernel, x.floating(), shape, data, count, weight.data());
  }
  report(backward ? "prelu_backward" : "prelu", raised);
  return arrays[count].object();
}

// The axes [from, to) of dy and x, which have one shape.
StridedArrays<2> axes_of(const Array& dy, const Array& x, int from, int to) {
  StridedArrays<2> axes;
  axes.ndim = to - from;
  for (int d = from; d < to; ++d) {
    axes.shape[d - from] = x.shape(d);
    axes.strides[0][d - from] = dy.stride(d);
    axes.strides[1][d - from] = x.stride(d);
  }
  axes.data[0] = dy.data();
  axes.data[1] = x.data();
  axes.coalesce();
  return axes;
}

// dy, x: the weight's axes first, then those summed over.
py::object prelu_weight_backward(py::handle dy_in, py::handle x_in, int kept_axes) {
  const Array x = read_floats(x_in, "x");
  const Array dy = read_as(dy_in, x.dtype(), "dy");
  const StridedArrays<2> kept = axes_of(dy, x, 0, kept_axes), summed = axes_of(dy, x, kept_axes, x.ndim());
  const Array dweight = new_array({kept.size()}, x.dtype());
  {
    const ReleasedGil released(x.size());
    prelu_weight_gradient(x.floating(), kept, summed, dweight.data());
  }
  return dweight.object();
}

// x: `pieces` times as long along the axis as y and which.
void run_maxout(const PerDtype<MaxoutFn>& kernel, const Array& x, const Array& y, const Array& which, int axis,
                std::ptrdiff_t pieces) {
  StridedArrays<3> arrays;
  arrays.ndim = y.ndim();
  for (int d = 0; d < y.ndim(); ++d) {
    arrays.shape[d] = y.shape(d);
    arrays.strides[0][d] = y.stride(d);
    arrays.strides[1][d] = which.stride(d);
    arrays.strides[2][d] = x.stride(d) * (d == axis ? pieces : 1);
  }
  arrays.data[0] = y.data();
  arrays.data[1] = which.data();
  arrays.data[2] = x.data();
  py::gil_scoped_release release;
  maxout(kernel, x.floating(), arrays, pieces, x.stride(axis));
}

void maxout_forward(py::handle x_in, py::handle y, py::handle which, int axis, std::ptrdiff_t pieces) {
  const Array x = read_floats(x_in, "x");
  run_maxout(kernels().activations->maxout, x, written(y, x.dtype(), "out"), written(which, NPY_UINT8, "which"), axis,
             pieces);
}

void maxout_backward(py::handle dy_in, py::handle which, py::handle dx, int axis, std::ptrdiff_t pieces) {
  const Array dy = read_floats(dy_in, "dy");
  run_maxout(kernels().activations->maxout_backward, written(dx, dy.dtype(), "out"), dy,
             Array(py::reinterpret_borrow<py::object>(which)), axis, pieces);
}

// All elementwise functions by name; docs has a text for each and its gradient.
py::dict make_activations(const py::dict& docs) {
  py::dict ufuncs;
  const auto add = [&](const char* name, int inputs, int params, PickElementwise pick, int index, Cost cost) {
    ufuncs[name] = make_ufunc({name, docs[name].cast<std::string>(), inputs, params, pick, index, cost});
  };
#define NNFAST_ADD(formula, name, params)                                                                \
  add(name, 1 + params, params, pick_forward, static_cast<int>(Activation::formula), listed_cost(name)); \
  add(name "_backward", 2 + params, params, pick_backward, static_cast<int>(Activation::formula),        \
      listed_cost(name "_backward"));
  NNFAST_ACTIVATIONS(NNFAST_ADD)
#undef NNFAST_ADD
  return ufuncs;
}

}  // namespace

void bind_activations(py::module_& module) {
  def<&make_activations>(module, "make_activations");
  def<&call_with_parameters>(module, "call_with_parameters");
  def<&prelu_by_channel>(module, "prelu_by_channel");
  def<&prelu_weight_backward>(module, "prelu_weight_backward");
  def<&maxout_forward>(module, "maxout");
  def<&maxout_backward>(module, "maxout_backward");
}

}  // namespace nnfast
