#include "ops/softmax.hpp"

#include <algorithm>
#include <iterator>

#include "ops/costs.hpp"
#include "ops/raised.hpp"
#include "ops/row_tiles.hpp"
#include "ops/streamed_rows.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {

namespace {

double row_ns(Softmax index, std::ptrdiff_t n) {
  constexpr Cost kCost = cost_of("softmax"), kBackward = cost_of("softmax_backward"), kSparse = cost_of("sparsemax"),
                 kRowCost = cost_of("softmax_row");
  const auto of_element = [](Softmax of) {
    switch (of) {
      case Softmax::softmax_backward:
      case Softmax::log_softmax_backward:
      case Softmax::sparsemax_backward:
      case Softmax::masked_softmax_backward:
        return kBackward.ns;
      case Softmax::sparsemax:
        return kSparse.ns;
      default:
        return kCost.ns;
    }
  };
  return kRowCost.ns + of_element(index) * static_cast<double>(n);
}

// Whether neighbouring rows are neighbours in memory, of all arrays but those of one element a row.
bool lie_across(Dtype dtype, const Matrix (&arrays)[kSoftmaxArrays]) {
  return std::all_of(std::begin(arrays), std::end(arrays), [&](const Matrix& m) {
    return m.stride == 0 || (m.row_stride == size_of(dtype) && m.stride != size_of(dtype));
  });
}

constexpr std::ptrdiff_t kVector = 16;  // rows of the longest vector

// Calls run(begin, end) for ranges of rows, on as many threads as pay off: whole vectors of rows, and the last with
// what is left, where there are many rows or they lie across, as fewer would go through their elements one by one.
template <class Run>
void for_ranges(std::ptrdiff_t rows, double ns, bool across, Run run) {
  constexpr std::ptrdiff_t kMany = 256;
  const std::ptrdiff_t together = rows >= (across ? kVector : kMany) ? kVector : 1, ranges = rows / together;
  parallel_for(ranges, ns * static_cast<double>(together), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    run(begin * together, end == ranges ? rows : end * together);
  });
}

// What rows that lie across cost the more where too few are side by side for a vector.
template <int Arrays>
double idle_lanes(const StridedArrays<Arrays>& rows) {
  return rows.ndim == 0 ? 1 : std::max(1.0, double{kVector} / static_cast<double>(rows.shape[rows.ndim - 1]));
}

// Calls run(matrices, position, count) for runs of rows, on as many threads as pay off; returns what the runs raised.
// Each range of rows has a run of its own, make_run(); where that has a finish(), it is called when its rows are
// through.
template <class MakeRun>
unsigned for_row_runs(const RowArrays<3>& rows, double ns, bool across, MakeRun make_run) {
  std::ptrdiff_t steps[3];
  rows.outer.inner_strides(steps);
  SharedRaised raised;
  for_ranges(rows.rows(), ns, across, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    auto run = make_run();
    rows.outer.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
      Matrix matrices[3];
      for (int k = 0; k < 3; ++k) matrices[k] = {at[k], steps[k], rows.strides[k]};
      raised.add(run(matrices, position, count));
    });
    if constexpr (requires { run.finish(); }) raised.add(run.finish());
  });
  return raised.all();
}
template <class Run>
unsigned for_row_runs(Softmax index, Dtype dtype, const RowArrays<3>& rows, Run run) {
  std::ptrdiff_t steps[3];
  rows.outer.inner_strides(steps);
  Matrix all[3];
  for (int k = 0; k < 3; ++k) all[k] = {rows.outer.data[k], steps[k], rows.strides[k]};
  const bool across = lie_across(dtype, all);
  return for_row_runs(rows, row_ns(index, rows.n) * (across ? idle_lanes(rows.outer) : 1), across, [&] { return run; });
}

// Strided rows go through tiles, if so many have room in one.
constexpr std::ptrdiff_t kLeastTile = 4;

