// Over rows, with d_i = x_i - max x:
//   softmax      y_i = e^d_i / sum_j e^d_j             dx = y (dy - sum_j dy_j y_j)
//   log_softmax  y_i = d_i - log sum_j e^d_j           dx = dy - e^y sum_j dy_j
//   logsumexp    y = max x + log sum_j e^d_j           dx = dy softmax(x)
//   sparsemax    y_i = max(d_i - t, 0), sum_j y_j = 1  dx = dy - mean of dy where y > 0, 0 elsewhere
// and softmax of scale x, over the elements that a mask selects; y is 0 elsewhere.
#include "kernels/softmax.hpp"

#include "kernels/blocks.hpp"
#include "kernels/from_avx2.hpp"
#include "kernels/signed_sums.hpp"
#include "kernels/softmax_row.hpp"
#include "simd/bits.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

// Rows that go through the passes together: of double not more than two, whose vectors are much code.
template <class S>
constexpr int kTogether = sizeof(S) == sizeof(double) && kUnrolledRows > 2 ? 2 : kUnrolledRows;

// Calls body(Count<R>, row, rows of each array...) for the rows [begin, end); returns what rounding to S raised.
template <class S, class Body, class... Arrays>
NNFAST_INLINE unsigned run_along(std::ptrdiff_t begin, std::ptrdiff_t end, Body body, Arrays... arrays) {
  const ExceptionScope exceptions;
  for_rows<S, kTogether<S>>(begin, end, body, arrays...);
  if constexpr (Stored<S>::raises == kRaisedNothing) return kRaisedNothing;
  return exceptions.raised() & Stored<S>::raises;
}

// Vectors of rows that are computed side by side where memory is what takes time: what processors fetch by themselves
// are the next lines of a page, and a vector is one. Beside exponentials that gains nothing.
constexpr int kSideBySide = 8;

// Once for all callers: GCC would make copies for some of them.
#if defined(__GNUC__) && !defined(__clang__)
#define NNFAST_APART __attribute__((noinline, noclone))
#else
#define NNFAST_APART __attribute__((noinline))
#endif

// The rows of one lane of a block.
template <class S>
NNFAST_INLINE Rows<S, std::ptrdiff_t> lane_of(const Block<S>& block, std::ptrdiff_t lane, const Matrix&) {
  return {block.data + lane * static_cast<std::ptrdiff_t>(sizeof(S)), 0, block.stride};
}
template <class S>
NNFAST_INLINE RowValues<S> lane_of(const Block<S>& block, std::ptrdiff_t lane, const EachRow&) {
  return {{block.data + lane * static_cast<std::ptrdiff_t>(sizeof(S)), 0}};
}

// Calls body(Across or Along, rows of each array...) for all rows. The last of the arrays is the result. Exponentials:
// whether there are some, beside which it takes little to turn short rows. Wide: whether whole blocks that lie in the
// arrays have code of their own. Where the body returns false, it did nothing: it is called for each of its rows alone.
template <class S, bool Exponentials, bool Wide = false, class Body, class... Arrays>
NNFAST_INLINE unsigned run_rows(std::ptrdiff_t rows, std::ptrdiff_t n, Body body, Arrays... arrays) {
  std::ptrdiff_t across = 0;
  const auto alone = [body](const auto&... some) NNFAST_APART { body(Along<Computed<S>, 1>{}, some...); };
  if constexpr (!kShort && std::is_same_v<S, Computed<S>>) {
    across = rows_across<S>(Exponentials, rows, n, arrays...);
    const ExceptionScope exceptions;
    if (across > 0)
      for_blocks_of_rows<S, Exponentials ? 1 : kSideBySide, Wide>(
          Exponentials, across, n,
          [&](auto most, int some, const auto&... blocks) NNFAST_INLINED {
            if (body(Across<S, most>{some}, blocks...)) [[likely]]
              return;
            const Block<S> all[] = {static_cast<const Block<S>&>(blocks)...};
            for (std::ptrdiff_t lane = all[0].done; lane < some * kLanes<Vec<S>>; ++lane)
              alone(lane_of(blocks, lane, arrays)...);
          },
          arrays...);
  }
  return run_along<S>(
      across, rows,
      [&](auto count, std::ptrdiff_t row, const auto&... some) NNFAST_INLINED {
        if constexpr (count > 1)
          if (body(Along<Computed<S>, count>{}, some...)) [[likely]]
            return;
        for (std::ptrdiff_t r = row; r < row + count; ++r) alone(strided_rows<S>(arrays, r)...);
      },
      arrays...);
}

