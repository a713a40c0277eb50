#include "ops/softmax.hpp"

#include <algorithm>

#include "ops/costs.hpp"
#include "ops/raised.hpp"
#include "ops/row_tiles.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {

namespace {

double row_ns(std::ptrdiff_t n) {
  constexpr Cost kCost = cost_of("softmax"), kRowCost = cost_of("softmax_row");
  return kRowCost.ns + kCost.ns * static_cast<double>(n);
}

// Threads begin at whole vectors of rows, where there are enough.
std::ptrdiff_t row_multiple(std::ptrdiff_t rows) { return rows < 256 ? 1 : 16; }

// Calls run(matrices, position, count) for runs of rows, on as many threads as pay off; returns what the runs raised.
template <class Run>
unsigned for_row_runs(const RowArrays<3>& rows, Run run) {
  std::ptrdiff_t steps[3];
  rows.outer.inner_strides(steps);
  SharedRaised raised;
  parallel_for(
      rows.rows(), row_ns(rows.n),
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        rows.outer.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
          Matrix matrices[3];
          for (int k = 0; k < 3; ++k) matrices[k] = {at[k], steps[k], rows.strides[k]};
          raised.add(run(matrices, position, count));
        });
      },
      row_multiple(rows.rows()));
  return raised.all();
}

}  // namespace

unsigned softmax_rows(Softmax index, Dtype dtype, const Matrix (&arrays)[kSoftmaxArrays], std::ptrdiff_t rows,
                      std::ptrdiff_t n) {
  const SoftmaxFn fn = kernels().softmax->of[static_cast<int>(index)][dtype];
  SharedRaised raised;
  parallel_for(
      rows, row_ns(n),
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        Matrix part[kSoftmaxArrays];
        for (int k = 0; k < kSoftmaxArrays; ++k) part[k] = rows_from(arrays[k], begin);
        raised.add(fn(part, end - begin, n, {}));
      },
      row_multiple(rows));
  return raised.all();
}

unsigned softmax_rows(Softmax index, Dtype dtype, RowArrays<kSoftmaxArrays> rows) {
  const SoftmaxFn fn = kernels().softmax->of[static_cast<int>(index)][dtype];
  rows.outer.sort_axes();
  rows.outer.coalesce();
  return for_row_runs(
      rows, [&](Matrix* arrays, std::ptrdiff_t, std::ptrdiff_t count) { return fn(arrays, count, rows.n, {}); });
}

unsigned masked_softmax(Dtype dtype, const RowArrays<3>& x_y_mask, double scale, std::ptrdiff_t queries) {
  const SoftmaxFn fn = kernels().softmax->of[static_cast<int>(Softmax::masked_softmax)][dtype];
  const std::ptrdiff_t n = x_y_mask.n, row_size = n * size_of(dtype);
  const auto run = [&](const Matrix* arrays, std::ptrdiff_t position, std::ptrdiff_t count) {
    const Masking all{scale, arrays[2], n, 0};
    if (queries == 0) return fn(arrays, count, n, all);
    unsigned raised = 0;
    for (std::ptrdiff_t done = 0; done < count;) {
      const std::ptrdiff_t query = (position + done) % queries, some = std::min(count - done, queries - query);
      Masking causal = rows_from(all, done);
      causal.visible = query + 1 + n - queries;
      causal.growth = 1;
      const Matrix x_y[2] = {rows_from(arrays[0], done), rows_from(arrays[1], done)};
      raised |= fn(x_y, some, n, causal);
      done += some;
    }
    return raised;
  };
  constexpr std::ptrdiff_t kLeastTile = 4;
  const bool strided = x_y_mask.strides[0] != size_of(dtype) || x_y_mask.strides[1] != size_of(dtype);
  const std::ptrdiff_t tile = strided && n > 0 ? kTileBytes / row_size : 0;
  return for_row_runs(x_y_mask, [&](const Matrix* arrays, std::ptrdiff_t position, std::ptrdiff_t count) {
    if (tile < kLeastTile) return run(arrays, position, count);
    alignas(64) char room[kTileBytes];
    const Matrix place{room, row_size, size_of(dtype)};
    unsigned raised = 0;
    for (std::ptrdiff_t first = 0; first < count; first += tile) {
      const std::ptrdiff_t rows = std::min(tile, count - first);
      const Matrix part[3] = {place, place, rows_from(arrays[2], first)};
      copy_rows(dtype, rows_from(arrays[0], first), place, rows, n);
      raised |= run(part, position + first, rows);
      copy_rows(dtype, place, rows_from(arrays[1], first), rows, n);
    }
    return raised;
  });
}

unsigned masked_softmax_backward(Dtype dtype, const RowArrays<3>& dy_y_dx, double scale) {
  const SoftmaxFn fn = kernels().softmax->of[static_cast<int>(Softmax::masked_softmax_backward)][dtype];
  return for_row_runs(dy_y_dx, [&](Matrix* arrays, std::ptrdiff_t, std::ptrdiff_t count) {
    return fn(arrays, count, dy_y_dx.n, {scale});
  });
}

}  // namespace nnfast
