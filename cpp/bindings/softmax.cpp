#include "kernels/softmax.hpp"

#include <algorithm>
#include <atomic>

#include "bindings/families.hpp"
#include "bindings/ufuncs.hpp"
#include "kernels/conversion.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

constexpr double kNsPerElement = 0.5;
constexpr double kNsPerRow = 12;

constexpr const char* kDoc = "The generalised ufunc under the function of this name in nnfast.softmax.";

// Rows of x to rows of y, which have one element each where it has no axis.
template <SoftmaxForward SoftmaxKernels::* kernel, bool F64>
void forward_loop(char** args, const npy_intp* dims, const npy_intp* steps, void* has_axis) {
  const npy_intp n = dims[1];
  const SoftmaxForward& forward = kernels().softmax->*kernel;
  const SoftmaxFn fn = F64 ? forward.f64 : forward.f32;
  if (n == 0 && has_axis) return;
  const npy_intp y_stride = has_axis ? steps[3] : 0;
  parallel_for(dims[0], kNsPerRow + kNsPerElement * static_cast<double>(n),
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 fn({args[0] + begin * steps[0], steps[0], steps[2]}, {args[1] + begin * steps[1], steps[1], y_stride},
                    end - begin, n);
               });
}

// Rows of dy, which have one element each where it has no axis, and of what is saved to rows of dx.
template <SoftmaxBackward SoftmaxKernels::* kernel, bool F64>
void backward_loop(char** args, const npy_intp* dims, const npy_intp* steps, void* has_axis) {
  const npy_intp n = dims[1];
  const SoftmaxBackward& backward = kernels().softmax->*kernel;
  const SoftmaxBackwardFn fn = F64 ? backward.f64 : backward.f32;
  if (n == 0) return;
  const npy_intp* inner = steps + 3;
  const npy_intp dy_stride = has_axis ? *inner++ : 0;
  parallel_for(dims[0], kNsPerRow + kNsPerElement * static_cast<double>(n),
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 fn({args[0] + begin * steps[0], steps[0], dy_stride}, {args[1] + begin * steps[1], steps[1], inner[0]},
                    {args[2] + begin * steps[2], steps[2], inner[1]}, end - begin, n);
               });
}

// Rows of float16 up to this long are widened on the stack, as many at a time as there is room for: nothing that runs
// on other threads, or under NumPy, may ask for memory and not get it.
constexpr std::ptrdiff_t kPieceElements = 4096;

// Calls body(first row, rows) for pieces of [begin, end).
template <class Body>
void for_row_pieces(std::ptrdiff_t begin, std::ptrdiff_t end, std::ptrdiff_t n, Body body) {
  const std::ptrdiff_t most = kPieceElements / std::max<std::ptrdiff_t>(n, 1);
  for (std::ptrdiff_t row = begin; row < end; row += most) body(row, std::min(most, end - row));
}

// Rows of float16 in float32, `length` elements each.
struct WideRows {
  std::ptrdiff_t length;
  alignas(64) float values[kPieceElements];

  explicit WideRows(std::ptrdiff_t length) : length(length) {}
  Matrix matrix(bool has_axis) {
    const auto size = static_cast<std::ptrdiff_t>(sizeof(float));
    return {reinterpret_cast<char*>(values), length * size, has_axis ? size : 0};
  }
  void read(const char* from, npy_intp row_step, npy_intp step, std::ptrdiff_t rows) {
    for (std::ptrdiff_t r = 0; r < rows; ++r)
      kernels().conversion->widen(from + r * row_step, step, values + r * length, length);
  }
  unsigned write(char* to, npy_intp row_step, npy_intp step, std::ptrdiff_t rows) const {
    unsigned raised = 0;
    for (std::ptrdiff_t r = 0; r < rows; ++r)
      raised |= kernels().conversion->narrow(values + r * length, to + r * row_step, step, length);
    return raised;
  }
};

