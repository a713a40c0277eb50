#include "ops/random.hpp"

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"
#include "runtime/kernel_table.hpp"

namespace nnfast {
namespace {

// Fills `out`, of one of the kind's dtypes, in C order.
void fill(int kind, py::handle out_in, std::uint64_t seed, std::uint64_t offset, double first, double second) {
  const Array out(py::reinterpret_borrow<py::object>(out_in));
  const StridedArrays<1> array = strided({out});
  const bool wide = PyArray_ITEMSIZE(out.get()) == 8;
  py::gil_scoped_release release;
  fill_random(static_cast<RandomKind>(kind), wide, {seed, 0, offset, first, second}, array);
}

py::object philox4x32(std::uint64_t key, std::uint64_t first, std::uint32_t stream, std::ptrdiff_t blocks) {
  const Array words = new_array({blocks, 4}, NPY_UINT32);
  kernels().random->philox(key, first, stream, words.as<std::uint32_t>(), blocks);
  return words.object();
}

}  // namespace

void bind_random(py::module_& module) {
  def<&fill>(module, "fill_random");
  def<&philox4x32>(module, "_philox4x32");
}

}  // namespace nnfast