// Stores finish(r, softmax) of rows with these maxima; y may be x. The exponentials wait in y for their sum, unless S
// has too few digits for them: then they are computed twice.
template <class S, bool Plain, class Lanes, class X, class Y, class Finish>
NNFAST_INLINE void softmax_rows(Lanes lanes, const typename Lanes::V (&largest)[Lanes::R], const X& x, const Y& y,
                                std::ptrdiff_t n, Finish finish) {
  using T = Computed<S>;
  using V = Vec<T>;
  constexpr int R = Lanes::R;
  constexpr bool waiting = std::is_same_v<S, T>;
  RowScale<V, Plain> scales[R];
  row_scales(lanes, scales, largest, Constants<T>::exp_min);
  typename Lanes::Sums sums(lanes, n);
  for_exponentials(lanes, x, n, scales,
                   [&](int r, std::ptrdiff_t i, int part, std::ptrdiff_t count, V, V e) NNFAST_INLINED {
                     sums.add(r, e, part);
                     if constexpr (waiting) {
                       y.store(r, i, e, count);
                       prefetch_next_rows<R>(y, r, i, true);
                     }
                   });
  V scale[R];
  lanes.for_each([&](int r) NNFAST_INLINED {
    const auto total = sums.total(r);
    // The reciprocal of a double is one rounding more, where the bound has no room for it.
    scale[r] = rounded<V>(sizeof(T) == sizeof(double) ? total : reciprocal(total));
  });
  const auto store = [&](int r, std::ptrdiff_t i, std::ptrdiff_t count, V e) NNFAST_INLINED {
    y.store(r, i, finish(r, sizeof(T) == sizeof(double) ? e / scale[r] : e * scale[r]), count);
  };
  if constexpr (waiting) {
    lanes.for_all(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
      lanes.for_each([&](int r) NNFAST_INLINED { store(r, i, count, y.load(r, i, count, T{0})); });
    });
  } else {
    for_exponentials(lanes, x, n, scales,
                     [&](int r, std::ptrdiff_t i, int, std::ptrdiff_t count, V, V e)
                         NNFAST_INLINED { store(r, i, count, e); });
  }
}

template <class S>
unsigned softmax(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking&) {
  return run_rows<S, true>(
      rows, n,
      [n](auto lanes, const auto& from, const auto& to) NNFAST_INLINED {
        using Lanes = decltype(lanes);
        typename Lanes::V largest[Lanes::R];
        row_max(lanes, largest, from, n);
        if (!can_be_plain(lanes, largest)) return false;
        softmax_rows<S, kPlain<Lanes>>(lanes, largest, from, to, n, [](int, auto p) NNFAST_INLINED { return p; });
        return true;
      },
      arrays[0], arrays[1]);
}

// Rows of x, scaled, of which what takes no part is the fill that is asked for. `from`: the masking of the first.
template <class S, class Stride>
struct MaskedRows {
  using V = typename Stored<S>::V;
  Rows<S, Stride> x;
  Masking from;
  V scale;

  NNFAST_INLINE std::ptrdiff_t visible(int row) const { return from.visible + row * from.growth; }
  // v where an element takes part, else the fill.
  NNFAST_INLINE V select(int row, std::ptrdiff_t i, std::ptrdiff_t count, V v, Element<V> fill) const {
    const std::ptrdiff_t left = visible(row) - i;
    if (left < kLanes<V>) v = lanes_between<V>(0, left < 0 ? 0 : left) ? v : broadcast<V>(fill);
    if (!from.mask.data) return v;
    const char* mask = from.mask.data + row * from.mask.row_stride + i * from.mask.stride;
    return lanes_of_bytes<V>(mask, from.mask.stride, count) ? v : broadcast<V>(fill);
  }
  NNFAST_INLINE V load(int row, std::ptrdiff_t i, std::ptrdiff_t count, Element<V> fill) const {
    return select(row, i, count, x.load(row, i, count, 0) * scale, fill);
  }
};

