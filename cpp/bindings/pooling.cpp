#include "ops/pooling.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"
#include "bindings/ufuncs.hpp"

namespace nnfast {
namespace {

using Index = std::ptrdiff_t;
constexpr Index kMost = Index{1} << 31;

std::string text_of(py::handle value) { return py::str(value); }
std::string type_of(py::handle value) { return text_of(py::type::handle_of(value).attr("__name__")); }

py::tuple tuple_of(const Shape& values) {
  py::tuple made(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) made[i] = py::int_(values[i]);
  return made;
}

// ---- numbers ----

// One that is too large for an Index is the largest.
Index integer(py::handle value, const char* name) {
  const Index number = PyIndex_Check(value.ptr()) ? PyNumber_AsSsize_t(value.ptr(), nullptr) : -1;
  const bool failed = number == -1 && (!PyIndex_Check(value.ptr()) || PyErr_Occurred());
  if (!failed) return number;
  if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
  PyErr_Clear();
  throw py::type_error(std::string(name) + " must be an int, got " + type_of(value));
}

bool is_sequence(py::handle value) { return PyTuple_Check(value.ptr()) || PyList_Check(value.ptr()); }

// Calls body(item) for those of a tuple or list, which may get shorter meanwhile.
template <class Body>
void for_items(py::handle sequence, Body body) {
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(sequence.ptr()); ++i)
    body(py::reinterpret_borrow<py::object>(PySequence_Fast_GET_ITEM(sequence.ptr(), i)));
}

// An int, or one for each axis of a plane, from `low` on and below 2^31.
Shape read_sides(py::handle value, int dims, Index low, const char* name) {
  Shape sides;
  if (is_sequence(value)) {
    for_items(value, [&](const py::object& item) { sides.push_back(integer(item, name)); });
    if (std::ssize(sides) != dims)
      throw py::value_error(std::string(name) + " must be an int or " + std::to_string(dims) + " of them, got " +
                            text_of(value));
  } else {
    sides.assign(static_cast<std::size_t>(dims), integer(value, name));
  }
  if (std::any_of(sides.begin(), sides.end(), [&](Index side) { return side < low || side >= kMost; }))
    throw py::value_error(std::string(name) + " must be in [" + std::to_string(low) + ", 2**31), got " +
                          text_of(value));
  return sides;
}

Shape read_shape(py::handle value, const char* name) {
  if (!is_sequence(value)) throw py::type_error(std::string(name) + " must be a tuple of ints, got " + type_of(value));
  Shape shape;
  for_items(value, [&](const py::object& item) { shape.push_back(integer(item, name)); });
  if (std::any_of(shape.begin(), shape.end(), [](Index side) { return side < 0; }))
    throw py::value_error(std::string(name) + " must not be negative, got " + shape_text(shape));
  return shape;
}

// ---- planes and windows ----

// The axis of the channels, and those of a plane: all but that and the first.
struct PlaneAxes {
  int channel;
  std::vector<int> plane;
};

PlaneAxes read_axes(const Shape& shape, int dims, py::handle axis_in, const char* name) {
  const Index axis = integer(axis_in, "axis"), ndim = std::ssize(shape);
  if (ndim != dims + 2)
    throw py::value_error(std::string(name) + " must have " + std::to_string(dims + 2) + " axes, " +
                          (dims == 2 ? "(N, C, H, W)" : "(N, C, L)") + ", got shape " + shape_text(shape));
  if (axis < -ndim || axis >= ndim || axis == 0 || axis == -ndim)
    throw py::value_error("axis must name the channel axis of " + std::string(name) + " with shape " +
                          shape_text(shape) + ", which is not axis 0, got " + text_of(axis_in));
  PlaneAxes axes{static_cast<int>(axis < 0 ? axis + ndim : axis), {}};
  Index plane = 1;
  for (int d = 1; d < ndim; ++d)
    if (d != axes.channel) {
      axes.plane.push_back(d);
      plane *= std::min(shape[static_cast<std::size_t>(d)], kMost);
      plane = std::min(plane, kMost);
    }
  if (plane == 0 || plane == kMost)
    throw py::value_error(std::string(name) + " must have planes of 1 to 2**31 - 1 elements, got shape " +
                          shape_text(shape) + ", channels along axis " + std::to_string(axes.channel));
  return axes;
}

Index divided_down(Index a, Index b) { return a / b - (a % b < 0); }

// The sides of a window and the steps between windows, a value for each axis of a plane.
struct Window {
  Shape kernel, stride, padding, dilation;

