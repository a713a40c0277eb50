#include "ops/activations.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/sums.hpp"
#include "ops/blocked_sums.hpp"
#include "ops/costs.hpp"
#include "ops/raised.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {

unsigned prelu_channels(const Elementwise& kernel, Dtype dtype, const ChannelShape& shape, char* const* arrays,
                        int inputs, char* weight) {
  constexpr Cost kCost = cost_of("prelu_channels");
  constexpr std::ptrdiff_t kCopied = 2048;
  const ElementwiseFn fn = kernel[dtype];
  const std::ptrdiff_t size = size_of(dtype);
  const bool stream = streams(shape.size() * size, kCost);
  SharedRaised raised;
  if (shape.outer == 1 && (shape.channels == 1 || shape.inner == 1)) {  // one run of elements
    std::ptrdiff_t strides[4] = {size, size, size, size};
    if (shape.channels == 1) strides[inputs] = 0;
    parallel_for(shape.size(), kCost.ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      char* at[4];
      for (int a = 0; a < inputs; ++a) at[a] = arrays[a] + begin * size;
      at[inputs] = weight + begin * strides[inputs];
      at[inputs + 1] = arrays[inputs] + begin * size;
      raised.add(fn(at, strides, end - begin, stream));
    });
    return raised.all();
  }
  // Several rows of channels at a time, beside as many copies of the weights; or, where the elements of a channel are
  // contiguous, one channel after another.
  const bool rows = shape.inner == 1;
  const std::ptrdiff_t copies =
      rows ? std::clamp<std::ptrdiff_t>(kCopied / shape.channels, 1, std::max<std::ptrdiff_t>(shape.outer, 1)) : 1;
  const std::ptrdiff_t weight_bytes = shape.channels * size;
  std::vector<char> copied(static_cast<std::size_t>(rows ? copies * weight_bytes : 0));
  for (std::ptrdiff_t k = 0; rows && k < copies; ++k)
    std::memcpy(copied.data() + k * weight_bytes, weight, static_cast<std::size_t>(weight_bytes));
  const std::ptrdiff_t run = rows ? shape.channels : shape.inner;
  const std::ptrdiff_t runs = rows ? shape.outer : shape.outer * shape.channels;
  std::ptrdiff_t strides[4] = {size, size, size, size};
  strides[inputs] = rows ? size : 0;
  parallel_for(runs, kCost.ns * static_cast<double>(run), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t r = begin; r < end; r += copies) {
      char* at[4];
      for (int a = 0; a < inputs; ++a) at[a] = arrays[a] + r * run * size;
      at[inputs] = rows ? copied.data() : weight + r % shape.channels * size;
      at[inputs + 1] = arrays[inputs] + r * run * size;
      raised.add(fn(at, strides, std::min(copies, end - r) * run, stream));
    }
  });
  return raised.all();
}

// ---- the weights of prelu ----

namespace {

// Elements of a weight, or rows of weights, per partial sum.
constexpr std::ptrdiff_t kPreluBlock = 256;

// Sums the products of one weight's elements, in C order.
template <class T>
double sum_of_products(const StridedArrays<2>& elements) {
  const ElementwiseFn fn = kernels().activations->prelu_weight_grad[dtype_of<T>];
  std::ptrdiff_t inner[2];
  elements.inner_strides(inner);
  const std::ptrdiff_t strides[3] = {inner[0], inner[1], sizeof(T)}, terms = elements.size();
  double total = 0;
  T products[kPreluBlock];
  for (std::ptrdiff_t block = 0; block < terms; block += kPreluBlock) {
    const std::ptrdiff_t block_end = std::min(terms, block + kPreluBlock);
    elements.for_runs(block, block_end, [&](char* const* from, std::ptrdiff_t n, std::ptrdiff_t first) {
      char* arrays[3] = {from[0], from[1], reinterpret_cast<char*>(products + (first - block))};
      fn(arrays, strides, n, false);
    });
    double sum = 0;
    for (std::ptrdiff_t k = 0; k < block_end - block; ++k) sum += static_cast<double>(products[k]);
    total += sum;
  }
  return total;
}

template <class T>
void gradient_of_strided(const StridedArrays<2>& kept, const StridedArrays<2>& summed, T* dweight) {
  constexpr Cost kCost = cost_of("prelu_weight_strided");
  std::ptrdiff_t step[2];
  kept.inner_strides(step);
  const double ns = kCost.ns * static_cast<double>(summed.size());
  parallel_for(kept.size(), ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    kept.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
      for (std::ptrdiff_t i = 0; i < count; ++i) {
        StridedArrays<2> elements = summed;
        for (int a = 0; a < 2; ++a) elements.data[a] = at[a] + i * step[a];
        dweight[position + i] = static_cast<T>(sum_of_products<T>(elements));
      }
    });
  });
}

