#include "kernels/sums.hpp"

#include "simd/float_state.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

template <class T>
void add(double* to, const T* values, std::ptrdiff_t n) {
  using V = Vec<T>;
  const ExceptionScope exceptions;
  std::ptrdiff_t i = 0;
  for (; i + kLanes<V> <= n; i += kLanes<V>) add_doubles(to + i, load<V>(values + i), kLanes<V>);
  if (i < n) add_doubles(to + i, load_partial<V>(values + i, n - i, T{0}), n - i);
}

}  // namespace

namespace NNFAST_ISA {

extern const SumKernels sums;
const SumKernels sums = {add<float>, add<double>};

}  // namespace NNFAST_ISA
}  // namespace nnfast