  // stride: that of the kernel for None. half: whether the padding is at most half of the kernel.
  Window(int dims, py::handle kernel_in, py::handle stride_in, py::handle padding_in, py::handle dilation_in, bool half)
      : kernel(read_sides(kernel_in, dims, 1, "kernel_size")),
        stride(stride_in.is_none() ? kernel : read_sides(stride_in, dims, 1, "stride")),
        padding(read_sides(padding_in, dims, 0, "padding")),
        dilation(dilation_in ? read_sides(dilation_in, dims, 1, "dilation") : Shape(kernel.size(), 1)) {
    for (std::size_t k = 0; half && k < kernel.size(); ++k)
      if (2 * padding[k] > kernel[k])
        throw py::value_error("padding must be at most half of kernel_size, " + std::to_string(kernel[k]) + ", got " +
                              std::to_string(padding[k]));
  }
};

// The windows over x, and the shape of y.
struct Windows : Window {
  PlaneAxes axes;
  Shape y;

  Windows(const Shape& x, int dims, py::handle kernel_in, py::handle stride_in, py::handle padding_in,
          py::handle dilation_in, bool ceil_mode, py::handle axis, bool half)
      : Window(dims, kernel_in, stride_in, padding_in, dilation_in, half), axes(read_axes(x, dims, axis, "x")), y(x) {
    for (std::size_t k = 0; k < kernel.size(); ++k) count(k, ceil_mode);
  }

