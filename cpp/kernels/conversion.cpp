#include "kernels/conversion.hpp"

#include "simd/elements.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

void widen(const char* halves, std::ptrdiff_t stride, float* to, std::ptrdiff_t n) {
  const ExceptionScope exceptions;
  widen_run(halves, stride, to, n);
}

unsigned narrow(const float* from, char* halves, std::ptrdiff_t stride, std::ptrdiff_t n) {
  const ExceptionScope exceptions;
  narrow_run(reinterpret_cast<const char*>(from), sizeof(float), halves, stride, n);
  return exceptions.raised() & kRaisedOverflow;
}

}  // namespace

namespace NNFAST_ISA {

extern const ConversionKernels conversion;
const ConversionKernels conversion = {widen, narrow};

}  // namespace NNFAST_ISA
}  // namespace nnfast
