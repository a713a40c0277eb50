// Normalisation with a vector's lanes across neighbouring sets, as the channels of a (batch, channels) matrix are.
#pragma once

#include "kernels/formulas.hpp"
#include "kernels/normalization_maps.hpp"
#include "kernels/unrolled.hpp"
#include "simd/bits.hpp"
#include "simd/elements.hpp"
#include "simd/float_state.hpp"

namespace nnfast {
namespace {

// Some neighbouring sets, a row for each of their members.
struct RowsOfSets {
  char* first;
  std::ptrdiff_t stride;
  const Axes* members;  // where they are not at one stride
  int array;
  NNFAST_INLINE char* operator()(std::ptrdiff_t i) const {
    return members ? first + offset_of(*members, array, i) : first + i * stride;
  }
};

// Some neighbouring sets: `Vectors` vectors. Dense ones are contiguous in every array and fill their vectors; others
// may be fewer (count) and at any stride.
template <class S_, int Vectors_, bool Dense>
struct Sets {
  using S = S_;
  using V = typename Stored<S>::V;
  using T = typename Stored<S>::Param;
  using W = Widened<V>;
  static constexpr int Vectors = Vectors_;
  static constexpr int kParts = Vectors * W::count;
  static constexpr int kWidth = Vectors * kLanes<V>;
  const Normalization& norm;
  std::ptrdiff_t first, count;

