#include "ops/pooling.hpp"

#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"
#include "bindings/ufuncs.hpp"

namespace nnfast {
namespace {

using Index = std::ptrdiff_t;
using Sides = std::vector<Index>;

// What nnfast.pooling has checked: a value for each axis of a plane, of which there are one or two.
struct Windows {
  Sides kernel, stride, padding, dilation;
};

// The axes of a plane: those but the first and the channels'. A plane with one has one row.
struct PlaneAxes {
  int row = -1, column = -1;

  PlaneAxes(int ndim, int channel) {
    for (int d = 1; d < ndim; ++d)
      if (d != channel) {
        row = column;
        column = d;
      }
  }
};

PoolArray pool_array(const Array& array, const PlaneAxes& axes, int channel) {
  return {array.data(), axes.row < 0 ? 0 : array.stride(axes.row), array.stride(axes.column), array.stride(channel)};
}

// x or dx, y or dy, and the positions of maxima unless null.
PooledBatch batch_of(const Array& x, const Array& y, const Array* which, const Windows& windows, int channel) {
  const PlaneAxes axes(x.ndim(), channel);
  const auto pool_axis = [&](int axis, std::size_t k) {
    return PoolAxis{x.shape(axis),     y.shape(axis),      windows.kernel[k],
                    windows.stride[k], windows.padding[k], windows.dilation[k]};
  };
  PooledBatch batch{};
  batch.dtype = x.floating();
  batch.images = x.shape(0);
  batch.plane.channels = x.shape(channel);
  batch.plane.rows = axes.row < 0 ? PoolAxis{1, 1, 1, 1, 0, 1} : pool_axis(axes.row, 0);
  batch.plane.columns = pool_axis(axes.column, windows.kernel.size() - 1);
  batch.plane.x = pool_array(x, axes, channel);
  batch.plane.y = pool_array(y, axes, channel);
  batch.x = x.stride(0);
  batch.y = y.stride(0);
  if (which) {
    batch.plane.which = pool_array(*which, axes, channel);
    batch.which = which->stride(0);
  }
  return batch;
}

// For what does not depend on the windows.
Windows any_windows(const Array& x) {
  const Sides one(static_cast<std::size_t>(x.ndim()) - 2, 1);
  return {one, one, one, one};
}

// kernel, stride, padding and dilation: lists of one or two; arrays are checked by nnfast.pooling.
void max_forward(py::handle x_in, py::handle y_out, py::handle which_out, Sides kernel, Sides stride, Sides padding,
                 Sides dilation, int channel) {
  const Array x = read_floats_or_float16(x_in, "x");
  const Array y = written(y_out, x, "out"), which = written(which_out, NPY_INT32, "which");
  const PooledBatch batch = batch_of(x, y, &which, {kernel, stride, padding, dilation}, channel);
  {
    py::gil_scoped_release release;
    max_pool(batch);
  }
  y.result();
}

void max_backward(py::handle dy_in, py::handle which_in, py::handle dx_out, int channel) {
  const Array dy = read_floats_or_float16(dy_in, "dy"), which = any_array(which_in, "which");
  const Array dx = written(dx_out, dy, "out");
  const PooledBatch batch = batch_of(dx, dy, &which, any_windows(dx), channel);
  unsigned raised = 0;
  {
    py::gil_scoped_release release;
    raised = max_pool_backward(batch);
  }
  report("max_pool_backward", raised);
  dx.result();
}

void average(const char* name, unsigned (*pool)(const PooledBatch&), const Array& x, const Array& y,
             const Windows& windows, int channel, bool counts_padding) {
  PooledBatch batch = batch_of(x, y, nullptr, windows, channel);
  batch.plane.counts_padding = counts_padding;
  unsigned raised = 0;
  {
    py::gil_scoped_release release;
    raised = pool(batch);
  }
  report(name, raised);
}

void avg_forward(py::handle x_in, py::handle y_out, Sides kernel, Sides stride, Sides padding, int channel,
                 bool counts_padding) {
  const Array x = read_floats_or_float16(x_in, "x"), y = written(y_out, x, "out");
  average("avg_pool", avg_pool, x, y, {kernel, stride, padding, Sides(kernel.size(), 1)}, channel, counts_padding);
  y.result();
}

void avg_backward(py::handle dy_in, py::handle dx_out, Sides kernel, Sides stride, Sides padding, int channel,
                  bool counts_padding) {
  const Array dy = read_floats_or_float16(dy_in, "dy"), dx = written(dx_out, dy, "out");
  average("avg_pool_backward", avg_pool_backward, dx, dy, {kernel, stride, padding, Sides(kernel.size(), 1)}, channel,
          counts_padding);
  dx.result();
}

void global_avg(py::handle x_in, py::handle y_out, int channel) {
  const Array x = read_floats_or_float16(x_in, "x"), y = written(y_out, x, "out");
  PooledBatch batch = batch_of(x, x, nullptr, any_windows(x), channel);
  batch.plane.y = {y.data(), 0, 0, y.stride(1)};
  batch.y = y.stride(0);
  {
    py::gil_scoped_release release;
    global_avg_pool(batch);
  }
  y.result();
}

}  // namespace

void bind_pooling(py::module_& module) {
  def<&max_forward>(module, "max_pool");
  def<&max_backward>(module, "max_pool_backward");
  def<&avg_forward>(module, "avg_pool");
  def<&avg_backward>(module, "avg_pool_backward");
  def<&global_avg>(module, "global_avg_pool");
}

}  // namespace nnfast