 private:
  void count(std::size_t k, bool ceil_mode) {
    const auto d = static_cast<std::size_t>(axes.plane[k]);
    const Index n = y[d], padded = n + 2 * padding[k], extent = (kernel[k] - 1) * dilation[k] + 1;
    const Index room = padded - extent;
    Index windows = (ceil_mode ? -divided_down(-room, stride[k]) : divided_down(room, stride[k])) + 1;
    if (ceil_mode && (windows - 1) * stride[k] >= n + padding[k]) --windows;
    if (windows < 1)
      throw py::value_error("kernel_size must fit into x with its padding, " + std::to_string(padded) +
                            " elements along axis " + std::to_string(d) + ", got a window of " +
                            std::to_string(extent));
    y[d] = windows;
  }
};

PoolArray pool_array(const Array& array, const PlaneAxes& axes) {
  return {array.data(), axes.plane.size() == 1 ? 0 : array.stride(axes.plane[0]), array.stride(axes.plane.back()),
          array.stride(axes.channel)};
}

// Without windows, which some functions do not need.
PooledBatch batch_of(const Array& x, const Array& y, const PlaneAxes& axes) {
  const auto pool_axis = [&](int axis) { return PoolAxis{x.shape(axis), y.shape(axis), 1, 1, 0, 1}; };
  PooledBatch batch{};
  batch.dtype = x.floating();
  batch.images = x.shape(0);
  batch.plane.channels = x.shape(axes.channel);
  batch.plane.rows = axes.plane.size() == 1 ? PoolAxis{1, 1, 1, 1, 0, 1} : pool_axis(axes.plane[0]);
  batch.plane.columns = pool_axis(axes.plane.back());
  batch.plane.x = pool_array(x, axes);
  batch.plane.y = pool_array(y, axes);
  batch.x = x.stride(0);
  batch.y = y.stride(0);
  return batch;
}

void set_windows(PooledBatch& batch, const Windows& windows) {
  const std::size_t last = windows.kernel.size() - 1;
  const auto set = [&](PoolAxis& axis, std::size_t k) {
    axis.count = windows.y[static_cast<std::size_t>(windows.axes.plane[k])];
    axis.kernel = windows.kernel[k];
    axis.stride = windows.stride[k];
    axis.padding = windows.padding[k];
    axis.dilation = windows.dilation[k];
  };
  set(batch.plane.columns, last);
  if (last > 0) set(batch.plane.rows, 0);
}

// ---- functions ----

// Returns y and which; out: None, an array for y, or a pair.
py::tuple max_forward(int dims, py::handle x_in, py::handle kernel, py::handle stride, py::handle padding,
                      py::handle dilation, bool ceil_mode, py::handle axis, py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Windows windows(shape_of(x), dims, kernel, stride, padding, dilation, ceil_mode, axis, true);
  const bool pair = PyTuple_Check(out.ptr());
  if (pair && PyTuple_GET_SIZE(out.ptr()) != 2)
    throw py::type_error("out must be an array or a pair of them, the second for which");
  const py::handle y_out(pair ? PyTuple_GET_ITEM(out.ptr(), 0) : out.ptr());
  const py::handle which_out(pair ? PyTuple_GET_ITEM(out.ptr(), 1) : Py_None);
  const Array y = output(y_out, windows.y, x, pair ? "out[0]" : "out", {{&x, "x"}});
  const Array which = output(which_out, windows.y, NPY_INT32, "out[1]", {{&x, "x"}, {&y, "out[0]"}});
  PooledBatch batch = batch_of(x, y, windows.axes);
  set_windows(batch, windows);
  batch.plane.which = pool_array(which, windows.axes);
  batch.which = which.stride(0);
  {
    const ReleasedGil released(x.size());
    max_pool(batch);
  }
  return py::make_tuple(y.result(), which.object());
}

py::object max_backward(int dims, py::handle dy_in, py::handle which_in, py::handle shape_in, py::handle axis,
                        py::handle out) {
  const Shape shape = read_shape(shape_in, "shape");
  const PlaneAxes axes = read_axes(shape, dims, axis, "shape");
  if (!PyArray_Check(which_in.ptr())) throw py::type_error("which must be a numpy.ndarray, got " + type_of(which_in));
  const Array which = any_array(which_in, "which");
  if (which.dtype() != NPY_INT32 || !PyArray_ISNOTSWAPPED(which.get()))
    throw py::type_error("which must have dtype int32, got " + dtype_name(which));
  const Array dy = read_floats_or_float16(dy_in, "dy");
  const Array dx = output(out, shape, dy, "out", {{&dy, "dy"}, {&which, "which"}});
  bool fits = dy.ndim() == dx.ndim();
  for (int d = 0; fits && d < dy.ndim(); ++d)
    fits = dy.shape(d) == dx.shape(d) || std::find(axes.plane.begin(), axes.plane.end(), d) != axes.plane.end();
  if (!fits)
    throw py::value_error("dy must have the axes of x with shape " + shape_text(shape) +
                          ", with as many samples and channels, got " + shape_text(dy));
  require_shape(which, dy, "which", "dy");
  PooledBatch batch = batch_of(dx, dy, axes);
  batch.plane.which = pool_array(which, axes);
  batch.which = which.stride(0);
  unsigned raised = 0;
  {
    const ReleasedGil released(dx.size());
    raised = max_pool_backward(batch);
  }
  report("max_pool_backward", raised);
  return dx.result();
}

void average(const char* name, unsigned (*pool)(const PooledBatch&), const Array& x, const Array& y,
             const Windows& windows, bool counts_padding) {
  PooledBatch batch = batch_of(x, y, windows.axes);
  set_windows(batch, windows);
  batch.plane.counts_padding = counts_padding;
  unsigned raised = 0;
  {
    const ReleasedGil released(x.size());
    raised = pool(batch);
  }
  report(name, raised);
}

py::object avg_forward(int dims, py::handle x_in, py::handle kernel, py::handle stride, py::handle padding,
                       bool ceil_mode, bool counts_padding, py::handle axis, py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Windows windows(shape_of(x), dims, kernel, stride, padding, {}, ceil_mode, axis, true);
  const Array y = output(out, windows.y, x, "out", {{&x, "x"}});
  average("avg_pool", avg_pool, x, y, windows, counts_padding);
  return y.result();
}

// dy, and where dx goes.
struct Gradient {
  Array dy, dx;
  Gradient(py::handle dy_in, const Shape& y, const Shape& x, py::handle out) : dy(read_floats_or_float16(dy_in, "dy")) {
    if (!has_shape(dy, y))
      throw py::value_error("dy must have the shape of y, " + shape_text(y) + ", got " + shape_text(dy));
    dx = output(out, x, dy, "out", {{&dy, "dy"}});
  }
};

py::object avg_backward(int dims, py::handle dy_in, py::handle shape_in, py::handle kernel, py::handle stride,
                        py::handle padding, bool ceil_mode, bool counts_padding, py::handle axis, py::handle out) {
  const Shape shape = read_shape(shape_in, "shape");
  const Windows windows(shape, dims, kernel, stride, padding, {}, ceil_mode, axis, true);
  const Gradient gradient(dy_in, windows.y, shape, out);
  average("avg_pool_backward", avg_pool_backward, gradient.dx, gradient.dy, windows, counts_padding);
  return gradient.dx.result();
}

// Planes of x, and an element of y for each.
PooledBatch whole_planes(const Array& x, const Array& y, const PlaneAxes& axes) {
  PooledBatch batch = batch_of(x, x, axes);
  batch.plane.y = {y.data(), 0, 0, y.stride(1)};
  batch.y = y.stride(0);
  return batch;
}

py::object global_forward(int dims, py::handle x_in, py::handle axis, py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const PlaneAxes axes = read_axes(shape_of(x), dims, axis, "x");
  const Array y = output(out, {x.shape(0), x.shape(axes.channel)}, x, "out", {{&x, "x"}});
  const PooledBatch batch = whole_planes(x, y, axes);
  {
    const ReleasedGil released(x.size());
    global_avg_pool(batch);
  }
  return y.result();
}

py::object global_backward(int dims, py::handle dy_in, py::handle shape_in, py::handle axis, py::handle out) {
  const Shape shape = read_shape(shape_in, "shape");
  const PlaneAxes axes = read_axes(shape, dims, axis, "shape");
  const Gradient gradient(dy_in, {shape[0], shape[static_cast<std::size_t>(axes.channel)]}, shape, out);
  const PooledBatch batch = whole_planes(gradient.dx, gradient.dy, axes);
  {
    const ReleasedGil released(gradient.dx.size());
    global_avg_pool_backward(batch);
  }
  return gradient.dx.result();
}

// Windows as columns: (N, C * kernel, windows), or (N, windows, C * kernel) where the channels are last.
struct Columns {
  Windows windows;
  bool last;
  Index elements;  // of a window of a channel
  Shape shape;