// Adds the products of rows of n contiguous weights to n sums.
template <class T>
void add_rows_of_products(const char* dy, const char* x, std::ptrdiff_t rows, std::ptrdiff_t n, double* sums) {
  constexpr std::ptrdiff_t kProducts = 2048, size = sizeof(T);
  const ElementwiseFn fn = kernels().activations->prelu_weight_grad[dtype_of<T>];
  const AddRowsFn add_rows = kernels().sums->add_rows[dtype_of<T>];
  const std::ptrdiff_t strides[3] = {size, size, size};
  T products[kProducts];
  // Elements [first, first + kProducts) of all rows: some rows, or a part of one.
  for (std::ptrdiff_t first = 0; first < rows * n; first += kProducts) {
    const std::ptrdiff_t count = std::min(kProducts, rows * n - first), at = first * size;
    char* arrays[3] = {const_cast<char*>(dy) + at, const_cast<char*>(x) + at, reinterpret_cast<char*>(products)};
    fn(arrays, strides, count, false);
    for (std::ptrdiff_t k = 0, column = first % n; k < count; column = 0) {
      const std::ptrdiff_t columns = std::min(n - column, count - k);
      add_rows(reinterpret_cast<const char*>(products + k), 0, size, 1, columns, sums + column);
      k += columns;
    }
  }
}

template <class T>
void gradient_of_rows(const char* dy, const char* x, std::ptrdiff_t rows, std::ptrdiff_t n, T* dweight) {
  constexpr Cost kCost = cost_of("prelu_weight_rows");
  BlockedSums blocks(rows, kPreluBlock, n);
  blocks.run(kCost.ns * static_cast<double>(n), [&](std::ptrdiff_t begin, std::ptrdiff_t end, double* sums) {
    const std::ptrdiff_t at = begin * n * static_cast<std::ptrdiff_t>(sizeof(T));
    add_rows_of_products<T>(dy + at, x + at, end - begin, n, sums);
  });
  std::vector<double> totals(static_cast<std::size_t>(n));
  blocks.add_to(totals.data());
  for (std::ptrdiff_t i = 0; i < n; ++i) dweight[i] = static_cast<T>(totals[static_cast<std::size_t>(i)]);
}

// Whether both arrays are contiguous rows of the kept elements.
bool contiguous_rows(const StridedArrays<2>& kept, const StridedArrays<2>& summed, std::ptrdiff_t size) {
  if (kept.ndim != 1 || summed.ndim != 1) return false;
  for (int a = 0; a < 2; ++a)
    if (kept.strides[a][0] != size || summed.strides[a][0] != size * kept.shape[0]) return false;
  return true;
}

template <class T>
void weight_gradient(const StridedArrays<2>& kept, const StridedArrays<2>& summed, char* dweight) {
  T* to = reinterpret_cast<T*>(dweight);
  if (contiguous_rows(kept, summed, sizeof(T)))
    return gradient_of_rows(kept.data[0], kept.data[1], summed.size(), kept.size(), to);
  gradient_of_strided(kept, summed, to);
}

}  // namespace

void prelu_weight_gradient(Dtype dtype, const StridedArrays<2>& kept, const StridedArrays<2>& summed, char* dweight) {
  (dtype == Dtype::f64 ? weight_gradient<double> : weight_gradient<float>)(kept, summed, dweight);
}

// ---- maxout ----

void maxout(const PerDtype<MaxoutFn>& kernel, Dtype dtype, StridedArrays<3> y_which_x, std::ptrdiff_t pieces,
            std::ptrdiff_t piece_stride) {
  constexpr Cost kCost = cost_of("maxout");
  const MaxoutFn fn = kernel[dtype];
  y_which_x.sort_runs(16);
  std::ptrdiff_t stride[3];
  y_which_x.inner_strides(stride);
  parallel_for(y_which_x.size(), kCost.ns * static_cast<double>(pieces), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    y_which_x.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t groups, std::ptrdiff_t) {
      fn({at[2], at[0], at[1], piece_stride, stride[0], stride[1], stride[2]}, groups, pieces);
    });
  });
}

}  // namespace nnfast
