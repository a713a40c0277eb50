// float32 in 16 or 8 bits and back.
#include "kernels/packing.hpp"

#include "kernels/block_codes.hpp"
#include "simd/narrow.hpp"

namespace nnfast {
namespace {

constexpr std::ptrdiff_t kStep = kLanes<Wide>;

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

// A block with numbers that are not finite.
[[gnu::cold, gnu::noinline]] void unpack_flagged(BlockCodes codes, const char* from, float* to) {
  const int infinity = codes.largest_code() - 1;
  const std::uint32_t lowest = codes.lowest(from);
  for (std::ptrdiff_t i = 0; i < kPackedBlock; ++i) {
    const auto byte = static_cast<std::uint8_t>(from[i]);
    const int code = byte & codes.largest_code();
    std::uint32_t bits = (static_cast<std::uint32_t>(code) << codes.dropped()) + lowest;
    if (codes.has_sign) bits = bit_cast<std::uint32_t>(bit_cast<float>(bits) - bit_cast<float>(lowest));
    if (code >= infinity) bits = kInfinityBits | (code > infinity ? 1u << 22 : 0);
    const auto size = bit_cast<float>(bits);
    to[i] = codes.has_sign && byte > codes.largest_code() ? 0 - size : size;  // no -0, as in other blocks
  }
}

void unpack_blocks(Packing packing, const char* from, float* to, std::ptrdiff_t n) {
  const BlockCodes codes(packing);
  for (std::ptrdiff_t i = 0; i < n; i += kPackedBlock, from += kPackedBlockBytes) {
    if (from[kPackedBlock + 1]) [[unlikely]] {
      unpack_flagged(codes, from, to + i);
      continue;
    }
    const Words lowest = broadcast<Words>(codes.lowest(from));
#pragma GCC unroll 1
    for (std::ptrdiff_t j = 0; j < kPackedBlock; j += kStep) store(to + i + j, codes.unpacked(from + j, lowest));
  }
}

// A block that may have numbers that are not finite or have no code.
[[gnu::cold, gnu::noinline]] void pack_unusual(BlockCodes codes, const float* from, char* to,
                                               const std::uint32_t* words, std::uint32_t key, bool upper) {
  std::uint32_t largest = 0;
  bool flagged = false;
  for (std::ptrdiff_t i = 0; i < kPackedBlock; ++i) {
    const std::uint32_t magnitude = load_bytes<std::uint32_t>(from + i) & ~kSignBit;
    flagged |= magnitude >= kInfinityBits;
    if (magnitude < kInfinityBits && magnitude > largest) largest = magnitude;
  }
  // With an octave more than finite numbers need: its codes are those of infinity and NaN.
  int base = codes.base_for(largest) + flagged;
  base = base < codes.largest_base() ? base : codes.largest_base();
  const std::uint32_t lowest = static_cast<std::uint32_t>(base) << 23, least = lowest >> codes.dropped();
  const std::uint32_t most = static_cast<std::uint32_t>(codes.largest_code());
  for (std::ptrdiff_t i = 0; i < kPackedBlock; ++i) {
    const std::uint32_t bits = load_bytes<std::uint32_t>(from + i), magnitude = bits & ~kSignBit;
    std::uint32_t code = magnitude > kInfinityBits ? most : most - 1;
    if (magnitude < kInfinityBits) {
      std::uint32_t sum = magnitude;
      if (codes.has_sign) sum = bit_cast<std::uint32_t>(bit_cast<float>(magnitude) + bit_cast<float>(lowest));
      const std::uint32_t rounded = (sum + codes.random_bits(words[i] + key, upper)) >> codes.dropped();
      const std::uint32_t last = flagged ? most - 2 : most;
      code = rounded < least ? 0 : (rounded - least < last ? rounded - least : last);
    }
    to[i] = static_cast<char>(code | (codes.has_sign ? bits >> 24 & 128 : 0));
  }
  to[kPackedBlock] = static_cast<char>(base);
  to[kPackedBlock + 1] = flagged;
}

void pack_blocks(Packing packing, const float* from, char* to, std::ptrdiff_t n, const std::uint32_t* words,
                 std::uint32_t key, bool upper) {
  const BlockCodes codes(packing);
  for (std::ptrdiff_t i = 0; i < n; i += kPackedBlock, to += kPackedBlockBytes) {
    Words most{};
#pragma GCC unroll 1
    for (std::ptrdiff_t j = i; j < i + kPackedBlock; j += kStep) {
      const Words magnitude = codes.magnitude(load<Vec<float>>(from + j));
      most = magnitude > most ? magnitude : most;
    }
    const std::uint32_t largest = largest_lane(most);
    if (codes.unusual(largest)) [[unlikely]] {
      pack_unusual(codes, from + i, to, words + i, key, upper);
      continue;
    }
    const int base = codes.base_for(largest);
#pragma GCC unroll 1
    for (std::ptrdiff_t j = 0; j < kPackedBlock; j += 4 * kStep) {
      Words random[4];
      unrolled<4>([&](int l) NNFAST_INLINED { random[l] = load_bytes<Words>(words + i + j + l * kStep) + key; });
      codes.pack(from + i + j, to + j, base, random, upper);
    }
    to[kPackedBlock] = static_cast<char>(base);
    to[kPackedBlock + 1] = 0;
  }
}

}  // namespace

namespace NNFAST_ISA {

extern const PackingKernels packing;
const PackingKernels packing = {
    random_words, unpack_bfloat16, pack_bfloat16, unpack_blocks, pack_blocks,
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
