#include "ops/elementwise.hpp"

#include "ops/raised.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {

bool feeds_itself(char* const* arrays, const std::ptrdiff_t* strides, int inputs) {
  const bool reduces = strides[inputs] == 0 && arrays[0] == arrays[inputs];
  const bool accumulates = arrays[0] + strides[0] == arrays[inputs] && strides[0] == strides[inputs];
  return inputs > 1 && (reduces || accumulates);
}

unsigned run_elementwise(ElementwiseFn fn, int inputs, char* const* arrays, const std::ptrdiff_t* strides,
                         std::ptrdiff_t n, const Cost& cost) {
  const auto run = [&](std::ptrdiff_t begin, std::ptrdiff_t end, bool stream) {
    char* at[kMaxElementwiseArrays];
    for (int k = 0; k <= inputs; ++k) at[k] = arrays[k] + begin * strides[k];
    return fn(at, strides, end - begin, stream);
  };
  if (feeds_itself(arrays, strides, inputs)) {
    unsigned raised = 0;
    for (std::ptrdiff_t i = 0; i < n; ++i) raised |= run(i, i + 1, false);
    return raised;
  }
  SharedRaised raised;
  const bool stream = streams(n * strides[inputs], cost);
  parallel_for(n, cost.ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) { raised.add(run(begin, end, stream)); });
  return raised.all();
}

}  // namespace nnfast
