#include "ops/softmax.hpp"

#include "bindings/families.hpp"
#include "bindings/ufuncs.hpp"

namespace nnfast {
namespace {

constexpr const char* kDoc = "The generalised ufunc under the function of this name in nnfast.softmax.";

template <Softmax index, int inputs, int one_element, Dtype dtype>
void loop(char** args, const npy_intp* dims, const npy_intp* steps, void*) {
  const npy_intp* inner = steps + inputs + 1;
  Matrix arrays[kSoftmaxArrays] = {};
  for (int k = 0; k <= inputs; ++k) arrays[k] = {args[k], steps[k], k == one_element ? 0 : *inner++};
  if (const unsigned raised = softmax_rows(index, dtype, arrays, dims[0], dims[1])) raise(raised);
}

}  // namespace

void bind_softmax(pybind11::module_& module) {
#define NNFAST_ADD(name, inputs, one_element, signature)                                                    \
  add_gufunc(module, {#name, kDoc, signature, inputs, loop<Softmax::name, inputs, one_element, Dtype::f16>, \
                      loop<Softmax::name, inputs, one_element, Dtype::f32>,                                 \
                      loop<Softmax::name, inputs, one_element, Dtype::f64>});
  NNFAST_SOFTMAX(NNFAST_ADD)
#undef NNFAST_ADD
}

}  // namespace nnfast
