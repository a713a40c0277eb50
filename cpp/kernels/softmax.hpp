// The family of softmax over the rows of a matrix.
#pragma once

#include "kernels/matrix.hpp"
#include "kernels/per_dtype.hpp"

// X(kernel in softmax.cpp, inputs, the array that has one element a row or -1, signature as a generalised ufunc). The
// arrays are x and y, or dy, what is saved and dx; y is saved, of logsumexp x.
#define NNFAST_SOFTMAX(X)                        \
  X(softmax, 1, -1, "(n)->(n)")                  \
  X(softmax_backward, 2, -1, "(n),(n)->(n)")     \
  X(log_softmax, 1, -1, "(n)->(n)")              \
  X(log_softmax_backward, 2, -1, "(n),(n)->(n)") \
  X(logsumexp, 1, 1, "(n)->()")                  \
  X(logsumexp_backward, 2, 0, "(),(n)->(n)")

namespace nnfast {

enum class Softmax : int {
#define NNFAST_ENUM(name, ...) name,
  NNFAST_SOFTMAX(NNFAST_ENUM)
#undef NNFAST_ENUM
      Count
};

constexpr int kSoftmaxArrays = 3;

// `rows` rows of n elements of each array, the result last; an array of one element a row has stride 0. Returns what
// was raised (a set of Raised): overflow, where a float16 is out of range.
using SoftmaxFn = unsigned (*)(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n);

struct SoftmaxKernels {
  PerDtype<SoftmaxFn> of[static_cast<int>(Softmax::Count)];
};

}  // namespace nnfast
