#include "kernels/conversion.hpp"

#include "kernels/elementwise_loop.hpp"

namespace nnfast {
namespace {

constexpr auto kHalfSize = static_cast<std::ptrdiff_t>(sizeof(Half));

void widen_halves(const char* halves, std::ptrdiff_t stride, float* to, std::ptrdiff_t n) {
  using V = Vec<float>;
  const ExceptionScope exceptions;
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = n - i < kLanes<V> ? n - i : kLanes<V>;
    if (stride == kHalfSize && count == kLanes<V>) {
      store(to + i, Stored<Half>::load(halves + i * stride));
    } else {
      const V v = Stored<Half>::load(halves + i * stride, stride, count);
      for (std::ptrdiff_t k = 0; k < count; ++k) to[i + k] = v[k];
    }
  }
}

unsigned narrow_floats(const float* from, char* halves, std::ptrdiff_t stride, std::ptrdiff_t n) {
  using V = Vec<float>;
  const ExceptionScope exceptions;
  for (std::ptrdiff_t i = 0; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = n - i < kLanes<V> ? n - i : kLanes<V>;
    const V v = load_strided<V>(reinterpret_cast<const char*>(from + i), sizeof(float), count, 0.0f);
    if (stride == kHalfSize && count == kLanes<V>) {
      Stored<Half>::store(halves + i * stride, v);
    } else {
      Stored<Half>::store(halves + i * stride, stride, v, count);
    }
  }
  return exceptions.raised() & kRaisedOverflow;
}

}  // namespace

namespace NNFAST_ISA {

extern const ConversionKernels conversion;
const ConversionKernels conversion = {widen_halves, narrow_floats};

}  // namespace NNFAST_ISA
}  // namespace nnfast
