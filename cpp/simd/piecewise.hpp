// Functions of one variable as piecewise polynomials of float: eight intervals of |x|, whose coefficients one
// instruction looks up, so that all instruction sets with FMA share the tables and the bits. A function that differs on
// both sides of 0 has eight for each, one that falls fast has sixteen: two look-ups and a blend on AVX2, one on the
// others.
#pragma once

#include "simd/piecewise_coefficients.hpp"
#include "simd/vector.hpp"

namespace nnfast {
namespace {

// Whether V has tables: without FMA there is no permutation either.
template <class V>
constexpr bool kPiecewise = kFused && sizeof(Element<V>) == sizeof(float);

// table[index[i] mod 8] in lane i, as lookup() has it.
template <class V>
NNFAST_INLINE V entry(const float (&table)[kTableSize<float>], Mask<V> index) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  // Loaded apart: with the table in memory the permutation takes twice the time on Zen 3.
  __m256 loaded = _mm256_loadu_ps(table);
  asm("" : "+x"(loaded));
  return _mm256_permutevar8x32_ps(loaded, bit_cast<__m256i>(index));
#elif defined(__aarch64__)
  // Byte by byte, out of two registers.
  const Mask<V> bytes = (index & (kTableSize<float> - 1)) * 0x04040404 + 0x03020100;
  const uint8x16x2_t both = {{bit_cast<uint8x16_t>(vld1q_f32(table)), bit_cast<uint8x16_t>(vld1q_f32(table + 4))}};
  return bit_cast<V>(vqtbl2q_u8(both, bit_cast<uint8x16_t>(bytes)));
#else
  return lookup<V>(table, index);
#endif
}

// table[half][k] for the four low bits of an index, half and k.
template <class V>
NNFAST_INLINE V entry(const float (&table)[2][kTableSize<float>], Mask<V> index) {
#if defined(__AVX512F__)
  return _mm512_permutexvar_ps(bit_cast<__m512i>(index), _mm512_loadu_ps(table[0]));
#elif defined(__AVX2__)
  return (index << 28) < 0 ? entry<V>(table[1], index) : entry<V>(table[0], index);
#elif defined(__aarch64__)
  const Mask<V> bytes = (index & (2 * kTableSize<float> - 1)) * 0x04040404 + 0x03020100;
  const uint8x16x4_t four = {{bit_cast<uint8x16_t>(vld1q_f32(table[0])), bit_cast<uint8x16_t>(vld1q_f32(table[0] + 4)),
                              bit_cast<uint8x16_t>(vld1q_f32(table[1])),
                              bit_cast<uint8x16_t>(vld1q_f32(table[1] + 4))}};
  return bit_cast<V>(vqtbl4q_u8(four, bit_cast<uint8x16_t>(bytes)));
#else
  V result;
  for (int i = 0; i < kLanes<V>; ++i)
    result[i] = table[index[i] / kTableSize<float> % 2 != 0][index[i] & (kTableSize<float> - 1)];
  return result;
#endif
}

// Of table[0] where x >= 0, of table[1] where x < 0.
template <class V>
NNFAST_INLINE V entry(const float (&table)[2][kTableSize<float>], Mask<V> index, V x) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  return bit_cast<Mask<V>>(x) < 0 ? entry<V>(table[1], index) : entry<V>(table[0], index);
#else
  // The sign goes above the three bits of an interval.
  constexpr int interval_bits = kTableSize<float> - 1;
  return entry<V>(table, (index & interval_bits) | ((bit_cast<Mask<V>>(x) >> 28) & ~interval_bits));
#endif
}

// Says that all lanes are in the first eight of sixteen intervals, whose keys are the larger ones.
struct AllInFirst {};
template <class V>
NNFAST_INLINE V entry(const float (&table)[2][kTableSize<float>], Mask<V> index, AllInFirst) {
  return entry<V>(table[1], index);
}
// Whether that saves a look-up.
#if defined(__AVX2__) && !defined(__AVX512F__)
constexpr bool kShortTables = true;
#else
constexpr bool kShortTables = false;
#endif

// Whether any lane of a mask is set.
template <class V>
NNFAST_INLINE bool any(Mask<V> mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask(bit_cast<__m512i>(mask)) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(bit_cast<__m256>(mask)) != 0;
#elif defined(__aarch64__)
  return vmaxvq_u32(bit_cast<uint32x4_t>(mask)) != 0;
#else
  return _mm_movemask_ps(bit_cast<__m128>(mask)) != 0;
#endif
}

// The interval of a in [0, top], as the low bits of a lane. Of a NaN it is any: its result is NaN.
template <class Table, class V>
NNFAST_INLINE Mask<V> interval(V a) {
  return bit_cast<Mask<V>>(fma(a, broadcast<V>(Table::scale), broadcast<V>(Table::start))) >> Table::shift;
}

// constant + slope y
template <class V>
struct Line {
  V constant, slope, y;
};

// The function of Table before its last step: at `inside`, from 0 to its top, or at x with inside = |x|. More: x, or
// AllInFirst.
template <class Table, class V, class... More>
NNFAST_INLINE Line<V> piecewise_inside(V inside, More... more) {
  constexpr int n = sizeof(Table::coefficients) / sizeof(Table::coefficients[0]);
  const Mask<V> k = interval<Table>(inside);
  V center;
  if constexpr (std::is_same_v<decltype(Table::centers), const float[kTableSize<float>]>) {
    center = entry<V>(Table::centers, k);
  } else {
    center = entry<V>(Table::centers, k, more...);
  }
  const V y = inside - center;
  V slope = entry<V>(Table::coefficients[n - 1], k, more...);
#pragma GCC unroll 16
  for (int i = n - 2; i > 0; --i) slope = fma(slope, y, entry<V>(Table::coefficients[i], k, more...));
  return {entry<V>(Table::coefficients[0], k, more...), slope, y};
}

// The same at any a >= 0.
template <class Table, class V, class... X>
NNFAST_INLINE Line<V> piecewise_line(V a, X... x) {
  return piecewise_inside<Table>(min(broadcast<V>(Table::top), a), x...);
}

template <class Table, class V, class... X>
NNFAST_INLINE V piecewise(V a, X... x) {
  const Line<V> f = piecewise_line<Table>(a, x...);
  return fma(f.slope, f.y, f.constant);
}

// dy times a function's value, which is not rounded by itself.
template <class V>
NNFAST_INLINE V times(V dy, const Line<V>& f) {
  const V hi = fma(f.slope, f.y, f.constant);
  const V lo = fma(f.slope, f.y, f.constant - hi);
  return fma(dy, hi, dy * lo);
}

// dy f(x) for a function with f(x) + f(-x) = 1, of which Table has f(-a); 1 less its constants is exact.
template <class Table, class V>
NNFAST_INLINE V times_step(V dy, V x) {
  const Line<V> f = piecewise_line<Table>(abs(x));
  const auto below = x < 0;
  return times(dy, Line<V>{below ? f.constant : 1 - f.constant, below ? f.slope : -f.slope, f.y});
}

}  // namespace
}  // namespace nnfast
