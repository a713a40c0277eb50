#include "bindings/ufuncs.hpp"

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "bindings/bfloat16.hpp"
#include "bindings/functions.hpp"
#include "ops/bfloat16.hpp"

namespace nnfast {
namespace py = pybind11;
namespace {

constexpr int kMaxLoops = 3;

struct LoopData {
  PickElementwise pick;
  int index;
  int inputs, params;
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

// ---- bfloat16, by the kernels of float32 ----

struct GufuncData {
  PyUFuncGenericFunction f32;
  int inputs, one_element;
};

// A loop that NumPy is given when bfloat16 has come, and which of its arrays are of it: the others are float32.
struct WaitingLoop {
  PyUFuncObject* ufunc;
  PyUFuncGenericFunction loop;
  const void* data;
  int first_param, params;
};
std::vector<WaitingLoop>& waiting_loops() {
  static std::vector<WaitingLoop> loops;
  return loops;
}

void bfloat16_loop(char** args, const npy_intp* dims, const npy_intp* steps, void* data) {
  const auto& loop = *static_cast<const LoopData*>(data);
  const ElementwiseFn kernel = loop.pick(kernels(), loop.index).f32;
  if (const unsigned raised =
          run_elementwise_bfloat16(kernel, loop.inputs, loop.params, args, steps, dims[0], loop.cost))
    raise(raised);
}

// Rows of n numbers beside as many of float32, which are contiguous.
Bfloat16AndFloat rows_beside(char* bfloat16, npy_intp row_step, npy_intp step, std::ptrdiff_t n, float* float32) {
  Bfloat16AndFloat rows;
  rows.ndim = 2;
  rows.shape[1] = n;
  rows.strides[0][0] = row_step;
  rows.strides[0][1] = step;
  rows.strides[1][0] = n * static_cast<std::ptrdiff_t>(sizeof(float));
  rows.strides[1][1] = sizeof(float);
  rows.data[0] = bfloat16;
  rows.data[1] = reinterpret_cast<char*>(float32);
  return rows;
}

// Some rows at a time, as float32 in memory of their own.
void bfloat16_gufunc_loop(char** args, const npy_intp* dims, const npy_intp* steps, void* data) {
  constexpr std::ptrdiff_t kElements = 1 << 16;
  const auto& loop = *static_cast<const GufuncData*>(data);
  const std::ptrdiff_t rows = dims[0], n = dims[1], length = std::max<std::ptrdiff_t>(n, 1);
  const std::ptrdiff_t most = std::max<std::ptrdiff_t>(std::min(rows, kElements / length), 1);
  const int arrays = loop.inputs + 1;
  const std::unique_ptr<float[]> room(new (std::nothrow) float[static_cast<std::size_t>(arrays * most * length)]);
  if (!room) {
    const py::gil_scoped_acquire gil;
    PyErr_NoMemory();
    return;
  }
  Bfloat16AndFloat of[kMaxElementwiseArrays];
  char* wide[kMaxElementwiseArrays];
  npy_intp wide_steps[2 * kMaxElementwiseArrays];  // of rows, then of the elements of those that have n
  const npy_intp* inner = steps + arrays;
  npy_intp* wide_inner = wide_steps + arrays;
  for (int k = 0; k < arrays; ++k) {
    const bool reduced = k == loop.one_element;
    of[k] = rows_beside(args[k], steps[k], reduced ? 0 : *inner++, reduced ? 1 : n, room.get() + k * most * length);
    wide[k] = of[k].data[1];
    wide_steps[k] = of[k].strides[1][0];
    if (!reduced) *wide_inner++ = sizeof(float);
  }
  for (std::ptrdiff_t first = 0; first < rows; first += most) {
    const npy_intp sizes[2] = {std::min(most, rows - first), n};
    for (int k = 0; k < arrays; ++k) {
      of[k].shape[0] = sizes[0];
      of[k].data[0] = args[k] + first * steps[k];
    }
    for (int k = 0; k < loop.inputs; ++k) widen_bfloat16(of[k]);
    loop.f32(wide, sizes, wide_steps, nullptr);
    round_to_bfloat16(of[loop.inputs]);
  }
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
      PyErr_Format(PyExc_TypeError,
                   "%s: arrays must be of float16, bfloat16, float32, float64 or integers, got dtype %S%S", ufunc,
                   dtype.ptr(), advice.ptr());
    } catch (py::error_already_set& error) {
      error.restore();
    }
    return;
  }
}

int resolve(PyUFuncObject* ufunc, NPY_CASTING casting, PyArrayObject** operands, PyObject* types,
            PyArray_Descr** dtypes) {
  try {
    for (int k = 0; k < ufunc->nargs; ++k)
      if (operands[k]) is_bfloat16(operands[k]);  // the first array of bfloat16 registers the loops
  } catch (py::error_already_set& error) {
    error.restore();
    return -1;
  }
  const int failed = PyUFunc_DefaultTypeResolver(ufunc, casting, operands, types, dtypes);
  if (failed && !types && PyErr_ExceptionMatches(PyExc_TypeError)) explain(ufunc->name, operands, ufunc->nin);
  return failed;
}

// Whether a loop over all elements can be called as it is: for the first array, and for others of its shape.
bool is_plain(py::handle value) {
  if (!PyArray_CheckExact(value.ptr())) return false;
  auto* array = reinterpret_cast<PyArrayObject*>(value.ptr());
  const int dtype = PyArray_TYPE(array);
  return (dtype == NPY_HALF || dtype == NPY_FLOAT32 || dtype == NPY_FLOAT64) && PyArray_ISCARRAY_RO(array) &&
         PyArray_NDIM(array) > 0 && PyArray_SIZE(array) > 0;
}
bool is_plain(py::handle value, const Array& like) {
  if (!is_plain(value)) return false;
  auto* array = reinterpret_cast<PyArrayObject*>(value.ptr());
  return PyArray_TYPE(array) == like.dtype() && PyArray_SAMESHAPE(array, like.get());
}

// A parameter's bytes as the loop reads them; whether its type has such a number.
bool store_parameter(double value, int dtype, char* to) {
  if (dtype == NPY_FLOAT64) {
    std::memcpy(to, &value, sizeof value);
    return true;
  }
  const auto narrow = static_cast<float>(value);
  std::memcpy(to, &narrow, sizeof narrow);
  return std::isinf(value) || !std::isinf(narrow);  // else NumPy decides whether to warn
}

py::object checked(PyObject* ufunc) {
  if (!ufunc) throw py::error_already_set();
  reinterpret_cast<PyUFuncObject*>(ufunc)->type_resolver = resolve;
  return py::reinterpret_steal<py::object>(ufunc);
}

// Keeps the ufunc.
void wait_for_bfloat16(const py::object& ufunc, PyUFuncGenericFunction loop, const void* data, int first_param,
                       int params) {
  waiting_loops().push_back(
      {reinterpret_cast<PyUFuncObject*>(py::object(ufunc).release().ptr()), loop, data, first_param, params});
}

}  // namespace

