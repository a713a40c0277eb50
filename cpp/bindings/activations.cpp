#include "kernels/activations.hpp"

#include <atomic>
#include <cstring>
#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/ufuncs.hpp"
#include "kernels/sums.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

const Elementwise& pick_forward(const KernelTable& table, int index) { return table.activations->forward[index]; }
const Elementwise& pick_backward(const KernelTable& table, int index) { return table.activations->backward[index]; }

// ---- one parameter a channel ----

// x as (outer, channels, inner), each channel with its value of `weight`.
struct Channels {
  std::ptrdiff_t outer = 1, channels = 1, inner = 1;
};

// Whether weight broadcasts to x along neighbouring axes and nowhere else.
bool find_channels(const Array& x, const Array& weight, Channels& found) {
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
  return !before;
}

bool plain(const Array& array, int dtype) {
  return PyArray_CheckExact(array.object().ptr()) && array.dtype() == dtype && PyArray_ISCARRAY_RO(array.get());
}

// What prelu(x, weight) or prelu_backward(dy, x, weight) gives, where the arrays are plain enough; None where the ufunc
// has to see to it. NumPy hands a ufunc one row after the other, too little for a second thread.
py::object per_channel(bool backward, const py::list& full, py::handle weight_in, py::handle out) {
  constexpr std::ptrdiff_t kSmall = 4096, kCopied = 2048;
  constexpr int kIndex = static_cast<int>(Activation::PRelu);
  const int count = static_cast<int>(full.size());
  const auto usable = [](py::handle value) { return PyArray_CheckExact(value.ptr()); };
  Array arrays[3];
  for (int a = 0; a < count; ++a) {
    if (!usable(full[a])) return py::none();
    arrays[a] = any_array(full[a], "x");
  }
  const Array& x = arrays[0];
  const int dtype = x.dtype();
  if (x.size() < kSmall || (dtype != NPY_FLOAT32 && dtype != NPY_FLOAT64) || !usable(weight_in)) return py::none();
  const Array weight = any_array(weight_in, "weight");
  Channels c;
  if (!plain(weight, dtype) || !find_channels(x, weight, c)) return py::none();
  for (int a = 0; a < count; ++a)
    if (!plain(arrays[a], dtype) || !PyArray_SAMESHAPE(arrays[a].get(), x.get())) return py::none();
  if (!out.is_none()) {
    if (!usable(out)) return py::none();
    const Array y = any_array(out, "out");
    if (!plain(y, dtype) || !PyArray_ISWRITEABLE(y.get()) || !PyArray_SAMESHAPE(y.get(), x.get())) return py::none();
    if (share_memory(y, weight)) return py::none();
    for (int a = 0; a < count; ++a)
      if (y.data() != arrays[a].data() && share_memory(y, arrays[a])) return py::none();
    arrays[count] = y;
  } else {
    arrays[count] = new_array(x, dtype);
  }

  const KernelTable& table = kernels();
  const Elementwise& kernel = backward ? table.activations->backward[kIndex] : table.activations->forward[kIndex];
  const ElementwiseFn fn = by_dtype(kernel, dtype);
  const std::ptrdiff_t size = PyArray_ITEMSIZE(x.get());
  // Several rows of channels at a time, beside as many copies of the weights; or, where a channel has many elements
  // side by side, one channel after the other.
  const bool rows = c.inner == 1;
  const std::ptrdiff_t copies = rows ? std::max<std::ptrdiff_t>(1, kCopied / c.channels) : 1;
  std::vector<char> copied(static_cast<std::size_t>(rows ? copies * c.channels * size : 0));
  for (std::ptrdiff_t k = 0; rows && k < copies; ++k)
    std::memcpy(copied.data() + k * c.channels * size, weight.data(), static_cast<std::size_t>(c.channels * size));
  const std::ptrdiff_t run = rows ? c.channels : c.inner, runs = rows ? c.outer : c.outer * c.channels;
  std::ptrdiff_t strides[4] = {size, size, size, size};
  strides[count] = rows ? size : 0;
  const bool stream = streams(x.size() * size, 0.12);
  std::atomic<unsigned> raised{0};
  {
    py::gil_scoped_release release;
    constexpr double ns_per_element = 0.12;
    parallel_for(runs, ns_per_element * static_cast<double>(run), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      for (std::ptrdiff_t r = begin; r < end; r += copies) {
        char* at[4];
        for (int a = 0; a < count; ++a) at[a] = arrays[a].data() + r * run * size;
        at[count] = rows ? copied.data() : weight.data() + r % c.channels * size;
        at[count + 1] = arrays[count].data() + r * run * size;
        const unsigned flags = fn(at, strides, std::min(copies, end - r) * run, stream);
        if (flags) raised.fetch_or(flags, std::memory_order_relaxed);
      }
    });
  }
  report(backward ? "prelu_backward" : "prelu", raised);
  return arrays[count].object();
}

// ---- prelu's slope ----

// Products that are summed on their own before they are added to the rest.
constexpr std::ptrdiff_t kBlock = 256;

