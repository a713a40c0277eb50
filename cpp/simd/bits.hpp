// Masks of one bit an element, little bit order, as numpy.packbits(..., bitorder="little").
#pragma once

#include <cstdint>

#include "simd/vector.hpp"

namespace nnfast {
namespace {

// One bit a lane from a comparison of V.
template <class V>
NNFAST_INLINE std::uint32_t bits_of(Mask<V> lanes) {
#if defined(__AVX512DQ__)
  if constexpr (sizeof(Element<V>) == 4) return _mm512_movepi32_mask(bit_cast<__m512i>(lanes));
  if constexpr (sizeof(Element<V>) == 8) return _mm512_movepi64_mask(bit_cast<__m512i>(lanes));
#elif defined(__AVX2__)
  if constexpr (sizeof(Element<V>) == 4) return static_cast<std::uint32_t>(_mm256_movemask_ps(bit_cast<__m256>(lanes)));
  if constexpr (sizeof(Element<V>) == 8)
    return static_cast<std::uint32_t>(_mm256_movemask_pd(bit_cast<__m256d>(lanes)));
#elif defined(__x86_64__)
  if constexpr (sizeof(Element<V>) == 4) return static_cast<std::uint32_t>(_mm_movemask_ps(bit_cast<__m128>(lanes)));
  if constexpr (sizeof(Element<V>) == 8) return static_cast<std::uint32_t>(_mm_movemask_pd(bit_cast<__m128d>(lanes)));
#else
  std::uint32_t bits = 0;
  for (int i = 0; i < kLanes<V>; ++i) bits |= (static_cast<std::uint32_t>(lanes[i]) & 1u) << i;
  return bits;
#endif
}

// All ones in the lanes of V whose bit is set.
template <class V>
NNFAST_INLINE Mask<V> lanes_of(std::uint32_t bits) {
  using I = Mask<V>;
  I lane_bit{};
  for (int i = 0; i < kLanes<V>; ++i) lane_bit[i] = IntOf<Element<V>>{1} << i;
  return (broadcast<I>(static_cast<IntOf<Element<V>>>(bits)) & lane_bit) != 0;
}

// All ones in the lanes of V whose byte is not 0, of `count` bytes at a stride; the others are 0.
template <class V>
NNFAST_INLINE Mask<V> lanes_of_bytes(const char* from, std::ptrdiff_t stride, std::ptrdiff_t count) {
  char gathered[kLanes<V>];
  if (stride != 1 || count < kLanes<V>) [[unlikely]] {
    for (std::ptrdiff_t k = 0; k < kLanes<V>; ++k) gathered[k] = k < count ? from[k * stride] : char{0};
    from = gathered;
  }
  // By an intrinsic: the compiler would convert four lanes at a time.
#if defined(__AVX512F__)
  if constexpr (sizeof(Element<V>) == 4) return bit_cast<Mask<V>>(_mm512_cvtepi8_epi32(load_bytes<__m128i>(from))) != 0;
  if constexpr (sizeof(Element<V>) == 8)
    return bit_cast<Mask<V>>(_mm512_cvtepi8_epi64(_mm_cvtsi64_si128(load_bytes<std::int64_t>(from)))) != 0;
#elif defined(__AVX2__)
  if constexpr (sizeof(Element<V>) == 4)
    return bit_cast<Mask<V>>(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(load_bytes<std::int64_t>(from)))) != 0;
  if constexpr (sizeof(Element<V>) == 8)
    return bit_cast<Mask<V>>(_mm256_cvtepi8_epi64(_mm_cvtsi32_si128(load_bytes<std::int32_t>(from)))) != 0;
#else
  return __builtin_convertvector(load_bytes<VecN<signed char, kLanes<V>>>(from), Mask<V>) != 0;
#endif
}

// a in the lanes whose bit is set, b in the others.
template <class V>
NNFAST_INLINE V select(std::uint32_t bits, V a, V b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Element<V>) == 4) return _mm512_mask_blend_ps(static_cast<__mmask16>(bits), b, a);
  if constexpr (sizeof(Element<V>) == 8) return _mm512_mask_blend_pd(static_cast<__mmask8>(bits), b, a);
#endif
  return lanes_of<V>(bits) ? a : b;
}

// The bits at `position` and after it, in the low bits of the result: `count` of them, at most 16. The higher bits are
// unspecified. No byte without one of them is read.
NNFAST_INLINE std::uint32_t bits_at(const std::uint8_t* bits, std::ptrdiff_t position, std::ptrdiff_t count) {
  const std::uint8_t* from = bits + (position >> 3);
  const auto offset = position & 7;
  std::uint32_t word = from[0];
  if (offset + count > 8) word |= static_cast<std::uint32_t>(from[1]) << 8;
  if (offset + count > 16) word |= static_cast<std::uint32_t>(from[2]) << 16;
  return word >> offset;
}

// Writes the low `count` bits, at most 16, at `position`; of the up to three bytes that are written, all other bits
// keep their values.
NNFAST_INLINE void put_bits(std::uint8_t* bits, std::ptrdiff_t position, std::uint32_t value, std::ptrdiff_t count) {
  std::uint8_t* to = bits + (position >> 3);
  const auto offset = position & 7;
  if (offset == 0 && count == 16) {
    const auto both = static_cast<std::uint16_t>(value);
    __builtin_memcpy(to, &both, 2);
  } else if (offset == 0 && count == 8) {
    *to = static_cast<std::uint8_t>(value);
  } else {
    const std::uint32_t there = ((1u << count) - 1) << offset, put = value << offset & there;
    for (int k = 0; k < 3; ++k) to[k] = static_cast<std::uint8_t>((to[k] & ~(there >> (8 * k))) | (put >> (8 * k)));
  }
}

// Writes consecutive bits from the beginning of a byte. finish() writes the rest, and no byte beyond it.
class BitWriter {
 public:
  NNFAST_INLINE explicit BitWriter(std::uint8_t* to) : to_(to) {}
  // Appends the low `count` bits, at most 16; the higher ones must be 0.
  NNFAST_INLINE void put(std::uint32_t bits, std::ptrdiff_t count) {
    waiting_ |= static_cast<std::uint64_t>(bits) << filled_;
    filled_ += count;
    if (filled_ < 32) return;
    __builtin_memcpy(to_, &waiting_, 4);
    to_ += 4;
    waiting_ >>= 32;
    filled_ -= 32;
  }
  NNFAST_INLINE void finish() {
    for (; filled_ > 0; filled_ -= 8, waiting_ >>= 8) *to_++ = static_cast<std::uint8_t>(waiting_);
  }

 private:
  std::uint8_t* to_;
  std::uint64_t waiting_ = 0;
  std::ptrdiff_t filled_ = 0;
};

// Reads consecutive bits, four bytes at a time: the memory of the bits must have room for that at the end.
class BitReader {
 public:
  NNFAST_INLINE explicit BitReader(const std::uint8_t* from) : from_(from) {}
  // The next `count` bits, at most 16.
  NNFAST_INLINE std::uint32_t take(std::ptrdiff_t count) {
    if (left_ < count) {
      std::uint32_t next;
      __builtin_memcpy(&next, from_, 4);
      from_ += 4;
      waiting_ |= static_cast<std::uint64_t>(next) << left_;
      left_ += 32;
    }
    const auto bits = static_cast<std::uint32_t>(waiting_) & ((1u << count) - 1);
    waiting_ >>= count;
    left_ -= count;
    return bits;
  }

 private:
  const std::uint8_t* from_;
  std::uint64_t waiting_ = 0;
  std::ptrdiff_t left_ = 0;
};

}  // namespace
}  // namespace nnfast
