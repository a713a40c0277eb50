#include "ops/packing.hpp"

#include <string_view>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"

namespace nnfast {
namespace {

// The numbers of a state array that is packed: the values of bfloat16 (uint16) or of blocks of 8 bits (uint8) that hold
// squares, momentum or another average, as float32 of this shape. The caller has checked that there are as many.
py::object unpacked(const py::object& packed_in, const char* held_in, const std::vector<std::ptrdiff_t>& shape) {
  const Array packed = contiguous(Array(packed_in));
  const std::string_view held = held_in;
  const Packing packing = packed.dtype() == NPY_UINT16 ? Packing::bfloat16
                          : held == "squares"          ? Packing::squares8
                          : held == "momentum"         ? Packing::momentum8
                                                       : Packing::average8;
  const Array values = new_array(shape, NPY_FLOAT32);
  const ReleasedGil released(values.size());
  unpack(packing, packed.data(), values.as<float>(), values.size());
  return values.object();
}

}  // namespace

void bind_packing(py::module_& module) { def<&unpacked>(module, "unpacked"); }

}  // namespace nnfast