// Sums the products of one weight's elements, in C order; dy and x have the kept axes first and the summed ones last.
template <class T>
void prelu_weight_sums(const StridedArrays<2>& summed, const StridedArrays<2>& kept, char* dweight,
                       std::ptrdiff_t begin, std::ptrdiff_t end) {
  const Elementwise& kernel = kernels().activations->prelu_weight_grad;
  const ElementwiseFn fn = sizeof(T) == 4 ? kernel.f32 : kernel.f64;
  std::ptrdiff_t inner[2];
  summed.inner_strides(inner);
  const std::ptrdiff_t strides[3] = {inner[0], inner[1], sizeof(T)};
  const std::ptrdiff_t terms = summed.size();
  kept.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
    std::ptrdiff_t step[2];
    kept.inner_strides(step);
    for (std::ptrdiff_t i = 0; i < count; ++i) {
      StridedArrays<2> element = summed;
      for (int a = 0; a < 2; ++a) element.data[a] = at[a] + i * step[a];
      double total = 0;
      T products[kBlock];
      for (std::ptrdiff_t block = 0; block < terms; block += kBlock) {
        const std::ptrdiff_t block_end = std::min(terms, block + kBlock);
        element.for_runs(block, block_end, [&](char* const* from, std::ptrdiff_t n, std::ptrdiff_t first) {
          char* arrays[3] = {from[0], from[1], reinterpret_cast<char*>(products + (first - block))};
          fn(arrays, strides, n, false);
        });
        double sum = 0;
        for (std::ptrdiff_t k = 0; k < block_end - block; ++k) sum += static_cast<double>(products[k]);
        total += sum;
      }
      reinterpret_cast<T*>(dweight)[position + i] = static_cast<T>(total);
    }
  });
}

// The same where the weights' elements lie next to each other, row after row: the sums of a block of rows, by columns.
template <class T>
void prelu_weight_block(const char* dy, const char* x, std::ptrdiff_t rows, std::ptrdiff_t n, double* sums) {
  constexpr std::ptrdiff_t kAtOnce = 2048, size = sizeof(T);
  const Elementwise& kernel = kernels().activations->prelu_weight_grad;
  const ElementwiseFn fn = size == 4 ? kernel.f32 : kernel.f64;
  const std::ptrdiff_t strides[3] = {size, size, size};
  T products[kAtOnce];
  // Elements [first, first + kAtOnce) of all rows: some rows, or a piece of one.
  for (std::ptrdiff_t first = 0; first < rows * n; first += kAtOnce) {
    const std::ptrdiff_t count = std::min(kAtOnce, rows * n - first), at = first * size;
    char* arrays[3] = {const_cast<char*>(dy) + at, const_cast<char*>(x) + at, reinterpret_cast<char*>(products)};
    fn(arrays, strides, count, false);
    for (std::ptrdiff_t k = 0, column = first % n; k < count; column = 0) {
      const std::ptrdiff_t columns = std::min(n - column, count - k);
      if constexpr (size == 4) {
        kernels().sums->add_f32(sums + column, products + k, columns);
      } else {
        kernels().sums->add_f64(sums + column, products + k, columns);
      }
      k += columns;
    }
  }
}

template <class T>
void prelu_weight_rows(const char* dy, const char* x, std::ptrdiff_t rows, std::ptrdiff_t n, T* dweight) {
  const std::ptrdiff_t blocks = (rows + kBlock - 1) / kBlock;
  std::vector<double> sums(static_cast<std::size_t>(blocks * n));
  parallel_for(blocks, 0.6 * static_cast<double>(kBlock * n), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t b = begin; b < end; ++b) {
      const std::ptrdiff_t at = b * kBlock * n * static_cast<std::ptrdiff_t>(sizeof(T));
      prelu_weight_block<T>(dy + at, x + at, std::min(kBlock, rows - b * kBlock), n, sums.data() + b * n);
    }
  });
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    double total = 0;
    for (std::ptrdiff_t b = 0; b < blocks; ++b) total += sums[static_cast<std::size_t>(b * n + i)];
    dweight[i] = static_cast<T>(total);
  }
}

// Whether both arrays are rows of the kept elements, one after the other.
bool rows_of(const StridedArrays<2>& kept, const StridedArrays<2>& summed, std::ptrdiff_t size) {
  if (kept.ndim != 1 || summed.ndim != 1) return false;
  for (int a = 0; a < 2; ++a)
    if (kept.strides[a][0] != size || summed.strides[a][0] != size * kept.shape[0]) return false;
  return true;
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

template <class T>
void prelu_weight_gradient(const Array& dy, const Array& x, const StridedArrays<2>& summed,
                           const StridedArrays<2>& kept, const Array& dweight) {
  if (rows_of(kept, summed, sizeof(T)))
    return prelu_weight_rows(dy.data(), x.data(), summed.size(), kept.size(), dweight.as<T>());
  const double cost = 1.5 * static_cast<double>(summed.size());
  parallel_for(kept.size(), cost, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    prelu_weight_sums<T>(summed, kept, dweight.data(), begin, end);
  });
}

