// Kernels by the dtype of the arrays they read and write.
#pragma once

#include <cstddef>

namespace nnfast {

enum class Dtype : int { f16, f32, f64 };

template <class T>
constexpr Dtype dtype_of = sizeof(T) == 2 ? Dtype::f16 : (sizeof(T) == 4 ? Dtype::f32 : Dtype::f64);

constexpr std::ptrdiff_t size_of(Dtype dtype) { return std::ptrdiff_t{2} << static_cast<int>(dtype); }

// Parameters, state and statistics of float16 arrays are float32: 0.01 has few digits in float16.
constexpr Dtype parameter_dtype(Dtype dtype) { return dtype == Dtype::f16 ? Dtype::f32 : dtype; }

template <class Kernel>
struct PerDtype {
  Kernel f16, f32, f64;  // f16 is null in a family without float16
  constexpr const Kernel& operator[](Dtype dtype) const {
    return dtype == Dtype::f16 ? f16 : (dtype == Dtype::f32 ? f32 : f64);
  }
};

}  // namespace nnfast