  NNFAST_INLINE std::ptrdiff_t lanes(int v) const {
    return Dense ? kLanes<V> : smaller(count - v * kLanes<V>, kLanes<V>);
  }
  // Where array `a` has the first of these sets, member by member.
  NNFAST_INLINE RowsOfSets rows(int a) const {
    return {norm.data[a] + first * norm.sets.strides[a][0], norm.members.count == 1 ? norm.members.strides[a][0] : 0,
            norm.members.count == 1 ? nullptr : &norm.members, a};
  }
  NNFAST_INLINE V load(const char* row, int a, int v) const {
    const char* at = row + v * kLanes<V> * stride(a);
    return Dense ? Stored<S>::load(at) : load_some<S>(at, stride(a), 0, lanes(v), 0);
  }
  NNFAST_INLINE W load_doubles(const char* row, int a, int v) const {
    return Dense ? nnfast::load_doubles<S>(row + v * kLanes<V> * stride(a)) : widen(load(row, a, v));
  }
  // Part k of vector v of one double a set, the first of these sets' being the first.
  NNFAST_INLINE Vec<double> part(const double* values, int v, int k) const {
    const int at = (v * W::count + k) * kLanes<Vec<double>>;
    if (Dense) return nnfast::load<Vec<double>>(values + at);
    const std::ptrdiff_t left = count - at;
    return load_partial<Vec<double>>(values + at, left < 0 ? 0 : smaller(left, kLanes<Vec<double>>), 0);
  }
  NNFAST_INLINE void store_part(double* values, int v, int k, Vec<double> sums) const {
    const int at = (v * W::count + k) * kLanes<Vec<double>>;
    if (Dense) return nnfast::store(values + at, sums);
    const std::ptrdiff_t left = count - at;
    store_partial(values + at, sums, left < 0 ? 0 : smaller(left, kLanes<Vec<double>>));
  }
  NNFAST_INLINE auto of_set(int v) const {
    return [=, this](const double* values, int k) NNFAST_INLINED { return part(values + first, v, k); };
  }
  NNFAST_INLINE std::ptrdiff_t stride(int a) const {
    return Dense ? static_cast<std::ptrdiff_t>(sizeof(S)) : norm.sets.strides[a][0];
  }
};

// Unroll factor: registers hold the sums of so many vectors of sets.
constexpr int kVectorsAcross = kShort ? 1 : kVectorBytes == 64 ? 4 : 2;
// Of gradients of float32, of which few are added in T. A wider piece of a row also comes faster from memory.
template <class S>
constexpr int kGradientsAcross = std::is_same_v<S, float> && !kShort ? 4 : kVectorsAcross;

template <class S>
NNFAST_INLINE bool next_sets(const Normalization& norm) {
  for (int a = 0; a < kNormalizedArrays; ++a)
    if (norm.data[a] && norm.sets.strides[a][0] != static_cast<std::ptrdiff_t>(sizeof(S))) return false;
  return true;
}

// Calls body with sets: dense ones in groups of vectors as long as there are so many, others a vector at a time.
template <class S, int Together, class Body>
NNFAST_INLINE void for_sets(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t set_end, Body body) {
  using Several = Sets<S, Together, true>;
  using One = Sets<S, 1, true>;
  using Some = Sets<S, 1, false>;
  if (next_sets<S>(norm)) {
    if constexpr (Together > 1)
      for (; set + Several::kWidth <= set_end; set += Several::kWidth) body(Several{norm, set, Several::kWidth});
    for (; set + One::kWidth <= set_end; set += One::kWidth) body(One{norm, set, One::kWidth});
  }
  for (; set < set_end; set += Some::kWidth) body(Some{norm, set, smaller(set_end - set, Some::kWidth)});
}

// Bits of a vector of sets from `set` on, also of sets that do not exist: a row has room for them.
template <class V>
NNFAST_INLINE std::uint32_t row_bits(const std::uint8_t* row, std::ptrdiff_t set) {
  const std::uint8_t* at = row + set / 8;
  std::uint16_t word = *at;
  if constexpr (kLanes<V> == 16) __builtin_memcpy(&word, at, sizeof word);
  return static_cast<std::uint32_t>(word >> set % 8);
}
template <class V>
NNFAST_INLINE void store_row_bits(std::uint8_t* row, std::ptrdiff_t set, std::uint32_t bits) {
  std::uint8_t* at = row + set / 8;
  if constexpr (kLanes<V> == 16) {
    const auto word = static_cast<std::uint16_t>(bits);
    __builtin_memcpy(at, &word, sizeof word);
  } else if constexpr (kLanes<V> == 8) {
    *at = static_cast<std::uint8_t>(bits);
  } else {
    constexpr std::uint32_t lanes = (1u << kLanes<V>)-1;
    *at = static_cast<std::uint8_t>((*at & ~(lanes << set % 8)) | (bits & lanes) << set % 8);
  }
}

// ---- sums ----

template <bool Chained, int Parts>
struct SumsAcross {
  Terms<Chained, Vec<double>> terms[Parts];
  NNFAST_INLINE void join(const SumsAcross& other) {
    for (int k = 0; k < Parts; ++k) terms[k].join(other.terms[k]);
  }
};

// Calls body(i) for members that are 16 apart, and end() after each chain of them, or once.
template <bool Chained, class Body, class End>
NNFAST_INLINE void for_chains(std::ptrdiff_t i, std::ptrdiff_t last, Body body, End end) {
  while (i < last) {
    const std::ptrdiff_t stop = Chained ? smaller(last, i + kChainMembers) : last;
    for (; i < stop; i += kReduceBlock) body(i);
    end();
  }
}

// The sums over members [first, last): of those at i mod 16, then of the sixteen as a binary tree, in an order that
// needs few of them at a time: 0, 8, 4, 12, 2, ... sums_of(first, last) returns those of members 16 apart. What
// rounding took from a term is stored too.
template <class Sums, class Sets, class SumsOf>
NNFAST_INLINE void phased_sums(Sets sets, std::ptrdiff_t first, std::ptrdiff_t last, double* to, std::ptrdiff_t stride,
                               SumsOf sums_of) {
  Sums waiting[5];
  int count = 0;
  for (unsigned turn = 0; turn < kReduceBlock; ++turn) {
    const unsigned phase = (turn & 1) << 3 | (turn & 2) << 1 | (turn & 4) >> 1 | (turn & 8) >> 3;
    Sums sums = sums_of(first + phase, last);
    for (unsigned joined = turn; joined & 1; joined >>= 1) sums.join(waiting[--count]);
    waiting[count++] = sums;
  }
  constexpr int parts = Sets::W::count;
  for (int k = 0; k < Sets::kParts; ++k)
    for (int t = 0; t < kTerms; ++t) {
      sets.store_part(to + t * stride, k / parts, k % parts, waiting[0].terms[k].high(t));
      sets.store_part(to + (kTerms + t) * stride, k / parts, k % parts, waiting[0].terms[k].low(t));
    }
}

template <class Sets>
void moments_across(Sets sets, std::ptrdiff_t first, std::ptrdiff_t last, double* to, std::ptrdiff_t stride) {
  constexpr int parts = Sets::W::count;
  Vec<double> origin[Sets::kParts];
  for (int k = 0; k < Sets::kParts; ++k) origin[k] = sets.of_set(k / parts)(sets.norm.origin, k % parts);
  const RowsOfSets rows = sets.rows(0);
  constexpr bool chained = kChained<typename Sets::T>;
  using Sums = SumsAcross<chained, Sets::kParts>;
  phased_sums<Sums>(sets, first, last, to, stride, [&](std::ptrdiff_t begin, std::ptrdiff_t end) NNFAST_INLINED {
    Sums sums = {};
    for_chains<chained>(
        begin, end,
        [&](std::ptrdiff_t i) NNFAST_INLINED {
          const char* row = rows(i);
          unrolled<Sets::Vectors>([&](int v) NNFAST_INLINED {
            const auto x = sets.load_doubles(row, 0, v);
            for (int k = 0; k < parts; ++k) {
              const Vec<double> d = x.part[k] - origin[v * parts + k];
              sums.terms[v * parts + k].add(d, d, d);
            }
          });
        },
        [&]() NNFAST_INLINED {
          for (auto& each : sums.terms) each.end_chain();
        });
    return sums;
  });
}

template <bool Masked, class Sets>
void gradient_sums_across(Sets sets, std::ptrdiff_t first, std::ptrdiff_t last, double* to, std::ptrdiff_t stride) {
  using V = typename Sets::V;
  constexpr int parts = Sets::W::count;
  ForGradient<V> normalised[Sets::Vectors];
  for (int v = 0; v < Sets::Vectors; ++v) normalised[v] = for_gradient<V>(sets.norm, sets.of_set(v));
  const RowsOfSets dy_rows = sets.rows(0), x_rows = sets.rows(1);
  using Sums = SumsAcross<false, Sets::kParts>;
  phased_sums<Sums>(sets, first, last, to, stride, [&](std::ptrdiff_t begin, std::ptrdiff_t end) NNFAST_INLINED {
    GradientTerms<V> terms[Sets::Vectors] = {};
    for_chains<kFewGradients<V>>(
        begin, end,
        [&](std::ptrdiff_t i) NNFAST_INLINED {
          const char* dy_row = dy_rows(i);
          const char* x_row = x_rows(i);
          unrolled<Sets::Vectors>([&](int v) NNFAST_INLINED {
            V dy = sets.load(dy_row, 0, v);
            if (Masked)
              dy = lanes_of<V>(row_bits<V>(sets.norm.bits + i * sets.norm.bits_stride, sets.first + v * kLanes<V>))
                       ? dy
                       : V{};
            terms[v].add(dy, normalised[v](sets.load(x_row, 1, v)));
          });
        },
        [&]() NNFAST_INLINED {
          for (auto& each : terms) each.end_chain();
        });
    Sums sums;
    for (int k = 0; k < Sets::kParts; ++k)
      for (int t = 0; t < kTerms; ++t) sums.terms[k].sum[t] = terms[k / parts].part(t, k % parts);
    return sums;
  });
  for (int k = 0; k < Sets::kParts; ++k) {
    const int v = k / parts, part = k % parts;
    double* const products = to + stride;
    sets.store_part(products, v, part,
                    ForGradient<V>::restored(sets.part(products, v, part), sets.of_set(v)(sets.norm.inv_std, part)));
  }
}

// ---- maps ----

// Where each array has the sets of a call of one member, a row. The maps go by whole rows, not by columns of a few
// vectors: rows that are a power of two apart share few lines of the first-level cache.
struct RowOfSets {
  char* of[kNormalizedArrays];
};

// One vector of sets at a place `at` of a row. Far: results may be streamed, and what is summed next prefetched.
template <class S_, bool Dense, bool Far>
struct Place {
  using S = S_;
  using V = typename Stored<S>::V;
  const Normalization& norm;
  const RowOfSets& row;
  std::ptrdiff_t at, lanes;
  bool streamed;  // where the result is aligned

