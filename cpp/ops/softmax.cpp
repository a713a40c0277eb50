#include "ops/softmax.hpp"

#include "ops/costs.hpp"
#include "ops/raised.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {

unsigned softmax_rows(Softmax index, Dtype dtype, const Matrix (&arrays)[kSoftmaxArrays], std::ptrdiff_t rows,
                      std::ptrdiff_t n) {
  constexpr Cost kCost = cost_of("softmax"), kRowCost = cost_of("softmax_row");
  const SoftmaxFn fn = kernels().softmax->of[static_cast<int>(index)][dtype];
  SharedRaised raised;
  parallel_for(rows, kRowCost.ns + kCost.ns * static_cast<double>(n), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    Matrix part[kSoftmaxArrays];
    for (int k = 0; k < kSoftmaxArrays; ++k) {
      part[k] = arrays[k];
      part[k].data += begin * part[k].row_stride;
    }
    raised.add(fn(part, end - begin, n));
  });
  return raised.all();
}

}  // namespace nnfast
