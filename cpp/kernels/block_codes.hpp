// Blocks of codes of 8 bits, as packing.hpp defines them, from and to vectors of float32. Sums and differences of bits
// and one addition of floats: the same bits on every instruction set.
#pragma once

#include "kernels/packing.hpp"
#include "kernels/unrolled.hpp"
#include "simd/narrow.hpp"

namespace nnfast {
namespace {

constexpr std::uint32_t kSignBit = 0x80000000u, kInfinityBits = 0x7f800000u;

struct BlockCodes {
  using V = Vec<float>;
  bool has_sign;
  int digits;  // of the significand
  constexpr explicit BlockCodes(Packing packing)
      : has_sign(packing != Packing::squares8), digits(packing == Packing::momentum8 ? 5 : 3) {}

  constexpr int dropped() const { return 23 - digits; }
  constexpr int largest_code() const { return has_sign ? 127 : 255; }
  constexpr int octaves() const { return (largest_code() + 1) >> digits; }
  // For which the least difference of two numbers is no subnormal.
  constexpr int least_base() const { return has_sign ? digits + 1 : 1; }
  constexpr int largest_base() const { return 255 - octaves(); }
  // What the bits of a block's largest number grow by at most before they are a code.
  constexpr std::uint32_t growth() const { return (1u << dropped()) + (has_sign ? 1u << (24 - octaves()) : 0); }

  // The bits of a block's 2^(B - 127).
  NNFAST_INLINE static std::uint32_t lowest(const char* block) {
    return std::uint32_t{static_cast<std::uint8_t>(block[kPackedBlock])} << 23;
  }

  // A vector of finite numbers.
  NNFAST_INLINE V unpacked(const char* codes, Words lowest) const {
    if (!has_sign) return bit_cast<V>((widen_bytes(codes) << dropped()) + lowest);
    const Words code = (widen_signed_bytes(codes) << dropped()) & ((127u << dropped()) | kSignBit);
    return bit_cast<V>(code + lowest) - bit_cast<V>((code & kSignBit) | lowest);
  }

  // Bits whose largest is that of the magnitudes: squares have no sign.
  NNFAST_INLINE Words magnitude(V v) const { return has_sign ? bit_cast<Words>(v) & ~kSignBit : bit_cast<Words>(v); }

  // Whether a block may have no base for which arithmetic alone gives the codes. largest: of magnitude().
  NNFAST_INLINE bool unusual(std::uint32_t largest) const { return largest >= kInfinityBits - growth(); }

  // The least base for which the largest magnitude of a block has a code; 0 of zeros alone.
  NNFAST_INLINE int base_for(std::uint32_t largest) const {
    const int base = static_cast<int>((largest + growth()) >> 23) - (octaves() - 1);
    return largest == 0 ? 0 : (base > least_base() ? base : least_base());
  }

  // By the lower or the upper ones of the random bits of words.
  template <class Word>
  NNFAST_INLINE Word random_bits(Word words, bool upper) const {
    return upper ? words >> (32 - dropped()) : words & ((1u << dropped()) - 1);
  }

  // Four vectors, in a block of this base that is not unusual.
  NNFAST_INLINE void pack(const float* from, char* to, int base, const Words (&words)[4], bool upper) const {
    const V lowest = bit_cast<V>(broadcast<Words>(static_cast<std::uint32_t>(base) << 23));
    const Shorts least = broadcast<Shorts>(static_cast<std::int16_t>(base << digits));
    Words bits[4], rounded[4];
    unrolled<4>([&](int j) NNFAST_INLINED {
      bits[j] = load_bytes<Words>(from + j * kLanes<V>);
      const Words sum = has_sign ? bit_cast<Words>(bit_cast<V>(bits[j] & ~kSignBit) + lowest) : bits[j];
      rounded[j] = (sum + random_bits(words[j], upper)) >> dropped();
    });
    Bytes codes = narrowed(narrowed(rounded[0], rounded[1]) - least, narrowed(rounded[2], rounded[3]) - least);
    if (has_sign) codes |= narrowed_signs(bits);
    store_narrowed(to, codes);
  }
};

}  // namespace
}  // namespace nnfast
