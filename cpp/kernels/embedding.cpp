// dW_i = sum of dy_k over all k whose index is i: each element waits for its sum in a register, and is written once.
#include "kernels/embedding.hpp"

#include "kernels/unrolled.hpp"
#include "simd/elements.hpp"
#include "simd/float_state.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

// Adds U vectors of each row; load(row, u) is one of them.
template <class V, int U, class Load>
NNFAST_INLINE void add_rows(Widened<V> (&sums)[U], const IndexedRow* row, const IndexedRow* end, Load load) {
  for (; row < end; ++row) {
    Widened<V> terms[U];
    unrolled<U>([&](int u) NNFAST_INLINED { terms[u] = widen(load(row->row, u)); });
    unrolled<U>([&](int u) NNFAST_INLINED {
      for (int part = 0; part < Widened<V>::count; ++part) sums[u].part[part] += terms[u].part[part];
    });
  }
}

// Rows come in the order of their indices, which no processor foresees.
constexpr int kAhead = 8;
NNFAST_INLINE void prefetch(const IndexedRow* row, const IndexedRow* end, const IndexedRow* last, const RowSums& of) {
  constexpr std::ptrdiff_t kLine = 64, kMost = 1024;
  const std::ptrdiff_t bytes = smaller(of.n * of.stride, kMost);
  for (; row < end && row < last; ++row)
    for (std::ptrdiff_t at = 0; at < bytes; at += kLine) __builtin_prefetch(row->row + of.offset + at);
}

template <class S>
unsigned sum_rows(const RowSums& of, std::ptrdiff_t first, std::ptrdiff_t last) {
  using V = typename Stored<S>::V;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(S));
  constexpr std::ptrdiff_t lanes = kLanes<V>;
  const bool contiguous = of.stride == size && of.to.stride == size;
  const ExceptionScope exceptions;
  for (std::ptrdiff_t k = first; k < last; ++k) {
    const IndexedRow *rows = of.rows + of.begins[k], *end = of.rows + of.begins[k + 1];
    char* to = of.to.data + rows->index * of.to.row_stride;
    if (contiguous) prefetch(rows + kAhead, end + kAhead, of.rows + of.begins[last], of);
    std::ptrdiff_t i = 0;
    for (; contiguous && i + kUnroll * lanes <= of.n; i += kUnroll * lanes) {
      const std::ptrdiff_t at = of.offset + i * size;
      Widened<V> sums[kUnroll] = {};
      add_rows(sums, rows, end,
               [=](const char* row, int u) NNFAST_INLINED { return Stored<S>::load(row + at + u * lanes * size); });
      unrolled<kUnroll>([&](int u) NNFAST_INLINED { Stored<S>::store(to + (i + u * lanes) * size, narrow(sums[u])); });
    }
    for (; i < of.n; i += lanes) {
      const std::ptrdiff_t count = smaller(lanes, of.n - i);
      Widened<V> sum[1] = {};
      add_rows(sum, rows, end, [=, &of](const char* row, int) NNFAST_INLINED {
        return load_elements<S>(row + of.offset, of.stride, i, count);
      });
      store_elements<S>(to, of.to.stride, i, narrow(sum[0]), count);
    }
  }
  return exceptions.raised() & kRaisedOverflow;
}

void clear(char* to, std::ptrdiff_t bytes) {
  constexpr auto width = static_cast<std::ptrdiff_t>(kVectorBytes);
  char* const end = to + bytes;
  for (; to < end && reinterpret_cast<std::uintptr_t>(to) % width != 0; ++to) *to = 0;
  for (; end - to >= width; to += width) stream(reinterpret_cast<float*>(to), Vec<float>{});
  for (; to < end; ++to) *to = 0;
  fence();
}

}  // namespace

namespace NNFAST_ISA {

extern const EmbeddingKernels embedding;
const EmbeddingKernels embedding = {{sum_rows<Float16>, sum_rows<float>, sum_rows<double>}, clear};

}  // namespace NNFAST_ISA
}  // namespace nnfast
