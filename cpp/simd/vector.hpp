// The vector vocabulary: what the compiler's own vector types lack.
//
// Arithmetic, comparison and `mask ? a : b` come with the types (GCC and Clang vector_size). This header adds
// loads, stores, fused multiply-add, ordered min and max, conversions between widths, and scaling by powers of two.
// Everything sits in an anonymous namespace: the same names are compiled for several instruction sets, and a shared
// symbol would let the linker hand AVX-512 code to an older machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__x86_64__) && !defined(__FMA__)
#define NNFAST_INLINE inline  // the compiler's choice: see kShort
#else
#define NNFAST_INLINE __attribute__((always_inline)) inline
#endif
// For lambdas: [&](int i) NNFAST_INLINED { ... }
#define NNFAST_INLINED __attribute__((always_inline))

namespace nnfast {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr std::size_t kVectorBytes = 32;
#else
constexpr std::size_t kVectorBytes = 16;
#endif

constexpr double kInfinity = __builtin_inf();

template <class T, int N>
struct VectorOf {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N>
using VecN = typename VectorOf<T, N>::type;

// The vector of T as wide as a register.
template <class T>
using Vec = VecN<T, static_cast<int>(kVectorBytes / sizeof(T))>;

template <class V>
using Element = std::remove_reference_t<decltype(V{}[0])>;
template <class V>
constexpr int kLanes = static_cast<int>(sizeof(V) / sizeof(Element<V>));

template <std::size_t Bytes>
struct IntOfSize;
template <>
struct IntOfSize<4> {
  using type = std::int32_t;
};
template <>
struct IntOfSize<8> {
  using type = std::int64_t;
};
template <class T>
using IntOf = typename IntOfSize<sizeof(T)>::type;
// The vector of integers that a comparison of V gives: 0 or -1 a lane.
template <class V>
using Mask = VecN<IntOf<Element<V>>, kLanes<V>>;

template <class To, class From>
NNFAST_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

template <class V>
NNFAST_INLINE V broadcast(Element<V> value) {
  return value - V{};  // value - 0 keeps -0.0, where 0 + value would not
}

// A factor that was selected, as a value of its own: Clang would multiply both sides of the select, and the side that
// is not taken may overflow.
template <class V>
NNFAST_INLINE V selected(V factor) {
#if defined(__clang__) && defined(__x86_64__)
  asm("" : "+v"(factor));
#elif defined(__clang__)
  asm("" : "+w"(factor));
#endif
  return factor;
}

// The standard library's functions are not for kernels: they would be shared between instruction sets.
NNFAST_INLINE std::ptrdiff_t smaller(std::ptrdiff_t a, std::ptrdiff_t b) { return a < b ? a : b; }

// ---- loads and stores; no alignment is assumed ----

// The type of a pointer tells a compiler how what it points to is aligned, which untyped ones do not.
template <class T>
NNFAST_INLINE T load_bytes(const void* from) {
  T value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
template <class T>
NNFAST_INLINE void store_bytes(void* to, T value) {
  __builtin_memcpy(to, &value, sizeof value);
}

template <class V>
NNFAST_INLINE V load(const Element<V>* from) {
  return load_bytes<V>(from);
}

template <class V>
NNFAST_INLINE void store(Element<V>* to, V v) {
  store_bytes(to, v);
}

// A non-temporal store, to a multiple of a vector's size: for what is not read soon, and whose lines need not be
// fetched first. Call fence() before another thread may read it.
constexpr bool kCanStream = kVectorBytes >= 32;
template <class V>
NNFAST_INLINE void stream(Element<V>* to, V v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), bit_cast<__m512i>(v));
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), bit_cast<__m256i>(v));
#else
  store(to, v);
#endif
}
NNFAST_INLINE void fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// -1 in the lanes [first, last).
template <class V>
NNFAST_INLINE Mask<V> lanes_between(std::ptrdiff_t first, std::ptrdiff_t last) {
  using I = Mask<V>;
  I lane;
  for (int i = 0; i < kLanes<V>; ++i) lane[i] = i;
  return (lane >= broadcast<I>(static_cast<Element<I>>(first))) & (lane < broadcast<I>(static_cast<Element<I>>(last)));
}

