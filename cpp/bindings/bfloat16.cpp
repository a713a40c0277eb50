#include "bindings/bfloat16.hpp"

#include <string_view>

#include "bindings/functions.hpp"
#include "bindings/ufuncs.hpp"
#include "ops/bfloat16.hpp"

namespace nnfast {
namespace {

int known = -1;

bool is_of_ml_dtypes(const PyArray_Descr* dtype) {
  return PyDataType_ELSIZE(dtype) == 2 && std::string_view(dtype->typeobj->tp_name).ends_with("bfloat16");
}

}  // namespace

int bfloat16_dtype() { return known; }

bool is_bfloat16(PyArrayObject* array) {
  const int dtype = PyArray_TYPE(array);
  if (dtype < NPY_USERDEF || known >= 0 || !is_of_ml_dtypes(PyArray_DESCR(array))) return dtype == known && dtype >= 0;
  add_bfloat16_loops(dtype);
  known = dtype;
  return true;
}

// With the GIL: lists of arrays may be being read.
Array widened_bfloat16(const Array& bfloat16) {
  const Array made = new_array(bfloat16, NPY_FLOAT32);
  widen_bfloat16(strided({bfloat16, made}));
  return made;
}

void round_to_bfloat16(const Array& bfloat16, const Array& float32) {
  const auto arrays = strided({bfloat16, float32});
  const ReleasedGil released(float32.size());
  round_to_bfloat16(arrays);
}

void refresh_from_bfloat16(const Array& bfloat16, const Array& float32) {
  const auto arrays = strided({bfloat16, float32});
  const ReleasedGil released(float32.size());
  refresh_from_bfloat16(arrays);
}

}  // namespace nnfast
