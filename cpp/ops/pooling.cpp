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

// ---- backward of the maxima ----

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

// Of all channels, which are neighbours in dx: straight into whole planes. float16 is summed in float32 elsewhere.
template <class T>
unsigned max_backward_channels(const Pooling& pooling, Index first, Index last) {
  const ExceptionScope exceptions;
  const Index width = pooling.columns.n, elements = pooling.rows.n * width, channels = pooling.channels;
  const PoolArray dx = pooling.x, dy = pooling.y, which = pooling.which;
  for (Index row = first; row < last; ++row)
    for (Index column = 0; column < width; ++column)
      std::memset(dx.at(row, column), 0, static_cast<std::size_t>(channels) * sizeof(T));
  for (Index oy = 0; oy < pooling.rows.count; ++oy)
    for (Index ox = 0; ox < pooling.columns.count; ++ox) {
      const char *term = dy.at(oy, ox), *place = which.at(oy, ox);
      char* to = dx.data;
      for (Index c = 0; c < channels; ++c, term += dy.channel, place += which.channel, to += sizeof(T)) {
        const Index at = load_bytes<std::int32_t>(place);
        if (static_cast<std::size_t>(at) >= static_cast<std::size_t>(elements)) continue;
        char* sum =
            dx.row == width * dx.column ? to + at * dx.column : to + at / width * dx.row + at % width * dx.column;
        store_bytes(sum, load_bytes<T>(sum) + load_bytes<T>(term));
      }
    }
  return exceptions.raised() & kRaisedOverflow;
}

// ---- threads ----

Pooling plane_at(const PooledBatch& batch, Index image, Index channel) {
  Pooling plane = batch.plane;
  plane.x.data += image * batch.x + channel * plane.x.channel;
  plane.y.data += image * batch.y + channel * plane.y.channel;
  plane.which.data += image * batch.which + channel * plane.which.channel;
  return plane;
}

Pooling channel_at(const PooledBatch& batch, Index plane) {
  Pooling one = plane_at(batch, plane / batch.plane.channels, plane % batch.plane.channels);
  one.channels = 1;
  return one;
}

// Whether neighbouring channels are next to each other in x, and not neighbouring columns.
bool channels_last(const PooledBatch& batch) {
  const Index size = size_of(batch.dtype);
  return batch.plane.x.channel == size && batch.plane.x.column != size;
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
      raised.add(fn(all_channels ? plane_at(batch, plane, 0) : channel_at(batch, plane), first, last));
      item += last - first;
    }
  };
  parallel_for(planes * rows, ns_per_row, some, multiple);
  return raised.all();
}

// `plain`: float32 has none, where kernels take any windows.
unsigned forward(const PooledBatch& batch, const PerDtype<PoolFn>& plain, PoolFn along, PoolFn across, double ns) {
  const Pooling& plane = batch.plane;
  const PoolAxis& axis = plane.columns;
  const double work = ns * static_cast<double>(axis.count * axis.kernel * plane.rows.kernel);
  const bool all_channels = batch.dtype == Dtype::f32 && channels_last(batch);
  const PoolFn fn = all_channels ? across : (batch.dtype == Dtype::f32 ? along : plain[batch.dtype]);
  return over_rows(batch, fn, all_channels, plane.rows.count, work);
}

// What windows give to a row of x, in products of elements and windows, or in elements where these are more.
double work_of_row(const Pooling& plane) {
  const PoolAxis &rows = plane.rows, &columns = plane.columns;
  const auto taps = static_cast<double>(columns.count * columns.kernel) * static_cast<double>(rows.count * rows.kernel);
  return std::max(taps / static_cast<double>(rows.n), static_cast<double>(columns.n));
}

}  // namespace

void max_pool(const PooledBatch& batch) {
  constexpr Cost kCost = cost_of("max_pool");
  const PoolingKernels& kernel = *kernels().pooling;
  forward(batch, {max_rows<Float16>, nullptr, max_rows<double>}, kernel.max_along, kernel.max_across, kCost.ns);
}

