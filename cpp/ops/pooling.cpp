#include "ops/pooling.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/sums.hpp"
#include "ops/costs.hpp"
#include "ops/raised.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"
#include "simd/float16.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

using Index = std::ptrdiff_t;

// How elements of S are read and written, and what they are computed with.
template <class S>
struct Scalar {
  using T = S;
  static T load(const char* from) { return load_bytes<T>(from); }
  static void store(char* to, T value) { store_bytes(to, value); }
};
template <>
struct Scalar<Float16> {
  using T = float;
  static T load(const char* from) { return widen_float16(load_bytes<Float16>(from)); }
  static void store(char* to, T value) { store_bytes(to, narrow_float16(value)); }
};

// ---- windows that no kernel of vectors takes ----

template <class S>
unsigned max_rows(const Pooling& pooling, Index first, Index last) {
  using T = typename Scalar<S>::T;
  const ExceptionScope exceptions;
  const PoolAxis &down = pooling.rows, &right = pooling.columns;
  for (Index oy = first; oy < last; ++oy) {
    const PoolTaps rows = taps_of(down, oy);
    for (Index ox = 0; ox < right.count; ++ox) {
      const PoolTaps columns = taps_of(right, ox);
      T best = -std::numeric_limits<T>::infinity();
      Index which = -1;
      for (Index ky = rows.first; ky < rows.last; ++ky)
        for (Index kx = columns.first; kx < columns.last; ++kx) {
          const Index row = rows.start + ky * down.dilation, column = columns.start + kx * right.dilation;
          const T value = Scalar<S>::load(pooling.x.at(row, column));
          if (which >= 0 && (value <= best || best != best)) continue;
          best = value;
          which = row * right.n + column;
        }
      Scalar<S>::store(pooling.y.at(oy, ox), best);
      store_bytes(pooling.which.at(oy, ox), static_cast<std::int32_t>(which));
    }
  }
  return kRaisedNothing;
}

template <class T>
T divisor(const Pooling& pooling, Index oy, Index ox) {
  return static_cast<T>(divisor_of(pooling.columns, ox, pooling.counts_padding)) *
         static_cast<T>(divisor_of(pooling.rows, oy, pooling.counts_padding));
}

template <class S>
unsigned mean_rows(const Pooling& pooling, Index first, Index last) {
  using T = typename Scalar<S>::T;
  const ExceptionScope exceptions;
  for (Index oy = first; oy < last; ++oy) {
    const PoolTaps rows = taps_of(pooling.rows, oy);
    for (Index ox = 0; ox < pooling.columns.count; ++ox) {
      const PoolTaps columns = taps_of(pooling.columns, ox);
      T sum = 0;
      for (Index ky = rows.first; ky < rows.last; ++ky)
        for (Index kx = columns.first; kx < columns.last; ++kx)
          sum += Scalar<S>::load(pooling.x.at(rows.start + ky, columns.start + kx));
      Scalar<S>::store(pooling.y.at(oy, ox), sum / divisor<T>(pooling, oy, ox));
    }
  }
  return exceptions.raised() & kRaisedOverflow;
}

// ---- backward ----

// Sums for the elements of rows [first, last) of a plane of dx, in C order: in dx itself where that is contiguous, else
// some at a time, which are then copied there. add(sums, begin, count) adds to those of elements [begin, begin +
// count).
template <class S, class Add>
unsigned scatter_rows(const Pooling& pooling, Index first, Index last, Add add) {
  using T = typename Scalar<S>::T;
  constexpr Index kBlock = 4096, size = sizeof(S);
  const ExceptionScope exceptions;
  const PoolArray& dx = pooling.x;
  const Index width = pooling.columns.n, end = last * width;
  const bool contiguous = dx.column == size && (dx.row == width * size || pooling.rows.n == 1);
  const bool direct = sizeof(S) == sizeof(T) && contiguous;
  char block[kBlock * sizeof(T)];
  for (Index begin = first * width; begin < end;) {
    const Index count = direct ? end - begin : std::min(end - begin, kBlock);
    char* sums = direct ? dx.data + begin * size : block;
    std::memset(sums, 0, static_cast<std::size_t>(count) * sizeof(T));
    add(sums, begin, count);
    for (Index i = 0; !direct && i < count; ++i)
      Scalar<S>::store(dx.at((begin + i) / width, (begin + i) % width), load_bytes<T>(block + i * sizeof(T)));
    begin += count;
  }
  return exceptions.raised() & kRaisedOverflow;
}

template <class T>
void add_to(char* sums, Index at, T term) {
  char* sum = sums + at * static_cast<Index>(sizeof(T));
  store_bytes(sum, load_bytes<T>(sum) + term);
}

