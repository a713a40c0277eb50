#include "ops/softmax.hpp"

#include <algorithm>

#include "ops/costs.hpp"
#include "ops/raised.hpp"
#include "ops/row_tiles.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {

namespace {

double row_ns(Softmax index, std::ptrdiff_t n) {
  constexpr Cost kCost = cost_of("softmax"), kSparse = cost_of("sparsemax"), kRowCost = cost_of("softmax_row");
  return kRowCost.ns + (index == Softmax::sparsemax ? kSparse : kCost).ns * static_cast<double>(n);
}

// Threads begin at whole vectors of rows, where there are enough.
std::ptrdiff_t row_multiple(std::ptrdiff_t rows) { return rows < 256 ? 1 : 16; }

// Calls run(matrices, position, count) for runs of rows, on as many threads as pay off; returns what the runs raised.
template <class Run>
unsigned for_row_runs(Softmax index, const RowArrays<3>& rows, Run run) {
  std::ptrdiff_t steps[3];
  rows.outer.inner_strides(steps);
  SharedRaised raised;
  parallel_for(
      rows.rows(), row_ns(index, rows.n),
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

// Calls run(x, y, first, count) for rows of x and y, from the row `first` on: for all of them or, where their elements
// are strided, for as many as a tile holds, in the tile.
template <class Run>
unsigned by_tiles(Dtype dtype, const Matrix& x, const Matrix& y, std::ptrdiff_t rows, std::ptrdiff_t n, Run run) {
  constexpr std::ptrdiff_t kLeastTile = 4;
  const std::ptrdiff_t size = size_of(dtype);
  const std::ptrdiff_t tile = (x.stride != size || y.stride != size) && n > 0 ? kTileBytes / (n * size) : 0;
  if (tile < kLeastTile) return run(x, y, 0, rows);
  alignas(64) char room[kTileBytes];
  const Matrix place{room, n * size, size};
  unsigned raised = 0;
  for (std::ptrdiff_t first = 0; first < rows; first += tile) {
    const std::ptrdiff_t count = std::min(tile, rows - first);
    copy_rows(dtype, rows_from(x, first), place, count, n);
    raised |= run(place, place, first, count);
    copy_rows(dtype, place, rows_from(y, first), count, n);
  }
  return raised;
}

}  // namespace

unsigned softmax_rows(Softmax index, Dtype dtype, const Matrix (&arrays)[kSoftmaxArrays], std::ptrdiff_t rows,
                      std::ptrdiff_t n) {
  const SoftmaxFn fn = kernels().softmax->of[static_cast<int>(index)][dtype];
  SharedRaised raised;
  parallel_for(
      rows, row_ns(index, n),
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
  return for_row_runs(index, rows, [&](Matrix* arrays, std::ptrdiff_t, std::ptrdiff_t count) {
    if (index != Softmax::sparsemax) return fn(arrays, count, rows.n, {});
    return by_tiles(dtype, arrays[0], arrays[1], count, rows.n,
                    [&](const Matrix& x, const Matrix& y, std::ptrdiff_t, std::ptrdiff_t some) {
                      const Matrix part[2] = {x, y};
                      return fn(part, some, rows.n, {});
                    });
  });
}

unsigned masked_softmax(Dtype dtype, const RowArrays<3>& x_y_mask, double scale, std::ptrdiff_t queries) {
  const SoftmaxFn fn = kernels().softmax->of[static_cast<int>(Softmax::masked_softmax)][dtype];
  const std::ptrdiff_t n = x_y_mask.n;
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
  return for_row_runs(
      Softmax::masked_softmax, x_y_mask, [&](const Matrix* arrays, std::ptrdiff_t position, std::ptrdiff_t count) {
        return by_tiles(dtype, arrays[0], arrays[1], count, n,
                        [&](const Matrix& x, const Matrix& y, std::ptrdiff_t first, std::ptrdiff_t rows) {
                          const Matrix part[3] = {x, y, rows_from(arrays[2], first)};
                          return run(part, position + first, rows);
                        });
      });
}

unsigned masked_softmax_backward(Dtype dtype, const RowArrays<3>& dy_y_dx, double scale) {
  const SoftmaxFn fn = kernels().softmax->of[static_cast<int>(Softmax::masked_softmax_backward)][dtype];
  return for_row_runs(
      Softmax::masked_softmax_backward, dy_y_dx,
      [&](Matrix* arrays, std::ptrdiff_t, std::ptrdiff_t count) { return fn(arrays, count, dy_y_dx.n, {scale}); });
}

}  // namespace nnfast