// Rows of `from`, written to `to` as they are loaded.
template <class From, class To>
struct WrittenRows {
  using V = typename From::V;
  From from;
  To to;
  NNFAST_INLINE V load(int row, std::ptrdiff_t i, std::ptrdiff_t count, Element<V> fill) const {
    const V v = from.load(row, i, count, fill);
    to.store(row, i, v, count);
    return v;
  }
};
template <class From, class To>
WrittenRows(From, To) -> WrittenRows<From, To>;

// What takes part has the bits of softmax of a row that has -inf elsewhere.
template <class S>
unsigned masked_softmax(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking& masking) {
  using T = Computed<S>;
  using V = Vec<T>;
  const V scale = broadcast<V>(static_cast<T>(masking.scale));
  return run_along<S>(
      0, rows,
      [&](auto group, std::ptrdiff_t row, auto from, auto to) NNFAST_INLINED {
        constexpr int R = group;
        using Lanes = Along<T, R>;
        const MaskedRows<S, decltype(from.stride)> x{from, rows_from(masking, row), scale};
        // No element beyond them is visible to any of the rows; whole vectors, since stores of less take long.
        const std::ptrdiff_t last = x.visible(R - 1), vectors = (last + kLanes<V> - 1) / kLanes<V>;
        const std::ptrdiff_t seen = last < 0 ? 0 : smaller(n, vectors * kLanes<V>);
        const auto same = [](int, auto p) NNFAST_INLINED { return p; };
        V largest[R];
        if constexpr (std::is_same_v<S, T>) {  // the mask is read once: what it leaves waits in y
          row_max(Lanes{}, largest, WrittenRows{x, to}, seen);
          softmax_rows<S, false>(Lanes{}, largest, to, to, seen, same);
        } else {
          row_max(Lanes{}, largest, x, seen);
          softmax_rows<S, false>(Lanes{}, largest, x, to, seen, same);
        }
        for (int r = 0; r < R; ++r) {
          for (std::ptrdiff_t i = seen; i < n; i += kLanes<V>) to.store(r, i, V{}, smaller(kLanes<V>, n - i));
          // A row that has NaN, or in which nothing takes part, is NaN by now, all of it.
          const T first = seen > 0 ? load_value<S>(to.at(r, 0)) : T{0};
          if (first != first)
            for_vectors<T>(seen, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
              to.store(r, i, x.select(r, i, count, to.load(r, i, count, T{0}), T{0}), count);
            });
        }
      },
      arrays[0], arrays[1]);
}

// The sum of lanes that each count up to 2^32.
template <class I>
[[gnu::noinline]] double sum_of_large_counts(I counts) {
  using Count = std::make_unsigned_t<Element<I>>;
  double sum = 0;
  for (int i = 0; i < kLanes<I>; ++i) sum += static_cast<double>(static_cast<Count>(counts[i]));
  return sum;
}
template <class I>
NNFAST_INLINE double sum_of_counts(I counts, std::ptrdiff_t n) {
  if (n > std::ptrdiff_t{0x7fffffff}) return sum_of_large_counts(counts);
  return static_cast<double>(sum_of_lanes(counts));
}

// log(1 + others), of which the others are raised: nothing where that is less than a result of T shows. Once a row or a
// vector of them: not inlined, as it is much code.
template <class T>
[[gnu::noinline]] Vec<double> log_of_row_sums(Vec<double> others) {
  const Vec<double> sum = others * (1 / static_cast<double>(kRaisedOne<T>));
  return log_beyond_one(sum < (sizeof(T) == sizeof(double) ? 0 : 0x1p-151) ? Vec<double>{} : sum);
}

// From which weight on, beside the largest element's, that of the others is what is left of the sum of all.
constexpr double kKnown = 0x1p-20;

// The logarithms of the rows' sums, of which the others are raised.
template <class T, int R>
NNFAST_INLINE void log_totals(Along<T, R>, double (&logs)[R], const double (&others)[R]) {
  using Doubles = Vec<double>;
  static_assert(R <= kLanes<Doubles>);
  Doubles sums{};
  unrolled<R>([&](int r) NNFAST_INLINED { sums[r] = others[r]; });
  const Doubles result = log_of_row_sums<T>(sums);
  unrolled<R>([&](int r) NNFAST_INLINED { logs[r] = result[r]; });
}
template <class T>
NNFAST_INLINE void log_totals(Across<T, 1>, Widened<Vec<T>> (&logs)[1], const Widened<Vec<T>> (&others)[1]) {
  for (int k = 0; k < logs[0].count; ++k) logs[0].part[k] = log_of_row_sums<T>(others[0].part[k]);
}

