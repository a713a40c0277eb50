// What each file of bindings adds to the module.
#pragma once

#include <pybind11/pybind11.h>

#include "kernels/families.def"

namespace nnfast {

void bind_runtime(pybind11::module_& module);
#define NNFAST_DECLARE(name, Kernels, _) void bind_##name(pybind11::module_& module);
NNFAST_FAMILIES(NNFAST_DECLARE, )
#undef NNFAST_DECLARE

}  // namespace nnfast
