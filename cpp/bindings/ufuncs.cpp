#include "bindings/ufuncs.hpp"

#include <atomic>
#include <cfenv>

#include "runtime/parallel.hpp"

namespace nnfast {
namespace py = pybind11;
namespace {

constexpr int kMaxArrays = 4;

struct LoopData {
  PickElementwise pick;
  int index;
  int inputs;
  bool f64;
  double ns_per_element;
};

// NumPy keeps pointers to these, so they live as long as the process.
struct UfuncStorage {
  LoopData loops[2];
  void* data[2];
  PyUFuncGenericFunction functions[2];
  char types[2 * kMaxArrays];
};

// float32 first: NumPy takes the first loop that the inputs can be cast to safely.
void set_types(UfuncStorage& storage, int arrays) {
  for (int a = 0; a < 2 * arrays && a < 2 * kMaxArrays; ++a) storage.types[a] = a < arrays ? NPY_FLOAT32 : NPY_FLOAT64;
}

void raise(unsigned raised) {
  if (raised & kRaisedInvalid) std::feraiseexcept(FE_INVALID);
  if (raised & kRaisedOverflow) std::feraiseexcept(FE_OVERFLOW);
}

// reduce and accumulate hand the loop an output whose element is the next one's first input.
bool feeds_itself(char* const* args, const npy_intp* steps, int inputs) {
  const bool reduces = steps[inputs] == 0 && args[0] == args[inputs];
  const bool accumulates = args[0] + steps[0] == args[inputs] && steps[0] == steps[inputs];
  return inputs > 1 && (reduces || accumulates);
}

void elementwise_loop(char** args, const npy_intp* dims, const npy_intp* steps, void* data) {
  const auto& loop = *static_cast<const LoopData*>(data);
  const Elementwise& kernel = loop.pick(kernels(), loop.index);
  const ElementwiseFn fn = loop.f64 ? kernel.f64 : kernel.f32;
  const npy_intp n = dims[0];
  const int arrays = loop.inputs + 1;
  unsigned all_raised = 0;
  if (feeds_itself(args, steps, loop.inputs)) {
    char* at[kMaxArrays];
    for (npy_intp i = 0; i < n; ++i) {
      for (int k = 0; k < arrays; ++k) at[k] = args[k] + i * steps[k];
      all_raised |= fn(at, steps, 1);
    }
  } else {
    std::atomic<unsigned> raised{0};
    parallel_for(n, loop.ns_per_element, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      char* at[kMaxArrays];
      for (int k = 0; k < arrays; ++k) at[k] = args[k] + begin * steps[k];
      if (const unsigned flags = fn(at, steps, end - begin)) raised.fetch_or(flags, std::memory_order_relaxed);
    });
    all_raised = raised.load(std::memory_order_relaxed);
  }
  if (all_raised) raise(all_raised);
}

void add(py::module_& module, PyObject* ufunc, const char* name) {
  if (!ufunc) throw py::error_already_set();
  module.attr(name) = py::reinterpret_steal<py::object>(ufunc);
}

}  // namespace

void add_ufunc(py::module_& module, const UfuncSpec& spec) {
  auto* storage = new UfuncStorage;
  set_types(*storage, spec.inputs + 1);
  for (int k = 0; k < 2; ++k) {
    storage->loops[k] = {spec.pick, spec.index, spec.inputs, k == 1, spec.ns_per_element};
    storage->data[k] = &storage->loops[k];
    storage->functions[k] = elementwise_loop;
  }
  add(module,
      PyUFunc_FromFuncAndData(storage->functions, storage->data, storage->types, 2, spec.inputs, 1, PyUFunc_None,
                              spec.name, spec.doc, 0),
      spec.name);
}

void add_gufunc(py::module_& module, const char* name, const char* doc, const char* signature, int inputs,
                PyUFuncGenericFunction f32, PyUFuncGenericFunction f64) {
  auto* storage = new UfuncStorage{};
  set_types(*storage, inputs + 1);
  storage->functions[0] = f32;
  storage->functions[1] = f64;
  add(module,
      PyUFunc_FromFuncAndDataAndSignature(storage->functions, storage->data, storage->types, 2, inputs, 1, PyUFunc_None,
                                          name, doc, 0, signature),
      name);
}

}  // namespace nnfast