// The sum of the exponentials that are not the largest one, by themselves.
template <class Lanes, class X, bool Plain>
[[gnu::noinline]] typename Lanes::Total sum_of_others(Lanes lanes, const X& x, std::ptrdiff_t n,
                                                      const RowScale<typename Lanes::V, Plain>& scale) {
  using V = typename Lanes::V;
  typename Lanes::Sums others(lanes, n);
  lanes.for_parts(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
    const V v = x.load(0, i, count, static_cast<typename Lanes::T>(-kInfinity));
    others.add(0, v == scale.largest ? V{} : scale.exp(scale.shifted(v)), part);
  });
  return others.total(0);
}
template <class S, class Stride>
NNFAST_INLINE Rows<S, std::ptrdiff_t> row_of(const Rows<S, Stride>& x, int row) {
  return {x.at(row, 0), x.row_stride, x.stride};
}
template <class T, int R, class X, class Scale>
NNFAST_INLINE void find_others(Along<T, R>, double (&others)[R], const X& x, std::ptrdiff_t n,
                               const Scale (&scales)[R]) {
  for (int r = 0; r < R; ++r)
    if (others[r] < kKnown * static_cast<double>(kRaisedOne<T>)) [[unlikely]]
      others[r] =
          sum_of_others(Along<T, 1>{}, row_of(x, r), n, RowScale<Vec<T>, false>(scales[r].largest, scales[r].least));
}
template <class T, class X, class Scale>
NNFAST_INLINE void find_others(Across<T, 1> lanes, Widened<Vec<T>> (&others)[1], const X& x, std::ptrdiff_t n,
                               const Scale (&scales)[1]) {
  Mask<Vec<double>> few{};
  const auto is_few = [](auto sum) NNFAST_INLINED { return sum < kKnown * static_cast<double>(kRaisedOne<T>); };
  for (const auto& part : others[0].part) few |= is_few(part);
  if (sum_of_lanes(few) == 0) [[likely]]
    return;
  const Widened<Vec<T>> found = sum_of_others(lanes, x, n, scales[0]);
  for (int k = 0; k < found.count; ++k)
    others[0].part[k] = is_few(others[0].part[k]) ? found.part[k] : others[0].part[k];
}

// log sum_j e^(x_j - largest) of each row. Where one term is nearly all, the logarithm is that of 1 + the others' sum,
// which keeps its digits: it is what is left of the sum of all. Calls beside(r, i) for every vector.
template <class Lanes, class X, bool Plain, class Beside>
NNFAST_INLINE void log_sums(Lanes lanes, typename Lanes::Total (&logs)[Lanes::R], const X& x, std::ptrdiff_t n,
                            RowScale<typename Lanes::V, Plain> (&scales)[Lanes::R],
                            const typename Lanes::V (&largest)[Lanes::R], Beside beside) {
  using T = typename Lanes::T;
  using V = typename Lanes::V;
  typename Lanes::Sums sums(lanes, n);
  typename Lanes::Total others[Lanes::R];
  row_scales(lanes, scales, largest, Constants<T>::exp_min * 1.25);
  lanes.for_each([&](int r) NNFAST_INLINED { sums.add(r, Lanes::element(broadcast<V>(-kRaisedOne<T>)), 0); });
  for_exponentials(lanes, x, n, scales, [&](int r, std::ptrdiff_t i, int part, std::ptrdiff_t, V, V e) NNFAST_INLINED {
    sums.add(r, e, part);
    beside(r, i);
  });
  lanes.for_each([&](int r) NNFAST_INLINED { others[r] = sums.total(r); });
  find_others(lanes, others, x, n, scales);
  log_totals(lanes, logs, others);
}

// The sum of two numbers a row, in two parts.
template <class V>
NNFAST_INLINE Pair<V> sum_in_parts(V a, double b) {
  using T = Element<V>;
  const double wide = static_cast<double>(a[0]), sum = wide + b, part = sum - wide;
  const T hi = static_cast<T>(sum);
  const double rest = (sum - static_cast<double>(hi)) + ((wide - (sum - part)) + (b - part));
  return {broadcast<V>(hi), broadcast<V>(static_cast<T>(rest))};
}
template <class V>
NNFAST_INLINE Pair<V> sum_in_parts(V a, Widened<V> b) {
  const Widened<V> wide = widen(a);
  Widened<V> rest;
  for (int k = 0; k < b.count; ++k) {
    const Pair<Vec<double>> sum = two_sum(wide.part[k], b.part[k]);
    b.part[k] = sum.hi;
    rest.part[k] = sum.lo;
  }
  const V hi = narrow<V>(b);
  const Widened<V> known = widen(hi);
  for (int k = 0; k < b.count; ++k) rest.part[k] += b.part[k] - known.part[k];
  return {hi, narrow<V>(rest)};
}