// The lanes [first, last) of the vector at `from`, the others `fill`; memory outside of them is not touched.
template <class V>
NNFAST_INLINE V load_lanes(const Element<V>* from, std::ptrdiff_t first, std::ptrdiff_t last, Element<V> fill) {
#if defined(__AVX512F__)
  const std::uint32_t lanes = ((1u << last) - 1) & ~((1u << first) - 1);
  if constexpr (sizeof(Element<V>) == 4) {
    return bit_cast<V>(_mm512_mask_loadu_epi32(bit_cast<__m512i>(broadcast<V>(fill)), static_cast<__mmask16>(lanes),
                                               static_cast<const void*>(from)));
  } else {
    return bit_cast<V>(_mm512_mask_loadu_epi64(bit_cast<__m512i>(broadcast<V>(fill)), static_cast<__mmask8>(lanes),
                                               static_cast<const void*>(from)));
  }
#elif defined(__AVX2__)
  const Mask<V> there = lanes_between<V>(first, last);
  V v;
  if constexpr (sizeof(Element<V>) == 4) {
    v = _mm256_maskload_ps(from, bit_cast<__m256i>(there));
  } else {
    v = _mm256_maskload_pd(from, bit_cast<__m256i>(there));
  }
  return there ? v : broadcast<V>(fill);
#else
  V v = broadcast<V>(fill);
  for (std::ptrdiff_t i = first; i < last; ++i) v[i] = load_bytes<Element<V>>(from + i);
  return v;
#endif
}

// The first `count` lanes from memory, the others `fill`; 0 <= count <= lanes.
template <class V>
NNFAST_INLINE V load_partial(const Element<V>* from, std::ptrdiff_t count, Element<V> fill) {
  return load_lanes<V>(from, 0, count, fill);
}

template <class V>
NNFAST_INLINE void store_partial(Element<V>* to, V v, std::ptrdiff_t count) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Element<V>) == 4) {
    _mm512_mask_storeu_epi32(to, static_cast<__mmask16>((1u << count) - 1), bit_cast<__m512i>(v));
  } else {
    _mm512_mask_storeu_epi64(to, static_cast<__mmask8>((1u << count) - 1), bit_cast<__m512i>(v));
  }
#elif defined(__AVX2__)
  const auto there = bit_cast<__m256i>(lanes_between<V>(0, count));
  if constexpr (sizeof(Element<V>) == 4) {
    _mm256_maskstore_ps(to, there, v);
  } else {
    _mm256_maskstore_pd(to, there, v);
  }
#else
  for (std::ptrdiff_t i = 0; i < count; ++i) store_bytes<Element<V>>(to + i, v[i]);
#endif
}

// One element at a byte stride that need not be a multiple of its size.
template <class T>
NNFAST_INLINE T load_element(const char* from) {
  return load_bytes<T>(from);
}

template <class T>
NNFAST_INLINE void store_element(char* to, T value) {
  store_bytes(to, value);
}

// A vector at a byte stride, or of fewer elements than it has lanes. Not inlined: it is much code, and would be in
// every loop. Fast loops have none of it, since a call takes all registers of vectors.
template <class V>
[[gnu::noinline]] V load_apart(const char* from, std::ptrdiff_t stride, std::ptrdiff_t count, Element<V> fill) {
  using T = Element<V>;
  if (stride == static_cast<std::ptrdiff_t>(sizeof(T)))
    return load_partial<V>(reinterpret_cast<const T*>(from), count, fill);
  V v = broadcast<V>(fill);
  if (count == kLanes<V>) {
    for (int i = 0; i < kLanes<V>; ++i) v[i] = load_element<T>(from + i * stride);
  } else {
    for (std::ptrdiff_t i = 0; i < count; ++i) v[i] = load_element<T>(from + i * stride);
  }
  return v;
}

template <class V>
[[gnu::noinline]] void store_apart(char* to, std::ptrdiff_t stride, V v, std::ptrdiff_t count) {
  using T = Element<V>;
  if (stride == static_cast<std::ptrdiff_t>(sizeof(T))) return store_partial(reinterpret_cast<T*>(to), v, count);
  alignas(sizeof(V)) T lanes[kLanes<V>];
  store(lanes, v);
  for (std::ptrdiff_t i = 0; i < count; ++i) store_element(to + i * stride, lanes[i]);
}

template <class V>
NNFAST_INLINE V load_strided(const char* from, std::ptrdiff_t stride, std::ptrdiff_t count, Element<V> fill) {
  using T = Element<V>;
  if (stride == static_cast<std::ptrdiff_t>(sizeof(T)) && count == kLanes<V>)
    return load<V>(reinterpret_cast<const T*>(from));
  return load_apart<V>(from, stride, count, fill);
}