// Calls run(x, y, first, count) for rows of x and y, from the row `first` on: for all of them or, where their elements
// are strided, for as many as a tile holds, in the tile.
template <class Run>
unsigned by_tiles(Dtype dtype, const Matrix& x, const Matrix& y, std::ptrdiff_t rows, std::ptrdiff_t n, Run run) {
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

// Runs of few strided rows: as many as a tile holds are gathered there, for the kernel to take them together.
class FewRows {
  static constexpr int kMostRows = 64;
  SoftmaxFn fn_;
  Dtype dtype_;
  int inputs_;
  std::ptrdiff_t n_, fit_, gathered_ = 0;
  int runs_ = 0;
  struct {
    Matrix to;
    std::ptrdiff_t count;
  } results_[kMostRows];
  alignas(64) char room_[kTileBytes];  // the inputs share it: a kernel's own blocks lie on the same stack

  Matrix place(int input) {
    const std::ptrdiff_t size = size_of(dtype_);
    return {room_ + input * fit_ * n_ * size, n_ * size, size};
  }

 public:
  static constexpr std::ptrdiff_t kMost = 2;  // rows of a run

  FewRows(Softmax index, Dtype dtype, int inputs, std::ptrdiff_t n)
      : fn_(kernels().softmax->of[static_cast<int>(index)][dtype]),
        dtype_(dtype),
        inputs_(inputs),
        n_(n),
        fit_(fitting(dtype, inputs, n)) {}
  // How many rows there is room for.
  static std::ptrdiff_t fitting(Dtype dtype, int inputs, std::ptrdiff_t n) {
    return n > 0 ? std::min<std::ptrdiff_t>(kMostRows, kTileBytes / (inputs * n * size_of(dtype))) : 0;
  }

  unsigned operator()(const Matrix* arrays, std::ptrdiff_t, std::ptrdiff_t count) {
    unsigned raised = 0;
    if (gathered_ + count > fit_) raised = finish();
    for (int k = 0; k < inputs_; ++k) copy_rows(dtype_, arrays[k], rows_from(place(k), gathered_), count, n_);
    results_[runs_++] = {arrays[inputs_], count};
    gathered_ += count;
    return raised;
  }
  unsigned finish() {
    const Matrix first = place(0), second = inputs_ > 1 ? place(1) : first;
    const Matrix parts[] = {first, second, first};
    const unsigned raised = fn_(parts, gathered_, n_, {});
    std::ptrdiff_t done = 0;
    for (int run = 0; run < runs_; done += results_[run++].count)
      copy_rows(dtype_, rows_from(first, done), results_[run].to, results_[run].count, n_);
    gathered_ = runs_ = 0;
    return raised;
  }
};

// How many arrays of elements a function reads whose result has the shape of all of them; else 0.
int inputs_alike(Softmax index) {
  switch (index) {
    case Softmax::softmax:
    case Softmax::log_softmax:
      return 1;
    case Softmax::softmax_backward:
    case Softmax::log_softmax_backward:
      return 2;
    default:
      return 0;
  }
}

// The kernel over rows of which there are `all` in all threads. Gradients, which take little beside their memory, go
// past the caches where they fill them; but not over dy or y, which are there.
unsigned run_kernel(Softmax index, Dtype dtype, const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n,
                    std::ptrdiff_t all) {
  const SoftmaxFn fn = kernels().softmax->of[static_cast<int>(index)][dtype];
  const Matrix& dx = arrays[2];
  const bool gradient = index == Softmax::softmax_backward || index == Softmax::log_softmax_backward;
  if (!gradient || dx.data == arrays[0].data || dx.data == arrays[1].data || !streams_rows(dx, all, n, size_of(dtype)))
    return fn(arrays, rows, n, {});
  return stream_rows(dx, rows, n, size_of(dtype), [&](const Matrix& tile, std::ptrdiff_t first, std::ptrdiff_t count) {
    const Matrix part[] = {rows_from(arrays[0], first), rows_from(arrays[1], first), tile};
    return fn(part, count, n, {});
  });
}

}  // namespace