// d - log: of float within an ulp, and in double, beside which a logarithm has more of an error, within a half.
template <class V>
NNFAST_INLINE V difference(V d, Pair<V> log) {
  if constexpr (sizeof(Element<V>) < sizeof(double)) return (d - log.hi) - log.lo;
  const Pair<V> sum = two_sum(d, -log.hi);  // lo is NaN where d is -inf
  return d == -kInfinity ? sum.hi : sum.hi + (sum.lo - log.lo);
}

template <class S>
unsigned log_softmax(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking&) {
  return run_rows<S, true>(
      rows, n,
      [n](auto lanes, const auto& x, const auto& y) NNFAST_INLINED {
        using Lanes = decltype(lanes);
        using V = typename Lanes::V;
        constexpr int R = Lanes::R;
        V largest[R];
        RowScale<V, kPlain<Lanes>> scales[R];
        typename Lanes::Total logs[R];
        row_max(lanes, largest, x, n);
        if (!can_be_plain(lanes, largest)) return false;
        // Across, the lines of the result lie apart, and what follows is too short to wait for them. Where a vector
        // lies in two, its neighbour before it asked for the first.
        log_sums(lanes, logs, x, n, scales, largest, [&](int r, std::ptrdiff_t i) NNFAST_INLINED {
          if constexpr (std::is_same_v<Lanes, Across<typename Lanes::T, R>>)
            __builtin_prefetch(y.at(r, i) + kLanes<V> - 1, 1);
        });
        // log sum_j e^d_j in two parts: what is near it is subtracted without error from the first.
        Pair<V> log[R];
        lanes.for_each([&](int r) NNFAST_INLINED { log[r] = sum_in_parts(scales[r].top, logs[r]); });
        lanes.for_all(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
          lanes.for_each([&](int r) NNFAST_INLINED {
            const V d = scales[r].shifted(x.load(r, i, count, typename Lanes::T{0}));
            y.store(r, i, difference(d, log[r]), count);
            prefetch_next_rows<R>(y, r, i, true);
          });
        });
        return true;
      },
      arrays[0], arrays[1]);
}

template <class S>
unsigned logsumexp(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking&) {
  return run_rows<S, true>(
      rows, n,
      [n](auto lanes, const auto& x, const auto& y) NNFAST_INLINED {
        using Lanes = decltype(lanes);
        using V = typename Lanes::V;
        constexpr int R = Lanes::R;
        constexpr auto bottom = static_cast<typename Lanes::T>(-kInfinity);
        V largest[R], shift[R];
        typename Lanes::Total logs[R];
        row_max(lanes, largest, x, n, bottom);
        // A row of -inf is shifted by nothing: its terms are 0, unless there is a NaN among them.
        lanes.for_each([&](int r) NNFAST_INLINED { shift[r] = largest[r] == bottom ? V{} : largest[r]; });
        if (!can_be_plain(lanes, shift)) return false;
        RowScale<V, kPlain<Lanes>> scales[R];
        log_sums(lanes, logs, x, n, scales, shift, [](int, std::ptrdiff_t) NNFAST_INLINED {});
        lanes.for_each([&](int r) NNFAST_INLINED { y.put(r, rounded<V>(plus(logs[r], largest[r]))); });
        return true;
      },
      arrays[0], EachRow{arrays[1].data, arrays[1].row_stride});
}