template <SoftmaxForward SoftmaxKernels::* kernel>
void forward_half_loop(char** args, const npy_intp* dims, const npy_intp* steps, void* has_axis) {
  const npy_intp n = dims[1];
  if (n == 0 && has_axis) return;
  const npy_intp y_stride = has_axis ? steps[3] : 0;
  const SoftmaxForward& forward = kernels().softmax->*kernel;
  std::atomic<unsigned> raised{0};
  parallel_for(dims[0], kNsPerRow + kNsPerElement * static_cast<double>(n),
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 if (n > kPieceElements) {
                   raised |= forward.f16({args[0] + begin * steps[0], steps[0], steps[2]},
                                         {args[1] + begin * steps[1], steps[1], y_stride}, end - begin, n);
                   return;
                 }
                 WideRows x(n), y(has_axis ? n : 1);
                 for_row_pieces(begin, end, n, [&](std::ptrdiff_t row, std::ptrdiff_t rows) {
                   x.read(args[0] + row * steps[0], steps[0], steps[2], rows);
                   forward.f32(x.matrix(true), y.matrix(has_axis), rows, n);
                   raised |= y.write(args[1] + row * steps[1], steps[1], y_stride, rows);
                 });
               });
  raise(raised);
}

template <SoftmaxBackward SoftmaxKernels::* kernel>
void backward_half_loop(char** args, const npy_intp* dims, const npy_intp* steps, void* has_axis) {
  const npy_intp n = dims[1];
  if (n == 0) return;
  const npy_intp* inner = steps + 3;
  const npy_intp dy_stride = has_axis ? *inner++ : 0;
  const SoftmaxBackward& backward = kernels().softmax->*kernel;
  std::atomic<unsigned> raised{0};
  parallel_for(dims[0], kNsPerRow + kNsPerElement * static_cast<double>(n),
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 if (n > kPieceElements) {
                   raised |= backward.f16({args[0] + begin * steps[0], steps[0], dy_stride},
                                          {args[1] + begin * steps[1], steps[1], inner[0]},
                                          {args[2] + begin * steps[2], steps[2], inner[1]}, end - begin, n);
                   return;
                 }
                 WideRows dy(has_axis ? n : 1), saved(n), dx(n);
                 for_row_pieces(begin, end, n, [&](std::ptrdiff_t row, std::ptrdiff_t rows) {
                   dy.read(args[0] + row * steps[0], steps[0], dy_stride, rows);
                   saved.read(args[1] + row * steps[1], steps[1], inner[0], rows);
                   backward.f32(dy.matrix(has_axis), saved.matrix(true), dx.matrix(true), rows, n);
                   raised |= dx.write(args[2] + row * steps[2], steps[2], inner[1], rows);
                 });
               });
  raise(raised);
}

}  // namespace

void bind_softmax(pybind11::module_& module) {
  using K = SoftmaxKernels;
  const auto forward = [&](const char* name, bool axis, PyUFuncGenericFunction f16, PyUFuncGenericFunction f32,
                           PyUFuncGenericFunction f64) {
    add_gufunc(module, {name, kDoc, axis ? "(n)->(n)" : "(n)->()", 1, axis, f16, f32, f64});
  };
  const auto backward = [&](const char* name, bool axis, PyUFuncGenericFunction f16, PyUFuncGenericFunction f32,
                            PyUFuncGenericFunction f64) {
    add_gufunc(module, {name, kDoc, axis ? "(n),(n)->(n)" : "(),(n)->(n)", 2, axis, f16, f32, f64});
  };
#define NNFAST_ADD(way, name, axis) \
  way(#name, axis, way##_half_loop<&K::name>, way##_loop<&K::name, false>, way##_loop<&K::name, true>)
  NNFAST_ADD(forward, softmax, true);
  NNFAST_ADD(forward, log_softmax, true);
  NNFAST_ADD(forward, logsumexp, false);
  NNFAST_ADD(backward, softmax_backward, true);
  NNFAST_ADD(backward, log_softmax_backward, true);
  NNFAST_ADD(backward, logsumexp_backward, false);
#undef NNFAST_ADD
}

}  // namespace nnfast
