#include "kernels/random.hpp"

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

enum class Kind { bits, uniform, normal };

struct Filler {
  RandomFn fn;
  double ns_per_element;
};

Filler filler(Kind kind, int dtype) {
  const RandomKernels& kernel = *kernels().random;
  const bool narrow = dtype == NPY_UINT32 || dtype == NPY_FLOAT32;
  switch (kind) {
    case Kind::bits:
      return narrow ? Filler{kernel.bits_32, 0.25} : Filler{kernel.bits_64, 0.5};
    case Kind::uniform:
      return narrow ? Filler{kernel.uniform_f32, 0.3} : Filler{kernel.uniform_f64, 0.6};
    default:
      return narrow ? Filler{kernel.normal_f32, 0.8} : Filler{kernel.normal_f64, 3};
  }
}

// Fills `out`, of the kind's dtypes, with the elements offset, offset + 1, ... of a stream, in C order.
void fill_random(int kind, py::handle out_in, std::uint64_t seed, std::uint64_t offset, double first, double second) {
  const Array out(py::reinterpret_borrow<py::object>(out_in));
  const Filler fill = filler(static_cast<Kind>(kind), out.dtype());
  const RandomStream stream{seed, 0, offset, first, second};
  const Array arrays[1] = {out};
  const StridedArrays<1> walk = strided(arrays);
  std::ptrdiff_t strides[1];
  walk.inner_strides(strides);
  // Threads begin where blocks do.
  const auto lead = static_cast<std::ptrdiff_t>(-offset % kRandomBlock);
  py::gil_scoped_release release;
  const auto range = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    walk.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
      fill.fn(stream, position, position + count, at[0], strides[0]);
    });
  };
  const std::ptrdiff_t n = out.size(), alone = std::min(lead, n);
  if (alone > 0) range(0, alone);
  parallel_for(
      n - alone, fill.ns_per_element,
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) { range(alone + begin, alone + end); }, kRandomBlock);
}

py::object philox4x32(std::uint64_t key, std::uint64_t first, std::uint32_t stream, std::ptrdiff_t blocks) {
  const Array words = new_array({blocks, 4}, NPY_UINT32);
  kernels().random->philox(key, first, stream, words.as<std::uint32_t>(), blocks);
  return words.object();
}

}  // namespace

void bind_random(py::module_& module) {
  module.def("fill_random", &fill_random);
  module.def("_philox4x32", &philox4x32, py::arg("key"), py::arg("first"), py::arg("stream"), py::arg("blocks"));
}

}  // namespace nnfast
