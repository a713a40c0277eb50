// The family of softmax over the rows of a matrix.
#pragma once

#include "kernels/matrix.hpp"
#include "kernels/per_dtype.hpp"

// X(kernel in softmax.cpp, inputs, the array that has one element a row or -1, signature as a generalised ufunc). The
// arrays are x and y, or dy, what is saved and dx; y is saved, of logsumexp x.
#define NNFAST_EXPONENTIALS(X)                   \
  X(softmax, 1, -1, "(n)->(n)")                  \
  X(softmax_backward, 2, -1, "(n),(n)->(n)")     \
  X(log_softmax, 1, -1, "(n)->(n)")              \
  X(log_softmax_backward, 2, -1, "(n),(n)->(n)") \
  X(logsumexp, 1, 1, "(n)->()")
#define NNFAST_LOGSUMEXP_BACKWARD(X) X(logsumexp_backward, 2, 0, "(),(n)->(n)")
#define NNFAST_SPARSEMAX(X)       \
  X(sparsemax, 1, -1, "(n)->(n)") \
  X(sparsemax_backward, 2, -1, "(n),(n)->(n)")
#define NNFAST_SOFTMAX(X) NNFAST_EXPONENTIALS(X) NNFAST_LOGSUMEXP_BACKWARD(X) NNFAST_SPARSEMAX(X)

// Those of scaled rows of which some elements take part: x and y, or dy, y and dx.
#define NNFAST_MASKED_FORWARD(X) X(masked_softmax, 1, -1)
#define NNFAST_MASKED_BACKWARD(X) X(masked_softmax_backward, 2, -1)
#define NNFAST_MASKED_SOFTMAX(X) NNFAST_MASKED_FORWARD(X) NNFAST_MASKED_BACKWARD(X)

namespace nnfast {

enum class Softmax : int {
#define NNFAST_ENUM(name, ...) name,
  NNFAST_SOFTMAX(NNFAST_ENUM) NNFAST_MASKED_SOFTMAX(NNFAST_ENUM)
#undef NNFAST_ENUM
      Count
};

constexpr int kSoftmaxArrays = 3;

// Of row r, the elements below visible + r growth take part where their byte of `mask` is not 0; all of them where
// mask.data is null. Only the masked kernels read it; the gradient, whose y is 0 elsewhere, only the scale.
struct Masking {
  double scale = 1;
  Matrix mask{};
  std::ptrdiff_t visible = 0, growth = 0;
};

namespace {

inline Masking rows_from(const Masking& m, std::ptrdiff_t first) {
  return {m.scale, rows_from(m.mask, first), m.visible + first * m.growth, m.growth};
}

}  // namespace

// `rows` rows of n elements of each array, the result last; an array of one element a row has stride 0. Returns what
// was raised (a set of Raised): overflow, where a float16 is out of range.
using SoftmaxFn = unsigned (*)(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking& masking);

// log |sum_j b_j e^x_j| and the sign of the sum, of rows of x and of factors b; b = 0 leaves its x out.
using SignedLogSumExpFn = void (*)(const Matrix& x, const Matrix& b, std::ptrdiff_t rows, std::ptrdiff_t n,
                                   double* logs, double* signs);

struct SoftmaxKernels {
  PerDtype<SoftmaxFn> of[static_cast<int>(Softmax::Count)];
  PerDtype<SignedLogSumExpFn> signed_logsumexp;  // there is none for float16
};

}  // namespace nnfast