void add_bfloat16_loops(int dtype) {
  for (auto& waiting = waiting_loops(); !waiting.empty(); waiting.pop_back()) {
    const auto& [ufunc, loop, data, first_param, params] = waiting.back();
    int types[kMaxElementwiseArrays];
    for (int k = 0; k < ufunc->nargs; ++k)
      types[k] = k >= first_param && k < first_param + params ? NPY_FLOAT32 : dtype;
    if (PyUFunc_RegisterLoopForType(ufunc, dtype, loop, types, const_cast<void*>(data)) != 0)
      throw py::error_already_set();
  }
}

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
    storage->loops[loop] = {spec.pick,   spec.index,   spec.inputs,
                            spec.params, dtypes[loop], scaled(spec.cost, dtypes[loop])};
    storage->data[loop] = &storage->loops[loop];
    storage->functions[loop] = elementwise_loop;
    for (int a = 0; a < arrays; ++a) {
      const bool param = a >= spec.inputs - spec.params && a < spec.inputs;
      storage->types[loop * arrays + a] = param ? param_types[loop] : types[loop];
    }
  }
  const py::object made =
      checked(PyUFunc_FromFuncAndData(storage->functions, storage->data, storage->types, kMaxLoops, spec.inputs, 1,
                                      PyUFunc_None, spec.name, storage->doc.c_str(), 0));
  wait_for_bfloat16(made, bfloat16_loop, storage->data[1], spec.inputs - spec.params, spec.params);
  return made;
}

