// Walking several arrays of one shape together, in C order, in runs along the innermost axis.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <utility>

namespace nnfast {

constexpr int kMaxDims = 64;  // NumPy's

template <int Arrays>
struct StridedArrays {
  int ndim = 0;
  std::ptrdiff_t shape[kMaxDims];
  std::ptrdiff_t strides[Arrays][kMaxDims];
  char* data[Arrays];

  std::ptrdiff_t size() const {
    std::ptrdiff_t n = 1;
    for (int d = 0; d < ndim; ++d) n *= shape[d];
    return n;
  }

  // Puts the axes in the order in which the first array lies in memory, for work whose order does not matter.
  void sort_axes() {
    for (int d = 1; d < ndim; ++d)
      for (int e = d; e > 0 && std::abs(strides[0][e - 1]) < std::abs(strides[0][e]); --e) swap_axes(e - 1, e);
  }

  // For work whose order does not matter: runs of neighbours in memory, or, where those are fewer than `few`, along the
  // next axis that has as many.
  void sort_runs(std::ptrdiff_t few) {
    sort_axes();
    coalesce();
    for (int d = ndim - 1; d >= 0; --d)
      if (shape[d] >= few) return swap_axes(d, ndim - 1);
  }

  // Joins axes that lie end to end in every array, and drops those of length 1; the C order of the elements stays.
  void coalesce() {
    int kept = 0;
    for (int d = 0; d < ndim; ++d) {
      if (shape[d] == 1) continue;
      if (kept > 0 && joins(kept - 1, d)) {
        shape[kept - 1] *= shape[d];
        for (auto& stride : strides) stride[kept - 1] = stride[d];
        continue;
      }
      shape[kept] = shape[d];
      for (auto& stride : strides) stride[kept] = stride[d];
      ++kept;
    }
    ndim = kept;
  }

  // Calls body(pointers, count, position) for the runs of elements [begin, end); a run's strides are inner_strides().
  template <class Body>
  void for_runs(std::ptrdiff_t begin, std::ptrdiff_t end, Body body) const {
    std::ptrdiff_t index[kMaxDims];
    std::ptrdiff_t rest = begin;
    for (int d = ndim - 1; d >= 0; --d) {
      index[d] = rest % shape[d];
      rest /= shape[d];
    }
    const std::ptrdiff_t inner = ndim > 0 ? shape[ndim - 1] : 1;
    for (std::ptrdiff_t position = begin; position < end;) {
      char* at[Arrays];
      for (int a = 0; a < Arrays; ++a) {
        at[a] = data[a];
        for (int d = 0; d < ndim; ++d) at[a] += index[d] * strides[a][d];
      }
      const std::ptrdiff_t first = ndim > 0 ? index[ndim - 1] : 0;
      const std::ptrdiff_t count = std::min(inner - first, end - position);
      body(at, count, position);
      position += count;
      if (ndim == 0) continue;
      index[ndim - 1] += count;
      for (int d = ndim - 1; d > 0 && index[d] == shape[d]; --d) {
        index[d] = 0;
        ++index[d - 1];
      }
    }
  }

  void inner_strides(std::ptrdiff_t (&inner)[Arrays]) const {
    for (int a = 0; a < Arrays; ++a) inner[a] = ndim > 0 ? strides[a][ndim - 1] : 0;
  }

 private:
  void swap_axes(int d, int e) {
    std::swap(shape[d], shape[e]);
    for (auto& stride : strides) std::swap(stride[d], stride[e]);
  }

  bool joins(int outer, int inner) const {
    for (const auto& stride : strides)
      if (stride[outer] != shape[inner] * stride[inner]) return false;
    return true;
  }
};

}  // namespace nnfast
