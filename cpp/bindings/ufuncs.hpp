// Making NumPy ufuncs out of elementwise kernels.
#pragma once

#include <pybind11/pybind11.h>

#include <span>
#include <string>

#include "bindings/arrays.hpp"
#include "ops/elementwise.hpp"
#include "runtime/kernel_table.hpp"

namespace nnfast {

// Reports a set of Raised as np.errstate says: not at all, by a warning or an error. For functions that are no ufuncs.
void report(const char* function, unsigned raised);

// Finds a kernel in the table in use: the instruction set is chosen when the loop runs.
using PickElementwise = const Elementwise& (*)(const KernelTable&, int index);

struct UfuncSpec {
  const char* name;  // must outlive the ufunc
  std::string doc;
  int inputs;  // including the parameters
  int params;  // the last inputs, which are float32 where the others are float16
  PickElementwise pick;
  int index;
  Cost cost;
};

// A ufunc with loops for float16, float32 and float64, and one for bfloat16 once that has come.
pybind11::object make_ufunc(const UfuncSpec& spec);

// A ufunc of make_ufunc on arrays that need none of NumPy's rules, which take longer than a short loop: plain ones of
// one shape and dtype, contiguous and of at least one axis. `out`: an array, or None. The result, or a null object:
// then the ufunc must be called.
pybind11::object call_plainly(pybind11::handle ufunc, std::span<const pybind11::handle> arrays,
                              std::span<const double> parameters, pybind11::handle out);

struct GufuncSpec {
  const char *name, *doc, *signature;  // must outlive the ufunc
  int inputs, one_element;             // the array of one element a row, or -1
  PyUFuncGenericFunction f16, f32, f64;
};

// Raises the floating-point exceptions of a set of Raised in the calling thread: NumPy looks when a ufunc's loop ends.
void raise(unsigned raised);

// Adds a generalised ufunc over the last axis with loops for float16, float32, float64 and bfloat16, as above.
void add_gufunc(pybind11::module_& module, const GufuncSpec& spec);

// Gives NumPy the loops for bfloat16 of all ufuncs.
void add_bfloat16_loops(int dtype);

}  // namespace nnfast