unsigned avg_pool(const PooledBatch& batch) {
  constexpr Cost kCost = cost_of("avg_pool");
  const PoolingKernels& kernel = *kernels().pooling;
  return forward(batch, {mean_rows<Float16>, nullptr, mean_rows<double>}, kernel.mean_along, kernel.mean_across,
                 kCost.ns);
}

unsigned max_pool_backward(const PooledBatch& batch) {
  constexpr Cost kCost = cost_of("max_pool_backward");
  const PerDtype<PoolFn> of_channel{max_backward_rows<Float16>, max_backward_rows<float>, max_backward_rows<double>};
  const PerDtype<PoolFn> of_channels{nullptr, max_backward_channels<float>, max_backward_channels<double>};
  const Index rows = batch.plane.rows.n;
  const bool all = channels_last(batch) && batch.dtype != Dtype::f16;
  return over_rows(batch, (all ? of_channels : of_channel)[batch.dtype], all, rows,
                   kCost.ns * static_cast<double>(batch.plane.columns.n), rows);
}

unsigned avg_pool_backward(const PooledBatch& batch) {
  constexpr Cost kCost = cost_of("avg_pool_backward");
  const PoolingKernels& kernel = *kernels().pooling;
  const bool across = channels_last(batch);
  const PoolFn fn = (across ? kernel.mean_backward_across : kernel.mean_backward_along)[batch.dtype];
  return over_rows(batch, fn, across, batch.plane.rows.n, kCost.ns * work_of_row(batch.plane));
}

namespace {

// Windows of rows [first, last) as columns, of some channels.
template <class S>
unsigned copy_windows(const Pooling& plane, Index first, Index last) {
  constexpr Index size = sizeof(S);
  const PoolAxis &down = plane.rows, &right = plane.columns;
  const bool contiguous = right.stride == 1 && plane.x.column == size && plane.y.column == size;
  const Index channels = plane.channels;
  for (Index oy = first; oy < last; ++oy)
    for (Index c = 0; c < channels; ++c)
      for (Index ky = 0; ky < down.kernel; ++ky) {
        const Index iy = oy * down.stride - down.padding + ky * down.dilation;
        const bool there = iy >= 0 && iy < down.n;
        for (Index kx = 0; kx < right.kernel; ++kx) {
          char* to = plane.y.at(oy, 0) + c * plane.y.channel + ky * plane.tap_row + kx * plane.tap_column;
          const Index at = kx * right.dilation - right.padding;  // of window 0
          // Windows [begin, end) have an element there, the others padding.
          const Index begin = there && at < 0 ? std::min((-at + right.stride - 1) / right.stride, right.count) : 0;
          const Index room = there ? right.n - at : 0;
          const Index end = room > 0 ? std::clamp((room + right.stride - 1) / right.stride, begin, right.count) : begin;
          const auto zeros = [&](Index from, Index until) {
            for (Index o = from; o < until; ++o) store_bytes(to + o * plane.y.column, S{});
          };
          zeros(0, begin);
          zeros(end, right.count);
          if (begin == end) continue;
          const char* from = plane.x.at(iy, begin * right.stride + at) + c * plane.x.channel;
          to += begin * plane.y.column;
          if (contiguous) {
            std::memcpy(to, from, static_cast<std::size_t>((end - begin) * size));
            continue;
          }
          const Index from_step = right.stride * plane.x.column, to_step = plane.y.column;
          for (Index left = end - begin; left > 0; --left, from += from_step, to += to_step)
            store_bytes(to, load_bytes<S>(from));
        }
      }
  return kRaisedNothing;
}

}  // namespace

void im2col(const PooledBatch& batch) {
  constexpr Cost kCost = cost_of("im2col");
  const PerDtype<PoolFn> fn{copy_windows<Float16>, copy_windows<float>, copy_windows<double>};
  const PoolAxis &rows = batch.plane.rows, &columns = batch.plane.columns;
  over_rows(batch, fn[batch.dtype], channels_last(batch), rows.count,
            kCost.ns * static_cast<double>(rows.kernel) * static_cast<double>(columns.kernel * columns.count));
}

unsigned col2im(const PooledBatch& batch) {
  constexpr Cost kCost = cost_of("col2im");
  const PoolFn fn = kernels().pooling->fold[batch.dtype];
  return over_rows(batch, fn, channels_last(batch), batch.plane.rows.n, kCost.ns * work_of_row(batch.plane));
}