py::object call_plainly(py::handle ufunc, std::span<const py::handle> arrays, std::span<const double> parameters,
                        py::handle out) {
  if (!is_plain(arrays[0])) return {};
  const Array x(py::reinterpret_borrow<py::object>(arrays[0]));
  if (!std::all_of(arrays.begin() + 1, arrays.end(), [&](py::handle array) { return is_plain(array, x); })) return {};
  const bool given = !out.is_none();
  if (given && (!is_plain(out, x) || !PyArray_ISWRITEABLE(reinterpret_cast<PyArrayObject*>(out.ptr())))) return {};
  alignas(double) char values[kMaxElementwiseArrays][sizeof(double)];
  char* at[kMaxElementwiseArrays];
  std::ptrdiff_t strides[kMaxElementwiseArrays];
  const std::ptrdiff_t n = x.size(), size = PyArray_ITEMSIZE(x.get());
  std::size_t k = 0;
  for (const py::handle array : arrays) {
    at[k] = PyArray_BYTES(reinterpret_cast<PyArrayObject*>(array.ptr()));
    strides[k++] = size;
  }
  for (const double parameter : parameters) {
    if (!store_parameter(parameter, x.dtype(), values[k])) return {};
    at[k] = values[k];
    strides[k++] = 0;
  }
  const Array y = given ? Array(py::reinterpret_borrow<py::object>(out)) : new_array(x, x.dtype());
  for (std::size_t a = 0; given && a < arrays.size(); ++a)
    if (y.data() != at[a] && y.data() < at[a] + n * size && at[a] < y.data() + n * size) return {};
  at[k] = y.data();
  strides[k] = size;
  const auto* of = reinterpret_cast<PyUFuncObject*>(ufunc.ptr());
  const auto& loop = *static_cast<const LoopData*>(of->data[static_cast<int>(x.floating())]);
  unsigned raised = 0;
  {
    const ReleasedGil released(n);
    raised = run_elementwise(loop.pick(kernels(), loop.index)[loop.dtype], loop.inputs, at, strides, n, loop.cost);
  }
  report(of->name, raised);
  return y.object();
}

void add_gufunc(py::module_& module, const GufuncSpec& spec) {
  auto* storage = new UfuncStorage{};
  constexpr char types[kMaxLoops] = {NPY_HALF, NPY_FLOAT32, NPY_FLOAT64};
  const PyUFuncGenericFunction functions[kMaxLoops] = {spec.f16, spec.f32, spec.f64};
  for (int loop = 0; loop < kMaxLoops; ++loop) {
    for (int a = 0; a <= spec.inputs; ++a) storage->types[loop * (spec.inputs + 1) + a] = types[loop];
    storage->functions[loop] = functions[loop];
  }
  const py::object made = checked(PyUFunc_FromFuncAndDataAndSignature(storage->functions, storage->data, storage->types,
                                                                      kMaxLoops, spec.inputs, 1, PyUFunc_None,
                                                                      spec.name, spec.doc, 0, spec.signature));
  module.attr(spec.name) = made;
  wait_for_bfloat16(made, bfloat16_gufunc_loop, new GufuncData{spec.f32, spec.inputs, spec.one_element}, 0, 0);
}

}  // namespace nnfast
