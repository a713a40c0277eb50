#include "kernels/activations.hpp"

#include <string>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/ufuncs.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

constexpr const char* kReluDoc = R"(
Rectified linear unit: ``max(x, 0)``.

Parameters
----------
x : array_like of float32 or float64, any shape
    NaN gives NaN, -0.0 gives 0.0. Other types are converted as NumPy's ufuncs do.
out, where, dtype, casting, order, subok
    As for every NumPy ufunc.

Returns
-------
y : ndarray or scalar of x's shape and dtype
    Exact (0 ULP).

References
----------
Nair, Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> nf.relu(np.array([-1.5, -0.0, 2.0]))
array([0., 0., 2.])
)";

constexpr const char* kReluBackwardDoc = R"(
Gradient of relu: ``dy`` where ``y > 0``, else 0.

Parameters
----------
dy : array_like of float32 or float64
    Gradient of the loss by y.
y : array_like
    What relu returned, or its input; the gradient at 0 is 0, where y is NaN it is NaN.
out, where, dtype, casting, order, subok
    As for every NumPy ufunc; ``out=dy`` is allowed.

Returns
-------
dx : ndarray or scalar of the broadcast shape

Examples
--------
>>> import numpy as np, nnfast as nf
>>> nf.relu_backward(np.ones(3), np.array([0.0, 1.0, 2.0]))
array([0., 1., 1.])
)";

constexpr const char* kLeakyReluDoc = R"(
leaky_relu(x, negative_slope) as a ufunc of two arguments; see nnfast.leaky_relu.
)";
constexpr const char* kLeakyReluBackwardDoc = R"(
leaky_relu_backward(dy, y, negative_slope) as a ufunc of three arguments; see nnfast.leaky_relu_backward.
)";

constexpr const char* kPReluDoc = R"(
Leaky ReLU with a learned slope: ``x`` where ``x > 0``, else ``weight * x``.

Parameters
----------
x : array_like of float32 or float64
weight : array_like
    The slope; broadcasts by NumPy's rules. One slope a channel of (N, C, H, W) is ``weight[:, None, None]``.
out, where, dtype, casting, order, subok
    As for every NumPy ufunc.

Returns
-------
y : ndarray or scalar of the broadcast shape
    Within 0.5 ULP (one product).

References
----------
He, Zhang, Ren, Sun, "Delving deep into rectifiers", 2015.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> nf.prelu(np.array([[-4.0, 2.0], [-2.0, -8.0]]), np.array([0.25, 0.5]))
array([[-1. ,  2. ],
       [-0.5, -4. ]])
)";

constexpr const char* kPReluBackwardDoc = R"(
Gradient of prelu by its input: ``dy`` where ``x > 0``, else ``weight * dy``.

Parameters
----------
dy : array_like of float32 or float64
    Gradient of the loss by y.
x : array_like
    prelu's input (a learned slope may be negative, so its output does not tell the side).
weight : array_like
    The slope, as given to prelu. Its own gradient is nnfast.prelu_weight_backward.
out, where, dtype, casting, order, subok
    As for every NumPy ufunc; ``out=dy`` is allowed.

Returns
-------
dx : ndarray or scalar of the broadcast shape

Examples
--------
>>> import numpy as np, nnfast as nf
>>> nf.prelu_backward(np.ones(2), np.array([-4.0, 2.0]), 0.25)
array([0.25, 1.  ])
)";

constexpr const char* kEluDoc = R"(
elu(x, alpha) as a ufunc of two arguments; see nnfast.elu.
)";
constexpr const char* kEluBackwardDoc = R"(
elu_backward(dy, y, alpha) as a ufunc of three arguments; see nnfast.elu_backward.
)";

constexpr const char* kSigmoidDoc = R"(
Logistic function: ``1 / (1 + exp(-x))``.

Parameters
----------
x : array_like of float32 or float64, any shape
    sigmoid(0) = 0.5, sigmoid(-inf) = 0, sigmoid(inf) = 1, NaN gives NaN; tails raise no warning.
out, where, dtype, casting, order, subok
    As for every NumPy ufunc.

Returns
-------
y : ndarray or scalar of x's shape and dtype
    In [0, 1], within 1 ULP (2 on machines without FMA), subnormal results included.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> nf.sigmoid(np.array([-np.inf, 0.0, np.log(3.0)]))
array([0.  , 0.5 , 0.75])
)";

constexpr const char* kSigmoidBackwardDoc = R"(
Gradient of sigmoid: ``dy * y * (1 - y)``.