template <class V>
NNFAST_INLINE void store_strided(char* to, std::ptrdiff_t stride, V v, std::ptrdiff_t count) {
  using T = Element<V>;
  if (stride == static_cast<std::ptrdiff_t>(sizeof(T)) && count == kLanes<V>) return store(reinterpret_cast<T*>(to), v);
  store_apart(to, stride, v, count);
}

// v[index[i]] in lane i; every index is a lane's.
template <class V>
NNFAST_INLINE V permute(V v, Mask<V> index) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Element<V>) == 4) {
    return bit_cast<V>(_mm512_permutexvar_epi32(bit_cast<__m512i>(index), bit_cast<__m512i>(v)));
  } else {
    return bit_cast<V>(_mm512_permutexvar_epi64(bit_cast<__m512i>(index), bit_cast<__m512i>(v)));
  }
#elif defined(__AVX2__)
  // A lane of 64 bits is moved as two of 32.
  if constexpr (sizeof(Element<V>) == 8) index = 2 * index + ((2 * index + 1) << 32);
  return bit_cast<V>(_mm256_permutevar8x32_epi32(bit_cast<__m256i>(v), bit_cast<__m256i>(index)));
#else
  V result;
  for (int i = 0; i < kLanes<V>; ++i) result[i] = v[index[i]];
  return result;
#endif
}

// Entries of a table that one instruction looks up: 32 bytes, a register of AVX2.
template <class T>
constexpr int kTableSize = static_cast<int>(32 / sizeof(T));

// table[index[i] mod its size] in lane i.
template <class V>
NNFAST_INLINE V lookup(const Element<V> (&table)[kTableSize<Element<V>>], Mask<V> index) {
#if defined(__AVX512F__)
  // The table is in a register twice; higher bits of an index are ignored.
  if constexpr (sizeof(Element<V>) == 4) {
    return _mm512_permutexvar_ps(bit_cast<__m512i>(index), _mm512_broadcast_f32x8(_mm256_loadu_ps(table)));
  } else {
    return _mm512_permutexvar_pd(bit_cast<__m512i>(index), _mm512_broadcast_f64x4(_mm256_loadu_pd(table)));
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(Element<V>) == 4) {
    return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), bit_cast<__m256i>(index));
  } else {
    // A lane of 64 bits is moved as two of 32: 2 index and 2 index + 1.
    const __m256i low = _mm256_shuffle_epi32(_mm256_slli_epi64(bit_cast<__m256i>(index), 1), 0xa0);
    const __m256i both = _mm256_or_si256(low, _mm256_set1_epi64x(std::int64_t{1} << 32));
    return bit_cast<V>(_mm256_permutevar8x32_epi32(bit_cast<__m256i>(_mm256_loadu_pd(table)), both));
  }
#else
  V result;
  for (int i = 0; i < kLanes<V>; ++i) result[i] = table[index[i] & (kTableSize<Element<V>> - 1)];
  return result;
#endif
}

// ---- arithmetic the types lack ----

#if defined(__FMA__) || defined(__aarch64__)
constexpr bool kFused = true;
#else
constexpr bool kFused = false;
#endif

// Whether code is to be short rather than fast. x86-64-v2 is for processors without AVX2, most of them from before
// 2013: its kernels take about 1.6 times as long in the mean as they could, at an eighth of the code.
constexpr bool kShort = !kFused;

// a * b + c, rounded once where the machine can (every instruction set but x86-64-v2).
template <class V>
NNFAST_INLINE V fma(V a, V b, V c) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64 && sizeof(Element<V>) == 4) return _mm512_fmadd_ps(a, b, c);
  if constexpr (sizeof(V) == 64 && sizeof(Element<V>) == 8) return _mm512_fmadd_pd(a, b, c);
#endif
#if defined(__FMA__)
  if constexpr (sizeof(V) == 32 && sizeof(Element<V>) == 4) return _mm256_fmadd_ps(a, b, c);
  if constexpr (sizeof(V) == 32 && sizeof(Element<V>) == 8) return _mm256_fmadd_pd(a, b, c);
#elif defined(__aarch64__)
  if constexpr (sizeof(Element<V>) == 4) return vfmaq_f32(c, a, b);
  if constexpr (sizeof(Element<V>) == 8) return vfmaq_f64(c, a, b);