// Stores result(dy, y, total) for every element, where total is the sum of its row, to which add(sum, part, dy, y)
// adds; dy() and y() load.
template <class S, bool Wide = kVectorBytes >= 32, class Add, class Result>
NNFAST_INLINE unsigned gradient(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, Add add, Result result) {
  using T = Computed<S>;
  using V = Vec<T>;
  return run_rows<S, false, Wide>(
      rows, n,
      [=](auto lanes, const auto& dy, const auto& y, const auto& dx) NNFAST_INLINED {
        using Lanes = decltype(lanes);
        constexpr int R = Lanes::R;
        typename Lanes::Sums sums(lanes, n);
        lanes.for_parts(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
          claim_lines(lanes, dx, i);
          lanes.for_each([&](int r) NNFAST_INLINED {
            prefetch_next_rows<R>(dy, r, i);
            prefetch_next_rows<R>(y, r, i);
            prefetch_next_rows<R>(dx, r, i, true);
            add(
                sums, r, part, [&]() NNFAST_INLINED { return dy.load(r, i, count, T{0}); },
                [&]() NNFAST_INLINED { return y.load(r, i, count, T{0}); });
          });
        });
        V total[R];
        lanes.for_each([&](int r) NNFAST_INLINED { total[r] = rounded<V>(sums.total(r)); });
        lanes.for_all(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
          ask_for_next_block(lanes, dy, i);
          ask_for_next_block(lanes, y, i);
          lanes.for_together([&](auto together, int first) NNFAST_INLINED {
            V results[together];
            unrolled<together>([&](int u) NNFAST_INLINED {
              const int r = first + u;
              results[u] = result(dy.load(r, i, count, T{0}), y.load(r, i, count, T{0}), total[r]);
            });
            unrolled<together>([&](int u) NNFAST_INLINED { dx.store(first + u, i, results[u], count); });
          });
        });
        return true;
      },
      arrays[0], arrays[1], arrays[2]);
}

template <class S>
unsigned softmax_backward(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking&) {
  return gradient<S>(
      arrays, rows, n,
      [](auto& sums, int r, int part, auto dy, auto y) NNFAST_INLINED { sums.add_product(r, dy(), y(), part); },
      [](auto dy, auto y, auto total) NNFAST_INLINED { return y * (dy - total); });
}

// Where y is 0, no element took part, or none that weighs anything.
template <class S>
unsigned masked_softmax_backward(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking& masking) {
  using V = Vec<Computed<S>>;
  const V scale = broadcast<V>(static_cast<Computed<S>>(masking.scale));
  return gradient<S, false>(
      arrays, rows, n,
      [](auto& sums, int r, int part, auto dy, auto y) NNFAST_INLINED {
        const V p = y();
        sums.add_product(r, p == 0 ? V{} : dy(), p, part);
      },
      [scale](auto dy, auto y, auto total) NNFAST_INLINED { return y == 0 ? V{} : y * (dy - total) * scale; });
}

template <class S>
unsigned log_softmax_backward(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking&) {
  return gradient<S>(
      arrays, rows, n, [](auto& sums, int r, int part, auto dy, auto) NNFAST_INLINED { sums.add(r, dy(), part); },
      [](auto dy, auto y, auto total) NNFAST_INLINED { return fma(-total, exp_shifted(y), dy); });
}

template <class S>
unsigned logsumexp_backward(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking&) {
  return run_rows<S, true>(
      rows, n,
      [n](auto lanes, const auto& dy, const auto& x, const auto& dx) NNFAST_INLINED {
        using Lanes = decltype(lanes);
        using V = typename Lanes::V;
        constexpr int R = Lanes::R;
        V g[R], largest[R];
        lanes.for_each([&](int r) NNFAST_INLINED { g[r] = dy.get(r); });
        row_max(lanes, largest, x, n);
        if (!can_be_plain(lanes, largest)) return false;
        softmax_rows<S, kPlain<Lanes>>(lanes, largest, x, dx, n, [&](int r, V p) NNFAST_INLINED { return g[r] * p; });
        return true;
      },
      EachRow{arrays[0].data, arrays[0].row_stride}, arrays[1], arrays[2]);
}

// x - largest, exact as hi + lo where it matters; 0 where they are equal, infinities included.
template <class V>
NNFAST_INLINE Pair<V> shifted_by(V x, V largest) {
  const V hi = x - largest;
  const V back = hi - x;
  const V lo = (x - (hi - back)) - (largest + back);
  const auto equal = x == largest;
  const auto finite = hi > Constants<Element<V>>::exp_min;
  return {equal ? V{} : hi, finite ? lo : V{}};  // of equal infinities hi was NaN
}

