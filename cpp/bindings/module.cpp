#define NNFAST_IMPORTS_NUMPY
#include "bindings/families.hpp"
#include "bindings/numpy_api.hpp"

namespace {

bool import_numpy() {
  import_array1(false);
  import_umath1(false);
  return true;
}

}  // namespace

// The GIL is needed, which is what a module says that does not say otherwise: checks read lists and arrays that another
// thread could change meanwhile, and an Optimizer keeps what it has checked. The kernels run without it. A
// free-threaded interpreter turns it on, and says so, when this is loaded.
PYBIND11_MODULE(_core, module, pybind11::multiple_interpreters::not_supported()) {
  if (!import_numpy()) throw pybind11::error_already_set();
  nnfast::bind_runtime(module);
#define NNFAST_BIND(name, Kernels, _) nnfast::bind_##name(module);
  NNFAST_FAMILIES(NNFAST_BIND, )
#undef NNFAST_BIND
}