// dy, x: the weight's axes first, then those summed over.
py::object prelu_weight_backward(py::handle dy_in, py::handle x_in, int kept_axes) {
  const Array x = read_floats(x_in, "x");
  const Array dy = read_as(dy_in, x.dtype(), "dy");
  const StridedArrays<2> kept = axes_of(dy, x, 0, kept_axes), summed = axes_of(dy, x, kept_axes, x.ndim());
  const std::ptrdiff_t weights = kept.size();
  const Array dweight = new_array({weights}, x.dtype());
  {
    py::gil_scoped_release release;
    (x.is_float64() ? prelu_weight_gradient<double> : prelu_weight_gradient<float>)(dy, x, summed, kept, dweight);
  }
  return dweight.object();
}

// ---- maxout ----

// Rows along the last axis, one for every index of the others.
template <bool Backward>
void maxout_rows(const Array& x, const Array& y, const Array& which, std::ptrdiff_t pieces) {
  const int last = x.ndim() - 1;
  const Maxout& kernel = Backward ? kernels().activations->maxout_backward : kernels().activations->maxout;
  const MaxoutFn fn = x.is_float64() ? kernel.f64 : kernel.f32;
  constexpr double ns_per_element = 0.15;
  const Array* arrays[3] = {&x, &y, &which};
  if (std::all_of(arrays, arrays + 3, [](const Array* array) { return PyArray_IS_C_CONTIGUOUS(array->get()); })) {
    const std::ptrdiff_t size = PyArray_ITEMSIZE(x.get());
    py::gil_scoped_release release;
    parallel_for(y.size(), ns_per_element * static_cast<double>(pieces), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      fn({x.data() + begin * pieces * size, y.data() + begin * size, which.data() + begin, size, size, 1}, end - begin,
         pieces);
    });
    return;
  }
  StridedArrays<3> outer;
  outer.ndim = last;
  for (int a = 0; a < 3; ++a) {
    outer.data[a] = arrays[a]->data();
    for (int d = 0; d < last; ++d) outer.strides[a][d] = arrays[a]->stride(d);
  }
  for (int d = 0; d < last; ++d) outer.shape[d] = x.shape(d);
  outer.coalesce();
  const std::ptrdiff_t groups = y.shape(last), rows = outer.size();
  std::ptrdiff_t step[3];
  outer.inner_strides(step);
  py::gil_scoped_release release;
  parallel_for(rows, ns_per_element * static_cast<double>(groups * pieces),
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 outer.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
                   for (std::ptrdiff_t r = 0; r < count; ++r)
                     fn({at[0] + r * step[0], at[1] + r * step[1], at[2] + r * step[2], x.stride(last), y.stride(last),
                         which.stride(last)},
                        groups, pieces);
                 });
               });
}

void maxout(py::handle x, py::handle y, py::handle which, std::ptrdiff_t pieces) {
  const Array input = read_floats(x, "x");
  maxout_rows<false>(input, written(y, input.dtype(), "out"), written(which, NPY_UINT8, "which"), pieces);
}

void maxout_backward(py::handle dy, py::handle which, py::handle dx, std::ptrdiff_t pieces) {
  const Array gradient = read_floats(dy, "dy");
  const Array held(py::reinterpret_borrow<py::object>(which));
  maxout_rows<true>(written(dx, gradient.dtype(), "out"), gradient, held, pieces);
}

// All elementwise functions by name; docs has a text for each and its gradient.
py::dict make_activations(const py::dict& docs) {
  py::dict ufuncs;
  const auto add = [&](const char* name, int inputs, int params, PickElementwise pick, int index, double cost) {
    ufuncs[name] = make_ufunc({name, docs[name].cast<std::string>(), inputs, params, pick, index, cost});
  };
#define NNFAST_ADD(formula, name, params, cost, backward_cost)                              \
  add(name, 1 + params, params, pick_forward, static_cast<int>(Activation::formula), cost); \
  add(name "_backward", 2 + params, params, pick_backward, static_cast<int>(Activation::formula), backward_cost);
  NNFAST_ACTIVATIONS(NNFAST_ADD)
#undef NNFAST_ADD
  return ufuncs;
}

}  // namespace

void bind_activations(py::module_& module) {
  module.def("make_activations", &make_activations, py::arg("docs"));
  module.def("per_channel", &per_channel, py::arg("backward"), py::arg("full"), py::arg("weight"), py::arg("out"));
  module.def("prelu_weight_backward", &prelu_weight_backward, py::arg("dy"), py::arg("x"), py::arg("kept_axes"));
  module.def("maxout", &maxout, py::arg("x"), py::arg("y"), py::arg("which"), py::arg("pieces"));
  module.def("maxout_backward", &maxout_backward, py::arg("dy"), py::arg("which"), py::arg("dx"), py::arg("pieces"));
}

}  // namespace nnfast