template <class S>
unsigned max_backward_rows(const Pooling& pooling, Index first, Index last) {
  // Copies: for all that the compiler knows, a sum may lie in `pooling`.
  const Index windows = pooling.columns.count, dy_step = pooling.y.column, which_step = pooling.which.column;
  return scatter_rows<S>(pooling, first, last, [&](char* sums, Index begin, Index count) {
    for (Index oy = 0; oy < pooling.rows.count; ++oy) {
      const char *dy = pooling.y.at(oy, 0), *which = pooling.which.at(oy, 0);
      for (Index left = windows; left > 0; --left) {
        const Index at = load_bytes<std::int32_t>(which) - begin;
        if (static_cast<std::size_t>(at) < static_cast<std::size_t>(count)) add_to(sums, at, Scalar<S>::load(dy));
        dy += dy_step;
        which += which_step;
      }
    }
  });
}

template <class S>
unsigned mean_backward_rows(const Pooling& pooling, Index first, Index last) {
  using T = typename Scalar<S>::T;
  return scatter_rows<S>(pooling, first, last, [&](char* sums, Index begin, Index count) {
    const Index top = windows_of(pooling.rows, begin / pooling.columns.n).first;
    const Index bottom = windows_of(pooling.rows, (begin + count - 1) / pooling.columns.n).last;
    for (Index oy = top; oy < bottom; ++oy) {
      const PoolTaps rows = taps_of(pooling.rows, oy);
      for (Index ox = 0; ox < pooling.columns.count; ++ox) {
        const PoolTaps columns = taps_of(pooling.columns, ox);
        const T share = Scalar<S>::load(pooling.y.at(oy, ox)) / divisor<T>(pooling, oy, ox);
        for (Index ky = rows.first; ky < rows.last; ++ky) {
          const Index row = (rows.start + ky) * pooling.columns.n + columns.start - begin;
          const Index end = std::min(row + columns.last, count);
          for (Index at = std::max<Index>(row + columns.first, 0); at < end; ++at) add_to(sums, at, share);
        }
      }
    }
  });
}

// ---- threads ----

Pooling plane_at(const PooledBatch& batch, Index image, Index channel) {
  Pooling plane = batch.plane;
  plane.x.data += image * batch.x + channel * plane.x.channel;
  plane.y.data += image * batch.y + channel * plane.y.channel;
  plane.which.data += image * batch.which + channel * plane.which.channel;
  return plane;
}

// Calls fn for all rows of all planes or, where it takes all channels at once, of all images; a thread gets `multiple`.
unsigned over_rows(const PooledBatch& batch, PoolFn fn, bool all_channels, Index rows, double ns_per_row,
                   Index multiple = 1) {
  const Index channels = batch.plane.channels, planes = all_channels ? batch.images : batch.images * channels;
  if (all_channels) ns_per_row *= static_cast<double>(channels);
  SharedRaised raised;
  const auto some = [&](Index begin, Index end) {
    for (Index item = begin; item < end;) {
      const Index plane = item / rows, first = item % rows, last = std::min(rows, first + end - item);
      raised.add(fn(all_channels ? plane_at(batch, plane, 0) : plane_at(batch, plane / channels, plane % channels),
                    first, last));
      item += last - first;
    }
  };
  parallel_for(planes * rows, ns_per_row, some, multiple);
  return raised.all();
}

unsigned forward(const PooledBatch& batch, const PerDtype<PoolFn>& plain, PoolFn along, PoolFn across, double ns) {
  constexpr Index size = sizeof(float);
  const Pooling& plane = batch.plane;
  const PoolAxis& axis = plane.columns;
  const double work = ns * static_cast<double>(axis.count * axis.kernel * plane.rows.kernel);
  const auto run = [&](PoolFn fn, bool all_channels) {
    return over_rows(batch, fn, all_channels, plane.rows.count, work);
  };
  if (batch.dtype == Dtype::f32) {
    const bool contiguous =
        plane.x.column == size && plane.y.column == size && (!plane.which.data || plane.which.column == size);
    if (contiguous && axis.stride <= 2 && axis.dilation == 1 && plane.rows.dilation == 1) return run(along, false);
    if (plane.x.channel == size) return run(across, true);
  }
  return run(plain[batch.dtype], false);
}

}  // namespace

void max_pool(const PooledBatch& batch) {
  constexpr Cost kCost = cost_of("max_pool");
  const PoolingKernels& kernel = *kernels().pooling;
  forward(batch, {max_rows<Float16>, max_rows<float>, max_rows<double>}, kernel.max_along, kernel.max_across, kCost.ns);
}

unsigned avg_pool(const PooledBatch& batch) {
  constexpr Cost kCost = cost_of("avg_pool");
  const PoolingKernels& kernel = *kernels().pooling;
  return forward(batch, {mean_rows<Float16>, mean_rows<float>, mean_rows<double>}, kernel.mean_along,
                 kernel.mean_across, kCost.ns);
}