unsigned softmax_rows(Softmax index, Dtype dtype, const Matrix (&arrays)[kSoftmaxArrays], std::ptrdiff_t rows,
                      std::ptrdiff_t n) {
  SharedRaised raised;
  for_ranges(rows, row_ns(index, n), lie_across(dtype, arrays), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    Matrix part[kSoftmaxArrays];
    for (int k = 0; k < kSoftmaxArrays; ++k) part[k] = rows_from(arrays[k], begin);
    raised.add(run_kernel(index, dtype, part, end - begin, n, rows));
  });
  return raised.all();
}

unsigned softmax_rows(Softmax index, Dtype dtype, RowArrays<kSoftmaxArrays> rows) {
  const SoftmaxFn fn = kernels().softmax->of[static_cast<int>(index)][dtype];
  rows.outer.sort_axes();
  rows.outer.coalesce();
  const int inputs = inputs_alike(index), ndim = rows.outer.ndim;
  const bool few = ndim == 0 || rows.outer.shape[ndim - 1] <= FewRows::kMost;  // too few to lie across a vector
  if (inputs > 0 && few && rows.strides[0] != size_of(dtype) && FewRows::fitting(dtype, inputs, rows.n) >= kLeastTile) {
    constexpr double kGathered = 2;  // times as long as rows that are contiguous
    return for_row_runs(rows, kGathered * row_ns(index, rows.n), false,
                        [&] { return FewRows(index, dtype, inputs, rows.n); });
  }
  return for_row_runs(index, dtype, rows, [&](Matrix* arrays, std::ptrdiff_t, std::ptrdiff_t count) {
    if (index != Softmax::sparsemax) return run_kernel(index, dtype, arrays, count, rows.n, rows.rows());
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
  return for_row_runs(Softmax::masked_softmax, dtype, x_y_mask,
                      [&](const Matrix* arrays, std::ptrdiff_t position, std::ptrdiff_t count) {
                        return by_tiles(
                            dtype, arrays[0], arrays[1], count, n,
                            [&](const Matrix& x, const Matrix& y, std::ptrdiff_t first, std::ptrdiff_t rows) {
                              const Matrix part[3] = {x, y, rows_from(arrays[2], first)};
                              return run(part, position + first, rows);
                            });
                      });
}

unsigned masked_softmax_backward(Dtype dtype, const RowArrays<3>& dy_y_dx, double scale) {
  const SoftmaxFn fn = kernels().softmax->of[static_cast<int>(Softmax::masked_softmax_backward)][dtype];
  return for_row_runs(
      Softmax::masked_softmax_backward, dtype, dy_y_dx,
      [&](Matrix* arrays, std::ptrdiff_t, std::ptrdiff_t count) { return fn(arrays, count, dy_y_dx.n, {scale}); });
}

void signed_logsumexp(Dtype dtype, const RowArrays<2>& x_b, double* logs, double* signs) {
  constexpr Cost kCost = cost_of("signed_logsumexp"), kRowCost = cost_of("signed_logsumexp_row");
  const SignedLogSumExpFn fn = kernels().softmax->signed_logsumexp[dtype];
  const std::ptrdiff_t n = x_b.n, size = size_of(dtype), tile = n > 0 ? kTileBytes / (n * size) : 0;
  std::ptrdiff_t steps[2];
  x_b.outer.inner_strides(steps);
  parallel_for(x_b.rows(), kRowCost.ns + kCost.ns * static_cast<double>(n),
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 alignas(64) char room[2][kTileBytes];
                 x_b.outer.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
                   const Matrix x{at[0], steps[0], x_b.strides[0]}, b{at[1], steps[1], x_b.strides[1]};
                   if ((x.stride == size && b.stride == size) || tile < kLeastTile)
                     return fn(x, b, count, n, logs + position, signs + position);
                   const Matrix tiles[2] = {{room[0], n * size, size}, {room[1], n * size, size}};
                   for (std::ptrdiff_t first = 0; first < count; first += tile) {
                     const std::ptrdiff_t some = std::min(tile, count - first), row = position + first;
                     copy_rows(dtype, rows_from(x, first), tiles[0], some, n);
                     copy_rows(dtype, rows_from(b, first), tiles[1], some, n);
                     fn(tiles[0], tiles[1], some, n, logs + row, signs + row);
                   }
                 });
               });
}

}  // namespace nnfast
