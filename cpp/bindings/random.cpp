#include "ops/random.hpp"

#include <cmath>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"
#include "runtime/kernel_table.hpp"

namespace nnfast {
namespace {

// Fills `out`, of one of the kind's dtypes, in C order.
void fill_by(RandomKind kind, py::handle out_in, const RandomStream& stream) {
  const Array out(py::reinterpret_borrow<py::object>(out_in));
  const StridedArrays<1> array = strided({out});
  const bool wide = PyArray_ITEMSIZE(out.get()) == 8;
  py::gil_scoped_release release;
  fill_random(kind, wide, stream, array);
}

void fill(int kind, py::handle out, std::uint64_t seed, std::uint64_t offset, double first, double second) {
  fill_by(static_cast<RandomKind>(kind), out, {seed, 0, offset, first, second});
}

// rate: of the exponential distribution of the proposals, 0 for uniform ones, or negative for normal ones.
void fill_truncated(py::handle out, std::uint64_t seed, std::uint64_t offset, double mean, double std, double low,
                    double high, double rate) {
  const double fall = rate > 0 ? std::expm1(-rate * (high - low)) : 0;
  fill_by(rate < 0 ? RandomKind::truncated : RandomKind::narrow, out,
          {seed, 0, offset, mean, std, low, high, rate, fall});
}

void fill_integers(py::handle out, std::uint64_t seed, std::uint64_t offset, std::uint64_t lowest,
                   std::uint64_t range) {
  fill_by(RandomKind::integers, out, {.seed = seed, .stream = 0, .offset = offset, .lowest = lowest, .range = range});
}

// Fills `out`, contiguous, of int64.
void permute(py::handle out_in, std::uint64_t seed) {
  const Array out(py::reinterpret_borrow<py::object>(out_in));
  py::gil_scoped_release release;
  permutation(seed, out.as<std::int64_t>(), out.size());
}

py::object philox4x32(std::uint64_t key, std::uint64_t first, std::uint32_t stream, std::ptrdiff_t blocks) {
  const Array words = new_array({blocks, 4}, NPY_UINT32);
  kernels().random->philox(key, first, stream, words.as<std::uint32_t>(), blocks);
  return words.object();
}

}  // namespace

void bind_random(py::module_& module) {
  def<&fill>(module, "fill_random");
  def<&fill_truncated>(module, "fill_truncated");
  def<&fill_integers>(module, "fill_integers");
  def<&permute>(module, "permutation");
  def<&philox4x32>(module, "_philox4x32");
}

}  // namespace nnfast