#endif
  return a * b + c;
}

template <class V>
NNFAST_INLINE V sqrt(V a) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Element<V>) == 4) return _mm512_sqrt_ps(a);
  if constexpr (sizeof(Element<V>) == 8) return _mm512_sqrt_pd(a);
#elif defined(__AVX2__)
  if constexpr (sizeof(Element<V>) == 4) return _mm256_sqrt_ps(a);
  if constexpr (sizeof(Element<V>) == 8) return _mm256_sqrt_pd(a);
#elif defined(__x86_64__)
  if constexpr (sizeof(Element<V>) == 4) return _mm_sqrt_ps(a);
  if constexpr (sizeof(Element<V>) == 8) return _mm_sqrt_pd(a);
#elif defined(__aarch64__)
  if constexpr (sizeof(Element<V>) == 4) return vsqrtq_f32(a);
  if constexpr (sizeof(Element<V>) == 8) return vsqrtq_f64(a);
#endif
}

// min and max with x's NaN kept: the bound is never NaN. Of two zeros x is returned.
template <class V>
NNFAST_INLINE V min(V bound, V x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Element<V>) == 4) return _mm512_min_ps(bound, x);
  if constexpr (sizeof(Element<V>) == 8) return _mm512_min_pd(bound, x);
#elif defined(__AVX2__)
  if constexpr (sizeof(Element<V>) == 4) return _mm256_min_ps(bound, x);
  if constexpr (sizeof(Element<V>) == 8) return _mm256_min_pd(bound, x);
#elif defined(__x86_64__)
  if constexpr (sizeof(Element<V>) == 4) return _mm_min_ps(bound, x);
  if constexpr (sizeof(Element<V>) == 8) return _mm_min_pd(bound, x);
#else
  return bound < x ? bound : x;
#endif
}

template <class V>
NNFAST_INLINE V max(V bound, V x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Element<V>) == 4) return _mm512_max_ps(bound, x);
  if constexpr (sizeof(Element<V>) == 8) return _mm512_max_pd(bound, x);
#elif defined(__AVX2__)
  if constexpr (sizeof(Element<V>) == 4) return _mm256_max_ps(bound, x);
  if constexpr (sizeof(Element<V>) == 8) return _mm256_max_pd(bound, x);
#elif defined(__x86_64__)
  if constexpr (sizeof(Element<V>) == 4) return _mm_max_ps(bound, x);
  if constexpr (sizeof(Element<V>) == 8) return _mm_max_pd(bound, x);
#else
  return bound > x ? bound : x;
#endif
}

template <class V>
NNFAST_INLINE V abs(V x) {
  using I = Mask<V>;
  constexpr auto sign = static_cast<IntOf<Element<V>>>(IntOf<Element<V>>{1} << (sizeof(Element<V>) * 8 - 1));
  return bit_cast<V>(bit_cast<I>(x) & ~broadcast<I>(sign));
}

// The magnitude of x with the sign of s.
template <class V>
NNFAST_INLINE V copysign(V x, V s) {
  using I = Mask<V>;
  constexpr auto sign = static_cast<IntOf<Element<V>>>(IntOf<Element<V>>{1} << (sizeof(Element<V>) * 8 - 1));
  return bit_cast<V>((bit_cast<I>(x) & ~broadcast<I>(sign)) | (bit_cast<I>(s) & broadcast<I>(sign)));
}

// Digits of the significand after the point.
template <class V>
constexpr int kDigits = sizeof(Element<V>) == 4 ? 23 : 52;

// 2^n for n in the normal range.
template <class V>
NNFAST_INLINE V power_of_two(Mask<V> n) {
  constexpr int bias = sizeof(Element<V>) == 4 ? 127 : 1023;
  return bit_cast<V>((n + bias) << kDigits<V>);
}

// x * 2^n rounded once, the subnormal range included; |n| up to twice the exponent range.
template <class V>
NNFAST_INLINE V scale(V x, Mask<V> n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Element<V>) == 4) return _mm512_scalef_ps(x, _mm512_cvtepi32_ps((__m512i)n));
  if constexpr (sizeof(Element<V>) == 8) return _mm512_scalef_pd(x, _mm512_cvtepi64_pd((__m512i)n));
#endif
  const Mask<V> half = n >> 1;
  return x * power_of_two<V>(half) * power_of_two<V>(n - half);
}

}  // namespace
}  // namespace nnfast