Parameters
----------
dy : array_like of float32 or float64
    Gradient of the loss by y.
y : array_like
    What sigmoid returned.
out, where, dtype, casting, order, subok
    As for every NumPy ufunc; ``out=dy`` is allowed.

Returns
-------
dx : ndarray or scalar of the broadcast shape

Examples
--------
>>> import numpy as np, nnfast as nf
>>> nf.sigmoid_backward(np.ones(2), np.array([0.5, 1.0]))
array([0.25, 0.  ])
)";

constexpr const char* kTanhDoc = R"(
Hyperbolic tangent.

Parameters
----------
x : array_like of float32 or float64, any shape
    tanh(+-0) = +-0, tanh(+-inf) = +-1, NaN gives NaN.
out, where, dtype, casting, order, subok
    As for every NumPy ufunc.

Returns
-------
y : ndarray or scalar of x's shape and dtype
    In [-1, 1], within 1 ULP (2 on machines without FMA).

Examples
--------
>>> import numpy as np, nnfast as nf
>>> nf.tanh(np.array([-np.inf, 0.0, np.inf]))
array([-1.,  0.,  1.])
)";

constexpr const char* kTanhBackwardDoc = R"(
Gradient of tanh: ``dy * (1 - y**2)``.

Parameters
----------
dy : array_like of float32 or float64
    Gradient of the loss by y.
y : array_like
    What tanh returned.
out, where, dtype, casting, order, subok
    As for every NumPy ufunc; ``out=dy`` is allowed.

Returns
-------
dx : ndarray or scalar of the broadcast shape

Examples
--------
>>> import numpy as np, nnfast as nf
>>> nf.tanh_backward(np.ones(2), np.array([0.0, 1.0]))
array([1., 0.])
)";

const Elementwise& pick_forward(const KernelTable& table, int index) { return table.activations->forward[index]; }
const Elementwise& pick_backward(const KernelTable& table, int index) { return table.activations->backward[index]; }

// ---- prelu's slope ----

// Sums the products of one weight's elements, in C order; dy and x have the kept axes first and the summed ones last.
template <class T>
void prelu_weight_sums(const StridedArrays<2>& summed, const StridedArrays<2>& kept, char* dweight,
                       std::ptrdiff_t begin, std::ptrdiff_t end) {
  constexpr std::ptrdiff_t kBlock = 256;
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
          fn(arrays, strides, n);
        });
        double sum = 0;
        for (std::ptrdiff_t k = 0; k < block_end - block; ++k) sum += static_cast<double>(products[k]);
        total += sum;
      }
      reinterpret_cast<T*>(dweight)[position + i] = static_cast<T>(total);
    }
  });
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
  const std::ptrdiff_t weights = kept.size();
  const Array dweight = new_array({weights}, x.dtype());
  const double cost = 1.5 * static_cast<double>(summed.size());
  {
    py::gil_scoped_release release;
    parallel_for(weights, cost, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      (x.is_float64() ? prelu_weight_sums<double> : prelu_weight_sums<float>)(summed, kept, dweight.data(), begin, end);
    });
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
  constexpr double ns_per_element = 0.5;
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

}  // namespace

void bind_activations(py::module_& module) {
  struct Docs {
    const char *forward, *backward;
  };
#define NNFAST_DOCS(formula, name, params, cost) {k##formula##Doc, k##formula##BackwardDoc},
  static constexpr Docs docs[] = {NNFAST_ACTIVATIONS(NNFAST_DOCS)};
#undef NNFAST_DOCS
#define NNFAST_ADD(formula, name, params, cost)                                                         \
  {                                                                                                     \
    constexpr int index = static_cast<int>(Activation::formula);                                        \
    add_ufunc(module, {name, docs[index].forward, 1 + params, pick_forward, index, cost});              \
    add_ufunc(module, {name "_backward", docs[index].backward, 2 + params, pick_backward, index, 0.1}); \
  }
  NNFAST_ACTIVATIONS(NNFAST_ADD)
#undef NNFAST_ADD
  module.def("prelu_weight_backward", &prelu_weight_backward, py::arg("dy"), py::arg("x"), py::arg("kept_axes"));
  module.def("maxout", &maxout, py::arg("x"), py::arg("y"), py::arg("which"), py::arg("pieces"));
  module.def("maxout_backward", &maxout_backward, py::arg("dy"), py::arg("which"), py::arg("dx"), py::arg("pieces"));
}

}  // namespace nnfast
