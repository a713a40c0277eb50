#include "kernels/sums.hpp"

#include "simd/elements.hpp"
#include "simd/float_state.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

template <class S>
void add_rows(const char* values, std::ptrdiff_t row_stride, std::ptrdiff_t stride, std::ptrdiff_t rows,
              std::ptrdiff_t n, double* to) {
  constexpr std::ptrdiff_t lanes = kLanes<typename Stored<S>::V>;
  const ExceptionScope exceptions;
  const bool contiguous = stride == static_cast<std::ptrdiff_t>(sizeof(S));
  for (std::ptrdiff_t r = 0; r < rows; ++r, values += row_stride) {
    std::ptrdiff_t i = 0;
    if (contiguous)
      for (; i + lanes <= n; i += lanes) add_doubles(to + i, Stored<S>::load(values + i * stride), lanes);
    for (; i < n; i += lanes) {
      const std::ptrdiff_t count = smaller(lanes, n - i);
      add_doubles(to + i, Stored<S>::load(values + i * stride, stride, count), count);
    }
  }
}

void widen_float16(const char* from, std::ptrdiff_t stride, float* to, std::ptrdiff_t n) {
  const ExceptionScope exceptions;
  widen_run(from, stride, to, n);
}

}  // namespace

namespace NNFAST_ISA {

extern const SumKernels sums;
const SumKernels sums = {{add_rows<Float16>, add_rows<float>, add_rows<double>}, widen_float16};

}  // namespace NNFAST_ISA
}  // namespace nnfast
