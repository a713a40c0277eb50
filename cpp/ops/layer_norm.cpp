#include "ops/layer_norm.hpp"

#include <algorithm>

#include "ops/blocked_sums.hpp"
#include "ops/costs.hpp"
#include "ops/row_tiles.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

// Nanoseconds of a row, of which short ones take more than their elements do.
double cost_of_row(const Cost& cost, std::ptrdiff_t n) {
  constexpr Cost kSet = cost_of("norm_set");
  return cost.ns * static_cast<double>(n) + kSet.ns;
}

// Rows of a block, whose partial sums are taken on their own: whole passes of the kernel.
std::ptrdiff_t rows_in_norm_block(std::ptrdiff_t rows, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t kElements = 16384, kMostBlocks = 32;
  const std::ptrdiff_t fewest = std::max(kElements / std::max<std::ptrdiff_t>(n, 1), rows / kMostBlocks);
  return (fewest + kRowsInPass) / kRowsInPass * kRowsInPass;
}

// Bytes of the rows that are copied together, a piece of each line of the array: longer pieces come faster from memory.
constexpr std::ptrdiff_t kPiecesBytes = 2 * kTileBytes;
// Rows that are copied together. 0: the kernel takes them as they lie, contiguous, long, or along several axes.
std::ptrdiff_t rows_in_tile(Dtype dtype, const Normalization& norm) {
  const std::ptrdiff_t size = size_of(dtype), bytes = norm.member_count * size;
  if (norm.members.count != 1 || bytes == 0 || bytes * kRowsInPass > kPiecesBytes) return 0;
  bool contiguous = true;
  for (int a = 0; a < kNormalizedArrays; ++a) contiguous &= !norm.data[a] || norm.members.strides[a][0] == size;
  return contiguous ? 0 : kPiecesBytes / bytes / kRowsInPass * kRowsInPass;
}

// Calls body(row, place, count) for runs of neighbours among the rows [first, last), which go to rows of a tile.
template <class Body>
void for_neighbours(const Axes& sets, std::ptrdiff_t first, std::ptrdiff_t last, Body body) {
  const std::ptrdiff_t inner = sets.count > 0 ? sets.shape[sets.count - 1] : 1;
  for (std::ptrdiff_t row = first; row < last;) {
    const std::ptrdiff_t count = std::min(inner - row % inner, last - row);
    body(row, row - first, count);
    row += count;
  }
}

// The rows [first, ...) of an array.
Matrix rows_of(const Normalization& norm, int array, std::ptrdiff_t row) {
  const Axes& sets = norm.sets;
  char* at = norm.data[array];
  for (int d = sets.count - 1; d >= 0; --d) {
    at += row % sets.shape[d] * sets.strides[array][d];
    row /= sets.shape[d];
  }
  return {at, sets.count > 0 ? sets.strides[array][sets.count - 1] : 0, norm.members.strides[array][0]};
}

// Prefetches the lines that `count` rows lie in, beside each other, which are written next: stores would wait for each.
// Elements of few rows share lines.
void claim_lines(const Matrix& rows, std::ptrdiff_t count, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t kLine = 64;  // bytes
  const std::ptrdiff_t step = rows.stride > 0 && rows.stride < kLine ? kLine / rows.stride : 1;
  for (std::ptrdiff_t i = 0; i < n; i += step)
    for (std::ptrdiff_t byte = 0; byte < count * rows.row_stride; byte += kLine) {
      __builtin_prefetch(rows.data + i * rows.stride + byte, 1);
      asm volatile("");  // else GCC leaves out what only prefetches
    }
}

// fn of the rows [begin, end), by tiles where they are strided; the result is the array after the inputs.
void run_rows(LayerNormFn fn, Dtype dtype, const LayerNorm& layer, int inputs, std::ptrdiff_t begin,
              std::ptrdiff_t end) {
  const std::ptrdiff_t tile = rows_in_tile(dtype, layer.norm), n = layer.norm.member_count;
  if (tile == 0) return fn(layer, begin, end);
  const std::ptrdiff_t size = size_of(dtype);
  alignas(64) char room[2][kPiecesBytes];
  LayerNorm part = layer;
  part.norm.sets.count = 1;
  for (int a = 0; a <= inputs; ++a) {
    part.norm.data[a] = room[a < inputs ? a : 0];
    part.norm.sets.strides[a][0] = n * size;
    part.norm.members.strides[a][0] = size;
  }
  const auto place = [&](int a, std::ptrdiff_t row) {
    return Matrix{part.norm.data[a] + row * n * size, n * size, size};
  };
  for (std::ptrdiff_t first = begin; first < end; first += tile) {
    const std::ptrdiff_t last = std::min(first + tile, end);
    for_neighbours(layer.norm.sets, first, last, [&](std::ptrdiff_t row, std::ptrdiff_t to, std::ptrdiff_t count) {
      for (int a = 0; a < inputs; ++a) copy_rows(dtype, rows_of(layer.norm, a, row), place(a, to), count, n);
      const Matrix result = rows_of(layer.norm, inputs, row);
      if (result.row_stride == size) claim_lines(result, count, n);
    });
    part.norm.set_count = part.norm.sets.shape[0] = last - first;
    if (layer.mean) part.mean = layer.mean + first;
    part.inv_std = layer.inv_std + first;
    fn(part, 0, last - first);
    for_neighbours(layer.norm.sets, first, last, [&](std::ptrdiff_t row, std::ptrdiff_t to, std::ptrdiff_t count) {
      copy_rows(dtype, place(inputs, to), rows_of(layer.norm, inputs, row), count, n);
    });
  }
}

}  // namespace

void layer_norm(Dtype dtype, const LayerNorm& layer) {
  constexpr Cost kCost = cost_of("layer_norm");
  const LayerNormKernels& kernel = *kernels().layer_norm;
  const LayerNormFn fn = (layer.mean ? kernel.layer_norm : kernel.rms_norm)[dtype];
  parallel_for(
      layer.norm.set_count, cost_of_row(kCost, layer.norm.member_count),
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) { run_rows(fn, dtype, layer, 1, begin, end); },
      std::max<std::ptrdiff_t>(kRowsInPass, rows_in_tile(dtype, layer.norm)));
}

void layer_norm_backward(Dtype dtype, const LayerNorm& layer, double* sums) {
  constexpr Cost kCost = cost_of("layer_norm_backward");
  const LayerNormKernels& kernel = *kernels().layer_norm;
  const LayerNormFn fn = (layer.mean ? kernel.layer_norm_backward : kernel.rms_norm_backward)[dtype];
  const std::ptrdiff_t rows = layer.norm.set_count, n = layer.norm.member_count;
  BlockedSums blocks(rows, rows_in_norm_block(rows, n), layer.mean ? 2 * n : n);
  blocks.run(cost_of_row(kCost, n), [&](std::ptrdiff_t begin, std::ptrdiff_t end, double* of_block) {
    LayerNorm block = layer;
    block.dgamma = of_block;
    block.dbeta = of_block + n;
    run_rows(fn, dtype, block, 2, begin, end);
  });
  blocks.add_to(sums);
}

}  // namespace nnfast
