// Philox4x32-10, the counter-based random bits of Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
// 1, 2, 3" (2011): four words are a function of a counter and a key alone, so the bits of any element can be computed
// directly.
//
// A stream is the sequence of words w[0], w[1], ... of a key and a stream number, the third word of the counter. A
// block is 16 counters, 64 words: w[64 b + 16 j + c] is word j of counter 16 b + c. So a block is four vectors of 16
// words as they are computed, and nothing is shuffled.
#pragma once

#include "simd/vector.hpp"

namespace nnfast {
namespace {

using Words = Vec<std::uint32_t>;
constexpr int kCountersInBlock = 16;
constexpr int kWordsInBlock = 4 * kCountersInBlock;

// The keys of the rounds, in lanes of 64 bits whose upper halves are ignored.
struct PhiloxKey {
  Vec<std::uint64_t> k0[10], k1[10];
  NNFAST_INLINE explicit PhiloxKey(std::uint64_t key) {
    auto low = static_cast<std::uint32_t>(key), high = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round, low += 0x9E3779B9u, high += 0xBB67AE85u) {
      k0[round] = Vec<std::uint64_t>{} + low;
      k1[round] = Vec<std::uint64_t>{} + high;
    }
    // In memory, where an operation reads them at no cost: there are more of them than registers.
    asm volatile("" : "+m"(*this));
  }
};

// The product of the lower halves of 64-bit lanes and m.
NNFAST_INLINE Vec<std::uint64_t> multiply_low(Vec<std::uint64_t> a, std::uint32_t m) {
  using Pairs = Vec<std::uint64_t>;
#if defined(__AVX512F__)
  return bit_cast<Pairs>(_mm512_mul_epu32(bit_cast<__m512i>(a), _mm512_set1_epi64(m)));
#elif defined(__AVX2__)
  return bit_cast<Pairs>(_mm256_mul_epu32(bit_cast<__m256i>(a), _mm256_set1_epi64x(m)));
#elif defined(__x86_64__)
  return bit_cast<Pairs>(_mm_mul_epu32(bit_cast<__m128i>(a), _mm_set1_epi64x(m)));
#else
  return (a & 0xffffffffu) * m;
#endif
}

struct PhiloxWords {
  Words word[4];  // lane i: the words of counter i
};

// Counters first, first + 1, ..., one a lane. Even and odd lanes are computed separately, in the lower halves of 64-bit
// lanes: a product then has its two words where the next round needs them, and the upper halves are ignored.
NNFAST_INLINE PhiloxWords philox(const PhiloxKey& key, std::uint64_t first, std::uint32_t stream) {
  using Pairs = Vec<std::uint64_t>;
  Pairs c[2][4];
  for (int odd = 0; odd < 2; ++odd) {
    Pairs lane{};
    for (int i = 0; i < kLanes<Pairs>; ++i) lane[i] = static_cast<std::uint64_t>(2 * i + odd);
    c[odd][0] = lane + first;
    c[odd][1] = c[odd][0] >> 32;
    c[odd][2] = Pairs{} + stream;
    c[odd][3] = Pairs{};
  }
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    for (auto& word : c) {
      const Pairs p0 = multiply_low(word[0], 0xD2511F53u), p1 = multiply_low(word[2], 0xCD9E8D57u);
      word[0] = (p1 >> 32) ^ word[1] ^ key.k0[round];
      word[2] = (p0 >> 32) ^ word[3] ^ key.k1[round];
      word[1] = p1;
      word[3] = p0;
    }
  }
  constexpr std::uint64_t low_half = 0xffffffffu;
  PhiloxWords words;
  for (int j = 0; j < 4; ++j) words.word[j] = bit_cast<Words>((c[0][j] & low_half) | (c[1][j] << 32));
  return words;
}

// The 16 words j of block `block` of a stream, as vectors of which part k has counters from k kLanes<Words> on.
struct PhiloxBlock {
  static constexpr int kParts = kCountersInBlock / kLanes<Words>;
  PhiloxWords part[kParts];
  NNFAST_INLINE PhiloxBlock(const PhiloxKey& key, std::uint64_t block, std::uint32_t stream) {
#pragma GCC unroll 4
    for (int k = 0; k < kParts; ++k)
      part[k] = philox(key, block * kCountersInBlock + static_cast<std::uint64_t>(k * kLanes<Words>), stream);
  }
};

}  // namespace
}  // namespace nnfast
