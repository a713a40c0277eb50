#include "bindings/ufuncs.hpp"

#include <cfenv>

namespace nnfast {
namespace py = pybind11;
namespace {

constexpr int kMaxLoops = 3;

struct LoopData {
  PickElementwise pick;
  int index;
  int inputs;
  Dtype dtype;
  Cost cost;
};

// NumPy keeps pointers to these, so they live as long as the process.
struct UfuncStorage {
  LoopData loops[kMaxLoops];
  void* data[kMaxLoops];
  PyUFuncGenericFunction functions[kMaxLoops];
  char types[kMaxLoops * kMaxElementwiseArrays];
  std::string doc;
};

void elementwise_loop(char** args, const npy_intp* dims, const npy_intp* steps, void* data) {
  const auto& loop = *static_cast<const LoopData*>(data);
  const Elementwise& kernel = loop.pick(kernels(), loop.index);
  if (const unsigned raised = run_elementwise(kernel[loop.dtype], loop.inputs, args, steps, dims[0], loop.cost))
    raise(raised);
}

// In place of NumPy's error, which tells of casting rules: which dtype there is no loop for, and what to pass.
void explain(const char* ufunc, PyArrayObject** inputs, int count) {
  for (int k = 0; k < count; ++k) {
    if (PyArray_CanCastSafely(PyArray_TYPE(inputs[k]), NPY_FLOAT64)) continue;
    PyErr_Clear();
    if (*ufunc == '_') ++ufunc;  // under a function of that name
    try {
      const py::handle array(reinterpret_cast<PyObject*>(inputs[k]));
      const py::object advice = py::module_::import("nnfast._arrays").attr("advice")(array, "x");
      const py::str dtype(array.attr("dtype"));
      PyErr_Format(PyExc_TypeError, "%s: arrays must be of float16, float32, float64 or integers, got dtype %S%S",
                   ufunc, dtype.ptr(), advice.ptr());
    } catch (py::error_already_set& error) {
      error.restore();
    }
    return;
  }
}

int resolve(PyUFuncObject* ufunc, NPY_CASTING casting, PyArrayObject** operands, PyObject* types,
            PyArray_Descr** dtypes) {
  const int failed = PyUFunc_DefaultTypeResolver(ufunc, casting, operands, types, dtypes);
  if (failed && !types && PyErr_ExceptionMatches(PyExc_TypeError)) explain(ufunc->name, operands, ufunc->nin);
  return failed;
}

py::object checked(PyObject* ufunc) {
  if (!ufunc) throw py::error_already_set();
  reinterpret_cast<PyUFuncObject*>(ufunc)->type_resolver = resolve;
  return py::reinterpret_steal<py::object>(ufunc);
}

}  // namespace

void raise(unsigned raised) {
  if (raised & kRaisedInvalid) std::feraiseexcept(FE_INVALID);
  if (raised & kRaisedOverflow) std::feraiseexcept(FE_OVERFLOW);
}

void report(const char* function, unsigned raised) {
  const int errors =
      (raised & kRaisedInvalid ? NPY_FPE_INVALID : 0) | (raised & kRaisedOverflow ? NPY_FPE_OVERFLOW : 0);
  if (errors && PyUFunc_GiveFloatingpointErrors(function, errors) < 0) throw py::error_already_set();
}

py::object make_ufunc(const UfuncSpec& spec) {
  // NumPy takes the first loop that the inputs can be cast to safely.
  constexpr Dtype dtypes[kMaxLoops] = {Dtype::f16, Dtype::f32, Dtype::f64};
  constexpr char types[kMaxLoops] = {NPY_HALF, NPY_FLOAT32, NPY_FLOAT64};
  constexpr char param_types[kMaxLoops] = {NPY_FLOAT32, NPY_FLOAT32, NPY_FLOAT64};
  auto* storage = new UfuncStorage;
  storage->doc = spec.doc;
  const int arrays = spec.inputs + 1;
  for (int loop = 0; loop < kMaxLoops; ++loop) {
    storage->loops[loop] = {spec.pick, spec.index, spec.inputs, dtypes[loop], spec.cost};
    storage->data[loop] = &storage->loops[loop];
    storage->functions[loop] = elementwise_loop;
    for (int a = 0; a < arrays; ++a) {
      const bool param = a >= spec.inputs - spec.params && a < spec.inputs;
      storage->types[loop * arrays + a] = param ? param_types[loop] : types[loop];
    }
  }
  return checked(PyUFunc_FromFuncAndData(storage->functions, storage->data, storage->types, kMaxLoops, spec.inputs, 1,
                                         PyUFunc_None, spec.name, storage->doc.c_str(), 0));
}

void add_gufunc(py::module_& module, const GufuncSpec& spec) {
  auto* storage = new UfuncStorage{};
  constexpr char types[kMaxLoops] = {NPY_HALF, NPY_FLOAT32, NPY_FLOAT64};
  const PyUFuncGenericFunction functions[kMaxLoops] = {spec.f16, spec.f32, spec.f64};
  for (int loop = 0; loop < kMaxLoops; ++loop) {
    for (int a = 0; a <= spec.inputs; ++a) storage->types[loop * (spec.inputs + 1) + a] = types[loop];
    storage->functions[loop] = functions[loop];
  }
  module.attr(spec.name) = checked(
      PyUFunc_FromFuncAndDataAndSignature(storage->functions, storage->data, storage->types, kMaxLoops, spec.inputs, 1,
                                          PyUFunc_None, spec.name, spec.doc, 0, spec.signature));
}

}  // namespace nnfast
