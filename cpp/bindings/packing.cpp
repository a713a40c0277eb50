#include "ops/packing.hpp"

#include <string>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"
#include "ops/optim.hpp"

namespace nnfast {
namespace {

// The numbers of a packed array of this state of a rule: the values of bfloat16 (uint16) or of blocks of 8 bits
// (uint8), as float32 of this shape. The caller has checked that there are as many.
py::object unpacked(const py::object& packed_in, const char* rule, int state,
                    const std::vector<std::ptrdiff_t>& shape) {
  const Array packed = contiguous(Array(packed_in));
  const PackableStates packable = packable_states(optim_rule(rule).value_or(OptimRule::Count));
  if (!packable.any || state < 0 || state >= kMostStates)
    throw py::value_error("rule must be one whose state may be packed, got " + std::string(rule));
  const Packing packing = packed.dtype() == NPY_UINT16 ? Packing::bfloat16 : packable.codes[state];
  const Array values = new_array(shape, NPY_FLOAT32);
  const ReleasedGil released(values.size());
  unpack(packing, packed.data(), values.as<float>(), values.size());
  return values.object();
}

}  // namespace

void bind_packing(py::module_& module) { def<&unpacked>(module, "unpacked"); }

}  // namespace nnfast