  NNFAST_INLINE V load(int array) const {
    if (Dense) return Stored<S>::load(row.of[array] + at * static_cast<std::ptrdiff_t>(sizeof(S)));
    const std::ptrdiff_t stride = norm.sets.strides[array][0];
    const char* from = row.of[array] + at * stride;
    if (whole<S>(AnyStride{stride}, lanes)) return Stored<S>::load(from);
    if constexpr (!std::is_same_v<S, Float16>)
      if (stride == sizeof(S)) return load_partial<V>(reinterpret_cast<const S*>(from), lanes, 0);
    return load_some<S>(from, stride, 0, lanes, 0);
  }
  NNFAST_INLINE void ask_for_next(int array, std::ptrdiff_t ahead) const {
    if (Far) nnfast::ask_for_next(row.of[array] + at * static_cast<std::ptrdiff_t>(sizeof(S)), ahead);
  }
  NNFAST_INLINE void store(int array, V v) const {
    if (Dense) return Stored<S>::store(row.of[array] + at * static_cast<std::ptrdiff_t>(sizeof(S)), v);
    const std::ptrdiff_t stride = norm.sets.strides[array][0];
    char* to = row.of[array] + at * stride;
    if (whole<S>(AnyStride{stride}, lanes)) return Stored<S>::store(to, v);
    if constexpr (!std::is_same_v<S, Float16>)
      if (stride == sizeof(S)) return store_partial(reinterpret_cast<S*>(to), v, lanes);
    store_some<S>(to, stride, v, lanes);
  }
  NNFAST_INLINE void store_result(int array, V v) const {
    if constexpr (Far && Stored<S>::streams)
      if (streamed) return stream(reinterpret_cast<S*>(row.of[array]) + at, v);
    store(array, v);
  }
};

// Calls body(place, i) for all vectors of the sets [set, set + count) and members [first, last), of which array `To` is
// written: those before its first aligned vector, whole ones, and the rest. Rows of bits begin at whole vectors.
template <class S, int To, class Body>
NNFAST_INLINE void for_places(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t count, std::ptrdiff_t first,
                              std::ptrdiff_t last, Body body) {
  constexpr std::ptrdiff_t width = kLanes<typename Stored<S>::V>;
  const Sets<S, 1, false> sets{norm, set, count};
  const RowsOfSets of[kNormalizedArrays] = {sets.rows(0), sets.rows(1), sets.rows(2), sets.rows(3)};
  const bool next = next_sets<S>(norm);
  const auto some = [&](const RowOfSets& row, std::ptrdiff_t i, std::ptrdiff_t begin, std::ptrdiff_t end)
                        __attribute__((noinline)) {
                          for (std::ptrdiff_t at = begin; at < end; at += width)
                            body(Place<S, false, false>{norm, row, at, smaller(end - at, width), false}, i);
                        };
  for (std::ptrdiff_t i = first; i < last; ++i) {
    const RowOfSets row{{of[0](i), of[1](i), of[2](i), of[3](i)}};
    const std::ptrdiff_t lead = next && !norm.bits ? lead_of<S>(row.of[To], count) : 0;
    const std::ptrdiff_t whole_end = next ? lead + (count - lead) / width * width : 0;
    const char* const whole_begin = row.of[To] + lead * static_cast<std::ptrdiff_t>(sizeof(S));
    const bool streamed = norm.stream && reinterpret_cast<std::uintptr_t>(whole_begin) % kVectorBytes == 0;
    if (lead > 0) some(row, i, 0, lead);
    const auto whole = [&](auto far) NNFAST_INLINED {
      const Body own = body;  // which no store can change
      for (std::ptrdiff_t at = lead; at < whole_end; at += width)
        own(Place<S, true, far>{norm, row, at, width, streamed}, i);
    };
    streamed || norm.ahead[0] != 0 ? whole(std::true_type{}) : whole(std::false_type{});
    if (whole_end < count) some(row, i, whole_end, count);
  }
  if (norm.stream) fence();
}

// What the maps take of each set, in T: a row for each kind, in the workspace of the call.
template <class T>
struct SetConstants {
  T* first;
  std::ptrdiff_t row;
  NNFAST_INLINE explicit SetConstants(const Normalization& norm)
      : first(static_cast<T*>(norm.constants)), row(norm.constants_row) {}
  NNFAST_INLINE Vec<T> get(int kind, std::ptrdiff_t set) const { return load<Vec<T>>(first + kind * row + set); }
  NNFAST_INLINE void put(int kind, std::ptrdiff_t set, Vec<T> v) const { store(first + kind * row + set, v); }
};

// Calls body(sets) for vectors of all sets.
template <class S, class Body>
NNFAST_INLINE void for_vectors_of_sets(const Normalization& norm, Body body) {
  constexpr std::ptrdiff_t lanes = kLanes<typename Stored<S>::V>;
  for (std::ptrdiff_t set = 0; set < norm.set_count; set += lanes)
    body(Sets<S, 1, false>{norm, set, smaller(norm.set_count - set, lanes)});
}

template <class S>
void forward_constants(const Normalization& norm) {
  using V = typename Stored<S>::V;
  const ExceptionScope exceptions;
  const SetConstants<typename Stored<S>::Param> constants(norm);
  for_vectors_of_sets<S>(norm, [&](const auto& sets) {
    const ForwardMap<V> map = forward_map<V>(norm, sets.of_set(0), sets.of_set(0));
    constants.put(0, sets.first, map.mean);
    constants.put(1, sets.first, map.scale);
    constants.put(2, sets.first, map.shift);
  });
}

template <class S>
void backward_constants(const Normalization& norm) {
  using V = typename Stored<S>::V;
  const ExceptionScope exceptions;
  const SetConstants<typename Stored<S>::Param> constants(norm);
  for_vectors_of_sets<S>(norm, [&](const auto& sets) {
    if (!norm.slope) return constants.put(0, sets.first, constant_map<V>(norm, sets.of_set(0), sets.of_set(0)));
    const BackwardMap<V> map = backward_map<V>(norm, sets.of_set(0), sets.of_set(0));
    constants.put(0, sets.first, map.mean);
    constants.put(1, sets.first, map.gamma);
    constants.put(2, sets.first, map.offset);
    constants.put(3, sets.first, map.slope);
    constants.put(4, sets.first, map.inv_std);
  });
}

template <class S, bool Relued, bool Add>
void normalise_across(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t count, std::ptrdiff_t first,
                      std::ptrdiff_t last) {
  using V = typename Stored<S>::V;
  const SetConstants<typename Stored<S>::Param> constants(norm);
  std::uint8_t* bits = norm.bits;
  const std::ptrdiff_t bits_stride = norm.bits_stride, ahead = norm.ahead[0];
  for_places<S, 1>(norm, set, count, first, last, [=](auto place, std::ptrdiff_t i) NNFAST_INLINED {
    const ForwardMap<V> map{constants.get(0, set + place.at), constants.get(1, set + place.at),
                            constants.get(2, set + place.at)};
    place.ask_for_next(0, ahead);
    V y = map(place.load(0));
    if constexpr (Add) y += place.load(2);
    if constexpr (Relued) {
      store_row_bits<V>(bits + i * bits_stride, set + place.at, bits_of<V>(~(y <= 0)));
      y = Relu::forward(y);
    }
    place.store_result(1, y);
  });
}

// Masked: where relu was not positive the gradient is 0. Own: the statistics were those of the sets.
template <class S, bool Masked, bool Own>
void gradient_across(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t count, std::ptrdiff_t first,
                     std::ptrdiff_t last) {
  using V = typename Stored<S>::V;
  const SetConstants<typename Stored<S>::Param> constants(norm);
  const std::uint8_t* bits = norm.bits;
  const std::ptrdiff_t bits_stride = norm.bits_stride, dy_ahead = norm.ahead[0], x_ahead = norm.ahead[1];
  const bool dadd = norm.data[3] != nullptr;
  for_places<S, 2>(norm, set, count, first, last, [=](auto place, std::ptrdiff_t i) NNFAST_INLINED {
    place.ask_for_next(0, dy_ahead);
    V dy = place.load(0), dx;
    if constexpr (Masked) dy = lanes_of<V>(row_bits<V>(bits + i * bits_stride, set + place.at)) ? dy : V{};
    if constexpr (Own) {
      const BackwardMap<V> map{constants.get(0, set + place.at), constants.get(1, set + place.at),
                               constants.get(2, set + place.at), constants.get(3, set + place.at),
                               constants.get(4, set + place.at)};
      place.ask_for_next(1, x_ahead);
      dx = map(dy, place.load(1));
    } else {
      dx = dy * constants.get(0, set + place.at);
    }
    if (dadd) place.store(3, dy);
    place.store_result(2, dx);
  });
}

}  // namespace
}  // namespace nnfast
