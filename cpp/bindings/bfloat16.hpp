// Arrays of ml_dtypes.bfloat16. The package need not be there: its dtype is known once an array of it comes.
#pragma once

#include "bindings/arrays.hpp"

namespace nnfast {

// NumPy's number of the dtype, or -1 while no array of it has come.
int bfloat16_dtype();
// Whether NumPy's array is of it. The first one of all gives the ufuncs their loops.
bool is_bfloat16(PyArrayObject* array);
inline bool is_bfloat16(const Array& array) { return array.dtype() >= NPY_USERDEF && is_bfloat16(array.get()); }
// Whether it is float16 or bfloat16.
inline bool is_16_bits(int dtype) { return dtype == NPY_HALF || (dtype >= 0 && dtype == bfloat16_dtype()); }

// A contiguous float32 array of its numbers.
Array widened_bfloat16(const Array& bfloat16);
void round_to_bfloat16(const Array& bfloat16, const Array& float32);
// As refresh_from_bfloat16 of ops/bfloat16.hpp.
void refresh_from_bfloat16(const Array& bfloat16, const Array& float32);

}  // namespace nnfast
