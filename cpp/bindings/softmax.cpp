#include "kernels/softmax.hpp"

#include "bindings/families.hpp"
#include "bindings/ufuncs.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

constexpr double kNsPerElement = 0.6;
constexpr double kNsPerRow = 40;

constexpr const char* kSoftmaxDoc = R"(
Softmax along an axis: ``exp(x - max(x)) / sum(exp(x - max(x)))``.

Parameters
----------
x : array_like of float32 or float64, shape (..., n)
    Infinite values are limits: softmax([1, inf]) = [0, 1]. A row of -inf gives NaN, as does a row with a NaN.
axis : int, default -1
    The axis to sum along.
out, dtype, casting, order, subok, keepdims, axes
    As for every NumPy generalised ufunc.

Returns
-------
y : ndarray of x's shape and dtype
    In [0, 1]; rows sum to 1 within rounding. The sum is taken in float64, in an order that depends on n alone.

Examples
--------
>>> import numpy as np, nnfast as nf
>>> nf.softmax(np.log([1.0, 2.0, 5.0]))
array([0.125, 0.25 , 0.625])
)";

constexpr const char* kSoftmaxBackwardDoc = R"(
Gradient of softmax: ``y * (dy - sum(dy * y))`` along an axis.

Parameters
----------
dy : array_like of float32 or float64, shape (..., n)
    Gradient of the loss by y.
y : array_like, shape (..., n)
    What softmax returned.
axis : int, default -1
out, dtype, casting, order, subok, keepdims, axes
    As for every NumPy generalised ufunc; ``out=dy`` is allowed.

Returns
-------
dx : ndarray of the broadcast shape

Examples
--------
>>> import numpy as np, nnfast as nf
>>> nf.softmax_backward(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
array([ 0.25, -0.25])
)";

template <bool F64>
void softmax_loop(char** args, const npy_intp* dims, const npy_intp* steps, void*) {
  const npy_intp n = dims[1];
  const SoftmaxFn fn = F64 ? kernels().softmax->f64 : kernels().softmax->f32;
  if (n == 0) return;
  parallel_for(dims[0], kNsPerRow + kNsPerElement * static_cast<double>(n),
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 fn({args[0] + begin * steps[0], steps[0], steps[2]}, {args[1] + begin * steps[1], steps[1], steps[3]},
                    end - begin, n);
               });
}

template <bool F64>
void softmax_backward_loop(char** args, const npy_intp* dims, const npy_intp* steps, void*) {
  const npy_intp n = dims[1];
  const SoftmaxBackwardFn fn = F64 ? kernels().softmax->backward_f64 : kernels().softmax->backward_f32;
  parallel_for(dims[0], kNsPerRow + 0.3 * static_cast<double>(n), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    fn({args[0] + begin * steps[0], steps[0], steps[3]}, {args[1] + begin * steps[1], steps[1], steps[4]},
       {args[2] + begin * steps[2], steps[2], steps[5]}, end - begin, n);
  });
}

}  // namespace

void bind_softmax(pybind11::module_& module) {
  add_gufunc(module, "softmax", kSoftmaxDoc, "(n)->(n)", 1, softmax_loop<false>, softmax_loop<true>);
  add_gufunc(module, "softmax_backward", kSoftmaxBackwardDoc, "(n),(n)->(n)", 2, softmax_backward_loop<false>,
             softmax_backward_loop<true>);
}

}  // namespace nnfast
