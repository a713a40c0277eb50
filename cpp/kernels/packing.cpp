// float32 in 16 or 8 bits and back, all of it in integers: the same bits on every instruction set.
#include "kernels/packing.hpp"

#include "simd/narrow.hpp"

namespace nnfast {
namespace {

constexpr std::ptrdiff_t kStep = kLanes<Wide>, kLine = 64;  // of a cache, in bytes

// A word is a mix of its index and the key, by the multipliers of Wellons' lowbias32.
void random_words(std::uint64_t key, std::uint32_t* words) {
  Words index;
  for (int i = 0; i < kStep; ++i) index[i] = static_cast<std::uint32_t>(i);
  const auto low = static_cast<std::uint32_t>(key), high = static_cast<std::uint32_t>(key >> 32);
  for (std::ptrdiff_t i = 0; i < kPackedChunk; i += kStep) {
    Words x = index + (low + static_cast<std::uint32_t>(i));
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= high;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    store_bytes(words + i, x);
  }
}

// ---- bfloat16 ----

void unpack_bfloat16(const char* from, float* to, std::ptrdiff_t n) {
  std::ptrdiff_t i = 0;
  for (; i + kStep <= n; i += kStep) store_bytes(to + i, widen_halves(from + 2 * i) << 16);
  for (; i < n; ++i) store_bytes(to + i, static_cast<std::uint32_t>(load_bytes<std::uint16_t>(from + 2 * i)) << 16);
}

void pack_bfloat16(const float* from, char* to, std::ptrdiff_t n, const std::uint32_t* words, std::uint32_t key,
                   bool upper) {
  const auto rounded = [&](std::ptrdiff_t i) NNFAST_INLINED {
    return rounded_to_bfloat16(load_bytes<Wide>(from + i), random_half(load_bytes<Words>(words + i) + key, upper));
  };
  for (std::ptrdiff_t i = 0; i < n; i += 2 * kStep) {
    const Wide first = rounded(i), second = rounded(i + kStep);
    if (n - i >= 2 * kStep) {
      store_as_halves(to + 2 * i, first, second);
    } else {
      std::uint16_t last[2 * kStep];
      store_as_halves(reinterpret_cast<char*>(last), first, second);
      __builtin_memcpy(to + 2 * i, last, static_cast<std::size_t>(n - i) * 2);
    }
  }
}

// ---- blocks of 8 bits ----

constexpr std::ptrdiff_t kShorts = kLanes<Shorts>;
constexpr std::int16_t kMagnitude = 0x7fff, kInfinityBits = 0x7f80;
constexpr int kDropped = 4;  // of the 7 digits of bfloat16

template <bool Signed>
struct Code {
  static constexpr std::int16_t nan = Signed ? 127 : 255, infinity = nan - 1, largest = nan - 2;
  // The exponent of a block is that of the codes from largest / 8 * 8 on.
  static constexpr int highest = largest >> 3, least_exponent = highest + 1, largest_exponent = 254;
  // What a code's bits lack to be those of its bfloat16.
  static constexpr std::int16_t offset(int exponent) { return static_cast<std::int16_t>((exponent - highest) << 7); }
};

template <bool Signed, bool Finite>
NNFAST_INLINE void unpack_block(const char* from, std::uint16_t* to, int exponent) {
  using C = Code<Signed>;
  for (std::ptrdiff_t i = 0; i < kPackedBlock; i += kShorts) {
    const Shorts byte = widen_bytes(from + i), code = Signed ? byte & 0x7f : byte;
    Shorts bits = (code << kDropped) + C::offset(exponent);
    bits = code != 0 ? bits : Shorts{};
    if (!Finite) bits = code > C::largest ? kInfinityBits + ((code - C::infinity) << 6) : bits;
    if (Signed) bits |= (byte & 0x80) << 8;
    store_bytes(to + i, bits);
  }
}

template <bool Signed>
void unpack_codes(const char* from, std::uint16_t* to, std::ptrdiff_t n) {
  using C = Code<Signed>;
  for (std::ptrdiff_t i = 0; i < n; i += kPackedBlock, from += kPackedBlockBytes) {
    constexpr std::ptrdiff_t ahead = kPackedChunk / kPackedBlock * kPackedBlockBytes;
    for (std::ptrdiff_t at = 0; at < kPackedBlockBytes; at += kLine) __builtin_prefetch(from + ahead + at);
    const int given = static_cast<std::uint8_t>(from[kPackedBlock]);
    const int exponent = given < C::least_exponent ? C::least_exponent : given;
    if (from[kPackedBlock + 1]) [[unlikely]]
      unpack_block<Signed, false>(from, to + i, exponent);
    else
      unpack_block<Signed, true>(from, to + i, exponent);
  }
}

// Usual: all are finite, and have codes without being cut to the largest.
template <bool Signed, bool Usual>
NNFAST_INLINE void pack_block(const std::uint16_t* from, char* to, int exponent, const std::uint16_t* random,
                              std::uint16_t key) {
  using C = Code<Signed>;
  const auto code_of = [&](std::ptrdiff_t i) NNFAST_INLINED {
    const Shorts bits = load_bytes<Shorts>(from + i), magnitude = bits & kMagnitude;
    const auto up = (load_bytes<Vec<std::uint16_t>>(random + i) + key) >> (16 - kDropped);
    Shorts code = magnitude - C::offset(exponent) + bit_cast<Shorts>(up);
    code = (code > 0 ? code : Shorts{}) >> kDropped;
    if (!Signed) {
      const Shorts least = (magnitude > 0) & 1;
      code = code > least ? code : least;
    }
    if (!Usual) {
      code = code < C::largest ? code : Shorts{} + C::largest;
      code = magnitude == kInfinityBits ? Shorts{} + C::infinity : code;
      code = magnitude > kInfinityBits ? Shorts{} + C::nan : code;
    }
    if (Signed) code |= (bits >> 8) & 0x80;
    return code;
  };
  for (std::ptrdiff_t i = 0; i < kPackedBlock; i += 2 * kShorts)
    store_as_bytes(to + i, code_of(i), code_of(i + kShorts));
}

// The largest of values that are not negative.
NNFAST_INLINE int largest_lane(Shorts v) {
#if defined(__x86_64__)
  // Of eight, the instruction that finds the least of unsigned ones.
  using Eight = VecN<std::int16_t, 8>;
  Eight parts[sizeof(Shorts) / sizeof(Eight)], most;
  __builtin_memcpy(parts, &v, sizeof v);
  most = parts[0];
  for (const Eight& part : parts) most = part > most ? part : most;
  return 0x7fff - (_mm_cvtsi128_si32(_mm_minpos_epu16(bit_cast<__m128i>(0x7fff - most))) & 0xffff);
#else
  int largest = 0;
  for (int i = 0; i < kShorts; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
#endif
}

// The largest bits of the magnitudes up to the limit.
NNFAST_INLINE int largest_magnitude(const std::uint16_t* from, std::int16_t limit) {
  Shorts most{};
  for (std::ptrdiff_t i = 0; i < kPackedBlock; i += kShorts) {
    Shorts magnitude = load_bytes<Shorts>(from + i) & kMagnitude;
    if (limit != kMagnitude) magnitude = (magnitude <= limit) & magnitude;
    most = magnitude > most ? magnitude : most;
  }
  return largest_lane(most);
}

// The least exponent for which the largest magnitude has a code: its octave's, or the next one's.
NNFAST_INLINE int exponent_for(int magnitude) { return (magnitude + (3 << kDropped) - 1) >> 7; }

template <bool Signed>
[[gnu::noinline]] int pack_unusual(const std::uint16_t* from, char* to, const std::uint16_t* random,
                                   std::uint16_t key) {
  constexpr int most = Code<Signed>::largest_exponent;
  const int exponent = exponent_for(largest_magnitude(from, kInfinityBits - 1));
  const int clipped = exponent < Code<Signed>::least_exponent ? Code<Signed>::least_exponent
                      : exponent > most                       ? most
                                                              : exponent;
  pack_block<Signed, false>(from, to, clipped, random, key);
  return clipped;
}

template <bool Signed>
void pack_codes(const std::uint16_t* from, char* to, std::ptrdiff_t n, const std::uint32_t* words, std::uint16_t key) {
  using C = Code<Signed>;
  const auto* random = reinterpret_cast<const std::uint16_t*>(words);  // read as bytes
  for (std::ptrdiff_t i = 0; i < n; i += kPackedBlock, to += kPackedBlockBytes) {
    const int largest = largest_magnitude(from + i, kMagnitude);
    int exponent = exponent_for(largest);
    exponent = exponent < C::least_exponent ? C::least_exponent : exponent;
    if (exponent <= C::largest_exponent) [[likely]]
      pack_block<Signed, true>(from + i, to, exponent, random + i, key);
    else
      exponent = pack_unusual<Signed>(from + i, to, random + i, key);
    to[kPackedBlock] = static_cast<char>(exponent);
    to[kPackedBlock + 1] = largest >= kInfinityBits;
  }
}

}  // namespace

namespace NNFAST_ISA {

extern const PackingKernels packing;
const PackingKernels packing = {
    random_words,
    unpack_bfloat16,
    pack_bfloat16,
    {unpack_codes<true>, unpack_codes<false>},
    {pack_codes<true>, pack_codes<false>},
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