unsigned max_pool_backward(const PooledBatch& batch) {
  constexpr Cost kCost = cost_of("max_pool_backward");
  const PerDtype<PoolFn> fn{max_backward_rows<Float16>, max_backward_rows<float>, max_backward_rows<double>};
  const Index rows = batch.plane.rows.n;
  return over_rows(batch, fn[batch.dtype], false, rows, kCost.ns * static_cast<double>(batch.plane.columns.n), rows);
}

unsigned avg_pool_backward(const PooledBatch& batch) {
  constexpr Cost kCost = cost_of("avg_pool_backward");
  const PerDtype<PoolFn> fn{mean_backward_rows<Float16>, mean_backward_rows<float>, mean_backward_rows<double>};
  const PoolAxis &rows = batch.plane.rows, &columns = batch.plane.columns;
  const auto taps = static_cast<double>(columns.count * columns.kernel * rows.count * rows.kernel);
  return over_rows(batch, fn[batch.dtype], false, rows.n, kCost.ns * taps / static_cast<double>(rows.n));
}

// ---- whole planes ----

namespace {

constexpr Index kPartialSums = 64, kChannelsTogether = 32;

// Calls body(run, position, n) for the runs of a plane of x that lie at one stride.
template <class Body>
void for_runs(const Pooling& plane, Body body) {
  const Index columns = plane.columns.n;
  if (plane.x.row == columns * plane.x.column) return body(plane.x.data, Index{0}, plane.rows.n * columns);
  for (Index r = 0; r < plane.rows.n; ++r) body(plane.x.at(r, 0), r * columns, columns);
}

// Adds element i of a plane to sums[i mod 64]: lanes are its neighbours.
void add_plane(AddRowsFn add, const Pooling& plane, double* sums) {
  const Index stride = plane.x.column;
  for_runs(plane, [&](const char* run, Index position, Index n) {
    const Index begin = position % kPartialSums, head = std::min(n, (kPartialSums - begin) % kPartialSums);
    const Index whole = (n - head) / kPartialSums, tail = (n - head) % kPartialSums;
    if (head > 0) add(run, 0, stride, 1, head, sums + begin);
    run += head * stride;
    add(run, kPartialSums * stride, stride, whole, kPartialSums, sums);
    if (tail > 0) add(run + whole * kPartialSums * stride, 0, stride, 1, tail, sums);
  });
}

// Adds element i of the planes of several channels, which are lanes, to row i mod 64 of kChannelsTogether sums.
void add_planes(AddRowsFn add, const Pooling& plane, Index channels, double* sums) {
  for_runs(plane, [&](const char* run, Index position, Index n) {
    for (Index k = 0; k < std::min(n, kPartialSums); ++k)
      add(run + k * plane.x.column, kPartialSums * plane.x.column, plane.x.channel,
          (n - k + kPartialSums - 1) / kPartialSums, channels,
          sums + (position + k) % kPartialSums * kChannelsTogether);
  });
}

template <class S>
void store_double(char* to, double value) {
  Scalar<S>::store(to, static_cast<typename Scalar<S>::T>(value));
}

// The sum of every `stride`-th of the partial sums, two and two.
double total(double* sums, Index stride) {
  for (Index half = kPartialSums / 2; half > 0; half /= 2)
    for (Index k = 0; k < half; ++k) sums[k * stride] += sums[(k + half) * stride];
  return sums[0];
}

}  // namespace

void global_avg_pool(const PooledBatch& batch) {
  constexpr Cost kCost = cost_of("global_avg_pool");
  const AddRowsFn add = kernels().sums->add_rows[batch.dtype];
  const auto store =
      PerDtype<void (*)(char*, double)>{store_double<Float16>, store_double<float>, store_double<double>}[batch.dtype];
  const Index channels = batch.plane.channels, elements = batch.plane.rows.n * batch.plane.columns.n;
  const bool across = channels > 1 && batch.plane.x.channel == size_of(batch.dtype);
  const Index together = across ? kChannelsTogether : 1, groups = (channels + together - 1) / together;
  parallel_for(batch.images * groups, kCost.ns * static_cast<double>(together * elements), [&](Index begin, Index end) {
    for (Index item = begin; item < end; ++item) {
      const Index channel = item % groups * together, count = std::min(together, channels - channel);
      const Pooling plane = plane_at(batch, item / groups, channel);
      double sums[kPartialSums * kChannelsTogether];
      std::fill_n(sums, kPartialSums * together, 0.0);
      across ? add_planes(add, plane, count, sums) : add_plane(add, plane, sums);
      for (Index c = 0; c < count; ++c)
        store(plane.y.data + c * plane.y.channel, total(sums + c, together) / static_cast<double>(elements));
    }
  });
}

}  // namespace nnfast