  Columns(const Shape& x, const char* name, py::handle kernel, py::handle stride, py::handle padding,
          py::handle dilation, py::handle axis)
      : windows(with_axes(x, name), static_cast<int>(x.size()) - 2, kernel, stride, padding, dilation, false, axis,
                false) {
    const int channel = windows.axes.channel;
    last = channel == std::ssize(x) - 1;
    if (channel != 1 && !last) throw py::value_error("axis must be 1 or -1, got " + text_of(axis));
    Index count = 1, rows = 1;
    for (const int d : windows.axes.plane) multiply(count, windows.y[static_cast<std::size_t>(d)]);
    for (const Index side : windows.kernel) multiply(rows, side);
    elements = rows;
    multiply(rows, x[static_cast<std::size_t>(channel)]);
    shape = last ? Shape{x[0], count, rows} : Shape{x[0], rows, count};
  }

  PooledBatch batch(const Array& x, const Array& columns) const {
    PooledBatch batch = batch_of(x, x, windows.axes);
    set_windows(batch, windows);
    const Index step = columns.stride(last ? 1 : 2), tap = columns.stride(last ? 2 : 1);
    batch.y = columns.stride(0);
    batch.plane.y = {columns.data(), batch.plane.columns.count * step, step, elements * tap};
    batch.plane.tap_row = batch.plane.columns.kernel * tap;
    batch.plane.tap_column = tap;
    return batch;
  }