// x - largest in double, where the difference of two floats is exact.
template <class V>
NNFAST_INLINE Widened<V> shifted_in_double(V x, V largest) {
  const Pair<V> d = shifted_by(x, largest);
  Widened<V> sum = widen(d.hi);
  const Widened<V> lo = widen(d.lo);
  for (int k = 0; k < sum.count; ++k) sum.part[k] += lo.part[k];
  return sum;
}

// The t of sparsemax, for which the elements of d = x - largest above it exceed it by 1 in all (Martins, Astudillo
// 2016), without sorting: those above a bound of t give a better one, until no more of them fall below (Michelot 1986).
// The bounds rise, the first is -1, as d is 0 somewhere. A row with NaN has t = NaN.
template <class T, class X>
NNFAST_INLINE double sparsemax_threshold(const X& x, std::ptrdiff_t n, Vec<T> largest) {
  double bound = -1, above = static_cast<double>(n) + 1;
  for (;;) {
    const Vec<double> low = broadcast<Vec<double>>(bound);
    BlockSum<T> sum;
    Mask<Vec<double>> counts{};
    for_blocks<T, !kShort>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
      auto d = shifted_in_double(x.load(0, i, count, static_cast<T>(-kInfinity)), largest);
      for (auto& each : d.part) {
        const Mask<Vec<double>> out = each <= low;
        each = out ? Vec<double>{} : each;
        counts += 1 + out;
      }
      sum.add(d, part);
    });
    const double still = sum_of_counts(counts, n);
    if (still >= above) return bound;
    above = still;
    bound = (sum.total() - 1) / above;
  }
}

template <class S>
unsigned sparsemax(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking&) {
  using T = Computed<S>;
  using V = Vec<T>;
  using Lanes = Along<T, 1>;
  const ExceptionScope exceptions;
  for (std::ptrdiff_t row = 0; row < rows; ++row) {
    const auto x = strided_rows<S>(arrays[0], row), y = strided_rows<S>(arrays[1], row);
    V largest[1];
    row_max(Lanes{}, largest, x, n);
    const Vec<double> t = broadcast<Vec<double>>(sparsemax_threshold<T>(x, n, largest[0]));
    Lanes{}.for_all(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
      auto d = shifted_in_double(x.load(0, i, count, T{0}), largest[0]);
      for (auto& each : d.part) each = max(Vec<double>{}, each - t);
      y.store(0, i, narrow<V>(d), count);
    });
  }
  return kRaisedNothing;
}

template <class S>
unsigned sparsemax_backward(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking&) {
  using T = Computed<S>;
  using V = Vec<T>;
  const ExceptionScope exceptions;
  for (std::ptrdiff_t row = 0; row < rows; ++row) {
    const auto dy = strided_rows<S>(arrays[0], row), y = strided_rows<S>(arrays[1], row),
               dx = strided_rows<S>(arrays[2], row);
    BlockSum<T> sum;
    Mask<V> counts{};
    for_blocks<T, !kShort>(n, [&](std::ptrdiff_t i, int part, std::ptrdiff_t count) NNFAST_INLINED {
      const Mask<V> out = y.load(0, i, count, T{0}) == 0;
      sum.add(out ? V{} : dy.load(0, i, count, T{0}), part);
      counts += 1 + out;
    });
    const V mean = rounded<V>(sum.total() / sum_of_counts(counts, n));
    for_vectors<T>(n, [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
      const V p = y.load(0, i, count, T{0}), g = dy.load(0, i, count, T{0});
      dx.store(0, i, p == 0 ? V{} : (p == p ? g - mean : p), count);
    });
  }
  return exceptions.raised() & Stored<S>::raises;
}

// Elements of each array that are widened together. They lie on the stack: a loop of a ufunc must not allocate.
constexpr std::ptrdiff_t kWidenedElements = 2048;

