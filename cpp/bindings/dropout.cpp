#include "kernels/dropout.hpp"

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

constexpr double kNsPerMaskElement = 0.25;
constexpr double kNsPerElement = 0.1;
constexpr double kTwoTo32 = 4294967296.0;

std::ptrdiff_t mask_bytes(std::ptrdiff_t elements) { return (elements + 7) / 8; }

Array checked_mask(py::handle value, std::ptrdiff_t elements) {
  const Array mask(py::reinterpret_borrow<py::object>(value));
  if (!PyArray_Check(value.ptr()) || mask.dtype() != NPY_UINT8)
    throw py::type_error("mask must be a uint8 array of packed bits, got " +
                         (PyArray_Check(value.ptr()) ? "dtype " + dtype_name(mask.dtype())
                                                     : std::string(Py_TYPE(value.ptr())->tp_name)));
  require_shape(mask, {mask_bytes(elements)}, "mask");
  if (elements > 8 && mask.stride(0) != 1) throw py::value_error("mask must be contiguous");
  return mask;
}

// to = kept ? from * scale : 0, after making the mask where `make` is given. One pass: a chunk's bits are still in
// cache.
void run(const Array& from, const Array& to, const Array& mask, const DropoutMask* make, double scale) {
  const Array arrays[2] = {from, to};
  const StridedArrays<2> walk = strided(arrays);
  std::ptrdiff_t strides[2];
  walk.inner_strides(strides);
  const DropoutKernels& kernel = *kernels().dropout;
  const DropoutApplyFn apply = from.is_float64() ? kernel.apply_f64 : kernel.apply_f32;
  const auto* bits = mask.as<const std::uint8_t>();
  const std::ptrdiff_t n = from.size();
  constexpr std::ptrdiff_t chunk = 64 * kMaskBlock;
  py::gil_scoped_release release;
  parallel_for(
      n, kNsPerElement + (make ? kNsPerMaskElement : 0),
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (std::ptrdiff_t first = begin; first < end; first += chunk) {
          const std::ptrdiff_t last = std::min(first + chunk, end);
          if (make) kernel.mask(*make, first, last);
          walk.for_runs(first, last, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
            apply(bits, position, at[0], strides[0], at[1], strides[1], count, scale);
          });
        }
      },
      kMaskBlock);
}

// x is masked with new bits from `seed`, or with `mask`. Returns y and the mask.
py::tuple dropout(py::handle x_in, double p, double scale, std::uint64_t seed, py::handle mask_in, py::handle out) {
  const Array x = read_floats(x_in, "x");
  const std::ptrdiff_t n = x.size();
  const bool make = mask_in.is_none();
  const Array mask = make ? new_array({mask_bytes(n)}, NPY_UINT8) : checked_mask(mask_in, n);
  const Array y = output(out, x, "out", "x");
  if (!make) require_disjoint(y, "out", mask, "mask");
  // Rounded to the nearest multiple of 2^-32.
  const DropoutMask maker{mask.as<std::uint8_t>(), seed, static_cast<std::uint64_t>(p * kTwoTo32 + 0.5)};
  run(x, y, mask, make ? &maker : nullptr, scale);
  return py::make_tuple(y.object(), mask.object());
}

py::object dropout_backward(py::handle dy_in, py::handle mask_in, double scale, py::handle out) {
  const Array dy = read_floats(dy_in, "dy");
  const Array mask = checked_mask(mask_in, dy.size());
  const Array dx = output(out, dy, "out", "dy");
  require_disjoint(dx, "out", mask, "mask");
  run(dy, dx, mask, nullptr, scale);
  return dx.object();
}

// x as a float array, and `out` checked against it or a new array: what inference multiplies by NumPy's own means.
py::tuple checked_output(py::handle x_in, py::handle out) {
  const Array x = read_floats(x_in, "x");
  return py::make_tuple(x.object(), output(out, x, "out", "x").object());
}

py::object philox4x32(std::uint64_t key, std::uint64_t first, std::uint32_t stream, std::ptrdiff_t blocks) {
  const Array words = new_array({blocks, 4}, NPY_UINT32);
  kernels().dropout->philox(key, first, stream, words.as<std::uint32_t>(), blocks);
  return words.object();
}

}  // namespace

void bind_dropout(py::module_& module) {
  module.def("dropout", &dropout);
  module.def("dropout_backward", &dropout_backward);
  module.def("checked_output", &checked_output, py::arg("x"), py::arg("out"));
  module.def("_philox4x32", &philox4x32, py::arg("key"), py::arg("first"), py::arg("stream"), py::arg("blocks"));
}

}  // namespace nnfast