// ---- whole planes ----

namespace {

constexpr Index kPartialSums = kPlanePartialSums, kChannelsTogether = 32;

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
  const PoolArray& x = batch.plane.x;
  const Index size = size_of(batch.dtype), columns = batch.plane.columns.n;
  const bool in_registers =
      batch.dtype == Dtype::f32 && x.column == size && (x.row == columns * size || elements == columns);
  const bool across = channels > 1 && x.channel == size && !in_registers;
  const PlaneMeanFn plane_mean = kernels().pooling->plane_mean;
  const Index together = across ? kChannelsTogether : 1, groups = (channels + together - 1) / together;
  parallel_for(batch.images * groups, kCost.ns * static_cast<double>(together * elements), [&](Index begin, Index end) {
    for (Index item = begin; item < end; ++item) {
      const Index channel = item % groups * together, count = std::min(together, channels - channel);
      const Pooling plane = plane_at(batch, item / groups, channel);
      if (in_registers) {
        store(plane.y.data, plane_mean(reinterpret_cast<const float*>(plane.x.data), elements));
        continue;
      }
      double sums[kPartialSums * kChannelsTogether];
      std::fill_n(sums, kPartialSums * together, 0.0);
      across ? add_planes(add, plane, count, sums) : add_plane(add, plane, sums);
      for (Index c = 0; c < count; ++c)
        store(plane.y.data + c * plane.y.channel, total(sums + c, together) / static_cast<double>(elements));
    }
  });
}

namespace {

// n contiguous elements, by 64 bytes.
template <class S>
void fill(char* to, S value, Index n) {
  constexpr Index size = sizeof(S), bytes = 64;
  S block[bytes / size];
  for (S& each : block) each = value;
  const Index end = n * size;
  Index at = 0;
  for (; at + bytes <= end; at += bytes) std::memcpy(to + at, block, bytes);
  for (; at < end; at += size) store_bytes(to + at, value);
}

// Rows [first, last) of dx, of some channels.
template <class S>
unsigned spread_rows(const Pooling& plane, Index first, Index last) {
  using T = typename Scalar<S>::T;
  constexpr Index size = sizeof(S), kTogether = 64;
  const ExceptionScope exceptions;
  const PoolArray &x = plane.x, &y = plane.y;
  const Index width = plane.columns.n, channels = plane.channels;
  const T elements = static_cast<T>(plane.rows.n * width);
  const bool joined = x.row == width * x.column;
  const Index rows = joined ? 1 : last - first, columns = joined ? (last - first) * width : width;
  const auto share = [&](Index c) {
    char stored[size];
    Scalar<S>::store(stored, Scalar<S>::load(y.data + c * y.channel) / elements);
    return load_bytes<S>(stored);
  };
  // A row of one channel, or channels that are neighbours, are written at once.
  if (channels == 1 && x.column == size) {
    const S value = share(0);
    for (Index r = 0; r < rows; ++r) fill(x.at(first + r, 0), value, columns);
    return kRaisedNothing;
  }
  const Index together = x.channel == size ? std::min(channels, kTogether) : 1;
  for (Index c = 0; c < channels; c += together) {
    const Index count = std::min(together, channels - c);
    S shares[kTogether];
    for (Index i = 0; i < count; ++i) shares[i] = share(c + i);
    for (Index r = 0; r < rows; ++r) {
      char* to = x.at(first + r, 0) + c * x.channel;
      for (Index i = 0; i < columns; ++i, to += x.column)
        std::memcpy(to, shares, static_cast<std::size_t>(count * size));
    }
  }
  return kRaisedNothing;
}

}  // namespace

void global_avg_pool_backward(const PooledBatch& batch) {
  constexpr Cost kCost = cost_of("global_avg_pool_backward");
  const PerDtype<PoolFn> fn{spread_rows<Float16>, spread_rows<float>, spread_rows<double>};
  over_rows(batch, fn[batch.dtype], channels_last(batch), batch.plane.rows.n,
            kCost.ns * static_cast<double>(batch.plane.columns.n));
}

}  // namespace nnfast