 private:
  static const Shape& with_axes(const Shape& x, const char* name) {
    if (x.size() != 3 && x.size() != 4)
      throw py::value_error(std::string(name) + " must have three or four axes, got " + shape_text(x));
    return x;
  }
  static void multiply(Index& product, Index side) {
    if (__builtin_mul_overflow(product, side, &product))
      throw py::value_error("kernel_size is too large: the columns would have more elements than an array can");
  }
};

py::object images_to_columns(py::handle x_in, py::handle kernel, py::handle stride, py::handle padding,
                             py::handle dilation, py::handle axis, py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Columns layout(shape_of(x), "x", kernel, stride, padding, dilation, axis);
  const Array columns = output(out, layout.shape, x, "out", {{&x, "x"}});
  if (!PyArray_IS_C_CONTIGUOUS(reinterpret_cast<PyArrayObject*>(columns.given().ptr())))
    throw py::value_error("out must be C-contiguous");
  const PooledBatch batch = layout.batch(x, columns);
  {
    const ReleasedGil released(columns.size());
    im2col(batch);
  }
  return columns.result();
}

py::object columns_to_images(py::handle columns_in, py::handle shape_in, py::handle kernel, py::handle stride,
                             py::handle padding, py::handle dilation, py::handle axis, py::handle out) {
  const Shape shape = read_shape(shape_in, "shape");
  const Columns layout(shape, "shape", kernel, stride, padding, dilation, axis);
  const Array columns = read_floats_or_float16(columns_in, "columns");
  require_shape(columns, layout.shape, "columns");
  const Array dx = output(out, shape, columns, "out", {{&columns, "columns"}});
  const PooledBatch batch = layout.batch(dx, columns);
  unsigned raised = 0;
  {
    const ReleasedGil released(columns.size());
    raised = col2im(batch);
  }
  report("col2im", raised);
  return dx.result();
}

// ---- for nnfast.pooling and its layers ----

py::tuple checked_sides(py::handle value, int dims, Index low, const char* name) {
  return tuple_of(read_sides(value, dims, low, name));
}

// kernel, stride, padding, dilation, with a padding of at most half of the kernel
py::tuple checked_window(int dims, py::handle kernel, py::handle stride, py::handle padding, py::handle dilation) {
  const Window window(dims, kernel, stride, padding, dilation, true);
  return py::make_tuple(tuple_of(window.kernel), tuple_of(window.stride), tuple_of(window.padding),
                        tuple_of(window.dilation));
}

py::tuple as_tuple(const PlaneAxes& axes) { return tuple_of(Shape(axes.plane.begin(), axes.plane.end())); }

py::tuple axes_of_planes(py::handle shape, int dims, py::handle axis, const char* name) {
  const PlaneAxes axes = read_axes(read_shape(shape, name), dims, axis, name);
  return py::make_tuple(axes.channel, as_tuple(axes));
}

// kernel, stride, padding, dilation, the axes of a plane, that of the channels, the shape of y
py::tuple checked_windows(py::handle shape, int dims, py::handle kernel, py::handle stride, py::handle padding,
                          py::handle dilation, bool ceil_mode, py::handle axis, bool half) {
  const Windows windows(read_shape(shape, "shape"), dims, kernel, stride, padding, dilation, ceil_mode, axis, half);
  return py::make_tuple(tuple_of(windows.kernel), tuple_of(windows.stride), tuple_of(windows.padding),
                        tuple_of(windows.dilation), as_tuple(windows.axes), windows.axes.channel, tuple_of(windows.y));
}

}  // namespace

void bind_pooling(py::module_& module) {
  def<&max_forward>(module, "max_pool");
  def<&max_backward>(module, "max_pool_backward");
  def<&avg_forward>(module, "avg_pool");
  def<&avg_backward>(module, "avg_pool_backward");
  def<&global_forward>(module, "global_avg_pool");
  def<&global_backward>(module, "global_avg_pool_backward");
  def<&images_to_columns>(module, "im2col");
  def<&columns_to_images>(module, "col2im");
  def<&checked_sides>(module, "pool_sides");
  def<&checked_window>(module, "pool_window");
  def<&axes_of_planes>(module, "plane_axes");
  def<&checked_windows>(module, "pool_windows");
}

}  // namespace nnfast