// Rows of float16 of at most kWidenedElements, widened to float32 for the kernel, the results rounded once.
[[gnu::noinline, maybe_unused]] unsigned in_float32(SoftmaxFn of_float32, int inputs, const Matrix* arrays,
                                                    std::ptrdiff_t rows, std::ptrdiff_t n, const Masking& masking) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(float));
  const ExceptionScope exceptions;  // of the rounded results
  alignas(64) float values[kSoftmaxArrays][kWidenedElements];
  const Matrix& result = arrays[inputs];
  const auto by_columns = [](const Matrix& m) {
    return m.row_stride == static_cast<std::ptrdiff_t>(sizeof(Float16)) && m.stride != m.row_stride;
  };
  // Calls use(narrow, stride, wide, count) for each row, or each column.
  const auto for_lines = [&](const Matrix& m, const Matrix& wide, std::ptrdiff_t count, std::ptrdiff_t length,
                             auto use) {
    if (by_columns(m)) {
      for (std::ptrdiff_t i = 0; i < length; ++i)
        use(m.data + i * m.stride, m.row_stride, wide.data + i * wide.stride, count);
    } else {
      for (std::ptrdiff_t r = 0; r < count; ++r)
        use(m.data + r * m.row_stride, m.stride, wide.data + r * wide.row_stride, length);
    }
  };
  const std::ptrdiff_t most = kWidenedElements / (n > 1 ? n : 1);
  for (std::ptrdiff_t first = 0; first < rows; first += most) {
    const std::ptrdiff_t count = smaller(most, rows - first);
    Matrix wide[kSoftmaxArrays];
    for (int k = 0; k <= inputs; ++k) {
      const std::ptrdiff_t length = arrays[k].stride ? n : 1;
      char* const data = reinterpret_cast<char*>(values[k]);
      wide[k] = by_columns(arrays[k]) ? Matrix{data, size, length > 1 ? count * size : 0}
                                      : Matrix{data, length * size, arrays[k].stride ? size : 0};
      if (k < inputs)
        for_lines(rows_from(arrays[k], first), wide[k], count, length,
                  [](const char* from, std::ptrdiff_t stride, char* to, std::ptrdiff_t run) {
                    widen_run(from, stride, reinterpret_cast<float*>(to), run);
                  });
    }
    of_float32(wide, count, n, rows_from(masking, first));
    for_lines(rows_from(result, first), wide[inputs], count, result.stride ? n : 1,
              [](char* to, std::ptrdiff_t stride, const char* from, std::ptrdiff_t run) {
                narrow_run(from, size, to, stride, run);
              });
  }
  return exceptions.raised() & kRaisedOverflow;
}

// The float16 variant; longer rows are widened a vector at a time, in each pass.
template <SoftmaxFn of_float32, SoftmaxFn of_long_rows, int inputs, int one_element>
unsigned of_float16(const Matrix* arrays, std::ptrdiff_t rows, std::ptrdiff_t n, const Masking& masking) {
  // Strides of arrays without elements are 0, as that of one element a row.
  if (n == 0 && one_element != inputs) return kRaisedNothing;
  if (n == 0 || n > kWidenedElements) return of_long_rows(arrays, rows, n, masking);
  return in_float32(of_float32, inputs, arrays, rows, n, masking);
}

}  // namespace

namespace NNFAST_ISA {

extern const SoftmaxKernels softmax;
const SoftmaxKernels softmax = {
    {
#define NNFAST_FLOAT16(name, inputs, one_element) \
  NNFAST_FROM_AVX2(of_float16<nnfast::name<float>, nnfast::name<Float16>, inputs, one_element>)
#define NNFAST_ENTRY(name, inputs, one_element, ...) \
  {NNFAST_FLOAT16(name, inputs, one_element), nnfast::name<float>, nnfast::name<double>},
#define NNFAST_RARE_DOUBLE(name, inputs, one_element, ...) \
  {NNFAST_FLOAT16(name, inputs, one_element), nnfast::name<float>, NNFAST_FROM_AVX2(nnfast::name<double>)},
#define NNFAST_RARE(name, inputs, one_element, ...)                                                                   \
  NNFAST_FROM_AVX2({of_float16<nnfast::name<float>, nnfast::name<Float16>, inputs, one_element>, nnfast::name<float>, \
                    nnfast::name<double>}),
        NNFAST_EXPONENTIALS(NNFAST_ENTRY) NNFAST_LOGSUMEXP_BACKWARD(NNFAST_RARE) NNFAST_SPARSEMAX(NNFAST_RARE_DOUBLE)
            NNFAST_MASKED_FORWARD(NNFAST_RARE_DOUBLE) NNFAST_MASKED_BACKWARD(NNFAST_RARE)
#undef NNFAST_RARE
#undef NNFAST_RARE_DOUBLE
#undef NNFAST_ENTRY
#undef NNFAST_FLOAT16
    },
    NNFAST_FROM_AVX2({nullptr, signed_logsumexp<float>, signed_logsumexp<double>}),
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
